"""Published files are found, downloaded, checked and read; no test leaves this machine."""

import functools
import gzip
import hashlib
import http.server
import io
import struct
import sys
import threading

import numpy as np
import pytest
from scipy.io import savemat

from experiments.data import datasets
from experiments.run.errors import UsageError


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape) + bytes(
        values.astype(np.uint8).ravel()
    )


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Return (name, content, url) -> None: from now on this is what is published."""
    monkeypatch.setenv("EBM_JAX_DATA", str(tmp_path))
    sources = dict(datasets.SOURCES)
    monkeypatch.setattr(datasets, "SOURCES", sources)

    def add(name, content, url="http://127.0.0.1:9/none"):
        sources[name] = datasets.Source(url, hashlib.sha256(content).hexdigest())

    return add


def place(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("packed", [True, False])
def test_images_and_labels_are_read(publish, tmp_path, packed):
    rng = np.random.default_rng(0)
    arrays = {
        f"mnist/{part}-{kind}-ubyte.gz": rng.integers(0, top, shape)
        for part, n in (("train", 5), ("t10k", 3))
        for kind, top, shape in (("images-idx3", 256, (n, 2, 3)), ("labels-idx1", 10, (n,)))
    }
    for name, values in arrays.items():
        publish(name, idx(values))
        content = gzip.compress(idx(values)) if packed else idx(values)
        place(tmp_path, name if packed else name.removesuffix(".gz"), content)
    found = datasets.mnist()
    for array, (name, values) in zip(found, arrays.items(), strict=True):
        if "images" in name:
            assert array.dtype == np.float32
            values = values.reshape(len(values), 6) / 255
        np.testing.assert_allclose(array, values, rtol=1e-6)


def test_bits_are_read(publish, tmp_path):
    for part, text in zip(("train", "valid", "test"), ("0,1\n1,1\n", "0,0\n", "1,0"), strict=True):
        publish(f"nltcs/nltcs.{part}.data", text.encode())
        place(tmp_path, f"nltcs/nltcs.{part}.data", text.encode())
    found = datasets.nltcs()
    assert [x.astype(int).tolist() for x in found] == [[[0, 1], [1, 1]], [[0, 0]], [[1, 0]]]


def test_the_flag_goes_before_the_environment(publish, tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_JAX_DATA", "/proc/none")
    publish("rbm/mnistvh_15.mat", b"bytes")
    place(tmp_path, "rbm/mnistvh_15.mat", b"bytes")
    assert datasets.read("rbm/mnistvh_15.mat", str(tmp_path)) == b"bytes"
    monkeypatch.delenv("EBM_JAX_DATA")
    assert datasets.folder(None).parts[-2:] == (".cache", "ebm_jax")


def test_a_file_of_another_content_is_refused(publish, tmp_path):
    name = f"mnist/{datasets._LABELS}"
    publish(name, b"right")
    place(tmp_path, name, gzip.compress(b"wrong"))
    wrong, right = (hashlib.sha256(content).hexdigest() for content in (b"wrong", b"right"))
    with pytest.raises(UsageError, match=f"{wrong}, not {right}; delete it"):
        datasets.read(name, None)
    place(tmp_path, name, b"no gzip")
    with pytest.raises(UsageError, match="cannot be read: Not a gzipped file"):
        datasets.read(name, None)
    place(tmp_path, name, gzip.compress(b"right")[:-9])
    with pytest.raises(UsageError, match="cannot be read"):
        datasets.read(name, None)


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def served(tmp_path_factory):
    """Return (folder, its address)."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(Server, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_missing_is_downloaded_once_and_checked(publish, served, tmp_path):
    pytest.importorskip("pooch")
    folder, address = served
    name = "notmnist/t10k-labels-idx1-ubyte.gz"
    place(folder, "labels.gz", gzip.compress(b"content"))
    publish(name, b"content", f"{address}/labels.gz")
    assert datasets.read(name, None) == b"content"
    (folder / "labels.gz").unlink()
    assert datasets.read(name, None) == b"content"  # from the folder now
    publish(name, b"other content", f"{address}/labels.gz")
    (tmp_path / name).unlink()
    place(folder, "labels.gz", gzip.compress(b"content"))
    with pytest.raises(UsageError, match="is not the published"):
        datasets.read(name, None)
    assert not (tmp_path / name).exists()
    (folder / "labels.gz").unlink()
    with pytest.raises(UsageError, match=r"cannot be downloaded from .*HTTPError.*--data_dir"):
        datasets.read(name, None)


def test_offline_says_what_to_do(publish, monkeypatch):
    name = "notmnist/t10k-labels-idx1-ubyte.gz"
    publish(name, b"", "http://127.0.0.1:9/nothing")  # a port nobody listens on
    pytest.importorskip("pooch")
    with pytest.raises(UsageError, match=r"ConnectionError.*: put it there, or name"):
        datasets.read(name, None)
    monkeypatch.setitem(sys.modules, "pooch", None)  # not installed
    with pytest.raises(UsageError, match=r"needs pooch \(pip install 'ebm_jax\[experiments\]'"):
        datasets.read(name, None)
    publish(name, b"", None)
    with pytest.raises(UsageError, match="no public address"):
        datasets.read(name, None)


def matlab(**arrays) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


GOOD = {"vishid": np.ones((4, 2)), "visbiases": np.zeros((1, 4)), "hidbiases": np.ones((1, 2))}


def test_matlab_weights_are_read():
    found = datasets.matlab_rbm(matlab(**GOOD), "file", (4, 2))
    assert [x.shape for x in found] == [(4, 2), (4,), (2,)]
    np.testing.assert_array_equal(found.hidden_bias, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file is not a MATLAB file"),
        (b"MATLAB 5.0 and then nothing" * 20, "file is not a MATLAB file"),
        (matlab(**GOOD)[:200], "file is not a MATLAB file"),
        (matlab(vishid=np.ones((4, 2))), r"visbiases of shape \(1, 4\), it has none"),
        (matlab(**GOOD | {"vishid": np.ones((2, 4))}), r"shape \(4, 2\), it has float64 \(2, 4\)"),
        (matlab(**GOOD | {"visbiases": np.ones(3)}), r"shape \(1, 4\), it has float64 \(1, 3\)"),
        (matlab(**GOOD | {"hidbiases": [["a", "b"]]}), "hidbiases of shape"),
        (matlab(**GOOD | {"vishid": np.full((4, 2), np.nan)}), "vishid that are not finite"),
    ],
    ids=lambda given: "content" if isinstance(given, bytes) else given,  # a file tells the time
)
def test_other_matlab_files_are_refused_in_a_sentence(content, message):
    with pytest.raises(UsageError, match=message) as raised:
        datasets.matlab_rbm(content, "file", (4, 2))
    assert "\n" not in str(raised.value)


def test_the_folder_of_data_may_begin_with_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(datasets.folder("~/data")) == "/home/someone/data"
    monkeypatch.setenv("EBM_JAX_DATA", "~/other")
    assert str(datasets.folder(None)) == "/home/someone/other"
