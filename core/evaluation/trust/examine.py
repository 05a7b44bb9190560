"""The reliability checks: whether a robust accuracy is a reliable estimate. Imports no torch until it runs.

The checks themselves are in `model` (outputs and gradients) and `attacks`; their limits are in `rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.evaluation.trust.report import Check, Trust, warning_of
from core.evaluation.trust.rules import RULES
from core.progress import Progress, part

if TYPE_CHECKING:  # its import takes seconds, and a page that reads a report needs none of it
    from torch import Tensor, nn

    from core.evaluation.trust.examination import Fooled


def examine(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: str = "linf",
    eps: float,
    robust: Tensor | None = None,
    x_adv: Tensor | None = None,
    lower: Tensor | None = None,
    index: Tensor | None = None,
    seed: int = 0,
    effort: str = "quick",
    on_progress: Progress | None = None,
) -> tuple[Trust, Fooled]:
    """Check whether a robust accuracy is a reliable estimate.

    The model is queried in eval mode and left untouched. Only the first images are attacked again, as many as the
    effort level says; what was stored is checked for all of them.

    Args:
        model: pixels to logits.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: `linf`, `l2`, `l1` or `l0` (features).
        eps: perturbation budget.
        robust: (N,) bool, the images that the evaluation counts as robust. Without it the checks of the evaluation are
            skipped, and those of the model remain.
        x_adv: (N, C, H, W), the images that it made; those of images that are not robust fool the model.
        lower: (N,) proven radius, 0 where nothing is proven.
        index: (N,) int64 image numbers, for the random draws; default the positions.
        seed: of the random draws.
        effort: `quick` (100 images; about 500 forward and 210 backward passes for each that is not fooled), `standard`
            (200; 1,400 and 610) or `thorough` (500; 5,100 and 2,010). Images that are fooled cost far less.
        on_progress: called before each check with checks done, all, and a phase; may raise Cancelled.

    Returns:
        The report, which is the same for the same arguments on one device, and the adversarial examples inside the
        ball that its own attacks found, of the first `n` images.

    Raises:
        ValueError: bad input, naming the argument.
    """
    from core.evaluation.trust.attacks import ATTACKS
    from core.evaluation.trust.examination import Claims, Examination
    from core.evaluation.trust.model import OUTPUTS, surfaces

    questions = {**OUTPUTS, **ATTACKS}
    claims = Claims(x, y, robust, x_adv, lower)
    with Examination.open(model, claims, norm=norm, eps=eps, index=index, seed=seed, effort=effort) as exam:
        checks = []
        for done, name in enumerate(RULES):
            exam.on_progress = None if on_progress is None else _phase(on_progress, done, RULES[name].title)
            measured, finding = questions[name](exam)
            checks.append(Check.of(name, measured, finding, exam.n))
        drawn = surfaces(exam)
    trust = Trust(
        checks=tuple(checks),
        norm=norm,
        eps=eps,
        n=exam.n,
        seed=seed,
        effort=effort,
        accuracy=exam.accuracy(),
        ladder=exam.ladder(),
        surfaces=drawn,
        forwards=exam.forwards,
        backwards=exam.backwards,
        warning=warning_of(checks, exam.n),
    )
    return trust, exam.found


def _phase(on_progress: Progress, done: int, title: str) -> Progress:
    """The progress of one check; reported at once too, so that a cancelled report stops before the check."""
    report = part(on_progress, done, done, len(RULES), phase=f"reliability checks: {title}", metrics={})
    assert report is not None
    report(0, 1)
    return report
