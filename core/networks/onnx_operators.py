"""ONNX operators as torch functions: arithmetic, activations, reductions, noise.

A function takes the step (`Step`) and the values of its inputs, None for one that is left out, and follows the version
of the operator in the step's opset. Numbers that say how (shapes, axes, places) are int64 tensors on the CPU.
Source: the operators' definitions, onnx.ai/onnx/operators, opsets 9 to 21.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MOST = 1 << 28
"""Numbers in a value at most that a graph makes out of nothing."""


@dataclass(frozen=True)
class Step:
    """One node of a graph.

    Attributes:
        op: the operator.
        opset: version of the operators.
        attributes: by name; tensors as torch's.
        inputs, outputs: names of values, "" for one that is left out.
        dtype: what float32 is computed in.
    """

    op: str
    opset: int
    attributes: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: torch.dtype = torch.float32

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attributes.get(name, default)


Function = Callable[..., Any]
TYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64} | {
    9: torch.bool,
    11: torch.float64,
}
"""ONNX's numbers of the types that values may have."""


def numbers(value: Tensor | Sequence[int] | None) -> list[int] | None:
    """The integers in a value or an attribute."""
    if value is None:
        return None
    return [int(one) for one in (value.flatten().tolist() if isinstance(value, Tensor) else value)]


def sized(shape: Sequence[int]) -> list[int]:
    """A shape, unless it is enormous. Raises ValueError then."""
    if math.prod(shape) > MOST:
        raise ValueError(f"file: expected values of at most {MOST:,} numbers, got one of shape {tuple(shape)}")
    return list(shape)


def given(step: Step, name: str, args: Sequence[Tensor | None], place: int) -> list[int] | None:
    """Integers that newer versions take as an input, and older ones as an attribute."""
    if len(args) > place and args[place] is not None:
        return numbers(args[place])
    return numbers(step.get(name))


# ---------------------------------------------------------------- arithmetic


