"""A model whose first layer is linear, taken apart: a changed feature is a rank-one update of that layer's output."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.masks import Masked
from core.networks.altered import altered
from core.networks.layers import Centre, ScalarScore, unrolled

PROBES = 8
"""Changed images on which the model taken apart must agree with the model itself."""
TOLERANCE = 1000
"""Rounding units, in units of the logits, by which the two may differ."""
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

        Known are sequences that begin with layers of `AFFINE`, the last of them dense, also inside a scalar network; no
        module may have hooks or replaced methods. What comes out is compared with the model on images near `x`, and is
        None where they differ by more than rounding.
        """
        if any(altered(part) for part in model.modules()):
            return None
        model = model.model if type(model) is Masked else model  # a mask changes no logit
        scalar = model if type(model) is ScalarScore else None
        body: nn.Module = model if scalar is None else scalar.body
        layers = list(unrolled(body))
        affine = next((k for k, layer in enumerate(layers) if type(layer) not in AFFINE), len(layers))
        dense = [k for k, layer in enumerate(layers[:affine]) if type(layer) is nn.Linear]
        flat = [(layer.start_dim, layer.end_dim) for layer in layers[:affine] if type(layer) is nn.Flatten]
        if not dense or not any(type(layer) is nn.Flatten for layer in layers[: dense[-1]]) or set(flat) != {(1, -1)}:
            return None
        head, rest = nn.Sequential(*layers[: dense[-1] + 1]), nn.Sequential(*layers[dense[-1] + 1 :])

        def tail(z: Tensor) -> Tensor:
            out: Tensor = rest(z)
            if scalar is None:
                return out
            above = out[:, 0] - scalar.threshold
            return torch.stack((torch.zeros_like(above), above), dim=1)

        made = cls(head, tail, _columns(head, x))
        return made if made._agrees(model, x) else None

    @torch.no_grad()
    def _agrees(self, model: nn.Module, x: Float[Tensor, "c h w"]) -> bool:
        """Whether two changed features give the model's own logits, on `PROBES` images."""
        draw = torch.Generator().manual_seed(0)
        feature = torch.stack([torch.randperm(x.numel(), generator=draw)[:2] for _ in range(PROBES)]).to(x.device)
        value = torch.rand(feature.shape, generator=draw, dtype=x.dtype).to(x.device)
        flat = x.flatten()
        images = flat.repeat(PROBES, 1).scatter_(1, feature, value).view(-1, *x.shape)
        logits = model(torch.cat([x[None], images]))
        start = self.head(x[None])[0]
        found = torch.cat([self.tail(start[None]), self.changed(start, feature, value - flat[feature])])
        slack = TOLERANCE * torch.finfo(x.dtype).eps * (1 + logits.nan_to_num(0, 0, 0).abs().max())
        # where this gives NaN, the enumeration queries the model itself
        return bool((((found - logits).abs() <= slack) | (found == logits) | found.isnan()).all())

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
