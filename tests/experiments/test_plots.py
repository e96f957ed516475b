"""Names that come from the user are text wherever they are shown, never markup."""

import html.parser
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import plots
from experiments.data import image_sets, splits
from experiments.images import measures, report, sampling
from experiments.run import work_directory

NAMES = [
    *("$100%$", "$", "$x_1$", r"a\$b", r"$\frac$", "_hidden", "__", "a_b", "<b>&amp;</b>"),
    *("${flags}", "$flags", "$$", "%s", "{0}", "[red]x[/red]", "[/]", "Größe", "-"),
]


@pytest.fixture
def svg(monkeypatch, tmp_path):
    """Return what makes a figure -> the texts that are in it, in order."""

    def texts(figure):
        with plt.rc_context({"svg.fonttype": "none"}):
            figure.savefig(tmp_path / "figure.svg")
        plt.close(figure)
        root = ElementTree.parse(tmp_path / "figure.svg").getroot()
        return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]

    return texts


def test_a_legend_has_every_name_as_it_is(svg):
    figure, axis = plt.subplots()
    plots.show_histograms(axis, {n: np.arange(5.0) + i for i, n in enumerate(NAMES)}, "x")
    assert svg(figure)[-len(NAMES) :] == NAMES


def test_rows_have_every_name_as_it_is(svg):
    figure, axis = plt.subplots(figsize=(3, 9))
    plots.show_rows(axis, "title", np.zeros((len(NAMES), 2, 3, 3)), NAMES)
    assert [text for text in svg(figure) if text != "title"] == NAMES


def test_long_names_leave_room_for_the_figure(svg):
    figure, axis = plt.subplots(figsize=(3, 3))
    plots.show_rows(axis, "title", np.zeros((1, 2, 3, 3)), ["x" * 300])
    assert "x" * 23 + "…" in svg(figure)
    assert axis.get_position().width > 0.2


def results(**changes):
    """What the report of a small run is made of: a class and an outlier of every name."""
    rng = np.random.default_rng(0)
    count = len(NAMES)
    x, y = rng.random((4 * count, 4)).astype(np.float32), np.repeat(np.arange(count), 4)
    images = image_sets.Images(splits.Split(x, y, x, y), (2, 2), list(NAMES), ink=False)
    samples = sampling.Samples(x[::4], y[::4], x[None, ::4], 10, 1.0, 1.0)
    inpainted = measures.Inpainted(np.arange(0, 4 * count, 2), np.arange(4) > 1, x[::2], None)
    given = {
        "classes": lambda x: 3 * (x[:, :1] - np.linspace(0, 1, count)) ** 2,
        "images": images,
        "outliers": {name: rng.random((6, 4)) for name in NAMES},
        "loss": "nll",
        "history": {"step": np.array([1, 2]), "skipped_total": np.zeros(2)},
        "samples": samples,
        "inpainted": inpainted,
        "likelihood": {},
        "sampler": "mala",
        "flows": False,
        "judge": (lambda x: np.zeros(len(x)), lambda x: x),
        "alarms": [],
    }
    return measures.Results(**given | changes)


