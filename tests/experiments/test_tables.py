"""Tables of the user's own: what is read, how it is split, and what messy files are told."""

import gzip
import io

import numpy as np
import pytest

from experiments.data import datasets, tables
from experiments.run.errors import UsageError

ROWS = np.random.default_rng(0).integers(2, size=(40, 5))


def text_of(rows):
    return "\n".join(",".join(map(str, row)) for row in rows)


def write(folder, name, content):
    path = folder / name
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def packed(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def single(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def in_order(rows):
    return sorted(map(tuple, np.asarray(rows, int).tolist()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", text_of(ROWS)),
        ("a.CSV", "\ufeffa,b,c,d,e\r\n" + text_of(ROWS).replace("\n", "\r\n") + "\r\n\r\n"),
        ("a.csv.gz", text_of(ROWS)),
        ("a.csv", text_of(ROWS.astype(bool))),
        ("a.csv", text_of(ROWS.astype(float))),
        ("a.csv", "a;b;c;d;e\n" + text_of(ROWS).replace(",", ";")),
        ("a.csv", text_of(ROWS).replace(",", "\t")),
        ("a.csv", '"' + text_of(ROWS).replace(",", '","').replace("\n", '"\n"') + '"'),
        ("a.csv", "0,1,2,3,4\n" + text_of(ROWS)),  # numbers in the place of names
        ("a.npy", single(ROWS)),
        ("a.npy", single(ROWS.astype(bool))),
        ("a.npy", single(ROWS.astype(np.float32))),
        ("a.npy", single(ROWS.astype(">u2"))),
        ("a.npy", single(np.asfortranarray(ROWS.astype(np.uint8)))),
        ("a.npz", packed(anything=ROWS)),
        ("a.npz", packed(x=ROWS, y=np.array([{}]))),
    ],
)
def test_binary_rows_are_read_whole_and_split(tmp_path, name, content):
    path = write(tmp_path, name, content)
    found = tables.read(path, seed=0)
    assert [len(part) for part in found[:3]] == [28, 4, 8]
    assert all(part.dtype == bool for part in found[:3])
    assert found.values == (0, 1)
    assert in_order(np.concatenate(found[:3])) == in_order(ROWS)
    same, other = tables.read(path, seed=0), tables.read(path, seed=1)
    np.testing.assert_array_equal(same.train, found.train)
    assert (other.train != found.train).any()


def test_integers_are_numbered(tmp_path):
    values = np.array([-7, 0, 300])
    numbers = np.random.default_rng(1).integers(3, size=(30, 4))
    found = tables.read(write(tmp_path, "a.csv", text_of(values[numbers])), seed=0)
    assert found.values == (-7, 0, 300)
    assert found.train.dtype == np.int8
    assert in_order(np.concatenate(found[:3])) == in_order(numbers)


def test_two_values_are_off_and_on(tmp_path):
    found = tables.read(write(tmp_path, "a.npy", single(2 * ROWS - 1)), seed=0)
    assert found.values == (-1, 1)
    assert in_order(np.concatenate(found[:3])) == in_order(ROWS)


@pytest.mark.parametrize(
    ("letters", "alphabet"),
    [("-ACU", "ACGU-"), ("ACGT", "ACGT-"), ("ACDW", "ACDEFGHIKLMNPQRSTVWY-")],
)
def test_sequences_are_numbered_without_insertions(tmp_path, letters, alphabet):
    numbers = np.random.default_rng(1).integers(4, size=(30, 6))
    lines = ["".join(letters[k] for k in row) for row in numbers]
    # Insertions, a sequence over two lines, and blank ones.
    content = "".join(f">s {i}\n{s[:3]}ac..\n{s[3:]}g\n\n" for i, s in enumerate(lines))
    found = tables.read(write(tmp_path, "a.fasta.gz", content), seed=0)
    assert "".join(found.values) == alphabet
    expected = np.array([[alphabet.index(letter) for letter in line] for line in lines])
    assert in_order(np.concatenate(found[:3])) == in_order(expected)


GOOD, INDEXED = text_of(ROWS), np.hstack([np.arange(40)[:, None], ROWS])
CASES = [
    ("a.csv", "", "has no rows"),
    ("a.csv", "a,b,c\n", "has no rows"),
    ("a.csv", text_of(ROWS[:9]), "has 9 rows; at least 10"),
    ("a.csv", GOOD + "\n0,1,,0,1", r"line 41, column 3: an empty cell; allowed are 0 and 1, or"),
    ("a.csv", "p,q,r,s,t\n" + GOOD + "\n0,1,0,NA,1", r"line 42, column 4 \(s\): 'NA'; allowed"),
    ("a.csv", GOOD + "\n0,1,?,0,1", "line 41, column 3: '.'; allowed"),
    ("a.csv", GOOD + "\n0,1,0,0", "line 41: it has 4 columns instead of 5"),
    ("a.csv", "a,b\n" + GOOD, "line 2: it has 5 columns instead of 2"),
    ("a.csv", GOOD + "\n0,1,0,nan,1", "column 4: nan; allowed"),
    ("a.csv", GOOD + "\n0,1,0,inf,1", "column 4: inf; allowed"),
    ("a.csv", "p,q,r,s,t\n" + GOOD + "\n0,1,0,0.5,1", r"column 4 \(s\): 0.5; allowed"),
    ("a.csv", GOOD.replace(",", " "), r"line 2, column 1 \(. . . . .\): '. . . . .'; allowed"),
    ("a.csv", GOOD + "\n\n \n0,1,0.5,0,1", "line 43, column 3: 0.5; allowed"),
    ("a.csv", GOOD + "\n0,1e300,0,0,1", r"line 41, column 2: 1e\+300; .* at most 15 digits"),
    ("a.csv", GOOD + "\n0," + "x" * 9999 + ",0,0,1", r"column 2: 'x+\.\.\.x+'; allowed"),
    ("a.csv", "x" * 200_000 + "\n" + GOOD, "line 1: field larger than field limit"),
    ("a.csv", '"' + GOOD * 3000, "field larger than field limit .* quotation mark"),
    ("a.csv", ",a,b,c,d,e\n" + text_of(INDEXED), "column 1: 0, 1, 2, ... number the rows; delete"),
    ("a.csv", ",0,1,2,3,4\n" + text_of(INDEXED), "column 1: 0, 1, 2, ... number the rows; delete"),
    ("a.csv", "id,a,b,c,d,e\n" + text_of(INDEXED + 1), r"column 1 \(id\): 1, 2, 3, ... number the"),
    ("a.csv", "\n".join(map(str, range(40))), "has 40 different integers; allowed"),
    ("a.csv", b"\xff\xfe\x00", "cannot be read"),
    ("a.csv.gz", None, "cannot be read"),
    ("a.npy", b"no array", r"must have an array of .* \(rows, columns\), it has Python objects"),
    ("a.npy", b"", "cannot be read"),
    ("a.npy", single(ROWS)[:-9], "cannot be read"),
    ("a.npy", single(np.array([[{}]]), allow_pickle=True), "numbers .*, it has Python objects"),
    ("a.npy", single(ROWS.astype(complex)), r"got complex128 \(40, 5\)"),
    ("a.npy", single(np.where(ROWS, 2**53, 2**53 + 1)), "row 1, column 1: 9007199254740992.0; all"),
    ("a.npy", single(ROWS[0]), r"\(rows, columns\), got int64 \(5,\)"),
    ("a.npy", single(ROWS.astype(str)), r"\(rows, columns\), got <U"),
    ("a.npy", single(ROWS[:, :0]), "has no columns"),
    ("a.npy", single(ROWS + 0.5), "row 1, column 1: .*.5; allowed"),
    ("a.npz", packed(a=ROWS, b=ROWS), r"one array, or one named x; it has \['a', 'b'\]"),
    ("a.npz", packed(), "one array, or one named x"),
    ("a.npz", packed(**{f"k{i}": ROWS for i in range(99)}), r"it has \['k0', .* \.\.\.\]\."),
    ("a.txt", GOOD, "must be a file .csv, .npy, .npz or .fasta"),
    ("a.fasta", "ACGU", "is not a FASTA file"),
    ("a.fasta", "# STOCKHOLM 1.0\na ACGU\n//", "line 1 is '# STOCKHOLM 1.0', .*; convert Stockhol"),
    ("a.fasta", ">" + "x" * 999 + "\nACGU\n>b\nACG\n", r"'b' has 3 columns, 'x+\.\.\.x+' has 4"),
    ("a.fasta", "", "is empty: a FASTA file"),
    ("a.fasta", ">a\nACGU\n>b\nACG\n", "record 'b' has 3 columns, 'a' has 4"),
    ("a.fasta", ">a\n>b\n", "record 'a' has no aligned letters"),
    ("a.fasta", ">a\nACGU\n>b\nACGN\n>c\nACGX\n", "3 rows; at least 10"),
    ("a.fasta", ">a\nACGU\n>b\nACGT\n", "has both T and U"),
    ("a.fasta", ">a\nACGU\n>b\nACGÄ\n", "record 'b' has the letter 'Ä'"),
]


@pytest.mark.parametrize(("name", "content", "message"), CASES)
def test_messy_files_are_told_what_is_allowed(tmp_path, name, content, message):
    if content is None:
        path = tmp_path / name
        path.write_bytes(b"\x1f\x8b damaged")
        path = str(path)
    else:
        path = write(tmp_path, name, content)
    with pytest.raises(UsageError, match=message) as caught:
        tables.read(path, seed=0)
    said = str(caught.value)
    assert said.startswith("--data=")
    assert said.endswith(".")
    assert "\n" not in said


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be read: .*No such file"):
        tables.read(str(tmp_path / "a.csv"), seed=0)


@pytest.mark.parametrize("name", ["plants", "dna", "mushrooms", "baudio", "jester"])
def test_the_published_tables_are_whole(name):
    sizes = {
        "plants": (17412, 2321, 3482, 69),
        "dna": (1600, 400, 1186, 180),
        "mushrooms": (2000, 500, 5624, 112),
        "baudio": (15000, 2000, 3000, 100),
        "jester": (9000, 1000, 4116, 100),
    }
    folder = datasets.folder(None)
    if not (folder / "density").is_dir():
        pytest.skip("the published tables are not on this machine")
    bits = datasets.density(name)
    assert (*map(len, bits), bits.test.shape[1]) == sizes[name]
    assert all(part.dtype == bool for part in bits)
