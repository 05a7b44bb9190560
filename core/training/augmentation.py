"""Random changes of training images that leave their class alone, by tensor operations on a whole batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SHIFT = 1 / 8
"""A crop lies within this share of the image's side (4 pixels of 32) of the image, which is surrounded by black."""
CUTOUT = 0.25
"""Side of the square that is cut out, as a share of the image's (8 of 32)."""


def augmented(x: Float[Tensor, "b c h w"], kind: str) -> Float[Tensor, "b c h w"]:
    """The batch, changed as `specs.TrainSpec.augment` says; drawn from torch's global generator.

    crop_flip: shifted by up to `SHIFT`, and mirrored with probability 1/2 (He et al. 2016). crop_flip_cutout:
    then a square around a random pixel becomes mid-grey (DeVries and Taylor 2017, arXiv 1708.04552).
    """
    if kind == "none":
        return x
    count, _, height, width = x.shape
    device = x.device
    room = max(1, round(SHIFT * min(height, width)))
    padded = torch.nn.functional.pad(x, (room,) * 4)
    down, right = (torch.randint(0, 2 * room + 1, (count, 1), device=device) for _ in range(2))
    rows = down + torch.arange(height, device=device)
    columns = right + torch.arange(width, device=device)
    columns = torch.where(torch.rand(count, 1, device=device) < 0.5, columns.flip(1), columns)
    moved = padded[torch.arange(count, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    moved = moved.permute(0, 3, 1, 2)  # indexing left (B, H, W, C), which is channels last
    if kind == "crop_flip_cutout":
        inside = _around(count, height, device)[:, :, None] & _around(count, width, device)[:, None, :]
        moved = torch.where(inside[:, None], 0.5, moved)
    return moved


def _around(count: int, side: int, device: torch.device) -> Tensor:
    """(count, side) bool: whether a coordinate is within half a square of a random one."""
    middle = torch.randint(0, side, (count, 1), device=device)
    reach = max(1, round(CUTOUT * side)) / 2
    place = torch.arange(side, device=device) - middle
    return (place >= -reach) & (place < reach)
