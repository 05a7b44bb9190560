"""FAB, the fast adaptive boundary attack: to the linearised boundary, drawn towards the image, then back across.

Source: Croce and Hein 2020, arXiv 1907.02044, algorithm 1, and its targeted version. Departures: both projections onto
the linearised boundary are exact inside the box (DeepFool's step), also where the box holds features back; no random
restarts; one forward pass a step, so that the step back from a fooling iterate uses the gradient of that iterate; no
iterate goes much farther than the last one that fooled; the final search is the bisection that all attacks here share.

Near the images of a network that was trained in linf the slope in l2 says little, and a first step goes right to the
other side of the box; from there it takes twenty steps back, at a tenth each. `reach` keeps it nearer: on an
interval-trained network (MNIST, 93 images that ten steps of PGD at l2 2.0 left) fifteen steps towards one class, and a
walk down from what they found, leave 68 of them without it and 22 with 6.0.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_eps
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen, input_gradient, leaf_of, logits_of_leaf
from core.attacks.engine.geometry import norm_of, per_image
from core.attacks.engine.losses import Goal, ranked_others
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import FEWEST_STEPS, Smallest, final_within, steps_within
from core.attacks.minimal.deepfool import NORMS, OVER, boundaries, boxed_step
from core.progress import Progress

GROWTH = 1.1
"""How much farther off an iterate may lie than the limit of the one before it, or than the last one that fooled."""


@attack
def fab(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Literal["linf", "l2", "l1"] = "linf",
    steps: int = 50,
    targets: int = 0,
    skip: int = 0,
    candidates: int = 10,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    enough: float | Tensor = 0.0,
    reach: float | Tensor = torch.inf,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small perturbation: steps to the linearised boundary, biased towards the image; back where it is crossed.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small.
        steps: steps of each run, at least 1.
        targets: 0: one run, to the nearest of several boundaries; else so many runs (at most K - 1), each to the
            boundary with one of the strongest other classes: a backward pass a step whatever K is. Only untargeted.
        skip: so many of the strongest other classes are left out, where `targets` is not 0.
        candidates: boundaries looked at when `targets` is 0, each for one backward pass a step.
        alpha_max: the most that a step is drawn towards the image, in [0, 1].
        eta: each projection is lengthened by this factor, at least 1, to cross the boundary.
        beta: where a step fools, the next one starts from so much of the change, in (0, 1).
        enough: one for all or (N,), 0 or more: an image fooled within this distance is done with.
        reach: one for all or (N,), positive: how far off a run's first step may lead; later ones as `GROWTH` says.
        budget: the most forward and backward passes to spend on each image, the verification included; None: no limit.
        y_target: (N,) int64; given, the steps go to the boundary between the target and its strongest rival.
        batch: images under attack at once.
        on_progress: called each step with images done, all, share of `success`.

    Returns:
        The smallest fooling iterate; images fooled before, and those that withstand, come back unchanged. `trace`:
        `astray` (N,) bool, where the first run's linearised boundary at the image is nowhere in the box.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, candidates=candidates, batch=batch)
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    if targets < 0:
        raise ValueError(f"targets: expected 0 or more, got {targets}")
    if skip < 0:
        raise ValueError(f"skip: expected 0 or more, got {skip}")
    if targets and y_target is not None:
        raise ValueError(f"targets: expected 0 where y_target is given, got {targets}")
    if not 0 <= alpha_max <= 1:
        raise ValueError(f"alpha_max: expected a number in [0, 1], got {alpha_max}")
    if not 1 <= eta < 2:
        raise ValueError(f"eta: expected a number in [1, 2), got {eta}")
    if not 0 < beta < 1:
        raise ValueError(f"beta: expected a number in (0, 1), got {beta}")
    check(model, x, y, y_target=y_target)
    wanted = check_eps(enough, x, torch.inf, "enough")
    limit = _limits(reach, x)
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), norm, batch, on_progress)
        classes = best.logits.shape[1]
        ranking = ranked_others(best.logits, y)
        runs = min(targets, classes - 1 - skip)
        if targets and runs < 1:
            raise ValueError(f"skip: expected at most {classes - 2} of {classes - 1} other classes, got {skip}")
        looked = 1 if runs or best.goal.targeted else min(candidates, classes - 1)
        final = final_within(budget)
        if budget is not None:  # what cannot be paid is left out: boundaries, runs, then steps
            looked = max(1, min(looked, budget - 4 - final))
            runs = min(runs, max(1, (budget - 2 - final) // (2 * FEWEST_STEPS + 1)))
        each = max(1, runs)
        steps = steps_within(budget, steps, (1 + looked) * each, 2 + each + final)
        astray = torch.zeros_like(y, dtype=torch.bool)
        for chunk in best.chunks():
            for run in range(each):
                rows = chunk[best.size[chunk] > wanted[chunk]]
                toward = ranking[rows, skip + run] if runs else None
                lost = _run(best, rows, toward, wanted, limit[rows], steps, looked, alpha_max, eta, beta)
                if run == 0:
                    astray[rows] = lost
                best.report(chunk, (run + 1) / each)
            best.bisect(chunk[best.size[chunk] > wanted[chunk]], final)
        return best.result({"astray": astray})


def _limits(reach: float | Tensor, x: Tensor) -> Tensor:
    limit = torch.as_tensor(reach).to(device=x.device, dtype=x.dtype)
    if limit.ndim > 1 or (limit.ndim == 1 and len(limit) != len(x)):
        raise ValueError(f"reach: expected a number or shape ({len(x)},), got shape {tuple(limit.shape)}")
    if not (limit > 0).all():
        raise ValueError(f"reach: expected positive distances, got {limit[~(limit > 0)].flatten()[0].item():g}")
    return limit.expand(len(x))


def _run(
    best: Smallest,
    rows: Tensor,
    toward: Tensor | None,
    wanted: Tensor,
    limit: Tensor,
    steps: int,
    looked: int,
    alpha_max: float,
    eta: float,
    beta: float,
) -> Tensor:
    """One run from the images: to the nearest of the `looked` boundaries, or only to that with the class `toward`.

    Returns (n,) bool, where the box had nothing of the boundary that was linearised at the image.
    """
    image = point = best.x[rows]
    goal = best.goal.take(rows)
    lost = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(steps):
        if not len(rows):
            break
        leaf = leaf_of(point)
        logits = logits_of_leaf(best.model, leaf)
        if toward is None:
            needs = boundaries(logits, goal, looked)
        else:
            over = 0.0 if goal.slack is None else OVER * goal.slack
            needs = [(logits.gather(1, goal.label[:, None]) - logits.gather(1, toward[:, None]))[:, 0] + over]
        slope, value = _nearest(needs, leaf, point, best.norm)
        best.backwards[rows] += len(needs)
        fooled = best.offer(rows, point, logits.detach())
        on = best.size[rows] > wanted[rows]
        if not on.all():
            rows, goal, toward = rows[on], best.goal.take(rows[on]), None if toward is None else toward[on]
            image, point, slope, value, fooled = image[on], point[on], slope[on], value[on], fooled[on]
            limit = limit[on]
        delta = point - image
        limit = torch.where(fooled, torch.minimum(limit, GROWTH * norm_of(delta, best.norm)), limit)
        delta = delta * per_image(torch.where(fooled, beta, 1.0).to(delta.dtype), delta)
        start = (image + delta).clamp(0, 1)
        near = _onto(slope, value + (slope * (start - point)).flatten(1).sum(1), start, best.norm)[0]
        far, reached = _onto(slope, value + (slope * (image - point)).flatten(1).sum(1), image, best.norm)
        lost = reached.isinf() if step == 0 else lost
        size, whole = norm_of(near, best.norm), norm_of(far, best.norm)
        alpha = (size / (size + whole).clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=alpha_max)
        alpha = per_image(alpha, point)
        delta = (1 - alpha) * (delta + eta * near) + alpha * eta * far
        length = norm_of(delta, best.norm)
        cut = torch.where(length > limit, limit / length, 1)
        point = (image + per_image(cut, delta) * delta).clamp(0, 1)
        limit = GROWTH * limit
    best.look(rows, point)
    return lost


def _nearest(needs: list[Tensor], leaf: Tensor, point: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Slope and value of the boundary that is nearest by first order, an image."""
    value, slope = needs[0].detach(), input_gradient(needs[0].sum(), leaf, retain_graph=len(needs) > 1)
    if len(needs) == 1:
        return slope, value
    nearest = _onto(slope, value, point, norm)[1]
    for number, need in enumerate(needs[1:], start=2):
        now, gradient = need.detach(), input_gradient(need.sum(), leaf, retain_graph=number < len(needs))
        size = _onto(gradient, now, point, norm)[1]
        nearer = (size < nearest) | ~slope.flatten(1).any(1)  # out of reach is better than no direction at all
        slope = torch.where(per_image(nearer, slope), gradient, slope)
        value, nearest = torch.where(nearer, now, value), torch.where(nearer, size, nearest)
    return slope, value


def _onto(slope: Tensor, value: Tensor, point: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """The smallest move inside the box from `point` to where a linear function, now `value`, is 0, from either side.

    Where the box has no such point, as near to it as the box allows. Returns the move and its length (n,), inf there.
    """
    sign = per_image(value.sign(), slope)
    return boxed_step(slope * sign, value.abs(), point, norm)
