"""The page of glasses and masks on a really trained small network; drawings there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import specs
from core.attacks.physical import mask_shapes
from core.jobs import running
from core.storage import store
from ui.form import mask_choice

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


def text(app: AppTest) -> str:
    """All that the page says in boxes and captions."""
    blocks = (*app.info, *app.success, *app.warning, *app.error, *app.caption, *app.markdown)
    return "\n".join(block.value for block in blocks)


def asked(model: store.Artifact, **fields: Any) -> specs.AttackSpec:
    """What the page asks for with `SCENE` in its address: the first four images of class 4."""
    tests = model.table("test")
    right = tests[(tests["y"] == 4) & (tests["pred"] == 4)]["index"].tolist()[:4]
    base = {"model": model.id, "attack": SCENE, "indices": tuple(right), "mask": specs.Eyeglasses()}
    return specs.AttackSpec(**{**base, **fields})  # type: ignore[arg-type]


ADDRESS = {f"{PAGE}_{name}": str(value) for name, value in SCENE.items() if name != "name"}


def test_page_offers_the_attack_before_anything_ran(lab: Lab) -> None:
    """Ready glasses, the method with its scenes, and the hint to run it."""
    trained(lab)
    app = lab.open(PAGE)
    assert "run the attack" in text(app)
    assert app.selectbox(key=f"{PAGE}_attack").value == "physical"
    assert app.number_input(key=f"{PAGE}_shift").value == 1.0  # 8 pixels wide: a fourteenth, but at least a half


def test_page_shows_the_result_and_the_comparison(lab: Lab) -> None:
    """Success in words, fresh scenes, downloads; then the same without averaging, and the chart."""
    model = trained(lab)
    spec = asked(model)
    running.run(spec, lab.root, device="cpu")
    app = lab.open(PAGE, **ADDRESS)
    assert "of 16 fresh scenes" in text(app)
    assert {metric.label for metric in app.metric} >= {"Fooled", "Fresh scenes that fool"}
    still = spec.model_copy(update={"attack": spec.attack.model_copy(update={"scenes": 0})})
    job = lab.job(still, "running")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.run().button)
    running.run(still, lab.root, device="cpu")
    assert "dotted line" in text(app.run())


def test_results_that_are_gone_can_be_made_again(lab: Lab) -> None:
    """Both parts: the job is done but its artifact is no longer there."""
    model = trained(lab)
    lab.job(asked(model), "done")
    lab.job(specs.PatternSpec(model=model.id, n=100, held_out=40, fresh=16, shift=1.0), "done")
    assert "No result for these settings yet" in text(lab.open(PAGE, **ADDRESS))
    address = {f"{PAGE}_many_n": "100", f"{PAGE}_many_held_out": "40", f"{PAGE}_many_fresh": "16"}
    app = lab.open(PAGE, masked_attack_part="One pattern for many images", **address)
    assert "No pattern for these settings yet" in text(app)


def test_other_attacks_are_confined_too(lab: Lab) -> None:
    """PGD inside a patch: no scenes, so none are shown."""
    model = trained(lab)
    mask = specs.Patch()
    running.run(asked(model, attack={"name": "pgd"}, eps=0.5, mask=mask), lab.root, device="cpu")
    app = lab.open(PAGE, masked_attack_attack="pgd", masked_attack_shape="patch")
    assert "looked at as they stand" in text(app)
    assert "Fresh scenes that fool" not in {metric.label for metric in app.metric}


def test_drawing_is_kept_in_the_address(lab: Lab) -> None:
    """The text of a drawing is the mask of the spec; an empty drawing asks for a cell; a bad one gives the glasses."""
    model = trained(lab)
    cells = np.zeros((8, 8), dtype=bool)
    cells[2:4, 1:7] = True
    mask = mask_shapes.from_array(cells)
    running.run(asked(model, mask=mask), lab.root, device="cpu")
    app = lab.open(PAGE, masked_attack_shape="cells", masked_attack_cells=mask.bits, **ADDRESS)
    assert "12 of 64 pixels may change" in text(app)
    assert "of 16 fresh scenes" in text(app)
    app.button(key=f"{PAGE}_clear").click().run()
    assert "Draw at least one cell" in text(app)
    app.text_input(key=f"{PAGE}_cells").set_value("no drawing").run()
    assert f"{int(mask_shapes.eyeglasses(8, 8).sum())} of 64 pixels may change" in text(app)
    assert not app.exception


def test_one_pattern_for_many_images(lab: Lab) -> None:
    """Asked for, running, and worn by test images beside noise."""
    model = trained(lab)
    spec = specs.PatternSpec(model=model.id, n=100, held_out=40, fresh=16, shift=1.0)
    address = {f"{PAGE}_many_{name}": str(getattr(spec, name)) for name in ("n", "held_out", "fresh")}
    app = lab.open(PAGE, masked_attack_part="One pattern for many images", **address)
    assert "No pattern for these settings yet" in text(app)
    job = lab.job(spec, "running")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.run().button)
    running.run(spec, lab.root, device="cpu")
    app.run()
    assert "40** test images that wear it" in text(app)
    assert {metric.label for metric in app.metric} >= {"Fooled", "Noise fools"}
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
