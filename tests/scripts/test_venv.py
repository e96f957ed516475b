"""Which interpreter the shell scripts take."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
# An interpreter of a version of its own.
PYTHON = """#!/bin/sh
[ "$1" = -V ] && {{ echo "Python {version}"; exit; }}
exec {python} -c "import sys; sys.version_info = ({major}, {minor}, 0); exec(sys.argv[1])" "$2"
"""


def interpreter(path, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    major, minor = version.split(".")
    text = PYTHON.format(version=version, python=sys.executable, major=major, minor=minor)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("there", "on_the_path", "asked", "chosen"),
    [
        ("3.11", "3.13", None, ".venv"),  # what is there
        ("3.11", "3.13", "python3", ".venv-3.13"),
        ("3.13", "3.13", "python3", ".venv"),
        ("3.9", "3.13", None, ".venv-3.13"),  # too old
        ("broken", "3.13", None, ".venv-3.13"),
        (None, "3.13", None, ".venv"),  # made
        (None, "3.9", None, None),
    ],
)
def test_a_working_environment_is_used(there, on_the_path, asked, chosen, tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "_venv", tmp_path / "scripts")
    interpreter(tmp_path / "bin" / "python3", on_the_path)
    if there:
        interpreter(tmp_path / ".venv" / "bin" / "python", "3.0" if there == "broken" else there)
        (tmp_path / ".venv" / "pyvenv.cfg").touch()
    if there == "broken":
        (tmp_path / ".venv" / "bin" / "python").write_text("#!/nowhere", encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "PYENV_VERSION")}
    environment["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "source scripts/_venv; echo $python"],
        cwd=tmp_path,
        env=environment | ({"PYTHON": asked} if asked else {}),
        capture_output=True,
        text=True,
    )
    if chosen:
        assert done.stdout.strip() == f"{tmp_path}/{chosen}/bin/python", done.stderr
    else:
        assert done.returncode == 1
        assert "ebm_jax needs Python >= 3.11" in done.stderr
