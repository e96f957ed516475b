"""Defaults of the flags of ``images``, by the shape of the images."""

import math
from typing import Any

KERNEL = 3  # pixels across, of a convolution
SMALL = 256  # pixels at most of images that are small


def defaults(
    shape: tuple[int, ...], quick: bool, generative: str | None = None, sampler: str | None = None
) -> dict[str, Any]:
    """Return the defaults of the flags for images of a shape."""
    pixels, wide = math.prod(shape), min(shape[:2]) >= KERNEL
    small = pixels <= SMALL
    generative = generative or ("pcd" if small else "energy_matching")
    matched = generative == "energy_matching"
    sampler = sampler or ("baoab" if small and not matched else "mala")
    if small:
        return {
            "generative": generative,
            "sampler": sampler,
            "channels": [8] if wide and not matched else [],
            "hidden": 512 if matched else 128,
            "flow_steps": 1000 if quick else 4000,
            "flow_learning_rate": 3e-3,
            "flow_weight": 1.0,
            "denoising_weight": 0.0,
            "steps": (250 if quick else 500) if matched else (1500 if quick else 4500),
            "learning_rate": 1e-3 if matched else 6e-3,
            "generative_weight": 1.0 if matched else 0.5,
            "langevin_steps": 20 if matched else 10,
            "step_size": 0.008,
            "chains": 256 if matched else 64,
            "buffer_size": 2560 if matched else 1280,
            "samples": 360,
            "sample_steps": 500 if quick or sampler == "baoab" else 1000,
            "guidance": 1.0,
            "betas": 0 if quick else 600,
            "train_minutes": 0.0,
        }
    deep = matched and wide and not quick  # convolutions: they take an hour, or an accelerator
    return {
        "generative": generative,
        "sampler": sampler,
        "channels": [32, 64, 128] if deep else [],
        "hidden": 512 if deep else 1024,
        "flow_steps": 6000 if deep else 16_000 if quick else 60_000,
        "flow_learning_rate": 2e-3,
        "flow_weight": (2 if deep else 6) / pixels,
        "denoising_weight": (4 if deep else 12) / pixels,
        "steps": (600 if deep else 0) if matched else (1000 if quick else 20_000),
        "learning_rate": 1.5e-4 if matched else 1e-3,
        "generative_weight": 0.007 if matched else 1.0,
        "langevin_steps": 20,
        "step_size": 0.002 if deep else 0.004,
        "chains": 128,
        "buffer_size": 1280 if quick else 2560,
        "samples": 400 if quick else 1000,
        "sample_steps": 300 if deep else 500,
        "guidance": 4.0 if matched else 2.0,
        "betas": 0,
        "train_minutes": 7.5 if quick else 0.0,
    }
