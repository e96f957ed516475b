"""The pages of a sweep: what a person can read of names that are long, many or look like markup."""

import contextlib
import io
import itertools
import json
import random
import re
import types
import warnings
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

HOSTILE = ("$100%$", "_x_^2", "<b>&amp;", 'a"b', "64,64", "a#b?c", r"\frac{", "W" * 70, "x y " * 60)


@pytest.fixture
def comparison(loaded):
    return loaded("scripts.sweep.comparison")


def made_up(comparison, settings, folder, *, metric="accuracy", goal="max"):
    """Return a sweep of two seeds per setting; a run of the first setting failed."""
    label = comparison.label
    names = [label(setting) for setting in settings]
    groups = {n: [{"accuracy": 0.1 * i, "ece": 1.0}] * 2 for i, n in enumerate(names)}
    runs = {}
    for name, setting in zip(names, settings, strict=True):
        runs[name] = []
        for seed in (0, 1):
            path = folder / label(setting | {"seed": str(seed)})
            path.mkdir(parents=True, exist_ok=True)
            (path / ("report.html" if seed else "log.txt")).write_text("it", encoding="utf-8")
            runs[name].append((seed, "finished" if seed else "failed", path))
    best = {"run": runs[names[-1]][1][2].name, metric: 0.5}
    missing = {"failed: it": "    <Error> & $x$"}
    by_name = dict(zip(names, settings, strict=True))
    return comparison.Sweep("a.program", metric, goal, by_name, groups, runs, missing, best)


def grids():
    """Return lists of settings: one, a few, many, with short, long and strange values."""
    rng = random.Random(0)
    yield [{}]
    yield [{"a": "1"}]
    yield [{"a": text, "b": "1"} for text in HOSTILE]
    yield [{"a": str(i), "shared": "the same"} for i in range(90)]
    for _ in range(5):
        count, length = rng.randint(2, 12), rng.randint(1, 300)
        names = ["x" * rng.randint(1, 30) + str(k) for k in range(rng.randint(1, 6))]
        yield [
            {n: "".join(rng.choices("ab =,$_", k=length)) for n in names} | {"i": str(i)}
            for i in range(count)
        ]


def test_every_name_in_the_figure_is_inside_it_and_apart_from_the_others(
    comparison, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(comparison.plots, "save", lambda figure, path: drawn.append(figure))
    for settings in grids():
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # matplotlib's, of axes that have no room
            comparison.draw(tmp_path / "x.png", made_up(comparison, settings, tmp_path))
            figure = drawn.pop()
            figure.canvas.draw()
        axis = figure.axes[0]
        labels = axis.get_yticklabels()
        boxes = [text.get_window_extent() for text in labels]
        assert len(boxes) == min(len(settings), comparison.DRAWN)
        texts = [*labels, axis.xaxis.label, axis._left_title]
        for box in (text.get_window_extent() for text in texts if text.get_text()):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        for upper, lower in itertools.pairwise(boxes):
            assert upper.y0 >= lower.y1
        assert axis.get_window_extent().width > figure.bbox.width / 4
        assert not any(text.get_parse_math() for text in labels)
        comparison.plots.plt.close(figure)


def test_of_many_settings_the_best_are_drawn(comparison, tmp_path, monkeypatch):
    settings = [{"a": str(i)} for i in range(comparison.DRAWN + 5)]
    for goal, first in (("max", 6), ("min", 1)):
        drawn = []
        monkeypatch.setattr(comparison.plots, "save", lambda f, _, drawn=drawn: drawn.append(f))
        comparison.draw(tmp_path / "x.png", made_up(comparison, settings, tmp_path, goal=goal))
        shown = [text.get_text() for text in drawn[0].axes[0].get_yticklabels()]
        assert shown[0] == f"{first}  a={first - 1}"
        assert len(shown) == comparison.DRAWN
        comparison.plots.plt.close(drawn[0])


class Page(HTMLParser):
    """The cells of the table, row by row, the links and the sources of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.sources, self.text, self.tags = [], [], [], "", set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name == "href"]
        self.sources += [value for name, value in attributes if name == "src"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_the_page_shows_every_setting_as_it_is_and_links_every_run(comparison, tmp_path):
    for k, settings in enumerate(grids()):
        folder = tmp_path / str(k)
        found = made_up(comparison, settings, folder)
        figure = comparison.draw(folder / "sweep.png", found)
        page = Page(comparison.html_page(found, figure))
        assert page.tags <= {
            *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "code", "div"),
            *("table", "tr", "th", "td", "a", "br", "img", "pre"),
        }  # no name of a user has become markup
        head, *rows = page.rows
        rows[-1] = rows[-1][: len(head)]  # what follows the table is not in it
        assert len(rows) == len(settings)
        shared = {n for n in settings[0] if len({s[n] for s in settings}) == 1}
        for setting, row in zip(settings, rows, strict=True):
            cells = dict(zip(head, row, strict=True))
            for name, value in setting.items():
                if len(settings) > 1 and name in shared:
                    assert f"{name}={value}" in page.text
                else:
                    assert cells[name] == value
            assert "seed 0 (failed)" in cells["runs"]
        assert len(page.links) == 2 * len(settings)
        for link in page.links:
            assert (folder / unquote(link)).is_file()
            assert not re.match(r"[a-z]+:|/", link)
        assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
        assert "<Error> & $x$" in page.text


def test_without_the_metric_there_is_no_figure_of_another_one(comparison, tmp_path):
    found = made_up(comparison, [{"a": "1"}, {"a": "2"}], tmp_path)
    assert comparison.draw(tmp_path / "sweep.png", found).stat().st_size > 1000
    other = found._replace(metric="loss", best=None)
    assert comparison.draw(tmp_path / "sweep.png", other) is None
    assert not (tmp_path / "sweep.png").exists()
    assert "<img" not in comparison.html_page(other, None)


def test_flags_are_parted_by_who_defines_them(loaded):
    split = loaded("scripts.sweep.settings").split_flags
    own = {"grid", "collect", "seed"}
    ours = ["--grid=a=1", "--collect", "--nocollect", "--seed=3", "-x", "word", "--"]
    theirs = {"--steps=3": ("steps", "3"), "--quick": ("quick", "true"), "--w=a=b": ("w", "a=b")}
    theirs["--empty="] = ("empty", "")
    for order in range(20):
        mixed = [*ours, *theirs]
        random.Random(order).shuffle(mixed)
        rest, fixed = split(["sweep", *mixed], own)
        assert rest == ["sweep", *(a for a in mixed if a in ours)]
        assert fixed == dict(theirs.values())


def test_a_missing_metric_is_told_after_the_first_run(program, tmp_path):
    # Without capsys: importing submitit closes the stream that absl's log had before it.
    sweep = program("sweep", "--program=toy", "--workdir=x", "--metric=acuracy")
    (run,) = (r for _, _, r in sweep.plan("toy", [{}], range(1), tmp_path))
    for name, told in (("first", 1), ("second", 0)):
        run.folder = Path(tmp_path / name)
        run.folder.mkdir()
        run.process = types.SimpleNamespace(poll=lambda: 0)
        summary = {"accuracy": 1.0, "not_finite": None, "words": "x", "list": [1.0]}
        (run.folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            assert run.ended()
        assert errors.getvalue().count("accuracy, not_finite.") == told
