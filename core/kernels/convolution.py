"""The input gradient of two kinds of convolution, in a fraction of the time on a CPU.

A thin one, of few input channels, is the first layer of nearly every model that is attacked, and oneDNN's gradient
with respect to such an input takes several times as long as the convolution itself. Here it is one matrix product and
a shifted sum for each tap of the kernel. In half precision, on small grey images, whole rows of taps at once are faster
still.

A strided one of few channels has the gradient of a convolution without a stride, whose outputs are blocks of pixels.
The measured times are in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

THIN = 3
"""Input channels up to which a convolution is thin: grey and colour images."""
FEW = 32
"""Input channels up to which a strided convolution goes the way of blocks."""
PIECE = 2**20
"""Numbers in a piece of the tap matrix, so that it stays in a core's cache."""
NARROW = 512
"""Numbers in a row of the output, of all its channels, up to which a banded matrix is small."""
HALF = (torch.bfloat16, torch.float16)
LAST = torch.channels_last

Pair = int | tuple[int, ...]


class QuickConvolutions(TorchFunctionMode):
    """While it is on, such convolutions with frozen weights, on a CPU, remember the quicker way back to their input.

    Outputs are to the last bit what they are without; gradients agree up to rounding. Where a gradient is to have a
    gradient itself (a model that differentiates inside its forward pass), the way back is PyTorch's own.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take the quick way if there is one."""
        result = _quick(*args, **(kwargs or {})) if func is F.conv2d else None
        if func is Tensor.flatten:
            _keep_layout(args[0])
        return func(*args, **(kwargs or {})) if result is None else result


def _keep_layout(x: Tensor) -> None:
    """The gradient that comes back from flattening is channels last where `x` is: else masks cost far more."""
    if x.requires_grad and x.ndim == 4 and x.is_contiguous(memory_format=LAST) and not x.is_contiguous():
        # a layer behind may pass back no gradient at all
        x.register_hook(lambda gradient: None if gradient is None else gradient.contiguous(memory_format=LAST))


def _quick(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: str | Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor | None:
    """The arguments of `conv2d`; None where there is no quicker way, or where not the input alone needs a gradient."""
    if not input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad):
        return None
    if input.device.type != "cpu" or input.ndim != 4 or not torch.is_grad_enabled():
        return None
    if weight.shape[1] > THIN and not _in_blocks(weight, _pair(stride)):
        return None
    if groups != 1 or isinstance(padding, str) or _pair(dilation) != (1, 1):
        return None
    return _QuickConvolution.apply(input, weight, bias, _pair(stride), _pair(padding))


