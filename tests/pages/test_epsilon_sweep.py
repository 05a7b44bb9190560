"""The epsilon sweep's page: the first view, the curves and their lookup, what is said of them, missing sweeps."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from core import specs
from core.storage import store
from tests.pages.sweeps import asked, at, plant, texts
from ui.measure import sweep_notes, sweep_views
from ui.show import model_names

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab


def five(app: AppTest) -> pd.DataFrame:
    """The table of the five metrics."""
    return next(table.value for table in app.dataframe if "confidence_wrong" in table.value)


def test_nothing_run_yet_offers_pgd_on_the_newest_model(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One prominent button, which asks for exactly what the page would show."""
    lab.model(seed=1)
    newest = lab.model(network="mlp")
    submitted = asked(monkeypatch)
    app = lab.open("epsilon_sweep")
    button = app.button(key="epsilon_sweep_run")
    assert button.label == "Run PGD ℓ∞ on Dense · standard"
    assert at(app).loc["Dense · standard", ["PGD ℓ∞", "all", "proven"]].isna().all()
    button.click().run()
    assert submitted == [specs.CompareSpec(models=(newest.id,), attacks=("pgd",))]


def test_first_view_starts_from_what_was_run(lab: Lab) -> None:
    """Curves of the newest settings, of all models that have them, without a click."""
    first, second = lab.model(), lab.model(network="mlp")
    plant(lab, first)
    plant(lab, second, attack={"name": "pgd", "steps": 7})
    plant(lab, second)
    lab.model(network="cnn")
    app = lab.open("epsilon_sweep")
    assert set(app.multiselect(key="epsilon_sweep_models").value) == {first.id, second.id}
    assert app.session_state["epsilon_sweep_attacks"] == ["fgsm", "pgd_linf"]
    assert app.number_input(key="epsilon_sweep_pgd_steps").value == 7
    assert app.number_input(key="epsilon_sweep_n").value == 100
    assert set(app.query_params["epsilon_sweep_attacks"]) == {"FGSM", "PGD ℓ∞"}, "the address reproduces the view"
    assert len(app.query_params["epsilon_sweep_models"]) == 2
    said = texts(app)
    assert "1 of 4 not run yet" in said
    assert "Linear · standard · PGD ℓ∞, steps 7." in said


def test_slider_moves_everything(lab: Lab) -> None:
    """The answer in words, the chart's mark, the table, the metrics and the images are those of the chosen ε."""
    plant(lab, lab.model())
    app = lab.open("epsilon_sweep")
    slider = app.select_slider(key="epsilon_sweep_at")
    assert [box.key for box in app.slider] == []
    assert [box.key for box in app.select_slider] == ["epsilon_sweep_target", slider.key], "one ε a page"
    assert slider.value == 0.1
    assert at(app)["FGSM"].tolist() == [60]
    assert "**Linear · standard** keeps 60 % of 100 images under FGSM" in texts(app)
    app.select_slider(key="epsilon_sweep_at").set_value(0.3).run()
    assert not app.exception
    assert at(app)["FGSM"].tolist() == [5]
    assert at(app)["FGSM, 95 %"].tolist() == ["1.6–11.3"]
    assert "At **ε = 0.3 (76.5/255)**, **Linear · standard** keeps 5 % of 100 images under FGSM" in texts(app)
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert [shape["x0"] for shape in figure["layout"]["shapes"] if shape.get("name") == "marked"] == [0.3]
    app.session_state["epsilon_sweep_tab"] = "Confidence"
    app.run()
    assert not app.exception
    assert five(app)["accuracy"].tolist() == [5]
    assert five(app)["interval"].tolist() == ["1.6% – 11.3%"]
    assert "The five metrics at ε = 0.3 (76.5/255)" in texts(app)
    app.session_state["epsilon_sweep_tab"] = "Images"
    app.run()
    assert not app.exception
    assert "At ε = 0.3 (76.5/255)" in texts(app)


