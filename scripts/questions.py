r"""Run the nine programs of experiments/questions; write docs/questions.md from what they found.

    python -m scripts.questions --workdir=runs/qs

A program whose folder holds its summary.json is not run again. One that claims something that its
run does not show has failed, and so has the command. Give --programs to run some of them and
--docs to write the page elsewhere.
"""

import datetime
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from experiments.run import command_line, entry, errors, work_directory

QUESTIONS = {
    "one_to_many": (
        "Where one x has many right y, what does a regression learn, and what an energy?",
        "A regression learns the conditional mean, and the mean of an ellipse is its centre, where "
        "no answer lies. An energy with a latent variable z is low on the whole ellipse: y is "
        "compatible if some z explains it. At zero temperature only the best z is moved for each "
        "answer, so the surface bends to single points; a finite beta averages over z and smooths.",
    ),
    "collapse": (
        "Why does training on right answers alone go flat, and what prevents it?",
        "The energy loss pushes down and nothing pushes up: a constant energy is a minimum. "
        "Four things can prevent it: wrong answers to push up (contrastive losses with a "
        "margin), a normaliser (NLL), a model too small to be low everywhere, or a latent "
        "variable that carries little information. Each can bound the volume of low energy; how "
        "well depends on its settings. In the table below losses without a margin (lvq2, "
        "perceptron) leave a larger volume than losses with one, k-means with few centres and "
        "PCA are hardly better than the energy loss or worse, and the sparse code has an "
        "optimum.",
    ),
    "three_ways": (
        "Three ways to shape an energy: what does each surface look like?",
        "Push down on data and bound the latent variable, regularise it (sparse coding), or "
        "push up on contrastive answers. The three energies have different scales at the same "
        "data, so their values do not compare; the volume of low energy and the AUROC of "
        "held-out points against the plane depend on the order of the energies alone, and do.",
    ),
    "sharp_edges": (
        "What does maximum likelihood do to the energy around data on a curve?",
        "The gradient of the NLL vanishes only where P(right) = 1, a limit that no finite "
        "energy reaches, so nothing bounds the energy difference, and for continuous y that "
        "holds however near the wrong answer is to the right one: the energy around the curve "
        "gets narrower and steeper as training continues. Losses with a margin stop growing. A "
        "penalty on the gradient makes the energy far flatter, but a bound is known for a "
        "quadratic energy only: in this network the slope still grows, more slowly.",
    ),
    "loss_gallery": (
        "What does every loss pull on, and how hard?",
        "Hinge and log see only the difference E+ - E-. The log loss is a smooth hinge that is "
        "never exactly zero: it pushes at every margin, with a force that decays exponentially. "
        "Simple and square-square pull E+ to 0 and E- to m, each by itself: simple with a "
        "constant force, which a gross outlier cannot raise, square-square with a force that "
        "grows with the violation and fades near the target. The constant force did not make "
        "simple the best choice with one wrong label in ten: hinge and mce have the highest "
        "accuracy there, and the intervals of most losses overlap (four seeds). Lvq2 and the "
        "perceptron, which have no margin, lose most. Not every loss has a margin: the margin "
        "condition tells.",
    ),
    "nll_gradient": (
        "Why is the gradient of the NLL intractable, and what do samples make of it?",
        "It holds an expectation over the model's own distribution. Where states can be "
        "enumerated it is exact; ideal samples make it noisy and unbiased, short chains make it "
        "biased, and persistent chains have a much smaller bias here, because they follow the "
        "model.",
    ),
    "gibbs": (
        "What does beta do to P(y | x), and what can an energy say that a softmax cannot?",
        "P(y | x) goes from uniform at beta = 0 to the winner alone at beta = inf; accuracy is "
        "the same at each, calibration is not. An energy need not be normalised to be combined: a "
        "constraint is an energy of +inf, a sum of energies is 'both' and a soft minimum is "
        "'either', though how much of each a mixture holds takes the partition functions.",
    ),
    "words": (
        "Can a word be read without cutting it into letters?",
        "Yes: the alignment of windows with letters is a latent variable, minimised by Viterbi or "
        "summed over by the forward recursion, and the word is found by the same recursion over "
        "all words. A separator after every letter keeps 'll' apart from 'l'.",
    ),
    "thinking": (
        "Does descending longer at test time give better answers than one pass of a network?",
        "Not by descending longer. With as many updates, an energy trained through its descent, or "
        "through its minimum, answers better than a feed-forward network of the same trunk, on "
        "problems as in training and on harder ones. But descent is soon at the minimum, and what "
        "error is left is that the minimum is not the right answer, which has a higher energy; "
        "only on harder inverses do more steps still gain a few per cent. An update through a "
        "descent costs that of many of one pass, and ten times the updates make one pass the best "
        "of all. Trained by a square-square contrast with what its own descent finds, the energy "
        "has its minimum elsewhere, and more steps on problems as in training make it worse.",
    ),
}

