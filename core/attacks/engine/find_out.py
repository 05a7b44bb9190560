"""Finding out what a model bears: two images through it, in several layouts, forwards and backwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from core.attacks.engine.bears import HALF, Bears, Fitted
from core.attacks.engine.losses import span
from core.kernels.convolution import QuickConvolutions
from core.networks.altered import altered
from core.networks.layers import Centre, FullConv2d, ScalarScore
from core.networks.residual import PreActBlock

ORDINARY: dict[type[nn.Module], Any] = {
    kind: kind.forward
    for kind in (
        *(nn.Sequential, nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten),
        *(nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d, nn.Identity),
        *(Centre, FullConv2d, PreActBlock, ScalarScore),
    )
}
"""Layers that bear everything, and their forward passes: those of the networks here, and of most others."""
LAST = torch.channels_last
FAILURES = (
    RuntimeError,
    TypeError,
    ValueError,
    AssertionError,
    AttributeError,
    LookupError,
    ArithmeticError,
    ImportError,
    OSError,
)
"""What somebody else's model may end in."""
EXTREME = 1e12
"""Size of logits from which on (and below whose inverse) sums of squares of their gradients may leave float32."""
APART = 1e-3
"""Relative difference from which two layouts, or two ways back, give different numbers and not only rounded ones."""


