"""Networks by name, and logits of many images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.checks import check_choice
from core.networks.layers import Centre, ScalarScore, Shape
from core.networks.portions import halved
from core.networks.table import device_of
from core.specs import NETWORKS
from core.specs.base import found_at

torch.backends.cudnn.allow_tf32 = False
"""Verdicts and proofs are in float32; cuDNN's own choice for convolutions has ten bits of mantissa."""


LARGEST = 1 << 24
"""Pixel values in one batch of `logits_of`, at most: 1000 images of 3×74×74."""


def build(network: str, shape: Shape, classes: int, *, scalar: bool = False) -> nn.Module:
    """A new network with PyTorch's default initial weights (drawn from the global generator: seed it first).

    Args:
        network: a name in `specs.NETWORKS`.
        shape: channels, height and width of its images; height and width of 8 or more.
        classes: number of classes K; 2 for a scalar network.
        scalar: one raw score N(x) instead of K logits; see `ScalarScore`.

    Returns:
        A module from (N, C, H, W) in [0, 1] to logits (N, K).

    Raises:
        ValueError: unknown name, a builder that cannot be imported, images too small, or a scalar network for other
            than two classes.
    """
    check_choice("network", network, NETWORKS)
    if scalar and classes != 2:
        raise ValueError(f"classes: a scalar network tells two classes apart, got {classes}")
    if min(shape[1:]) < 8:
        raise ValueError(f"shape: expected images of 8 by 8 pixels or more, got {shape[1]} by {shape[2]}")
    builder = found_at(NETWORKS[network].builder, "builder", network)
    body: nn.Module = builder(shape, 1 if scalar else classes)
    return ScalarScore(body) if scalar else body


def centre_of(model: nn.Module) -> Centre | None:
    """The model's normalising layer, if it has one."""
    return next((part for part in model.modules() if isinstance(part, Centre)), None)


def with_threshold(model: nn.Module, threshold: float) -> nn.Module:
    """Set the threshold τ of a scalar network in place and return it. Raises ValueError for another model, τ ≠ 0."""
    if isinstance(model, ScalarScore):
        model.threshold.fill_(threshold)
    elif threshold != 0:
        raise ValueError(f"threshold: only a scalar network has one, got {threshold}")
    return model


def logits_of(model: nn.Module, x: Tensor, batch_size: int = 1000) -> Float[Tensor, "n k"]:
    """Logits of many images, in batches, without gradients and in eval mode; the model's mode is put back.

    Batches have `batch_size` images, fewer where images are large. `x` is (N, C, H, W), float in [0, 1]
    or uint8 grey levels; batches go to the model's device, logits stay there.
    """
    device, training = device_of(model), model.training
    batch_size = max(1, min(batch_size, LARGEST // max(1, x[:1].numel())))
    model.eval()
    try:
        with torch.no_grad():
            parts = []
            for part in x.split(batch_size):
                images = part.to(device)
                if images.dtype == torch.uint8:
                    images = images.to(torch.float32).div_(255)
                parts.append(halved(model, images.contiguous(memory_format=torch.channels_last)))
            return torch.cat(parts)
    finally:
        model.train(training)
