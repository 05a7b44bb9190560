"""FAB, the fast adaptive boundary attack: to the linearised boundary, drawn towards the image, then back across.

Source: Croce and Hein 2020, arXiv 1907.02044, algorithm 1, and its targeted version. Departures: both projections onto
the linearised boundary are exact inside the valid pixel range [0, 1], the box (DeepFool's step), also where the box
holds features back; there are no random restarts; each step takes one forward pass, so that the step back from an
iterate that fools uses the gradient of that iterate; no iterate goes much farther than the last one that fooled; the
final search is the bisection that all attacks here share.

Near the images of a network that was trained in linf the gradient says little in l2: a first step goes to the other
side of the box, and from there it takes twenty steps back, at a tenth each. `reach` keeps it nearer (measured in
docs/MEASUREMENTS.md).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_eps
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen, leaf_of, logits_of_leaf
from core.attacks.engine.geometry import norm_of, per_image
from core.attacks.engine.losses import Goal, ranked_others
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import MIN_STEPS, Smallest, final_within, steps_within
from core.attacks.engine.steps import BALLS
from core.attacks.minimal.deepfool import OVER, boundaries, crossing_step, nearest_boundary
from core.checks import check_choice
from core.progress import Progress

GROWTH = 1.1
"""How much farther an iterate may go than the one before it was allowed to, or than the last one that fooled."""


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
        targets: 0: one run, to the nearest of several boundaries; otherwise the number of runs (at most K - 1), each
            to the boundary with one of the strongest other classes, at one backward pass per step. Only untargeted.
        skip: how many of the strongest other classes are left out, where `targets` is not 0.
        candidates: boundaries considered when `targets` is 0, each for one backward pass per step.
        alpha_max: the most that a step is drawn towards the image, in [0, 1].
        eta: each projection is lengthened by this factor, at least 1, to cross the boundary.
        beta: where a step fools, the next one starts from this share of the change, in (0, 1).
        enough: one for all or (N,), 0 or more: an image fooled within this distance is finished.
        reach: one for all or (N,), positive: how far a run's first step may go; later ones as `GROWTH` says.
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the steps go to the boundary between the target and its strongest rival.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The smallest iterate that fools. Images that are misclassified already, and those that withstand, come back
        unchanged. `trace`: `boundary_outside_box` (N,) bool, where the linearised boundary that the first run starts
        towards lies nowhere in the box (see `nearest`).

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, candidates=candidates, batch=batch)
    check_choice("norm", norm, BALLS)
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
    reach = _positive(reach, x)
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
            runs = min(runs, max(1, (budget - 2 - final) // (2 * MIN_STEPS + 1)))
        each = max(1, runs)
        steps = steps_within(budget, steps, (1 + looked) * each, 2 + each + final)
        outside = torch.zeros_like(y, dtype=torch.bool)
        for chunk in best.chunks():
            for run in range(each):
                rows = chunk[best.size[chunk] > wanted[chunk]]
                toward = ranking[rows, skip + run] if runs else None
                found = _run(best, rows, toward, wanted, reach[rows], steps, looked, alpha_max, eta, beta)
                if run == 0:
                    outside[rows] = found
                best.report(chunk, (run + 1) / each)
            best.bisect(chunk[best.size[chunk] > wanted[chunk]], final)
        return best.result({"boundary_outside_box": outside})


def _positive(reach: float | Tensor, x: Tensor) -> Tensor:
    """`reach` as (N,) positive numbers in the dtype of `x`; infinity becomes the largest number."""
    exact = torch.as_tensor(reach, dtype=torch.float64)
    made = check_eps(exact.clamp(max=torch.finfo(x.dtype).max), x, torch.inf, "reach")
    if not (made > 0).all():
        raise ValueError(f"reach: expected positive distances, got {made.min().item():g}")
    return made


def _run(
    best: Smallest,
    rows: Tensor,
    toward: Tensor | None,
    wanted: Tensor,
    reach: Tensor,
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
    outside = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(steps):
        if not len(rows):
            break
        leaf = leaf_of(point)
        logits = logits_of_leaf(best.model, leaf)
        if toward is None:
            gaps = boundaries(logits, goal, looked)
        else:
            over = 0.0 if goal.slack is None else OVER * goal.slack
            gaps = [(logits.gather(1, goal.label[:, None]) - logits.gather(1, toward[:, None]))[:, 0] + over]
        slope, value = nearest_boundary(gaps, leaf, point, best.norm, either_side=True)
        best.backwards[rows] += len(gaps)
        fooled = best.offer(rows, point, logits.detach())
        on = best.size[rows] > wanted[rows]
        if not on.all():
            rows, goal, toward = rows[on], best.goal.take(rows[on]), None if toward is None else toward[on]
            image, point, slope, value, fooled = image[on], point[on], slope[on], value[on], fooled[on]
            reach = reach[on]
        delta = point - image
        reach = torch.where(fooled, torch.minimum(reach, GROWTH * norm_of(delta, best.norm)), reach)
        delta = delta * per_image(torch.where(fooled, beta, 1.0).to(delta.dtype), delta)
        start = (image + delta).clamp(0, 1)
        near = crossing_step(slope, value + (slope * (start - point)).flatten(1).sum(1), start, best.norm)[0]
        far, reached = crossing_step(slope, value + (slope * (image - point)).flatten(1).sum(1), image, best.norm)
        outside = reached.isinf() if step == 0 else outside
        size, whole = norm_of(near, best.norm), norm_of(far, best.norm)
        alpha = (size / (size + whole).clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=alpha_max)
        alpha = per_image(alpha, point)
        delta = (1 - alpha) * (delta + eta * near) + alpha * eta * far
        length = norm_of(delta, best.norm)
        cut = torch.where(length > reach, reach / length, 1)
        point = (image + per_image(cut, delta) * delta).clamp(0, 1)
        reach = GROWTH * reach
    best.look(rows, point)
    return outside
