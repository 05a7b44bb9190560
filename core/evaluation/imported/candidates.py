"""Which framings are tried: every way to fit the images, with every normalisation and order of the colours."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from core.evaluation.imported.fits import Fit, fits
from core.evaluation.imported.normalisations import Normalisation, normalisations, statistics
from core.networks.layers import Shape
from core.specs import Framing, ImportSpec


def candidates(shape: Shape, takes: tuple[int, ...], asked: ImportSpec, train: Tensor) -> list[tuple[str, Framing]]:
    """Every framing that is tried, each with its normalisation in words; the simplest first."""
    own = statistics(train)
    overall = (round(float(train.mean()), 4), round(float(train.std().clamp_min(1e-3)), 4))
    usual = normalisations(shape[0], own, overall)
    if asked.mean is not None and asked.std is not None:
        for name, values in (("mean", asked.mean), ("std", asked.std)):
            if len(values) not in (1, shape[0], 3 if shape[0] == 1 else shape[0]):
                raise ValueError(f"{name}: expected one number, or one for each of {shape[0]} channels, got {values}")
        usual = [Normalisation("as given", asked.mean, asked.std), *usual]
    orders: tuple[Literal["rgb", "bgr"], ...] = ("rgb", "bgr")
    found = []
    for fit in fits(shape, takes, asked):
        for one in usual:
            if fit.channels == 1 and max(len(one.mean), len(one.std)) == 3:
                continue  # it would make three channels of grey images
            for channels in orders if shape[0] == 3 else orders[:1]:
                turned = one.reversed() if channels == "bgr" and one.title != "as given" else one
                found.append((one.title, _framing(fit, shape[0], turned, channels, asked)))
    unique: dict[Framing, str] = {}
    for title, framing in found:
        unique.setdefault(framing, title)
    return [(title, framing) for framing, title in unique.items()]


def _framing(fit: Fit, given: int, one: Normalisation, channels: Literal["rgb", "bgr"], asked: ImportSpec) -> Framing:
    mean, std = one.mean, one.std
    if len(mean) != len(std):
        width = max(len(mean), len(std))
        mean, std = (values * width if len(values) == 1 else values for values in (mean, std))
    if fit.channels != given and len(mean) == 1:
        mean = mean * 3  # three equal numbers: grey images become three channels by them
    return Framing(
        resize=fit.resize,
        crop=fit.crop,
        channels=channels,
        mean=mean,
        std=std,
        layout=fit.layout,
        shape=fit.shape,
        classes=asked.classes,
    )


def as_asked(framing: Framing, asked: ImportSpec) -> bool:
    """Whether a framing is one that what was given allows."""
    if asked.channels is not None and framing.channels != asked.channels:
        return False
    if asked.layout is not None and framing.layout != asked.layout:
        return False
    if asked.mean is None or asked.std is None:
        return True
    width = max(len(framing.mean), len(framing.std), len(asked.mean), len(asked.std))

    def wide(values: tuple[float, ...]) -> tuple[float, ...]:
        return values * width if len(values) == 1 else values

    return wide(framing.mean) == wide(asked.mean) and wide(framing.std) == wide(asked.std)
