"""One energy F(x, y) on images of any size that classifies, generates and spots outliers.

    python -m experiments.images --data=mnist --outliers=notmnist --quick --workdir=runs/mnist
    python -m experiments.images --data=my_folder --workdir=runs/mine
    python -m experiments.images --init_from=runs/mine --steps=2000 --workdir=runs/longer
    python -m experiments.images --sample_from=runs/mine --samples=20 --workdir=runs/more

A joint energy over images x and classes y is trained by the sum of two objectives: a loss over
the classes given the image (``--loss``), and one that models (image, class) (``--generative``).
With pcd, the choice for small images, persistent Langevin chains that carry their class start from
noise, and it is maximum likelihood. With energy_matching, the choice for large ones, it is first a
flow, whose potential the energy is, from noise to images: quick, but no Gibbs energy yet. Denoising
score matching beside it makes it one near the data; chains beside both, that start at what the flow
drew, wherever the energy is low (``--steps``). No chain leaves its class: how likely the classes
are is found after training, by annealing (``--betas``). Then argmin_y F(x, y) classifies, Langevin
dynamics (``--sampler``) on F(., y) from noise, carried to images by the flow if there was one,
draws images of class y (``--guidance`` makes them surer of it), on F(x) with half of x given it
completes an image, and the free energy F(x) says what is like no image of the data. The network is
dense, or has convolutions first (``--channels``). What no flag says is chosen by the size of the
images.

The learning rate rises and falls over all of ``--steps``, so a run with more steps is another run
from its first update on. To train a finished run longer, start a new one at its weights with
``--init_from``: the learning rate rises and falls once more, over the new ``--steps``, and the
chains start anew. A lower ``--learning_rate`` keeps nearer to what was learnt; another ``--seed``
gives other batches than the first run had.
"""

from absl import flags

from experiments.images import flags as image_flags
from experiments.run import command_line, entry, errors, work_directory

flags.adopt_module_key_flags(image_flags)
FLAGS = flags.FLAGS

command_line.parse(__name__, image_flags.help_text)  # before JAX is imported, which takes seconds

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import evaluation, losses_by_name, plots
from experiments.data import image_sets, splits
from experiments.data.image_sets import Images
from experiments.images import chains, loading, log_likelihood, objective_terms, report, sampling
from experiments.images.defaults import KERNEL, defaults
from experiments.images.loading import Prepared, load, prepare
from experiments.images.network import Model
from experiments.images.training import batches, fit, flow_batches, refining_batches
from experiments.run import alarms
from experiments.run.checkpoints import write_parameters
from experiments.run.progress import stage

# Flags that the weights of a run belong to.
FIXED = ("data", "hold_out_class", "hidden", "channels", "precision", "generative", "data_noise")


def train(
    run: work_directory.Run, prepared: Prepared, network_key, fit_key
) -> tuple[Any, dict, list[str]]:
    """Train as the flags say.

    Returns the averaged parameters, the history of the last part, and the alarms of all parts.
    """
    (images, _, model), loss = prepared, losses_by_name.named(FLAGS.loss, FLAGS.margin)
    split = images.split
    if FLAGS.init_from:
        params = loading.parameters_of(Path(FLAGS.init_from), model)
    else:
        params = model.init(network_key)
    flow_key, start_key, fit_key = jax.random.split(fit_key, 3)
    labels = chains.proportions(split.train_y, FLAGS.buffer_size)
    initial = chains.from_noise(labels, split.train_x.shape[1], run.mesh)
    batch = batches(split, FLAGS.data_noise, FLAGS.seed)
    terms, shown = objective_terms.discriminative(model, loss), "discriminative/loss"
    rung: list[str] = []
    if model.flows:
        terms |= objective_terms.matching(
            model,
            weight=FLAGS.flow_weight,
            denoising_weight=FLAGS.denoising_weight,
            noise=FLAGS.data_noise,
        )
        if FLAGS.flow_steps:
            name = "flow" if FLAGS.steps else ""
            params, history = fit(
                run,
                name,
                objective_terms.trained(model, terms),
                params,
                flow_batches(split, FLAGS.seed),
                flow_key,
                steps=FLAGS.flow_steps,
                learning_rate=FLAGS.flow_learning_rate,
                shown="matching/loss",
            )
            rung += alarms.in_history(name, history)
            if not FLAGS.steps:
                return params, history, rung
        dense = model.dense(params)
        drawn = sampling.starts(start_key, model, dense, labels, FLAGS.data_noise)
        initial = chains.from_images(labels, drawn, run.mesh)
        batch = refining_batches(split, FLAGS.data_noise, FLAGS.seed)
    if FLAGS.generative != "none":
        terms |= objective_terms.likelihood(
            model,
            initial=initial,
            weight=FLAGS.generative_weight,
            make_sampler=chains.sampler_named(FLAGS.sampler, FLAGS.step_size),
            langevin_steps=FLAGS.langevin_steps,
            num_chains=FLAGS.chains,
            buffer_size=FLAGS.buffer_size,
            restart_fraction=FLAGS.restart,
            groups=FLAGS.groups,
        )
        shown = "generative/energy_gap"
    params, history = fit(
        run,
        "",
        objective_terms.trained(model, terms),
        params,
        batch,
        fit_key,
        steps=FLAGS.steps,
        learning_rate=FLAGS.learning_rate,
        shown=shown,
        # Without a flow before, the first gradients are the longest.
        longest=10.0 if FLAGS.generative == "pcd" else 100.0,
    )
    return params, history, rung + alarms.in_history("", history)


