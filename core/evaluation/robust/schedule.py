"""The schedule of an evaluation: its attacks in their order, and which images each of them is for.

Cheap attacks come first, and each one only sees the images that are not fooled yet. Later ones are for the few images
that may still be fooled: those whose lowest margin is a small share of the clean image's (`Stage.max_margin`). That
measure needs no scale of the logits and no other image, so a slice evaluated alone equals the slice of the whole.
Square begins at the best point so far and gives up by what it gained there.

In l2 and l1, attacks at a fixed budget find little on networks that were trained in linf, since no feature may change
much at once. FAB comes from outside, with long steps across the boundary; what it finds beyond the ball is pulled in,
and PGD descends from there. In l2 two short runs in turn, which begin a few eps away (`reach`), do more than a long
one that comes from the other side of the box.

The limits were chosen by measurement; see docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from core.attacks.black_box.sparse_rs import sparse_rs
from core.attacks.black_box.square import square
from core.attacks.engine.result import AttackResult
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.hop import basin_hopping
from core.attacks.fixed_budget.pgd import pgd
from core.attacks.minimal.fab import fab
from core.attacks.minimal.minimum import minimum
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
from core.evaluation.robust.towards import towards

NEAR = {"linf": torch.inf, "l2": 1.15, "l1": 1.25}
"""Where FAB says how far away the boundary is: at how many times eps an image is worth more attacks."""
OVER = 1.4
"""How far FAB steps across the boundary (`eta`), in lengths of the way to it."""
PULLED_IN = 1.4
"""In l2: up to how many times eps an adversarial example of FAB is pulled into the ball, to go down from there."""
EFFORTS = ("quick", "standard", "at_least_autoattack")
"""The effort levels: how much is tried. Model evaluations (forward + backward passes) per image that is not fooled, in
linf with ten classes, from an image far from the boundary to one close to it: `quick` about 32 + 12 to 92 + 65;
`standard` the same to 9,200 + 1,000; `at_least_autoattack`, which also has APGD-CE, APGD-T, FAB and Square at
AutoAttack's lengths, about 7,000 + 3,000 to 23,000 + 7,000. AutoAttack itself takes 7,850 + 1,910 per image."""

SQUARES: dict[str, Any] = {"offspring": 16, "batch": 512}
"""How Square searches: sixteen squares of each of 32 images at once, which was measured faster than eight."""


@dataclass(frozen=True)
class Stage:
    """One attack of the cascade.

    Attributes:
        name: as it stands in `found_by`.
        attack: the function.
        settings: its arguments.
        max_margin: only images whose lowest margin so far is at most this share of the clean image's.
        max_distance: only images of which an adversarial example is known at no more than so many times eps.
        gradient_masked: and images that `CascadeState.gradient_masked` marks.
        boundary_outside_box: and images that `CascadeState.boundary_outside_box` marks, whatever their distance.
        resumes: begins at the best point so far instead of the image.
        probe: a few queries without gradients; images whose margin they lower about as far are marked as masked.
        fixed_eps: takes eps, norm and streams. Else the attack looks for the smallest change, which counts within eps.
    """

    name: str
    attack: Callable[..., AttackResult]
    settings: dict[str, Any]
    max_margin: float = torch.inf
    max_distance: float = torch.inf
    gradient_masked: bool = False
    boundary_outside_box: bool = False
    resumes: bool = False
    probe: bool = False
    fixed_eps: bool = True


def stages(norm: str, effort: str, classes: int) -> list[Stage]:
    """The schedule of an effort level; each level contains the stages of the one below it."""
    return list(_stages_l0(effort) if norm == "l0" else _stages(norm, effort, classes))


def described(stage: Stage) -> str:
    """All that a stage does, as text that is the same in every process."""
    return repr({**vars(stage), "attack": stage.attack.__name__})


def _start(
    number: int, loss: str, odi: int, steps: int, max_margin: float = torch.inf, max_distance: float = torch.inf
) -> Stage:
    return Stage(
        f"APGD {loss}, start {number}", apgd, {"loss": loss, "odi_steps": odi, "steps": steps}, max_margin, max_distance
    )


def _hops(hops: int, max_margin: float, max_distance: float = torch.inf, chains: int = 4) -> Stage:
    return Stage(
        "hops", basin_hopping, {"hops": hops, "chains": chains, "share": 0.15}, max_margin, max_distance, resumes=True
    )


def _targets(targets: int, steps: int, max_margin: float, max_distance: float = torch.inf) -> Stage:
    return Stage("APGD towards classes", towards, {"targets": targets, "steps": steps}, max_margin, max_distance)


def _fab(steps: int, targets: int, max_distance: float = torch.inf, **settings: float) -> Stage:
    made = {"steps": steps, "targets": targets, **settings}
    return Stage("FAB", fab, made, max_distance=max_distance, boundary_outside_box=True, fixed_eps=False)


def _from_outside(norm: str, classes: int) -> Iterator[Stage]:
    if norm == "l1":
        yield _fab(30, 1, eta=OVER)
        yield _descent(NEAR[norm])
        return
    short = {"eta": OVER, "beta": 0.8}
    yield _fab(15, 1, reach=6, **short)
    yield _descent(PULLED_IN)
    if classes > 2:
        yield _fab(15, min(2, classes - 2), max_distance=2, skip=1, reach=3, **short)
        yield _descent(PULLED_IN)


def _descent(max_distance: float) -> Stage:
    return Stage(
        "PGD from FAB",
        basin_hopping,
        {"hops": 1, "chains": 1, "steps": 20, "share": 0.0},
        0.9,
        max_distance,
        resumes=True,
    )


