"""Inference, alignment, sparse coding, diagnostics."""

import jax.numpy as jnp
import numpy as np
import optax
from kinds import (
    INF,
    Arg,
    allowed,
    count,
    energies,
    energy,
    flag,
    fraction,
    nonnegative,
    numbers,
    positions,
    positive,
    row,
)

from ebm_jax import diagnostics
from ebm_jax.inference import alignment, denoising, latent, minimum, sparse_coding

X, W = jnp.ones((5, 2)), jnp.eye(2)


def quadratic(*args):
    return sum(jnp.sum(x**2) for x in args)


def batch(name):
    return positions(X, named=f"^{name} must have")


OPTIMIZER = Arg(optax.sgd(0.1), (None, "adam", 0.1, optax.sgd, (1, 2)))
STARTS = batch("starts")._replace(named="starts")

TABLE = jnp.zeros((4, 3))
WINDOWS = Arg(None, ("4", 0, 5, -1, 1.5, True, jnp.ones(2, int), 1j))
LABELS = WINDOWS._replace(bad=("4", 0, 4, -1, 1.5, True, jnp.ones(2, int), 1j))
OF_WINDOWS = energies(TABLE, 1.0, jnp.zeros(3), TABLE[None], TABLE[:0])

CODE = {
    "dictionary": energies(W, 1.0, jnp.ones(2), jnp.ones((3, 2)), named="dictionary"),
    "y": energies(jnp.ones(2), 1.0, X, jnp.ones(3)),
    "sparsity": nonnegative(0.1, jnp.ones(2)),
}
HISTORY = Arg(
    np.random.default_rng(0).normal(size=(8, 2)),
    (
        None,
        "h",
        object(),
        1.0,
        np.zeros(8),
        np.zeros((3, 2)),
        [[1.0], [1.0, 2.0]],
        {"a": X},
        1j * X,
    ),
)

ROWS = [
    row(minimum.argmin_over, energy=energy(quadratic), candidates=batch("candidates")),
    row(
        minimum.minimize,
        energy=energy(quadratic),
        starts=STARTS._replace(bad=(*STARTS.bad, X.astype(int))),
        optimizer=OPTIMIZER,
        num_steps=count(2),
        tolerance=positive(1e-3, INF, jnp.ones(2)),
    ),
    row(
        latent.minimize_over,
        use=lambda free: free(jnp.ones(2)),
        energy=energy(quadratic),
        candidates=batch("candidates"),
        optimizer=OPTIMIZER._replace(valid=None),
        num_steps=count(2),
    ),
    row(
        latent.marginalize_over,
        use=lambda free: free(jnp.ones(2)),
        energy=energy(quadratic),
        candidates=batch("candidates"),
        beta=nonnegative(1.0, jnp.ones(5)),
        log_weights=numbers(None, jnp.zeros(2), jnp.zeros((5, 1))),
        mean=flag(False),
    ),
    row(
        denoising.denoise,
        energy=energy(quadratic),
        positions=positions(X, X.astype(int)),
        sigma=nonnegative(0.1, INF, jnp.ones(2)),
        beta=positive(1.0, INF, jnp.ones(2)),
    ),
    row(
        alignment.free_energy,
        energies=OF_WINDOWS,
        beta=nonnegative(1.0, jnp.ones(2)),
        num_windows=WINDOWS,
        num_labels=LABELS,
        mean=flag(False),
    ),
    row(alignment.best_path, energies=OF_WINDOWS, num_windows=WINDOWS, num_labels=LABELS),
    row(sparse_coding.energy, **CODE, z=energies(jnp.ones(2), 1.0, X, jnp.ones(3))),
    row(sparse_coding.infer, **CODE, num_steps=count(2), accelerated=flag(True)),
    row(sparse_coding.free_energy, **CODE, num_steps=count(2)),
    row(sparse_coding.shrink, z=energies(X), threshold=nonnegative(0.1, jnp.ones(5))),
    row(sparse_coding.unit_columns, dictionary=energies(W, 1.0, jnp.ones(2), W[None])),
    row(
        diagnostics.energy_gap,
        energy=energy(lambda params, x: quadratic(x)),
        params=allowed(None),
        positives=batch("positives")._replace(named="positives"),
        negatives=batch("negatives")._replace(named="negatives"),
    ),
    row(
        diagnostics.gradient_norms,
        energy=energy(quadratic),
        position=positions(X, X.astype(int)),
    ),
    row(
        diagnostics.low_energy_volume,
        energies=energies(jnp.ones(4), 1.0, X, jnp.ones(0)),
        data_energies=energies(jnp.ones(3), 1.0, X, jnp.ones(0)),
        mass=fraction(0.9, jnp.ones(2)),
        log_weights=numbers(None, jnp.ones(3), jnp.ones((4, 1))),
    ),
    row(diagnostics.rhat, history=HISTORY),
    row(diagnostics.ess, history=HISTORY),
    row(
        diagnostics.summary,
        samples=Arg(
            HISTORY.valid,
            (
                *(b for b in HISTORY.bad if not isinstance(b, dict)),
                (),
                HISTORY.valid[:, :1],
                {"a": HISTORY.valid, "b": HISTORY.valid[1:]},
            ),
        ),
    ),
]
