"""People's own images in a `.npz` file: what its header declares, what it holds, and the pixels. Imports no torch.

    x, y                                images to test a model on, none to train on
    x_train, y_train, x_test, y_test    both; x_val and y_val if you like
    class_names                         names of the classes 0, 1, …; without it they are called "0", "1", …

Images are (N, H, W), (N, H, W, C) or (N, C, H, W), of 1 or 3 channels: whole numbers 0…255, or floating point in
[0, 1], which is kept exactly (as float32). Nothing is rounded, scaled or guessed: what may be meant in two ways is
refused, with what to write instead. Sizes are checked as the file declares them, before anything is unpacked, and
pickled objects are never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from core import paths
from core.data.folder import DataMissing, check_reach

PARTS = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")}
"""The arrays of images and of classes of each part."""
ALONE = ("x", "y")
NAMES, LAYOUT = "class_names", "layout"
LARGEST = 4 << 30
"""Bytes of all arrays together at most, unpacked."""
EASY, TIMES = 256 << 20, 50
"""Beyond this many bytes a file may unpack to at most so many times its own size."""
LONGEST_SIDE, MOST_CLASSES = 4096, 100_000
_BLOCK = 1 << 22  # numbers that are checked at a time


@dataclass(frozen=True)
class Part:
    """Images (N, C, H, W), uint8 or float32 in [0, 1], and their classes (N,) int64, in the order of the file."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Facts:
    """What a file holds, without its pixels.

    Attributes:
        shape: channels, height and width of the images.
        class_names: of all classes.
        named: whether the file names them; else they are called by their numbers.
        sizes: images of the parts "train", "validation" and "test".
        notes: sentences on what was decided or not read.
    """

    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    named: bool
    sizes: Mapping[str, int]
    notes: tuple[str, ...]


