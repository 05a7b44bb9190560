"""The trust report: whether a robust accuracy can be believed, check by check. Imports no torch until it runs.

The checks themselves are in `model` (answers and gradients) and `attacks`; their limits in `rules`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core.evaluation.trust.report import Check, Trust, warning_of
from core.evaluation.trust.rules import RULES
from core.progress import Progress, part

if TYPE_CHECKING:  # its import takes seconds, and a page that reads a report needs none of it
    from torch import Tensor, nn

    from core.evaluation.trust.case import Found


def report(
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
) -> Trust:
    """Say whether a robust accuracy can be believed.

    The model is asked in eval mode and left untouched. Only the first images are attacked again, as many as the effort
    says; what was stored is looked at for all of them.

    Args:
        model: pixels to logits.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: `linf`, `l2`, `l1` or `l0` (features).
        eps: size of the ball.
        robust: (N,) bool, the images that the evaluation says are read rightly whatever it tried. Without it the
            checks of the evaluation are skipped, and those of the model remain.
        x_adv: (N, C, H, W), the images that it made; those of images that are not robust fool the model.
        lower: (N,) proven radius, 0 where nothing is proven.
        index: (N,) int64 image indices, for the random draws; default the positions.
        seed: of the random draws.
        effort: `quick` (100 images; about 500 forward and 210 backward passes for each that stands), `standard`
            (200; 1,400 and 610) or `thorough` (500; 5,100 and 2,010). Images that fall cost far less.
        on_progress: called before each check with checks done, all, and a phase; may raise Cancelled.

    Returns:
        A report that is the same for the same arguments, on one device.

    Raises:
        ValueError: bad input, naming the argument.
    """
    made, _ = examined(
        model,
        x,
        y,
        norm=norm,
        eps=eps,
        robust=robust,
        x_adv=x_adv,
        lower=lower,
        index=index,
        seed=seed,
        effort=effort,
        on_progress=on_progress,
    )
    return made


def examined(
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
) -> tuple[Trust, Found]:
    """As `report`, with the images of the ball that its own attacks found to fool, of the first `n`."""
    from core.evaluation.trust.attacks import ATTACKS
    from core.evaluation.trust.case import Case, Claims
    from core.evaluation.trust.model import ANSWERS, surfaces

    questions = {**ANSWERS, **ATTACKS}
    claims = Claims(x, y, robust, x_adv, lower)
    with Case.open(model, claims, norm=norm, eps=eps, index=index, seed=seed, effort=effort) as case:
        checks = []
        for done, name in enumerate(RULES):
            case.on_progress = None if on_progress is None else _phase(on_progress, done, RULES[name].title)
            measured, finding = questions[name](case)
            checks.append(Check.of(name, measured, finding, case.n))
        drawn = surfaces(case)
    trust = Trust(
        checks=tuple(checks),
        norm=norm,
        eps=eps,
        n=case.n,
        seed=seed,
        effort=effort,
        accuracy=case.accuracy(),
        ladder=case.ladder(),
        surfaces=drawn,
        forwards=case.forwards,
        backwards=case.backwards,
        warning=warning_of(checks, case.n),
    )
    return trust, case.found


def entered(trust: Trust, of: int, missed: float) -> Trust:
    """The report on a figure of `of` images, of which this share of the `n` it looked at has entered as not robust."""
    return replace(trust, warning=warning_of(trust.checks, trust.n, of, missed))


def _phase(on_progress: Progress, done: int, title: str) -> Progress:
    """The progress of one check; reported at once too, so that a cancelled report stops before the check."""
    report = part(on_progress, done, done, len(RULES), phase=f"reliability checks: {title}", metrics={})
    assert report is not None
    report(0, 1)
    return report
