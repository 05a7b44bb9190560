"""The page of the Jacobian attacks: its tabs on really trained small networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.evaluation.tables.enumeration import Enumeration
from core.jobs import at_once, queue, running
from core.storage import store
from ui.form import samples
from ui.show import at_once as shown_at_once
from ui.sparse import choice, enumeration, fewest, trace, views
from ui.sparse.case import Case, with_article

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

PAGE = "sparse_attack"
TABS = ("One image", "How sparse can it be?", "All pixels a little", "Many images", "Quiz", "Export")
HOW_SPARSE = {"sparse_attack_tab": "How sparse can it be?"}
SCALAR = specs.TrainSpec(data=specs.DataSpec(classes=(4, 9)), network="mlp", scalar=True, epochs=15)
MANY = specs.TrainSpec(network="linear", epochs=3)


def trained(lab: Lab, spec: specs.TrainSpec) -> store.Artifact:
    """A really trained network on digits."""
    made = running.run(spec, lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    return made


def text(app: AppTest) -> str:
    """All that the page says in boxes and captions."""
    blocks = (*app.info, *app.success, *app.warning, *app.error, *app.caption, *app.markdown)
    return "\n".join(block.value for block in blocks)


def case_of(model: store.Artifact, label: int = 0, target: int | None = None) -> Case:
    """The first image of a class, as the page would take it."""
    index = int(samples.candidates(model.table("test"), label).iloc[0]["index"])
    images = samples.images(model, [index])
    assert images is not None
    return Case.of(model, index, label, images[0], target=target)


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


def test_many_images(lab: Lab) -> None:
    """A first distribution at once, the running job, then the one that was asked for, with what is proven."""
    model = trained(lab, SCALAR)
    spec = specs.AttackSpec(
        model=model.id,
        attack={"name": "jacobian_sparse", "max_features": 60},
        n=200,
        source=0,
    )
    app = lab.open(PAGE, sparse_attack_tab="Many images")
    assert "of 20; 95 % interval" in text(app)
    assert app.button(key=f"{PAGE}_measure").label == "Measure on 200 images"
    gone = lab.job(spec, "done")
    assert app.run().button(key=f"{PAGE}_measure")
    queue.forget(gone, lab.root)
    job = lab.job(spec, "running")
    app.run()
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.button)
    result = running.run(spec, lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(result, store.Artifact)
    metrics = result.card["metrics"]
    assert f"{metrics['median_l0']:g} pixels are enough for half of the images of class 4" in text(app)
    assert f"of {metrics['n']:,}; 95 % interval" in text(app)
    assert list(app.dataframe[0].value["count"]) == ["swapped", "pruned", "greedy", "linear estimate"]
    assert "Proven" not in text(app)
    spec = specs.AttackSpec(model=model.id, attack={"name": "exhaustive", "levels": 3}, n=5, source=0)
    proof = running.run(spec, lab.root, device="cpu")
    app.run()
    assert isinstance(proof, store.Artifact)
    assert proof.card["proven"]["proven"] in text(app)


def test_dense_formula_on_many_images(lab: Lab) -> None:
    """With and without box, at 1 and at the chosen multiple of ε*."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab="Many images", sparse_attack_many="little", sparse_attack_n=50)
    assert len(app.dataframe[0].value) == 4
    assert "fools" in text(app)


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


