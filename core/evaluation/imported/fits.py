"""How images of a data set can be brought to the shape that a network takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from core.networks.layers import Shape
from core.specs import ImportSpec


@dataclass(frozen=True)
class Fit:
    """One way: resize, crop, layout and shape as in `core.specs.Framing`.

    Attributes:
        resize, crop, layout, shape: fields of a `Framing`.
        channels: how many the network takes; 3 for grey images that are shown three times.
    """

    resize: int | None
    crop: int | None
    layout: Literal["nchw", "nhwc"]
    shape: tuple[int, ...] | None
    channels: int


def fits(images: Shape, takes: tuple[int, ...], asked: ImportSpec) -> list[Fit]:
    """The ways that there are, the usual one first.

    Args:
        images: (C, H, W) of the data set.
        takes: shape of one image as the network takes it; numbers below 1 stand for any.
        asked: its `resize` and `crop` are taken as they are.

    Raises:
        ValueError: there is none.
    """
    found = _as_they_are(images, takes, asked)
    if not found and asked.resize is None and asked.crop is None:
        found = _resized(images, takes)
    if not found:
        hint = "" if images[0] == 1 or not _grey(takes) else "; it takes grey images: read the folder in grey"
        raise ValueError(
            f"data: the network takes images of {dims(takes)}, which the data set's of {dims(after(images, asked))} "
            f"cannot be brought to{hint}"
        )
    if asked.layout is not None and all(fit.layout != asked.layout for fit in found):
        raise ValueError(f"layout: a network that takes {dims(takes)} cannot be given {asked.layout} images")
    return found


def after(images: Shape, asked: ImportSpec) -> Shape:
    """The shape of images after resizing and cropping."""
    return _sized(images, asked.resize, asked.crop)


def dims(shape: tuple[int, ...]) -> str:
    """Such as `3×32×32`."""
    return "×".join(str(side) if side > 0 else "any" for side in shape) or "one number"


def _sized(images: Shape, resize: int | None, crop: int | None) -> Shape:
    channels, height, width = images
    if resize is not None:
        scale = resize / min(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
    if crop is not None:
        if crop > min(height, width):
            raise ValueError(f"crop: expected at most {min(height, width)}, the images' shorter side, got {crop}")
        height = width = crop
    return channels, height, width


def _as_they_are(images: Shape, takes: tuple[int, ...], asked: ImportSpec) -> list[Fit]:
    sized = after(images, asked)
    return _of(sized, takes, asked.resize, asked.crop)


def _of(sized: Shape, takes: tuple[int, ...], resize: int | None, crop: int | None) -> list[Fit]:
    found: list[Fit] = []
    ways: tuple[tuple[Literal["nchw", "nhwc"], Callable[[int], tuple[int, ...]]], ...] = (
        ("nchw", lambda c: (c, *sized[1:])),
        ("nhwc", lambda c: (*sized[1:], c)),
    )
    for channels in (sized[0], 3) if sized[0] == 1 else (sized[0],):
        exact = [name for name, shape in ways if _same(shape(channels), takes)]
        if exact:
            found += [Fit(resize, crop, name, None, channels) for name in exact]
        elif all(side > 0 for side in takes) and math.prod(takes) == channels * sized[1] * sized[2]:
            # one number a pixel lies alike either way
            found += [Fit(resize, crop, name, takes, channels) for name, _ in ways[: 2 if channels > 1 else 1]]
    return found


def _same(shape: tuple[int, ...], takes: tuple[int, ...]) -> bool:
    return len(shape) == len(takes) and all(b < 1 or a == b for a, b in zip(shape, takes, strict=True))


def _resized(images: Shape, takes: tuple[int, ...]) -> list[Fit]:
    """Where the network takes images of another size: resized to it, and the middle cut out."""
    sizes: list[tuple[int, int]] = []
    if len(takes) == 3 and min(takes) > 0:
        sizes = [(takes[1], takes[2])] if takes[0] in (1, 3) else []
        sizes += [(takes[0], takes[1])] if takes[2] in (1, 3) else []
    elif min(takes, default=0) > 0:
        whole = math.prod(takes)
        sides = [math.isqrt(whole // channels) for channels in (1, 3) if whole % channels == 0]
        sizes = [(side, side) for side in sides if side > 1 and whole in (side * side, 3 * side * side)]
    found = []
    for height, width in sizes:
        short = min(height, width)
        sized = _sized(images, short, None)
        if sized[1:] == (height, width):
            found += _of(sized, takes, short, None)
        elif height == width:
            found += _of((sized[0], short, short), takes, short, short)
    return found


def _grey(takes: tuple[int, ...]) -> bool:
    return len(takes) in (1, 2) or (len(takes) == 3 and 1 in (takes[0], takes[2]))
