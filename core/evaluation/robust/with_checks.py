"""An evaluation together with its reliability checks: what their attacks fooled counts in the robust accuracy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from core.attacks.engine.engine import predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.epsilon import within
from core.evaluation.robust.left_to_find import estimate
from core.evaluation.robust.result import Evaluation
from core.evaluation.trust.examination import Fooled
from core.evaluation.trust.report import Check, Trust, warning_of


def with_checks(
    made: Evaluation, trust: Trust, fooled: Fooled, judge: nn.Module, x: Tensor, y: Tensor, classes: int
) -> Evaluation:
    """The evaluation with its report, where the images that the report's attacks fooled are not robust.

    Each of these adversarial examples is verified again, in another batch layout, in ball and box, by `judge`, the
    model that gives the verdicts, of so many classes.
    """
    n = len(fooled.by)
    candidates = torch.tensor([bool(name) for name in fooled.by], device=x.device) & made.robust[:n]
    rows = candidates.nonzero()[:, 0]
    if len(rows):  # none is left where nothing fools again
        x_adv = fooled.x_adv[rows]
        after = predicted(predict(judge, x_adv.flip(0), 160)).flip(0)
        size = distances(x_adv, x[rows])[made.norm].double()  # l0 counts
        boxed = ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
        holds = (after != y[rows]) & boxed & within(size, made.eps)
        rows, x_adv, size = rows[holds], x_adv[holds], size[holds]
        robust, images, upper, lower = (part.clone() for part in (made.robust, made.x_adv, made.upper, made.lower))
        robust[rows], images[rows], lower[rows] = False, x_adv, 0.0
        upper[rows] = size
        names = made.found_by.tolist()
        for row in rows.tolist():
            names[row] = f"reliability checks: {fooled.by[row]}"
        made = replace(made, robust=robust, x_adv=images, upper=upper, lower=lower, found_by=np.array(names, dtype=str))
    trust = replace(trust, warning=warning_of(trust.checks, trust.n, made.n, len(rows) / n))
    trust = replace(trust, warning=" ".join(text for text in (made.warning, _with_bound(trust, made)) if text))
    made = with_estimate(made, classes)
    return replace(made, trust=_estimated(trust, made), warning=trust.warning)


def with_estimate(made: Evaluation, classes: int) -> Evaluation:
    """The evaluation with what is left to find; not known if it is of that strength itself, or tried nothing."""
    if made.effort == "at_least_autoattack" or made.trials is None or made.trials.spent.shape[1] == 0:
        return made
    return replace(made, left_to_find=estimate(made.trials, made.robust, made.norm, classes))


def _estimated(trust: Trust, made: Evaluation) -> Trust:
    """The report with what is left to find, where that is known."""
    left = made.left_to_find
    if left is None:
        return trust
    check = Check.of("left_to_find", left.low / left.n, left.sentence, left.n)
    return replace(trust, checks=tuple(check if old.name == check.name else old for old in trust.checks))


def _with_bound(trust: Trust, made: Evaluation) -> str:
    """The report's warning, with what can still be said: the accuracy of the images that were checked."""
    if not trust.warning or trust.n >= made.n:
        return trust.warning
    share = made.robust[: trust.n].double().mean().item()
    return f"{trust.warning} On the {trust.n:,} images that were checked, robust accuracy is at most {share:.1%}."
