"""Passes forward and back through a plain sequence of layers whose weights stay as they are, on a CPU.

In a small network autograd and autocast take a good part of a step: the graph, the weights cast and laid out again,
activations copied to be flattened. Here weights are prepared once, and each layer says with its
output how a gradient comes back through it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from core.kernels.convolution import way_back
from core.networks.altered import altered
from core.networks.layers import Centre, FullConv2d, unrolled

Back = Callable[[Tensor], Tensor]
Step = Callable[[Tensor], tuple[Tensor, Back]]
"""A layer's input to its output, and the gradient with respect to this output to that with respect to the input."""


class Sequence:
    """A network of known layers (`PREPARED`), in eval mode, its weights as they are at the first batch."""

    def __init__(self, layers: list[nn.Module]) -> None:
        """Use `Sequence.of`."""
        self.layers = layers
        self.steps: list[Step] = []

    @classmethod
    def of(cls, model: nn.Module, device: str) -> Sequence | None:
        """The model's layers; None off the CPU, where one is not known, or where its calls are watched or compiled."""
        layers = list(unrolled(model))
        if device != "cpu" or any(_is_watched(part) for part in model.modules()):
            return None
        flat = next((k for k, layer in enumerate(layers) if type(layer) is nn.Flatten), len(layers))
        if any(type(layer) is nn.Linear for layer in layers[:flat]):  # it would read the last axis only
            return None
        return cls(layers) if all(_is_known(layer) for layer in layers) else None

    @torch.no_grad()
    def gradient(
        self, x: Float[Tensor, "b c h w"], slope: Callable[[Float[Tensor, "b k"]], Float[Tensor, "b k"]]
    ) -> Float[Tensor, "b c h w"]:
        """The gradient with respect to the images of a loss whose gradient with respect to the logits is `slope`.

        Within autocast layers compute in its type, as they do by themselves.
        """
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        backs, value = [], x
        with torch.autocast(kind, enabled=False):
            for k, layer in enumerate(self.layers):
                if k == len(self.steps):
                    self.steps.append(PREPARED[type(layer)](layer, value, dtype))
                value, back = self.steps[k](value)
                backs.append(back)
            gradient = slope(value.flatten(1))
            for back in reversed(backs):
                gradient = back(gradient)
        return gradient


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):  # the ordinary kind
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        return plain and not isinstance(layer.padding, str) and type(layer) in PREPARED
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in PREPARED


def _is_watched(module: nn.Module) -> bool:
    """Whether a call of the module does more than its class's forward: hooks, replaced methods, a compiled call."""
    more = ("_backward_hooks", "_backward_pre_hooks", "_compiled_call_impl")
    return bool(altered(module)) or any(getattr(module, name) for name in more)


# ---------------------------------------------------------------- layers: given one batch of their input


def _nothing(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Step:
    """Also for flattening: the dense layer after it takes its weights in the order of the images' memory instead."""
    return lambda x: (x, lambda gradient: gradient)


def _centre(layer: Centre, x: Tensor, dtype: torch.dtype) -> Step:
    if layer.per_pixel:
        return lambda x: (layer(x), lambda gradient: gradient)
    return lambda x: (layer(x), lambda gradient: gradient * layer.factor)


def _relu(layer: nn.ReLU, x: Tensor, dtype: torch.dtype) -> Step:
    def step(x: Tensor) -> tuple[Tensor, Back]:
        out = F.relu(x)
        return out, lambda gradient: torch.ops.aten.threshold_backward(gradient, out, 0)

    return step


def _pool(layer: nn.MaxPool2d, x: Tensor, dtype: torch.dtype) -> Step:
    how = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)

    def step(x: Tensor) -> tuple[Tensor, Back]:
        out, places = F.max_pool2d(x, *how, return_indices=True)
        return out, lambda gradient: torch.ops.aten.max_pool2d_with_indices_backward(gradient, x, *how, places)

    return step


def _dense(layer: nn.Linear | FullConv2d, x: Tensor, dtype: torch.dtype) -> Step:
    weight = layer.weight.flatten(1)
    if x.ndim == 4:
        weight = weight.unflatten(1, (x.shape[1], -1)).transpose(1, 2).flatten(1)
    weight, bias = weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)

    def step(x: Tensor) -> tuple[Tensor, Back]:
        if x.ndim == 2:
            return F.linear(x.to(dtype), weight, bias), lambda gradient: gradient @ weight
        last = x.permute(0, 2, 3, 1)
        out = F.linear(last.flatten(1).to(dtype), weight, bias)
        return out, lambda gradient: (gradient @ weight).view(last.shape).permute(0, 3, 1, 2)

    return step


def _full(layer: FullConv2d, x: Tensor, dtype: torch.dtype) -> Step:
    dense = _dense(layer, x, dtype)

    def step(x: Tensor) -> tuple[Tensor, Back]:
        out, back = dense(x)
        return out[:, :, None, None], lambda gradient: back(gradient.flatten(1))

    return step


def _convolution(layer: nn.Conv2d, x: Tensor, dtype: torch.dtype) -> Step:
    if type(layer) is FullConv2d and layer.padding == (0, 0) and tuple(x.shape[2:]) == layer.kernel_size:
        return _full(layer, x, dtype)
    weight, bias = layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
    stride, padding = layer.stride, layer.padding

    def step(x: Tensor) -> tuple[Tensor, Back]:
        def back(gradient: Tensor) -> Tensor:
            quick = way_back(gradient, weight, stride)
            if quick is not None:
                return quick(gradient, weight, x.shape[2:], stride, padding)
            return conv2d_input(x.shape, weight, gradient, stride, padding)

        return F.conv2d(x.to(dtype), weight, bias, stride, padding), back

    return step


PREPARED: dict[type[nn.Module], Callable[..., Step]] = {
    Centre: _centre,
    nn.Conv2d: _convolution,
    FullConv2d: _convolution,
    nn.Linear: _dense,
    nn.MaxPool2d: _pool,
    nn.ReLU: _relu,
    **dict.fromkeys((nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d), _nothing),
}
