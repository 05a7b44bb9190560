"""Own folders of images: parts as people name them, every class kept, pixels as a viewer shows them, faults named."""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from core.data import folder_state
from core.data.folder import DataMissing
from core.data.folder_layout import PARTS, layout, part_of
from core.data.sets import Dataset, load
from core.specs import DataSpec, TrainSpec
from core.storage import store

RNG = np.random.default_rng(0)
RAMP = np.linspace(0, 1, 1024).reshape(32, 32)
NOISE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray | None = None) -> None:
    """An image of these pixels, or of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) if pixels is None else pixels).save(path)


def fill(root: Path, classes: tuple[str, ...] = ("cat", "dog"), n: int = 6) -> None:
    """Class folders of noise."""
    for name, number in itertools.product(classes, range(n)):
        save(root / name / f"{number}.png")


def read(root: Path, size: int = 8, **more: object) -> Dataset:
    """Load a folder."""
    return load(DataSpec.model_validate({"dataset": "folder", "folder": str(root), "image_size": size, **more}))


# ---------------------------------------------------------------- parts

FORMS: list[Callable[[str], str]] = [str, str.upper, str.title, "{}_set".format, "{}-images".format, "{}2017".format]
FORMS += ["images_{}".format, "{}Set".format, "{}set".format, "01_{}".format, "{} data".format]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form("val"))
def test_parts_are_known_by_every_usual_name(form: Callable[[str], str]) -> None:
    """Whatever a part is called, in upper and lower case, with or without words beside it."""
    for part, names in PARTS.items():
        assert {part_of(form(name)) for name in names} == {part}


@pytest.mark.parametrize("name", ["cat", "contest", "trainer", "invalid", "test_positive", "evaluator", "7", "猫", ""])
def test_other_names_are_no_parts(name: str) -> None:
    """A class that only sounds like a part stays a class."""
    assert part_of(name) is None


@pytest.mark.parametrize("train", ["train", "Training", "trn", "train_set"])
@pytest.mark.parametrize("test", ["test", "TESTING", "tst", "val", "valid", "Validation", "dev", "eval", "test_set"])
def test_two_parts_are_never_classes(tmp_path: Path, train: str, test: str) -> None:
    """Whichever two names: the classes are those inside, and every test image is a test image."""
    fill(tmp_path / train)
    fill(tmp_path / test, n=2)
    made = read(tmp_path)
    assert made.class_names == ("cat", "dog")
    assert (len(made.train) + len(made.validation), len(made.test)) == (12, 4)


def test_three_parts_are_what_they_are_called(tmp_path: Path) -> None:
    """With train, valid and test, the validation images are those of valid, and all of train is trained on."""
    for part, n in (("train", 6), ("valid", 3), ("test", 2)):
        fill(tmp_path / part, n=n)
    made = read(tmp_path)
    assert [len(one) for one in (made.train, made.validation, made.test)] == [12, 6, 4]


def test_names_of_the_set_may_stand_beside_the_part(tmp_path: Path) -> None:
    """`flowers_train` and `flowers_test`, each with a folder of its own inside, as archives have it."""
    fill(tmp_path / "flowers_train" / "flowers_train")
    fill(tmp_path / "flowers_test" / "flowers_test", n=2)
    assert read(tmp_path).class_names == ("cat", "dog")
    fill(tmp_path / "flowers_pred", ("",))
    made = read(tmp_path)
    assert made.class_names == ("cat", "dog")
    assert any("flowers_pred/" in note for note in made.notes)


def test_one_folder_around_everything_is_looked_into(tmp_path: Path) -> None:
    """An unpacked archive: ROOT/pets/train/cat; beside it what a Mac leaves."""
    fill(tmp_path / "pets" / "train")
    fill(tmp_path / "pets" / "test", n=2)
    save(tmp_path / "__MACOSX" / "pets" / "train" / "cat" / "0.png")
    made = read(tmp_path)
    assert (made.class_names, len(made.test)) == (("cat", "dog"), 4)


def test_train_alone_holds_a_fifth_out(tmp_path: Path) -> None:
    """ROOT/train/cat without a test part is a folder of classes."""
    fill(tmp_path / "train", n=10)
    made = read(tmp_path)
    assert made.class_names == ("cat", "dog")
    assert made.test.y.tolist() == [0, 0, 1, 1]


def test_a_class_named_train_stays_a_class(tmp_path: Path) -> None:
    """Buses, cars and trains: a folder that holds images itself is no part, and that is noted."""
    fill(tmp_path, ("bus", "car", "train"), n=5)
    made = read(tmp_path)
    assert made.class_names == ("bus", "car", "train")
    assert any("train/" in note for note in made.notes)


@pytest.mark.parametrize("name", ["test", "val", "Valid", "testing", "dev"])
def test_a_part_beside_classes_is_refused(tmp_path: Path, name: str) -> None:
    """cat/, dog/ and test/: a sentence says where to put the classes; nothing becomes a class by chance."""
    fill(tmp_path)
    fill(tmp_path / name, n=1)
    with pytest.raises(DataMissing, match=rf"{name}/ beside the class folders cat/, dog/.*into train/"):
        read(tmp_path)
    shutil.rmtree(tmp_path / name)
    save(tmp_path / name / "0.png")
    with pytest.raises(DataMissing, match=rf"{name}/ beside the class folders"):
        read(tmp_path)


@pytest.mark.parametrize("part", ["test", "val", "testing"])
def test_images_to_test_a_model_on_alone(tmp_path: Path, part: str) -> None:
    """All of them, in the order of the classes and files, and none to train on: a training is refused."""
    fill(tmp_path / part, n=4)
    made = read(tmp_path)
    assert (len(made.train), len(made.validation), len(made.test)) == (0, 0, 8)
    assert made.test.y.tolist() == [0] * 4 + [1] * 4
    assert any("none to train on" in note for note in made.notes)
    with pytest.raises(ValueError, match=r"expected images to train on, got folder .*FOLDER/train/CLASS"):
        store.resolve(TrainSpec(data=DataSpec(dataset="folder", folder=str(tmp_path))), tmp_path / "store")


def test_a_test_and_a_validation_part_without_a_training_part(tmp_path: Path) -> None:
    """The test part is what is tested; a class that one of them lacks is noted."""
    fill(tmp_path / "test", ("cat", "dog", "bird"), n=4)
    fill(tmp_path / "val", n=2)
    made = read(tmp_path)
    assert (len(made.train), len(made.validation), len(made.test)) == (0, 4, 12)
    assert made.class_names == ("bird", "cat", "dog")
    assert any("bird" in note for note in made.notes)


REFUSED: dict[str, tuple[list[str], str]] = {
    "one class to test": (["test/cat"], "at least two class folders"),
    "no common class without training": (["test/cat", "test/dog", "val/hund", "val/katze"], "no class of"),
    "two test parts": (
        ["train/cat", "train/dog", "test/cat", "testing/cat"],
        "test/ and testing/ .* both name the test",
    ),
    "parts by other names": (
        ["alpha/cat", "alpha/dog", "beta/cat", "beta/dog"],
        "same sub-folders.*train, val and test",
    ),
    "folds": (["fold1/a", "fold1/b", "fold2/a", "fold2/b", "fold2/c"], "same sub-folders"),
    "parts inside classes": (["cat/train", "cat/test", "dog/train", "dog/test"], "parts first"),
    "no common class": (["train/cat", "train/dog", "test/hund", "test/katze"], "no class of test/ is in train/"),
    "upper and lower case": (["train/Cat", "train/dog", "test/cat", "test/dog"], "upper and lower case"),
    "one class": (["train/cat", "test/cat", "test/dog"], "at least two class folders"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, case: str) -> None:
    """One sentence that names the folders."""
    folders, expected = REFUSED[case]
    for folder in folders:
        fill(tmp_path / folder, ("",), n=3)
    with pytest.raises(DataMissing, match=expected):
        read(tmp_path)


# ---------------------------------------------------------------- classes


@pytest.mark.parametrize("lacking", ["train", "test", "validation"])
def test_classes_are_those_of_all_parts(tmp_path: Path, lacking: str) -> None:
    """A class that one part lacks keeps its images in the others, and is noted."""
    for part in ("train", "validation", "test"):
        fill(tmp_path / part, ("cat", "dog") if part == lacking else ("bird", "cat", "dog"), n=4)
    made = read(tmp_path)
    assert made.class_names == ("bird", "cat", "dog")
    counts = {part: int((getattr(made, part).y == 0).sum()) for part in ("train", "validation", "test")}
    assert counts == {"train": 4, "validation": 4, "test": 4} | {lacking: 0}
    assert any("bird" in note for note in made.notes)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 23])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_every_class_is_held_out(tmp_path: Path, n: int, classes: int) -> None:
    """Without parts: of two images or more of a class one is tested, of those that are left most are trained on."""
    fill(tmp_path, tuple(f"class{number}" for number in range(classes)), n=n)
    made = read(tmp_path)
    sizes = [torch.bincount(part.y, minlength=classes) for part in (made.train, made.validation, made.test)]
    assert (sizes[0] > 0).all()
    assert (sizes[2] == max(1, n // 5)).all()
    assert len(made.validation) > 0
    if n >= 4:
        assert (sizes[1] > 0).all()
        assert sum(sizes).tolist() == [n] * classes


def test_what_is_held_out_hangs_on_the_names_alone(tmp_path: Path) -> None:
    """An image that is added moves at most one other between the parts; the order of writing moves none."""

    def tested(root: Path, names: list[str]) -> list[str]:
        shutil.rmtree(root, ignore_errors=True)
        for number, (name, of) in enumerate(itertools.product(names, ("a", "b"))):
            save(root / of / name, np.full((8, 8, 3), number % 256, dtype=np.uint8))
        items = layout(str(root)).files("train")
        return sorted(f"{items[row][1]} {items[row][0].name}" for row in folder_state.held_out(items, 5, least=2))

    names = [f"{number}.png" for number in range(20)]
    before = tested(tmp_path / "x", names)
    assert tested(tmp_path / "x", names[::-1]) == before
    after = tested(tmp_path / "x", [*names, "new.png"])
    assert len(set(after) - set(before)) <= 2


def test_names_are_the_same_in_both_kinds_of_unicode(tmp_path: Path) -> None:
    """A Mac writes é as two characters: that is no class of its own."""
    for part, form in (("train", "NFC"), ("test", "NFD")):
        fill(tmp_path / part, (unicodedata.normalize(form, "café"), "猫"), n=3)
    assert read(tmp_path).class_names == ("café", "猫")


def test_hidden_files_are_skipped_and_others_noted(tmp_path: Path) -> None:
    """What systems leave is nothing; a file that people may take for an image is noted, not dropped in silence."""
    fill(tmp_path, n=5)
    for name in ("._0.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/0.png", "__MACOSX/0.png"):
        (tmp_path / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(b"\0\5\x16\7")
    assert read(tmp_path).notes == ()
    (tmp_path / "cat" / "7.heic").write_bytes(b"x")
    save(tmp_path / "loose.png")
    notes = " ".join(read(tmp_path).notes)
    assert "7.heic" in notes
    assert "1 image in" in notes


def test_links_do_not_bring_in_other_classes(tmp_path: Path) -> None:
    """A link back up is not followed; folders inside a class belong to it."""
    fill(tmp_path, n=5)
    save(tmp_path / "cat" / "more" / "deep" / "x.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path, target_is_directory=True)
    found = layout(str(tmp_path))
    assert {name: len(paths) for name, paths in found.parts["train"].items()} == {"cat": 6, "dog": 5}


def test_a_folder_that_changes_is_read_again(tmp_path: Path) -> None:
    """In one process: another image, other pixels under the same name and size, another class."""
    fill(tmp_path, n=5)
    seen = [read(tmp_path)]
    assert read(tmp_path) is seen[0]
    save(tmp_path / "cat" / "9.png")
    seen.append(read(tmp_path))
    save(tmp_path / "cat" / "9.png")
    seen.append(read(tmp_path))
    (tmp_path / "dog").rename(tmp_path / "a_dog")
    seen.append(read(tmp_path))
    assert len({(one.fingerprint, one.class_names) for one in seen}) == 4
    assert seen[-1].class_names == ("a_dog", "cat")


# ---------------------------------------------------------------- pixels


def one(tmp_path: Path, write: Callable[[Path], object], name: str = "a.png", **more: object) -> torch.Tensor:
    """What is read of one test image (C, 32, 32) among ordinary training images."""
    for label, number in itertools.product("xy", range(3)):
        save(tmp_path / "train" / label / f"{number}.png", NOISE)
    for label in "xy":
        (tmp_path / "test" / label).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "test" / label / name)
    return read(tmp_path, 32, **more).test.x[0]


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_ramp_is_a_ramp_in_any_depth(tmp_path: Path, bits: int, ending: str, grey: bool) -> None:
    """Black to white in 8 to 16 bits, stored in 16: the same 8-bit ramp, to one level."""
    if ending == "pgm" and bits == 8:
        pytest.skip("a PGM of 8 bits is stored in 8")
    stored = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    x = one(tmp_path, lambda path: Image.fromarray(stored).save(path), f"a.{ending}", grey=grey)
    assert x.shape[0] == (1 if grey else 3)
    assert float((x[0].float() - torch.from_numpy(RAMP * 255)).abs().max()) <= 1


def test_one_scale_serves_the_whole_folder(tmp_path: Path) -> None:
    """An image of 16 bits that is half as bright as another is read half as bright; the scale is noted."""
    for part, label, number in itertools.product(("train", "test"), "xy", range(4)):
        value = 4095 if number == 0 else 2000
        save(tmp_path / part / label / f"{number}.png", np.full((8, 8), value, dtype=np.uint16))
    made = read(tmp_path)
    assert made.test.x[made.test.y == 0][:, 0, 0, 0].tolist() == [255, 125, 125, 125]
    assert any("12 bits" in note for note in made.notes)
    save(tmp_path / "train" / "x" / "9.png", np.full((8, 8), 65535, dtype=np.uint16))
    assert read(tmp_path).test.x[0, 0, 0, 0] == round(4095 / 257)


def deep_png(path: Path, pixels: np.ndarray, kind: int) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write: kind 2 is RGB, 4 grey with alpha, 6 RGBA."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_scaled_or_refused(tmp_path: Path, kind: int, channels: int) -> None:
    """16 bits a colour keep their range; where only 12 are used, the decoder has lost them, and the file is named."""

    def stored(top: int) -> np.ndarray:
        pixels = np.repeat(np.rint(RAMP * top).astype(np.uint16)[:, :, None], channels, axis=2)
        if kind != 2:
            pixels[..., -1] = 65535
        return pixels

    x = one(tmp_path, lambda path: deep_png(path, stored(65535), kind))
    assert float((x[0].float() - torch.from_numpy(RAMP * 255)).abs().max()) <= 1
    with pytest.raises(DataMissing, match=r"test/x/a\.png has 16 bits a colour.*12"):
        one(tmp_path, lambda path: deep_png(path, stored(4095), kind))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_transparent_ground_is_white_paper(tmp_path: Path, mode: str, grey: bool) -> None:
    """Black letters on a transparent ground are black on white, each its own image."""

    def write(path: Path, letter: str) -> None:
        mask = Image.new("L", (32, 32), 0)
        ImageDraw.Draw(mask).text((8, 8), letter, fill=255)
        mask = mask.point(lambda value: 255 * (value > 127))
        if mode in ("P", "1"):
            drawn = mask.point(lambda value: 0 if value else 255).convert(mode)
            drawn.save(path, transparency=255 if mode == "P" else 1)
            return
        drawn = Image.new(mode, (32, 32), 0)
        drawn.putalpha(mask)
        drawn.save(path)

    a, w = (one(tmp_path / letter, lambda path, letter=letter: write(path, letter), grey=grey) for letter in "AW")
    assert not torch.equal(a, w)
    assert (int(a.min()), int(a.max())) == (0, 255)
    assert float(a.float().mean()) > 200


def test_a_half_transparent_colour_is_mixed_with_white(tmp_path: Path) -> None:
    """Alpha is a share: red at 128 of 255 over white; opaque pixels stay as they are."""
    x = one(tmp_path, lambda path: Image.new("RGBA", (32, 32), (255, 0, 0, 128)).save(path))
    assert x[:, 0, 0].tolist() == [255, 127, 127]


def test_a_white_drawing_on_a_transparent_ground_is_named(tmp_path: Path) -> None:
    """It would vanish on white, and different drawings become one white image."""

    def write(path: Path) -> None:
        drawn = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
        ImageDraw.Draw(drawn).text((8, 8), "A", fill=(255, 255, 255, 255))
        drawn.save(path)

    with pytest.raises(DataMissing, match=r"2 files in .*test/x/a\.png is a white drawing"):
        one(tmp_path, write)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_the_camera_says(tmp_path: Path, orientation: int, ending: str) -> None:
    """EXIF orientation 1 to 8: where the white corner comes to lie."""
    corner = np.zeros((32, 32, 3), np.uint8)
    corner[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    x = one(tmp_path, lambda path: Image.fromarray(corner).save(path, exif=exif), f"a.{ending}")
    corners = {(0, 0): x[0, 4, 4], (0, 1): x[0, 4, -4], (1, 0): x[0, -4, 4], (1, 1): x[0, -4, -4]}
    (white,) = [place for place, value in corners.items() if value > 200]
    assert (
        white == {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    )


ORDINARY: dict[str, tuple[str, Callable[[Path], object]]] = {
    "1 bit": ("a.png", lambda path: Image.fromarray(RAMP > 0.5).save(path)),
    "palette": ("a.png", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("P").save(path)),
    "CMYK": ("a.jpg", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("CMYK").save(path)),
    "YCbCr": (
        "a.tif",
        lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("RGB").convert("YCbCr").save(path),
    ),
    "upper case": ("A.PNG", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(path)),
    "PNG called JPEG": ("a.jpg", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(path, "PNG")),
    "unicode": ("Ünï 猫.png", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(path)),
}


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("kind", ORDINARY)
def test_usual_kinds_keep_their_brightness(tmp_path: Path, kind: str, grey: bool) -> None:
    """A ramp from black to white has the mean of a ramp in every mode."""
    name, write = ORDINARY[kind]
    assert float(one(tmp_path, write, name, grey=grey).float().mean()) == pytest.approx(127.5, abs=4)


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
def test_of_animations_the_first_frame_is_read(tmp_path: Path, ending: str) -> None:
    """And that is noted."""
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("white", "black"))
    x = one(
        tmp_path, lambda path: first.save(path, save_all=True, append_images=[second], lossless=True), f"a.{ending}"
    )
    assert int(x.min()) == 255
    assert any("several frames" in note for note in read(tmp_path, 32).notes)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3000, 2), (7, 7)])
def test_any_shape_becomes_a_square(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Also a single pixel, and a strip that scaled whole would not fit into memory."""
    x = one(tmp_path, lambda path: save(path, np.full((*shape, 3), 90, np.uint8)))
    assert x.unique().tolist() == [90]


