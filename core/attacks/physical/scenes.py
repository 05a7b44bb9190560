"""Scenes: random views of an object with a pattern on it (glasses, a sticker).

The object moves with its pattern, turns and changes size about its own middle; each printed pixel has a small error;
then the brightness changes for object and image together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from core.attacks.engine.geometry import per_image
from core.attacks.engine.streams import Streams


@dataclass(frozen=True)
class Scene:
    """How much may vary; each number is drawn uniformly and independently for each image and each draw.

    Attributes:
        shift: pixels, down and right, from -shift to shift; also parts of pixels.
        angle: degrees, from -angle to angle.
        scale: the object's size times 1 - scale to 1 + scale.
        brightness: the whole image times 1 - brightness to 1 + brightness.
        noise: each pixel of the pattern plus -noise to noise.
    """

    shift: float = 0.0
    angle: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for a range that makes no sense, by its name."""
        limits = {"shift": math.inf, "angle": 180.0, "scale": 0.9, "brightness": 1.0, "noise": 1.0}
        for name, largest in limits.items():
            value = getattr(self, name)
            if not (0 <= value <= largest and value < math.inf):
                span = "a finite number of 0 or more" if largest == math.inf else f"a number from 0 to {largest:g}"
                raise ValueError(f"{name}: expected {span}, got {value}")

    @property
    def moves(self) -> bool:
        """Whether the object moves at all."""
        return bool(self.shift or self.angle or self.scale)

    def seen(
        self,
        pattern: Float[Tensor, "n c h w"],
        mask: Bool[Tensor, "m h w"],
        x: Float[Tensor, "n c h w"],
        streams: Streams,
    ) -> Float[Tensor, "n c h w"]:
        """One draw per image: `pattern` on the object `mask`, (1, H, W) or (C, H, W), before the image `x`.

        Differentiable in `pattern`. With nothing that varies: `pattern` inside the mask, `x` outside, to the last bit.
        """
        if self.noise:
            pattern = pattern + self.noise * streams.fork(1).uniform(-1, 1, tuple(pattern.shape[1:]), pattern.dtype)
            pattern = pattern.clamp(0, 1)
        if self.moves:
            cover = mask.to(x.dtype).expand_as(x)
            layers = torch.cat([pattern * cover, cover[:, : len(mask)]], 1)
            grid = F.affine_grid(self._poses(mask, len(x), streams.fork(2), x.dtype), list(layers.shape), False)
            layers = F.grid_sample(layers, grid, align_corners=False)
            image = layers[:, : x.shape[1]] + (1 - layers[:, x.shape[1] :]) * x
        else:
            image = torch.where(mask, pattern, x)
        if self.brightness:
            light = 1 + self.brightness * streams.fork(3).uniform(-1, 1, (), x.dtype)
            image = image * per_image(light, image)
        return image.clamp(0, 1)

    def _poses(self, mask: Tensor, count: int, streams: Streams, dtype: torch.dtype) -> Tensor:
        """Where each pixel of the scene comes from on the object: (n, 2, 3), in the coordinates of `affine_grid`."""
        height, width = mask.shape[1:]
        drawn = streams.uniform(-1, 1, (4,), dtype)
        turn = drawn[:, 2] * (self.angle * math.pi / 180)
        size = 1 + self.scale * drawn[:, 3]
        back = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], 1).view(count, 2, 2) / size[:, None, None]
        place = mask.any(0).nonzero().to(dtype).mean(0) + 0.5
        half = torch.tensor([width / 2, height / 2], dtype=dtype, device=mask.device)
        middle = place.flip(0) - half  # (right, down), in pixels from the image's middle
        moved = self.shift * drawn[:, :2]
        offset = middle - (back @ (middle + moved)[:, :, None])[:, :, 0]
        return torch.cat([back * (half / half[:, None]), (offset / half)[:, :, None]], 2)
