"""The generator attack as a penalty method: the same two kinds of step, each taken where it is needed.

f(w) = clamp(w), under which exact 0 and 1 have a gradient, unlike under the sigmoid. Where f(w) is classified as the
target, the step goes to the image; otherwise to the class. Both directions are normalised and the step length falls, so
this is the subgradient method that switches between objective and constraint (Polyak 1967, "A general method for
solving extremum problems"); DDN switches likewise between a smaller and a larger norm. MATHEMATICS section 9.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen, gradient_step, predict
from core.attacks.engine.geometry import norm_of, per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, cosine, linear_distance, steps_within, unit
from core.checks import check_choice
from core.progress import Progress

LAST_STEP = 0.01
"""The last step as a share of the first."""
CUTS, CUT_SHARE = 10, 12
"""Rounds of the bisection at the end; in a small budget one round for this many model evaluations."""
MIN_BUDGET = 5
"""Model evaluations (forward and backward passes) for the image, one round, its result and the verification."""
GROWTH = 1.05
"""While nothing fools, each step is made longer by this: the first-order distance may say far too little."""


@attack
def generator_strong(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    rounds: int = 100,
    step_size: float = 0.5,
    loss: Literal["ce", "margin"] = "margin",
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find images that are classified as another class and lie as near to `x` as possible, in l2. Nothing is random.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1]; one row per pair, so an image with nine targets comes nine times.
        y: (N,) int64 true classes.
        rounds: steps, at least 1, each to the image or to the class.
        step_size: first step as a share of the distance (the first-order one, then the smallest found); the steps fall
            by a cosine to a hundredth of it.
        loss: of the steps to the class: `ce` (the cross-entropy's direction) or the logit `margin`.
        budget: the most model evaluations per image, at least 5; there are fewer rounds where it is short.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: rows in one forward pass.
        on_progress: called about a hundred times, with `snapshot={"x_adv": ...}`, mean `l2` of the iterates so far, and
            `success`, the share of rows that are classified as another class than their own.

    Returns:
        `x_adv`: the nearest iterate that fools, moved back towards `x` by bisection. Images that are misclassified
        already, and those that withstand, come back unchanged. `trace`: `l2` and `confidence` (rounds, N) after each
        round: the iterate's distance, and the probability of the target, or of the strongest wrong class.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(rounds=rounds, batch=batch)
    check_positive(step_size=step_size)
    check_choice("loss", loss, ("ce", "margin"))
    cuts = CUTS if budget is None else min(CUTS, max(0, budget - MIN_BUDGET) // CUT_SHARE)
    rounds = steps_within(budget, rounds, other=3 + cuts)
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    counted = y_target != y if y_target is not None else torch.ones_like(y, dtype=torch.bool)
    lengths = cosine(step_size, LAST_STEP * step_size, rounds)

    with frozen(model):
        best = Smallest.start(model, x, goal, "l2", batch, None)
        l2 = torch.zeros(rounds, len(x), dtype=x.dtype, device=x.device)
        confidence = _confidence(best.logits, goal).repeat(rounds, 1)
        chunks = list(best.chunks())
        total = rounds * max(1, len(chunks))
        for number, rows in enumerate(chunks):
            image, part = x[rows], goal.take(rows)
            point, fooled = image, torch.zeros_like(rows, dtype=torch.bool)
            logits, gradient = gradient_step(model, image, part, loss)
            best.forwards[rows] += 1
            scale = linear_distance(part.loss(logits, loss), gradient)
            for k in range(rounds):
                best.backwards[rows] += 1
                point = move(point, image, gradient, fooled, scale * lengths[k])
                if k + 1 < rounds:
                    logits, gradient = gradient_step(model, point, part, loss)
                else:
                    logits = predict(model, point, batch)
                fooled = best.offer(rows, point, logits)
                scale = torch.where(best.size[rows] < torch.inf, best.size[rows], scale * GROWTH)
                l2[k, rows], confidence[k, rows] = norm_of(point - image, "l2"), _confidence(logits, part)
                done = number * rounds + k + 1
                if on_progress and (done % max(1, total // 100) == 0 or done == total):
                    begun = slice(0, int(rows[-1]) + 1)
                    _report(on_progress, done, total, best, l2[k, begun], counted[begun])
            best.bisect(rows, cuts)
        if on_progress and not len(chunks):
            _report(on_progress, total, total, best, l2[0], counted)
        return best.result({"l2": l2, "confidence": confidence})


def move(point: Tensor, image: Tensor, gradient: Tensor, fooled: Tensor, length: Tensor) -> Tensor:
    """A step to the image where the point fools, at most half of the way; a step to the class where it does not."""
    away = point - image
    to_image = torch.minimum(length, norm_of(away, "l2") / 2)
    step = torch.where(
        per_image(fooled, point), per_image(to_image, point) * unit(away), per_image(length, point) * unit(gradient)
    )
    return (point - step).clamp(0, 1)


def _confidence(logits: Tensor, goal: Goal) -> Tensor:
    """Probability (N,) of the target, or of the strongest class that is not the true one."""
    shown = logits.softmax(1)
    label = goal.label[:, None]
    return (shown.gather(1, label) if goal.targeted else shown.scatter(1, label, -1).amax(1, keepdim=True))[:, 0]


def _report(on_progress: Progress, done: int, total: int, best: Smallest, l2: Tensor, counted: Tensor) -> None:
    """Progress with the best pictures so far."""
    success = (best.size[: len(counted)] < torch.inf)[counted]
    on_progress(
        done,
        total,
        snapshot={"x_adv": best.x_adv.cpu().numpy().copy()},
        l2=l2.mean().item(),
        success=success.float().mean().item() if len(success) else 0.0,
    )
