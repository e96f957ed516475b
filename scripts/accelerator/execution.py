"""Running a part in a process of its own, for a limited time, and keeping what it prints."""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.run import errors
from scripts.accelerator.parts import Part

ROOT = Path(__file__).parents[2]
BEAT = 15  # seconds between signs of life
BAD = ("FAILED", "ERROR")


def run(
    part: Part, seconds: float, log: Path, show: Callable[[str], None], result: dict[str, Any]
) -> None:
    """Run a part under a time limit and add its measurements to ``result`` as they arrive.

    That is ``status`` (ok, failed, missing or unfinished), ``seconds``, and what was printed: the
    ``rows`` and ``headline`` of a suite, the outcomes of ``tests``, the ``summary`` of a program.
    """
    result |= {"status": "unfinished", "rows": [], "headline": {}, "tests": {}}
    if part.workdir:
        shutil.rmtree(part.workdir, ignore_errors=True)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env=os.environ | part.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            for line in _lines(process, began + seconds):
                if line:
                    errors.write(line)
                    _take(result, part.read(line))
                if text := _news(line, result, part.read):
                    show(text)
            code = process.wait(timeout=1) if time.monotonic() < began + seconds else None
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
            result["seconds"] = round(time.monotonic() - began, 1)
    result["status"] = _status(part, code, result)
    if result["status"] in ("failed", "missing"):
        result["why"] = _why(log, result)


def _lines(process: subprocess.Popen, deadline: float) -> Iterator[str]:
    """Yield what a process prints until it ends or the deadline; "" where it is silent."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=min(BEAT, left))
        except queue.Empty:
            yield ""
            continue
        if line is None:
            return
        yield line


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _take(result: dict[str, Any], found: dict[str, Any]) -> None:
    """Add the numbers of a line to the results."""
    if row := found.get("row"):
        result["rows"].append(row)
    if test := found.get("test"):
        result["tests"][test[0]] = test[1]
    result["headline"] |= found.get("headline", {})
    for name in ("machine", "limits", "collected", "summary"):
        if name in found:
            result[name] = found[name]


def _news(line: str, result: dict[str, Any], read: Callable[[str], dict[str, Any]]) -> str:
    """Return what to show of a line: rows, every 50th test and each that failed, signs of life."""
    tests = result["tests"]
    if not line:
        return f"{sum(v in BAD for v in tests.values())} failed of {len(tests)}" if tests else "..."
    found = read(line)
    if row := found.get("row"):
        what = f"{row['case']}, {row['size']}"
        if "error" in row:
            return f"{what}: {row['error']}"
        if "rate" in row:
            return f"{what}: {row['rate']:.4g} {row['unit']}"
        return f"{what}: {row['seconds']:.4g} s" if "seconds" in row else what
    if "test" in found and (found["test"][1] in BAD or len(tests) % 50 == 0):
        return f"{len(tests)} of {result.get('collected', '?')}: {' '.join(found['test'])}"
    return ""


def _status(part: Part, code: int | None, result: dict[str, Any]) -> str:
    if code is None:
        return "unfinished"
    if part.optional and code == errors.USAGE:
        return "missing"
    ours = [row for row in result["rows"] if row["case"].startswith("ours") and "error" in row]
    # Where products are rounded, a test may fail: the page names it.
    rounded = "JAX_DEFAULT_MATMUL_PRECISION" in part.environment and result["tests"]
    return "failed" if (code and not rounded) or ours else "ok"


def _why(log: Path, result: dict[str, Any]) -> str:
    """Return why a part failed: its tests that did, our cases that did, or the end of its log."""
    names = [name for name, outcome in result["tests"].items() if outcome in BAD]
    names += [f"{r['case']}: {r['error']}" for r in result["rows"] if "error" in r]
    if names:
        return "; ".join(names)
    lines = [
        line
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return "\n".join(lines[-8:])
