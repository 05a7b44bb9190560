"""The trust report: whether a robust accuracy can be believed, check by check. Imports no torch until it runs.

The checks themselves are in `trust_model` (answers and gradients) and `trust_attacks`; their limits in `trust_rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from core.evaluation.trust.rules import RULES, Verdict
from core.progress import Progress

if TYPE_CHECKING:  # its import takes seconds, and a page that reads a report needs none of it
    from torch import Tensor, nn

    from core.evaluation.trust.case import Found

MARKS: dict[Verdict, str] = {"fail": "✗", "warn": "!", "pass": "✓", "skipped": "–"}
"""A sign for each verdict, so that colour is never alone; the worst comes first."""


@dataclass(frozen=True)
class Check:
    """One question to a figure, and the answer.

    Attributes:
        name: key in `trust_rules.RULES`.
        title: what is true of a figure that can be believed.
        measured: in the rule's unit (shares and points of accuracy as fractions); None where it was skipped.
        threshold: the strictest limit that the value was held against.
        verdict: `pass`, `warn`, `fail` or `skipped`.
        finding: what was measured, or why it was skipped, in a sentence.
        advice: what to do where it does not pass.
    """

    name: str
    title: str
    measured: float | None
    threshold: float | None
    verdict: Verdict
    finding: str
    advice: str

    @classmethod
    def of(cls, name: str, measured: float | None, finding: str, n: int) -> Check:
        """Judge a value measured on n images by the rule of this name; None skips."""
        rule = RULES[name]
        verdict: Verdict = "skipped" if measured is None else rule.grade(measured, n)
        threshold = rule.fail if rule.warn is None else rule.warn
        return cls(name, rule.title, measured, threshold, verdict, finding, rule.advice)

    @property
    def said(self) -> str:
        """The measured value with its unit."""
        return "–" if self.measured is None else RULES[self.name].say(self.measured)

    @property
    def limits(self) -> str:
        """The rule's limits in words."""
        return RULES[self.name].limits()


@dataclass(frozen=True)
class Surface:
    """The margin of one image over the plane of a step along the gradient and a random one.

    Attributes:
        index: the image's index.
        y: its class.
        axis: positions along both directions, in full steps of the ball; (A,).
        margin: (A, A) margin in logits; rows go along the random direction, columns against the gradient, so that
            the right side is where a single step leads. Images are clipped to the box.
    """

    index: int
    y: int
    axis: tuple[float, ...]
    margin: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Trust:
    """A trust report.

    Attributes:
        checks: in the order of `trust_rules.RULES`.
        norm: the ball's shape.
        eps: its size.
        n: images that the checks looked at.
        seed: of the random draws.
        effort: the level it ran at.
        accuracy: what each attack of the report left standing alone, of the n images; `clean` among them.
        ladder: (eps, accuracy) of the same attack in balls of several sizes.
        surfaces: loss surfaces, for a picture.
        forwards: forward passes of single images that the report took in all.
        backwards: backward passes likewise.
        warning: why the evaluation's figure must not be used, in a few sentences; "" where nothing forbids it.
    """

    checks: tuple[Check, ...]
    norm: str
    eps: float
    n: int
    seed: int
    effort: str
    accuracy: Mapping[str, float]
    ladder: tuple[tuple[float, float], ...]
    surfaces: tuple[Surface, ...]
    forwards: int
    backwards: int
    warning: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks; `pass` where none warns or fails."""
        found = {check.verdict for check in self.checks}
        return next((worst for worst in ("fail", "warn") if worst in found), "pass")

    def check(self, name: str) -> Check:
        """The check of this name. Raises KeyError."""
        return {check.name: check for check in self.checks}[name]

    def doubts(self) -> list[Check]:
        """The checks that fail, then those that warn."""
        return [check for verdict in ("fail", "warn") for check in self.checks if check.verdict == verdict]

    def line(self) -> str:
        """The overall verdict and its reasons in one line, for exports; a warning comes first."""
        return f"do not use this figure: {self._line()}" if self.warning else self._line()

    def _line(self) -> str:
        count = Counter(check.verdict for check in self.checks)
        images = "1 image" if self.n == 1 else f"{self.n} images"
        if not self.doubts():
            skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
            return f"trust: pass ({count['pass']} checks of {images}{skipped})"
        reasons = "; ".join(f"{RULES[check.name].sign} ({check.verdict}, {check.said})" for check in self.doubts())
        return f"trust: {self.verdict}: {reasons}; {count['pass']} of {len(self.checks)} checks of {images} pass"

    def to_markdown(self) -> str:
        """The line and the table of checks, as GitHub's Markdown."""
        rows = [
            (f"{MARKS[check.verdict]} {check.verdict}", check.title, check.said, check.limits, _todo(check))
            for check in self.checks
        ]
        heads = ("verdict", "check", "measured", "limits", "finding and advice")
        first = f"**Do not use this figure.** {self.warning}\n\n" if self.warning else ""
        return f"{first}{self.line()}\n\n{tabulate(rows, headers=heads, tablefmt='github', disable_numparse=True)}\n"

    def to_json(self) -> dict[str, Any]:
        """The report as what JSON can hold, with the overall `verdict`."""
        return {"verdict": self.verdict, **asdict(self)}

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> Trust:
        """The report that `to_json` wrote."""
        fields = {name: value for name, value in made.items() if name != "verdict"}
        surfaces = (
            Surface(part["index"], part["y"], tuple(part["axis"]), tuple(tuple(row) for row in part["margin"]))
            for part in made["surfaces"]
        )
        checks = tuple(Check(**check) for check in made["checks"])
        return cls(
            **{
                **fields,
                "checks": checks,
                "ladder": tuple((eps, accuracy) for eps, accuracy in made["ladder"]),
                "surfaces": tuple(surfaces),
                # reports from before there were warnings: what they found did not enter the figure
                "warning": made.get("warning", _warning(checks, made["n"])),
            }
        )


