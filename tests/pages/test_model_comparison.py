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
from core.evaluation.trust.report import Trust
from core.storage import store
from tests.pages.test_epsilon_sweep import LADDER, asked, five, plant, texts
from tests.pages.test_record_views import radii
from ui.measure import comparison_views, record_views, robust_views

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def test_table_says_what_was_not_run_and_one_button_runs_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a model, empty cells where nothing was run, one job for all of them."""
    run, other = lab.model(accuracy=0.95), lab.model(network="mlp")
    plant(lab, run)
    submitted = asked(monkeypatch)
    app = lab.open(
        "model_comparison",
        model_comparison_models=[run.id, other.id],
        model_comparison_n="100",
        model_comparison_eps="0 0.1 0.3",
    )
    table = app.dataframe[0].value.set_index("Model")
    assert table.loc["Linear", "FGSM"] == pytest.approx(60)
    assert table.loc["Linear", "FGSM, interval"] == "49.7–69.7"
    assert list(table.loc["Linear", "FGSM, curve"]) == pytest.approx([0.95, 0.6, 0.05])
    assert table.loc["Linear", "Test"] == pytest.approx(95)
    assert table["FGSM"].isna()["Dense"]
    assert "1 of 2 not run yet" in texts(app)
    app.button(key="model_comparison_run").click().run()
    assert submitted == [specs.CompareSpec(models=(run.id, other.id), eps=LADDER, n=100)]


def test_tables_of_set_three_follow_the_slider(lab: Lab) -> None:
    """Clean and adversarial beside each other, with the calibration gap."""
    plant(lab, lab.model())
    app = lab.open("model_comparison")
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception
    table = app.table[0].value
    assert list(table.columns) == ["clean", "FGSM"]
    assert list(table.index) == list(comparison_views.LAYOUT.values())
    assert table.loc["Correctly predicted"].tolist() == ["0.9500", "0.0500"]
    assert table.loc["Calibration gap"].tolist() == ["-0.1500", "+0.7500"]


def test_clean_column_without_zero_in_the_ladder(lab: Lab) -> None:
    """It comes from the model's own table of the test set, for the same images."""
    plant(lab, lab.model(accuracy=0.9), eps=(0.1, 0.2), right=(60, 5))
    app = lab.open("model_comparison")
    assert app.table[0].value.loc["Correctly predicted"].tolist() == ["1.0000", "0.6000"]


def test_two_models_on_the_same_images(lab: Lab) -> None:
    """Counts of who reads what, and McNemar's exact p."""
    a, b = lab.model(), lab.model(network="mlp", seed=0)
    plant(lab, a, right=(95, 60, 5))
    plant(lab, b, right=(95, 20, 5))
    app = lab.open(
        "model_comparison",
        model_comparison_models=[a.id, b.id],
        model_comparison_n="100",
        model_comparison_eps="0 0.1 0.3",
    )
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


def test_choice_of_models_shows_their_names_of_now(lab: Lab) -> None:
    """A third model may lengthen the names of the others: the browser is told, or it shows those of before."""
    models = [lab.model(), lab.model(network="mlp", seed=0), lab.model(recipe={"name": "pgd"})]
    for model in models:
        plant(lab, model)
    fields = {"model_comparison_n": "100", "model_comparison_eps": "0 0.1 0.3"}
    app = lab.open("model_comparison", model_comparison_models=[model.id for model in models[:2]], **fields)
    before = app.selectbox(key="model_comparison_a")
    app.multiselect(key="model_comparison_models").set_value([model.id for model in models]).run()
    assert not app.exception
    after = app.selectbox(key="model_comparison_a")
    assert (before.options[0], after.options[0]) == ("Linear", "Linear Standard")
    assert after.value == before.value
    assert after.proto.set_value


def test_one_model_alone_is_no_error(lab: Lab) -> None:
    """The side by side says what it needs."""
    plant(lab, lab.model())
    assert "Choose and run two models" in texts(lab.open("model_comparison"))


def test_models_of_different_data_are_warned_of(lab: Lab) -> None:
    """Rows of different data sets are not comparable, and A against B is refused."""
    one, other = lab.model(), lab.model(data={"dataset": "digits", "classes": (4, 9)})
    plant(lab, one)
    plant(lab, other)
    app = lab.open(
        "model_comparison",
        model_comparison_models=[one.id, other.id],
        model_comparison_n="100",
        model_comparison_eps="0 0.1 0.3",
    )
    assert any("different data sets" in warning.value for warning in app.warning)


