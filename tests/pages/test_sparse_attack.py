"""The page of the Jacobian attacks: its tabs on really trained small networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.jobs import at_once, running
from core.storage import store
from tests.pages.said import text
from tests.pages.sparse import PAGE, SCALAR, case_of, trained
from ui.show import at_once as shown_at_once
from ui.sparse import choice, trace, views
from ui.sparse.case import with_article

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

TABS = ("One image", "How sparse can it be?", "All pixels a little", "Many images", "Quiz", "Export")
MANY = specs.TrainSpec(network="linear", epochs=3)


def pictures(app: AppTest) -> list[str]:
    """What the pictures on the page show, in words."""
    return [html.value.split('alt="')[1].split('"')[0] for html in app.get("html") if 'alt="' in str(html.value)]


def test_opens_with_an_image_turned_into_another_class(lab: Lab) -> None:
    """Without any click: the answer in a sentence with the count of the stored attack, and the strip of pictures."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE)
    case = case_of(model)
    spec = specs.AttackSpec(
        model=model.id, attack={"name": "jacobian_sparse", "max_features": 60}, indices=(case.index,)
    )
    found = at_once.answer(spec, lab.root, seconds=300).table("images").iloc[0]
    assert found["success"]
    unit = "pixel of 64 is" if found["l0"] == 1 else "pixels of 64 are"
    assert app.success[0].value == f"**{found['l0']:.0f} {unit} enough to turn this 4 into a 9.**"
    assert any("the signed Jacobian; the change; the result, classified as 9" in alt for alt in pictures(app))
    assert "∂N/∂x" in text(app)
    assert app.slider(key=f"{PAGE}_threshold").value == 0


def test_what_is_made_at_once_is_not_stored(lab: Lab) -> None:
    """Moving a slider leaves nothing on disk; the result is that of a stored run."""
    model = trained(lab, SCALAR)
    lab.open(PAGE)
    assert not (lab.root / model.id / "results").exists()
    case = case_of(model)
    spec = specs.AttackSpec(model=model.id, attack="jacobian_sparse", indices=(case.index,))
    made = at_once.answer(spec, lab.root, seconds=300)
    stored = running.run(spec, lab.root, device="cpu")
    assert isinstance(stored, store.Artifact)
    assert made.id == stored.id
    assert made.spec() == stored.spec()
    assert np.array_equal(made.arrays("images")["x_adv"], stored.arrays("images")["x_adv"])
    assert isinstance(at_once.answer(spec, lab.root, seconds=300), store.Artifact)
    with pytest.raises(ValueError, match="expected one of"):
        made.table("nothing")


