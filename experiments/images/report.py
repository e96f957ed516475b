"""The page that shows a trained energy of images, and the table of its numbers."""

import html
import string
from pathlib import Path
from typing import Any

import rich.console
import rich.table
import rich.text

from experiments import plots
from experiments.data import splits
from experiments.images import measures, pictures
from experiments.images.measures import Results
from experiments.run import work_directory
from experiments.run.progress import stage

DYNAMICS = {  # by --sampler
    "mala": "the Metropolis-adjusted Langevin algorithm",
    "baoab": "underdamped Langevin dynamics (BAOAB)",
}
COMPLETED = {  # by whether there is a flow
    False: """Chains on the free energy F(x) draw the lower half, starting in noise, with the upper
half fixed. They are not told the class.""",
    True: """A class is drawn from its probabilities given the upper half: the energy was trained to
classify images of which a part is noise. The flow to images of this class draws the lower half, and
chains on F(·, y) continue from there, with the upper half fixed. The true class is not used.""",
}
POOR = 0.9  # accuracies and AUROCs below it, and nearest-neighbour accuracies above it, are poor
SHOWN = ("test images", "samples")  # names in figures, in addition to those of the outliers


def number_rows(summary: dict[str, float], targets: dict[str, str]) -> str:
    """Return the rows of the table of numbers, in HTML."""
    cells = ((name, measures.verdict(name, summary, targets)) for name in measures.ordered(summary))
    return "\n".join(
        f"<tr{' class=missed' if said.endswith('missed') else ''}>"
        f"<td>{html.escape(measures.meaning(name))}</td><td>{measures.number(summary[name])}</td>"
        f"<td>{html.escape(said)}</td></tr>"
        for name, said in cells
    )


HEADLINES = {  # measure: short description
    "accuracy": "test accuracy",
    "label_agreement": "of the samples: an independent classifier finds the intended class",
    "one_nn": "1-nearest-neighbour test of samples; 0.5 is perfect if samples alone have 0.5 too",
    "completion_agreement": "of the completions: the same classifier finds the true class",
}


def headlines(results: Results, summary: dict[str, float], targets: dict[str, str]) -> str:
    """Return the few numbers at the top of the page, in HTML."""
    hardest = "held_out" if "held_out" in results.outliers else list(results.outliers)[-1]
    count = f"({len(results.samples.images)} samples)"
    shown = HEADLINES | {f"auroc_{hardest}": f"AUROC against {outlier_name(hardest)} images"}
    blocks = []
    for name, words in shown.items():
        if name not in summary:
            continue
        words += f" {count}" if name in ("label_agreement", "one_nn") else ""
        said = measures.verdict(name, summary, targets)
        missed = f"<em>target {html.escape(said)}</em>" if said.endswith("missed") else ""
        blocks.append(
            f"<div><b>{summary[name]:.3f}</b><small>{html.escape(words)}</small>{missed}</div>"
        )
    return "\n".join(blocks)


def outlier_name(name: str) -> str:
    """Return the name of an outlier set as text; names of the user's sets are unchanged."""
    return name.replace("_", "-") if name in splits.OUTLIERS else name


def warnings(results: Results, summary: dict[str, float], targets: dict[str, str]) -> list[str]:
    """Return the warnings at the top of the page: alarms, missed targets and poor measures."""
    missed = [
        f"Target missed: {measures.meaning(name)}: {measures.number(summary[name])}, "
        f"target {targets[name]}."
        for name in measures.ordered(summary)
        if measures.verdict(name, summary, targets).endswith("missed")
    ]
    alarms = [f"Alarm: {text}" for text in results.alarms]
    return alarms + missed + cautions(summary, len(results.images.classes))


def cautions(summary: dict[str, float], num_classes: int) -> list[str]:
    """Return plain sentences on the measures that are far from those of a good energy."""
    found = []
    if not summary.get("accuracy", 1) >= POOR:  # NaN is poor
        found.append(
            f"The energy classifies {summary['accuracy']:.0%} of the test images correctly. "
            f"Guessing would classify about {1 / num_classes:.0%}."
        )
    if not summary.get("judge_accuracy", 1) >= POOR:
        found.append(
            "The independent classifier that judges samples and completions is right for only "
            f"{summary['judge_accuracy']:.0%} of the test images. Its agreement says little about "
            "their quality."
        )
    if not summary["one_nn"] <= POOR:
        found.append(
            "The samples do not look like test images: the nearest neighbour tells "
            f"{summary['one_nn']:.0%} of the samples and test images apart. 50% is perfect."
        )
    halves = summary["one_nn_samples"], summary["one_nn_test"]
    if abs(halves[0] - halves[1]) > 0.5:  # noise is nearest to real images, as they are
        found.append(
            "The samples do not look like test images, although the nearest neighbour tells "
            f"{summary['one_nn']:.0%} of them apart: it recognises {halves[0]:.0%} of the samples "
            f"and {halves[1]:.0%} of the test images. Both are 50% for perfect samples."
        )
    return found + [
        f"F(x) does not separate {outlier_name(name.removeprefix('auroc_'))} images from test "
        f"images reliably: its AUROC is {summary[name]:.2f}. 1 is perfect, 0.5 is chance."
        for name in measures.ordered(summary)
        if name.startswith("auroc_") and not summary[name] >= POOR
    ]