def test_exports_and_the_way_to_the_curves(lab: Lab) -> None:
    """Five formats, the provenance on the page, and the same settings in the epsilon sweep."""
    model = lab.model()
    plant(lab, model, attack={"name": "pgd", "steps": 7})
    app = lab.open("model_comparison")
    keys = [button.key for button in app.get("download_button")]
    assert [f"model_comparison_download_{ending}" in keys for ending in ("csv", "md", "tex", "json", "xlsx")] == [
        True
    ] * 5
    assert "pgd(steps=7)" in texts(app)
    app.button(key="model_comparison_open").click().run()
    assert not app.exception
    assert app.title[0].value == "Epsilon sweep"
    assert app.number_input(key="epsilon_sweep_pgd_steps").value == 7
    assert five(app)["accuracy"].tolist() == [60]


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
    app = lab.open("model_comparison", model_comparison_models=[a.id, b.id])
    app.slider(key="model_comparison_record_at_linf").set_value(0.3).run()
    assert not app.exception
    table = next(table.value for table in app.dataframe if "median linf" in table.value).set_index("Model")
    assert table["n"].tolist() == [80, 80]
    assert table.loc["Linear", ["proven", "attacked", "median linf"]].tolist() == [0, 100, 0.4]
    assert table.loc["Dense", ["attacked", "median linf", "median l2"]].tolist() == [0, 0.2, 1.5]
    assert (table["trust"] == "– no report").all()
    assert "Linear is more robust than Dense (80 images against 0, of 80; p = 1.7e-24)" in texts(app)
    app.slider(key="model_comparison_record_at_linf").set_value(0.1).run()
    assert "No difference shown between" in texts(app)


def test_slider_of_records_reads_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move of ε is a lookup: medians, trust reports and tests come from memory, no folder is listed."""
    a, b = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    for model in (a, b):
        radii(lab, model, upper=0.2)
        radii(lab, model, norm="l2", upper=1.5)
    app = lab.open("model_comparison", model_comparison_models=[a.id, b.id])

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the slider must be a lookup")

    monkeypatch.setattr("core.evaluation.tables.records.merge", never)
    monkeypatch.setattr(store, "results", never)
    monkeypatch.setattr(store.Artifact, "table", never)
    app.slider(key="model_comparison_record_at_linf").set_value(0.1).run()
    assert not app.exception


def test_medians_of_other_norms_are_of_the_same_images(lab: Lab) -> None:
    """Radii in l2 of more images than linf's, with other distances there: only the shared ones count."""
    a = lab.model(accuracy=1.0)
    radii(lab, a, n=60, upper=0.2)
    radii(lab, a, n=200, norm="l2", upper=np.where(np.arange(200) < 60, 1.5, 4.0))
    found = record_views.read([a], "linf")
    assert robust_views.medians([a], found, "linf").loc[a.id, "l2"] == 1.5


def test_models_of_different_images_are_not_tested(lab: Lab) -> None:
    """Image 3 of one data set is not image 3 of another: no test of the pair, on the page or in the exports."""
    a = lab.model(accuracy=1.0)
    b = lab.model(accuracy=1.0, data={"dataset": "digits", "classes": (4, 9)})
    radii(lab, a, n=60, upper=0.4)
    radii(lab, b, n=60, upper=0.2)
    app = lab.open("model_comparison", model_comparison_models=[a.id, b.id])
    app.slider(key="model_comparison_record_at_linf").set_value(0.3).run()
    assert not app.exception
    assert any("not tested against each other" in warning.value for warning in app.warning)
    assert "is more robust than" not in texts(app)
    found = record_views.read([a, b], "linf")
    assert set(found[a.id].table["index"]) & set(found[b.id].table["index"])
    assert robust_views.tables(found, [0.3], "linf")["paired tests"].empty
    assert len(robust_views.tests_at({"a": found[a.id], "b": found[a.id]}, {"a": "A", "b": "B"}, 0.3)) == 1


def test_single_attacks_alone_prove_no_order(lab: Lab) -> None:
    """A model that was only swept is not called more robust than one that was searched: its attack may be weak."""
    a, b = lab.model(accuracy=1.0), lab.model(accuracy=1.0, network="mlp", seed=0)
    radii(lab, a, n=100, upper=0.05)
    plant(lab, b, right=(100, 100, 100))
    app = lab.open("model_comparison", model_comparison_models=[a.id, b.id])
    assert not app.exception
    assert any("Dense: single attacks only" in warning.value for warning in app.warning)
    assert "is more robust than" not in texts(app)