flags.DEFINE_list("programs", list(QUESTIONS), "Which programs.")
command_line.define_path("docs", "docs", "Folder of questions.md and figures/.")
FLAGS = flags.FLAGS


def run_program(name: str, folder: Path, seed: int) -> str | None:
    """Run one program unless it is finished; return why it failed, if it did."""
    written = folder / "summary.json"
    if not written.exists():
        command = [sys.executable, "-m", f"experiments.questions.{name}"]
        command += [f"--workdir={folder}", f"--seed={seed}"]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode not in (0, errors.FALSE_CLAIM):
            return "\n".join((answer.stderr or answer.stdout).strip().splitlines()[-15:])
    wrong = work_directory.false_claims(json.loads(written.read_text(encoding="utf-8")))
    return f"this does not hold: {'; '.join(wrong)}." if wrong else None


def shown(value) -> str:
    """Return a number as a person writes it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flatten(summary: dict, prefix: str = "") -> dict[str, str]:
    """Return every measured value of a summary by a flat name."""
    flat = {}
    for name, value in summary.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            flat[prefix + name] = ", ".join(map(shown, value))
        else:
            flat[prefix + name] = shown(value)
    return flat


def section(name: str, folder: Path, docs: Path, seed: int) -> list[str]:
    """Return the page's part on one question, and copy its figures."""
    question, answer = QUESTIONS[name]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    claims, seconds = summary.pop("claims", {}), summary.pop("seconds", "?")
    ran = datetime.date.fromtimestamp((folder / "summary.json").stat().st_mtime)
    lines = [f"## {question}", "", answer, ""]
    for figure in sorted(folder.glob("*.png")):
        shutil.copy(figure, docs / "figures" / figure.name)
        lines += [f"![{name}](figures/{figure.name})", ""]
    lines += [f"Measured on {ran}, seed {seed}, {seconds} s:", ""]
    lines += ["```", f"python -m experiments.questions.{name} --workdir=runs/{name}", "```", ""]
    lines += ["| claim | holds |", "|---|---|"]
    lines += [f"| {claim.replace('_', ' ')} | {holds} |" for claim, holds in claims.items()]
    lines += [
        "",
        "<details><summary>every number</summary>",
        "",
        "| measured | value |",
        "|---|---|",
    ]
    lines += [f"| {escaped(key)} | {value} |" for key, value in flatten(summary).items()]
    return [*lines, "", "</details>", ""]


def escaped(name: str) -> str:
    """Return a name that may hold bars, for a table."""
    return name.replace("|", "\\|")


def main() -> None:
    """Run what is not finished, then write the page."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for what the runs write.")
    unknown = [name for name in FLAGS.programs if name not in QUESTIONS]
    if unknown:
        raise errors.UsageError(
            f"--programs has {unknown[0]!r}; choose from {', '.join(QUESTIONS)}."
        )
    workdir, docs, started = Path(FLAGS.workdir), Path(FLAGS.docs), time.perf_counter()
    work_directory.make_folder(workdir)
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    page = [
        "# The homework's questions, answered by measurement",
        "",
        "Written by `python -m scripts.questions --workdir=runs/qs` from each run's summary.json.",
        "",
    ]
    failed = []
    for name in FLAGS.programs:
        problem = run_program(name, workdir / name, FLAGS.seed)
        if problem:
            failed.append(name)
            print(f"failed: {name}\n{problem}", file=sys.stderr)
        if (workdir / name / "summary.json").exists():
            page += section(name, workdir / name, docs, FLAGS.seed)
            print(f"{name} done, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    (docs / "questions.md").write_text("\n".join(page), encoding="utf-8")
    done = len(FLAGS.programs) - len(failed)
    print(json.dumps({"finished": done, "failed": failed}), flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    entry.main(main)
