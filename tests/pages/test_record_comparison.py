"""Records on the comparison page: who is more robust, whose checks count, what is not known at an ε."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.evaluation.tables import comparison, export
from core.storage import store
from tests.pages.compared import A, B, of, opened
from tests.pages.sweeps import LADDER, asked, at, plant, texts
from tests.pages.test_record_views import evaluation, radii
from ui.measure import comparison_views, order_views, record_views, reliability
from ui.measure.measured import figures

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def test_records_say_who_is_more_robust(lab: Lab) -> None:
    """Interval, medians and the exact test on the shared images, at any ε; what is level is not called better."""
    a, b = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    radii(lab, a, n=100, upper=0.4, lower=0.1)
    radii(lab, b, n=80, upper=0.2)
    radii(lab, b, n=80, norm="l2", upper=1.5)
    app = opened(lab, "Is A more robust than B?", a, b)
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception
    table = next(table.value for table in app.dataframe if "ℓ∞" in table.value).set_index("Model")
    assert table["ℓ∞"].tolist() == [0.4, 0.2]
    assert table.loc[B, "ℓ2"] == 1.5
    assert f"{A} is more robust than {B} (80 images against 0, of 80; p = 1.7e-24)" in texts(app)
    app.select_slider(key="model_comparison_at").set_value(0.1).run()
    assert "No difference shown between" in texts(app)
    table = figures(of(lab, a, b), 0.1)
    assert table[["proven", "attacked"]].iloc[0].tolist() == [1, 1]
    assert table["trust"].tolist() == ["– not checked"] * 2


@pytest.mark.parametrize("tab", ["Ranking", "Is A more robust than B?", "Five metrics"])
def test_slider_reads_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch, tab: str) -> None:
    """A move of ε is a lookup: medians, checks and tests come from memory, no folder is listed."""
    a, b = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    for model in (a, b):
        radii(lab, model, upper=0.2)
        radii(lab, model, norm="l2", upper=1.5)
    app = opened(lab, tab, a, b)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the slider must be a lookup")

    monkeypatch.setattr("core.evaluation.tables.records.merge", never)
    monkeypatch.setattr(store, "results", never)
    monkeypatch.setattr(store.Artifact, "table", never)
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception


def test_medians_of_other_norms_are_of_the_same_images(lab: Lab) -> None:
    """Radii in l2 of more images than linf's, with other distances there: only the shared ones count."""
    a = lab.model(accuracy=1.0)
    radii(lab, a, n=60, upper=0.2)
    radii(lab, a, n=200, norm="l2", upper=np.where(np.arange(200) < 60, 1.5, 4.0))
    found = record_views.read([a], "linf")
    assert order_views.medians([a], found, "linf").loc[a.id, "l2"] == 1.5


def test_models_of_different_images_are_not_tested(lab: Lab) -> None:
    """Image 3 of one data set is not image 3 of another: no test of the pair, on the page or in the exports."""
    a = lab.model(accuracy=1.0)
    b = lab.model(accuracy=1.0, data={"dataset": "digits", "classes": (4, 9)})
    radii(lab, a, n=60, upper=0.4)
    radii(lab, b, n=60, upper=0.2)
    app = opened(lab, "Is A more robust than B?", a, b)
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception
    assert any("not tested against each other" in warning.value for warning in app.warning)
    assert "is more robust than" not in texts(app)
    found = record_views.read([a, b], "linf")
    assert set(found[a.id].table["index"]) & set(found[b.id].table["index"])
    assert "paired tests" not in order_views.tables(found, [0.3], "linf"), "no table of nothing but heads"
    assert len(order_views.tests_at({"a": found[a.id], "b": found[a.id]}, {"a": "A", "b": "B"}, 0.3)) == 1


def test_single_attacks_alone_prove_no_order(lab: Lab) -> None:
    """A model that was only swept is not called more robust than one that was searched: its attack may be weak."""
    a, b = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    radii(lab, a, n=100, upper=0.05)
    plant(lab, b, right=(100, 100, 100))
    app = opened(lab, "Is A more robust than B?", a, b)
    assert not app.exception
    assert any(f"{B}: single attacks only" in warning.value for warning in app.warning)
    assert "is more robust than" not in texts(app)


