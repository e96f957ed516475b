import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Five updates, each a line of updates.txt, which is its checkpoint too.
PROGRAM = """
import json, os, signal, sys, time
from absl import app, flags
flags.DEFINE_string("workdir", None, "")
flags.DEFINE_integer("seed", 0, "")
flags.DEFINE_enum("shape", "round", ["round", "flat"], "")
flags.DEFINE_float("size", 1.0, "", lower_bound=0.0)
flags.DEFINE_string("layers", "", "")
flags.DEFINE_float("pause", 0.0, "")
flags.DEFINE_bool("perishable", False, "")
FLAGS = flags.FLAGS
def main(argv):
    stopped = []
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(which, lambda *_: stopped.append(1))
    print(os.getpid(), file=open("pids.txt", "a"))
    if FLAGS.shape == "flat" and FLAGS.size == 6 and FLAGS.seed == 1:
        raise RuntimeError("too flat")
    path = FLAGS.workdir + "/updates.txt"
    first = len(open(path).readlines()) if os.path.exists(path) else 0
    for update in range(first, 5):
        with open(path, "a") as out:
            print(update, file=out)
        dies = FLAGS.perishable and FLAGS.size == 3 and FLAGS.shape[0] + str(FLAGS.seed) != "f1"
        if dies and first == 0 and update == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(FLAGS.pause)
        if stopped:
            sys.exit(75)
    with open(FLAGS.workdir + "/summary.json", "w") as out:
        json.dump({"accuracy": FLAGS.size + FLAGS.seed, "size": 7, "name": FLAGS.layers}, out)
    with open("finished.txt", "a") as out:
        print(os.path.basename(FLAGS.workdir), file=out)
if __name__ == "__main__":
    app.run(main)
"""
# Many bad command lines in one process: importing JAX for each would take minutes.
DRIVER = """
import json, sys
from absl import flags
from experiments import runs
from scripts.sweep import __main__ as sweep
from scripts.sweep.settings import split_flags
for arguments in json.load(sys.stdin):
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        whole = ["sweep", "--program=toy", "--workdir=out", *arguments]
        argv, fixed = split_flags(whole, flags.FLAGS)
        flags.FLAGS(argv)
        sweep.main(fixed)
        print("accepted")
    except runs.UsageError as error:
        print(json.dumps(str(error)))
"""
ROOT = Path(__file__).parents[2]
SWEEP = [sys.executable, "-m", "scripts.sweep", "--program=toy", "--workdir=out"]
PERISHABLE = (
    "--grid=size=1,2,3,4,5,6;shape=round,flat;perishable=true",
    "--seeds=2",
    "--max_parallel=2",
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    return tmp_path


def environment(folder, path=""):
    return os.environ | {
        "PYTHONPATH": f"{folder}:{ROOT}",
        "PATH": f"{path}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
    }


def sweep(folder, *arguments, path=""):
    """Start the sweep as a user would; return the exit code, the last line and stderr."""
    answer = subprocess.run(
        [*SWEEP, *arguments],
        cwd=folder,
        env=environment(folder, path),
        capture_output=True,
        text=True,
    )
    return answer.returncode, answer.stdout.strip().split("\n")[-1], answer.stderr


def counts(last):
    found = json.loads(last)
    return found["finished"], found["failed"], found["unfinished"]


def lines(path):
    return path.read_text().split() if path.exists() else []


def assert_nothing_is_lost_or_run_twice(folder, expected):
    """``expected`` runs finished, once, and each made its five updates, once."""
    finished = lines(folder / "finished.txt")
    assert len(finished) == len(set(finished)) == expected
    for name in finished:
        assert lines(folder / "out" / name / "updates.txt") == ["0", "1", "2", "3", "4"], name


def test_killed_runs_go_on_failures_are_reported_and_a_wider_sweep_reruns_nothing(folder):
    # Another process holds the lock of one run: it is left alone.
    busy = folder / "out" / "perishable=true,shape=round,size=1,seed=0"
    busy.mkdir(parents=True)
    with (busy / "log.txt").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        code, last, errors = sweep(folder, *PERISHABLE)
    assert code == 0, errors
    assert counts(last) == (19, 1, 4)
    assert "failed: perishable=true,shape=flat,size=6,seed=1" in errors
    assert "RuntimeError: too flat" in errors
    page = (folder / "out" / "sweep.md").read_text()
    assert "unfinished: perishable=true,shape=round,size=3,seed=0" in page
    assert "SIGKILL" in page

    code, last, errors = sweep(folder, *PERISHABLE)
    assert code == 0, errors
    assert counts(last) == (23, 1, 0)
    assert json.loads(last)["best"] == {
        "run": "perishable=true,shape=round,size=6,seed=1",
        "accuracy": 7.0,
    }
    assert_nothing_is_lost_or_run_twice(folder, 23)
    page = (folder / "out" / "sweep.md").read_text()
    assert "| perishable=true,shape=round,size=2 | 2 | 2.5 ± 6.4 |" in page  # t(0.975, 1) / 2
    assert "too flat" in page
    assert (folder / "out" / "sweep.png").stat().st_size > 1000
    with (folder / "out" / "sweep.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 24
    assert rows[1] == {
        "perishable": "true",
        "shape": "round",
        "size": "1",
        "seed": "1",
        "status": "finished",
        "accuracy": "2.0",
        "size measured": "7",
    }
    assert [row["size"] for row in rows if row["status"] == "failed"] == ["6"]

    # 24 + 4 starts so far; wider, two flags named elsewhere: four new runs, and the failure again.
    assert len(lines(folder / "pids.txt")) == 24 + 3 + 1
    wider = ("--grid=shape=round,flat;size=1,2,3,4,5,6,7", "--zipped=perishable=true")
    code, last, errors = sweep(folder, *wider, *PERISHABLE[1:])
    assert counts(last) == (27, 1, 0), errors
    assert len(lines(folder / "pids.txt")) == 28 + 5
    code, last, _ = sweep(folder, "--collect", *PERISHABLE)
    assert counts(last) == (23, 1, 0)
    assert len(lines(folder / "pids.txt")) == 28 + 5


def alive(pid):
    return subprocess.run(["ps", "-o", "pid=", "-p", pid], capture_output=True).stdout != b""


def test_ctrl_c_lets_the_runs_save_and_leaves_none_behind(folder):
    arguments = ["--grid=pause=0.3", "--seeds=3", "--max_parallel=2"]
    process = subprocess.Popen(
        [*SWEEP, *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = folder / "out" / "pause=0.3,seed=0" / "updates.txt"
    while not (first.exists() and len(lines(folder / "pids.txt")) == 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode == 75, errors
    assert counts(out.strip().splitlines()[-1]) == (0, 0, 3)
    assert errors.strip().endswith("stopped by SIGINT; the same command goes on.")
    assert not any(alive(pid) for pid in lines(folder / "pids.txt"))

    code, last, errors = sweep(folder, *arguments)
    assert (code, counts(last)) == (0, (3, 0, 0)), errors
    assert_nothing_is_lost_or_run_twice(folder, 3)


BAD = {
    "--grid=colour=red": "--colour is no flag of toy",
    "--grid=shape=round,square": "should be one of",
    "--grid=size=1,-1": "flag --size=-1",
    "--grid=size": "write name=value,value",
    '--grid=size="1,2': "no line of CSV",
    "--grid=size=1,1": "a value of it twice",
    "--grid=seed=1": "use --seeds",
    "--grid=size=1 --zipped=size=2": "more than one of",
    "--zipped=size=1,2;pause=1,2,3": "size 2, pause 3",
    "--random=size=5:1": "write low:high",
    "--random=size=0:1:log": "(above 0)",
    "--program=no.such": "no module",
    "--workdir=": "must both be set",
    "--cluster=slurm": "needs sbatch and srun",
    "--cluster_options=colour=red": "needs --cluster=slurm",
    "--colour=red": "--colour is no flag of toy, nor of scripts.sweep",
    "--shape=square": "should be one of",
    "--noperishable": "write --perishable=false",
    "--size=1 --size=2": '--grid="size=1,2"',
    "--size=1 --grid=size=1,2": "--size=1 fixes a flag",
    "--samples=3": '--grid="samples=3"',
    "--num_processes=2": "every run is one process",
}


def test_bad_usage_is_refused_in_a_sentence_before_anything_starts(folder, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    answer = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([arguments.split() for arguments in BAD]),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    sentences = [json.loads(line) for line in answer.stdout.strip().splitlines()]
    assert len(sentences) == len(BAD), answer.stderr
    for (arguments, expected), sentence in zip(BAD.items(), sentences, strict=True):
        assert expected in sentence, arguments
        assert "Traceback" not in sentence
    assert not (folder / "pids.txt").exists()


def test_bad_usage_ends_the_program_with_code_one(folder):
    (folder / "out").mkdir()
    (folder / "out" / "program.txt").write_text("another\n")
    code, _, errors = sweep(folder, "--grid=size=1")
    assert code == 1
    assert errors.strip().splitlines()[-1].startswith("error: --workdir=")
    assert "holds a sweep of another" in errors


def test_zipped_and_random_are_combined_with_the_grid_and_values_may_hold_commas(folder):
    code, last, errors = sweep(
        folder,
        "--zipped=size=1,2;pause=0,0.01",
        '--random=shape=round;layers="64,64"',
        "--max_parallel=2",
        "--goal=min",
    )
    assert code == 0, errors
    name = "layers=64%2C64,pause=0,shape=round,size=1,seed=0"
    assert json.loads(last)["best"] == {"run": name, "accuracy": 1.0}
    assert counts(last) == (2, 0, 0)
    summary = json.loads((folder / "out" / name / "summary.json").read_text())
    assert summary["name"] == "64,64"


def test_a_flag_of_the_program_is_the_same_in_every_run_and_names_its_folder(folder):
    code, last, errors = sweep(folder, "--grid=size=1,2", "--perishable", "--layers=64,64")
    assert (code, counts(last)) == (0, (2, 0, 0)), errors
    name = "layers=64%2C64,perishable=true,size=2,seed=0"
    assert json.loads((folder / "out" / name / "summary.json").read_text())["name"] == "64,64"
    # The same runs, asked for in other words.
    grid = '--grid=size=1,2;perishable=true;layers="64,64"'
    code, last, errors = sweep(folder, grid)
    assert (code, counts(last)) == (0, (2, 0, 0)), errors
    assert len(lines(folder / "pids.txt")) == 2


def test_a_metric_that_no_run_has_is_told_and_nothing_is_lost(folder):
    wrong = "--metric=acuracy"
    code, last, errors = sweep(folder, "--grid=size=1,2,3", wrong)
    assert code == 1
    assert counts(last) == (3, 0, 0)
    assert errors.count("warning: no finished run has the number --metric=acuracy") == 1
    assert errors.strip().splitlines()[-1].startswith("error: no finished run has the number")
    assert "their numbers are: accuracy, size." in errors  # the name of a run is no number
    # A wider sweep knows it before it starts anything.
    code, _, errors = sweep(folder, "--grid=size=1,2,3,4", wrong)
    assert code == 1
    assert "Nothing was started." in errors
    assert len(lines(folder / "pids.txt")) == 3
    code, last, errors = sweep(folder, "--grid=size=1,2,3", "--collect", "--metric=size")
    assert (code, counts(last)) == (0, (3, 0, 0)), errors
    assert json.loads(last)["best"]["size"] == 7
    assert "highest size" in (folder / "out" / "sweep.html").read_text()


SETTINGS = """
import json
from scripts.sweep.settings import label, settings
wide = settings("", "", "a=1:100:log;b=3:4:int;c=-1:1;d=x,y", samples=400, seed=5)
few = settings("", "", "d=x,y;c=-1:1;a=1:100:log;b=3:4:int", samples=4, seed=5)
long = label({"a": "x/y " * 100, "b": "1"})
print(json.dumps([wide, few, long, label({"a": "x/y " * 100, "b": "2"})]))
"""


def test_random_settings_follow_their_distributions_and_names_stay_short(folder):
    out = subprocess.run(
        [sys.executable, "-c", SETTINGS], env=environment(folder), capture_output=True, text=True
    )
    wide, few, long, other = json.loads(out.stdout)
    assert few == wide[:4]  # more samples keep the first
    column = {name: [setting[name] for setting in wide] for name in "abcd"}
    # Four standard deviations of a count of 400 with probability 1/2 are 40: false alarm 6e-5 each.
    assert abs(sum(float(a) < 10 for a in column["a"]) - 200) < 40
    assert abs(column["b"].count("3") - 200) < 40
    assert set(column["b"]) == {"3", "4"}
    assert abs(sum(float(c) < 0 for c in column["c"]) - 200) < 40
    assert set(column["d"]) == {"x", "y"}
    assert len(long) <= 200
    assert long != other
    assert not set(long) & set("/ ")


SBATCH = """#!/bin/sh
echo "$1" >> $SLURM_STANDIN/submitted
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0
export SLURM_LOCALID=0 SLURM_JOB_NODELIST=here SLURM_ARRAY_JOB_ID=101 SLURM_JOB_ID=101
{ for task in $(seq 0 $last); do
    SLURM_ARRAY_TASK_ID=$task sh "$1" > $SLURM_STANDIN/$task.log
  done; touch $SLURM_STANDIN/done; } > /dev/null 2>&1 &
echo "Submitted batch job 101"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""


def test_the_slurm_path_with_stand_in_executables(folder, monkeypatch):
    tools = folder / "bin"
    tools.mkdir()
    monkeypatch.setenv("SLURM_STANDIN", str(tools))
    for name, text in {"sbatch": SBATCH, "srun": SRUN}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    arguments = ("--grid=shape=flat;size=1,6", "--seed=1", "--cluster=slurm", "--max_parallel=3")
    options = "--cluster_options=slurm_partition=short"
    code, last, errors = sweep(folder, *arguments, options, path=str(tools))
    assert code == 0, errors
    assert "2 runs are queued as job 101" in errors
    assert "--collect" in errors
    script = (tools / "submitted").read_text().split()
    assert len(script) == 1
    text = (folder / "out/submitit/101_submission.sh").read_text()
    assert "#SBATCH --partition=short" in text
    assert "#SBATCH --array=0-1%2" in text
    while not (tools / "done").exists():
        time.sleep(0.05)
    code, last, errors = sweep(folder, *arguments, "--collect", path=str(tools))
    assert code == 0, errors
    assert counts(last) == (1, 1, 0)
    assert "too flat" in errors
    code, _, errors = sweep(folder, *arguments, "--cluster_options=colour=red", path=str(tools))
    assert code == 1
    assert "--cluster_options is refused" in errors


def controller_answers():
    ping = ["scontrol", "ping"]
    return shutil.which("sbatch") and b"UP" in subprocess.run(ping, capture_output=True).stdout


def queue_is_empty():
    """Wait until the cluster has no job of a sweep."""
    while subprocess.run(["squeue", "--noheader", "--name=sweep"], capture_output=True).stdout:
        time.sleep(0.5)


@pytest.mark.skipif(not controller_answers(), reason="no SLURM answers; see docs/slurm.md")
def test_a_real_slurm_loses_nothing_and_queues_again_what_is_preempted(folder):
    grid = PERISHABLE[0] + ";pause=0.4"
    arguments = (grid, "--seeds=2", "--cluster=slurm", "--max_parallel=8")
    code, last, errors = sweep(folder, *arguments)
    assert (code, counts(last)) == (0, (0, 0, 24)), errors
    job = errors.split("queued as job ")[1].split()[0]
    while len(lines(folder / "pids.txt")) < 2:
        time.sleep(0.1)
    # One has no time left (scancel may be told to try again meanwhile), another is preempted.
    signalling = subprocess.Popen(["scancel", "--signal=USR2", f"{job}_0"])
    subprocess.run(["scontrol", "requeue", f"{job}_1"], check=True)
    queue_is_empty()
    signalling.wait()
    assert len(lines(folder / "pids.txt")) >= 24 + 2
    code, last, errors = sweep(folder, *arguments, "--collect")
    assert counts(last) == (20, 1, 3), errors

    code, last, errors = sweep(folder, *arguments)
    assert "4 runs are queued" in errors
    queue_is_empty()
    code, last, errors = sweep(folder, *arguments, "--collect")
    assert counts(last) == (23, 1, 0), errors
    assert "too flat" in errors
    assert_nothing_is_lost_or_run_twice(folder, 23)
