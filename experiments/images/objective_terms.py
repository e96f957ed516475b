"""The terms of the objective of ``images``, each with its weight and the batch that it takes."""

from collections.abc import Callable

from ebm_jax import losses, objectives
from ebm_jax.types import Objective
from experiments.images import chains, flow
from experiments.images.network import Model
from experiments.images.settings import Settings

Terms = dict[str, tuple[float, Objective, Callable]]  # name: weight, objective, its batch


def discriminative(model: Model, loss: Callable) -> Terms:
    """Return a loss over the classes, of ``batch["labelled"]``, (x, y)."""
    term = objectives.discriminative(model.classes, loss)
    return {"discriminative": (1.0, term, lambda batch: batch["labelled"])}


def discriminative_on_the_way(model: Model) -> Terms:
    """Return the negative log-likelihood of the classes of ``batch["on_the_way"]``.

    The images lie between noise and data, and a part of some is noise. Flow matching determines the
    gradients of the energies in x alone; this term determines their differences between classes,
    at every time of the flow and where only a part of the image is known.
    """

    def classes(params, at):
        return flow.beta(at["t"]) * model.classes(params, at["x"])

    term = objectives.discriminative(classes, losses.nll)
    return {"classes_on_the_way": (1.0, term, lambda batch: batch["on_the_way"])}


def matching(
    model: Model, *, flow_weight: float, denoising_weight: float, data_noise: float
) -> Terms:
    """Return flow matching, of ``batch["flow"]``, and denoising score matching, of "clean".

    Where noise is as large as that of the data modelled, both want nearly one field; the flow
    alone leads there from afar, and score matching alone makes the energy there that of a Gibbs
    distribution.
    """
    of_flow = objectives.flow_matching(flow.energy(model.joint))
    terms: Terms = {"matching": (flow_weight, of_flow, lambda batch: batch["flow"])}
    if denoising_weight:  # or it would be differentiated for nothing
        denoising = objectives.denoising_score_matching(model.joint, data_noise)
        terms["denoising"] = (denoising_weight, denoising, lambda batch: batch["clean"])
    return terms


def likelihood(model: Model, settings: Settings, initial: Callable) -> Terms:
    """Return the likelihood of ``batch["configuration"]``, {"x", "y"}, by persistent chains."""
    term = objectives.persistent(
        model.joint,
        chains.sampler_named(settings.sampler, settings.step_size),
        num_steps=settings.langevin_steps,
        num_chains=settings.chains,
        buffer_size=settings.buffer_size,
        initial=initial,
        restart_fraction=settings.restart,
        burn_in=25,
        groups=settings.groups,
    )
    return {"generative": (settings.generative_weight, term, lambda batch: batch["configuration"])}


def trained(model: Model, terms: Terms) -> Objective:
    """Return the weighted sum of terms, as an objective of the trained parameters."""
    summed = objectives.weighted_sum(**terms)
    return Objective(
        lambda params, key: summed.init(model.dense(params), key),
        lambda params, *rest: summed.loss(model.dense(params), *rest),
    )
