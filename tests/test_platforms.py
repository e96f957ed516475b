"""What runs on a GPU or a TPU, read from the programs that JAX lowers for one: none is needed.

The default backend is pretended where the library chooses by it. Nothing here is a measurement.
"""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ebm_jax
from ebm_jax import _noise, _platform, compilation, objectives, samplers, training
from ebm_jax.energies import networks
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.energies.lattice import Ising
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.partition import annealed, exact, paths
from ebm_jax.samplers import gibbs_sampling

KEY, X, BITS = jax.random.key(0), jnp.ones((6, 3)), jnp.ones((6, 4), jnp.int8)
MACHINE = RBM(0.1 * jnp.ones((4, 3)), jnp.zeros(4), jnp.zeros(3))
HOST = re.compile(r"callback|outfeed|infeed|stablehlo\.send|stablehlo\.recv|pinned_host", re.I)


def energy(x):
    return jnp.sum(x**2) / 2


def units_energy(x):
    return -jnp.sum(x[1:] * x[:-1]) * 0.3


def loop(sampler, start):
    def run(key, x):
        collect = (lambda state, info: info) if hasattr(sampler, "refresh") else None
        return samplers.run(key, sampler, sampler.init(x), 3, collect=collect)

    return run, start


mala = functools.partial(samplers.mala, step_size=0.1)


def anneal(key, x):
    path, make_sampler = paths.rbm(MACHINE, jnp.zeros(4))
    state = annealed.start(path, make_sampler, x)
    return annealed.anneal(key, path, make_sampler, state, jnp.linspace(0.1, 1, 4))[0].log_weights


def persistent(buffer_size=12, size=3):
    objective = objectives.persistent(
        lambda p, x: jnp.sum(p * x**2),
        mala,
        num_steps=3,
        num_chains=6,
        buffer_size=buffer_size,
        initial=lambda p, key, indices: jax.random.normal(key, (len(indices), size)),
        restart_fraction=0.1,
    )
    return training.trainer(objective, optax.adam(0.1), average_decay=0.9)


def train(key, x):
    trainer = persistent()
    state = trainer.init(jnp.ones(3), key)
    return jax.lax.scan(lambda s, b: trainer.step(s, b, key), state, x[None].repeat(3, 0))


LOOPS = {
    "ula": loop(samplers.ula(energy, step_size=0.1, bounds=(-3.0, 3.0)), X),
    "mala": loop(mala(energy), X),
    "sgld": loop(samplers.sgld(lambda key, x: x, step_size=0.1), X),
    "baoab": loop(samplers.baoab(energy, step_size=0.1, friction=1.0), X),
    "tempering": loop(samplers.replica_exchange(energy, mala, [0.5, 1.0]), X),
    "adaptation": (
        lambda key, x: samplers.adapt_step_size(key, energy, samplers.mala, x, 5, initial=0.1),
        X,
    ),
    "rbm": loop(samplers.rbm_gibbs(MACHINE), BITS),
    "checkerboard": loop(samplers.checkerboard_gibbs(Ising(0.4)), jnp.ones((6, 4, 4), jnp.int8)),
    "graph": loop(
        samplers.graph_gibbs(Pairwise(jnp.ones(1), jnp.zeros(BITS.shape[1])), [(0, 1)]), BITS
    ),
    "systematic_scan": loop(samplers.systematic_scan_gibbs(units_energy), BITS),
    "gibbs_with_gradients": loop(samplers.gibbs_with_gradients(units_energy), BITS),
    "dmala": loop(samplers.dmala(units_energy, step_size=0.5), BITS),
    "annealing": (anneal, BITS),
    "enumeration": (
        lambda key, x: exact.log_partition(lambda s: 0.1 * jnp.sum(x[0, 0] * s), 12),
        BITS,
    ),
    "training": (train, X),
}


