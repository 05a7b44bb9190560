"""What every attack shares: input checks, frozen models, random streams an image, verified results.

Nothing here knows a particular attack.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from core.attacks.engine.fitted import FAILURES, HALF, bears_of, fitted
from core.attacks.engine.geometry import distances, rounded_down
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.masks import Masked
from core.attacks.engine.verdict import settled
from core.kernels.convolution import QuickConvolutions

ATTACK_BATCH = 128
"""Images under attack at once: measured best on two cores for LeNet (cache), and small enough to refill often."""
BATCH = 256
"""Images in one forward pass, unless an attack is told otherwise."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes that images may have; float8 and the like have no arithmetic."""
NO_EPS = object()
"""Says to `check` that an attack has no budget: None is a budget that was forgotten."""


@dataclass(frozen=True)
class AttackResult:
    """What an attack made. A failed image is data: its row holds the best attempt.

    Attributes:
        x_adv: (N, C, H, W), dtype and device of the images.
        success: (N,) bool: fooled, and found so again by a second forward pass of `x_adv` in another batch layout. An
            image for which the model answers NaN counts as fooled (untargeted): it has no right answer there.
        distance: name to (N,): `linf`, `l2`, `l1` in float64; `l0` (features) and `pixels` int64.
        forwards: (N,) int64, forward passes spent on each image, the verification included.
        backwards: (N,) int64, backward passes likewise.
        trace: the method's own records, see there.
        notes: what the model could not bear, and what was done instead, in sentences (see `fitted`).
    """

    x_adv: Tensor
    success: Tensor
    distance: dict[str, Tensor]
    forwards: Tensor
    backwards: Tensor
    trace: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode with no parameter gradients; everything is put back, whatever happens inside.

    Each sub-module's mode, each parameter's `requires_grad` and every buffer come back exactly, also where a forward
    pass put another tensor in a buffer's place; `.grad` is never written, since attacks differentiate with respect to
    the input only. Gradients are enabled inside even where the caller turned them off.

    Raises:
        ValueError: a lazy layer has no weights yet.
    """
    lazy = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if is_lazy(value)]
    if lazy:
        raise ValueError(f"model: expected weights, got {lazy[0]} that has none yet: call model(x[:1]) once before")
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    places = [(module._buffers, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]
    try:
        _evaluated(model)
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            with torch.inference_mode(parameter.is_inference()):  # its flag may be set there only
                parameter.requires_grad_(flag)
        for named, name, buffer in places:
            if named[name] is not buffer:
                named[name] = buffer
        with torch.no_grad():
            for buffer, before in buffers:
                with torch.inference_mode(buffer.is_inference()):
                    if not torch.equal(buffer, before):  # a NaN is unequal to itself; copying it back is harmless
                        buffer.copy_(before)


@contextmanager
def admitted(model: nn.Module, x: Tensor, *, gradients: bool = True) -> Iterator[nn.Module]:
    """The model frozen, and in a form that bears what attacks do with it (see `fitted`); for functions of other shapes.

    What is no batch of images passes as it is: `check_images` says what is wrong with it.
    """
    if not isinstance(model, nn.Module) or not is_batch(x):
        yield model
        return
    with frozen(model), fitted(model, x, gradients=gradients) as fit:
        yield fit


def is_batch(x: object) -> bool:
    """Whether it is a batch of images at all."""
    if not isinstance(x, Tensor) or x.dtype not in FLOATS or x.layout != torch.strided or x.is_meta:
        return False
    return x.ndim == 4 and x.numel() > 0


def plain(value: Any) -> Any:
    """A tensor without a graph that gradients may be taken through; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    return value.clone() if value.is_inference() else value


