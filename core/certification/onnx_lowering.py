"""The graph of a network from an ONNX file: each of its steps as nodes.

Operators that only move values are followed by moving numbers of places. Values that depend on no image (weights, and
shapes) are constants. What is made here is compared with the network itself wherever a proof is made (`agreement`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from core.certification import onnx_moving
from core.certification.affine import Conv, Dense, Matrix, Padding, Reshape, Scale
from core.certification.nodes import (
    Graph,
    Node,
    Unbounded,
    add_affine,
    add_larger,
    add_relu,
    add_sigmoid,
    add_tanh,
)
from core.certification.onnx_values import Lowering, fitted, give, give_affine, one, refused
from core.networks.onnx_network import OnnxNetwork
from core.networks.onnx_operators import Step
from core.networks.onnx_windows import window_of


def lower_onnx(network: OnnxNetwork, graph: Graph, at: int) -> int:
    """Append the network, which reads node `at`; returns the place of its output.

    Raises:
        Unbounded: operators without a rule, all named; or one that is used in a way that has none.
    """
    free = _free(network)
    unknown = sorted({step.op for step in network.steps if step.op not in RULES and not free.issuperset(step.outputs)})
    if unknown:
        raise Unbounded(
            f"model: expected ONNX operators that have bounds, such as Gemm, Conv, Relu and MaxPool, got "
            f"{', '.join(unknown)}"
        )
    if graph.nodes[at].shape != network.takes:
        raise Unbounded(f"model: expected values of shape {network.takes}, got {graph.nodes[at].shape}")
    like = next(network.parameters(), torch.empty(0))
    with torch.no_grad():
        values = network.values(torch.zeros(1, *network.takes, dtype=like.dtype, device=like.device))
    made = Lowering(graph, values, {network.input: at})
    for step in network.steps:
        if free.issuperset(step.outputs):
            continue
        name = step.outputs[0]
        if values[name].shape[:1] != (1,):
            raise Unbounded(
                f"model: expected values with the batch first, got {tuple(values[name].shape)} of {step.op}"
            )
        RULES[step.op](made, step)
    at = made.places[network.output]
    return add_affine(graph, at, Reshape(graph.nodes[at].shape, (network.outputs,)))


def _free(network: OnnxNetwork) -> set[str]:
    """The values that no image changes: constants, shapes, and what is computed from them."""
    free = {"", *network.constants()}
    for step in network.steps:
        if step.op in ("Shape", "Size") or (free.issuperset(step.inputs) and step.op not in network.random):
            free.update(step.outputs)
    return free


# ---------------------------------------------------------------- products


def _gemm(made: Lowering, step: Step) -> None:
    a, b, *rest = step.inputs
    if b in made.places or (rest and rest[0] in made.places) or step.get("transA", 0) or len(made.shape(a)) != 1:
        raise refused(step, "of an image's values (N, K) with constants")
    weight = made.constant(b) * step.get("alpha", 1.0)
    weight = weight if step.get("transB", 0) else weight.T
    bias = None
    if rest and rest[0]:
        bias = (made.constant(rest[0]) * step.get("beta", 1.0)).expand(1, len(weight))[0]
    give_affine(made, step, Dense(weight.contiguous(), bias, made.shape(a)))


def _matmul(made: Lowering, step: Step) -> None:
    a, b = step.inputs
    first = a in made.places
    name, weight = (a, b) if first else (b, a)
    shape = made.shape(name)
    if weight in made.places or made.values[weight].ndim != 2 or len(shape) < (1 if first else 2):
        raise refused(step, "of an image's values with one constant matrix")
    matrix = made.constant(weight)
    if first and len(shape) == 1:
        return give_affine(made, step, Dense(matrix.T.contiguous(), None, shape))
    affine = Matrix(matrix.T.contiguous(), shape, -1) if first else Matrix(matrix, shape, -2)
    return give(made, step, add_affine(made.graph, made.places[name], affine))


def _conv(made: Lowering, step: Step) -> None:
    name, *others = step.inputs
    shape = made.shape(name)
    if any(other in made.places for other in others) or len(shape) not in (2, 3):
        raise refused(step, "in one or two dimensions with constant weights")
    weight = made.constant(others[0])
    bias = made.constant(others[1]) if len(others) > 1 and others[1] else None
    strides, dilations, before, after, _ = window_of(step, shape[1:], weight.shape[2:])
    at = made.places[name]
    if before != after:
        at = add_affine(made.graph, at, Padding(shape, (0, *before), (0, *after)))
        before = [0] * len(before)
    if len(shape) == 2:  # as images of one row
        wide = made.graph.nodes[at].shape
        at = add_affine(made.graph, at, Reshape(wide, (wide[0], 1, wide[1])))
        weight, strides, dilations, before = weight[:, :, None], [1, *strides], [1, *dilations], [0, *before]
    shape, groups = made.graph.nodes[at].shape, step.get("group", 1)
    if groups == 1 and not any(before) and dilations == [1, 1] and tuple(shape[1:]) == tuple(weight.shape[2:]):
        at = add_affine(made.graph, at, Dense(weight.flatten(1), bias, shape, (len(weight), 1, 1)))
    else:
        pairs = [(strides[0], strides[1]), (before[0], before[1]), (dilations[0], dilations[1])]
        at = add_affine(made.graph, at, Conv(weight.contiguous(), bias, shape, pairs[0], pairs[1], pairs[2], groups))
    if len(made.shape(step.outputs[0])) == 2:
        at = add_affine(made.graph, at, Reshape(made.graph.nodes[at].shape, made.shape(step.outputs[0])))
    give(made, step, at)


# ---------------------------------------------------------------- one value at a time


def _scaled(made: Lowering, step: Step, name: str, factor: Tensor, shift: Tensor, size: Tensor | None = None) -> None:
    at = add_affine(made.graph, made.places[name], Scale(factor, shift, made.shape(name), size))
    give(made, step, at)


def _sum(made: Lowering, step: Step) -> None:
    """Add, Sub and Sum, of images' values and constants."""
    sign = -1 if step.op == "Sub" else 1
    if len(step.inputs) != 2:
        raise refused(step, f"of two values, got {len(step.inputs)}")
    first, second = step.inputs
    if first in made.places and second in made.places:
        a, b = made.places[first], made.places[second]
        if made.graph.nodes[a].shape != made.graph.nodes[b].shape:
            raise refused(step, f"of values of one shape, got {made.shape(first)} and {made.shape(second)}")
        return give(made, step, made.graph.add(Node("add", made.shape(first), (a, b), sign=sign)))
    name, other = (first, second) if first in made.places else (second, first)
    shift = fitted(made, step, name, made.constant(other))
    factor = sign * one(made) if name == second else one(made)
    return _scaled(made, step, name, factor, shift if name == second else sign * shift)


