"""What a model bears, found out before it is attacked: memory layout, changes in place, precision, gradients.

Attacks give a model channels-last batches of any size, keep the images that they gave, and differentiate by a quicker
convolution (`convolution`). Most models bear that. Some do not: one that flattens by `view` refuses channels-last
images, one that normalises in place overwrites them, one in half precision takes no float32, an exported one takes one
image at a time, and some have no gradient. `fitted` looks at two images and puts such a model into a `Fitted` one,
which bears it all and gives the same logits; a model that bears everything comes back as it is.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from core.attacks.engine.losses import span
from core.attacks.engine.masks import Masked
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
HALF = (torch.float16, torch.bfloat16)
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


@dataclass(frozen=True)
class Bears:
    """What a model bears.

    Attributes:
        layout: channels-last images, with the same logits.
        untouched: it leaves its images as they are.
        precision: the dtype that it wants its images in, where that is not the one they have.
        inside: the dtype of its logits, or of what they are computed from, where that is coarser than float32.
        answers: the dtype of its logits, where that is neither coarser nor the one of its images.
        quick: gradients by `QuickConvolutions` are the model's own.
        gradient: there is a gradient at all.
        direct: gradients of its images alone; where off, as of a reentrant checkpoint, by `backward()` only.
        weights: weights that gradients can go through; where off, they were made in inference mode.
        scale: a power of two that its logits are multiplied with, where their size leaves no room for squares.
        many: several images at once.
        rounding: what the batch layout, or the last bit of an image, was seen to change logits by, as a share of their
            spread.
        neighbours: an image's logits are the same beside others as alone.
        why: the error that a backward pass ended in, if it did.
    """

    layout: bool = True
    untouched: bool = True
    precision: torch.dtype | None = None
    inside: torch.dtype | None = None
    answers: torch.dtype | None = None
    quick: bool = True
    gradient: bool = True
    direct: bool = True
    weights: bool = True
    scale: float = 1.0
    many: bool = True
    rounding: float = 0.0
    neighbours: bool = True
    why: str = ""

    @property
    def everything(self) -> bool:
        """Whether nothing has to be done for the model."""
        return replace(self, rounding=0.0) == Bears()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, in sentences; none where the model bears everything."""
        said = []
        if not self.layout:
            said.append("The model does not take channels-last images; it was given contiguous ones.")
        if not self.untouched:
            said.append("The model changes its images in place; it was given copies.")
        if self.precision is not None:
            name = str(self.precision).removeprefix("torch.")
            said.append(f"The model computes in {name}: the attack works in float32, and images are rounded for it.")
        elif self.inside is not None:
            said.append(f"The model's logits are {str(self.inside).removeprefix('torch.')}: close calls are coarse.")
        if self.scale != 1:
            said.append(f"The model's logits are of an extreme size; the attack multiplied them by {self.scale:g}.")
        if not self.neighbours:
            said.append(
                "The model's answer to an image depends on the other images of its batch: each success was verified "
                "alone and among the others."
            )
        if not self.many:
            said.append("The model takes one image at a time.")
        if not self.gradient:
            error = f" (a backward pass ends in: {self.why})" if self.why else ""
            said.append(
                f"The model passes no gradient back to its images{error}: attacks that follow gradients cannot see "
                "the way. Trust only attacks without gradients here: square, simba, hop_skip_jump, sparse_rs."
            )
        return tuple(said)


class Fitted(nn.Module):
    """A model that bears what attacks do, with the logits of the one inside (or a power of two times these).

    Attributes:
        model: the model inside.
        bears: what that one bears.
    """

    def __init__(self, model: nn.Module, bears: Bears) -> None:
        super().__init__()
        self.model, self.bears = model, bears
        self.scalar = bool(getattr(model, "scalar", False))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The model's logits, in the images' dtype."""
        return self._asked(self.model, x)

    def score(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """N(x) of a scalar network."""
        return self._asked(getattr(self.model, "score"), x)  # noqa: B009

    def _asked(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        bears = self.bears
        given = x if bears.layout else x.contiguous()
        given = given if bears.precision is None else given.to(bears.precision)
        given = given.clone() if given is x and not bears.untouched else given
        with nullcontext() if bears.gradient else torch.no_grad():
            if not bears.direct and torch.is_grad_enabled() and given.requires_grad:
                out = _ByBackward.apply(given, function)
            elif bears.many or len(given) == 1:
                out = function(given)
            else:
                out = torch.cat([function(one) for one in given.split(1)])
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        return out.to(x.dtype) if bears.scale == 1 else (out * bears.scale).to(x.dtype)


class _ByBackward(torch.autograd.Function):
    """A model whose gradient comes from `backward()` alone, computed anew for it: weights are frozen meanwhile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        leaf = ctx.saved_tensors[0].detach().clone().requires_grad_()
        failed: list[Exception] = []

        def work() -> None:
            try:
                with torch.enable_grad():
                    ctx.function(leaf).backward(gradient)
            except Exception as error:
                failed.append(error)

        # a thread of its own: inside a backward pass for chosen inputs, one for all is refused as well
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        if failed:
            raise failed[0]
        return leaf.grad, None


def innermost(model: nn.Module) -> nn.Module:
    """The model behind its mask and behind what stands in for its gradients (`stand_ins`)."""
    while isinstance(model, Masked) or getattr(model, "stands_in", False):
        model = model.model  # type: ignore[assignment]
    return model


def bears_of(model: nn.Module) -> Bears:
    """What was found out of a model, behind its mask; everything for one that was not put into a `Fitted`."""
    inner = innermost(model)
    return inner.bears if isinstance(inner, Fitted) else _known.get().get(id(inner), (Bears(), False))[0]


_known: ContextVar[Mapping[int, tuple[Bears, bool]]] = ContextVar("known", default=MappingProxyType({}))
"""What each model bears that is under attack, by its identity, and whether gradients were looked at."""


@contextmanager
def fitted(model: nn.Module, x: Float[Tensor, "n c h w"], *, gradients: bool = True) -> Iterator[nn.Module]:
    """The model, or one with the same logits that bears what attacks do with it; for as long as the context lasts.

    Attacks inside that are given this model again take it as it is. Costs a few passes of two images, which are not
    counted, or none for a model of common layers; the global random numbers stay what they were. A model that fails on
    its images comes back as it is: the attack's own check says so.

    Args:
        model: pixels to logits; freeze it first.
        x: the images, float32 or float64, N >= 1.
        gradients: also look at backward passes; off for attacks that take none.
    """
    known = _known.get()
    base = innermost(model)
    seen, differentiated = known.get(id(base), (None, False))
    if isinstance(base, Fitted) or (seen is not None and seen.everything and differentiated):
        yield model
        return
    own = inner = model.model if isinstance(model, Masked) else model
    if any(value.is_inference() for value in (*inner.parameters(), *inner.buffers())):
        inner = copy.deepcopy(inner)  # outside inference mode: weights like any other
    bears, differentiated = known.get(id(own), (None, False))
    if bears is None or (gradients and not differentiated):
        # what is compiled bears what it was compiled from does: each look at it would be a compilation
        bears = find_out(getattr(inner, "_orig_mod", inner), x, gradients=gradients)
        bears = bears if inner is own else replace(bears, weights=False)
    made: nn.Module = model
    if not bears.everything:
        made = Fitted(inner, bears)
        made.training = inner.training if hasattr(inner, "training") else False
        made = Masked(made, model.mask) if isinstance(model, Masked) else made
    token = _known.set({**known, id(own): (bears, gradients or differentiated)})
    try:
        yield made
    finally:
        _known.reset(token)


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
