"""Layers of the project's own: normalisation from the data, a fast full convolution, the scalar score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, int, int]


def unrolled(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested sequences, in their order; anything else is one layer."""
    if type(module) is not nn.Sequential:
        yield module
        return
    for part in module:
        yield from unrolled(part)


class Centre(nn.Module):
    """Subtract a stored image and multiply by a stored factor; both are set from the training images, not learnt.

    A mean image (C, H, W) with factor 1 is MatConvNet's habit; a mean a channel (C, 1, 1) with 1/std the usual one.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, shape: Shape, per_pixel: bool = False) -> None:
        super().__init__()
        self.per_pixel = per_pixel
        self.register_buffer("mean", torch.zeros(shape if per_pixel else (shape[0], 1, 1)))
        self.register_buffer("factor", torch.ones(shape[0], 1, 1))

    def fit(self, x: Float[Tensor, "n c h w"]) -> None:
        """Take mean (and, if not per pixel, standard deviation) from images in [0, 1]."""
        if self.per_pixel:
            self.mean.copy_(x.mean(dim=0))
        else:
            self.mean.copy_(x.mean(dim=(0, 2, 3))[:, None, None])
            self.factor.copy_(1 / x.std(dim=(0, 2, 3)).clamp_min(1e-3)[:, None, None])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Centred images."""
        return (x - self.mean) * self.factor if not self.per_pixel else x - self.mean


class FullConv2d(nn.Conv2d):
    """A convolution that sees its whole input at once is a dense layer: computed as one, several times faster on a CPU.

    Parameters and result are those of `nn.Conv2d`; any other input size takes the ordinary path.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Convolve; the dense path flattens in the order that channels-last memory already has."""
        plain = self.padding == (0, 0) and self.dilation == (1, 1) and self.groups == 1
        if not plain or tuple(x.shape[2:]) != tuple(self.kernel_size):
            return super().forward(x)
        flat = x.permute(0, 2, 3, 1).flatten(1)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(flat, weight, self.bias)[:, :, None, None]


class ScalarScore(nn.Module):
    """A scalar network N with a threshold τ, seen as a two-class model: logits (0, N(x) − τ)."""

    scalar = True
    threshold: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("threshold", torch.zeros(()))

    def score(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The raw score N(x), without sigmoid and without the threshold."""
        return cast(Tensor, self.body(x))[:, 0]

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2"]:
        """Logits (0, N(x) − τ): class 1 is predicted where N(x) > τ."""
        above = self.score(x) - self.threshold
        return torch.stack((torch.zeros_like(above), above), dim=1)