def _product(made: Lowering, step: Step) -> None:
    """Mul and Div by constants."""
    first, second = step.inputs
    if (first in made.places) == (second in made.places) or (step.op == "Div" and second in made.places):
        raise refused(step, "by constants")
    name, other = (first, second) if first in made.places else (second, first)
    factor = fitted(made, step, name, made.constant(other))
    factor = 1 / factor if step.op == "Div" else factor
    if not factor.isfinite().all():
        raise refused(step, "by finite numbers, other than 0")
    return _scaled(made, step, name, factor, 0 * one(made))


def _negative(made: Lowering, step: Step) -> None:
    _scaled(made, step, step.inputs[0], -one(made), 0 * one(made))


def _norm(made: Lowering, step: Step) -> None:
    name, *others = step.inputs
    if any(other in made.places for other in others):
        raise refused(step, "with constants")
    scale, bias, mean, variance = (made.constant(other) for other in others)
    factor = scale / (variance + step.get("epsilon", 1e-5)).sqrt()
    size = bias.abs() + (mean * factor).abs()
    shape = (-1, *(1,) * (len(made.shape(name)) - 1))
    parts = [value.reshape(shape) for value in (factor, bias - mean * factor, size)]
    _scaled(made, step, name, *parts)


def _relu(made: Lowering, step: Step) -> None:
    give(made, step, add_relu(made.graph, made.places[step.inputs[0]]))


