"""The page of universal perturbations: settings become a spec, a stored result is drawn, its words are true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import specs
from core.jobs import running
from core.storage import store
from ui.universal import views

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

PAGE = "universal"
TEN = specs.TrainSpec(network="linear", epochs=3)
SCALAR = specs.TrainSpec(data=specs.DataSpec(classes=(4, 9)), network="linear", scalar=True, epochs=10)


def made(lab: Lab, spec: specs.TrainSpec | specs.UniversalSpec) -> store.Artifact:
    """A really trained network, or a really made perturbation."""
    artifact = running.run(spec, lab.root, device="cpu")
    assert isinstance(artifact, store.Artifact)
    return artifact


def text(app: AppTest) -> str:
    """All that the page says."""
    blocks = (*app.info, *app.success, *app.warning, *app.error, *app.caption, *app.markdown)
    return "\n".join(block.value for block in blocks)


def test_nothing_made_yet_says_so(lab: Lab) -> None:
    """The settings, one button, and what it will cost; a running job is watched."""
    model = made(lab, TEN)
    app = lab.open(PAGE)
    assert "Not made yet" in text(app)
    assert app.select_slider(key=f"{PAGE}_eps").value == 0.2
    lab.job(specs.UniversalSpec(model=model.id, eps=0.2), "running")
    app = app.run()
    assert "Not made yet" not in text(app)
    assert not app.exception


def test_a_result_that_is_gone_can_be_made_again(lab: Lab) -> None:
    """The job is done but its artifact is no longer there: the page says what it says before anything ran."""
    lab.job(specs.UniversalSpec(model=made(lab, TEN).id, eps=0.2), "done")
    assert "Not made yet" in text(lab.open(PAGE))


@pytest.mark.parametrize(
    ("rate", "low", "noise", "said"),
    [(0.6, 0.55, 0.1, "fools most"), (0.6, 0.55, 0.6, "no better than noise"), (0.3, 0.25, 0.1, "fools some")],
)
def test_verdict_weighs_the_noise(
    rate: float, low: float, noise: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where noise of the same size fools as many, the perturbation proves nothing, however many it fools."""
    drawn: list[str] = []
    for box in ("success", "warning", "error"):
        monkeypatch.setattr(views.st, box, lambda sentence, icon: drawn.append(sentence))
    metrics = {"fooling_rate": rate, "low": low, "high": 0.7, "noise_rate": noise, "n": 100}
    views.headline({"metrics": metrics}, specs.UniversalSpec(model="m", eps=0.2), ["0", "1"])
    assert len(drawn) == 1
    assert said in drawn[0]


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
    assert f"Of {card['metrics']['n']:,} test images that it was not made from, **{rate:.1%}**" in text(app)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Fooled, held out"] == f"{rate:.1%}"
    assert shown["Noise of that size"] == f"{card['metrics']['noise_rate']:.1%}"
    assert app.dataframe[0].value["n"].sum() == card["metrics"]["n"]
    assert len(app.get("download_button")) == 8


@pytest.mark.slow
def test_contradiction_is_explained(lab: Lab) -> None:
    """Both classes of a linear score: no change without clipping, said as proven, with images of both classes named."""
    model = made(lab, SCALAR)
    result = made(lab, specs.UniversalSpec(model=model.id, method="lp", n=6, source=(0, 1)))
    assert result.card["lp"]["contradiction"]
    app = lab.open(PAGE, universal_method="lp", universal_lp_n="6", universal_source=["0", "1"])
    assert "No change s at all fools all 6 images without clipping" in text(app)
    named = result.table("made_from").query("weight > 1e-6")
    assert set(named["y"]) == {0, 1}
    assert all(f"#{index}" in text(app) for index in named["index"])


def test_one_class_is_proven(lab: Lab) -> None:
    """One class of a linear score: the bound is a proof, and the perturbation found reaches it."""
    model = made(lab, SCALAR)
    card = made(lab, specs.UniversalSpec(model=model.id, method="lp", source=(0,))).card
    app = lab.open(PAGE, universal_method="lp")
    assert f"No ε below **{card['lp']['bound']:.4g}** is enough" in text(app)
    assert "that is proven" in text(app)
    assert "fools all 20 images" in text(app)
    assert card["metrics"]["linf"] == pytest.approx(card["lp"]["bound"], rel=0.01)


def test_mask_is_kept_to(lab: Lab) -> None:
    """Chosen in the settings, said in the provenance."""
    model = made(lab, TEN)
    made(lab, specs.UniversalSpec(model=model.id, eps=0.2, n=50, held_out=40, mask="patch"))
    app = lab.open(PAGE, universal_mask="patch", universal_gradient_n="50", universal_held_out="40")
    assert "of size 0.3, 4 pixels" in text(app)
    assert "test images that it was not made from" in text(app)


def test_impossible_settings_are_refused_in_words(lab: Lab) -> None:
    """Images of the target class only: said in a sentence, and nothing is drawn."""
    made(lab, TEN)
    app = lab.open(PAGE, universal_source=["3"], universal_target="3")
    assert "These settings cannot be run" in text(app)
    assert "target: expected another class" in text(app)


def test_curved_models_get_no_proof() -> None:
    """Words for a curved model: to first order only; what was not found is not claimed."""
    import pandas as pd

    table = pd.DataFrame({"index": [7, 8], "y": [0, 1], "weight": [0.5, 0.5], "success": [True, False]})
    card = {
        "lp": {"contradiction": False, "bound": 0.1, "first": 0.1, "stage": 2},
        "metrics": {"linf": 0.2},
        "clip": True,
    }
    said = " ".join(views.explain(card, table, ["4", "9"], exact=False))
    assert "no proof" in said
    assert "fools 1 of 2 images" in said
    assert "proven" not in said
