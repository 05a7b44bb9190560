"""Records on the epsilon sweep's page: any ε is a lookup, what it rests on is told, more can be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.storage import store
from tests.pages.test_epsilon_sweep import asked, plant, texts
from ui.measure import record_views

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
    store.write(
        spec, lab.root, card={"norm": spec.norm, "eps": None}, tables={"images": table.assign(forwards=9, backwards=6)}
    )


def at(app: AppTest) -> pd.DataFrame:
    """The record's table, by model."""
    return next(table.value for table in app.dataframe if "undecided" in table.value).set_index("Model")


def test_slider_shows_the_interval_at_any_eps(lab: Lab) -> None:
    """Between proven and attacked, also between the rungs of every ladder; the table names n, passes and distance."""
    model = lab.model(accuracy=0.9)
    radii(lab, model, n=360, upper=np.where(np.arange(360) < 180, 0.2, 0.4), lower=0.05)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)
    for eps, proven, attacked in ((0.04, 0.9, 0.9), (0.1, 0, 0.9), (0.3, 0, 0.4)):
        app.slider(key="epsilon_sweep_record_at_linf").set_value(eps).run()
        assert not app.exception
        row = at(app).loc["Linear"]
        assert (row["proven"], row["attacked"]) == pytest.approx((100 * proven, 100 * attacked))
        assert row["undecided"] == round(360 * (attacked - proven))
        assert (row["n"], row["passes"], row["clean"]) == (360, 15, 90)
    assert row["median"] == 0.2
    assert not any("FGSM, one gradient" in caption.value for caption in app.caption)  # no sweep is drawn
    assert "What it rests on (1 result)" in [expander.label for expander in app.expander]


def test_slider_calls_no_model_and_reads_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once merged, a move searches sorted bounds."""
    model = lab.model()
    radii(lab, model)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the slider must be a lookup")

    monkeypatch.setattr("core.models.saved.load_model", never)
    monkeypatch.setattr("core.evaluation.tables.records.merge", never)
    monkeypatch.setattr(store.Artifact, "table", never)
    app.slider(key="epsilon_sweep_record_at_linf").set_value(0.1).run()
    assert not app.exception
    assert at(app).loc["Linear", "attacked"] == pytest.approx(90, abs=10)


def test_sweeps_alone_make_a_record_and_fgsm_lies_over_it(lab: Lab) -> None:
    """What was attacked already counts; the single-step curve is drawn with it."""
    model = lab.model(accuracy=1.0)
    result = plant(lab, model)
    found = record_views.read([model], "linf")
    (record,) = found.values()
    assert [source.id for source in record.sources] == [result.id]
    app = lab.open("epsilon_sweep")
    assert any("FGSM, one gradient" in caption.value for caption in app.caption)
    assert at(app).loc["Linear", "n"] == 100


def test_missing_radii_are_found_by_one_button(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job for each model that has none with these settings, in the norm that is looked at."""
    one, other = lab.model(), lab.model(network="mlp")
    radii(lab, one, norm="l2", n=50, budget=100)
    submitted = asked(monkeypatch)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=[one.id, other.id], epsilon_sweep_record_norm="l2")
    app.number_input(key="epsilon_sweep_radii_n").set_value(50).run()
    app.number_input(key="epsilon_sweep_radii_budget").set_value(100).run()
    app.button(key="epsilon_sweep_radii_run").click().run()
    assert not app.exception
    assert submitted == [specs.RadiiSpec(model=other.id, norm="l2", n=50, budget=100)]
    assert "Nothing in this norm yet: Dense" in texts(app)


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
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)
    assert any("on 3 images a certificate and a verified adversarial example" in error.value for error in app.error)


def test_evaluation_is_asked_for_at_one_eps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form's ε, effort and n, for every model shown."""
    model = lab.model()
    submitted = asked(monkeypatch)
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id)
    app.number_input(key="epsilon_sweep_eval_eps_linf").set_value(0.2).run()
    app.number_input(key="epsilon_sweep_eval_n").set_value(100).run()
    app.button(key="epsilon_sweep_eval_run").click().run()
    assert not app.exception
    assert submitted == [specs.EvaluateSpec(model=model.id, eps=0.2, n=100)]
