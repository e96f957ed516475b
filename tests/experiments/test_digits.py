"""The main job: its energy and chains are what they say; it runs, refuses and reports."""

import base64
import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from PIL import Image

from experiments import data, digits_model, digits_report, loss_table

pytestmark = pytest.mark.usefixtures("quick_compilation")
QUICK = (
    "--steps=3",
    "--hidden=8",
    "--langevin_steps=2",
    "--sample_steps=10",
    "--chains=16",
    "--capacity=128",
    "--betas=3",
)


def test_chains_keep_the_proportions_of_the_classes():
    train_y = np.repeat([2, 0, 1], [10, 60, 30])
    initial = digits_model.from_noise(train_y, 200, None)
    start = initial(None, jax.random.key(0), jnp.arange(200))
    assert np.bincount(start["y"]).tolist() == [120, 60, 20]
    assert start["x"].shape == (200, 64)
    again = initial(None, jax.random.key(1), jnp.array([0, 199]))
    assert again["y"].tolist() == [0, 2]


def test_the_joint_energy_is_bounded_by_its_reference():
    """Far from the data the energy grows like the Gaussian's, whatever the network says."""
    model = digits_model.make_model(np.full((3, 64), 0.5, np.float32), 10, 8, noise=0.1)
    params = model.network.init(jax.random.key(0), jnp.zeros(64))
    far = model.classes(params, jnp.full(64, 10.0))
    np.testing.assert_allclose(far, 0.5 * 64 * 9.5**2 / 0.1**2, rtol=0.01)
    joint = model.joint(params, {"x": jnp.zeros(64), "y": 3})
    np.testing.assert_allclose(joint, model.classes(params, jnp.zeros(64))[3])


def test_the_noise_of_a_batch_is_its_own(program):
    """Fresh at every number, the same when asked again, of the stated size, and not the order's."""
    digits = program("digits")
    split = data.digits()
    batch = digits.batches(split, data_noise=0.5, seed=3)
    first, second = batch(0), batch(1)
    again = digits.batches(split, data_noise=0.5, seed=3)(1)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, second))
    clean = data.batches((split.train_x, split.train_y), batch_size=digits.BATCH, seed=3)
    noise = []
    for number, found in enumerate((first, second)):
        x, y = clean(number)
        np.testing.assert_array_equal(found["configuration"]["y"], y)
        np.testing.assert_array_equal(found["labelled"][1], y)
        noise += [found["configuration"]["x"] - x, found["labelled"][0] - x]
    for values, size in zip(noise, (0.5, digits.CLASSIFIER_NOISE) * 2, strict=True):
        assert values.std() == pytest.approx(size, rel=0.05)
    correlations = np.corrcoef([values.ravel() for values in noise])
    assert np.abs(correlations - np.eye(4)).max() < 0.05  # 6 standard deviations


def pictures(page):
    """Return the pictures that a page holds, opened."""
    found = re.findall(r'src="data:image/(?:png|gif);base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_short_run_writes_everything(program, tmp_path, capsys):
    digits = program("digits", *QUICK, f"--workdir={tmp_path}", "--hold_out_class=4")
    digits.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    for name in ("accuracy", "auroc_noise", "auroc_shuffled", "auroc_inverted", "auroc_held_out"):
        assert 0 <= summary[name] <= 1
    assert set(summary) <= {*digits_report.MEASURES, "report"}
    assert all(np.isfinite(summary[name]).all() for name in digits_report.MEASURES)
    low, high = summary["nats_interval"]
    assert low <= summary["nats"] <= high
    assert (tmp_path / "samples.png").stat().st_size > 5000
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3
    assert "generative/energy_gap" in lines[-1]
    assert "--hold_out_class=4" in (tmp_path / "flags.txt").read_text()
    (events,) = (tmp_path / "tensorboard").glob("events*")
    for name in (b"generative/energy_gap", b"samples", b"free_energy/held_out"):
        assert name in events.read_bytes()
    page = (tmp_path / "report.html").read_text()
    assert summary["report"] == str(tmp_path / "report.html")
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script', page)  # all of it inside
    film, *_ = shown = pictures(page)
    assert [picture.size for picture in shown[:3]] == [(160, 90)] * 3
    assert len(shown) == page.count("<img") == 7
    assert film.format == "GIF"
    assert film.n_frames == 11  # the start, and each of ten steps
    assert f"<td>{summary['auroc_held_out']:.4g}</td>" in page
    assert "--hold_out_class=4" in page


def test_the_pictures_show_the_ink():
    ink = np.zeros((1, 2, 3, 3))
    ink[0, 1, 1, 1] = 1
    (picture,) = pictures(f'src="{digits_report.embedded("png", digits_report.plots.png(ink))}"')
    pixels = np.asarray(picture)
    assert pixels.shape == (5, 10)
    assert pixels[2, 7] == 0
    assert (np.delete(pixels.ravel(), 2 * 10 + 7) == 255).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--hold_out_class=10"], r"--hold_out_class=10.* \[-1, 9\]"),
        (["--chains=99", "--capacity=9"], "--chains cannot exceed the --capacity"),
        (["--restart=1.5"], "--restart=1.5: must be a finite number from 0 to 1"),
        (["--sample_steps=11"], "must be a multiple of 10"),
        (["--data_noise=0"], "--data_noise=0.0: must be a finite number from 0.001"),
        (["--learning_rate=nan"], "--learning_rate=nan: must be a finite number"),
        (["--generative_weight=inf"], "--generative_weight=inf: must be a finite number"),
        (["--margin=nan"], "--margin=nan: must be a number >= 0"),
        (["--seed=12345678901234567890"], "not an integer in the range"),
        (["--loss=hing"], f"hing.*<{'.'.join(loss_table.NAMES)}>"),
    ],
)
def test_bad_flags_are_refused_before_any_work(program, given, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        program("digits", "--workdir=/proc/none", *given)


def test_an_infinite_margin_learns_nothing_and_says_so(program, tmp_path):
    given = (*QUICK, f"--workdir={tmp_path}", "--loss=hinge", "--margin=inf")
    with pytest.raises(FloatingPointError, match="Nothing was learnt"):
        program("digits", *given).main()
    assert not (tmp_path / "summary.json").exists()
