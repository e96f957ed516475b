"""The check of an accelerator: what it keeps, when it ends, and what it says. No clock decides."""

import gzip
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from scripts.accelerator import execution, outputs, parts, recorder, report, suites
from scripts.benchmark import measure
from scripts.sweep import execution as sweep

ROW = {"suite": "toy", "size": "1 chain", "case": "ours", "seconds": 2.0}


def toy(name, text, seconds=60.0, **options):
    """Return a part that runs a program of a few lines."""
    return parts.Part(name, seconds, (sys.executable, "-c", text), **options)


def printed(*lines, then=""):
    return "\n".join([f"print({json.dumps(line)!r}, flush=True)" for line in lines] + [then])


def run(part, seconds, tmp_path):
    result, shown = {}, []
    execution.run(part, seconds, tmp_path / "log", shown.append, result)
    return result, shown


def test_what_a_part_printed_before_its_time_ran_out_is_kept(tmp_path):
    slow = printed({"row": ROW}, {"headline": {"a": 1.5}}, then="import time; time.sleep(600)")
    began = time.monotonic()
    result, shown = run(toy("slow", slow), 3.0, tmp_path)
    assert time.monotonic() - began < 60
    assert result["status"] == "unfinished"
    assert result["rows"] == [ROW]
    assert result["headline"] == {"a": 1.5}
    assert shown[0] == "ours, 1 chain: 2 s"


def runs(process):
    """Return whether a process is there and is not a zombie."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.split(")")[1].split()[0] != "Z"


def test_what_a_part_started_is_ended_with_it(tmp_path):
    child = f"import subprocess, sys, time; p = subprocess.Popen([{sys.executable!r}, '-c', "
    child += "'import time; time.sleep(600)']); print(p.pid, flush=True); time.sleep(600)"
    run(toy("parent", child), 3.0, tmp_path)
    number = int((tmp_path / "log").read_text(encoding="utf-8").split()[0])
    # A killed process ends when the machine next gives it a moment; left alone it sleeps 600 s.
    deadline = time.monotonic() + 60
    while runs(number):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "options", "status"),
    [
        (printed({"row": ROW}), {}, "ok"),
        (printed({"row": ROW | {"case": "thrml", "error": "not installed"}}), {}, "ok"),
        (printed({"row": ROW | {"case": "ours, MALA", "error": "too large"}}), {}, "failed"),
        (printed({"row": ROW}, then="raise ValueError('no card')"), {}, "failed"),
        ("raise SystemExit(1)", {"optional": True}, "missing"),
        ("raise SystemExit(3)", {"optional": True}, "failed"),
        (
            "print('tests/a.py::b FAILED'); raise SystemExit(1)",
            {"read": outputs.of_tests},
            "failed",
        ),
        (
            "print('tests/a.py::b FAILED'); raise SystemExit(1)",
            {
                "read": outputs.of_tests,
                "environment": {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"},
            },
            "ok",
        ),
        (
            "import os; raise SystemExit(os.environ['JAX_DEFAULT_MATMUL_PRECISION'] != 'highest')",
            {"environment": {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}},
            "ok",
        ),
    ],
)
def test_the_status_of_a_part(text, options, status, tmp_path):
    result, _ = run(toy("toy", text, **options), 60.0, tmp_path)
    assert result["status"] == status
    assert ("why" in result) == (status in ("failed", "missing"))


def test_a_program_begins_anew(tmp_path):
    """What an interrupted check left would be resumed, and the seconds would be too few."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "left").touch()
    look = f"import os; raise SystemExit(os.path.exists({str(folder)!r}))"
    assert run(toy("digits", look, workdir=folder), 60.0, tmp_path)[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("collected 18 items\n", {"collected": 18}),
        ("2 workers [1500 items]\n", {"collected": 1500}),
        ("tests/a.py::b[x-1 2] PASSED    [ 5%]\n", {"test": ("tests/a.py::b[x-1 2]", "PASSED")}),
        ("[gw3] [ 12%] FAILED tests/a.py::b \n", {"test": ("tests/a.py::b", "FAILED")}),
        ("tests/a.py::b\n", {}),
        ("==== 3 passed in 0.1s ====\n", {}),
    ],
)
def test_lines_of_pytest(line, expected):
    assert outputs.of_tests(line) == expected


