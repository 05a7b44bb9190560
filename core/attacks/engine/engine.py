"""How attacks use a model: frozen, asked in chunks, differentiated with respect to its images, behind its mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from core.attacks.engine.bears import HALF, bears_of
from core.attacks.engine.fitted import fitted
from core.attacks.engine.in_half import half_of, rounded
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.masks import Masked
from core.kernels.convolution import QuickConvolutions
from core.networks.portions import halved

ATTACK_BATCH = 128
"""Images under attack at once: few enough for the caches of a CPU, and so that a batch is refilled often."""
BATCH = 256
"""Images in one forward pass, unless an attack is told otherwise."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes that images may have; float8 and the like have no arithmetic."""


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


def confine(model: nn.Module, point: Tensor, x: Tensor) -> Tensor:
    """`point` where the model's mask lets an attack change the image, `x` elsewhere; `point` if it has no mask.

    A mask is part of the model (see `masks.Masked`), whose gradient is 0 outside it. What does not come from a
    gradient (random starts, proposals, drawn images) must pass through here.
    """
    return torch.where(model.mask, point, x) if isinstance(model, Masked) else point


@torch.no_grad()
def predict(
    model: nn.Module, x: Float[Tensor, "n c h w"], batch: int = BATCH, *, half: bool = False
) -> Float[Tensor, "n k"]:
    """Logits in chunks of `batch` images. The model is used as it is: freeze it first.

    `half`: rounded ones will do, where the model is searched in half precision (`in_half`).
    """
    how = half_of(model) if half else None
    ask = model if how is None else lambda chunk: rounded(model, chunk, how.classes)
    # copies: a model may write its next answer where the last one is
    logits = torch.cat([halved(ask, fast_layout(chunk)).clone() for chunk in x.split(batch)])
    if len(logits) != len(x):
        raise ValueError(f"model: expected a row of logits an image, got {len(logits)} for {len(x)} images")
    return logits


def fast_layout(x: Tensor) -> Tensor:
    """The same images, channels last on a CPU, where convolutions and their gradients are quicker so."""
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


def gradient_step(model: nn.Module, x: Tensor, goal: Goal, loss: Loss, *, half: bool = False) -> tuple[Tensor, Tensor]:
    """One batch: detached logits, and the loss's gradient with NaN and infinity (no direction at all) set to 0.

    `half` as in `predict`.
    """
    leaf = leaf_of(x)
    logits = logits_of_leaf(model, leaf, half=half)
    return logits.detach().clone(), input_gradient(goal.loss(logits, loss).sum(), leaf)


def logits_of_leaf(model: nn.Module, leaf: Tensor, *, half: bool = False) -> Tensor:
    """A forward pass from which gradients with respect to `leaf` are to be taken. Freeze the model first.

    `half` as in `predict`.
    """
    how = half_of(model) if half else None
    # the quick ways are a CPU's; elsewhere they would only stand in a compiled model's way
    with QuickConvolutions() if leaf.device.type == "cpu" and bears_of(model).quick else nullcontext():
        logits: Tensor = model(leaf) if how is None else rounded(model, leaf, how.classes)
    return logits


def input_gradient(value: Tensor, leaf: Tensor, retain_graph: bool = False) -> Tensor:
    """Gradient of `value` with respect to `leaf`; 0 where it is not finite or where there is no path between them."""
    if not value.requires_grad:  # a constant model
        return torch.zeros_like(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, retain_graph=retain_graph, allow_unused=True)
    return torch.zeros_like(leaf) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0).contiguous()
