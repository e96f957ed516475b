"""Gibbs sampling on graphs: colours, layouts, types, clamps, infinite fields, other samplers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import objectives, samplers
from ebm_jax.energies import pairwise
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.samplers import _colouring, _graph

RNG = np.random.default_rng(0)
SPINS = {"values": (-1, 1)}


def cube(side):
    """The bonds of a cube with periodic boundaries."""
    number = np.arange(side**3).reshape(side, side, side)
    shifted = [np.roll(number, -1, axis).ravel() for axis in range(3)]
    return np.concatenate([np.stack([number.ravel(), other], 1) for other in shifted])


def random_graph(n, m, seed=0):
    pairs = np.array(list(itertools.combinations(range(n), 2)))
    return np.random.default_rng(seed).permutation(pairs)[:m]


GRAPHS = {
    "nothing": (3, np.zeros((0, 2), int)),
    "cube": (64, cube(4)),
    "odd cube": (27, cube(3)),
    "sparse": (40, random_graph(40, 60)),
    "dense": (60, random_graph(60, 1500)),
    "complete": (12, random_graph(12, 66)),
    "star": (50, np.array([(7, i) for i in range(50) if i != 7])),
    "twice": (4, np.array([(0, 1), (1, 0), (3, 1), (0, 1)])),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_layouts(name):
    """Buckets have one colour; tables have every edge in both directions, once for the energy."""
    n, edges = GRAPHS[name]
    layout = _colouring.layout(n, edges)
    assert layout.looped == (name == "dense")
    assert sorted(layout.order) == list(range(n))
    np.testing.assert_array_equal(layout.places[layout.order], np.arange(n))
    assert [b.start for b in layout.buckets] == np.cumsum(
        [0] + [b.size for b in layout.buckets]
    ).tolist()[:-1]
    assert layout.calls == sum(len(b.variables) // 2 for b in layout.buckets)
    assert all(len(b.variables) - b.size in (0, 1) for b in layout.buckets) or layout.looped
    directed, once = [], []
    for bucket in layout.buckets:
        own = layout.order[bucket.start : bucket.start + bucket.size]
        assert not np.isin(edges, own).all(1).any()
        np.testing.assert_array_equal(bucket.variables[: bucket.size], own)
        longest = len(bucket.around.places)
        for row, v in enumerate(own):
            degree = (edges == v).sum()
            assert degree <= longest
            assert layout.looped or longest <= 1.5 * degree
            for table, found in ((bucket.around, directed), (bucket.before, once)):
                for place, edge, turned in zip(*(part[:, row] for part in table), strict=True):
                    if edge == len(edges):
                        assert layout.order[place] == v
                        continue
                    u = layout.order[place]
                    assert (edges[edge] == ((u, v) if turned else (v, u))).all()
                    found.append((edge, turned))
    assert sorted(directed) == sorted(itertools.product(range(len(edges)), (False, True)))
    assert sorted(edge for edge, _ in once) == list(range(len(edges)))


def test_colours_are_as_few_as_can_be_where_that_is_known():
    for name, number in {"nothing": 1, "cube": 2, "complete": 12, "star": 2}.items():
        n, edges = GRAPHS[name]
        colour = _colouring.colours(n, edges)
        assert len(set(colour)) == number
        assert (colour[edges[:, 0]] != colour[edges[:, 1]]).all()
    grid = random_graph(2000, 0)
    assert set(_colouring.colours(2000, grid)) == {0}


def test_it_colours_as_networkx_does():
    """No more colours than the same rule there, on random graphs of several densities."""
    networkx = pytest.importorskip("networkx")
    for m in (50, 200, 600):
        edges = random_graph(60, m, seed=m)
        graph = networkx.Graph(edges.tolist())
        graph.add_nodes_from(range(60))
        theirs = networkx.greedy_color(graph, strategy="DSATUR")
        assert max(_colouring.colours(60, edges)) <= max(theirs.values()) + 1


def stationary(params, edges, values):
    """All states of a small model, and their probabilities."""
    states = np.array(list(itertools.product(values, repeat=len(params.fields))))
    energies = jax.vmap(lambda x: pairwise.energy(params, x, edges))(states)
    return states, oracles.probabilities(energies)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "int32"])
@pytest.mark.sweep(2)
def test_types_of_positions(dtype, key):
    """The chains of every type that holds the values are the same ones."""
    edges = cube(2)
    params = Pairwise(jnp.asarray(RNG.normal(size=24)), jnp.zeros(8))
    for values in ((0, 1), (-1, 1)):
        sampler = samplers.graph_gibbs(params, edges, values=values)
        start = jnp.full((6, 8), values[1])
        if values[0] < 0 and dtype in ("bool", "uint8"):
            with pytest.raises(TypeError, match="holds all values"):
                sampler.init(start.astype(dtype))
            continue
        go = jax.jit(lambda key, x, s=sampler: s.step(key, s.init(x)))
        state, info = go(key, start.astype(dtype))
        assert state.position.dtype == state.columns.dtype == dtype
        whole, same = go(key, start)
        np.testing.assert_array_equal(state.position.astype(int), whole.position)
        np.testing.assert_array_equal(info.energy, same.energy)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [1.0, None])
def test_the_energy_of_a_step_is_that_of_the_position(sizes, key):
    """Of several buckets, of tables with more than eight neighbours, of repeated edges."""
    for name in ("odd cube", "complete", "dense", "star", "twice"):
        n, edges = GRAPHS[name]
        m = len(edges)
        couplings = RNG.choice([-1.0, 1.0], m) if sizes else RNG.normal(size=m)
        fields = np.full(n, 0.1) if sizes else RNG.normal(size=n)
        params = Pairwise(jnp.asarray(couplings), jnp.asarray(fields))
        sampler = samplers.graph_gibbs(params, edges, **SPINS)
        x = jnp.asarray(RNG.choice([-1, 1], (3, n)).astype(np.int8))
        state, info = jax.jit(lambda key, x, s=sampler: s.step(key, s.init(x)))(key, x)
        by_hand = [
            -sum(c * s[i] * s[j] for c, (i, j) in zip(couplings, edges, strict=True)) - fields @ s
            for s in np.asarray(state.position).astype(float)
        ]
        np.testing.assert_allclose(info.energy, by_hand, rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_one_magnitude_is_drawn_as_any_other(key):
    """The table of thresholds and the exponential: the same words, the same spins."""
    for name in ("cube", "sparse"):
        n, edges = GRAPHS[name]
        couplings = jnp.asarray(0.3 * RNG.choice([-1.0, 1.0], len(edges)), jnp.float32)
        params = Pairwise(couplings, jnp.full(n, 0.2))
        x = jnp.asarray(RNG.choice([-1, 1], (50, n)).astype(np.int8))

        def go(key, x, params, edges=edges):
            sampler = samplers.graph_gibbs(params, edges, **SPINS, beta=jnp.linspace(0, 2, 50))
            return samplers.run(key, sampler, sampler.init(x), 5)[0].position

        known = jax.jit(lambda key, x, p=params, go=go: go(key, x, p))(key, x)
        traced = jax.jit(go)(key, x, params)  # where the couplings are not known
        # A word that lies between two roundings of one probability comes once in 2^20.
        assert np.mean(np.asarray(known) != np.asarray(traced)) < 1e-3


@pytest.mark.slow
def test_a_loop_over_blocks_draws_as_its_buckets_do(key, monkeypatch):
    """The same graph as many buckets and as few: the same exact conditionals, to all digits.

    Every word is the same one, so that a variable is drawn by a threshold on its conditional.
    """
    n, edges = 12, random_graph(12, 18)
    words = jnp.full((1, 1), 3_000_000_000, jnp.uint32)

    def same(key, chains, n, start=0, stop=None, *, chains_last):
        shape = ((n if stop is None else stop) - start, chains)
        return jnp.broadcast_to(words, shape), jnp.broadcast_to(words, shape)

    for params, values in (
        (Pairwise(RNG.normal(size=18), RNG.normal(size=12)), (0, 1)),
        (Pairwise(RNG.normal(size=18), RNG.normal(size=(12, 3))), range(3)),
        (Pairwise(RNG.normal(size=(18, 3, 3)), RNG.normal(size=(12, 3))), range(3)),
    ):
        params = jax.tree.map(jnp.asarray, params)
        x = jnp.asarray(RNG.choice(values, (9, n)).astype(np.int8))
        clamp, found = RNG.uniform(size=(9, n)) < 0.2, []
        for most in (0, 1000):
            with monkeypatch.context() as patch:
                patch.setattr(_colouring, "_MOST_BUCKETS", most)
                patch.setattr(_colouring, "BLOCK", 4)
                patch.setattr(_graph._bits, "words", same)
                sampler = samplers.graph_gibbs(params, edges, values=values, clamp=clamp)
                assert _colouring.layout(n, edges).looped == (most == 0)
                go = jax.jit(lambda key, x, s=sampler: s.step(key, s.init(x)))
                state, info = go(key, x)
                found.append((np.asarray(state.position), info.energy))
        np.testing.assert_array_equal(found[0][0], found[1][0])
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5, atol=1e-4)
        assert (found[0][0] != x).mean() > 0.1


def test_clamped_variables_stay_and_the_others_follow(key):
    edges = cube(2)
    params = Pairwise(jnp.asarray(RNG.normal(size=24)), jnp.zeros(8))
    x = jnp.asarray(RNG.choice([-1, 1], (40, 8)).astype(np.int8))
    for clamp in (np.arange(8) < 3, RNG.uniform(size=(40, 8)) < 0.5, np.ones(8, bool), True):
        sampler = samplers.graph_gibbs(params, edges, **SPINS, clamp=clamp)
        state, _ = jax.jit(lambda key, x, s=sampler: samplers.run(key, s, s.init(x), 3))(key, x)
        found, held = np.asarray(state.position), np.broadcast_to(clamp, (40, 8))
        np.testing.assert_array_equal(found[held], x[held])
        assert held.all() or (found != x).any()


@pytest.mark.slow
def test_infinite_fields_and_temperatures(key):
    """A held spin, a forbidden category, and the ground state at an infinite beta."""
    chain = [(0, 1), (1, 2), (2, 3)]
    fields = np.array([np.inf, 0.0, 0.0, -np.inf])
    x = jnp.asarray(RNG.choice([-1, 1], (100, 4)).astype(np.int8))

    def after(params, x, steps=20, **options):
        sampler = samplers.graph_gibbs(params, chain, **options)
        go = jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), steps)[0])
        return np.asarray(go(key, x).position)

    found = after(Pairwise(jnp.ones(3), jnp.asarray(fields)), x, **SPINS)
    assert (found[:, 0] == 1).all()
    assert (found[:, 3] == -1).all()
    assert 0.2 < np.mean(found[:, 1] == 1) < 1.0

    forbidden = np.zeros((4, 3))
    forbidden[:, 1] = -np.inf
    forbidden[2] = [0.0, np.inf, 0.0]
    categories = jnp.zeros((100, 4), int)
    for beta in (0.5, 1.0, np.inf):
        found = after(Pairwise(jnp.ones(3), jnp.asarray(forbidden)), categories, beta=beta)
        assert (found[:, 2] == 1).all()
        assert (found[:, [0, 1, 3]] != 1).all()
    for params in (
        Pairwise(jnp.ones(3), jnp.full(4, 0.1)),
        Pairwise(jnp.array([1.0, 1.2, 1.1]), jnp.full(4, 0.15)),
        Pairwise(jnp.ones(3), jnp.tile(jnp.array([0.0, 0.1]), (4, 1))),
    ):
        options = SPINS if params.fields.ndim == 1 else {}
        start = x if params.fields.ndim == 1 else (x + 1) // 2
        found = after(params, start, beta=jnp.inf, **options)
        assert (found == found[:, :1]).all()  # no variable has a lower energy alone


def test_one_category_is_the_only_state(key):
    params = Pairwise(jnp.ones((2, 1, 1)), jnp.zeros((3, 1)))
    sampler = samplers.graph_gibbs(params, [(0, 1), (1, 2)])
    state, info = sampler.step(key, sampler.init(jnp.zeros((1, 3), jnp.int8)))
    assert state.position.tolist() == [[0, 0, 0]]
    assert info.energy.tolist() == [-2.0]


def test_many_neighbours_and_many_categories(key):
    """A hub of 40 leaves and a complete graph, to the means of exact conditionals (5 sigma)."""
    hub = [(0, i) for i in range(1, 41)]
    couplings = RNG.normal(size=40)
    params = Pairwise(jnp.asarray(couplings), jnp.zeros(41))
    clamp = np.arange(41) > 0
    x = np.ones((20_000, 41), np.int8)
    x[:, 1:] = RNG.choice([-1, 1], 40)
    sampler = samplers.graph_gibbs(params, hub, **SPINS, beta=0.2, clamp=clamp)
    state, _ = jax.jit(lambda key, x: sampler.step(key, sampler.init(x)))(key, jnp.asarray(x))
    p = 1 / (1 + np.exp(-0.4 * couplings @ x[0, 1:]))
    found = np.mean(np.asarray(state.position)[:, 0] == 1)
    assert abs(found - p) < 5 * np.sqrt(p * (1 - p) / 20_000)

    tables = RNG.normal(size=(3, 12, 12))
    edges, fields = [(0, 1), (2, 0), (0, 3)], RNG.normal(size=(4, 12))
    params = Pairwise(jnp.asarray(tables), jnp.asarray(fields))
    x = np.tile(RNG.integers(12, size=4), (20_000, 1)).astype(np.int8)
    sampler = samplers.graph_gibbs(params, edges, clamp=np.arange(4) > 0)
    state, _ = jax.jit(lambda key, x: sampler.step(key, sampler.init(x)))(key, jnp.asarray(x))
    logits = fields[0] + tables[0][:, x[0, 1]] + tables[1][x[0, 2], :] + tables[2][:, x[0, 3]]
    p = np.exp(logits - logits.max())
    p /= p.sum()
    found = np.bincount(np.asarray(state.position)[:, 0], minlength=12) / 20_000
    assert (np.abs(found - p) < 5 * np.sqrt(p * (1 - p) / 20_000) + 1e-4).all()


@pytest.mark.slow
def test_a_chain_depends_on_its_index_alone(key):
    """As many chains as there are: the first ones are the same, and one is one."""
    params = Pairwise(jnp.ones(24), jnp.zeros(8))
    sampler = samplers.graph_gibbs(params, cube(2), **SPINS)
    go = jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 4)[0].position)
    x = jnp.ones((7, 8), jnp.int8)
    many = go(key, x)
    np.testing.assert_array_equal(go(key, x[:1]), many[:1])
    np.testing.assert_array_equal(go(key, x[:3]), many[:3])


@pytest.mark.slow
def test_it_serves_as_a_sampler_of_other_parts(key):
    """Collected positions, tempering over beta, and training through the energy's arguments."""
    edges, params = cube(2), Pairwise(jnp.asarray(RNG.normal(size=24)), jnp.zeros(8))
    x = jnp.ones((5, 8), jnp.int8)
    sampler = samplers.graph_gibbs(params, edges, **SPINS)
    samples = samplers.sample(key, sampler, x, 6, warmup=1)
    assert samples.position.shape == (6, 5, 8)
    energies = jax.vmap(jax.vmap(lambda x: pairwise.energy(params, x, edges)))(samples.position)
    np.testing.assert_allclose(samples.info.energy, energies, rtol=1e-5, atol=1e-4)

    tempered = samplers.replica_exchange(
        lambda x: pairwise.energy(params, x, edges),
        lambda energy, beta: samplers.graph_gibbs(params, edges, **SPINS, beta=beta),
        betas=[0.5, 1.0],
    )
    state = tempered.init(x)
    state, _ = jax.jit(tempered.step)(key, state)
    assert state.position.shape == (5, 8)

    # Fields so strong that the negatives are known.
    objective = objectives.contrastive_divergence(
        functools.partial(pairwise.energy, edges=edges),
        lambda energy: samplers.graph_gibbs(*energy.args, edges),
        num_steps=1,
    )
    up = RNG.choice([0, 1], 8)
    strong = params._replace(fields=jnp.asarray(100.0 * (2 * up - 1)))
    data = RNG.choice([0, 1], (5, 8)).astype(np.int8)
    slope = jax.jit(jax.grad(lambda p: objective.loss(p, objective.init(p, key), data, key)[0]))
    np.testing.assert_allclose(slope(strong).fields, up - data.mean(0), atol=1e-6)
    i, j = edges.T
    expected = up[i] * up[j] - (data[:, i] * data[:, j]).mean(0)
    np.testing.assert_allclose(slope(strong).couplings, expected, atol=1e-6)