def test_shares_of_the_limit_and_targets():
    """By hand: 10 words at 5 a second are 2 s, 30 bytes at 10 a second are 3 s, of 4 s or 12 s."""
    least = {"work": {"words": 10.0, "bytes": 30.0}}
    sizes = [ROW | least | {"seconds": 4.0}, ROW | least | {"seconds": 12.0}]
    lattices = [
        {"case": "ours", "size": "1024^2, 1 chain", "rate": 1200.0},
        {"case": "thrml", "size": "256^2, 16 chains", "rate": 100.0},
    ]
    results = {
        "parts": {
            "roofs": {"status": "ok", "limits": {"words": 5.0, "bytes": 10.0}},
            "ula": {"status": "ok", "rows": sizes},
            "rbm": {
                "status": "failed",
                "headline": {
                    "products_over_ours_9_chains": 0.9,
                    "products_over_ours_8_chains": 0.5,
                },
            },
            "ising": {"status": "ok", "rows": lattices},
            "pcd": {"status": "unfinished"},
            "mnist": {"status": "ok", "summary": {"seconds": 140.0}},
        }
    }
    report.complete(results)
    assert [row["of_limit"] for row in sizes] == [0.75, 0.25]
    assert {row["limited_by"] for row in sizes} == {"bytes"}
    measured = [(t["measured"], t["met"]) for t in results["targets"].values()]
    assert measured == [(0.75, True), (0.5, False), (12.0, True), (None, None), (140.0, True)]
    last = json.loads(report.last_line(results))
    assert last["suites"]["mnist"] == {"status": "ok", "seconds": 140.0}
    assert (last["failed"], last["unfinished"], last["missing"]) == (["rbm"], ["pcd"], [])


def test_tests_that_fail_by_rounded_products_alone_are_named():
    exact = {"a": "PASSED", "b": "PASSED", "c": "FAILED", "e": "SKIPPED"}
    rounded = {"a": "PASSED", "b": "FAILED", "c": "FAILED", "d": "ERROR"}
    results = {
        "machine": {"card": "toy"},
        "parts": {
            "tests": {"status": "failed", "tests": exact, "collected": 9, "why": "c"},
            "tests_tf32": {"status": "ok", "tests": rounded},
        },
    }
    assert report.only_rounded(results) == ["b"]
    counted = report.counts(results["parts"]["tests"])
    assert counted == {"passed": 2, "failed": 1, "skipped": 1, "not_run": 5}
    page = report.page(results)
    assert "1 tests pass without that rounding and fail with it" in page
    assert "| card | toy |" in page


def test_a_case_that_fails_is_a_row_and_the_others_are_measured(capsys):
    def broken():
        raise MemoryError("no room\nfor more")

    record = recorder.Recorder("toy", tiny=True)
    cases = {"ours": lambda: 0.5, "floor": broken}
    times = record.cases("big", cases, steps=10, unit="steps", work={"ours": {"words": 3}})
    assert measure.median(times, "ours") == 0.5
    ratios = record.peers(
        "big",
        cases["ours"],
        {"peer": lambda: lambda: 2.0, "lost": broken, "late": lambda: broken},
        {"absent": "not installed"},
    )
    assert ratios == {"peer": 4.0}
    rows = [json.loads(line)["row"] for line in capsys.readouterr().out.splitlines()]
    by_case = {row["case"]: row for row in rows}
    assert by_case["ours"]["rate"] == 20
    assert by_case["ours"]["work"] == {"words": 3}
    assert by_case["peer"]["over_ours"] == 4
    errors = {case: row["error"] for case, row in by_case.items() if "error" in row}
    lost = "MemoryError: no room"
    assert errors == {"floor": lost, "lost": lost, "late": lost, "absent": "not installed"}


