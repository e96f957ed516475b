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

# Five updates, each a line of updates.txt, which is its checkpoint too. With --late the time of its
# job is up: after the second update of each start, after none, or where it cannot be queued again.
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
flags.DEFINE_bool("patient", False, "")
flags.DEFINE_enum("late", "never", ["never", "often", "always", "refused"], "")
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
    if FLAGS.late in ("always", "refused"):
        os.kill(os.getppid(), signal.SIGUSR2)
        while not stopped:
            time.sleep(0.01)
        sys.exit(75)
    for update in range(first, 5):
        with open(path, "a") as out:
            print(update, file=out)
        dies = FLAGS.perishable and FLAGS.size == 3 and FLAGS.shape[0] + str(FLAGS.seed) != "f1"
        if dies and first == 0 and update == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        os.makedirs(FLAGS.workdir + "/checkpoints/toy/" + str(update))
        if FLAGS.late == "often" and update == first + 1:
            os.kill(os.getppid(), signal.SIGUSR2)
            while not stopped:
                time.sleep(0.01)
        time.sleep(FLAGS.pause)
        while FLAGS.patient and not stopped and not os.path.exists("go"):
            time.sleep(0.01)
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
from experiments.run import errors
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
    except errors.UsageError as error:
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
    (tmp_path / "toy.py").write_text(PROGRAM, encoding="utf-8")
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
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def assert_nothing_is_lost_or_run_twice(folder, expected):
    """``expected`` runs finished, once, and each made its five updates, once."""
    finished = lines(folder / "finished.txt")
    assert len(finished) == len(set(finished)) == expected
    for name in finished:
        assert lines(folder / "out" / name / "updates.txt") == ["0", "1", "2", "3", "4"], name


