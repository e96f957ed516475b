"""The Ising model on tori: tables of log Z, the closed form, and annealing to the couplings."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import distributions, jit, samplers
from ebm_jax.energies import lattice
from ebm_jax.energies.lattice import Ising
from ebm_jax.partition import annealed, estimates, exact

CRITICAL = 0.44068679350977147
COUPLINGS = (0.1, 0.2, 0.4, CRITICAL, 0.5)
# log Z on the L x L torus by Kaufman's solution and by transfer matrices, in another program.
LOG_Z = {
    4: (11.2525884516, 11.7714703585, 14.5610930238, 15.5219154588, 17.1053671187),
    8: (45.0067997618, 47.0101474224, 56.5993887604, 60.1417807891, 66.3445818792),
    10: (70.3231242327, 73.4530978038, 88.1877006155, 93.6103005102, 103.2729754182),
    16: (180.0271980252, 188.0398879560, 225.2288467559, 238.6422566351, 263.2962104340),
    32: (720.1087921007, 752.1595517710, 900.4783077631, 952.6480795485, 1051.1049876145),
}
# Mean energy a spin at the critical coupling, in units of it.
ENERGY = {4: -1.5656238, 8: -1.4915891, 10: -1.4762429, 16: -1.4530649, 32: -1.4336585}
SIDE, CHAINS, BETAS = 16, 200, 2000  # of the annealing: temperatures up to the last coupling


def errors() -> tuple[float, float]:
    """Return the largest errors of log Z and of the critical energy a spin, in float64."""
    with jax.enable_x64(True):

        def of_coupling(k, shape):
            return exact.log_partition(lattice.Ising(k), shape)

        log_z = jit(of_coupling, static_argnums=1)
        of_log_z = [
            abs(float(log_z(k, (side, side))) - value)
            for side, values in LOG_Z.items()
            for k, value in zip(COUPLINGS, values, strict=True)
        ]
        slope = jit(jax.grad(of_coupling), static_argnums=1)
        of_energy = [
            abs(-float(slope(CRITICAL, (side, side))) / side**2 - value)
            for side, value in ENERGY.items()
        ]
    return max(of_log_z), max(of_energy)


def annealing(seed: int) -> list[float]:
    """Return (estimate - table) / standard error of log Z at every coupling, from one run.

    The chains go from independent spins to the coldest coupling, and are weighed on the way.
    """
    spins = jnp.zeros((SIDE, SIDE, 2)), jnp.array([-1, 1], jnp.int8)
    model, base = Ising(1.0), distributions.categorical(*spins)
    start_key, run_key, *keys = jax.random.split(jax.random.key(seed), 2 + len(COUPLINGS))

    def path(beta, spins):
        # Not between two energies: at 0 it is the uniform energy but for a constant.
        return beta * lattice.ising(model, spins)

    def make_sampler(energy):
        (beta,) = energy.args
        return samplers.checkerboard_gibbs(model, beta=beta)

    @jit
    def go_on(state, betas):
        return annealed.anneal(run_key, path, make_sampler, state, betas)[0]

    state = annealed.start(path, make_sampler, base.sample(start_key, CHAINS))
    found = []
    for key, before, coupling, true in zip(
        keys, (0.0, *COUPLINGS), COUPLINGS, LOG_Z[SIDE], strict=False
    ):
        num = round(BETAS * (coupling - before) / COUPLINGS[-1])
        state = go_on(state, jnp.linspace(before, coupling, num + 1)[1:])
        estimate = estimates.log_partition(key, state)
        log_z = float(estimate.log_z) + SIDE**2 * np.log(2)
        found.append((log_z - true) / float(estimate.standard_error))
    return found


def measure(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
    """Return the errors of the closed form, and those of annealing in its standard errors."""
    del data_dir, workdir
    began = time.perf_counter()
    of_log_z, of_energy = errors()
    return {
        "max_abs_error": of_log_z,
        "max_abs_error_energy": of_energy,
        f"annealing_z_at_{SIDE}": annealing(seed),
        "seconds": time.perf_counter() - began,
    }
