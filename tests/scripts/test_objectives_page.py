"""The page of the benchmark of objectives: it follows from its rows, complete or not."""

import csv
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from scripts.benchmark_objectives import (
    answer,
    competitors,
    page,
    problems,
    rows,
    standings,
    statistics,
    tables,
)

ROOT = Path(__file__).parents[2]
DATE = "2026-01-02"
PROBLEMS = {"a": "plane", "b": "plane", "c": "bits", "d": "mixture"}
LEVELS = {"exact": 0.1, "cd": 0.1, "pcd": 0.3, "amortized": 9.0}  # gaps at the largest budget


def problem(name, problem_class):
    known = {"title": f"problem {name}", "dimension": 2, "entropy": 1.5, "best_gap": 0.0}
    how = {"how": f"A sum. {tables.KNOWN}", "date": DATE}
    return {"kind": "problem", "problem": name, "problem_class": problem_class, **known, **how}


def run(name, objective, seed, budget, gap):
    fields = dict.fromkeys(("total_variation", "mode_weight_error", "log_z_disagreement"))
    if name == "d":
        fields["log_z_disagreement"] = 0.5
    training = {"updates": 10, "learning_rate": 0.01, "options": {"steps": 5}}
    training |= {"seconds": 1.0, "processor_seconds": 0.5 if budget == 2 else None}
    return {
        **{"kind": "run", "problem": name, "objective": objective, "entry": None},
        **{"seed": seed, "budget": budget, "passes": 1000 * 10**budget, "trial": 1},
        **training,
        **{"gap": gap, "validation_gap": gap, "curve": [], "date": DATE},
        **{"status": "ok" if gap is not None else "diverged"},
        **fields,
    }


def trial(name, objective, number, gap):
    fields = {"updates": 10, "passes": 10_000, "seconds": 1.0, "date": DATE}
    return {
        **{"kind": "trial", "problem": name, "objective": objective, "trial": number},
        **{"learning_rate": 0.01 * (number + 1), "options": {"steps": 5}, "validation_gap": gap},
        **{"status": "ok" if gap is not None else "diverged"},
        **fields,
    }


@pytest.fixture
def folder(tmp_path):
    """Rows of four problems; the gaps of exact and cd have the same distribution."""
    rng, where = np.random.default_rng(0), tmp_path / "rows"
    for name, problem_class in PROBLEMS.items():
        rows.append(where, problem(name, problem_class))
        for objective, level in LEVELS.items():
            for number, gap in enumerate((0.5, 0.2, None)):
                rows.append(where, trial(name, objective, number, gap))
            for budget, seed in itertools.product(range(3), range(1, 9)):
                gap = level * 3.0 ** (2 - budget) * np.exp(0.1 * rng.normal())
                diverged = objective == "amortized" and seed <= 5
                rows.append(where, run(name, objective, seed, budget, None if diverged else gap))
    return where


def results(folder):
    return standings.collect(rows.read(folder))


def test_the_interquartile_mean_of_the_normalised_gaps_is_in_the_table(folder):
    """Computed again from the rows: the scale is the median objective at the smallest budget."""
    found = results(folder)
    runs = [row for row in rows.read(folder) if row["kind"] == "run"]

    def gaps(name, objective, budget):
        chosen = [r["gap"] for r in runs if (r["problem"], r["objective"]) == (name, objective)
                  and r["budget"] == budget]  # fmt: skip
        return [np.inf if gap is None else gap for gap in chosen]

    scores = []
    for name in ("a", "b"):
        means = [scipy.stats.trim_mean(gaps(name, o, 0), 0.25) for o in LEVELS]
        scale = np.median([mean for mean in means if np.isfinite(mean)])
        scores += [gap / scale for gap in gaps(name, "pcd", 2)]
    expected = scipy.stats.trim_mean(scores, 0.25)
    at = standings.standing(found, "plane", 2)
    assert at.intervals["pcd"].value == pytest.approx(expected, rel=1e-12)
    assert f"| persistent contrastive divergence | {expected:#.2g} (" in page.page(found)


