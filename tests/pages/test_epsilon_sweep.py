"""The epsilon sweep's page: the first view, the curves and their lookup, what is said of them, missing sweeps."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.epsilon import several
from core.evaluation.tables.metrics import clopper_pearson, five_metrics
from core.jobs import queue
from core.models import bundled_results
from core.storage import store
from ui.measure import sweep_choice, sweep_notes, sweep_views
from ui.show import model_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

LADDER = (0.0, 0.1, 0.3)


def plant(
    lab: Lab, model: store.Artifact, *, right: Sequence[int] = (95, 60, 5), n: int = 100, **fields: Any
) -> store.Artifact:
    """Plant a finished sweep: of n images the first `right[k]` are read correctly at the k-th ε."""
    spec = specs.SweepSpec(**{"model": model.id, "eps": LADDER, "n": n, **fields})
    tests = model.table("test").iloc[:n]
    names = model.card["class_names"]
    y, rows, tables = tests["y"].to_numpy(), [], []
    for eps, hits in zip(spec.eps, right, strict=True):
        pred = np.where(np.arange(n) < hits, y, (y + 1) % len(names))
        table = pd.DataFrame({"eps": eps, "index": tests["index"].to_numpy(), "y": y, "pred": pred})
        table = table.assign(confidence=0.8, success=pred != y, linf=eps, l2=eps)
        low, high = clopper_pearson(right[0] - min(hits, right[0]), right[0])
        metrics = five_metrics(y, pred, table["confidence"].to_numpy()).row()
        rows.append({"eps": eps, **metrics, "success_rate": 0.5, "success_low": low, "success_high": high})
        tables.append(table)
    first = [int(np.flatnonzero(y == c)[0]) for c in range(len(names))]
    x = np.random.default_rng(0).uniform(0, 1, (len(first), *model.card["shape"])).astype(np.float32)
    gallery = {
        "index": tests["index"].to_numpy()[first],
        "y": y[first],
        "x": x,
        "x_adv": np.stack([np.clip(x + eps, 0, 1) for eps in spec.eps]),
        "eps": np.asarray(spec.eps),
    }
    card = {"rows": rows, "class_names": names, "data": model.card["data"], "seconds": 1.0, "device": "cpu"}
    tabled = {"images": pd.concat(tables, ignore_index=True)}
    return store.write(spec, lab.root, card=card, arrays={"gallery": gallery}, tables=tabled)


def five(app: AppTest) -> pd.DataFrame:
    """The table of the five metrics."""
    return next(table.value for table in app.dataframe if "confidence_wrong" in table.value)


def at(app: AppTest) -> pd.DataFrame:
    """The table of the models at the slider's ε, by model."""
    return next(table.value for table in app.dataframe if "between" in table.value).set_index("Model")


def texts(app: AppTest) -> str:
    """Everything that the page says in words."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "html")
    return "\n".join(str(getattr(element, "value", element.proto)) for kind in kinds for element in app.get(kind))


def asked(monkeypatch: pytest.MonkeyPatch) -> list[specs.Task]:
    """What is submitted from now on, none of which runs."""
    found: list[specs.Task] = []

    def submit(task: specs.Task, root: object = None, *, owner: str = "") -> SimpleNamespace:
        found.append(task)
        return SimpleNamespace(id="planted")

    monkeypatch.setattr(queue, "submit", submit)
    return found


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


def test_a_ladder_that_changes_takes_the_slider_along(lab: Lab) -> None:
    """The chosen ε moves to the nearest one that there is."""
    model = lab.model()
    plant(lab, model)
    plant(lab, model, eps=(0.0, 0.25), right=(95, 20))
    app = lab.open("epsilon_sweep")
    app.text_input(key="epsilon_sweep_eps").set_value("0 0.1 0.3").run()
    app.select_slider(key="epsilon_sweep_at").set_value(0.3).run()
    app.text_input(key="epsilon_sweep_eps").set_value("0, 0.25").run()
    assert not app.exception
    assert app.select_slider(key="epsilon_sweep_at").value == 0.25
    assert at(app)["FGSM"].tolist() == [20]


def test_a_moved_target_shows_what_there_is_and_what_is_missing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A targeted sweep is another sweep, shown by its success rate; another target leaves the rest on the page."""
    model = lab.model()
    plant(lab, model, target=3)
    app = lab.open("epsilon_sweep")
    assert app.select_slider(key="epsilon_sweep_target").value == 3
    assert "makes “3” of 50 % of the images that **Linear · standard** gets right (FGSM)" in texts(app)
    submitted = asked(monkeypatch)
    app.select_slider(key="epsilon_sweep_target").set_value(4).run()
    assert not app.exception
    said = texts(app)
    assert "Not run yet with these settings towards class “4”" in said
    assert "there are results towards: 3." in said
    assert "nothing is known towards class “4”" in said
    assert at(app)["FGSM"].isna().all()
    assert at(app)["clean"].notna().all()
    app.button(key="epsilon_sweep_run").click().run()
    assert submitted == [specs.CompareSpec(models=(model.id,), eps=LADDER, n=100, target=4)]


