"""The program on binary data: its references and likelihoods are exact; it runs and refuses."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from ebm_jax.partition import exact
from experiments.data import datasets
from experiments.nltcs import model as nltcs_model
from experiments.run import errors


@pytest.fixture
def answers(tmp_path):
    """Return a file of 200 rows of 5 columns that depend on one another, with their names."""
    rng = np.random.default_rng(0)
    bits = rng.random((200, 5)) < 0.4
    bits[:, 1] = bits[:, 0] ^ (rng.random(200) < 0.1)
    bits[:, 3] = bits[:, 2] & bits[:, 0]
    path = tmp_path / "answers.csv"
    rows = [",".join(str(int(b)) for b in row) for row in bits]
    path.write_text("\n".join(["a,b,c,d,e", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.skipif(not (datasets.folder(None) / "nltcs").is_dir(), reason="NLTCS is not here")
def test_the_published_references(program):
    """Independent bits and the Chow-Liu tree on NLTCS, computed elsewhere."""
    bits = datasets.nltcs()
    independent = nltcs_model.independent_bits(bits.train, bits.test)
    assert independent == pytest.approx(9.233604524, abs=1e-9)
    assert nltcs_model.chow_liu(bits.train, bits.test) == pytest.approx(6.7590446650, abs=1e-10)


def test_the_tree_is_the_best_of_all(program):
    """Of the 16 trees over 4 bits, by the likelihood of the smoothed pairs themselves."""
    rng = np.random.default_rng(0)
    x = rng.random((300, 4)) < 0.5
    x[:, 2] = x[:, 1] ^ (rng.random(300) < 0.2)
    x[:, 3] = x[:, 1] & (rng.random(300) < 0.8)
    train, test = x[:200], x[200:]
    pair = {}
    for i, j in itertools.permutations(range(4), 2):
        counts = np.zeros((2, 2))
        np.add.at(counts, (train[:, i].astype(int), train[:, j].astype(int)), 1)
        pair[i, j] = (counts + 1) / 204
    scores = {}
    for parents in itertools.product(range(4), repeat=3):  # of bits 1 to 3, towards bit 0
        edges = [(parent, child) for child, parent in enumerate(parents, 1)]
        if any(a == b for a, b in edges) or not reaches_the_root(parents):
            continue
        log_p = np.log(pair[0, 1].sum(1))[test[:, 0].astype(int)]
        information = 0.0
        for a, b in edges:
            p = pair[a, b]
            information += (p * np.log(p / p.sum(1, keepdims=True) / p.sum(0))).sum()
            conditional = np.log(p / p.sum(1, keepdims=True))
            log_p = log_p + conditional[test[:, a].astype(int), test[:, b].astype(int)]
        scores[parents] = information, -log_p.mean()
    assert len(scores) == 16
    expected = max(scores.values())[1]
    assert program("nltcs").chow_liu(train, test) == pytest.approx(expected, rel=1e-9)


def reaches_the_root(parents) -> bool:
    for node in range(1, 4):
        for _ in range(3):
            node = parents[node - 1] if node else 0
        if node:
            return False
    return True


def test_likelihoods_are_exact():
    """Of a linear energy: the bits are independent. Rows that repeat count as often."""
    logits = np.array([0.5, -1.0, 2.0, 0.1])
    rows = np.random.default_rng(0).random((50, 4)) < 0.5
    evaluate = nltcs_model.evaluator(
        lambda params, x: -jnp.dot(params, x.astype(jnp.float32)),
        exact.states(4),
        datasets.Bits(rows[:30], rows[30:40], rows[40:]),
    )
    found = evaluate(jnp.asarray(logits, jnp.float32))
    each = -(rows * logits).sum(1) + np.log1p(np.exp(logits)).sum()
    for name, part in (("train", each[:30]), ("valid", each[30:40]), ("test", each[40:])):
        assert found[f"{name}_nll"] == pytest.approx(part.mean(), rel=1e-6)


def test_training_begins_at_independent_bits():
    train = np.random.default_rng(0).random((500, 4)) < [0.1, 0.5, 0.7, 0.9]
    energy, init = nltcs_model.make_energy(train, 4)
    params = init(jax.random.key(0))
    params["network"] = jax.tree.map(jnp.zeros_like, params["network"])
    found = jax.jit(jax.vmap(energy, (None, 0)))(params, train)
    p = (train.sum(0) + 1) / 502
    expected = -np.where(train, np.log(p), np.log1p(-p)).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("given", [["--objective=pcd", "--option=sweeps=2"], ["--objective=exact"]])
def test_a_short_run_writes_everything(program, answers, tmp_path, capsys, given):
    work = tmp_path / "run"
    common = f"--workdir={work}", f"--data={answers}", "--steps=30", "--hidden=8", "--chains=200"
    nltcs = program("nltcs", *common, "--learning_rate=0.03", *given)
    nltcs.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((work / "summary.json").read_text(encoding="utf-8"))
    bits = nltcs.read_csv(str(answers), 0)
    assert [len(part) for part in bits] == [140, 20, 40]
    assert summary["independent_nll"] == nltcs_model.independent_bits(bits.train, bits.test)
    assert summary["gap_to_exact"] == summary["test_nll"] - summary["exact_nll"]
    assert (summary["gap_to_exact"] == 0) == (given[0] == "--objective=exact")
    # What the bits tell of one another is half a nat, and is learnt.
    assert summary["exact_nll"] < summary["independent_nll"] - 0.2
    assert summary["test_nll"] < summary["independent_nll"] - 0.1
    assert (work / "nll.png").read_bytes().startswith(b"\x89PNG")
    row = json.loads((work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert row["exact/test_nll"] == summary["exact_nll"]


def test_the_exact_reference_can_be_given(program, answers, tmp_path, capsys):
    # As the run by chains above: what that has compiled is in the cache.
    common = f"--data={answers}", "--steps=30", "--hidden=8", "--chains=200", "--exact_nll=2.5"
    given = "--learning_rate=0.03", "--objective=pcd", "--option=sweeps=2"
    nltcs = program("nltcs", f"--workdir={tmp_path / 'run'}", *common, *given)
    nltcs.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["gap_to_exact"] == summary["test_nll"] - 2.5
    assert not (tmp_path / "run" / "exact.npz").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n" * 9, "has 9 rows; at least 10 are needed"),
        ("", "has 0 rows"),
        ("0,1\n" * 9 + "0,2\n", "row 10: '2'; allowed are 0 and 1"),
        ("0,1\n" * 9 + "0\n", "row 10: 1 columns instead of 2"),
        ("0\n" * 20, "has 1 columns; the exact sum allows 2 to 20"),
        (",".join("0" * 21) + "\n" + (",".join("1" * 21) + "\n") * 10, "has 21 columns"),
        ("0.5,1\n" * 12, "row 1: '0.5'"),
    ],
)
def test_files_of_anything_else_are_refused(program, tmp_path, text, message):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(errors.UsageError, match=message):
        program("nltcs").read_csv(str(path), 0)


def test_a_file_that_is_not_there_is_refused(program, tmp_path):
    with pytest.raises(errors.UsageError, match=r"cannot be read: .*No such file"):
        program("nltcs").read_csv(str(tmp_path / "missing.csv"), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--option=step=3", "the options of pcd are sweeps=1"),
        ("--option=sweeps=a", "sweeps must be one int"),
        ("--option=sweeps=0", "with {'sweeps': 0}: num_steps must be at least 1"),
    ],
)
def test_options_that_the_objective_has_not_are_refused(program, answers, tmp_path, given, message):
    common = f"--data={answers}", f"--workdir={tmp_path / 'run'}", "--steps=2"
    with pytest.raises(errors.UsageError, match=message):
        program("nltcs", *common, given).main()


def test_bad_flags_are_refused_before_any_work(program):
    with pytest.raises(flags.IllegalFlagValueError, match="weight_decay=-1"):
        program("nltcs", "--workdir=/proc/none", "--weight_decay=-1")
