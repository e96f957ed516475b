"""Images to model and outliers to tell from them: named data sets, the user's files and folders.

A file ``.npz`` holds ``x``, (n, height, width) or (n, height, width, 3), bytes, booleans or numbers
in [0, 1], and perhaps ``y``, (n,) integers 0, 1, ... A folder holds images of one size, with one
sub-folder per class, or no sub-folders and no classes. A fifth of the images, the same share of
every class and at most 10,000, is kept for testing. A folder with the sub-folders ``train`` and
``test``, each of which is such a folder, says itself which images are kept. Hidden files, and the
files that operating systems and servers leave in folders (``LEFT_BEHIND``), are ignored.

Image files have one channel where all of them are grey, else three. The 16 bits of a grey image are
kept, colours have 8; EXIF orientation is applied; transparent pixels are composited on white.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from experiments.data import datasets, splits
from experiments.names import IMAGES as NAMED
from experiments.run.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
TESTED = 10_000  # images at most
MOST_PIXELS = 1024 * 1024  # of an image
SMALLER = f"at most {MOST_PIXELS:,}, as of 1024x1024, are allowed; make the images smaller."
PARTS = ("train", "test")  # sub-folders of the images for training and for testing
LEFT_BEHIND = {  # in lower case; macOS, Windows, file servers and Linux leave them in folders
    *("__macosx", "icon\r", "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db"),
    *("ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "lost+found"),
}
GREY, COLOURED = ("1", "L", "LA"), ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


class Images(NamedTuple):
    """Images (n, pixels) in [0, 1], their shape, and how to display them."""

    split: splits.Split
    shape: tuple[int, ...]  # (height, width), or with 3 colours
    classes: list[str]
    ink: bool  # whether 1 is ink on paper, not light

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Return (..., pixels) as pictures (..., height, width[, 3]) in [0, 1] whose 1 is white."""
        shown = np.clip(x, 0, 1).reshape(*x.shape[:-1], *self.shape)
        return 1 - shown if self.ink else shown


def load(which: str, data_dir: str | None = None) -> Images:
    """Return a data set by its name, or from a file or folder."""
    if which == "digits":
        return Images(splits.digits(), (8, 8), [str(d) for d in range(10)], ink=True)
    if which == "mnist":
        return Images(datasets.mnist(data_dir), (28, 28), [str(d) for d in range(10)], ink=True)
    if which == "notmnist":
        x, y = datasets.notmnist(data_dir)
        return Images(_split(x, y), (28, 28), list("ABCDEFGHIJ"), ink=True)
    found = _read(which)
    shape, x = found.x.shape[1:], found.x.reshape(len(found.x), -1)
    if found.tested is not None:
        kept = ~found.tested
        parts = (x[kept], found.y[kept], x[~kept], found.y[~kept])
        return Images(splits.Split(*parts), shape, found.classes, ink=False)
    for name, count in zip(found.classes, np.bincount(found.y), strict=True):
        if count < 2:
            raise UsageError(
                f"{which} has {count} images of class {name}: at least 2 are needed, to "
                "train on and to test with."
            )
    return Images(_split(x, found.y), shape, found.classes, ink=False)


def outliers(which: str, shape: tuple[int, ...], data_dir: str | None = None) -> np.ndarray:
    """Return the images (n, pixels) of a data set, file or folder, which must have this shape.

    Use the test images that the data set or the folder names, if it does.
    """
    if which in NAMED:
        images = load(which, data_dir)
        x, has = images.split.test_x, images.shape
    else:
        found = _read(which)
        x = found.x if found.tested is None else found.x[found.tested]
        has, x = x.shape[1:], x.reshape(len(x), -1)
    if has != shape:
        raise UsageError(
            f"The images of {which} have shape {has}; the images of --data have {shape}."
        )
    return x