def _in_blocks(weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Whether a kernel is whole strides wide and high, so that no tap of the block's kernel is idle."""
    sides = weight.shape[2:]
    return weight.shape[1] <= FEW and min(stride) > 1 and sides[0] % stride[0] == sides[1] % stride[1] == 0


def _pair(value: Pair) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


class _QuickConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding = x.shape[2:], stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: what follows is differentiated again
            size = (len(gradient), weight.shape[1], *ctx.size)
            return conv2d_input(size, weight, gradient, ctx.stride, ctx.padding), None, None, None, None
        back = way_back(gradient, weight, ctx.stride)
        assert back is not None  # see `_quick`
        return back(gradient, weight, ctx.size, ctx.stride, ctx.padding), None, None, None, None


def way_back(gradient: Tensor, weight: Tensor, stride: tuple[int, ...]) -> Callable[..., Tensor] | None:
    """The quickest of the ways below; None where oneDNN's own is quicker than any."""
    if weight.shape[1] > 1 and _in_blocks(weight, stride):
        return by_blocks
    if weight.shape[1] > THIN:
        return None
    narrow = weight.shape[1] == 1 and gradient.shape[3] * len(weight) <= NARROW
    return by_rows if narrow and gradient.dtype in HALF else by_taps


def by_taps(
    gradient: Float[Tensor, "n o i j"],
    weight: Float[Tensor, "o c a b"],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "n c h w"]:
    """The gradient with respect to a convolution's input (N, C, *size), from that with respect to its output.

    What each tap of the kernel passes back is one row of a matrix product; the rows are added up at their places.
    """
    out, channels, high, wide = weight.shape
    rows, columns = gradient.shape[2:]
    taps = weight.to(gradient.dtype).permute(1, 2, 3, 0).reshape(-1, out)
    shape = (len(gradient), channels, size[0] + 2 * padding[0], size[1] + 2 * padding[1])
    total = torch.zeros(shape, dtype=_exact(gradient), device=gradient.device)
    piece = max(1, PIECE // (len(taps) * rows * columns))
    for start in range(0, len(gradient), piece):
        part = gradient[start : start + piece].permute(0, 2, 3, 1).reshape(-1, out)
        passed = torch.mm(taps, part.t()).view(channels, high, wide, -1, rows, columns)
        lines = torch.zeros((*passed.shape[:2], *passed.shape[3:5], shape[3]), dtype=total.dtype, device=total.device)
        for b in range(wide):  # along the rows first, so that there are few sums
            lines[..., b : b + (columns - 1) * stride[1] + 1 : stride[1]] += passed[:, :, b]
        place = total[start : start + piece].transpose(0, 1)
        for a in range(high):
            place[:, :, a : a + (rows - 1) * stride[0] + 1 : stride[0]] += lines[:, a]
    return _inner(total, size, padding)


def by_blocks(
    gradient: Float[Tensor, "n o i j"],
    weight: Float[Tensor, "o c a b"],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "n c h w"]:
    """As `by_taps`, for kernels that are whole strides wide and high: (m·stride, n·stride).

    Each output reaches m × n blocks of stride × stride pixels of the input, so a block's gradient is a convolution of
    m × n taps whose outputs are its pixels (sub-pixel convolution, Shi et al. 2016, arXiv 1609.05158).
    """
    out, channels, high, wide = weight.shape
    down, right = stride
    taps = weight.to(gradient.dtype).view(out, channels, high // down, down, wide // right, right).flip(2, 4)
    taps = taps.permute(3, 5, 1, 0, 2, 4).flatten(0, 2).contiguous(memory_format=LAST)
    blocks = F.conv2d(gradient, taps, padding=(taps.shape[2] - 1, taps.shape[3] - 1)).permute(0, 2, 3, 1)
    shape = (blocks.shape[1] * down, blocks.shape[2] * right)
    total = blocks.unflatten(3, (down, right, channels)).permute(0, 1, 3, 2, 4, 5).reshape(-1, *shape, channels)
    unread = [max(0, padding[side] + size[side] - shape[side]) for side in (0, 1)]  # pixels that no output looks at
    total = F.pad(total, (0, 0, 0, unread[1], 0, unread[0])) if any(unread) else total
    return _inner(total.permute(0, 3, 1, 2), size, padding)


def by_rows(
    gradient: Float[Tensor, "n o i j"],
    weight: Float[Tensor, "o c a b"],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "n c h w"]:
    """As `by_taps`, a whole row of the output at a time, by a banded matrix: more to multiply and fewer sums.

    Faster for the first layer of small grey networks in half precision, where products are cheap; slower in single
    precision.
    """
    (out, channels, high, _), (down, right) = weight.shape, stride
    rows, columns = gradient.shape[2:]
    height, width = (size[side] + 2 * padding[side] for side in (0, 1))
    reach = -(-high // down)  # strides of rows that an output sees
    band = gradient.new_zeros((columns, out, reach * down, width, channels))
    jump = band.stride()
    taps = weight.permute(0, 2, 3, 1)
    band.as_strided((columns, *taps.shape), (jump[0] + right * channels, *jump[1:])).copy_(taps)
    passed = gradient.permute(0, 2, 3, 1).reshape(-1, columns * out) @ band.view(columns * out, -1)
    passed = passed.view(len(gradient), rows, reach, down * width * channels)
    strides = max(rows + reach - 1, -(-height // down))
    total = torch.zeros((len(gradient), strides, passed.shape[3]), dtype=_exact(gradient), device=gradient.device)
    for k in range(reach):
        total[:, k : k + rows] += passed[:, :, k]
    total = total.view(len(gradient), -1, width, channels).permute(0, 3, 1, 2)
    return _inner(total, size, padding)


def _inner(total: Tensor, size: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The image (N, C, *size) without what surrounds it."""
    return total[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _exact(gradient: Tensor) -> torch.dtype:
    """The type of sums of such numbers."""
    return torch.float32 if gradient.dtype in HALF else gradient.dtype
