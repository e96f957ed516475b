"""Write docs/questions.md: the text of its template, with the measurements below each answer."""

import datetime
import json
import re
import shutil
import string
from pathlib import Path

ALTERNATIVE_TEXTS = {  # what is to be seen in the figure of each program
    "one_to_many": "Ellipses of right answers, followed by the latent-variable energy, while the "
    "regression answers inside them; the free energy over the plane, cold and "
    "warm; and the error by inverse temperature",
    "collapse": "Energies of the plane after eight methods: almost flat when trained on "
    "positives alone, a spiral valley with contrast or likelihood; below, the "
    "low-energy volume by loss, by capacity and by sparsity",
    "three_ways": "Three energy surfaces of two spirals: flat after pushing down, low on and "
    "between the arms with a sparse code, low along the arms alone with contrast; "
    "below, histograms of the energies",
    "sharp_edges": "The steepest slope of the energy grows during maximum likelihood on a thin "
    "circle and levels off with margin losses; with spread data the learned "
    "curvature follows the theory",
    "loss_gallery": "Eleven losses over the energies of the right and of the wrong answer with "
    "their gradients, the force of four of them, and the test accuracies and "
    "reached margins of classifiers trained with each",
    "nll_gradient": "The variance of the sampled gradient falls as 1/N for every kind of samples; "
    "the squared bias of short runs and of persistent chains does not fall; the "
    "time of the exact sum grows by about three orders of magnitude from 8 to 18 bits",
    "gibbs": "Class probabilities, confidence and calibration error over the inverse "
    "temperature; and densities of two energies, of their product, their mixture "
    "and a constrained one, with samples",
    "words": "Test words with the letters that were read and the image windows aligned "
    "with each letter; the share of words read exactly, by length and by training "
    "loss",
    "thinking": "The error of answers by descent against the number of steps, with the error "
    "of one feed-forward pass as horizontal lines; and the energy along the "
    "descent, for two tasks",
    "direct_coupling": "Scores of all pairs of ten sites: pseudo-likelihood reproduces the true "
    "couplings, while correlations and mean field also score pairs of indirect neighbours; below, "
    "the share of true pairs found, and the error of pseudo-likelihood falling with the samples",
    "composed_digits": "Digits of each class, above with thin strokes and below with thick "
    "strokes: samples of the product and of the divided product next to test digits",
    "composition": "Densities of the product, the mixture and the negation of two energies, "
    "exact, sampled with Markov chains, and sampled without: the product and the negation "
    "without chains differ from the exact densities",
}
TEMPLATE = Path(__file__).parents[2] / "docs" / "questions.md.template"


def parts() -> tuple[str, dict[str, str]]:
    """Return the head of the template, and its section on each program, by name and in order.

    A section has `$name` where the measurements of the program are inserted.
    """
    head, *questions = re.split("(?m)^(?=## )", TEMPLATE.read_text(encoding="utf-8"))
    return head, {re.findall(r"(?m)^\$(\w+)$", part)[0]: part for part in questions}


def shown(value) -> str:
    """Format a number with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flatten(summary: dict, prefix: str = "") -> dict[str, str]:
    """Return every measured value of a summary; nested names are joined by slashes."""
    flat = {}
    for name, value in summary.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            flat[prefix + name] = ", ".join(map(shown, value))
        else:
            flat[prefix + name] = shown(value)
    return flat


def escaped(name: str) -> str:
    """Escape the vertical bars of a name, which would end a table cell."""
    return name.replace("|", "\\|")


def claim_rows(summaries: dict[int, dict]) -> list[str]:
    """Return the table of claims: what is compared, the values by seed, the bound, the verdict."""
    lines = ["| claim | value | measured | must be | holds |", "|---|---|---|---|---|"]
    for claim in next(iter(summaries.values())).get("claims", {}):
        values = [s.get("claim_values", {}).get(claim) for s in summaries.values()]
        known = [value for value in values if value]
        what, bound = (known[0]["what"], known[0]["bound"]) if known else ("", "true")
        found = ", ".join(f"{value['value']:.3g}" for value in known)
        holds = [s["claims"].get(claim, False) for s in summaries.values()]
        verdict = "yes" if all(holds) else "**no**"
        if len(holds) > 1:
            verdict += f", {sum(holds)} of {len(holds)} seeds"
        cells = [claim.replace("_", " "), escaped(what), found, escaped(bound), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def measured(name: str, folders: dict[int, Path], docs: Path) -> str:
    """Return the measurements of a finished program as Markdown, and copy its figures.

    ``folders`` has the work directory of each seed. Figures and numbers are those of the first.
    """
    summaries = {
        seed: json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for seed, folder in folders.items()
    }
    seed, folder = next(iter(folders.items()))
    summary = dict(summaries[seed])
    duration = f", {summary.pop('seconds')} s" if "seconds" in summary else ""
    for part in ("claims", "claim_values"):
        summary.pop(part, None)
    ran = datetime.date.fromtimestamp((folder / "summary.json").stat().st_mtime)
    lines = []
    for figure in sorted(folder.glob("*.png")):
        shutil.copy(figure, docs / "figures" / figure.name)
        lines += [f"![{ALTERNATIVE_TEXTS.get(name, name)}](figures/{figure.name})", ""]
    others = ", ".join(map(str, [*folders][1:]))
    more = f"; claims also with seeds {others}" if others else ""
    lines += [f"Measured on {ran}, seed {seed}{duration}{more}:", ""]
    lines += ["```", f"python -m experiments.questions.{name} --workdir=runs/{name}", "```", ""]
    lines += claim_rows(summaries)
    lines += [
        "",
        "<details><summary>every number</summary>",
        "",
        "| measured | value |",
        "|---|---|",
    ]
    lines += [f"| {escaped(key)} | {value} |" for key, value in flatten(summary).items()]
    return "\n".join([*lines, "", "</details>"])


def measured_before(path: Path) -> dict[str, str]:
    """Return the measurements that a page has, by program: those below the text of its question."""
    if not path.exists():
        return {}
    _, *sections = re.split("(?m)^(?=## )", path.read_text(encoding="utf-8"))
    found = {}
    for section in sections:
        name = re.search(r"(?m)^python -m experiments\.questions\.(\w+)", section)
        start = re.search(r"(?m)^(!\[|Measured on)", section)
        if name and start:
            found[name[1]] = section[start.start() :].rstrip("\n")
    return found


def write(finished: dict[str, dict[int, Path]], docs: Path) -> None:
    """Write the page on the finished programs (name -> seed -> work directory).

    The sections are in the order of the template. A program that is not among them keeps what the
    page has.
    """
    head, questions = parts()
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    page, before = head, measured_before(docs / "questions.md")
    for name, part in questions.items():
        if name in finished:
            before[name] = measured(name, finished[name], docs)
        if name in before:
            page += string.Template(part).substitute({name: before[name]})
    (docs / "questions.md").write_text(page.rstrip("\n") + "\n", encoding="utf-8")
