"""Images with an even background, as drawings have: the values under a max pooling are all the same there."""

from __future__ import annotations

import torch
from torch import nn

from core.evaluation.imported.slopes import slopes


def test_max_pooling_over_an_even_background_is_no_doubt() -> None:
    """A maximum of equal values has no slope, which says nothing against the gradients elsewhere."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 8 * 8, 10)).eval()
    x = torch.zeros(4, 1, 20, 20)
    x[:, :, 8:12, 8:12] = 1
    found = slopes(body.requires_grad_(False), x)
    assert (found.name, found.verdict) == ("gradients", "fine")
