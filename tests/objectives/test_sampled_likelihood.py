import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import energies, samplers, training
from ebm_jax import objectives as cd
from ebm_jax.types import Sampler


def noise(params, key, indices):
    return jax.random.normal(key, (len(indices), 2))


make_ula = functools.partial(samplers.ula, step_size=0.1)
make_mala = functools.partial(samplers.mala, step_size=0.3)


def energy(params, x):
    return params["k"] @ x**2 / 2 + params["b"] @ x


PARAMS = {"k": jnp.array([1.0, 2.0]), "b": jnp.array([0.3, -0.1])}
# Without noise a chain is gradient descent, which NumPy can follow: no key decides where it goes.
make_descent = functools.partial(samplers.ula, step_size=0.1, noise_sigma=0.0)
STARTS = np.random.default_rng(1).normal(size=(32, 2)).astype(np.float32)
BATCH = jnp.array(np.random.default_rng(0).normal(size=(16, 2)), jnp.float32)


def statistics(x):
    """grad E with respect to the parameters, averaged: the sufficient statistics."""
    return {"k": np.mean(np.asarray(x) ** 2, 0) / 2, "b": np.mean(np.asarray(x), 0)}


def descend(start, num_steps):
    """Gradient descent on the energy, in NumPy: x - step_size (k x + b)."""
    x = np.asarray(start, np.float64)
    for _ in range(num_steps):
        x = x - 0.1 * (np.asarray(PARAMS["k"]) * x + np.asarray(PARAMS["b"]))
    return x


def at_starts(params, key, indices):
    return jnp.asarray(STARTS)[indices]


def update(objective, state, key):
    """Return the gradient, the state after and the metrics."""
    loss = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (_, (state, metrics)), gradient = loss(PARAMS, state, BATCH, key)
    return gradient, state, metrics


def assert_is_data_minus_chains(gradient, negatives):
    """No gradient flows through the chains: positives' statistics minus negatives'."""
    positive, negative = statistics(BATCH), statistics(negatives)
    for name in PARAMS:
        np.testing.assert_allclose(
            gradient[name], positive[name] - negative[name], rtol=1e-4, atol=1e-5
        )


def test_cd_gradient(key):
    objective = cd.contrastive_divergence(energy, make_descent, num_steps=5)
    gradient, _, _ = update(objective, (), key)
    assert_is_data_minus_chains(gradient, descend(BATCH, 5))


def test_short_run_gradient_and_its_two_keys(key):
    """The start and the chains use different keys: the first noise is not the start again."""
    objective = cd.short_run(energy, make_descent, num_steps=5, num_chains=32, initial=at_starts)
    gradient, _, _ = update(objective, (), key)
    assert_is_data_minus_chains(gradient, descend(STARTS, 5))

    # With a flat energy and unit noise, one step is start + noise: the variance doubles (it
    # would be four times as large if both were the same draw).
    def flat(energy):
        return samplers.ula(lambda x: 0.0 * energy(x), step_size=0.5)

    objective = cd.short_run(
        lambda params, x: x @ x / 2, flat, num_steps=1, num_chains=4000, initial=noise
    )
    _, _, metrics = update(objective, (), key)
    np.testing.assert_allclose(metrics["energy_negative"], 2.0, rtol=0.1)  # of two dimensions


