"""Every alarm rings when what it warns of is made to happen, and not otherwise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import objectives, samplers, training
from ebm_jax.types import Objective
from experiments.run import alarms, loop, work_directory


def energy(params, x):
    return params["k"] * jnp.sum(x**2) / 2 + jnp.dot(params["b"], x)


def quartic(params, x):
    return energy(params, x) + jnp.sum(x**4)


def persistent(of=energy, make=samplers.mala, step_size=0.1, restart=0.0, burn_in=0):
    return objectives.persistent(
        of,
        functools.partial(make, step_size=step_size),
        num_steps=5,
        num_chains=64,
        buffer_size=128,
        initial=lambda params, key, indices: 3 * jax.random.normal(key, (len(indices), 2)),
        restart_fraction=restart,
        burn_in=burn_in,
    )


def satisfied(params, state, batch, key):
    """A margin that is satisfied after some updates: the gradient is then 0."""
    del key
    return jnp.mean(jax.nn.relu(0.5 - params["k"] + 0 * batch)), (state, {})


CASES = {
    "healthy": (persistent(), 0.01, None),
    "stuck": (persistent(step_size=100.0), 0.01, "the chains are stuck"),
    "non-finite": (
        persistent(quartic, samplers.ula, step_size=0.05), 0.01, "chains become non-finite",
    ),
    "stale": (persistent(restart=0.5, burn_in=3), 0.01, "restarted recently"),
    "exploding": (persistent(make=samplers.ula), 0.0, "data and chains has exploded"),
    "vanishing": (
        Objective(lambda params, key: (), satisfied), 0.1, "the gradients have vanished",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_sick_is_told_once_with_what_to_change(case, tmp_path, capsys):
    objective, rate, sentence = CASES[case]
    trainer = training.trainer(objective, optax.sgd(rate))
    # A negative k has no lowest energy: the chains fly away.
    k = {"vanishing": 0.0, "exploding": -0.5}.get(case, 1.0)
    params = {"k": jnp.asarray(k), "b": jnp.zeros(2)}
    state = trainer.init(params, jax.random.key(0))

    def batch(t):
        return np.random.default_rng(t).standard_normal((64, 2), np.float32) + 1

    options = {"num_steps": 40, "group": 4}
    loop.train(
        work_directory.Run(tmp_path), "", trainer, state, batch, jax.random.key(1), **options
    )
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("alarm: ")]
    if sentence is None:
        assert not told
        return
    (line,) = (line for line in told if sentence in line)
    assert line.startswith("alarm: training after update ")
    assert "--" in line or case == "stale"


def test_the_history_rings_what_the_training_rang(capsys):
    """Also in a part that was trained before a stop; each alarm once, where it rang first."""
    history = {
        "step": np.arange(25.0, 275, 25),
        "generative/acceptance_rate": np.array([0.5, 0.05, 0.5, 0.01, *[0.5] * 6]),
        "generative/energy_gap": np.array([1.0] * 8 + [np.nan, 500]),
        "generative/chains_nonfinite": np.full(10, np.nan),
        "loss": np.zeros(10),
    }
    watch = alarms.Watch("flow")
    rows = [{name: values[i] for name, values in history.items()} for i in range(10)]
    for number in range(10):
        watch.look(rows[: number + 1])
    told = capsys.readouterr().err.splitlines()
    found = alarms.in_history("flow", history)
    assert [f"alarm: {text}" for text in found] == told
    assert [text.split("; the")[0] for text in found] == [
        "flow after update 50: generative/acceptance_rate 0.05",
        "flow after update 250: generative/energy_gap 500",
    ]
