"""A model that counts: images through it forwards and backwards, whoever attacks it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class Counting(nn.Module):
    """The model with two counters; a backward pass is counted where a gradient comes back to the logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forwards, self.backwards = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        self.forwards += len(x)
        logits = cast(Tensor, self.model(x))
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def reset(self) -> None:
        """Start again at 0."""
        self.forwards, self.backwards = 0, 0
