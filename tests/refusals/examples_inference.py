"""Inference, alignment, sparse coding, diagnostics."""

import jax.numpy as jnp
import numpy as np
import optax
import rules as r
from rules import INF, KEY, X, example, examples, only, plus, result

from ebm_jax import diagnostics
from ebm_jax.inference import alignment, denoising, differentiable, latent, sparse_coding

W, Y, TABLE = jnp.eye(2), jnp.ones(2), jnp.zeros((4, 3))


OF_WINDOWS = plus(TABLE, 1.0, jnp.zeros(3), TABLE[None], TABLE[:0])
COUNTED = {"num_windows": plus(None, 5), "num_labels": plus(None, 4)}

OF_Y = plus(Y, 1.0, X, jnp.ones(3))
DICTIONARY = plus(W, 1.0, Y, jnp.ones((3, 2)))
CODE = {"dictionary": DICTIONARY, "y": OF_Y}
CHAINS = np.random.default_rng(0).normal(size=(8, 2))
NO_CHAINS = (None, "h", object(), 1.0, CHAINS[:, 0], CHAINS[:3], [[1.0], [1.0, 2.0]], 1j * CHAINS)
HISTORY = only(CHAINS, {"a": CHAINS}, *NO_CHAINS)
START = only(Y, None, (), "y", object(), 1j * Y, Y.astype(int), {"a": Y, "b": Y > 0})


ROWS = [
    example(
        latent.minimize_over,
        use=lambda free: free(Y),
        optimizer=only(None, "adam", 0.1, optax.sgd, (1, 2)),
    ),
    example(
        latent.marginalize_over,
        use=lambda free: free(Y),
        beta=plus(1.0, jnp.ones(4)),
        log_weights=plus(None, jnp.zeros(2), jnp.zeros((4, 1))),
    ),
    example(denoising.denoise, sigma=only(0.1, *r.WEIGHT), beta=plus(1.0, 0.0, INF)),
    *examples(alignment, "free_energy best_path", energies=OF_WINDOWS, **COUNTED),
    *examples(sparse_coding, "energy infer free_energy", **CODE, z=OF_Y),
    example(sparse_coding.unit_columns, dictionary=plus(W, 1.0, Y, W[None])),
    example(diagnostics.energy_gap, params=only(None)),
    example(
        diagnostics.low_energy_volume,
        energies=plus(jnp.ones(4), 1.0, X, jnp.ones(0)),
        data_energies=plus(jnp.ones(3), 1.0, X, jnp.ones(0)),
        mass=only(0.9, *r.FRACTION),
        log_weights=plus(None, jnp.ones(3), jnp.ones((4, 1))),
    ),
    *examples(diagnostics, "rhat ess", history=HISTORY),
    example(
        diagnostics.summary,
        samples=only(CHAINS, *NO_CHAINS, (), CHAINS[:, :1], {"a": CHAINS, "b": CHAINS[1:]}),
    ),
    example(
        differentiable.unroll,
        start=START,
        last_steps=plus(1, 3),
        noise_sigma=0.1,
        key=KEY,
    ),
    example(
        differentiable.implicit_minimum,
        start=START,
        minimize=plus(lambda energy, y: y, *map(result, (Y[:1], (Y, Y), Y.astype(int)))),
    ),
]
