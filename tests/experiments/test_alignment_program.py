"""The alignment program against NumPy in float64 and enumeration; what it reads and refuses."""

import csv
import functools
import gzip
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.energies import potts
from ebm_jax.energies.potts import DensePotts
from experiments.alignment import model, structure, training
from experiments.data import alignments, datasets
from experiments.run import errors

L, Q = 5, 3
RNG = np.random.default_rng(0)
LETTERS = RNG.integers(Q, size=(50, L)).astype(np.int8)
LETTERS[:20] = LETTERS[0]  # repeated, as in a real family
LETTERS[10:20, 2] = (LETTERS[0, 2] + 1) % Q
WEIGHTS = RNG.random(50) + 0.1
COUPLINGS = RNG.normal(size=(L, Q, L, Q))
COUPLINGS = (COUPLINGS + COUPLINGS.transpose(2, 3, 0, 1)) / 2
COUPLINGS[np.arange(L), :, np.arange(L)] = 0
PARAMS = DensePotts(COUPLINGS, RNG.normal(size=(L, Q)))
ONES = np.eye(Q)[LETTERS]
PAIRS = np.einsum("n,nia,njb->iajb", WEIGHTS, ONES, ONES) / WEIGHTS.sum()


@pytest.fixture(params=[7, 50, 1024])
def blocked(request, monkeypatch):
    """Return the letters and weights in blocks of different sizes, the last one incomplete."""
    monkeypatch.setattr(model, "BLOCK", request.param)
    return functools.partial(model.blocks, LETTERS)


@pytest.mark.parametrize("identity", [0.2, 0.6, 0.8, 1.0])
def test_weights(blocked, identity):
    same = (LETTERS[:, None] == LETTERS[None]).mean(2)
    expected = 1 / (same >= identity - 1e-12).sum(1)
    np.testing.assert_allclose(model.sequence_weights(LETTERS, Q, identity), expected)


def test_the_memory_of_weights_does_not_grow_with_the_sequences():
    """100,000 proteins of 100 columns take the memory of 10,000, not n^2."""

    def memory(blocks):
        letters = jax.ShapeDtypeStruct((blocks, 1024, 100), jnp.int8)
        program = model._similar.lower(letters, 21, 80).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert memory(10) == memory(98) < 1e8


def test_frequencies(blocked, x64):
    found = model.pair_frequencies(*blocked(WEIGHTS), Q)
    np.testing.assert_allclose(found, PAIRS, atol=1e-14)
    letters = np.einsum("n,nia->ia", WEIGHTS, ONES) / WEIGHTS.sum()
    np.testing.assert_allclose(model.single(found), letters, atol=1e-14)


def test_the_correlation_of_connected_frequencies(x64):
    other = np.einsum("nia,njb->iajb", ONES, ONES) / 50

    def connected(pairs):
        letters = np.einsum("iaia->ia", pairs)
        return pairs - letters[:, :, None, None] * letters

    i, j = np.triu_indices(L, 1)
    flat = [connected(p)[i, :, j].ravel() for p in (PAIRS, other)]
    found = model.pearson(jnp.asarray(PAIRS), jnp.asarray(other))
    np.testing.assert_allclose(found, np.corrcoef(*flat)[0, 1], rtol=1e-12)


def loss_by_hand(params, a, b):
    """The penalised pseudo-likelihood, and its gradient in symmetric couplings and in fields."""
    field = np.einsum("iajb,njb->nia", params.couplings, ONES) + params.fields
    log_p = field - np.log(np.exp(field).sum(2, keepdims=True))
    squares = sum((params.couplings[i, :, j] ** 2).sum() for i in range(L) for j in range(i))
    value = -(WEIGHTS[:, None, None] * ONES * log_p).sum()
    value += a * (params.fields**2).sum() + b * squares
    surprise = WEIGHTS[:, None, None] * (np.exp(log_p) - ONES)
    # J_ij(a, b) is in the conditional of i and in that of j.
    pair = np.einsum("nia,njb->iajb", surprise, ONES)
    pair = pair + pair.transpose(2, 3, 0, 1) + 2 * b * params.couplings
    pair[np.arange(L), :, np.arange(L)] = 0
    return value, DensePotts(pair / 2, surprise.sum(0) + 2 * a * params.fields)


