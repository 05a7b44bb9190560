"""The usual normalisations, as what is subtracted from pixels in [0, 1] and what they are divided by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE = (123.68 / 255, 116.779 / 255, 103.939 / 255)


@dataclass(frozen=True)
class Normalisation:
    """Mean and divisor by name, in the order red, green, blue; one number holds for all channels."""

    title: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def reversed(self) -> Normalisation:
        """The same for images in the order blue, green, red."""
        return Normalisation(self.title, self.mean[::-1], self.std[::-1])


def statistics(x: Float[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images in [0, 1], rounded to four digits."""
    mean, std = x.mean(dim=(0, 2, 3)).tolist(), x.std(dim=(0, 2, 3)).clamp_min(1e-3).tolist()
    return tuple(round(v, 4) for v in mean), tuple(round(v, 4) for v in std)


def normalisations(
    channels: int, own: tuple[Sequence[float], Sequence[float]], overall: tuple[float, float]
) -> list[Normalisation]:
    """Those that are tried, the simplest and most usual first, the data set's own last; the first of equal ones stays.

    Args:
        channels: of the images.
        own: mean and standard deviation of the data set, a channel each.
        overall: the same of all channels together.
    """
    one = [
        Normalisation("none: 0…1", (0.0,), (1.0,)),
        Normalisation("−1…1", (0.5,), (0.5,)),
        Normalisation("0…255", (0.0,), (1 / 255,)),
        Normalisation("−0.5…0.5", (0.5,), (1.0,)),
        Normalisation("negative: 1…0", (1.0,), (-1.0,)),
        Normalisation("negative: 1…−1", (0.5,), (-0.5,)),
        Normalisation("negative: 255…0", (1.0,), (-1 / 255,)),
    ]
    computed = Normalisation("this data set's mean and std", tuple(own[0]), tuple(own[1]))
    if channels == 1:
        every = [
            *one,
            Normalisation("MNIST's", (0.1307,), (0.3081,)),
            Normalisation("ImageNet's", *_IMAGENET),
            computed,
            Normalisation("MNIST's mean alone", (0.1307,), (1.0,)),
            Normalisation("this data set's mean alone", tuple(own[0]), (1.0,)),
        ]
    else:
        every = [
            *one,
            Normalisation("CIFAR-10's", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            Normalisation("CIFAR-10's, with the smaller std", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
            Normalisation("CIFAR-100's", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
            Normalisation("ImageNet's", *_IMAGENET),
            Normalisation("ImageNet's mean, std 0.225 (Wong and Kolter)", _IMAGENET[0], (0.225, 0.225, 0.225)),
            Normalisation("Caffe's: 0…255 less ImageNet's mean", _CAFFE, (1 / 255,)),
            computed,
            Normalisation("this data set's mean and std, all channels together", (overall[0],), (overall[1],)),
            Normalisation("CIFAR-10's mean alone", (0.4914, 0.4822, 0.4465), (1.0,) * 3),
            Normalisation("ImageNet's mean alone", _IMAGENET[0], (1.0,) * 3),
            Normalisation("this data set's mean alone", tuple(own[0]), (1.0,) * len(own[0])),
        ]
    kept: list[Normalisation] = []
    for entry in every:
        if not any(_same(entry, other) for other in kept):
            kept.append(entry)
    return kept


def _same(one: Normalisation, other: Normalisation) -> bool:
    """Whether two differ by less than a thousandth of their divisor."""
    n = max(len(one.mean), len(one.std), len(other.mean), len(other.std))
    means, stds = [], []
    for entry in (one, other):
        means.append([entry.mean[i % len(entry.mean)] for i in range(n)])
        stds.append([entry.std[i % len(entry.std)] for i in range(n)])
    return all(
        abs(a - b) <= 1e-3 * abs(s) and abs(s - t) <= 1e-3 * abs(s) for a, b, s, t in zip(*means, *stds, strict=True)
    )
