"""ONNX's Resize and Upsample: each axis by a matrix, nearest, linear or cubic.

Source: the operators' definitions, onnx.ai/onnx/operators, opsets 9 to 21; the cubic kernel is Keys's (1981).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from core.networks.onnx_operators import Function, Step, numbers, sized


def axis_matrix(step: Step, side: int, made: int, scale: float) -> Tensor:
    """(made, side): what each place of the output takes of the input, along one axis; float64."""
    places = np.arange(made, dtype=np.float64)
    older = step.op == "Upsample" or step.opset < 11
    mode = "asymmetric" if older else step.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        at = places / scale
    elif mode == "align_corners":
        at = places * (side - 1) / (scale * side - 1) if scale * side != 1 else 0 * places
    elif mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        at = (places + 0.5) / scale - 0.5
        if mode == "pytorch_half_pixel" and scale * side == 1:
            at = 0 * places - 0.5
        if mode == "half_pixel_symmetric":
            at = at + side / 2 * (1 - made / (scale * side))
    else:
        raise ValueError(f"Resize of mode {mode}")
    kind = step.get("mode", "nearest")
    if kind == "nearest":
        taps, shares = _nearest(at, "floor" if older else step.get("nearest_mode", "round_prefer_floor"))
    elif kind in ("linear", "bilinear"):
        below = np.floor(at)
        taps, shares = np.stack([below, below + 1]), np.stack([1 - (at - below), at - below])
    else:
        taps, shares = _cubic(at, step.get("cubic_coeff_a", -0.75))
    if step.get("exclude_outside", 0):
        shares = shares * ((taps >= 0) & (taps < side))
        shares = shares / shares.sum(0)
    matrix = np.zeros((made, side))
    for tap, share in zip(taps.clip(0, side - 1).astype(int), shares, strict=True):
        np.add.at(matrix, (np.arange(made), tap), share)
    return torch.from_numpy(matrix)


def _nearest(at: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    rounded = {"floor": at, "ceil": np.ceil(at), "round_prefer_floor": np.ceil(at - 0.5)}
    taps = np.floor(rounded.get(how, at + 0.5))[None]
    return taps, np.ones_like(taps)


def _cubic(at: np.ndarray, a: float) -> tuple[np.ndarray, np.ndarray]:
    below = np.floor(at)
    taps = np.stack([below + shift for shift in (-1, 0, 1, 2)])
    far = np.abs(at - taps)
    near = ((a + 2) * far - (a + 3)) * far**2 + 1
    return taps, np.where(far <= 1, near, ((far - 5) * far + 8) * far * a - 4 * a)


def _resize(step: Step, x: Tensor, *args: Tensor | None) -> Tensor:
    if step.get("antialias", 0) or step.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError("Resize with antialias or a kept aspect ratio")
    if step.op == "Upsample" or step.opset < 11:
        scales, sizes = args[0], None
    else:
        scales, sizes = args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else None
    axes = [axis % x.ndim for axis in step.get("axes") or range(x.ndim)]
    if sizes is not None and sizes.numel():
        wanted = numbers(sizes) or []
        factors = [side / x.shape[axis] for side, axis in zip(wanted, axes, strict=True)]
    else:
        assert scales is not None
        factors = [float(factor) for factor in scales.flatten().tolist()]
        wanted = [math.floor(x.shape[axis] * factor) for factor, axis in zip(factors, axes, strict=True)]
    for axis, side, factor in zip(axes, wanted, factors, strict=True):
        if axis == 0 and sizes is not None:
            continue  # the batch keeps its size, whatever the size was when the graph was made
        sized([side, *x.shape])
        if side != x.shape[axis] or factor != 1:
            matrix = axis_matrix(step, x.shape[axis], side, factor).to(x)
            x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x


RESIZES: dict[str, Function] = {"Resize": _resize, "Upsample": _resize}
"""The function of each of them."""
