"""The comparison page: its tables, cells not yet run, two models side by side, the exports."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.evaluation.tables import comparison, export
from core.storage import store
from tests.pages.test_epsilon_sweep import LADDER, asked, at, plant, texts
from tests.pages.test_record_views import evaluation, radii
from ui.measure import comparison_views, order_views, record_views, reliability, sweep_views
from ui.measure.measured import Measured, figures
from ui.show import model_names

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab


A, B = "Linear · standard", "Dense · standard"


def of(lab: Lab, *models: Any, attacks: tuple[str, ...] = ("pgd",), norm: str = "linf") -> Measured:
    """What is known of these models, as the page reads it."""
    spec = specs.CompareSpec(models=tuple(model.id for model in models), attacks=attacks, eps=LADDER, n=100)
    curves, missing = sweep_views.read(spec, models)
    names, found = model_names.short_names(models), record_views.read(models, norm)
    return Measured("page", spec, list(models), names, norm, curves, missing, found)


def ranking(app: AppTest) -> pd.DataFrame:
    """The ranked table, by model."""
    return next(table.value for table in app.dataframe if "curve" in table.value).set_index("Model")


def opened(lab: Lab, tab: str, *models: Any, **query: Any) -> AppTest:
    """The page at one of its tabs, with sweeps of 100 images."""
    chosen = {"model_comparison_models": [model.id for model in models]} if models else {}
    fixed = {"model_comparison_n": "100", "model_comparison_eps": "0 0.1 0.3"} if models else {}
    return lab.open("model_comparison", **chosen, **fixed, **query, model_comparison_tab=tab)


def test_table_is_ranked_and_says_what_was_not_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a model, the most robust first; empty cells where nothing was run, one job for all of them."""
    weak, bare, robust = lab.model(accuracy=0.95), lab.model(network="mlp"), lab.model(accuracy=0.95, seed=2)
    plant(lab, weak)
    plant(lab, robust, right=(90, 80, 60))
    submitted = asked(monkeypatch)
    app = opened(lab, "Ranking", weak, bare, robust, model_comparison_attacks="fgsm")
    table = ranking(app)
    assert table["id"].tolist() == [robust.id, weak.id, bare.id]
    assert table["attacked"].tolist()[:2] == pytest.approx([80, 60])
    assert table["interval"].tolist()[1:] == ["49.7–69.7", "–"]
    assert table["curve"].tolist()[1] == pytest.approx([0.95, 0.6, 0.05])
    assert table.loc[B, ["attacked", "proven"]].isna().all()
    assert table.loc[B, "trust"] == "– not checked"
    assert table.loc[B, "clean"] == pytest.approx(90)
    assert "1 of 3 not run yet" in texts(app)
    app.button(key="model_comparison_run").click().run()
    assert submitted == [specs.CompareSpec(models=(weak.id, bare.id, robust.id), eps=LADDER, n=100)]


@pytest.mark.parametrize("tab", [*("Ranking", "Side by side", "Is A more robust than B?", "Who fools whom"), "Export"])
def test_tab_opens_from_the_address_on_a_store_with_nothing_run(lab: Lab, tab: str) -> None:
    """What is missing is said as missing."""
    app = opened(lab, tab, lab.model(), lab.model(network="mlp"))
    assert "not run yet" in texts(app).lower()
    assert (tab == "Ranking") == any("curve" in table.value for table in app.dataframe)
    assert not [button.key for button in app.get("download_button")]