@pytest.mark.parametrize(
    ("eps", "said"),
    [
        ("0 2", "expected"),
        ("0 nan", "expected numbers such as 0.1"),
        ("", "at least one ε"),
        ("0.1 zero", "expected numbers such as 0.1"),
    ],
)
def test_refused_ladders_are_one_plain_sentence(lab: Lab, eps: str, said: str) -> None:
    """ε above 1, no number, none at all, a word."""
    lab.model()
    app = lab.open("epsilon_sweep")
    app.text_input(key="epsilon_sweep_eps").set_value(eps).run()
    assert not app.exception
    assert len(app.error) == 1
    assert said in app.error[0].value


def test_no_attack_chosen_is_said(lab: Lab) -> None:
    """An empty selection is no error."""
    lab.model()
    app = lab.open("epsilon_sweep", epsilon_sweep_attacks="fgsm")
    app.multiselect(key="epsilon_sweep_attacks").set_value([]).run()
    assert not app.exception
    assert "Choose at least one attack" in texts(app)


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


def test_transfer_asks_for_a_surrogate(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the attack's settings one of the saved models is chosen, and what is run names it."""
    first, victim = lab.model(seed=1), lab.model()
    submitted = asked(monkeypatch)
    app = lab.open(
        "epsilon_sweep",
        epsilon_sweep_models=victim.id,
        epsilon_sweep_attacks="transfer_linf",
        epsilon_sweep_transfer_surrogate=first.id,
    )
    assert not app.exception
    assert app.selectbox(key="epsilon_sweep_transfer_surrogate").value == first.id
    next(button for button in app.button if button.label.startswith("Run")).click().run()
    (task,) = submitted
    assert isinstance(task, specs.CompareSpec)
    assert task.attacks[0].surrogate == first.id


def test_another_norm_has_its_own_attacks_and_ladder(lab: Lab) -> None:
    """In l0 a ladder of small numbers changes nothing: a change of the norm puts in counts, without grey levels."""
    lab.model(network="mlp")
    app = lab.open("epsilon_sweep")
    assert "/255" in next(c.value for c in app.caption if c.value.startswith("= "))
    app.get_by_key("epsilon_sweep_norm").set_value("l0").run()
    assert not app.exception
    assert app.text_input(key="epsilon_sweep_eps").value == "0 1 2 5 10 15 20"
    assert app.multiselect(key="epsilon_sweep_attacks").value == [sweep_choice.usual_attack("l0")]
    assert app.select_slider(key="epsilon_sweep_at").value == 5
    assert not any("/255" in c.value for c in app.caption)
    app.get_by_key("epsilon_sweep_norm").set_value("linf").run()
    assert app.multiselect(key="epsilon_sweep_attacks").value == ["pgd_linf"]


@pytest.mark.parametrize("kind", ["pgd_l2", "PGD ℓ2"])
def test_attack_in_an_address_says_its_norm(lab: Lab, kind: str) -> None:
    """A link need not name both."""
    model = lab.model()
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_attacks=kind)
    assert app.session_state["epsilon_sweep_norm"] == "l2"
    assert app.multiselect(key="epsilon_sweep_attacks").value == ["pgd_l2"]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_colour_images_have_budgets_of_their_own(lab: Lab, norm: str) -> None:
    """In the units of the literature, 8/255 among them exactly; the slider starts at one of them above 0."""
    model = lab.model(network="linear", data={"dataset": "cifar10"})
    app = lab.open("epsilon_sweep", epsilon_sweep_models=[model.id], epsilon_sweep_norm=norm)
    text = app.text_input(key="epsilon_sweep_eps").value
    assert text == sweep_choice.ladder(norm, [model])
    assert (text == sweep_choice.LADDERS[norm]) == (norm == "l0")
    assert norm != "linf" or 8 / 255 in several(text)
    assert app.select_slider(key="epsilon_sweep_at").value > 0


def test_what_is_bundled_of_colour_images_is_what_the_page_asks_for() -> None:
    """The same budgets, to the last bit."""
    assert tuple(several(sweep_choice.COLOUR["linf"])) == bundled_results.COLOUR_EPS
