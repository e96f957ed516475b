import numpy as np
import pytest

from experiments.questions import lettering


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
