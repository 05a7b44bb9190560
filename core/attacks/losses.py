"""What an attack minimises: margins, the cross-entropy's direction without its underflow, DLR, squared error.

A `Goal` says what counts as fooled and turns logits (N, K) into one number an image that the attack minimises. All
work for K = 2, so also for a scalar network N written as logits (0, N - tau).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Loss = Literal["ce", "margin", "dlr"]
LOSSES: tuple[Loss, ...] = ("ce", "margin", "dlr")


def predicted(logits: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """The class of the largest logit; -1 where a logit is NaN, so that broken numbers never count as a success."""
    return torch.where(logits.isnan().any(1), -1, logits.argmax(1))


def _others(logits: Tensor, label: Tensor) -> Tensor:
    """The logits with that of `label` set to -inf."""
    return logits.scatter(1, label[:, None], -torch.inf)


def _own(logits: Tensor, label: Tensor) -> Tensor:
    return logits.gather(1, label[:, None])[:, 0]


def best_other(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The strongest class that is not `label`."""
    return _others(logits, label).argmax(1)


def margin(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logit of `label` minus the best other logit; negative is misclassified."""
    # max(dim) and not amax: at a tie the gradient goes to one class, not to the mean of several
    return _own(logits, label) - _others(logits, label).max(1).values


def soft_margin(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logit of `label` minus the log-sum-exp of the others: the log-odds log(p / (1 - p)) of `label`.

    Cross-entropy is softplus(-soft_margin), so both order images alike and their gradients point the same way
    exactly. Cross-entropy's carries the factor 1 - p, which underflows for confident models (at a logit gap of 17 in
    float32); this one never does. It replaces the usual rescaling of logits, which bends the direction for K > 2.
    """
    return _own(logits, label) - _others(logits, label).logsumexp(1)


def squared_error(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Mean squared error between softmax and the one-hot of `label`: exercise set 1's literal loss; it saturates."""
    return (logits.softmax(1) - F.one_hot(label, logits.shape[1])).square().mean(1)


def cross_entropy(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Cross-entropy of `label`, an image each."""
    return F.cross_entropy(logits, label, reduction="none")


def spread(logits: Float[Tensor, "n k"], targeted: bool) -> Float[Tensor, " n"]:
    """The scale of the logits in DLR: largest minus third largest; targeted, minus the mean of third and fourth.

    With it a loss does not change when logits are shifted or scaled. Source: Croce and Hein 2020, arXiv 2003.01690,
    equations 6 and 7. Their targeted numerator is true logit minus target's; `Goal.margin` has the best other one for
    the true one: the same until another class takes the lead, and after that still the way to the target.
    """
    top = logits.topk(4 if targeted else 3, dim=1).values
    rest = (top[:, 2] + top[:, 3]) / 2 if targeted else top[:, 2]
    return (top[:, 0] - rest).clamp(min=1e-12)


@dataclass(frozen=True)
class Goal:
    """Away from the true class, or to a target class.

    Attributes:
        label: (N,) int64, the true classes (untargeted) or the targets (targeted).
        targeted: which of the two.
    """

    label: Tensor
    targeted: bool

    @classmethod
    def of(cls, y: Tensor, y_target: Tensor | None) -> Goal:
        """Targeted exactly when targets are given."""
        return cls(y, targeted=False) if y_target is None else cls(y_target, targeted=True)

    def take(self, rows: Tensor | slice) -> Goal:
        """The goal of some of the images."""
        return Goal(self.label[rows], self.targeted)

    def reached(self, logits: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
        """Fooled: another class than the true one is predicted, or the target is. Never where a logit is NaN."""
        found = predicted(logits)
        return found == self.label if self.targeted else (found != self.label) & (found >= 0)

    def margin(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """How far from fooled, in logits: positive before, negative after."""
        value = margin(logits, self.label)
        return -value if self.targeted else value

    def loss(self, logits: Float[Tensor, "n k"], kind: Loss = "ce") -> Float[Tensor, " n"]:
        """To be minimised: the margin, `ce` (the cross-entropy's direction, see `soft_margin`), or `dlr`.

        `dlr` is the margin over the spread of the largest logits (see `spread`), which needs 3 classes, towards a
        target 4; with fewer it is the margin.
        """
        if kind not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {kind!r}")
        if kind == "dlr" and logits.shape[1] >= (4 if self.targeted else 3):
            return self.margin(logits) / spread(logits, self.targeted)
        if kind != "ce":
            return self.margin(logits)
        value = soft_margin(logits, self.label)
        return -value if self.targeted else value
