"""The embedded data sets: scikit-learn's handwritten digits, as they are and in MNIST's frame (see `framing`)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from core.data.framing import framed, levels
from core.data.sets import Split, shuffled
from core.specs import DATASETS


def digits(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """1,797 images of 8 by 8 pixels, their 17 grey levels scaled to 0…255; a fixed fifth is the test part.

    They come with scikit-learn: both arguments are ignored.
    """
    ink, y = levels()
    return _parts(np.rint(ink * (255 / 16)).astype(np.uint8), y, "digits")


def digits28(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """The same images in the same order and parts, each in MNIST's frame (see `framed`)."""
    return _parts(_all_framed(), levels()[1], "digits28")


@lru_cache(maxsize=1)
def _all_framed() -> UInt8[np.ndarray, "n 28 28"]:
    return np.stack([framed(ink, 16) for ink in levels()[0]])


def _parts(x: UInt8[np.ndarray, "n h w"], y: Int64[np.ndarray, " n"], name: str) -> tuple[Split, Split]:
    both = Split.of(x[:, None], y)
    order = shuffled(len(both))
    train_size = DATASETS[name].train_size
    return both.take(order[:train_size]), both.take(order[train_size:])