def test_persistent_chains_go_on_in_their_own_slots(key):
    objective = cd.persistent(
        energy,
        make_descent,
        num_steps=3,
        num_chains=4,
        buffer_size=12,
        initial=at_starts,
        restart_fraction=0.0,
    )
    before = jax.jit(objective.init)(PARAMS, key)
    np.testing.assert_array_equal(before.chains.position, STARTS[:12])
    for seed in (9, 10):  # other slots, by the same rule
        gradient, after, metrics = update(objective, before, jax.random.key(seed))
        old, new = np.asarray(before.chains.position), np.asarray(after.chains.position)
        drawn = np.asarray(after.age) == 1
        assert drawn.sum() == 4
        np.testing.assert_array_equal(after.age, drawn)
        np.testing.assert_allclose(new[drawn], descend(old[drawn], 3), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(new[~drawn], old[~drawn])
        assert float(metrics["chains_restarted"]) == 0
        assert_is_data_minus_chains(gradient, descend(old[drawn], 3))


def test_every_slot_is_used_and_restarts_are_counted(key):
    objective = cd.persistent(
        energy,
        make_ula,
        num_steps=1,
        num_chains=8,
        buffer_size=32,
        initial=noise,
        restart_fraction=0.25,
    )
    state = start = jax.jit(objective.init)(PARAMS, key)
    step = jax.jit(objective.loss)
    restarted = []
    for i in range(60):
        _, (state, metrics) = step(PARAMS, state, BATCH, jax.random.key(i))
        restarted.append(float(metrics["chains_restarted"]))
    assert (np.asarray(state.chains.position) != np.asarray(start.chains.position)).any(1).all()
    assert abs(np.mean(restarted) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 480)


def test_burning_in_chains_run_but_do_not_count(key):
    """The gradient sees only the chains that were drawn often enough since their restart."""
    objective = cd.persistent(
        energy,
        make_descent,
        num_steps=3,
        num_chains=6,
        buffer_size=6,
        initial=at_starts,
        restart_fraction=0.0,
        burn_in=5,
    )
    first = jax.jit(objective.init)(PARAMS, key)
    assert (np.asarray(first.age) == 5).all()
    state = first._replace(age=jnp.array([0, 9, 4, 3, 5, 1]))
    moved = descend(STARTS[:6], 3)
    gradient, after, _ = update(objective, state, key)
    assert_is_data_minus_chains(gradient, moved[[1, 2, 4]])
    assert after.age.tolist() == [1, 10, 5, 4, 6, 2]
    np.testing.assert_allclose(after.chains.position, moved, rtol=1e-5, atol=1e-6)


def test_a_slot_keeps_what_its_number_says(key):
    """Restarts move a chain, not its class: the share of every class never drifts."""

    def joint(params, c):
        return energy(params, c["x"]) + c["y"]

    def initial(params, key, indices):
        return {"x": noise(PARAMS, key, indices), "y": indices % 3}

    objective = cd.persistent(
        joint,
        make_ula,
        num_steps=1,
        num_chains=4,
        buffer_size=9,
        initial=initial,
        restart_fraction=0.5,
    )
    state = jax.jit(objective.init)(PARAMS, key)
    step = jax.jit(objective.loss)
    for i in range(20):
        _, (state, _) = step(
            PARAMS, state, {"x": BATCH, "y": jnp.zeros(16, int)}, jax.random.key(i)
        )
    assert state.chains.position["y"].tolist() == [0, 1, 2] * 3


def test_energy_penalty(key):
    plain = cd.contrastive_divergence(energy, make_descent, num_steps=2)
    penalised = cd.contrastive_divergence(energy, make_descent, num_steps=2, energy_penalty=0.3)
    value, with_penalty = jax.jit(
        lambda: [objective.loss(PARAMS, (), BATCH, key)[0] for objective in (plain, penalised)]
    )()
    values = jax.jit(jax.vmap(energy, (None, 0)))
    squares = [np.mean(values(PARAMS, x) ** 2) for x in (BATCH, descend(BATCH, 2))]
    np.testing.assert_allclose(with_penalty - value, 0.3 * sum(squares), rtol=1e-4)


def test_broken_chains_are_counted_and_left_out(key):
    """One chain at NaN changes neither the loss nor the gradient of the others."""

    still = functools.partial(samplers.ula, step_size=1e-3, noise_sigma=0.0)

    objective = cd.persistent(
        energy, still, num_steps=1, num_chains=4, buffer_size=4, initial=noise, restart_fraction=0.0
    )
    state = jax.jit(objective.init)(PARAMS, key)
    broken = state.chains.position.at[2].set(jnp.nan)
    state = state._replace(chains=state.chains._replace(position=broken))

    # A restart would replace the broken chain before it runs; break it while it runs instead.
    def breaking(energy):
        sampler = still(energy)

        def step(key, state):
            state, info = sampler.step(key, state)
            return state._replace(position=state.position.at[0].set(jnp.inf)), info

        return sampler._replace(step=step)

    _, (after, metrics) = jax.jit(objective.loss)(PARAMS, state, BATCH, key)
    assert float(metrics["chains_restarted"]) == 0.25
    assert np.isfinite(after.chains.position).all()
    objective = cd.contrastive_divergence(energy, breaking, num_steps=1)
    gradient, _, metrics = update(objective, (), key)
    assert float(metrics["chains_nonfinite"]) == 1 / 16
    assert float(metrics["chains_ready"]) == 15 / 16
    sampler = still(functools.partial(energy, PARAMS))
    moved = jax.jit(lambda: sampler.step(key, sampler.init(BATCH))[0].position)()
    assert_is_data_minus_chains(gradient, np.asarray(moved)[1:])
    assert np.isfinite(metrics["loss"])


def test_no_chain_left_is_nan_not_zero(key):
    def all_broken(bound):
        sampler = make_ula(bound)
        return Sampler(
            sampler.init,
            lambda k, s: (s._replace(position=s.position * jnp.nan), sampler.step(k, s)[1]),
        )

    objective = cd.contrastive_divergence(energy, all_broken, num_steps=1)
    assert np.isnan(jax.jit(objective.loss)(PARAMS, (), BATCH, key)[0])


def test_a_nan_row_in_the_data_is_not_hidden(key):
    objective = cd.contrastive_divergence(energy, make_ula, num_steps=1)
    assert np.isnan(jax.jit(objective.loss)(PARAMS, (), BATCH.at[3].set(jnp.nan), key)[0])


@pytest.mark.parametrize("kind", ["persistent", "contrastive_divergence"])
@pytest.mark.sweep(1)
def test_training_reaches_maximum_likelihood(kind, key):
    """A Gaussian: the fit's mean and precision are the data's, exact MALA chains."""
    data = np.random.default_rng(1).normal([0.5, -1.0], [1.0, 0.5], size=(2000, 2))
    kwargs = {"num_steps": 10}
    if kind == "persistent":
        kwargs |= {"num_chains": 500, "buffer_size": 500, "initial": noise, "restart_fraction": 0.0}
    objective = getattr(cd, kind)(energies.gaussian, make_mala, **kwargs)
    trainer = training.trainer(objective, optax.adam(0.03), average_decay=0.98)
    params = energies.Gaussian(jnp.zeros(2), jnp.ones(2))
    batches = jnp.array(data[np.random.default_rng(2).integers(0, 2000, (500, 500))], jnp.float32)
    init_key, train_key = jax.random.split(key)
    state = jax.jit(trainer.init)(params, init_key)
    state, metrics = trainer.update(state, batches, train_key)
    np.testing.assert_allclose(state.average.mean, data.mean(0), atol=0.06)
    np.testing.assert_allclose(1 / state.average.precision, data.var(0), rtol=0.12)
    assert float(metrics["accepted"].mean()) > 0.5
    assert int(metrics["skipped_total"][-1]) == 0


def persistent(make_sampler, **options):
    defaults = {"num_steps": 3, "num_chains": 4, "buffer_size": 6, "restart_fraction": 0.0}
    return cd.persistent(energy, make_sampler, initial=noise, **defaults | options)


tempered = functools.partial(
    samplers.replica_exchange,
    make_sampler=functools.partial(samplers.mala, step_size=0.1),
    betas=[0.1, 0.4, 1.0],
)


def test_tempering_keeps_its_ladder_from_update_to_update(key):
    """The hot replicas of every slot continue from the previous update."""
    objective = persistent(tempered, num_chains=6, num_steps=1)
    state = jax.jit(objective.init)(PARAMS, key)
    step = jax.jit(objective.loss)
    for t in range(30):
        _, (state, _) = step(PARAMS, state, BATCH, jax.random.key(t))
    hot, cold = (np.asarray(state.chains.replicas.position)[i] for i in (0, -1))
    assert (np.abs(hot - cold) > 0.5).any(1).mean() > 0.5  # not where the cold chain is
    assert int(state.chains.step) == 30
    # The parameters change: the cached energies of the next update are the new ones.
    other = jax.tree.map(lambda p: 2 * p, PARAMS)
    _, (after, _) = step(other, state, BATCH, key)
    found = after.chains.replicas
    expected = jax.jit(jax.vmap(jax.vmap(functools.partial(energy, other))))(found.position)
    np.testing.assert_allclose(found.energy, expected, rtol=1e-5)


def test_schedules_and_velocities_go_on(key):
    seen = []

    objective = persistent(functools.partial(make_ula, beta=lambda step: 1.0 + step))
    state, step = jax.jit(objective.init)(PARAMS, key), jax.jit(objective.loss)
    for t in range(3):
        _, (state, metrics) = step(PARAMS, state, BATCH, jax.random.key(t))
        seen.append(float(metrics["beta"]))
    assert seen == [2.0, 5.0, 8.0]  # the means of 1 + step over steps 0-2, 3-5 and 6-8

    moving = functools.partial(samplers.baoab, step_size=0.1, friction=0.0)
    objective = persistent(moving, num_chains=6)
    state, step = jax.jit(objective.init)(PARAMS, key), jax.jit(objective.loss)
    for t in range(2):
        before = state
        _, (state, _) = step(PARAMS, state, BATCH, jax.random.key(t))
    # Without friction or restarts the energy of every chain is kept, its velocity included.
    kinetic, potential = (
        [np.sum(np.square(s.chains.velocity[0]), 1) / 2 for s in (before, state)],
        [np.asarray(s.chains.energy) for s in (before, state)],
    )
    assert np.abs(potential[1] - potential[0]).max() > 0.05
    np.testing.assert_allclose(potential[0] + kinetic[0], potential[1] + kinetic[1], atol=2e-2)


def test_a_restarted_chain_starts_with_all_its_state_new(key):
    objective = persistent(tempered, num_chains=6, num_steps=1, restart_fraction=0.5)
    state = jax.jit(objective.init)(PARAMS, key)
    far = jax.tree.map(lambda leaf: leaf, state.chains.replicas)._replace(
        position=100 + state.chains.replicas.position
    )
    state = state._replace(chains=state.chains._replace(replicas=far))
    _, (after, metrics) = jax.jit(objective.loss)(PARAMS, state, BATCH, key)
    x = np.asarray(after.chains.replicas.position)  # (temperatures, slots, 2)
    restarted = np.asarray(after.age) == 0
    assert 0 < restarted.sum() < 6
    assert float(metrics["chains_restarted"]) == pytest.approx(restarted.mean())
    assert (np.abs(x[:, restarted]) < 20).all()
    assert (np.abs(x[:, ~restarted]) > 20).all()


def test_a_replica_that_is_nan_restarts_its_chain(key):
    objective = persistent(tempered, num_chains=6, num_steps=1)
    state = jax.jit(objective.init)(PARAMS, key)
    hot = state.chains.replicas.position.at[0, 2].set(jnp.nan)
    replicas = state.chains.replicas._replace(position=hot)
    state = state._replace(chains=state.chains._replace(replicas=replicas))
    _, (after, metrics) = jax.jit(objective.loss)(PARAMS, state, BATCH, key)
    assert np.isfinite(after.chains.replicas.position).all()
    assert float(metrics["chains_restarted"]) == pytest.approx(1 / 6)


class Counted(NamedTuple):
    """The info of a sampler without randomness: every chain and step has numbers of its own."""

    accepted: jax.Array
    energy: jax.Array
    beta: jax.Array


def test_metrics_are_means_over_chains_and_steps(key):
    """Of what every step of every chain reports, averaged by NumPy."""

    def make_counter(energy):
        sampler = samplers.ula(energy, step_size=0.1, noise_sigma=0.0)

        def step(key, state):
            state, _ = sampler.step(key, state)
            chain, t = jnp.arange(len(state.position)), jnp.asarray(state.step)
            return state, Counted(0.01 * t * chain, t**2 - 1.0 * chain, 1.0 + t + 0 * chain)

        return sampler._replace(step=step)

    objective = cd.contrastive_divergence(energy, make_counter, num_steps=5)
    _, _, metrics = update(objective, (), key)
    chain, t = np.meshgrid(np.arange(16.0), np.arange(1.0, 6.0))
    np.testing.assert_allclose(metrics["accepted"], np.mean(0.01 * t * chain), rtol=1e-5)
    np.testing.assert_allclose(metrics["chain_energy"], np.mean(t**2 - chain), rtol=1e-5)
    np.testing.assert_allclose(metrics["beta"], np.mean(1 + t), rtol=1e-5)


def test_cd_is_that_of_its_sampler(key):
    """Noisy chains, too: the mean gradient over keys is that of the chains' exact distribution.

    From x a step of ULA goes to N(x - h grad E, 2 h): the second moments follow in closed form.
    600 keys of 16 chains, within 5 standard errors: a false alarm in 400,000 runs.
    """
    objective = cd.contrastive_divergence(energy, make_ula, num_steps=2)
    keys = jax.random.split(key, 600)
    gradient = jax.jit(
        jax.vmap(lambda k: jax.grad(lambda p: objective.loss(p, (), BATCH, k)[0])(PARAMS))
    )(keys)
    moved, k = descend(BATCH, 2), np.asarray(PARAMS["k"])
    variance = 0.2 * (1 + (1 - 0.1 * k) ** 2)
    positive = statistics(BATCH)
    expected = {"k": positive["k"] - np.mean(moved**2 + variance, 0) / 2}
    expected["b"] = positive["b"] - moved.mean(0)
    for name, found in gradient.items():
        error = np.std(found, 0) / np.sqrt(len(keys))
        assert (np.abs(np.mean(found, 0) - expected[name]) < 5 * error + 1e-5).all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_chains": 5}, r"\[1, buffer_size=4\], got 5"),
        ({"restart_fraction": 1.0, "burn_in": 1}, r"=1\.0 and burn_in=1 leave 0"),
    ],
)
def test_numbers_of_chains_that_cannot_work_are_refused(options, message):
    options = {"num_steps": 1, "num_chains": 2, "buffer_size": 4} | options
    with pytest.raises(ValueError, match=message):
        cd.persistent(jnp.sum, samplers.mala, initial=jnp.zeros, **options)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_energies_of_half_precision_are_summed_in_single(dtype, key):
    """1,000 energies near 100 add up to more than the largest float16."""

    def narrow(params, x):
        return (params * jnp.sum(x**2) + 100).astype(dtype)

    objective = cd.contrastive_divergence(narrow, make_descent, num_steps=1)
    value, (_, metrics) = objective.loss(1.0, (), jnp.zeros((1000, 2)), key)
    np.testing.assert_allclose(metrics["energy_positive"], 100, rtol=1e-6)
    np.testing.assert_allclose(value, 0, atol=1e-4)