@pytest.mark.slow
def test_killed_runs_go_on_failures_are_reported_and_a_wider_sweep_reruns_nothing(folder):
    # Another process holds the lock of one run: it is left alone.
    busy = folder / "out" / "perishable=true,shape=round,size=1,seed=0"
    busy.mkdir(parents=True)
    with (busy / "log.txt").open("a", encoding="utf-8") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        code, last, errors = sweep(folder, *PERISHABLE)
    assert code == 0, errors
    assert counts(last) == (19, 1, 4)
    assert "failed: perishable=true,shape=flat,size=6,seed=1" in errors
    assert "RuntimeError: too flat" in errors
    page = (folder / "out" / "sweep.md").read_text(encoding="utf-8")
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
    page = (folder / "out" / "sweep.md").read_text(encoding="utf-8")
    assert "| perishable=true,shape=round,size=2 | 2 | 2.5 ± 6.4 |" in page  # t(0.975, 1) / 2
    assert "too flat" in page
    assert (folder / "out" / "sweep.png").stat().st_size > 1000
    with (folder / "out" / "sweep.csv").open(newline="", encoding="utf-8") as table:
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
    # A run ends when it is asked to, or told to continue, on machines of any speed.
    arguments = ["--grid=patient=true", "--seeds=3", "--max_parallel=2"]
    process = subprocess.Popen(
        [*SWEEP, *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started = [folder / "out" / f"patient=true,seed={seed}" / "updates.txt" for seed in (0, 1)]
    while not all(map(lines, started)):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode == 75, errors
    assert counts(out.strip().splitlines()[-1]) == (0, 0, 3)
    assert errors.strip().endswith("stopped by SIGINT; run the same command again to resume.")
    assert not any(alive(pid) for pid in lines(folder / "pids.txt"))

    (folder / "go").touch()
    code, last, errors = sweep(folder, *arguments)
    assert (code, counts(last)) == (0, (3, 0, 0)), errors
    assert_nothing_is_lost_or_run_twice(folder, 3)


BAD = {
    "--grid=colour=red": "--colour is not a flag of toy",
    "--grid=shape=round,square": "should be one of",
    "--grid=size=1,-1": "flag --size=-1",
    "--grid=size": "write name=value,value",
    '--grid=size="1,2': "not a line of CSV",
    "--grid=size=1,1": "a value of it twice",
    "--grid=seed=1": "use --seeds",
    "--grid=size=1 --zipped=size=2": "more than one of",
    "--zipped=size=1,2;pause=1,2,3": "size 2, pause 3",
    "--random=size=5:1": "write low:high",
    "--random=size=0:1:log": "(above 0)",
    "--program=no.such": "not a module",
    "--workdir=": "must both be set",
    "--cluster=slurm": "needs sbatch and srun",
    "--cluster_options=colour=red": "needs --cluster=slurm",
    "--colour=red": "--colour is not a flag of toy, nor of scripts.sweep",
    "--shape=square": "should be one of",
    "--noperishable": "write --perishable=false",
    "--size=1 --size=2": '--grid="size=1,2"',
    "--size=1 --grid=size=1,2": "--size=1 fixes a flag",
    "--samples=3": '--grid="samples=3"',
    "--num_processes=2": "every run is one process",
    "--program=experiments.rbm --hiden=3": "--hiden is not a flag of experiments.rbm",
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
    (folder / "out" / "program.txt").write_text("another\n", encoding="utf-8")
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
    summary = json.loads((folder / "out" / name / "summary.json").read_text(encoding="utf-8"))
    assert summary["name"] == "64,64"


def test_a_flag_of_the_program_is_the_same_in_every_run_and_names_its_folder(folder):
    code, last, errors = sweep(folder, "--grid=size=1,2", "--perishable", "--layers=64,64")
    assert (code, counts(last)) == (0, (2, 0, 0)), errors
    name = "layers=64%2C64,perishable=true,size=2,seed=0"
    assert (
        json.loads((folder / "out" / name / "summary.json").read_text(encoding="utf-8"))["name"]
        == "64,64"
    )
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
    assert "their numbers are: accuracy, size." in errors  # the name of a run is not a number
    # A wider sweep knows it before it starts anything.
    code, _, errors = sweep(folder, "--grid=size=1,2,3,4", wrong)
    assert code == 1
    assert "Nothing was started." in errors
    assert len(lines(folder / "pids.txt")) == 3
    code, last, errors = sweep(folder, "--grid=size=1,2,3", "--collect", "--metric=size")
    assert (code, counts(last)) == (0, (3, 0, 0)), errors
    assert json.loads(last)["best"]["size"] == 7
    assert "highest size" in (folder / "out" / "sweep.html").read_text(encoding="utf-8")


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


# Jobs run in turn, again and again while they are queued again.
SBATCH = """#!/bin/sh
echo "$1" >> $SLURM_STANDIN/submitted
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0
export SLURM_LOCALID=0 SLURM_JOB_NODELIST=here SLURM_ARRAY_JOB_ID=101 SLURM_JOB_ID=101
{ for task in $(seq 0 $last); do
    touch $SLURM_STANDIN/requeue_101_$task
    while [ -e $SLURM_STANDIN/requeue_101_$task ]; do
      rm $SLURM_STANDIN/requeue_101_$task
      SLURM_ARRAY_TASK_ID=$task sh "$1" > $SLURM_STANDIN/$task.log
    done
  done; touch $SLURM_STANDIN/done; } > /dev/null 2>&1 &
echo "Submitted batch job 101"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do
  case "$1" in
    --error) errors=$(echo "$2" | sed "s/%A/101/; s/%a/$SLURM_ARRAY_TASK_ID/; s/%t/0/"); shift 2;;
    --output) shift 2;;
    *) shift;;
  esac
done
exec "$@" 2>> "$errors"
"""
SCONTROL = """#!/bin/sh
case "$1 $2" in
  "show config") printf 'MailProg = /bin/mail\\nMaxArraySize            = 1001\\n';;
  "requeue 101_2") echo "Job/step already completing or completed for job $2" >&2; exit 1;;
  requeue*) touch $SLURM_STANDIN/requeue_$2;;
esac
"""


@pytest.fixture
def tools(folder, monkeypatch):
    """Stand-ins for the commands of SLURM, in a folder for the PATH."""
    tools = folder / "bin"
    tools.mkdir()
    monkeypatch.setenv("SLURM_STANDIN", str(tools))
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL}.items():
        write_tool(tools / name, text)
    return tools


def write_tool(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def wait_for_the_jobs(tools):
    while not (tools / "done").exists():
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_is_queued_again_while_it_makes_checkpoints_and_the_page_says_why_it_is_not(
    folder, tools
):
    arguments = ("--grid=late=often,always,refused", "--cluster=slurm")
    code, last, errors = sweep(folder, *arguments, path=str(tools))
    assert code == 0, errors
    wait_for_the_jobs(tools)
    code, last, errors = sweep(folder, *arguments, "--collect", path=str(tools))
    assert (code, counts(last)) == (0, (1, 0, 2)), errors
    assert_nothing_is_lost_or_run_twice(folder, 1)
    # Five updates in steps of two; a start, and one more without a checkpoint; a refused one.
    assert len(lines(folder / "pids.txt")) == 3 + 2 + 1
    page = (folder / "out" / "sweep.md").read_text(encoding="utf-8")
    stuck, refused = page.split("unfinished: ")[1:]
    assert "The time limit came twice without a new checkpoint between" in stuck
    assert "Job/step already completing or completed for job 101_2" in refused
    assert "Traceback" not in page


@pytest.fixture
def execution(loaded):
    return loaded("scripts.sweep.execution")


COUNTING = """#!/bin/sh
echo x >> $SLURM_STANDIN/count
cp "$1" $SLURM_STANDIN/script$(wc -l < $SLURM_STANDIN/count)
[ $(wc -l < $SLURM_STANDIN/count) = "$REFUSED" ] && { echo "QOSMaxSubmitJobLimit" >&2; exit 1; }
echo "Submitted batch job $((100 + $(wc -l < $SLURM_STANDIN/count)))"
"""


@pytest.mark.parametrize(("longest", "sizes"), [(0, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_an_array_is_as_long_as_the_cluster_allows(
    longest, sizes, folder, tools, monkeypatch, execution
):
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    write_tool(tools / "sbatch", COUNTING)
    write_tool(tools / "scontrol", f"#!/bin/sh\necho 'MaxArraySize            = {longest}'\n")
    planned = [execution.Run(["true"], folder / "out" / str(i)) for i in range(5)]
    numbers = execution.submit(planned, folder / "out" / "submitit", 3, 60, {})
    assert numbers == [str(101 + i) for i in range(len(sizes))]
    expected = [
        f"{number}_{task}" if size > 1 else number
        for number, size in zip(numbers, sizes, strict=True)
        for task in range(size)
    ]
    assert [run.job_number() for run in planned] == expected
    scripts = [(tools / f"script{i + 1}").read_text(encoding="utf-8") for i in range(len(sizes))]
    for i, size in enumerate(sizes):
        assert (f"--array=0-{size - 1}%{min(size, 3)}" in scripts[i]) == (size > 1)
        assert (f"--dependency=afterany:{100 + i}" in scripts[i]) == (i > 0)


def test_what_was_queued_before_a_refusal_is_named_and_not_queued_again(
    folder, tools, monkeypatch, execution
):
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("REFUSED", "2")
    write_tool(tools / "sbatch", COUNTING)
    write_tool(tools / "scontrol", "#!/bin/sh\necho 'MaxArraySize = 2'\n")
    write_tool(tools / "squeue", "#!/bin/sh\nprintf '77\\n101_0\\n101_1\\n'\n")
    planned = [execution.Run(["true"], folder / "out" / str(i)) for i in range(3)]
    with pytest.raises(
        execution.errors.UsageError, match=r"QOSMaxSubmitJobLimit.*before it: job 101"
    ):
        execution.submit(planned, folder / "out" / "submitit", 3, 60, {})
    again = [execution.Run(["true"], folder / "out" / str(i)) for i in range(3)]
    execution.note_queued(again)
    assert [run.job for run in again] == ["101_0", "101_1", ""]
    assert again[1].status() == ("unfinished", "    It is queued or running as job 101_1.")
    write_tool(tools / "squeue", "#!/bin/sh\nexit 1\n")  # no controller answers
    later = [execution.Run(["true"], folder / "out" / str(i)) for i in range(3)]
    execution.note_queued(later)
    assert [run.job for run in later] == ["", "", ""]


def test_the_same_command_queues_nothing_that_is_queued(folder, tools):
    write_tool(tools / "sbatch", COUNTING)
    write_tool(tools / "squeue", "#!/bin/sh\nprintf '101_0\\n101_1\\n'\n")
    arguments = ("--grid=size=1,2", "--cluster=slurm")
    for said in ("2 runs are queued as job 101", "2 runs are queued or running already"):
        code, last, errors = sweep(folder, *arguments, path=str(tools))
        assert (code, counts(last)) == (0, (0, 0, 2)), errors
        assert said in errors
    assert lines(tools / "count") == ["x"]


@pytest.mark.parametrize(
    ("minutes", "options", "said"),
    [
        (4, {}, "--timeout_min=4 leaves no time to train.*give at least 5"),
        (60, {"slurm_time": "1"}, "use --timeout_min"),
        (60, {"timeout_min": "1"}, "use --timeout_min"),
    ],
)
def test_a_time_limit_without_time_to_train_is_refused(
    minutes, options, said, folder, tools, monkeypatch, execution
):
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    run = execution.Run(["true"], folder / "out" / "0")
    with pytest.raises(execution.errors.UsageError, match=said):
        execution.submit([run], folder / "out" / "submitit", 3, minutes, options)
    assert not (tools / "submitted").exists()


@pytest.mark.slow
def test_the_slurm_path_with_stand_in_executables(folder, tools):
    arguments = ("--grid=shape=flat;size=1,6", "--seed=1", "--cluster=slurm", "--max_parallel=3")
    options = "--cluster_options=slurm_partition=short"
    code, last, errors = sweep(folder, *arguments, options, path=str(tools))
    assert code == 0, errors
    assert "2 runs are queued as job 101" in errors
    assert "--collect" in errors
    script = (tools / "submitted").read_text(encoding="utf-8").split()
    assert len(script) == 1
    text = (folder / "out/submitit/101_submission.sh").read_text(encoding="utf-8")
    assert "#SBATCH --partition=short" in text
    assert "#SBATCH --array=0-1%2" in text
    wait_for_the_jobs(tools)
    code, last, errors = sweep(folder, *arguments, "--collect", path=str(tools))
    assert code == 0, errors
    assert counts(last) == (1, 1, 0)
    assert "too flat" in errors
    code, _, errors = sweep(folder, *arguments, "--cluster_options=colour=red", path=str(tools))
    assert code == 1
    assert "--cluster_options is invalid" in errors


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
