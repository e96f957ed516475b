"""What running costs, without a clock: memory, compilations, devices."""

import functools
import json
import os
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import pytest

import ebm_jax
from ebm_jax import samplers

SAMPLERS = {
    "ula": functools.partial(samplers.ula, step_size=0.1),
    "mala": functools.partial(samplers.mala, step_size=0.1),
    "baoab": functools.partial(samplers.baoab, step_size=0.1, friction=1.0),
    "tempered": lambda energy: samplers.replica_exchange(
        energy, functools.partial(samplers.mala, step_size=0.1), [0.3, 1.0]
    ),
}


def energy(x):
    return jnp.sum(x**2) / 2


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.sweep(1)
def test_memory_does_not_grow_with_the_number_of_steps(make):
    def memory(num_steps, collect=None):
        sampler = make(energy)

        def run(key, x):
            state, kept = samplers.run(key, sampler, sampler.init(x), num_steps, collect=collect)
            return state.position, kept

        found = ebm_jax.jit(run).lower(jax.random.key(0), jnp.zeros((50, 2))).compile()
        analysis = found.memory_analysis()
        return analysis.temp_size_in_bytes + analysis.output_size_in_bytes

    assert memory(10) == memory(10_000)
    history = memory(1000, collect=lambda state, info: state.position)
    assert history >= 1000 * 50 * 2 * 4  # the analysis does see what is kept


def test_one_compilation_whatever_the_values():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(params, key, x, step_size, beta):
        make = functools.partial(samplers.mala, step_size=step_size, beta=beta)
        sampler = make(lambda x: jnp.sum(params * x**2))
        return samplers.run(key, sampler, sampler.init(x), 3)[0].position

    x = jnp.zeros((5, 2))
    for value in (0.1, 0.2, 0.3):
        run(jnp.full(2, value), jax.random.key(0), x, jnp.asarray(value), jnp.asarray(1 / value))


def test_one_compilation_whatever_the_ladder():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(key, x, betas):
        sampler = samplers.replica_exchange(energy, SAMPLERS["mala"], betas)
        return samplers.run(key, sampler, sampler.init(x), 3)[0].position

    for betas in ([0.1, 1.0], [0.5, 1.0]):
        run(jax.random.key(0), jnp.zeros((5, 2)), jnp.asarray(betas))


