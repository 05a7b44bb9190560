"""Whether an evaluation's searches compute in half precision; its verdicts are always in float32.

See `core.attacks.engine.in_half`. What this saves, and that verdicts stay the same, is measured in
docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.engine.bears import Fitted, bears_of
from core.attacks.engine.engine import gradient_step, predict
from core.attacks.engine.find_out import FAILURES
from core.attacks.engine.in_half import Half, searched_in_half
from core.attacks.engine.losses import Goal, span
from core.kernels.half import native
from core.networks.portions import arithmetic

LEAST = 1e7
"""Floating-point operations of a forward pass of one image from which on half precision pays: below, steps and casts
between the products take what these save."""
ALIKE = 0.98
"""Cosine of the angle between an image's two gradients, in the mean, from which on they are alike. Of networks whose
activations lie close to where they bend, the rounded gradient is one of another place, and a search by it is worth
less."""
COARSEST = torch.finfo(torch.bfloat16).eps
"""Rounding of margins, as a share of the span of the logits, up to which a model bears it."""


def rounding_in_half(model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]) -> float:
    """What half precision moves a model's margins by, where its searches are quicker so and worth the same; else 0.

    They are where the processor multiplies bfloat16, the network is large enough, and margins and gradients at these
    points are nearly those of float32. Costs two passes of the points, which are not counted. Freeze the model first.

    Args:
        model: pixels to logits.
        x: points where searches go, at least one.
        y: the true classes there.

    Returns:
        The root of the mean square, as a share of the span of the logits.
    """
    if x.device.type != "cpu" or not native("cpu") or not _fit(model, x):
        return 0.0
    goal = Goal.of(y, None)
    try:
        if arithmetic(model, x[:1]) < LEAST:
            return 0.0
        logits, slope = gradient_step(model, x, goal, "margin")
        with searched_in_half(model, Half(logits.shape[1], 0.0)):
            rounded, other = gradient_step(model, x, goal, "margin", half=True)
    except torch.OutOfMemoryError:
        raise
    except FAILURES:  # somebody else's model, whose arithmetic cannot be counted
        return 0.0
    off = ((goal.margin(rounded) - goal.margin(logits)) / span(logits)).square().mean().sqrt().item()
    # 0: nothing was rounded, since autocast knows none of its layers, or since it fails; NaN is no number below
    return off if 0 < off <= COARSEST and _alike(slope, other) else 0.0


@contextmanager
def searching(model: nn.Module, x: Float[Tensor, "n c h w"], rounding: float) -> Iterator[None]:
    """Inside, attacks on this model search in half precision, if that rounds at all and the processor multiplies it."""
    half = rounding > 0 and native("cpu")
    with searched_in_half(model, Half(predict(model, x[:1]).shape[1], rounding) if half else None):
        yield


def _fit(model: nn.Module, x: Tensor) -> bool:
    """Whether a model is one of float32 throughout that is asked as it is: not compiled, not the mean of draws."""
    values = [value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point()]
    if any(value.dtype != torch.float32 for value in (x, *values)):
        return False
    if hasattr(model, "_orig_mod") or getattr(model, "stands_in", False):
        return False
    return not isinstance(model, Fitted) and bears_of(model).everything


def _alike(slope: Tensor, other: Tensor) -> bool:
    """Whether gradients point the same way; each is scaled first, so that its squares stay in float32."""
    some = slope.flatten(1).abs().amax(1) > 0
    one, two = (value.flatten(1)[some] for value in (slope, other))
    one, two = (value / value.abs().amax(1, keepdim=True) for value in (one, two))
    return F.cosine_similarity(one, two).nan_to_num(0.0).mean().item() >= ALIKE  # of no image: NaN