# ---------------------------------------------------------------- faults


def _jpeg() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def header(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it has this size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\x04IDATx\x9c\0\0"
    )


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("not an image"), "is not an image"),
    "cut JPEG": (lambda path: path.write_bytes(_jpeg()[:900]), "is damaged"),
    "cut PNG": (lambda path: (save(path, NOISE), path.write_bytes(path.read_bytes()[:1500])), "is damaged"),
    "bomb": (lambda path: Image.new("1", (20_000, 20_000)).save(path, "PNG"), "is too large"),
    "half a bomb": (lambda path: Image.new("1", (10_000, 10_000)).save(path, "PNG"), "is too large"),
    "a header of 50,000 × 50,000": (lambda path: path.write_bytes(header(50_000, 50_000)), "is too large"),
    "pipe": (lambda path: os.mkfifo(path), "is no file"),
    "PostScript": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "is not an image",
    ),
    "Photoshop": (lambda path: path.write_bytes(b"8BPS\x00\x01" + bytes(60)), "is not an image"),
    "float": (lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path, "TIFF"), "has decimal numbers"),
    "32 bits": (lambda path: Image.fromarray((RAMP * 1e6).astype(np.int32)).save(path, "TIFF"), "has values from 0 to"),
    "negative": (
        lambda path: Image.fromarray((RAMP * -9).astype(np.int32)).save(path, "TIFF"),
        "has values from -9 to",
    ),
    "broken link": (lambda path: path.symlink_to(path.parent / "nowhere.png"), "cannot be opened"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    """Whatever is wrong with it, with the reason."""
    write, expected = BROKEN[kind]
    with pytest.raises(DataMissing, match=rf"2 files in .* cannot be read: test/x/a\.png {expected}.*; test/y/a\.png"):
        one(tmp_path, write)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"bell\x07"])
