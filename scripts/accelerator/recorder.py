"""Measuring in a process of its own: every result is printed at once, as a line of JSON.

The process that reads the lines keeps what was printed before this one ended or was killed.
"""

import collections
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from scripts.benchmark import measure

SECONDS = 1.5  # that the repetitions of a group of cases may take, about


class Recorder:
    """Where a suite puts its results.

    Attributes:
        suite: the suite's name.
        tiny: whether the sizes are those that only show that everything runs.
        profiled: whether the kernels of ``ours`` are named, by the time that each takes.
    """

    def __init__(self, suite: str, *, tiny: bool = False, profiled: bool = False):
        self.suite, self.tiny, self.profiled = suite, tiny, profiled

    def row(self, size: str, case: str, **values: Any) -> None:
        """Print a row of the tables."""
        row = {"suite": self.suite, "size": size, "case": case} | values
        print(json.dumps({"row": row}), flush=True)

    def headline(self, **values: float | None) -> None:
        """Print figures of the last line, those that are not missing."""
        known = {name: value for name, value in values.items() if value is not None}
        print(json.dumps({"headline": known}), flush=True)

    def cases(
        self,
        size: str,
        cases: dict[str, measure.Case],
        *,
        steps: float = 0,
        unit: str = "",
        work: dict[str, dict[str, float]] | None = None,
    ) -> dict[str, list[float]]:
        """Measure cases and print a row of each; return the seconds of every repetition.

        A case that fails is a row with its error, and the others are measured.

        Args:
            size: the work in words.
            cases: by name.
            steps: what a case does, in units: chain steps, spins.
            unit: the unit of ``steps``.
            work: by case, what it must do at least: "words" of random bits, "bytes" of memory,
                floating-point operations by precision.
        """
        first, alive = {}, {}
        for name, case in cases.items():
            try:
                first[name] = case()
                alive[name] = case
            except Exception as error:  # for example out of memory: continue with the others
                self.failed(size, name, error)
        if not alive:
            return {}
        once = sum(case() for case in alive.values())
        repetitions = max(1, min(5, int(SECONDS / (2 * once))))
        times = measure.interleaved(alive, repetitions)[1]
        for name in alive:
            seconds = measure.median(times, name)
            speed = {"rate": steps / seconds, "unit": f"{unit}/s"} if steps and seconds else {}
            least = (work or {}).get(name)
            needs = {"work": least} if least else {}
            self.row(size, name, seconds=seconds, first_call=first[name], **speed, **needs)
        if self.profiled and "ours" in alive:
            self._profile(size, alive["ours"])
        return times

    def peers(
        self,
        size: str,
        ours: measure.Case,
        makers: dict[str, Callable[[], measure.Case]],
        missing: dict[str, str],
        *,
        steps: float = 0,
        unit: str = "",
    ) -> dict[str, float]:
        """Measure every peer beside ours; return their seconds over ours, by peer.

        Args:
            size: the work in words.
            ours: our case of that work, compiled before.
            makers: by peer, what makes its case, which may fail.
            missing: by peer, why it is not measured.
            steps: what a case does.
            unit: the unit of ``steps``.
        """
        for name, reason in missing.items():
            self.row(size, name, error=reason)
        ratios = {}
        for name, make in makers.items():
            try:
                case = make()
                first = case()
                times = measure.interleaved({"ours": ours, name: case}, 1 if self.tiny else 3)[1]
            except Exception as error:
                self.failed(size, name, error)
                continue
            seconds, ratio = measure.median(times, name), measure.ratio(times, name, "ours")
            speed = {"rate": steps / seconds, "unit": f"{unit}/s"} if steps and seconds else {}
            self.row(size, name, seconds=seconds, first_call=first, over_ours=ratio, **speed)
            if ratio is not None:
                ratios[name] = ratio
        return ratios

    def failed(self, size: str, name: str, error: Exception) -> None:
        """Print the row of a case that failed."""
        lines = str(error).strip().splitlines() or [""]
        self.row(size, name, error=f"{type(error).__name__}: {lines[0][:200]}")

    def _profile(self, size: str, case: measure.Case) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                with jax.profiler.trace(folder, create_perfetto_trace=True):
                    case()
                kernels = kernels_of(Path(folder))
            self.row(size, "kernels of ours", kernels=kernels)
        except Exception as error:  # a driver without a profiler, say
            self.failed(size, "kernels of ours", error)


def kernels_of(folder: Path, most: int = 12) -> dict[str, float]:
    """Return the seconds that every kernel of a trace took, the longest first.

    They are the events of the devices, or of the host's XLA threads if the host is the only device.
    """
    path = next(folder.rglob("*.trace.json.gz"))
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    devices = {pid for pid, name in names.items() if "/device:" in name}
    total: collections.Counter[str] = collections.Counter()
    for event in events:
        # A kernel names the operation that it computes; a line of a summary does not.
        operation = event.get("args", {}).get("hlo_op")
        if event.get("ph") == "X" and operation and (not devices or event["pid"] in devices):
            total[event["name"]] += event["dur"] * 1e-6
    return dict(total.most_common(most))
