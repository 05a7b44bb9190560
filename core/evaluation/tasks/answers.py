"""What a model answers to images, as tables hold it; and the second look that every verdict rests on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.engine.losses import margin, predicted
from core.data.sets import Dataset
from core.networks.catalogue import logits_of
from core.networks.layers import ScalarScore
from core.specs.methods.base import NORMS

ANY = -1
"""Stands for "any wrong class" in the `target` column of a table."""
DISTANCES: tuple[str, ...] = (*NORMS, "pixels")
"""The distances of a table: in every norm, and the number of changed pixels."""


def probabilities(model: nn.Module, x: Float[Tensor, "n c h w"]) -> np.ndarray:
    """Softmax probabilities (N, K) of images in [0, 1]."""
    return F.softmax(logits_of(model, x), dim=1).cpu().numpy()


def classes_of(probabilities: np.ndarray) -> np.ndarray:
    """The class (N,) of each row of probabilities; -1 where a model gave NaN: it has no class there, not the first."""
    return np.where(np.isnan(probabilities).any(axis=1), -1, probabilities.argmax(axis=1))


def second_look(model: nn.Module, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Largest softmax probability and class of each image, by a forward pass in a batch layout that no attack uses.

    The images go in reversed order, in batches of another size: a verdict must not depend on how a batch was cut.
    """
    found = F.softmax(logits_of(model, x.flip(0), batch_size=384), dim=1).flip(0)
    return found.amax(dim=1), predicted(found)


def test_table(model: nn.Module, data: Dataset) -> dict:
    """Columns index, y, pred, confidence (largest softmax probability), margin and, for a scalar network, score."""
    logits = logits_of(model, data.test.x).cpu()
    y = data.test.y
    confidence, pred = F.softmax(logits, dim=1).amax(dim=1), predicted(logits)
    table = {"index": data.test.index, "y": y, "pred": pred, "confidence": confidence, "margin": margin(logits, y)}
    if isinstance(model, ScalarScore):
        table["score"] = logits[:, 1] + model.threshold.cpu()
    return {name: column.numpy() for name, column in table.items()}
