"""A model whose first layer is linear, taken apart: a changed feature is a rank-one update of that layer's output."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.masks import Masked
from core.networks import Centre, ScalarScore, unrolled

AFFINE = (Centre, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Linear)
"""Layers that are affine in eval mode; a subclass may do anything, so it is none of them."""


@dataclass(frozen=True)
class FirstLayer:
    """A model as `tail(head(x))` with an affine `head`, so that head(x + δ e_j) = head(x) + δ column_j.

    Attributes:
        head: images (n, C, H, W) to (n, M).
        tail: (n, M) to logits (n, K).
        columns: (features, M), what one unit of each feature adds, in the images' dtype.
    """

    head: nn.Module
    tail: Callable[[Tensor], Tensor]
    columns: Tensor

    @classmethod
    def of(cls, model: nn.Module, x: Float[Tensor, "c h w"]) -> FirstLayer | None:
        """The model in eval mode taken apart, or None where its first layer is not known to be linear.

        Known are sequences that begin with layers of `AFFINE`, the last of them dense, also inside a scalar network.
        """
        model = model.model if type(model) is Masked else model  # a mask changes no logit
        scalar = model if type(model) is ScalarScore else None
        body: nn.Module = model if scalar is None else scalar.body
        layers = list(unrolled(body))
        affine = next((k for k, layer in enumerate(layers) if type(layer) not in AFFINE), len(layers))
        dense = [k for k, layer in enumerate(layers[:affine]) if type(layer) is nn.Linear]
        if not dense or not any(type(layer) is nn.Flatten for layer in layers[: dense[-1]]):
            return None
        head, rest = nn.Sequential(*layers[: dense[-1] + 1]), nn.Sequential(*layers[dense[-1] + 1 :])

        def tail(z: Tensor) -> Tensor:
            out: Tensor = rest(z)
            if scalar is None:
                return out
            above = out[:, 0] - scalar.threshold
            return torch.stack((torch.zeros_like(above), above), dim=1)

        return cls(head, tail, _columns(head, x))

    @torch.no_grad()
    def changed(
        self, start: Float[Tensor, " m"], feature: Int[Tensor, "n s"], by: Float[Tensor, "n s"]
    ) -> Float[Tensor, "n k"]:
        """Logits of the image behind `start` = head(x)[0] with s features changed by so much, n ways at once."""
        z = start
        for slot in range(feature.shape[1]):
            z = torch.addcmul(z, by[:, slot, None], self.columns[feature[:, slot]])
        return self.tail(z)


@torch.no_grad()
def _columns(head: nn.Module, x: Tensor) -> Tensor:
    """The head's columns, computed in float64 by passing every unit image through it."""
    exact = copy.deepcopy(head).double().eval()
    origin = exact(torch.zeros_like(x, dtype=torch.float64)[None])
    every = torch.arange(x.numel(), device=x.device)
    parts = []
    for some in every.split(512):
        unit = torch.zeros(len(some), x.numel(), dtype=torch.float64, device=x.device)
        unit[torch.arange(len(some), device=x.device), some] = 1
        parts.append((exact(unit.view(-1, *x.shape)) - origin).to(x.dtype))
    return torch.cat(parts)
