"""The small network that odd models are made from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Body(nn.Module):
    """A small network of colour images, whose weights come from a seed; its kinds do what people's models do."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.conv, self.dense = nn.Conv2d(3, 6, 3), nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return 4 * self.dense(F.relu(self.conv(x)).flatten(1))
