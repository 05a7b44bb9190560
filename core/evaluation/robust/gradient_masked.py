"""Models that only look robust, because their outputs are random or their gradients mislead: how they are found.

A model whose outputs are random is attacked by the mean over `DRAWS` draws, and judged by the mean over `VERDICT`
(Athalye, Carlini, Wagner 2018, arXiv 1802.00420; AutoAttack's version for random models, Croce and Hein 2020, arXiv
2003.01690, takes 20 as well). One whose gradients are zero, NaN or not the slope, or whose logits jump, is also
attacked with gradients that pass straight through (`schedule.with_straight_through`). Both are looked for on a few
images; ordinary models cost nothing else.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from core.attacks.engine.engine import predict
from core.attacks.engine.losses import margin, predicted
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.pgd import pgd
from core.evaluation.robust.schedule import Stage
from core.evaluation.robust.state import CascadeState, Subject
from core.evaluation.trust.examination import RANDOM, Claims, Effort, Examination, relative
from core.evaluation.trust.model import continuity, gradients, slope
from core.evaluation.trust.rules import RULES

DRAWS = 20
"""Draws of a random model that every gradient of an evaluation is the mean of."""
VERDICT = 5 * DRAWS
"""Draws that its verdicts are the mean of: an attack takes the luckiest of many draws, and these are new ones."""
FEW = 8
"""Images that are looked at, at about 45 passes each, which are not counted as passes of the images. Half as many for
small evaluations, of less than 400 images, so that the look stays below 4 % of their cost."""
RANDOM_OUTPUTS = (
    "The model's outputs are random. The accuracies are those of the mean of its probabilities over "
    f"{VERDICT} draws; a single prediction can differ."
)
"""The warning on every accuracy of a random model."""
LOOK = Effort(FEW, 1, 1, 0, 0, (), 0)


def few(n: int) -> int:
    """How many images of `n` are looked at."""
    return min(FEW, max(FEW // 2, n // 50))


def outputs_vary(model: nn.Module, x: Float[Tensor, "n c h w"]) -> bool:
    """Whether two passes of the same few images differ by more than rounding. Freeze the model first."""
    part = x[: few(len(x))]
    return relative(predict(model, part), predict(model, part)) > RANDOM


def gradients_mislead(given: Subject) -> bool:
    """Whether gradients at the first images are zero, NaN or not the slope, or logits jump. Freeze the model first."""
    rows = slice(0, FEW)
    claims = Claims(given.x[rows], given.y[rows], None, None, None)
    exam = Examination(given.model, claims, given.norm, given.eps, given.index[rows], given.seed, LOOK)
    for name, question in (("gradients", gradients), ("slope", slope), ("continuity", continuity)):
        measured, _ = question(exam)
        if measured is not None and RULES[name].grade(measured, exam.n) == "fail":
            return True
    return False


def patient(plan: list[Stage]) -> list[Stage]:
    """The schedule for a random model: attacks descend to the lowest margin, since one lucky draw is not enough."""
    return [
        replace(stage, settings=stage.settings | {"early_stop": False}) if stage.attack in (pgd, apgd) else stage
        for stage in plan
    ]


def confirm(judge: nn.Module, y: Tensor, state: CascadeState, number: int) -> None:
    """Of a random model: images that stage `number` fooled, and that do not fool `judge` as well, are not fooled."""
    rows = (state.fooled & (state.found == number)).nonzero()[:, 0]
    if not len(rows):
        return
    logits = predict(judge, state.x_adv[rows])
    state.forwards[rows] += VERDICT // DRAWS
    lost = predicted(logits) == y[rows]
    back = rows[lost]
    state.fooled[back], state.found[back] = False, -1
    state.margin[back] = margin(logits[lost], y[back])
