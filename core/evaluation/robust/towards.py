"""APGD towards several classes at once, a stage of the cascade."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.losses import margin, ranked_others
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.apgd import apgd
from core.progress import Progress


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
    """APGD towards each of the strongest other classes, all at once.

    When it runs few images are left, and a batch of several starts costs about as much as one. Arguments and result as
    in `apgd`; `targets` at most K - 1. Every start of an image is run, also where an earlier one fools.
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
    with frozen(model):  # the margin to the target says nothing about the other classes
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
