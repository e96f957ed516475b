"""Where an objective would stand among the rows that are kept."""

from typing import Any

import numpy as np

from scripts.benchmark_objectives import work

Rows = list[dict[str, Any]]


def _gaps(rows: Rows, budget: int) -> dict[str, dict[str, float]]:
    """Return problem -> objective -> median gap at a budget."""
    groups: dict[tuple[str, str], Rows] = {}
    for row in rows:
        if row["kind"] == "run" and row["budget"] == budget:
            groups.setdefault((row["problem"], row["objective"]), []).append(row)
    found: dict[str, dict[str, float]] = {}
    for (problem, objective), group in groups.items():
        found.setdefault(problem, {})[objective] = work.median_gap(group)
    return found


def standing(own: Rows, others: Rows, name: str) -> list[dict[str, Any]]:
    """Return the places of an objective, one row per problem and budget, and over all problems.

    Args:
        own: rows with the runs of the objective.
        others: rows that it is compared with, from the same protocol.
        name: name of the objective.
    """
    found = []
    for budget in work.BUDGETS:
        mine, kept = _gaps(own, budget), _gaps(others, budget)
        places = []
        for problem in mine:
            gap = mine[problem][name]
            rivals = {k: v for k, v in kept.get(problem, {}).items() if k != name}
            place = 1 + sum(other < gap for other in rivals.values())
            places.append((place, len(rivals) + 1))
            found.append(
                {
                    "problem": problem,
                    "budget": budget,
                    "gap": gap if np.isfinite(gap) else None,
                    "place": place,
                    "of": len(rivals) + 1,
                }
            )
        if len(places) > 1:
            mean = float(np.mean([place for place, _ in places]))
            found.append({"problem": "all", "budget": budget, "mean_place": round(mean, 2)})
    return found


def lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the places as sentences."""
    sentences = []
    for row in found:
        if row["problem"] == "all":
            text = f"mean place over the problems: {row['mean_place']}"
        else:
            gap = "diverged" if row["gap"] is None else f"gap {row['gap']:.4f} nats"
            text = f"{row['problem']}: {gap}, place {row['place']} of {row['of']}"
        sentences.append(f"budget {row['budget']}, {text}")
    return sentences
