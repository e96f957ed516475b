"""The report: a table on the terminal, a JSON file, and the page in docs with its plot."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import textwrap

import jax
import numpy as np
from absl import app
from rich.console import Console
from rich.table import Table

from scripts.benchmark import measure
from scripts.benchmark.suite import Suite

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> dict[str, str | int]:
    """Return the conditions of the measurements: processor, cores, Python, versions, date."""
    from importlib import metadata

    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "backend": jax.default_backend(),
    } | {name: metadata.version(name) for name in LIBRARIES}


def rows(suite: Suite) -> list[tuple[str, ...]]:
    """Return a row per case: median, fastest and first call, chain-steps a second."""
    found = []
    for name, seconds in suite.times.items():
        median = statistics.median(seconds)
        rate = f"{suite.chain_steps / median / 1e6:.3g}" if suite.chain_steps else ""
        first = suite.first.get(name)
        found.append(
            (
                name,
                f"{median * 1e3:.2f}",
                f"{min(seconds) * 1e3:.2f}",
                "" if first is None else f"{first:.2f}",
                rate,
            )
        )
    return found


COLUMNS = ("case", "median ms", "fastest ms", "first call s", "M chain-steps/s")


def show(suites: dict[str, Suite]) -> None:
    """Print a table a suite, then its ratios."""
    console = Console(width=110)
    for name, suite in suites.items():
        table = Table(title=f"{name}: {suite.work}", title_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == "case" else "right")
        for row in rows(suite):
            table.add_row(*row)
        console.print(table)
        for key, value in (suite.ratios | suite.peers | suite.facts).items():
            text = f"{value:.3g}" if isinstance(value, float) else value
            console.print(f"  {key}: {text}", highlight=False)


def read(path: pathlib.Path, versions: dict[str, str]) -> dict:
    """Return the JSON file of an earlier run on this machine with the same versions."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        then, now = found["machine"] | found["peers"], machine() | versions
        [Suite(**suite) for suite in found["suites"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise app.UsageError(f"--json={path} exists and is not a file of this program.") from error
    other = [
        f"{name} {then[name]} (now {now[name]})"
        for name in now
        if name in then and name != "date" and then[name] != now[name]
    ]
    if other:
        raise app.UsageError(
            f"--json={path} has measurements under other conditions: {', '.join(other)}. Name "
            "another file."
        )
    return found


def everything(
    suites: dict[str, Suite], versions: dict, skipped: dict, before: dict | None = None
) -> dict:
    """Return all that was measured, now and in an earlier run, for the JSON file."""
    here = machine()
    found = {name: suite._asdict() for name, suite in suites.items()}
    if before:
        first = before["machine"]["date"].split(" to ")[0]
        here["date"] = first if first == here["date"] else f"{first} to {here['date']}"
        versions, found = before["peers"] | versions, before["suites"] | found
    return {"machine": here, "peers": versions, "skipped": skipped, "suites": found}


def last_line(suites: dict[str, Suite]) -> str:
    """Return the JSON of the named ratios, to four digits."""
    ratios = {key: value for suite in suites.values() for key, value in suite.ratios.items()}
    rounded = {k: None if v is None else float(f"{v:.4g}") for k, v in ratios.items()}
    return json.dumps(rounded)


LIMITS = (
    "All tables of this page were measured on the CPU of one machine. The numbers do not carry "
    "over to others, and nothing here was measured on a GPU or TPU.",
    "Ratios vary from run to run of the program. *langevin* (against blackjax), *discrete* and "
    "*graphs* ran three times on the same kind of AMD EPYC, on 2026-11-29 and 2026-11-30, "
    "*efficiency*, *tempering* and *alignment* at least twice. The ratio of one and the same "
    "comparison differed between runs by up to a factor of 1.6. So ratios between 0.6 and 1.6 do "
    "not show which package is faster. The other suites and the PyTorch packages ran once: for "
    "them, only the range over repetitions is known. The tables of the other two runs are in "
    "`docs/benchmarks_epyc.md` at the commits 7fd6660 and 51df0c7; `docs/benchmarks.md` at "
    "51df0c7 has a run on an Intel Xeon.",
    "The time of compilation is not in the ratios, except in *alignment*, and in *tempering* with "
    "tuning where a package compiles for a new number of replicas. The column *first call* "
    "contains it: a short run can be slower with a package that compiles. Only the programs of "
    "*efficiency*, and those of ours with *processor time* in *graphs*, were compiled before.",
    "blackjax has no unadjusted Langevin algorithm ({term}`ULA`): its stochastic-gradient Langevin "
    "dynamics (SGLD) with the exact gradient stands in for it. Both make the same moves; "
    "blackjax's kernel is vmapped over the chains, or takes the whole batch as one position.",
    "thrml and hamon sample graphs that are given as lists of edges. A dense restricted Boltzmann "
    "machine (RBM) is given to thrml as 392,000 explicit edges, whereas ours multiplies "
    "matrices: that ratio compares two representations, and thrml is not made for this case.",
    "PyTorch packages run eagerly, without `torch.compile`.",
    "Part of the difference to JAX packages is the generator of random numbers. Ours uses the "
    "cipher of `jax.random` (threefry2x32 with 20 rounds), but both of the words that it "
    "returns, in a single loop; blackjax, thrml and hamon call `jax.random`. The section "
    "*discrete* has the time of both.",
    "A JAX package is compiled by `ebm_jax.jit`, with the same compiler options as ours. Where "
    "these options make it slower by more than a tenth, the comparison uses jax's default flags "
    "and the row states it. blackjax's {term}`MALA` and {term}`NUTS` ran with our options only.",
    "Float32, except in D-Wave's sampler, which computes in float64. JAX programs use as many "
    "threads as XLA chooses. PyTorch packages run with one thread and with all. D-Wave's sampler "
    "uses one, so it is compared by the time of the processor, which is the sum over all threads; "
    "so is *tempering*.",
)


def summary(suites: dict[str, Suite]) -> list[str]:
    """Return the table that the page begins with: every comparison with another package."""
    lines = ["| work | package and method | ratio | range over repetitions |", "|---|---|---|---|"]
    for name, suite in suites.items():
        for case, ratio in suite.peers.items():
            if ratio is None:
                continue
            interval = suite.facts.get(f"95 % interval of the ratio, {case}")
            within = f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""
            spread = ""
            ends = suite.facts.get(f"range over repetitions, {case}")
            if ours := suite.baselines.get(case):
                ends = measure.spread(suite.times, case, ours)
            if ends:
                spread = " to ".join(f"{r:.3g}" for r in ends)
            lines.append(f"| [{name}](#{name}) | {case} | {ratio:.3g}{within} | {spread} |")
    return lines


PEER_SUITES = {
    "graphs": "graphs (spin glasses, against thrml, hamon and dwave-samplers)",
    "tempering": "tempering (parallel tempering, against hamon)",
    "alignment": "alignment (training of Potts models, against adabmDCA)",
}


def unmeasured(suites: dict[str, Suite]) -> list[str]:
    """Return the comparisons that the program makes and the page does not have."""
    found = [what for name, what in PEER_SUITES.items() if name not in suites]
    facts = suites["efficiency"].facts if "efficiency" in suites else {}
    if not any("interval" in name for name in facts):
        found.append("efficiency of blackjax's NUTS, and the intervals of the ratios of efficiency")
    return found


def introduction(path: pathlib.Path, found: dict, suites: dict[str, Suite]) -> list[str]:
    """Return what the page begins with: the comparisons, their limits, the conditions."""
    known = ", ".join(f"{k} {v}" for k, v in (found["machine"] | found["peers"]).items())
    repetitions = {len(times) for suite in suites.values() for times in suite.times.values()}
    names = {"suite": list(suites), "peers": [name for name in found["peers"] if name != "torch"]}
    chosen = " ".join(f"--{flag}={','.join(values)}" for flag, values in names.items() if values)
    return [
        f"# Benchmarks, {found['machine']['processor']}",
        "",
        "In the first table, a ratio is the time of the other package divided by ours; where the "
        "row names a rate, it is our rate divided by theirs. Above 1 ebm_jax is faster. The last "
        "column has the smallest and the largest ratio of a single repetition; it is empty where "
        "effective samples count too, or the other package ran once. A 95 % interval, where it was "
        "measured, is in square brackets. The sections below have the times and "
        "further ratios and rates.",
        "",
        *summary(suites),
        "",
        f"![Speed of ebm_jax divided by the speed of each package, on a logarithmic "
        f"axis]({path.with_suffix('.svg').name})",
        "",
        "## Limits",
        "",
        *(f"* {limit}" for limit in LIMITS),
        "",
        "## Conditions",
        "",
        f"Written by `python -m scripts.benchmark {chosen} --docs={path.as_posix()} "
        f"--repetitions={max(repetitions)}`: {known}.",
        "The suites can be from several runs, on the same machine with the same versions. "
        "Times are medians of interleaved repetitions. Every repetition runs the cases in a new "
        "random order, and each case once untimed before it is timed. PyTorch packages run in a "
        "separate process, on the CPU with any build of PyTorch, and take their turns like the "
        "others. Most *further ratios* compare ours with operations or parts that it contains, "
        "timed alone (`..._vs_floor`, `..._vs_gradient`, `..._vs_products`, `..._vs_noise_loop`, "
        "`..._vs_parts`). A ratio of 0.9 to a part means that it takes 90 % of our time; above 1, "
        "it takes longer alone than within ours. `ess_...` is our number of effective samples per "
        "second divided by that of blackjax's MALA, and `two_devices` the time with one device "
        "divided by that with two, which gives the same positions (`two_devices_identical`). Of "
        "the others, ratios to a package divide its time by ours, or are the smallest ratio of the "
        "section or one of the first table; the rest are the quantities that they name.",
        "",
        "The PyTorch packages need an interpreter of their own:",
        "",
        "```sh",
        "python3.11 -m venv torch_env",
        "torch_env/bin/pip install torch ebmkit torchebm adabmDCA",
        "python -m scripts.benchmark --torch_python=torch_env/bin/python",
        "```",
    ]


def write_docs(path: pathlib.Path, found: dict) -> None:
    """Write the page, and next to it the figure with every other time divided by ours."""
    suites = {name: Suite(**suite) for name, suite in found["suites"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    _plot(path.with_suffix(".svg"), suites)
    lines = introduction(path, found, suites)
    for name, suite in suites.items():
        lines += ["", f"## {name}", "", f"{suite.work}.", ""]
        lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(row) + " |" for row in rows(suite)]
        further = suite.ratios | suite.facts
        lines += ["", "| further ratios and rates | value |", "|---|---|"]
        lines += [f"| {k} | {v:.3g} |" for k, v in further.items() if isinstance(v, float)]
        told = {True: "yes", False: "no"}
        lines += [f"| {k} | {told[v]} |" for k, v in further.items() if isinstance(v, bool)]
    if missing := unmeasured(suites):
        lines += ["", f"Not measured yet: {'; '.join(missing)}."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _plot(path: pathlib.Path, suites: dict[str, Suite]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    groups = [
        (suite.work, {case: ratio for case, ratio in suite.peers.items() if ratio is not None})
        for suite in suites.values()
    ]
    groups = [(work, ratios) for work, ratios in groups if ratios] or [("no peer was measured", {})]
    counts = [len(ratios) for _, ratios in groups]
    longest = max((len(case) for _, ratios in groups for case in ratios), default=0)
    figure, axes = plt.subplots(
        len(groups),
        sharex=True,
        squeeze=False,
        figsize=(4 + 0.075 * longest, 0.8 + 0.5 * len(groups) + 0.22 * sum(counts)),
        height_ratios=[count + 0.5 for count in counts],
        layout="constrained",
    )
    for row, (work, ratios) in zip(axes[:, 0], groups, strict=True):
        _draw(row, work.partition(". ")[0].replace("*", ""), ratios)
    found = [value for _, ratios in groups for value in ratios.values()]
    ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]
    last = axes[-1, 0]
    last.set(xscale="log", xlabel="ratio: above 1 ebm_jax is faster")
    last.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    last.minorticks_off()
    last.set_xlim(0.9 * min([0.8, *found]), 1.5 * max([2, *found]))
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "benchmark"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw(axes, work: str, ratios: dict[str, float]) -> None:
    heights, values = np.arange(len(ratios)), list(ratios.values())
    axes.axvline(1, color="black", linewidth=1)
    axes.hlines(heights, 1, values, color="tab:blue", linewidth=3)
    axes.plot(values, heights, "o", color="tab:blue")
    for height, value in zip(heights, values, strict=True):
        axes.annotate(
            f"{value:.3g}",
            (max(value, 1), height),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    axes.set_title(textwrap.fill(work, 60), loc="left", fontsize="small")
    axes.set_yticks(heights, list(ratios), fontsize="small")
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
