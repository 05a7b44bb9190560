"""The attacks that an evaluation is made of, in their order, and which images each of them is still worth.

Cheap attacks come first and each only sees the images that stand. What comes later is for the few that may yet fall:
those whose lowest margin lies within so many standard deviations of the margins that their own fresh starts ended at
(at least `LEAST_SPREAD` of how far the margin was brought down, as few starts tell little). That measure needs no scale
of the logits and no other image, so a slice evaluated alone equals the slice of the whole.

On LeNet (MNIST, adversarially trained, linf, eps .3, 200 images): of 93 images that six starts left, 24 more starts
fooled two: the lowest and the third lowest by this measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks import apgd, fab, jacobian_sparse, minimum, pgd, sigma_zero, sparse_rs, square
from core.attacks.engine import AttackResult, Streams, predict
from core.attacks.hop import hop
from core.attacks.losses import margin
from core.progress import Progress

Norm = str
LEAST_SPREAD = 0.05
SQUARE_WITHIN = 0.15
"""Random search costs as much as it gains where hops go first: only the very last, and where gradients are hidden."""
EFFORTS = ("quick", "standard", "at_least_autoattack")
"""How much is tried. Forward and backward passes of an image that stands (linf, 10 classes), far from falling and at
most: `quick` about 45 + 31 to 90 + 71; `standard` the same to 1,700 + 640; `at_least_autoattack`, which has APGD-CE,
APGD-T and Square at AutoAttack's lengths and FAB as well, about 7,000 + 2,000 to 13,000 + 6,000. AutoAttack itself
takes 7,850 + 1,910 for each."""


@dataclass(frozen=True)
class Stage:
    """One attack of the cascade.

    Attributes:
        name: as it stands in `found_by`.
        attack: the function, and `settings` its arguments.
        within: only images whose lowest margin is within so many deviations of their fresh starts' (see above), and
            those that `masked` marks.
        fresh: a start from elsewhere, whose margin counts among those.
        goes_on: begins at the best point so far.
        probe: a few queries without gradients; images that they bring lower than all before are marked as masked.
        fixed: takes eps, norm and streams; else it looks for the smallest change, which counts if it is within eps.
    """

    name: str
    attack: Callable[..., AttackResult]
    settings: dict[str, Any]
    within: float = torch.inf
    fresh: bool = False
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
        masked: a probe without gradients came lower than the attacks before it.
        starts, total, squares: number of fresh starts, sum and sum of squares of their margins.
        forwards, backwards: passes so far.
    """

    x_adv: Float[Tensor, "n c h w"]
    margin: Float[Tensor, " n"]
    clean: Float[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    found: Int[Tensor, " n"]
    masked: Bool[Tensor, " n"]
    starts: Int[Tensor, " n"]
    total: Float[Tensor, " n"]
    squares: Float[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]

    @classmethod
    def first(cls, x: Tensor, logits: Tensor, y: Tensor) -> Standing:
        """After one look at the images."""
        none, zero = torch.zeros_like(y), torch.zeros(len(y), dtype=torch.float64, device=y.device)
        away = margin(logits, y)
        return cls(
            x_adv=x.clone(),
            margin=away,
            clean=away.clone(),
            fooled=logits.argmax(1) != y,
            found=none - 1,
            masked=none.bool(),
            starts=none.clone(),
            total=zero,
            squares=zero.clone(),
            forwards=none + 1,
            backwards=none.clone(),
        )

    def deviations(self) -> Float[Tensor, " n"]:
        """The lowest margin in deviations of the fresh starts'; 0 before there are two of them."""
        mean = self.total / self.starts.clamp(min=1)
        variance = (self.squares / self.starts.clamp(min=1) - mean.square()).clamp(min=0)
        spread = (variance * self.starts / (self.starts - 1).clamp(min=1)).sqrt()
        spread = torch.maximum(spread, LEAST_SPREAD * (self.clean - self.margin).double())
        apart = torch.where(spread > 0, self.margin.double() / spread.clamp(min=1e-300), torch.inf)
        return torch.where((self.starts < 2) | (self.margin <= 0), 0.0, apart)


def stages(norm: Norm, effort: str, classes: int) -> list[Stage]:
    """The cascade of an effort; each contains the one below it."""
    if norm == "l0":
        plan = list(_stages_l0(effort))
    else:
        plan = list(_stages(norm, effort, classes))
    return plan


def _start(number: int, loss: str, odi: int, steps: int, within: float = torch.inf) -> Stage:
    settings = {"loss": loss, "odi_steps": odi, "steps": steps}
    return Stage(f"APGD {loss}, start {number}", apgd, settings, within, fresh=True)


def _hops(hops: int, steps: int, within: float, loss: str = "margin", share: float = 0.1) -> Stage:
    settings = {"hops": hops, "steps": steps, "loss": loss, "share": share}
    return Stage(f"hops {loss}", hop, settings, within, goes_on=True)


def _targets(targets: int, steps: int, within: float) -> Stage:
    settings = {"restarts": 0, "targets": targets, "loss": "dlr", "steps": steps}
    return Stage("APGD towards classes", apgd, settings, within)


def _stages(norm: Norm, effort: str, classes: int) -> Iterator[Stage]:
    near = min(3, classes - 1)
    step = {"steps": 1, "random_start": False, "loss": "ce"}
    yield Stage("one step", pgd, step)
    yield Stage("PGD margin", pgd, {"steps": 10, "random_start": False, "loss": "margin"}, fresh=True)
    yield _start(1, "margin", 5, 15)
    if norm in ("linf", "l2"):
        yield Stage("probe", square, {"queries": 5}, probe=True)
    yield _start(2, "ce", 5, 15, 6)
    yield _start(3, "dlr", 5, 15, 4)
    if effort == "quick":
        return
    yield _hops(6, 12, 3)
    yield _targets(near, 20, 1.5)
    yield _hops(12, 12, 1.5)
    yield _hops(24, 12, 0.75)
    if norm in ("linf", "l2"):
        yield Stage("Square", square, {"queries": 1000}, SQUARE_WITHIN)
    if effort == "standard":
        return
    yield Stage("APGD-CE", apgd, {"loss": "ce", "steps": 100})
    yield _targets(classes - 1, 100, torch.inf)
    yield Stage("FAB", fab, {"steps": 100, "targets": min(9, classes - 1)}, fixed=False)
    if norm in ("linf", "l2"):
        yield Stage("Square, long", square, {"queries": 5000})
    yield _hops(200, 14, 3)


def _stages_l0(effort: str) -> Iterator[Stage]:
    yield Stage("one step", pgd, {"steps": 1, "random_start": False, "loss": "ce"})
    yield Stage("PGD margin", pgd, {"steps": 20, "random_start": False, "loss": "margin"}, fresh=True)
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
    if stage.within < torch.inf:
        chosen &= (standing.deviations()[rows] <= stage.within) | standing.masked[rows]
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
    if stage.goes_on:
        settings["begin"] = standing.x_adv[rows]
    result = stage.attack(model, x[rows], y[rows], on_progress=on_progress, **settings)
    _note(stage, number, rows, standing, result, model, y, norm, eps)


def _note(
    stage: Stage,
    number: int,
    rows: Tensor,
    standing: Standing,
    result: AttackResult,
    model: nn.Module,
    y: Tensor,
    norm: Norm,
    eps: Tensor,
) -> None:
    success = result.success & (result.distance[norm] <= eps[rows])
    standing.forwards[rows] += result.forwards
    standing.backwards[rows] += result.backwards
    if stage.fixed:
        found = result.trace["margin"]
    else:  # what looks for the smallest change keeps no attempt that does not fool
        found = torch.full_like(standing.margin[rows], torch.inf)
        if success.any():
            found[success] = margin(predict(model, result.x_adv[success]), y[rows[success]])
            standing.forwards[rows[success]] += 1
    if stage.probe:
        standing.masked[rows] |= found < standing.margin[rows]
    if stage.fresh:
        standing.starts[rows] += 1
        standing.total[rows] += found.double()
        standing.squares[rows] += found.double().square()
    better = success | ((found < standing.margin[rows]) & (found > 0))
    standing.x_adv[rows[better]], standing.margin[rows[better]] = result.x_adv[better], found[better]
    standing.fooled[rows[success]] = True
    standing.found[rows[success]] = number


STATE = tuple(Standing.__dataclass_fields__)
"""The names of all that a checkpoint must hold."""
