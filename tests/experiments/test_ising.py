"""The Ising program: what it compares is what it says; it runs, refuses and reports."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import BoltzmannMachine
from ebm_jax.partition import pseudo_log_likelihood
from experiments.run import errors

QUICK = ("--side=4", "--chains=4", "--sweeps=10", "--samples=30", "--datasets=1", "--steps=2")


@pytest.mark.parametrize(
    "given", [[], pytest.param(["--notempered"], marks=pytest.mark.slow)], ids=["tempered", "apart"]
)
def test_a_short_run_writes_everything(program, tmp_path, capsys, given):
    ising = program("ising", f"--workdir={tmp_path}", *QUICK, *given)
    with pytest.raises(errors.FalseClaimError, match="couplings come back"):
        ising.main()  # two updates recover nothing
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert np.isfinite(summary["largest_z"])
    assert len(summary["minus_log_rmse_each"]) == 1
    assert (tmp_path / "ising.png").read_bytes().startswith(b"\x89PNG")


def test_the_closed_form_is_that_of_enumeration(program):
    """Of the 65,536 lattices of 4 x 4; at the critical point -1.5656238 a spin."""
    ising = program("ising")
    s = 2.0 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).reshape(-1, 4, 4) - 1
    energy = -(s * (np.roll(s, 1, 1) + np.roll(s, 1, 2))).sum((1, 2))
    truth = ising.closed_form(4, ising.COUPLINGS)
    for place in (0, 6, -1):
        k = ising.COUPLINGS[place]
        p = np.exp(-k * (energy - energy.min()))
        p /= p.sum()
        mean = p @ energy
        np.testing.assert_allclose(truth["energy"][place], mean, rtol=1e-9)
        capacity = k**2 * (p @ (energy - mean) ** 2)
        np.testing.assert_allclose(truth["heat_capacity"][place], capacity, rtol=1e-8)
    assert truth["energy"][6] / 16 == pytest.approx(-1.5656238, abs=1e-7)


@pytest.mark.parametrize("tempered", [True, False])
@pytest.mark.sweep(1)
def test_sampled_moments_are_the_closed_forms(program, tempered):
    """24 numbers, 39 degrees of freedom each: one beyond 5 in 3e-4 of keys."""
    ising = program("ising")
    observed = ising.simulate(jax.random.key(0), 4, 40, 400, tempered=tempered)
    assert observed.energy.shape == observed.magnetisation.shape == (320, 12, 40)
    assert observed.lattices.shape == (12, 4, 4)
    truth, found = ising.closed_form(4, ising.COUPLINGS), ising.estimates(observed)
    for name, exact in truth.items():
        mean, error = found[name]
        assert np.abs((mean - exact) / error).max() < 5
        assert (error < 0.1 * np.abs(exact)).all()
    magnetisation = found["magnetisation"][0]
    assert 0 < magnetisation[0] < magnetisation[6] < magnetisation[-1] <= 1


def test_the_jackknife_is_that_of_its_definition(program):
    ising = program("ising")
    energy = np.random.default_rng(0).normal(size=(50, 12, 5))
    observed = ising.Observed(energy, energy, energy)
    mean, error = ising.estimates(observed)["heat_capacity"]
    scaled = ising.COUPLINGS[:, None] ** 2

    def variance(chains):
        return scaled[:, 0] * energy[:, :, chains].transpose(1, 0, 2).reshape(12, -1).var(1)

    everyone = np.arange(5)
    parts = np.stack([variance(everyone != k) for k in everyone], 1)
    values = 5 * variance(everyone >= 0)[:, None] - 4 * parts
    np.testing.assert_allclose(mean, values.mean(1), rtol=1e-9)
    np.testing.assert_allclose(error, values.std(1, ddof=1) / np.sqrt(5), rtol=1e-9)


def test_the_objective_is_the_pseudo_likelihood(program):
    """The library's, of the energy, one spin after another; forbidden moves are zero."""
    rng, n = np.random.default_rng(0), 5
    weights, allowed = rng.normal(size=(n, n)), rng.random((n, n)) < 0.6
    batch = rng.choice([-1, 1], (3, n))
    objective = program("ising").pseudo_likelihood(allowed)
    value, _ = objective.loss(jnp.asarray(weights), (), batch, jax.random.key(0))
    machine = BoltzmannMachine(jnp.asarray(weights * allowed), jnp.zeros(n))

    def energy(x):
        return boltzmann.boltzmann_machine(machine, x)

    each = [pseudo_log_likelihood(energy, jnp.asarray(x), values=(-1, 1)) for x in batch]
    np.testing.assert_allclose(value, -np.mean(each), rtol=1e-5)


def test_bonds_and_score(program):
    ising = program("ising")
    bonds = ising.bonds()
    assert bonds.sum() == 400
    np.testing.assert_array_equal(np.flatnonzero(bonds[0]), [1, 9, 10, 90])
    assert ising.score(0.1 * bonds + 0.01) == pytest.approx(-np.log(0.01))
    assert ising.yang(np.array([0.3])) == 0
    # 0.911319 at K = 0.5: (1 - sinh(1)^-4)^(1/8)
    assert ising.yang(np.array([0.5]))[0] == pytest.approx(0.911319, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--side=5", "must be even"),
        ("--chains=1", "chains=1"),
        ("--sweeps=9", "sweeps=9"),
        ("--samples=1", "samples=1"),
    ],
)
def test_bad_flags_are_refused_before_any_work(program, given, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        program("ising", "--workdir=/proc/none", given)
