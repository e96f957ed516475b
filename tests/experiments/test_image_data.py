"""The user's images: what is taken, as it is, and what is refused with a sentence."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments import image_data
from experiments.runs import UsageError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 4, 6)).astype(np.uint8)
LABELS = np.arange(20) % 2


def npz(folder, **arrays):
    path = folder / "some.npz"
    np.savez(path, **arrays)
    return str(path)


def pictures(folder, *shapes, mode="L", suffix="png"):
    """Write a sub-folder of images for every tuple of (height, width)s."""
    for c, sizes in enumerate(shapes):
        (folder / f"class{c}").mkdir(parents=True)
        for i, (height, width) in enumerate(sizes):
            image = Image.fromarray(np.full((height, width), 40 * c + i, np.uint8)).convert(mode)
            image.save(folder / f"class{c}" / f"{i}.{suffix}")
    return str(folder)


def test_a_file_of_bytes_with_classes(tmp_path):
    found = image_data.load(npz(tmp_path, x=BYTES, y=LABELS))
    assert found.shape == (4, 6)
    assert found.classes == ["0", "1"]
    split = found.split
    assert (len(split.train_x), len(split.test_x)) == (16, 4)
    assert np.bincount(split.test_y).tolist() == [2, 2]
    both = np.concatenate([split.train_x, split.test_x]).reshape(-1, 4, 6) * 255
    expected = BYTES.astype(float)
    order = [np.abs(expected - image).max((1, 2)).argmin() for image in both]
    assert sorted(order) == list(range(20))
    np.testing.assert_allclose(both, expected[order], atol=1e-4)
    np.testing.assert_array_equal(np.concatenate([split.train_y, split.test_y]), LABELS[order])


def test_numbers_are_taken_as_they_are(tmp_path):
    x = RNG.random((10, 3, 3, 1))
    found = image_data.load(npz(tmp_path, x=x))
    assert found.shape == (3, 3)
    assert found.classes == ["0"]
    assert found.split.train_x.dtype == np.float32
    everything = np.sort(np.concatenate([found.split.train_x, found.split.test_x]).ravel())
    np.testing.assert_allclose(everything, np.sort(x.ravel()), atol=1e-6)


def test_a_folder_of_classes_and_one_of_none(tmp_path):
    found = image_data.load(pictures(tmp_path / "a", [(4, 6)] * 5, [(4, 6)] * 5))
    assert found.shape == (4, 6)
    assert found.classes == ["class0", "class1"]
    levels = np.concatenate([found.split.train_x, found.split.test_x])[:, 0] * 255
    labels = np.concatenate([found.split.train_y, found.split.test_y])
    assert sorted(zip(np.round(levels), labels, strict=True)) == [
        *((i, 0) for i in range(5)),
        *((40 + i, 1) for i in range(5)),
    ]
    pictures(tmp_path / "b", [(4, 6)] * 5, mode="RGB", suffix="bmp")
    plain = image_data.load(str(tmp_path / "b" / "class0"))
    assert plain.shape == (4, 6, 3)
    assert plain.classes == ["all"]


def test_outliers_may_be_few_and_must_have_the_shape(tmp_path):
    folder = pictures(tmp_path / "a", [(4, 6)])
    assert image_data.outliers(folder, (4, 6)).shape == (1, 24)
    assert image_data.outliers("digits", (8, 8)).shape == (360, 64)
    with pytest.raises(
        UsageError, match=r"digits are of shape \(8, 8\), those modelled of \(4, 6\)"
    ):
        image_data.outliers("digits", (4, 6))
    assert image_data.name_of(folder) == "a"
    assert image_data.name_of("notmnist") == "notmnist"


def test_light_and_ink():
    """Ink is shown dark, light is shown light, and what is out of range is cut."""
    x = np.array([[0.0, 0.25, 1.0, 1.5]])
    for ink, expected in ((True, [1, 0.75, 0, 0]), (False, [0, 0.25, 1, 1])):
        found = image_data.Images(None, (2, 2), [], ink).pictures(x)
        np.testing.assert_array_equal(found, np.reshape(expected, (1, 2, 2)))


SKIPS = np.where(LABELS == 1, 2, 0)
BROKEN = np.where(np.arange(480).reshape(20, 4, 6) == 7, np.nan, 0.5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": BYTES}, "must hold an array x"),
        ({"x": BYTES[0]}, r"must be of shape \(n, height, width\).* it is of \(4, 6\)"),
        ({"x": np.zeros((0, 4, 6), np.uint8)}, r"it is of \(0, 4, 6\)"),
        ({"x": np.zeros((5, 4, 6, 2), np.uint8)}, r"it is of \(5, 4, 6, 2\)"),
        ({"x": BROKEN}, "has 1 pixels that are not finite"),
        ({"x": BYTES.astype(float)}, r"must be in \[0, 1\], it goes from 0 to 255"),
        ({"x": BYTES.astype(np.int32)}, "must be bytes .uint8. or floating, it is int32"),
        ({"x": BYTES, "y": LABELS[:3]}, r"must be 20 integers, one an image; it is int64 \(3,\)"),
        ({"x": BYTES, "y": LABELS.astype(float)}, "must be 20 integers.* it is float64"),
        ({"x": BYTES, "y": SKIPS}, "none skipped; it goes from 0 to 2 without 1"),
        ({"x": BYTES, "y": LABELS - 1}, "none skipped; it goes from -1 to 0"),
        ({"x": BYTES, "y": np.eye(20, dtype=int)[3]}, "has 1 images of class 1: at least 2"),
        ({"x": np.array([None] * 3)}, "cannot be read: .*allow_pickle"),
    ],
)
def test_files_that_are_refused(tmp_path, arrays, message):
    with pytest.raises(UsageError, match=message):
        image_data.load(npz(tmp_path, **arrays))


def test_folders_that_are_refused(tmp_path):
    def refuses(folder, message):
        with pytest.raises(UsageError, match=message):
            image_data.load(str(folder))

    sizes = pictures(tmp_path / "sizes", [(4, 6), (4, 6)], [(4, 6), (5, 6)])
    refuses(sizes, "of one size: .*class0/0.png has 6x4 pixels, .*class1/1.png 6x5")
    empty = tmp_path / "empty"
    pictures(empty, [(4, 6)] * 2, [])
    refuses(empty, "class1 holds no image")
    gif = pictures(tmp_path / "gif", [(4, 6)] * 2, suffix="gif")
    refuses(gif, "class0/0.gif is no image of the kinds allowed: .png, .jpg")
    beside = tmp_path / "beside"
    pictures(beside, [(4, 6)] * 2)
    (beside / "notes.txt").write_text("mine", encoding="utf-8")
    refuses(beside, "notes.txt lies beside the sub-folders")
    damaged = tmp_path / "damaged"
    pictures(damaged, [(40, 60)] * 2)
    file = damaged / "class0" / "1.png"
    file.write_bytes(file.read_bytes()[:50])
    refuses(damaged, "1.png cannot be read")
    file.write_bytes(b"no picture")
    refuses(damaged, "1.png cannot be read")
    refuses(tmp_path / "nowhere", "nowhere' is no data set")
    (tmp_path / "torn.npz").write_bytes(io.BytesIO(b"PK\x03\x04torn").getvalue())
    refuses(tmp_path / "torn.npz", "torn.npz cannot be read")
