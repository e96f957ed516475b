"""What a program says, and the code it ends with."""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jaxlib
import pytest
from absl import flags
from absl.testing import flagsaver

import ebm_jax
from experiments import __main__ as listing
from experiments.run import command_line, errors, work_directory
from experiments.run.claims import Claim

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from absl import flags
from experiments.run import command_line
from experiments.run import entry
command_line.define_float("size", 1.0, "A size.", 0, 10)
command_line.define_path("input", None, "A file.")
command_line.define_paths("inputs", [], "Files.")
def main():
    run = entry.start()
    size = flags.FLAGS.size
    if size == 3:
        raise FloatingPointError("Training diverged.")
    run.finish({"size": size}, {"the_size_is_small": size < 5})
entry.main(main)
"""


def program(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--workdir=out"], 0, ""),
        (["--workdir=out", "--size=nan"], errors.USAGE, "error: flag --size=nan: must be a finite"),
        (["--workdir=out", "--colour=red"], errors.USAGE, "Unknown command line flag 'colour'"),
        (["--workdir=out", f"--seed={10**20}"], errors.USAGE, "not an integer in the range"),
        (["--workdir=out", "red"], errors.USAGE, "error: unknown argument 'red'"),
        ([], errors.USAGE, "error: --workdir is not set"),
        (["--workdir=/proc/none"], errors.USAGE, "error: --workdir=/proc/none cannot be written"),
        (["--workdir=out", "--size=3"], errors.DIVERGED, "error: Training diverged."),
        (
            ["--workdir=out", "--size=9"],
            errors.FALSE_CLAIM,
            "error: these claims are false: the size is small.",
        ),
        (["--help"], 0, ""),
    ],
)
def test_exit_codes_and_sentences(tmp_path, arguments, code, said):
    done = program(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == bool(code)
    assert said in done.stderr
    assert (tmp_path / "out").exists() == (code != errors.USAGE and "--help" not in arguments)
    if "--help" in arguments:
        assert "--size" in done.stdout
        assert "--workdir" in done.stdout


def test_the_summary_is_the_last_line_and_holds_the_claims(tmp_path, capsys):
    claims = {"water_is_wet": True, "fire_is_cold": False}
    run = work_directory.Run(tmp_path)
    with pytest.raises(errors.FalseClaimError, match=r"^these claims are false: fire is cold\.$"):
        run.finish({"found": 1.5}, claims)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["claims"] == claims
    assert summary["found"] == 1.5
    assert work_directory.false_claims(summary) == ["fire is cold"]


@pytest.mark.parametrize(
    ("value", "comparison", "holds"),
    [
        (1.0, "<", False),
        (0.9, "<", True),
        (1.0, "==", True),
        (1.1, ">", True),
        (math.nan, "<", False),
    ],
)
def test_a_claim_has_its_value_and_its_bound_in_the_summary(tmp_path, value, comparison, holds):
    run = work_directory.Run(tmp_path)
    told = {"it_is_so": Claim(value, comparison, 1, "a number")}
    with contextlib.nullcontext() if holds else pytest.raises(errors.FalseClaimError):
        run.finish({}, told)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["claims"] == {"it_is_so": holds}
    written = None if math.isnan(value) else value
    expected = {"what": "a number", "value": written, "bound": f"{comparison} 1"}
    assert summary["claim_values"] == {"it_is_so": expected}


def test_a_folder_belongs_to_its_flags(tmp_path):
    work_directory.Run(tmp_path, "--seed=1\n")
    work_directory.Run(tmp_path, "--seed=1\n")
    with pytest.raises(errors.UsageError, match="holds a run with other flags"):
        work_directory.Run(tmp_path, "--seed=2\n")


@pytest.mark.parametrize(
    ("high", "good", "bad"),
    [
        (10.0, ["0", "10", "2.5"], ["-1e-9", "10.1", "inf", "-inf", "nan"]),
        (math.inf, ["0", "inf"], ["-inf", "nan", "-1"]),
        (None, ["0", "1e300"], ["inf", "nan", "-1"]),
    ],
)
def test_numbers_are_finite_and_in_range_unless_stated(high, good, bad):
    with flagsaver.flagsaver():
        command_line.define_float("length", 1.0, "A length.", 0, *([] if high is None else [high]))
        for value in good:
            flags.FLAGS(["test", f"--length={value}"])
            assert flags.FLAGS.length == float(value)
        for value in bad:
            with pytest.raises(flags.IllegalFlagValueError, match=r"must be a (finite )?number"):
                flags.FLAGS(["test", f"--length={value}"])


def test_the_programs_are_listed_with_what_they_ask(capsys):
    listing.main()
    lines = capsys.readouterr().out.splitlines()
    home = Path(listing.__file__).parent
    programs = [
        ".".join(("experiments", *path.relative_to(home).with_suffix("").parts)).removesuffix(
            ".__main__"
        )
        for path in home.rglob("*.py")
        if "    entry.main(main)" in path.read_text(encoding="utf-8")
    ]
    assert [line.split()[2] for line in lines] == sorted(programs)
    (digits,) = [line for line in lines if line.startswith("python -m experiments.digits ")]
    assert digits.endswith("classifies, generates, detects outliers.")
    assert all(line[-1] in ".?" and len(line) < 150 for line in lines)


def test_while_training_only_a_second_ctrl_c_ends_at_once(tmp_path):
    """SLURM's signal comes twice: to every process, and from the one that started the run."""
    run = work_directory.Run(tmp_path)
    with run.training():
        run.stop(signal.SIGUSR2, None)
        run.stop(signal.SIGUSR2, None)
        assert run.stopped_by == "SIGUSR2"
        with pytest.raises(errors.StoppedError, match="stopped by SIGINT"):
            run.stop(signal.SIGINT, None)


