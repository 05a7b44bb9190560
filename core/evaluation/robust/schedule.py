"""The schedule of an evaluation: its attacks in their order, and which images each of them is for.

Cheap attacks come first, and each one only sees the images that are not fooled yet. The first few are for all of them;
the searches that follow (`Stage.searches`) are for as many as they find on: each goes along an order of the images and
ends when it has spent in vain what a find is worth (`digging`). Square begins at the best point so far.

Attacks at a fixed budget in l2, l1 and l0 find little on networks that were trained in linf, where what may be changed
has no slope near the image. So others come from outside. In l2 FAB does, with long steps across the boundary; what it
finds beyond the ball is pulled in, and PGD descends from there. Two short runs in turn, which begin a few eps away
(`reach`), do more than a long one that comes from the other side of the box. In l1 a ball that shrinks does more than
FAB, from noise and from the image; in l0 gradients at mixtures with noise say where to search.

What was measured is in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.attacks.black_box.sparse_rs import sparse_rs
from core.attacks.black_box.square import square
from core.attacks.engine.result import AttackResult
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.hop import basin_hopping
from core.attacks.fixed_budget.pgd import pgd
from core.attacks.fixed_budget.shrinking import shrinking_ball
from core.attacks.minimal.fab import fab
from core.attacks.minimal.minimum import minimum
from core.attacks.sparse.guided import guided_search
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
from core.evaluation.robust.towards import towards

OVER = 1.4
"""How far FAB steps across the boundary (`eta`), in lengths of the way to it."""
EFFORTS = ("quick", "standard", "at_least_autoattack")
"""The effort levels: how much is tried. `quick`: a few attacks and starts, 20 forward and backward passes for every
image that stands (linf; 100 in l1, 260 in l0), more where they find, and 500 queries of Square where a probe says that
gradients mislead, for a figure near AutoAttack's: up to about a point above it in linf, below it in l2, from 7 points
below to 7 above in l1, and in l0 up to 13 above what `at_least_autoattack` leaves, where it was measured; `standard`:
more searches, up to 7,000 passes (linf) to 10,000 (l1, l0) where they find; `at_least_autoattack` also has APGD-CE,
APGD-T, FAB and Square at AutoAttack's lengths on all images that stand, about 10,000 to 30,000 passes. AutoAttack
itself takes 7,850 + 1,910 on each."""

SQUARES: dict[str, Any] = {"offspring": 16, "batch": 512}
"""How Square searches: sixteen squares of each of 32 images at once, which was measured faster than eight."""
FIRST = 1300
"""Passes that the first group of a search may take, of more than one image."""
WIDE: dict[str, Any] = {"share": 0.4, "relative_step": 0.5, "loss": "probability_margin"}
"""Hops that go farther, by longer steps."""


@dataclass(frozen=True)
class Stage:
    """One attack of the cascade.

    Attributes:
        name: as it stands in `found_by`.
        attack: the function.
        settings: its arguments.
        searches: for the images along an order, until it has spent in vain what a find is worth (`digging`).
        only_outside: only for images that `CascadeState.boundary_outside_box` marks.
        only_masked: only for images that `CascadeState.gradient_masked` marks.
        gradient_masked: in the order, images that `CascadeState.gradient_masked` marks take turns with the others.
        boundary_outside_box: in the order, images that `CascadeState.boundary_outside_box` marks come first.
        resumes: begins at the best point so far instead of the image.
        probe: a few queries without gradients, about a sample first; images whose margin they lower about as far as
            gradients did are marked as masked.
        smallest: images of a search's first group in each block, and the fewest of any but the last.
        fixed_eps: takes eps, norm and streams. Else the attack looks for the smallest change, which counts within eps.
    """

    name: str
    attack: Callable[..., AttackResult]
    settings: dict[str, Any]
    searches: bool = False
    only_outside: bool = False
    only_masked: bool = False
    gradient_masked: bool = False
    boundary_outside_box: bool = False
    resumes: bool = False
    probe: bool = False
    smallest: int = 8
    fixed_eps: bool = True


def stages(norm: str, effort: str, classes: int) -> list[Stage]:
    """The schedule of an effort level; each level contains the stages of the one below it."""
    return list(_stages_l0(effort) if norm == "l0" else _stages(norm, effort, classes))


def described(stage: Stage) -> str:
    """All that a stage does, as text that is the same in every process."""
    return repr({**vars(stage), "attack": stage.attack.__name__})


def _start(number: int, loss: str, odi: int, steps: int) -> Stage:
    settings = {"loss": loss, "odi_steps": odi, "steps": steps}
    return Stage(f"APGD {loss.replace('_', ' ')}, start {number}", apgd, settings, searches=True)


def _hops(hops: int, **settings: Any) -> Stage:
    """Hops near the best point, unless other settings are given; one of four chains takes about 26 passes."""
    made = {"hops": hops, "chains": 4, "share": 0.15, **settings}
    return Stage("hops", basin_hopping, made, searches=True, resumes=True, smallest=_first_group(26 * hops))


def _targets(targets: int, steps: int) -> Stage:
    settings = {"targets": targets, "steps": steps}
    smallest = _first_group(2 * targets * steps)
    return Stage("APGD towards classes", towards, settings, searches=True, smallest=smallest)


def _fab(steps: int, targets: int, *, searches: bool = False, only_outside: bool = False, **settings: float) -> Stage:
    made = {"steps": steps, "targets": targets, **settings}
    return Stage("FAB", fab, made, searches, only_outside, boundary_outside_box=True, fixed_eps=False)


def _from_outside(norm: str, classes: int) -> Iterator[Stage]:
    if norm == "l1":
        yield _shrinking("noise", 20, 18, 0.9)
        yield _shrinking("image", 20, 6, 0.0)
        yield _fab(30, 1, searches=True, eta=OVER)
        yield _descent()
        yield _shrinking("noise", 40, 36, 0.9, searches=True)
        return
    short: dict[str, Any] = {"eta": OVER, "beta": 0.8}
    yield _fab(15, 1, reach=6, **short)
    yield _descent()
    if classes > 2:
        yield _fab(15, min(2, classes - 2), searches=True, skip=1, reach=3, **short)
        yield _descent()


def _shrinking(start: str, steps: int, first_ball: float, momentum: float, searches: bool = False) -> Stage:
    settings = {"start": start, "steps": steps, "first_ball": first_ball, "momentum": momentum}
    return Stage(f"shrinking ball, from {start}", shrinking_ball, settings, searches)


def _shrinking_towards(targets: int, steps: int) -> Stage:
    settings = {"targets": targets, "steps": steps, "first_ball": 12}
    return Stage("shrinking ball, towards classes", towards, settings, searches=True, smallest=8 if targets < 4 else 4)


def _descent() -> Stage:
    settings = {"hops": 1, "chains": 1, "steps": 20, "share": 0.0}
    return Stage("PGD from FAB", basin_hopping, settings, searches=True, resumes=True)


def _squares(queries: int, before: int) -> Stage:
    """Square goes on from the best point, with squares as small as after `before` queries."""
    return replace(_square_anew(queries, spent=512 + before), resumes=True)


def _square_anew(queries: int, **settings: Any) -> Stage:
    made = SQUARES | {"queries": queries} | settings
    return Stage("Square", square, made, searches=True, gradient_masked=True, smallest=_first_group(queries))


def _first_group(passes: int) -> int:
    """Images that a search of so many passes an image begins with: what it costs where nothing falls."""
    return max(1, min(8, FIRST // passes))


def _stages(norm: str, effort: str, classes: int) -> Iterator[Stage]:
    several = min(3, classes - 1)
    yield Stage("one step", pgd, {"steps": 1, "random_start": False, "loss": "ce"})
    yield Stage("PGD margin", pgd, {"steps": 7 if norm == "linf" else 10, "random_start": False, "loss": "margin"})
    if norm != "linf":
        yield from _from_outside(norm, classes)
    if norm != "l1":
        yield Stage("probe", square, {"queries": 12 if norm == "linf" else 5}, probe=True)
    yield _start(1, "ce", 4, 8)
    if norm == "linf":
        yield _start(2, "probability_margin", 0, 20)
    if norm == "l1":
        yield _start(2, "dlr", 5, 15)
    yield _start(3, "ce", 5, 15)
    if norm != "l1":
        yield Stage("Square, marked", square, SQUARES | {"queries": 500}, resumes=True, only_masked=True)
    if effort == "quick":
        return
    if norm == "l1":
        yield _shrinking("image", 40, 12, 0.0, searches=True)
        yield _shrinking_towards(several, 40)
        yield _shrinking("noise", 100, 18, 0.9, searches=True)
        yield _shrinking("noise", 100, 36, 0.9, searches=True)
        yield _fab(50, several, eta=1.2, searches=True)
        yield _descent()
    if norm == "l2":
        yield _fab(20, several, only_outside=True, eta=OVER, reach=4)
        yield _descent()
        yield _fab(60, min(9, classes - 1), searches=True)
        yield _descent()
    if norm == "l1":  # FAB fools most, towards one class after another; steps matter, since the active features change
        for skip in range(several, min(9, classes - 1), several):
            yield _fab(100, min(several, classes - 1 - skip), eta=1.2, skip=skip, searches=True)
            yield _descent()
        yield _fab(100, min(9, classes - 1), searches=True)  # with FAB's own short steps across
        yield _descent()
        yield Stage("APGD ce, long", apgd, {"loss": "ce", "steps": 100}, searches=True)
    yield from _searches(norm, several, min(9, classes - 1))
    if effort == "standard":
        return
    yield Stage("APGD-CE", apgd, {"loss": "ce", "steps": 100})
    every = {"restarts": 0, "targets": classes - 1, "loss": "dlr", "steps": 100}
    yield Stage("APGD towards classes", apgd, every)  # one class after another: many images, and most fall early
    yield _fab(100, min(9, classes - 1))
    if norm != "l1":
        yield Stage("Square, long", square, {"queries": 5000})
    yield _hops(200)


def _searches(norm: str, several: int, nine: int) -> Iterator[Stage]:
    """Those from the best points and anew, and towards classes, the last of these as long as APGD-T."""
    if norm == "linf":
        yield _targets(1, 20)
        yield _hops(8, **WIDE)
        yield _squares(512, 0)
        yield _hops(24, **WIDE)
        yield _targets(several, 100)
        yield _hops(64)  # near: what wide hops miss
        yield _squares(1280, 512)
        yield _targets(nine, 100)  # as long as APGD-T, and as dear
        return
    yield _hops(8)
    if norm == "l1":
        yield _hops(24)
        yield _shrinking_towards(nine, 100)
        yield _hops(64)
        return
    yield _targets(several, 20)
    yield _squares(256, 0)
    yield _hops(24)
    yield _squares(512, 256)
    yield _targets(nine, 100)
    yield _hops(64)
    yield _squares(1024, 768)
    yield _square_anew(1000)


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
    yield _guided(200, 8, searches=False)
    yield Stage("greedy", jacobian_sparse, {"candidates": 8}, searches=True, fixed_eps=False)
    yield Stage("sigma-zero", sigma_zero, {"steps": 50}, searches=True, fixed_eps=False)
    yield _guided(600, 16)
    yield _sparse_rs(200)
    if effort == "quick":
        return
    yield _sparse_rs(1000)
    yield Stage("PGD restarts", pgd, {"steps": 30, "restarts": 4, "loss": "margin"}, searches=True)
    yield Stage("sigma-zero, long", sigma_zero, {"steps": 300, "loss": "margin"}, searches=True, fixed_eps=False)
    yield _guided(3000, 32)
    yield _sparse_rs(3000)
    if effort == "standard":
        return
    yield Stage("Sparse-RS, long", sparse_rs, {"queries": 10_000, "count": "features"})
    yield Stage("minimum", minimum, {"budget": 2000}, fixed_eps=False)


def _guided(queries: int, looks: int, searches: bool = True) -> Stage:
    settings = {"queries": queries, "looks": looks}
    return Stage("guided search", guided_search, settings, searches, smallest=_smallest(queries))


def _sparse_rs(queries: int) -> Stage:
    settings = {"queries": queries, "count": "features"}
    return Stage("Sparse-RS", sparse_rs, settings, searches=True, smallest=_smallest(queries))


def _smallest(queries: int) -> int:
    """Queries come one after another: of a few images at once they take about as long as of one."""
    return max(4, min(16, 16_000 // queries))