def test_objectives_that_tie_are_all_named_and_none_wins(folder):
    found = results(folder)
    groups = standings.standing(found, "plane", 2).groups
    assert [set(group) for group in groups] == [{"exact", "cd"}, {"pcd"}, {"amortized"}]
    first, *_, last = answer.sentences(found)
    assert len(answer.sentences(found)) <= 5
    assert (
        "exact maximum likelihood and contrastive divergence are tied for the smallest gap" in first
    )
    both = "exact maximum likelihood is best or tied on 2 of 2, as is contrastive divergence."
    assert f"counted problem by problem, {both}" in first
    assert "among 4 objectives after 100 thousand network passes" in first
    assert last.startswith(
        "With a tenth of these passes, the budget at which the options are chosen"
    )
    # On the mixture, log Z is uncertain by 0.5 nats, more than the difference of cd and pcd.
    assert answer.recommended(found) == {
        "plane": ["cd"],
        "bits": ["cd"],
        "mixture": ["cd", "pcd"],
    }


def test_the_answer_says_where_less_training_had_a_smaller_gap(folder):
    """The gaps of an objective at the budget before are made the smallest of all."""
    found = results(folder)
    (bits,) = (advice for advice in standings.advice(found) if advice.problem_class == "bits")
    assert answer.earlier(found, bits) == ""
    for problem_name in bits.standing.problems:
        found.gaps[problem_name, "pcd", bits.budget - 1] = np.full(10, 1e-9)
    said = "; persistent contrastive divergence had a smaller gap after a tenth of these passes"
    assert answer.earlier(found, bits) == said


def test_processor_time_is_that_of_the_largest_budget(folder):
    """Of 10 updates in 0.5 s. An objective without rows there has an empty cell."""
    for problem_name, budget in (("a", 2), ("b", 1)):
        passes = {"passes_per_update": 1000.0, "energy_multiplications": 5}
        cost = {"kind": "cost", "problem": problem_name, "seconds_per_update": 3.0, **passes}
        for objective in ("cd", "short_run"):
            rows.append(folder, cost | {"objective": objective})
        distances = ("sliced_wasserstein", "sliced_wasserstein_floor", "classifier_accuracy")
        samples = {"kind": "samples", "objective": "short_run", "seed": 1, "status": "ok"}
        samples |= dict.fromkeys(distances, 0.5) | {"passes": 9, "date": DATE, "updates": 4}
        times = {"budget": budget, "processor_seconds": 2.0 if budget == 2 else None}
        rows.append(folder, samples | {"problem": problem_name} | times)
    text = page.page(results(folder))
    head = "| objective | passes per update | updates at budget 1 | processor ms per update"
    assert f"{head} | processor s" in text
    assert "| contrastive divergence | 1,000 | 10 | 50 | 0.50 |" in text
    assert "| short-run chains | 1,000 | 0 | 500 | 2.0 |" in text  # 9 passes at budget 1


def test_the_objectives_that_are_best_on_most_problems_are_all_named():
    intervals = {name: statistics.Interval(value, 0, 9) for value, name in enumerate("abcd")}
    singles = dict(zip("abcd", (1, 0, 2, 2), strict=True))
    at = standings.Standing(["x", "y", "z"], intervals, [["a"], ["b"]], singles, {}, 1.0, [])
    said = "; counted problem by problem, a is best or tied on 1 of 3"
    assert answer.singly(at) == f"{said}, and c and d on 2 each"
    for other, end in ((0, ""), (1, ", as are c and d")):
        found = answer.singly(at._replace(singles=singles | {"c": other, "d": other}))
        assert found == said + end
    assert answer.singly(at._replace(problems=["x"])) == ""


def samples_row(seed, distance):
    row = {"kind": "samples", "problem": "a", "objective": "short_run", "budget": 0, "seed": seed}
    row |= {"passes": 9, "updates": 4, "processor_seconds": None, "date": DATE}
    row |= {"status": "ok" if distance is not None else "diverged", "classifier_accuracy": 0.5}
    return row | {"sliced_wasserstein": distance, "sliced_wasserstein_floor": 0.25}


