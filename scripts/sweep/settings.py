"""Which settings a sweep runs: a setting is the flags of a run and their values, as text."""

import csv
import hashlib
import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from experiments.run import errors

Setting = dict[str, str]

# Run where the program is imported, so that its flags never meet the sweep's own.
CHECK = """
import importlib.util, json, sys
from absl import flags
program, settings = json.load(sys.stdin)
is_package = importlib.util.find_spec(program).submodule_search_locations
importlib.import_module(f"{program}.__main__" if is_package else program)
for setting in settings:
    for name in setting:
        if name not in flags.FLAGS:
            negated = name.startswith("no") and name[2:] in flags.FLAGS
            hint = f"; write --{name[2:]}=false" if negated else ""
            sys.exit(f"--{name} is not a flag of {program}, nor of scripts.sweep{hint}.")
    try:
        flags.FLAGS([program] + [f"--{name}={value}" for name, value in setting.items()])
    except flags.Error as error:
        sys.exit(str(error))
"""


def _cells(text: str, delimiter: str, flag: str) -> list[str]:
    """Return the cells of one line of CSV."""
    try:
        lines = csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True)
        return [cell.strip() for cell in next(lines, [])]
    except csv.Error as error:
        raise errors.UsageError(
            f"--{flag} has {text!r}, which is not a line of CSV: {error}."
        ) from None


def parse(text: str, flag: str) -> dict[str, list[str]]:
    """Return the values of every flag in "name=value,value;name=value", quoted as in CSV."""
    axes = {}
    for part in filter(None, _cells(text.strip(), ";", flag)):
        name, equals, values = part.partition("=")
        listed = _cells(values, ",", flag)
        name = name.strip().removeprefix("--")
        if not (equals and name and listed and all(listed)):
            raise errors.UsageError(f"--{flag} has the part {part!r}; write name=value,value.")
        if name in axes or len(set(listed)) < len(listed):
            raise errors.UsageError(f"--{flag} names {name} twice, or a value of it twice.")
        if name in ("workdir", "seed"):
            raise errors.UsageError(f"--{flag} sets {name}, which the sweep sets; use --seeds.")
        axes[name] = listed
    return axes


def split_flags(argv: list[str], own: Container[str]) -> tuple[list[str], Setting]:
    """Return the arguments of the sweep, and the flags that it hands to every run.

    A flag that the sweep does not define belongs to the program; without a value it is true.
    """
    rest, fixed = argv[:1], {}
    for argument in argv[1:]:
        name, equals, value = argument.removeprefix("--").partition("=")
        of_sweep = name in own or (name.startswith("no") and name[2:] in own)
        if not argument.startswith("--") or not name or of_sweep:
            rest.append(argument)
        elif name in fixed:
            raise errors.UsageError(
                f"--{name} is given twice, {fixed[name]!r} and {value!r}; to run both, write "
                f'--grid="{name}={fixed[name]},{value}".'
            )
        else:
            fixed[name] = value if equals else "true"
    return rest, fixed


def distribution(values: list[str]) -> Any:
    """Return the distribution that low:high, low:high:log or low:high:int names, or the list."""
    from scipy import stats  # takes a second, which --grid does not need

    low, *rest = values[0].split(":")
    if len(values) > 1 or not rest:
        return values
    try:
        start, end = float(low), float(rest[0])
        if start < end and not rest[1:]:
            return stats.uniform(start, end - start)
        if 0 < start < end and rest[1:] == ["log"]:
            return stats.loguniform(start, end)
        if start < end and rest[1:] == ["int"]:
            return stats.randint(int(start), int(end) + 1)
    except (ValueError, OverflowError):
        pass
    raise errors.UsageError(
        f"--random has the range {values[0]!r}; write low:high, low:high:log (above 0) or "
        "low:high:int."
    )


def settings(
    grid: str,
    zipped: str,
    random: str,
    *,
    samples: int,
    seed: int,
    fixed: Mapping[str, str] = MappingProxyType({}),
) -> list[Setting]:
    """Return the settings that --grid, --zipped and --random ask for, without the seeds.

    Every setting has the ``fixed`` flags too, as if they were in --grid with one value each.
    """
    crossed, walked = parse(grid, "grid"), parse(zipped, "zipped")
    sampled = parse(random, "random")
    named = [*crossed, *walked, *sampled]
    shared = [name for name in named if named.count(name) > 1]
    if shared:
        raise errors.UsageError(f"{shared[0]} is in more than one of --grid, --zipped, --random.")
    if both := [name for name in named if name in fixed]:
        raise errors.UsageError(
            f"--{both[0]}={fixed[both[0]]} fixes a flag that --grid, --zipped or --random varies; "
            "remove it from one of them."
        )
    if len({len(values) for values in walked.values()}) > 1:
        lengths = ", ".join(f"{n} {len(v)}" for n, v in walked.items())
        raise errors.UsageError(f"--zipped needs lists of one length, got {lengths}.")
    side_by_side = [dict(zip(walked, v, strict=True)) for v in zip(*walked.values(), strict=True)]
    ranges = {name: distribution(values) for name, values in sampled.items()}
    drawn = _drawn(ranges, samples, seed) if ranges else [{}]
    axes = [[(name, value) for value in crossed[name]] for name in sorted(crossed)]
    merged = [
        {n: f"{v:.4g}" if isinstance(v, float) else str(v) for n, v in (g | z | r).items()}
        | dict(fixed)
        for g in map(dict, itertools.product(*axes))
        for z in side_by_side or [{}]
        for r in drawn
    ]
    return list({label(m): m for m in merged}.values())


def _drawn(ranges: Mapping[str, Any], samples: int, seed: int) -> list[dict[str, Any]]:
    """Draw settings from distributions and lists."""
    from sklearn.model_selection import ParameterSampler

    return list(ParameterSampler(ranges, samples, random_state=seed))


def check(program: str, chosen: list[Setting]) -> None:
    """Reject a program that is not there, and any flag or value it would refuse."""
    try:
        found = importlib.util.find_spec(program)
    except (ImportError, ValueError):
        found = None
    if not found:
        raise errors.UsageError(f"--program={program} is not a module that can be imported.")
    answer = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps([program, chosen]),
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["it ended without a word"]
        raise errors.UsageError(f"{program} rejects the grid: {' '.join(lines[-2:])}")


def label(setting: Setting) -> str:
    """Return the name of a setting: all its flags, in letters that file systems take."""
    names = sorted(setting, key=lambda name: (name == "seed", name))
    whole = ",".join(f"{n}={quote(setting[n], safe='+')}" for n in names)
    if len(whole) <= 200:
        return whole
    return f"{whole[:180]}~{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
