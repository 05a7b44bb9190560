"""DeepFool: step to the boundary that a linear model would have, until it is crossed.

Source: Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv 1511.04599, algorithm 2. Departures: each step is the exact
solution for the linearised model inside the valid pixel range [0, 1], the box (MATHEMATICS sections 1 and 2), so that
a linear model takes one step and gets its optimum, up to the overshoot; there is a version for l1; the attack can be
targeted; images that are fooled leave the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen, input_gradient, logits_of_leaf
from core.attacks.engine.geometry import norm_of, per_image, water_level
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, steps_within
from core.attacks.engine.steps import BALLS
from core.checks import check_choice
from core.progress import Progress

OVER = 1.25
"""How far over the boundary a step aims, in units of the slack from which an image counts as fooled."""


@attack
def deepfool(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Literal["linf", "l2", "l1"] = "l2",
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small perturbation quickly: a few steps, each to the nearest linearised boundary.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small.
        steps: the most steps, at least 1.
        overshoot: the total change is multiplied by 1 plus this, to cross the boundary and not only reach it.
        candidates: how many of the strongest other classes are considered, each for one backward pass per step.
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the steps go to the boundary between the target and its strongest rival.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The first iterate that fools. Images that are misclassified already, and those that withstand, come back
        unchanged.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, candidates=candidates, batch=batch)
    check_choice("norm", norm, BALLS)
    if not 0 <= overshoot < 1:
        raise ValueError(f"overshoot: expected a number in [0, 1), got {overshoot}")
    check(model, x, y, y_target=y_target)
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), norm, batch, on_progress)
        candidates = 1 if best.goal.targeted else min(candidates, best.logits.shape[1] - 1)
        if budget is not None:
            candidates = max(1, min(candidates, budget - 4))
        steps = steps_within(budget, steps, 1 + candidates)
        for chunk in best.chunks():
            rows, total = chunk, torch.zeros_like(x[chunk])
            for _ in range(steps):
                point = (x[rows] + (1 + overshoot) * total).clamp(0, 1)
                leaf = point.requires_grad_()
                logits = logits_of_leaf(model, leaf)
                gaps = boundaries(logits, best.goal.take(rows), candidates)
                point = point.detach()
                move, size = boxed_step(*nearest_boundary(gaps, leaf, point, norm), point, norm)
                best.backwards[rows] += len(gaps)
                fooled = best.offer(rows, point, logits.detach())
                # an image whose linearised boundaries all lie outside the box is given up
                stay = ~fooled & size.isfinite() & move.flatten(1).any(1)
                rows, total = rows[stay], (total + move)[stay]
                best.report(chunk, 1 - len(rows) / len(chunk))
                if not len(rows):
                    break
            if len(rows):
                best.look(rows, (x[rows] + (1 + overshoot) * total).clamp(0, 1))
        return best.result()


def boundaries(logits: Tensor, goal: Goal, candidates: int) -> list[Tensor]:
    """The logit gaps of the boundaries with the strongest other classes, (n,) each and differentiable.

    A gap falls to 0 where an image is so far over the boundary that it counts as fooled (see `Goal.slack`). Towards a
    target there is one boundary, the one between the target and its strongest rival.
    """
    over = 0.0 if goal.slack is None else OVER * goal.slack
    own = logits.gather(1, goal.label[:, None])
    others = logits.scatter(1, goal.label[:, None], -torch.inf)
    if goal.targeted:
        return [others.max(1).values - own[:, 0] + over]
    strongest = others.topk(candidates, dim=1).values
    return [own[:, 0] - other + over for other in strongest.unbind(1)]


def nearest_boundary(
    gaps: list[Tensor], leaf: Tensor, image: Tensor, norm: str, *, either_side: bool = False
) -> tuple[Tensor, Tensor]:
    """The boundary that is nearest to `image` inside the box, for the model linearised at `leaf`.

    One backward pass for each boundary. Where the box reaches none of them, the first one with a slope is returned.

    Args:
        gaps: what falls to 0 at each boundary, (n,) each and differentiable; see `boundaries`.
        leaf: (n, C, H, W) the images that the gaps were computed for.
        image: (n, C, H, W) the images that distances count from.
        norm: linf, l2 or l1.
        either_side: also measure the way back to a boundary that `image` is over already; otherwise its distance is 0.

    Returns:
        slope: (n, C, H, W) the gap's gradient. need: (n,) the linearised gap at `image`.
    """
    length = crossing_step if either_side else boxed_step
    slope, need = _linearised(gaps[0], leaf, image, retain_graph=len(gaps) > 1)
    if len(gaps) == 1:
        return slope, need
    nearest = length(slope, need, image, norm)[1]
    for number, gap in enumerate(gaps[1:], start=2):
        gradient, value = _linearised(gap, leaf, image, retain_graph=number < len(gaps))
        size = length(gradient, value, image, norm)[1]
        nearer = (size < nearest) | (nearest.isinf() & ~slope.flatten(1).any(1))
        slope = torch.where(per_image(nearer, slope), gradient, slope)
        need, nearest = torch.where(nearer, value, need), torch.where(nearer, size, nearest)
    return slope, need


def _linearised(gap: Tensor, leaf: Tensor, image: Tensor, retain_graph: bool) -> tuple[Tensor, Tensor]:
    """The gap's gradient at `leaf`, and its value at `image` by first order."""
    slope = input_gradient(gap.sum(), leaf, retain_graph=retain_graph)
    return slope, gap.detach() + (slope * (image - leaf.detach())).flatten(1).sum(1)


