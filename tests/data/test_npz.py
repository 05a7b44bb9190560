"""A `.npz` file of images: read exactly as it is meant, or refused in one sentence; its content is part of requests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.data import npz, own, shown
from core.data.folder import DataMissing
from core.data.sets import load, to_float
from core.data.shown import Frame
from core.specs import DataSpec

RNG = np.random.default_rng(0)


def save(path: Path, **arrays: Any) -> DataSpec:
    """Write a file and return the spec of it."""
    np.savez(path, **arrays)
    return DataSpec(dataset="file", file=str(path))


def grey(n: int = 12, *shape: int) -> np.ndarray:
    """Images of 8 bits."""
    return RNG.integers(0, 256, (n, *(shape or (6, 5))), dtype=np.uint8)


def labels(n: int = 12, classes: int = 3) -> np.ndarray:
    """Classes, each of which is there."""
    return np.arange(n) % classes


LAYOUTS = {
    "(N, H, W)": ((6, 5), lambda x: x[:, None]),
    "(N, H, W, 1)": ((6, 5, 1), lambda x: x.transpose(0, 3, 1, 2)),
    "(N, H, W, 3)": ((6, 5, 3), lambda x: x.transpose(0, 3, 1, 2)),
    "(N, 1, H, W)": ((1, 6, 5), lambda x: x),
    "(N, 3, H, W)": ((3, 6, 5), lambda x: x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "float64", "fortran"])
def test_images_come_back_as_they_were_in_every_layout(tmp_path: Path, layout: str, kind: str) -> None:
    """The order of the file, all of them test images; grey levels are those of the file to the last bit."""
    shape, brought = LAYOUTS[layout]
    x, y = grey(12, *shape), labels()
    given = {
        "uint8": x,
        "int64": x.astype(np.int64),
        "float32": x.astype(np.float32) / np.float32(255),
        "float64": x / 255,
        "fortran": np.asfortranarray(x),
    }[kind]
    made = load(save(tmp_path / "a.npz", x=given, y=y))
    assert made.test.x.dtype == torch.uint8
    assert np.array_equal(made.test.x.numpy(), brought(x))
    assert made.test.y.tolist() == y.tolist()
    assert made.test.index.tolist() == list(range(12))
    assert (len(made.train), len(made.validation)) == (0, 0)
    assert made.class_names == ("0", "1", "2")
    assert made.title == "a.npz"
    assert any("names no classes" in note for note in made.notes)
    assert any("none to train on" in note for note in made.notes)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_point_is_kept_exactly(tmp_path: Path, dtype: str) -> None:
    """Values between the levels of a byte are not rounded to them."""
    x = RNG.random((12, 6, 5)).astype(dtype)
    made = load(save(tmp_path / "a.npz", x=x, y=labels()))
    assert made.test.x.dtype == torch.float32
    assert np.array_equal(made.test.x[:, 0].numpy(), x.astype(np.float32))
    images = to_float(made.test.x)
    assert torch.equal(images, made.test.x)
    images.zero_()
    assert made.test.x.any(), "a copy"


def test_training_part_validation_part_and_names(tmp_path: Path) -> None:
    """Each part as it is called; a validation part is held out of the training part where there is none."""
    parts = {"x_train": grey(30), "y_train": labels(30), "x_test": grey(9), "y_test": labels(9)}
    names = np.array(["ant", "bee", "cat"])
    made = load(save(tmp_path / "a.npz", **parts, class_names=names))
    assert (len(made.train), len(made.validation), len(made.test)) == (27, 3, 9)
    assert made.class_names == ("ant", "bee", "cat")
    assert np.array_equal(made.test.x[:, 0].numpy(), parts["x_test"])
    made = load(save(tmp_path / "b.npz", **parts, x_val=grey(4), y_val=labels(4)))
    assert (len(made.train), len(made.validation), len(made.test)) == (30, 4, 9)
    made = load(DataSpec(dataset="file", file=str(tmp_path / "a.npz"), classes=(2, 0)))
    assert made.class_names == ("cat", "ant")
    assert made.test.y.tolist() == [1, 0] * 3
    assert made.test.index.tolist() == [0, 2, 3, 5, 6, 8]
    mixed = {**parts, "x_train": parts["x_train"] / 255 * 0.99}  # floating point beside bytes: one kind for all
    made = load(save(tmp_path / "c.npz", **mixed))
    assert made.train.x.dtype == made.test.x.dtype == torch.float32
    assert torch.equal(made.test.x[:, 0], to_float(torch.from_numpy(parts["x_test"])))


X, Y = grey(), labels()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "expected the arrays x and y, or x_train.*it holds nothing"),
    "other names": ({"images": X, "labels": Y}, "it holds images, labels"),
    "no classes": ({"x": X}, "has x without y"),
    "no test part": ({"x_train": X, "y_train": Y}, "expected the arrays x and y, or x_train"),
    "both": ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "has x and y beside x_test, y_test"),
    "fewer classes": ({"x": X, "y": Y[:-1]}, r"y: expected shape \(12,\), one class for each image of x, got .*11"),
    "one-hot": ({"x": X, "y": np.eye(3)[Y]}, r"y.argmax\(1\)"),
    "a column": ({"x": X, "y": Y[:, None]}, r"save y\[:, 0\]"),
    "decimal classes": ({"x": X, "y": Y.astype(float)}, "y: expected whole numbers, the classes, got float64"),
    "negative classes": ({"x": X, "y": Y - 1}, "classes from 0 to below 100,000, got -1 to 1"),
    "huge classes": ({"x": X, "y": Y + 2**40}, "classes from 0 to below 100,000"),
    "one class": ({"x": X, "y": 0 * Y}, "at least two classes, got only class 0: add class_names"),
    "flat": ({"x": grey(12, 30), "y": Y}, r"got shape \(12, 30\): reshape it"),
    "five dimensions": ({"x": grey(12, 1, 2, 3, 4), "y": Y}, "got shape"),
    "no images": ({"x": X[:0], "y": Y[:0]}, "at least one image"),
    "four channels": ({"x": grey(12, 6, 5, 4), "y": Y}, "expected 1 or 3 channels, first or last"),
    "no pixels": ({"x": X[:, :0], "y": Y}, "sides of 1 to 4096"),
    "two layouts": ({"x": grey(12, 3, 3, 3), "y": Y}, "may be .*add layout='nchw'"),
    "an odd layout": ({"x": grey(12, 3, 3, 3), "y": Y, "layout": "chwn"}, "expected 'nchw' or 'nhwc', got 'chwn'"),
    "not a number": ({"x": np.where(X > 250, np.nan, 0.5), "y": Y}, "expected finite numbers, got .* that are not"),
    "infinite": ({"x": np.where(X > 250, np.inf, 0.5), "y": Y}, "expected finite numbers"),
    "grey levels as floats": ({"x": X.astype(np.float32), "y": Y}, "look like grey levels 0 to 255: save uint8"),
    "normalised": ({"x": (X / 255 - 0.5) / 0.2, "y": Y}, "normalisation belongs to the model"),
    "16 bits": ({"x": X.astype(np.uint16) * 257, "y": Y}, "divide by 65,535 and save float32"),
    "12 bits": ({"x": X.astype(np.uint16) * 16, "y": Y}, "divide by 4,095 and save float32"),
    "signed bytes": ({"x": X.astype(np.int16) - 128, "y": Y}, "whole numbers 0 to 255, got -1"),
    "black and white": ({"x": X // 128, "y": Y}, "got only 0 and 1: multiply by 255"),
    "truth": ({"x": X > 128, "y": Y}, "got bool"),
    "complex": ({"x": X + 1j, "y": Y}, "got complex128"),
    "text": ({"x": X.astype(str), "y": Y}, "got <U"),
    "objects": ({"x": X.astype(object), "y": Y}, "x holds pickled Python objects, which could run code"),
    "names as objects": (
        {"x": X, "y": Y, "class_names": np.array(["a", "b", "c"], dtype=object)},
        r"save numpy.array\(names, dtype=str\)",
    ),
    "too few names": ({"x": X, "y": Y, "class_names": np.array(["a", "b"])}, "at least 3 names"),
    "a name twice": ({"x": X, "y": Y, "class_names": np.array(["a", "b", "a"])}, "every name once.*'a'"),
    "numbers as names": ({"x": X, "y": Y, "class_names": np.arange(3)}, "expected a list of texts"),
    "other sizes": (
        {"x_train": grey(12, 6, 6), "y_train": Y, "x_test": X, "y_test": Y},
        "one shape in all parts, got x_train 1×6×6, x_test 1×6×5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_be_meant_otherwise_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    """The file, the array, what was expected and what came."""
    arrays, expected = REFUSED[case]
    spec = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataMissing, match=rf"^file: .*a\.npz: .*{expected}"):
        load(spec)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_file_may_say_where_its_channels_lie(tmp_path: Path, layout: str) -> None:
    """Where the shape leaves it open."""
    x = grey(12, 3, 3, 3)
    made = load(save(tmp_path / "a.npz", x=x, y=Y, layout=layout)).test.x.numpy()
    assert np.array_equal(made, x if layout == "nchw" else x.transpose(0, 3, 1, 2))


def test_classes_without_images_and_arrays_that_are_not_read_are_noted(tmp_path: Path) -> None:
    """Names of more classes than the file shows; unknown arrays."""
    spec = save(tmp_path / "a.npz", x=X, y=Y, class_names=np.array(["a", "b", "c", "d"]), weights=np.zeros(3))
    made = load(spec)
    assert made.class_names == ("a", "b", "c", "d")
    assert "No image shows the class d." in made.notes
    assert "Not read: weights." in made.notes


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array)
    return out.getvalue()


def _declaring(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    """The header of an array of this shape, and nothing behind it."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_a_zip_bomb_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    """By what its header declares: a gigabyte of zeros in a file of a megabyte."""
    path = tmp_path / "a.npz"
    head = _declaring((1 << 20, 32, 32))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as stream:
            stream.write(head)
            for _ in range(1024):
                stream.write(bytes(1 << 20))
        archive.writestr("y.npy", _npy(np.zeros(1 << 20, dtype=np.int64)))
    with pytest.raises(DataMissing, match=r"its arrays unpack to 1,0.* bytes: expected at most 268,435,456 of a file"):
        npz.facts(str(path))


@pytest.mark.parametrize("more", [b"", b"\0" * 10, b"\0" * 200_000])
def test_arrays_that_are_not_as_long_as_they_say_are_refused(tmp_path: Path, more: bytes) -> None:
    """Shorter or longer."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", _declaring((12, 6, 5)) + more)
        archive.writestr("y.npy", _npy(Y))
    with pytest.raises(DataMissing, match=r"x declares .* bytes and has .*: it is damaged"):
        npz.facts(str(path))


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    """Absent, a folder, text, a single array, cut off, and one whose bytes were changed."""
    path = tmp_path / "a.npz"
    spec = DataSpec(dataset="file", file=str(path))
    with pytest.raises(DataMissing, match=r"expected an existing \.npz file"):
        load(spec)
    with pytest.raises(DataMissing, match="which is a folder"):
        load(DataSpec(dataset="file", file=str(tmp_path)))
    for body in (b"", b"PK", b"hello", _npy(X)):
        path.write_bytes(body)
        with pytest.raises(DataMissing, match=r"is no \.npz file, or is damaged"):
            load(spec)
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataMissing, match=r"a\.npz is no \.npz file, or is damaged"):
        load(spec)
    at = whole.index(X.tobytes()[:20])
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DataMissing, match=r"a\.npz is no \.npz file, or is damaged \(Bad CRC-32"):
        load(spec)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", _npy(Y))
    with pytest.raises(DataMissing, match="x is no array of NumPy"):
        load(spec)


