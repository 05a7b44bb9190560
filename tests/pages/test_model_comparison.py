"""The comparison page: its tables, cells not yet run, two models side by side, the exports."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from core import specs
from core.evaluation.tables import comparison, export
from core.storage import store
from tests.pages.compared import B, of, opened
from tests.pages.sweeps import LADDER, asked, at, plant, texts
from tests.pages.test_record_views import radii
from ui.measure import comparison_views

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab


def ranking(app: AppTest) -> pd.DataFrame:
    """The ranked table, by model."""
    return next(table.value for table in app.dataframe if "curve" in table.value).set_index("Model")


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