def lowered(function, *args, platform):
    """Return the StableHLO of a function for a platform, whether or not there is one here."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.fixture
def pretend(monkeypatch):
    """Return name -> None: from then on the default backend has that name."""
    return lambda name: monkeypatch.setattr(jax, "default_backend", lambda: name)


@pytest.mark.parametrize("name", LOOPS)
def test_no_compiled_loop_talks_to_the_host(name, pretend):
    run, start = LOOPS[name]
    for platform, backend in (("cuda", "gpu"), ("tpu", "tpu")):
        pretend(backend)
        text = lowered(run, KEY, start, platform=platform)
        assert "stablehlo.while" in text
        assert not HOST.search(text)


def test_a_loop_that_talks_to_the_host_would_be_seen():
    def talks(x):
        return jax.lax.fori_loop(0, 3, lambda t, x: (jax.debug.print("{}", t), x + 1)[1], x)

    assert HOST.search(lowered(talks, 1.0, platform="cpu"))


def test_no_source_of_the_library_calls_the_host_or_prints():
    words = re.compile(r"\b(pure_callback|io_callback|debug\.(print|callback)|host_callback)\b")
    files = sorted(Path(ebm_jax.__file__).parent.rglob("*.py"))
    assert len(files) > 40
    assert [str(file) for file in files if words.search(file.read_text(encoding="utf-8"))] == []


NETWORKS = {
    "ConvEnergy": networks.ConvEnergy((4, 8)),
    "JointConv": networks.JointConv((4, 8), 5, (1, 2), (6,)),
    "JointConv, bfloat16": networks.JointConv((4, 8), 5, (1, 2), (6,), dtype=jnp.bfloat16),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("backend", "platform"), [("cpu", "cpu"), ("gpu", "cuda"), ("gpu", "rocm"), ("tpu", "tpu")]
)
def test_convolutions_are_patches_on_a_cpu_alone(name, backend, platform, pretend):
    network, x = NETWORKS[name], jnp.ones((2, 9, 8, 3))
    params = jax.eval_shape(network.init, KEY, x[0])
    pretend(backend)

    def score(params, x):
        return jax.vmap(jax.grad(lambda x: jnp.sum(network.apply(params, x))))(x)

    text = lowered(score, params, x, platform=platform)
    # Two layers: each forward, and each again for the gradient with respect to x.
    assert text.count("stablehlo.convolution(") == (0 if backend == "cpu" else 4)


def test_a_chosen_default_device_counts_more_than_the_default_backend(pretend):
    pretend("gpu")
    assert networks._fastest_convolution() is jax.lax.conv_general_dilated
    with jax.default_device(jax.devices("cpu")[0]):
        assert networks._fastest_convolution() is networks._patch_product
        assert _platform.platform() == "cpu"
    with jax.default_device("cpu"):
        assert _platform.platform() == "cpu"
    assert _platform.platform([1.0, jnp.ones(2)]) == "gpu"  # an array that no one placed
    assert _platform.platform([1.0, jax.device_put(1.0, jax.devices("cpu")[0])]) == "cpu"


@pytest.fixture
def options_used(monkeypatch):
    """Return a function of (front, *args) -> the compiler options that a call compiled with."""
    real, used = jax.jit, []

    def spy(fun, **kwargs):
        # XLA's options are not given to the real compiler: it may not know them.
        options, compiled = kwargs.pop("compiler_options", None), real(fun, **kwargs)

        def call(*args):
            used.append(options or {})
            return compiled(*args)

        return call

    monkeypatch.setattr(compilation, "_option_is_known", lambda: True)
    monkeypatch.setattr(compilation.jax, "jit", spy)

    def calls(function, *args):
        used.clear()
        function(*args)
        return used[-1]

    return calls


WIDE = {"xla_cpu_prefer_vector_width": 512, "xla_embed_ir_in_executable": True}


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("options", [None, WIDE])
@pytest.mark.parametrize(("around", "top"), [(lambda f: f, 1), (jax.vmap, 0), (jax.jit, 0)])
def test_no_option_of_the_cpu_is_given_to_another_backend(
    backend, options, around, top, pretend, options_used
):
    pretend(backend)
    front = around(ebm_jax.jit(jnp.sin, compiler_options=options))
    used = options_used(front, jnp.ones(3))
    expected = {k: v for k, v in (options or {}).items() if not k.startswith("xla_cpu_")}
    if backend == "cpu" and top:
        expected |= compilation._CPU_OPTIONS | (options or {})
    assert used == expected


def test_the_noise_of_a_gpu_is_fused_with_the_update_and_has_the_same_bits(pretend):
    """One barrier is left: that which keeps the generator from running for each of its words."""

    barriers, drawn = {}, {}
    for backend in ("cpu", "gpu", "tpu"):
        pretend(backend)

        def draw(key):  # a function of its own: a trace is kept with its function
            return _noise.standard_normal(key, [jnp.zeros((5, 3))])[0]

        barriers[backend] = str(jax.make_jaxpr(draw)(KEY)).count("optimization_barrier")
        drawn[backend] = np.asarray(jax.jit(draw)(KEY))
    assert barriers == {"cpu": 2, "gpu": 1, "tpu": 2}
    np.testing.assert_array_equal(drawn["gpu"], drawn["cpu"])


def test_a_donated_update_holds_the_persistent_chains_once():
    """The chains are written into the memory they came in: no copy of them all, in no update."""
    buffer_size, size = 4096, 64
    trainer = persistent(buffer_size, size)
    state, bytes_of_chains = trainer.init(jnp.ones(size), KEY), buffer_size * size * 4
    batches = jnp.ones((3, 6, size))

    def several(state, batches, key):
        return jax.lax.scan(lambda s, b: trainer.step(s, b, key), state, batches)

    donated = jax.jit(several, donate_argnums=0).lower(state, batches, KEY).compile()
    analysis = donated.memory_analysis()
    # A state of MALA holds the chains and their gradients.
    assert analysis.alias_size_in_bytes >= 2 * bytes_of_chains
    assert analysis.temp_size_in_bytes < bytes_of_chains


@pytest.mark.parametrize(("backend", "limit"), [("cpu", 2**28), ("gpu", 2**30)])
@pytest.mark.parametrize("num", [1, 20_000])
def test_answers_are_compared_in_chunks_that_fit_the_memory(num, backend, limit, pretend):
    """All the energies of 256 questions at once would be 4 GB here: 20,000 answers, 64 units."""
    pretend(backend)
    network = networks.MLP((64,))
    params = jax.eval_shape(network.init, KEY, jnp.zeros(8))

    def joint(params, x, y):
        return network.apply(params, jnp.concatenate([x, y]))

    propose = objectives.most_offending_among(joint, jnp.ones((num, 4)))
    x = jnp.ones((1000, 4))
    found = jax.jit(propose).lower(params, KEY, x, x).compile().memory_analysis()
    # The chunks of the map and what is left over of it: two of them.
    assert found.temp_size_in_bytes < 2 * limit


@pytest.mark.parametrize(("backend", "blocks"), [("cpu", 256), ("gpu", 4)])
def test_a_gpu_enumerates_more_states_at_once_and_finds_the_same(backend, blocks, pretend):
    pretend(backend)

    def run():
        return exact.log_partition(lambda x: -1.0 * jnp.sum(x), 18)

    assert f"length={blocks}\n" in str(jax.make_jaxpr(run)())
    np.testing.assert_allclose(jax.jit(run)(), 18 * np.log1p(np.e), rtol=1e-6)


def test_rows_at_once_are_bounded_by_what_a_row_computes():
    def row(x):  # 4 MB, 4 bytes, and a loop's 8 bytes
        total = jnp.sum(jnp.outer(x, x))
        return jax.lax.fori_loop(0, 3, lambda t, total: total + 1, total)

    x = jnp.ones(1000)
    assert 50 < _platform.rows_at_once(row, x, on_cpu=10**6, elsewhere=1) <= 2**28 // (4 * 10**6)
    assert _platform.rows_at_once(row, x, on_cpu=7, elsewhere=1) == 7
    assert _platform.rows_at_once(row, jnp.ones(20_000), on_cpu=7, elsewhere=1) == 1


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_bfloat16_products_leave_the_state_in_float32(name, pretend):
    """Operands of hidden layers are rounded; parameters, chains and energies are not."""
    pretend("gpu")
    network, x = {
        "mlp": (networks.JointMLP((8, 8), 3, dtype=jnp.bfloat16), jnp.ones((4, 6))),
        "conv": (NETWORKS["JointConv, bfloat16"], jnp.ones((4, 9, 8, 3))),
    }[name]
    params = network.init(KEY, x[0])

    def sampler(params):
        return samplers.mala(lambda x: jnp.sum(network.apply(params, x)), step_size=0.1)

    def update(params, key, x):
        start = sampler(params).init(x)
        state, _ = samplers.run(key, sampler(params), start, 3)
        gradient = jax.grad(lambda p: jnp.mean(jax.vmap(network.apply, (None, 0))(p, x)))(params)
        return state, gradient

    shapes = jax.eval_shape(update, params, KEY, x)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((params, shapes))}
    assert {kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)} == {jnp.dtype("float32")}
    text = lowered(update, params, KEY, x, platform="cuda")
    operands = re.findall(
        r"stablehlo\.(?:dot_general|convolution).* : \((tensor<\S+), (tensor<\S+)\) ->", text
    )
    rounded = [a.endswith("bf16>") and b.endswith("bf16>") for a, b in operands]
    # All but the products of the last layer: forward, and for each of the gradients.
    assert sum(rounded) >= 6
    assert sum(not r for r in rounded) <= len(rounded) / 2


def test_an_rbm_of_bfloat16_weights_draws_from_probabilities_of_float32():
    """Its products have operands of 8 bits, and their sums are not rounded to 8 bits again."""
    generator = np.random.default_rng(0)
    weights, visible, hidden = (
        jnp.asarray(generator.normal(size=shape), jnp.bfloat16) for shape in ((40, 30), 40, 30)
    )
    sampler = samplers.rbm_gibbs(RBM(weights, visible, hidden))
    v = jnp.asarray(generator.random((500, 40)) < 0.5)
    hidden_units = []
    draw = gibbs_sampling._bits.units

    def spied(key, logits, *numbers, **where):
        drawn = draw(key, logits, *numbers, **where)
        hidden_units.append((np.asarray(logits), np.asarray(drawn)))
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gibbs_sampling._bits, "units", spied)
        _, info = sampler.step(KEY, sampler.init(v))
    (of_hidden, h), (of_visible, _) = hidden_units
    w, b, c = (np.asarray(p, np.float64) for p in (weights, visible, hidden))
    np.testing.assert_allclose(of_hidden, np.asarray(v) @ w + c, atol=1e-5)
    np.testing.assert_allclose(of_visible, h @ w.T + b, atol=1e-5)
    expected = 1 / (1 + np.exp(-(h @ w.T + b)))
    np.testing.assert_allclose(info.visible_mean, expected, atol=1e-6)