def sample(key, prepared: Prepared, params, count: int) -> sampling.Samples:
    """Draw images from noise, the same number of every class, as the flags say."""
    return sampling.generate(
        key,
        prepared.model,
        params,
        np.sort(np.arange(count) % len(prepared.images.classes)),
        moves=chains.sampler_named(FLAGS.sampler, FLAGS.step_size),
        num_steps=FLAGS.sample_steps,
        beta=FLAGS.sample_beta,
        guidance=FLAGS.guidance,
        noise=FLAGS.data_noise,
    )


def absolute(which: Any) -> Any:
    """Return a file or folder as a path that holds anywhere; another value as it is."""
    is_path = isinstance(which, str) and which not in image_sets.NAMED
    return str(Path(which).absolute()) if is_path else which


def adopt(source: str) -> None:
    """Give the flags that were not given the values of a finished run; refuse another model's."""
    folder = Path(source)
    settings = work_directory.flags_of(folder)
    if not (folder / "summary.json").exists():
        raise errors.UsageError(
            f"{source} is not finished: run the same command again, to its end."
        )
    names = {name for group in image_flags.GROUPS.values() for name in group}
    for name in settings.keys() & names - {"init_from", "sample_from", "seed"}:
        flag, text = FLAGS[name], settings[name]
        value = flag.parser.parse(text)
        if not flag.present:
            flag.value = value
        elif name in FIXED and flag.value not in (value, text) and absolute(flag.value) != value:
            raise errors.UsageError(
                f"{flag.serialize()}, but {source} has {text}, which its weights belong to: leave "
                "the flag out."
            )


def draw_more(run: work_directory.Run, source: str) -> None:
    """Draw from the weights of a finished run: samples.png and samples.npz."""
    _, params, prepared, _ = load(source)
    images = prepared.images
    with stage(f"drawing {FLAGS.samples} samples, {FLAGS.sample_steps} steps each"):
        samples = sample(jax.random.key(FLAGS.seed), prepared, params, FLAGS.samples)
    np.savez(run.workdir / "samples.npz", images=samples.images, labels=samples.labels)
    columns = min(16, int(np.bincount(samples.labels).max()))
    shown = report.rows(images, samples.images, samples.labels, columns)
    names = images.classes[: len(shown)]
    plots.image_rows(run.workdir / "samples.png", {"samples": shown}, names)
    run.finish({"samples": len(samples.images), "picture": str(run.workdir / "samples.png")})


def settle(images: Images) -> None:
    """Give the flags that were not given what suits the images, and refuse what cannot be."""
    for name in ("data", "init_from"):  # what is trained on can be found from anywhere
        FLAGS[name].value = absolute(FLAGS[name].value)
    FLAGS["outliers"].value = [absolute(which) for which in FLAGS.outliers]
    chosen = defaults(images.shape, FLAGS.quick, FLAGS.generative, FLAGS.sampler)
    for name, value in chosen.items():
        if FLAGS[name].value is None:
            FLAGS[name].value = value
    image_sets.hold_out(images, FLAGS.hold_out_class)  # or refuse
    if FLAGS.channels and min(images.shape[:2]) < KERNEL:
        raise errors.UsageError(
            f"{FLAGS['channels'].serialize()} needs images of {KERNEL} pixels or "
            f"more across, those of {FLAGS.data} are of shape {images.shape}: --channels=."
        )
    if not FLAGS.steps and FLAGS.generative != "energy_matching":
        raise errors.UsageError(f"--generative={FLAGS.generative} needs --steps >= 1, got 0.")
    if FLAGS.generative == "energy_matching" and not (FLAGS.flow_steps or FLAGS.init_from):
        raise errors.UsageError("--flow_steps=0 needs --init_from: the flow is trained first.")
    if not FLAGS.steps and not FLAGS.flow_steps:
        raise errors.UsageError("--steps=0 and --flow_steps=0 leave nothing to train: raise one.")
    if FLAGS.chains > FLAGS.buffer_size:
        raise errors.UsageError(
            f"--chains={FLAGS.chains} cannot exceed the --buffer_size={FLAGS.buffer_size} that "
            "they come from."
        )
    groups = FLAGS.groups
    if FLAGS.chains % groups or FLAGS.buffer_size % groups or groups % FLAGS.mesh:
        raise errors.UsageError(
            f"--groups={groups} must divide --chains={FLAGS.chains} and --buffer_size="
            f"{FLAGS.buffer_size}, and be a multiple of --mesh={FLAGS.mesh}."
        )


