"""An evaluation whose images are judged in parts: what they share is found first, and what they are together at last.

The parts are evaluated by `robust.evaluate` with `trust=False` and the answer of `first_look`. Most of an evaluation is
about one image at a time. Two things are not: what a few images that are hard to fool show of the model, and the
reliability checks, which look at the verdicts of all images.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.engine import admitted, plain, predict, wide
from core.attacks.engine.stand_ins import own_draws
from core.evaluation.robust.cascade import run_stage
from core.evaluation.robust.first_look import found_at
from core.evaluation.robust.gradient_masked import few
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.robust import as_number, certified, checked, numbers, with_reliability
from core.evaluation.robust.schedule import AFTER, stages
from core.evaluation.robust.state import CascadeState, Found, Subject
from core.evaluation.robust.verdict import remarked
from core.progress import Progress

BLOCK = 64
"""Images that are looked at before it is asked whether enough of them are hard to fool."""


def first_look(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: str,
    eps: float | Fraction | str,
    effort: str,
    seed: int,
    index: Int[Tensor, " n"],
) -> Found:
    """What `evaluate` of all images finds of the model after its first stages; arguments as there.

    Only as many images are attacked as it takes to find the few that are looked at.
    """
    size = as_number(eps)
    x, y = wide(plain(x)), plain(y)
    index = numbers(index, y)
    with torch.inference_mode(False), own_draws(seed, x.device), admitted(model, x) as fit:
        allowed, _ = checked(fit, x, y, norm, size, effort)
        if size <= 0 or size < (1 if norm == "l0" else 0):
            return Found(mislead=False)
        hard, points = torch.zeros(0, dtype=torch.int64, device=x.device), x[:0]
        wanted = few(len(x))
        for rows in torch.arange(len(x), device=x.device).split(BLOCK):
            given = Subject(fit, x[rows], y[rows], norm, size, index[rows], seed)
            logits = predict(fit, given.x)
            state, safe = CascadeState.first(given, logits), certified(given)
            for number, stage in enumerate(stages(norm, effort, logits.shape[1])[:AFTER]):
                run_stage(stage, number, given, allowed[rows], (~safe).nonzero()[:, 0], state)
            stands = ~state.fooled & ~safe
            hard = torch.cat([hard, rows[stands]])[:wanted]
            points = torch.cat([points, state.x_adv[stands]])[:wanted]
            if len(hard) == wanted:
                break
        return found_at(Subject(fit, x[hard], y[hard], norm, size, index[hard], seed), points)


def closed(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    made: Evaluation,
    *,
    index: Int[Tensor, " n"],
    on_progress: Progress | None = None,
) -> Evaluation:
    """What `evaluate` would have returned for all images, from the verdicts of its parts.

    Args:
        model: what was evaluated.
        x: (N, C, H, W) all images.
        y: (N,) their classes.
        made: the verdicts on all of them.
        index: (N,) their numbers.
        on_progress: called by the reliability checks.
    """
    x, y = wide(plain(x)), plain(y)
    with torch.inference_mode(False), own_draws(made.seed, x.device), admitted(model, x) as fit:
        _, more = checked(fit, x, y, made.norm, made.eps, made.effort)
        given = Subject(fit, x, y, made.norm, made.eps, numbers(index, y), made.seed)
        made, classes = remarked(made, bears_of(fit).neighbours), predict(fit, x[:1]).shape[1]
        made = with_reliability(given, fit, made, 1, classes, on_progress)
        return replace(made, notes=(*bears_of(fit).notes, *more, *made.notes))
