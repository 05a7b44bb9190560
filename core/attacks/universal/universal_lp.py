"""The smallest perturbation s, the same for every image of a set, by linear programming (`programme`).

Exact where the logits are linear in the image; else the programme is set up again at each point, inside a trust region.
MATHEMATICS section 6.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import frozen
from core.attacks.engine.losses import Goal
from core.attacks.engine.streams import Streams
from core.attacks.universal.universal import Universal, universal_gradient, verified
from core.attacks.universal.universal_search import Point, Search
from core.progress import Progress

FIRST_REACH = 0.02
"""How far the trust region reaches at first, in units of a pixel's range."""
LAST_REACH = 1e-4
"""The search ends where the trust region is smaller."""
LP_BATCH = 64
"""Images in one forward pass; each keeps K gradients in memory."""
SETTLED = 1e-6
"""A programme that promises less progress than this, in linf of s, ends the search."""
STARTS = 4
CLIPPED_STEPS = 300
"""Of the second stage: how many starts are tried, and the gradient steps that lead to the first one."""
MIN_DRIVEN = 4
"""The fewest model evaluations (forward and backward passes) that one such step and its verification need."""


@attack
def universal_lp(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    boxed: bool = True,
    clipped: bool = True,
    kappa: float = 0.01,
    rounds: int = 30,
    y_target: Int[Tensor, " n"] | None = None,
    budget: int | None = None,
    batch: int = LP_BATCH,
    on_progress: Progress | None = None,
) -> Universal:
    """Find the smallest s in linf that fools every one of these images at once, or prove that there is none.

    Towards a target an image has one row for each other class, all of which must fall below the target; otherwise it
    has one row, towards the class that is nearest by first order. So the programme is exact for linear models that are
    targeted or have two classes.

    Stage 1 sets up a programme at the images themselves, which gives `bound`, `first` and the contradiction if there is
    one, and then again at each point reached, inside a trust region that follows how well the rows predict. No image is
    clipped: with `boxed` s leaves every image in [0, 1], without it images may leave this range. Stage 2 follows where
    stage 1 finds no s that fools all and `clipped` is on: images plus s are clipped to [0, 1], so that there may be an
    s even where the rows contradict each other. Gradient steps on the whole set at |s_j| <= 1 (`universal_gradient`)
    give one start, random points up to three more, and programmes continue from there. What is found is an upper bound
    in both stages.

    Args:
        model: pixels to logits; left untouched. With a mask, s is 0 outside it.
        x: (N, C, H, W) in [0, 1]: the set S. Tens of images; a hundred take a while.
        y: (N,) int64 true classes.
        boxed: keep x + s in [0, 1] for all images of the set; off, |s_j| <= 1 is the only limit.
        kappa: margin, in logits, by which each image is to be fooled; 0 or more (0 ends at ties).
        rounds: linear programmes at most, at least 1.
        clipped: try the second stage where the first fails.
        y_target: (N,) int64; given, the images are to be classified as these classes.
        budget: the most model evaluations per image, the verification included. A programme takes one forward pass and
            one backward pass per class, gradient steps get at most half of what is left. At least the number of classes
            plus 2. None: no limit.
        batch: images in one forward pass.
        on_progress: called each round with rounds done, all rounds, `success`, the share fooled, and `linf` of s.

    Returns:
        Where no s fools all images, the one that fools the most. `trace`: `bound`, the dual lower bound of the first
        programme (inf: impossible), a proof for linear models, otherwise true to first order at the images; `first`,
        its optimum (nan: impossible); `weights` (N,) its multipliers, summed per image and to 1: the images that the
        bound depends on; `contradiction`, 1 if these weights prove that the first programme has no solution; `here`,
        the dual bound of the programme where the search ended, which is linf of s where that is a smooth local optimum;
        `rounds` (R, 3): after each programme linf of s, the share fooled, and how far the trust region reached;
        `stage`, 1 or 2; `clips`, whether images are clipped to [0, 1].

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(rounds=rounds, batch=batch)
    if not 0 <= kappa < math.inf:
        raise ValueError(f"kappa: expected a number of 0 or more, got {kappa}")
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    with frozen(model):
        search = Search(model, x, goal, "box" if boxed else "free", kappa, batch, budget)
        start = search.look(np.zeros(x[0].numel()))
        trace = search.first(start)
        best, here, history = _descend(search, start, rounds, on_progress)
        stage = 1
        if clipped and best.fooled < 1 and start.sound and search.affords(MIN_DRIVEN):
            stage, search = 2, Search(model, x, goal, "clip", kappa, batch, budget, search)
            for number in range(STARTS):
                if number and not search.affords():
                    break
                first = _drawn(search, number) if number else _driven(search, y, y_target)
                found, last, more = _descend(search, first, rounds, on_progress)
                history += more
                if number == 0 or found.worth() > best.worth():
                    best, here = found, last
                if best.fooled == 1:
                    break
        trace |= {
            "here": torch.tensor(here.bound()),
            "rounds": torch.tensor(history, dtype=torch.float64).view(-1, 3),
            "stage": torch.tensor(stage),
            "clips": torch.tensor(search.clips),
        }
        return verified(
            model,
            x,
            goal,
            search.image(best.s),
            torch.full_like(y, search.forwards),
            torch.full_like(y, search.backwards),
            trace,
            clip=search.clips,
            batch=batch,
        )


def _descend(
    search: Search, here: Point, rounds: int, on_progress: Progress | None
) -> tuple[Point, Point, list[list[float]]]:
    """Solve programmes one after the other: the best point, the last one, and rows (linf, share fooled, reach)."""
    best, price, reach, history = here, 1.0, FIRST_REACH, []
    for turn in range(rounds if here.sound else 0):
        if not search.affords():
            break
        step, missing, price = _next(here, reach, price)
        there = search.look(step)
        hoped = here.merit(price) - (float(np.abs(step).max()) + price * missing)
        gained = here.merit(price) - there.merit(price)
        best = max(best, there, key=Point.worth)
        history.append([there.size, there.fooled, reach])
        if on_progress:
            on_progress(turn + 1, rounds, phase=search.phase, success=best.fooled, linf=best.size)
        if not there.sound or hoped < SETTLED:
            break
        if gained > 0.1 * hoped:
            here = there
        reach = min(1.0, 2 * reach) if gained > 0.7 * hoped else reach / (1 if gained > 0.3 * hoped else 3)
        if reach < LAST_REACH:
            break
    return best, here, history


def _driven(search: Search, y: Tensor, y_target: Tensor | None) -> Point:
    """The first start of the second stage: what gradient steps on the set, with clipping, reach at eps 1."""
    left = search.left()
    found = universal_gradient(
        search.model,
        search.x,
        y,
        eps=1.0,
        epochs=CLIPPED_STEPS,
        minibatch=len(y),
        relative_step=0.05,
        kappa=search.kappa,
        validation=0.0,
        y_target=y_target,
        budget=None if left is None else max(MIN_DRIVEN, left // 2),
        batch=search.batch,
    )
    search.forwards += int(found.forwards.max())
    search.backwards += int(found.backwards.max())
    return search.look(found.delta.flatten().double().cpu().numpy())


def _drawn(search: Search, number: int) -> Point:
    """Another start: a random s inside the limits. The pixels that it clips differ, so it may end elsewhere."""
    drawn = Streams.of(0, torch.tensor([number])).uniform(0, 1, search.low.shape, torch.float64)[0].numpy()
    return search.look(search.low + drawn * (search.high - search.low))


def _next(here: Point, reach: float, price: float) -> tuple[np.ndarray, float, float]:
    """The programme's solution inside the trust region, by how much it misses, and the new price of a miss."""
    local = here.programme.within(here.s, reach)
    answer = local.solve()
    if answer is None:
        step, missing, _ = local.nearest()
        idle = here.s
        price = max(price, 2 * reach / max(here.missing - missing, 1e-9))
    else:
        (step, weights), missing = answer, 0.0
        level = np.abs(step).max()
        idle = here.s.clip(-level, level)
        price = max(price, 2 * float(weights.sum()))
    # a feature that no row depends on stays, inside the new size: the solver may have put it anywhere
    return np.where((local.rows != 0).any(0), step, idle), missing, price
