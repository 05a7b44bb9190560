"""Records on the epsilon sweep's page: any ε is a lookup, what it rests on is told, more can be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.epsilon import same
from core.evaluation.robust.edition import edition
from core.evaluation.tables import records
from core.evaluation.trust.report import Trust
from core.storage import store
from tests.pages.sweeps import asked, at, plant, texts
from ui.measure import record_views
from ui.measure.sweep_views import TITLES
from ui.show import model_names

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab


def radii(lab: Lab, model: store.Artifact, *, n: int = 100, upper: Any = 0.2, lower: Any = 0.05, **fields: Any) -> None:
    """Plant radii: the same bounds for all images, or one an image."""
    spec = specs.RadiiSpec(**{"model": model.id, "n": n, **fields})
    tests = model.table("test").iloc[:n]
    right = tests["pred"] == tests["y"]
    table = pd.DataFrame({"index": tests["index"], "y": tests["y"], "clean_correct": right})
    table = table.assign(lower=np.where(right, lower, 0), upper=np.where(right, upper, 0), found_by="fmn")
    card = {"metrics": {}, "norm": spec.norm, "eps": None}
    store.write(spec, lab.root, card=card, tables={"images": table.assign(forwards=9, backwards=6)})


def evaluation(
    lab: Lab,
    model: store.Artifact,
    eps: float,
    *,
    n: int = 100,
    effort: str = "quick",
    norm: str = "linf",
    schedule: str | None = None,
    **columns: Any,
) -> store.Artifact:
    """Plant an evaluation at ε that fooled no image (`columns` say otherwise), with reliability checks.

    schedule: the mark of its schedule; None: the present one's.
    """
    tests = model.table("test").iloc[:n]
    right = (tests["pred"] == tests["y"]).to_numpy()
    images = pd.DataFrame({"index": tests["index"], "y": tests["y"], "pred": tests["pred"], "clean_correct": right})
    images = images.assign(**{"lower": 0.0, "upper": np.inf, "found_by": "", "forwards": 9, "backwards": 6} | columns)
    images["upper"] = np.where(right, images["upper"], 0.0)
    report = Trust((), norm, eps, n, 0, "quick", {}, (), (), n, n).to_json()
    spec = specs.EvaluateSpec.model_validate({"model": model.id, "norm": norm, "eps": eps, "effort": effort, "n": n})
    card = {"metrics": {}, "norm": norm, "eps": eps, "effort": effort, "trust": report}
    card |= {"class_names": list("0123456789"), "schedule": schedule or edition(norm, effort, 10)}
    return store.write(spec, lab.root, card=card, tables={"images": images})


def test_slider_shows_the_interval_at_any_eps(lab: Lab) -> None:
    """Between proven and attacked, also between the rungs of every ladder, where the slider is to stop there."""
    model = lab.model(accuracy=0.9)
    radii(lab, model, n=360, upper=np.where(np.arange(360) < 180, 0.2, 0.4), lower=0.05)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_fine="true")
    for eps, proven, attacked in ((0.04, 0.9, 0.9), (0.1, 0, 0.9), (0.3, 0, 0.4)):
        app.select_slider(key="epsilon_sweep_at").set_value(eps).run()
        assert not app.exception
        row = at(app).loc["Linear · standard"]
        assert (row["proven"], row["all"]) == pytest.approx((100 * proven, 100 * attacked))
        assert (row["n"], row["clean"]) == (360, 90)
        assert np.isnan(row["PGD ℓ∞"]), "no sweep was run"
    app.session_state["epsilon_sweep_tab"] = "Reliability"
    app.run()
    assert "What it rests on (1 result)" in [expander.label for expander in app.expander]


@pytest.mark.parametrize("tab", ["Accuracy", "Reliability", "Export"])
def test_slider_calls_no_model_and_reads_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch, tab: str) -> None:
    """Once merged, a move searches sorted bounds."""
    model = lab.model()
    radii(lab, model)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_tab=tab)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the slider must be a lookup")

    monkeypatch.setattr("core.models.saved.load_model", never)
    monkeypatch.setattr("core.evaluation.tables.records.merge", never)
    monkeypatch.setattr(store.Artifact, "table", never)
    app.select_slider(key="epsilon_sweep_at").set_value(0.15).run()
    assert not app.exception
    if tab == "Accuracy":
        assert at(app).loc["Linear · standard", "all"] == pytest.approx(90, abs=10)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("page", ["epsilon_sweep", "model_comparison"])
def test_every_figure_at_every_eps_is_the_lookup_and_has_a_search_behind_it(lab: Lab, page: str, norm: str) -> None:
    """Sweeps, radii and an evaluation of several models on one grid of ε: no figure stands for another ε."""
    swept, searched, judged = (lab.model(accuracy=0.95, seed=seed) for seed in range(3))
    bare = lab.model(seed=9)
    ladder = (0.0, 0.1, 0.3) if norm == "linf" else (0.0, 1.0, 3.0)
    attack = {"name": "pgd", "norm": norm}
    plant(lab, swept, attack=attack, eps=ladder)
    radii(lab, searched, norm=norm, upper=ladder[1] * 1.5, lower=ladder[1] / 4)
    evaluation(lab, judged, ladder[2], norm=norm, upper=ladder[2])
    models = [model.id for model in (swept, searched, judged, bare)]
    query = {f"{page}_models": models, f"{page}_norm": norm, f"{page}_eps": " ".join(map(str, ladder))}
    app = lab.open(page, **query, **{f"{page}_n": "100", f"{page}_fine": "true"})
    opened = [store.open_model(model, lab.root) for model in models]
    names = model_names.short_names(opened)
    stops = [float(option.split(" ")[0]) for option in app.select_slider(key=f"{page}_at").options]
    assert len(stops) > 20
    found = record_views.read(opened, norm)
    for eps in sorted({*stops[::9], *ladder}):
        app.select_slider(key=f"{page}_at").set_value(eps).run()
        assert not app.exception
        for model in models:
            record = found.get(model)
            line = None if record is None else records.curve(record, [eps]).iloc[0]
            row = shown(app, page).loc[names[model]]
            known = line is not None and not np.isnan(line["attacked"])
            column = "all" if page == "epsilon_sweep" else "attacked"
            assert row[column] == pytest.approx(100 * line["attacked"] if known else np.nan, nan_ok=True)
            assert known == (record is not None and not record.unknown(eps).any())
            proven = np.nan if line is None else 100 * line["proven"]
            assert row["proven"] == pytest.approx(proven, nan_ok=True)
            if page == "epsilon_sweep":
                ran = model == swept.id and any(same(eps, rung) for rung in ladder)
                assert np.isfinite(row[TITLES[f"pgd_{norm}"]]) == ran
            assert row["trust"].startswith("–") == (not (model == judged.id and same(eps, ladder[2])))


def shown(app: AppTest, page: str) -> pd.DataFrame:
    """The page's table of models, by model."""
    mark = "between" if page == "epsilon_sweep" else "curve"
    return next(table.value for table in app.dataframe if mark in table.value).set_index("Model")


