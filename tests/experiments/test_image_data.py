"""The user's images: what is taken, as it is, and what is refused with a sentence."""

import io
import tracemalloc
import zlib

import jax
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from experiments.data import image_sets
from experiments.run.errors import UsageError

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
    found = image_sets.load(npz(tmp_path, x=BYTES, y=LABELS))
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
    found = image_sets.load(npz(tmp_path, x=x))
    assert found.shape == (3, 3)
    assert found.classes == ["0"]
    assert found.split.train_x.dtype == np.float32
    everything = np.sort(np.concatenate([found.split.train_x, found.split.test_x]).ravel())
    np.testing.assert_allclose(everything, np.sort(x.ravel()), atol=1e-6)


def test_a_folder_of_classes_and_one_of_none(tmp_path):
    found = image_sets.load(pictures(tmp_path / "a", [(4, 6)] * 5, [(4, 6)] * 5))
    assert found.shape == (4, 6)
    assert found.classes == ["class0", "class1"]
    levels = np.concatenate([found.split.train_x, found.split.test_x])[:, 0] * 255
    labels = np.concatenate([found.split.train_y, found.split.test_y])
    assert sorted(zip(np.round(levels), labels, strict=True)) == [
        *((i, 0) for i in range(5)),
        *((40 + i, 1) for i in range(5)),
    ]
    pictures(tmp_path / "b", [(4, 6)] * 5, mode="RGB", suffix="bmp")
    plain = image_sets.load(str(tmp_path / "b" / "class0"))
    assert plain.shape == (4, 6, 3)
    assert plain.classes == ["all"]


def test_outliers_may_be_few_and_must_have_the_shape(tmp_path):
    folder = pictures(tmp_path / "a", [(4, 6)])
    assert image_sets.outliers(folder, (4, 6)).shape == (1, 24)
    assert image_sets.outliers("digits", (8, 8)).shape == (360, 64)
    with pytest.raises(
        UsageError, match=r"digits have shape \(8, 8\); the images of --data have \(4, 6\)"
    ):
        image_sets.outliers("digits", (4, 6))
    assert image_sets.name_of(folder) == "a"
    assert image_sets.name_of("notmnist") == "notmnist"


def test_light_and_ink():
    """Ink is shown dark, light is shown light, and what is out of range is cut."""
    x = np.array([[0.0, 0.25, 1.0, 1.5]])
    for ink, expected in ((True, [1, 0.75, 0, 0]), (False, [0, 0.25, 1, 1])):
        found = image_sets.Images(None, (2, 2), [], ink).pictures(x)
        np.testing.assert_array_equal(found, np.reshape(expected, (1, 2, 2)))


def test_booleans_are_black_and_white(tmp_path):
    found = image_sets.load(npz(tmp_path, x=BYTES > 99))
    everything = np.concatenate([found.split.train_x, found.split.test_x])
    assert everything.dtype == np.float32
    assert everything.sum() == (BYTES > 99).sum()


DEEP = np.array([[0, 1000, 30_000], [65_535, 256, 255]], np.uint16)
LEVELS = np.array([[0, 40, 200], [255, 1, 100]], np.uint8)
CLEAR = np.array([[0, 128, 255], [255, 255, 17]], np.uint8)
COLOURS = np.stack([LEVELS, LEVELS.T.reshape(2, 3), 255 - LEVELS], -1)
PALETTE = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), "P")
PALETTE.putpalette(COLOURS.ravel().tolist())
GREYS = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), "P")
GREYS.putpalette(np.repeat(LEVELS.ravel(), 3).tolist())


def on_white(levels, alpha):
    alpha = alpha / 255 if levels.ndim == 2 else alpha[..., None] / 255
    return levels / 255 * alpha + 1 - alpha


def stack(levels, alpha):
    return Image.fromarray(np.dstack([levels, alpha]))


