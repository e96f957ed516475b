"""Which settings a sweep runs: a setting is the flags of a run and their values, as text."""

import importlib.util
import itertools
import json
import subprocess
import sys

import numpy as np

from experiments import runs

Setting = dict[str, str]

# Run where the program is imported, so that its flags never meet the sweep's own.
CHECK = """
import importlib, json, sys
from absl import flags
program, settings = json.load(sys.stdin)
importlib.import_module(program)
for setting in settings:
    for name in setting:
        if name not in flags.FLAGS:
            sys.exit(f"--{name} is no flag of {program}.")
    try:
        flags.FLAGS([program] + [f"--{name}={value}" for name, value in setting.items()])
    except flags.Error as error:
        sys.exit(str(error))
"""


def parse(text: str, flag: str) -> dict[str, list[str]]:
    """Return the values of every flag in "name=value,value;name=value"."""
    axes = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, equals, values = part.partition("=")
        listed = [v.strip() for v in values.split(",")]
        name = name.strip().removeprefix("--")
        if not (equals and name and all(listed)):
            raise runs.UsageError(f"--{flag} has the part {part!r}; write name=value,value.")
        if name in axes or len(set(listed)) < len(listed):
            raise runs.UsageError(f"--{flag} names {name} twice, or a value of it twice.")
        if name in ("workdir", "seed"):
            raise runs.UsageError(f"--{flag} sets {name}, which the sweep sets; use --seeds.")
        axes[name] = listed
    return axes


def draw(rng: np.random.Generator, values: list[str]) -> str:
    """Draw from a list, or from a range low:high, uniformly, or with :log or :int after it."""
    low, *rest = str(rng.choice(values)).split(":")
    if not rest:
        return low
    try:
        bounds = float(low), float(rest[0])
        kind = rest[1] if len(rest) == 2 else ""
        if len(rest) > 2 or kind not in ("", "log", "int") or not bounds[0] < bounds[1]:
            raise ValueError
        if kind == "int":
            return str(rng.integers(int(bounds[0]), int(bounds[1]) + 1))
        if kind == "log":
            return f"{np.exp(rng.uniform(*np.log(bounds))):.4g}"
        return f"{rng.uniform(*bounds):.4g}"
    except ValueError:
        text = ":".join([low, *rest])
        raise runs.UsageError(
            f"--random has the range {text!r}; write low:high, low:high:log or low:high:int."
        ) from None


def settings(grid: str, zipped: str, random: str, *, samples: int, seed: int) -> list[Setting]:
    """Return the settings that --grid, --zipped and --random ask for, without the seeds."""
    crossed, walked = parse(grid, "grid"), parse(zipped, "zipped")
    drawn, rng = parse(random, "random"), np.random.default_rng(seed)
    shared = [
        n
        for n in {**crossed, **walked, **drawn}
        if (n in crossed) + (n in walked) + (n in drawn) > 1
    ]
    if shared:
        raise runs.UsageError(f"{shared[0]} is in more than one of --grid, --zipped, --random.")
    if len({len(values) for values in walked.values()}) > 1:
        lengths = ", ".join(f"{n} {len(v)}" for n, v in walked.items())
        raise runs.UsageError(f"--zipped needs lists of one length, got {lengths}.")
    parts: list[list[Setting]] = [[{name: v} for v in values] for name, values in crossed.items()]
    if walked:
        parts.append(
            [dict(zip(walked, v, strict=True)) for v in zip(*walked.values(), strict=True)]
        )
    if drawn:
        parts.append([{name: draw(rng, v) for name, v in drawn.items()} for _ in range(samples)])
    merged = [
        {k: v for part in chosen for k, v in part.items()} for chosen in itertools.product(*parts)
    ]
    return list({json.dumps(m): m for m in merged}.values())


def check(program: str, chosen: list[Setting]) -> None:
    """Refuse a program that is not there, and any flag or value it would refuse."""
    try:
        found = importlib.util.find_spec(program)
    except (ImportError, ValueError):
        found = None
    if not found:
        raise runs.UsageError(f"--program={program} is no module that can be imported.")
    answer = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps([program, chosen]),
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["it ended without a word"]
        raise runs.UsageError(f"{program} refuses the grid: {' '.join(lines[-2:])}")


def label(setting: Setting, differing: list[str]) -> str:
    """Return the name of a setting: the flags that differ, or "default"."""
    return ",".join(f"{n}={setting[n].replace('/', '_')}" for n in differing) or "default"
