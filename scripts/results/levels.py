"""The noise-indexed energy of digits next to the digits example: a section of docs/digits.md."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from experiments.images.measures import MEASURES
from experiments.run import errors

HEADING = "## An energy with the noise level as an input"
SAMPLES = 1440
DIGITS = "the digits example"
RUNS = {
    DIGITS: ("experiments.digits", f"--samples={SAMPLES}", "--betas=0"),
    **{
        f"levels, {network}": (
            "experiments.noised_digits",
            f"--samples={SAMPLES}",
            f"--network={network}",
        )
        for network in ("dense", "residual", "spectral")
    },
}
SHOWN = [
    *("one_nn", "one_nn_samples", "one_nn_test", "nearest_samples_50", "nearest_test_50"),
    *("nearest_samples_5", "nearest_test_5", "label_agreement", "operations_per_update"),
]


def run(workdir: Path, module: str, *options: str) -> dict[str, float]:
    """Return the summary of a run; run it unless it is there."""
    summary = workdir / "summary.json"
    if not summary.exists():
        command = [sys.executable, "-m", module, f"--workdir={workdir}", *options]
        if subprocess.run(command).returncode:
            raise errors.UsageError(f"the run in {workdir} failed: {' '.join(command)}")
    return json.loads(summary.read_text(encoding="utf-8"))


def cell(values: list[float | None]) -> str:
    """Return the mean of the seeds and its standard error, or nothing where it was not measured."""
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return ""
    if len(known) == 1 or known.std() == 0:
        return f"{known.mean():.3g}"
    return f"{known.mean():.3f} ± {known.std(ddof=1) / np.sqrt(len(known)):.3f}"


def section(found: dict[str, list[dict]], seed: int, num_seeds: int) -> str:
    """Return the section: text, and a table with a column for each kind of run."""
    meanings = MEASURES | {"operations_per_update": "floating-point operations of an update"}
    rows = [f"| {' | '.join(['measure', *found])} |", "|---" * (len(found) + 1) + "|"]
    for name in SHOWN:
        cells = [cell([summary.get(name) for summary in runs]) for runs in found.values()]
        rows.append(f"| {' | '.join([meanings[name], *cells])} |")
    return "\n".join(
        [
            HEADING,
            "",
            f"`python -m scripts.results --only=levels --seeds={num_seeds}`, "
            f"{datetime.date.today()}, seeds {seed} to {seed + num_seeds - 1}, {SAMPLES}",
            "samples of each run (the table above has 360): means and their standard errors",
            "over the seeds. The energy of `experiments.noised_digits` is trained by denoising",
            "score matching over the noise levels, with the time score. Its samples follow the",
            "levels down, with MALA at each level. Its options were set without the test",
            "digits, whereas some settings of the digits example were compared on them; this",
            "favours the digits example by an unknown amount. Widths, weight decays and numbers",
            "of updates near the defaults were tried with one seed on 360 training digits that",
            "were held out (`--validation`), and the defaults were kept. The three networks",
            "cost about the same per update; the training of the digits example has another",
            "cost, which is not in the table. The table has both halves of the",
            "1-nearest-neighbour test, and the distance of samples and of test images to the",
            "nearest training image: samples that are much nearer than test images are copies.",
            "",
            *rows,
            "",
            *verdict(found),
            "",
        ]
    )


def verdict(found: dict[str, list[dict]]) -> list[str]:
    """Return the sentence that compares the best noise-indexed energy with the digits example."""
    means = {name: np.mean([s["one_nn"] for s in runs]) for name, runs in found.items()}
    errors_of = {
        name: np.std([s["one_nn"] for s in runs], ddof=1) / np.sqrt(len(runs))
        for name, runs in found.items()
    }
    best = min((name for name in found if name != DIGITS), key=lambda name: means[name])
    apart = means[best] - means[DIGITS]
    error = np.hypot(errors_of[best], errors_of[DIGITS])
    if abs(apart) <= 2 * error:
        found_out = "as good as the digits example within two standard errors"
    else:
        found_out = f"{'worse' if apart > 0 else 'better'} than the digits example"
    return [
        f"By 1-nearest-neighbour accuracy, the best noise-indexed energy ({best}) is",
        f"{found_out}:",
        f"{means[best]:.3f} against {means[DIGITS]:.3f} (0.5 is perfect), a difference",
        f"of {apart:+.3f} ± {error:.3f}. Other rows order the energies differently.",
    ]


def kept(page: Path) -> str:
    """Return the section as a page has it, "" without one."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return text[text.index(HEADING) :] if HEADING in text else ""


def write(workdir: Path, docs: Path, *, seed: int, num_seeds: int) -> dict[str, float]:
    """Run the unfinished trainings, write the section, and return the mean 1-NN accuracies."""
    found: dict[str, list[dict]] = {name: [] for name in RUNS}
    for k in range(seed, seed + num_seeds):
        for name, (module, *options) in RUNS.items():
            folder = workdir / "levels" / f"{name.split()[-1]}{k}"
            found[name].append(run(folder, module, *options, f"--seed={k}"))
    page, written = docs / "digits.md", section(found, seed, num_seeds)
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before = text.removesuffix(kept(page)).rstrip("\n")
    page.write_text(f"{before}\n\n{written}", encoding="utf-8")
    return {name: float(np.mean([s["one_nn"] for s in runs])) for name, runs in found.items()}
