"""Measure the speed of the samplers, of their peers and of the operations they consist of.

    python -m scripts.benchmark --suite=langevin --peers=blackjax --json=runs/benchmark.json

Prints one table per suite; the last line is a JSON object of the ratios. The name of a peer that is
not installed is printed, and its ratios are null. The PyTorch peers run in another process, with
the interpreter --torch_python (see docs/benchmarks.md). If the file of --json exists, the suites in
it that are not asked for are kept, so that the suites can be measured in several runs.
"""

import json
import pathlib
import sys
import traceback

from absl import app, flags, logging

from experiments.run import command_line

SUITES = (
    "langevin",
    "mlp",
    "conv",
    "train",
    "scaling",
    "efficiency",
    "discrete",
    "graphs",
    "tempering",
    "alignment",
    "keeping",
    "objectives",
    "images",
    "verbs",
)
PEERS = ("blackjax", "torchebm", "ebmkit", "thrml", "hamon", "dwave-samplers", "adabmdca")

_SUITE = flags.DEFINE_list("suite", list(SUITES), f"Suites to run: {', '.join(SUITES)}.")
_PEERS = flags.DEFINE_list("peers", list(PEERS), f"Peers to measure: {', '.join(PEERS)}.")
_JSON = command_line.define_path("json", None, "File for all measurements, as JSON.")
_DOCS = command_line.define_path(
    "docs", None, "File for the page with tables; its figure is written to the same folder."
)
_REPETITIONS = flags.DEFINE_integer(
    "repetitions", 5, "Number of timed runs of each case.", lower_bound=1
)
_QUICK = flags.DEFINE_bool(
    "quick", False, "Use tiny sizes to check that everything runs; the timings are meaningless."
)
_TORCH_PYTHON = command_line.define_path(
    "torch_python", sys.executable, "Interpreter that has PyTorch, torchebm, ebmkit and adabmDCA."
)


def _refuse_unknown(flag: str, allowed: tuple[str, ...]) -> None:
    @flags.validator(flag)
    def known(values) -> bool:
        unknown = [value for value in values if value not in allowed]
        if unknown or (flag == "suite" and not values):
            raise flags.ValidationError(
                f"allowed are {', '.join(allowed)} (comma-separated); got {','.join(values)!r}"
            )
        return True


_refuse_unknown("suite", SUITES)
_refuse_unknown("peers", PEERS)


def main(argv: list[str]) -> None:
    """Run the suites and report."""
    if len(argv) > 1:
        raise app.UsageError(f"No positional arguments are taken, got {argv[1:]}.")
    logging.set_verbosity(logging.WARNING)  # JAX tells which backends are missing
    from scripts.benchmark import alignment, report, suites
    from scripts.benchmark.peers import Peers

    if "alignment" in _SUITE.value and not _QUICK.value:
        alignment.riboswitch()  # a missing file is an error now, not after an hour
    peers = Peers(_PEERS.value, _TORCH_PYTHON.value)
    path = pathlib.Path(_JSON.value) if _JSON.value else None
    before = report.read(path, peers.versions) if path and path.exists() else None
    for name, why in peers.skipped.items():
        print(f"Skipping {name}: {why}.")
    found, failed = {}, []
    try:
        for name in _SUITE.value:
            try:
                found[name] = suites.SUITES[name](peers, _REPETITIONS.value, _QUICK.value)
            except Exception:  # a peer's, say: the other suites are reported all the same
                traceback.print_exc()
                failed.append(name)
    finally:
        peers.close()
    report.show(found)
    everything = report.everything(found, peers.versions, peers.skipped, before)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if _DOCS.value:
        report.write_docs(pathlib.Path(_DOCS.value), everything)
    print(report.last_line(found))
    if failed:
        sys.exit(f"error: these suites failed, see above: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)
