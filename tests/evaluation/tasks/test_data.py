"""Tasks on the images of another data set: what is made, what it is kept under, and that nothing is mixed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.data.sets import load
from core.evaluation.tables import comparison, records
from core.jobs import queue
from core.specs import NORMS, TASKS, CompareSpec, DataSpec, ModelTask, SweepSpec, TransferSpec
from core.specs.tasks import MODELS
from core.storage import store

pytestmark = pytest.mark.usefixtures("other_images")

OWN, FAINT = DataSpec(dataset="digits"), "toy_faint"
SMALL: dict[str, dict[str, Any]] = {
    "attack": {"attack": "fgsm", "eps": 0.1, "n": 12},
    "sweep": {"attack": "fgsm", "eps": (0.1, 0.2), "n": 12},
    "universal": {"method": "gradient", "eps": 0.2, "n": 20, "held_out": 12},
    "pattern": {"n": 16, "held_out": 8, "epochs": 1, "fresh": 2},
    "radii": {"budget": 50, "n": 12},
    "transfer": {"attack": "fgsm", "eps": 0.1, "n": 12},
    "evaluate": {"eps": 0.05, "effort": "quick", "n": 6},
    "certify": {"method": "ibp", "eps": 0.02, "n": 12},
}


def ids(root: Path) -> list[str]:
    """The linear model and the dense one."""
    by_network = {model.spec().network: model.id for model in store.models(root) if not model.spec().scalar}
    return [by_network["linear"], by_network["mlp"]]


def task(name: str, root: Path, **more: Any) -> ModelTask:
    """A small task of this name."""
    models = {"models": tuple(ids(root))} if name == "transfer" else {"model": ids(root)[0]}
    return TASKS[name].model_validate({**models, **SMALL[name], **more})


def known(root: Path, model: str, of: str | None = None) -> dict[str, Any]:
    """All that is read from a model's results on these images."""
    data = None if of is None else DataSpec(dataset=of)
    found: dict[str, Any] = {
        f"results {name}": [result.id for result in store.results(model, root, name, data=data)] for name in SMALL
    }
    for norm in NORMS:
        record = records.load(model, norm, root, data=data)
        found[f"record {norm}"] = None if record is None else (record.data, record.table, record.left_out)
        found[f"curve {norm}"] = None if record is None else records.curve(record, [0.0, 0.02, 0.05, 0.1, 0.2])
    spec = CompareSpec(models=(model,), data=data, attacks=("fgsm",), eps=(0.1, 0.2), n=12)
    made = comparison.compare(spec, root)
    return {**found, "comparison": made.table, "missing": len(made.missing), "warnings": made.warnings}


def same(one: Any, other: Any) -> bool:
    """Whether two values of `known` are equal, NaN included."""
    if isinstance(one, pd.DataFrame):
        return isinstance(other, pd.DataFrame) and one.equals(other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs."""
    return [name for name in one if not same(one[name], other[name])]


def test_every_task_on_a_model_takes_data() -> None:
    """All but training and importing, which have a data set of their own."""
    assert set(SMALL) | {"compare", *MODELS} == set(TASKS)
    assert all("data" in TASKS[name].LATER for name in [*SMALL, "compare"])


@pytest.mark.parametrize("name", SMALL)
def test_results_on_other_images_and_on_the_own_ones_leave_each_other_alone(name: str, root: Path) -> None:
    """Whichever is made first, nothing that is read of the one changes by the other."""
    model, both = ids(root)[0], Path(shutil.copytree(root, root.with_name("both")))
    (own,) = [queue.run(task(name, root), root)]
    (other,) = [queue.run(task(name, both, data=FAINT), both)]
    assert own.id != other.id
    mine, theirs = known(root, model), known(both, model, FAINT)
    assert same(known(both, model)["results " + name], []), "the own ones"
    queue.run(task(name, root, data=FAINT), root)
    queue.run(task(name, both), both)
    for where in (root, both):
        assert not differing(mine, known(where, model)), where
        assert not differing(theirs, known(where, model, FAINT)), where
    if f"{name}" in ("radii", "evaluate", "certify", "sweep"):
        assert mine["record linf"] is not None
        assert theirs["record linf"] is not None


@pytest.mark.parametrize("name", SMALL)
def test_what_is_made_is_of_those_images_and_says_so(name: str, root: Path) -> None:
    """The card names them; tables count them, by their own classes."""
    made = queue.run(task(name, root, data=FAINT), root)
    data = load(DataSpec(dataset=FAINT))
    assert made.card["data"] == {"title": "Toy faint digits", "fingerprint": data.fingerprint}
    assert store.data_of(made) == DataSpec(dataset=FAINT)
    for part in ("images", "held_out"):
        if f"{part}.parquet" in made.card["files"]:
            table = made.table(part)
            labels = dict(zip(data.test.index.tolist(), data.test.y.tolist(), strict=True))
            assert [labels[index] for index in table["index"]] == table["y"].tolist()
    for part, of in (("made_from", data.train), ("held_out", data.test)):
        if f"{part}.safetensors" in made.card["files"]:
            found = made.arrays(part)
            rows = {int(index): row for row, index in enumerate(of.index)}
            x = np.stack([of.x[rows[int(index)]].numpy() for index in found["index"]]) / 255
            assert np.allclose(x, found["x"], atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_the_own_images_by_name_are_the_same_request(name: str, root: Path) -> None:
    """Also written with all classes, also for who does not resolve the spec."""
    plain = task(name, root)
    assert "data" not in plain.body()
    for data in (OWN, "digits", DataSpec(dataset="digits", classes=tuple(range(10)))):
        asked = task(name, root, data=data)
        assert store.resolve(asked, root) == store.resolve(plain, root)
        assert store.locate(asked, root) == store.locate(plain, root)
        assert store.unfinished(asked, root) == store.unfinished(plain, root)
    made = queue.run(task(name, root, data=OWN), root)
    assert made.spec() == store.resolve(plain, root)
    found = store.find(plain, root)
    assert found is not None
    assert found.id == made.id


def test_classes_are_taken_by_name(root: Path) -> None:
    """From a data set with more classes, and from one with another order; both give the model's own numbers."""
    scalar = next(model.id for model in store.models(root) if model.spec().scalar)
    spec = SweepSpec(model=scalar, data="toy_backwards", eps=(0.0, 0.1), n=20)
    assert store.resolve(spec, root).data == DataSpec(dataset="toy_backwards", classes=(5, 0))
    made = queue.run(spec, root)
    table = made.table("images")
    clean = table[table["eps"] == 0]
    assert made.card["class_names"] == ["4", "9"]
    assert (clean["pred"] == clean["y"]).mean() > 0.8  # a number that meant the other class would give almost none
    again = SweepSpec(model=scalar, data=DataSpec(dataset="toy_backwards", classes=(5, 0)), eps=(0.0, 0.1), n=20)
    assert store.locate(again, root) == made.folder


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("toy_letters", ["expected the classes of", "Toy letters", "has no 0"]),
        ("toy_large", ["expected images of shape 1×8×8", "Toy large digits", "9×9"]),
        ("toy_faint:9,8,7,6,5,4,3,2,1,0", ["in its order", "leave the classes out"]),
        ("toy_faint:0,1", ["in its order", "got 0, 1"]),
    ],
)
def test_images_that_do_not_fit_are_refused_in_a_sentence(data: str, words: list[str], root: Path) -> None:
    """With what was expected and what came, before anything is loaded."""
    for name in SMALL:
        with pytest.raises(ValueError, match=r"^data") as refused:
            queue.run(task(name, root, data=data), root)
        assert all(word in str(refused.value) for word in words), refused.value
        assert "\n" not in str(refused.value)