def test_samples_have_the_interquartile_mean_and_its_interval(folder):
    """Of 0, 1, ..., 7 it is the mean of 2, 3, 4 and 5; its interval leaves out both ends."""
    for seed in range(8):
        rows.append(folder, samples_row(seed, float(seed)))
    (line,) = (x for x in tables.samples(results(folder)) if "short-run" in x)
    cells = re.fullmatch(
        r"\| problem a \| short-run chains \| 0 \| 3\.5 \((.*) to (.*)\) \| 0\.25 "
        r"\| 0\.50 \(0\.50 to 0\.50\) \| 8 of 8 \|",
        line,
    )
    assert cells, line
    assert 0 < float(cells[1]) < 3.5 < float(cells[2]) < 7


def test_most_seeds_of_samples_diverged(folder):
    for seed in range(8):
        rows.append(folder, samples_row(seed, None if seed > 2 else 0.5))
    (line,) = (x for x in tables.samples(results(folder)) if "short-run" in x)
    assert "| diverged (0.50 to diverged) | 0.25 |" in line
    assert "| 3 of 8 |" in line


def test_the_updates_of_exact_likelihood_are_those_of_its_rows(folder):
    said = "exact maximum likelihood evaluates all"
    assert said not in page.page(results(folder))  # the cost of an update is not measured
    cost = {"kind": "cost", "problem": "c", "objective": "exact", "seconds_per_update": 3.0}
    rows.append(folder, cost | {"passes_per_update": 123_000.0, "energy_multiplications": 5})
    for budget, seed in itertools.product(range(3), range(1, 9)):
        updates = {"updates": 7 * 10**budget + 2 * (seed % 2)}  # medians 8, 71 and 701
        rows.append(folder, run("c", "exact", seed, budget, 0.1) | updates)
    found = " ".join(page.page(results(folder)).split())
    assert f"{said} 4 states at every update, which costs about 123 thousand passes" in found
    assert "It therefore makes 8, 71 and 701 updates at budgets 0, 1 and 2" in found


def test_exact_likelihood_is_no_competitor_where_it_needs_the_true_density(folder):
    found = results(folder)
    _, at = standings.fullest(found, "mixture")
    assert "exact" not in at.intervals
    assert "exact maximum likelihood" in page.page(found)


def test_the_error_of_log_z_widens_the_intervals_that_tie(folder):
    """Computed again from the rows: 0.5 nats, in units of the median gap at the smallest budget."""
    found = results(folder)
    at = standings.standing(found, "mixture", 2, ("exact",))
    seeds = statistics.aggregate(at.scores["cd"])
    by = 0.5 / standings.scale(found, "d")
    assert at.intervals["cd"] == pytest.approx((seeds.value, seeds.low - by, seeds.high + by))
    plane = standings.standing(found, "plane", 2)
    assert plane.intervals["cd"] == statistics.aggregate(plane.scores["cd"])


def test_what_more_training_makes_worse_is_listed(folder):
    """On d the estimates of log Z differ by 0.5 nats: a gap that grows by less does not count."""
    assert tables.worsened(results(folder)) == {}
    for seed in range(1, 9):
        wobble = 1e-3 * seed
        rows.append(folder, run("a", "cd", seed, 2, 0.6 + wobble))  # 0.3 at budget 1
        rows.append(folder, run("c", "cd", seed, 2, None))
        rows.append(folder, run("d", "cd", seed, 2, 1.2 + wobble))
        rows.append(folder, run("d", "pcd", seed, 2, 2.5 + wobble))  # 0.9 at budget 1
    found = tables.worsened(results(folder))
    assert found == {"cd": ["a", "c"], "pcd": ["d"]}
    assert "* contrastive divergence: problem a; problem c\n" in page.page(results(folder))


def test_when_exact_likelihood_is_best_alone_the_best_of_the_others_is_said(folder):
    for name, seed in itertools.product(("a", "b"), range(1, 9)):
        rows.append(folder, run(name, "exact", seed, 2, 0.01 + 1e-4 * seed))
    first = answer.sentences(results(folder))[0]
    assert "exact maximum likelihood has the smallest gap" in first
    assert "without a sum over a grid, contrastive divergence has the smallest" in first


