"""A finished run of ``images``: its data, its model and its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ebm_jax.types import Params
from experiments.data import image_sets
from experiments.data.image_sets import Images
from experiments.images.network import Model, model_of
from experiments.run import checkpoints, command_line, errors, work_directory


class Prepared(NamedTuple):
    """What a run was made of: its images, and an untrained model of them."""

    images: Images
    unseen: dict[str, np.ndarray]  # the images of the class held out, if any
    model: Model


def load(workdir: Path | str) -> tuple[Callable, Any, Prepared, dict[str, str]]:
    """Return (energy, params, prepared, flags) of a finished run.

    energy(params, {"x", "y"}) -> (), x (pixels,) in [0, 1] and y the number of a class in
    ``prepared.images.classes``; the parameters are the averaged ones, as the energy takes them.
    """
    workdir = command_line.home_path(workdir)
    given = work_directory.flags_of(workdir)
    try:
        images = image_sets.load(given["data"], given.get("data_dir"))
        images, unseen = image_sets.hold_out(images, int(given["hold_out_class"]))
        model = model_of(
            images,
            hidden=int(given["hidden"]),
            data_noise=float(given["data_noise"]),
            channels=[int(width) for width in given["channels"].split(",") if width],
            precision=given["precision"],
            generative=given["generative"],
        )
    except KeyError as error:
        message = f"{workdir} is not a run of images: it has no flag {error}."
        raise errors.UsageError(message) from None
    params = model.dense(parameters_of(workdir, model))
    return model.joint, params, Prepared(images, unseen, model), given


def parameters_of(workdir: Path, model: Model) -> Params:
    """Return the averaged parameters of a finished run, as they are trained."""
    like = jax.eval_shape(model.init, jax.random.key(0))
    return checkpoints.read_parameters(workdir / "parameters.npz", like)
