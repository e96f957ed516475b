import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script():
    """Return (module, folder, *flags) -> the finished process, started there as a user would."""

    def start(module, folder, *flags):
        return subprocess.run(
            [sys.executable, "-m", f"scripts.{module}", f"--workdir={folder}", *flags],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )

    return start


@pytest.fixture
def program(loaded):
    """Return (name, *flags) -> the module of a script, its flags set, without a new process."""
    return lambda name, *flags: loaded(f"scripts.{name}.__main__", *flags)