def test_pseudo_likelihood_and_its_gradient(blocked, x64):
    data = blocked(WEIGHTS)

    def loss(params):
        return model.negative_pseudo_likelihood(params, *data) + model.penalty(params, 0.7, 3.0)

    value, gradient = jax.jit(jax.value_and_grad(loss))(DensePotts(*map(jnp.asarray, PARAMS)))
    expected, slope = loss_by_hand(PARAMS, 0.7, 3.0)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    # Both of the entries of a coupling, (i, j) and (j, i), have half of its derivative.
    np.testing.assert_allclose(gradient.couplings, slope.couplings, atol=1e-11)
    np.testing.assert_allclose(gradient.fields, slope.fields, atol=1e-11)


def test_training_by_pseudo_likelihood_ends_at_the_minimum(x64):
    data = training.Data(*model.blocks(LETTERS, WEIGHTS))
    trainer = training.pseudo_likelihood(
        data, field_penalty=0.7, coupling_penalty=3.0, tolerance=1e-9
    )
    state = trainer.init(jax.tree.map(jnp.zeros_like, DensePotts(*PARAMS)), jax.random.key(0))
    state, metrics = trainer.update(state, np.zeros(80), jax.random.key(0))
    value, slope = loss_by_hand(jax.tree.map(np.asarray, state.params), 0.7, 3.0)
    assert max(np.abs(part).max() for part in slope) < 1e-8
    np.testing.assert_allclose(metrics["loss_total"][-1], value, rtol=1e-12)
    again, _ = trainer.update(state, np.zeros(2), jax.random.key(0))  # converged: nothing moves
    np.testing.assert_array_equal(again.params.couplings, state.params.couplings)


def test_persistent_chains_have_the_gradient_of_the_likelihood(x64):
    base = model.profile(jnp.asarray(PAIRS), WEIGHTS.sum())
    options = {"num_chains": 40, "sweeps": 2, "field_penalty": 0.0, "coupling_penalty": 0.0}
    objective = training.persistent(jnp.asarray(PAIRS), base, **options)
    params = DensePotts(*map(jnp.asarray, PARAMS))
    state = objective.init(params, jax.random.key(0))
    grad = jax.jit(jax.grad(objective.loss, has_aux=True))
    gradient, (state, metrics) = grad(params, state, 0.0, jax.random.key(1))
    ones = np.eye(Q)[np.asarray(state.positions)]
    chains = np.einsum("nia,njb->iajb", ones, ones) / 40
    expected = (chains - PAIRS) / 2
    expected[np.arange(L), :, np.arange(L)] = 0
    np.testing.assert_allclose(gradient.couplings, expected, atol=1e-12)
    expected = ones.mean(0) - np.einsum("iaia->ia", PAIRS)
    np.testing.assert_allclose(gradient.fields, expected, atol=1e-12)
    assert float(metrics["energy_gap"]) == pytest.approx(
        -np.sum(PARAMS.fields * -expected) - 0.5 * np.sum(COUPLINGS * (PAIRS - chains)),
        rel=1e-10,
    )


def test_scores_by_hand(x64):
    moved = COUPLINGS - COUPLINGS.mean(1, keepdims=True) - COUPLINGS.mean(3, keepdims=True)
    moved += COUPLINGS.mean((1, 3), keepdims=True)
    norms = np.sqrt((moved**2).sum((1, 3)))
    np.testing.assert_allclose(model.norms(COUPLINGS), norms, rtol=1e-12)
    found = model.corrected(norms)
    for i, j in itertools.permutations(range(L), 2):
        rows = [np.delete(norms[k], k).mean() for k in (i, j)]
        every = np.mean([norms[a, b] for a, b in itertools.permutations(range(L), 2)])
        assert found[i, j] == pytest.approx(norms[i, j] - rows[0] * rows[1] / every, rel=1e-12)


def test_energies_mutations_and_log_partition(x64):
    states = np.array(list(itertools.product(range(Q), repeat=L)), np.int8)
    energies = np.asarray(model.energies(PARAMS, states))
    changes = np.asarray(model.mutations(PARAMS, states[7]))
    for site, letter in np.ndindex(L, Q):
        changed = states[7].copy()
        changed[site] = letter
        place = int(np.flatnonzero((states == changed).all(1))[0])
        assert changes[site, letter] == pytest.approx(energies[place] - energies[7], abs=1e-12)
    base = model.profile(jnp.asarray(PAIRS), WEIGHTS.sum())
    found = model.log_partition(jax.random.key(0), PARAMS, base, num_betas=50, num_chains=500)
    difference = float(found.log_z) - oracles.log_partition(energies)
    assert abs(difference) < 5 * float(found.standard_error) < 0.2  # false alarms: 1e-6
    one, letters = jnp.asarray(PAIRS), np.einsum("iaia->ia", PAIRS)
    mean = -(PARAMS.fields * letters).sum() - 0.5 * (COUPLINGS * PAIRS).sum()
    assert float(model.mean_energy(PARAMS, one)) == pytest.approx(mean, rel=1e-12)