def test_transfer_matrix_is_run_and_drawn(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One button makes it; once there it is a heat map with a row a cell to take away."""
    a, b = lab.model(), lab.model(network="mlp")
    submitted = asked(monkeypatch)
    app = lab.open("model_comparison", model_comparison_models=[a.id, b.id])
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
    assert "images that both read correctly unchanged: 190 to 195 of 200" in texts(app)
    assert any(button.key == "model_comparison_download_transfer_csv" for button in app.get("download_button"))


def test_auditor_finds_the_misprint_of_the_published_table(lab: Lab) -> None:
    """One click puts the table in; the row and the digits are named. What is no table is one plain sentence."""
    lab.model()
    app = lab.open("model_comparison")
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
    app = lab.open("model_comparison", model_comparison_models=[a.id, b.id])
    app.slider(key="model_comparison_record_at_linf").set_value(0.3).run()
    assert not app.exception
    assert "searched unequally (Linear: radii of 60 passes; Dense: radii of 200 passes)" in texts(app)
    assert "is more robust than" not in texts(app)


def evaluation(
    lab: Lab, model: store.Artifact, eps: float, *, n: int = 100, effort: str = "quick", **columns: Any
) -> store.Artifact:
    """Plant an evaluation at ε that fooled no image (`columns` say otherwise), with reliability checks."""
    tests = model.table("test").iloc[:n]
    right = (tests["pred"] == tests["y"]).to_numpy()
    images = pd.DataFrame({"index": tests["index"], "y": tests["y"], "pred": tests["pred"], "clean_correct": right})
    images = images.assign(**{"lower": 0.0, "upper": np.inf, "found_by": "", "forwards": 9, "backwards": 6} | columns)
    images["upper"] = np.where(right, images["upper"], 0.0)
    report = Trust((), "linf", eps, n, 0, "quick", {}, (), (), n, n).to_json()
    spec = specs.EvaluateSpec.model_validate({"model": model.id, "eps": eps, "effort": effort, "n": n})
    card = {"norm": "linf", "eps": eps, "effort": effort, "trust": report}
    return store.write(spec, lab.root, card=card, tables={"images": images})


def test_trust_is_that_of_this_eps_and_these_images_alone(lab: Lab) -> None:
    """Beside a figure of another ε, or of other images, there is no verdict: that is said, with the way to one."""
    model = lab.model(accuracy=1.0)
    radii(lab, model, n=100, upper=0.4)
    for eps in (0.3, 0.1):
        evaluation(lab, model, eps)
    evaluation(lab, model, 0.2, n=60)
    app = lab.open("model_comparison", model_comparison_models=[model.id])

    def at(eps: float) -> str:
        app.slider(key="model_comparison_record_at_linf").set_value(eps).run()
        assert not app.exception
        table = next(table.value for table in app.dataframe if "median linf" in table.value)
        return str(table["trust"].tolist()[0])

    for eps in (0.3, 3 * 0.1, 0.1):
        assert at(eps) == f"✓ pass at ε {eps:g}"
        assert [box.value for box in app.success if "Nothing speaks against" in box.value]
        assert "No reliability checks" not in texts(app)
    for eps in (0.28, 0.12, 0.2):
        assert at(eps) == "– no report"
        assert not app.success
        assert f"No reliability checks at ε = {eps:g} in ℓ∞ on these 100 images" in texts(app)
        assert f"--eps {eps!r} --n 100" in texts(app)
    sweep = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_record_at_linf="0.15")
    assert "No reliability checks at ε = 0.15" in texts(sweep)
    reports = {model.id: robust_views.reports_of(model.id, "linf")}
    told = [line.split(" · ")[1] for line in robust_views.trust_lines(reports)]
    assert told == [f"evaluation at ε {eps:g}" for eps in (0.2, 0.1, 0.3)]
    exported = robust_views.tables(record_views.read([model], "linf"), [0.1], "linf")["trust reports"]
    assert sorted(exported["eps"]) == [0.1, 0.2, 0.3]
    assert exported["report"].str.startswith("reliability checks: pass").all()


def test_button_makes_the_checks_of_this_eps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation at the slider's ε, free of floating point's last digits, on the images shown."""
    model = lab.model(accuracy=1.0)
    radii(lab, model, n=80, upper=0.4)
    submitted = asked(monkeypatch)
    app = lab.open("model_comparison", model_comparison_models=[model.id])
    app.slider(key="model_comparison_record_at_linf").set_value(3 * 0.1).run()
    app.button(key="model_comparison_judge").click().run()
    assert submitted == [specs.EvaluateSpec(model=model.id, eps=0.3, n=80)]


@pytest.mark.parametrize("page", ["model_comparison", "epsilon_sweep"])
def test_page_says_nothing_of_an_eps_that_was_not_searched(lab: Lab, page: str) -> None:
    """An evaluation at .3 that fooled every image: at .1 no accuracy, no verdict, no median, no passes; at .3 all."""
    model = lab.model(accuracy=0.995)
    evaluation(lab, model, 0.3, n=60, upper=0.3)
    app = lab.open(page, **{f"{page}_models": model.id, f"{page}_record_at_linf": "0.1"})

    def row() -> pd.Series:
        return next(table.value for table in app.dataframe if "attacked" in table.value).set_index("Model").iloc[0]

    median = "median linf" if page == "model_comparison" else "median"
    assert app.slider(key=f"{page}_record_at_linf").value == 0.1
    assert row()[["proven", "attacked", median, "passes"]].isna().all()
    assert row()["interval"] == "–"
    assert "60 of 60 images were not searched at this ε (searched at ε = 0.3)" in texts(app)
    assert not app.success
    assert "Nothing speaks against" not in texts(app)
    assert "No reliability checks at ε = 0.1" in texts(app)
    app.button(key=f"{page}_record_at_linf_jump_0.3").click().run()
    assert app.slider(key=f"{page}_record_at_linf").value == 0.3
    assert (row()["attacked"], row()["passes"]) == (0, 15)
    assert row()[["proven", median]].isna().all()
    assert len(app.success) == 1
    assert "No reliability checks" not in texts(app)


def test_first_view_stands_where_something_is_known(lab: Lab) -> None:
    """Not at an ε of which only dashes are known."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 8 / 255, n=60, upper=8 / 255)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)
    assert app.slider(key="epsilon_sweep_record_at_linf").value == 8 / 255
    table = next(table.value for table in app.dataframe if "attacked" in table.value)
    assert table["attacked"].tolist() == [0]


def test_images_of_the_smaller_evaluation_can_be_chosen(lab: Lab) -> None:
    """Evaluated on 100 images at .1 and on 60 at .3: of the first 60, both ε are known, with their checks."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 0.1)
    evaluation(lab, model, 0.3, n=60, upper=0.3)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_record_at_linf="0.3")

    def row() -> pd.Series:
        return next(table.value for table in app.dataframe if "attacked" in table.value).iloc[0]

    assert np.isnan(row()["attacked"])
    assert not app.success
    app.selectbox(key="epsilon_sweep_record_n").select("60").run()
    assert not app.exception
    assert (row()["n"], row()["attacked"]) == (60, 0)
    assert len(app.success) == 1


