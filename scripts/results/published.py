"""Numbers measured against references, one function per row: docs/results.md."""

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import distributions, jit
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.partition import annealed, estimates, exact, paths
from experiments.data import datasets
from experiments.rbm import model as rbm_model
from experiments.run import errors
from scripts.results import ising_tables

CONFIDENCE = 0.997  # of intervals: three standard errors each way
CHAINS = 100
FEWEST = 20  # effective chains below which an estimate of log Z is unreliable


class Row(NamedTuple):
    """A number: what it is, the reference to compare with, and what of the two is not equal.

    ``reference`` is a number with its source: author, year, arXiv or DOI; or it says that it is not
    published. ``unequal`` names every difference of data, recipe, budget or measure.
    ``measure`` is (data_dir, seed, workdir) -> {"value", "interval", ...}, all of it JSON.
    """

    what: str
    reference: str
    unequal: str
    measure: Callable[[str | None, int, Path], dict[str, Any]]


def mean_energies(rbm: RBM, sets: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean free energy of every set of visible units, (n, visible) in [0, 1]."""
    free = jit(lambda rbm, x: jnp.mean(jax.vmap(boltzmann.rbm_free_energy, (None, 0))(rbm, x)))
    return {name: float(free(rbm, x)) for name, x in sets.items()}


def exact_rbm(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
    """Enumerate the 2^15 hidden states of the published weights, in float64."""
    del seed, workdir
    weights = datasets.rbm_weights("15", data_dir)
    with jax.enable_x64(True):
        began = time.perf_counter()
        rbm = jax.tree.map(jnp.asarray, weights)
        log_z = float(jit(exact.log_partition)(rbm))
        seconds = time.perf_counter() - began
        split = datasets.mnist(data_dir)
        images = {"test": split.test_x >= 0.5, "train": split.train_x >= 0.5}
        energies = mean_energies(rbm, images)
    return {
        "log_z": log_z,
        "interval": [log_z, log_z],
        "seconds": seconds,
        "log_likelihoods_at_threshold_0.5": {n: -e - log_z for n, e in energies.items()},
    }


def schedule() -> np.ndarray:
    """Return the 14,501 betas of the published run: 0:1e-3:0.5, 0.5:1e-4:0.9, 0.9:1e-5:1."""
    parts = np.linspace(0, 0.5, 501), np.linspace(0.5, 0.9, 4001), np.linspace(0.9, 1, 10_001)
    return np.concatenate([parts[0], parts[1][1:], parts[2][1:]])


def annealed_rbm(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
    """Anneal 100 chains to the published weights of 500 hidden units."""
    del workdir
    split = datasets.mnist(data_dir)
    began = time.perf_counter()
    weights = datasets.rbm_weights("CD25", data_dir)
    rbm = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), weights)
    rates = rbm_model.base_rates(split.train_x)
    base, (path, make_sampler) = distributions.bernoulli(rates), paths.rbm(rbm, rates)
    start_key, run_key, interval_key = jax.random.split(jax.random.key(seed), 3)
    betas = jnp.asarray(schedule()[1:], jnp.float32)

    @jit
    def run(key, first):
        state = annealed.start(path, make_sampler, first)
        return annealed.anneal(key, path, make_sampler, state, betas)[0]

    state = run(run_key, base.sample(start_key, CHAINS))
    found = estimates.log_partition(interval_key, state, confidence=CONFIDENCE)
    log_z, seconds = float(found.log_z), time.perf_counter() - began
    rng = np.random.default_rng(seed)
    images = {
        **{f"stochastic_{k}": rng.random(split.test_x.shape) < split.test_x for k in (1, 2)},
        "threshold_0.5": split.test_x >= 0.5,
        "grey": split.test_x,
    }
    return {
        "log_z": log_z,
        "interval": [float(end) for end in found.interval],
        "seconds": seconds,
        "standard_error": float(found.standard_error),
        "effective_sample_size": float(found.effective_sample_size),
        "test_log_likelihoods": {n: -e - log_z for n, e in mean_energies(rbm, images).items()},
    }


def program(name: str, *options: str, keep: tuple[str, ...]) -> Callable:
    """Return the ``measure`` of a row that is a program of experiments: parts of its summary."""

    def measure(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
        summary = workdir / "summary.json"
        given = [*options, f"--seed={seed}"]
        if data_dir and {"--dataset=mnist", "--data=mnist"} & set(options):
            given.append(f"--data_dir={data_dir}")
        if not summary.exists():
            module = f"experiments.{name}"
            command = [sys.executable, "-m", module, f"--workdir={workdir}", *given]
            if subprocess.run(command).returncode not in (0, errors.FALSE_CLAIM):
                raise errors.UsageError(f"the run in {workdir} failed: {' '.join(command)}")
        found = json.loads(summary.read_text(encoding="utf-8"))
        return {key: found[key] for key in keep} | {"seconds": found["seconds"]}

    return measure


_COMMAND = "python -m scripts.results --only="
_TEST = ("test_log_likelihood", "training_seconds")
_IMAGES = ("accuracy", "auroc_notmnist", "ece", "label_agreement", "frechet", "frechet_floor")
_MNIST = ("--data=mnist", "--outliers=notmnist")
_COUPLINGS = ("minus_log_rmse", "minus_log_rmse_each")
_SALAKHUTDINOV = "Salakhutdinov and Murray 2008, doi:10.1145/1390156.1390266"
_MELCHIOR = (
    "published with the tutorial {} of PyDeep, which repeats single trials of Melchior, Fischer "
    "and Wiskott 2016, JMLR 17(99)"
)
_RECIPE = (
    "same images, threshold and hidden units, and one run each; **another recipe**: {}a constant "
    "learning rate of 0.01, offsets that follow the means and the last parameters there, a "
    "learning rate from 0.1 to 0, fixed offsets and averaged parameters here. The difference of "
    "the numbers does not compare the methods"
)
_GFN = (
    "6.1 (EB-GFN, Zhang et al. 2022, arXiv:2202.01361), from 2,000 samples, as in the code of "
    "Grathwohl et al. 2021, arXiv:2102.04509"
)
_FIT = (
    "couplings below the noise are set to zero here and the others fitted again by the "
    "pseudo-likelihood; a network learns to sample there"
)
_JEM = (
    "none on this data set. Grathwohl et al. 2020, arXiv:1912.03263 (JEM), train one network for "
    "the same tasks on CIFAR-10, CIFAR-100 and SVHN"
)
ROWS = {
    "rbm_15_exact": Row(
        f"log Z of the published RBM with 15 hidden units ({_SALAKHUTDINOV}), by enumeration",
        "215.13840552531664, by another enumeration of this project; not published",
        "nothing: the same weights, and both sums are exact",
        exact_rbm,
    ),
    "rbm_cd25": Row(
        "log Z of the published RBM with 500 hidden units (CD-25), by annealed importance sampling "
        f"with {CHAINS} chains; the interval has {100 * CONFIDENCE:.1f} %",
        f"test log-likelihood -86.34 ({_SALAKHUTDINOV})",
        "same weights. The reference compares with stochastic 1 and 2, two random binarisations of "
        "the test images; another one was drawn there. It does not compare with threshold or grey",
        annealed_rbm,
    ),
    "ising": Row(
        "log Z of the Ising model on tori, 25 of them: the largest error of the closed form",
        "tables to 1e-10, by another program of this project from the solution of Kaufman 1949 "
        "(doi:10.1103/PhysRev.76.1232) and from transfer matrices; not published",
        "nothing: both are exact up to rounding. Annealing z is (estimate - table) / standard "
        "error at five couplings",
        ising_tables.measure,
    ),
    "rbm_16": Row(
        "RBM with 16 hidden units on MNIST at threshold 0.5, 50 epochs of PCD-1, centred: exact "
        "test log-likelihood",
        f"-142.56 centred, -149.05 not centred ({_MELCHIOR.format('RBM_MNIST_small')})",
        _RECIPE.format(""),
        program("rbm", "--dataset=mnist", "--hidden=16", keep=_TEST),
    ),
    "rbm_500": Row(
        "RBM with 500 hidden units on MNIST at threshold 0.5, 100 epochs of PCD-1, centred: test "
        "log-likelihood, between annealing up and down; the interval contains the 95 % intervals "
        "of both",
        f"-84.86 / -96.61 by annealing up and down ({_MELCHIOR.format('RBM_MNIST_big')})",
        _RECIPE.format("200 epochs there and 100 here; "),
        program(
            "rbm",
            "--dataset=mnist",
            "--hidden=500",
            "--epochs=100",
            "--betas=20000",
            keep=(*_TEST, "bounds", "interval", "effective_sample_sizes"),
        ),
    ),
    "ising_couplings": Row(
        "Couplings of a 10 x 10 lattice, sigma = 0.1, from 5,000 samples: mean -log RMSE of three "
        "data sets",
        _GFN,
        f"**5,000 samples here, the usual 2,000 there**; {_FIT}",
        program("ising", keep=(*_COUPLINGS, "largest_z")),
    ),
    "ising_couplings_2000": Row(
        "The same from 2,000 samples",
        _GFN,
        f"2,000 samples each; {_FIT}",
        program("ising", "--samples=2000", keep=_COUPLINGS),
    ),
    "mnist_quick": Row(
        "One energy of MNIST and its labels, two dense layers (`--quick`): test accuracy, then "
        "AUROC of notMNIST, calibration error and quality of the samples",
        _JEM,
        "other data and other measures: there is nothing to compare",
        program("images", *_MNIST, "--quick", keep=_IMAGES),
    ),
    "mnist": Row(
        "The same with three convolutions, and persistent chains after the flow",
        _JEM,
        "other data and other measures: there is nothing to compare",
        program("images", *_MNIST, keep=_IMAGES),
    ),
}


def measure(name: str, workdir: Path, data_dir: str | None, seed: int) -> dict[str, Any]:
    """Measure a row, and keep it in the workdir as NAME.json."""
    found = ROWS[name].measure(data_dir, seed, workdir / name)
    row = {
        "name": name,
        "found": found,
        "seed": seed,
        "where": f"{datetime.date.today()}, jax {jax.__version__}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores",
    }
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return row


def _shown(value: Any, digits: int = 6) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')} {_shown(v)}" for name, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _unreliable(found: dict[str, Any]) -> str:
    """Return a warning where an estimate rests on few chains of equal weight."""
    sizes = found.get("effective_sample_sizes", [found.get("effective_sample_size", CHAINS)])
    if min(sizes) >= 1.5 * FEWEST:
        return ""
    limit = "below" if min(sizes) < FEWEST else "close to"
    few = f"the smallest effective sample size is {limit} {FEWEST}, the limit of this project"
    return f". **{'Unreliable' if min(sizes) < FEWEST else 'Hardly reliable'}**: {few}"


def line(row: dict[str, Any]) -> str:
    """Return a row of the page's table of numbers."""
    found, known = dict(row["found"]), ROWS[row["name"]]
    found.pop("seconds", None)
    interval = found.pop("interval", None)
    first, *rest = found.items()
    exact = interval is not None and interval[0] == interval[1]
    value = _shown(first[1], 14 if exact else 6)
    within = "" if interval is None or exact else f" [{_shown(interval)}]"
    more = f" ({_shown(dict(rest))})" if rest else ""
    measured = f"{value}{within}{more}{_unreliable(found)}"
    return f"| {' | '.join([known.what, known.reference, measured, known.unequal])} |"


def command(row: dict[str, Any]) -> str:
    """Return a row of the page's table of commands."""
    seconds = row["found"].get("seconds")
    took = "" if seconds is None else f"{seconds:.1f}"
    return f"| `{_COMMAND}{row['name']} --seed={row['seed']}` | {took} | {row['where']} |"


def page(rows: dict[str, dict[str, Any]]) -> str:
    """Return docs/results.md of the rows, by name."""
    shown = [rows[name] for name in ROWS if name in rows]
    lines = [
        "# Numbers measured against references",
        "",
        "The column *not equal* names what differs between the reference and this measurement;",
        "where it names data, recipe or measure, the two numbers do not show which method is",
        "better. Brackets hold intervals from a bootstrap over the chains; the row states their",
        "confidence. A log-likelihood is a mean over images, in nats. It depends on how the images",
        "were made binary, which every row states. The Fréchet distance (frechet) compares with",
        "frechet floor of the same row alone, the distance of as many training images: its",
        "features are those of a classifier that is trained for the run.",
        "",
        "| what | reference | measured here | not equal |",
        "|---|---|---|---|",
        *map(line, shown),
        "",
        "The commands that measured the rows, in the same order, with `--data_dir` or EBM_JAX_DATA",
        "where they need data:",
        "",
        "| command | seconds | measured on |",
        "|---|---|---|",
        *map(command, shown),
        "",
    ]
    return "\n".join(lines)


def write(workdir: Path, docs: Path) -> None:
    """Write docs/results.json and docs/results.md: the rows of the workdir, over those there.

    The JSON file holds every row that was ever measured into the folder, from any workdir, so that
    the page can be written again.
    """
    kept = docs / "results.json"
    rows = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name in ROWS:
        path = workdir / f"{name}.json"
        if path.exists():
            rows[name] = json.loads(path.read_text(encoding="utf-8"))
    docs.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (docs / "results.md").write_text(page(rows), encoding="utf-8")
