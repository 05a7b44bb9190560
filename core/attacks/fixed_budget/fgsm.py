"""FGSM: one step of size eps along the sign of the gradient.

Source: Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572. Exact for two-class linear models, box included
(MATHEMATICS section 1); for more classes only a lower bound of the worst loss.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check
from core.attacks.engine.door import attack
from core.attacks.engine.engine import BATCH, frozen, gradients, predict
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import fgsm_step
from core.progress import Progress


@attack
def fgsm_direction(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    y_target: Int[Tensor, " n"] | None = None,
    *,
    batch: int = BATCH,
) -> Float[Tensor, "n c h w"]:
    """Sign (-1, 0 or 1) of the cross-entropy's gradient, towards a higher loss (or a lower one of `y_target`).

    One gradient an image; it serves every eps. The gradient is that of the log-odds, which points the way of
    the cross-entropy's exactly but does not underflow for confident models (`losses.soft_margin`).
    """
    check(model, x, y, y_target=y_target)
    with frozen(model):
        gradient, _ = gradients(model, x, Goal.of(y, y_target), "ce", batch)
    return -gradient.sign()


@attack
@with_stand_ins
def fgsm(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    y_target: Int[Tensor, " n"] | None = None,
    clip: bool = True,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by one signed step.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball, in [0, 1], one for all or (N,).
        y_target: (N,) int64; given, the step goes towards these classes.
        clip: off, the exercise's literal formula, which may leave [0, 1].
        draws: passes of the model that each gradient and each verdict is the mean of; more than 1 for a random model.
        straight_through: pass gradients straight through steps that stop them (see `stand_ins`).
        batch: images in one pass.
        on_progress: called once a chunk with done and total images.

    Returns:
        Images that were fooled before come back unchanged and count as successes. `trace` is empty.

    Raises:
        ValueError: bad input, naming the argument.
    """
    eps = check(model, x, y, eps=eps, y_target=y_target)
    goal = Goal.of(y, y_target)
    x_adv = x.clone()
    claimed = torch.zeros_like(y, dtype=torch.bool)
    forwards, backwards = torch.ones_like(y), torch.ones_like(y)
    with frozen(model):
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            part = goal.take(rows)
            gradient, logits = gradients(model, x[rows], part, "ce", batch)
            already = part.reached(logits)
            moved = fgsm_step(x[rows], -gradient.sign(), eps[rows], clip=clip)
            x_adv[rows] = torch.where(per_image(already, x), x[rows], moved)
            now = part.reached(predict(model, x_adv[rows], batch))
            claimed[rows] = now
            forwards[rows] += 1
            if on_progress:
                done = min(start + batch, len(x))
                on_progress(done, len(x), success=claimed[:done].float().mean().item())
        return finish(model, x, x_adv, goal, claimed, forwards, backwards, batch=batch)