def stamp(file: str) -> tuple[str, int, int, int]:
    """What tells one state of a file from another without reading it. Raises DataMissing where there is none."""
    path = paths.expanded(file)
    check_reach(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: no file can have that name
        why = getattr(error, "strerror", None) or error
        raise DataMissing(f"file: expected an existing .npz file, got {file!r} ({why})") from None
    if path.is_dir():
        raise DataMissing(f"file: expected a .npz file, got {file!r}, which is a folder (of images: folder:{file})")
    return str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns


def content(file: str) -> str:
    """SHA-256 of the file, read once per `stamp`. Raises DataMissing where it cannot be read."""
    return _content(stamp(file))


@lru_cache(maxsize=16)
def _content(stamped: tuple[str, int, int, int]) -> str:
    digest = hashlib.sha256()
    try:
        with Path(stamped[0]).open("rb") as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataMissing(f"file: {stamped[0]} cannot be read: {error}") from error
    return digest.hexdigest()


def facts(file: str) -> Facts:
    """What a file holds. Raises DataMissing: see `read`, but for the values of the pixels, which are not looked at."""
    return _facts(stamp(file))


@lru_cache(maxsize=16)
def _facts(stamped: tuple[str, int, int, int]) -> Facts:
    with _opened(Path(stamped[0])) as archive:
        return archive.facts()


def read(file: str) -> tuple[Facts, dict[str, Part]]:
    """The facts of a file, and its parts "train", "validation" and "test", some of which may have no images.

    Raises:
        DataMissing: no such file; no .npz file; arrays that are too large, hold objects, do not belong together or
            may be meant in two ways; pixels that are no numbers or outside their range. One sentence each.
    """
    with _opened(Path(stamp(file)[0])) as archive:
        found = archive.facts()
        parts = {part: archive.part(part, found) for part in PARTS}
    return found, parts


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    """The archive; whatever is wrong with it is a DataMissing that names it."""
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            yield _Archive(path, archive)
    except _Refused as error:
        raise DataMissing(f"file: {path}: {error}") from None
    except zipfile.BadZipFile as error:
        raise DataMissing(f"file: {path} is no .npz file, or is damaged ({error}): numpy.savez writes one") from None
    except (OSError, EOFError, NotImplementedError, RuntimeError, MemoryError) as error:
        raise DataMissing(f"file: {path} cannot be read: {error or type(error).__name__}") from None
    except Exception as error:  # damaged streams raise whatever comes: zlib.error, struct.error, SyntaxError
        raise DataMissing(f"file: {path} is damaged ({error or type(error).__name__})") from None


class _Refused(ValueError):
    """What is wrong with a file that is not read."""


@dataclass(frozen=True)
class _Header:
    """What the header of an array declares."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Of its numbers, unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


class _Archive:
    """An open file: the headers of the arrays that are wanted, checked before one of them is unpacked."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self.keys = self._keys()
        wanted = [name for pair in self.keys.values() for name in pair]
        wanted += [name for name in (NAMES, LAYOUT) if name in self.members]
        self.headers = {name: self._header(name) for name in wanted}
        total, packed = sum(one.bytes for one in self.headers.values()), path.stat().st_size
        most = min(LARGEST, max(EASY, TIMES * packed))
        if total > most:
            raise _Refused(
                f"its arrays unpack to {total:,} bytes: expected at most {most:,} of a file of {packed:,} bytes; "
                "give fewer images"
            )

    def _keys(self) -> dict[str, tuple[str, str]]:
        """The names of the arrays of each part that is there."""
        found = {part: pair for part, pair in PARTS.items() if set(pair) & set(self.members)}
        alone = set(ALONE) & set(self.members)
        if alone and found:
            raise _Refused(
                f"has {' and '.join(sorted(alone))} beside {', '.join(sorted(set(self.members) - alone))}: call the "
                "training part x_train and y_train and the test part x_test and y_test"
            )
        if alone:
            found = {"test": ALONE}
        elif "test" not in found:
            there = ", ".join(sorted(self.members)[:10]) or "nothing"
            raise _Refused(f"expected the arrays x and y, or x_train, y_train, x_test and y_test; it holds {there}")
        for pair in found.values():
            for name in pair:
                if name not in self.members:
                    raise _Refused(f"has {(set(pair) - {name}).pop()} without {name}")
        return found

    def _header(self, name: str) -> _Header:
        info = self.members[name]
        if info.flag_bits & 1:
            raise _Refused("is encrypted")
        with self.archive.open(info) as stream:
            shape, dtype, start = _header_of(stream, name)
        if dtype.hasobject:
            how = "numpy.array(names, dtype=str)" if name == NAMES else "an array of numbers"
            raise _Refused(f"{name} holds pickled Python objects, which could run code and are not read: save {how}")
        header = _Header(shape, dtype)
        if start + header.bytes != info.file_size:
            raise _Refused(f"{name} declares {start + header.bytes:,} bytes and has {info.file_size:,}: it is damaged")
        return header

    def facts(self) -> Facts:
        """What there is, with the classes."""
        shapes = {part: self._shape(x) for part, (x, _) in self.keys.items()}
        if len(set(shapes.values())) > 1:
            said = ", ".join(f"{self.keys[part][0]} {'×'.join(map(str, shape))}" for part, shape in shapes.items())
            raise _Refused(f"expected images of one shape in all parts, got {said} (channels × height × width)")
        labels = {part: self._labels(*pair) for part, pair in self.keys.items()}
        most = max(int(y.max()) for y in labels.values()) + 1
        names = self._names(most)
        notes = [] if names else [f"The file names no classes: they are called 0 to {most - 1}."]
        classes = names or tuple(map(str, range(most)))
        absent = sorted(set(range(len(classes))) - {int(label) for y in labels.values() for label in np.unique(y)})
        if absent:
            first = ", ".join(classes[label] for label in absent[:10])
            more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
            notes.append(f"No image shows the {'class' if len(absent) == 1 else 'classes'} {first}{more}.")
        known = {name for pair in self.keys.values() for name in pair} | {NAMES, LAYOUT}
        if beside := sorted(set(self.members) - known):
            notes.append(f"Not read: {', '.join(beside[:10])}.")
        if "train" not in self.keys:
            notes.append("All images are test images: there are none to train on.")
        sizes = {part: len(labels.get(part, ())) for part in PARTS}
        return Facts(next(iter(shapes.values())), classes, bool(names), sizes, tuple(notes))

    def part(self, part: str, found: Facts) -> Part:
        """The images and classes of a part; none where the file has no such part."""
        if part not in self.keys:
            return Part(np.zeros((0, *found.shape), dtype=np.uint8), np.zeros(0, dtype=np.int64))
        x, y = self.keys[part]
        return Part(_pixels(self._array(x), self._is_last(x), x), self._labels(x, y))

    def _array(self, name: str) -> np.ndarray:
        with self.archive.open(self.members[name]) as stream:
            found: np.ndarray = npy.read_array(stream, allow_pickle=False)
        return found

    def _shape(self, name: str) -> tuple[int, int, int]:
        """Channels, height and width that the header of an array of images declares."""
        header = self.headers[name]
        shape = header.shape
        if header.dtype.kind not in "uif":
            raise _Refused(
                f"{name}: expected whole numbers 0 to 255 (uint8) or floating point in [0, 1], got {header.dtype}"
            )
        if len(shape) not in (3, 4):
            raise _Refused(f"{name}: expected (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {shape}: reshape it")
        if shape[0] == 0:
            raise _Refused(f"{name}: expected at least one image, got none")
        if len(shape) == 3:
            found = (1, shape[1], shape[2])
        else:
            found = (shape[3], shape[1], shape[2]) if self._is_last(name) else (shape[1], shape[2], shape[3])
        if not all(1 <= side <= LONGEST_SIDE for side in found[1:]):
            raise _Refused(f"{name}: expected sides of 1 to {LONGEST_SIDE} pixels, got shape {shape}")
        return found

    def _is_last(self, name: str) -> bool:
        """Whether the channels come last."""
        shape = self.headers[name].shape
        if len(shape) == 3:
            return False
        first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        if first and last:
            layout = self._layout()
            if layout is None:
                raise _Refused(
                    f"{name}: shape {shape} may be (N, C, H, W) or (N, H, W, C): add layout='nchw' or layout='nhwc' "
                    "to the file"
                )
            return layout == "nhwc"
        if not first and not last:
            raise _Refused(f"{name}: expected 1 or 3 channels, first or last, got shape {shape}")
        return last

    def _layout(self) -> str | None:
        if LAYOUT not in self.members:
            return None
        found = self._array(LAYOUT)
        if found.dtype.kind != "U" or found.size != 1 or found.item() not in ("nchw", "nhwc"):
            raise _Refused(f"{LAYOUT}: expected 'nchw' or 'nhwc', got {found.tolist()!r}")
        return str(found.item())

    def _labels(self, x: str, name: str) -> np.ndarray:
        """The classes of a part, checked."""
        header, n = self.headers[name], self.headers[x].shape[0]
        shape = header.shape
        if len(shape) == 2 and shape[0] == n:
            how = f"{name}[:, 0]" if shape[1] == 1 else f"{name}.argmax(1), if it is one-hot"
            raise _Refused(f"{name}: expected one whole number per image, shape ({n},), got shape {shape}: save {how}")
        if shape != (n,):
            raise _Refused(f"{name}: expected shape ({n},), one class for each image of {x}, got shape {shape}")
        if header.dtype.kind not in "ui":
            raise _Refused(f"{name}: expected whole numbers, the classes, got {header.dtype}")
        found = self._array(name)
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= MOST_CLASSES:
            raise _Refused(f"{name}: expected classes from 0 to below {MOST_CLASSES:,}, got {low} to {high}")
        return found.astype(np.int64)

    def _names(self, most: int) -> tuple[str, ...] | None:
        """The class names, checked; None where the file has none."""
        if NAMES not in self.members:
            if most < 2:
                raise _Refused(f"expected at least two classes, got only class 0: add {NAMES}")
            return None
        header = self.headers[NAMES]
        if header.dtype.kind not in "US" or len(header.shape) != 1:
            raise _Refused(f"{NAMES}: expected a list of texts, got {header.dtype} of shape {header.shape}")
        raw = self._array(NAMES).tolist()
        found = tuple(one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in raw)
        if len(found) < max(2, most):
            raise _Refused(f"{NAMES}: expected at least {max(2, most)} names, for the classes of the file, got {found}")
        if twice := sorted({one for one in found if found.count(one) > 1 or not one.strip()}):
            raise _Refused(f"{NAMES}: expected every name once and none empty, got {twice[0]!r}")
        return found


def _header_of(stream: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and first byte of an array, from its header alone."""
    counted = _Counted(stream)
    try:
        version = npy.read_magic(counted)
        reader: Callable[..., Any] = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = reader(counted)
    except (ValueError, EOFError) as error:
        raise _Refused(f"{name} is no array of NumPy ({error})") from None
    if any(side < 0 for side in shape):
        raise _Refused(f"{name} declares the shape {shape}")
    return shape, dtype, counted.place


class _Counted:
    """A stream that knows how far it was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.place = stream, 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self.stream.read(size)
        self.place += len(data)
        return data


def _pixels(x: np.ndarray, last: bool, name: str) -> np.ndarray:
    """Checked images as (N, C, H, W), uint8 or float32."""
    images = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if last else x
    low, high = _range(x, name)
    if x.dtype.kind == "f":
        if low < 0 or high > 1:
            grey = low >= 0 and high <= 255
            how = "these look like grey levels 0 to 255: save uint8, or divide by 255" if grey else _NORMALISED
            raise _Refused(f"{name}: expected floating point in [0, 1], got {low:g} to {high:g}; {how}")
        return _exact(images)
    if low < 0 or high > 255:
        how = f"divide by {2 ** max(8, int(high).bit_length()) - 1:,} and save float32" if low >= 0 else _NORMALISED
        raise _Refused(f"{name}: expected whole numbers 0 to 255, got {low:g} to {high:g}; {how}")
    if high <= 1:
        raise _Refused(f"{name}: expected whole numbers 0 to 255, got only 0 and 1: multiply by 255, or save float32")
    return np.ascontiguousarray(images, dtype=np.uint8)


_NORMALISED = "images are pixels, and normalisation belongs to the model: undo it and save values in [0, 1]"


def _range(x: np.ndarray, name: str) -> tuple[float, float]:
    """The smallest and the largest number, all of which are finite."""
    low, high = math.inf, -math.inf
    flat = x.reshape(-1) if x.flags.c_contiguous else x.ravel(order="K")
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        least, most = float(block.min()), float(block.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            raise _Refused(f"{name}: expected finite numbers, got {int((~np.isfinite(x)).sum()):,} that are not")
        low, high = min(low, least), max(high, most)
    return low, high


def _exact(images: np.ndarray) -> np.ndarray:
    """Floating point in [0, 1] as uint8 where every number is k / 255 to the last bit of float32, else as float32."""
    exact = np.ascontiguousarray(images, dtype=np.float32)
    levels = np.rint(exact * np.float32(255)).astype(np.uint8)
    return levels if np.array_equal(levels.astype(np.float32) / np.float32(255), exact) else exact