MODES = {  # name of the file: what it is saved from, with what, and the light that it is
    "deep.png": (Image.fromarray(DEEP), {}, DEEP / 65_535),
    "deep_key.png": (
        Image.fromarray(DEEP),
        {"transparency": 1000},
        np.where(DEEP == 1000, 1, DEEP / 65_535),
    ),
    "deep.tif": (Image.fromarray(DEEP), {}, DEEP / 65_535),
    "deep_big_endian.tif": (Image.fromarray(DEEP.astype(">u2")), {}, DEEP / 65_535),
    "deep_white_is_0.tif": (Image.fromarray(DEEP), {"tiffinfo": {262: 0}}, 1 - DEEP / 65_535),
    "deep.pgm": (Image.fromarray(DEEP), {}, DEEP / 65_535),
    "floating.tif": (Image.fromarray((DEEP / 65_535).astype(np.float32)), {}, DEEP / 65_535),
    "bits.png": (Image.fromarray(LEVELS > 99), {}, LEVELS > 99),
    "grey.png": (Image.fromarray(LEVELS), {}, LEVELS / 255),
    "grey.webp": (Image.fromarray(LEVELS), {"lossless": True}, LEVELS / 255),
    "grey.gif": (Image.fromarray(LEVELS), {}, LEVELS / 255),
    "grey_key.png": (
        Image.fromarray(LEVELS),
        {"transparency": 40},
        np.where(LEVELS == 40, 1, LEVELS / 255),
    ),
    "grey_alpha.png": (stack(LEVELS, CLEAR), {}, on_white(LEVELS, CLEAR)),
    "grey_alpha.tif": (stack(LEVELS, CLEAR), {}, on_white(LEVELS, CLEAR)),
    "grey_alpha.webp": (
        stack(LEVELS, CLEAR),
        {"lossless": True, "exact": True},
        on_white(LEVELS, CLEAR),
    ),
    "grey_palette.png": (GREYS, {}, LEVELS / 255),
    "grey_palette.gif": (GREYS, {}, LEVELS / 255),
    "grey_palette_alpha.png": (
        GREYS,
        {"transparency": bytes(CLEAR.ravel())},
        on_white(LEVELS, CLEAR),
    ),
    "grey_alpha_palette.tif": (Image.fromarray(LEVELS).convert("PA"), {}, LEVELS / 255),
    "colours.png": (Image.fromarray(COLOURS), {}, COLOURS / 255),
    "colours.bmp": (Image.fromarray(COLOURS), {}, COLOURS / 255),
    "colours.ppm": (Image.fromarray(COLOURS), {}, COLOURS / 255),
    "colours_key.png": (
        Image.fromarray(COLOURS),
        {"transparency": tuple(map(int, COLOURS[0, 1]))},
        np.where((COLOURS[0, 1] == COLOURS).all(-1, keepdims=True), 1, COLOURS / 255),
    ),
    "colours_alpha.png": (stack(COLOURS, CLEAR), {}, on_white(COLOURS, CLEAR)),
    "colours_alpha.webp": (
        stack(COLOURS, CLEAR),
        {"lossless": True, "exact": True},
        on_white(COLOURS, CLEAR),
    ),
    "palette.png": (PALETTE, {}, COLOURS / 255),
    "palette_alpha.png": (
        PALETTE,
        {"transparency": bytes(CLEAR.ravel())},
        on_white(COLOURS, CLEAR),
    ),
    "palette_key.gif": (
        PALETTE,
        {"transparency": 1},
        np.where(np.arange(6).reshape(2, 3, 1) == 1, 1, COLOURS / 255),
    ),
    "ink.tif": (Image.fromarray(255 - COLOURS).convert("CMYK"), {}, (255 - COLOURS) / 255),
    "ink.jpg": (Image.new("CMYK", (3, 2), (255, 0, 0, 0)), {}, np.full((2, 3, 3), [0, 1, 1])),
}


# Those that Pillow writes an EXIF block into.
TURNED = [
    name for name in MODES if name.endswith(("png", "webp", "jpg")) and name != "deep_key.png"
]


@pytest.mark.parametrize(
    ("name", "turn"), [(name, 1) for name in MODES] + [(name, 6) for name in TURNED]
)
def test_an_image_file_is_the_light_that_it_shows(tmp_path, capsys, name, turn):
    """Of every mode, depth and kind of transparency; as tall or wide as its EXIF turns it."""
    image, options, light = MODES[name]
    if turn != 1:
        options, light = options | {"exif": Image.Exif()}, np.rot90(light, -1)
        options["exif"][0x0112] = turn  # to be turned by 90 degrees, clockwise
    for i in range(2):
        image.save(tmp_path / f"{i}_{name}", **options)
    found = image_sets.load(str(tmp_path))
    assert found.shape == light.shape
    x = np.concatenate([found.split.train_x, found.split.test_x])
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.reshape(-1, *light.shape), [light] * 2, atol=2e-7)
    said = capsys.readouterr().err
    see_through = any(kind in name for kind in ("key", "alpha")) and "alpha_palette" not in name
    assert ("2 of 2 images have transparent pixels" in said) == see_through
    assert len(said.splitlines()) == see_through


