"""The linear model whose adversarial examples are tried on the one that is examined."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

RIDGE = 1.0
"""Its weight decay."""


def linear_fit(x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], classes: int) -> nn.Module:
    """A linear classifier of these very images, by ridge regression on centred pixels, in closed form."""
    pixels = x.flatten(1).double()
    mean = pixels.mean(0)
    centred, wanted = pixels - mean, torch.nn.functional.one_hot(y, classes).double()
    # through the n x n matrix: there are fewer images than pixels, or not many more
    few = centred[:1000]
    inner = few @ few.T + RIDGE * torch.eye(len(few), dtype=few.dtype, device=few.device)
    weight = few.T @ torch.linalg.solve(inner, wanted[:1000] - wanted[:1000].mean(0))
    layer = nn.Linear(pixels.shape[1], classes, device=x.device, dtype=x.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(wanted.mean(0) - mean @ weight)
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False)
