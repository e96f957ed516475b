"""The command line: flags that every program has, kinds of flags, and how they are read.

Nothing here imports JAX.
"""

import copy
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import app, flags

from experiments.run import errors


def home_path(path: str | Path) -> Path:
    """Return a path with a leading ``~`` replaced by the home folder, as a shell does."""
    return Path(os.path.expanduser(path))


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)  # a shell leaves the one in --flag=~/folder


class _PathsParser(flags.ListParser):
    def parse(self, argument: str | list[str]) -> list[str]:
        return [os.path.expanduser(path) for path in super().parse(argument)]


def define_path(name: str, default: str | None, meaning: str) -> flags.FlagHolder:
    """Define a flag of one file or folder, whose ``~`` is the home folder."""
    serializer = flags.ArgumentSerializer()
    return flags.DEFINE(_PathParser(), name, default, meaning, serializer=serializer)


def define_paths(name: str, default: list[str], meaning: str) -> None:
    """Define a flag of several files or folders, separated by commas."""
    flags.DEFINE(_PathsParser(), name, default, meaning, serializer=flags.CsvListSerializer(","))


define_path("workdir", None, "Folder for all files of the run; created if it does not exist.")
flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer(
    "mesh",
    1,
    "Number of devices, over all processes, that share the data and the chains.",
    lower_bound=1,
)
flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first of several processes, or auto (SLURM)."
)
flags.DEFINE_integer("num_processes", 1, "Number of processes; needs --coordinator.", lower_bound=1)
flags.DEFINE_integer("process_id", 0, "Number of this process, from 0.", lower_bound=0)
flags.disclaim_key_flags()  # those defined below belong to the program that asks for them
FLAGS = flags.FLAGS
COMMON = ("workdir", "seed", "mesh", "coordinator", "num_processes", "process_id")
WHERE = tuple(name for name in COMMON if name != "seed")  # the run is the same wherever it runs


def define_float(
    name: str, default: float | None, meaning: str, low: float, high: float = sys.float_info.max
) -> None:
    """Define a flag of a number in [low, high]: finite unless ``high`` is infinite, never NaN.

    None stands for a number that is decided elsewhere.
    """
    flags.DEFINE_float(name, default, meaning)
    within = f"from {low:g} to {high:g}" if high < sys.float_info.max else f">= {low:g}"
    kind = "a number" if high > sys.float_info.max else "a finite number"
    flags.register_validator(
        name, lambda v: v is None or low <= v <= high, f"must be {kind} {within}."
    )


def parse(name: str, help_text: Callable[[], str] | None = None) -> None:
    """Read the command line, where ``name`` says that the module is the program that is run.

    A program calls this below its flags and above the imports that take seconds, those of JAX:

        command_line.parse(__name__)

    Args:
        name: the module's ``__name__``.
        help_text: what --help prints below the module's docstring, instead of its flags in the
            order of the alphabet.
    """
    if name != "__main__":
        return
    for common in COMMON:
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[common])  # --help shows them too
    app.define_help_flags()
    if help_text and {"--help", "-help", "-h", "-?", "--helpshort"} & set(sys.argv[1:]):
        print(f"{(sys.modules[name].__doc__ or '').strip()}\n\n{help_text()}")
        sys.exit(0)
    try:
        remaining[:] = FLAGS(sys.argv)
    except flags.Error as error:
        errors.leave(f"{str(error).rstrip('.')}; --help lists the flags.", errors.USAGE)
    except SystemExit:  # absl leaves with 1 after its help
        sys.exit(0)


remaining: list[str] = []  # of the command line, once its flags are read


def as_text(settings: Mapping[str, Any] | None = None) -> str:
    """Return the flags of the program and these packages as a flagfile, without where it is run.

    ``settings`` are the values of some flags, by name, instead of those of the command line.
    """
    modules = FLAGS.flags_by_module_dict()
    ours = {m for m in modules if m == sys.argv[0] or m.split(".")[0] in ("experiments", "scripts")}
    own = {flag.name: flag for module in ours for flag in modules[module]}
    lines = []
    for name in sorted(own.keys() - set(WHERE)):
        flag = own[name]
        if settings and name in settings:
            flag = copy.deepcopy(flag)
            flag.value = settings[name]
        lines.append(flag.serialize())
    return "".join(f"{line}\n" for line in lines if line)
