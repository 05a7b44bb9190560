"""A recipe is how a batch's loss is made; everything else of training is the same loop."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from core.specs import Recipe


class BatchLoss(Protocol):
    """`batch_loss(model, x, y) -> (loss, logits)`: the scalar to descend, and the logits of the clean images."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of x (N, C, H, W) in [0, 1] with labels y (N,)."""


def batch_loss(recipe: Recipe) -> BatchLoss:
    """The loss that a recipe asks for."""
    return {"standard": _standard}[recipe.name]


def _standard(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(x).float()
    return F.cross_entropy(logits, y), logits
