"""Reference models on the pages: listed on the first start, shown with their cards, named where images are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from core import specs
from core.data import folder
from core.models.reference import REFERENCES
from core.storage import store
from tests.pages.test_train import texts
from ui.app import routes, sources
from ui.models import references
from ui.show import model_names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pages.conftest import Lab

DIGITS = REFERENCES["digits-standard"].spec
MNIST = REFERENCES["mnist-lenet"].spec
CIFAR = REFERENCES["cifar10-standard"].spec
"""Of images that no embedded data set can stand in for."""


def plant(lab: Lab, spec: specs.TrainSpec, **more: Any) -> store.Artifact:
    """A model made from the fields of `spec`."""
    return lab.model(**{name: getattr(spec, name) for name in specs.TrainSpec.model_fields}, **more)


@pytest.fixture
def ships(lab: Lab, tmp_path: Path) -> list[store.Artifact]:
    """Two models that ship: one of the embedded digits, one of CIFAR-10, which has no images here."""
    where = tmp_path / "reference"
    return [plant(lab, spec, ships=where, accuracy=0.95) for spec in (DIGITS, CIFAR)]


@pytest.fixture
def blind(lab: Lab, tmp_path: Path) -> store.Artifact:
    """A model that ships whose images are not there, and no others that fit."""
    return plant(lab, CIFAR, ships=tmp_path / "reference", accuracy=0.95)


@pytest.mark.parametrize("name", ["digits-standard", "cifar10-standard"])
def test_the_first_start_shows_the_bundled_models(lab: Lab, ships: list[store.Artifact], name: str) -> None:
    """One data set at a time: a chart and a table with measured shares and their ε."""
    title = specs.DATASETS[REFERENCES[name].spec.data.dataset].title
    app = lab.open("models", models_data=title)
    assert len(app.get("plotly_chart")) == 1
    frame = app.dataframe[0].value
    assert list(frame["Name for commands"]) == [name]
    assert list(frame["Under PGD"]) == [25]
    assert list(frame["ε"]) == ["0.15"]
    assert "models_first" not in [button.key for button in app.button]


def test_models_of_ones_own_have_a_tab(lab: Lab, ships: list[store.Artifact]) -> None:
    """What is bundled is not listed twice."""
    own = lab.model(network="mlp")
    app = lab.open("models", models_tab="Yours")
    assert list(app.dataframe[0].value["Id"]) == [own.id]
    assert {model.id for model in sources.models()} == {own.id, ships[0].id, ships[1].id}


def test_models_are_offered_in_an_order_that_is_good_to_begin_with(lab: Lab, tmp_path: Path) -> None:
    """One's own, then those whose images are here, those shown others, 8 by 8, at the end those without any images."""
    order = ("digits28-standard", "digits28-pgd", "mnist-lenet", "digits-standard", "digits-pgd", "cifar10-standard")
    planted = {name: plant(lab, REFERENCES[name].spec, ships=tmp_path / "reference") for name in reversed(order)}
    own = lab.model(network="mlp")
    assert [model.id for model in sources.models()] == [own.id, *(planted[name].id for name in order)]


