r"""Find which positions of an RNA or a protein are in contact, from aligned sequences.

    python -m experiments.alignment --data=rf00167 --workdir=runs/rna
    python -m experiments.alignment --data=family.fasta.gz --structure="((..))" --workdir=runs/mine

Direct coupling analysis: sequences are weighted by how many are similar to them, a Potts model with
couplings between all positions is trained by pseudo-likelihood or by persistent chains, and pairs
of positions with strong couplings are predicted to be in contact. The report also has new
sequences, log Z, the entropy, and the agreement of samples and data.
"""

from absl import flags

from experiments.run import command_line, entry, errors

DATA_DIR = "Folder of published data, EBM_JAX_DATA if unset."
TRAINING = ("pseudo_likelihood", "persistent")
DEFAULTS = {  # by --training: updates, penalty of fields, of couplings
    "pseudo_likelihood": (200, 1.0, 20.0),
    "persistent": (300, 0.0, 0.0),
}


def _defaults(place: int) -> str:
    return ", ".join(f"{values[place]:g} for {name}" for name, values in DEFAULTS.items())


command_line.define_path(
    "data", None, "FASTA file of aligned sequences, gzipped or not; or rf00167 or rf00379."
)
command_line.define_path("data_dir", None, DATA_DIR)
flags.DEFINE_enum(
    "alphabet", None, ("rna", "dna", "protein"), "Letters; if unset, found from the data."
)
flags.DEFINE_string(
    "columns_of", None, "Name of a sequence: keep the columns where it has no gap; if unset, all."
)
command_line.define_path(
    "structure",
    None,
    "Known pairs: dot-bracket notation, or a file with it or with two numbers per line.",
)
command_line.define_float(
    "identity",
    0.8,
    "Sequences with at least this share of equal letters share one weight.",
    1e-9,
    1,
)
flags.DEFINE_enum("training", "pseudo_likelihood", TRAINING, "Training method.")
flags.DEFINE_integer(
    "steps", None, f"Largest number of updates; if unset, {_defaults(0)}.", lower_bound=1
)
command_line.define_float(
    "field_penalty", None, f"Weight of the squared fields; if unset, {_defaults(1)}.", 0.0
)
command_line.define_float(
    "coupling_penalty", None, f"Weight of the squared couplings; if unset, {_defaults(2)}.", 0.0
)
flags.DEFINE_integer("chains", 2000, "Number of persistent chains.", lower_bound=2)
flags.DEFINE_integer("sweeps", 5, "Sweeps of the persistent chains between updates.", lower_bound=1)
command_line.define_float(
    "learning_rate", 0.05, "Initial learning rate with persistent chains.", 1e-9
)
flags.DEFINE_integer("samples", 4000, "Number of new sequences.", lower_bound=2)
flags.DEFINE_integer(
    "sample_sweeps", 200, "Gibbs sweeps before a new sequence is kept.", lower_bound=1
)
flags.DEFINE_integer(
    "betas", 500, "Number of temperatures of the annealing for log Z.", lower_bound=2
)
flags.DEFINE_integer("annealed_chains", 200, "Number of chains of the annealing.", lower_bound=20)
command_line.define_path("score", None, "FASTA file of sequences to score, with the same columns.")
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import jax.numpy as jnp
import numpy as np

from experiments import plots
from experiments.alignment import model, pictures, report, structure, training
from experiments.data import alignments
from experiments.data.alignments import ALPHABETS, Alignment
from experiments.run import alarms, loop, progress, work_directory

CONVERGED = 0.95  # of the Pearson correlation, for persistent chains
TOLERANCE = 1e-4  # of the gradient norm of the pseudo-likelihood, per effective sequence


def load() -> tuple[Alignment, structure.Pairs | None, int]:
    """Return the alignment and the known structure that the flags name, and a record to show."""
    if not FLAGS.data:
        raise errors.UsageError(
            "--data is not set: name a FASTA file of aligned sequences, or one of "
            f"{', '.join(alignments.PUBLISHED)}."
        )
    known = alignments.PUBLISHED.get(FLAGS.data)
    columns_of = FLAGS.columns_of or (known.columns_of if known else None)
    found = alignments.load(FLAGS.data, FLAGS.data_dir, kind=FLAGS.alphabet, columns_of=columns_of)
    for name, number in zip(("sequences", "columns"), found.letters.shape, strict=True):
        if number < 2:
            raise errors.UsageError(
                f"--data={FLAGS.data}: the number of {name} is {number}; at least 2 are needed."
            )
    shown = alignments.record_number(found.names, columns_of) if columns_of else 0
    notation = FLAGS.structure
    if notation is None and known and columns_of == known.columns_of:
        notation = known.structure
    if notation is None:
        return found, None, shown
    return found, structure.read(notation, found.columns, found.file_columns), shown


