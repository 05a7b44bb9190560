"""The attacks that an evaluation is made of, in their order, and which images each of them is still worth.

Cheap attacks come first and each only sees the images that stand. What comes later is for the few that may yet fall:
those whose lowest margin is at most such a share of the clean image's (`Stage.within`). That measure needs no scale of
the logits and no other image, so a slice evaluated alone equals the slice of the whole.

On five networks (MNIST, linf .3, 300 images each, adversarially trained or by intervals) the 44 images that fell to
AutoAttack or to longer searches after ten steps and one diversified start had at most .47 of their margin left, 40 of
them at most .29; of the images that stood 4 to 10 % were as low as .3. Square goes on from the best point and gives up
by what it gained there: of the 34 of 479 images of five strided networks that it fooled 31 had lost a tenth of that
margin after 128 queries, while on a LeNet, where gradients do all there is to do, 147 of 149 had lost less.

In l2 and l1 walks of a fixed radius see nothing on networks that were trained in linf, since no feature may move far at
once; FAB comes from outside, with long steps across the boundary. What it finds beyond the ball is pulled in and walked
down from. In l2 two short runs in turn, which begin a few eps away (`reach`), do more than a long one that comes from
the other side of the box: on an interval-trained network (MNIST, l2 2.0, 1,000 images) `quick` leaves .122 at 85 passes
an image, .358 with one long run at 113.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.black_box.sparse_rs import sparse_rs
from core.attacks.black_box.square import square
from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.geometry import into_ball
from core.attacks.engine.losses import SLACK, margin, predicted, ranked_others
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.hop import basin_hopping
from core.attacks.fixed_budget.pgd import pgd
from core.attacks.minimal.fab import fab
from core.attacks.minimal.minimum import minimum
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
from core.epsilon import within
from core.progress import Progress

Norm = str
NEAR = {"linf": torch.inf, "l2": 1.15, "l1": 1.25}
"""Where FAB says how far off the boundary is: at how many times eps an image is worth more."""
MASKED = {"linf": 0.8, "l2": 1.0}
"""Random queries that take as much as this share of what gradients took from the margin tell of masked gradients: with
twelve in linf 16 % of the images that stand then on an interval-trained network (MNIST, .3), at most 1.5 % on three
others. In l2 gradients see little of such networks near the image, and FAB's view from outside is worth more."""
EFFORTS = ("quick", "standard", "at_least_autoattack")
"""How much is tried. Forward and backward passes of an image that stands (linf, 10 classes), far from falling and at
most: `quick` about 32 + 12 to 92 + 65; `standard` the same to 9,200 + 1,000; `at_least_autoattack`, which has APGD-CE,
APGD-T, FAB and Square at AutoAttack's lengths as well, about 7,000 + 3,000 to 23,000 + 7,000. AutoAttack itself
takes 7,850 + 1,910 for each."""

SQUARES: dict[str, Any] = {"offspring": 16, "batch": 512}
"""How Square searches: sixteen squares of each of 32 images at once, which takes two thirds of the time of eight."""


@dataclass(frozen=True)
class Stage:
    """One attack of the cascade.

    Attributes:
        name: as it stands in `found_by`.
        attack: the function, and `settings` its arguments.
        within: only images whose lowest margin is at most this share of the clean one.
        near: only images that something fooled at no more than so many times eps.
        masked: and those that `Standing.masked` marks.
        astray: and those that `Standing.astray` marks, however near.
        goes_on: begins at the best point so far.
        probe: a few queries without gradients; images that they bring down about as far are marked as masked.
        fixed: takes eps, norm and streams; else it looks for the smallest change, which counts if it is within eps.
    """

    name: str
    attack: Callable[..., AttackResult]
    settings: dict[str, Any]
    within: float = torch.inf
    near: float = torch.inf
    masked: bool = False
    astray: bool = False
    goes_on: bool = False
    probe: bool = False
    fixed: bool = True