def _squares(queries: int, milestones: tuple[tuple[int, float], ...], max_margin: float, max_distance: float) -> Stage:
    settings = SQUARES | {"queries": queries, "spent": 512, "milestones": milestones}
    return Stage("Square", square, settings, max_margin, max_distance, gradient_masked=True, resumes=True)


def _stages(norm: str, effort: str, classes: int) -> Iterator[Stage]:
    several = min(3, classes - 1)
    near = NEAR[norm]
    yield Stage("one step", pgd, {"steps": 1, "random_start": False, "loss": "ce"})
    yield Stage("PGD margin", pgd, {"steps": 10, "random_start": False, "loss": "margin"})
    if norm != "linf":
        yield from _from_outside(norm, classes)
    if norm != "l1":
        yield Stage("probe", square, {"queries": 12 if norm == "linf" else 5}, probe=True)
    yield _start(1, "ce", 4, 8, 0.75)
    if norm != "l2":
        yield _start(2, "dlr", 5, 15, 0.4, near)
    yield _start(3, "ce", 5, 15, 0.3, near)
    if effort == "quick":
        return
    if norm == "l1":
        yield _fab(50, several, eta=1.2)
        yield _descent(near)
    if norm == "l2":
        yield _fab(20, several, max_distance=0, eta=OVER, reach=4)  # for images whose boundary is outside the box
        yield _descent(PULLED_IN)
    yield _hops(8, 0.2, near)
    yield _targets(several, 20, 0.08, near)
    if norm != "l1":
        yield _squares(2000, ((96, 0.97), (128, 0.93), (256, 0.76), (500, 0.5), (1000, 0.35)), 0.4, near)
    yield _hops(16, 0.06, near, chains=8)
    yield _hops(48 if norm == "linf" else 24, 0.03, near, chains=16 if norm == "linf" else 12)
    if norm != "l1":
        close = 0.1 if norm == "linf" else 0.05
        yield _squares(2000, ((256, 0.93), (500, 0.8)), close, near)
        anew = ((128, 0.44), (250, 0.22), (500, 0.1), (1000, 0.06))
        yield Stage(
            "Square", square, SQUARES | {"queries": 4000, "milestones": anew}, close, near, gradient_masked=True
        )
    if effort == "standard":
        return
    yield Stage("APGD-CE", apgd, {"loss": "ce", "steps": 100})
    every = {"restarts": 0, "targets": classes - 1, "loss": "dlr", "steps": 100}
    yield Stage("APGD towards classes", apgd, every)  # one class after another: many images, and most fall early
    yield _fab(100, min(9, classes - 1))
    if norm != "l1":
        yield Stage("Square, long", square, {"queries": 5000})
    yield _hops(200, 0.4)


def with_straight_through(plan: list[Stage], norm: str, effort: str) -> list[Stage]:
    """The schedule for a model whose gradients mislead: with stages whose gradients pass straight through.

    They replace what stops the gradient (`core.attacks.engine.stand_ins`). They come after the first `AFTER` stages,
    each on all images that are not fooled yet: margins and probes say little about such models.
    """
    return [*plan[:AFTER], *straight_through(norm, effort), *plan[AFTER:]]


AFTER = 2
"""The number of stages before those of `straight_through`."""


def straight_through(norm: str, effort: str) -> Iterator[Stage]:
    """The stages that `with_straight_through` adds."""
    how = {"straight_through": True}
    start = {"steps": 20, "random_start": False, "loss": "margin"}
    yield Stage("PGD margin, straight-through", pgd, start | how)
    yield Stage("PGD log-odds, straight-through", pgd, {"steps": 20, "restarts": 2, "loss": "ce"} | how)
    if norm != "l0":
        yield Stage("APGD margin, straight-through", apgd, {"steps": 25, "loss": "margin"} | how)
    if norm in ("linf", "l2") and effort == "quick":  # the larger efforts have longer searches, for masked images
        yield Stage("Square, masked", square, SQUARES | {"queries": 500}, resumes=True)
    if effort == "quick":
        return
    yield Stage("PGD restarts, straight-through", pgd, {"steps": 50, "restarts": 4, "loss": "margin"} | how)
    if norm != "l0":
        yield Stage("APGD DLR, straight-through", apgd, {"steps": 50, "restarts": 3, "loss": "dlr"} | how)
        hops = {"hops": 24, "chains": 4, "share": 0.15}
        yield Stage("hops, straight-through", basin_hopping, hops | how, resumes=True)
    if norm in ("linf", "l2"):
        yield Stage("Square, masked", square, SQUARES | {"queries": 2000}, resumes=True)


def _stages_l0(effort: str) -> Iterator[Stage]:
    yield Stage("one step", pgd, {"steps": 1, "random_start": False, "loss": "ce"})
    yield Stage("PGD margin", pgd, {"steps": 20, "random_start": False, "loss": "margin"})
    yield Stage("greedy", jacobian_sparse, {"candidates": 8}, fixed_eps=False)
    yield Stage("sigma-zero", sigma_zero, {"steps": 100}, fixed_eps=False)
    if effort == "quick":
        return
    yield Stage("Sparse-RS", sparse_rs, {"queries": 1000, "count": "features"})
    yield Stage("PGD restarts", pgd, {"steps": 30, "restarts": 4, "loss": "margin"})
    yield Stage("sigma-zero, long", sigma_zero, {"steps": 300, "loss": "margin"}, fixed_eps=False)
    if effort == "standard":
        return
    yield Stage("Sparse-RS, long", sparse_rs, {"queries": 10_000, "count": "features"})
    yield Stage("minimum", minimum, {"budget": 2000}, fixed_eps=False)