class Page(html.parser.HTMLParser):
    """The text of a page, and that of the cells of its tables."""

    def __init__(self, page):
        super().__init__()
        self.text, self.cells, self.in_cell = "", [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "td":
            self.in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self.in_cell = False if tag == "td" else self.in_cell

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.cells[-1] += data


@pytest.fixture
def written(tmp_path, capsys):
    """Return (results, data set) -> the report as text, its page, what was said, the summary."""

    def write(found, which="digits"):
        targets = measures.TARGETS.get(which, {})
        run = work_directory.Run(tmp_path / "$run", "--data=$data\n--loss=<b>\n")
        report.write(run, found, which, targets)
        page = (tmp_path / "$run" / "report.html").read_text(encoding="utf-8")
        return Page(page), page, capsys.readouterr()

    return write


def test_the_report_fits_a_phone_and_a_screen(written, opened, tmp_path):
    written(results(), "digits")
    for width in (390, 1280):
        opened.visit((tmp_path / "$run" / "report.html").as_uri(), width)
        assert opened.evaluate("document.images.length") == 5
        assert opened.problems() == []


@pytest.mark.filterwarnings("error")  # such as that a figure has no room
def test_the_report_has_every_name_as_it_is(written):
    page, _, said = written(results(), "$data")
    for name in NAMES:
        assert f"AUROC of F(x), test images against {name}" in page.cells
        assert f"auroc_{name} " in said.err
    assert f"one row per class ({', '.join(NAMES)})" in " ".join(page.text.split())
    assert "One energy on $data" in page.text
    assert "--data=$data\n--loss=<b>" in page.text


GOOD = {
    **{"accuracy": 0.98, "judge_accuracy": 0.95, "auroc_noise": 1.0},
    **{"one_nn": 0.8, "one_nn_samples": 0.85, "one_nn_test": 0.75},
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"accuracy": 0.4}, "classifies 40% of the test images correctly. Guessing .* about 25%"),
        ({"accuracy": np.nan}, "classifies nan%"),
        ({"judge_accuracy": 0.45}, "right for only 45% of the test images"),
        ({"one_nn": 0.99}, "tells 99% of the samples and test images apart"),
        (
            {"one_nn": 0.5, "one_nn_samples": 0.0, "one_nn_test": 1.0},
            "tells 50% of them apart: it recognises 0% of the samples and 100% of the test images",
        ),
        ({"auroc_noise": 0.5}, "does not separate noise images .* its AUROC is 0.50"),
        ({"auroc_held_out": 0.7}, "does not separate held-out images .* its AUROC is 0.70"),
    ],
)
def test_the_report_says_which_measures_are_poor(changed, said):
    assert report.cautions(GOOD, 4) == []
    one_class = {name: value for name, value in GOOD.items() if "accuracy" not in name}
    assert report.cautions(one_class, 1) == []
    (sentence,) = report.cautions(GOOD | changed, 4)
    assert re.search(said, sentence)


def test_the_report_shows_warnings_only_where_there_are_some(written, monkeypatch):
    found = results(outliers={"noise": np.random.default_rng(1).random((6, 4))})
    source = written(found, "$data")[1]
    assert 'class="warnings" >' in source
    assert "Guessing would classify about 6%" in source
    monkeypatch.setattr(report, "cautions", lambda summary, num_classes: [])
    assert 'class="warnings" hidden' in written(found, "$data")[1]


def test_the_report_marks_missed_targets_and_shows_alarms(written):
    """Here the judge agrees with one sample of 18; uniform noise is told apart by chance."""
    outliers = {"noise": np.random.default_rng(1).random((50, 4))}
    page, source, said = written(results(alarms=["stuck <chains>."], outliers=outliers))
    assert "Alarm: stuck <chains>." in page.text
    assert "alarm: stuck <chains>." in said.err
    assert "hidden>" not in source
    row = page.cells.index(measures.MEASURES["label_agreement"])
    assert page.cells[row : row + 3] == [page.cells[row], "0.05556", ">= 0.95 missed"]
    assert "0.056of the samples: an independent classifier finds the intended class" in page.text
    assert "(18 samples)" in page.text
    seconds = page.cells.index(measures.MEASURES["seconds"])
    assert page.cells[seconds + 2] == "<= 45"
    assert "label_agreement │ 0.05556 │ >= 0.95 missed" in " ".join(said.err.split())
    assert said.out.splitlines()[-1].startswith("{")


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        *((1.0, ">= 1", True), (0.99, ">= 1", False), (1, "<= 1", True), (2, "<= 1", False)),
        *((np.nan, ">= 0", False), (np.nan, "<= 0", False)),
    ],
)
def test_a_target_is_met_or_missed(value, target, met):
    assert measures.meets(value, target) == met
