"""What an attack returns, each success verified by a second look at the image that is returned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.engine import BATCH, predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import Goal
from core.attacks.engine.verdict import settled


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
