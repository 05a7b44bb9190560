"""APGD, or descent in a ball that shrinks, towards several classes at once, a stage of the cascade.

Source of the order of the classes: Melamed, Yehudai, Shamir 2024, arXiv 2407.02240 (MALT). Departure: the gradients'
dual norm, and the gap's own gradient instead of the logits'.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.engine import ATTACK_BATCH, frozen, input_gradient, leaf_of, logits_of_leaf, predict
from core.attacks.engine.geometry import DUAL, norm_of
from core.attacks.engine.losses import margin, ranked_others
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.shrinking import shrinking_ball
from core.progress import Progress

CLASSES, EACH = 9, 4
"""The strongest other classes, whose distances are compared, a backward pass each: so many at most, and so many for
each target."""


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
    first_ball: float | None = None,
    on_progress: Progress | None = None,
) -> AttackResult:
    """APGD towards each of the nearest other classes (`nearest_classes`), all at once.

    When it runs few images are left, and a batch of several starts costs about as much as one. Arguments and result as
    in `apgd`; `targets` at most K - 1 and `CLASSES`. Every start of an image is run, also where an earlier one fools.
    With a `first_ball`, `shrinking_ball` from the image in place of APGD.
    """
    with frozen(model):
        near = nearest_classes(model, x, y, norm, min(CLASSES, EACH * targets))
    others, compared = near[:, :targets], near.shape[1]
    many = torch.arange(len(x), device=x.device).repeat_interleave(targets)
    number = torch.arange(targets, device=x.device).repeat(len(x))
    settings: dict[str, Any] = {
        "eps": eps[many],
        "norm": norm,
        "steps": steps,
        "y_target": others.flatten(),
        "streams": streams.take(many).fork(number),
        "on_progress": on_progress,
    }
    if first_ball is None:
        made = apgd(model, x[many], y[many], loss="dlr", **settings)
    else:
        settings |= {"start": "image", "momentum": 0.0, "first_ball": first_ball}
        made = shrinking_ball(model, x[many], y[many], **settings)
    with frozen(model):  # the margin to the target says nothing about the other classes
        low = margin(predict(model, made.x_adv), y[many])
    which = torch.where(made.success, -torch.inf, low).view(-1, targets).argmin(1)
    chosen = torch.arange(len(x), device=x.device) * targets + which
    return AttackResult(
        x_adv=made.x_adv[chosen],
        success=made.success[chosen],
        distance={name: value[chosen] for name, value in made.distance.items()},
        forwards=(made.forwards + 1).view(-1, targets).sum(1) + 1,
        backwards=made.backwards.view(-1, targets).sum(1) + compared,
        trace={"margin": low[chosen]},
    )


def nearest_classes(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], norm: str, most: int = CLASSES
) -> Int[Tensor, "n k"]:
    """The `most` strongest classes that are not `y`, the nearest first by the model that is linear at the image.

    The distance is the gap between the logits over the dual norm of its gradient. A class whose gap has no gradient
    comes last; where all have none, the order is that of the logits. Freeze the model first.
    """
    return torch.cat(
        [
            _nearest(model, some, label, norm, most)
            for some, label in zip(x.split(ATTACK_BATCH), y.split(ATTACK_BATCH), strict=True)
        ]
    )


def _nearest(model: nn.Module, x: Tensor, y: Tensor, norm: str, most: int) -> Tensor:
    leaf = leaf_of(x)
    logits = logits_of_leaf(model, leaf)
    strongest = ranked_others(logits.detach(), y)[:, :most]
    gaps = logits.gather(1, y[:, None]) - logits.gather(1, strongest)
    far = []
    for number in range(gaps.shape[1]):
        slope = input_gradient(gaps[:, number].sum(), leaf, retain_graph=number + 1 < gaps.shape[1])
        steep = norm_of(slope, DUAL[norm])
        far.append(torch.where(steep > 0, gaps[:, number].detach() / steep, torch.inf))
    return strongest.gather(1, torch.stack(far, 1).argsort(dim=1, stable=True))