def _curve(made: Lowering, step: Step) -> None:
    add = add_tanh if step.op == "Tanh" else add_sigmoid
    give(made, step, add(made.graph, made.places[step.inputs[0]]))


def _leaky(made: Lowering, step: Step) -> None:
    """LeakyRelu and PRelu: a x + (1 - a) relu(x)."""
    graph, name = made.graph, step.inputs[0]
    at, shape = made.places[name], made.shape(name)
    slope = step.get("alpha", 0.01) * one(made)
    if step.op == "PRelu":
        if step.inputs[1] in made.places:
            raise refused(step, "with constant slopes")
        slope = fitted(made, step, name, made.constant(step.inputs[1]))
    nothing = 0 * one(made)
    straight = add_affine(graph, at, Scale(slope, nothing, shape))
    bent = add_affine(graph, add_relu(graph, at), Scale(1 - slope, nothing, shape))
    give(made, step, graph.add(Node("add", shape, (straight, bent))))


def _clip(made: Lowering, step: Step) -> None:
    """Low + relu(x - low) - relu(x - high)."""
    name, *ends = step.inputs
    if any(end in made.places for end in ends):
        raise refused(step, "between constants")
    if step.opset < 11:
        low, high = step.get("min"), step.get("max")
    else:
        low, high = (made.values[end].item() if end else None for end in (*ends, "", "")[:2])
    low = None if low is None or low < -1e30 else low
    high = None if high is None or high > 1e30 else high
    if low is not None and high is not None and low > high:
        raise refused(step, f"between a lower and a higher number, got {low} and {high}")
    at = made.places[name]
    if low is not None:
        at = _floor(made, at, low)
    if high is not None:  # min(x, high) = -max(-x, -high)
        at = _turned(made, _floor(made, _turned(made, at), -high))
    give(made, step, at)


def _floor(made: Lowering, at: int, low: float) -> int:
    """max(x, low)."""
    if low == 0:
        return add_relu(made.graph, at)
    shape, unit = made.graph.nodes[at].shape, one(made)
    above = add_relu(made.graph, add_affine(made.graph, at, Scale(unit, -low * unit, shape)))
    return add_affine(made.graph, above, Scale(unit, low * unit, shape))


def _turned(made: Lowering, at: int) -> int:
    return add_affine(made.graph, at, Scale(-one(made), 0 * one(made), made.graph.nodes[at].shape))


def _larger(made: Lowering, step: Step) -> None:
    if len(step.inputs) != 2 or not all(name in made.places for name in step.inputs):
        raise refused(step, "of two values of an image")
    a, b = (made.places[name] for name in step.inputs)
    if made.graph.nodes[a].shape != made.graph.nodes[b].shape:
        raise refused(step, "of values of one shape")
    give(made, step, add_larger(made.graph, a, b))


def _cast(made: Lowering, step: Step) -> None:
    if step.get("to") not in (1, 11):
        raise refused(step, "to float32 or float64")
    onnx_moving.reshaped(made, step)


Rule = Callable[[Lowering, Step], None]
RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    **dict.fromkeys(("Add", "Sub", "Sum"), _sum),
    **dict.fromkeys(("Mul", "Div"), _product),
    "Neg": _negative,
    "BatchNormalization": _norm,
    "Relu": _relu,
    **dict.fromkeys(("Tanh", "Sigmoid"), _curve),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    "Clip": _clip,
    "Max": _larger,
    **dict.fromkeys(("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"), onnx_moving.reshaped),
    **dict.fromkeys(("Transpose", "Slice", "Split", "Gather", "DepthToSpace", "SpaceToDepth"), onnx_moving.moved),
    "Cast": _cast,
    "Pad": onnx_moving.padded,
    "Concat": onnx_moving.joined,
    "AveragePool": onnx_moving.averaged,
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), onnx_moving.pooled),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean", "ReduceSum"), onnx_moving.mean),
}
"""How each operator becomes nodes."""