def test_exports_leave_the_unknown_empty(lab: Lab) -> None:
    """CSV empty, JSON null, Excel an empty cell, Markdown and LaTeX a dash; a column says why."""
    model = lab.model(accuracy=1.0)
    evaluation(lab, model, 0.3, n=60, upper=0.3)
    found = record_views.read([model], "linf")
    tables = robust_views.tables(found, [0.1, 0.3], "linf")
    made = comparison.compare(specs.CompareSpec(models=(model.id,), eps=LADDER, n=100), lab.root)
    files = comparison_views.files(made, tables, [])
    rows = json.loads(files["json"][2])["proven and attacked"]
    assert [(row["eps"], row["proven"], row["attacked"]) for row in rows] == [(0.1, None, None), (0.3, None, 0)]
    assert "not searched at this ε" in rows[0]["note"]
    sheet = pd.read_excel(io.BytesIO(files["xlsx"][2]()), sheet_name="proven and attacked")
    assert sheet["attacked"].isna().tolist() == [True, False]
    assert sheet["proven"].isna().all()
    medians = robust_views.medians([model], found, "linf")
    shown = robust_views.models_at([model], found, {model.id: "M"}, medians, 0.1)
    for ending, unknown in (("md", "–"), ("tex", r"{\textendash}")):
        text = export.to_text(shown, ending, "", ("proven", "attacked"))
        assert "attacked" in text
        assert unknown in text
        assert "nan" not in text
    back = pd.read_csv(io.StringIO(export.to_text(shown, "csv", "x")))
    assert back["attacked"].isna().all()
