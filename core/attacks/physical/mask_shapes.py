"""Masks as pixels: ready shapes at any image size, and masks drawn by hand to and from their specs."""

from __future__ import annotations

import numpy as np

from core.specs.masks import AnyMask, Cells, Eyeglasses, Patch

MIN_SIDE = 8
"""Images must be at least this high and wide: below, the shapes look alike."""

# Eyeglasses, in units of their width; heights count from the middle of the rims.
RIM = (0.19, 0.15)
"""Half width and half height of a rim, to its outer edge."""
EYE = 0.22
"""Distance of a rim's middle from the glasses' middle."""
BAR = 0.065
"""Thickness of rims, bridge and temples; never less than `THINNEST` pixels, so that the frame does not break."""
THINNEST = 1.5
BRIDGE, TEMPLE = -0.06, -0.08
"""Height of bridge and temples: above the middle."""


def draw(mask: AnyMask, height: int, width: int) -> np.ndarray:
    """The mask for images of this size, (H, W) bool.

    Raises ValueError for an image that is too small for the shape, or that has not the size of the drawn cells.
    """
    if isinstance(mask, Eyeglasses):
        return eyeglasses(height, width, size=mask.size, top=mask.top, left=mask.left)
    if isinstance(mask, Patch):
        return patch(height, width, size=mask.size, top=mask.top, left=mask.left)
    if (mask.height, mask.width) != (height, width):
        raise ValueError(f"mask: expected cells of {height} x {width}, as the images, got {mask.height} x {mask.width}")
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(mask.bits), dtype=np.uint8))
    return bits[: height * width].reshape(height, width).astype(bool)


def eyeglasses(height: int, width: int, *, size: float = 1.0, top: float = 0.3, left: float = 0.5) -> np.ndarray:
    """The frame of a pair of glasses, (H, W) bool: rims, bridge, and temples to the ends of its width.

    Args:
        height: of the image, at least 8.
        width: of the image, at least 8.
        size: width of the glasses as a share of the image's shorter side, in [0.4, 1].
        top: 0 puts them at the top of the image, 1 at the bottom.
        left: 0 puts them at the left, 1 at the right.

    Raises:
        ValueError: naming the argument.
    """
    _check(height, width, size, 0.4, top, left)
    span = round(size * min(height, width))
    down, right = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    middle = top * (height - 2 * RIM[1] * span) + RIM[1] * span
    right = np.abs((right - round(left * (width - span))) / span - 0.5)  # both sides are the same
    down = (down - middle) / span
    bar = max(BAR, THINNEST / span)
    outer = _oval(down, right - EYE, RIM[1], RIM[0])
    inner = _oval(down, right - EYE, RIM[1] - bar, RIM[0] - bar)
    bridge = (np.abs(down - BRIDGE) < bar / 2) & (right < EYE)
    temple = (np.abs(down - TEMPLE) < bar / 2) & (right > EYE) & (right < 0.5)
    return (outer | bridge | temple) & ~inner


def _oval(down: np.ndarray, right: np.ndarray, high: float, wide: float) -> np.ndarray:
    """A rounded rectangle: |x/a|^3 + |y/b|^3 < 1."""
    return np.abs(right / wide) ** 3 + np.abs(down / high) ** 3 < 1


def patch(height: int, width: int, *, size: float = 0.3, top: float = 0.5, left: float = 0.5) -> np.ndarray:
    """A square, (H, W) bool, whose side is `size`, in (0, 1], of the image's shorter one; at least one pixel.

    `top` and `left` say where in the free room it lies, from 0 (top, left) to 1. Raises ValueError as `eyeglasses`.
    """
    _check(height, width, size, 0.0, top, left)
    side = max(1, round(size * min(height, width)))
    row, column = round(top * (height - side)), round(left * (width - side))
    mask = np.zeros((height, width), dtype=bool)
    mask[row : row + side, column : column + side] = True
    return mask


def from_array(mask: np.ndarray) -> Cells:
    """The spec of a mask drawn by hand. Raises ValueError unless it is (H, W) of 0 and 1, with some 1."""
    drawn = np.asarray(mask)
    if drawn.ndim != 2 or not drawn.size:
        raise ValueError(f"mask: expected shape (H, W), got {drawn.shape}")
    if not np.isin(drawn, (0, 1)).all():
        raise ValueError(f"mask: expected 0 and 1 only, got {drawn.min():g} to {drawn.max():g}")
    if not drawn.any():
        raise ValueError("mask: expected at least one pixel to change, got none")
    bits = np.packbits(drawn.astype(bool).ravel()).tobytes().hex()
    return Cells(height=drawn.shape[0], width=drawn.shape[1], bits=bits)


def _check(height: int, width: int, size: float, min_size: float, top: float, left: float) -> None:
    for name, pixels in (("height", height), ("width", width)):
        if pixels < MIN_SIDE:
            raise ValueError(f"{name}: expected at least {MIN_SIDE} pixels, got {pixels}")
    if not (min_size <= size <= 1 and size > 0):
        span = f"from {min_size:g}" if min_size else "above 0"
        raise ValueError(f"size: expected a share {span} to 1, got {size}")
    for name, share in (("top", top), ("left", left)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, got {share}")
