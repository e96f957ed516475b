import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import samplers
from ebm_jax.samplers import replay_buffer
from ebm_jax.types import Sampler


def energy(x):
    return jnp.sum(x**2) / 2


SAMPLER = samplers.ula(energy, step_size=0.1)
START = SAMPLER.init(jnp.ones((3, 2)))


def run(key, num_steps, **options):
    return jax.jit(lambda key: samplers.run(key, SAMPLER, START, num_steps, **options))(key)


def test_history_thinning_and_no_history_are_one_run(key):
    end, nothing = run(key, 12)
    assert nothing is None
    full_end, full = run(key, 12, collect=lambda s, i: s.position)
    thin_end, thin = run(key, 12, collect=lambda s, i: s.position, thin=4)
    for other in (full_end, thin_end):
        np.testing.assert_allclose(end.position, other.position, rtol=1e-6)
    np.testing.assert_allclose(full[3::4], thin, rtol=1e-6)
    np.testing.assert_allclose(full[-1], end.position, rtol=1e-6)
    assert int(end.step) == 12


def test_every_step_has_its_own_key(key):
    """A kernel that returns its own noise: no draw repeats, and none is the caller's own."""
    noise = Sampler(lambda x: x, lambda k, x: ((draw := jax.random.normal(k, x.shape)), draw))
    _, drawn = samplers.run(key, noise, jnp.zeros(50), 40, collect=lambda s, i: i)
    assert len(np.unique(drawn)) == drawn.size
    assert not np.isin(np.asarray(jax.random.normal(key, (50,))), np.asarray(drawn)).any()


def test_memory_does_not_grow_with_steps():
    def temporaries(num_steps):
        compiled = (
            jax.jit(lambda k, s: samplers.run(k, SAMPLER, s, num_steps)[0])
            .lower(jax.random.key(0), SAMPLER.init(jnp.zeros((1000, 10))))
            .compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(10) == temporaries(10_000)


def test_run_nests_in_vmap_and_grad(key):
    keys = jax.random.split(key, 4)
    many = jax.jit(jax.vmap(lambda k: samplers.run(k, SAMPLER, START, 5)[0].position))(keys)
    one = run(keys[2], 5)[0].position
    np.testing.assert_allclose(many[2], one, rtol=1e-6)
    # d x_T / d x_0 of ULA on a standard Gaussian is (1 - h)^T.
    slope = jax.grad(lambda x: samplers.run(key, SAMPLER, SAMPLER.init(x), 5)[0].position.sum())
    np.testing.assert_allclose(jax.jit(slope)(jnp.ones((3, 2))), 0.9**5, rtol=1e-5)


def test_draws_have_no_repetition_and_reach_every_slot(key):
    """Each slot is equally likely: chi-square of 16 slots over 2,000 draws, alarm < 1e-4."""
    slots = {"x": jnp.arange(16.0)[:, None], "y": jnp.arange(16)}

    @jax.jit
    def many(key):
        return jax.vmap(lambda k: replay_buffer.draw(k, slots, 5))(jax.random.split(key, 2000))

    indices, drawn = many(key)
    assert all(len(set(row)) == 5 for row in np.asarray(indices).tolist())
    np.testing.assert_array_equal(drawn["y"], indices)
    np.testing.assert_array_equal(drawn["x"][..., 0], indices)
    counts = np.bincount(np.asarray(indices).ravel(), minlength=16)
    assert np.sum((counts - 625) ** 2 / 625) < 44.3
    positions = np.array([np.bincount(np.asarray(indices)[:, j], minlength=16) for j in range(5)])
    assert positions.min() > 60  # every slot in every place


@pytest.mark.parametrize("axis", [0, 1])
def test_groups_draw_and_write_as_many_from_each_block(key, axis):
    """Slots 0-5 and 6-11: three of each, every slot in the end, and back where they were."""
    slots = jnp.moveaxis(jnp.arange(24.0).reshape(12, 2), 0, axis)
    options = {"axes": axis, "groups": 2}
    seen = set()

    @jax.jit
    def draw_and_write(key):
        indices, drawn = replay_buffer.draw(key, slots, 6, **options)
        return (
            indices,
            drawn,
            replay_buffer.write_back(slots, indices, drawn + 100, **options),
        )

    for t in range(30):
        indices, drawn, after = map(np.asarray, draw_and_write(jax.random.fold_in(key, t)))
        assert (np.asarray(indices[:3]) < 6).all()
        assert (np.asarray(indices[3:]) >= 6).all()
        assert len(set(indices.tolist())) == 6
        np.testing.assert_array_equal(drawn, np.take(np.asarray(slots), indices, axis))
        expected = np.array(slots)
        expected[(slice(None),) * axis + (np.asarray(indices),)] += 100
        np.testing.assert_array_equal(after, expected)
        seen |= set(indices.tolist())
    assert seen == set(range(12))


def test_write_back_goes_to_the_slots_drawn_and_no_other(key):
    slots = jnp.arange(10.0)[:, None]
    indices, drawn = replay_buffer.draw(key, slots, 4)
    after = replay_buffer.write_back(slots, indices, drawn + 100)
    expected = np.arange(10.0)
    expected[np.asarray(indices)] += 100
    np.testing.assert_array_equal(after[:, 0], expected)


def test_restart_draws_anew_and_not_a_jitter_of_the_old(key):
    """Restarted chains forget where they were; the others keep every bit; the rate is right."""
    n = 4000
    old = jnp.full((n, 1), 1000.0)
    fresh = jax.random.normal(jax.random.key(1), (n, 1))
    after, restarted = map(np.asarray, jax.jit(replay_buffer.restart)(key, old, fresh, 0.3))
    assert abs(restarted.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)
    fresh = after[restarted]
    assert np.abs(fresh).max() < 6
    assert abs(fresh.std() - 1) < 0.15
    np.testing.assert_array_equal(after[~restarted], 1000.0)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, False), (1.0, True)])
def test_restart_none_and_all(key, fraction, expected):
    old, fresh = np.ones((50, 1), np.float32), np.zeros((50, 1), np.float32)
    _, restarted = jax.jit(replay_buffer.restart)(key, old, fresh, fraction)
    assert (np.asarray(restarted) == expected).all()


def test_broken_chains_always_restart(key):
    broken = {"x": jnp.array([[0.0], [jnp.nan], [jnp.inf]]), "y": jnp.array([1, 2, 3])}
    fresh = {"x": jnp.full((3, 1), 7.0), "y": jnp.zeros(3, int)}
    after, restarted = jax.jit(replay_buffer.restart)(key, broken, fresh, 0.0)
    assert restarted.tolist() == [False, True, True]
    assert after["x"][:, 0].tolist() == [0.0, 7.0, 7.0]
    assert after["y"].tolist() == [1, 0, 0]


def test_bad_input(key):
    for num in (0, 6):
        with pytest.raises(
            ValueError, match=f"from 1 to the number of chains in the buffer, 5, got {num}"
        ):
            replay_buffer.draw(key, jnp.zeros((5, 1)), num)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\]"):
            replay_buffer.restart(key, jnp.zeros((5, 1)), jnp.zeros((5, 1)), fraction)
