"""One stage of the schedule: which images it is for, and how it changes what is known of them."""

from __future__ import annotations

import inspect

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.attacks.engine.engine import predict
from core.attacks.engine.geometry import into_ball
from core.attacks.engine.losses import Goal, margin
from core.attacks.engine.result import AttackResult
from core.attacks.minimal.fab import fab
from core.attacks.sparse.sparse import jacobian_sparse
from core.epsilon import within
from core.evaluation.robust.digging import dig, probed
from core.evaluation.robust.schedule import Stage
from core.evaluation.robust.state import CascadeState, Subject
from core.progress import Progress

PROBE_SHARE = {"linf": 0.8, "l2": 1.0}
"""Random queries that lower the margin by at least this share of what gradients lowered it by are a sign of masked
gradients. In l2 gradients see little of some networks near the image, and FAB's view from outside is worth more."""


def run_stage(
    stage: Stage,
    number: int,
    given: Subject,
    eps: Float[Tensor, " n"],
    rows: Int[Tensor, " m"],
    state: CascadeState,
    on_progress: Progress | None = None,
) -> None:
    """Run one stage on the images of `rows` that it is for, and write what it found into `state`.

    Args:
        stage: the attack, and which images it is for.
        number: its place in the schedule; its random draws depend on it.
        given: the model and all images.
        eps: (N,) the budget of each image, as attacks take it (`engine.check_eps`).
        rows: (M,) the images that may be attacked.
        state: of all images; changed in place.
        on_progress: passed to the attack.
    """
    rows = rows[~state.fooled[rows]]
    if stage.only_outside:
        rows = rows[state.boundary_outside_box[rows]]
    if stage.only_masked:
        rows = rows[state.gradient_masked[rows]]
    if not len(rows):
        return
    if stage.searches:
        dig(
            stage,
            number,
            rows,
            eps,
            state,
            lambda group, report: _run(stage, number, given, eps, group, state, report),
            on_progress,
        )
        return
    for part in probed(rows, state) if stage.probe else (rows,):
        part = part[state.margin[part].argsort(stable=True)]
        _run(stage, number, given, eps, part, state, on_progress)


def _run(
    stage: Stage,
    number: int,
    given: Subject,
    eps: Tensor,
    rows: Tensor,
    state: CascadeState,
    on_progress: Progress | None,
) -> None:
    """Run a stage on these images."""
    settings = dict(stage.settings)
    if stage.fixed_eps:
        settings |= {"eps": eps[rows], "streams": given.streams.take(rows).fork(number)}
    if stage.attack is jacobian_sparse:
        settings["max_features"] = max(1, int(eps.max()))
    if "norm" in inspect.signature(stage.attack).parameters:  # the others know l0 alone
        settings["norm"] = given.norm
    if stage.attack is fab:
        settings |= {"enough": eps[rows], "reach": settings.get("reach", torch.inf) * eps[rows]}
    if stage.resumes:
        settings["x_init"] = state.x_adv[rows]
    result = stage.attack(given.model, given.x[rows], given.y[rows], on_progress=on_progress, **settings)
    _enter(stage, number, given, eps[rows], rows, state, result)


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
