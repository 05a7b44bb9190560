"""Models that say nothing by their gradient at an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Deaf(nn.Module):
    """Two classes; each pixel counts for the second one by what it has beyond 0.4, the first half as much as the last.

    At a black image there is no slope at all; the last three pixels in white are enough.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        beyond = (x.flatten(1) - 0.4).clamp(min=0)
        heard = beyond @ torch.linspace(1, 2, beyond.shape[1], dtype=x.dtype)
        return torch.stack([torch.full_like(heard, 3), heard], 1)


class Lock(nn.Module):
    """Of 16 pixels two flip the class together, and only to white; no gradient leads there."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        key = (x.flatten(1)[:, [3, 12]] > 0.9).sum(1).to(x.dtype).detach()
        return torch.stack([torch.full_like(key, 1.5), key], 1)
