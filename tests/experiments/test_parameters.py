"""Files of parameters: what is written is what is read, for every name and type, or a refusal."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.run.checkpoints import read_parameters, write_parameters
from experiments.run.errors import UsageError

# Also what np.savez, np.load and zip files read as something else.
NAMES = st.sampled_from(
    [
        "file",
        "allow_pickle",
        "args",
        "self",
        "arr_0",
        "a",
        "a.npy",
        "a.npy.npy",
        "é 雪",
        "",
        "..",
        "/x",
    ]
) | st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), max_size=8)
TYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_a_leaf_of_any_name_is_read_back(names, tmp_path):
    params = {name: np.full(i, i, np.float32) for i, name in enumerate(names)}
    write_parameters(tmp_path / "p.npz", params)
    found = read_parameters(tmp_path / "p.npz", params)
    assert found.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_two_leaves_of_one_path_are_refused(tmp_path):
    params = {"a": {"b": jnp.zeros(1)}, "a/b": jnp.ones(1)}
    with pytest.raises(UsageError, match="Two leaves of the parameters have the path 'a/b'"):
        write_parameters(tmp_path / "p.npz", params)


def extremes(dtype):
    """Values at the ends of a type and next to 2**24, where float32 ceases to hold integers."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        values = {ends.min, ends.max, 0, 1, 16777217}
        return np.array([v for v in values if ends.min <= v <= ends.max], dtype)
    if dtype == ml_dtypes.int4:
        return np.arange(-8, 8).astype(dtype)
    ends = ml_dtypes.finfo(np.float32(0).dtype if dtype.kind == "c" else dtype)
    odd = [] if dtype == ml_dtypes.float8_e4m3fn else [np.inf, -np.inf]
    return np.array([0, 1, ends.max, ends.min, ends.tiny, np.nan, *odd]).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_a_leaf_of_any_type_is_read_back(dtype, tmp_path, x64):
    for values in (extremes(dtype), extremes(dtype)[:0], extremes(dtype)[0]):
        write_parameters(tmp_path / "p.npz", {"a": values})
        found = read_parameters(tmp_path / "p.npz", {"a": values})["a"]
        assert found.dtype == values.dtype
        assert np.asarray(found).tobytes() == values.tobytes()


@pytest.mark.parametrize("to", TYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_no_value_is_changed_by_reading_it_as_another_type(to, tmp_path, x64):
    for dtype in TYPES:
        values = extremes(dtype)
        write_parameters(tmp_path / "p.npz", {"a": values})
        try:
            found = read_parameters(tmp_path / "p.npz", {"a": np.zeros(values.shape, to)})["a"]
        except UsageError:
            continue
        # In Python's numbers, which hold them all.
        for read, value in zip(np.asarray(found).tolist(), values.tolist(), strict=True):
            assert read == value or (read != read and value != value), (dtype, to)


@pytest.mark.parametrize(
    ("value", "like"),
    [(np.int32(16777217), np.float32(0)), (1e300, np.float32(0)), (np.int32(7), np.bool_(0))],
)
def test_the_types_are_named(value, like, tmp_path):
    write_parameters(tmp_path / "p.npz", {"a": np.asarray(value)})
    kinds = f"{np.asarray(value).dtype}.*where this program has .*{like.dtype}"
    with pytest.raises(UsageError, match=kinds):
        read_parameters(tmp_path / "p.npz", {"a": like})


@pytest.mark.parametrize("content", [b"", b"half", b"PK\3\4 and no more"])
def test_a_damaged_file_is_one_sentence(content, tmp_path):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(UsageError, match="is the run finished"):
        read_parameters(tmp_path / "p.npz", {"a": np.zeros(1)})
