"""What the reliability checks found, check by check, and the warning where an accuracy must not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from core.evaluation.trust.rules import RULES, Verdict

MARKS: dict[Verdict, str] = {"fail": "✗", "warn": "!", "pass": "✓", "skipped": "–"}
"""A sign for each verdict, so that colour is never alone; the worst comes first."""


@dataclass(frozen=True)
class Check:
    """What one reliability check found.

    Attributes:
        name: key in `rules.RULES`.
        title: what is true of a reliable estimate.
        measured: in the rule's unit (shares and points of accuracy as fractions); None where it was skipped.
        threshold: the strictest limit that the value was compared with.
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
    """The report of the reliability checks.

    Attributes:
        checks: in the order of `rules.RULES`.
        norm: of the ball.
        eps: perturbation budget.
        n: images that the checks looked at.
        seed: of the random draws.
        effort: effort level.
        accuracy: under each attack of the checks alone, of the n images; `clean` without one.
        ladder: (eps, accuracy) of the same attack in balls of several sizes.
        surfaces: loss surfaces, for a picture.
        forwards: forward passes of single images that the checks took in all.
        backwards: backward passes likewise.
        warning: why the robust accuracy must not be used, in a few sentences; "" where nothing forbids it.
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

    def left_to_find(self) -> str:
        """What a search of AutoAttack's strength would still fool, in a sentence; "" where that is not known."""
        found = [check for check in self.checks if check.name == "left_to_find" and check.measured is not None]
        return found[0].finding if found else ""

    def doubts(self) -> list[Check]:
        """The checks that fail, then those that warn."""
        return [check for verdict in ("fail", "warn") for check in self.checks if check.verdict == verdict]

    def line(self) -> str:
        """The overall verdict and its reasons in one line, for exports; a warning comes first."""
        return f"do not use this accuracy: {self._line()}" if self.warning else self._line()

    def _line(self) -> str:
        count = Counter(check.verdict for check in self.checks)
        images = "1 image" if self.n == 1 else f"{self.n} images"
        if not self.doubts():
            skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
            return f"reliability checks: pass ({count['pass']} checks of {images}{skipped})"
        reasons = "; ".join(f"{RULES[check.name].sign} ({check.verdict}, {check.said})" for check in self.doubts())
        passed = f"{count['pass']} of {len(self.checks)} checks of {images} pass"
        return f"reliability checks: {self.verdict}: {reasons}; {passed}"

    def to_markdown(self) -> str:
        """The line and the table of checks, as GitHub's Markdown."""
        rows = [
            (f"{MARKS[check.verdict]} {check.verdict}", check.title, check.said, check.limits, _todo(check))
            for check in self.checks
        ]
        heads = ("verdict", "check", "measured", "limits", "finding and advice")
        first = f"**Do not use this accuracy.** {self.warning}\n\n" if self.warning else ""
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
                # reports from before there were warnings: what they found did not count in the robust accuracy
                "warning": made.get("warning", warning_of(checks, made["n"])),
            }
        )


def _todo(check: Check) -> str:
    return f"{check.finding} {check.advice}" if check.verdict in ("warn", "fail") else check.finding


UNUSABLE = ("randomness", "neighbours", "images", "proven")
"""Checks whose failure means that there is no robust accuracy: outputs vary, or a rule was broken."""


def warning_of(checks: Sequence[Check], n: int, of: int | None = None, missed: float | None = None) -> str:
    """Why a robust accuracy must not be used; "" where nothing forbids it.

    Args:
        checks: the report's.
        n: images that they looked at.
        of: images of the evaluation, if those that the checks fooled count there as not robust; None if they do not.
        missed: the share of the `n` images that count so; None: what the check measured.
    """
    failed = {check.name: check for check in checks if check.verdict == "fail"}
    reasons = [failed[name].finding for name in UNUSABLE if name in failed]
    if missed is not None and RULES["missed"].grade(missed, n) != "fail":  # what fooled once did not fool again
        failed.pop("missed", None)
    if "missed" in failed and (of is None or of > n):
        share = failed["missed"].said if missed is None else RULES["missed"].say(missed)
        rest = (
            ""
            if of is None
            else f" These images now count as not robust, but the other {of - n:,} may be fooled as well."
        )
        reasons.append(
            f"The attacks of the reliability checks looked at {n:,} {'images' if n > 1 else 'image'} and fooled "
            f"{share} of them although the evaluation counted them as robust.{rest}"
        )
    return " ".join(reasons)
