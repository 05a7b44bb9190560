"""The smallest perturbation in any norm: complementary attacks within a budget, the best result per image.

The order for any wrong class is: DeepFool's exact step for the linearised model; in l2 FAB towards the strongest other
class; in l1 PDPGD; FMN with two losses, since one of the two often ends in a nearer place than the other; then FMN (in
l2 DDN) towards each of the strongest other classes, since a walk along the boundary rarely changes the class. Towards a
given target class FMN runs with another loss instead. In the end the best image is moved towards the original by
bisection and onto the nearest boundary of the model linearised there. In l0 the attacks are averaged gradients from
sets of two sizes and, with many model evaluations (forward and backward passes), sigma-zero and the greedy attack, for
any class and class by class; in the end pruning, swaps, and guided searches for fewer features with all that an image
has left of its budget, which come first where the set is large.

Where the linearised boundary at an image lies outside the box (see `nearest`), as on networks trained in linf, walks
lead nowhere in l2, and the nearest class cannot be read off the image: there FAB runs towards several classes.
What this reaches, and what other libraries do: docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_budget, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.geometry import PROJECT
from core.attacks.engine.losses import Goal, ranked_others
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest
from core.attacks.minimal.ddn import ddn
from core.attacks.minimal.deepfool import deepfool
from core.attacks.minimal.fab import fab
from core.attacks.minimal.fmn import fmn
from core.attacks.minimal.nearest import LOOK, boundary_outside_box, nearest_within, onto_nearest
from core.attacks.minimal.pdpgd import pdpgd
from core.attacks.sparse.averaged_gradients import averaged_gradients
from core.attacks.sparse.guided import count_down
from core.attacks.sparse.pruning import prune
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
from core.attacks.sparse.swaps import swap
from core.checks import check_choice
from core.progress import Progress, part

MIN_BUDGET = 50
"""Below this no combination makes sense."""
FINISH = 13
"""Model evaluations for the bisection at the end and for `EXACT`; in l0 the fewest for pruning."""
EXACT = nearest_within(None, 1)
"""Model evaluations for the step onto the linearised boundary with the class that was reached."""
PRUNE_SHARE = 0.05
"""In l0: share of the budget for the pruning at the end, at least `FINISH`; swaps have what is left then."""
MAX_CLASSES = 4
"""Other classes that get a walk of their own."""
SHORT, LONG = 30, 80
"""Steps of a walk: at least so many for one class, and the first walk's until the others have their share."""
AMPLE = 400
"""The budget from which on l0 has parts for single classes, too."""
MANY = 8
"""Features that the greedy attack tries by forward passes at each step."""
FAB = 150
"""In l2, where the linearised boundary is inside the box: the most model evaluations for FAB, at most half of what is
left. It finds the few images for which `boundary_outside_box` should hold and does not."""
CLASS, SEVERAL = 90, 300
"""In l2, where that boundary is outside the box: the fewest model evaluations of FAB for each class, as the nearest
class only shows at the end of a run; and the budget from which on DDN and a second FAB are worth theirs."""
LONG_STEPS, SHORT_STEPS = 1.2, 1.05
"""How far these two FABs step across each boundary (`eta`): the first gets past flat places, the second ends nearer."""
COUNT_DOWN = 0.35
"""In l0: the share of an ample budget for swaps and for searches for fewer features (`guided.count_down`)."""
EXCHANGE = 70
"""Model evaluations for which swaps take about one feature off."""
ROUND = 26
"""Those of a round of swaps besides one for each feature. With a short budget, searches for fewer features come first
where there are not enough for two rounds."""
PDPGD = 300
"""In l1: model evaluations for PDPGD where there are three times as many."""
SET, AVERAGED = 80, 44
"""Features that the attack by averaged gradients begins with, and the model evaluations of one run."""

FARTHER = {"l1": {"step_size": 6.0, "gamma": 0.2}, "l2": {"step_size": 3.0, "gamma": 0.2}}
"""Settings of FMN: longer steps than its defaults leave the valley that the walk began in."""


@dataclass(frozen=True)
class Part:
    """One attack of the combination.

    Attributes:
        attack: the function.
        settings: its arguments.
        rank: towards the strongest other class (0), the second (1), ...; None: towards no class of its own.
        passes: the most model evaluations that it can spend on one image.
        boundary_outside_box: only for images whose linearised boundary is outside the box (True) or inside (False);
            None: for all.
    """

    attack: Callable[..., AttackResult]
    settings: dict[str, Any]
    rank: int | None
    passes: int
    boundary_outside_box: bool | None = None