def test_the_protocol_has_the_options_that_are_searched():
    text = (ROOT / "docs" / "benchmark_protocol.md").read_text(encoding="utf-8")
    section = text.split("## Objectives")[1].split("##")[0]
    written = set(re.findall(r"`(\w+)`[^`(|]*\(([^)]*)\)", section))
    searches = [*competitors.POINTS.values(), *competitors.BITS.values()]
    searches += [competitor.search for competitor in competitors.SAMPLED.values()]
    expected = set()
    for option, values in ((o, v) for search in searches for o, v in search.items()):
        *others, last = (f"{value:g}" for value in values)
        link = "to" if isinstance(values, tuple) else "or"
        expected.add((option, f"{', '.join(others)} {link} {last}"))
    assert written == expected


def test_the_page_counts_the_problems_of_the_protocol():
    assert len(problems.NAMES) == standings.NUM_PROBLEMS


def test_what_is_missing_is_said_and_does_not_rank(folder):
    rows.append(folder, problem("e", "plane"))
    for seed in range(1, 9):
        rows.append(folder, run("e", "exact", seed, 0, 1.0))
        rows.append(folder, run("a", "binary_nce", seed, 2, 0.05))
    found = results(folder)
    at = standings.standing(found, "plane", 2)
    assert at.problems == ["a", "b"]  # 4 objectives on 2 problems are more than 1 on 3
    assert at.unfinished == ["binary_nce"]
    assert "binary_nce" not in at.intervals
    text = page.page(found)
    assert "Not on all of these problems yet: binary noise-contrastive estimation." in text
    names_of = [standings.expected(found, c) for c in ("plane", "bits", "mixture")]
    total = 3 * (3 * len(names_of[0]) + len(names_of[1]) + len(names_of[2]))
    there = len(PROBLEMS) * len(LEVELS) * 3 + 2
    assert "5 of the 10 problems have results" in text
    assert f"[{total - there} of these results](#measured-so-far)" in text
    assert "| exact maximum likelihood | 0, 1, 2 | 0, 1, 2 | 0 | 0, 1, 2 | 0, 1, 2 |" in text
    assert "| binary noise-contrastive estimation | 2 | none | none | none | none |" in text


@pytest.mark.parametrize(
    ("has", "problems", "names"),
    [
        ({"p": {"a"}, "q": {"a"}, "r": {"a"}}, ["p", "q", "r"], ["a"]),
        ({"p": {"a", "b"}, "q": {"a"}, "r": {"a"}}, ["p"], ["a", "b"]),  # two can be compared
        ({"p": {"a", "b", "c"}, "q": {"a", "b"}}, ["p", "q"], ["a", "b"]),  # 4 results, not 3
        ({"p": {"a", "b"}, "q": {"c"}}, ["p"], ["a", "b"]),
        ({"p": set()}, [], []),
        ({}, [], []),
    ],
)
def test_the_most_results_that_can_be_compared_count(has, problems, names):
    assert standings.complete(has) == (problems, names)


def test_a_budget_that_has_just_begun_does_not_replace_the_one_before(folder, tmp_path):
    kept = [r for r in rows.read(folder) if r["kind"] != "run" or r["budget"] < 2]
    late = [r for r in rows.read(folder) if r["kind"] == "run" and r["budget"] == 2]
    kept += [r for r in late if (r["problem"], r["objective"]) == ("a", "exact")]
    assert standings.fullest(standings.collect(kept), "plane")[0] == 1


def test_columns_without_values_are_left_out(folder):
    text = page.page(results(folder))
    assert "| budget 1 | budget 2 |" in text
    assert "| gap after long exact training |" in text
    assert "not measured yet." not in text.split("## Measured so far")[0].split("## Samples")[0]
    assert f"The runs were made on {DATE}." in text
    kept = [r for r in rows.read(folder) if r["kind"] != "run" or r["budget"] < 2]
    for row in kept:
        if row["kind"] == "problem":
            row["how"] = f"A sum. {tables.UNKNOWN}"
    text = page.page(standings.collect(kept))
    assert "| budget 1 |" in text
    assert "| budget 2 |" not in text
    assert "Budget 2 is not measured yet." in text
    assert "| gap after long exact training |" not in text
    assert "The gaps after long exact training are not measured yet." in text


