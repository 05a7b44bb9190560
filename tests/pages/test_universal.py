"""The page of universal perturbations: settings become a spec, a stored result is drawn, its words are true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from core import specs
from core.jobs import running
from core.storage import store
from tests.pages.said import text
from ui.universal import solver, views

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

PAGE = "universal"
TEN = specs.TrainSpec(network="linear", epochs=3)
SOLVER = {"universal_tab": "Solver and lower bound"}
SCALAR = specs.TrainSpec(data=specs.DataSpec(classes=(4, 9)), network="linear", scalar=True, epochs=10)


def made(lab: Lab, spec: specs.TrainSpec | specs.UniversalSpec) -> store.Artifact:
    """A really trained network, or a really made perturbation."""
    artifact = running.run(spec, lab.root, device="cpu")
    assert isinstance(artifact, store.Artifact)
    return artifact


def test_opens_with_a_quick_first_result(lab: Lab) -> None:
    """Where none is stored: what is shown is said, with a button for what was asked; a running job is watched."""
    model = made(lab, TEN)
    app = lab.open(PAGE)
    assert "Shown below: gradient steps, ε = 0.2 (51/255), made from 200 images in 10 epochs" in text(app)
    assert app.button(key=f"{PAGE}_run").label == "Make the perturbation from 1,000 images"
    assert len(app.get("plotly_chart")) == 1
    assert app.select_slider(key=f"{PAGE}_eps").value == 0.2
    lab.job(specs.UniversalSpec(model=model.id, eps=0.2), "running")
    app = app.run()
    assert "Not made yet" not in text(app)
    assert not app.exception


def test_a_result_that_is_gone_can_be_made_again(lab: Lab) -> None:
    """The job is done but its artifact is no longer there: the page says what it says before anything ran."""
    lab.job(specs.UniversalSpec(model=made(lab, TEN).id, eps=0.2), "done")
    assert "Not made yet" in text(lab.open(PAGE))


def test_the_nearest_known_result_is_shown_and_said(lab: Lab) -> None:
    """Moving ε does not make everything disappear: the stored result of the nearest ε stays, named as such."""
    model = made(lab, TEN)
    for eps in (0.1, 0.3):
        method = {"name": "gradient", "epochs": 1}
        made(lab, specs.UniversalSpec(model=model.id, method=method, eps=eps, n=50, held_out=60))
    app = lab.open(PAGE, universal_eps="0.28")
    assert "Shown below: gradient steps, ε = 0.3 (76.5/255), made from 50 images in 1 epoch" in text(app)


METRICS = {"fooling_rate": 0.31, "low": 0.28, "high": 0.34, "noise_rate": 0.12, "n": 1000}


@pytest.mark.parametrize(
    ("changes", "box", "said"),
    [
        ({"fooling_rate": 0.6, "low": 0.55}, "success", "fools most new images"),
        ({"fooling_rate": 0.6, "low": 0.55, "noise_rate": 0.6}, "error", "no more often than noise"),
        ({}, "warning", "fools some new images"),
    ],
)
def test_verdict_weighs_the_noise(
    changes: dict[str, float], box: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where noise of the same size fools as many, the perturbation proves nothing, however many it fools."""
    drawn = _boxes(monkeypatch)
    table = pd.DataFrame({"success": [True, False]})
    card = {"metrics": {**METRICS, **changes}}
    views.headline(card, specs.UniversalSpec(model="m", eps=0.2), ["0", "1"], table)
    assert [kind for kind, _ in drawn] == [box]
    assert said in drawn[0][1]


