"""The rows of a target: each method with its pilots and seeds, log Z, and seconds."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from scripts.benchmark import report
from scripts.benchmark_samplers import annealing, discrete_targets, log_z, methods, rows, targets
from scripts.benchmark_samplers.running import FINAL_KEY, Protocol, Runner, choose, final
from scripts.benchmark_samplers.targets import Target

SMC = "annealed_smc"
REPETITIONS = 5  # of a timing


class Job(NamedTuple):
    """A target, the protocol, and where its rows are."""

    target: str
    protocol: Protocol
    seed: int
    folder: Path
    stamp: rows.Row

    def row(self, kind: str, method: str, **values) -> rows.Row:
        """Return a row of this target."""
        common = {"kind": kind, "target": self.target, "method": method}
        return common | {"protocol": self.protocol._asdict()} | values | self.stamp

    def done(self, kind: str, method: str) -> bool:
        """Return whether the row exists."""
        protocol = self.protocol._asdict()
        return rows.finished(rows.read(self.folder), kind, self.target, method, protocol)

    def log_z_done(self) -> bool:
        """Return whether all estimators have a row at every budget."""
        protocol = self.protocol._asdict()
        found = {
            (row["method"], row["budget"])
            for row in rows.read(self.folder)
            if (row["kind"], row["target"]) == ("log_z", self.target)
            and row["protocol"] == protocol
        }
        return len(found) == len(log_z.ESTIMATORS) * len(self.protocol.budgets)

    def settings(self, method: str) -> methods.Settings | None:
        """Return the options of a method in the rows, if it is there."""
        for row in rows.read(self.folder):
            same = (row["kind"], row["target"], row["method"]) == ("sampler", self.target, method)
            if same and row["protocol"] == self.protocol._asdict():
                return row["options"]
        return None


def make(name: str) -> tuple[Target, dict[str, methods.Method]]:
    """Return a target and the samplers for it."""
    if name in targets.CONTINUOUS:
        return targets.CONTINUOUS[name](), methods.CONTINUOUS
    return discrete_targets.DISCRETE[name](), methods.DISCRETE


def results(job: Job) -> Iterator[rows.Row]:
    """Yield the rows of the target that do not exist yet."""
    target, table = make(job.target)
    for name, method in table.items():
        if job.done("sampler", name):
            continue
        runner = Runner(method, target)
        options, pilots = choose(runner, job.protocol, job.seed)
        found = final(runner, options, job.protocol, job.seed)
        label = {"label": method.label, "unbiased": method.unbiased}
        yield job.row("sampler", name, **label, options=options, pilots=pilots, **found)
        jax.clear_caches()  # the programs of a method are not used again
    if not job.done("sampler", SMC):
        particles = annealing.Particles(target)
        tried = methods.candidates(
            table["mala"].options(target) if "mala" in table else (), job.protocol.pilots
        )
        options, pilots = particles.choose(tried, job.protocol, job.seed)
        found = particles.final(options, job.protocol, job.seed)
        label = {"label": particles.label, "unbiased": particles.unbiased}
        yield job.row("sampler", SMC, **label, options=options, pilots=pilots, **found)


def log_z_results(job: Job) -> Iterator[rows.Row]:
    """Yield the rows of log Z, if they do not exist yet."""
    if not job.log_z_done():
        target, _ = make(job.target)
        settings = job.settings("mala") or {}
        for row in log_z.rows(target, settings, job.protocol, job.seed):
            yield job.row("log_z", **row)
        jax.clear_caches()


def seconds(job: Job) -> Iterator[rows.Row]:
    """Yield the seconds of the final run of each method.

    The methods take turns, after a run of each that compiles.
    """
    target, table = make(job.target)
    key = jax.random.fold_in(jax.random.key(job.seed), FINAL_KEY)
    cases: dict[str, Callable[[], object]] = {}
    for name, method in table.items():
        options, runner = job.settings(name), Runner(method, target)
        if options is not None and not job.done("seconds", name):
            cases[name] = lambda runner=runner, options=options: runner.run(
                key, options, job.protocol.budget, job.protocol
            )
    options, particles = job.settings(SMC), annealing.Particles(target)
    if options is not None and not job.done("seconds", SMC):
        cases[SMC] = lambda: particles.estimates(key, options, job.protocol.budget, job.protocol)
    for case in cases.values():
        case()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(REPETITIONS):
        for name, case in cases.items():
            began = time.perf_counter()
            case()
            taken[name].append(round(time.perf_counter() - began, 4))
    here = report.machine()
    machine = f"{here['cores']} cores of {here['processor']}"
    for name, values in taken.items():
        yield job.row("seconds", name, seconds=values, machine=machine)
