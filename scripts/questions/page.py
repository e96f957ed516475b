"""docs/questions.md: its text is that of a template, with what was measured below each answer."""

import datetime
import json
import re
import shutil
import string
from pathlib import Path

TEMPLATE = Path(__file__).parents[2] / "docs" / "questions.md.template"


def parts() -> tuple[str, dict[str, str]]:
    """Return the template's head, and its part on each program, by name and in order.

    A part has the program's name after a dollar where its measurements go.
    """
    head, *questions = re.split("(?m)^(?=## )", TEMPLATE.read_text(encoding="utf-8"))
    return head, {re.findall(r"(?m)^\$(\w+)$", part)[0]: part for part in questions}


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


def escaped(name: str) -> str:
    """Return a name that may hold bars, for a table."""
    return name.replace("|", "\\|")


def measured(name: str, folder: Path, docs: Path, seed: int) -> str:
    """Return what the run of a program measured, in Markdown, and copy its figures."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    claims, seconds = summary.pop("claims", {}), summary.pop("seconds", "?")
    ran = datetime.date.fromtimestamp((folder / "summary.json").stat().st_mtime)
    lines = []
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
    return "\n".join([*lines, "", "</details>"])


def write(finished: dict[str, Path], docs: Path, seed: int) -> None:
    """Write the page on the programs whose runs are in these folders, in the template's order."""
    head, questions = parts()
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    page = head
    for name, part in questions.items():
        if name in finished:
            found = measured(name, finished[name], docs, seed)
            page += string.Template(part).substitute({name: found})
    (docs / "questions.md").write_text(page.rstrip("\n") + "\n", encoding="utf-8")