def test_what_takes_too_long_is_offered_as_a_job(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence and a button; the image is shown all the same."""
    trained(lab, SCALAR)
    monkeypatch.setattr(shown_at_once, "SECONDS", -1.0)
    app = lab.open(PAGE, sparse_attack_image=2)
    assert "takes longer than" in text(app)
    assert app.button(key=f"{PAGE}_attack_in_background").label == "Run it in the background"
    assert any("The original, classified as 4" in alt for alt in pictures(app))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("tab", TABS)
def test_every_tab_draws(lab: Lab, tab: str) -> None:
    """Each tab of a single-output network has an answer at once, opened by its address."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab=tab)
    assert not app.exception
    assert not app.error
    if tab != "Quiz":
        assert len(app.get("plotly_chart")) or pictures(app)


def test_dense_formula_with_and_without_the_box(lab: Lab) -> None:
    """The box takes room away, so the formula needs at least as much."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab="All pixels a little")
    frame = app.dataframe[0].value
    assert list(frame["formula"]) == ["in the box [0, 1]", "no box"]
    assert frame["ε*"][0] >= frame["ε*"][1] > 0


@pytest.mark.parametrize("target", ["any", "3"])
def test_model_of_ten_classes(lab: Lab, target: str) -> None:
    """Margins stand in for the score, and a target may be chosen."""
    trained(lab, MANY)
    app = lab.open(PAGE, sparse_attack_target=target)
    assert not app.exception
    assert app.selectbox(key=f"{PAGE}_output").value == "margin"
    said = [box.value for box in (*app.success, *app.warning, *app.error)]
    assert any("turn this 4 into" in line or "still classified as 4" in line for line in said)


def test_verdict_has_three_states(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fooled, another class than the target, not fooled: each in its box, with the count and its unit."""
    case = case_of(trained(lab, MANY), label=4, target=9)
    drawn: list[tuple[str, str]] = []
    for box in ("success", "warning", "error"):
        monkeypatch.setattr(views.st, box, lambda sentence, icon, box=box: drawn.append((box, sentence)))
    for l0, pred, success in ((5, 9, True), (1, 9, True), (7, 8, False), (60, 4, False)):
        views.few_verdict(case, pd.Series({"l0": l0, "pixels": l0, "pred": pred, "success": success}))
    assert drawn == [
        ("success", "**5 pixels of 64 are enough to turn this 4 into a 9.**"),
        ("success", "**1 pixel of 64 is enough to turn this 4 into a 9.**"),
        ("warning", "**7 changed pixels of 64 turn this 4 into an 8**, not into the target class."),
        ("error", "**60 changed pixels of 64 are not enough: this 4 is still classified as 4.**"),
    ]
    assert [with_article(name) for name in ("airplane", "dog", "8", "4")] == ["an airplane", "a dog", "an 8", "a 4"]


def test_scrubber_rebuilds_the_image_from_the_trace(lab: Lab) -> None:
    """After 0 changes the image is the original; after all that are kept it is the stored result."""
    model = trained(lab, SCALAR)
    case = case_of(model)
    spec = specs.AttackSpec(model=model.id, attack="jacobian_sparse", indices=(case.index,))
    arrays = at_once.answer(spec, lab.root, seconds=300).arrays("images")
    steps = trace.Trace.of(arrays)
    assert np.array_equal(steps.image(0), arrays["x"][0])
    assert np.array_equal(steps.image("swapped"), arrays["x_adv"][0])
    margins = case.margin(case.read(np.stack([steps.image(k) for k in range(len(steps.order) + 1)])))
    assert np.allclose(margins, steps.margin, atol=1e-4)
    table = steps.table(case)
    k, row, column = 0, int(table["row"][0]), int(table["column"][0])
    assert steps.image(k + 1)[0, row, column] == table["new"][0]
    app = lab.open(PAGE, sparse_attack_step="1")
    assert app.select_slider(key=f"{PAGE}_step").value == 1
    assert any("signed Jacobian" in alt for alt in pictures(app))
    assert not app.exception


def test_threshold_decides_which_images_are_right(lab: Lab) -> None:
    """With τ above every score, no image of the second class is read correctly, and the page says so."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_source="1")
    top = app.slider(key=f"{PAGE}_threshold").max
    app.slider(key=f"{PAGE}_threshold").set_value(top).run()
    assert "No test image of class 9 is classified correctly" in text(app)


def test_quiz_counts_answers(lab: Lab) -> None:
    """One answer counts once; the next pair asks anew."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab="Quiz")
    app.button(key=f"{PAGE}_quiz_left").click().run()
    assert not app.exception
    assert "of 1 correct so far" in text(app)
    assert app.button(key=f"{PAGE}_quiz_right").disabled
    app.button(key=f"{PAGE}_quiz_next").click().run()
    assert not app.button(key=f"{PAGE}_quiz_left").disabled


def test_images_that_cannot_be_read_are_one_sentence(lab: Lab) -> None:
    """A model whose test table names images that the data set does not have: an error, no exception."""
    lab.model(data={"dataset": "digits", "classes": [4, 9]}, scalar=True)
    app = lab.open(PAGE, sparse_attack_source="0")
    assert not app.exception
    assert "has no test image" in text(app)


def test_slope_is_the_derivative_of_the_margin(lab: Lab) -> None:
    """Of the linear network exactly: the margin moves by slope · δ."""
    case = case_of(trained(lab, MANY), label=4, target=9)
    delta = np.random.default_rng(0).uniform(-0.01, 0.01, case.x.shape).astype(np.float32)
    before, after = case.margin(case.read(np.stack([case.x, case.x + delta])))
    assert after - before == pytest.approx(float((case.slope(9) * delta).sum()), abs=1e-4)


@pytest.mark.parametrize("method", [name for name in choice.OTHERS if name in specs.METHODS])
def test_other_methods_stand_beside_the_greedy_one(lab: Lab, method: str) -> None:
    """Their verdict, cost and changed pixels, as many as the verdict says."""
    trained(lab, MANY)
    app = lab.open(PAGE, sparse_attack_method=method)
    assert "forward and" in text(app)
    frame = next(table.value for table in app.dataframe if "old" in table.value)
    said = next(box.value for box in (*app.success, *app.warning, *app.error) if "of 64" in box.value)
    assert len(frame) == int(said.split()[0].strip("*")) > 0


def test_settings_of_another_method_are_those_of_its_attack(lab: Lab) -> None:
    """JSMA on probabilities, four pairs by one Jacobian: fewer passes than as the paper has it, and its own result."""
    trained(lab, MANY)
    app = lab.open(PAGE, sparse_attack_method="jsma")

    def backwards() -> int:
        return int(text(app).split(" backward passes")[0].split()[-1].replace(",", ""))

    before = backwards()
    app.number_input(key=f"{PAGE}_jsma_pairs").set_value(4)
    app.segmented_control(key=f"{PAGE}_jsma_outputs").set_value("probabilities").run()
    assert not app.exception
    assert 0 < backwards() < before


def test_trace_lists_what_swaps_brought_in(lab: Lab) -> None:
    """Pruned changes that swaps took out, and those they brought in, are told apart; the last place is the result."""
    model = trained(lab, MANY)
    case = case_of(model)
    x = np.zeros((1, 8, 8), np.float32)
    result = x.copy()
    result[0, 0, 0] = result[0, 5, 5] = 1
    steps = trace.Trace(
        x,
        np.array([0, 9, 18, 27]),
        np.ones(4, np.float32),
        np.arange(5.0),
        np.array([True, True, True, False]),
        3,
        result,
    )
    assert steps.swapped
    assert np.array_equal(steps.image("swapped"), result)
    table = steps.table(case)
    assert list(table["needed"]) == ["yes", "swapped out", "swapped out", "put back", "swapped in"]
    assert list(table["row"]) == [0, 1, 2, 3, 5]


def test_pixel_budget_is_a_slider(lab: Lab) -> None:
    """It ends at the image's size, and a larger choice for other images does not break the page."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_max_features=1)
    slider = app.slider(key=f"{PAGE}_max_features")
    assert (slider.min, slider.max, slider.value) == (1, 64, 1)
    assert "1 changed pixel of 64" in text(app) or "1 pixel of 64 is enough" in text(app)
    app.session_state[f"{PAGE}_max_features"] = 150
    app.run()
    assert not app.exception
    assert app.slider(key=f"{PAGE}_max_features").value <= 64
