"""Published data and weights, as NumPy arrays: from a folder, or downloaded into it, and checked.

The folder is ``--data_dir``, else the environment's EBM_JAX_DATA, else ~/.cache/ebm_jax. What
lies there already, packed or unpacked, is used; the sha256 of its unpacked bytes must be that of
the published file.
"""

import gzip
import hashlib
import io
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ebm_jax.energies.boltzmann import RBM
from experiments.data.splits import Split
from experiments.run.command_line import home_path
from experiments.run.errors import UsageError


class Source(NamedTuple):
    """Where a file can be had, None where only from its authors, and its unpacked sha256."""

    url: str | None
    sha256: str


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_NOTMNIST = "https://raw.githubusercontent.com/davidflanagan/notMNIST-to-MNIST/master/"
_DENSITY = (
    "https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/master/datasets/"
)
_NLTCS = _DENSITY + "nltcs/"
_DENSITY_SHA256 = {  # of the training, validation and test rows
    "plants": (
        "1fb1219ff94068d12a563f9e81f8889a1885f41e867884cff608669300c6848f",
        "47834ed318b2d74f48e4b083226ef47fd446d41986012ceae19d230574821b34",
        "95f53c033cd1d86467aec2610dc5bfe014534206c2da4919f73bcab246ab8755",
    ),
    "dna": (
        "bb8de0ca4b6ad9b610036b7a302962ebecd4b504354b14c02c7d0bee48d207d9",
        "4b0fc89cda5eaf5c75926e281afb6af99de194a546070d5b81b524ba251f4f3f",
        "fec3ae7b26804020a9c43c99828441c5e08bb76b23719368a74ad2b09af99100",
    ),
    "mushrooms": (
        "465c712c066bbbee3ccceded24bbe42b4c379df67b524e28cce9bf3a8b83f27b",
        "5a067e6854df71623415e6adc8e913cbff766637a324788882ba800907aa5385",
        "313c5f04b5d0a18bee2f2ffa264be265d09f5362aad6f714637acd9552f81aa0",
    ),
    "baudio": (
        "b1ec73f4aa9d4ce48b465ded865cc3d22b3f68cf6258f9e15fbef8902138add1",
        "7164d8a4943f74953f0e982002d84693fdf483e17f69e7407dc939c5ce5622fe",
        "1474f3206f1f35e099803a0f40b0cd209bdc8d787825095ef6cb23fd87ed0d05",
    ),
    "jester": (
        "dd93578c3359d5b234bb278bf0901c5215d83b910f7d51d7c91951a0a4c244cd",
        "91df833941e189265345898d3f63211560c2456df599f34beee8e95381ee7524",
        "346044fb561cf18f284f7e9d5896178b03048991b6ebb6f7482885fccbc16082",
    ),
}
_RBM = "http://www.utstat.toronto.edu/~rsalakhu/code_AIS/"
_IMAGES, _LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
SOURCES = {
    "mnist/train-images-idx3-ubyte.gz": Source(
        _MNIST + "train-images-idx3-ubyte.gz",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "mnist/train-labels-idx1-ubyte.gz": Source(
        _MNIST + "train-labels-idx1-ubyte.gz",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    f"mnist/{_IMAGES}": Source(
        _MNIST + _IMAGES, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    f"mnist/{_LABELS}": Source(
        _MNIST + _LABELS, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
    f"notmnist/{_IMAGES}": Source(
        _NOTMNIST + _IMAGES, "8e7f38ae95cc8f48e0986175ffc9137e5007ebcf3d8fdf6656c904eb9dab198b"
    ),
    f"notmnist/{_LABELS}": Source(
        _NOTMNIST + _LABELS, "5f8e6012f2ce730700d8d05fca098bc47f71d25b890e4bec7ac5ebfd614a4001"
    ),
    "nltcs/nltcs.train.data": Source(
        _NLTCS + "nltcs.train.data",
        "e547a7aedad1dd2f7177030881ab1b92c7e24ae5464c71a0f1f89daecaf52b30",
    ),
    "nltcs/nltcs.valid.data": Source(
        _NLTCS + "nltcs.valid.data",
        "93bbbf5c6febdc9bc6e5b5bfab636f4dc0685ab2896d24b23dd267794c3bfcf6",
    ),
    "nltcs/nltcs.test.data": Source(
        _NLTCS + "nltcs.test.data",
        "f9ffa6b74b27dc03bee3203d157ee31079e80b13be40d0c0093d635c25aed523",
    ),
    "rbm/mnistvh_15.mat": Source(
        None, "999e8a3c7e8e656a7b2b5e3b023b2cbaf01376144749e6a85c77fa644fa6b0c8"
    ),
    "rbm/mnistvh_CD25.mat": Source(
        _RBM + "mnistvh_CD25.mat",
        "264d0e1b8b54162efc886ad596408316ded23664eb8858f8a3ff280d31fb491d",
    ),
    "rna/RF00167.fasta.gz": Source(
        None, "87dab4fcb4daabef7ab1b45a09022b9ff17aadcefc453b1091a13e9d06598c35"
    ),
    "rna/RF00379.fasta.gz": Source(
        None, "1d4f059300b02be286512b97ffe43eae6af474a3fe55c4be6508517d2d2242e0"
    ),
} | {
    f"density/{name}.{part}.data": Source(f"{_DENSITY}{name}/{name}.{part}.data", sha256)
    for name, hashes in _DENSITY_SHA256.items()
    for part, sha256 in zip(("train", "valid", "test"), hashes, strict=True)
}


def folder(data_dir: str | None) -> Path:
    """Return the folder of published data."""
    given = data_dir or os.environ.get("EBM_JAX_DATA")
    return home_path(given) if given else Path.home() / ".cache" / "ebm_jax"


def read(name: str, data_dir: str | None) -> bytes:
    """Return the unpacked bytes of a file of ``SOURCES``, checked; downloaded where it is not."""
    path = folder(data_dir) / name
    packed = path.suffix == ".gz"
    candidates = [path, path.with_suffix("") if packed else path.with_name(path.name + ".gz")]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is not None:
        return _checked(found, name)
    _download(name, path)
    try:
        return _checked(path, name)
    except UsageError:
        path.unlink()  # or the next run would find it
        raise


def _checked(path: Path, name: str) -> bytes:
    """Validate and return the unpacked bytes of a file that is there."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    found, expected = hashlib.sha256(content).hexdigest(), SOURCES[name].sha256
    if found != expected:
        raise UsageError(
            f"{path} is not the published {name}: the sha256 of its content is {found}, not "
            f"{expected}; delete it, or name another --data_dir."
        )
    return content


def _download(name: str, path: Path) -> None:
    url = SOURCES[name].url
    instead = "put it there, or name a --data_dir (or EBM_JAX_DATA) that has it"
    if url is None:
        raise UsageError(f"{path} is missing and has no public address: {instead}.")
    try:
        import pooch
    except ImportError as error:
        raise UsageError(
            f"{path} is missing, and to download it needs pooch (pip install "
            f"'ebm_jax[experiments]'): {instead}."
        ) from error
    pooch.get_logger().setLevel("WARNING")
    try:
        # What is checked is the unpacked content, by ``read``.
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent)
    except OSError as error:
        raise UsageError(
            f"{path} is missing and cannot be downloaded from {url} "
            f"({type(error).__name__}): {instead}."
        ) from error


def _idx(name: str, data_dir: str | None) -> np.ndarray:
    """Return the array in an IDX file: its rank, its sizes, its bytes."""
    content = read(name, data_dir)
    sizes = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + sizes.nbytes).reshape(sizes)


def _images(name: str, data_dir: str | None) -> np.ndarray:
    """Return images (n, pixels) in [0, 1]."""
    pixels = _idx(name, data_dir)
    return pixels.reshape(len(pixels), -1) / np.float32(255)


def mnist(data_dir: str | None = None) -> Split:
    """Return MNIST, 60,000 and 10,000 digits of 28x28."""
    parts = []
    for part in ("train", "t10k"):
        parts.append(_images(f"mnist/{part}-images-idx3-ubyte.gz", data_dir))
        labels = _idx(f"mnist/{part}-labels-idx1-ubyte.gz", data_dir)
        parts.append(labels.astype(np.int32))
    return Split(*parts)


def notmnist(data_dir: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return 10,000 images of letters A to J, (n, 784) in [0, 1], and which: no digits."""
    labels = _idx(f"notmnist/{_LABELS}", data_dir).astype(np.int32)
    return _images(f"notmnist/{_IMAGES}", data_dir), labels


class Bits(NamedTuple):
    """Binary data, (n, variables) booleans each."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def nltcs(data_dir: str | None = None) -> Bits:
    """Return the national long term care survey: 16 answers of 21,574 people, yes or no."""
    return _bits("nltcs/nltcs", data_dir)


def density(name: str, data_dir: str | None = None) -> Bits:
    """Return a benchmark of binary density estimation: one of ``names.DENSITY_TABLES``.

    Source: Larochelle and Murray (2011), The neural autoregressive distribution estimator (dna,
    mushrooms); Van Haaren and Davis (2012), Markov network structure learning: a randomized
    feature generation approach (plants, baudio, jester).
    """
    return _bits(f"density/{name}", data_dir)


def _bits(start: str, data_dir: str | None) -> Bits:
    parts = []
    for part in Bits._fields:
        text = read(f"{start}.{part}.data", data_dir).decode()
        parts.append(np.array([row.split(",") for row in text.split()]) == "1")
    return Bits(*parts)


def rbm_weights(which: str, data_dir: str | None = None) -> RBM:
    """Return a published RBM of binarised MNIST, float64: "15" or "CD25" (of 500 hidden units).

    Source: Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks.
    """
    name, hidden = f"rbm/mnistvh_{which}.mat", {"15": 15, "CD25": 500}[which]
    return matlab_rbm(read(name, data_dir), name, (784, hidden))


def matlab_rbm(content: bytes, name: str, shape: tuple[int, int]) -> RBM:
    """Return the RBM in a MATLAB file: ``vishid``, ``visbiases``, ``hidbiases``.

    Args:
        content: the file.
        name: what an error calls it.
        shape: (visible, hidden).
    """
    from scipy.io import loadmat

    shapes = {"vishid": shape, "visbiases": (1, shape[0]), "hidbiases": (1, shape[1])}
    try:
        found = loadmat(io.BytesIO(content), variable_names=list(shapes))
    except Exception as error:  # damaged bytes can raise any error in the reader
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{name} is not a MATLAB file, or it is damaged ({reason}).") from error
    arrays = []
    for key, wanted in shapes.items():
        array = found.get(key)
        if array is None or array.shape != wanted or array.dtype.kind not in "fiu":
            has = "none" if array is None else f"{array.dtype} {array.shape}"
            raise UsageError(f"{name} must have numbers {key} of shape {wanted}, it has {has}.")
        if not np.isfinite(array).all():
            raise UsageError(f"{name} has numbers in {key} that are not finite.")
        arrays.append(array.astype(np.float64))
    weights, visible, hidden = arrays
    return RBM(weights, visible[0], hidden[0])
