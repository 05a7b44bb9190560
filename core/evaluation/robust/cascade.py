"""What is known of each image while an evaluation runs, and how one stage of its schedule changes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.black_box.sparse_rs import sparse_rs
from core.attacks.engine.engine import predict
from core.attacks.engine.geometry import into_ball
from core.attacks.engine.losses import Goal, margin, predicted
from core.attacks.engine.result import AttackResult, clear_goal
from core.attacks.engine.streams import Streams
from core.attacks.minimal.fab import fab
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
from core.epsilon import within
from core.evaluation.robust.schedule import Stage
from core.progress import Progress

PROBE_SHARE = {"linf": 0.8, "l2": 1.0}
"""Random queries that lower the margin by at least this share of what gradients lowered it by are a sign of masked
gradients. In l2 gradients see little of some networks near the image, and FAB's view from outside is worth more."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, images, and the ball around each of them.

    Attributes:
        model: pixels to logits (N, K), frozen.
        x: (N, C, H, W) in [0, 1].
        y: (N,) true classes.
        norm: of the ball.
        eps: its radius.
        index: (N,) the images' numbers, which their random draws depend on.
        seed: of all random draws.
    """

    model: nn.Module
    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    norm: str
    eps: float
    index: Int[Tensor, " n"]
    seed: int = 0

    @property
    def streams(self) -> Streams:
        """The random streams of the images."""
        return Streams.of(self.seed, self.index.to(self.x.device))


@dataclass
class CascadeState:
    """What is known of each image, a row each; all that the next stage depends on.

    Attributes:
        x_adv: the best attempt, or the adversarial example.
        margin: at `x_adv`.
        clean: margin of the image itself.
        slack: how far below 0 a margin must be to be beyond what rounding may hide (`engine.clear_goal`).
        fooled: whether an adversarial example was found, or the image is misclassified as it is.
        found: number of the stage that found it, -1: none.
        gradient_masked: a probe without gradients lowered the margin as far as `PROBE_SHARE` says.
        nearest: distance of the nearest adversarial example, in the ball or not; inf where none is known.
        boundary_outside_box: the boundary of the model that is linear at the image is nowhere in the box, so its
            gradient says little.
        forwards: forward passes so far.
        backwards: backward passes so far.
    """

    x_adv: Float[Tensor, "n c h w"]
    margin: Float[Tensor, " n"]
    clean: Float[Tensor, " n"]
    slack: Float[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    found: Int[Tensor, " n"]
    gradient_masked: Bool[Tensor, " n"]
    nearest: Float[Tensor, " n"]
    boundary_outside_box: Bool[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]

    @classmethod
    def first(cls, given: Subject, logits: Float[Tensor, "n k"]) -> CascadeState:
        """After one forward pass of the images, which gave these logits."""
        none = torch.zeros_like(given.y)
        clean = margin(logits, given.y)
        slack = clear_goal(given.model, Goal.of(given.y, None), logits).slack
        assert slack is not None
        return cls(
            x_adv=given.x.clone(),
            margin=clean,
            clean=clean.clone(),
            slack=slack,
            fooled=predicted(logits) != given.y,
            found=none - 1,
            gradient_masked=none.bool(),
            nearest=torch.full_like(clean, torch.inf),
            boundary_outside_box=none.bool(),
            forwards=none + 1,
            backwards=none.clone(),
        )

    def share(self) -> Float[Tensor, " n"]:
        """The lowest margin as a share of the clean image's; 0 where the image is misclassified."""
        return torch.where(self.clean > 0, self.margin / self.clean, 0.0).clamp(min=0)


STATE = tuple(CascadeState.__dataclass_fields__)
"""The names of all that a checkpoint must hold."""


def run_stage(
    stage: Stage,
    number: int,
    given: Subject,
    eps: Float[Tensor, " n"],
    rows: Int[Tensor, " m"],
    state: CascadeState,
    on_progress: Progress | None = None,
) -> None:
    """Run one stage on the images of `rows` that it is for, lowest margin first, and write what it found into `state`.

    Args:
        stage: the attack, and which images it is for.
        number: its place in the schedule; its random draws depend on it.
        given: the model and all images.
        eps: (N,) the budget of each image, as attacks take it (`engine.check_eps`).
        rows: (M,) the images that may be attacked.
        state: of all images; changed in place.
        on_progress: passed to the attack.
    """
    rows = _chosen(stage, rows, state, eps)
    if not len(rows):
        return
    settings = dict(stage.settings)
    if stage.fixed_eps:
        settings |= {"eps": eps[rows], "streams": given.streams.take(rows).fork(number)}
        if stage.attack is not sparse_rs:
            settings["norm"] = given.norm
    elif stage.attack is jacobian_sparse:
        settings["max_features"] = max(1, int(eps.max()))
    elif stage.attack is not sigma_zero:
        settings["norm"] = given.norm
    if stage.attack is fab:
        settings |= {"enough": eps[rows], "reach": settings.get("reach", torch.inf) * eps[rows]}
    if stage.resumes:
        settings["x_init"] = state.x_adv[rows]
    result = stage.attack(given.model, given.x[rows], given.y[rows], on_progress=on_progress, **settings)
    _enter(stage, number, given, eps[rows], rows, state, result)


def _chosen(stage: Stage, rows: Tensor, state: CascadeState, eps: Tensor) -> Tensor:
    """The images of `rows` that a stage is for, lowest margin first."""
    chosen = ~state.fooled[rows]
    masked = state.gradient_masked[rows] & stage.gradient_masked
    outside = state.boundary_outside_box[rows] & stage.boundary_outside_box
    if stage.max_margin < torch.inf:
        chosen &= (state.share()[rows] <= stage.max_margin) | masked
    if stage.max_distance < torch.inf:
        chosen &= (state.nearest[rows] <= stage.max_distance * eps[rows]) | masked | outside
    rows = rows[chosen]
    return rows[state.margin[rows].argsort(stable=True)]


def _enter(
    stage: Stage, number: int, given: Subject, eps: Tensor, rows: Tensor, state: CascadeState, result: AttackResult
) -> None:
    """Write the result of a stage on the images of `rows`, whose budgets are `eps`, into the state."""
    distance = result.distance[given.norm]
    nearest = torch.where(result.success, distance, torch.inf).to(state.nearest.dtype)
    state.nearest[rows] = torch.minimum(state.nearest[rows], nearest)
    success = result.success & within(distance, eps.double())
    state.forwards[rows] += result.forwards
    state.backwards[rows] += result.backwards
    made = result.x_adv
    if stage.fixed_eps:
        found = result.trace["margin"]
    else:
        if given.norm != "l0":  # FAB knows no ball: what fools outside is pulled into it
            made = into_ball(made, given.x[rows], eps, given.norm)
        logits, y = predict(given.model, made), given.y[rows]
        found = margin(logits, y)
        state.forwards[rows] += 1
        if given.norm != "l0":
            success |= Goal(y, targeted=False, slack=state.slack[rows]).reached(logits)
            state.boundary_outside_box[rows] |= result.trace["boundary_outside_box"]
    if stage.probe:
        lowered, before = state.clean[rows] - found, state.clean[rows] - state.margin[rows]
        state.gradient_masked[rows] |= (lowered > 0) & (lowered >= PROBE_SHARE[given.norm] * before)
    better = success | ((found < state.margin[rows]) & (found > 0))
    state.x_adv[rows[better]], state.margin[rows[better]] = made[better], found[better]
    state.fooled[rows[success]] = True
    state.found[rows[success]] = number