def main() -> None:
    """Train, draw samples, evaluate and report; or draw more samples of a run."""
    source = FLAGS.sample_from or FLAGS.init_from
    if source:
        adopt(source)
    images = image_sets.load(FLAGS.data, FLAGS.data_dir)
    others = {}
    for which in FLAGS.outliers if not FLAGS.sample_from else ():
        name = image_sets.name_of(which)
        if name in others or name in (*splits.OUTLIERS, *report.SHOWN):
            raise errors.UsageError(f"--outliers={which}: there are others of the name {name}.")
        others[name] = image_sets.outliers(which, images.shape, FLAGS.data_dir)
    settle(images)
    run = entry.start()
    if FLAGS.sample_from:
        draw_more(run, FLAGS.sample_from)
        return
    prepared = prepare(
        images,
        FLAGS.hold_out_class,
        FLAGS.hidden,
        FLAGS.data_noise,
        channels=[int(width) for width in FLAGS.channels],
        precision=FLAGS.precision,
        generative=FLAGS.generative,
    )
    images, model = prepared.images, prepared.model
    network_key, fit_key, sample_key, nats_key, paint_key = jax.random.split(
        jax.random.key(FLAGS.seed), 5
    )
    trained, history, rung = train(run, prepared, network_key, fit_key)
    likelihood = {}
    with ThreadPoolExecutor() as pool:  # compiles and computes on another core
        judge = pool.submit(evaluation.judge, images.split.train_x, images.split.train_y)
        if FLAGS.betas:
            trained, likelihood, more = measure(run, nats_key, prepared, trained)
            rung += more
        params = model.dense(trained)  # those that are saved
        with stage(
            f"drawing {FLAGS.samples} samples and completing {len(images.classes)} images, "
            f"{FLAGS.sample_steps} steps each"
        ):
            drawing = pool.submit(sample, sample_key, prepared, params, FLAGS.samples)
            inpainted = inpaint(paint_key, model, params, images)
            samples = drawing.result()
        with stage("training the classifier that judges the samples"):
            judging = judge.result()
    report.write(
        run,
        report.Results(
            classes=report.by_parts(model.classes, params),
            images=images,
            outliers=splits.outliers(images.split.test_x, FLAGS.seed) | prepared.unseen | others,
            loss=FLAGS.loss,
            history=history,
            samples=samples,
            inpainted=inpainted,
            likelihood=likelihood,
            sampler=FLAGS.sampler,
            flows=model.flows,
            judge=judging,
            alarms=rung,
        ),
        image_sets.name_of(FLAGS.data),
        report.TARGETS.get(FLAGS.data, {}),
    )


def measure(
    run: work_directory.Run, key, prepared: Prepared, trained
) -> tuple[Any, dict, list[str]]:
    """Estimate the likelihood.

    Returns parameters of classes as likely as their images, the likelihood, and alarms.
    """
    model = prepared.model
    likelihood, levels = log_likelihood.measure(
        key,
        model,
        model.dense(trained),
        prepared.images.split,
        noise=FLAGS.data_noise,
        step_size=FLAGS.step_size,
        num_betas=FLAGS.betas,
        seed=FLAGS.seed,
    )
    rung = []
    if not levels.any() and len(levels) > 1:
        rung = [
            "too few chains say how likely the classes are, so their energies stay as training "
            "left them: raise --betas."
        ]
        alarms.tell(rung)
    trained = model.raised(trained, levels)
    write_parameters(run.workdir / "parameters.npz", trained)
    return trained, likelihood, rung


def inpaint(key, model: Model, params, images: Images) -> report.Inpainted:
    """Complete the lower half of a test image of every class, several times."""
    split, shape = images.split, images.shape
    chosen = [np.flatnonzero(split.test_y == c)[0] for c in range(len(images.classes))]
    hidden = np.zeros(shape, bool)
    hidden[shape[0] // 2 :] = True
    completed = sampling.inpaint(
        key,
        model,
        params,
        split.test_x[chosen],
        hidden.ravel(),
        report.COMPLETIONS,
        moves=chains.sampler_named(FLAGS.sampler, FLAGS.step_size),
        num_steps=FLAGS.sample_steps,
        beta=FLAGS.sample_beta,
        noise=FLAGS.data_noise,
    )
    return report.Inpainted(split.test_x[chosen], hidden.ravel(), completed)


if __name__ == "__main__":
    entry.main(main)
