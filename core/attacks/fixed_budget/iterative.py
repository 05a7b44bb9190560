"""Relatives of PGD, by its loop: R+FGSM (random signs first), BIM (no random start), MI-FGSM (momentum)."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Run
from core.attacks.engine.checks import check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH
from core.attacks.engine.result import AttackResult
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.pgd import Schedule, descend
from core.progress import Progress
from core.specs.methods.base import Norm


@attack
@with_stand_ins
def bim(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Norm = "linf",
    steps: int = 10,
    relative_step: float = 0.25,
    y_target: Int[Tensor, " n"] | None = None,
    budget: int | None = None,
    early_stop: bool = True,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """The basic iterative method: FGSM's step again and again, from the image, with a constant length.

    `steps` (at least 1) gradient steps, each `relative_step` times eps long. The loss is the cross-entropy's direction;
    nothing is random. Everything else is as in `pgd`.

    Source: Kurakin, Goodfellow, Bengio 2017, arXiv 1607.02533. Departure: a fooled image stops.
    """
    schedule = Schedule(steps, _constant(steps, relative_step), "image")
    return descend(
        model,
        x,
        y,
        schedule,
        Run(None, budget, batch, on_progress),
        eps=eps,
        norm=norm,
        y_target=y_target,
        early_stop=early_stop,
    )


@attack
@with_stand_ins
def mifgsm(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Norm = "linf",
    steps: int = 10,
    relative_step: float = 0.1,
    momentum: float = 1.0,
    y_target: Int[Tensor, " n"] | None = None,
    budget: int | None = None,
    early_stop: bool = True,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """BIM along a running sum of normalised gradients, whose examples transfer better to other models.

    `steps` (at least 1) steps, each `relative_step` times eps long (the paper's is 1 / steps); `momentum`, from 0 (BIM)
    to 10, is the share of the running sum that each step keeps. The loss is the cross-entropy's direction; nothing is
    random. Everything else is as in `pgd`.

    Source: Dong et al. 2018, arXiv 1710.06081, algorithm 1. Departures: a fooled image stops; the projections in l2
    and l1 are onto ball and box together.
    """
    if not 0 <= momentum <= 10:
        raise ValueError(f"momentum: expected a number from 0 to 10, got {momentum}")
    schedule = Schedule(steps, _constant(steps, relative_step), "image", momentum=momentum)
    return descend(
        model,
        x,
        y,
        schedule,
        Run(None, budget, batch, on_progress),
        eps=eps,
        norm=norm,
        y_target=y_target,
        early_stop=early_stop,
    )


@attack
@with_stand_ins
def rfgsm(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    offset: float = 0.5,
    restarts: int = 1,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    early_stop: bool = True,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """FGSM after a random step: offset * eps up or down on every feature, then the rest of eps along the gradient.

    `offset`, in [0, 1), is the random step's share of eps; `restarts` are further random steps for the images that are
    not yet fooled. The loss is the cross-entropy's direction. Everything else is as in `pgd`, in linf.

    Source: Tramèr et al. 2018, arXiv 1705.07204, section 4.1. Departure: an image that the random step fools stops.
    """
    if not 0 <= offset < 1:
        raise ValueError(f"offset: expected a number of 0 or more and below 1, got {offset}")
    schedule = Schedule(1, lambda count: [1 - offset] * count, "signs", offset=offset)
    return descend(
        model,
        x,
        y,
        schedule,
        Run(streams, budget, batch, on_progress),
        eps=eps,
        restarts=restarts,
        y_target=y_target,
        early_stop=early_stop,
    )


def _constant(steps: int, length: float) -> Callable[[int], list[float]]:
    """Steps of one length; where a budget leaves fewer than `steps`, longer ones that lead as far, up to eps each."""
    check_counts(steps=steps)
    check_positive(relative_step=length)
    return lambda count: [max(length, min(1.0, length * steps / count))] * count
