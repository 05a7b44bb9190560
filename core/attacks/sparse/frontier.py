"""How many features must change when none may change by more than a cap ε: the frontier k(ε) of an image.

Exact for binary linear models (MATHEMATICS section 1, l0 with a cap: the largest gains |w_j| min(ε, u_j) until they sum
to the margin). Elsewhere it is an upper bound: for each cap the largest first-order gains, linearised again at what
they found, then the greedy attack with that cap; what fools within a cap counts for every larger one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_budget, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen, gradient_step, predict
from core.attacks.engine.geometry import distances, linf_bounds, shortest_prefix
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import Smallest
from core.attacks.sparse.pruning import put_back
from core.attacks.sparse.sparse import jacobian_sparse
from core.progress import Progress

CAPS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Caps that show the shape of the curve."""
ROUNDS = 8
"""The most linearisations for each cap; they end where nothing is gained."""
GREEDY = 40
"""The most features that the greedy attack changes; beyond this its steps of one feature are too many."""
MIN_PASSES = 5
"""The fewest model evaluations (forward and backward passes) for one cap, with its verification."""


@attack
def frontier(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    caps: Sequence[float] = CAPS,
    candidates: int = 8,
    y_target: Int[Tensor, " n"] | None = None,
    budget: int | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find the fewest features that fool, for each cap on the change of every one of them.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        caps: E different numbers in (0, 1].
        candidates: features that the greedy attack tries by forward passes each step; 0 leaves it out.
        y_target: (N,) int64; given, the attack goes towards these classes.
        budget: the most model evaluations per image, at least 9; None: no limit. The larger caps are served first; a
            cap for which too little is left has no image of its own.
        batch: images attacked at once.
        on_progress: called with images done, all images, and `success`, the share fooled so far.

    Returns:
        The image of the largest cap, which has the fewest features. Images that are misclassified already, and those
        that withstand, come back unchanged. `trace`, with the caps in rising order: `cap` (N, E); `count` (N, E) int64
        features, never rising with the cap, 0 where misclassified already, -1 where nothing was found; `pixels` (N, E)
        int64 likewise; `linear_estimate` (N, E) int64, the count if the model were linear at x, exact if it is and
        there are two classes, -1: impossible; `images` (N, E, C, H, W), verified.

    Raises:
        ValueError: bad input, naming the argument.
    """
    ladder = sorted(caps)
    if not ladder or not 0 < ladder[0] <= ladder[-1] <= 1 or len(set(ladder)) < len(ladder):
        raise ValueError(f"caps: expected different numbers in (0, 1], got {tuple(caps)}")
    if candidates < 0:
        raise ValueError(f"candidates: expected 0 or more, got {candidates}")
    check_counts(batch=batch)
    check_budget(budget, MIN_PASSES + 4)
    # the first look, the last verification, and for each cap that can be served one verification and its share
    served = len(ladder) if budget is None else min(len(ladder), (budget - 3) // (MIN_PASSES + 1))
    share = None if budget is None else (budget - 3) // served - 1
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    count = torch.full((len(x), len(ladder)), -1, dtype=torch.int64, device=x.device)
    estimate, images = count.clone(), x[:, None].repeat(1, len(ladder), 1, 1, 1)
    claimed = torch.zeros_like(y, dtype=torch.bool)
    forwards, backwards = torch.zeros_like(y), torch.zeros_like(y)

    with frozen(model):
        for rows in torch.arange(len(x), device=x.device).split(batch):
            image, label = x[rows], goal.take(rows)
            logits, slope = gradient_step(model, image, label, "margin")
            before, margin = label.reached(logits), label.margin(logits)
            best: Smallest | None = None
            forward, backward = torch.ones_like(rows), torch.ones_like(rows)
            for place in range(len(ladder) - 1, -1, -1):
                low, high = linf_bounds(image, torch.full_like(margin, ladder[place]))
                gain = slope * (image - torch.where(slope > 0, low, high))
                estimate[rows, place] = shortest_prefix(gain.flatten(1), margin)[0]
                size = torch.where(before, 0.0, torch.inf).to(x.dtype)
                start = None if best is None else best.x_adv.clamp(low, high)
                same = image.clone()
                best = Smallest(model, image, label, logits, "l0", same, size, forward, backward, batch, None)
                if place >= len(ladder) - served:
                    _of_cap(best, y[rows], start, slope, (low, high), ladder[place], candidates, share)
                found = best.size < torch.inf
                images[rows[found], place] = best.x_adv[found]
                count[rows[found], place] = best.size[found].long()
                _report(on_progress, len(x), rows, (len(ladder) - place) / len(ladder), count)
            forwards[rows], backwards[rows] = forward, backward

        _verify(model, x, goal, images, count, forwards, batch)
        for place in range(1, len(ladder)):  # what fools within a cap fools within every larger one
            fewer = (count[:, place - 1] >= 0) & ((count[:, place - 1] < count[:, place]) | (count[:, place] < 0))
            count[fewer, place], images[fewer, place] = count[fewer, place - 1], images[fewer, place - 1]
        claimed = count[:, -1] >= 0
        changed = (images != x[:, None]).any(2).flatten(2).sum(2)
        trace = {
            "cap": torch.tensor(ladder, dtype=x.dtype, device=x.device).expand(len(x), -1).clone(),
            "count": count,
            "pixels": torch.where(count >= 0, changed, -1),
            "linear_estimate": estimate,
            "images": images,
        }
        return finish(model, x, images[:, -1].clone(), goal, claimed, forwards, backwards, trace, batch)


def _of_cap(
    best: Smallest,
    y: Tensor,
    start: Tensor | None,
    slope: Tensor,
    bounds: tuple[Tensor, Tensor],
    cap: float,
    candidates: int,
    budget: int | None,
) -> None:
    """The fewest features of one chunk within one cap, into `best`; `slope` is the margin's at the images."""
    few = budget if budget is None or not candidates or budget < 3 * MIN_PASSES else budget // 3
    _prefixes(best, start, slope, bounds, few)
    rows = (best.size > 1).nonzero()[:, 0]
    if not candidates or not len(rows):
        return
    left = None if budget is None or few is None else budget - few
    if left is not None and left < MIN_PASSES:
        return
    targets = best.goal.label[rows] if best.goal.targeted else None
    result = jacobian_sparse(
        best.model,
        best.x[rows],
        y[rows],
        y_target=targets,
        max_features=GREEDY,
        candidates=candidates,
        cap=cap,
        budget=left,
        batch=best.batch,
    )
    best.forwards[rows] += result.forwards
    best.backwards[rows] += result.backwards
    found = torch.where(result.success, result.distance["l0"].to(best.size.dtype), torch.inf)
    better = found < best.size[rows]
    best.x_adv[rows[better]], best.size[rows[better]] = result.x_adv[better], found[better]


def _prefixes(
    best: Smallest, start: Tensor | None, slope: Tensor, bounds: tuple[Tensor, Tensor], budget: int | None
) -> None:
    """The shortest prefix of the largest gains that fools, by bisection; gains anew at what that gave, and again."""
    low, high = bounds
    rows = (best.size > 0).nonzero()[:, 0]
    point = (best.x if start is None else start)[rows]
    spent = 0
    for number in range(ROUNDS):
        if not len(rows):
            return
        image = best.x[rows]
        if number == 0 and start is None:
            toward = slope[rows]
        else:
            if budget is not None and spent + 2 > budget:
                return
            toward = best.step(rows, point, "margin")[1]
            spent += 2
        end = torch.where(toward > 0, low[rows], high[rows])
        gain = (toward * (image - end)).flatten(1)
        order = gain.argsort(dim=1, descending=True, stable=True)
        useful = (gain > 0).sum(1)
        before = best.size[rows]
        # `fails` features are too few, `enough` fool, or are all that there are
        fails = torch.zeros_like(useful)
        enough = torch.minimum(useful, before.nan_to_num(0, gain.shape[1], 0).long())
        point = put_back(image, end, order, enough)
        trial = (before.isinf() & (useful > 0)).nonzero()[:, 0]
        if budget is None or spent < budget:
            best.look(rows[trial], point[trial])
            spent += 1
        open_ = best.size[rows] < torch.inf
        while bool((open_ & (enough - fails > 1)).any()) and (budget is None or spent < budget):
            live = (open_ & (enough - fails > 1)).nonzero()[:, 0]
            middle = (fails[live] + enough[live]) // 2
            fooled = best.look(rows[live], put_back(image[live], end[live], order[live], middle))
            fails[live] = torch.where(fooled, fails[live], middle)
            enough[live] = torch.where(fooled, middle, enough[live])
            spent += 1
        found = best.size[rows] < torch.inf
        better = best.size[rows] < before
        going = (better | (~found & (useful > 0))) & (best.size[rows] != 1)
        point = torch.where(found[:, None, None, None], best.x_adv[rows], point)[going]
        rows = rows[going]


def _verify(
    model: nn.Module, x: Tensor, goal: Goal, images: Tensor, count: Tensor, forwards: Tensor, batch: int
) -> None:
    """One forward pass for each image found, in another batch layout; an image that does not fool again is dropped."""
    for place in range(count.shape[1]):
        rows = (count[:, place] > 0).nonzero()[:, 0].flip(0)
        if not len(rows):
            continue
        fooled = goal.take(rows).reached(predict(model, images[rows, place], max(1, batch // 2 + 1)))
        forwards[rows] += 1
        lost = rows[~fooled]
        images[lost, place], count[lost, place] = x[lost], -1
        count[rows[fooled], place] = distances(images[rows[fooled], place], x[rows[fooled]])["l0"]


def _report(on_progress: Progress | None, total: int, rows: Tensor, share: float, count: Tensor) -> None:
    """The images before this chunk are done, and `share` of it."""
    if on_progress:
        done = int(rows[0]) + int(share * len(rows))
        on_progress(done, total, success=(count[: max(1, done)] >= 0).any(1).float().mean().item())
