"""The settings of ``images``: the flags that are given, and defaults that suit the images.

Each has the name of its flag. They are read once, in ``__main__``; nothing else reads a flag.
"""

from pathlib import Path
from typing import Any, NamedTuple

from experiments.data import image_sets
from experiments.images.defaults import KERNEL, defaults
from experiments.run import errors


class Settings(NamedTuple):
    """What a run trains, draws and measures."""

    # Data
    data: str
    data_dir: str | None
    outliers: list[str]
    hold_out_class: int
    # Run
    seed: int
    quick: bool
    init_from: str | None
    sample_from: str | None
    # Network
    channels: list[int]
    hidden: int
    precision: str
    # Objective
    loss: str
    margin: float
    generative: str
    generative_weight: float
    flow_weight: float
    denoising_weight: float
    data_noise: float
    # Training
    steps: int
    flow_steps: int
    learning_rate: float
    flow_learning_rate: float
    train_minutes: float
    # Chains
    sampler: str
    step_size: float
    langevin_steps: int
    chains: int
    buffer_size: int
    groups: int
    restart: float
    # Samples and likelihood at the end
    samples: int
    sample_steps: int
    sample_beta: float
    guidance: float
    betas: int


def absolute(which: Any) -> Any:
    """Return a file or folder as a path that holds anywhere; another value as it is."""
    is_path = isinstance(which, str) and which not in image_sets.NAMED
    return str(Path(which).absolute()) if is_path else which


def settle(values: dict[str, Any], shape: tuple[int, ...], *, mesh: int = 1) -> Settings:
    """Return the settings for images of a shape; refuse those that cannot be.

    Args:
        values: by flag; None where the images decide.
        shape: (height, width[, 3]) of the images.
        mesh: number of devices that share the chains.
    """
    chosen = defaults(shape, values["quick"], values["generative"], values["sampler"])
    values = values | {name: v for name, v in chosen.items() if values[name] is None}
    changed: dict[str, Any] = {name: absolute(values[name]) for name in ("data", "init_from")}
    changed["outliers"] = [absolute(which) for which in values["outliers"]]
    changed["channels"] = [int(width) for width in values["channels"]]
    settings = Settings(**values | changed)
    _refuse(settings, shape, mesh)
    return settings


def _refuse(settings: Settings, shape: tuple[int, ...], mesh: int) -> None:
    """Reject settings that do not fit the images or one another."""
    if settings.channels and min(shape[:2]) < KERNEL:
        raise errors.UsageError(
            f"--channels={','.join(map(str, settings.channels))} needs images of at least "
            f"{KERNEL} pixels per side; those of {settings.data} have shape {shape}. Pass "
            "--channels= for a dense network."
        )
    if not settings.steps and settings.generative != "energy_matching":
        raise errors.UsageError(f"--generative={settings.generative} needs --steps >= 1, got 0.")
    if settings.generative == "energy_matching" and not (settings.flow_steps or settings.init_from):
        raise errors.UsageError("--flow_steps=0 needs --init_from: the flow is trained first.")
    if not settings.steps and not settings.flow_steps:
        raise errors.UsageError("--steps=0 and --flow_steps=0 leave nothing to train: raise one.")
    if settings.chains > settings.buffer_size:
        raise errors.UsageError(
            f"--chains={settings.chains} cannot exceed the --buffer_size={settings.buffer_size} "
            "that they come from."
        )
    groups = settings.groups
    if settings.chains % groups or settings.buffer_size % groups or groups % mesh:
        raise errors.UsageError(
            f"--groups={groups} must divide --chains={settings.chains} and --buffer_size="
            f"{settings.buffer_size}, and be a multiple of --mesh={mesh}."
        )
