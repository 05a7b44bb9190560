"""The metric auditor: identities within the rounding of printed digits, misprints found, tables read as they come."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.tables.auditor import Printed, audit, check, implied, parse
from core.evaluation.tables.metrics import five_metrics

SET_THREE = {
    "standard clean": ".9858 .0142 .9858 .9899 .7029",
    "standard FGSM": ".0496 .9504 .9305 .8869 .9328",
    "trained clean": ".9840 .0160 .9721 .9761 .6734",
    "trained FGSM": ".8328 .1672 .8458 .8761 .6947",
}
"""The published table, with its misprint: .9721 for .9712."""
NAMES = ("Correctly predicted", "Error", "Confidence", "Confidence when correct", "Confidence when wrong")


def as_text(kind: str) -> str:
    """The table in one of the forms in which people paste it."""
    rows = [(label, figures.split()) for label, figures in SET_THREE.items()]
    if kind == "words":
        return "\n".join(f"{label} {' '.join(figures)}" for label, figures in rows)
    if kind == "csv":
        return "# a comment\nmodel," + ",".join(NAMES) + "\n" + "\n".join(f'"{a}",' + ",".join(b) for a, b in rows)
    if kind == "markdown":
        head = f"| model | {' | '.join(NAMES)} |\n|---|" + "--:|" * 5
        return head + "\n" + "\n".join(f"| {a} | {' | '.join(b)} |" for a, b in rows)
    if kind == "latex":
        return (
            "\\toprule\nmodel & " + " & ".join(NAMES) + r" \\" + "\n"
            "\\midrule\n" + "\n".join(f"{a} & {' & '.join(b)} \\\\" for a, b in rows)
        )
    if kind == "percent":
        return "\n".join(f"{a}\t" + "\t".join(f"{100 * float(v):.2f} %" for v in b) for a, b in rows)
    head = "| | " + " | ".join(label for label, _ in rows) + " |\n|---|---|---|---|---|"
    lines = [f"| {name} | " + " | ".join(b[k] for _, b in rows) + " |" for k, name in enumerate(NAMES)]
    return head + "\n" + "\n".join(lines)


@pytest.mark.parametrize("kind", ["words", "csv", "markdown", "latex", "percent", "sideways"])
def test_misprint_of_the_published_table_is_found(kind: str) -> None:
    """However it is pasted: three rows hold, .9721 fails, and swapping two digits back is the first suggestion."""
    findings = audit(as_text(kind))
    assert [finding.row.label for finding in findings] == list(SET_THREE)
    assert [finding.verdict for finding in findings] == ["holds", "holds", "fails", "holds"]
    wrong = findings[2]
    assert wrong.low < 0.9713 < wrong.high + 1e-4
    assert wrong.high < 0.9721
    metric, printed, could_be = wrong.misprints[0]
    assert metric == "confidence"
    assert (printed, could_be) == (("97.21 %", "97.12 %") if kind == "percent" else (".9721", ".9712"))


@pytest.mark.parametrize(
    "text",
    [
        "a 98.40 1.60 97.21 97.61 67.34",
        "a 98.40 1.60 .9721 .9761 .6734",
        "a .9840 .0160 97.21 97.61 67.34",
        "m,accuracy,error,confidence,confidence_correct,confidence_wrong\na,98.40,1.60,97.21,97.61,67.34",
    ],
)
def test_percentages_need_no_sign(text: str) -> None:
    """Per cent without the sign, in shares, confidences or both: the misprint is found, and its correction holds."""
    (finding,) = audit(text)
    assert finding.verdict == "fails"
    assert finding.high == pytest.approx(0.9713, abs=2e-4)
    assert finding.misprints[0][0] == "confidence"
    (mended,) = audit(text.replace("97.21", "97.12").replace(".9721", ".9712"))
    assert mended.verdict == "holds"


def test_small_percentages_are_none_of_shares() -> None:
    """An error of 0.42 beside an accuracy of 99.58 is in per cent, too."""
    (finding,) = audit("a 99.58 0.42 99.0 99.1 75.3")
    assert finding.verdict == "holds", finding.note
    assert finding.row.printed["error"].high < 0.005


@pytest.mark.parametrize("digits", [2, 3, 4, 6])
def test_true_tables_always_hold(digits: int) -> None:
    """No false alarm: metrics of random images, rounded to any number of digits, satisfy it within their rounding."""
    rng = np.random.default_rng(digits)
    for _ in range(200):
        n = int(rng.integers(2, 300))
        y, pred = rng.integers(0, 3, n), rng.integers(0, 3, n)
        row = five_metrics(y, pred, rng.uniform(1 / 3, 1, n)).row()
        printed = [row[name] for name in ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")]
        text = " ".join("–" if np.isnan(value) else f"{value:.{digits}f}" for value in printed)
        (finding,) = audit(f"row {text}")
        assert finding.verdict == "holds", finding.note


def test_range_is_exact() -> None:
    """The ends of the range are reached by numbers that round to the printed ones, and nothing lies beyond them."""
    (row,) = parse("x .9 .1 .8 .8 .6")
    low, high = implied(row)
    rng = np.random.default_rng(0)
    a, correct, wrong = (
        rng.uniform(0.85, 0.95, 20_000),
        rng.uniform(0.75, 0.85, 20_000),
        rng.uniform(0.55, 0.65, 20_000),
    )
    values = a * correct + (1 - a) * wrong
    assert low <= values.min() < low + 5e-3
    assert high - 5e-3 < values.max() <= high


def test_shares_that_do_not_add_up_are_told() -> None:
    """A + E must be 1 before anything else."""
    (finding,) = audit("x .9840 .1600 .9712 .9761 .6734")
    assert finding.verdict == "fails"
    assert "do not add up to 1" in finding.note


def test_incomplete_rows_say_what_is_missing() -> None:
    """Without Cc or Ce only a wide range is left; with neither, nothing can be told. A table of words is refused."""
    (partly,) = audit("name,accuracy,error,confidence,confidence_correct\nx,.9,.1,.99,.99")
    assert partly.verdict == "holds"
    (less,) = audit("name,accuracy,error,confidence,confidence_correct,n\nx,.9,.1,.99,,100")
    assert less.verdict == "incomplete"
    assert "confidence correct, confidence wrong" in less.note
    with pytest.raises(ValueError, match="expected rows of correct, error, confidence"):
        audit("nothing to see here\nat all")


def test_printed_numbers_stand_for_what_rounds_to_them() -> None:
    """Half a unit of the last digit each way, inside [0, 1]; a percentage is a share; a word is refused."""
    assert (Printed.of(".97").low, Printed.of(".97").high) == pytest.approx((0.965, 0.975))
    assert (Printed.of("97.1 %").low, Printed.of("97.1 %").high) == pytest.approx((0.9705, 0.9715))
    assert Printed.of("1.00").high == 1.0
    with pytest.raises(ValueError, match="expected a number"):
        Printed.of("high")


def test_own_exports_hold() -> None:
    """Full precision: only the arithmetic's own error is allowed."""
    row = five_metrics(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([0.9, 0.8, 0.7])).row()
    names = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")
    text = "model,eps," + ",".join(names) + "\nm,0.1," + ",".join(repr(row[name]) for name in names)
    (finding,) = audit(text)
    assert (finding.verdict, finding.row.label) == ("holds", "m · 0.1")
    assert check(finding.row) == finding
