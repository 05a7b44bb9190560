"""Adam: one step as a function, and a state for a batch whose rows can be dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BETA1, BETA2 = 0.9, 0.999
"""Decay of the two running means."""
TINY = 1e-8
"""Added to the root of the second mean."""


def adam_move(
    mean: Tensor, square: Tensor, gradient: Tensor, number: int, rate: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's step `number` (from 0), to be subtracted from the point, and the two running means after it.

    In the order of the paper's operations, for images whose means are values; `Adam` does the same in place, in the
    order of torch.optim.Adam's. They differ by rounding only. Source: Kingma and Ba 2015, arXiv 1412.6980, algorithm 1.
    """
    mean = BETA1 * mean + (1 - BETA1) * gradient
    square = BETA2 * square + (1 - BETA2) * gradient.square()
    spread = (square / (1 - BETA2 ** (number + 1))).sqrt() + TINY
    return rate * (mean / (1 - BETA1 ** (number + 1))) / spread, mean, square


@dataclass
class Adam:
    """Adam over batched weights, whose rows can be dropped; element by element the same as torch.optim.Adam."""

    lr: float
    first: list[Tensor]
    second: list[Tensor]
    count: int = 0

    @classmethod
    def start(cls, weights: list[Tensor], lr: float) -> Adam:
        """A fresh state for these weights."""
        return cls(lr, [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights])

    def take(self, rows: Tensor) -> Adam:
        """The state of some of the rows."""
        return Adam(self.lr, [m[rows] for m in self.first], [v[rows] for v in self.second], self.count)

    def step(self, weights: list[Tensor], loss: Tensor) -> None:
        """One step down the gradient of each row's loss, in place; a gradient that is not finite counts as 0."""
        constant = not loss.requires_grad  # a constant model
        gradients = [None] * len(weights) if constant else torch.autograd.grad(loss.sum(), weights, allow_unused=True)
        self.count += 1
        with torch.no_grad():
            for weight, found, m, v in zip(weights, gradients, self.first, self.second, strict=True):
                gradient = torch.zeros_like(weight) if found is None else found.nan_to_num(0.0, 0.0, 0.0)
                m.lerp_(gradient, 1 - BETA1)
                v.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
                scale = (v.sqrt() / math.sqrt(1 - BETA2**self.count)).add_(TINY)
                weight.addcdiv_(m, scale, value=-self.lr / (1 - BETA1**self.count))