def test_grey_and_colours_in_one_folder(tmp_path):
    for name in ("deep.png", "grey_alpha.png", "colours.png"):
        image, options, _ = MODES[name]
        image.save(tmp_path / name, **options)
    found = image_sets.load(str(tmp_path))
    assert found.shape == (2, 3, 3)
    x = np.concatenate([found.split.train_x, found.split.test_x]).reshape(-1, 2, 3, 3)
    for name in ("deep.png", "grey_alpha.png", "colours.png"):
        light = MODES[name][2]
        light = light if light.ndim == 3 else np.repeat(light[..., None], 3, -1)
        assert np.abs(x - light).max((1, 2, 3)).min() < 1e-6


FRAMES = [Image.fromarray(np.full((8, 9), 90 * i, np.uint8)) for i in range(3)]


def header(width, height):
    """A PNG that says it has this size, and holds little."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + crc

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    parts = chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0])), chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda f: f.write_bytes(header(20_000, 20_000)), "too many pixels: at most"),
        ("b.png", lambda f: f.write_bytes(header(12_000, 12_000)), "too many pixels: at most"),
        ("c.png", lambda f: f.write_bytes(header(4000, 4000)), "has 4000x4000 pixels: at most"),
        ("d.png", lambda f: f.write_bytes(header(2**31 - 1, 1)), "pixels: at most"),
        ("e.png", lambda f: f.write_bytes(header(100, 100)), "cannot be read"),
        *(
            (
                name,
                lambda f: FRAMES[0].save(f, save_all=True, append_images=FRAMES[1:]),
                "is animated or has several pages, 3 images in one: save",
            )
            for name in ("f.gif", "g.webp", "h.png", "i.tif")
        ),
        (
            "j.tif",
            lambda f: Image.fromarray(DEEP.astype(np.int32)).save(f),
            "is of Pillow's mode I, which is not supported",
        ),
        (
            "k.tif",
            lambda f: Image.new("LAB", (3, 2)).save(f),
            "is of Pillow's mode LAB, which is not supported",
        ),
        (
            "l.tif",
            lambda f: Image.fromarray(DEEP.astype(np.float32)).save(f),
            "goes from 0 to 65535: divide it by its white, 65535",
        ),
    ],
)
def test_image_files_that_are_refused_by_name(tmp_path, name, write, message):
    """Before anything is done as often as a number in the file says."""
    GREYS.save(tmp_path / "0.png")
    write(tmp_path / name)
    tracemalloc.start()
    with pytest.raises(UsageError, match=f"/{name} .*{message}"):
        image_sets.load(str(tmp_path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000


def png(path, width, bits, kind, row, *chunks):
    """Write a PNG of one row, byte by byte: Pillow writes neither kind."""

    def chunk(name, data):
        checksum = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + checksum

    head = width.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([bits, kind, 0, 0, 0])
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_a_transparent_level_of_two_bits(tmp_path):
    """Levels 0, 1, 2, 3 of which 1 is transparent: black, white for it, 2/3 and white."""
    png(tmp_path / "a.png", 4, 2, 0, bytes([0b00011011]), (b"tRNS", bytes([0, 1])))
    light, transparent = image_sets._open(tmp_path / "a.png")
    np.testing.assert_allclose(light, [[0, 1, 2 / 3, 1]], atol=1e-6)
    assert transparent


def test_grey_of_sixteen_bits_with_alpha_is_one_channel(tmp_path):
    """A grey of 30,000, and black that is transparent: within a level of 8 bits."""
    levels = np.array([30_000, 65_535, 0, 0], ">u2").tobytes()
    png(tmp_path / "a.png", 2, 16, 4, levels)
    light, _ = image_sets._open(tmp_path / "a.png")
    np.testing.assert_allclose(light, [[30_000 / 65_535, 1]], atol=1 / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_uncompressed_tiff_is_upright_or_refused(tmp_path, orientation):
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    Image.fromarray(levels).save(tmp_path / "a.tif", tiffinfo=tags)
    turned = [levels, levels[:, ::-1], levels[::-1, ::-1], levels[::-1]]
    if orientation > 4:
        with pytest.raises(UsageError, match=r"a\.tif is an uncompressed TIFF .* upright"):
            image_sets._open(tmp_path / "a.tif")
    else:
        light, _ = image_sets._open(tmp_path / "a.tif")
        np.testing.assert_allclose(light, turned[orientation - 1] / 255, atol=1e-6)


def test_bytes_of_bits_are_black_and_white(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (20, 4, 4)).astype(np.uint8)
    images = image_sets.load(npz(tmp_path, x=bits))
    assert set(np.unique(images.split.train_x)) == {0.0, 1.0}


def test_a_cameras_preview_is_no_second_frame(tmp_path):
    for i in range(2):
        photo = Image.fromarray(COLOURS)
        photo.save(tmp_path / f"{i}.jpg", "MPO", save_all=True, append_images=[photo])
    assert image_sets.load(str(tmp_path)).shape == (2, 3, 3)


def test_folders_of_training_and_of_test_images(tmp_path):
    """They are the split; of outliers those for testing count."""
    for part, (first, count) in {"train": (0, 3), "test": (100, 1)}.items():
        for c, name in enumerate(("$a$", "_b")):
            folder = tmp_path / "classes" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                grey = np.full((2, 3), first + 10 * c + i, np.uint8)
                Image.fromarray(grey).save(folder / f"{i}.png")
    found = image_sets.load(str(tmp_path / "classes"))
    assert found.classes == ["$a$", "_b"]
    levels = [np.round(x[:, 0] * 255).tolist() for x in (found.split.train_x, found.split.test_x)]
    assert levels == [[0, 1, 2, 10, 11, 12], [100, 110]]
    assert found.split.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.split.test_y.tolist() == [0, 1]
    outside = image_sets.outliers(str(tmp_path / "classes"), (2, 3))
    assert np.round(outside[:, 0] * 255).tolist() == [100, 110]
    for part in ("train", "test"):
        plain = tmp_path / "plain" / part
        plain.mkdir(parents=True)
        GREYS.save(plain / "0.png")
    found = image_sets.load(str(tmp_path / "plain"))
    assert found.classes == ["all"]
    assert (len(found.split.train_x), len(found.split.test_x)) == (1, 1)
    (tmp_path / "classes" / "val").mkdir()
    with pytest.raises(
        UsageError, match=r"val is next to the folders train and test: only these two"
    ):
        image_sets.load(str(tmp_path / "classes"))
    (tmp_path / "classes" / "val").rmdir()
    (tmp_path / "classes" / "test" / "_b").rename(tmp_path / "classes" / "test" / "c")
    with pytest.raises(UsageError, match=r"must have the same classes, .*: _b is in one of them"):
        image_sets.load(str(tmp_path / "classes"))


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
        ({"x": BYTES.astype(float)}, r"in \[0, 1\], it goes from 0 to 255: divide .* white, 255"),
        ({"x": BYTES / 127.5 - 1}, r"from -1 to 1: of levels in \[-1, 1\] save \(x \+ 1\) / 2"),
        ({"x": BYTES * 100.0}, "from 0 to 25500: divide it by its white, 65535"),
        ({"x": BYTES - 100.0}, r"from -100 to 155: save \(x - black\) / \(white - black\)"),
        (
            {"x": BYTES.astype(np.int32)},
            "must be bytes .uint8., booleans, or floating.* it is int32.*the level of white",
        ),
        ({"x": BYTES.astype(np.uint16)}, "it is uint16. .*save x / 65535"),
        ({"x": BYTES, "y": LABELS[:3]}, r"must be 20 integers, one per image; it is int64 \(3,\)"),
        ({"x": BYTES, "y": LABELS.astype(float)}, "must be 20 integers.* it is float64"),
        ({"x": BYTES, "y": SKIPS}, "without gaps; it goes from 0 to 2 without 1"),
        ({"x": BYTES, "y": LABELS - 1}, "without gaps; it goes from -1 to 0"),
        ({"x": BYTES, "y": np.eye(20, dtype=int)[3]}, "has 1 images of class 1: at least 2"),
        ({"x": BYTES, "y": np.where(LABELS, 2**40, 0)}, "goes from 0 to 1099511627776 without 1"),
        ({"x": BYTES, "y": LABELS.astype(np.uint64) + 2**63}, "from 92.*08 to 92.*09 without 0"),
        ({"x": BYTES, "y": np.arange(20) - 2**62}, "goes from -46.*04 to -46.*85.$"),
        ({"x": np.array([None] * 3)}, "x in .* holds Python objects .*: stack images"),
        ({"x": BYTES, "y": np.array(["a"] * 20, object)}, "y in .* holds Python objects"),
        ({"x": np.zeros((2, 1025, 1024), bool)}, "has 1024x1025 pixels: at most 1,048,576"),
    ],
)
def test_files_that_are_refused(tmp_path, arrays, message):
    with pytest.raises(UsageError, match=message):
        image_sets.load(npz(tmp_path, **arrays))


def test_folders_that_are_refused(tmp_path):
    def refuses(folder, message):
        with pytest.raises(UsageError, match=message):
            image_sets.load(str(folder))

    sizes = pictures(tmp_path / "sizes", [(4, 6), (4, 6)], [(4, 6), (5, 6)])
    refuses(sizes, "of one size: .*class0/0.png has 6x4 pixels, .*class1/1.png 6x5")
    empty = tmp_path / "empty"
    pictures(empty, [(4, 6)] * 2, [])
    refuses(empty, "class1 holds no image")
    eps = pictures(tmp_path / "eps", [(4, 6)] * 2, suffix="eps")
    refuses(eps, "class0/0.eps is not an image of the kinds allowed: .png, .jpg")
    refuses(tmp_path, "class0 is a folder in a folder of images: allowed are FOLDER/CLASS/IMAGE")
    beside = tmp_path / "beside"
    pictures(beside, [(4, 6)] * 2)
    (beside / "notes.txt").write_text("mine", encoding="utf-8")
    refuses(beside, "notes.txt is next to the sub-folders")
    damaged = tmp_path / "damaged"
    pictures(damaged, [(40, 60)] * 2)
    file = damaged / "class0" / "1.png"
    file.write_bytes(file.read_bytes()[:50])
    refuses(damaged, "1.png cannot be read")
    file.write_bytes(b"no picture")
    refuses(damaged, "1.png cannot be read")
    refuses(tmp_path / "nowhere", "nowhere' is not a data set")
    (tmp_path / "torn.npz").write_bytes(io.BytesIO(b"PK\x03\x04torn").getvalue())
    refuses(tmp_path / "torn.npz", "torn.npz cannot be read")


def test_files_that_systems_leave_in_folders_are_ignored(tmp_path):
    """At every depth, in any case; a folder that holds nothing else is empty."""
    folder = tmp_path / "mine"
    pictures(folder / "train", [(4, 6)] * 3, [(4, 6)] * 2)
    pictures(folder / "test", [(4, 6)], [(4, 6)])
    expected = image_sets.load(str(folder))
    for inside in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "._0.png", "Thumbs.db", "Desktop.INI", "Icon\r"):
            (inside / name).write_bytes(b"\0")
        for name in ("__MACOSX", "@eaDir"):
            (inside / name).mkdir()
            (inside / name / "0.png").write_bytes(b"\0")
    found = image_sets.load(str(folder))
    assert found.classes == ["class0", "class1"]
    assert jax.tree.all(jax.tree.map(np.array_equal, found.split, expected.split))
    for picture in (folder / "test" / "class1").glob("?.png"):
        picture.unlink()
    with pytest.raises(UsageError, match="class1 holds no image"):
        image_sets.load(str(folder))


def test_links_to_images_are_followed_and_other_entries_are_refused(tmp_path):
    folder = tmp_path / "mine"
    pictures(folder, [(4, 6)] * 2)
    pictures(tmp_path / "elsewhere", [(4, 6)] * 3)
    (folder / "linked").symlink_to(tmp_path / "elsewhere" / "class0")
    (folder / "class0" / "2.PNG").symlink_to(tmp_path / "elsewhere" / "class0" / "2.png")
    found = image_sets.load(str(folder)).split
    assert np.bincount(np.concatenate([found.train_y, found.test_y])).tolist() == [3, 3]
    (folder / "class0" / "3.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UsageError, match=r"class0/3\.png is not a regular file or a link to one"):
        image_sets.load(str(folder))
