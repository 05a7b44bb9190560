"""Up to which ε no perturbation can fool a model on one image, where that is proven quickly."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.certification.graph import Unbounded
from core.certification.proof import TINY, certified_margins
from core.evaluation.live.clock import Clock, alone

QUICK = ("ibp", "crown_ibp")
"""Bounds that take a moment for one image, the quicker one first."""


def proven_eps(
    model: nn.Module,
    x: Float[Tensor, "1 c h w"],
    y: Int[Tensor, " 1"],
    candidates: Sequence[float],
    *,
    norm: str = "linf",
    clock: Clock | None = None,
) -> float | None:
    """The largest of some ε at which it is proven that no image of the ball is classified as another class.

    Intervals are tried at every ε at once, then linear bounds on top of them, by bisection, until the time is over.

    Args:
        model: pixels to logits, in eval mode.
        x: the image, in [0, 1].
        y: its class, int64.
        candidates: ε above 0 in rising order.
        norm: "linf", "l2" or "l1".
        clock: the time limit; by default `LIMIT` seconds from now on. What is proven by then is returned.

    Returns:
        The ε; 0 where nothing could be proven at the smallest; None for a network that has a layer without a rule.

    Raises:
        ValueError: bad input, naming the argument.
        FalseProof: the model contradicts a bound.
    """
    clock = clock or Clock()
    levels = [float(value) for value in candidates]
    if not levels or levels != sorted(levels) or levels[0] <= 0:
        raise ValueError(f"candidates: expected ε above 0 in rising order, got {levels}")
    try:
        with alone(model):
            many = torch.tensor(levels, dtype=torch.float64, device=x.device)
            rows = x.expand(len(levels), -1, -1, -1), y.expand(len(levels))
            margins = certified_margins(model, *rows, many, norm=norm, method=QUICK[0], batch=8)
        safe = bisect.bisect_left((~(margins > TINY)).tolist(), True)  # the first ε that is not proven
        low, high = safe, len(levels)
        while low < high and clock.left > 0:
            # near the last one first: radii that intervals prove and those that linear bounds prove are often close
            middle = min((low + high) // 2, low + 3)
            with alone(model):
                margin = certified_margins(model, x, y, levels[middle], norm=norm, method=QUICK[1])
            if bool(margin[0] > TINY):
                low = middle + 1
            else:
                high = middle
    except Unbounded:
        return None
    return levels[low - 1] if low else 0.0
