"""The page of glasses and masks on a really trained small network; drawings there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from core import specs
from core.attacks.physical import mask_shapes
from core.attacks.sparse.jacobian import jacobian
from core.jobs import at_once, queue, running
from core.storage import store
from tests.pages.said import text
from ui.app import sources
from ui.form import mask_choice, samples
from ui.masks import why

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

PAGE = "masked_attack"
NETWORK = specs.TrainSpec(network="linear", epochs=3)
SCENE = {"name": "physical", "shift": 1.0, "steps": 20, "fresh": 16}


def trained(lab: Lab) -> store.Artifact:
    """A really trained network on digits."""
    made = running.run(NETWORK, lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    return made


def asked(model: store.Artifact, count: int = 1, **fields: Any) -> specs.AttackSpec:
    """What the page asks for with `SCENE` in its address: the first images of class 4."""
    tests = model.table("test")
    right = tests[(tests["y"] == 4) & (tests["pred"] == 4)]["index"].tolist()[:count]
    base = {"model": model.id, "attack": SCENE, "indices": tuple(right), "mask": specs.Eyeglasses()}
    return specs.AttackSpec(**{**base, **fields})  # type: ignore[arg-type]


def pictures(app: AppTest) -> list[str]:
    """What the pictures on the page show, in words."""
    return [html.value.split('alt="')[1].split('"')[0] for html in app.get("html") if 'alt="' in str(html.value)]


ADDRESS = {f"{PAGE}_{name}": str(value) for name, value in SCENE.items() if name != "name"}


def test_opens_with_a_real_image_that_wears_the_glasses(lab: Lab) -> None:
    """Without any click: the sentence says what the model answers and under how many new transformations."""
    model = trained(lab)
    app = lab.open(PAGE, **ADDRESS)
    found = at_once.answer(asked(model), lab.root, seconds=300)
    row, share = found.table("images").iloc[0], float(found.arrays("images")["trace_share"][0])
    said = next(box.value for box in (*app.success, *app.warning, *app.error))
    assert f"classified as {row['pred']} with {row['confidence']:.0%} confidence" in said
    assert f"in {share:.0%} of 16 new transformations" in said
    assert "18 of 64 pixels could change (28%)" in said
    assert any("1 image, the mask, the result, and 4 new transformations" in alt for alt in pictures(app))
    assert app.selectbox(key=f"{PAGE}_attack").value == "physical"
    assert app.number_input(key=f"{PAGE}_shift").value == 1.0  # 8 pixels wide: a fourteenth, but at least a half


def test_several_images_are_a_job(lab: Lab) -> None:
    """The button says how many; while it runs it can be cancelled; then a row of pictures for each image."""
    model = trained(lab)
    spec = asked(model, 4)
    app = lab.open(PAGE, masked_attack_n="4", **ADDRESS)
    assert app.button(key=f"{PAGE}_run").label == "Attack 4 images"
    assert pictures(app)
    gone = lab.job(spec, "done")
    assert app.run().button(key=f"{PAGE}_run")
    queue.forget(gone, lab.root)
    job = lab.job(spec, "running")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.run().button)
    running.run(spec, lab.root, device="cpu")
    app.run()
    assert "of 4 images are classified as a wrong class" in text(app)
    assert "of 16 new transformations" in text(app)


def test_why_it_works_compares_with_no_averaging(lab: Lab) -> None:
    """What the mask can do to the margin, and the share of new transformations with and without averaging."""
    trained(lab)
    app = lab.open(PAGE, masked_attack_tab="Why it works", **ADDRESS)
    assert len(app.get("plotly_chart")) == 2
    assert "share that counts as a success (50%)" in text(app)
    assert "Why a few pixels are enough" in text(app)


def test_reach_is_exact_for_a_linear_model(lab: Lab) -> None:
    """Every pixel under the mask at the end that helps takes exactly that much of the margin away."""
    model = trained(lab)
    index = asked(model).indices
    assert index is not None
    x = samples.images(model, index)
    assert x is not None
    mask = mask_shapes.draw(specs.Eyeglasses(), 8, 8)
    gap, inside, every, aim = why.reach(model.id, model.root, x[0], 4, mask)
    assert 0 < inside <= every
    saved = sources.saved_model(model.id, model.root).model
    jac = jacobian(saved, torch.from_numpy(x))[0].numpy()
    rises = jac[aim] - jac[4]
    moved = np.where(mask, (rises > 0).astype(np.float32), x[0])
    with torch.no_grad():
        logits = saved(torch.from_numpy(moved)[None].float())[0].numpy()
    assert logits[4] - logits[aim] == pytest.approx(gap - inside, abs=1e-3)


def test_other_attacks_are_confined_too(lab: Lab) -> None:
    """PGD inside a patch: no transformations, so none are shown."""
    trained(lab)
    app = lab.open(PAGE, masked_attack_attack="pgd", masked_attack_shape="patch")
    assert "With this sticker the 4 is" in text(app)
    assert "new transformations" not in next(box.value for box in (*app.success, *app.warning, *app.error))
    assert "New transformations that succeed" not in {metric.label for metric in app.metric}


def test_drawing_is_kept_in_the_address(lab: Lab) -> None:
    """The text of a drawing is the mask of the spec; an empty drawing asks for a cell; a bad one gives the glasses."""
    trained(lab)
    cells = np.zeros((8, 8), dtype=bool)
    cells[2:4, 1:7] = True
    mask = mask_shapes.from_array(cells)
    app = lab.open(PAGE, masked_attack_shape="cells", masked_attack_cells=mask.bits, **ADDRESS)
    assert "12 of 64 pixels may change" in text(app)
    assert "With this drawing the 4 is" in text(app)
    app.button(key=f"{PAGE}_clear").click().run()
    assert "Draw at least one cell" in text(app)
    app.text_input(key=f"{PAGE}_cells").set_value("no drawing").run()
    assert f"{int(mask_shapes.eyeglasses(8, 8).sum())} of 64 pixels may change" in text(app)
    assert not app.exception


def test_one_pattern_for_many_images(lab: Lab) -> None:
    """Asked for, running, and worn by test images beside noise; then its files, and as the nearest of another."""
    model = trained(lab)
    spec = specs.PatternSpec(model=model.id, n=100, held_out=40, fresh=16, shift=1.0)
    address = {f"{PAGE}_many_{name}": str(getattr(spec, name)) for name in ("n", "held_out", "fresh")}
    many = "One pattern for many"
    app = lab.open(PAGE, masked_attack_tab=many, **address)
    assert app.button(key=f"{PAGE}_many_run").label == "Make one pattern from 100 images"
    gone = lab.job(spec, "done")
    assert app.run().button(key=f"{PAGE}_many_run")
    queue.forget(gone, lab.root)
    job = lab.job(spec, "running")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.run().button)
    running.run(spec, lab.root, device="cpu")
    app.run()
    assert "of 40 new test images that wear it" in text(app)
    assert "With random noise on the same object" in text(app)
    app = lab.open(PAGE, masked_attack_tab="Export", **address)
    names = {button.proto.id.split("download_")[-1] for button in app.get("download_button")}
    assert names >= {"masked_png", "masked_csv", "masked_npz", "pattern_png", "pattern_csv", "pattern_npz"}
    app = lab.open(PAGE, masked_attack_tab=many, **address)
    app.number_input(key=f"{PAGE}_many_n").set_value(90).run()
    assert "another pattern of this model" in text(app)
    assert not app.exception


@pytest.mark.parametrize(
    ("height", "width", "size"), [(28, 28, (28, 28, 1)), (32, 32, (32, 32, 1)), (224, 160, (32, 23, 7))]
)
def test_board_fits_every_image(height: int, width: int, size: tuple[int, int, int]) -> None:
    """At most 32 cells a side; the ready glasses survive the coarser board; text there and back."""
    assert mask_choice.board_size(height, width) == size
    ready = mask_choice.from_text("", height, width)
    assert ready.shape == size[:2]
    assert 0.09 < ready.mean() < 0.25
    assert np.array_equal(mask_choice.from_text(mask_choice.to_text(ready), height, width), ready)
    assert not mask_choice.from_text(mask_choice.to_text(np.zeros_like(ready)), height, width).any()


def test_strokes_paint_and_erase() -> None:
    """Cells are counted row by row; the others stay."""
    cells = np.eye(4, dtype=bool)
    more = mask_choice.painted(cells, [1, 2], "paint")
    assert more.sum() == 6
    assert more[0, 1]
    assert np.array_equal(mask_choice.painted(more, [1, 2], "erase"), cells)
