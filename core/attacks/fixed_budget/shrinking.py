"""Descent in a ball that shrinks: from far away, where the model shows more, into the ball that counts.

Near an image the gradient of a network that was trained in linf says little in l1: what lowers the loss most are
whole changes of a few features, and most of them have no slope before they are half made. In a large ball many
features change; as it shrinks, the projection lets go of those that matter least. From uniform noise every feature is
somewhere along its range, and a running sum of gradients keeps what was seen there.

Related: Croce and Hein 2021, arXiv 2103.01208, section 3.3, whose APGD in l1 runs at 3, 2 and 1 times eps in turn. Here
the ball shrinks with each step and begins much larger; the loop and the steps are PGD's. What it finds beside others:
docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Run
from core.attacks.engine.checks import check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH
from core.attacks.engine.losses import Loss
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import cosine
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.pgd import Schedule, descend
from core.checks import check_choice
from core.progress import Progress

STAY = 0.3
"""The share of the steps, the last ones, that are taken inside eps."""
LAST = 0.05
"""The last step as a share of the first."""


@attack
@with_stand_ins
def shrinking_ball(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Literal["l2", "l1"] = "l1",
    steps: int = 20,
    first_ball: float = 18.0,
    start: Literal["image", "noise"] = "noise",
    momentum: float = 0.9,
    loss: Loss = "ce",
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by steps in a ball that shrinks by the same factor with each of them until it has the size that counts.

    Args:
        model: pixels to logits; left untouched. An image's logits must not depend on its neighbours in the batch.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball that counts, one for all or (N,), 0 or more.
        norm: shape of the balls.
        steps: gradient steps, at least 1; the last `STAY` of them inside eps.
        first_ball: size of the first ball, at least 1, as a multiple of eps.
        start: at the image, or at uniform noise, as far as the first ball reaches.
        momentum: the share of the running sum of gradients that each step keeps, from 0 to 1.
        loss: `ce`, `margin`, `dlr` or `probability_margin` (see `losses`).
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        draws: passes of the model that each gradient and each verdict is the mean of; more than 1 for a random model.
        straight_through: pass gradients straight through steps that stop them (see `stand_ins`).
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        As `pgd`: the first fooling iterate inside eps, else that of the lowest margin there, which may be `x`.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_choice("norm", norm, ("l2", "l1"))
    check_choice("start", start, ("image", "noise"))
    check_counts(steps=steps)
    if not 1 <= first_ball < torch.inf:
        raise ValueError(f"first_ball: expected a number of 1 or more, got {first_ball:g}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: expected a number from 0 to 1, got {momentum:g}")
    schedule = Schedule(
        steps, lambda count: cosine(1.0, LAST, count), start, momentum=momentum, balls=lambda n: balls(n, first_ball)
    )
    return descend(
        model,
        x,
        y,
        schedule,
        Run(streams, None, batch, on_progress),
        eps=eps,
        norm=norm,
        loss=loss,
        y_target=y_target,
    )


def balls(steps: int, first: float) -> list[float]:
    """The ball of the start, and that after each step, as multiples of eps: the last `STAY` of the steps stay at 1."""
    shrinking = steps * (1 - STAY)
    return [first ** max(0.0, 1 - k / shrinking) for k in range(steps + 1)]
