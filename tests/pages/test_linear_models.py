"""The page of linear models: what it says is what core computes; every tab works with what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import specs
from core.jobs import running
from core.linear import toy
from tests.pages.said import text
from ui.linear import images, limits, points

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

PAGE = "linear_models"
TEN = specs.TrainSpec(network="linear", epochs=3)
SCALAR = specs.TrainSpec(data=specs.DataSpec(classes=(4, 9)), network="linear", scalar=True, epochs=3)
LESSON = "Why linear models can be solved exactly"
TABS = {"plane": "In the plane, with the SVM", "images": "Images, exactly"}


def order(app: AppTest) -> list[str]:
    """What is on the page from the top to the bottom: kinds of elements, of expanders their labels."""

    def walk(node: Any) -> Iterator[str]:
        yield getattr(node, "label", "") if node.type == "expander" else node.type
        for child in getattr(node, "children", {}).values():
            yield from walk(child)

    return list(walk(app.main))


@pytest.mark.parametrize("part", ["toy", "plane", "images"])
def test_the_answer_stands_above_the_lesson(lab: Lab, part: str) -> None:
    """A chart first; what explains it, and the settings that seldom matter, are folded."""
    running.run(TEN, lab.root, device="cpu")
    app = lab.open(PAGE, **({} if part == "toy" else {"linear_models_part": TABS[part]}))
    drawn = order(app)
    assert drawn.index("plotly_chart") < drawn.index(LESSON)
    if part == "images":  # the weights, too
        assert drawn.index("html") < drawn.index(LESSON)
    assert {"More settings", LESSON} <= set(drawn)
    assert not any(folded.proto.expanded for folded in app.expander)


def test_toy_shows_the_flip_and_its_numbers(lab: Lab) -> None:
    """Seven steps flip; fewer do not, and it is said which step will; another objective is slower."""
    app = lab.open(PAGE)
    assert "Flipped at step 7" in text(app)
    shown = {metric.label: metric.value for metric in app.metric}
    path = toy.input_path(toy.X_A, rate=0.1, steps=7)
    assert shown["f(x)"] == f"{path.f[-1]:.4f}"
    assert shown["ℓ2 distance to x_B"] == f"{np.linalg.norm(path.points[-1] - toy.X_B):.4f}"
    app.slider(key=f"{PAGE}_steps").set_value(0).run()
    assert "It flips at step 7" in text(app)
    assert "= (0.105, 0, 0.105, 0, 0, 0)" in text(app)
    assert "= (−0.105, 0.105, −0.105, 0.105, 0, 0)" in text(app)
    app.selectbox(key=f"{PAGE}_objective").select("output").run()
    assert "It flips at step 29" in text(app)
    assert not app.exception


@pytest.mark.parametrize(("norm", "loss"), [("l2", "hinge"), ("linf", "hinge"), ("l2", "logistic")])
def test_plane_draws_what_was_trained(lab: Lab, norm: str, loss: str) -> None:
    """Objective and robust accuracy are core's; FGSM's step is the maximiser in linf."""
    from core.linear import training

    app = lab.open(PAGE, linear_models_part=TABS["plane"], linear_models_norm=norm, linear_models_loss=loss)
    x, y = points.points(40, 0.8, 0)
    found = training.fit(x, y, eps=0.3, norm=norm, loss=loss)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Rε"] == f"{found.objective:.4f}"
    accuracy = training.robust_accuracy(found.weight, found.bias, x, y, eps=0.3, norm=norm)
    assert shown["Robust accuracy"] == f"{accuracy:.1%}"
    assert ("FGSM *is* the maximiser" in text(app)) == (norm == "linf")
    assert len(app.get("plotly_chart")) == 4
    (apart,) = re.findall(r"differ by at most (\S+)\.$", text(app), re.MULTILINE)
    assert float(apart) < 1e-4


def test_hard_margin_is_the_limit() -> None:
    """‖w‖ = 1/(γ − ε) below γ, none beyond; what overlaps has no γ."""
    from core.linear import training

    gamma = training.largest_margin(*points.points(10, 2.0, 0), intercept=False)
    assert gamma > 0.3
    said = limits.hard(10, 2.0, 0, 0.3)
    assert f"γ = **{gamma:.4f}**" in said
    assert f"‖w‖ = **{1 / (gamma - 0.3):.4f}**" in said
    assert "cosine 1.0000 with the hard margin" in said
    assert "beyond γ, there is none" in limits.hard(10, 2.0, 0, gamma + 0.1)
    assert "so γ = 0" in limits.hard(40, 0.1, 0, 0.3)


def test_shortest_of_many_minimisers_is_drawn() -> None:
    """Where the robust hinge loss is 0 for many w, the hard margin's stands for them, not a corner of a programme."""
    from core.linear import training

    x, y = points.points(10, 2.0, 0)
    found = points.solved(10, 2.0, 0, "l2", "hinge", 0.3)
    assert np.linalg.norm(found.weight) == pytest.approx(1 / (training.largest_margin(x, y) - 0.3), rel=1e-6)
    assert training.risk(found.weight, found.bias, x, y, eps=0.3) == pytest.approx(0, abs=1e-9)


