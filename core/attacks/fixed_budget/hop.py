"""Basin hopping: disturb the best point found so far, descend again by a few steps, keep what is lower.

Where restarts from fresh points stall, the neighbourhood of the best one still has lower places: a share of its
features jumps to an end of the ball at random, and a short walk leads down from there. Several such hops start from the
same point at once (`chains`), the best of them is where the next ones begin: few images stand in the end, and a network
takes a small batch as long as a larger one (measured in docs/MEASUREMENTS.md).

Source: Wales and Doye 1997, doi 10.1021/jp970984n (the Monte Carlo scheme; here at temperature 0, in chains).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Run
from core.attacks.engine.checks import check, check_counts, check_positive, check_x_init
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import Ball, eps_limit
from core.attacks.engine.streams import Streams, default_streams
from core.attacks.fixed_budget.pgd import Schedule, cosine_shares, descend
from core.progress import Progress

COPIES = 2048
"""Chains that walk at once: bounds the memory where many images stand."""


@attack
@with_stand_ins
def basin_hopping(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Ball = "linf",
    x_init: Float[Tensor, "n c h w"] | None = None,
    hops: int = 24,
    chains: int = 4,
    steps: int = 12,
    share: float = 0.2,
    relative_step: float = 0.25,
    loss: Loss = "margin",
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Go on from the best points that other attacks found.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball, one for all or (N,); in [0, 1] for linf, 0 or more for l2 and l1.
        norm: shape of the ball.
        x_init: (N, C, H, W) inside ball and box, where the search stands; default the images.
        hops: disturbances, at least 1, each with its walk.
        chains: so many of them at once, at least 1, from the same point; the last round may have fewer.
        steps: gradient steps of a walk, at least 1.
        share: in [0, 1]: of the features that jump in linf; in l2 and l1 of a random point of the ball that is added.
            At 0 a hop is a walk down from the point itself.
        relative_step: first step as a share of eps; the steps fall by a cosine to a tenth of it.
        loss: `ce`, `margin`, `dlr` or `probability_margin`, to walk by; points are compared by their margin.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        draws: passes of the model that each gradient and each verdict is the mean of; more than 1 for a random model.
        straight_through: pass gradients straight through steps that stop them (see `stand_ins`).
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        A fooling iterate, else that of the lowest margin seen, the start included. The ball holds to the last bit in
        `distance`. `trace`: `margin` (N,), the margin at `x_adv`.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(hops=hops, chains=chains, steps=steps)
    check_positive(relative_step=relative_step)
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1, got {share:g}")
    check_x_init(x_init, x)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    streams = default_streams(streams, x)
    schedule = Schedule(steps, lambda count: cosine_shares(count, relative_step), "kick", offset=share)

    with frozen(model):
        best = Lowest.start(model, x, Goal.of(y, y_target), max(batch, 256), x_init=x_init)
        for done in range(0, hops, chains):
            standing = best.standing(eps > 0)
            if not len(standing):
                break
            wide = min(chains, hops - done)
            for rows in standing.split(max(1, COPIES // wide)):
                many = rows.repeat_interleave(wide)
                number = torch.arange(done, done + wide, device=x.device).repeat(len(rows))
                made = descend(
                    model,
                    x[many],
                    y[many],
                    schedule,
                    Run(streams.take(many).fork(number), batch=batch),
                    eps=eps[many],
                    norm=norm,
                    loss=loss,
                    y_target=None if y_target is None else y_target[many],
                    x_init=best.x_adv[many],
                )
                best.forwards[rows] += made.forwards.view(-1, wide).sum(1)
                best.backwards[rows] += made.backwards.view(-1, wide).sum(1)
                low, which = torch.where(made.success, -torch.inf, made.trace["margin"]).view(-1, wide).min(1)
                chosen = torch.arange(len(rows), device=x.device) * wide + which
                better = low < best.value[rows]
                best.x_adv[rows[better]] = made.x_adv[chosen[better]]
                best.value[rows[better]] = made.trace["margin"][chosen[better]]
                best.fooled[rows] = made.success[chosen]
            best.report(on_progress, int((~best.fooled).sum()))
        return best.result(batch)