def test_samples_follow_the_model():
    """Frequencies of 20,000 chains against enumeration, at 6 standard errors."""
    states = np.array(list(itertools.product(range(Q), repeat=L)), np.int8)
    params = DensePotts(*(jnp.asarray(p, jnp.float32) for p in PARAMS))
    p = oracles.probabilities(np.asarray(model.energies(params, states)), 1.0)
    ones = np.eye(Q)[states]
    expected = np.einsum("n,nia,njb->iajb", p, ones, ones)
    base = model.profile(jnp.asarray(PAIRS, jnp.float32), 50.0)
    x = np.asarray(model.sample(jax.random.key(0), params, base, 20_000, 30))
    found = np.asarray(model.pair_frequencies(*model.blocks(x), Q))
    assert np.all(np.abs(found - expected) < 6 * np.sqrt(expected * (1 - expected) / 20_000) + 1e-3)


FASTA = b">one first\nAC-\nGu.\n\n>two\nACGU\n>three\nNNaa-.-\n"


def test_a_file_is_read_with_insertions_removed(tmp_path):
    for name, content in (("a.fasta", FASTA), ("a.fasta.gz", gzip.compress(FASTA))):
        (tmp_path / name).write_bytes(content)
        found = alignments.load(str(tmp_path / name))
        assert found.names == ["one first", "two", "three"]
        assert found.letters.tolist() == [[0, 1, 4, 2], [0, 1, 2, 3], [4, 4, 4, 4]]
        assert (found.kind, found.ambiguous, found.file_columns) == ("rna", 2, 4)
        assert alignments.decode(found.letters, "rna") == ["AC-G", "ACGU", "----"]
    kept = alignments.load(str(tmp_path / "a.fasta"), columns_of="one")
    assert kept.columns.tolist() == [0, 1, 3]
    assert kept.letters[1].tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (">a\nACGU-N\n", "rna"),
        (">a\nACGT-R\n", "dna"),
        (">a\nACDEX-\n", "protein"),
        (">a\nACDWKHRY-\n", "protein"),
    ],
)
def test_the_alphabet_is_found(text, kind):
    assert alignments.parse(text.encode(), "file").kind == kind


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        ("\n \n", {}, "is empty"),
        ("ACGU\n", {}, "line 1 is 'ACGU', where a header"),
        (">a\nACGU\n>b\nACG\n", {}, "record 'b' has 3 columns, 'a' has 4"),
        (">a\nACGU\n>b\n\n", {}, "record 'b' has no aligned letters"),
        (">a\nacgu\n", {}, "'a' has no aligned letters. Lower-case"),
        (">a\nACG7\n", {}, "record 'a' has the letter '7', which is in none of"),
        (">a\nACGÜ\n", {}, "letter 'Ü'"),
        (">a\nACGT\n>b\nACGU\n", {}, "has both T and U"),
        (">a\nACGU\n>b\nACEF\n", {"kind": "rna"}, "letter 'E'.*set --alphabet=protein"),
        (">a\nACGT\n", {"kind": "rna"}, "letter 'T'.*set --alphabet=dna"),
        (
            ">a\nACGU\n>b\nACGU\n",
            {"columns_of": "c"},
            "columns_of=c must be the name of one record of .*, but 0 records",
        ),
        (
            ">a\nACGU\n>a\nACGU\n",
            {"columns_of": "a"},
            "columns_of=a must be the name of one record of .*, but 2 records",
        ),
        (">a\n--\n>b\nAC\n", {"columns_of": "a"}, "columns_of=a has gaps in every column"),
    ],
)
def test_other_files_are_refused_with_a_sentence(tmp_path, text, options, message):
    path = tmp_path / "file.fasta"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(errors.UsageError, match=message) as found:
        alignments.load(str(path), **options)
    assert str(found.value).endswith(".")