def strictly(text):
    """Read JSON that may hold no NaN and no infinity."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null_in_the_files_and_nan_when_read_back(tmp_path, capsys):
    run = work_directory.Run(tmp_path)
    run.log(3, {"a": math.nan, "b": math.inf, "c": 0.5})
    run.finish({"low": -math.inf, "ends": [math.nan, 1.0], "by_name": {"x": math.inf}})
    line = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert strictly(line) == {"step": 3, "a": None, "b": None, "c": 0.5}
    summary = strictly((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary == strictly(capsys.readouterr().out.splitlines()[-1])
    assert summary["low"] is None
    assert summary["ends"] == [None, 1.0]
    assert summary["by_name"] == {"x": None}
    again = work_directory.Run(tmp_path)
    (row,) = again.rows("", 3)
    assert row["c"] == 0.5
    assert math.isnan(row["a"])
    assert math.isnan(row["b"])
    again.log(3, {"a": 1.0, "b": 2.0, "c": 3.0})  # there already
    assert (tmp_path / "metrics.jsonl").read_text(encoding="utf-8") == line


def test_the_flags_kept_are_those_of_the_program_and_of_runs(tmp_path):
    """orbax defines flags of its own."""
    orbax = (
        "import experiments.run.loop\nfrom absl import flags\nassert 'orbax' in str([*flags.FLAGS])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{orbax}\n{PROGRAM}", f"--workdir={tmp_path}", "--size=2"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "flags.txt").read_text(
        encoding="utf-8"
    ) == "--inputs=\n--seed=0\n--size=2.0\n"


LIMITED = """
import resource, signal, sys
from experiments.run import entry
def main():
    run = entry.start()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    for step in range(100):
        run.log(step, {"a_metric": step / 3})
    run.finish({})
