"""One test image, without reading the whole data set and without importing torch: a page's first picture."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from core.data.folder import data_root
from core.data.framing import framed, levels
from core.specs import DATASETS

_FILE = "t10k-images-idx3-ubyte"
_MAGIC = 2051  # of files of images in MNIST's format
_HEADER = 16
_SHA256 = {"mnist": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"}
"""Of that file: where it is another one, the image is left to the data set, which is compared as a whole."""
_EMBEDDED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "digits28": lambda ink: framed(ink, 16),
    "digits": lambda ink: np.rint(ink * (255 / 16)).astype(np.uint8),
}


@lru_cache(maxsize=16)
def _is_known(path: Path, name: str, size: int, time: int) -> bool:
    """Whether a file is the one that a data set comes with, as far as that is known; read once, until it changes."""
    return name not in _SHA256 or hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256[name]


def one_test_image(dataset: str, index: int, root: Path | None = None) -> UInt8[np.ndarray, "c h w"] | None:
    """A test image by its index; None where the data set is not embedded, not in MNIST's format, or not here.

    Args:
        dataset: name of a built-in data set.
        index: into the test part as it is on disk.
        root: data folder; by default `data_root()`.
    """
    info = DATASETS.get(dataset)
    if info is not None and info.name in _EMBEDDED:
        ink = levels()[0]
        if not 0 <= index < len(ink):
            return None
        return _EMBEDDED[info.name](ink[index])[None]
    if info is None or not info.mark.endswith("-idx1-ubyte") or index < 0:
        return None
    path = ((root or data_root()) / info.mark).with_name(_FILE)
    try:
        if not _is_known(path, info.name, path.stat().st_size, path.stat().st_mtime_ns):
            return None
        with path.open("rb") as file:
            magic, count, height, width = struct.unpack(">4i", file.read(_HEADER))
            if magic != _MAGIC or index >= count or (1, height, width) != info.shape:
                return None
            file.seek(_HEADER + index * height * width)
            pixels = np.frombuffer(file.read(height * width), dtype=np.uint8)
            return pixels.reshape(1, height, width) if pixels.size == height * width else None
    except (OSError, struct.error):
        return None
