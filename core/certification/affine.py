# ruff: noqa: D102  # `Affine` says what the methods of every map do
"""The affine maps that networks are made of, forwards, backwards, and with absolute weights."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, ...]


class Affine(Protocol):
    """y = W x + b on values without their batch dimension.

    Attributes:
        shape_in, shape_out: of x and y.
        terms: the most products that are summed for one value of y.
    """

    shape_in: Shape
    shape_out: Shape
    terms: int

    def __call__(self, x: Tensor) -> Tensor:
        """W x + b for (N, *shape_in)."""

    def spread(self, half: Tensor) -> Tensor:
        """|W| r for half-widths r (N, *shape_in) of 0 or more."""

    def size(self, largest: Tensor) -> Tensor:
        """|W| r + |b| for the largest absolute values r of x: how large the parts of a sum are, for rounding errors."""

    def back(self, rows: Float[Tensor, "n m ..."]) -> Tensor:
        """Rows c (N, M, *shape_out) of functions c·y as rows of functions of x, c W (N, M, *shape_in)."""

    def constant(self, rows: Float[Tensor, "n m ..."]) -> Tensor | float:
        """What those functions have beside them, c·b (N, M)."""


class Dense:
    """A matrix (out, in), on whatever shapes."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        shape_in: Shape,
        shape_out: Shape | None = None,
        terms: int | None = None,
    ) -> None:
        self.weight, self.bias = weight, bias
        self.shape_in, self.shape_out = shape_in, shape_out or (len(weight),)
        self.terms = terms or weight.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight, self.bias).view(-1, *self.shape_out)

    def many(self, x: Tensor) -> Tensor:
        """The same for many x, without gradients: products with a copy that is turned take down to a third as long."""
        flat = x.flatten(1)
        made = flat @ self._turned if self.bias is None else torch.addmm(self.bias, flat, self._turned)
        return made.view(-1, *self.shape_out)

    @cached_property
    def _turned(self) -> Tensor:
        return self.weight.T.contiguous()

    def spread(self, half: Tensor) -> Tensor:
        return F.linear(half.flatten(1), self.weight.abs()).view(-1, *self.shape_out)

    def size(self, largest: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.abs()
        return F.linear(largest.flatten(1), self.weight.abs(), bias).view(-1, *self.shape_out)

    def back(self, rows: Tensor) -> Tensor:
        return (rows.flatten(2) @ self.weight).unflatten(2, self.shape_in)

    def constant(self, rows: Tensor) -> Tensor | float:
        return 0.0 if self.bias is None else rows.flatten(2) @ self.bias


class Conv:
    """A convolution padded with zeros."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        shape_in: Shape,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> None:
        self.weight, self.bias, self.shape_in = weight, bias, shape_in
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.terms = weight[0].numel()
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        sides = [
            (have + 2 * pad - far) // step + 1
            for have, pad, far, step in zip(shape_in[1:], padding, reach, stride, strict=True)
        ]
        self.shape_out = (len(weight), *sides)
        # what a strided convolution never sees at the far end
        self.left_over = tuple(
            have - ((side - 1) * step - 2 * pad + far)
            for have, side, step, pad, far in zip(shape_in[1:], sides, stride, padding, reach, strict=True)
        )

    def _apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def __call__(self, x: Tensor) -> Tensor:
        return self._apply(x, self.weight, self.bias)

    def spread(self, half: Tensor) -> Tensor:
        return self._apply(half, self.weight.abs(), None)

    def size(self, largest: Tensor) -> Tensor:
        return self._apply(largest, self.weight.abs(), None if self.bias is None else self.bias.abs())

    def constant(self, rows: Tensor) -> Tensor | float:
        return 0.0 if self.bias is None else rows.sum((3, 4)) @ self.bias

    def back(self, rows: Tensor) -> Tensor:
        flat = rows.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # much faster on a CPU
        made = F.conv_transpose2d(
            flat,
            self.weight,
            None,
            self.stride,
            self.padding,
            self.left_over,
            self.groups,
            self.dilation,
        )
        return made.unflatten(0, rows.shape[:2])


class Scale:
    """A factor and a shift for each value; both broadcast over the shape."""

    def __init__(self, factor: Tensor, shift: Tensor, shape: Shape, shift_size: Tensor | None = None) -> None:
        self.factor, self.shift = factor, shift
        self.shape_in = self.shape_out = shape
        self.terms = 4
        self.shift_size = shift.abs() if shift_size is None else shift_size

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift

    def spread(self, half: Tensor) -> Tensor:
        return half * self.factor.abs()

    def size(self, largest: Tensor) -> Tensor:
        return largest * self.factor.abs() + self.shift_size

    def back(self, rows: Tensor) -> Tensor:
        return rows * self.factor

    def constant(self, rows: Tensor) -> Tensor | float:
        return (rows * self.shift).flatten(2).sum(2)


class Gather:
    """Some of the values, each at largest once, in another shape."""

    def __init__(self, index: Tensor, shape_in: Shape, shape_out: Shape) -> None:
        self.index, self.shape_in, self.shape_out, self.terms = index, shape_in, shape_out, 0

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).index_select(1, self.index).unflatten(1, self.shape_out)

    spread = size = __call__

    def back(self, rows: Tensor) -> Tensor:
        made = rows.new_zeros(*rows.shape[:2], torch.Size(self.shape_in).numel())
        return made.index_copy(2, self.index, rows.flatten(2)).unflatten(2, self.shape_in)

    def constant(self, rows: Tensor) -> Tensor | float:
        return 0.0


class Reshape:
    """The same values in another shape."""

    def __init__(self, shape_in: Shape, shape_out: Shape) -> None:
        self.shape_in, self.shape_out, self.terms = shape_in, shape_out, 0

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape_out)

    spread = size = __call__

    def back(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:2], *self.shape_in)

    def constant(self, rows: Tensor) -> Tensor | float:
        return 0.0


class Matrix:
    """A matrix (out, in) along one axis, counted from the last (-1)."""

    def __init__(self, weight: Tensor, shape_in: Shape, axis: int) -> None:
        self.weight, self.shape_in, self.axis = weight, shape_in, axis
        sides = list(shape_in)
        sides[axis] = len(weight)
        self.shape_out = tuple(sides)
        self.terms = max(1, int((weight != 0).sum(1).max()))

    def _along(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x.movedim(self.axis, -1), weight).movedim(-1, self.axis)

    def __call__(self, x: Tensor) -> Tensor:
        return self._along(x, self.weight)

    def spread(self, half: Tensor) -> Tensor:
        return self._along(half, self.weight.abs())

    size = spread

    def back(self, rows: Tensor) -> Tensor:
        return self._along(rows, self.weight.T)

    def constant(self, rows: Tensor) -> Tensor | float:
        return 0.0


class Padding:
    """More values around: `before` and `after` along each axis, all of one value."""

    def __init__(self, shape_in: Shape, before: Shape, after: Shape, value: float = 0.0) -> None:
        self.shape_in, self.before, self.value = shape_in, before, value
        self.shape_out = tuple(sum(sides) for sides in zip(shape_in, before, after, strict=True))
        self.terms = int(value != 0)
        self.pads = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]

    def __call__(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads, value=self.value)

    def spread(self, half: Tensor) -> Tensor:
        return F.pad(half, self.pads)

    def size(self, largest: Tensor) -> Tensor:
        return F.pad(largest, self.pads, value=abs(self.value))

    def back(self, rows: Tensor) -> Tensor:
        for axis, (start, side) in enumerate(zip(self.before, self.shape_in, strict=True)):
            rows = rows.narrow(2 + axis, start, side)
        return rows

    def constant(self, rows: Tensor) -> Tensor | float:
        if self.value == 0:
            return 0.0
        return self.value * (rows.flatten(2).sum(2) - self.back(rows).flatten(2).sum(2))
