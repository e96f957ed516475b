"""The digits example over seeds, and with every class held out in turn: docs/digits.md."""

import datetime
import os
import platform
import shutil
from pathlib import Path

import jax
import numpy as np

from experiments.images.measures import MEASURES, TARGETS, meets, number
from scripts.results import levels


def median(values) -> float | list[float]:
    """Return the median of numbers, or of each end of intervals."""
    return np.median(np.array(list(values), float), axis=0).tolist()


def row(name: str, *cells: float | list[float] | str) -> str:
    """Return a row of a table."""
    shown = [cell if isinstance(cell, str) else number(cell) for cell in cells]
    return f"| {' | '.join([name, *shown])} |"


def verdict(values: list[float], target: str) -> tuple[str, str]:
    """Return the target, and whether the median of the seeds meets it."""
    if not target:
        return "", ""
    share = f"met by {sum(meets(value, target) for value in values)} of {len(values)} seeds"
    shown = share if meets(median(values), target) else f"**missed** ({share})"
    return " ".join(target.replace(",", "").split()[:2]), shown


def by_seed(summaries: dict[int, dict]) -> list[str]:
    """Return the table of every measure by seed, with its median and its target."""
    names = [name for name in MEASURES if name in next(iter(summaries.values()))]
    seeds = [f"seed {seed}" for seed in summaries]
    lines = [row("measure", *seeds, "median", "target", "met by the median?")]
    lines.append("|" + "---|" * (len(summaries) + 4))
    for name in names:
        values = [summary[name] for summary in summaries.values()]
        target = verdict(values, TARGETS["digits"].get(name, ""))
        lines.append(row(MEASURES[name], *values, median(values), *target))
    return lines


def by_class(summaries: dict[int, dict]) -> list[str]:
    """Return the table of the classes held out, the most difficult first."""
    ordered = sorted(summaries.items(), key=lambda item: item[1]["auroc_held_out"])
    rows = [(summary["auroc_held_out"], summary["accuracy"]) for _, summary in ordered]
    return [
        row("held out", "AUROC of F(x) against it", "accuracy on the other nine"),
        "|---|---|---|",
        *(row(str(digit), *cells) for (digit, _), cells in zip(ordered, rows, strict=True)),
        row("median", *map(median, zip(*rows, strict=True))),
    ]


def introduction(seeds: dict[int, dict]) -> list[str]:
    """Return what limits the numbers: how settings were chosen, and which targets are missed."""
    names = [name for name in TARGETS["digits"] if name in next(iter(seeds.values()))]
    medians = {name: median(summary[name] for summary in seeds.values()) for name in names}
    missed = [n for n, m in medians.items() if not meets(m, TARGETS["digits"][n])]
    shown = [
        f"* {MEASURES[name]}: {number(medians[name])}, target {TARGETS['digits'][name]}"
        for name in missed
    ]
    return [
        "**Some settings were chosen with the help of the test digits.** During development",
        "some settings of the training were compared on the test digits, and the others on a",
        "validation split of the training digits. The numbers are therefore better than they",
        "would be on new digits, by an amount that was not measured. A run uses the test digits",
        "only to measure.",
        "",
        f"The median of the seeds {'missed these targets:' if missed else 'met every target.'}",
        "",
        *([*shown, ""] if missed else []),
        f"`python -m scripts.results --seeds={len(seeds)}` measured the table on",
        f"{datetime.date.today()} with the default flags of `experiments.digits`, jax",
        f"{jax.__version__}, Python {platform.python_version()} and {os.cpu_count()} cores. The",
        "glossary explains {term}`AUROC`, {term}`calibration`, {term}`effective sample size`,",
        "{term}`Fréchet distance`, {term}`nats` and the 1-nearest-neighbour {term}`two-sample",
        "test`.",
        "",
    ]


