"""The answer of docs/objectives.md: at most five sentences that follow from its tables."""

from scripts.benchmark_objectives import standings
from scripts.benchmark_objectives.standings import CLASSES, EXACT, Results, title

NOT_GIBBS = (
    "Flow matching, equilibrium matching and short-run chains do not train an energy E for which "
    "exp(-E) / Z is the model: judge them by their samples only."
)
NOTHING = "No class of problems has runs of two objectives yet."


def listed(names: list[str]) -> str:
    """Return names as an English list, in their order."""
    shown = list(map(title, names))
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def number(value: float) -> str:
    """Return a number with two significant digits."""
    if value == float("inf"):
        return "diverged"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:#.2g}"


def passes(value: float) -> str:
    """Return a number of network passes in words."""
    if value < 999_500:  # as rounded to three digits
        return f"{value / 1e3:.3g} thousand"
    return f"{value / 1e6:.3g} million"


def sentence(results: Results, advice: standings.Advice) -> str:
    """Return which objectives are best on a class of problems."""
    best, standing = advice.best, advice.standing
    count = len(standing.problems)
    where = f"On {CLASSES[advice.problem_class]} ({count} problem{'s' * (count > 1)})"
    after = (
        f"among {len(standing.intervals)} objectives after {passes(standing.passes)} network passes"
    )
    if len(best) > 1:
        said = f"{listed(best)} are tied for the smallest gap {after}"
    else:
        said = f"{listed(best)} has the smallest gap {after}"
    if advice.without_exact:
        others = advice.without_exact
        tie = "are tied for the smallest" if len(others) > 1 else "has the smallest"
        over = "a grid" if advice.problem_class == "plane" else "all states"
        said += f"; without a sum over {over}, {listed(others)} {tie}"
    return f"{where}, {said}{singly(standing)}{earlier(results, advice)}."


def earlier(results: Results, advice: standings.Advice) -> str:
    """Return which objective has a smaller gap at the budget before, if one does."""
    without = standings.ranked_out(advice.problem_class)
    before = standings.standing(results, advice.problem_class, advice.budget - 1, without)
    if before is None or before.problems != advice.standing.problems:
        return ""
    first, best = before.groups[0][0], advice.best[0]
    if before.intervals[first].value >= advice.standing.intervals[best].value:
        return ""
    return f"; {title(first)} had a smaller gap after a tenth of these passes"


def singly(standing: standings.Standing) -> str:
    """Return on how many problems the first objective is best, and which others are on the most."""
    total, first = len(standing.problems), standing.groups[0][0]
    if total < 2:
        return ""
    said = f"; counted problem by problem, {title(first)} is best or tied on "
    said += f"{standing.singles[first]} of {total}"
    most = max(standing.singles.values())
    ranked = sorted(standing.singles, key=lambda name: standing.intervals[name].value)
    others = [name for name in ranked if standing.singles[name] == most and name != first]
    if standing.singles[first] < most:
        return f"{said}, and {listed(others)} on {most}{' each' * (len(others) > 1)}"
    return f"{said}, as {'are' if len(others) > 1 else 'is'} {listed(others)}" if others else said


def cheap(results: Results) -> str | None:
    """Return which objectives are best at the budget that chooses the options, in one sentence."""
    parts = []
    for problem_class in CLASSES:
        without = standings.ranked_out(problem_class)
        at = standings.standing(results, problem_class, 1, without)
        if at is not None and at.groups:
            parts.append(f"{listed(at.groups[0])} on {CLASSES[problem_class]}")
    if not parts:
        return None
    return (
        "With a tenth of these passes, the budget at which the options are chosen, the best groups "
        f"are {'; '.join(parts)}."
    )


def sentences(results: Results) -> list[str]:
    """Return the answer."""
    given = standings.advice(results)
    found = [sentence(results, advice) for advice in given]
    if any(advice.budget == 2 for advice in given) and (small := cheap(results)):
        found.append(small)
    if results.samples:
        found.append(NOT_GIBBS)
    return found or [NOTHING]


def bullets(results: Results) -> str:
    """Return the answer as a Markdown list."""
    return "\n".join(f"* {sentence}" for sentence in sentences(results))


def recommended(results: Results) -> dict[str, list[str]]:
    """Return the objectives that the answer recommends for every class of problems."""
    return {
        advice.problem_class: sorted({*advice.best, *advice.without_exact} - {EXACT})
        for advice in standings.advice(results)
    }