@attack
def minimum(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Literal["linf", "l2", "l1", "l0"] = "l2",
    budget: int = 1000,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find the smallest perturbation that a budget of model evaluations allows. Draws depend on the pixels alone.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small; l0 counts features.
        budget: the most model evaluations (forward and backward passes) per image, at least 50; `plan` says on what.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called with images done, all images, and `success`, the share fooled so far.

    Returns:
        The smallest image found that fools. Images that are misclassified already, and those that withstand, come back
        unchanged. `forwards + backwards <= budget`. `trace`: `part` (N,) int64, the part of `plan` that found it, -1:
        none; untargeted in l2 `boundary_outside_box` (N,) bool, where other parts are run (see `nearest`).

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_choice("norm", norm, PROJECT)
    check_budget(budget, MIN_BUDGET)
    check_counts(batch=batch)
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    with frozen(model):
        best = Smallest.start(model, x, goal, norm, batch, None)
        ranking = ranked_others(best.logits, y)
        parts = plan(norm, budget, best.logits.shape[1], goal.targeted)
        origin, outside = torch.full_like(y, -1), torch.zeros_like(y, dtype=torch.bool)
        looks = any(part.boundary_outside_box is not None for part in parts)
        if looks:
            for rows in (best.size > 0).nonzero()[:, 0].split(batch):
                outside[rows] = boundary_outside_box(best, rows)
        for number, part in enumerate(parts):
            floor = 2 if norm == "l0" else 0  # one feature is as few as can be
            meant = (best.size >= floor) & (best.size > 0)
            where = part.boundary_outside_box
            rows = (meant if where is None else meant & (outside == where)).nonzero()[:, 0]
            if not len(rows):
                continue
            aim = goal.label if goal.targeted else None if part.rank is None else ranking[:, part.rank]
            result = part.attack(
                model,
                x[rows],
                y[rows],
                y_target=None if aim is None else aim[rows],
                batch=batch,
                on_progress=_share(best, number, len(parts), on_progress),
                **part.settings,
            )
            best.forwards[rows] += result.forwards
            best.backwards[rows] += result.backwards
            found = torch.where(result.success, result.distance[norm].to(x.dtype), torch.inf)
            better = found < best.size[rows]
            best.x_adv[rows[better]], best.size[rows[better]] = result.x_adv[better], found[better]
            origin[rows[better]] = number
        for rows in torch.arange(len(x), device=x.device).split(batch):
            if norm == "l0":
                _fewest(best, rows, budget)
            else:
                best.bisect(rows, FINISH - EXACT)
                onto_nearest(best, rows, EXACT)
        best.on_progress = on_progress
        best.done = len(x)
        best.report(rows[:0], 0.0)
        return best.result({"part": origin, "boundary_outside_box": outside} if looks else {"part": origin})


def _fewest(best: Smallest, rows: Tensor, budget: int) -> None:
    """Take features off what was found in l0, until the budget is spent or nothing helps."""
    finish = _finish("l0", budget)

    def left() -> Tensor:
        return budget - 1 - best.forwards[rows] - best.backwards[rows]

    spare = left() - finish
    first = spare if budget >= AMPLE else torch.where(spare < 2 * (best.size[rows] + ROUND), spare, 0)
    count_down(best, rows, first, worth=1 / EXCHANGE)
    prune(best, rows, finish)
    swap(best, rows, left())
    count_down(best, rows, left())
    swap(best, rows, left())


def _share(best: Smallest, number: int, parts: int, on_progress: Progress | None) -> Progress | None:
    """The progress of part `number`, as progress of the whole."""
    n, success = len(best.x), (best.size < torch.inf).float().mean().item()
    begin, end = number * n // parts, (number + 1) * n // parts
    return part(on_progress, begin, end, n, metrics={"success": success})


def plan(norm: str, budget: int, classes: int, targeted: bool) -> list[Part]:
    """What `minimum` runs, in this order; all parts of an image and the finish together stay within the budget."""
    left = budget - _finish(norm, budget) - 2  # the first look and the verification
    if norm == "l0":
        return _plan_l0(left, classes, targeted)
    if norm == "l2" and not targeted:
        left -= LOOK
        walks = _plan_walks(norm, left, classes, targeted)
        return [*_plan_outside(left, classes), *(replace(part, boundary_outside_box=False) for part in walks)]
    return _plan_walks(norm, left, classes, targeted)


def _plan_walks(norm: str, left: int, classes: int, targeted: bool) -> list[Part]:
    """The exact step of the linearised model, then walks of all kinds."""
    parts = []
    looked = 1 if targeted else min(classes - 1, 9)
    if 2 * (1 + looked) + 3 <= left // 6:
        settings = {"norm": norm, "steps": 2, "candidates": looked, "overshoot": 1e-3}
        parts.append(Part(deepfool, settings, None, 2 * (1 + looked) + 3))
        left -= parts[-1].passes
    if norm == "l2" and not targeted:
        passes = min(left // 2, FAB)
        parts.append(Part(fab, {"norm": norm, "steps": (passes - 8) // 2, "targets": 1}, None, passes))
        left -= passes
    if norm == "l1" and left >= 3 * PDPGD:
        steps = (PDPGD - 8) // 2
        parts.append(Part(pdpgd, {"norm": norm, "steps": steps, "candidates": 0}, None, PDPGD))
        left -= PDPGD
    # the first walk has at least LONG steps, then 40 % of what is left; the others share the rest
    first = min((left - 3) // 2, max(LONG, int(left * 0.4) // 2))
    # two losses of half the steps each: on robust models DLR is often the better one, on others the log-odds
    two = not targeted and (norm == "linf" or first >= 2 * SHORT)
    losses = ("ce", "dlr") if two else ("ce",)
    for loss in losses:
        parts.append(_walk(norm, ((2 * first + 3) // len(losses) - 3) // 2, None, loss))
        left -= parts[-1].passes
    others = 1 if targeted else min(classes - 1, MAX_CLASSES)
    others = min(others, left // (2 * SHORT + 3))
    for rank in range(others):
        steps = (left // others - 3) // 2
        parts.append(_walk(norm, steps, None if targeted else rank, "margin" if targeted else "ce"))
    return parts


def _plan_outside(left: int, classes: int) -> list[Part]:
    """FAB towards several classes; with a large budget DDN, too, and FAB once more with shorter steps."""
    if left < SEVERAL:
        return [_fab(left, classes, LONG_STEPS)]
    walk, again = int(left * 0.15), int(left * 0.25)
    settings = {"steps": (walk - 3) // 2, "gamma": 0.15, "candidates": 0}
    return [
        _fab(left - walk - again, classes, LONG_STEPS),
        Part(ddn, settings, 0, walk, boundary_outside_box=True),
        _fab(again, classes, SHORT_STEPS),
    ]


def _fab(passes: int, classes: int, eta: float) -> Part:
    """FAB towards as many classes as have `CLASS` evaluations each; besides its steps it takes 7, and 1 per class."""
    targets = max(1, min(classes - 1, passes // CLASS))
    settings = {"norm": "l2", "steps": (passes - 7 - targets) // (2 * targets), "targets": targets, "eta": eta}
    return Part(fab, settings, None, passes, boundary_outside_box=True)


def _walk(norm: str, steps: int, rank: int | None, loss: str) -> Part:
    """The walk along the boundary: FMN, but in l2 towards one class DDN, which measured better there."""
    if norm == "l2" and rank is not None and loss == "ce":
        return Part(ddn, {"steps": steps, "candidates": 0}, rank, 2 * steps + 3)
    settings = {"norm": norm, "steps": steps, "loss": loss, "candidates": 0, **FARTHER.get(norm, {})}
    return Part(fmn, settings, rank, 2 * steps + 3)


def _plan_l0(left: int, classes: int, targeted: bool) -> list[Part]:
    """Averaged gradients; with a large budget also for single classes, with sigma-zero and the greedy attack."""
    if left <= 100:
        return [_averaged(left, SET, None)]
    parts = [_averaged(min(left // 4, AVERAGED), size, None) for size in (SET, SET // 4)]
    if left < AMPLE:
        return parts  # swaps have the rest
    looked = 0 if targeted else min(classes - 1, MAX_CLASSES)
    parts += [_averaged(AVERAGED, SET, rank) for rank in range(looked if left >= 2 * AMPLE else 0)]
    left = int(left * (1 - COUNT_DOWN))
    left -= sum(part.passes for part in parts)
    parts.append(_sigma_zero(int(left * 0.12)))
    left -= parts[-1].passes
    others = 0 if targeted else min(classes - 1, MAX_CLASSES, left // 150 - 1)
    first = int(left * 0.3) if others else left
    parts.append(_greedy(first, MANY if left < 1000 else 2 * MANY, None))
    left -= first
    return parts + [_greedy(left // others, MANY, rank) for rank in range(others)]


def _averaged(passes: int, max_features: int, rank: int | None) -> Part:
    """Two evaluations per step; four more are for the image, its gradient and the verification."""
    return Part(averaged_gradients, {"steps": (passes - 4) // 2, "max_features": max_features}, rank, passes)


def _sigma_zero(passes: int) -> Part:
    prune_calls = min(20, passes // 6)
    settings = {"steps": passes, "prune_calls": prune_calls, "budget": passes}
    return Part(sigma_zero, settings, None, passes)


def _greedy(passes: int, candidates: int, rank: int | None) -> Part:
    settings = {"max_features": passes // (2 + candidates), "candidates": candidates, "budget": passes}
    return Part(jacobian_sparse, settings, rank, passes)


def _finish(norm: str, budget: int) -> int:
    return max(FINISH, int(budget * PRUNE_SHARE)) if norm == "l0" else FINISH