LIMIT = int(sys.argv.pop())
entry.main(main)
"""


def test_no_more_room_is_one_sentence_and_no_row_is_lost(tmp_path):
    """A limit on the size of a file stands for a full disk; it cuts a row in two."""

    def limited(size):
        return subprocess.run(
            [sys.executable, "-c", LIMITED, "--workdir=out", str(size)],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    done = limited(1000)
    assert done.returncode == errors.USAGE
    assert done.stderr.startswith(
        "error: out cannot be written (File too large): free some space or"
    )
    assert len(done.stderr.splitlines()) == 1
    metrics = tmp_path / "out" / "metrics.jsonl"
    assert not metrics.read_text(encoding="utf-8").endswith("\n")
    assert not (tmp_path / "out" / "summary.json").exists()
    done = limited(1_000_000)
    assert done.returncode == 0, done.stderr
    rows = [strictly(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"step": step, "a_metric": step / 3} for step in range(100)]


def test_rows_of_one_training_are_not_those_of_another(tmp_path):
    """The second training has no name of its own, and steps that the first had too."""
    run = work_directory.Run(tmp_path)
    run.log(5, {"flow/loss": 1.0})
    run.log(5, {"loss": 2.0, "generative/gap": 3.0})
    run.close()
    again = work_directory.Run(tmp_path)
    assert again.rows("flow/", 10) == [{"step": 5, "loss": 1.0}]
    assert again.rows("", 10) == [{"step": 5, "loss": 2.0, "generative/gap": 3.0}]


def test_home_is_found_in_every_path(tmp_path):
    """A shell leaves the ``~`` of --flag=~/folder as it is."""
    given = "--workdir=~/out", "--input=~/a", "--inputs=~/b,c,~/d e"
    done = program(tmp_path, *given, HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    found = work_directory.flags_of(tmp_path / "home" / "out")
    home = tmp_path / "home"
    assert found["input"] == f"{home}/a"
    assert found["inputs"] == f"{home}/b,c,{home}/d e"


NO_PATHS = {
    *("budgets", "entry", "targets"),
    *("coordinator", "program", "arguments", "suite", "peers", "programs", "only", "problems"),
    *(
        "objectives",
        "channels",
        "columns_of",
        "parts",
        "cluster_options",
        "grid",
        "zipped",
        "random",
        "metric",
    ),
}


def test_every_flag_of_text_that_may_be_a_path_is_defined_as_one():
    defined = set()
    for folder in ("experiments", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            defined |= set(re.findall(r"flags\.DEFINE_(?:string|list)\(\s*\"(\w+)", text))
    assert defined - NO_PATHS == set()


def test_an_ascii_locale_writes_and_reads_what_any_other_does(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    locales = {"LC_ALL": "C.UTF-8"}, ascii_only
    for locale in locales:
        done = program(tmp_path, "--workdir=é雪", "--input=Bücher/$1", "--inputs=ñ", **locale)
        assert done.returncode == 0, done.stderr
    flag_file = tmp_path / "é雪" / "flags.txt"
    assert "--input=Bücher/$1\n--inputs=ñ\n" in flag_file.read_text(encoding="utf-8")
    refused = program(tmp_path, "--workdir=é雪", "--input=other", **ascii_only)
    assert refused.returncode == errors.USAGE
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("below", ["", "deep/er", "link"])
def test_a_file_in_the_place_of_the_workdir_is_one_sentence(below, tmp_path):
    if below == "link":
        (tmp_path / "link").symlink_to("nowhere")
        folder = file = tmp_path / "link"
    else:
        file = tmp_path / "file"
        file.write_text("", encoding="utf-8")
        folder = file / below
    with pytest.raises(errors.UsageError, match=rf"{file} is a file\. Choose another folder, or"):
        work_directory.Run(folder)


HOLDING = """
import time
from experiments.run import entry
def main():
    entry.start()
    print("holds it", flush=True)
    time.sleep(600)
entry.main(main)
"""


def test_a_workdir_has_one_run_at_a_time_until_it_is_killed(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDING, "--workdir=out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert first.stdout.readline() == b"holds it\n"
    before = (tmp_path / "out" / "flags.txt").read_bytes()
    second = program(tmp_path, "--workdir=out")
    assert second.returncode == errors.USAGE
    assert second.stderr == (
        "error: --workdir=out is in use by another process: wait until it ends, or choose "
        "another folder.\n"
    )
    task = program(tmp_path, "--workdir=out", SLURM_STEP_NUM_TASKS="2")
    assert task.returncode == errors.USAGE
    assert "srun started 2 processes" in task.stderr
    assert "--coordinator=auto --mesh=2" in task.stderr
    assert len(task.stderr.splitlines()) == 1
    assert (tmp_path / "out" / "flags.txt").read_bytes() == before
    again = subprocess.Popen(  # requeued by SLURM: it waits for the lock of a failed node
        [sys.executable, "-c", HOLDING, "--workdir=out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "SLURM_RESTART_COUNT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert again.stderr.readline() == b"waiting up to 150 s for the lock of out\n"
    first.kill()
    assert again.stdout.readline() == b"holds it\n"
    again.kill()
    for process in (first, again):
        process.communicate()


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    work_directory.Run(tmp_path).finish({})
    assert "has no locks: do not start a second run there" in capsys.readouterr().err


def test_versions_are_kept_and_a_change_is_said(tmp_path, monkeypatch, capsys):
    def start():
        work_directory.Run(tmp_path).close()
        return capsys.readouterr().err

    now = f"ebm_jax {ebm_jax.__version__}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
    now += f"Python {sys.version.split()[0]}"
    assert [start(), start()] == ["", ""]
    assert (tmp_path / "versions.txt").read_text(encoding="utf-8") == f"{now}\n"
    for name, module in {"ebm_jax": ebm_jax, "jax": jax, "jaxlib": jaxlib.version}.items():
        monkeypatch.setattr(module, "__version__", "0.0.1")
        said = start()
        assert said.startswith("warning: this run was started with ")
        assert f"{name} 0.0.1" in said.split("resumes with")[1]
        assert start() == ""
    assert len((tmp_path / "versions.txt").read_text(encoding="utf-8").splitlines()) == 4