@pytest.mark.parametrize("content", [b"\x1f\x8bdamaged", b">a\n\xff\xfe\n", None])
def test_files_that_cannot_be_read_are_refused(tmp_path, content):
    path = tmp_path / "file.fasta"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.UsageError, match=r"cannot be read|not text"):
        alignments.load(str(path))


def test_structures_are_read(tmp_path):
    columns = np.array([0, 1, 3, 4, 5, 6])
    assert structure.read("([.)].", columns, 7) == [(0, 3), (1, 4)]
    assert structure.read("(.A.)a.", columns, 7) == [(0, 3)]  # column 2 is not kept
    file = tmp_path / "pairs"
    for text, pairs in (
        ("# i j\n4 0\n1 3\n", [(0, 4), (1, 3)]),
        (">name\nACGUAC\n((..))\n", [(0, 5), (1, 4)]),
    ):
        file.write_text(text, encoding="utf-8")
        assert structure.read(str(file), columns, 7) == pairs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("((..)", "has 5 positions; the alignment has 6 columns, of 7 in the file"),
        ("((...)", r"'\(' at position 0 is not closed"),
        ("(..)).", r"'\)' at position 4 closes nothing"),
        ("missing.txt", "must be a file, or one line of dot-bracket"),
        ("0 6", "two different positions from 0 to 5"),
        ("2 2", "two different positions"),
    ],
)
def test_other_structures_are_refused(given, message):
    with pytest.raises(errors.UsageError, match=message):
        structure.read(given, np.array([0, 1, 3, 4, 5, 6]), 7)


def test_agreement_with_a_structure():
    scores = np.zeros((12, 12))
    scores[0, 10], scores[1, 8], scores[0, 5], scores[3, 4] = 4, 3, 2, 9
    assert structure.ranked(scores)[:3] == [(0, 10), (1, 8), (0, 5)]
    found = structure.agreement(scores, [(0, 10), (2, 9)], best=3)
    assert found == (1, 2, 3)


HERE = (datasets.folder(None) / "rna").is_dir()


@pytest.mark.skipif(not HERE, reason="the RNA families are not here")
def test_the_published_family():
    """Numbers computed elsewhere: the effective number of sequences, the canonical base pairs."""
    published = alignments.PUBLISHED["rf00167"]
    found = alignments.load("rf00167", columns_of=published.columns_of)
    assert (found.letters.shape, found.kind) == ((2704, 71), "rna")
    weights = model.sequence_weights(found.letters, 5)
    assert weights.sum() == pytest.approx(458.83, abs=0.005)
    pairs = structure.read(published.structure, found.columns, found.file_columns)
    expected = [(i, 70 - i) for i in range(9)] + [(i, 44 - i) for i in range(12, 18)]
    expected += [(i, 100 - i) for i in range(41, 47)] + [(24, 48), (25, 47)]
    assert pairs == sorted(expected)
    assert alignments.load("rf00379").letters.shape == (3827, 136)
    frequencies = model.pair_frequencies(*model.blocks(found.letters, weights), 5)
    scores = model.corrected(model.norms(model.mean_field(frequencies)))
    best = structure.ranked(scores)[:5]
    assert best == [(17, 27), (16, 28), (44, 56), (45, 55), (43, 57)]
    computed = [4.266, 4.260, 4.249, 4.175, 4.024]
    np.testing.assert_allclose([scores[p] for p in best], computed, atol=0.002)
    assert structure.agreement(scores, pairs, best=19).near == 19


@pytest.mark.skipif(not HERE, reason="the RNA families are not here")
@pytest.mark.slow
def test_pseudo_likelihood_of_the_published_family(optimised):
    """The minimum 17747.140 and the first pairs were computed elsewhere, in float64."""
    published = alignments.PUBLISHED["rf00167"]
    found = alignments.load("rf00167", columns_of=published.columns_of)
    weights = model.sequence_weights(found.letters, 5)
    trainer = training.pseudo_likelihood(
        training.Data(*model.blocks(found.letters, weights)),
        field_penalty=1.0,
        coupling_penalty=20.0,
        tolerance=0.1,
    )
    start = DensePotts(jnp.zeros((71, 5, 71, 5)), jnp.zeros((71, 5)))
    state = trainer.init(start, jax.random.key(0))
    state, metrics = trainer.update(state, np.zeros(70, np.float32), jax.random.key(0))
    assert 17747.10 < float(metrics["loss_total"][-1]) < 17748  # float32 has 0.002
    scores = model.corrected(model.norms(np.asarray(state.params.couplings)))
    best = structure.ranked(scores)[:5]
    assert set(best) == {(45, 55), (16, 28), (44, 56), (17, 27), (43, 57)}
    pairs = structure.read(published.structure, found.columns, found.file_columns)
    agreement = structure.agreement(scores, pairs)
    assert (agreement.exact, agreement.of) == (18, 20)


