"""The smallest perturbation in any norm: complementary attacks within a budget of passes, the best of each image.

First the exact step of the linearised model, in l2 FAB to the strongest other class, in l1 PDPGD, then FMN twice, by
two losses, towards any wrong class, as one of the two often finds a nearer place than the other; then FMN (in l2 DDN)
towards each of the strongest other classes, since a walk along the boundary rarely changes class (towards a given
target: with another loss instead). In the end bisection towards the image and the exact step of the model linearised
there. In l0 walks by averaged gradients from sets of two sizes and, with many passes, sigma-zero and greed with pruning
and swaps, any class and class by class; in the end pruning and, with all passes that an image has left, swaps.

Where the gradient at an image says nothing of the way (see `nearest`), as on networks trained in linf, walks lead
nowhere in l2, and which class is nearest is not seen from the image: there FAB goes towards several. MNIST, first 150
images, share farther than l2 2.0 with 200, 1,000 and 2,000 passes: interval-trained .136, .000, .000 (before .374,
.143, .041), TRADES .297, .223, .196 (.405, .264, .243).

Mean distance on MNIST with LeNet at 200 passes, 300 images, and in brackets the smallest mean of the peers in adv-lib
and foolbox at as many passes. Undefended: l2 1.527 (1.535), l1 7.63 (8.80), l0 8.43 (10.36). Adversarially trained
(linf, eps .3): l2 1.742 (1.776), l1 6.31 (7.93), l0 7.02 (10.41).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check
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
from core.attacks.minimal.nearest import LOOK, astray, nearest_within, onto_nearest
from core.attacks.minimal.pdpgd import pdpgd
from core.attacks.sparse.averaged import averaged
from core.attacks.sparse.pruning import prune
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
from core.attacks.sparse.swaps import swap
from core.progress import Progress

LEAST_BUDGET = 50
"""Below this no combination makes sense."""
FINISH = 13
"""Passes for the bisection at the end and for `EXACT`; in l0 the least for pruning."""
EXACT = nearest_within(None, 1)
"""Passes for the exact step of the linearised model, onto the boundary of the class that was reached."""
PRUNE_SHARE = 0.05
"""In l0: share of the budget for the pruning at the end, at least `FINISH` passes; swaps have what is left then."""
MOST_CLASSES = 4
"""Other classes that get a walk of their own."""
SHORT, LONG = 30, 80
"""Steps of a walk: at least so many for one class, and the first walk's until the others have their share."""
AMPLE = 400
"""Passes from which on l0 has parts for single classes, too."""
MANY = 8
"""Features really tried at each step of the greedy attack."""
FAB = 150
"""In l2, where the gradient does not lead astray: the most passes for FAB, at most half. It costs .05 to .5 % of the
distance, and saves the few images that `astray` misses."""
CLASS, SEVERAL = 90, 300
"""In l2, where the gradient leads astray: passes of FAB towards one class at least, as the nearest class only shows at
the end of a run; passes from which on DDN and a second FAB are worth theirs."""
LONG_STEPS, SHORT_STEPS = 1.2, 1.05
"""How far these two FABs step across each boundary (`eta`): the first gets past flat places, the second ends nearer."""
PDPGD = 300
"""In l1: passes for PDPGD where there are three times as many: on a robust LeNet it comes nearer on an eighth of the
images."""
MOST, AVERAGED = 80, 44
"""Features that the walk by averaged gradients begins with, and the passes of one."""

FARTHER = {"l1": {"step_size": 6.0, "gamma": 0.2}, "l2": {"step_size": 3.0, "gamma": 0.2}}
"""Settings of FMN: longer steps than its defaults leave the valley that the walk began in."""


@dataclass(frozen=True)
class Part:
    """One attack of the combination.

    Attributes:
        attack: the function.
        settings: its arguments.
        rank: towards the strongest other class (0), the second (1), ...; None: towards no class of its own.
        passes: the most forward and backward passes that it can spend on one image.
        astray: only for images whose gradient leads astray (True) or does not (False); None: for all.
    """

    attack: Callable[..., AttackResult]
    settings: dict[str, Any]
    rank: int | None
    passes: int
    astray: bool | None = None


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
    """Find the smallest perturbation that a budget of passes allows. Nothing is drawn at random.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small; l0 counts features.
        budget: the most forward and backward passes to spend on each image, at least 50; `plan` says on what.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images under attack at once.
        on_progress: called with images done, all, share of `success`.

    Returns:
        The smallest fooling image found; images fooled before, and those that withstand, come back unchanged.
        `forwards + backwards <= budget`. `trace`: `part` (N,) int64, the part of `plan` that found it, -1: none;
        untargeted in l2 `astray` (N,) bool, where the gradient leads astray (see `nearest`) and other parts are run.

    Raises:
        ValueError: bad input, naming the argument.
    """
    if norm not in PROJECT:
        raise ValueError(f"norm: expected one of {', '.join(PROJECT)}, got {norm!r}")
    for name, value, least in (("budget", budget, LEAST_BUDGET), ("batch", batch, 1)):
        if value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    with frozen(model):
        best = Smallest.start(model, x, goal, norm, batch, None)
        ranking = ranked_others(best.logits, y)
        parts = plan(norm, budget, best.logits.shape[1], goal.targeted)
        origin, lost = torch.full_like(y, -1), torch.zeros_like(y, dtype=torch.bool)
        looks = any(part.astray is not None for part in parts)
        if looks:
            for rows in (best.size > 0).nonzero()[:, 0].split(batch):
                lost[rows] = astray(best, rows)
        for number, part in enumerate(parts):
            floor = 2 if norm == "l0" else 0  # one feature is as few as can be
            meant = (best.size >= floor) & (best.size > 0)
            rows = (meant if part.astray is None else meant & (lost == part.astray)).nonzero()[:, 0]
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
                prune(best, rows, _finish(norm, budget))
                swap(best, rows, budget - 1 - best.forwards[rows] - best.backwards[rows])
            else:
                best.bisect(rows, FINISH - EXACT)
                onto_nearest(best, rows, EXACT)
        best.on_progress = on_progress
        best.done = len(x)
        best.report(rows[:0], 0.0)
        return best.result({"part": origin, "astray": lost} if looks else {"part": origin})


