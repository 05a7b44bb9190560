"""Thin and strided convolutions: the quicker gradient is the gradient, and is taken only where it is meant to be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels import convolution
from core.kernels.convolution import QuickConvolutions

CASES = (
    {"channels": 1, "kernel": (5, 5)},
    {"channels": 3, "kernel": (3, 3), "padding": 1},
    {"channels": 3, "kernel": (3, 2), "stride": (2, 3), "padding": (2, 0)},
    {"channels": 2, "kernel": (4, 4), "stride": 3},
    {"channels": 1, "kernel": (7, 7), "padding": (3,), "stride": (2,)},
    {"channels": 5, "kernel": (4, 4), "padding": 1, "stride": 2},
    {"channels": 4, "kernel": (2, 6), "padding": (1, 2), "stride": (2, 3)},
    {"channels": 6, "kernel": (4, 2), "stride": (4, 2)},
)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES)
def test_quick_convolution_has_the_gradient_of_the_convolution(case: dict, layout: torch.memory_format) -> None:
    """For every kernel, stride and padding, in pieces too; the output is the same to the last bit."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, case["channels"], 13, 11, generator=generator, dtype=torch.float64).contiguous(
        memory_format=layout
    )
    weight = torch.randn(6, case["channels"], *case["kernel"], generator=generator, dtype=torch.float64)
    bias = torch.randn(6, generator=generator, dtype=torch.float64)
    settings = {key: case[key] for key in ("stride", "padding") if key in case}
    leaf = x.requires_grad_()
    plain = F.conv2d(leaf, weight, bias, **settings)
    with pytest.MonkeyPatch.context() as patch, QuickConvolutions():
        patch.setattr(convolution, "PIECE", 300)
        thin = F.conv2d(leaf, weight, bias, **settings)
        assert torch.equal(thin, plain)
        assert type(thin.grad_fn).__name__ == "_QuickConvolutionBackward"
        back = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
        (found,) = torch.autograd.grad(thin, leaf, back)
    (wanted,) = torch.autograd.grad(plain, leaf, back)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_rows_have_the_gradient_of_the_convolution(case: dict) -> None:
    """The way of half precision is right for every kernel, stride and padding, in double precision."""
    generator = torch.Generator().manual_seed(0)
    leaf = torch.rand(3, case["channels"], 13, 11, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(6, case["channels"], *case["kernel"], generator=generator, dtype=torch.float64)
    stride, padding = (convolution._pair(case.get(key, plain)) for key, plain in (("stride", 1), ("padding", 0)))
    out = F.conv2d(leaf, weight, None, stride, padding)
    back = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(out, leaf, back)
    found = convolution.by_rows(back, weight, (13, 11), stride, padding)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gradient_through_flattening_keeps_the_layout_of_the_images() -> None:
    """Channels last stays so on the way back, other layouts are left alone; the values are autograd's."""
    x, weight = torch.rand(2, 3, 4, 5), torch.rand(7, 60)
    for layout in (torch.channels_last, torch.contiguous_format):
        leaf = x.contiguous(memory_format=layout).requires_grad_()
        seen: list[Tensor] = []
        with QuickConvolutions():
            before = leaf * 2
            out = before.flatten(1) @ weight.t()
        before.register_hook(seen.append)
        torch.autograd.grad(out.sum(), leaf)
        assert seen[0].is_contiguous(memory_format=layout)
        torch.testing.assert_close(seen[0].flatten(1), weight.sum(0).expand(2, 60))


def test_other_convolutions_are_left_alone() -> None:
    """Weights that learn, many channels, groups, dilation, inputs without a gradient, padding by name."""
    x = torch.rand(2, 2, 6, 6, requires_grad=True)
    weight = torch.rand(4, 2, 3, 3)
    with QuickConvolutions():
        for made in (
            F.conv2d(x, weight.clone().requires_grad_()),
            F.conv2d(x, weight, torch.zeros(4, requires_grad=True)),
            F.conv2d(torch.rand(2, 4, 6, 6, requires_grad=True), torch.rand(4, 4, 3, 3)),
            F.conv2d(x, weight[:, :1], groups=2),
            F.conv2d(x, weight, dilation=2),
            F.conv2d(x, weight, padding="same"),
            F.conv2d(x[0], weight),
        ):
            assert type(made.grad_fn).__name__ != "_QuickConvolutionBackward"
        assert F.conv2d(x.detach(), weight).grad_fn is None


def test_thin_convolution_in_half_precision_sums_in_float32() -> None:
    """Under autocast the gradient is float32 and no further from the exact one than autograd's own is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 1, 16, 16, generator=generator)
    weight = torch.randn(12, 1, 5, 5, generator=generator)
    back = torch.randn(8, 12, 12, 12, generator=generator)
    leaf = x.requires_grad_()
    (exact,) = torch.autograd.grad(F.conv2d(leaf, weight), leaf, back)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with QuickConvolutions():
            thin = F.conv2d(leaf, weight)
        plain = F.conv2d(leaf, weight)
    (found,) = torch.autograd.grad(thin, leaf, back.bfloat16())  # outside of autocast, as a loop may
    (usual,) = torch.autograd.grad(plain, leaf, back.bfloat16())
    assert thin.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert (found - exact).norm() <= 1.5 * (usual - exact).norm()
