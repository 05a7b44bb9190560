"""One Adam state for a batch whose rows can be dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Adam:
    """Adam over batched weights, whose rows can be dropped; element by element the same as torch.optim.Adam.

    Source: Kingma and Ba 2015, arXiv 1412.6980, algorithm 1.
    """

    lr: float
    first: list[Tensor]
    second: list[Tensor]
    count: int = 0
    betas: tuple[float, float] = field(default=(0.9, 0.999))

    @classmethod
    def start(cls, weights: list[Tensor], lr: float) -> Adam:
        """A fresh state for these weights."""
        return cls(lr, [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights])

    def take(self, rows: Tensor) -> Adam:
        """The state of some of the rows."""
        return Adam(self.lr, [m[rows] for m in self.first], [v[rows] for v in self.second], self.count, self.betas)

    def step(self, weights: list[Tensor], loss: Tensor) -> None:
        """One step down the gradient of each row's loss, in place; a gradient that is not finite counts as 0."""
        constant = not loss.requires_grad  # a constant model
        gradients = [None] * len(weights) if constant else torch.autograd.grad(loss.sum(), weights, allow_unused=True)
        self.count += 1
        one, two = self.betas
        with torch.no_grad():
            for weight, found, m, v in zip(weights, gradients, self.first, self.second, strict=True):
                gradient = torch.zeros_like(weight) if found is None else found.nan_to_num(0.0, 0.0, 0.0)
                m.lerp_(gradient, 1 - one)
                v.mul_(two).addcmul_(gradient, gradient, value=1 - two)
                scale = (v.sqrt() / math.sqrt(1 - two**self.count)).add_(1e-8)
                weight.addcdiv_(m, scale, value=-self.lr / (1 - one**self.count))
