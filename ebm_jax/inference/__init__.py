"""Inference: the answer of lowest energy, and latent variables.

``energy`` arguments are functions of one configuration that return a scalar (); all functions raise
ValueError for other shapes and for candidates or starts without a common leading axis, and
TypeError for integer energies and for arguments that are not callable.
"""

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
