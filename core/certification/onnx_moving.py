"""ONNX operators that move, pad, join and pool values, as nodes."""

from __future__ import annotations

import torch

from core.certification.affine import Conv, Gather, Matrix, Padding, Reshape, Scale
from core.certification.nodes import Graph, Node, add_affine, add_maximum, count
from core.certification.onnx_values import Lowering, give, give_affine, one, refused
from core.networks.onnx_network import KNOWN
from core.networks.onnx_operators import Step, given
from core.networks.onnx_windows import averaging, window_of


def moved(made: Lowering, step: Step) -> None:
    """Any operator that only moves values: it is asked where each number goes."""
    name, *others = step.inputs
    if any(other in made.places for other in others):
        raise refused(step, "by constants")
    shape, at = made.shape(name), made.places[name]
    numbers = torch.arange(count(shape), dtype=torch.float64).reshape(1, *shape)
    given_to = KNOWN[step.op](step, numbers, *(made.values[other].cpu() if other else None for other in others))
    for output, where in zip(
        step.outputs, given_to if isinstance(given_to, tuple | list) else (given_to,), strict=False
    ):
        index, new = where.flatten().long(), tuple(where.shape[1:])
        if len(where) != 1 or new != made.shape(output):
            raise refused(step, "that keeps the batch")
        if torch.equal(index, torch.arange(count(shape))):
            made.places[output] = add_affine(made.graph, at, Reshape(shape, new))
        elif len(index.unique()) == len(index):
            made.places[output] = add_affine(made.graph, at, Gather(index.to(made.graph.device), shape, new))
        else:
            raise refused(step, "that takes each value once at most")


def reshaped(made: Lowering, step: Step) -> None:
    """Operators that keep the order of all values."""
    made.places[step.outputs[0]] = add_affine(
        made.graph,
        made.places[step.inputs[0]],
        Reshape(made.shape(step.inputs[0]), made.shape(step.outputs[0])),
    )


def padded(made: Lowering, step: Step) -> None:
    """Pad by a constant."""
    name, *others = step.inputs
    if any(other in made.places for other in others):
        raise refused(step, "by constants")
    args = [made.values[name], *(made.values[other] if other else None for other in others)]
    pads = given(step, "pads", args, 1) or []
    axes = given(step, "axes", args, 3) or list(range(len(made.shape(name)) + 1))
    before, after = [0] * (len(made.shape(name)) + 1), [0] * (len(made.shape(name)) + 1)
    for at, axis in enumerate(axes):
        before[axis], after[axis] = pads[at], pads[at + len(axes)]
    if step.get("mode", "constant") != "constant" or min(pads, default=0) < 0 or before[0] or after[0]:
        raise refused(step, "by a constant around each image")
    filled = args[2] if len(args) > 2 else None
    value = step.get("value", 0.0) if filled is None else filled.item()
    give_affine(made, step, Padding(made.shape(name), tuple(before[1:]), tuple(after[1:]), float(value)))


def joined(made: Lowering, step: Step) -> None:
    """Concat: each part among zeros, and their sum."""
    graph, whole = made.graph, made.shape(step.outputs[0])
    axis = step.get("axis") % (len(whole) + 1) - 1
    if axis < 0:
        raise refused(step, "that keeps the batch")
    total, start, still = None, 0, torch.zeros(whole, dtype=graph.dtype, device=graph.device)
    for name in step.inputs:
        side = made.values[name].shape[axis + 1]
        if name in made.places:
            before, after = [0] * len(whole), [0] * len(whole)
            before[axis], after[axis] = start, whole[axis] - start - side
            part = add_affine(graph, made.places[name], Padding(made.shape(name), tuple(before), tuple(after)))
            total = part if total is None else graph.add(Node("add", whole, (total, part)))
        else:
            still.narrow(axis, start, side).copy_(made.constant(name)[0])
        start += side
    assert total is not None
    if still.any():
        total = add_affine(graph, total, Scale(one(made), still, whole))
    give(made, step, total)


