"""Images to model and outliers to tell from them: named data sets, the user's files and folders.

A file ``.npz`` holds ``x``, (n, height, width) or (n, height, width, 3), bytes or numbers in
[0, 1], and perhaps ``y``, (n,) integers 0, 1, ... A folder holds images of one size, one
sub-folder a class, or no sub-folders and no classes. A fifth of them, of every class alike and at
most 10,000, is kept for testing.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments import data, datasets
from experiments.runs import UsageError

NAMED = ("digits", "mnist", "notmnist")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TESTED = 10_000  # images at most


class Images(NamedTuple):
    """Images (n, pixels) in [0, 1], what shape they have, and how they are shown."""

    split: data.Split
    shape: tuple[int, ...]  # (height, width), or with 3 colours
    classes: list[str]
    ink: bool  # whether 1 is ink on paper, not light

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Return (..., pixels) as pictures (..., height, width[, 3]) in [0, 1] whose 1 is white."""
        shown = np.clip(x, 0, 1).reshape(*x.shape[:-1], *self.shape)
        return 1 - shown if self.ink else shown


def load(which: str, data_dir: str | None = None) -> Images:
    """Return a data set by its name, or what is in a file or folder."""
    if which == "digits":
        return Images(data.digits(), (8, 8), [str(d) for d in range(10)], ink=True)
    if which == "mnist":
        return Images(datasets.mnist(data_dir), (28, 28), [str(d) for d in range(10)], ink=True)
    if which == "notmnist":
        x, y = datasets.notmnist(data_dir)
        return Images(_split(x, y), (28, 28), list("ABCDEFGHIJ"), ink=True)
    x, y, classes = _read(which)
    shape = x.shape[1:]
    for c, name in enumerate(classes):
        if np.sum(y == c) < 2:
            raise UsageError(
                f"{which} has {np.sum(y == c)} images of class {name}: at least 2 are needed, to "
                "train on and to test with."
            )
    return Images(_split(x.reshape(len(x), -1), y), shape, classes, ink=False)


def outliers(which: str, shape: tuple[int, ...], data_dir: str | None = None) -> np.ndarray:
    """Return the images (n, pixels) of a data set, file or folder, which must have this shape."""
    if which in NAMED:
        found = load(which, data_dir)
        x, has = found.split.test_x, found.shape
    else:
        x, *_ = _read(which)
        has, x = x.shape[1:], x.reshape(len(x), -1)
    if has != shape:
        raise UsageError(f"The images of {which} are of shape {has}, those modelled of {shape}.")
    return x


def hold_out(images: Images, held_out: int) -> tuple[Images, dict[str, np.ndarray]]:
    """Return the images without a class, -1 for none, and the test images of that class."""
    count = len(images.classes)
    if held_out < 0:
        return images, {}
    if held_out >= count or count == 1:
        raise UsageError(
            f"--hold_out_class={held_out}: the data have the classes 0 to {count - 1}, and one "
            "must be left."
        )
    split, unseen = data.hold_out(images.split, held_out)
    kept = [name for c, name in enumerate(images.classes) if c != held_out]
    return images._replace(split=split, classes=kept), {"held_out": unseen}


def name_of(which: str) -> str:
    """Return what measures call a data set: its name, or that of the file or folder."""
    return which if which in NAMED else Path(which).stem


def _split(x: np.ndarray, y: np.ndarray) -> data.Split:
    tested = min(TESTED, max(len(x) // 5, y.max() + 1))
    return data.stratified(x, y, tested)


def _read(which: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return x (n, height, width[, 3]) in [0, 1], y (n,), and the names of the classes."""
    path = Path(which)
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path)
    raise UsageError(
        f"{which!r} is no data set: allowed are {', '.join(NAMED)}, a file .npz that is there, and "
        "a folder of images."
    )


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, np.ndarray] = {name: file[name] for name in ("x", "y") if name in file}
    except Exception as error:  # a damaged archive raises what its parts raise
        raise UsageError(f"{path} cannot be read: {type(error).__name__}: {error}.") from error
    if "x" not in found:
        raise UsageError(f"{path} must hold an array x, the images.")
    x = _unit_interval(path, found["x"])
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (3, 4) or 0 in x.shape or (x.ndim == 4 and x.shape[3] != 3):
        raise UsageError(
            f"x in {path} must be of shape (n, height, width) or (n, height, width, 3), it is of "
            f"{found['x'].shape}."
        )
    y = found.get("y", np.zeros(len(x), np.int32))
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise UsageError(
            f"y in {path} must be {len(x)} integers, one an image; it is {y.dtype} {y.shape}."
        )
    labels = np.unique(y)
    if not np.array_equal(labels, np.arange(len(labels))):
        missing = sorted(set(range(int(labels.max()) + 1)) - set(labels.tolist()))
        raise UsageError(
            f"y in {path} must be the numbers 0, 1, ... of the classes, none skipped; it goes from "
            f"{labels.min()} to {labels.max()}" + (f" without {missing[0]}." if missing else ".")
        )
    return x, y, [str(label) for label in labels]


def _unit_interval(path: Path, x: np.ndarray) -> np.ndarray:
    """Return grey levels in [0, 1] of bytes or of such numbers, or refuse others."""
    if x.dtype == np.uint8:
        return x / np.float32(255)
    if x.dtype.kind != "f":
        raise UsageError(f"x in {path} must be bytes (uint8) or floating, it is {x.dtype}.")
    if not np.isfinite(x).all():
        raise UsageError(f"x in {path} has {np.sum(~np.isfinite(x))} pixels that are not finite.")
    if x.size and (x.min() < 0 or x.max() > 1):
        raise UsageError(
            f"x in {path} must be in [0, 1], it goes from {x.min():g} to {x.max():g}: divide it."
        )
    return x.astype(np.float32)


def _folder(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    classes = [entry for entry in entries if entry.is_dir()]
    if classes and len(classes) < len(entries):
        stray = next(entry for entry in entries if not entry.is_dir())
        raise UsageError(f"{stray} lies beside the sub-folders of classes: put it into one.")
    pictures, y = [], []
    for c, folder in enumerate(classes or [path]):
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        if not files:
            raise UsageError(f"{folder} holds no image.")
        pictures += [_open(file) for file in files]
        y += [c] * len(files)
    first = pictures[0]
    for picture in pictures:
        if picture.size != first.size:
            raise UsageError(
                f"The images of {path} must be of one size: {first.filename} has "
                f"{first.size[0]}x{first.size[1]} pixels, {picture.filename} "
                f"{picture.size[0]}x{picture.size[1]}."
            )
    mode = "L" if all(picture.mode in ("1", "L") for picture in pictures) else "RGB"
    x = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    names = [folder.name for folder in classes] or ["all"]
    return x / np.float32(255), np.array(y), names


def _open(file: Path) -> Any:
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{file} is no image of the kinds allowed: {', '.join(SUFFIXES)}.")
    try:
        picture = Image.open(file)
        picture.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error
    return picture