def test_unequal_searches_are_told_and_prove_no_order(lab: Lab) -> None:
    """Sixty passes against two hundred: the page names both and calls neither model more robust."""
    a, b = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    radii(lab, a, n=100, upper=0.4, budget=60)
    radii(lab, b, n=100, upper=0.2, budget=200)
    app = opened(lab, "Is A more robust than B?", a, b)
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception
    assert f"searched unequally ({A}: radii of 60 passes; {B}: radii of 200 passes)" in texts(app)
    assert "is more robust than" not in texts(app)


def test_trust_is_that_of_this_eps_and_these_images_alone(lab: Lab) -> None:
    """Beside a figure of another ε, or of other images, there is no verdict: that is said, with the way to one."""
    model = lab.model(accuracy=1.0)
    radii(lab, model, n=100, upper=0.4)
    for eps in (0.3, 0.1):
        evaluation(lab, model, eps)
    evaluation(lab, model, 0.2, n=60)
    query = {"model_comparison_models": model.id, "model_comparison_fine": "true"}
    app = lab.open("model_comparison", **query, model_comparison_tab="Reliability")
    measured = of(lab, model)

    def told(eps: float) -> str:
        app.select_slider(key="model_comparison_at").set_value(eps).run()
        assert not app.exception
        return str(figures(measured, eps)["trust"].tolist()[0])

    for eps in (0.3, 0.1):
        assert told(eps) == "✓ nothing against it"
        assert [box.value for box in app.success if "Nothing speaks against" in box.value]
        assert "No reliability checks" not in texts(app)
    assert figures(measured, 3 * 0.1)["trust"].tolist() == ["✓ nothing against it"]
    for eps in (0.28, 0.12, 0.2):
        assert told(eps) == "– not checked"
        assert not app.success
        assert f"No reliability checks at ε = {eps:g} in ℓ∞ on these 100 images" in texts(app)
        assert f"--eps {eps!r} --n 100" in texts(app)
    reports = {model.id: reliability.reports_of(model.id, "linf")}
    lines = [line.split(" · ")[1] for line in reliability.trust_lines(reports)]
    assert lines == [f"evaluation at ε {eps:g}" for eps in (0.2, 0.1, 0.3)]
    exported = order_views.tables(record_views.read([model], "linf"), [0.1], "linf")["trust reports"]
    assert sorted(exported["eps"]) == [0.1, 0.2, 0.3]
    assert exported["report"].str.startswith("reliability checks: pass").all()


