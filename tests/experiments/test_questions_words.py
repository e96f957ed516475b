import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import lettering

FEW = {
    "words": ["--steps=2", "--table_steps=1", "--test_words=12"],
    "loss_gallery": ["--steps=2", "--seeds=2", "--losses=energy", "--losses=nll"],
    "gibbs": ["--steps=2", "--langevin_steps=2"],
}


@pytest.mark.parametrize("name", FEW)
def test_the_program_runs_for_a_few_steps(name, tmp_path):
    command = [sys.executable, "-m", f"experiments.questions.{name}", f"--workdir={tmp_path}"]
    answer = subprocess.run(
        [*command, *FEW[name]],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stdout.strip().splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("jitter", [False, True])
def test_every_word_fits_its_image_and_its_windows(jitter):
    rng = np.random.default_rng(0)
    images = lettering.render(rng, rng.integers(1, 5, 500), longest=4, jitter=jitter)
    assert images.pixels.shape == (500, lettering.HEIGHT, 80)
    assert (images.num_windows >= 2 * images.length).all()
    assert (images.num_windows <= lettering.num_windows(80)).all()
    assert ((images.letters >= 0).sum(1) == images.length).all()


def test_one_font_draws_a_word_the_same_every_time():
    words = [
        lettering.render(np.random.default_rng(s), np.ones(40, int), longest=1, jitter=False)
        for s in (0, 1)
    ]
    first, second = (
        {int(w[0]): p for p, w in zip(x.pixels, x.letters, strict=True)} for x in words
    )
    shared = set(first) & set(second)
    assert len(shared) > 10
    assert all(np.array_equal(first[c], second[c]) for c in shared)