CALIBRATION = [
    "Fitting beta does not improve the calibration error. Beta is fitted five times, each time",
    "on four fifths of the test digits (about 288), and used on the remaining fifth; the table",
    "has the mean of the five. The energy classifies one to four of the 360 test digits wrongly,",
    "so a few digits determine the fitted beta: without an error among the 288, the likelihood",
    "grows with beta up to the limit of the fit, which is 100. To fit a useful beta, use more",
    "validation digits, which training did not see.",
    "",
]


def page(seeds: dict[int, dict], held_out: dict[int, dict]) -> str:
    """Return docs/digits.md."""
    first = next(iter(seeds.values()))
    lines = [
        "# The digits example, measured",
        "",
        *introduction(seeds),
        *by_seed(seeds),
        "",
        "![Sixteen samples and eight test images of each digit](figures/digits_samples.png)",
        "",
        "The samples start from uniform noise. The {term}`inverse temperature` is",
        f"{first['effective_beta']:.3g} in training and {first['sample_beta']:.3g} when the",
        "samples are drawn.",
        "",
    ]
    if "ece_calibrated" in first:
        lines += ["## Calibration", "", *CALIBRATION]
    if "nats" in first:
        lines += [
            "## Log-likelihood",
            "",
            "log p(x) = -F(x) - log Z is a density over 64 pixels, scaled from 0 to 1.",
            "It is measured on data like those that the energy was trained on: test digits,",
            "whose grey levels are multiples of a sixteenth, plus Gaussian noise of standard",
            "deviation 0.13 (`--data_noise`), ten draws each. It cannot be compared with",
            "log-likelihoods of digits with other noise. The log-likelihood is for the model at",
            "inverse temperature 1; the samples are drawn at",
            f"{first['sample_beta']:.3g}. Z is the sum over the classes y of the Z of",
            "F(., y). Annealing estimates each of these in two directions: from a",
            "Gaussian with independent pixels to the model, and back from chains that started",
            "at noisy training digits. The interval contains the 95 % intervals of both",
            "directions. The interval is unreliable where the effective sample size is below",
            "20, or where the intervals of the two directions do not overlap. During training no",
            "chain changes its class, so for each class one constant in its energy is not",
            "determined by the training. These constants are set from the log Z of each class, so",
            "that the classes have the same probabilities as in the training digits.",
            "",
        ]
    if held_out:
        lines += [
            "## Digits never seen",
            "",
            "Noise, shuffled and inverted digits are far from every digit, so an AUROC of 1",
            "against them shows little. A digit of a held-out class is closer. The table has",
            "the AUROC of the free energy for the test digits of nine classes against those of",
            "the tenth, which training did not see (0.5 is chance). These trainings are shorter",
            "than those of the table above: `--hold_out_class=CLASS --quick`, one run per",
            "class, seed",
            f"{next(iter(seeds))}.",
            "",
            *by_class(held_out),
            "",
        ]
    return "\n".join(lines)


def write(workdir: Path, docs: Path, *, seed: int, num_seeds: int, held_out: bool) -> dict:
    """Run the unfinished trainings, write the page, and return the medians over the seeds."""
    seeds = {
        k: levels.run(workdir / f"seed{k}", "experiments.digits", f"--seed={k}")
        for k in range(seed, seed + num_seeds)
    }
    options = "--quick", f"--seed={seed}"
    without = {
        k: levels.run(
            workdir / f"held_out{k}", "experiments.digits", f"--hold_out_class={k}", *options
        )
        for k in (range(10) if held_out else ())
    }
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    path = docs / "digits.md"
    text = "\n".join(filter(None, [page(seeds, without), levels.kept(path)]))
    path.write_text(text, encoding="utf-8")
    shutil.copy(workdir / f"seed{seed}" / "samples.png", docs / "figures" / "digits_samples.png")
    return {
        name: median(summary[name] for summary in seeds.values())
        for name in MEASURES
        if name in seeds[seed]
    }
