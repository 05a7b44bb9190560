"""Searches in half precision, verdicts in float32.

A search asks a model thousands of times about an image, and nearly every answer is that it is not fooled yet. Such an
answer may be rounded: layers compute in bfloat16 (`core.kernels.half`), and where the margin is so small that rounding
may hide a success, the image is asked about again in float32. So no search ends, and no success is claimed, by a
rounded answer; what rounding changes is the way that a search takes.

Only inside `searched_in_half`, and only in attacks that know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.attacks.engine.find_out import FAILURES
from core.attacks.engine.losses import TIMES, span
from core.kernels.half import half_logits


@dataclass(frozen=True)
class Half:
    """How a model is searched in half precision.

    Attributes:
        classes: the number of its logits.
        rounding: what that moves its margins by, the root of the mean square, as a share of the span of its logits.
    """

    classes: int
    rounding: float

    def doubt(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """The margin up to which an image may be fooled in float32, for all that its rounded logits say.

        `logits` are those of the images, whose span is the scale.
        """
        return TIMES * self.rounding * span(logits)


@contextmanager
def searched_in_half(model: nn.Module, how: Half | None) -> Iterator[None]:
    """Inside, attacks on this very model, of float32 weights, search in half precision; None: nothing changes."""
    token = _SEARCHED.set(None if how is None else (id(model), how))
    try:
        yield
    finally:
        _SEARCHED.reset(token)


def half_of(model: nn.Module) -> Half | None:
    """How a model is searched in half precision here; None for any other."""
    searched = _SEARCHED.get()
    return searched[1] if searched is not None and searched[0] == id(model) else None


def rounded(model: nn.Module, x: Float[Tensor, "n c h w"], classes: int) -> Float[Tensor, "n k"]:
    """The model's logits, of which there are so many, rounded; as they are where it fails in half precision."""
    try:
        return half_logits(model, x, classes)
    except torch.OutOfMemoryError:
        raise
    except FAILURES:  # somebody else's model, on a way through it that it had not taken before
        logits: Tensor = model(x)
        return logits


_SEARCHED: ContextVar[tuple[int, Half] | None] = ContextVar("searched", default=None)
"""The model that is searched in half precision, by its identity."""