@pytest.mark.parametrize("dataset", ["digits", "digits28"])
def test_models_that_are_not_measured_yet_stand_beside_bundled_figures(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    """After a first training the page opens with figures as before, and with the new model, newest first."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    own = [lab.model(data={"dataset": dataset}, seed=seed) for seed in range(3)]
    table = ranking(lab.open("model_comparison"))
    assert [model.id in set(table["id"]) for model in own] == [False, True, True]
    assert table["attacked"].notna().sum() >= 2
    assert table.loc[table["id"].isin([model.id for model in own]), "attacked"].isna().all()


def test_tables_of_set_three_follow_the_slider(lab: Lab) -> None:
    """Clean and adversarial beside each other, with the calibration gap."""
    plant(lab, lab.model())
    app = opened(lab, "Five metrics")
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception
    table = app.table[0].value
    assert list(table.columns) == ["clean", "FGSM"]
    assert list(table.index) == list(comparison_views.LAYOUT.values())
    assert table.loc["Correctly predicted"].tolist() == ["0.9500", "0.0500"]
    assert table.loc["Calibration gap"].tolist() == ["-0.1500", "+0.7500"]
    keys = [button.key for button in app.get("download_button")]
    assert [f"model_comparison_download_five_metrics_{ending}" in keys for ending in ("csv", "md", "tex", "xlsx")] == [
        True
    ] * 4


def test_clean_column_without_zero_in_the_ladder(lab: Lab) -> None:
    """It comes from the model's own table of the test set, for the same images."""
    plant(lab, lab.model(accuracy=0.9), eps=(0.1, 0.2), right=(60, 5))
    app = opened(lab, "Five metrics")
    assert app.table[0].value.loc["Correctly predicted"].tolist() == ["1.0000", "0.6000"]


def test_set_three_is_exported_as_it_is_shown(lab: Lab) -> None:
    """Two columns, clean and adversarial, a row a metric, shares; what is unknown at an ε is empty."""
    model = lab.model()
    plant(lab, model)
    measured = of(lab, model, attacks=("fgsm",))
    table = comparison_views.five_metrics(measured, 0.3)
    back = pd.read_csv(io.StringIO(export.to_text(table, "csv", "x")))
    assert list(back.columns) == ["metric", "clean", "FGSM"]
    assert back["metric"].tolist() == list(comparison_views.LAYOUT.values())
    assert back["FGSM"].tolist()[:3] == [0.05, 0.95, 0.8]
    assert comparison_views.five_metrics(measured, 0.2)["FGSM"].isna().all()


def test_two_models_on_the_same_images(lab: Lab) -> None:
    """Counts of who classifies what correctly, and McNemar's exact p."""
    a, b = lab.model(), lab.model(network="mlp", seed=0)
    plant(lab, a, right=(95, 60, 5))
    plant(lab, b, right=(95, 20, 5))
    app = opened(lab, "Side by side", a, b, model_comparison_attacks="fgsm")
    counts = {metric.label: metric.value for metric in app.metric}
    assert counts == {"Both right": "20", "Only A right": "40", "Only B right": "0", "Both wrong": "40"}
    assert "beyond what chance explains" in texts(app)
    app.selectbox(key="model_comparison_a").select(b.id).run()
    assert not app.exception
    other = app.selectbox(key="model_comparison_b")
    assert other.value == a.id
    assert other.proto.set_value  # else the browser goes on showing B, while the figures are A's
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert "The two are level" in texts(app)


def test_two_selected_rows_are_those_of_side_by_side(lab: Lab) -> None:
    """The first is A, the second B; a button opens the tab."""
    models = [lab.model(seed=seed) for seed in range(3)]
    for place, model in enumerate(models):
        plant(lab, model, right=(95, 60 - 20 * place, 5))
    app = opened(lab, "Ranking", *models, model_comparison_attacks="fgsm")
    assert ranking(app)["id"].tolist() == [model.id for model in models]
    app.session_state["model_comparison_ranking"] = {"selection": {"rows": [2, 0], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    app.button(key="model_comparison_compare").click().run()
    assert not app.exception
    assert [app.selectbox(key=f"model_comparison_{one}").value for one in "ab"] == [models[2].id, models[0].id]


def test_one_model_alone_is_no_error(lab: Lab) -> None:
    """The side by side says what it needs."""
    plant(lab, lab.model())
    assert "Choose and run two models" in texts(opened(lab, "Side by side"))


def test_models_of_different_data_are_warned_of(lab: Lab) -> None:
    """Rows of different data sets are not comparable, and A against B is refused."""
    one, other = lab.model(), lab.model(data={"dataset": "digits", "classes": (4, 9)})
    plant(lab, one)
    plant(lab, other)
    app = opened(lab, "Ranking", one, other, model_comparison_attacks="fgsm")
    assert any("different data sets" in warning.value for warning in app.warning)


@pytest.mark.parametrize("kind", ["images", "attacks"])
def test_rows_that_are_not_comparable_are_warned_of(lab: Lab, kind: str) -> None:
    """Other numbers of images, or other searches at this ε; models that were attacked alike are not warned of."""
    one, other = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    for model in (one, other):
        plant(lab, model, right=(100, 60, 5))
    alike = [warning.value for warning in opened(lab, "Ranking", one, other, model_comparison_attacks="fgsm").warning]
    assert not [text for text in alike if "not attacked alike" in text or "different numbers" in text]
    plant(lab, other, right=(100, 60, 5), attack="pgd") if kind == "attacks" else radii(lab, other, n=50)
    app = opened(lab, "Ranking", one, other, model_comparison_attacks="fgsm")
    assert any("not attacked alike" in warning.value for warning in app.warning)


def test_exports_and_the_way_to_the_curves(lab: Lab) -> None:
    """Five formats, the provenance on the page, and the same settings in the epsilon sweep."""
    model = lab.model()
    plant(lab, model, attack={"name": "pgd", "steps": 7})
    app = opened(lab, "Export")
    keys = [button.key for button in app.get("download_button")]
    assert [f"model_comparison_download_{ending}" in keys for ending in ("csv", "md", "tex", "json", "xlsx")] == [
        True
    ] * 5
    assert "pgd(steps=7)" in texts(app)
    app.button(key="model_comparison_open").click().run()
    assert not app.exception
    assert app.title[0].value == "Epsilon sweep"
    assert app.number_input(key="epsilon_sweep_pgd_steps").value == 7
    assert at(app)["PGD ℓ∞, steps 7"].tolist() == [60]


def test_exports_name_the_origin_of_every_table(lab: Lab) -> None:
    """JSON and Excel hold tables of several origins: each has its line, and trust reports go with the figures."""
    model = lab.model()
    plant(lab, model)
    made = comparison.compare(specs.CompareSpec(models=(model.id,), eps=LADDER, n=100), lab.root)
    more = {"transfer": pd.DataFrame({"surrogate": ["a"], "rate": [0.5]})}
    files = comparison_views.files(made, more, ["transfer: MI-FGSM · ε 0.1"])
    body = json.loads(files["json"][2])
    assert (body["provenance"], body["sources"]) == (made.provenance(), ["transfer: MI-FGSM · ε 0.1"])
    sheet = pd.read_excel(io.BytesIO(files["xlsx"][2]()), sheet_name="provenance")
    assert sheet["provenance"].tolist() == [made.provenance(), "transfer: MI-FGSM · ε 0.1"]


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


def test_transfer_matrix_is_run_and_drawn(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One button makes it; once there it is a heat map with a row a cell to take away."""
    a, b = lab.model(), lab.model(network="mlp")
    submitted = asked(monkeypatch)
    app = opened(lab, "Who fools whom", a, b)
    app.number_input(key="model_comparison_transfer_n").set_value(200).run()
    app.button(key="model_comparison_transfer_run").click().run()
    spec = specs.TransferSpec(models=(a.id, b.id), eps=0.1, n=200)
    assert submitted == [spec]
    rows = [
        {
            "surrogate": one,
            "victim": other,
            "n": 200,
            "counted": 190 + 5 * (one == other),
            "rate": 0.25 if one == a.id else 0.5,
        }
        for one in (a.id, b.id)
        for other in (a.id, b.id)
    ]
    store.write(spec, lab.root, card={"rows": rows, "cost": {a.id: 20.0, b.id: 20.0}, "n": 200})
    app.run()
    assert not app.exception
    assert "images that both classify correctly unchanged: 190 to 195 of 200" in texts(app)
    assert any(button.key == "model_comparison_download_transfer_csv" for button in app.get("download_button"))


def test_auditor_finds_the_misprint_of_the_published_table(lab: Lab) -> None:
    """One click puts the table in; the row and the digits are named. What is no table is one plain sentence."""
    lab.model()
    app = opened(lab, "Check a published table")
    app.button(key="model_comparison_audit_example").click().run()
    assert not app.exception
    table = next(table.value for table in app.dataframe if "could be" in table.value).set_index("row")
    assert table["verdict"].tolist() == ["✓ holds", "✓ holds", "✗ fails", "✓ holds"]
    assert table.loc["trained, clean", "could be"].startswith("confidence .9712 instead of .9721")
    app.text_area(key="model_comparison_audit").set_value("no table at all").run()
    assert "No table of the five metrics was found" in texts(app)


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
