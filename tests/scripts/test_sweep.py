import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os
from absl import app, flags
flags.DEFINE_string("workdir", None, "")
flags.DEFINE_integer("seed", 0, "")
flags.DEFINE_enum("shape", "round", ["round", "flat"], "")
flags.DEFINE_float("size", 1.0, "", lower_bound=0.0)
flags.DEFINE_integer("steps", 1, "")
FLAGS = flags.FLAGS
def main(argv):
    if FLAGS.shape == "flat" and FLAGS.size > 1:
        raise RuntimeError("too flat")
    with open("started.txt", "a") as out:
        print(FLAGS.shape, FLAGS.size, FLAGS.seed, file=out)
    with open(FLAGS.workdir + "/summary.json", "w") as out:
        json.dump({"accuracy": FLAGS.size + FLAGS.seed, "name": FLAGS.shape}, out)
if __name__ == "__main__":
    app.run(main)
"""
# Many bad command lines in one process: importing JAX for each would take minutes.
DRIVER = """
import json, sys
from absl import flags
from experiments import runs
from scripts.sweep import __main__ as sweep
for arguments in json.load(sys.stdin):
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    flags.FLAGS(["sweep", "--program=toy", "--workdir=out", *arguments])
    try:
        sweep.main()
        print("accepted")
    except runs.UsageError as error:
        print(json.dumps(str(error)))
"""
ROOT = Path(__file__).parents[2]


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
    command = [sys.executable, "-m", "scripts.sweep", "--program=toy", "--workdir=out", *arguments]
    answer = subprocess.run(
        command, cwd=folder, env=environment(folder, path), capture_output=True, text=True
    )
    return answer.returncode, answer.stdout.strip().split("\n")[-1], answer.stderr


def started(folder):
    file = folder / "started.txt"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def test_a_sweep_runs_reports_failures_and_skips_what_is_finished(folder):
    arguments = ("--grid=shape=round,flat;size=1,2", "--seeds=2", "--max_parallel=2")
    code, last, errors = sweep(folder, *arguments)
    assert code == 0, errors
    best = {"run": "shape=round,size=2,seed=1", "accuracy": 3.0}
    assert json.loads(last) == {"finished": 6, "failed": 2, "best": best}
    assert "failed: shape=flat,size=2,seed=0" in errors
    assert "RuntimeError: too flat" in errors
    assert len(started(folder)) == 6
    table = (folder / "out" / "sweep.md").read_text()
    assert "| shape=round,size=2 | 2 | 2.5 ± 6.4 |" in table  # t(0.975, 1) sqrt(1/4) = 6.35
    assert "too flat" in table
    assert (folder / "out" / "sweep.png").stat().st_size > 1000
    assert (folder / "out" / "shape=flat,size=2,seed=1" / "log.txt").exists()

    (folder / "out" / "shape=round,size=1,seed=0" / "summary.json").unlink()
    (folder / "toy.py").write_text(PROGRAM.replace('raise RuntimeError("too flat")', "pass"))
    code, last, _ = sweep(folder, *arguments)
    assert json.loads(last)["finished"] == 8
    assert len(started(folder)) == 9  # the two that failed, and the one whose summary went

    code, _, errors = sweep(folder, *arguments[1:], "--grid=shape=round,flat;size=1,2;steps=5")
    assert code == 1
    assert "holds a run with other flags" in errors


BAD = {
    "--grid=colour=red": "--colour is no flag of toy",
    "--grid=shape=round,square": "should be one of",
    "--grid=size=1,-1": "flag --size=-1",
    "--grid=size": "write name=value,value",
    "--grid=size=1,1": "a value of it twice",
    "--grid=seed=1": "use --seeds",
    "--grid=size=1 --zipped=size=2": "more than one of",
    "--zipped=size=1,2;steps=1,2,3": "size 2, steps 3",
    "--random=size=5:1": "write low:high",
    "--program=no.such": "no module",
    "--workdir=": "must both be set",
    "--cluster=slurm": "needs sbatch and srun",
    "--cluster_options=colour=red": "--cluster_options is refused",
}


def test_bad_usage_is_refused_in_a_sentence_before_anything_starts(folder):
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
    assert started(folder) == []


def test_bad_usage_ends_the_program_with_code_one(folder):
    code, _, errors = sweep(folder, "--grid=colour=red")
    assert code == 1
    assert errors.strip().splitlines()[-1].startswith("error: toy refuses the grid: --colour")


def test_zipped_and_random_are_combined_with_the_grid(folder):
    code, last, errors = sweep(
        folder,
        "--zipped=size=1,2;steps=3,4",
        "--random=shape=round",
        "--samples=2",
        "--max_parallel=2",
        "--goal=min",
    )
    assert code == 0, errors
    best = {"run": "size=1,steps=3,seed=0", "accuracy": 1.0}
    assert json.loads(last) == {"finished": 2, "failed": 0, "best": best}


SBATCH = """#!/bin/sh
[ -f $SLURM_STANDIN/count ] || echo 100 > $SLURM_STANDIN/count
id=$(($(cat $SLURM_STANDIN/count) + 1)); echo $id > $SLURM_STANDIN/count
echo "$1" >> $SLURM_STANDIN/submitted
export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0
export SLURM_LOCALID=0 SLURM_JOB_NODELIST=here
{ sh "$1" > $SLURM_STANDIN/$id.log; echo COMPLETED > $SLURM_STANDIN/$id.state; } > /dev/null 2>&1 &
echo "Submitted batch job $id"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
for state in $SLURM_STANDIN/*.state; do
  [ -f "$state" ] && echo "$(basename $state .state)|$(cat $state)|here"
done
exit 0
"""


def test_the_slurm_path_with_stand_in_executables(folder, monkeypatch):
    tools = folder / "bin"
    tools.mkdir()
    monkeypatch.setenv("SLURM_STANDIN", str(tools))
    quiet = "#!/bin/sh\nexit 0\n"
    scripts = {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "squeue": quiet, "scancel": quiet}
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    code, last, errors = sweep(
        folder,
        "--grid=shape=flat;size=1,2",
        "--cluster=slurm",
        "--max_parallel=2",
        "--cluster_options=slurm_partition=short",
        path=str(tools),
    )
    assert code == 0, errors
    best = {"run": "size=1,seed=0", "accuracy": 1.0}
    assert json.loads(last) == {"finished": 1, "failed": 1, "best": best}
    assert "too flat" in errors
    scripts = (tools / "submitted").read_text().split()
    assert len(scripts) == 2
    assert "#SBATCH --partition=short" in (folder / "out/submitit/101_submission.sh").read_text()
