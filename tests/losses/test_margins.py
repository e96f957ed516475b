import functools

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import losses
from ebm_jax.losses.margins import margin_condition


def over_two(loss):
    """Turn a loss over candidates into one of the right and the only wrong answer."""
    return lambda right, wrong: loss(
        jnp.stack(jnp.broadcast_arrays(right, wrong), axis=-1),
        jnp.zeros(jnp.broadcast_shapes(right.shape, wrong.shape), int),
    )


TABLE = {
    "energy": (losses.energy, False, 0.0),
    "perceptron": (over_two(losses.perceptron), False, 0.0),
    "lvq2": (losses.lvq2, False, 0.0),
    "hinge": (losses.hinge, True, 1.0),
    "hinge, margin 2.5": (functools.partial(losses.hinge, margin=2.5), True, 2.5),
    "log": (losses.log, True, np.inf),
    "mce": (losses.mce, True, np.inf),
    "simple": (losses.simple, True, 1.0),
    "square_square": (losses.square_square, True, 1.0),
    "square_square, 2": (functools.partial(losses.square_square, margin=2.0), True, 2.0),
    "square_square, LeCun": (functools.partial(losses.square_square, one_sided=False), True, 1.0),
    "square_exponential": (losses.square_exponential, True, np.inf),
    "nll": (over_two(losses.nll), True, np.inf),
    "mee": (over_two(losses.mee), True, np.inf),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_lecun_et_al(name):
    loss, satisfied, margin = TABLE[name]
    assert margin_condition(loss) == (satisfied, margin)


def test_a_hinge_without_margin_is_the_perceptron():
    assert margin_condition(functools.partial(losses.hinge, margin=0.0)) == (False, 0.0)


def test_the_wrong_sign_of_square_square_never_satisfies_it():
    def misprint(right, wrong):
        return right**2 - jnp.maximum(0, 1 - wrong) ** 2

    assert not margin_condition(misprint).satisfied


@pytest.mark.parametrize(("lowest", "margin"), [(0.0, 1.0), (-3.0, 1.0)])
def test_restricting_the_feasible_energies_keeps_the_margin(lowest, margin):
    assert margin_condition(losses.simple, lowest=lowest) == (True, margin)
