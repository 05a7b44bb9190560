"""A network as a graph of affine maps, ReLUs and sums, which bounds and exact verification are computed on.

Max-pooling becomes ReLUs as well, since max(a, b) = b + relu(a - b), so that every network here has one non-linearity.
Weights are converted to the requested dtype, and stay differentiable. Layers are taken as in eval mode.

A layer has a rule only if it is of exactly the class that the rule is for, without hooks or replaced methods: a
subclass may compute anything, unless it only changes how it is constructed. Parametrised weights (weight norm, spectral
norm, pruning) are refused: fold them in first. Wherever bounds give a verdict, graph and model are also compared on
images (`agreement`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from core.certification.affine import Conv, Dense, Reshape, Scale, Shape
from core.certification.framed_lowering import lower_framed
from core.certification.nodes import (
    Graph,
    Node,
    Unbounded,
    add_affine,
    add_average,
    add_maximum,
    add_relu,
    add_sigmoid,
    add_tanh,
    count,
    image_at,
)
from core.certification.onnx_lowering import lower_onnx
from core.networks.altered import altered
from core.networks.framed import Framed
from core.networks.layers import Centre, FullConv2d, ScalarScore
from core.networks.onnx_network import OnnxNetwork
from core.networks.residual import PreActBlock


def lower(model: nn.Module, shape: Shape, dtype: torch.dtype | None = None) -> Graph:
    """The graph of a model.

    Args:
        model: pixels to logits.
        shape: (C, H, W) of its images.
        dtype: of the graph's weights; that of the model's parameters by default.

    Raises:
        Unbounded: a layer without a rule, or one that was altered; the message lists the layers that have rules.
    """
    first = next(model.parameters(), torch.empty(0))
    graph = Graph(dtype or first.dtype, first.device)
    _lower(model, graph, graph.add(Node("input", shape)))
    return graph


# ---------------------------------------------------------------- one rule a layer


def _lower(module: nn.Module, graph: Graph, at: int) -> int:
    """Append a module that reads node `at`; returns the place of its output."""
    kind, changed = _kind(type(module)), altered(module)
    if kind is None:
        raise Unbounded(f"model: expected layers of {_known()}, got {_described(module)}")
    if changed or kind.forward is not FORWARDS[kind]:
        changed = changed or "a forward that was replaced"
        raise Unbounded(f"model: expected layers of {_known()}, got one {kind.__name__} with {changed}")
    return RULES[kind](module, graph, at)


def _kind(cls: type[nn.Module]) -> type[nn.Module] | None:
    """The class whose rule holds for a layer of this class; None where the class may compute something else."""
    for base in cls.__mro__:
        if base in RULES:
            return base
        if not vars(base).keys() <= MAKING:
            return None
    return None


def _known() -> str:
    return ", ".join(sorted(kind.__name__ for kind in RULES))


def _described(module: nn.Module) -> str:
    """The class of a layer without a rule and, where it derives from one with a rule, how it differs."""
    name = type(module).__name__
    base = next((kind for kind in type(module).__mro__ if kind in RULES), None)
    if base is None:
        return name
    if parametrize.is_parametrized(module):
        return f"{name}, a {base.__name__} with a parametrised weight (see torch.nn.utils.parametrize)"
    own = any(getattr(type(module), name) is not getattr(base, name) for name in ("forward", "__call__"))
    return f"{name}, a {base.__name__} with a forward of its own" if own else f"{name}, a subclass of {base.__name__}"


def _to(graph: Graph, value: Tensor | None) -> Tensor | None:
    return None if value is None else value.to(graph.dtype)


def _relu(module: Any, graph: Graph, at: int) -> int:
    return add_relu(graph, at)


def _tanh(module: Any, graph: Graph, at: int) -> int:
    return add_tanh(graph, at)


def _sigmoid(module: Any, graph: Graph, at: int) -> int:
    return add_sigmoid(graph, at)


def _sequential(module: Any, graph: Graph, at: int) -> int:
    for part in module:
        at = _lower(part, graph, at)
    return at


def _same(module: Any, graph: Graph, at: int) -> int:
    return at


def _centre(module: Any, graph: Graph, at: int) -> int:
    factor = torch.ones_like(module.factor) if module.per_pixel else module.factor
    factor, mean = factor.to(graph.dtype), module.mean.to(graph.dtype)
    shape = image_at(graph, at, "centring")
    if np.broadcast_shapes(mean.shape, factor.shape, shape) != tuple(shape):
        raise Unbounded(f"model: expected a mean image that fits {shape}, got shape {tuple(mean.shape)}")
    return add_affine(graph, at, Scale(factor, -mean * factor, graph.nodes[at].shape))


def _norm(module: Any, graph: Graph, at: int) -> int:
    image_at(graph, at, "batch norm")
    if any(value is None for value in (module.running_mean, module.running_var, module.weight, module.bias)):
        raise Unbounded("model: expected batch norm with running statistics and weights, got one without")
    variance, mean = module.running_var.to(graph.dtype), module.running_mean.to(graph.dtype)
    factor = module.weight.to(graph.dtype) / (variance + module.eps).sqrt()
    bias = module.bias.to(graph.dtype)
    size = bias.abs() + (mean * factor).abs()
    parts = (value[:, None, None] for value in (factor, bias - mean * factor, size))
    factor, shift, size = parts
    return add_affine(graph, at, Scale(factor, shift, graph.nodes[at].shape, shift_size=size))


def _linear(module: Any, graph: Graph, at: int) -> int:
    shape = graph.nodes[at].shape
    if len(shape) != 1:
        raise Unbounded(f"model: expected linear layers of flat values, got one of shape {shape}")
    return add_affine(graph, at, Dense(module.weight.to(graph.dtype), _to(graph, module.bias), shape))


def _conv(module: Any, graph: Graph, at: int) -> int:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        mode = module.padding if isinstance(module.padding, str) else module.padding_mode
        raise Unbounded(f"model: expected convolutions padded with zeros, got {mode!r}")
    shape = image_at(graph, at, "convolutions")
    weight, bias = module.weight.to(graph.dtype), _to(graph, module.bias)
    whole = module.padding == (0, 0) and module.dilation == (1, 1) and module.groups == 1
    if whole and tuple(shape[1:]) == tuple(module.kernel_size):  # one place only: a dense layer
        return add_affine(graph, at, Dense(weight.flatten(1), bias, shape, (len(weight), 1, 1)))
    return add_affine(
        graph, at, Conv(weight, bias, shape, module.stride, module.padding, module.dilation, module.groups)
    )


def _flatten(module: Any, graph: Graph, at: int) -> int:
    if module.start_dim != 1 or module.end_dim != -1:
        raise Unbounded("model: expected flattening from dimension 1 to the last, got another")
    return add_affine(graph, at, Reshape(graph.nodes[at].shape, (count(graph.nodes[at].shape),)))


def _average(module: Any, graph: Graph, at: int) -> int:
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override is not None:
        raise Unbounded("model: expected average pooling without padding, ceil_mode or divisor, got one with")
    return add_average(graph, at, kernel, stride)


def _adaptive_average(module: Any, graph: Graph, at: int) -> int:
    kernel = _adaptive(module, image_at(graph, at, "adaptive pooling"))
    return add_average(graph, at, kernel, kernel)


def _largest(module: Any, graph: Graph, at: int) -> int:
    if _pair(module.padding) != (0, 0) or _pair(module.dilation) != (1, 1) or module.ceil_mode:
        raise Unbounded("model: expected max-pooling without padding, dilation or ceil_mode, got one with")
    _values_only(module)
    return add_maximum(graph, at, _pair(module.kernel_size), _pair(module.stride))


def _values_only(module: Any) -> None:
    if module.return_indices:
        raise Unbounded("model: expected max-pooling that returns values, got one with return_indices")


def _adaptive_largest(module: Any, graph: Graph, at: int) -> int:
    _values_only(module)
    kernel = _adaptive(module, image_at(graph, at, "adaptive pooling"))
    return add_maximum(graph, at, kernel, kernel)


def _block(module: Any, graph: Graph, at: int) -> int:
    active = add_relu(graph, _lower(module.norm1, graph, at))
    aside = at if module.shortcut is None else _lower(module.shortcut, graph, active)
    inner = add_relu(graph, _lower(module.norm2, graph, _lower(module.conv1, graph, active)))
    end = _lower(module.conv2, graph, inner)
    if graph.nodes[end].shape != graph.nodes[aside].shape:
        shapes = f"{graph.nodes[end].shape} and {graph.nodes[aside].shape}"
        raise Unbounded(f"model: expected a block whose two branches have one shape, got {shapes}")
    return graph.add(Node("add", graph.nodes[end].shape, (end, aside)))


def _score(module: Any, graph: Graph, at: int) -> int:
    at = _lower(module.body, graph, at)
    if graph.nodes[at].shape != (1,):
        raise Unbounded(f"model: expected one score per image, got values of shape {graph.nodes[at].shape}")
    weight = torch.tensor([[0.0], [1.0]], dtype=graph.dtype, device=graph.device)
    threshold = module.threshold.to(graph.dtype)
    return add_affine(graph, at, Dense(weight, torch.stack([torch.zeros_like(threshold), -threshold]), (1,)))


def _framed(module: Any, graph: Graph, at: int) -> int:
    kind, changed = _kind(type(module.body)), altered(module.body)
    return lower_framed(module, graph, at, _lower if kind is not None or changed else None)


def _onnx(module: Any, graph: Graph, at: int) -> int:
    return lower_onnx(module, graph, at)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _adaptive(module: Any, shape: Shape) -> tuple[int, int]:
    """The window of an adaptive pooling."""
    sides = _pair(module.output_size) if module.output_size is not None else (None, None)
    wanted = tuple(have if want is None else want for have, want in zip(shape[1:], sides, strict=True))
    if any(have % want for have, want in zip(shape[1:], wanted, strict=True)):
        raise Unbounded(f"model: expected adaptive pooling to a divisor of {shape[1:]}, got {wanted}")
    return shape[1] // wanted[0], shape[2] // wanted[1]


RULES: dict[type[nn.Module], Callable[[Any, Graph, int], int]] = {
    nn.Sequential: _sequential,
    Centre: _centre,
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    FullConv2d: _conv,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _relu,
    nn.Tanh: _tanh,
    nn.Sigmoid: _sigmoid,
    nn.MaxPool2d: _largest,
    nn.AvgPool2d: _average,
    nn.AdaptiveMaxPool2d: _adaptive_largest,
    nn.AdaptiveAvgPool2d: _adaptive_average,
    nn.Flatten: _flatten,
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.Identity: _same,
    PreActBlock: _block,
    ScalarScore: _score,
    Framed: _framed,
    OnnxNetwork: _onnx,
}
"""How each kind of layer becomes nodes. A layer must be of exactly this class."""
MAKING = frozenset(
    (
        *("__init__", "reset_parameters", "extra_repr", "__doc__", "__module__", "__qualname__", "__annotations__"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__"),
    )
)
"""What a subclass may define and still compute what its base class does."""
FORWARDS = {kind: kind.forward for kind in RULES}
"""The `forward` that each rule describes: one that was replaced later is refused."""
