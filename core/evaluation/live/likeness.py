"""Which class an image looks like, by pixels alone: the nearest mean of a class, and the nearest training image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.data.sets import Split, to_float

_ROWS = 10_000
"""Training images compared at once."""


@dataclass(frozen=True)
class Likeness:
    """What an image looks like.

    Attributes:
        centroid: the class whose mean image is nearest in ℓ2.
        to_centroids: (K,) float64, the distance to the mean of each class.
        neighbour: (C, H, W) float32 in [0, 1], the nearest training image in ℓ2.
        neighbour_class: its class.
        neighbour_index: its index in the training part.
        to_neighbour: the distance to it.
    """

    centroid: int
    to_centroids: np.ndarray
    neighbour: np.ndarray
    neighbour_class: int
    neighbour_index: int
    to_neighbour: float


def centroids(train: Split, classes: int) -> Float[Tensor, "k d"]:
    """The mean image of each class, flat, with values in [0, 1]."""
    flat = train.x.flatten(1)
    return torch.stack([to_float(flat[train.y == k]).mean(0) for k in range(classes)])


def alike(train: Split, means: Float[Tensor, "k d"], x: Float[Tensor, "n c h w"]) -> list[Likeness]:
    """Compare images with the training images of a data set.

    Args:
        train: the training part, N images of at least one.
        means: what `centroids` returned for it.
        x: the images, in [0, 1].

    Returns:
        A `Likeness` for each image.
    """
    points = x.float().flatten(1)
    best = torch.full((len(points),), torch.inf)
    place = torch.zeros(len(points), dtype=torch.int64)
    for start in range(0, len(train), _ROWS):
        others = to_float(train.x[start : start + _ROWS]).flatten(1)
        # |a - b|² = |a|² - 2ab + |b|²: one product instead of a difference for each pair
        near, where = ((others * others).sum(1)[None] - 2 * points @ others.T).min(1)
        closer = near < best
        best, place = torch.where(closer, near, best), torch.where(closer, where + start, place)
    to_means = torch.cdist(points.double(), means.double()).numpy()
    found = []
    for k, row in enumerate(place.tolist()):
        apart = to_float(train.x[row]).flatten().double() - points[k].double()
        found.append(
            Likeness(
                int(to_means[k].argmin()),
                to_means[k],
                to_float(train.x[row]).numpy(),
                int(train.y[row]),
                int(train.index[row]),
                float(apart.norm()),
            )
        )
    return found
