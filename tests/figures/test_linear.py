"""Charts of linear models: colours mean what they mean everywhere, and no curve differs by its colour alone."""

from __future__ import annotations

import numpy as np

from core.figures.base import ATTACKED, CLEAN, PROVEN, traces
from core.figures.linear import PLAIN, exact_against_attacks, plane, told_apart


def test_exact_is_proven_and_attacks_are_attacked() -> None:
    """Of all curves the exact one alone has the colour of what is proven; line styles differ."""
    attacked = {"FGSM": [0.9, 0.6], "PGD-20": [0.9, 0.5]}
    figure = exact_against_attacks([0, 0.1], [0.9, 0.4], attacked, unboxed=[0.9, 0.3], x_title="ε")
    curves = {trace.name: trace.line for trace in figure.data if trace.fill != "toself"}
    assert [name for name, line in curves.items() if line.color == PROVEN] == ["exact"]
    assert curves["FGSM"].color == ATTACKED
    assert len({line.dash for line in curves.values()}) == len({line.color for line in curves.values()}) == 4


def test_maximiser_is_attacked_and_plain_training_is_clean() -> None:
    """The ball and the worst point have the attack's colour, the boundary without a ball the clean one's."""
    x, y = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([-1, 1])
    lines = {"adversarial, ε = 0.3": (np.ones(2), -1.0), PLAIN: (np.ones(2), -0.8)}
    ball = (0, np.array([[-0.3, 0.0], [0.0, 0.3], [0.3, 0.0]]))
    figure = plane(x, y, lines, ball=ball, moves={"maximiser": np.array([0.2, 0.2])})
    hues = {trace.name: trace.line.color for trace in figure.data}
    assert hues["ε-ball"] == hues["maximiser"] == ATTACKED
    assert [name for name, hue in hues.items() if hue == CLEAN] == [PLAIN]


def test_curves_differ_by_style_and_colour() -> None:
    """Each curve takes the colour at its place, and a line style that no other has."""
    figure = told_apart(traces({"a": [0, 1], "b": [1, 0], "c": [1, 1]}), (ATTACKED, CLEAN, PROVEN))
    assert [trace.line.color for trace in figure.data] == [ATTACKED, CLEAN, PROVEN]
    assert len({trace.line.dash for trace in figure.data}) == 3
