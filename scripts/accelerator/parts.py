"""The parts of the check, the most important first, with their commands and time limits."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.accelerator import outputs

TESTED = ("losses", "energies", "samplers", "partition", "objectives")
# Small files, for a show.
SHOWN = (
    "losses/test_margins.py",
    "samplers/test_schedules.py",
)
PROGRAMS = {"digits": ("experiments.digits",), "mnist": ("experiments.images", "--data=mnist")}
TINY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compilation takes most of the time at tiny sizes
# As little as the digits can be trained by.
BRIEF = (
    *("--quick", "--channels=", "--sampler=mala", "--steps=3", "--hidden=8", "--betas=0"),
    *("--langevin_steps=2", "--chains=16", "--buffer_size=128"),
    *("--samples=20", "--sample_steps=10"),
)


@dataclasses.dataclass(frozen=True)
class Part:
    """What runs in a process of its own.

    Attributes:
        name: the part's name.
        seconds: how long it may take, where more are left.
        command: what is run.
        read: a line of its output -> what the line adds to the part's results.
        environment: variables of the process beside those of this one.
        workdir: the folder that the part writes into, a new one: a run in it would be resumed.
        optional: whether exit code 1 means that something is missing, data that cannot be had say.
    """

    name: str
    seconds: float
    command: tuple[str, ...]
    read: Callable[[str], dict[str, Any]] = outputs.of_suite
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    workdir: Path | None = None
    optional: bool = False


def every(workdir: Path, *, tiny: bool, profiled: bool) -> dict[str, Part]:
    """Return the parts by name, in the order in which they run."""

    def suite(name: str, seconds: float) -> Part:
        options = ["tiny"] * tiny + ["profile"] * profiled
        command = (sys.executable, "-m", "scripts.accelerator.suites", name, *options)
        return Part(name, seconds, command, environment=TINY if tiny else {})

    parts = [
        suite("roofs", 50),
        suite("ula", 60),
        suite("rbm", 60),
        suite("ising", 70),
        suite("pcd", 70),
        _tests("tests", 110, tiny, {}),
        _program("mnist", 170, workdir, tiny),
        _tests("tests_tf32", 60, tiny, {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}),
        _program("digits", 150 if tiny else 90, workdir, tiny),
        suite("conv", 50),
        suite("mlp", 40),
        suite("ais", 40),
        suite("graphs", 60),
        suite("rbm_peers", 90),
        suite("ising_peers", 240),
    ]
    return {part.name: part for part in parts if not (tiny and part.optional)}


def _tests(name: str, seconds: float, tiny: bool, environment: dict[str, str]) -> Part:
    files = [f"tests/{file}" for file in (SHOWN if tiny else TESTED)]
    # Tests share the card: none may reserve most of its memory. They compile as users do.
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not tiny:
        shared["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"
    workers = 0 if tiny else min(8, os.cpu_count() or 1)
    command = (
        *(sys.executable, "-m", "pytest", "-v", "-rN", "--tb=line", "--color=no"),
        *("-p", "no:cacheprovider", "--durations=0", "--durations-min=1000"),
        *("-n", str(workers), "--dist=load", *files),
    )
    return Part(name, seconds, command, outputs.of_tests, shared | environment)


def _program(name: str, seconds: float, workdir: Path, tiny: bool) -> Part:
    module, *flags = PROGRAMS[name]
    folder = workdir / name
    command = (sys.executable, "-m", module, *flags, *BRIEF * tiny, f"--workdir={folder}")
    environment = TINY if tiny else {}
    optional = name == "mnist"
    return Part(name, seconds, command, outputs.of_program, environment, folder, optional)
