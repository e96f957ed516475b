"""Lattices of every small shape: energy, logits, log Z and the sampler against enumeration.

On a torus of side 2 a neighbour is one twice, on one of side 1 a site is its own: the bond with
itself is a constant of the energy, and no part of the conditional distribution of a site.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import samplers
from ebm_jax.energies import lattice
from ebm_jax.partition import exact

SHAPES = list(itertools.product((1, 2, 3), repeat=2))
COUPLING, FIELD, COLOURS = 0.7, -0.2, np.array([0.3, -0.4, 0.1])


def bonds(x, agree):
    """The sum over the bonds: from every site one to the right and one down, around the torus."""
    rows, columns = x.shape[-2:]
    total = 0.0
    for i, j in np.ndindex(rows, columns):
        for below in ((i + 1) % rows, j), (i, (j + 1) % columns):
            total = total + agree(x[:, i, j], x[:, below[0], below[1]])
    return total


def ising(s):
    return -COUPLING * bonds(s, np.multiply) - FIELD * s.sum((1, 2))


def potts(x):
    return -COUPLING * bonds(x, np.equal) - COLOURS[x].sum((1, 2))


MODELS = {
    "ising": (lattice.Ising(COUPLING, FIELD), (-1, 1), ising, lattice.ising),
    "potts": (lattice.Potts(COUPLING, COLOURS), (0, 1, 2), potts, lattice.potts),
}


@functools.cache
def enumeration(name, shape):
    """All states (with the first two colours alone on the largest), and their energies by hand."""
    _, values, by_hand, _ = MODELS[name]
    if shape == (3, 3):
        values = values[:2]
    states = np.array(list(itertools.product(values, repeat=shape[0] * shape[1])))
    states = states.reshape(-1, *shape)
    return values, states, by_hand(states)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.sweep(9)
def test_energy_logits_and_log_partition_agree(name, shape, x64):
    model, _, by_hand, energy = MODELS[name]
    values, states, energies = enumeration(name, shape)
    logits_of = {"ising": lattice.ising_logits, "potts": lattice.potts_logits}[name]

    @jax.jit
    def all_of(states):
        log_z = exact.log_partition(functools.partial(energy, model), shape, values=values)
        return (
            jax.vmap(functools.partial(energy, model))(states),
            jax.vmap(functools.partial(logits_of, model))(states),
            log_z,
        )

    found, logits, log_z = all_of(states)
    np.testing.assert_allclose(found, energies, atol=1e-12)
    np.testing.assert_allclose(log_z, oracles.log_partition(energies), atol=1e-11)
    for i in np.ndindex(shape):
        at = []
        for value in values:
            changed = states.copy()
            changed[:, i[0], i[1]] = value
            at.append(-by_hand(changed))
        of_site = logits[:, i[0], i[1]]
        if name == "ising":
            np.testing.assert_allclose(of_site, at[1] - at[0], atol=1e-11)
        else:
            for k in range(1, len(values)):
                np.testing.assert_allclose(of_site[:, k] - of_site[:, 0], at[k] - at[0], atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.sweep(3)
def test_the_closed_form_is_that_of_the_energy(shape, x64):
    states = enumeration("ising", shape)[1]
    couplings = np.array([0.1, 0.44, 1.3])
    found = jax.jit(jax.vmap(lambda k: exact.log_partition(lattice.Ising(k), shape)))(couplings)
    for log_z, coupling in zip(found, couplings, strict=True):
        energies = -coupling * bonds(states, np.multiply)
        np.testing.assert_allclose(log_z, oracles.log_partition(energies), rtol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_the_checkerboard_of_side_two_has_the_same_energy(name, key):
    model, _, by_hand, _ = MODELS[name]
    states = enumeration(name, (2, 2))[1]
    sampler = samplers.checkerboard_gibbs(model)
    state, info = jax.jit(lambda k, x: sampler.step(k, sampler.init(x)))(key, jnp.asarray(states))
    np.testing.assert_allclose(info.energy, by_hand(np.asarray(state.position)), atol=1e-5)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 1 in shape or 3 in shape])
def test_what_has_no_checkerboard_is_refused(shape):
    sampler = samplers.checkerboard_gibbs(lattice.Ising(COUPLING))
    with pytest.raises(ValueError, match="even sides"):
        sampler.init(jnp.ones((2, *shape), jnp.int8))


@pytest.mark.parametrize("function", [lattice.ising, lattice.ising_logits])
def test_spins_of_a_type_without_minus_one_are_refused(function):
    for dtype in (jnp.uint8, jnp.uint32, bool):
        with pytest.raises(TypeError, match="-1"):
            function(lattice.Ising(0.5), jnp.ones((2, 2), dtype))