def ordinary(model: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a model consists of common layers alone, as they are, in this dtype: it bears everything."""
    for module in model.modules():
        if type(module) not in ORDINARY or type(module).forward is not ORDINARY[type(module)] or altered(module):
            return False
        if getattr(module, "inplace", False):  # as the first layer it would change the images
            return False
    values = [value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point()]
    return not any(value.dtype != dtype or value.is_inference() for value in values)


def find_out(model: nn.Module, x: Float[Tensor, "n c h w"], *, gradients: bool = True) -> Bears:
    """What a frozen model bears, by asking it about the first two images (the first one twice, if it is alone).

    A model of common layers (`ordinary`) is not asked.
    """
    if ordinary(model, x.dtype):
        return Bears()
    images = (x[:2] if len(x) > 1 else x[:1].expand(2, *x.shape[1:])).detach().clone()
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        return _found_out(model, images, gradients)


def _found_out(model: nn.Module, images: Tensor, gradients: bool) -> Bears:
    plain = _Answer.of(model, images)
    precision: torch.dtype | None = None
    many = True
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
    if plain.logits is None and own in HALF and images.dtype not in HALF:
        plain, precision = _Answer.of(model, images.to(own)), own
    if plain.logits is None:
        alone = _Answer.of(model, images[:1] if precision is None else images[:1].to(precision))
        if alone.logits is None:
            last = _Answer.of(model, images.contiguous(memory_format=LAST))
            if last.logits is None:
                return Bears()  # it fails on its images whatever is done: see `check_images`
            plain = last
        else:
            plain, many = alone, False
    seen = images if precision is None else images.to(precision)
    seen = seen if many else seen[:1]
    again = _Answer.of(model, seen)
    random = again.logits is None or not _same(again.logits, plain.logits, 1e-5)
    last = _Answer.of(model, seen.contiguous(memory_format=LAST)) if seen.device.type == "cpu" else plain
    coarse = plain.logits.dtype if plain.logits is not None and plain.logits.dtype in HALF else _coarse(model, seen)
    layout = last.logits is not None and (random or coarse is not None or _same(last.logits, plain.logits, APART))
    neighbours = True
    if many and not random and coarse is None and plain.logits is not None:
        lone = _Answer.of(model, seen[:1])
        neighbours = lone.logits is None or _same(lone.logits, plain.logits[:1], APART)
    bears = Bears(
        layout=layout,
        untouched=not (plain.changed or (last.changed and last.logits is not None)),
        precision=precision,
        inside=coarse,
        answers=_other_dtype(plain.logits, seen.dtype),
        many=many,
        neighbours=neighbours,
        scale=_scale(plain.logits),
    )
    if not random and coarse is None:
        bears = replace(bears, rounding=_rounding(Fitted(model, bears), images, plain.logits))
    return _with_gradients(model, bears, images, random) if gradients else bears


@torch.no_grad()
def _rounding(model: nn.Module, images: Tensor, logits: Tensor | None) -> float:
    """How far the same images in other layouts, and images that differ in their last bit, move the logits."""
    if logits is None or not logits.is_floating_point():
        return 0.0
    nudged = torch.nextafter(images, 1 - images.round())  # towards the far side, so that none leaves the box
    try:
        others = [torch.cat([model(one) for one in images.split(1)]), model(nudged)]
        if images.device.type == "cpu":
            others.append(model(images.contiguous(memory_format=LAST)))
    except torch.OutOfMemoryError:
        raise
    except FAILURES:  # one that takes no single image, say
        return 0.0
    spread = (logits.amax(1) - logits.amin(1)).double().max()
    apart = max(float((other[: len(logits)] - logits).double().abs().max()) for other in others)
    share = apart / float(spread) if spread > 0 else 0.0
    return share if share < APART else 0.0  # NaN too: no rounding


class _Dtypes(TorchDispatchMode):
    """While it is on, the half-precision types in which anything is computed are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look at what comes out."""
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor) and value.dtype in HALF:
                self.found.add(value.dtype)
        return out


def _coarse(model: nn.Module, images: Tensor) -> torch.dtype | None:
    """The coarsest half-precision type that the model computes in, though its logits are in another."""
    mode = _Dtypes()
    try:
        with torch.no_grad(), mode:
            model(images.clone())
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return None
    return max(mode.found, key=lambda dtype: torch.finfo(dtype).eps, default=None)


def _scale(logits: Tensor | None) -> float:
    """What brings logits of an extreme size to about 1; 1 for all others."""
    if logits is None or not logits.is_floating_point() or logits.shape[1] < 2:
        return 1.0
    size = span(logits.double()).amax().item()
    if not 0 < size < math.inf or 1 / EXTREME < size < EXTREME:
        return 1.0
    return 2.0 ** -round(math.log2(size))


def _other_dtype(logits: Tensor | None, dtype: torch.dtype) -> torch.dtype | None:
    if logits is None or not logits.is_floating_point() or logits.dtype in (*HALF, dtype):
        return None
    return logits.dtype


@dataclass(frozen=True)
class _Answer:
    """The logits of one forward pass, None where it failed, and whether it changed its images."""

    logits: Tensor | None
    changed: bool

    @classmethod
    def of(cls, model: nn.Module, images: Tensor) -> _Answer:
        given = images.clone(memory_format=torch.preserve_format)
        try:
            with torch.no_grad():
                logits = model(given)
        except torch.OutOfMemoryError:
            raise
        except FAILURES:  # asked otherwise next
            return cls(None, not torch.equal(given, images))
        good = isinstance(logits, Tensor) and logits.ndim == 2
        return cls(logits.detach().clone() if good else None, not torch.equal(given, images))


def _with_gradients(model: nn.Module, bears: Bears, images: Tensor, random: bool) -> Bears:
    """The same with what a backward pass tells."""
    trial = Fitted(model, bears)
    try:
        slope = _slope(trial, images, quick=False)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        if bears.direct and bears.many:
            other = _with_gradients(model, replace(bears, direct=False), images, random)
            if other.gradient:
                return other
        return replace(bears, gradient=False, why=(str(error) or repr(error)).splitlines()[0][:160])
    if slope is None:
        return replace(bears, gradient=False)
    if images.device.type != "cpu":
        return bears
    try:
        short = _slope(trial, images, quick=True)
    except FAILURES:
        short = None
    if short is None or not (random or _same(short, slope, 10 * APART)):
        return replace(bears, quick=False)
    return bears


def _slope(model: nn.Module, images: Tensor, *, quick: bool) -> Tensor | None:
    """The gradient of a mixture of all logits; None where there is no path to the images."""
    leaf = images.contiguous(memory_format=LAST) if images.device.type == "cpu" else images
    leaf = leaf.detach().clone().requires_grad_()
    with torch.enable_grad(), QuickConvolutions() if quick else nullcontext():
        logits = model(leaf)
        if not logits.requires_grad:
            return None
        weights = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype).cos()
        (slope,) = torch.autograd.grad((logits * weights).sum(), leaf, allow_unused=True)
    return slope


def _same(first: Tensor, second: Tensor | None, apart: float) -> bool:
    """Whether two tensors differ by rounding only; NaN and infinity must be at the same places."""
    if second is None or first.shape != second.shape or not torch.equal(first.isfinite(), second.isfinite()):
        return False
    one, other = first.double().nan_to_num(0, 0, 0), second.double().nan_to_num(0, 0, 0)
    size = torch.maximum(one.abs().max(), other.abs().max()) if one.numel() else one.sum()
    return bool((one - other).abs().max() <= apart * size) if one.numel() else True
