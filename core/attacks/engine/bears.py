"""What a model bears, in words and numbers, and a model that bears everything with the same logits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.attacks.engine.masks import Masked

HALF = (torch.float16, torch.bfloat16)


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
    return inner.bears if isinstance(inner, Fitted) else KNOWN.get().get(id(inner), (Bears(), False))[0]


KNOWN: ContextVar[Mapping[int, tuple[Bears, bool]]] = ContextVar("known", default=MappingProxyType({}))
"""What each model bears that is under attack, by its identity, and whether gradients were looked at."""
