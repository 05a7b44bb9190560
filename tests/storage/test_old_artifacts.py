"""What earlier code left in a store is found, opened and used by this one: see `tests.fixtures.artifacts`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from core.data.sets import to_float
from core.evaluation.tables import comparison, records
from core.evaluation.trust.report import Trust
from core.jobs import running
from core.models import reference
from core.models.saved import load_model
from core.specs import TASKS, CompareSpec, ModelSpec, Task, task_name
from core.storage import store
from core.storage.store import Artifact
from tests.fixtures.artifacts import IMPORTED, LINEAR, ROBUST, SCALAR, SPECS, STORE
from ui.app import warm

PROJECT = Path(__file__).resolve().parents[2]
IMAGE = (1, 8, 8)
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "train": {"weights:2.weight": (10, 64), "test": (360, 5)},
    "train_robust": {"weights:2.weight": (10, 64), "test": (360, 5)},
    "train_scalar": {"weights:body.2.weight": (1, 64), "weights:threshold": (), "test": (58, 6)},
    "import": {"weights:2.weight": (10, 64), "test": (360, 5)},
    "attack": {
        "images:x": (4, *IMAGE),
        "images:x_adv": (4, *IMAGE),
        "images:probabilities": (4, 10),
        "images": (4, 16),
    },
    "attack_masked": {"images:x_adv": (4, *IMAGE), "mask:mask": (8, 8), "images": (4, 16)},
    "attack_scalar": {"images:x_adv": (4, *IMAGE), "images:trace_order": (4, 60), "images": (4, 16)},
    "sweep": {"gallery:x_adv": (2, 5, *IMAGE), "gallery:eps": (2,), "images": (10, 11)},
    "compare": {"gallery:x_adv": (2, 5, *IMAGE), "images": (10, 11)},
    "transfer": {"images:x_adv": (2, 5, *IMAGE), "images": (20, 12)},
    "universal": {"perturbation:delta": IMAGE, "made_from:x_adv": (20, *IMAGE), "held_out": (10, 12)},
    "pattern": {"pattern:pattern": IMAGE, "held_out:views": (5, 6, *IMAGE), "held_out": (5, 8)},
    "radii": {"images:x_adv": (5, *IMAGE), "images": (5, 15)},
    "evaluate": {"images:x_adv": (5, *IMAGE), "images": (5, 14)},
    "certify": {"images:x_adv": (5, *IMAGE), "images": (5, 13)},
}
"""Some of what each artifact holds: `FILE:ARRAY` is an array, `FILE` a table of so many rows and columns."""


@pytest.fixture
def old_store(store_root: Path) -> Path:
    """A copy of the store that earlier code made; it is also the default store."""
    shutil.copytree(STORE, store_root)
    return store_root


def parts(task: Task) -> list[Task]:
    """The specs of the artifacts that a task leaves."""
    return list(running.parts(task))


def found(task: Task, root: Path) -> list[Artifact]:
    """The artifacts of a task, all of which must be there."""
    there = [store.find(part, root) for part in parts(task)]
    assert None not in there
    return [artifact for artifact in there if artifact is not None]


def test_every_task_is_there() -> None:
    """A new task needs an artifact of its own here."""
    assert {task_name(spec) for spec in SPECS.values()} == set(TASKS)
    assert set(SHAPES) == set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_of_today_finds_it(name: str, old_store: Path) -> None:
    """Keys are unchanged, cards are read back as the same spec, and every file is as it was."""
    for spec, artifact in zip(parts(SPECS[name]), found(SPECS[name], old_store), strict=True):
        assert artifact.spec() == spec
        assert artifact.card["key"] == spec.key()
        for place, shape in SHAPES[name].items():
            file, _, array = place.partition(":")
            assert (artifact.arrays(file)[array] if array else artifact.table(file)).shape == shape
    assert not (old_store / store.SET_ASIDE).exists()


@pytest.mark.parametrize("name", SPECS)
def test_asking_again_runs_nothing(name: str, old_store: Path) -> None:
    """A task that was run before is loaded from the store."""
    before = sorted(path for path in old_store.rglob("card.json"))
    made = running.run_all(SPECS[name], old_store)
    assert [artifact.id for artifact in made] == [part.artifact_name() for part in parts(SPECS[name])]
    assert sorted(path for path in old_store.rglob("card.json")) == before


@pytest.mark.parametrize("spec", [LINEAR, ROBUST, SCALAR, IMPORTED], ids=lambda spec: spec.slug())
def test_a_model_classifies_as_its_card_says(spec: ModelSpec, old_store: Path) -> None:
    """The accuracy over the whole test set, and each image's class, are those of its table."""
    saved = load_model(spec.artifact_name(), old_store)
    test = saved.data().test
    with torch.no_grad():
        pred = saved.model(to_float(test.x)).argmax(1).numpy()
    table = saved.artifact.table("test")
    assert table["index"].tolist() == test.index.tolist()
    # an image whose two largest logits differ by rounding alone may change sides on another processor
    assert np.mean(pred == table["pred"]) >= 0.99
    assert np.mean(table["pred"] == table["y"]) == pytest.approx(saved.artifact.card["metrics"]["test_accuracy"])


