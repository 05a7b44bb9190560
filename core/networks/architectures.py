"""Architectures by name, ours and others': `lenet`, `torchvision:resnet18`, `timm:resnet18`; and weights into them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from core.networks.layers import Shape


def build(name: str, shape: Shape, outputs: int) -> nn.Module:
    """A network of this architecture for images of this shape. Raises ValueError on an unknown name."""
    raise NotImplementedError


def fill(model: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Put weights into it. Raises ValueError saying which keys and shapes do not fit, and the nearest architecture."""
    raise NotImplementedError


def outputs_of(name: str, weights: Mapping[str, Tensor], classes: int) -> int:
    """How many outputs weights are for."""
    raise NotImplementedError


def takes(name: str, shape: Shape, *, resize: int | None, crop: int | None) -> Shape:
    """The shape of the images that the architecture is given."""
    raise NotImplementedError