# ---------------------------------------------------------------- in specs


def test_the_content_is_part_of_a_request_and_checked(tmp_path: Path) -> None:
    """A file that was changed is another request; the old one is refused as long as the file is another."""
    path = tmp_path / "My Set.npz"
    spec = save(path, x=X, y=Y)
    first = own.resolved(spec)
    assert first.content == npz.content(str(path))
    assert own.resolved(first) is first
    assert spec.slug() == "file-my-set"
    assert load(first).fingerprint == load(spec).fingerprint
    save(path, x=X[::-1], y=Y)
    second = own.resolved(spec)
    assert second.key() != first.key()
    with pytest.raises(ValueError, match=r"^file: .*My Set\.npz is no longer the file that was asked for"):
        load(first)
    save(path, x=X, y=Y)
    assert np.array_equal(load(first).test.x[:, 0].numpy(), X)


@pytest.mark.parametrize("text", ["file:a.npz", "a.npz", "some/where/a.npz"])
def test_a_file_is_named_by_a_word(text: str) -> None:
    """On the command line; with and without `file:`."""
    spec = DataSpec.model_validate(text)
    assert (spec.dataset, spec.file) == ("file", text.removeprefix("file:"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": "file"}, "'file' must be given"),
        ({"dataset": "mnist", "file": "a.npz"}, "'file' must be given"),
        ({"dataset": "file", "file": "a.npz", "folder": "b"}, "'folder' must be given"),
        ({"dataset": "file", "file": "a.npz", "grey": True}, "only for dataset 'folder'"),
        ({"dataset": "digits", "content": 64 * "0"}, "only for datasets"),
    ],
)
def test_specs_of_files_are_checked(fields: dict[str, Any], said: str) -> None:
    """As those of folders."""
    with pytest.raises(ValueError, match=said):
        DataSpec(**fields)