def averaged(made: Lowering, step: Step) -> None:
    """AveragePool: a convolution with ones, and a factor for each place."""
    name, graph = step.inputs[0], made.graph
    shape = made.shape(name)
    if len(shape) != 3:
        raise refused(step, f"of values (C, H, W), got values of shape {shape}")
    ones, factors, before, after = averaging(step, shape[1:], one(made))
    strides, dilations, *_ = window_of(step, shape[1:], step.get("kernel_shape"))
    at = made.places[name]
    if any(before) or any(after):
        at = add_affine(graph, at, Padding(shape, (0, *before), (0, *after)))
    same = bool((factors == factors.flatten()[0]).all())
    weight = ones.expand(shape[0], *ones.shape[1:]).contiguous()
    weight = weight * factors.flatten()[0] if same else weight
    pairs = (strides[0], strides[1]), (0, 0), (dilations[0], dilations[1])
    at = add_affine(graph, at, Conv(weight, None, graph.nodes[at].shape, *pairs, shape[0]))
    if not same:
        at = add_affine(graph, at, Scale(factors[0], 0 * one(made), graph.nodes[at].shape))
    give(made, step, at)


def pooled(made: Lowering, step: Step) -> None:
    """MaxPool; padded only where no value is negative, as 0 is then never above the largest."""
    name, graph = step.inputs[0], made.graph
    shape = made.shape(name)
    if len(shape) != 3:
        raise refused(step, f"of values (C, H, W), got values of shape {shape}")
    kernel = list(step.get("kernel_shape") or shape[1:])  # GlobalMaxPool has none
    strides, dilations, before, after, past = window_of(step, shape[1:], kernel)
    if dilations != [1, 1]:
        raise refused(step, "without dilation")
    ends = [a + b for a, b in zip(after, past, strict=True)]
    at = made.places[name]
    if any(before) or any(ends):
        if not _never_negative(graph, at):
            raise refused(step, "without padding, except behind a Relu")
        if any(side >= width for side, width in zip((*before, *ends), kernel * 2, strict=True)):
            raise refused(step, "with padding smaller than its window")
        at = add_affine(graph, at, Padding(shape, (0, *before), (0, *ends)))  # 0 is never above the largest there
    give(made, step, add_maximum(graph, at, (kernel[0], kernel[1]), (strides[0], strides[1])))


def _never_negative(graph: Graph, at: int) -> bool:
    node = graph.nodes[at]
    if node.pool is not None:
        return _never_negative(graph, node.pool[0])
    if node.kind == "affine" and isinstance(node.affine, Gather | Reshape | Padding):
        return _never_negative(graph, node.parents[0])
    return node.kind == "relu"


def mean(made: Lowering, step: Step) -> None:
    """GlobalAveragePool, ReduceMean and ReduceSum over axes of an image."""
    name = step.inputs[0]
    shape, at = made.shape(name), made.places[name]
    dims = len(shape) + 1
    if step.op == "GlobalAveragePool":
        axes = list(range(2, dims))
    else:
        args = [made.values[name], *(made.values[other] if other else None for other in step.inputs[1:])]
        axes = [axis % dims for axis in given(step, "axes", args, 1) or ()]
    if not axes or 0 in axes:
        raise refused(step, "over axes of an image")
    terms = torch.Size([shape[axis - 1] for axis in axes]).numel()
    for axis in axes:
        side = shape[axis - 1]
        weight = torch.full((1, side), 1.0 if step.op == "ReduceSum" else 1 / side, dtype=made.graph.dtype)
        part = Matrix(weight.to(made.graph.device), made.graph.nodes[at].shape, axis - dims)
        part.terms = terms  # the network may sum over all axes at once
        at = add_affine(made.graph, at, part)
    at = add_affine(made.graph, at, Reshape(made.graph.nodes[at].shape, made.shape(step.outputs[0])))
    give(made, step, at)
