"""Interval bounds: between what values every layer stays while the image moves inside an linf ball and the box.

Source: Gowal et al. 2018, arXiv 1810.12715 (IBP). A network is bounded layer by layer, so the bounds hold but are loose
where it was not trained for them. All arithmetic is in the images' dtype, rounded to nearest: good for training;
verdicts come from `proof`, which allows for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.networks import Centre, FullConv2d, ScalarScore
from core.networks.residual import PreActBlock

Bounds = tuple[Tensor, Tensor]


class Unbounded(ValueError):
    """The network has a layer that no rule is known for."""


def interval(module: nn.Module, low: Float[Tensor, "n ..."], high: Float[Tensor, "n ..."]) -> Bounds:
    """Bounds of the module's output for inputs between `low` and `high`.

    Layers in train mode are bounded as in eval mode (dropout off, running statistics).

    Returns:
        Lower and upper bounds, in the shape of the output; differentiable.

    Raises:
        Unbounded: naming the type of the layer.
    """
    for kind, rule in RULES.items():
        if isinstance(module, kind):
            return rule(module, low, high)
    known = ", ".join(sorted(kind.__name__ for kind in RULES))
    raise Unbounded(f"model: expected layers of {known}, got {type(module).__name__}")


def ball(x: Float[Tensor, "n c h w"], eps: float | Float[Tensor, " n"]) -> Bounds:
    """Lowest and highest image of the linf ball, inside the box [0, 1]; eps one for all or one an image."""
    room = torch.as_tensor(eps, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
    return (x - room).clamp(min=0), (x + room).clamp(max=1)


def margin_bounds(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], eps: float | Float[Tensor, " n"]
) -> Float[Tensor, "n k"]:
    """Lower bounds of logit y minus logit k for every image of the ball and every class k; 0 for k = y.

    A last linear layer is joined with the difference of the logits, which is tighter than bounding each logit.

    Args:
        model: pixels to logits, made of layers that `interval` knows.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 classes.
        eps: radius in linf, one or (N,).

    Raises:
        Unbounded: a layer without a rule.
    """
    low, high = ball(x, eps)
    layers = list(model) if isinstance(model, nn.Sequential) else []
    if layers and isinstance(layers[-1], nn.Linear):
        low, high = interval(nn.Sequential(*layers[:-1]), low, high)
        middle, radius = (low + high) / 2, (high - low) / 2
        weight, bias = layers[-1].weight, layers[-1].bias
        apart = weight[y][:, None] - weight[None]
        shift = (bias[y][:, None] - bias[None]) if bias is not None else 0
        return torch.einsum("nkd,nd->nk", apart, middle) - torch.einsum("nkd,nd->nk", apart.abs(), radius) + shift
    low, high = interval(model, low, high)
    bound = low.gather(1, y[:, None]) - high
    return bound.scatter(1, y[:, None], 0.0)


# ---------------------------------------------------------------- one rule a layer


def _sequential(module: Any, low: Tensor, high: Tensor) -> Bounds:
    for part in module:
        low, high = interval(part, low, high)
    return low, high


def _affine(apply: Callable[..., Tensor]) -> Callable[..., Bounds]:
    """Middle and radius: W m + b, and |W| r."""

    def rule(module: Any, low: Tensor, high: Tensor) -> Bounds:
        middle = apply(module, (low + high) / 2, module.weight, module.bias)
        radius = apply(module, (high - low) / 2, module.weight.abs(), None)
        return middle - radius, middle + radius

    return rule


def _convolve(module: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if module.padding_mode != "zeros":
        raise Unbounded(f"model: expected convolutions padded with zeros, got {module.padding_mode!r}")
    return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)


def _norm(module: Any, low: Tensor, high: Tensor) -> Bounds:
    if module.running_var is None or module.weight is None:
        raise Unbounded("model: expected batch norm with running statistics and weights, got one without")
    scale = (module.weight / (module.running_var + module.eps).sqrt())[None, :, None, None]
    shift = module.bias[None, :, None, None] - module.running_mean[None, :, None, None] * scale
    middle, radius = (low + high) / 2 * scale + shift, (high - low) / 2 * scale.abs()
    return middle - radius, middle + radius


def _increasing(module: Any, low: Tensor, high: Tensor) -> Bounds:
    return module(low), module(high)


def _centre(module: Any, low: Tensor, high: Tensor) -> Bounds:
    ends = module(low), module(high)
    return torch.minimum(*ends), torch.maximum(*ends)  # its factor may be negative


def _same(module: Any, low: Tensor, high: Tensor) -> Bounds:
    return low, high


def _block(module: Any, low: Tensor, high: Tensor) -> Bounds:
    low_active, high_active = (F.relu(bound) for bound in _norm(module.norm1, low, high))
    aside = (low, high) if module.shortcut is None else interval(module.shortcut, low_active, high_active)
    inner = interval(module.conv1, low_active, high_active)
    low_inner, high_inner = (F.relu(bound) for bound in _norm(module.norm2, *inner))
    low_end, high_end = interval(module.conv2, low_inner, high_inner)
    return low_end + aside[0], high_end + aside[1]


def _score(module: Any, low: Tensor, high: Tensor) -> Bounds:
    below, above = (bound[:, 0] - module.threshold for bound in interval(module.body, low, high))
    none = torch.zeros_like(below)
    return torch.stack([none, below], 1), torch.stack([none, above], 1)


RULES: dict[type[nn.Module], Callable[..., Bounds]] = {
    nn.Sequential: _sequential,
    Centre: _centre,
    nn.Linear: _affine(lambda module, x, weight, bias: F.linear(x, weight, bias)),
    FullConv2d: _affine(_convolve),
    nn.Conv2d: _affine(_convolve),
    nn.BatchNorm2d: _norm,
    nn.ReLU: _increasing,
    nn.MaxPool2d: _increasing,
    nn.AvgPool2d: _increasing,
    nn.AdaptiveMaxPool2d: _increasing,
    nn.AdaptiveAvgPool2d: _increasing,
    nn.Flatten: _increasing,
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.Identity: _same,
    PreActBlock: _block,
    ScalarScore: _score,
}
"""How each kind of layer is bounded; the first kind that fits counts."""