def crossing_step(slope: Tensor, value: Tensor, point: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """The smallest change inside the box that brings a linear function from `value` to 0, from either side.

    Where the box has no such point, the change goes as near to it as the box allows. Returns as `boxed_step`.
    """
    sign = per_image(value.sign(), slope)
    return boxed_step(slope * sign, value.abs(), point, norm)


def boxed_step(slope: Tensor, need: Tensor, point: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """The smallest change inside the box that lowers a linear function by `need` (MATHEMATICS section 1).

    With w the slope and u_j the room against it: linf moves every feature by min(eps, u_j); l2 by min(level |w_j|,
    u_j), the same water level with weights w_j^2 and room u_j / |w_j|; l1 fills features in the order of |w_j|.

    Returns:
        step: like `slope` (n, C, H, W). size: (n,) its length; inf where the box has no such change.
    """
    flat, place = slope.flatten(1), point.flatten(1)
    tiny = torch.finfo(flat.dtype).tiny
    if norm in ("linf", "l2"):  # a walk at these speeds, each feature as far as the box lets it
        if norm == "linf":
            speed, scale = flat.sign(), torch.ones_like(need)
            weight, limits = flat.abs(), torch.maximum(place * speed, (place - 1) * speed)
        else:  # scaled to a largest speed of 1, so that no square underflows
            scale = flat.abs().amax(1).clamp(min=tiny)
            speed = flat / scale[:, None]
            weight, limits = speed.square(), torch.maximum(place / speed, (place - 1) / speed).nan_to_num_(0, 0, 0)
        level = water_level(weight, limits, need / scale)
        able = level < torch.inf
        far = level.clamp(max=torch.finfo(level.dtype).max)[:, None]
        step = torch.clamp(-far * speed, -place, 1 - place).view_as(slope)
    else:
        weight, room = flat.abs(), torch.where(flat > 0, place, 1 - place)
        ordered, order = weight.sort(dim=1, descending=True, stable=True)
        limits = room.gather(1, order)
        gain = ordered * limits
        before = gain.cumsum(1) - gain
        filled = torch.minimum((need[:, None] - before).clamp(min=0) / ordered.clamp(min=tiny), limits)
        size, able = torch.zeros_like(room).scatter(1, order, filled), gain.sum(1) >= need
        step = -slope.sign() * size.view_as(slope)
    return step, torch.where(able, norm_of(step, norm), torch.inf)
