"""An attack confined to some pixels: a mask is part of the model that is attacked.

`Masked` stops the gradient outside the mask, so an attack that follows gradients never moves there; one that draws or
proposes points passes each through `engine.confine`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Masked(nn.Module):
    """The same model for attacks that may change the pixels of `mask` only.

    Logits are the model's own to the last bit, and so is the gradient inside the mask; outside it is exactly 0.

    A masked model in another mask becomes one model, whose mask is where both let an attack change the image.

    Attributes:
        model: the model behind the mask.
        mask: (1, H, W) or (C, H, W) bool, true where an attack may change the image.
    """

    model: nn.Module
    mask: Bool[Tensor, "c h w"]

    def __init__(self, model: nn.Module, mask: Tensor) -> None:
        """Raises ValueError unless `mask` is a tensor (H, W), (1, H, W) or (C, H, W) of 0 and 1, not all 0."""
        super().__init__()
        mask = checked_mask(mask)
        if isinstance(model, Masked):
            inner = model.mask
            if mask.shape[1:] != inner.shape[1:] or (len(mask) != len(inner) and 1 not in (len(mask), len(inner))):
                raise ValueError(
                    f"mask: expected the size of the model's own, {tuple(inner.shape)}, got {tuple(mask.shape)}"
                )
            mask, model = checked_mask(mask.to(inner.device) & inner), model.model
        self.model = model
        self.scalar = bool(getattr(model, "scalar", False))
        # kept out of state_dict: the weights stay those of the model
        self.register_buffer("mask", mask, persistent=False)

    def score(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """N(x) of a scalar network."""
        score: Callable[[Tensor], Tensor] = getattr(self.model, "score")  # noqa: B009
        return score(self.held(x))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The model's logits."""
        logits: Tensor = self.model(self.held(x))
        return logits

    def held(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The same images, with no gradient outside the mask. Raises ValueError if the mask has another shape."""
        channels, height, width = x.shape[1:]
        if self.mask.shape[1:] != (height, width) or self.mask.shape[0] not in (1, channels):
            raise ValueError(
                f"mask: expected (1, {height}, {width}) or ({channels}, {height}, {width}), as the images, "
                f"got {tuple(self.mask.shape)}"
            )
        return torch.where(self.mask, x, x.detach())


def checked_mask(mask: Tensor) -> Bool[Tensor, "c h w"]:
    """The mask as (1, H, W) or (C, H, W) bool. Raises ValueError unless it holds 0 and 1 only, and some 1."""
    if mask.ndim not in (2, 3):
        raise ValueError(f"mask: expected a tensor (H, W), (1, H, W) or (C, H, W), got {tuple(mask.shape)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"mask: expected 0 and 1 only, got {mask.min().item():g} to {mask.max().item():g}")
    if not mask.any():
        raise ValueError("mask: expected at least one pixel to change, got none")
    return (mask if mask.ndim == 3 else mask[None]).bool()


def unmasked(model: nn.Module, x: Float[Tensor, "n c h w"]) -> tuple[nn.Module, Bool[Tensor, "m h w"]]:
    """The model behind its mask (a mask in a mask is one), and where it lets `x` change; everywhere without one."""
    if isinstance(model, Masked):
        return model.model, model.mask
    return model, torch.ones(1, *x.shape[2:], dtype=torch.bool, device=x.device)