def test_models_of_other_data_sets_meet_on_named_images(root: Path) -> None:
    """A transfer and a comparison; a sweep on the own images of one of them is that model's own sweep."""
    linear, mlp = ids(root)
    body = store.open_model(mlp, root).spec().model_copy(update={"data": DataSpec(dataset=FAINT), "epochs": 1})
    other = queue.run(body, root).id
    with pytest.raises(ValueError, match="name images for all of them in `data`"):
        queue.run(TransferSpec(models=(linear, other), eps=0.1, attack="fgsm", n=12), root)
    made = queue.run(TransferSpec(models=(linear, other), data=OWN, eps=0.1, attack="fgsm", n=12), root)
    assert made.card["data"]["fingerprint"] == load(OWN).fingerprint
    spec = CompareSpec(models=(linear, other), data=OWN, eps=(0.0, 0.1), n=12)
    cells = queue.run(spec, root)
    assert [store.data_of(cell) for cell in cells] == [None, OWN]
    assert cells[0].id == queue.run(SweepSpec(model=linear, eps=(0.0, 0.1), n=12), root).id
    table = comparison.compare(spec, root)
    assert not table.missing
    assert not table.warnings
    assert "Digits" in table.provenance() or "digits" in table.provenance()
    apart = comparison.compare(spec.model_copy(update={"data": None}), root)
    assert len(apart.missing) == 1  # the other model's own images were never asked for


def test_results_of_several_data_sets_make_no_record(root: Path) -> None:
    """Whoever hands them over together is refused."""
    model = store.open_model(ids(root)[0], root)
    made = [queue.run(task("radii", root, data=data), root) for data in (None, FAINT)]
    with pytest.raises(ValueError, match="expected results on the images of one data set"):
        records.merge(model, "linf", made)


def test_a_record_on_other_images_knows_only_what_its_results_say(root: Path) -> None:
    """An attack on its own says of its images whether they were right before; the model's test table is not asked."""
    model = ids(root)[0]
    sweep = queue.run(task("sweep", root, data=FAINT), root)
    record = records.load(model, "linf", root, data=DataSpec(dataset=FAINT))
    assert record is not None
    table = sweep.table("images").drop_duplicates("index").set_index("index")
    assert (record.table["y"].to_numpy() == table.loc[record.table["index"], "y"]).all()
    clean = table.loc[record.table["index"], "pred_clean"].to_numpy() == record.table["y"].to_numpy()
    assert (record.table["clean_correct"].to_numpy() == clean).all()
    own = store.open_model(model, root).table("test").set_index("index").loc[record.table["index"]]
    assert (own["y"].to_numpy() != record.table["y"].to_numpy()).any()