def read_scored(alignment: Alignment) -> tuple[list[str], np.ndarray] | None:
    """Return the sequences of --score in the columns of the alignment."""
    if not FLAGS.score:
        return None
    where = f"--score={FLAGS.score}"
    content = alignments.read_file(FLAGS.score, "score")
    given = alignments.parse(content, where, alignment.kind)
    width = given.letters.shape[1]
    if width == len(alignment.columns):
        return given.names, given.letters
    if width == alignment.file_columns:
        return given.names, given.letters[:, alignment.columns]
    raise errors.UsageError(
        f"{where} has {width} columns; the alignment has {len(alignment.columns)} that are kept, "
        f"of {alignment.file_columns}."
    )


def fit(run: work_directory.Run, data, pairs, base, effective: float, key):
    """Train as the flags say; return the parameters, the history and what went wrong."""
    steps, field_penalty, coupling_penalty = DEFAULTS[FLAGS.training]
    steps = steps if FLAGS.steps is None else FLAGS.steps
    field_penalty = field_penalty if FLAGS.field_penalty is None else FLAGS.field_penalty
    coupling_penalty = (
        coupling_penalty if FLAGS.coupling_penalty is None else FLAGS.coupling_penalty
    )
    penalties = {"field_penalty": field_penalty, "coupling_penalty": coupling_penalty}
    if FLAGS.training == "pseudo_likelihood":
        tolerance = TOLERANCE * effective
        trainer = training.pseudo_likelihood(data, tolerance=tolerance, **penalties)
        start = jax.tree.map(jnp.zeros_like, base)
    else:
        objective = training.persistent(
            pairs,
            base,
            num_chains=FLAGS.chains,
            sweeps=FLAGS.sweeps,
            **{name: value / effective for name, value in penalties.items()},
        )
        trainer, start = training.gradient_descent(objective, FLAGS.learning_rate, steps), base
    init_key, train_key = jax.random.split(key)
    state, history = loop.train(
        run,
        "",
        trainer,
        trainer.init(start, init_key),
        lambda t: np.float32(t),
        train_key,
        num_steps=steps,
        group=min(10, steps),
        shown="loss_total" if FLAGS.training == "pseudo_likelihood" else "pearson",
    )
    warnings = alarms.in_history("", history)
    norm = float(history["gradient_norm"][-1])
    if FLAGS.training == "pseudo_likelihood" and norm > tolerance:
        warnings.append(
            f"the pseudo-likelihood has not converged after {steps} updates: the gradient norm is "
            f"{norm:.3g}, above {tolerance:.3g}; raise --steps."
        )
    return state.average, history, warnings


def measure(params, base, data_pairs, sample_pairs, samples, key) -> tuple[dict, list[str]]:
    """Return log Z, the entropy and the agreement of samples and data, and what went wrong."""
    length, warnings = base.fields.shape[0], []
    estimate = model.log_partition(
        key, params, base, num_betas=FLAGS.betas, num_chains=FLAGS.annealed_chains
    )
    energies = np.asarray(model.energies(params, samples), np.float64)
    log_z, interval = float(estimate.log_z), [float(end) for end in estimate.interval]
    mean, error = energies.mean(), 1.96 * energies.std(ddof=1) / len(energies) ** 0.5
    agreement = float(model.pearson(sample_pairs, data_pairs))
    size = float(estimate.effective_sample_size)
    if FLAGS.training == "persistent" and agreement < CONVERGED:
        warnings.append(
            f"the training has not converged: the Pearson correlation is {agreement:.3f}, below "
            f"{CONVERGED}; raise --steps, or --sample_sweeps where chains mix slowly."
        )
    if size < 20:
        warnings.append(
            f"log Z is unreliable: the effective sample size is {size:.1f}, below 20; raise "
            "--betas."
        )
    entropies = [interval[0] + mean - error, interval[1] + mean + error]
    summary = {
        "pearson": agreement,
        "log_z": log_z,
        "interval": interval,
        "effective_sample_size": size,
        "mean_energy": mean,
        "entropy_per_site": (log_z + mean) / length,
        "entropy_interval": [entropy / length for entropy in entropies],
    }
    return summary, warnings