def family(num=300):
    """Sequences of 14 columns with four complementary pairs, as FASTA, and their structure."""
    rng = np.random.default_rng(1)
    x = rng.integers(4, size=(num, 14))
    for i in range(4):
        x[:, 13 - i] = np.where(rng.random(num) < 0.9, 3 - x[:, i], x[:, 13 - i])
    rows = (f">seq{n}\n{''.join('ACGU'[k] for k in row)}\n" for n, row in enumerate(x))
    return "".join(rows), "((((......))))"


OPTIONS = {
    "pseudo_likelihood": ["--steps=20", "--coupling_penalty=5"],
    "persistent": ["--training=persistent", "--steps=30", "--chains=200", "--sweeps=2"],
}


@pytest.mark.parametrize(
    "how", ["pseudo_likelihood", pytest.param("persistent", marks=pytest.mark.slow)]
)
def test_a_short_run_writes_everything_and_resumes(program, tmp_path, capsys, how):
    text, notation = family()
    (tmp_path / "family.fasta").write_text(text, encoding="utf-8")
    (tmp_path / "score.fasta").write_text(text[:42], encoding="utf-8")
    work = tmp_path / "run"
    given = [f"--workdir={work}", f"--data={tmp_path / 'family.fasta'}", *OPTIONS[how]]
    given += [f"--structure={notation}", f"--score={tmp_path / 'score.fasta'}", "--betas=20"]
    given += ["--samples=500", "--sample_sweeps=10", "--annealed_chains=50"]
    given += ["--identity=1"] + ["--learning_rate=0.1"] * (how == "persistent")
    alignment = program("alignment", *given)
    alignment.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"pairs_in_structure", "pearson", "log_z", "interval", "seconds"} <= set(summary)
    rows = list(csv.DictReader((work / "contacts.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 14 * 13 // 2
    best = sorted((int(r["i"]), int(r["j"])) for r in rows[:4])
    assert best == [(i, 13 - i) for i in range(4)]
    assert summary["pairs_exactly_in_structure"] == 4
    low, high = summary["interval"]
    assert low <= summary["log_z"] <= high
    assert 0 < summary["entropy_per_site"] < np.log(5)
    page = (work / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5
    assert 'src="http' not in page
    assert "$" not in page.split("<body>")[1]
    samples = alignments.parse((work / "samples.fasta").read_bytes(), "samples", "rna")
    assert samples.letters.shape == (500, 14)
    params = np.load(work / "parameters.npz")
    params = DensePotts(params["couplings"], params["fields"])
    scores = list(csv.DictReader((work / "scores.csv").read_text(encoding="utf-8").splitlines()))
    sequence = alignments.load(str(tmp_path / "score.fasta"), kind="rna").letters
    for row, x in zip(scores, sequence, strict=True):
        assert float(row["energy"]) == pytest.approx(float(potts.dense_potts(params, x)), abs=1e-4)
    assert (work / "mutations.csv").read_text(encoding="utf-8").count("\n") == 1 + 14 * 4 * len(
        sequence
    )
    alignment.main()  # all updates are made: it reads the checkpoint and measures again
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    changing = {"seconds", "training_seconds"}
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in summary.items() if k not in changing
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--data is not set: name a FASTA file"),
        (["--data={fasta}", "--alphabet=protein", "--score={other}"], "has 3 columns; the al"),
        (["--data={other}"], "the number of sequences is 1; at least 2 are needed"),
    ],
)
def test_bad_flags_are_refused(program, tmp_path, given, message):
    files = {"fasta": tmp_path / "a", "other": tmp_path / "b"}
    files["fasta"].write_text(family(5)[0], encoding="utf-8")
    files["other"].write_text(">a\nACG\n", encoding="utf-8")
    given = [flag.format(**files) for flag in given]
    with pytest.raises(errors.UsageError, match=message):
        program("alignment", f"--workdir={tmp_path / 'run'}", *given).main()
