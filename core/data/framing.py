"""MNIST's frame for a handwritten digit, and scikit-learn's digits to put into it. Imports no torch.

The frame is made in whole numbers, so that it is the same to the last bit on every processor and in every version.
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

_Whole = TypeVar("_Whole", int, Int64[np.ndarray, "..."])

FRAME = 28
"""Height and width of a framed digit, and of MNIST's images."""
LONGER_SIDE = 20
"""Pixels that the longer side of the ink takes in the frame."""
_ENLARGED = 32  # side to which a smaller image grows first, to find the ink's edge between pixels
_INK = 10  # what is above a tenth of full ink belongs to the digit
_FULL = 255 * 64  # full ink while resampling: finer than grey levels, so that two roundings do not add up


def framed(ink: Int64[np.ndarray, "h w"], full: int) -> UInt8[np.ndarray, "28 28"]:
    """A digit as MNIST frames its own.

    It is enlarged by bicubic interpolation and cropped to the ink; its longer side becomes 20 pixels; its centre of
    mass comes to the middle of 28 by 28 pixels.

    Args:
        ink: how much ink a pixel holds, whole numbers 0…full on an empty background, at most 1,000 pixels a side;
            some of it is above a tenth of full.
        full: what stands for full ink.
    """
    padded = np.pad(ink.astype(np.int64) * _FULL // full, 1)
    times = max(1, _ENLARGED // max(ink.shape))
    large = _resized(padded, padded.shape[0] * times, padded.shape[1] * times)
    inked = large * _INK > _FULL
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    large = large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer = max(large.shape)
    height, width = (max(1, _nearest(side * LONGER_SIDE, longer)) for side in large.shape)
    small = _nearest(_resized(large, height, width) * 255, np.array(_FULL))
    top, left = (_start(small.sum(axis=axis)) for axis in (1, 0))
    image = np.zeros((FRAME, FRAME), dtype=np.uint8)
    image[top : top + height, left : left + width] = small
    return image


@lru_cache(maxsize=1)
def levels() -> tuple[Int64[np.ndarray, "n h w"], Int64[np.ndarray, " n"]]:
    """Ink 0…16 of every pixel of every digit, and the classes."""
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        table = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if table.is_file():  # read without importing scikit-learn, which takes seconds
            with gzip.open(table) as rows:
                both = np.loadtxt(rows, delimiter=",", dtype=np.int64)
            return both[:, :-1].reshape(-1, 8, 8), both[:, -1]
    from sklearn.datasets import load_digits

    raw = load_digits()
    return raw.images.astype(np.int64), raw.target.astype(np.int64)


def _start(mass: Int64[np.ndarray, " n"]) -> int:
    """Where a row of pixels begins in the frame, so that its centre of mass comes to the middle."""
    total, n = int(mass.sum()), len(mass)
    twice_the_centre = int((mass * (2 * np.arange(n) + 1)).sum())  # times the total
    return min(max(_nearest(FRAME * total - twice_the_centre, 2 * total), 0), FRAME - n)


def _resized(image: Int64[np.ndarray, "h w"], height: int, width: int) -> Int64[np.ndarray, "a b"]:
    """The image at another size by bicubic interpolation, 0…_FULL; made smaller, over as many pixels as make one."""
    rows, columns = _bicubic(image.shape[0], height), _bicubic(image.shape[1], width)
    return _weighted(columns, _weighted(rows, image).T).T


def _weighted(weights: Int64[np.ndarray, "m n"], image: Int64[np.ndarray, "n k"]) -> Int64[np.ndarray, "m k"]:
    return np.clip(_nearest(weights @ image, weights.sum(axis=1, keepdims=True)), 0, _FULL)


@lru_cache(maxsize=64)
def _bicubic(before: int, after: int) -> Int64[np.ndarray, "after before"]:
    """Keys' kernel (a = -1/2) between the centres of `before` and of `after` pixels on the same length; unnormalised.

    With t the distance of two centres over `unit`: 3t³ - 5t² + 2 below 1, -t³ + 5t² - 8t + 4 below 2, times unit³.
    """
    unit = 2 * max(before, after)
    t = np.abs((2 * np.arange(after)[:, None] + 1) * before - (2 * np.arange(before)[None] + 1) * after)
    t = t.astype(np.int64)
    near = 3 * t**3 - 5 * t**2 * unit + 2 * unit**3
    far = -(t**3) + 5 * t**2 * unit - 8 * t * unit**2 + 4 * unit**3
    return np.where(t < unit, near, np.where(t < 2 * unit, far, 0))


def _nearest(value: _Whole, divisor: _Whole) -> _Whole:
    """The whole number nearest to value / divisor, halves upwards; divisor above 0."""
    return (2 * value + divisor) // (2 * divisor)
