"""Names that are listed without importing JAX match the objects; flags are read first."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import losses_by_name, names, objectives_by_name
from experiments.__main__ import programs
from experiments.data import densities
from experiments.run import command_line

ROOT = Path(__file__).parents[2]
SLOW = ("jax", "jaxlib", "flax", "optax", "orbax", "sklearn", "scipy", "matplotlib", "ebm_jax")
START = f"""
import runpy, sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in {SLOW}, f"{{name}} is imported"
sys.meta_path.insert(0, Refused())
sys.path.insert(0, "")
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
SCRIPTS = (
    "scripts.torture",
    "scripts.questions",
    "scripts.scaling",
    "scripts.benchmark_objectives",
)


def start(program, *flags):
    """Start a program where nothing that takes seconds to import can be imported."""
    command = [sys.executable, "-c", START, program, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_names_are_those_of_the_tables():
    assert names.LOSSES == losses_by_name.NAMES
    assert tuple(densities.DENSITIES) == names.DENSITIES
    assert tuple(objectives_by_name.CONTINUOUS) == names.CONTINUOUS
    assert tuple(objectives_by_name.BINARY) == names.BINARY


@pytest.mark.parametrize("program", [*programs(), *SCRIPTS])
def test_flags_are_read_before_anything_slow_is_imported(program):
    answer = start(program, "--no_such_flag=1")
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: Unknown command line flag 'no_such_flag'")


@pytest.mark.parametrize("program", ["experiments.images", "experiments.digits"])
def test_help_has_every_flag_in_a_group_and_its_defaults(program):
    answer = start(program, "--help")
    assert answer.returncode == 0, answer.stderr
    source = (ROOT / "experiments" / "images" / "flags.py").read_text(encoding="utf-8")
    flags = re.findall(r'(?:DEFINE_\w+|command_line\.define_\w+)\(\s*"(\w+)"', source)
    assert len(flags) > 30
    shown = re.findall(r"^  --(\w+)", answer.stdout, re.MULTILINE)
    assert sorted(shown) == sorted([*flags, *command_line.COMMON])
    text = " ".join(answer.stdout.split())
    assert (
        "--steps Number of updates, not counting those of the flow. [4500 (1500) / 600 (0)]" in text
    )
    assert "--generative=energy_matching|pcd|none Training of" in text
    assert "[pcd / energy_matching]" in text
    assert "error" in start(program, "--steps=three").stderr