def test_mnist_is_what_pages_start_with_where_it_is(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its models come before those of the embedded digits then."""
    assert sources.start_data() == "digits28"
    planted = [
        plant(lab, REFERENCES[name].spec, ships=tmp_path / "reference") for name in ("digits28-pgd", "mnist-pgd")
    ]
    assert [model.id for model in sources.models()] == [model.id for model in planted]
    monkeypatch.setattr(sources, "present", lambda dataset: True)
    assert sources.start_data() == "mnist"
    assert [model.id for model in sources.models()] == [model.id for model in reversed(planted)]


def test_the_card_of_a_model_that_ships(lab: Lab, ships: list[store.Artifact]) -> None:
    """Its settings on the training page find it: purpose, measurements, precision, time and the command."""
    app = lab.open("train", train_dataset="digits", train_tab="Against earlier ones")
    said = texts(app)
    assert "Reference model `digits-standard`" in said
    assert "Weights in float16: 0 of 360 test predictions differ" in said
    assert "`python -m core reference digits-standard --make` makes it anew" in said
    frame = next(element.value for element in app.dataframe if "Measured" in element.value)
    assert list(frame["Measured"]) == ["Clean", "Under PGD"]
    assert list(frame["Share"]) == [95, 25]
    assert "Median ℓ2" not in frame
    assert "Beside the reference model" not in said  # it is that model


def test_the_card_of_a_chosen_row_is_shown_without_its_images(lab: Lab, blind: store.Artifact) -> None:
    """Confusion, curves and measurements need no images; what attacking it needs stands beside the links."""
    app = lab.open("models", models_data="CIFAR-10")
    app.session_state["models_references"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    assert "Reference model `cifar10-standard`" in texts(app)
    assert "CIFAR-10 is not on this machine. Attacking this model needs its images." in app.warning[0].value
    assert len(app.get("plotly_chart")) == 3


PAGES = {name: route.model_widget for name, route in routes.ROUTES.items() if route.model_widget}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_breaks_without_the_images(lab: Lab, blind: store.Artifact, page: str) -> None:
    """Every page on a model whose images are missing says so, with the ways to mend it."""
    app = lab.open(page, **{f"{page}_{PAGES[page]}": blind.id})
    assert not app.exception
    assert "CIFAR-10 is not on this machine" in texts(app)
    assert app.button(key=f"{page}_download_cifar10").label == "Download CIFAR-10 (170 MB)"


def test_a_download_that_fails_is_said(lab: Lab, blind: store.Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched unless asked for; then one sentence, and what happened folded."""
    asked: list[str] = []

    def refuse(data: specs.DataSpec, *more: Any, **named: Any) -> None:
        asked.append(data.dataset)
        raise folder.DataMissing("The download failed: no route to host")

    monkeypatch.setattr(sources, "dataset", refuse)
    app = lab.open("universal", universal_model=blind.id)
    assert not asked
    app.button(key="universal_download_cifar10").click().run()
    assert asked == ["cifar10"]
    assert app.error[0].value.startswith("CIFAR-10 could not be downloaded")
    assert "no route to host" in texts(app)


def test_models_whose_images_are_here_come_first(lab: Lab, ships: list[store.Artifact]) -> None:
    """The page starts with a model that it can attack at once."""
    app = lab.open("universal")
    assert app.selectbox(key="universal_model").value == ships[0].id
    assert model_names.label(ships[0]).endswith(model_names.name(ships[0]))
    assert "· bundled" in model_names.facts(ships[0])
    assert not any("not on this machine" in warning.value for warning in app.warning)


def test_a_trained_model_stands_beside_the_reference_of_its_kind(lab: Lab, ships: list[store.Artifact]) -> None:
    """Accuracy and seconds of both, and whether the difference is beyond chance."""
    lab.model(network="lenet", seed=5, accuracy=0.8)
    app = lab.open("train", train_dataset="digits", train_seed=5, train_tab="Against earlier ones")
    said = texts(app)
    assert "Beside the reference model of the same kind, `digits-standard`" in said
    assert "15.00% below the reference's." in said
    frame = next(element.value for element in app.dataframe if list(element.value.columns)[:1] == ["Model"])
    assert len(frame) == 2
    assert list(frame["Test accuracy"]) == [80, 95]
    assert list(frame["Seconds"]) == [1.5, 1.5]


def test_own_training_of_a_references_settings_stands_beside_that_one(lab: Lab, ships: list[store.Artifact]) -> None:
    """The same settings trained here: beside the model that ships, which itself stands beside none."""
    query = {"train_dataset": "digits", "train_tab": "Against earlier ones"}
    assert "Beside the reference" not in texts(lab.open("train", **query))
    lab.model(network="lenet", accuracy=0.8)
    said = texts(lab.open("train", **query))
    assert "Beside the reference model of the same kind, `digits-standard`" in said
    assert "15.00% below the reference's." in said


def test_robust_accuracies_at_different_budgets_are_not_compared(lab: Lab) -> None:
    """Said in words; at the same budget the difference is given."""

    def model(eps: float, robust: float, seed: int) -> store.Artifact:
        measured = {"robust_accuracy": robust, "robust_eps": eps, "robust_n": 143}
        return lab.model(recipe={"name": "pgd", "eps": eps}, seed=seed, metrics=measured)

    one, same, other = model(0.1, 0.6, 1), model(0.1, 0.55, 2), model(0.2, 0.5, 3)
    assert "Robust accuracy 5.0% above." in references.compared(one, same)
    assert "the 95 % intervals overlap" in references.compared(one, same)
    assert "different ε: they are not comparable" in references.compared(one, other)


def test_measurements_in_words() -> None:
    """What has no number anywhere has no column; ε as one would type it."""
    columns = ("eps", "median_l2", "median_linf", "forwards", "backwards")
    table = pd.DataFrame(
        {
            **{"measure": ["clean", "generator_strong"], "n": [10, 5], "value": [0.9, 1.0]},
            **{"low": [0.6, 0.5], "high": [1.0, 1.0], "settings": ["", "seed 0"]},
            **{name: [float("nan"), 2.0] for name in columns},
        }
    )
    frame = references.measurements(table)
    assert list(frame["Measured"]) == ["Clean", "Generator attack, strong: success"]
    assert list(frame["ε"]) == ["", "2"]
    assert frame["Evaluations"][1] == 4
    assert "Median ℓ2" not in references.measurements(table.assign(median_l2=float("nan")))
