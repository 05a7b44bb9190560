"""Somebody else's network behind what it needs: images in [0, 1] go in, one logit a class comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.networks.portions import in_portions
from core.specs.importing import Framing


class Framed(nn.Module):
    """`framing` applied around `body`; see `core.specs.importing.Framing` for the steps and their order.

    Attributes:
        body: the network, from what it takes to what it answers with.
        framing: what is done before and after it.
        most: images that go through the body at once, see `core.networks.portions`; None: any number. Larger batches go
            in portions, with the same logits.
    """

    mean: Tensor
    std: Tensor
    order: Tensor

    def __init__(self, body: nn.Module, framing: Framing, most: int | None = None) -> None:
        super().__init__()
        self.body, self.framing, self.most = body, framing, most
        self.register_buffer("mean", _per_channel(framing.mean))
        self.register_buffer("std", _per_channel(framing.std))
        self.register_buffer("order", torch.tensor(framing.classes or (), dtype=torch.int64))

    def given(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        """What the body is given for these images."""
        framing = self.framing
        if framing.resize is not None:
            height, width = x.shape[2:]
            scale = framing.resize / min(height, width)
            size = [max(1, round(height * scale)), max(1, round(width * scale))]
            if size != [height, width]:
                x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
        if framing.crop is not None:
            top, left = (x.shape[2] - framing.crop) // 2, (x.shape[3] - framing.crop) // 2
            x = x[:, :, top : top + framing.crop, left : left + framing.crop]
        if framing.channels == "bgr":
            x = x.flip(1)
        if framing.mean != (0.0,) or framing.std != (1.0,):
            x = (x - self.mean) / self.std
        if framing.layout == "nhwc":
            x = x.permute(0, 2, 3, 1)
        return x if framing.shape is None else x.reshape(len(x), *framing.shape)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits, in the order of the data set's classes."""
        return in_portions(self._at_once, x, self.most)

    def _at_once(self, x: Tensor) -> Tensor:
        return self.logits(self.body(self.given(x)))

    def logits(self, out: Any) -> Float[Tensor, "n k"]:
        """The logits that an answer of the body stands for."""
        return as_logits(out, self.framing.outputs, self.order if len(self.order) else None)

    def train(self, mode: bool = True) -> Self:
        """The network stays in eval mode: what is imported is judged, not trained."""
        return super().train(False)


def as_logits(out: Tensor, outputs: str, order: Tensor | Sequence[int] | None = None) -> Float[Tensor, "n k"]:
    """Logits from what a network answers with, see `core.specs.importing.Outputs`.

    Args:
        out: (N, K), or (N,) or (N, 1) for one score; dimensions of 1 after these are dropped.
        outputs: what it is.
        order: the place in `out` of each class; None: as they are.

    Probabilities become logarithms; 0 counts as the smallest normal number, so that logits stay finite. Where float32
    rounds a probability to 0 or 1, its gradient is lost: a network that ends in a softmax is better cut before it.
    """
    out = out.flatten(1) if out.ndim > 1 else out[:, None]
    if outputs in ("score", "probability"):
        if outputs == "probability":
            tiny = torch.finfo(out.dtype).tiny
            out = out.clamp_min(tiny).log() - (1 - out).clamp_min(tiny).log()
        out = torch.cat((torch.zeros_like(out), out), dim=1)
    elif outputs == "probabilities":
        out = out.clamp_min(torch.finfo(out.dtype).tiny).log()
    return out if order is None else out[:, order]


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]
