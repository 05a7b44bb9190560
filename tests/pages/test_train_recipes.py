"""The training page's recipes: their settings, and ε however it is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core import specs
from core.jobs import queue
from ui.text import eps_text

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

from tests.pages.test_train import button, opened, submitted, texts


def test_recipe_shows_its_own_settings(lab: Lab) -> None:
    """A recipe appears with its settings, and an address may name it; what it is named in lists tells its ε."""
    app = opened(lab)
    assert app.selectbox(key="train_recipe").value == "standard"
    app.selectbox(key="train_recipe").set_value("trades").run()
    assert not app.exception
    assert app.number_input(key="train_trades_beta").value == 1.0
    assert specs.TradesRecipe(eps=0.2).label() == "TRADES 0.2"
    assert opened(lab, train_recipe="pgd").selectbox(key="train_recipe").value == "pgd"


@pytest.mark.parametrize("name", specs.RECIPES)
def test_every_recipe_has_a_form_whose_defaults_are_its_own(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the untouched form asks for is the recipe as the command line has it."""
    asked: list[Any] = []
    monkeypatch.setattr(queue, "submit", submitted(asked))
    app = opened(lab, train_recipe=name)
    button(app).click().run()
    assert not app.exception
    assert asked[0].recipe == specs.RECIPES[name]()


def test_report_says_that_patience_was_over(lab: Lab) -> None:
    """A training that stopped early has fewer epochs than were asked for, and says why."""
    row = {"loss": 1, "train_accuracy": 0.5, "validation_loss": 1, "validation_accuracy": 0.9}
    lab.model(network="mlp", patience=1, history=[{**row, "epoch": 1}, {**row, "epoch": 2, "stopped": 1.0}])
    app = opened(lab)
    app.session_state["train_saved"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    assert "Stopped after epoch 2" in texts(app)


@pytest.mark.parametrize(("typed", "eps"), [("8/255", 8 / 255), ("0.03", 0.03), (" 2 / 255 ", 2 / 255), ("1", 1.0)])
def test_eps_may_be_typed_in_grey_levels(lab: Lab, typed: str, eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual 8/255 is asked for as it is written."""
    asked: list[Any] = []
    monkeypatch.setattr(queue, "submit", submitted(asked))
    app = opened(lab, train_recipe="pgd", train_pgd_eps=typed)
    button(app).click().run()
    assert not app.exception
    assert asked[0].recipe.eps == eps
    assert f"= {255 * eps:.4g}/255" in texts(app)


@pytest.mark.parametrize("typed", ["much", "1/0", "8/255/2", "0", "2", "-0.1", "nan", ""])
def test_nonsense_eps_is_refused_in_one_sentence(lab: Lab, typed: str) -> None:
    """The box keeps what was typed, and nothing is trained."""
    app = opened(lab, train_recipe="pgd")
    app.text_input(key="train_pgd_eps").set_value(typed)
    button(app).click().run()
    assert not app.exception
    assert len(app.error) == 1
    assert "eps" in app.error[0].value
    assert app.text_input(key="train_pgd_eps").value == typed


@pytest.mark.parametrize(
    ("value", "said"), [(0.3, "0.3"), (8 / 255, "8/255"), (1.0, "1"), (0.2, "0.2"), (0.123456789, "0.123456789")]
)
def test_eps_is_written_exactly(value: float, said: str) -> None:
    """What is written is read back as the same number."""
    assert eps_text(value) == said


def test_settings_of_a_robust_model_are_opened(lab: Lab) -> None:
    """The recipe and its settings come along, and the report warns where the network overfitted to one step."""
    recipe = {"name": "fgsm", "eps": 8 / 255, "start": "ball"}
    row = {"loss": 1, "train_accuracy": 0.5, "validation_loss": 1, "validation_accuracy": 0.9, "eps": 0.2}
    history = [
        {**row, "epoch": epoch, "robust_accuracy": 0.6, "fgsm_accuracy": 0.7, "overfitted": float(epoch == 2)}
        for epoch in (1, 2)
    ]
    lab.model(network="mlp", recipe=recipe, history=history)
    app = lab.open("models")
    app.session_state["models_saved"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    app.button(key="models_settings_of").click().run()
    assert not app.exception
    assert app.selectbox(key="train_recipe").value == "fgsm"
    assert app.text_input(key="train_fgsm_eps").value == "8/255"
    assert button(app).label == "Open the trained model"  # exactly that model: nothing was rounded
    assert "Overfitting to a single step in epoch 2" in texts(app)
    assert "went back" not in texts(app)
