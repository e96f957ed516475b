"""From energies to answers: minimise over y, minimise or marginalise over a latent z."""

from ebm_jax.inference import alignment, sparse_coding
from ebm_jax.inference.denoising import denoise
from ebm_jax.inference.differentiable import implicit_minimum, unroll
from ebm_jax.inference.latent import marginalize_over, minimize_over
from ebm_jax.inference.minimum import Minimum, argmin_over, minimize

__all__ = [
    "Minimum",
    "alignment",
    "argmin_over",
    "denoise",
    "implicit_minimum",
    "marginalize_over",
    "minimize",
    "minimize_over",
    "sparse_coding",
    "unroll",
]