@pytest.mark.parametrize("kinds", [(), ("problem",), ("problem", "trial")])
def test_a_page_without_runs_says_so(folder, tmp_path, kinds):
    kept = [row for row in rows.read(folder) if row["kind"] in kinds]
    found = standings.collect(kept)
    assert answer.sentences(found) == [answer.NOTHING]
    assert answer.NOTHING in page.page(found)


def test_a_disagreement_of_log_z_is_flagged(folder):
    assert "0.50 **disagree**" in page.page(results(folder))


def test_tuning_shows_the_chosen_trial_and_those_that_diverged(folder):
    shown = "\n".join(tables.tuning(results(folder)))
    assert "| contrastive divergence | 0.02 | steps 5 | 0.20 | 0.35 | 3 | 1 |" in shown


def test_entries_of_others_are_not_on_the_page(folder):
    for seed in range(1, 9):
        rows.append(folder, run("a", "mine", seed, 2, 1e-6) | {"entry": "mine:make"})
    assert "mine" not in page.page(results(folder))


def test_the_program_writes_page_figures_csv_and_the_tutorials_answer(folder, tmp_path):
    docs = tmp_path / "docs"
    (docs / "tutorials").mkdir(parents=True)
    tutorial = docs / page.TUTORIAL
    tutorial.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    found = page.write(folder, docs)
    assert (docs / "objectives.md").read_text(encoding="utf-8") == page.page(found)
    text = tutorial.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert all(f"* {sentence}\n" in text for sentence in answer.sentences(found))
    for name in ("objectives_heat_map", "objectives_cost"):
        assert (docs / "figures" / f"{name}.png").stat().st_size > 10_000
    with (docs / "data" / "objectives.csv").open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == len(PROBLEMS) * len(LEVELS) * 3
    amortized = next(row for row in listed if row["objective"] == "amortized")
    assert (amortized["seeds"], amortized["diverged"], amortized["gap"]) == ("8", "5", "inf")


def test_labels_of_lines_do_not_overlap():
    from scripts.benchmark_objectives import figures

    heights = [0.0, 0.01, 0.02, 0.9, 1.0, 1.0]
    found = figures.spread(heights, 0.1, 0.0, 1.0)
    assert np.diff(sorted(found)).min() >= 0.1 - 1e-12
    assert min(found) >= 0
    assert max(found) <= 1
    assert np.argsort(found, kind="stable").tolist() == np.argsort(heights, kind="stable").tolist()


@pytest.mark.parametrize(
    ("gap", "shown"),
    [(0.00651, "0.007"), (0.123, "0.12"), (1.26, "1.3"), (5596, "5596"), (np.inf, "div.")],
)
def test_cells_have_at_most_five_characters(gap, shown):
    from scripts.benchmark_objectives import figures

    assert figures.cell(gap) == shown


committed = pytest.mark.skipif(
    not (ROOT / "docs" / "objectives.md").exists(), reason="the page is not there yet"
)


@committed
def test_the_committed_page_is_the_one_of_the_committed_rows():
    found = results(rows.FOLDER)
    docs = ROOT / "docs"
    assert (docs / "objectives.md").read_text(encoding="utf-8") == page.page(found)
    table = (docs / "data" / "objectives.csv").read_text(encoding="utf-8")
    assert table == page.standings_csv(found)
    text = (docs / page.TUTORIAL).read_text(encoding="utf-8")
    assert page.with_answer(text, found) == text


@committed
def test_what_the_committed_page_recommends_is_in_the_tied_best_group():
    """Read from the page: the names of its sentences are in group 1 of the tables below."""
    text = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    found = results(rows.FOLDER)
    for advice in standings.advice(found):
        head = standings.CLASSES[advice.problem_class]
        head = f"### {head[0].upper()}{head[1:]}, {answer.passes(advice.standing.passes)} network"
        table = text.split(head)[1].split("\n##")[0]
        group = re.findall(r"(?m)^\| (\d+) \| ([^|]+) \|", table)
        best = [name for number, name in group if number == "1"]
        for name in map(standings.title, advice.best):
            assert name in best, (advice.problem_class, name)
        if advice.without_exact:
            at = standings.standing(
                found, advice.problem_class, advice.budget, without=(standings.EXACT,)
            )
            assert advice.without_exact == at.groups[0]