def draw(run, sequence: str, known, scores, connected, summary, history) -> None:
    """Write the figures, but that of scored sequences."""
    pictures.contact_map(run.workdir / "contact_map.png", scores, known)
    pictures.arcs(run.workdir / "arcs.png", scores, known, sequence)
    data, model_samples = connected
    path = run.workdir / "correlations.png"
    pictures.correlations(path, data, model_samples, summary["pearson"])
    shown = "loss_total" if FLAGS.training == "pseudo_likelihood" else "pearson"
    titles = {"loss_total": "penalised loss", "pearson": "Pearson, persistent chains and data"}
    plots.curves(run.workdir / "training.png", titles[shown], history["step"], {"": history[shown]})


def score(run, params, names: list[str], letters: np.ndarray, kind: str, log_z: float):
    """Write the energies and mutations of the user's sequences, and return them."""
    changes = np.stack([np.asarray(model.mutations(params, x)) for x in letters])
    scored = report.Scored(names, letters, np.asarray(model.energies(params, letters)), changes)
    run.write("scores.csv", report.energies(scored, log_z))
    run.write("mutations.csv", report.mutations(scored, kind))
    sequence = alignments.decode(letters[:1], kind)[0]
    pictures.mutations(run.workdir / "mutations.png", changes[0], sequence, kind, names[0])
    return scored


def write(run, alignment, known, params, scores, samples, summary, to_score, warnings) -> None:
    """Write the tables and the page, and finish the run."""
    energies = np.asarray(model.energies(params, samples))
    run.write("contacts.csv", report.contacts(scores, alignment.columns, known))
    run.write("samples.fasta", report.sampled(samples, energies, alignment.kind))
    scored = None
    if to_score:
        names, letters = to_score
        scored = score(run, params, names, letters, alignment.kind, summary["log_z"])
    page = report.page(
        run.workdir,
        data=FLAGS.data,
        alignment=alignment,
        scores=scores,
        pairs=known,
        samples=samples,
        sweeps=FLAGS.sample_sweeps,
        scored=scored,
        summary=summary | {"seconds": run.seconds()},
        warnings=warnings,
        flags=run.flag_text,
    )
    run.write("report.html", page)
    alarms.tell(warnings)
    run.finish(summary | {"alarms": warnings, "report": str(run.workdir / "report.html")})


def main() -> None:
    """Read, train, measure, draw, report."""
    run = entry.start()
    alignment, known, shown = load()
    (sequence,) = alignments.decode(alignment.letters[[shown]], alignment.kind)
    to_score, q = read_scored(alignment), len(ALPHABETS[alignment.kind])
    fit_key, sample_key, anneal_key = jax.random.split(jax.random.key(FLAGS.seed), 3)
    with progress.stage("weighting the sequences"):
        weights = model.sequence_weights(alignment.letters, q, FLAGS.identity)
    data, effective = training.Data(*model.blocks(alignment.letters, weights)), weights.sum()
    data_pairs = model.pair_frequencies(*data, q)
    base, began = model.profile(data_pairs, effective), run.seconds()
    params, history, warnings = fit(run, data, data_pairs, base, float(effective), fit_key)
    trained = run.seconds() - began
    with progress.stage("sampling the model and estimating log Z"):
        samples = model.sample(sample_key, params, base, FLAGS.samples, FLAGS.sample_sweeps)
        samples = np.asarray(samples)
        sample_pairs = model.pair_frequencies(*model.blocks(samples), q)
        measured, more = measure(params, base, data_pairs, sample_pairs, samples, anneal_key)
    scores = model.corrected(model.norms(np.asarray(params.couplings)))
    agreement = None if known is None else structure.agreement(scores, known)
    summary = {
        "pairs_in_structure": agreement.near if agreement else None,
        "pairs_exactly_in_structure": agreement.exact if agreement else None,
        "pairs_compared": agreement.of if agreement else None,
        "sequences": len(alignment.letters),
        "columns": alignment.letters.shape[1],
        "effective_sequences": float(effective),
        "loss": float(history["loss_total"][-1]),
        "training_seconds": round(trained, 1),
    } | measured
    connected = [np.asarray(model.connected(p)) for p in (data_pairs, sample_pairs)]
    draw(run, sequence, known, scores, connected, summary, history)
    warnings += more
    write(run, alignment, known, params, scores, samples, summary, to_score, warnings)


if __name__ == "__main__":
    entry.main(main)