def test_sweeps_alone_make_a_record(lab: Lab) -> None:
    """What was attacked already counts."""
    model = lab.model(accuracy=1.0)
    result = plant(lab, model)
    found = record_views.read([model], "linf")
    (record,) = found.values()
    assert [source.id for source in record.sources] == [result.id]
    app = lab.open("epsilon_sweep")
    assert at(app).loc["Linear · standard", "n"] == 100


def test_missing_radii_are_found_by_one_button(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job for each model that has none with these settings, in the norm that is looked at."""
    one, other = lab.model(), lab.model(network="mlp")
    radii(lab, one, norm="l2", n=50, budget=100)
    submitted = asked(monkeypatch)
    query = {"epsilon_sweep_models": [one.id, other.id], "epsilon_sweep_norm": "l2"}
    app = lab.open("epsilon_sweep", **query, epsilon_sweep_tab="Reliability")
    app.number_input(key="epsilon_sweep_radii_n").set_value(50).run()
    app.number_input(key="epsilon_sweep_radii_budget").set_value(100).run()
    app.button(key="epsilon_sweep_radii_run").click().run()
    assert not app.exception
    assert submitted == [specs.RadiiSpec(model=other.id, norm="l2", n=50, budget=100)]
    assert "Nothing was run in this norm yet: Dense · standard." in texts(app)


def test_job_that_finds_radii_is_watched(lab: Lab) -> None:
    """Also after a reload; a failed one says why."""
    model = lab.model()
    lab.job(specs.RadiiSpec(model=model.id), "failed", message="No space left.")
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)
    assert "The job failed. No space left." in texts(app)


def test_contradictions_are_an_error_on_the_page(lab: Lab) -> None:
    """A proof beyond an example is told, with the images."""
    model = lab.model(accuracy=1.0)
    radii(lab, model, upper=0.1, lower=0.0)
    radii(lab, model, upper=0.5, lower=np.where(np.arange(100) < 3, 0.2, 0.0), budget=300)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_tab="Reliability")
    assert any("on 3 images a certificate and a verified adversarial example" in error.value for error in app.error)


def test_evaluation_is_asked_for_at_one_eps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slider's ε, and the form's effort and n, for every model shown."""
    model = lab.model()
    submitted = asked(monkeypatch)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_tab="Reliability")
    app.select_slider(key="epsilon_sweep_at").set_value(0.2).run()
    app.number_input(key="epsilon_sweep_eval_n").set_value(100).run()
    app.button(key="epsilon_sweep_eval_run").click().run()
    assert not app.exception
    assert submitted == [specs.EvaluateSpec(model=model.id, eps=0.2, n=100)]