def test_every_adversarial_example_still_fools(old_store: Path) -> None:
    """The images of attacks, shown to the model that is loaded now."""
    for name in ("attack", "attack_masked", "attack_scalar"):
        (artifact,) = found(SPECS[name], old_store)
        model = load_model(artifact.folder.parents[1].name, old_store).model
        table = artifact.table("images")
        assert table["success"].any()
        with torch.no_grad():
            pred = model(torch.from_numpy(artifact.arrays("images")["x_adv"])).argmax(1).numpy()
        assert (pred[table["success"]] != table["y"][table["success"]]).all()


def test_records_and_curves_read_them(old_store: Path) -> None:
    """All searches and proofs in ℓ∞ merge into one record of five images, and its curve is ordered."""
    record = records.load(LINEAR.artifact_name(), "linf", old_store)
    assert record is not None
    assert {source.task for source in record.sources} >= {"attack", "sweep", "radii", "evaluate", "certify"}
    assert len(record.contradictions) == 0
    curve = records.curve(record, [0.0, 0.05, 0.1])
    assert curve["attacked"].notna().all()
    assert (curve["proven"].dropna() <= curve["attacked"][curve["proven"].notna()]).all()


def test_tables_and_reports_read_them(old_store: Path) -> None:
    """The comparison's table, the list of models and the reliability checks are made from stored cards."""
    spec = SPECS["compare"]
    assert isinstance(spec, CompareSpec)
    made = comparison.compare(spec, old_store)
    assert len(made.table) == len(spec.models) * len(spec.eps)
    assert {row["model"] for row in map(comparison.model_row, store.models(old_store))} == {
        one.artifact_name() for one in (LINEAR, ROBUST, SCALAR, IMPORTED)
    }
    (evaluated,) = found(SPECS["evaluate"], old_store)
    report = Trust.from_json(evaluated.card["trust"])
    assert report.verdict == evaluated.card["trust"]["verdict"]
    assert all(check.title in report.to_markdown() for check in report.checks)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("page", ["models", "epsilon_sweep", "model_comparison"])
def test_pages_show_them(page: str, old_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages that read every model and its results open on the old store."""
    monkeypatch.setattr(warm, "later", lambda: None)
    monkeypatch.chdir(PROJECT)
    app = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=120).run()
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    assert len(app.dataframe) > 0


@pytest.mark.parametrize("name", reference.REFERENCES)
def test_bundled_models_load(name: str, store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one is found by its spec of today and by its name, and answers one logit a class."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    spec = reference.REFERENCES[name].spec
    artifact = store.find(spec, store_root)
    if artifact is None:
        assert reference.REFERENCES[name].needs_gpu
        return
    saved = load_model(name, store_root)
    assert saved.artifact.id == artifact.id == spec.artifact_name()
    shape = saved.artifact.card["shape"]
    with torch.no_grad():
        assert saved.model(torch.zeros(2, *shape)).shape == (2, len(saved.class_names))
    assert {"index", "y", "pred"} <= set(artifact.table("test").columns)
    assert len(artifact.table("measurements")) > 0