def test_keys_of_other_data_sets_are_as_before() -> None:
    """The field for a file came later."""
    assert "file" not in DataSpec(dataset="mnist").body()
    assert "file" not in DataSpec(dataset="folder", folder="x").body()


def test_a_training_on_test_images_alone_is_refused(tmp_path: Path) -> None:
    """With what to save instead."""
    with pytest.raises(ValueError, match=r"expected images to train on, got file .* as x_train and y_train"):
        own.check_trainable(save(tmp_path / "a.npz", x=X, y=Y))
    own.check_trainable(save(tmp_path / "b.npz", x_train=X, y_train=Y, x_test=X, y_test=Y))


# ---------------------------------------------------------------- shown to models


def framed(*names: str, shape: tuple[int, int, int] = (1, 6, 5)) -> Frame:
    """A model of these classes."""
    return Frame("m", DataSpec(dataset="digits"), shape, names)


def test_named_classes_are_taken_by_their_names(tmp_path: Path) -> None:
    """In the model's order, whatever theirs is; a class that is not there is refused."""
    spec = save(tmp_path / "a.npz", x=X, y=Y, class_names=np.array(["ant", "bee", "cat"]))
    made = shown.fitted(spec, framed("cat", "ant"))
    assert made is not None
    assert made.classes == (2, 0)
    assert made.content is not None
    assert load(made).class_names == ("cat", "ant")
    assert shown.note(made, ("cat", "ant")) == ""
    with pytest.raises(ValueError, match="which has no dog"):
        shown.fitted(spec, framed("dog", "cat"))
    with pytest.raises(ValueError, match=r"expected images of shape 1×28×28 for m, got file .*, whose .* 1×6×5"):
        shown.fitted(spec, framed("cat", "ant", shape=(1, 28, 28)))


def test_classes_without_names_are_taken_by_their_numbers_and_that_is_said(tmp_path: Path) -> None:
    """Where they fit; digits are names, so that 4 is the class 4 of a model for 4 and 9."""
    spec = save(tmp_path / "a.npz", x=X, y=Y)
    made = shown.fitted(spec, framed("ship", "truck", "cat", "dog"))
    assert made is not None
    assert made.classes is None
    note = shown.note(made, ("ship", "truck", "cat", "dog"))
    assert "0 = ship, 1 = truck, 2 = cat" in note
    with pytest.raises(ValueError, match=r"expected classes from 0 to 1 for m .ship, truck., got file .* go to 2"):
        shown.fitted(spec, framed("ship", "truck"))
    made = shown.fitted(spec, framed("2", "0"))
    assert made is not None
    assert made.classes == (2, 0)
    assert shown.note(made, ("2", "0")) == ""
    digits = tuple(map(str, range(10)))
    made = shown.fitted(spec, framed(*digits))
    assert made is not None
    assert made.classes is None
    assert shown.note(made, digits) == ""
    with pytest.raises(ValueError, match="expected none for a file that names no classes"):
        shown.fitted(spec.model_copy(update={"classes": (1, 0)}), framed("ship", "truck"))