def test_kernels_are_those_of_the_devices(tmp_path):
    def event(pid, name, duration, **args):
        return {"ph": "X", "pid": pid, "name": name, "dur": duration, "args": args}

    events = [
        {"name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}},
        {"name": "process_name", "pid": 2, "args": {"name": "/host:CPU"}},
        event(1, "fusion", 3.0, hlo_op="fusion"),
        event(1, "fusion", 4.0, hlo_op="fusion"),
        event(1, "gemm", 9.0, hlo_op="dot"),
        event(1, "a step", 99.0),
        event(2, "wait", 99.0, hlo_op="wait"),
    ]
    path = tmp_path / "plugins" / "host.trace.json.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    found = recorder.kernels_of(tmp_path)
    assert list(found) == ["gemm", "fusion"]
    assert found["fusion"] == pytest.approx(7e-6)


def test_every_suite_has_a_part_and_the_limits_are_measured(capsys, tmp_path):
    planned = parts.every(tmp_path, tiny=True, profiled=False)
    assert set(suites.SUITES) <= set(planned)
    assert set(planned) - set(suites.SUITES) == {"tests", "tests_tf32", "digits"}
    assert "mnist" in parts.every(tmp_path, tiny=False, profiled=False)
    suites.main("roofs", "tiny")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"card", "jax", "runtime"} <= set(lines[0]["machine"])
    limits = next(line["limits"] for line in lines if "limits" in line)
    assert {"float32", "default", "bfloat16", "bytes", "words"} <= set(limits)
    assert all(rate > 0 for rate in limits.values())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--parts=roofs,nope"], "'nope', which is not a part; allowed are roofs, ula"),
        (["--tiny", "--page=x.md"], "--page needs measured numbers"),
    ],
)
def test_flags_that_cannot_be_are_refused(given, sentence, program, tmp_path):
    module = program("accelerator", f"--workdir={tmp_path}", *given)
    with pytest.raises(module.errors.UsageError, match=sentence):
        module.main()


@pytest.mark.slow
def test_the_budget_ends_the_check_and_keeps_what_there_is(program, tmp_path, capsys, monkeypatch):
    module = program(
        "accelerator", f"--workdir={tmp_path / 'new'}", "--budget=10", f"--page={tmp_path / 'p.md'}"
    )
    written = str(tmp_path / "new" / "accelerator.json")
    seen = f"import json; before = len(json.load(open({written!r}))['parts'])\n"
    seen += "print(json.dumps({'headline': {'before': before}}))"
    planned = [
        toy("first", printed({"row": ROW}, {"machine": {"card": "toy"}})),
        toy("second", seen),
        toy("third", "import time; time.sleep(600)"),
        toy("fourth", printed({"row": ROW})),
    ]
    monkeypatch.setattr(module.parts, "every", lambda *a, **k: {p.name: p for p in planned})
    before = signal.getsignal(signal.SIGTERM)
    try:
        module.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["unfinished"] == ["third", "fourth"]
    assert last["failed"] == []
    assert last["suites"]["second"] == {"status": "ok", "before": 1}  # written after the first
    written = json.loads((tmp_path / "new" / "accelerator.json").read_text(encoding="utf-8"))
    assert list(written["parts"]) == ["first", "second", "third", "fourth"]
    assert written["machine"]["card"] == "toy"
    assert "## fourth" in (tmp_path / "p.md").read_text(encoding="utf-8")


SAY = "import os; print({k: v for k, v in os.environ.items() if 'XLA_' in k})"


@pytest.mark.parametrize(
    ("max_parallel", "given", "expected"),
    [
        (1, {}, {}),
        (2, {}, {"XLA_CLIENT_MEM_FRACTION": "0.45"}),
        (7, {}, {"XLA_CLIENT_MEM_FRACTION": "0.129"}),
        (2, {"XLA_CLIENT_MEM_FRACTION": "0.2"}, {"XLA_CLIENT_MEM_FRACTION": "0.2"}),
        *(
            (2, {name: value}, {name: value})
            for name, value in (
                ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2"),
                ("XLA_PYTHON_CLIENT_PREALLOCATE", "false"),
                ("XLA_PYTHON_CLIENT_ALLOCATOR", "platform"),
            )
        ),
    ],
)
def test_runs_of_a_sweep_share_the_memory_of_a_gpu(
    max_parallel, given, expected, tmp_path, monkeypatch
):
    """JAX reads the variable when it starts, and refuses two that say the same."""
    for name in [name for name in os.environ if name.startswith("XLA_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    started = [sweep.Run([sys.executable, "-c", SAY], tmp_path / str(k)) for k in range(2)]
    before = {s: signal.getsignal(s) for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    try:
        assert sweep.run_here(started, max_parallel, 10) == ""
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    for one in started:
        assert (one.folder / "log.txt").read_text(encoding="utf-8").strip() == str(expected)
