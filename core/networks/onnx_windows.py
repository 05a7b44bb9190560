"""ONNX operators on windows of images as torch functions: convolutions, pooling, padding, normalisation by channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from core.networks.onnx_operators import Function, Step, given, numbers, sized

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
LARGEST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def window_of(
    step: Step, sides: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Strides, dilations, padding before and after, and how far windows reach past the padding (`ceil_mode`)."""
    count = len(sides)
    strides, dilations = list(step.get("strides") or [1] * count), list(step.get("dilations") or [1] * count)
    reach = [by * (side - 1) + 1 for by, side in zip(dilations, kernel, strict=True)]
    mode = step.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max(0, (-(-side // by) - 1) * by + far - side) for side, by, far in zip(sides, strides, reach, strict=True)
        ]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    else:
        pads = list(step.get("pads") or [0] * 2 * count) if mode == "NOTSET" else [0] * 2 * count
        before, after = pads[:count], pads[count:]
        sized([side + sum(pads) for side in sides])
    past = [0] * count
    if step.get("ceil_mode", 0):
        for at, (side, by, far) in enumerate(zip(sides, strides, reach, strict=True)):
            room = side + before[at] + after[at] - far
            places = -(-room // by) + 1
            if (places - 1) * by >= side + before[at]:  # a window must begin on the image or before it
                places -= 1
            past[at] = max(0, (places - 1) * by - room)
    return strides, dilations, before, after, past


def padded(
    x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0, mode: str = "constant"
) -> Tensor:
    """An image with more around it; `before` and `after` are of the last dimensions, in their order."""
    if not any(before) and not any(after):
        return x
    ends = zip(x.shape[-len(before) :], before, after, strict=True)
    sized([*x.shape[: -len(before)], *(max(0, sum(sides)) for sides in ends)])
    sides = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    return F.pad(x, sides, mode=mode, value=value) if mode == "constant" else F.pad(x, sides, mode=mode)


def _conv(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations, before, after, _ = window_of(step, x.shape[2:], weight.shape[2:])
    pads = before
    if before != after:
        x, pads = padded(x, before, after), [0] * len(before)
    return CONVOLUTIONS[x.ndim - 2](x, weight, bias, strides, pads, dilations, step.get("group", 1))


def _conv_transpose(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    count = x.ndim - 2
    strides, dilations = step.get("strides") or [1] * count, step.get("dilations") or [1] * count
    more = step.get("output_padding") or [0] * count
    full = [
        by * (side - 1) + extra + gap * (width - 1) + 1
        for by, side, extra, gap, width in zip(strides, x.shape[2:], more, dilations, weight.shape[2:], strict=True)
    ]
    mode = step.get("auto_pad", "NOTSET")
    wanted = step.get("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [side * by for side, by in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        totals = [max(0, whole - side) for whole, side in zip(full, wanted[-count:], strict=True)]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    else:
        pads = list(step.get("pads") or [0] * 2 * count) if mode == "NOTSET" else [0] * 2 * count
        before, after = pads[:count], pads[count:]
    made = TRANSPOSED[count](x, weight, bias, strides, 0, more, step.get("group", 1), dilations)
    for at, (cut, end) in enumerate(zip(before, after, strict=True)):
        made = made.narrow(2 + at, cut, made.shape[2 + at] - cut - end)
    return made


def _largest(step: Step, x: Tensor) -> Tensor:
    if len([name for name in step.outputs if name]) > 1:
        raise ValueError("MaxPool that also gives the places of the largest values")
    kernel = step.get("kernel_shape")
    strides, dilations, before, after, past = window_of(step, x.shape[2:], kernel)
    x = padded(x, before, [a + b for a, b in zip(after, past, strict=True)], -math.inf)
    return LARGEST[x.ndim - 2](x, kernel, strides, 0, dilations)


def averaging(step: Step, sides: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """AveragePool as a convolution of every channel with ones, times a factor for each place.

    Returns:
        Kernel of ones (1, 1, …), factors (1, 1, *sides of the output), padding before and after.
    """
    kernel = step.get("kernel_shape")
    strides, dilations, before, after, past = window_of(step, sides, kernel)
    ends = [a + b for a, b in zip(after, past, strict=True)]
    ones = torch.ones(1, 1, *kernel, dtype=like.dtype, device=like.device)
    inside = torch.ones(1, 1, *sides, dtype=like.dtype, device=like.device)
    if step.get("count_include_pad", 0):
        inside = padded(padded(inside, before, after, 1.0), [0] * len(past), past)
    else:
        inside = padded(inside, before, ends)
    counts = CONVOLUTIONS[len(sides)](inside, ones, None, strides, 0, dilations)
    return ones, 1 / counts, before, ends


def _average(step: Step, x: Tensor) -> Tensor:
    ones, factors, before, after = averaging(step, x.shape[2:], x)
    strides, dilations, *_ = window_of(step, x.shape[2:], step.get("kernel_shape"))
    weight = ones.expand(x.shape[1], *ones.shape[1:])
    convolved = CONVOLUTIONS[x.ndim - 2](padded(x, before, after), weight, None, strides, 0, dilations, x.shape[1])
    return convolved * factors


def _pad(step: Step, *args: Tensor | None) -> Tensor:
    x = args[0]
    assert x is not None
    pads = given(step, "pads", args, 1) or []
    axes = numbers(args[3]) if len(args) > 3 else None
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    before, after = [0] * x.ndim, [0] * x.ndim
    for at, axis in enumerate(axes):
        before[axis], after[axis] = pads[at], pads[at + len(axes)]
    mode = step.get("mode", "constant")
    if mode == "constant":
        filled = args[2] if len(args) > 2 else None
        value = step.get("value", 0.0) if filled is None else filled.item()
        return padded(x, before, after, value)
    for axis in range(x.ndim):  # torch mirrors the last dimensions only
        if before[axis] or after[axis]:
            x = x.index_select(axis, _mirrored(x.shape[axis], before[axis], after[axis], mode).to(x.device))
    return x


def _mirrored(side: int, before: int, after: int, mode: str) -> Tensor:
    places = torch.arange(-before, side + after)
    if mode == "edge":
        return places.clamp(0, side - 1)
    if mode == "wrap":
        return places % side
    if mode != "reflect":
        raise ValueError(f"Pad of mode {mode}")
    period = max(1, 2 * (side - 1))
    places = places % period
    return torch.minimum(places, period - places)


def _batch_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, step.get("epsilon", 1e-5))


def _instance_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return _normed(x, tuple(range(2, x.ndim)), step) * scale.view(shape) + bias.view(shape)


def _group_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = step.get("num_groups")
    made = _normed(x.reshape(len(x), groups, -1), (2,), step)
    if step.opset < 21:  # one scale a group, before: one a channel
        made = made * scale[:, None] + bias[:, None]
        return made.reshape(x.shape)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return made.reshape(x.shape) * scale.view(shape) + bias.view(shape)


def _normed(x: Tensor, dims: tuple[int, ...], step: Step) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + step.get("epsilon", 1e-5)).sqrt()


def _response_norm(step: Step, x: Tensor) -> Tensor:
    size = step.get("size")
    square = F.pad(x.square().movedim(1, -1), [(size - 1) // 2, size // 2])
    total = square.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (step.get("bias", 1.0) + step.get("alpha", 1e-4) / size * total) ** step.get("beta", 0.75)


def _whole(step: Step, x: Tensor) -> Tensor:
    dims = list(range(2, x.ndim))
    return x.mean(dims, keepdim=True) if step.op == "GlobalAveragePool" else x.amax(dims, keepdim=True)


WINDOWS: dict[str, Function] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _largest,
    "AveragePool": _average,
    "GlobalAveragePool": _whole,
    "GlobalMaxPool": _whole,
    "Pad": _pad,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LRN": _response_norm,
}
