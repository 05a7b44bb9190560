"""The layer table: what each layer makes of one image, its parameters, what it sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.networks.layers import Shape
from core.networks.residual import PreActBlock


@dataclass(frozen=True)
class Layer:
    """A row of the layer table; `output_shape` is without the batch, `receptive_field` is a side in pixels."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    receptive_field: int | None


def layer_table(model: nn.Module, shape: Shape) -> list[Layer]:
    """One row a layer, in the order of the forward pass, found by running one blank image.

    The receptive field grows by (kernel − 1) × the product of the strides so far; from the first flattening or dense
    layer on it is the whole image (given as None when height and width differ). A residual block is one row, and so is
    a layer that looks at the whole map.
    """
    whole = shape[1] if shape[1] == shape[2] else None
    rows: list[Layer] = []
    field: int | None = 1
    stride, dense = 1, False

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        nonlocal field, stride, dense
        if isinstance(module, nn.Flatten | nn.Linear | nn.AdaptiveMaxPool2d | nn.AdaptiveAvgPool2d):
            dense = True
        inner = (module.conv1, module.conv2) if isinstance(module, PreActBlock) else (module,)
        for part in inner:
            if not dense and isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                assert field is not None
                field += (_side(part.kernel_size) - 1) * stride
                stride *= _side(part.stride)
        count = parameter_count(module)
        seen = whole if dense or (field is not None and field >= max(shape[1:])) else field
        rows.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), count, seen))

    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: note(name, module, output))
        for name, module in _rows(model)
    ]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, device=device_of(model)))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def _rows(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that get a row, with their names: residual blocks, and what has no parts."""
    for name, part in model.named_children():
        whole = isinstance(part, PreActBlock) or not any(True for _ in part.children())
        yield from [(prefix + name, part)] if whole else _rows(part, f"{prefix}{name}.")


def parameter_count(model: nn.Module) -> int:
    """Number of learnt parameters."""
    return sum(p.numel() for p in model.parameters())


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