def _share(best: Smallest, number: int, parts: int, on_progress: Progress | None) -> Progress | None:
    """The progress of part `number`, told as progress of the whole."""
    if on_progress is None:
        return None

    def report(done: int, total: int, **metrics: Any) -> None:
        success = (best.size < torch.inf).float().mean().item()
        on_progress(int((number + done / total) / parts * len(best.x)), len(best.x), success=success)

    return report


def plan(norm: str, budget: int, classes: int, targeted: bool) -> list[Part]:
    """What `minimum` runs, in this order; all parts of an image and the finish together stay within the budget."""
    left = budget - _finish(norm, budget) - 2  # the first look and the verification
    if norm == "l0":
        return _plan_l0(left, classes, targeted)
    if norm == "l2" and not targeted:
        left -= LOOK
        walks = _plan_walks(norm, left, classes, targeted)
        return [*_plan_astray(left, classes), *(replace(part, astray=False) for part in walks)]
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
    others = 1 if targeted else min(classes - 1, MOST_CLASSES)
    others = min(others, left // (2 * SHORT + 3))
    for rank in range(others):
        steps = (left // others - 3) // 2
        parts.append(_walk(norm, steps, None if targeted else rank, "margin" if targeted else "ce"))
    return parts


def _plan_astray(left: int, classes: int) -> list[Part]:
    """FAB towards several classes; with many passes DDN, too, and FAB once more with shorter steps."""
    if left < SEVERAL:
        return [_fab(left, classes, LONG_STEPS)]
    walk, again = int(left * 0.15), int(left * 0.25)
    settings = {"steps": (walk - 3) // 2, "gamma": 0.15, "candidates": 0}
    return [
        _fab(left - walk - again, classes, LONG_STEPS),
        Part(ddn, settings, 0, walk, astray=True),
        _fab(again, classes, SHORT_STEPS),
    ]


def _fab(passes: int, classes: int, eta: float) -> Part:
    """Towards as many classes as have `CLASS` passes each; 7 passes and one a class go besides the steps."""
    targets = max(1, min(classes - 1, passes // CLASS))
    settings = {"norm": "l2", "steps": (passes - 7 - targets) // (2 * targets), "targets": targets, "eta": eta}
    return Part(fab, settings, None, passes, astray=True)


def _walk(norm: str, steps: int, rank: int | None, loss: str) -> Part:
    """The walk along the boundary: FMN, but in l2 towards one class DDN, which was measured better there."""
    if norm == "l2" and rank is not None and loss == "ce":
        return Part(ddn, {"steps": steps, "candidates": 0}, rank, 2 * steps + 3)
    settings = {"norm": norm, "steps": steps, "loss": loss, "candidates": 0, **FARTHER.get(norm, {})}
    return Part(fmn, settings, rank, 2 * steps + 3)


def _plan_l0(left: int, classes: int, targeted: bool) -> list[Part]:
    """Walks by averaged gradients; with many passes for single classes, too, sigma-zero and greed."""
    if left <= 100:
        return [_averaged(left, MOST, None)]
    parts = [_averaged(min(left // 4, AVERAGED), most, None) for most in (MOST, MOST // 4)]
    if left < AMPLE:
        return parts  # swaps have the rest
    looked = 0 if targeted else min(classes - 1, MOST_CLASSES)
    parts += [_averaged(AVERAGED, MOST, rank) for rank in range(looked if left >= 2 * AMPLE else 0)]
    left -= sum(part.passes for part in parts)
    parts.append(_sigma_zero(int(left * 0.12)))
    left -= parts[-1].passes
    others = 0 if targeted else min(classes - 1, MOST_CLASSES, left // 150 - 1)
    first = int(left * 0.3) if others else left
    parts.append(_greedy(first, MANY if left < 1000 else 2 * MANY, None))
    left -= first
    return parts + [_greedy(left // others, MANY, rank) for rank in range(others)]


def _averaged(passes: int, most: int, rank: int | None) -> Part:
    """Two passes a step; the look at the image, its gradient and the verification come on top."""
    return Part(averaged, {"steps": (passes - 4) // 2, "most": most}, rank, passes)


def _sigma_zero(passes: int) -> Part:
    prune_calls = min(20, passes // 6)
    settings = {"steps": passes, "prune_calls": prune_calls, "budget": passes}
    return Part(sigma_zero, settings, None, passes)


def _greedy(passes: int, candidates: int, rank: int | None) -> Part:
    settings = {"max_features": passes // (2 + candidates), "candidates": candidates, "budget": passes}
    return Part(jacobian_sparse, settings, rank, passes)


def _finish(norm: str, budget: int) -> int:
    return max(FINISH, int(budget * PRUNE_SHARE)) if norm == "l0" else FINISH