@pytest.mark.parametrize("tab", ["Accuracy", "Images", "Confidence", "Reliability", "Export"])
def test_every_tab_opens_from_the_address_and_at_an_eps_that_was_not_run(lab: Lab, tab: str) -> None:
    """Between the rungs nothing is shown of another ε: dashes, and a sentence where there are no images."""
    model = lab.model()
    plant(lab, model)
    app = lab.open("epsilon_sweep", epsilon_sweep_tab=tab, epsilon_sweep_fine="true")
    app.select_slider(key="epsilon_sweep_at").set_value(0.05).run()
    assert not app.exception
    said = texts(app)
    assert "Not known of **Linear · standard**: FGSM was not run at this ε." in said
    if tab == "Accuracy":
        assert at(app)[["FGSM", "all", "proven"]].isna().all(axis=None)
    elif tab == "Images":
        assert "was not run at ε = 0.05" in said
    elif tab == "Confidence":
        assert five(app)[["accuracy", "confidence"]].isna().all(axis=None)
    elif tab == "Reliability":
        assert "No reliability checks at ε = 0.05" in said
    else:
        assert any(button.key.endswith("epsilon_sweep_at_csv") for button in app.get("download_button"))


def test_slider_needs_no_model_and_little_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving the slider reads nothing that was read before, and calls no network."""
    plant(lab, lab.model(), n=300, right=(290, 100, 3))
    app = lab.open("epsilon_sweep")

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the slider must be a lookup")

    monkeypatch.setattr("core.models.saved.load_model", never)
    monkeypatch.setattr(store.Artifact, "table", never)
    monkeypatch.setattr(store.Artifact, "arrays", never)
    start = time.process_time()  # other work on the machine does not count
    app.select_slider(key="epsilon_sweep_at").set_value(0.3).run()
    assert not app.exception
    assert time.process_time() - start < 3  # the whole page by AppTest; measured: 0.1


def test_address_reproduces_the_settings(lab: Lab) -> None:
    """Models, attacks, ladder, n and ε by their plain names."""
    model = lab.model()
    plant(lab, model)
    app = lab.open(
        "epsilon_sweep",
        epsilon_sweep_models=model.id,
        epsilon_sweep_attacks="fgsm",
        epsilon_sweep_eps="0 0.1 0.3",
        epsilon_sweep_n="100",
        epsilon_sweep_at="0.3",
    )
    assert at(app)["FGSM"].tolist() == [5]


@pytest.mark.parametrize(("state", "said"), [("running", "300 of 900"), ("failed", "The job failed. No space left.")])
def test_job_that_runs_the_sweeps_is_found_again(lab: Lab, state: str, said: str) -> None:
    """After a reload, or in a second browser."""
    model = lab.model()
    lab.job(
        specs.CompareSpec(models=(model.id,), attacks=("pgd",)),
        state,
        message="No space left." if state == "failed" else "",
    )
    app = lab.open("epsilon_sweep")
    bars = "\n".join(str(bar.text) for bar in app.main.get("progress"))
    assert said in texts(app) + bars


def test_damaged_sweep_is_set_aside_and_can_be_run_again(lab: Lab) -> None:
    """The page says so and goes on."""
    result = plant(lab, lab.model())
    app = lab.open("epsilon_sweep")
    (result.folder / "images.parquet").write_bytes(b"cut short")
    app.run()
    assert not app.exception
    assert "does not match" in texts(app)
    assert app.button(key="epsilon_sweep_run")


def test_models_of_different_data_are_warned_of(lab: Lab) -> None:
    """No chance line, and a warning."""
    one, other = lab.model(), lab.model(data={"dataset": "digits", "classes": (4, 9)})
    plant(lab, one)
    plant(lab, other)
    app = lab.open(
        "epsilon_sweep", epsilon_sweep_models=[one.id, other.id], epsilon_sweep_n="100", epsilon_sweep_eps="0 .1 .3"
    )
    assert "different data" in texts(app)
    assert "falls to chance" not in texts(app)


# ---------------------------------------------------------------- what a curve says


def rows(*accuracies: float) -> list[dict[str, Any]]:
    """Rows of a curve over ε = 0, 0.1, 0.2, … of 1000 images."""
    return [
        {"eps": k / 10, "accuracy": a, "n": 1000, "low": max(0.0, a - 0.03), "high": min(1.0, a + 0.03)}
        for k, a in enumerate(accuracies)
    ]


def curve(lab: Lab, name: str, attack: Any, *accuracies: float) -> sweep_views.Curve:
    """A curve with these accuracies; its files are never read."""
    model = lab.model()
    sweep = specs.SweepSpec(model=model.id, attack=attack, eps=tuple(k / 10 for k in range(len(accuracies))))
    return sweep_views.Curve(name, model, sweep, store.Artifact(lab.root / "x", {"rows": rows(*accuracies)}))


def test_crossing_in_words() -> None:
    """Between two rungs, by a straight line; never; from the start."""
    assert sweep_notes.crossing(rows(0.9, 0.3, 0.05), 0.1) == (
        "falls to chance between ε = 0.1 (30.0%) and 0.2 (5.0%), at about 0.18"
    )
    assert sweep_notes.crossing(rows(0.9, 0.5), 0.1) == "stays above chance up to ε = 0.1 (50.0% there)"
    assert sweep_notes.crossing(rows(0.1, 0.0), 0.1) == "is at chance or below from ε = 0 on"


def test_doubts_name_the_three_signs(lab: Lab) -> None:
    """A rising curve; one step below many; plain grey not reached at ε ≥ 0.5. A healthy pair gives none."""
    strong = curve(lab, "strong", "pgd", 0.9, 0.4, 0.0)
    assert sweep_notes.doubts([strong, curve(lab, "weak", "fgsm", 0.9, 0.5, 0.1)], 0.1) == []
    (rising,) = sweep_notes.doubts([curve(lab, "rising", "fgsm", 0.9, 0.05, 0.1)], 0.1)
    assert "at least 50 images" in rising
    (beaten,) = sweep_notes.doubts([strong, curve(lab, "one step", "fgsm", 0.9, 0.3, 0.1)], 0.1)
    assert "one step beats many" in beaten
    assert (
        sweep_notes.doubts([strong, curve(lab, "literal", {"name": "fgsm", "clip": False}, 0.9, 0.3, 0.1)], 0.1) == []
    )
    (grey,) = sweep_notes.doubts([curve(lab, "grey", "pgd", 0.9, 0.9, 0.9, 0.9, 0.9, 0.9)], 0.1)
    assert "the attack is weak, not the model strong" in grey


def test_names_tell_models_apart(lab: Lab) -> None:
    """By network and training; a second model of a kind adds its ε, else the end of its id; two data sets are named."""
    linear, dense, again = lab.model(), lab.model(network="mlp"), lab.model(seed=3)
    weak, strong = (lab.model(recipe={"name": "pgd", "eps": eps}) for eps in (0.1, 0.3))
    found = model_names.short_names([linear, dense, again, weak, strong])
    assert list(found.values())[:2] == ["Linear · standard", "Dense · standard"]
    assert found[again.id] == f"Linear · standard {again.id[-10:-4]}"
    assert {found[weak.id], found[strong.id]} in (
        {"Linear · PGD-trained", "Linear · PGD-trained, ε 0.3"},
        {"Linear · PGD-trained", "Linear · PGD-trained, ε 0.1"},
    )
    assert model_names.short_names([again]) == {again.id: found[again.id]}, "the same name wherever it stands"
    fewer = lab.model(data={"dataset": "digits", "classes": [4, 9]})
    both = model_names.short_names([linear, fewer])
    assert both[fewer.id].endswith(", 4 against 9 · Linear · standard")
    assert sweep_views.attack_text(specs.Pgd(norm="l2", steps=7)) == "PGD ℓ2, steps 7"
    assert sweep_views.attack_text(specs.Fgsm(clip=False)) == "FGSM, unclipped"
