"""The RBM's program: its chains and likelihoods are what they say; it runs, refuses and reports."""

import itertools
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from ebm_jax import samplers
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM
from experiments.data import datasets
from experiments.rbm import centering
from experiments.rbm import model as rbm_model
from experiments.run import errors

QUICK = ("--epochs=1", "--batch_size=500", "--chains=8", "--sample_steps=2", "--betas=4")


def small(visible=4, hidden=3):
    """Return a centred RBM, and log P(v) of all its visible states, by sums over both sides."""
    rng = np.random.default_rng(0)
    rbm = RBM(*(rng.normal(size=s) for s in ((visible, hidden), visible, hidden)))
    v, h = (np.array(list(itertools.product((0, 1), repeat=n))) for n in (visible, hidden))
    weights, b, c = rbm
    log_joint = v @ weights @ h.T + (v @ b)[:, None] + (h @ c)[None]
    weight = np.exp(log_joint).sum(1)
    params = centering.centered(
        jax.tree.map(jnp.asarray, rbm), jnp.full(visible, 0.3), jnp.full(hidden, 0.5)
    )
    return params, v.astype(bool), np.log(weight / weight.sum())


def test_the_exact_objective_is_the_likelihood():
    params, v, log_p = small()
    batch = v[[1, 5, 5, 12]]
    value, _ = rbm_model.exact_likelihood().loss(params, (), batch, jax.random.key(0))
    np.testing.assert_allclose(value, -log_p[[1, 5, 5, 12]].mean(), rtol=1e-5)
    found = -rbm_model.mean_energy(params, batch) - rbm_model.log_partition(params)
    np.testing.assert_allclose(found, -value, rtol=1e-5)


@pytest.mark.slow
def test_tempered_chains_keep_the_distribution():
    """All four units off, or all on, at equal odds: swaps by the free energy have 0.43 to 0.15.

    Chi-squared of how many units are on in 2,000 chains, 4 degrees of freedom: above 23.5 in 1e-4.
    """
    num, hidden = 2000, 6
    on = np.arange(5)
    bias = -hidden * (np.logaddexp(0, 8) - np.log(2)) / 4
    weight = np.array([1, 4, 6, 4, 1]) * np.exp(bias * on) * (1 + np.exp(2 * on)) ** hidden
    rbm = RBM(jnp.full((4, hidden), 2.0), jnp.full(4, bias), jnp.zeros(hidden))
    params = centering.centered(rbm, jnp.zeros(4), jnp.zeros(hidden))
    sampler = rbm_model.tempered(params, temperatures=6)
    start = jax.random.bernoulli(jax.random.key(0), 0.5, (num, 4 + hidden))

    @jax.jit
    def run(key, start):
        return samplers.run(key, sampler, sampler.init(start), 200)[0].position

    found = np.asarray(run(jax.random.key(1), start))[:, :4].sum(1)
    expected = num * weight / weight.sum()
    assert ((np.bincount(found, minlength=5) - expected) ** 2 / expected).sum() < 23.5


def test_the_bracket_holds_the_exact_log_z():
    """Annealed from exact samples down; the interval's two ends err by 2.5 % each at most."""
    params, v, log_p = small()
    exact = float(rbm_model.log_partition(params))
    drawn = v[np.random.default_rng(1).choice(16, 2000, p=np.exp(log_p))]
    rates = np.array([0.5, -0.5, 0.0, 1.0], np.float32)
    found = rbm_model.bracket(jax.random.key(0), params, rates, jnp.asarray(drawn), 6)
    low, high = found.interval
    assert low < exact < high
    assert low < found.log_z < high
    assert high - low < 0.2
    assert abs(found.log_z - exact) < 0.05


@pytest.mark.slow
def test_directions_that_contradict_each_other_are_told():
    """Chains that "sample the target" all start in one state, which is not the likeliest."""
    params, v, log_p = small()
    rates = np.array([0.5, -0.5, 0.0, 1.0], np.float32)
    ends = np.repeat(v[[np.argmin(log_p)]], 2000, axis=0)
    found = rbm_model.bracket(jax.random.key(0), params, rates, jnp.asarray(ends), 3)
    assert found.interval[0] < found.interval[1]
    assert any("contradict each other" in text for text in found.warnings)
    one = rbm_model.bracket(jax.random.key(0), params, rates, jnp.asarray(ends[:10]), 3)
    assert any("effective sample size" in text for text in one.warnings)


def test_parallel_tempering_finds_the_exact_log_z():
    params, _, _ = small()
    rates = np.array([0.5, -0.5, 0.0, 1.0], np.float32)
    found = rbm_model.by_tempering(jax.random.key(0), params, rates, 500)
    exact = float(rbm_model.log_partition(params))
    assert abs(float(found.log_z) - exact) < 5 * float(found.standard_error) < 0.2


