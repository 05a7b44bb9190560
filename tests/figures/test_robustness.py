"""The chart of the measuring pages: attacked, proven and unknown are told apart, and every point says what it means."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from core.figures.base import ATTACKED, CLEAN, PROVEN, mark, model_colour
from core.figures.robustness import Line, robustness

EPS = np.array([0.0, 0.1, 0.2, 0.3])


def measured(model: str = "A", place: int = 0, attack: str = "PGD", style: int = 0, *shares: float) -> Line:
    """A sweep of 100 images."""
    share = np.array(shares or (0.9, 0.6, 0.3, 0.0))
    return Line(model, "measured", EPS, share, 100, place, np.maximum(0, share - 0.1), share + 0.05, attack, style)


def proven(model: str = "A", place: int = 0) -> Line:
    """Known up to 0.1 only."""
    return Line(model, "proven", EPS, np.array([0.9, 0.2, np.nan, np.nan]), 100, place)


def drawn(figure: go.Figure, name: str) -> go.Scatter:
    """The line of this name."""
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def test_one_model_has_the_colours_of_what_was_done_and_several_have_their_own() -> None:
    """Never by colour alone: proven is dotted, an attack is not, and unchanged images are a diamond."""
    one = robustness([measured(), proven()], clean={"A": (0, 0.9)})
    assert (drawn(one, "A, PGD").line.color, drawn(one, "A, proven").line.color) == (ATTACKED, PROVEN)
    assert (drawn(one, "A, PGD").line.dash, drawn(one, "A, proven").line.dash) == ("solid", "dot")
    assert drawn(one, "A, clean").marker.color == CLEAN
    assert drawn(one, "A, clean").marker.symbol == "diamond-open"
    two = robustness([measured(), proven(), measured("B", 1)])
    assert [drawn(two, f"{name}, PGD").line.color for name in "AB"] == [model_colour(0), model_colour(1)]
    assert drawn(two, "A, proven").line.color == model_colour(0)
    assert not {model_colour(place) for place in range(5)} & {CLEAN, ATTACKED, PROVEN}


def test_measured_points_are_joined_and_exact_ones_are_steps() -> None:
    """A straight line claims nothing of what lies between; a step does."""
    figure = robustness([measured(), proven(), Line("A", "found", EPS, np.ones(4), 100)])
    shapes = {name: drawn(figure, name).line.shape for name in ("A, PGD", "A, proven", "A, all attacks")}
    assert shapes == {"A, PGD": "linear", "A, proven": "hv", "A, all attacks": "hv"}


def test_what_is_unknown_is_a_gap_without_a_text() -> None:
    """No point, no hover, and a lone known point is seen."""
    share = np.array([0.9, np.nan, 0.5, np.nan])
    figure = robustness([Line("A", "found", EPS, share, 100)])
    line = drawn(figure, "A, all attacks")
    assert line.connectgaps is False
    assert [bool(text) for text in line.hovertext] == [True, False, True, False]
    assert list(line.marker.size) == [8, 0, 8, 0]


def test_hover_says_what_a_point_means_in_both_scales() -> None:
    """With n and the interval."""
    figure = robustness([measured(), proven()])
    text = drawn(figure, "A, PGD").hovertext[1].replace("<br>", " ")
    assert text == "ε = 0.1 (25.5/255): under PGD, A gets 60.0 % of 100 images right 95 % interval 50.0 to 65.0 %"
    assert "No change up to ε = 0.1 (25.5/255) can fool A" in drawn(figure, "A, proven").hovertext[1]
    other = robustness([measured()], grey=False, unit="features changed")
    assert "/255" not in drawn(other, "A, PGD").hovertext[1]
    ticks = robustness([measured()], ticks=EPS.tolist()).layout.xaxis.ticktext
    assert ticks[1] == "0.1<br><i>25.5</i>"


def boxes(figure: go.Figure) -> list[tuple[str, float, float]]:
    """Text and place of the labels beside the lines."""
    return [(note.text, note.x, note.y) for note in figure.layout.annotations if not note.text.startswith("chance")]


def test_labels_stand_at_their_lines_and_a_legend_where_they_do_not_fit() -> None:
    """One a model, at one of its points; two lines that are the same leave no room for both."""
    apart = robustness([measured("A", 0, "PGD", 0, 0.95, 0.9, 0.9, 0.9), measured("B", 1)])
    assert {text for text, _, _ in boxes(apart)} == {"A", "B"}
    for text, x, y in boxes(apart):
        line = drawn(apart, f"{text}, PGD")
        assert (x, y) in list(zip(line.x, line.y, strict=True))
    assert apart.layout.showlegend is False
    crowd = [measured(f"Model number {k}", k, "PGD", 0, *(0.5 + 0.01 * k * np.ones(4))) for k in range(30)]
    full = robustness(crowd)
    assert len(boxes(full)) < 30
    assert full.layout.showlegend is True


def test_several_attacks_are_told_apart_by_their_dash_in_the_legend() -> None:
    """Models are named at their lines, attacks in the legend."""
    lines = [
        measured("A", 0, "FGSM", 0, 0.9, 0.9, 0.85, 0.8),
        measured("A", 0, "PGD", 1, 0.9, 0.85, 0.7, 0.65),
        measured("B", 1, "FGSM", 0),
        measured("B", 1, "PGD", 1, 0.9, 0.4, 0.1, 0.0),
    ]
    figure = robustness(lines)
    named = [trace for trace in figure.data if trace.showlegend is not False]
    assert [(trace.name, trace.line.dash) for trace in named] == [("FGSM", "solid"), ("PGD", "dash")]


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_the_mark_moves(eps: float) -> None:
    """As a slider does, without a new figure."""
    figure = mark(robustness([measured()], marked=0.1, chance=0.1), eps)
    assert [shape.x0 for shape in figure.layout.shapes if shape.name == "marked"] == [eps]
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert figure.to_json()
