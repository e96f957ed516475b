"""Seconds until a Potts model agrees with the sequences of an RNA, against adabmDCA's.

Both train by persistent chains until the Pearson correlation between the connected two-site
frequencies of chains and data is 0.95. adabmDCA runs by its own command, for at most twice our
time: where it has not reached 0.95 by then, the ratio is that limit.
"""

import contextlib
import pathlib
import subprocess
import tempfile
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.alignment import model, training
from experiments.data import alignments
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite

TARGET = 0.95


class Sizes(NamedTuple):
    """Chains, sweeps between updates, and the largest number of updates."""

    chains: int
    sweeps: int
    updates: int


FULL, QUICK = Sizes(2000, 5, 300), Sizes(20, 1, 3)
SAME_OPTIONS = "adabmDCA, Gibbs, our learning rate and sweeps"
NOT_REACHED = "adabmDCA, stopped before the target: at least"
OPTIONS = {  # of adabmDCA: its defaults but for the number of chains, then ours
    "adabmDCA, its defaults": (),
    "adabmDCA, Gibbs": ("--sampler=gibbs",),
    SAME_OPTIONS: (
        "--sampler=gibbs",
        "--lr=0.05",
        "--nsweeps=5",
    ),
}


class Reached(NamedTuple):
    """Seconds of a training, the updates in them, and the Pearson correlation at its end."""

    seconds: float
    updates: int
    pearson: float


def riboswitch() -> np.ndarray:
    """Return the letters of the purine riboswitch in the columns of its known structure."""
    columns_of = alignments.PUBLISHED["rf00167"].columns_of
    return alignments.load("rf00167", None, kind="rna", columns_of=columns_of).letters


def train(letters: np.ndarray, sizes: Sizes) -> Reached:
    """Train until the correlation is reached; the seconds include compilation."""
    q = len(alignments.ALPHABETS["rna"])
    began = time.perf_counter()
    weights = model.sequence_weights(letters, q, 0.8)
    pairs = model.pair_frequencies(*training.Data(*model.blocks(letters, weights)), q)
    base = model.profile(pairs, weights.sum())
    objective = training.persistent(
        pairs,
        base,
        num_chains=sizes.chains,
        sweeps=sizes.sweeps,
        field_penalty=0.0,
        coupling_penalty=0.0,
    )
    trainer = training.gradient_descent(objective, 0.05, sizes.updates)
    state, done, reached = trainer.init(base, jax.random.key(0)), 0, -1.0
    while done < sizes.updates and reached < TARGET:
        count = min(5, sizes.updates - done)
        state, metrics = trainer.update(state, jnp.zeros(count), jax.random.key(1))
        done, reached = done + count, float(metrics["pearson"][-1])
    return Reached(time.perf_counter() - began, done, reached)


def peer_train(
    python: str, sequences: list[str], sizes: Sizes, options: tuple[str, ...], limit: float
) -> Reached:
    """Run adabmDCA's command for some seconds; read what it reached from its log."""
    with tempfile.TemporaryDirectory() as folder:
        fasta, out = pathlib.Path(folder, "data.fasta"), pathlib.Path(folder, "out")
        records = (f">{number}\n{text}\n" for number, text in enumerate(sequences))
        fasta.write_text("".join(records), encoding="utf-8")
        command = [python, "-m", "adabmDCA.cli", "train", f"--data={fasta}", f"--output={out}"]
        command += [f"--nchains={sizes.chains}", f"--target={TARGET}", "--alphabet=rna"]
        command += ["--checkpoint-interval=1000000", "--device=cpu", "--no-progress", *options]
        with contextlib.suppress(subprocess.TimeoutExpired):  # the log has what was reached
            subprocess.run(command, capture_output=True, timeout=limit + 60, check=False)
        (log,) = out.glob("*.log")
        return last_row(log.read_text(encoding="utf-8"), limit)


def last_row(log: str, limit: float) -> Reached:
    """Return the last row of adabmDCA's log that is within the seconds, or its first row."""
    lines = [line.split() for line in log.splitlines()]
    first = next(i for i, words in enumerate(lines) if words[:1] == ["Step"])
    names = lines[first]
    rows = [dict(zip(names, words, strict=True)) for words in lines[first + 1 :] if words]
    found = [
        Reached(float(row["Elapsed_s"]), int(row["Step"]), float(row["Pearson"])) for row in rows
    ]
    within = [row for row in found if row.seconds <= limit]
    return within[-1] if within else found[0]


def ratio(ours: Reached, peers: list[Reached]) -> dict[str, float | None]:
    """Return what is compared, and the fastest peer's seconds over ours.

    Where no peer got there in twice our time, the ratio is a lower bound, and its name contains
    *at least*.
    """
    there = [peer.seconds for peer in peers if peer.pearson >= TARGET]
    if not peers or ours.pearson < TARGET:
        return {"adabmDCA": None}
    if there:
        return {"adabmDCA, the fastest options": min(there) / ours.seconds}
    stopped = min(peer.seconds for peer in peers) / ours.seconds
    return {NOT_REACHED: stopped}


def per_update(ours: Reached, found: dict[str, Reached]) -> dict[str, float]:
    """Return the ratio of the times per update, for the peer with our options."""
    same = {name: run for name, run in found.items() if name == SAME_OPTIONS}
    return {
        f"{name}, time per update": (run.seconds / run.updates) / (ours.seconds / ours.updates)
        for name, run in same.items()
    }


def run_alignment(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Persistent chains on the purine riboswitch until they agree with the data."""
    sizes = QUICK if quick else FULL
    letters = np.random.default_rng(0).integers(0, 5, (50, 12)) if quick else riboswitch()
    runs = [train(letters, sizes) for _ in range(repetitions)]
    ours = sorted(runs)[len(runs) // 2]
    found = {}
    if "adabmdca" in peers:
        texts = alignments.decode(letters, "rna")
        found = {
            name: peer_train(peers.torch_python, texts, sizes, options, 2 * ours.seconds)
            for name, options in OPTIONS.items()
        }
    every = {"ours": ours} | found
    against = ratio(ours, list(found.values()))
    return Suite(
        f"Potts model of a purine riboswitch, {len(letters):,} sequences, {letters.shape[1]} "
        f"columns, {sizes.chains:,} chains, until the pair correlations of the chains have a "
        f"Pearson correlation of {TARGET} with those of the data. Our time includes compilation. "
        "adabmDCA, in PyTorch with all threads, runs once with each of three sets of options, for "
        "at most twice our time. Both down-weight sequences that are at least 80 % identical, and "
        "start from the model of independent columns (no couplings). Where no set of options "
        "reaches the correlation, the times of adabmDCA are those at which it was stopped, and the "
        "ratio is this limit. The ratio of the time per update does not depend on it; ours "
        "includes compilation",
        None,
        {"alignment_vs_adabmdca": next(iter(against.values()))},
        against | per_update(ours, found),
        {"ours": [run.seconds for run in runs]} | {n: [r.seconds] for n, r in found.items()},
        {},
        {f"Pearson correlation at the end, {name}": r.pearson for name, r in every.items()}
        | {f"number of updates, {name}": float(r.updates) for name, r in every.items()}
        | {f"seconds per update, {name}": r.seconds / r.updates for name, r in every.items()},
    )