@dataclass
class Standing:
    """What is known of each image, a row each; all that the next stage depends on.

    Attributes:
        x_adv: the best attempt, or the image that fools.
        margin: at `x_adv`.
        clean: margin of the image itself.
        fooled: whether something fooled it, the clean image included.
        found: number of the stage that did, -1: none.
        masked: a probe without gradients came down as far as `MASKED` says.
        nearest: distance of the nearest image that fools, in the ball or not; inf where none is known.
        astray: the boundary of the model that is linear at the image is nowhere in the box, so its slope says little.
        forwards, backwards: passes so far.
    """

    x_adv: Float[Tensor, "n c h w"]
    margin: Float[Tensor, " n"]
    clean: Float[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    found: Int[Tensor, " n"]
    masked: Bool[Tensor, " n"]
    nearest: Float[Tensor, " n"]
    astray: Bool[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]

    @classmethod
    def first(cls, x: Tensor, logits: Tensor, y: Tensor) -> Standing:
        """After one look at the images."""
        none = torch.zeros_like(y)
        away = margin(logits, y)
        return cls(
            x_adv=x.clone(),
            margin=away,
            clean=away.clone(),
            fooled=predicted(logits) != y,
            found=none - 1,
            masked=none.bool(),
            nearest=torch.full_like(away, torch.inf),
            astray=none.bool(),
            forwards=none + 1,
            backwards=none.clone(),
        )

    def share(self) -> Float[Tensor, " n"]:
        """The lowest margin as a share of the clean image's; 0 where the image is misread."""
        return torch.where(self.clean > 0, self.margin / self.clean, 0.0).clamp(min=0)


def stages(norm: Norm, effort: str, classes: int) -> list[Stage]:
    """The cascade of an effort; each contains the one below it."""
    if norm == "l0":
        plan = list(_stages_l0(effort))
    else:
        plan = list(_stages(norm, effort, classes))
    return plan


def described(stage: Stage) -> str:
    """All that a stage does, in words that another process finds again."""
    return repr({**vars(stage), "attack": stage.attack.__name__})


def _start(number: int, loss: str, odi: int, steps: int, within: float = torch.inf, near: float = torch.inf) -> Stage:
    return Stage(f"APGD {loss}, start {number}", apgd, {"loss": loss, "odi_steps": odi, "steps": steps}, within, near)


def _hops(hops: int, within: float, near: float = torch.inf, chains: int = 4) -> Stage:
    return Stage("hops", basin_hopping, {"hops": hops, "chains": chains, "share": 0.15}, within, near, goes_on=True)


def _targets(targets: int, steps: int, within: float, near: float = torch.inf) -> Stage:
    return Stage("APGD towards classes", towards, {"targets": targets, "steps": steps}, within, near)


def towards(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: Float[Tensor, " n"],
    norm: Literal["linf", "l2", "l1"],
    targets: int,
    steps: int,
    streams: Streams,
    on_progress: Progress | None = None,
) -> AttackResult:
    """APGD towards each of the strongest other classes, all at once: few images are left, and batches cost alike.

    Arguments and result as in `apgd`; `targets` at most K - 1. An image costs all its starts even where one fools.
    """
    with frozen(model):
        others = ranked_others(predict(model, x), y)[:, :targets]
    many = torch.arange(len(x), device=x.device).repeat_interleave(targets)
    number = torch.arange(targets, device=x.device).repeat(len(x))
    made = apgd(
        model,
        x[many],
        y[many],
        eps=eps[many],
        norm=norm,
        loss="dlr",
        steps=steps,
        y_target=others.flatten(),
        streams=streams.take(many).fork(number),
        on_progress=on_progress,
    )
    with frozen(model):  # the margin to the target says nothing of the other classes
        low = margin(predict(model, made.x_adv), y[many])
    which = torch.where(made.success, -torch.inf, low).view(-1, targets).argmin(1)
    chosen = torch.arange(len(x), device=x.device) * targets + which
    return AttackResult(
        x_adv=made.x_adv[chosen],
        success=made.success[chosen],
        distance={name: value[chosen] for name, value in made.distance.items()},
        forwards=(made.forwards + 1).view(-1, targets).sum(1) + 1,
        backwards=made.backwards.view(-1, targets).sum(1),
        trace={"margin": low[chosen]},
    )


def _fab(steps: int, targets: int, near: float = torch.inf, **settings: float) -> Stage:
    made = {"steps": steps, "targets": targets, **settings}
    return Stage("FAB", fab, made, near=near, astray=True, fixed=False)


def _from_outside(norm: Norm, classes: int) -> Iterator[Stage]:
    if norm == "l1":
        yield _fab(30, 1, eta=1.4)
        yield _descent(NEAR[norm])
        return
    short = {"eta": 1.4, "beta": 0.8}
    yield _fab(15, 1, reach=6, **short)
    yield _descent(1.4)
    if classes > 2:
        yield _fab(15, min(2, classes - 2), near=2, skip=1, reach=3, **short)
        yield _descent(1.4)


def _descent(near: float) -> Stage:
    return Stage(
        "PGD from FAB", basin_hopping, {"hops": 1, "chains": 1, "steps": 20, "share": 0.0}, 0.9, near, goes_on=True
    )


def _squares(queries: int, milestones: tuple[tuple[int, float], ...], within: float, near: float) -> Stage:
    settings = SQUARES | {"queries": queries, "spent": 512, "milestones": milestones}
    return Stage("Square", square, settings, within, near, masked=True, goes_on=True)


def _stages(norm: Norm, effort: str, classes: int) -> Iterator[Stage]:
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
        yield _fab(20, several, near=0, eta=1.4, reach=4)  # for those that went astray
        yield _descent(1.4)
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
        yield Stage("Square", square, SQUARES | {"queries": 4000, "milestones": anew}, close, near, masked=True)
    if effort == "standard":
        return
    yield Stage("APGD-CE", apgd, {"loss": "ce", "steps": 100})
    every = {"restarts": 0, "targets": classes - 1, "loss": "dlr", "steps": 100}
    yield Stage("APGD towards classes", apgd, every)  # one class after another: many images, and most fall early
    yield _fab(100, min(9, classes - 1))
    if norm != "l1":
        yield Stage("Square, long", square, {"queries": 5000})
    yield _hops(200, 0.4)


def bridged(norm: Norm, effort: str) -> list[Stage]:
    """More stages, for a model whose gradients mislead: they pass straight through what stops them (`stand_ins`).

    They come after the first two stages, each on all images that stand; margins and probes say little on such models.
    """
    return list(_bridged(norm, effort))


AFTER = 2
"""The number of stages before those of `bridged`."""


def _bridged(norm: Norm, effort: str) -> Iterator[Stage]:
    how = {"straight_through": True}
    start = {"steps": 20, "random_start": False, "loss": "margin"}
    yield Stage("PGD margin, straight-through", pgd, start | how)
    yield Stage("PGD log-odds, straight-through", pgd, {"steps": 20, "restarts": 2, "loss": "ce"} | how)
    if norm != "l0":
        yield Stage("APGD margin, straight-through", apgd, {"steps": 25, "loss": "margin"} | how)
    if norm in ("linf", "l2") and effort == "quick":  # the larger efforts have longer searches, for masked images
        yield Stage("Square, masked", square, SQUARES | {"queries": 500}, goes_on=True)
    if effort == "quick":
        return
    yield Stage("PGD restarts, straight-through", pgd, {"steps": 50, "restarts": 4, "loss": "margin"} | how)
    if norm != "l0":
        yield Stage("APGD DLR, straight-through", apgd, {"steps": 50, "restarts": 3, "loss": "dlr"} | how)
        hops = {"hops": 24, "chains": 4, "share": 0.15}
        yield Stage("hops, straight-through", basin_hopping, hops | how, goes_on=True)
    if norm in ("linf", "l2"):
        yield Stage("Square, masked", square, SQUARES | {"queries": 2000}, goes_on=True)


def _stages_l0(effort: str) -> Iterator[Stage]:
    yield Stage("one step", pgd, {"steps": 1, "random_start": False, "loss": "ce"})
    yield Stage("PGD margin", pgd, {"steps": 20, "random_start": False, "loss": "margin"})
    yield Stage("greedy", jacobian_sparse, {"candidates": 8}, fixed=False)
    yield Stage("sigma-zero", sigma_zero, {"steps": 100}, fixed=False)
    if effort == "quick":
        return
    yield Stage("Sparse-RS", sparse_rs, {"queries": 1000, "count": "features"})
    yield Stage("PGD restarts", pgd, {"steps": 30, "restarts": 4, "loss": "margin"})
    yield Stage("sigma-zero, long", sigma_zero, {"steps": 300, "loss": "margin"}, fixed=False)
    if effort == "standard":
        return
    yield Stage("Sparse-RS, long", sparse_rs, {"queries": 10_000, "count": "features"})
    yield Stage("minimum", minimum, {"budget": 2000}, fixed=False)


def run_stage(
    stage: Stage,
    number: int,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    rows: Int[Tensor, " m"],
    standing: Standing,
    *,
    norm: Norm,
    eps: Float[Tensor, " n"],
    streams: Streams,
    on_progress: Progress | None = None,
) -> None:
    """Attack the images of `rows` that the stage is for, lowest margin first, and write what came of it down."""
    chosen = ~standing.fooled[rows]
    masked, astray = standing.masked[rows] & stage.masked, standing.astray[rows] & stage.astray
    if stage.within < torch.inf:
        chosen &= (standing.share()[rows] <= stage.within) | masked
    if stage.near < torch.inf:
        chosen &= (standing.nearest[rows] <= stage.near * eps[rows]) | masked | astray
    rows = rows[chosen]
    rows = rows[standing.margin[rows].argsort(stable=True)]
    if not len(rows):
        return
    settings = dict(stage.settings)
    if stage.fixed:
        settings |= {"eps": eps[rows], "streams": streams.take(rows).fork(number)}
        if stage.attack is not sparse_rs:
            settings["norm"] = norm
    elif stage.attack is jacobian_sparse:
        settings["max_features"] = max(1, int(eps.max()))
    elif stage.attack is not sigma_zero:
        settings["norm"] = norm
    if stage.attack is fab:
        settings |= {"enough": eps[rows], "reach": settings.get("reach", torch.inf) * eps[rows]}
    if stage.goes_on:
        settings["x_init"] = standing.x_adv[rows]
    result = stage.attack(model, x[rows], y[rows], on_progress=on_progress, **settings)
    _note(stage, number, rows, standing, result, model, x, y, norm, eps)


def _note(
    stage: Stage,
    number: int,
    rows: Tensor,
    standing: Standing,
    result: AttackResult,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    eps: Tensor,
) -> None:
    nearest = torch.where(result.success, result.distance[norm], torch.inf).to(standing.nearest.dtype)
    standing.nearest[rows] = torch.minimum(standing.nearest[rows], nearest)
    success = result.success & within(result.distance[norm], eps[rows].double())
    standing.forwards[rows] += result.forwards
    standing.backwards[rows] += result.backwards
    made = result.x_adv
    if stage.fixed:
        found = result.trace["margin"]
    else:
        if norm != "l0":  # FAB knows no ball: what fools outside is pulled into it
            made = into_ball(made, x[rows], eps[rows], norm)
        found = margin(predict(model, made), y[rows])
        standing.forwards[rows] += 1
        if norm != "l0":
            clearly = SLACK * torch.finfo(x.dtype).eps * standing.clean[rows].clamp(min=0)
            success |= found < -clearly
            standing.astray[rows] |= result.trace["boundary_outside_box"]
    if stage.probe:
        fallen, before = standing.clean[rows] - found, standing.clean[rows] - standing.margin[rows]
        standing.masked[rows] |= (fallen > 0) & (fallen >= MASKED[norm] * before)
    better = success | ((found < standing.margin[rows]) & (found > 0))
    standing.x_adv[rows[better]], standing.margin[rows[better]] = made[better], found[better]
    standing.fooled[rows[success]] = True
    standing.found[rows[success]] = number


STATE = tuple(Standing.__dataclass_fields__)
"""The names of all that a checkpoint must hold."""