def test_the_start_is_the_base_rates():
    x = np.random.default_rng(0).random((200, 6)) < np.linspace(0, 0.5, 6)
    for centered in (True, False):
        params = rbm_model.start(jax.random.key(0), x, 3, centered=centered)
        logits = boltzmann.rbm_visible_logits(centering.uncentered(params), jnp.full(3, 0.5))
        np.testing.assert_allclose(jax.nn.sigmoid(logits), (x.sum(0) + 1) / 202, atol=0.02)
        assert bool(params.hidden_offset.any()) == centered


@pytest.mark.parametrize(
    "given",
    [
        ["--objective=pcd", "--hidden=4"],
        ["--objective=cd", "--hidden=4", "--nocentered"],
        pytest.param(["--objective=pt", "--hidden=4", "--temperatures=2"], marks=pytest.mark.slow),
        ["--objective=ml", "--hidden=4"],
        pytest.param(["--hidden=24"], marks=pytest.mark.slow),
        pytest.param(["--scans=16", "--hidden=24"], marks=pytest.mark.slow),
    ],
    ids=lambda given: given[0].split("=")[1],
)
def test_a_short_run_writes_everything(program, tmp_path, capsys, given):
    module = program("rbm", f"--workdir={tmp_path}", *QUICK, *given)
    module.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    exact = "--hidden=24" not in given
    assert summary["exact"] == exact
    # 64 pixels by chance are at -44; by their base rates alone at about -25.
    assert -30 < summary["test_log_likelihood"] < -15
    low, high = summary.get("interval", (-30, -15))
    assert low <= high
    assert summary["updates"] == 3
    assert summary["seconds"] > 0
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"{summary['test_log_likelihood']:.6g}" in report
    pictures = ["filters", "samples"] + ["likelihood"] * exact
    for name in pictures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"]({name}.png)" in report
    rows = [
        json.loads(line)
        for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert ("test_log_likelihood" in rows[-1]) == exact
    # The saved weights are those that were measured.
    energy, params, used = rbm_model.load(tmp_path)
    assert used["hidden"] == str(params.weights.shape[1])
    assert np.ndim(energy(params, np.zeros(64, bool))) == 0
    if exact:
        found = module.exact(params, module.binary(module.splits.digits()))
        np.testing.assert_allclose(found["test_log_likelihood"], summary["test_log_likelihood"])


def write_table(folder, kind, rows=60):
    """Write rows in which the second column is the first, and the third the opposite."""
    first = np.random.default_rng(0).integers(2 if kind != "categories.npy" else 3, size=rows)
    table = np.stack([first, first, (1 - first) % 3, np.zeros_like(first)], axis=1)
    path = folder / kind
    if path.suffix == ".csv":
        lines = ["a,b,c,d", *(",".join(map(str, row)) for row in table)]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif path.suffix == ".npy":
        np.save(path, table)
    else:
        letters = np.array(list("-AC"))[table]
        path.write_text(
            "".join(f">{i}\n{''.join(row)}\n" for i, row in enumerate(letters)), encoding="utf-8"
        )
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("table.csv", ["--objective=ml", "--hidden=3"]),
        ("categories.npy", ["--objective=ml", "--hidden=3"]),
        ("aligned.fasta", ["--hidden=24"]),
    ],
)
def test_a_table_of_the_users_own_is_learned(program, tmp_path, capsys, kind, given):
    """By the exact likelihood it learns the one free column: near -log 2 or -log 3 a row.

    Of 24 hidden units the states are too many to sum over; those of the four letters are not.
    """
    path = write_table(tmp_path, kind)
    flags = (f"--data={path}", f"--workdir={tmp_path / 'run'}", "--learning_rate=0.3")
    module = program("rbm", *flags, *given, "--epochs=2000", "--batch_size=42")
    module.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["exact"]
    assert summary["interval"] == [summary["test_log_likelihood"]] * 2
    assert (summary["rows"], summary["variables"]) == (42, 4)
    assert summary["valid_log_likelihood"] < 0
    if "--objective=ml" in given:
        q = summary["values"]
        # No model of the training rows' entropy does better on them; this one comes near.
        found = summary["train_log_likelihood"]
        rows = np.asarray(module.load().train_x, int)
        counts = np.bincount(rows[:, 0], minlength=q) / len(rows)
        best = np.sum(counts * np.log(counts))
        assert best - 0.1 < found < best
    energy, params, _ = rbm_model.load(tmp_path / "run")
    split = module.load()
    found = module.exact(params, split)
    np.testing.assert_allclose(found["test_log_likelihood"], summary["test_log_likelihood"])
    assert np.isfinite(energy(params, split.test_x[0]))