def wide(value: Any) -> Any:
    """A tensor in half precision as float32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def _evaluated(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError:  # a program of torch.export is in the mode that it was exported in
        for module in model.modules():
            if hasattr(module, "training"):
                module.training = False


def _mixed(value: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64, which wraps on CPU and CUDA alike: every bit depends on every bit."""
    value = (value ^ (value >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ (value >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return value ^ (value >> 31 & 0x1FFFFFFFF)


@dataclass(frozen=True)
class Streams:
    """Random numbers an image, which depend on (seed, image index) alone.

    So a slice attacked alone, or on another machine or device, sees the numbers that it saw in the whole batch.
    A value, not a state: the same call gives the same numbers again, and `fork` gives independent streams.

    Attributes:
        key: (N,) int64, one key an image. Make them with `Streams.of`.
    """

    key: Tensor

    @classmethod
    def of(cls, seed: int, index: Int[Tensor, " n"]) -> Streams:
        """Streams of the images with these indices (N,) int64, on their device."""
        start = _mixed(torch.tensor(seed, dtype=torch.int64, device=index.device) + 0x1E3779B97F4A7C15)
        return cls(_mixed(start ^ _mixed(index.to(torch.int64) * -0x61C8864680B583EB)))

    def take(self, rows: Tensor | slice) -> Streams:
        """The streams of some of the images."""
        return Streams(self.key[rows])

    def fork(self, number: int | Tensor) -> Streams:
        """Independent streams; `number` tells forks apart: a restart, a target class; scalar or (N,)."""
        return Streams(_mixed(self.key ^ _mixed(torch.as_tensor(number, device=self.key.device) * 2 + 1)))

    def _bits(self, shape: tuple[int, ...], number: int) -> Tensor:
        count = torch.Size(shape).numel()
        step = torch.arange(1, count + 1, device=self.key.device, dtype=torch.int64) * -0x61C8864680B583EB
        return _mixed(self.fork(number).key[:, None] + step).view(-1, *shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, *shape) numbers in [low, high), 24 random bits each."""
        unit = (self._bits(shape, -1) >> 40 & 0xFFFFFF).to(dtype) * 2**-24
        return low + (high - low) * unit

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, *shape) standard normal numbers, by Box and Muller on the CPU, so that devices agree to the last bit."""
        home = Streams(self.key.cpu())
        first, second = (home._bits(shape, number) >> 11 & (1 << 53) - 1 for number in (-2, -3))
        radius = (-2 * ((first.double() + 1) * 2**-53).log()).sqrt()
        return (radius * (second.double() * 2**-52 * torch.pi).cos()).to(self.key.device, dtype)


def confine(model: nn.Module, point: Tensor, x: Tensor) -> Tensor:
    """`point` where the model's mask lets an attack change the image, `x` elsewhere; `point` if it has no mask.

    A mask is part of the model (see `masks.Masked`), whose gradient is 0 outside it. What does not come from a
    gradient (random starts, proposals, drawn images) must pass through here.
    """
    return torch.where(model.mask, point, x) if isinstance(model, Masked) else point


@torch.no_grad()
def predict(model: nn.Module, x: Float[Tensor, "n c h w"], batch: int = BATCH) -> Float[Tensor, "n k"]:
    """Logits in chunks of `batch` images. The model is used as it is: freeze it first."""
    # copies: a model may write its next answer where the last one is
    logits = torch.cat([model(fast_layout(chunk)).clone() for chunk in x.split(batch)])
    if len(logits) != len(x):
        raise ValueError(f"model: expected a row of logits an image, got {len(logits)} for {len(x)} images")
    return logits


def fast_layout(x: Tensor) -> Tensor:
    """The same images, channels last on a CPU: there a convolution and its gradient take two thirds of the time."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def leaf_of(x: Tensor) -> Tensor:
    """A copy of the images that gradients can be taken with respect to."""
    return fast_layout(x.detach().clone()).requires_grad_()


def gradients(
    model: nn.Module, x: Float[Tensor, "n c h w"], goal: Goal, loss: Loss, batch: int = BATCH
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Gradient of the loss with respect to each image, and the logits of the same forward pass, in chunks."""
    parts, logits = [], []
    for start in range(0, len(x), batch):
        rows = slice(start, start + batch)
        out, gradient = gradient_step(model, x[rows], goal.take(rows), loss)
        parts.append(gradient)
        logits.append(out)
    return torch.cat(parts), torch.cat(logits)


def gradient_step(model: nn.Module, x: Tensor, goal: Goal, loss: Loss) -> tuple[Tensor, Tensor]:
    """One batch: detached logits, and the loss's gradient with NaN and infinity (no direction at all) set to 0."""
    leaf = leaf_of(x)
    logits = logits_of_leaf(model, leaf)
    return logits.detach().clone(), input_gradient(goal.loss(logits, loss).sum(), leaf)


def logits_of_leaf(model: nn.Module, leaf: Tensor) -> Tensor:
    """A forward pass from which gradients with respect to `leaf` are to be taken. Freeze the model first."""
    # the quick ways are a CPU's; elsewhere they would only stand in a compiled model's way
    with QuickConvolutions() if leaf.device.type == "cpu" and bears_of(model).quick else nullcontext():
        logits: Tensor = model(leaf)
    return logits


def input_gradient(value: Tensor, leaf: Tensor, retain_graph: bool = False) -> Tensor:
    """Gradient of `value` with respect to `leaf`; 0 where it is not finite or where there is no path between them."""
    if not value.requires_grad:  # a constant model
        return torch.zeros_like(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, retain_graph=retain_graph, allow_unused=True)
    return torch.zeros_like(leaf) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0).contiguous()


def clear_goal(model: nn.Module, goal: Goal, clean: Float[Tensor, "n k"]) -> Goal:
    """The goal for a search that stops at the first image that fools, or walks along the boundary.

    It is reached beyond what rounding in this model may hide; `clean` are the images' logits (`Goal.beyond_rounding`).
    """
    bears = bears_of(model)
    coarse = bears.precision or bears.inside
    return goal.beyond_rounding(clean, torch.finfo(coarse).eps if coarse is not None else 0.0, bears.rounding)


def finish(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    x_adv: Float[Tensor, "n c h w"],
    goal: Goal,
    claimed: Bool[Tensor, " n"],
    forwards: Int[Tensor, " n"],
    backwards: Int[Tensor, " n"],
    trace: dict[str, Tensor] | None = None,
    batch: int = BATCH,
    movable: bool = False,
) -> AttackResult:
    """Verify every claimed success by a forward pass of the stored image in another batch layout; measure distances.

    The images run in reverse order and in chunks of another size: a verdict that hangs on how a batch was cut is a
    rounding error and no success. One right on the boundary is looked at one by one and in float64 (`verdict`); that
    takes a few passes more, which are counted, and which a budget does not know of. Where an answer depends on the
    other images of the batch, each image must fool alone and among all the others as well.

    Args:
        model: frozen.
        x: the images.
        x_adv: what was made of them.
        goal: what counts as fooled; an image that is over the boundary by less than half its slack (`clear_goal`) is
            looked at more closely.
        claimed: (N,) bool, what the attack says.
        forwards: (N,) passes so far; the verification is added.
        backwards: (N,) passes.
        trace: the attack's own records.
        batch: images at once in the attack.
        movable: whether an image that is right on the boundary may be moved on, away from `x`, inside the box: where
            the attack has no ball to stay in.
    """
    success, near = torch.zeros_like(claimed), torch.zeros_like(claimed)
    size = max(1, batch // 2 + 1) if bears_of(model).neighbours else 1
    for rows in claimed.nonzero()[:, 0].flip(0).split(size):  # in chunks: no copy of the whole set
        if len(rows):
            logits, part = predict(model, x_adv[rows], size), goal.take(rows)
            slack = clear_goal(model, part, logits).slack if part.slack is None else part.slack
            success[rows] = replace(part, slack=None if slack is None else slack / 2).reached(logits)
            near[rows] = ~(part.margin(logits) > (0.0 if slack is None else slack))
    forwards = forwards + claimed
    rows = (claimed & ~success & (near | movable)).nonzero()[:, 0]
    if len(rows):
        made, success[rows], passes = settled(
            predict, model, x[rows], x_adv[rows], goal.take(rows), batch=size, movable=movable
        )
        if movable:
            x_adv = x_adv.clone()
            x_adv[rows] = made
        forwards[rows] += passes
    if not bears_of(model).neighbours:
        success &= goal.reached(predict(model, x_adv, len(x_adv)))
        forwards = forwards + 1
    return AttackResult(x_adv, success, distances(x_adv, x), forwards, backwards, trace or {})


def check(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: object = NO_EPS,
    y_target: Tensor | None = None,
    eps_limit: float = 1.0,
) -> Tensor:
    """Refuse bad input with the argument's name, what was expected and what came.

    Args:
        model: must give logits (N, K), K >= 2.
        x: (N, C, H, W) floating point, finite, in [0, 1], N >= 1.
        y: (N,) int64 in [0, K), on the images' device.
        eps: a number or (N,), finite, from 0 to `eps_limit`; `NO_EPS` for an attack without a budget.
        y_target: like `y`.
        eps_limit: 1 for linf, where more has no meaning; may be inf.

    Returns:
        The budget as (N,) in the images' dtype and device, see `check_eps` (zeros if there is none).

    Raises:
        ValueError: with the argument's name.
    """
    classes = check_images(model, x)
    _check_labels("y", y, x, classes)
    if y_target is not None:
        _check_labels("y_target", y_target, x, classes)
    return check_eps(0.0 if eps is NO_EPS else eps, x, eps_limit)


def check_budget(budget: int | None, least: int) -> None:
    """Refuse a budget of passes that is too small for anything useful."""
    if budget is not None and budget < least:
        raise ValueError(f"budget: expected at least {least}, got {budget}")


def check_images(model: nn.Module, x: Tensor) -> int:
    """Refuse what is no model, or no batch of its images (see `check`); returns the model's number of classes."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if isinstance(x, Tensor) and x.ndim == 4 and len(x) == 0:
        raise ValueError("x: expected at least one image, got none")
    if not is_batch(x):
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        if isinstance(x, Tensor) and (x.is_meta or x.layout != torch.strided):
            got += f", {x.layout}, on {x.device}"
        raise ValueError(f"x: expected a floating-point tensor (N, C, H, W), got {got}")
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"x: expected finite values in [0, 1], got {low:g} to {high:g}")
    with frozen(model), torch.no_grad():
        try:
            logits = model(fast_layout(x[:1]))
        except torch.OutOfMemoryError:
            raise
        except FAILURES as error:
            if isinstance(error, ValueError) and isinstance(model, Masked):  # a mask of another size says so itself
                raise
            images = f"{x.dtype} images of shape {tuple(x.shape[1:])}"
            raise ValueError(
                f"model: expected one that takes {images}, got the error: {str(error) or repr(error)}"
            ) from error
    if isinstance(logits, Tensor) and not logits.is_floating_point():
        raise ValueError(f"model: expected logits in floating point, got {logits.dtype}")
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits (N, K) with K >= 2, got {got} for one image")
    return logits.shape[1]


def check_eps(eps: object, x: Tensor, limit: float = 1.0, name: str = "eps") -> Tensor:
    """The budget as (N,) in the images' dtype and device, rounded down where that dtype cannot hold it.

    ε is a float64 number. Rounded down, every image of the ball is within ε to the last bit in float64 too; rounded to
    nearest, half of all ε would let images out of the ball (`core.epsilon`).

    Args:
        eps: a number, or a tensor, an array or a list of N numbers, each finite and in [0, limit].
        x: (N, C, H, W) the images.
        limit: may be inf.
        name: of the argument, for errors.

    Raises:
        ValueError: anything else, None included.
    """
    if eps is None or isinstance(eps, str | bytes | bool | np.bool_) or getattr(eps, "dtype", None) == torch.bool:
        hint = "; write 8/255 without quotes" if isinstance(eps, str) else ""
        raise ValueError(f"{name}: expected a number or {len(x)} numbers, got {eps!r}{hint}")
    try:
        exact = torch.as_tensor(eps, dtype=torch.float64).to_dense().to(device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected a number or {len(x)} numbers, got {type(eps).__name__}: {error}") from error
    if exact.ndim > 1 or (exact.ndim == 1 and len(exact) != len(x)):
        raise ValueError(f"{name}: expected a number or shape ({len(x)},), got shape {tuple(exact.shape)}")
    good = (exact >= 0) & (exact <= limit) & exact.isfinite()
    if not good.all():
        span = "of 0 or more" if limit == torch.inf else f"in [0, {limit:g}]"
        value = exact[~good].flatten()[0].item()
        hint = f"; grey levels of 255 are {value:g}/255 here" if limit == 1 < value <= 255 else ""
        raise ValueError(f"{name}: expected finite budgets {span}, got {value:g}{hint}")
    return rounded_down(exact.detach(), x.dtype).expand(len(x)).clone()


def check_x_init(x_init: Tensor | None, x: Tensor) -> None:
    """Refuse points to start from that are no images like those of `x`."""
    if x_init is None:
        return
    if not isinstance(x_init, Tensor) or x_init.shape != x.shape:
        got = tuple(x_init.shape) if isinstance(x_init, Tensor) else type(x_init).__name__
        raise ValueError(f"x_init: expected shape {tuple(x.shape)}, as x, got {got}")
    if x_init.dtype != x.dtype or x_init.device != x.device:
        raise ValueError(f"x_init: expected {x.dtype} on {x.device}, as x, got {x_init.dtype} on {x_init.device}")
    low, high = x_init.min().item(), x_init.max().item()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"x_init: expected finite values in [0, 1], got {low:g} to {high:g}")


def _check_labels(name: str, labels: Tensor, x: Tensor, classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != x.shape[:1]:
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"{name}: expected an int64 tensor of shape ({len(x)},), got {got}")
    if labels.device != x.device:
        raise ValueError(f"{name}: expected device {x.device}, as x, got {labels.device}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{name}: expected classes from 0 to {classes - 1}, got {labels.min().item()} to {labels.max().item()}"
        )


def default_streams(streams: Streams | None, x: Tensor) -> Streams:
    """The given streams, or those of seed 0 and the images' positions. Raises ValueError if their number is wrong."""
    if streams is None:
        return Streams.of(0, torch.arange(len(x), device=x.device))
    if len(streams.key) != len(x):
        raise ValueError(f"streams: expected {len(x)} of them, one an image, got {len(streams.key)}")
    return Streams(streams.key.to(x.device))
