"""Published numbers measured again, a function a row: docs/results.md."""

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

from ebm_jax import jit
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.partition import annealed, estimates, exact, paths
from experiments import datasets, rbm_model, runs
from scripts.results import ising_tables

CONFIDENCE = 0.997  # of intervals: three standard errors each way
CHAINS = 100


class Row(NamedTuple):
    """A number: what it is, its published value and where from, how it is found again.

    ``measure`` is (data_dir, seed, workdir) -> {"value", "interval", ...}, all of it JSON.
    """

    what: str
    published: str
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
        log_z = float(jit(exact.log_partition_rbm)(rbm))
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
    base, (path, make_sampler) = paths.base_rate(rates), paths.rbm(rbm, rates)
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
            if subprocess.run(command).returncode not in (0, runs.FALSE_CLAIM):
                raise runs.UsageError(f"the run in {workdir} failed: {' '.join(command)}")
        found = json.loads(summary.read_text())
        return {key: found[key] for key in keep} | {"seconds": found["seconds"]}

    return measure


_COMMAND = "python -m scripts.results --only="
_TEST = ("test_log_likelihood", "training_seconds")
_IMAGES = ("accuracy", "auroc_notmnist", "ece", "label_agreement", "frechet", "frechet_floor")
_MNIST = ("--data=mnist", "--outliers=notmnist")
ROWS = {
    "rbm_15_exact": Row(
        "log Z of the published RBM with 15 hidden units, exactly", "215.13840552531664", exact_rbm
    ),
    "rbm_cd25": Row(
        "log Z of the published RBM with 500 hidden units (CD-25), annealed importance sampling, "
        f"{CHAINS} chains",
        "test log-likelihood -86.34 (Salakhutdinov and Murray 2008)",
        annealed_rbm,
    ),
    "ising": Row(
        "log Z of the Ising model on tori, 25 of them: the largest error of the closed form",
        "the tables, to 1e-10",
        ising_tables.measure,
    ),
    "rbm_16": Row(
        "RBM with 16 hidden units on MNIST at threshold 0.5, 50 epochs of PCD-1, centred: exact "
        "test log-likelihood",
        "-142.56 (-149.05 not centred)",
        program("rbm", "--dataset=mnist", "--hidden=16", keep=_TEST),
    ),
    "rbm_500": Row(
        "RBM with 500 hidden units on MNIST at threshold 0.5, 100 epochs, centred: bracket of the "
        "test log-likelihood",
        "-84.86 / -96.61 by annealing up and down",
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
        "Couplings of a 10 x 10 lattice, sigma = 0.1, from 5,000 samples: mean -log RMSE",
        "6.1 (EB-GFN)",
        program("ising", keep=("minus_log_rmse", "minus_log_rmse_each", "largest_z")),
    ),
    "mnist_quick": Row(
        "One energy of MNIST and its labels, two dense layers: test accuracy, and the rest",
        "none that does all of it",
        program("images", *_MNIST, "--quick", keep=_IMAGES),
    ),
    "mnist": Row(
        "The same, three convolutions and chains beside the flow",
        "none that does all of it",
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
    (workdir / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
    return row


def _shown(value: Any, digits: int = 6) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')} {_shown(v)}" for name, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def line(row: dict[str, Any]) -> str:
    """Return a row of the page's table."""
    found, known = dict(row["found"]), ROWS[row["name"]]
    seconds, interval = found.pop("seconds"), found.pop("interval", None)
    first, *rest = found.items()
    more = f" ({_shown(dict(rest))})" if rest else ""
    command = f"`{_COMMAND}{row['name']} --seed={row['seed']}`"
    exact = interval is not None and interval[0] == interval[1]
    ours = f"{_shown(first[1], 14 if exact else 6)}{more}"
    within = "" if interval is None else _shown(interval)
    cells = known.what, known.published, ours, within, row["seed"], f"{seconds:.1f}", command
    return f"| {' | '.join(map(str, cells))} |"


def write(workdir: Path, docs: Path) -> None:
    """Write docs/results.md: the rows measured in the workdir; others stay as they are there."""
    page = docs / "results.md"
    before = page.read_text().splitlines() if page.exists() else []
    rows, where = [], set()
    for name in ROWS:
        path = workdir / f"{name}.json"
        if path.exists():
            row = json.loads(path.read_text())
            rows.append(line(row))
            where.add(f"Measured on {row['where']}.")
        elif kept := [old for old in before if f"`{_COMMAND}{name} " in old]:
            rows += kept
            where |= {old for old in before if old.startswith("Measured on ")}
    lines = [
        "# Published numbers, measured again",
        "",
        "Every row is written by its command (with --data_dir, or EBM_JAX_DATA, where it needs",
        f"data). Intervals of log Z are of {100 * CONFIDENCE:.1f} %, from a bootstrap over the",
        "chains; an exact value is its own interval. A log-likelihood is the mean over images in",
        "nats, and depends on how they were made binary: at a threshold, or drawn with the grey",
        "values as probabilities; every row says how.",
        "",
        "| what | published | ours | interval | seed | seconds | command |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        *sorted(where),
        "",
    ]
    docs.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines))
