"""Universal results: made from training images, measured on test images, with controls and the programme's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.data import sets
from core.evaluation.tables.metrics import clopper_pearson
from core.jobs import queue
from core.models.saved import load_model
from core.specs import UniversalSpec
from core.storage import store


def ran(root: Path, **fields: object) -> store.Artifact:
    """Gradient steps on the mlp unless told otherwise."""
    base = {"model": "digits-mlp", "method": "gradient", "n": 200, "held_out": 150}
    if fields.get("method", "gradient") != "lp":
        base["eps"] = 0.25
    made = queue.run(UniversalSpec(**{**base, **fields}), root)  # type: ignore[arg-type]
    assert isinstance(made, store.Artifact)
    return made


def test_headline_is_measured_on_images_it_never_saw(root: Path) -> None:
    """The rate, its interval and the control come from test images; the perturbation from training images."""
    made = ran(root)
    metrics, delta = made.card["metrics"], made.arrays("perturbation")["delta"]
    saved = load_model(made.card["spec"]["model"], root)
    digits = saved.data()
    held, fit = made.table("held_out"), made.table("made_from")
    assert len(held) == metrics["n"] == 150
    assert len(fit) == metrics["fit_n"] == 200
    assert set(held["index"]) <= set(digits.test.index.tolist())
    assert set(fit["index"]) <= set(digits.train.index.tolist())

    place = {int(k): row for row, k in enumerate(digits.test.index)}
    images = digits.test.take(sets.torch.tensor([place[k] for k in held["index"]]))
    x = sets.to_float(images.x)
    assert (saved.model(x).argmax(1) == images.y).all()
    after = saved.model((x + sets.torch.from_numpy(delta)).clamp(0, 1)).argmax(1)
    fooled = (after != images.y).numpy()
    assert np.array_equal(fooled, held["success"])
    assert metrics["fooling_rate"] == pytest.approx(fooled.mean())
    assert (metrics["low"], metrics["high"]) == pytest.approx(clopper_pearson(int(fooled.sum()), 150))
    assert metrics["low"] > metrics["noise_rate"]
    assert metrics["linf"] <= 0.25 == pytest.approx(np.abs(made.arrays("perturbation")["noise"]).max(), abs=0.01)
    assert metrics["mean_forwards"] == pytest.approx(fit["forwards"].mean())


def test_target_sources_and_mask(root: Path) -> None:
    """Images of the target class are in no part; of the sources only; outside the mask nothing changes."""
    made = ran(root, target=3, source=(1, 3, 7), mask="patch:size=0.6", eps=0.8)
    for name in ("held_out", "made_from"):
        assert set(made.table(name)["y"]) == {1, 7}
        assert (made.table(name)["success"] == (made.table(name)["pred"] == 3)).all()
    outside = ~made.arrays("mask")["mask"]
    assert (made.arrays("perturbation")["delta"][:, outside] == 0).all()
    assert (made.arrays("perturbation")["noise"][:, outside] == 0).all()
    shown = made.arrays("held_out")
    assert np.array_equal(shown["x"][..., outside], shown["x_adv"][..., outside])


def test_programme_says_what_it_proves(root: Path) -> None:
    """The programme on one class of a scalar network: all are fooled, bound and optimum agree, weights sum to 1."""
    model = next(m.id for m in store.models(root) if m.id.startswith("digits-4v9"))
    one = ran(root, model=model, method="lp", n=10, source=(0,))
    assert one.card["metrics"]["fit_rate"] == 1
    assert one.card["lp"]["stage"] == 1
    assert 0 < one.card["lp"]["bound"] == pytest.approx(one.card["lp"]["first"], rel=1e-4)
    assert one.table("made_from")["weight"].sum() == pytest.approx(1)


@pytest.mark.parametrize(("method", "n"), [("gradient", 60), ("uap", 30), ("lp", 4)])
def test_budget_reaches_every_method(root: Path, method: str, n: int) -> None:
    """The most passes of any image that it was made from, and part of what is asked for."""
    made = ran(root, method=method, n=n, held_out=20, budget=15)
    table = made.table("made_from")
    assert 0 < (table["forwards"] + table["backwards"]).max() <= 15
    assert made.card["spec"]["budget"] == 15


def test_uap_runs_from_its_spec(root: Path) -> None:
    """The classical algorithm, from spec to artifact; asked again it is found."""
    made = ran(root, method={"name": "uap", "epochs": 1, "steps": 3}, n=30, held_out=50)
    assert made.card["metrics"]["linf"] <= 0.25
    assert made.table("made_from")["backwards"].sum() > 0
    assert ran(root, method={"name": "uap", "epochs": 1, "steps": 3}, n=30, held_out=50).folder == made.folder


def test_refusals(root: Path) -> None:
    """Classes that are not there are refused by the field's name."""
    for fields, match in (({"target": 11}, "target: expected"), ({"source": (12,)}, "source: expected")):
        with pytest.raises(ValueError, match=match):
            ran(root, **fields)
