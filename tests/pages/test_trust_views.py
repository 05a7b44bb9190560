"""A trust report on a page and as figures: the verdict first, every check with what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.evaluation.trust.report import MARKS, Check, Surface, Trust
from core.evaluation.trust.rules import RULES
from core.figures.trust import SHADES, attacks, loss_landscape, loss_surface, strip
from ui.measure import trust_views

BAD = {"gradients": 0.9, "cosine": 0.1}


def made(bad: dict[str, float] | None = None) -> Trust:
    """A report in which these checks measured something bad; two are skipped."""
    values: dict[str, float | None] = {name: 0.5 if rule.below else 0.0 for name, rule in RULES.items()}
    values |= {"proven": None, "missed": None} | (bad or {})
    checks = tuple(Check.of(name, value, f"Measured {value}.", 100) for name, value in values.items())
    surface = Surface(7, 3, (-1.0, 0.0, 1.0), ((2.0, 1.0, -1.0), (2.0, 1.0, -0.5), (2.0, 0.5, -2.0)))
    accuracy = {"clean": 0.9, "one step": 0.6, "20 steps": 0.5, "all of the report": 0.5}
    ladder = ((0.0, 0.9), (0.05, 0.7), (0.1, 0.5))
    return Trust(checks, "linf", 0.1, 100, 0, "quick", accuracy, ladder, (surface,), 40_000, 20_000)


def drawn(trust: Any, *, unfolded: bool = False) -> AppTest:
    """A page of nothing but the report."""

    def page(given: object, unfolded: bool) -> None:
        from ui.measure.trust_views import show_trust

        show_trust(given, open_pictures=unfolded)  # type: ignore[arg-type]

    app = AppTest.from_function(page, args=(trust, unfolded), default_timeout=300).run()
    assert not app.exception, app.exception[0].value
    return app


@pytest.mark.parametrize(("bad", "kind"), [({}, "success"), ({"cosine": 0.1}, "warning"), (BAD, "error")])
def test_overall_word_comes_first(bad: dict[str, float], kind: str) -> None:
    """One box by the worst verdict, with the reasons and what to do."""
    trust = made(bad)
    app = drawn(trust.to_json())
    boxes = {name: getattr(app, name) for name in ("success", "warning", "error")}
    assert [name for name, found in boxes.items() if len(found)] == [kind]
    text = boxes[kind][0].value
    assert trust_views.WORDS[trust.verdict] in text
    for name in bad:
        assert RULES[name].sign.lower() in text.lower()
        assert trust.check(name).said in text
    listed = " ".join(part.value for part in app.markdown)
    for check in trust.doubts():
        assert check.finding in listed
        assert check.advice in listed


def test_every_check_is_listed_worst_first() -> None:
    """Verdict, measured, limits, finding."""
    app = drawn(made(BAD))
    (frame,) = app.dataframe
    rows = frame.value
    assert len(rows) == len(RULES)
    assert rows["Verdict"].tolist()[:2] == [f"{MARKS['fail']} fail", f"{MARKS['warn']} warn"]
    assert rows["Check"].tolist()[0] == RULES["gradients"].title
    assert rows["Measured"].tolist()[:2] == ["90 %", "0.1"]
    assert (rows["Finding"] != "").all()
    assert (rows["Limits"] != "").all()


def test_surfaces_turn_into_landscapes() -> None:
    """A toggle draws the same margins in three dimensions; folded, nothing is drawn at all."""
    assert not drawn(made()).get("plotly_chart")
    app = drawn(made(), unfolded=True)

    def kinds() -> list[str]:
        specs = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
        return [spec["data"][0]["type"] for spec in specs]

    assert kinds() == ["heatmap", "bar", "heatmap"]
    app.toggle(key="trust_solid").set_value(True).run()
    assert not app.exception
    assert kinds() == ["heatmap", "bar", "surface"]


def test_no_report_is_said() -> None:
    """Without a report the page says so, and a table's cell too."""
    assert "No reliability checks" in drawn(None).info[0].value
    assert trust_views.word(None) == "– not checked"
    assert trust_views.word(made(BAD)) == "✗ do not believe"


def test_strip_signs_every_check() -> None:
    """Colour and sign by verdict, a cell a check, in order; each cell's colour is its verdict's."""
    trust = made(BAD)
    figure = strip(trust)
    assert tuple(figure.layout.xaxis.autotickangles) == (-45, -90)  # upright where they would lie over each other
    (cells,) = figure.data
    assert list(cells.text[0]) == [MARKS[check.verdict] for check in trust.checks]
    order = list(SHADES)
    for value, check in zip(cells.z[0], trust.checks, strict=True):
        place = (value - cells.zmin) / (cells.zmax - cells.zmin)
        below = [shade for stop, shade in cells.colorscale if stop <= place]
        assert below[-1] == SHADES[check.verdict]
        assert order[int(value)] == check.verdict


def test_surfaces_draw_what_was_measured() -> None:
    """Margins as they are, a line where the answer changes, and none where it never does."""
    (surface,) = made().surfaces
    figure = loss_surface(surface)
    assert [list(row) for row in figure.data[0].z] == [list(row) for row in surface.margin]
    assert [part.type for part in figure.data] == ["heatmap", "contour", "scatter"]
    safe = replace(surface, margin=((1.0, 1.0, 1.0),) * 3)
    assert [part.type for part in loss_surface(safe).data] == ["heatmap", "scatter"]
    landscape = loss_landscape(surface)
    assert [list(row) for row in landscape.data[0].z] == [list(row) for row in surface.margin]


def test_attacks_draw_accuracies_and_ladder() -> None:
    """A bar an attack, a point a size of the ball; figures are JSON on transparent paper."""
    trust = made()
    figure = attacks(trust)
    assert dict(zip(figure.data[0].x, figure.data[0].y, strict=True)) == trust.accuracy
    assert tuple(zip(figure.data[1].x, figure.data[1].y, strict=True)) == trust.ladder
    for made_figure in (figure, strip(trust), loss_landscape(trust.surfaces[0])):
        assert made_figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
        assert made_figure.to_json()
