"""What objectives without chains cost, in gradients and in matrix products."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ebm_jax
from ebm_jax import losses, objectives, training
from ebm_jax.energies import networks
from scripts.benchmark import measure
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite


def run_objectives(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Gradients of score and energy matching, against those that they amount to.

    Of denoising score matching: gradients of the mean energy, in the parameters and in x. Of flow
    matching: one gradient in the parameters of the mean squared score.
    """
    del peers
    num, width, calls = (8, 8, 1) if quick else (512, 256, 20)
    network, key = networks.MLP((width, width)), jax.random.key(0)
    params = network.init(key, jnp.zeros(64))
    x = jax.random.normal(jax.random.key(1), (num, 64))
    matched = {
        "denoising score matching": objectives.denoising_score_matching(network.apply, 0.3),
        "flow matching": objectives.flow_matching(network.apply),
    }

    def mean_energy(params, x):
        return jnp.mean(jax.vmap(network.apply, (None, 0))(params, x))

    def squared_score(params, x):
        score = jax.vmap(jax.grad(network.apply, 1), (None, 0))(params, x)
        return jnp.mean(jnp.sum(score**2, axis=1))

    cases = {
        "gradient of the energy, with respect to x too": measure.case(
            ebm_jax.jit(jax.grad(mean_energy, (0, 1))), params, x, calls=calls
        ),
        "gradient of a squared score": measure.case(
            ebm_jax.jit(jax.grad(squared_score)), params, x, calls=calls
        ),
    }
    for name, objective in matched.items():
        gradient = jax.grad(lambda p, x, loss=objective.loss: loss(p, (), x, key)[0])
        cases[name] = measure.case(ebm_jax.jit(gradient), params, x, calls=calls)
    first, times = measure.interleaved(cases, repetitions)
    ratios = {
        "score_matching_vs_gradient": measure.speed(
            times, "denoising score matching", "gradient of the energy, with respect to x too"
        ),
        "flow_matching_vs_squared_score": measure.speed(
            times, "flow matching", "gradient of a squared score"
        ),
    }
    work = (
        f"{calls} gradients with respect to the parameters; batches of {num} vectors of length 64; "
        f"an MLP with two hidden layers of width {width}"
    )
    return Suite(work, None, ratios, {}, times, first, {})


def run_images(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """An update of ``images --quick`` on MNIST, against its matrix products.

    A layer's products: three of the loss over classes, which has the larger batch; six of each of
    flow and score matching, which differentiate twice. A peer matches scores twice instead.
    """
    from experiments.images import defaults, flow, network, objective_terms
    from experiments.images import training as image_training

    shape = (4, 4) if quick else (28, 28)
    chosen = defaults.defaults((28, 28), True, "energy_matching")
    pixels, hidden, updates = (16, 8, 2) if quick else (784, chosen["hidden"], 10)
    num, beside = image_training.FLOW_BATCH, image_training.BATCH_BESIDE_FLOW
    x, y = np.random.default_rng(0).random((beside, pixels), np.float32), np.zeros(beside, int)
    model = network.make_model(x, shape, 10, hidden, 0.13, flows=True)
    terms = objective_terms.discriminative(model, losses.nll) | objective_terms.matching(
        model,
        flow_weight=chosen["flow_weight"],
        denoising_weight=chosen["denoising_weight"],
        data_noise=0.13,
    )
    objective = objectives.weighted_sum(**terms)
    batch = {
        "flow": flow.batch(x[:num], y[:num]),
        "clean": {"x": x[:num], "y": y[:num]},
        "labelled": (x, y),
    }
    batches = jax.tree.map(lambda leaf: np.stack([leaf] * updates), batch)
    trainer = training.trainer(objective, optax.adam(1e-4), average_decay=0.998)
    state = trainer.init(model.init(jax.random.key(0)), jax.random.key(1))
    layers = [(jnp.ones((beside, a)), jnp.full((a, hidden), 0.01)) for a in (pixels, hidden)]

    @ebm_jax.jit
    def products(layers):
        def once(_, before):
            for count, size in ((3, beside), (12, num)):
                for rows, weights in count * layers:  # each waits for the one before
                    before = jnp.max((rows[:size] + before) @ weights) * 1e-9
            return before

        return jax.lax.fori_loop(0, updates, once, jnp.zeros(()))

    cases = {
        "ours": measure.case(trainer.update, state, batches, jax.random.key(2)),
        "matrix products only": measure.case(products, layers),
    }
    torch = peers.torch_cases(
        "images", hidden=hidden, noise=0.13, pixels=pixels, batch=beside, few=num, updates=updates
    )
    first, times = measure.interleaved(cases | torch, repetitions)
    ratios = {"images_vs_products": measure.speed(times, "ours", "matrix products only")}
    against = {name: measure.ratio(times, name, "ours") for name in torch}
    work = (
        f"{updates} updates of the model of experiments.images --quick, two dense layers on "
        f"{pixels} pixels. The loss of an update is the sum of the negative log-likelihood of the "
        f"classes of {beside} images, and flow and denoising score matching on {num}. A peer "
        "matches scores twice instead of matching a flow, which costs the same matrix products"
    )
    return Suite(work, None, ratios, against, times, first, {}, dict.fromkeys(torch, "ours"))