@pytest.fixture(scope="module")
def in_two_devices():
    """Run every function of PROGRAM in one process of two devices; name -> what it raised."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env=os.environ
        | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    return json.loads(ended.stdout.splitlines()[-1])


PROGRAM = """
    import functools, json, re, traceback
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    import optax
    import ebm_jax
    from ebm_jax import objectives, samplers, training
    from ebm_jax.energies import boltzmann, lattice, pairwise, potts

    assert len(jax.devices()) == 2
    centres = 4 * jax.random.normal(jax.random.key(2), (8, 2))

    def energy(x):  # jax 0.10's own logsumexp refuses Explicit axes
        squares = jnp.sum((x - centres) ** 2, axis=-1) / 2
        least = jnp.min(squares)
        return least - jnp.log(jnp.sum(jnp.exp(least - squares)))

    mala = functools.partial(samplers.mala, step_size=0.1)

    x = jax.random.normal(jax.random.key(1), (512, 2))

    def halves(axis_type):
        mesh = jax.make_mesh((2,), ("chains",), axis_types=(axis_type,))
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec("chains")))

    several = (
        samplers.ula(energy, step_size=0.1, bounds=(-9.0, 9.0)),
        mala(energy),
        samplers.sgld(lambda key, x: jax.grad(energy)(x), step_size=0.1),
        samplers.baoab(energy, step_size=0.1, friction=1.0),
        samplers.replica_exchange(energy, mala, [0.5, 1.0]),
    )

    def run(key, x, num_steps):
        return [samplers.run(key, s, s.init(x), num_steps)[0].position for s in several]

    def same_chains():
        split, jitted = halves(AxisType.Auto), ebm_jax.jit(run, static_argnums=2)
        program = jitted.lower(jax.random.key(0), split, 100).compile()
        all_one, all_two = jitted(jax.random.key(0), x, 100), program(jax.random.key(0), split)
        for one, two in zip(all_one, all_two):
            assert len(two.sharding.device_set) == 2, two.sharding
            np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
        for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
            assert collective not in program.as_text(), collective

    def explicit_axes():
        jax.config.update("jax_disable_most_optimizations", True)  # no bit of it is compared
        split = halves(AxisType.Explicit)
        jitted = jax.jit(run, static_argnums=2)
        expected = jitted(jax.random.key(0), x, 5)
        for all_found in (run(jax.random.key(0), split, 5), jitted(jax.random.key(0), split, 5)):
            for found, right in zip(all_found, expected):
                assert len(found.sharding.device_set) == 2
                np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)

        trainer = training.trainer(objectives.push_down(lambda p, x: p @ x), optax.sgd(0.1))
        state = trainer.init(jnp.zeros(2), jax.random.key(0))
        try:
            trainer.step(state, split, jax.random.key(0))
        except ValueError as error:
            assert "Explicit mesh axes ['chains']: training needs Auto" in str(error)
        else:
            raise AssertionError

    def explicit_axes_of_discrete():
        jax.config.update("jax_disable_most_optimizations", True)
        weights = jnp.array([0.3, -0.2, 0.5, 0.1])
        three = lambda x: jnp.sum(weights * x) + 0.3 * jnp.sum(x[1:] * x[:-1])
        unit, flat = jnp.zeros((8, 4), jnp.int8), jnp.zeros((8, 4, 4), jnp.int8)
        dense = potts.DensePotts(jnp.ones((4, 2, 4, 2)), jnp.zeros((4, 2)))
        graph = pairwise.Pairwise(weights[:2], weights)
        sparse = pairwise.Pairwise(weights[:2], jnp.zeros((4, 3)))
        cases = (
            (samplers.checkerboard_gibbs(lattice.Ising(0.4), beta=jnp.arange(8.0)), flat + 1),
            (samplers.checkerboard_gibbs(lattice.Potts(0.4, weights[:3])), flat),
            (samplers.rbm_gibbs(boltzmann.RBM(jnp.ones((4, 3)), weights, jnp.zeros(3))), unit),
            (samplers.graph_gibbs(graph, [(0, 1), (1, 2)], beta=jnp.arange(8.0)), unit),
            (samplers.graph_gibbs(sparse, [(0, 1), (1, 2)]), unit),
            (samplers.systematic_scan_gibbs(three, values=(-1, 0, 1), block_size=2), unit),
            (samplers.dense_potts_gibbs(dense), unit),
            (samplers.gibbs_with_gradients(three), unit),
            (samplers.dmala(three, step_size=0.5, values=(-1, 0, 1)), unit),
        )
        mesh = jax.make_mesh((2,), ("chains",), axis_types=(AxisType.Explicit,))
        by_chains = NamedSharding(mesh, PartitionSpec("chains"))
        for sampler, x in cases:
            go = jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 5)[0].position)
            two = go(jax.random.key(0), jax.device_put(x, by_chains))
            assert len(two.sharding.device_set) == 2
            np.testing.assert_array_equal(two, go(jax.random.key(0), x))
            assert np.asarray(two).any()

    def shard_map():
        def tune(key, x):
            tuned = samplers.adapt_step_size(key, energy, samplers.mala, x, 50, initial=0.1)
            return tuned.step_size[None]

        mesh = jax.make_mesh((2,), ("chains",), axis_types=(AxisType.Auto,))
        by_chains = PartitionSpec("chains")
        each = jax.shard_map(
            tune, mesh=mesh, in_specs=(PartitionSpec(), by_chains), out_specs=by_chains
        )
        found, alone = jax.jit(each)(jax.random.key(0), x), jax.jit(tune)
        for half, step_size in zip((x[:256], x[256:]), found):
            np.testing.assert_allclose(step_size, alone(jax.random.key(0), half)[0], rtol=1e-3)

    def training_keeps_chains():
        def shifted(params, x):
            return energy(x - params)

        objective = objectives.persistent(
            shifted,
            mala,
            num_steps=3,
            num_chains=64,
            buffer_size=512,
            groups=2,
            initial=lambda params, key, indices: jax.random.normal(key, (len(indices), 2)),
            restart_fraction=0.05,
        )
        trainer = training.trainer(objective, optax.sgd(0.0))
        state = trainer.init(jnp.zeros(2), jax.random.key(0))
        mesh = jax.make_mesh((2,), ("chains",), axis_types=(AxisType.Auto,))

        def share(leaf):
            spec = PartitionSpec("chains") if leaf.shape[:1] == (512,) else PartitionSpec()
            return jax.device_put(leaf, NamedSharding(mesh, spec))

        split, batches = jax.tree.map(share, state), x[None].repeat(20, 0)
        shared = jax.device_put(batches, NamedSharding(mesh, PartitionSpec(None, "chains")))

        def several(state, batches, key):
            return jax.lax.scan(lambda s, b: trainer.step(s, b, key), state, batches)

        compiled = jax.jit(several).lower(split, shared, jax.random.key(1)).compile()
        program = compiled.as_text()
        kinds = set(re.findall(r"(all-gather|all-to-all|collective-permute)", program))
        assert not kinds, kinds
        sums = re.findall(' all-reduce[(].*op_name=.([^ ]*)', program)
        # Gradients and means are summed once an update, not at every step of the chains.
        assert {name.count("while/body") for name in sums} == {1}, sums
        one = jax.jit(several)(state, batches, jax.random.key(1))[0].objective
        two = compiled(split, shared, jax.random.key(1))[0].objective
        assert two.chains.position.sharding.spec == PartitionSpec("chains")
        jax.tree.map(np.testing.assert_array_equal, one, two)

    raised = {}
    for part in (
        same_chains, training_keeps_chains, explicit_axes, explicit_axes_of_discrete, shard_map
    ):
        try:
            part()
            raised[part.__name__] = None
        except Exception:
            raised[part.__name__] = traceback.format_exc()
    print(json.dumps(raised))
"""


@pytest.mark.slow
def test_two_devices_make_the_same_chains_to_the_bit(in_two_devices):
    assert in_two_devices["same_chains"] is None


@pytest.mark.slow
def test_explicit_axes(in_two_devices):
    """Explicit meshes, jitted or not; in training they are refused."""
    assert in_two_devices["explicit_axes"] is None
    assert in_two_devices["explicit_axes_of_discrete"] is None


@pytest.mark.slow
def test_adaptation_by_device(in_two_devices):
    assert in_two_devices["shard_map"] is None


@pytest.mark.slow
def test_persistent_chains_stay_on_the_devices_that_hold_them(in_two_devices):
    """Training over two devices: the gradient is summed over them and no chain travels.

    With a learning rate of 0 the chains are those of one device to the bit.
    """
    assert in_two_devices["training_keeps_chains"] is None