def _plain(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda step, x: function(x)


def _pairs(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def run(step: Step, *values: Tensor) -> Tensor:
        made = values[0]
        for value in values[1:]:
            made = function(made, value)
        return made

    return run


def _div(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _pow(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b.to(a.dtype) if a.is_floating_point() else b).to(a.dtype)


def _mean(step: Step, *values: Tensor) -> Tensor:
    return _pairs(torch.add)(step, *values) / len(values)


def _mod(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if step.get("fmod", 0) else torch.remainder(a, b)


def _clip(step: Step, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if step.opset < 11:
        return x.clamp(step.get("min", torch.finfo(torch.float32).min), step.get("max", torch.finfo(torch.float32).max))
    made = x if low is None else torch.maximum(x, low.to(x.dtype))
    return made if high is None else torch.minimum(made, high.to(x.dtype))


def _hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    return (x * step.get("alpha", 0.2) + step.get("beta", 0.5)).clamp(0, 1)


def _selu(step: Step, x: Tensor) -> Tensor:
    alpha, gamma = step.get("alpha", 1.67326319217681884765625), step.get("gamma", 1.05070102214813232421875)
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _celu(step: Step, x: Tensor) -> Tensor:
    return F.celu(x, step.get("alpha", 1.0))


def _gelu(step: Step, x: Tensor) -> Tensor:
    kind = step.get("approximate", "none")
    return F.gelu(x, approximate=kind)


def _prelu(step: Step, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _softmax(step: Step, x: Tensor, function: Callable[..., Tensor] = torch.softmax) -> Tensor:
    if step.opset >= 13:
        return function(x, dim=step.get("axis", -1))
    axis = step.get("axis", 1) % x.ndim  # what comes from this axis on is one
    flat = x.reshape(math.prod(x.shape[:axis]), -1)
    return function(flat, dim=1).reshape(x.shape)


def _log_softmax(step: Step, x: Tensor) -> Tensor:
    return _softmax(step, x, torch.log_softmax)


def _gemm(step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if step.get("transA", 0) else a
    b = b if step.get("transB", 0) else b.T
    alpha, beta = step.get("alpha", 1.0), step.get("beta", 1.0)
    if c is not None and c.ndim == 1 and len(c) == len(b) and alpha == beta == 1:
        return F.linear(a, b, c)
    made = F.linear(a, b)
    made = made if alpha == 1 else alpha * made
    return made if c is None or beta == 0 else made + (c if beta == 1 else beta * c)


def _where(step: Step, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _einsum(step: Step, *values: Tensor) -> Tensor:
    return torch.einsum(step.get("equation"), *values)


def _layer_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = step.get("axis", -1) % x.ndim
    dims = tuple(range(axis, x.ndim))
    centred = x - x.mean(dims, keepdim=True)
    made = centred / (centred.square().mean(dims, keepdim=True) + step.get("epsilon", 1e-5)).sqrt() * scale
    return made if bias is None else made + bias


# ---------------------------------------------------------------- reductions

REDUCED: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceMean": lambda x, dims, keep: x.mean(dims, keepdim=keep),
    "ReduceSum": lambda x, dims, keep: x.sum(dims, keepdim=keep),
    "ReduceMax": lambda x, dims, keep: x.amax(dims, keepdim=keep),
    "ReduceMin": lambda x, dims, keep: x.amin(dims, keepdim=keep),
    "ReduceL1": lambda x, dims, keep: x.abs().sum(dims, keepdim=keep),
    "ReduceL2": lambda x, dims, keep: x.square().sum(dims, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda x, dims, keep: x.square().sum(dims, keepdim=keep),
    "ReduceLogSum": lambda x, dims, keep: x.sum(dims, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, dims, keep: x.logsumexp(dims, keepdim=keep),
}


def _reduced(step: Step, *args: Tensor | None) -> Tensor:
    x = args[0]
    assert x is not None
    axes = given(step, "axes", args, 1)
    if not axes:
        if step.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.ndim))
    dtype = x.dtype
    made = REDUCED[step.op](x, axes, bool(step.get("keepdims", 1)))
    return made.to(dtype)


def _noise(step: Step, x: Tensor | None = None) -> Tensor:
    shape = sized(step.get("shape", ()) if x is None else x.shape)
    if step.op == "Bernoulli":
        assert x is not None
        return torch.bernoulli(x)
    like: dict[str, Any] = {"dtype": step.dtype} if x is None else {"dtype": step.dtype, "device": x.device}
    if "Normal" in step.op:
        return torch.randn(shape, **like) * step.get("scale", 1.0) + step.get("mean", 0.0)
    low = step.get("low", 0.0)
    return torch.rand(shape, **like) * (step.get("high", 1.0) - low) + low


FUNCTIONS: dict[str, Function] = {
    **{
        name: _plain(getattr(torch, name.lower()))
        for name in (
            *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
            *("Log", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh"),
        )
    },
    "Not": _plain(torch.logical_not),
    "Softplus": _plain(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "Softsign": _plain(F.softsign),
    "Mish": _plain(F.mish),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "Dropout": lambda step, x, *_: x,
    "Add": _pairs(torch.add),
    "Sub": _pairs(torch.sub),
    "Mul": _pairs(torch.mul),
    "Sum": _pairs(torch.add),
    "Max": _pairs(torch.maximum),
    "Min": _pairs(torch.minimum),
    "Div": _div,
    "Pow": _pow,
    "Mean": _mean,
    "Mod": _mod,
    "And": _pairs(torch.logical_and),
    "Or": _pairs(torch.logical_or),
    "Xor": _pairs(torch.logical_xor),
    "Equal": _pairs(torch.eq),
    "Greater": _pairs(torch.gt),
    "GreaterOrEqual": _pairs(torch.ge),
    "Less": _pairs(torch.lt),
    "LessOrEqual": _pairs(torch.le),
    "MatMul": _pairs(torch.matmul),
    "Clip": _clip,
    "LeakyRelu": lambda step, x: F.leaky_relu(x, step.get("alpha", 0.01)),
    "Elu": lambda step, x: F.elu(x, step.get("alpha", 1.0)),
    "ThresholdedRelu": lambda step, x: torch.where(x > step.get("alpha", 1.0), x, torch.zeros_like(x)),
    "HardSigmoid": _hard_sigmoid,
    "Selu": _selu,
    "Celu": _celu,
    "Gelu": _gelu,
    "PRelu": _prelu,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Gemm": _gemm,
    "Where": _where,
    "Einsum": _einsum,
    "LayerNormalization": _layer_norm,
    **dict.fromkeys(REDUCED, _reduced),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"), _noise),
}
"""The function of each operator; those of shapes are in `onnx_shapes`, those on windows of images in `onnx_windows`."""
