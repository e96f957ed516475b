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
[ "$1" = -m ] && {{ echo "$@"; exit; }}
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


@pytest.mark.parametrize(
    ("given", "workdir"),
    [("~/x y", "{home}/x y"), ("x", "{here}/x"), ("/x", "/x"), ("x~/y", "{here}/x~/y")],
)
def test_the_demo_writes_where_the_user_is_or_at_home(given, workdir, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "here").mkdir()
    for name in ("_venv", "demo"):
        shutil.copy(SCRIPTS / name, tmp_path / "scripts")
    interpreter(tmp_path / ".venv" / "bin" / "python", "3.12")
    for path in ("setup.cfg", ".venv/.installed-experiments", ".venv/pyvenv.cfg"):
        (tmp_path / path).touch()
    done = subprocess.run(
        ["bash", tmp_path / "scripts" / "demo", f"--workdir={given}"],
        cwd=tmp_path / "here",
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    expected = workdir.format(home=tmp_path / "home", here=tmp_path / "here")
    assert done.stdout.rstrip().endswith(f" --workdir={expected}"), done.stderr
    assert f"the report will be {expected}/report.html" in done.stderr
