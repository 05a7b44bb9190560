"""ONNX operators of shapes, places and types as torch functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.networks.onnx_operators import TYPES, Function, Step, given, numbers, sized


def _reshape(step: Step, x: Tensor, shape: Tensor) -> Tensor:
    wanted = numbers(shape) or []
    if not step.get("allowzero", 0):
        wanted = [x.shape[place] if side == 0 else side for place, side in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(step: Step, x: Tensor) -> Tensor:
    axis = step.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(step: Step, x: Tensor) -> Tensor:
    return x.permute(step.get("perm") or list(range(x.ndim))[::-1])


def _squeeze(step: Step, *args: Tensor | None) -> Tensor:
    x = args[0]
    assert x is not None
    axes = given(step, "axes", args, 1)
    if axes is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in axes):
        raise ValueError(f"Squeeze of axes {axes} of shape {tuple(x.shape)}")
    return x.squeeze(tuple(axes))


def _unsqueeze(step: Step, *args: Tensor | None) -> Tensor:
    x = args[0]
    assert x is not None
    axes = given(step, "axes", args, 1) or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _concat(step: Step, *values: Tensor) -> Tensor:
    return torch.cat(values, dim=step.get("axis"))


def _split(step: Step, *args: Tensor | None) -> tuple[Tensor, ...]:
    x = args[0]
    assert x is not None
    axis, parts = step.get("axis", 0), given(step, "split", args, 1)
    if parts is None:
        count = step.get("num_outputs", len(step.outputs))
        parts, rest = [], x.shape[axis]
        for _ in range(count):
            parts.append(min(-(-x.shape[axis] // count), rest))
            rest -= parts[-1]
    return torch.split(x, parts, dim=axis)


def _slice(step: Step, *args: Tensor | None) -> Tensor:
    x = args[0]
    assert x is not None
    starts, ends = given(step, "starts", args, 1) or [], given(step, "ends", args, 2) or []
    axes = given(step, "axes", args, 3) or list(range(len(starts)))
    steps = given(step, "steps", args, 4) or [1] * len(starts)
    for start, end, axis, by in zip(starts, ends, axes, steps, strict=True):
        places = range(x.shape[axis])[slice(start, None if by < 0 and end < -x.shape[axis] else end, by)]
        if by == 1:
            x = x.narrow(axis, places.start, len(places))
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


def _gather(step: Step, x: Tensor, index: Tensor) -> Tensor:
    axis = step.get("axis", 0) % x.ndim
    index = index.to(x.device, torch.int64)
    index = torch.where(index < 0, index + x.shape[axis], index)
    made = x.index_select(axis, index.flatten())
    return made.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _shape(step: Step, x: Tensor) -> Tensor:
    whole = list(x.shape)
    return torch.tensor(whole[slice(step.get("start", 0), step.get("end"))], dtype=torch.int64)


def _size(step: Step, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def _expand(step: Step, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(sized(torch.broadcast_shapes(x.shape, torch.Size(numbers(shape) or []))))


def _tile(step: Step, x: Tensor, repeats: Tensor) -> Tensor:
    times = numbers(repeats) or []
    sized([side * one for side, one in zip(x.shape, times, strict=True)])
    return x.repeat(times)


def _constant_of_shape(step: Step, shape: Tensor) -> Tensor:
    value = step.get("value", torch.zeros(1))
    dtype = step.dtype if value.dtype == torch.float32 else value.dtype
    return torch.full(sized(numbers(shape) or []), value.item(), dtype=dtype)


def _range(step: Step, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, by = (value.item() for value in (start, limit, delta))
    sized([max(0, math.ceil((last - first) / by))])
    return torch.arange(first, last, by, dtype=start.dtype)


def _constant(step: Step) -> Tensor:
    for name, dtype in (("value", None), ("value_float", torch.float32), ("value_int", torch.int64)):
        if name in step.attributes:
            return torch.as_tensor(step.attributes[name], dtype=dtype)
    for name, dtype in (("value_floats", torch.float32), ("value_ints", torch.int64)):
        if name in step.attributes:
            return torch.tensor(step.attributes[name], dtype=dtype)
    raise ValueError(f"a constant of {', '.join(step.attributes) or 'nothing'}")


def _cast(step: Step, x: Tensor) -> Tensor:
    if step.get("to") not in TYPES:
        raise ValueError("a cast to another type than float32, float64, integers or bool")
    wanted = TYPES[step.get("to")]
    return x.to(step.dtype if wanted == torch.float32 else wanted)


def _depth_to_space(step: Step, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = step.get("blocksize")
    if step.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(step: Step, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = step.get("blocksize")
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


SHAPES: dict[str, Function] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Shape": _shape,
    "Size": _size,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Constant": _constant,
    "Cast": _cast,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
