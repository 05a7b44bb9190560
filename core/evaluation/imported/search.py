"""Which framing is right: each is tried on the same images, and the best is told from the others as far as they can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from core.attacks.engine.losses import predicted
from core.evaluation.tables.paired import LEVEL, mcnemar
from core.networks.framed import as_logits
from core.specs import Framing

CLEAR = 3.0
"""Standard errors by which the loss of one framing must lie below another's to be told from it."""
ALIKE = 0.02
"""Mean distance of probabilities (total variation) below which it hardly matters which of two framings is taken, if
their divisors are alike as well."""
SCALE = 1.05
"""Ratio of two divisors up to which they are alike: the same ε is so much larger inside the network."""


@dataclass(frozen=True)
class Tried:
    """One framing, and what the network answered under it to n images.

    Attributes:
        title: the normalisation in words.
        framing: all of it.
        out: what the network answered, as it came.
    """

    title: str
    framing: Framing
    out: Tensor


@dataclass(frozen=True)
class Scored:
    """The same with how good the answers are.

    Attributes:
        tried: the framing.
        right: which images are classified correctly.
        loss: cross-entropy an image at the temperature that suits this framing best, so that a framing does not look
            better for making logits smaller.
        shares: probabilities at that temperature.
        pred: the class; -1 where the network gave NaN.
    """

    tried: Tried
    right: Bool[Tensor, " n"]
    loss: Float[Tensor, " n"]
    shares: Float[Tensor, "n k"]
    pred: Int[Tensor, " n"]

    @property
    def accuracy(self) -> float:
        """The share of images classified correctly."""
        return float(self.right.double().mean())

    @property
    def rank(self) -> tuple[float, float]:
        """What the best has most of."""
        return self.accuracy, -float(self.loss.mean())

    def first(self, n: int) -> Scored:
        """The same on the first n images."""
        return replace(self, right=self.right[:n], loss=self.loss[:n], shares=self.shares[:n], pred=self.pred[:n])

    def row(self) -> dict[str, Any]:
        """As evidence."""
        framing = self.tried.framing
        return {
            "normalisation": self.tried.title,
            "mean": list(framing.mean),
            "std": list(framing.std),
            "channels": framing.channels,
            "layout": framing.layout,
            "accuracy": self.accuracy,
            "loss": float(self.loss.mean()),
            "n": len(self.right),
        }


def scored(tried: Tried, y: Int[Tensor, " n"], outputs: str) -> Scored:
    """How good the answers under a framing are, if they are of this kind (`core.specs.importing.Outputs`)."""
    classes = tried.framing.classes
    logits = as_logits(tried.out.double().cpu(), outputs, None if classes is None else torch.tensor(classes))
    pred = predicted(logits)
    finite = logits.isfinite().all(1)
    safe = torch.where(finite[:, None], logits, 0)
    safe = safe - safe.mean(1, keepdim=True)
    size = safe.abs().amax().clamp_min(1e-12)
    best: tuple[float, Tensor, Tensor] | None = None
    for power in range(-4, 9):  # the largest logit is brought to 0.25 … 1024
        scaled = safe * (2.0**power / size) * 4
        loss = F.cross_entropy(scaled, y.cpu(), reduction="none")
        if best is None or float(loss.mean()) < best[0]:
            best = (float(loss.mean()), loss, scaled.softmax(1))
    assert best is not None
    return Scored(tried, pred == y.cpu(), best[1], best[2], pred)


def clearly(one: Scored, other: Scored) -> bool:
    """Whether one framing is better than another beyond what these images can mistake.

    By accuracy: McNemar's exact test on the images that both were tried on. Or by the loss, where accuracy does not say
    otherwise.
    """
    one, other = _shared(one, other)
    only_one, only_other = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    p = mcnemar(only_one, only_other)
    if p < LEVEL:
        return only_one > only_other
    return _by_loss(one, other)


def _shared(one: Scored, other: Scored) -> tuple[Scored, Scored]:
    n = min(len(one.right), len(other.right))
    return one.first(n), other.first(n)


def _by_loss(one: Scored, other: Scored) -> bool:
    apart = other.loss - one.loss
    error = float(apart.std()) / len(apart) ** 0.5 if len(apart) > 1 else float("inf")
    return float(apart.mean()) > CLEAR * error and float(apart.mean()) > 1e-6


def best_of(every: list[Scored]) -> Scored:
    """The one with the highest accuracy; where that may be chance, one whose loss is clearly lower.

    Of equals the first one, which is the simplest.
    """
    top = max(every, key=lambda one: one.rank)
    chance = [
        one
        for one in every
        if mcnemar(int((one.right & ~top.right).sum()), int((top.right & ~one.right).sum())) > 4 * LEVEL
        and _by_loss(one, top)
    ]
    return min(chance, key=lambda one: float(one.loss.mean())) if chance else top


def unlike(one: Scored, other: Scored) -> float:
    """Mean total variation between the probabilities under two framings."""
    one, other = _shared(one, other)
    return float((one.shares - other.shares).abs().sum(1).mean() / 2)


def rivals(best: Scored, every: list[Scored]) -> list[Scored]:
    """Those that these images cannot tell from the best, though figures under them would be others.

    That is so where the network answers otherwise; and where the divisor is another one, since the same ε is then
    larger or smaller inside the network, whatever its answers to unchanged images are.
    """
    return [
        one
        for one in every
        if one is not best
        and not clearly(best, one)
        and (unlike(best, one) > ALIKE or _scale(best.tried.framing, one.tried.framing) > SCALE)
    ]


def usual_of(best: Scored, every: list[Scored]) -> Scored:
    """The first of those that hardly differ from the best one, which is the most usual; or the best one.

    These images cannot tell such a framing from the best, and its answers and its divisor are nearly the same.
    """
    for one in every:
        if one is best:
            break
        if not clearly(best, one) and one not in rivals(best, [one]):
            return one
    return best


def _scale(one: Framing, other: Framing) -> float:
    """The largest ratio of two divisors, either way, over the channels."""
    wide = max(len(one.std), len(other.std))
    pairs = zip(*(framing.std * (wide // len(framing.std)) for framing in (one, other)), strict=True)
    ratios = [abs(a / b) for a, b in pairs]
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def simplest_of(best: Scored, every: list[Scored]) -> Scored:
    """The best one; or, where these images cannot tell it from the network without any normalisation, the latter.

    Most networks that need another range of values are far worse without it.
    """
    plain = [one for one in every if set(one.tried.framing.mean) == {0.0} and set(one.tried.framing.std) == {1.0}]
    top = max(plain, key=lambda one: one.rank, default=best)
    return best if clearly(best, top) else top