def test_plane_shows_both_limits(lab: Lab) -> None:
    """The exact worst sum beside the formula, equal where some margin is at most 1; points that no line separates."""
    app = lab.open(PAGE, linear_models_part=TABS["plane"])
    exact, formula = re.findall(r"exactly \*\*(\S+)\*\*, by the formula (\S+); they agree", text(app))[0]
    assert exact == formula
    each = float(re.findall(r"for each point instead: (\S+),", text(app))[0])
    assert each <= float(exact)
    assert "so γ = 0" in text(app)


@pytest.mark.slow
def test_plane_says_why_there_is_no_minimum(lab: Lab) -> None:
    """Far classes, logistic loss: said in words; the hinge loss there ends at 0."""
    app = lab.open(PAGE, linear_models_part=TABS["plane"], linear_models_apart="3.0", linear_models_loss="logistic")
    assert "has no minimum at this ε" in text(app)
    app.segmented_control(key=f"{PAGE}_loss").set_value("hinge").run()
    assert {metric.label: metric.value for metric in app.metric}["Rε"] == "0.0000"


def test_plane_at_the_ends_of_its_sliders(lab: Lab) -> None:
    """No ball, and one so large that w = 0."""
    app = lab.open(PAGE, linear_models_part=TABS["plane"], linear_models_plane_eps="0.0")
    assert not app.exception
    app.slider(key=f"{PAGE}_plane_eps").set_value(1.5).run()
    assert not app.exception
    assert "w = 0" in text(app)


def test_images_without_a_model_offer_to_train_a_linear_one(lab: Lab) -> None:
    """A LeNet in the store does not fit: the button trains a linear model."""
    lab.model(network="lenet")
    app = lab.open(PAGE, linear_models_part=TABS["images"])
    assert "No saved model fits this page yet" in text(app)
    assert app.button(key=f"{PAGE}_first").label == "Train a first model on digits (seconds)"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_images_show_exact_below_attacks(lab: Lab, norm: str) -> None:
    """The gap in words is the table's; the smallest change flips; its count or length is core's."""
    model = running.run(TEN, lab.root, device="cpu")
    app = lab.open(PAGE, linear_models_part=TABS["images"], linear_models_image_norm=norm, linear_models_image_n="60")
    table = images.measured(model.id, lab.root, norm, 60)
    attacked = table.drop(columns=["eps", "n", "exact", "exact without box"])
    assert len(attacked.columns) == (2 if norm == "linf" else 1)
    assert (attacked.to_numpy() >= table[["exact"]].to_numpy()).all()
    assert (table["exact"] >= table["exact without box"]).all()
    assert table["exact"].iloc[0] > 0.8
    assert table["exact"].iloc[-1] < table["exact"].iloc[0]
    gap = (attacked.min(axis=1) - table["exact"]).max()
    assert (f"**{100 * gap:.2f} points**" if gap > 0 else "No gap") in text(app)
    index = int(re.findall(r"est image #(\d+)", text(app))[0])
    looked = images.one(model.id, lab.root, index, norm)
    said = f"**{int(looked['distance'])} feature" if norm == "l0" else f"**{looked['distance']:.5f}**"
    assert said in text(app)
    assert looked["before"].argmax() == looked["y"]
    assert looked["after"].argmax() == looked["rival"]
    assert ((looked["x_adv"] >= 0) & (looked["x_adv"] <= 1)).all()


def test_images_towards_a_class(lab: Lab) -> None:
    """Never nearer than the nearest class; the words name the target; the class that it has is reported."""
    model = running.run(TEN, lab.root, device="cpu")
    app = lab.open(PAGE, linear_models_part=TABS["images"], linear_models_image_n="40", linear_models_target="7")
    index = int(re.findall(r"est image #(\d+) is not classified as 7", text(app))[0])
    looked = images.one(model.id, lab.root, index, "linf", 7)
    assert f"**{looked['distance']:.5f}**" in text(app)
    assert looked["after"].argmax() == 7
    assert looked["distance"] >= images.one(model.id, lab.root, index, "linf")["distance"] - 1e-9
    app.selectbox(key=f"{PAGE}_target").select(0).run()
    assert "This image is classified as 0 without any change" in text(app)


def test_images_fewest_features_towards_a_class(lab: Lab) -> None:
    """The words have the integer programme's count and its proof, and the image is classified as the target."""
    model = running.run(TEN, lab.root, device="cpu")
    settings = {"linear_models_image_n": "40", "linear_models_target": "7", "linear_models_image_norm": "l0"}
    app = lab.open(PAGE, linear_models_part=TABS["images"], **settings)
    index = int(re.findall(r"class of test image #(\d+) from \d to 7", text(app))[0])
    looked = images.one(model.id, lab.root, index, "l0", 7)
    assert f"**{int(looked['distance'])} feature" in text(app)
    assert "an integer programme" in text(app)
    assert looked["after"].argmax() == 7
    assert looked["distance"] >= images.one(model.id, lab.root, index, "l0")["distance"]


def test_images_of_a_scalar_network(lab: Lab) -> None:
    """One score: one picture of weights."""
    running.run(SCALAR, lab.root, device="cpu")
    app = lab.open(PAGE, linear_models_part=TABS["images"], linear_models_image_n="40")
    assert "The weights as pictures" in text(app)
    assert not app.exception
