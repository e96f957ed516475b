"""One call for samples is the composition of its parts, bit for bit."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ebm_jax
from ebm_jax import samplers
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.types import Sampler

CHAINS = 5


def energy(x):
    return jnp.sum(x**2) / 2 + jnp.sum(jnp.cos(3 * x))


def vmapped(kernel):
    def step(key, state):
        return jax.vmap(kernel.step)(jax.random.split(key, CHAINS), state)

    return Sampler(jax.vmap(kernel.init), step)


def blackjax_hmc():
    blackjax = pytest.importorskip("blackjax")
    return vmapped(blackjax.hmc(lambda x: -energy(x), 0.3, jnp.ones(2), 3))


def rbm():
    weights = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    return samplers.rbm_gibbs(RBM(jnp.asarray(weights), jnp.zeros(2), jnp.zeros(3)))


MAKERS = {
    "ula": lambda: samplers.ula(energy, step_size=0.1),
    "mala": lambda: samplers.mala(energy, step_size=0.3),
    "baoab": lambda: samplers.baoab(energy, step_size=0.3, friction=1.0),
    "rbm": rbm,
    "tempering": lambda: samplers.replica_exchange(
        energy, functools.partial(samplers.mala, step_size=0.3), [0.3, 1.0]
    ),
    "hmc of blackjax": blackjax_hmc,
}


def start(name):
    x = np.random.default_rng(1).normal(size=(CHAINS, 2))
    return x > 0 if name == "rbm" else x.astype(np.float32)


@functools.partial(ebm_jax.jit, static_argnums=(1, 3, 4, 5))
def by_hand(key, sampler, positions, num_samples, warmup, thin):
    warmup_key, run_key = jax.random.split(key)
    state = sampler.init(positions)
    if warmup:
        state, _ = samplers.run(warmup_key, sampler, state, warmup)
    state, (position, info) = samplers.run(
        run_key,
        sampler,
        state,
        num_samples * thin,
        thin=thin,
        collect=lambda state, info: (state.position, info),
    )
    return position, info, state


def assert_same_bits(key, name, num_samples, warmup, thin):
    sampler, x = MAKERS[name](), start(name)
    found = ebm_jax.sample(key, sampler, x, num_samples, warmup=warmup, thin=thin)
    assert isinstance(found, samplers.Samples)
    expected = by_hand(key, sampler, x, num_samples, warmup, thin)
    jax.tree.map(np.testing.assert_array_equal, tuple(found), expected)
    assert found.position.shape == (num_samples, *x.shape)
    assert found.position.dtype == x.dtype
    assert {leaf.shape[0] for leaf in jax.tree.leaves(found.info)} == {num_samples}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "tempering" else n for n in MAKERS],
)
@pytest.mark.sweep(2)
def test_the_same_bits_as_the_composition(name, key):
    assert_same_bits(key, name, 4, warmup=3, thin=2)


@pytest.mark.parametrize(("warmup", "thin"), [(0, 1), (3, 2)])
@pytest.mark.sweep(1)
def test_the_same_bits_as_a_user_compiles_them(warmup, thin, key, optimised):
    assert_same_bits(key, "mala", 3, warmup, thin)


def test_the_parts_are_those_of_steps_written_out(key):
    """Step by step without a scan: warm-up and run have a key each, step t the key of t."""
    sampler, x = MAKERS["mala"](), start("mala")
    found = ebm_jax.sample(key, sampler, x, 2, warmup=3, thin=2)
    warmup_key, run_key = jax.random.split(key)
    state, step = sampler.init(x), jax.jit(sampler.step)
    for t in range(3):
        state, _ = step(jax.random.fold_in(warmup_key, t), state)
    for t in range(4):
        state, info = step(jax.random.fold_in(run_key, t), state)
        if t % 2:
            np.testing.assert_allclose(found.position[t // 2], state.position, rtol=1e-5)
            np.testing.assert_array_equal(found.info.accepted[t // 2], info.accepted)
    np.testing.assert_array_equal(found.state.position, found.position[-1])


def test_the_same_sampler_compiles_once(key):
    traces = []

    def counted(x):
        traces.append(x)
        return energy(x)

    sampler = samplers.mala(counted, step_size=0.1)
    for i in range(3):
        x = jnp.full((CHAINS, 2), float(i))
        ebm_jax.sample(jax.random.fold_in(key, i), sampler, x, 4, warmup=2)
        if i == 0:
            of_one = len(traces)
    assert len(traces) == of_one > 0


def parametric(scale):
    return samplers.mala(lambda x: scale * energy(x), step_size=0.1)


def drawn(key, scale, x):
    return ebm_jax.sample(key, parametric(scale), x, 3, warmup=2).position


@pytest.mark.slow
def test_it_nests_in_jit_and_vmap_with_an_energy_that_is_traced(key):
    x, scales = jnp.asarray(start("mala")), jnp.array([0.5, 3.0])
    alone = [drawn(key, float(s), x) for s in scales]
    for many in (
        jax.vmap(lambda s: drawn(key, s, x))(scales),  # only the closure is traced
        jax.jit(jax.vmap(lambda s: drawn(key, s, x)))(scales),
        jnp.stack([jax.jit(drawn)(key, s, x) for s in scales]),
    ):
        np.testing.assert_allclose(many, alone, rtol=1e-4, atol=1e-5)


def test_it_nests_in_grad(key):
    """d x_T / d x_0 of ULA on k x^2 / 2 is (1 - h k)^T, and so is what k does to it."""

    def last(k, x):
        sampler = samplers.ula(lambda x: k * jnp.sum(x**2) / 2, step_size=0.1, noise_sigma=0.0)
        return ebm_jax.sample(key, sampler, x, 5).position[-1].sum()

    by_k, by_x = jax.grad(last, (0, 1))(2.0, jnp.ones((1, 1)))
    np.testing.assert_allclose(by_x, 0.8**5, rtol=1e-5)
    np.testing.assert_allclose(by_k, -0.1 * 5 * 0.8**4, rtol=1e-5)


def test_it_nests_in_shard_map(key):
    mesh = jax.make_mesh((1,), ("chains",), axis_types=(jax.sharding.AxisType.Auto,))
    spec, sampler = jax.sharding.PartitionSpec("chains"), MAKERS["ula"]()
    x = jnp.asarray(start("ula"))

    def local(x):
        return ebm_jax.sample(key, sampler, x, 3).state.position

    found = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec))(x)
    expected = ebm_jax.sample(key, sampler, x, 3).state.position
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_chains_on_devices_stay_there(key):
    mesh = jax.make_mesh((1,), ("chains",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chains"))
    x = jax.device_put(start("ula"), sharding)
    found = ebm_jax.sample(key, MAKERS["ula"](), x, 3)
    np.testing.assert_array_equal(
        found.position, ebm_jax.sample(key, MAKERS["ula"](), start("ula"), 3).position
    )


def test_positions_are_pytrees(key):
    sampler = samplers.ula(lambda x: jnp.sum(x["u"] ** 2) + x["v"] ** 2, step_size=0.1)
    found = ebm_jax.sample(key, sampler, {"u": jnp.ones((3, 2)), "v": np.ones(3, np.float32)}, 4)
    assert jax.tree.map(jnp.shape, found.position) == {"u": (4, 3, 2), "v": (4, 3)}
    state, _ = samplers.run(key, sampler, found.state, 2)  # it continues
    assert int(state.step) == 6


class Counter(NamedTuple):
    init: Any
    step: Any


def test_what_cannot_be_hashed_or_has_no_position_is_refused(key):
    bare = Counter(lambda x: x, lambda k, x: (x, x))
    with pytest.raises(TypeError, match="states with a field position"):
        ebm_jax.sample(key, bare, jnp.ones(3), 2)

    class Unhashable(list):
        def __call__(self, x):
            return x

    with pytest.raises(TypeError, match="sampler must be hashable"):
        ebm_jax.sample(key, Counter(Unhashable(), bare.step), jnp.ones(3), 2)