@pytest.mark.slow
def test_the_bracket_of_a_table_of_categories_holds_its_likelihood(program, tmp_path):
    """The interval's two ends err by 2.5 % each at most."""
    path = write_table(tmp_path, "categories.npy")
    given = (f"--data={path}", "--hidden=3", f"--workdir={tmp_path}", "--betas=200")
    module = program("rbm", *given, "--sample_steps=100")
    split = module.load()
    params = rbm_model.start(jax.random.key(0), split.train_x, 3, centered=True, q=3)
    params = params._replace(weights=60 * params.weights)
    exact = module.exact(params, split)
    found = module.bracketed(params, split, jax.random.key(2))
    low, high = found["interval"]
    assert low < exact["test_log_likelihood"] < high < low + 0.5
    np.testing.assert_allclose(
        found["test_log_likelihood"], exact["test_log_likelihood"], atol=0.05
    )


def test_tempering_of_categories_is_rejected(program, tmp_path):
    path = write_table(tmp_path, "categories.npy")
    with pytest.raises(errors.UsageError, match="pt is for binary variables, got 3 categories"):
        program("rbm", f"--data={path}", "--objective=pt", f"--workdir={tmp_path / 'r'}").main()


def test_weights_of_another_program_are_refused(tmp_path):
    (tmp_path / "flags.txt").write_text("--steps=3\n", encoding="utf-8")
    with pytest.raises(errors.UsageError, match="is not a run of rbm: it has no flag 'dataset'"):
        rbm_model.load(tmp_path)


def test_tiles_fill_the_last_row(program):
    tiles = program("rbm").tiles(np.arange(12.0).reshape(3, 4), columns=2)
    assert tiles.shape == (2, 2, 2, 2)
    np.testing.assert_array_equal(tiles[1, 0], [[8, 9], [10, 11]])
    assert not tiles[1, 1].any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--objective=ml", "--hidden=21"], "--objective=ml sums .* --hidden is at most 20"),
        (["--hidden=0"], "hidden=0"),
        (["--dataset=cifar"], "cifar.*<digits.mnist.*jester>"),
        (["--objective=sm"], "sm.*<cd.pcd.pt.ml>"),
        (["--learning_rate=nan"], "--learning_rate=nan: must be a finite number"),
        (["--betas=2"], "betas=2"),
    ],
)
def test_bad_flags_are_refused_before_any_work(program, given, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        program("rbm", "--workdir=/proc/none", *given)


def test_data_that_are_not_there_are_asked_for(program, tmp_path, monkeypatch):
    sources = {name: datasets.Source(None, s.sha256) for name, s in datasets.SOURCES.items()}
    monkeypatch.setattr(datasets, "SOURCES", sources)
    given = "--dataset=mnist", f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}"
    with pytest.raises(errors.UsageError, match=r"images-idx3-ubyte\.gz is missing"):
        program("rbm", *given).main()


OVER_A_MESH = """
import sys
import jax
from absl import flags
from experiments.rbm import __main__ as rbm
from experiments.run import loop
from experiments.run import entry

train = loop.train
def spied(run, name, made, state, batch, key, **options):
    state, history = train(run, name, made, state, batch, key, **options)
    if run.mesh:
        chains = state.objective.chains.position
        assert [s.data.shape[0] for s in chains.addressable_shards] == [4, 4]
        batches = rbm.devices.place_batches(run.mesh, batch(0)[None])
        update = jax.jit(made.update).lower(state, batches, key)
        print(update.compile().as_text(), file=open(run.workdir / "hlo.txt", "w"))
    return state, history
loop.train = spied

for mesh in ("1", "2"):
    flags.FLAGS(["rbm", *sys.argv[2:], "--mesh=" + mesh, f"--workdir={sys.argv[1]}/{mesh}"])
    split = rbm.binary(rbm.splits.digits())
    params = rbm.model.start(jax.random.key(0), split.train_x, 21, centered=True)
    rbm.fit(entry.start(), split, params, jax.random.key(1), steps=4)
"""


@pytest.mark.slow
def test_over_two_devices_it_is_the_run_of_one(tmp_path):
    """The same curve to rounding, and every chain stays on the device that holds its slot."""
    given = "--objective=pt", "--temperatures=2", "--hidden=21", "--batch_size=100"
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", OVER_A_MESH, tmp_path, *given, "--groups=2", "--chains=8"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one, two = (
        [
            json.loads(line)
            for line in (tmp_path / mesh / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for mesh in ("1", "2")
    )
    assert [row["step"] for row in two] == [1, 2, 3, 4]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-4, atol=1e-5, err_msg=name)
    program = (tmp_path / "2" / "hlo.txt").read_text(encoding="utf-8")
    assert "all-reduce" in program
    assert not re.search("all-gather|all-to-all|collective-permute", program)
