"""What was measured, against the limits of the card and the targets: lines, a page, JSON."""

import collections
import json
from typing import Any

from rich.console import Console
from rich.table import Table

COMMAND = "python -m scripts.accelerator --workdir=runs/accelerator --page=docs/accelerators.md"
BAD = ("FAILED", "ERROR")
COLUMNS = ("work", "case", "seconds", "rate", "share of the limit", "seconds over ours")


def complete(results: dict[str, Any]) -> None:
    """Add to every row its share of the card's limit, and to the results what became of targets.

    The limit is the longest of the times that the row's least work takes at the card's measured
    rates: its floating-point operations, its random bits, its memory traffic.
    """
    limits = results["parts"].get("roofs", {}).get("limits", {})
    for part in results["parts"].values():
        for row in part.get("rows", []):
            least = {k: v / limits[k] for k, v in row.get("work", {}).items() if limits.get(k)}
            if least and row.get("seconds"):
                row["limited_by"] = max(least, key=lambda kind: least[kind])
                row["of_limit"] = least[row["limited_by"]] / row["seconds"]
    results["targets"] = targets(results["parts"])


def targets(parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the targets on a GPU, the measured values, and whether each is met."""

    def headlines(part: str, start: str) -> list[float]:
        """Return the figures with this prefix, ordered by the amount of work, the largest first."""
        figures = parts.get(part, {}).get("headline", {})
        return [value for name, value in figures.items() if name.startswith(start)]

    def first(values: list[float]) -> float | None:
        return values[0] if values else None

    rows = parts.get("ula", {}).get("rows", [])
    ula = [row["of_limit"] for row in rows if row["case"] == "ours" and "of_limit" in row]
    thrml = first(headlines("ising_peers", "over_thrml"))
    summary = parts.get("mnist", {}).get("summary", {})
    found = {
        "ULA on the mixture, most chains: share of the limit": (first(ula), 0.5),
        "RBM block Gibbs: two matrix products over ours, worst precision and size": (
            min(headlines("rbm", "products_over_ours"), default=None),
            0.6,
        ),
        "Ising 1024^2: seconds of thrml over ours": (thrml or _rates(parts), 10),
        "PCD update: its convolutions over ours": (
            first(headlines("pcd", "convolutions_over_ours")),
            0.8,
        ),
        "MNIST at default flags: seconds, at most": (summary.get("seconds"), 150),
    }
    return {
        name: {
            "target": target,
            "measured": value,
            "met": None if value is None else (value <= target) == name.endswith("at most"),
        }
        for name, (value, target) in found.items()
    }


def _rates(parts: dict[str, Any]) -> float | None:
    """Return our spins a second at 1024^2 over thrml's at 256^2, where thrml has no 1024^2."""
    rates = {
        (row["case"], row["size"].split(",")[0]): row.get("rate")
        for row in parts.get("ising", {}).get("rows", [])
    }
    ours, theirs = rates.get(("ours", "1024^2")), rates.get(("thrml", "256^2"))
    return ours / theirs if ours and theirs else None


def named(results: dict[str, Any], status: str) -> list[str]:
    """Return the parts with a status."""
    return [name for name, part in results["parts"].items() if part["status"] == status]


def last_line(results: dict[str, Any]) -> str:
    """Return the figures of every part to four digits, and the failed parts, as JSON."""
    suites = {}
    for name, part in results["parts"].items():
        figures = dict(part.get("headline", {}))
        if part.get("tests"):
            figures |= counts(part)
        if "summary" in part:
            figures |= {"seconds": part["summary"]["seconds"]}
        suites[name] = {"status": part["status"]} | {k: _short(v) for k, v in figures.items()}
    rest = {status: named(results, status) for status in ("failed", "unfinished", "missing")}
    return json.dumps({"suites": suites} | rest)


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def counts(part: dict[str, Any]) -> dict[str, int]:
    """Return how many tests passed, failed, were skipped, and did not run."""
    outcomes = collections.Counter(part["tests"].values())
    failed = sum(outcomes[name] for name in BAD)
    ran = sum(outcomes.values())
    return {
        "passed": outcomes["PASSED"] + outcomes["XFAIL"] + outcomes["XPASS"],
        "failed": failed,
        "skipped": outcomes["SKIPPED"],
        "not_run": max(0, part.get("collected", ran) - ran),
    }


def failed_tests(results: dict[str, Any], name: str) -> list[str]:
    """Return the tests of a part that failed."""
    tests = results["parts"].get(name, {}).get("tests", {})
    return sorted(test for test, outcome in tests.items() if outcome in BAD)


def only_rounded(results: dict[str, Any]) -> list[str]:
    """Return the tests that fail where products are rounded (TF32) and pass where they are not."""
    exact = results["parts"].get("tests", {}).get("tests", {})
    return [t for t in failed_tests(results, "tests_tf32") if exact.get(t) == "PASSED"]


def show(results: dict[str, Any]) -> None:
    """Print the targets and the measured values."""
    table = Table(title="targets", title_justify="left")
    for column in ("target", "at least", "measured", "met"):
        table.add_column(column)
    for name, row in results.get("targets", {}).items():
        table.add_row(name, *map(_text, (row["target"], row["measured"], row["met"])))
    Console(width=110).print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def page(results: dict[str, Any]) -> str:
    """Return the page of results."""
    machine = results["machine"]
    lines = [
        "# Accelerators",
        "",
        f"`{COMMAND}` measures this page, on a GPU in at most eight minutes.",
        "",
        *_table(("measured on", ""), [(k, str(v)) for k, v in machine.items()]),
        "",
        "## Targets",
        "",
        "A ratio of seconds above 1 means that ours is faster. The limit of a suite is the longest "
        "of the times that its operations, random bits and memory traffic take at the rates which "
        "this card reached in `roofs`.",
        "",
        *_table(
            ("target", "value", "measured", "met"),
            [(n, *map(_text, r.values())) for n, r in results.get("targets", {}).items()],
        ),
    ]
    for name, part in results["parts"].items():
        lines += ["", f"## {name}", "", *_of_part(name, part, results)]
    return "\n".join(lines) + "\n"


def _of_part(name: str, part: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """Return the lines of a part."""
    lines = [] if part["status"] == "ok" else [_sentence(part), ""]
    if part.get("tests"):
        lines += _of_tests(name, part, results)
    if "summary" in part:
        numbers = [(k, _text(v)) for k, v in part["summary"].items() if isinstance(v, int | float)]
        lines += _table(("figure", "value"), numbers)
    rows = [row for row in part.get("rows", []) if "kernels" not in row]
    if rows:
        lines += _table(COLUMNS, [_cells(row) for row in rows])
    for row in part.get("rows", []):
        if "kernels" in row:
            longest = [(k, f"{1e3 * v:.3g}") for k, v in row["kernels"].items()]
            lines += ["", *_table((f"kernel of ours, {row['size']}", "ms"), longest)]
    return lines


def _sentence(part: dict[str, Any]) -> str:
    if part["status"] == "unfinished":
        return f"Time ran out after {part.get('seconds', 0)} s: what follows was measured before."
    reason = " ".join(part.get("why", "").split())
    return f"This part is {part['status']}: {reason}"


def _of_tests(name: str, part: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """Return how the tests went, and where rounded products alone make them fail."""
    lines = [", ".join(f"{value} {key.replace('_', ' ')}" for key, value in counts(part).items())]
    lines[0] += f", in {part.get('seconds', 0)} s."
    failed = failed_tests(results, name)
    if name == "tests_tf32":
        different = only_rounded(results)
        lines[0] += (
            f" Products of float32 numbers are rounded to TF32; {len(different)} tests pass "
            "without that rounding and fail with it."
        )
    return lines + [""] * bool(failed) + [f"* `{test}`" for test in failed]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return (row["size"], row["case"], row["error"].replace("|", "/"), "", "", "")
    rate = f"{row['rate']:.4g} {row['unit']}" if "rate" in row else ""
    share = f"{row['of_limit']:.2f} ({row['limited_by']})" if "of_limit" in row else ""
    seconds = _text(row.get("seconds"))
    return (row["size"], row["case"], seconds, rate, share, _text(row.get("over_ours")))


def _table(columns: tuple[str, ...], rows: list[tuple]) -> list[str]:
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