@pytest.mark.parametrize(
    ("won", "box", "said"),
    [
        (20, "success", "It fools all 20 of the images that it was made for."),
        (7, "warning", "It fools 7 of the 20 images that it was made for."),
        (0, "error", "It fools 0 of the 20 images that it was made for."),
    ],
)
def test_programme_is_judged_by_its_own_question(
    won: int, box: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked to fool a set: what it does to new images, even less than noise does, is said and is no failure."""
    drawn = _boxes(monkeypatch)
    table = pd.DataFrame({"success": [place < won for place in range(20)]})
    card = {"metrics": {**METRICS, "low": 0.1, "noise_rate": 0.3}}
    views.headline(card, specs.UniversalSpec(model="m", method="lp"), ["4", "9"], table)
    assert drawn[0][0] == box
    assert said in drawn[0][1]
    assert "31.0% of 1,000 new test images" in drawn[0][1]
    assert "random noise of this size: 30.0%" in drawn[0][1]


def _boxes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The boxes that are drawn from now on: kind and text."""
    drawn: list[tuple[str, str]] = []
    for box in ("success", "warning", "error"):
        monkeypatch.setattr(views.st, box, lambda sentence, icon, box=box: drawn.append((box, sentence)))
    return drawn


@pytest.mark.parametrize(
    ("method", "norm", "eps"), [("gradient", "linf", 0.3), ("gradient", "l2", 2.0), ("uap", "linf", 0.3)]
)
def test_stored_result_is_drawn(lab: Lab, method: str, norm: str, eps: float) -> None:
    """Rate with interval and n, the control, the rates by class, downloads: all from the artifact."""
    model = made(lab, TEN)
    settings = {"name": method, "norm": norm} | ({"epochs": 1, "steps": 2} if method == "uap" else {"epochs": 3})
    spec = specs.UniversalSpec(model=model.id, method=settings, eps=eps, n=60, held_out=100)
    card = made(lab, spec).card
    query = {"method": method, f"{method}_norm": norm, f"{method}_n": "60", "held_out": "100"}
    query |= {f"{method}_{name}": str(value) for name, value in settings.items() if name in ("epochs", "steps")}
    query["eps" if norm == "linf" else f"eps_{norm}"] = str(eps)
    app = lab.open(PAGE, **{f"{PAGE}_{name}": value for name, value in query.items()})
    rate = card["metrics"]["fooling_rate"]
    assert f"{rate:.1%} of {card['metrics']['n']:,} new test images" in text(app)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Fooled, held out"] == f"{rate:.1%}"
    assert shown["Noise of that size"] == f"{card['metrics']['noise_rate']:.1%}"
    app.session_state[f"{PAGE}_tab"] = "Held-out images"
    assert app.run().dataframe[0].value["n"].sum() == card["metrics"]["n"]
    app.session_state[f"{PAGE}_tab"] = "Export"
    names = {button.proto.id.split("download_")[-1] for button in app.run().get("download_button")}
    assert names >= {"universal_perturbation_png", "universal_images_png", "universal_npz", "universal_by_class_csv"}
    assert names >= {"universal_held_out_csv", "universal_made_from_csv"}


@pytest.mark.slow
def test_contradiction_is_explained(lab: Lab) -> None:
    """Both classes of a linear score: no change without clipping, said as proven, with images of both classes named."""
    model = made(lab, SCALAR)
    result = made(lab, specs.UniversalSpec(model=model.id, method="lp", n=6, source=(0, 1)))
    assert result.card["lp"]["contradiction"]
    app = lab.open(PAGE, **SOLVER, universal_method="lp", universal_lp_n="6", universal_source=["0", "1"])
    assert "No change s at all fools all 6 images without clipping" in text(app)
    named = result.table("made_from").query("weight > 1e-6")
    assert set(named["y"]) == {0, 1}
    assert all(f"#{index}" in text(app) for index in named["index"])


def test_one_class_is_proven(lab: Lab) -> None:
    """One class of a linear score: the bound is a proof, and the perturbation found reaches it."""
    model = made(lab, SCALAR)
    card = made(lab, specs.UniversalSpec(model=model.id, method="lp", source=(0,))).card
    app = lab.open(PAGE, **SOLVER)  # also where another method is chosen
    assert f"No ε below **{card['lp']['bound']:.4g}** is enough" in text(app)
    assert "that is proven" in text(app)
    assert "fools all 20 images" in text(app)
    assert "It fools all 20 of the images" in app.success[0].value
    assert card["metrics"]["linf"] == pytest.approx(card["lp"]["bound"], rel=0.01)


def test_programme_that_was_not_solved_is_one_click_away(lab: Lab) -> None:
    """The question, and the button with the number of images; the set is that of the settings."""
    made(lab, SCALAR)
    app = lab.open(PAGE, **SOLVER)
    assert app.button(key=f"{PAGE}_solve").label == "Solve it for 20 images"
    assert "smallest ε" in text(app)


def test_mask_is_kept_to(lab: Lab) -> None:
    """Chosen in the settings, said in the provenance."""
    model = made(lab, TEN)
    made(lab, specs.UniversalSpec(model=model.id, eps=0.2, n=50, held_out=40, mask="patch"))
    app = lab.open(PAGE, universal_mask="patch", universal_gradient_n="50", universal_held_out="40")
    assert "of size 0.3, 4 pixels" in text(app)
    assert "new test images" in text(app)


def test_impossible_settings_are_refused_in_words(lab: Lab) -> None:
    """Images of the target class only: said in a sentence, and nothing is drawn."""
    made(lab, TEN)
    app = lab.open(PAGE, universal_source=["3"], universal_target="3")
    assert "These settings cannot be run" in text(app)
    assert "target: expected another class" in text(app)


def test_curved_models_get_no_proof() -> None:
    """Words for a curved model: to first order only; what was not found is not claimed."""
    table = pd.DataFrame({"index": [7, 8], "y": [0, 1], "weight": [0.5, 0.5], "success": [True, False]})
    card = {
        "lp": {"contradiction": False, "bound": 0.1, "first": 0.1, "stage": 2},
        "metrics": {"linf": 0.2},
        "clip": True,
    }
    said = " ".join(solver.explain(card, table, ["4", "9"], exact=False))
    assert "no proof" in said
    assert "fools 1 of 2 images" in said
    assert "proven" not in said
