"""Properties of competitions: the box and the classes, the ball that a box is, and a clear no to everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.data.vnnlib import read_property

INPUTS = """; a comment (with a parenthesis
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(declare-const Y_2 Real)
(assert (<= X_0 0.75))
(assert (>= X_0 0.25))
(assert (>= X_1 0))
(assert (<= X_1 3e-1)) ; cut at 0
"""
OUTPUTS = "(assert (or (and (>= Y_0 Y_2)) (and (<= Y_2 Y_1))))"


def written(folder: Path, text: str) -> Path:
    """A file with this text."""
    path = folder / "some.vnnlib"
    path.write_text(text, encoding="utf-8")
    return path


def test_box_label_and_rivals_are_read(tmp_path: Path) -> None:
    """In any order of the two sides, alone or as alternatives."""
    made = read_property(written(tmp_path, INPUTS + OUTPUTS))
    assert (made.label, made.rivals, made.outputs) == (2, (0, 1), 3)
    assert made.low.tolist() == [0.25, 0.0]
    assert made.high.tolist() == [0.75, 0.3]
    assert read_property(written(tmp_path, INPUTS + "(assert (>= Y_1 Y_0))")).rivals == (1,)


def test_box_is_the_ball_cut_to_the_valid_range(tmp_path: Path) -> None:
    """Where it is cut, the pixel lies ε from the other end; boxes of unequal sides are refused."""
    x, eps = read_property(written(tmp_path, INPUTS + OUTPUTS)).ball((1, 1, 2))
    assert eps == 0.25
    assert torch.allclose(x, torch.tensor([[[[0.5, 0.05]]]]))
    wider = INPUTS.replace("(>= X_1 0)", "(>= X_1 0.1)")
    with pytest.raises(ValueError, match="expected a box that is an linf ball cut to"):
        read_property(written(tmp_path, wider + OUTPUTS)).ball((1, 1, 2))
    with pytest.raises(ValueError, match="shape: expected 2 values"):
        read_property(written(tmp_path, INPUTS + OUTPUTS)).ball((1, 2, 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (INPUTS, "expected an output condition on one label, got none"),
        (INPUTS + "(assert (or (>= Y_0 Y_1) (>= Y_1 Y_2)))", "got none or several labels"),
        (INPUTS + "(assert (>= Y_0 Y_0))", "expected classes below 3 other than the label"),
        (INPUTS + "(assert (>= Y_0 Y_7))", "expected classes below 3 other than the label"),
        (INPUTS + "(assert (and (>= Y_0 Y_1) (>= Y_2 Y_1)))", "expected alternatives"),
        (INPUTS + "(assert (>= Y_0 0.5))", "expected alternatives"),
        (INPUTS + "(assert (>= (+ X_0 X_1) 0.5))", "expected alternatives"),
        (INPUTS + OUTPUTS + OUTPUTS, "expected one output condition, got more"),
        (INPUTS + "(declare-const X_2 Real)" + OUTPUTS, "expected a lower and an upper limit for every input"),
        (INPUTS + "(assert (<= X_0 0.7))" + OUTPUTS, "got two of X_0"),
        (INPUTS.replace("0.75", "0.2") + OUTPUTS, "expected lower limits that are at most the upper ones"),
        (INPUTS.replace("0.75", "much") + OUTPUTS, "expected a number as the limit of X_0, got 'much'"),
        ("(check-sat)", r"expected declare-const and assert, got \(check-sat\)"),
        (INPUTS + "(assert (or", "expected balanced parentheses"),
        (INPUTS + ")", "expected balanced parentheses"),
    ],
)
def test_what_is_not_read_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """With what is wrong, and without an answer for another property."""
    with pytest.raises(ValueError, match=said):
        read_property(written(tmp_path, text))
