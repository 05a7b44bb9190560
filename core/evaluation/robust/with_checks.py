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
from core.evaluation.robust.result import Evaluation
from core.evaluation.trust.examination import Fooled
from core.evaluation.trust.report import Trust, warning_of


def with_checks(made: Evaluation, trust: Trust, fooled: Fooled, judge: nn.Module, x: Tensor, y: Tensor) -> Evaluation:
    """The evaluation with its report, where the images that the report's attacks fooled are not robust.

    Each of these adversarial examples is verified again, in another batch layout, in ball and box, by `judge`, the
    model that gives the verdicts.
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
    return replace(made, trust=trust, warning=trust.warning)


def _with_bound(trust: Trust, made: Evaluation) -> str:
    """The report's warning, with what can still be said: the accuracy of the images that were checked."""
    if not trust.warning or trust.n >= made.n:
        return trust.warning
    share = made.robust[: trust.n].double().mean().item()
    return f"{trust.warning} On the {trust.n:,} images that were checked, robust accuracy is at most {share:.1%}."