def hold_out(images: Images, held_out: int) -> tuple[Images, dict[str, np.ndarray]]:
    """Return the images without the class (-1: with all), and the test images of that class."""
    count = len(images.classes)
    if held_out < 0:
        return images, {}
    if held_out >= count or count == 1:
        raise UsageError(
            f"--hold_out_class={held_out}: the data have the classes 0 to {count - 1}, and one "
            "must be left."
        )
    split, unseen = splits.hold_out(images.split, held_out)
    kept = [name for c, name in enumerate(images.classes) if c != held_out]
    return images._replace(split=split, classes=kept), {"held_out": unseen}


def name_of(which: str) -> str:
    """Return the name of a data set in the names of measures: its own, or that of its file."""
    return which if which in NAMED else Path(which).stem


def _split(x: np.ndarray, y: np.ndarray) -> splits.Split:
    tested = min(TESTED, max(len(x) // 5, y.max() + 1))
    return splits.stratified(x, y, tested)


class _Found(NamedTuple):
    """What a file or folder holds."""

    x: np.ndarray  # (n, height, width[, 3]) in [0, 1]
    y: np.ndarray  # (n,)
    classes: list[str]
    tested: np.ndarray | None = None  # (n,), true where an image is for testing; None if not said


def _read(which: str) -> _Found:
    path = Path(which)
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path)
    raise UsageError(
        f"{which!r} is not a data set: allowed are {', '.join(NAMED)}, an existing "
        ".npz file, and a folder of images."
    )


def _npz(path: Path) -> _Found:
    arrays: dict[str, np.ndarray] = {}
    name = "x"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in ("x", "y"):
                if name in file:
                    arrays[name] = file[name]
    except Exception as error:  # a damaged archive raises what its parts raise
        if "allow_pickle" in str(error):
            raise UsageError(
                f"{name} in {path} holds Python objects (dtype object), it must hold numbers: "
                "stack images of one shape with np.stack before saving them."
            ) from error
        raise UsageError(f"{path} cannot be read: {type(error).__name__}: {error}.") from error
    if "x" not in arrays:
        raise UsageError(f"{path} must hold an array x, the images.")
    x = arrays["x"]
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (3, 4) or 0 in x.shape or (x.ndim == 4 and x.shape[3] != 3):
        raise UsageError(
            f"x in {path} must be of shape (n, height, width) or (n, height, width, 3), it is of "
            f"{arrays['x'].shape}."
        )
    _refuse_large(f"x in {path}", x.shape[2], x.shape[1])
    x = _unit_interval(f"x in {path}", x)
    y = arrays.get("y", np.zeros(len(x), np.int32))
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise UsageError(
            f"y in {path} must be {len(x)} integers, one per image; it is {y.dtype} {y.shape}."
        )
    labels, y = np.unique(y, return_inverse=True)
    (wrong,) = np.nonzero(labels != np.arange(len(labels)))
    if len(wrong):
        missing = f" without {wrong[0]}." if labels[0] >= 0 else "."
        raise UsageError(
            f"y in {path} must be the numbers 0, 1, ... of the classes, without gaps; it goes from "
            f"{labels[0]} to {labels[-1]}{missing}"
        )
    return _Found(x, y, [str(label) for label in labels])


def _refuse_large(what: object, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UsageError(f"{what} has {width}x{height} pixels: {SMALLER}")


def _unit_interval(what: str, x: np.ndarray) -> np.ndarray:
    """Validate and return grey levels in [0, 1] of bytes, booleans or such numbers."""
    if x.dtype == bool or (x.dtype == np.uint8 and x.max() <= 1):  # bits, or their bytes
        return x.astype(np.float32)
    if x.dtype == np.uint8:
        return x / np.float32(255)
    if x.dtype.kind != "f":
        remedy = ""
        if x.dtype.kind in "iu":
            white = 65535 if x.dtype == np.uint16 else "the level of white"
            remedy = (
                f". If its levels are from 0 to 255, save x.astype(np.uint8); otherwise save x / "
                f"{white}"
            )
        raise UsageError(
            f"{what} must be bytes (uint8), booleans, or floating-point numbers from 0 to 1; it is "
            f"{x.dtype}{remedy}."
        )
    if not np.isfinite(x).all():
        raise UsageError(f"{what} has {np.sum(~np.isfinite(x))} pixels that are not finite.")
    low, high = x.min(), x.max()
    if low < 0 or high > 1:
        if low >= 0:
            white = next((white for white in (255, 65535) if high <= white), high)
            remedy = f"divide it by its white, {white:g}"
        elif low >= -1 and high <= 1:
            remedy = "of levels in [-1, 1] save (x + 1) / 2"
        else:
            remedy = "save (x - black) / (white - black)"
        raise UsageError(f"{what} must be in [0, 1], it goes from {low:g} to {high:g}: {remedy}.")
    return x.astype(np.float32)


def _folder(path: Path) -> _Found:
    entries = _entries(path)
    if not {entry.name for entry in entries} >= set(PARTS) or not all(
        (path / part).is_dir() for part in PARTS
    ):
        x, y, classes = _stacked(path, [path])
        return _Found(x, y, classes)
    for entry in entries:
        if entry.name not in PARTS:
            raise UsageError(
                f"{entry} is next to the folders train and test: only these two are allowed; put "
                "its images into one of them."
            )
    x, y, classes = _stacked(path, [path / part for part in PARTS])
    return _Found(x, y % len(classes), classes, y >= len(classes))


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, in order, without hidden files and ``LEFT_BEHIND``."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.lower() not in LEFT_BEHIND
    )


def _class_folders(path: Path) -> list[Path]:
    """Return the sub-folders of a folder, one per class; none if it holds images itself."""
    entries = _entries(path)
    folders = [entry for entry in entries if entry.is_dir()]
    if folders and len(folders) < len(entries):
        stray = next(entry for entry in entries if not entry.is_dir())
        raise UsageError(
            f"{stray} is next to the sub-folders of the classes: move it into one of them."
        )
    return folders


def _stacked(path: Path, parts: list[Path]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return all images of one folder or several of the same classes, and these.

    The labels of the second folder continue those of the first.
    """
    by_part = [_class_folders(part) for part in parts]
    names = [[folder.name for folder in folders] for folders in by_part]
    if names[0] != names[-1]:
        differing = sorted({*names[0]} ^ {*names[-1]})
        raise UsageError(
            f"{parts[0]} and {parts[-1]} must have the same classes, one sub-folder each: "
            f"{differing[0]} is in one of them alone."
        )
    folders = [f for found, part in zip(by_part, parts, strict=True) for f in found or [part]]
    pictures: list[np.ndarray] = []
    files: list[Path] = []
    y, transparent = [], 0
    for number, folder in enumerate(folders):
        inside = _entries(folder)
        if not inside:
            raise UsageError(f"{folder} holds no image: put images into it, or remove it.")
        for file in inside:
            picture, has_alpha = _open(file)
            transparent += has_alpha
            if pictures and picture.shape[:2] != pictures[0].shape[:2]:
                (height, width), (h, w) = pictures[0].shape[:2], picture.shape[:2]
                raise UsageError(
                    f"The images of {path} must be of one size: {files[0]} has {width}x{height} "
                    f"pixels, {file} {w}x{h}. Crop or resize them first."
                )
            pictures.append(picture)
            files.append(file)
        y += [number] * len(inside)
    if transparent:
        print(
            f"{path}: {transparent} of {len(files)} images have transparent pixels, which are "
            "composited on white.",
            file=sys.stderr,
        )
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, -1) for p in pictures]
    # A name is text: bytes of it that are not would stop what writes it.
    classes = [os.fsencode(name).decode(errors="replace") for name in names[0]] or ["all"]
    return np.stack(pictures), np.array(y), classes


def _open(file: Path) -> tuple[np.ndarray, bool]:
    """Return (height, width[, 3]) in [0, 1], upright, and whether it had transparent pixels."""
    if file.is_dir():
        raise UsageError(
            f"{file} is a folder in a folder of images: allowed are FOLDER/CLASS/IMAGE, "
            "FOLDER/IMAGE, and either of them in FOLDER/train and FOLDER/test."
        )
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{file} is not an image of the kinds allowed: {', '.join(SUFFIXES)}.")
    if not file.is_file():
        raise UsageError(f"{file} is not a regular file or a link to one: remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(file)
        _refuse_large(file, *picture.size)
        with picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1 and picture.format != "MPO":  # a camera's JPEG, with previews behind it
                raise UsageError(
                    f"{file} is animated or has several pages, {frames} images in one: save the "
                    "one that you want as a file of its own."
                )
            if _is_scrambled(picture):
                raise UsageError(
                    f"{file} is an uncompressed TIFF that is stored lying on its side, which "
                    "Pillow reads wrongly: save it upright, or compressed."
                )
            stored = _stored_mode(picture)
            picture.load()
            if stored in GREY_LEVELS and "transparency" in picture.info:  # a level as stored
                picture.info["transparency"] *= GREY_LEVELS[stored]
            light, transparent = _light(file, picture)
            if stored == "LA;16B":  # grey with alpha, which Pillow opens as colours
                light = light[..., 0]
            return light, transparent
    except UsageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(f"{file} has too many pixels: {SMALLER}") from error
    except Exception as error:  # a damaged file raises what its parts raise
        raise UsageError(
            f"{file} cannot be read: {str(error).rstrip('.')}. Replace or remove it."
        ) from error


GREY_LEVELS = {"L;2": 85, "L;4": 17}  # one step of levels of few bits, in levels of 8


def _stored_mode(picture: ImageFile.ImageFile) -> str:
    """Return how the pixels of a picture that is not loaded yet are stored, in Pillow's terms."""
    arguments = picture.tile[0][3] if picture.tile else ""
    return arguments if isinstance(arguments, str) else str((*(arguments or ("",)),)[0])


def _is_scrambled(picture: Image.Image) -> bool:
    """Whether a picture is of the kind that Pillow decodes with height and width exchanged."""
    orientation = getattr(picture, "tag_v2", {}).get(274, 1)
    return orientation in (5, 6, 7, 8) and picture.info.get("compression") == "raw"


def _light(file: Path, picture: Image.Image) -> tuple[np.ndarray, bool]:
    """Validate and return the grey levels or colours of a picture in [0, 1], by its mode."""
    mode, upright = picture.mode, ImageOps.exif_transpose(picture)
    if mode == "F":
        return _unit_interval(str(file), np.asarray(upright)), False
    if mode.startswith("I;16") or (mode == "I" and picture.format in ("PNG", "PPM")):
        tags = getattr(picture, "tag_v2", {})  # of TIFF, which has 12 bits too, and white as 0
        bits = tags.get(258, (16,))[0]
        levels = np.asarray(upright)
        transparent = levels == picture.info.get("transparency", -1)  # one level may be
        light = levels.astype(np.float32) / np.float32(2**bits - 1)
        light = 1 - light if tags.get(262, 1) == 0 else light
        return np.where(transparent, np.float32(1), light), bool(transparent.any())
    if mode not in (*GREY, *COLOURED, "P", "PA"):
        raise UsageError(
            f"{file} is of Pillow's mode {mode}, which is not supported: save it as grey levels "
            "or RGB."
        )
    transparent = "transparency" in picture.info or mode in ("LA", "PA", "RGBA")
    wanted = ("LA" if transparent else "L") if mode in GREY else "RGBA" if transparent else "RGB"
    x = np.asarray(upright.convert(wanted)) / np.float32(255)
    if transparent:
        x, alpha = x[..., :-1], x[..., -1:]
        transparent = bool((alpha < 1).any())
        x = x * alpha + (1 - alpha)
    x = np.atleast_3d(x)
    may_be_grey = mode in (*GREY, "P", "PA") or picture.format == "WEBP"  # which has RGB alone
    grey = may_be_grey and (x == x[..., :1]).all()
    return (x[..., 0] if grey else x), transparent