def test_enumeration_runs_as_a_job_and_says_what_is_proven(lab: Lab) -> None:
    """Before: how many images there are to try, and a button. Then the sentence, and the figures behind it."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE, **HOW_SPARSE, sparse_attack_sparsity="enumerate", sparse_attack_at_once="1")
    assert "64 × 256 = 16,384 images with one change, by rank-one updates" in text(app)
    assert app.button(key=f"{PAGE}_ask_enumerate").label == "Try every change"
    attack = {"name": "exhaustive", "pixels": 2}
    spec = specs.AttackSpec(model=model.id, attack=attack, indices=(case_of(model).index,))
    many = specs.AttackSpec(model=model.id, attack=attack, source=0, n=10)
    job = lab.job(spec, "running")
    app = lab.open(PAGE, **HOW_SPARSE, sparse_attack_sparsity="enumerate", sparse_attack_at_once="2")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.button)
    result = running.run(spec, lab.root, device="cpu")
    running.run(many, lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(result, store.Artifact)
    proof = Enumeration.of(result.arrays("images"))
    assert proof.sentence() in text(app)
    found = {metric.label: metric.value for metric in app.metric}
    assert found["Images tried"] == f"{proof.singles + proof.pairs:,}"
    assert found["Fewest"] == (str(proof.fewest) if proof.fewest else f"> {proof.more_than}")
    app = lab.open(PAGE, sparse_attack_tab="Many images", sparse_attack_many="two", sparse_attack_at_once="2")
    frame = next(table.value for table in app.dataframe if "enumerated" in table.value)
    assert list(frame["changes"]) == ["one is enough", "two are needed", "more, or not found"]
    assert "pairs at 0 or 1 only" in text(app)
    assert frame["enumerated"].sum() == frame["greedy"].sum() == 10
    assert (frame["enumerated"][:2].cumsum() >= frame["greedy"][:2].cumsum()).all()  # greedy is an upper bound


def test_enumeration_of_one_change_claims_nothing_about_two(lab: Lab) -> None:
    """Two were not tried: the table tells one from more than one, and so does the caption."""
    model = trained(lab, SCALAR)
    attack = {"name": "exhaustive", "pixels": 1}
    one = specs.AttackSpec(model=model.id, attack=attack, indices=(case_of(model).index,))
    many = specs.AttackSpec(model=model.id, attack=attack, source=0, n=10)
    for spec in (one, many):
        running.run(spec, lab.root, device="cpu")
    app = lab.open(PAGE, sparse_attack_tab="Many images", sparse_attack_many="two", sparse_attack_at_once="1")
    frame = next(table.value for table in app.dataframe if "enumerated" in table.value)
    assert list(frame["changes"]) == ["one is enough", "more than one"]
    assert frame["enumerated"].sum() == frame["greedy"].sum() == 10
    assert "Exact for one change; two were not tried." in text(app)


@pytest.mark.slow
def test_frontier_shows_the_image_of_a_cap(lab: Lab) -> None:
    """At once for one image; the slider offers the caps for which something was found; the median is a job."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE, **HOW_SPARSE, sparse_attack_sparsity="cap")
    frame = next(table.value for table in app.dataframe if "cap ε" in table.value)
    counts = pd.to_numeric(frame["pixels"], errors="coerce").dropna()
    assert (counts.diff().dropna() <= 0).all()
    slider = app.select_slider(key=f"{PAGE}_cap")
    assert len(slider.options) == len(counts)
    slider.set_value(float(frame["cap ε"][counts.index[0]])).run()
    assert not app.exception
    running.run(specs.AttackSpec(model=model.id, attack="frontier", n=50, source=0), lab.root, device="cpu")
    app.run()
    assert not app.exception


def test_ways_to_count_say_what_is_proven(lab: Lab) -> None:
    """Before the enumeration the proven count is a dash and said so; after it, the bar stands below what was found."""
    model = trained(lab, SCALAR)
    case = case_of(model)
    app = lab.open(PAGE, **HOW_SPARSE)
    assert "not computed yet" in text(app)
    assert fewest.proven(case) is None
    running.run(specs.AttackSpec(model=model.id, attack="exhaustive", indices=(case.index,)), lab.root, device="cpu")
    assert "not computed yet" not in text(app.run())
    least = fewest.proven(case)
    assert least is not None
    greedy = specs.AttackSpec(model=model.id, attack="jacobian_sparse", indices=(case.index,))
    made = at_once.answer(greedy, lab.root, seconds=300)
    count = int(made.table("images")["l0"][0])
    bars = fewest.bars(trace.Trace.of(made.arrays("images")), count, True, least, "pixels").data[0]
    shown = dict(zip(bars.y, bars.x, strict=True))
    assert shown["proven: at least"] <= shown["swapped"] == count


def test_files_hold_what_their_readers_need(lab: Lab) -> None:
    """The tab Export offers tables, pictures and arrays of a few pixels, of all pixels and of many images."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab="Export")
    names = {button.proto.id.split("download_")[-1] for button in app.get("download_button")}
    assert names >= {
        *("changed_pixels_csv", "sparse_png", "sparse_npz", "dense_csv", "dense_png", "dense_npz"),
        *("sparse_many_csv", "sparse_many_npz", "sparse_counts_tex"),
    }


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


def test_colour_changes_name_their_channel() -> None:
    """A feature of a colour image is one colour of one pixel: tables say which, and maps show the lowest of three."""
    x = np.zeros((3, 2, 2), np.float32)
    x_adv = x.copy()
    x_adv[1, 0, 1] = x_adv[2, 0, 1] = 1
    frame = trace.changes(x, x_adv)
    assert frame[["channel", "row", "column"]].to_numpy().tolist() == [[1, 0, 1], [2, 0, 1]]
    assert "channel" not in trace.changes(x[:1], x_adv[1:2])
    proof = Enumeration(3, 256, 12, True, 3072, 5, 0, 0, False, (((1, 0, 1), 0.0, 1.0),), False)
    assert enumeration.changed(proof).iloc[0].to_dict() == {
        "row": 0,
        "column": 1,
        "channel": 1,
        "old": "0/255",
        "new": "255/255",
    }
    margin = np.full((3, 2, 2), np.nan)
    margin[0, 0, 0], margin[1, 0, 0], margin[2, 1, 1] = 3, 1, 2
    drawn = enumeration.margin_map(margin, 4.0).data[0].z
    assert drawn[0][0] == -3
    assert drawn[1][1] == -2
    assert np.isnan(drawn[0][1])