def table(summary: dict[str, Any], targets: dict[str, str], alarms: list[str]) -> None:
    """Print the chief numbers, their targets and the alarms on standard error."""
    chief = {*HEADLINES, *targets, "samples", "nats", "nats_interval", "seconds"}
    chief |= {name for name in summary if name.startswith("completion")}
    shown = rich.table.Table("measure", "value", "target")
    for name in measures.ordered(summary):
        if name in chief or name.startswith("auroc_"):
            said = measures.verdict(name, summary, targets)
            cells = name, measures.number(summary[name]), said
            style = "red" if said.endswith("missed") else ""
            shown.add_row(*map(rich.text.Text, cells), style=style)
    console = rich.console.Console(stderr=True)
    console.print(shown)
    for text in alarms:
        console.print(rich.text.Text(f"alarm: {text}", style="red"))


def figure(uri: str, alt: str, caption: str = "", kind: str = "") -> str:
    """Return a picture of the page, in HTML."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img class="{kind}" src="{uri}" alt="{html.escape(alt)}">{below}</figure>'


def report(
    results: Results,
    summary: dict[str, float],
    files: dict[str, Path],
    which: str,
    targets: dict[str, str],
    flags: str,
    phases: str,
) -> str:
    """Return the page on the data set ``which``, with its pictures embedded."""
    warned = warnings(results, summary, targets)
    images, samples, split = results.images, results.samples, results.images.split
    shown = {
        "film": ("gif", plots.gif(pictures.film(images, samples, 16), milliseconds=120, last=3000)),
        "samples": ("png", plots.png(pictures.rows(images, samples.images, samples.labels, 16))),
        "test": ("png", plots.png(pictures.rows(images, split.test_x, split.test_y, 16))),
        "completions": ("png", plots.png(pictures.completions(results))),
        "outliers": ("png", files["outliers"].read_bytes()),
    }
    curves = [
        figure(plots.embedded("png", path.read_bytes()), f"{name} against the number of updates")
        for name, path in files.items()
        if name != "outliers"
    ]
    text = {
        "headlines": headlines(results, summary, targets),
        "warnings": "\n".join(f"<li>{html.escape(text)}</li>" for text in warned),
        "warned": "" if warned else "hidden",
        "data": html.escape(which),
        "size": "×".join(map(str, images.shape)),
        "classes": html.escape(", ".join(images.classes[: pictures.CLASSES])),
        "outlier_names": html.escape(", ".join(map(outlier_name, results.outliers))),
        "sample_steps": f"{samples.sample_steps:,}",
        "dynamics": DYNAMICS[results.sampler],
        "start": "They start in "
        + ("images that the flow made from noise." if results.flows else "noise."),
        "completed": COMPLETED[results.flows],
        "phases": html.escape(phases),
        "training": "\n".join(curves),
        "numbers": number_rows(summary, targets),
        "flags": html.escape(flags),
    }
    uris = {name: plots.embedded(kind, content) for name, (kind, content) in shown.items()}
    template = string.Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.substitute(uris | text)  # once: dollar signs in the inserted text are kept


def write(run: work_directory.Run, results: Results, which: str, targets: dict[str, str]) -> None:
    """Measure everything, draw the figures, write the report and finish the run.

    Args:
        run: the run.
        results: the trained energy and its samples.
        which: what the report calls the data set.
        targets: the values to reach, in addition to those of every data set.
    """
    targets = measures.EVERY_TARGET | targets
    images, samples, history = results.images, results.samples, results.history
    with run.timed("measures"), stage("measuring test images, outliers and samples"):
        inside = measures.free_energies(results, images.split.test_x)
        outside = {name: measures.free_energies(results, x) for name, x in results.outliers.items()}
        summary = measures.all_of(results, inside, outside)
    with run.timed("figures"), stage("drawing the figures"):
        drawn = pictures.rows(images, samples.images, samples.labels, 16)
        plots.image_rows(
            run.workdir / "samples.png",
            {
                "samples, from noise": drawn,
                "test images": pictures.rows(images, images.split.test_x, images.split.test_y, 8),
            },
            images.classes[: pictures.CLASSES],
        )
        energies = {"test images": inside} | outside
        files = pictures.charts(run.workdir, results, energies)
        pictures.overview(run.workdir / "overview.png", results, energies)
        histograms = energies | {"samples": measures.free_energies(results, samples.images)}
        run.show(
            int(history["step"][-1]),
            {"samples": drawn.reshape(-1, *images.shape)},
            {f"free_energy/{name}": values for name, values in histograms.items()},
        )
    shown = summary | {"seconds": run.seconds()}
    phases = ", ".join(f"{name} {taken:.1f}" for name, taken in run.seconds_by_phase.items())
    page = report(results, shown, files, which, targets, run.flag_text, phases)
    run.write("report.html", page)
    if run.first:
        table(shown, targets, results.alarms)
    path = str(run.workdir / "report.html")
    run.finish(summary | {"alarms": results.alarms, "report": path})