def _todo(check: Check) -> str:
    return f"{check.finding} {check.advice}" if check.verdict in ("warn", "fail") else check.finding


UNUSABLE = ("randomness", "neighbours", "images", "proven")
"""Checks that say, where they fail, that there is no such figure: answers vary, or a rule was broken."""


def _warning(checks: Sequence[Check], n: int, of: int | None = None, missed: float | None = None) -> str:
    """Why a figure must not be used; "" where nothing forbids it.

    Args:
        checks: the report's.
        n: images that it looked at.
        of: images of the figure, if what the report fooled has entered it as images that are not robust; None: it has
            not.
        missed: the share of the `n` images that entered so; None: what the check says.
    """
    failed = {check.name: check for check in checks if check.verdict == "fail"}
    reasons = [failed[name].finding for name in UNUSABLE if name in failed]
    if missed is not None and RULES["missed"].grade(missed, n) != "fail":  # what fooled once did not fool again
        failed.pop("missed", None)
    if "missed" in failed and (of is None or of > n):
        share = failed["missed"].said if missed is None else RULES["missed"].say(missed)
        rest = (
            "" if of is None else f" These images now count as not robust, but the other {of - n:,} may fall as easily."
        )
        reasons.append(
            f"The attacks of the reliability checks looked at {n:,} {'images' if n > 1 else 'image'} and fooled "
            f"{share} of them although the evaluation counted them as robust.{rest}"
        )
    return " ".join(reasons)


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
        warning=_warning(checks, case.n),
    )
    return trust, case.found


def entered(trust: Trust, of: int, missed: float) -> Trust:
    """The report on a figure of `of` images, of which this share of the `n` it looked at has entered as not robust."""
    return replace(trust, warning=_warning(trust.checks, trust.n, of, missed))


def _phase(on_progress: Progress, done: int, title: str) -> Progress:
    """Progress of one check as progress of the report; told at once, so that a cancel is heard."""

    def tell(*_: object, **__: object) -> None:
        on_progress(done, len(RULES), phase=f"trust: {title}")

    tell()
    return tell