def test_a_class_with_a_name_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: bytes) -> None:
    """Before anything is trained that could not be stored."""
    fill(tmp_path)
    os.rename(os.fsencode(tmp_path / "dog"), os.fsencode(tmp_path) + b"/" + name)  # noqa: PTH104  # bytes
    with pytest.raises(DataMissing, match=r"names of printable UTF-8, got '.*\\.*rename it"):
        read(tmp_path)


def test_files_with_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    """Their names are nothing but an order."""
    fill(tmp_path)
    os.rename(os.fsencode(tmp_path / "dog" / "0.png"), os.fsencode(tmp_path / "dog") + b"/caf\xe9.png")  # noqa: PTH104
    assert sum(1 for _ in layout(str(tmp_path)).every()) == 12
    assert len(read(tmp_path).class_names) == 2


def test_all_broken_files_are_named_at_once(tmp_path: Path) -> None:
    """Ten by name, the others by their number."""
    fill(tmp_path, n=3)
    for number in range(22):
        (tmp_path / "cat" / f"x{number:02}.png").write_bytes(b"")
    with pytest.raises(DataMissing) as caught:
        read(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"folder: 22 files in {tmp_path} cannot be read: cat/x00.png is empty; cat/x01.png")
    assert text.endswith("and 12 more")
