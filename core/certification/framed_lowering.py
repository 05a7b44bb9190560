"""What stands between images and a network made by others, as nodes; and networks of torchvision and timm by ONNX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.certification.affine import Dense, Gather, Matrix, Reshape, Scale, Shape
from core.certification.nodes import Graph, Unbounded, add_affine, count
from core.certification.onnx_lowering import lower_onnx
from core.networks.altered import altered
from core.networks.framed import Framed
from core.networks.onnx_export import exported
from core.networks.onnx_network import OnnxNetwork

EXTRA = 8
"""Units more for resizing, whose weights are themselves computed in float32."""
TRACED = ("torchvision.", "timm.")
"""Packages whose networks are exported and read back where their class has no rule."""


def lower_framed(module: Framed, graph: Graph, at: int, rule: Callable[[nn.Module, Graph, int], int] | None) -> int:
    """Append the whole; `rule` is the one of the body's class, if it has one."""
    framing = module.framing
    if framing.outputs in ("probabilities", "probability"):
        raise Unbounded(
            f"model: expected logits or a score, got a network that answers with {framing.outputs}: cut the softmax or "
            "sigmoid off its end"
        )
    at = _given(module, graph, at)
    at = rule(module.body, graph, at) if rule is not None else _traced(module.body, graph, at)
    flat = (count(graph.nodes[at].shape),)
    at = add_affine(graph, at, Reshape(graph.nodes[at].shape, flat))
    if framing.outputs == "score":
        if flat != (1,):
            raise Unbounded(f"model: expected one score per image, got {flat[0]} values")
        weight = torch.tensor([[0.0], [1.0]], dtype=graph.dtype, device=graph.device)
        at = add_affine(graph, at, Dense(weight, None, flat))
    order = module.order.to(graph.device)
    if not len(order):
        return at
    if len(order.unique()) != len(order):
        raise Unbounded(f"model: expected every output once in the class order, got {order.tolist()}")
    return add_affine(graph, at, Gather(order, graph.nodes[at].shape, (len(order),)))


def _given(module: Framed, graph: Graph, at: int) -> int:
    """What `Framed.given` does, step by step."""
    framing, shape = module.framing, graph.nodes[at].shape
    if len(shape) != 3:
        raise Unbounded(f"model: expected images (C, H, W), got values of shape {shape}")
    if framing.resize is not None:
        scale = framing.resize / min(shape[1:])
        sides = [max(1, round(side * scale)) for side in shape[1:]]
        if sides != list(shape[1:]):
            for axis, side in zip((-2, -1), sides, strict=True):
                matrix = _resizing(shape[axis], side).to(graph.device, graph.dtype)
                part = Matrix(matrix, graph.nodes[at].shape, axis)
                part.terms += EXTRA
                at = add_affine(graph, at, part)
    places = _places(graph.nodes[at].shape, framing.crop, framing.channels == "bgr")
    at = _moved(graph, at, places)
    if framing.mean != (0.0,) or framing.std != (1.0,):
        mean, std = module.mean.to(graph.dtype), module.std.to(graph.dtype)
        shape = graph.nodes[at].shape
        if np.broadcast_shapes(mean.shape, std.shape, shape) != tuple(shape):
            raise Unbounded(f"model: expected a mean and a divisor for each of {shape[0]} channels, got {framing.mean}")
        at = add_affine(graph, at, Scale(1 / std, -mean / std, shape))
    if framing.layout == "nhwc":
        shape = graph.nodes[at].shape
        at = _moved(graph, at, torch.arange(count(shape)).reshape(shape).permute(1, 2, 0))
    if framing.shape is not None:
        at = add_affine(graph, at, Reshape(graph.nodes[at].shape, tuple(framing.shape)))
    return at


def _resizing(side: int, wanted: int) -> Tensor:
    """(wanted, side): bilinear and antialiased, along one axis."""
    one = torch.eye(side, dtype=torch.float64)[None, None]
    return F.interpolate(one, size=[wanted, side], mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _places(shape: Shape, crop: int | None, reverse: bool) -> Tensor:
    numbers = torch.arange(count(shape)).reshape(shape)
    if crop is not None:
        top, left = (shape[1] - crop) // 2, (shape[2] - crop) // 2
        numbers = numbers[:, top : top + crop, left : left + crop]
    return numbers.flip(0) if reverse else numbers


def _moved(graph: Graph, at: int, places: Tensor) -> int:
    shape, index = graph.nodes[at].shape, places.flatten()
    if tuple(places.shape) == shape and torch.equal(index, torch.arange(count(shape))):
        return at
    return add_affine(graph, at, Gather(index.to(graph.device), shape, tuple(places.shape)))


def _traced(body: nn.Module, graph: Graph, at: int) -> int:
    """A network of a package that is known to compute the same for every image: exported to ONNX, and compared."""
    parts = [type(part) for part in body.modules()]
    foreign = [kind for kind in parts if not kind.__module__.startswith((*TRACED, "torch.nn."))]
    changed = next((word for word in map(altered, body.modules()) if word), "")
    if foreign or changed or not type(body).__module__.startswith(TRACED):
        name = foreign[0].__name__ if foreign else type(body).__name__
        raise Unbounded(f"model: expected layers that have a rule, got {name}{' with ' + changed if changed else ''}")
    try:
        network = OnnxNetwork(exported(body, graph.nodes[at].shape), cut=False, compare=False)
    except ValueError as error:
        raise Unbounded(
            f"model: expected a network that ONNX can express, got {type(body).__name__}: {error}"
        ) from None
    return lower_onnx(network.to(graph.device), graph, at)