@pytest.mark.parametrize("page", ["model_comparison", "epsilon_sweep"])
def test_button_makes_the_checks_of_this_eps(lab: Lab, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    """An evaluation at the slider's ε, on the images shown."""
    model = lab.model(accuracy=1.0)
    radii(lab, model, n=80, upper=0.4)
    submitted = asked(monkeypatch)
    app = lab.open(page, **{f"{page}_models": model.id, f"{page}_tab": "Reliability"})
    app.select_slider(key=f"{page}_at").set_value(0.3).run()
    app.button(key=f"{page}_judge").click().run()
    assert submitted == [specs.EvaluateSpec(model=model.id, eps=0.3, n=80)]


@pytest.mark.parametrize("page", ["model_comparison", "epsilon_sweep"])
def test_an_evaluation_by_another_schedule_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    """On the page, with a button that evaluates by the present one, and in exports; one by that one says nothing."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 0.3, n=80, schedule="0123abcd")
    evaluation(lab, model, 0.2, n=80)
    submitted = asked(monkeypatch)
    app = lab.open(page, **{f"{page}_models": model.id, f"{page}_tab": "Reliability", f"{page}_at": "0.2"})
    assert "schedule of attacks" not in texts(app)
    app.select_slider(key=f"{page}_at").set_value(0.3).run()
    assert "This evaluation was made by another schedule of attacks (0123abcd)" in texts(app)
    app.button(key=f"{page}_present_schedule").click().run()
    assert submitted == [specs.EvaluateSpec(model=model.id, eps=0.3, n=80, effort="quick", seed=1)]
    reports = {model.id: reliability.reports_of(model.id, "linf")}
    assert ["another schedule" in line for line in reliability.trust_lines(reports)] == [False, True]
    exported = order_views.tables(record_views.read([model], "linf"), [0.1], "linf")["trust reports"]
    assert ["another schedule" in said for said in exported["schedule"]] == [False, True]


@pytest.mark.parametrize("page", ["model_comparison", "epsilon_sweep"])
def test_page_says_nothing_of_an_eps_that_was_not_searched(lab: Lab, page: str) -> None:
    """An evaluation at .3 that fooled every image: at .1 no accuracy, no verdict, no proof; at .3 all there is."""
    model = lab.model(accuracy=0.995)
    evaluation(lab, model, 0.3, n=60, upper=0.3)
    app = lab.open(page, **{f"{page}_models": model.id, f"{page}_at": "0.1"})
    column, interval = ("attacked", "interval") if page == "model_comparison" else ("all", "between")

    def row() -> pd.Series:
        return next(table.value for table in app.dataframe if interval in table.value).set_index("Model").iloc[0]

    assert app.select_slider(key=f"{page}_at").value == 0.1
    assert row()[["proven", column]].isna().all()
    assert row()[interval] == "–"
    assert row()["trust"] == "– not checked"
    assert "60 of 60 images were not searched at this ε (searched at ε = 0.3)" in texts(app)
    app.select_slider(key=f"{page}_at").set_value(0.3).run()
    assert row()[column] == 0
    assert np.isnan(row()["proven"]), "no proof was tried"
    assert row()["trust"] == "✓ nothing against it"
    measured = of(lab, model)
    assert figures(measured, 0.1)[["attacked", "median", "passes"]].isna().all(axis=None)
    assert figures(measured, 0.3)["passes"].tolist() == [15]
    assert figures(measured, 0.3)["median"].isna().all(), "the ε of an evaluation is no measured distance"
    for eps, shown in ((0.1, False), (0.3, True)):
        app.session_state[f"{page}_tab"] = "Reliability"
        app.select_slider(key=f"{page}_at").set_value(eps).run()
        assert bool(app.success) == shown
        assert ("Nothing speaks against" in texts(app) + "".join(box.value for box in app.success)) == shown
        assert (f"No reliability checks at ε = {eps:g}" in texts(app)) != shown


def test_first_view_stands_where_something_is_known(lab: Lab) -> None:
    """Not at an ε of which only dashes are known."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 8 / 255, n=60)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)
    assert app.select_slider(key="epsilon_sweep_at").value == 8 / 255
    assert at(app)["all"].tolist() == [100]


def test_images_of_the_smaller_evaluation_can_be_chosen(lab: Lab) -> None:
    """Evaluated on 100 images at .1 and on 60 at .3: of the first 60, both ε are known, with their checks."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 0.1)
    evaluation(lab, model, 0.3, n=60, upper=0.3)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_at="0.3")
    assert at(app)["all"].isna().all()
    assert at(app)["trust"].tolist() == ["– not checked"]
    app.selectbox(key="epsilon_sweep_record_n").select("60").run()
    assert not app.exception
    assert at(app)[["n", "all"]].iloc[0].tolist() == [60, 0]
    assert at(app)["trust"].tolist() == ["✓ nothing against it"]


def test_exports_leave_the_unknown_empty(lab: Lab) -> None:
    """CSV empty, JSON null, Excel an empty cell, Markdown and LaTeX a dash; a column says why."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 0.3, n=60, upper=0.3)
    found = record_views.read([model], "linf")
    tables = order_views.tables(found, [0.1, 0.3], "linf")
    made = comparison.compare(specs.CompareSpec(models=(model.id,), eps=LADDER, n=100), lab.root)
    files = comparison_views.files(made, tables, [])
    rows = json.loads(files["json"][2])["proven and attacked"]
    assert [(row["eps"], row["proven"], row["attacked"]) for row in rows] == [(0.1, None, None), (0.3, None, 0)]
    assert "not searched at this ε" in rows[0]["note"]
    sheet = pd.read_excel(io.BytesIO(files["xlsx"][2]()), sheet_name="proven and attacked")
    assert sheet["attacked"].isna().tolist() == [True, False]
    assert sheet["proven"].isna().all()
    shown = comparison_views.ranking(of(lab, model), 0.1)
    for ending, unknown in (("md", "–"), ("tex", r"{\textendash}")):
        text = export.to_text(shown, ending, "", ("proven", "attacked"))
        assert "attacked" in text
        assert unknown in text
        assert "nan" not in text
    back = pd.read_csv(io.StringIO(export.to_text(shown, "csv", "x")))
    assert back["attacked"].isna().all()
