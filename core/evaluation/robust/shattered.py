"""Models that only look robust: a cheap look that finds them out, and what the reliability checks found in the figure.

A model whose answers are random is attacked by the mean over `DRAWS` draws, and judged by that over `VERDICT` (Athalye,
Carlini, Wagner 2018, arXiv 1802.00420; AutoAttack's version for random models, Croce and Hein 2020, arXiv 2003.01690,
takes 20 as well). One whose gradients are zero, NaN or not the slope, or whose logits jump, is also attacked with
gradients that pass straight through (the stages of `cascade.bridged`). Both are looked for on a few images; ordinary
models cost nothing else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.engine import predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import margin, predicted
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.pgd import pgd
from core.epsilon import within
from core.evaluation.robust.cascade import AFTER, Stage, Standing, bridged
from core.evaluation.robust.result import Evaluation
from core.evaluation.trust import trust as trust_report
from core.evaluation.trust.case import RANDOM, Case, Claims, Effort, Found, relative
from core.evaluation.trust.model import continuity, gradients, slope
from core.evaluation.trust.report import Trust
from core.evaluation.trust.rules import RULES

DRAWS = 20
"""Draws of a random model that every gradient of an evaluation is the mean of."""
VERDICT = 5 * DRAWS
"""Draws that its verdicts are the mean of: an attack takes the luckiest of many looks, and this is a new one."""
FEW = 8
"""Images that are looked at, about 35 passes each, which are not counted as passes of the images. Fewer, down to half,
of an evaluation of less than 400 images, so that they stay below 3 % of what it costs with its report."""
RANDOM_ANSWERS = (
    "The model's answers are random. The figures are those of the mean of its probabilities over "
    f"{VERDICT} draws, and a single answer can differ."
)
"""The warning on every figure of a random model."""
LOOK = Effort(FEW, 1, 1, 0, 0, (), 0)


def few(n: int) -> int:
    """How many images of `n` are looked at."""
    return min(FEW, max(FEW // 2, n // 50))


def answers_vary(model: nn.Module, x: Float[Tensor, "n c h w"]) -> bool:
    """Whether two passes of the same few images differ by more than rounding. Freeze the model first."""
    part = x[: few(len(x))]
    return relative(predict(model, part), predict(model, part)) > RANDOM


def misleads(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: str,
    eps: float,
    index: Int[Tensor, " n"],
    seed: int,
) -> bool:
    """Whether the gradients at a few images are zero, NaN or not the slope, or logits jump. Freeze the model first."""
    rows = slice(0, FEW)
    case = Case(model, Claims(x[rows], y[rows], None, None, None), norm, eps, index[rows], seed, LOOK)
    for name, question in (("gradients", gradients), ("slope", slope), ("continuity", continuity)):
        measured, _ = question(case)
        if measured is not None and RULES[name].grade(measured, case.n) == "fail":
            return True
    return False


def some_mislead(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    standing: Standing,
    safe: Tensor,
    norm: str,
    eps: float,
    index: Tensor,
    seed: int,
) -> bool:
    """Whether the model's gradients mislead at a few of the images that stand unproven; False where none does."""
    rows = (~standing.fooled & ~safe).nonzero()[: few(len(x)), 0]
    if not len(rows) or eps <= 0:
        return False
    return misleads(model, x[rows], y[rows], norm=norm, eps=eps, index=index[rows], seed=seed)


def with_bridges(plan: list[Stage], norm: str, effort: str) -> list[Stage]:
    """The cascade with the stages whose gradients pass straight through."""
    return [*plan[:AFTER], *bridged(norm, effort), *plan[AFTER:]]


def patient(plan: list[Stage]) -> list[Stage]:
    """The stages for a random model: walks go on to the lowest margin, since a verdict just won is soon lost again."""
    return [
        replace(stage, settings=stage.settings | {"early_stop": False}) if stage.attack in (pgd, apgd) else stage
        for stage in plan
    ]


def confirm(model: nn.Module, y: Tensor, standing: Standing, number: int) -> None:
    """Of a random model: what stage `number` fooled stands again unless it fools `model`, of `VERDICT` draws, too."""
    rows = (standing.fooled & (standing.found == number)).nonzero()[:, 0]
    if not len(rows):
        return
    logits = predict(model, standing.x_adv[rows])
    standing.forwards[rows] += VERDICT // DRAWS
    lost = predicted(logits) == y[rows]
    back = rows[lost]
    standing.fooled[back], standing.found[back] = False, -1
    standing.margin[back] = margin(logits[lost], y[back])


def enter(made: Evaluation, trust: Trust, found: Found, model: nn.Module, x: Tensor, y: Tensor) -> Evaluation:
    """The evaluation with its report, where the images that the report's attacks fooled are not robust.

    Each is verified again, in another batch layout, in ball and box; `model` is the one that verdicts are asked of.
    """
    n = len(found.by)
    asked = torch.tensor([bool(name) for name in found.by], device=x.device) & made.robust[:n]
    rows = asked.nonzero()[:, 0]
    if len(rows):  # none is left where nothing fools again
        x_adv = found.x_adv[rows]
        after = predicted(predict(model, x_adv.flip(0), 160)).flip(0)
        size = distances(x_adv, x[rows])[made.norm].double()  # l0 counts
        boxed = ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
        holds = (after != y[rows]) & boxed & within(size, made.eps)
        rows, x_adv, size = rows[holds], x_adv[holds], size[holds]
        robust, images, upper, lower = (part.clone() for part in (made.robust, made.x_adv, made.upper, made.lower))
        robust[rows], images[rows], lower[rows] = False, x_adv, 0.0
        upper[rows] = size
        names = made.found_by.tolist()
        for row in rows.tolist():
            names[row] = f"reliability checks: {found.by[row]}"
        made = replace(made, robust=robust, x_adv=images, upper=upper, lower=lower, found_by=np.array(names, dtype=str))
    trust = trust_report.entered(trust, made.n, len(rows) / n)
    trust = replace(trust, warning=" ".join(text for text in (made.warning, with_bound(trust, made)) if text))
    return replace(made, trust=trust, warning=trust.warning)


def with_bound(trust: Trust, made: Evaluation) -> str:
    """The report's warning, with what can still be said: the accuracy of the images that were checked."""
    if not trust.warning or trust.n >= made.n:
        return trust.warning
    share = made.robust[: trust.n].double().mean().item()
    return f"{trust.warning} On the {trust.n:,} images that were checked, robust accuracy is at most {share:.1%}."
