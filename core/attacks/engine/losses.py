"""What an attack minimises: margins of logits and probabilities, the cross-entropy's direction, DLR, squared error.

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

from core.checks import check_choice

Loss = Literal["ce", "margin", "dlr", "probability_margin"]
LOSSES: tuple[Loss, ...] = ("ce", "margin", "dlr", "probability_margin")
SHARPNESS = 5.0
"""The span of the logits whose probabilities `probability_margin` is about."""
SLACK = 16
"""An image counts as fooled from so many units of rounding of the clean logits' spread on: 2e-6 of it, more than what
float32 usually changes logits by between batch layouts. Models that round more are looked at closely (`verdict`)."""
TIMES = 3
"""The same in units of what was seen of a model that rounds more than that."""
OFFSET = 4
"""The same in units of rounding of the logits themselves, where they have a large part in common."""
RULED_OUT = 1e4
"""Logits so many times further below the largest than the two largest are big stand for classes that are ruled out."""
COARSE = 2
"""The same for a model that computes in half precision inside, in units of its own rounding."""


def predicted(logits: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """The class of the largest logit; -1 where a logit is NaN: the model gives no class there, not the first one."""
    return torch.where(logits.isnan().any(1), -1, logits.argmax(1))


def _others(logits: Tensor, label: Tensor) -> Tensor:
    """The logits with that of `label` set to -inf."""
    return logits.scatter(1, label[:, None], -torch.inf)


def _own(logits: Tensor, label: Tensor) -> Tensor:
    return logits.gather(1, label[:, None])[:, 0]


def span(logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Largest minus smallest logit, without those of classes that are ruled out: the scale of an image's logits."""
    top = logits.topk(2, dim=1).values
    size = torch.maximum(top.abs().amax(1), top[:, 0] - top[:, 1])[:, None]
    return top[:, 0] - torch.where(top[:, :1] - logits > RULED_OUT * size, top[:, :1], logits).amin(1)


def best_other(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The strongest class that is not `label`."""
    return _open(logits, label).argmax(1)


def ranked_others(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Int[Tensor, "n k-1"]:
    """The classes that are not `label`, strongest first; one that a model rules out by -inf is among them, too."""
    return _open(logits, label).argsort(1, descending=True)[:, :-1]


def _open(logits: Tensor, label: Tensor) -> Tensor:
    """As `_others`, where no other class is at -inf as well."""
    return _others(logits.clamp(min=torch.finfo(logits.dtype).min), label)


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


def probability_margin(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Probability of `label` minus the best other one, of logits that are scaled to a span of `SHARPNESS`.

    Its gradient also raises the classes that come next, each by its probability. Source: arXiv 2411.15210. Departure:
    the paper takes the model's own probabilities, which saturate where a model is confident; here no scale or shift of
    the logits changes anything. The scale counts as a constant. With two classes this is a constant, too: take the
    margin.
    """
    scale = SHARPNESS / span(logits.detach()).clamp(min=1e-12)
    top = logits.detach().max(1, keepdim=True).values
    probabilities = (scale[:, None] * (logits - top)).softmax(1)
    return _own(probabilities, label) - _others(probabilities, label).max(1).values


@dataclass(frozen=True)
class Goal:
    """Away from the true class, or to a target class.

    Attributes:
        label: (N,) int64, the true classes (untargeted) or the targets (targeted).
        targeted: which of the two.
        slack: (N,) logits by which an image must be over the boundary to count as fooled; None: any amount will do.
    """

    label: Tensor
    targeted: bool
    slack: Tensor | None = None

    @classmethod
    def of(cls, y: Tensor, y_target: Tensor | None) -> Goal:
        """Targeted exactly when targets are given."""
        return cls(y, targeted=False) if y_target is None else cls(y_target, targeted=True)

    def take(self, rows: Tensor | slice) -> Goal:
        """The goal of some of the images."""
        return Goal(self.label[rows], self.targeted, None if self.slack is None else self.slack[rows])

    def repeated(self, times: int) -> Goal:
        """The goal of each image `times` times in a row."""
        slack = None if self.slack is None else self.slack.repeat_interleave(times)
        return Goal(self.label.repeat_interleave(times), self.targeted, slack)

    def beyond_rounding(self, clean: Float[Tensor, "n k"], unit: float = 0.0, seen: float = 0.0) -> Goal:
        """The same goal, reached only beyond what rounding in the model may hide.

        An image that is right on the boundary is classified one way in one batch and another way in the next. Attacks
        that stop at the first image that fools, or look for the smallest change, would end exactly there.

        Args:
            clean: logits of the images, whose spread is the scale of the allowance. Classes that a model rules out,
                by logits of -inf or -1e9, do not count.
            unit: machine epsilon of the arithmetic inside the model, where that is coarser than the logits' dtype.
            seen: what rounding was seen to change the model's logits by, as a share of their spread.
        """
        rounding = torch.finfo(clean.dtype).eps
        slack = max(SLACK * rounding, COARSE * unit, TIMES * seen) * span(clean)
        slack = torch.maximum(slack, max(OFFSET * rounding, unit) * clean.topk(2, dim=1).values.abs().amax(1))
        return Goal(self.label, self.targeted, slack.nan_to_num(0.0, 0.0, 0.0))

    def reached(self, logits: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
        """Fooled: another class than the true one is predicted, or the target is, by more than `slack`.

        A model that answers NaN has no class for the image: that counts against it (untargeted), never as the target.
        """
        found = predicted(logits)
        if self.targeted:
            return (found == self.label) & self._clearly(logits)
        return (found != self.label) & self._clearly(logits)

    def _clearly(self, logits: Tensor) -> Tensor:
        if self.slack is None:
            return torch.ones_like(self.label, dtype=torch.bool)
        return ~(self.margin(logits) > -self.slack)  # a NaN margin says nothing against the prediction

    def margin(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """How far from fooled, in logits: positive before, negative after."""
        value = margin(logits, self.label)
        return -value if self.targeted else value

    def loss(self, logits: Float[Tensor, "n k"], kind: Loss = "ce") -> Float[Tensor, " n"]:
        """To be minimised: the margin, `ce` (the cross-entropy's direction, `soft_margin`), or one of two more.

        `dlr` is the margin over the spread of the largest logits (see `spread`), which needs 3 classes, towards a
        target 4; with fewer it is the margin. So is `probability_margin` with 2 classes.
        """
        check_choice("loss", kind, LOSSES)
        if kind == "probability_margin" and logits.shape[1] > 2:
            value = probability_margin(logits, self.label)
            return -value if self.targeted else value
        if kind == "dlr" and logits.shape[1] >= (4 if self.targeted else 3):
            return self.margin(logits) / spread(logits, self.targeted)
        if kind != "ce":
            return self.margin(logits)
        value = soft_margin(logits, self.label)
        return -value if self.targeted else value
