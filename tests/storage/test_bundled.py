"""Models that ship are found behind the user's own, never changed, and what is made of them is written elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.jobs import queue
from core.specs import AttackSpec, Fgsm, TrainSpec
from core.storage import bundled, cards, store
from tests.planted import CARD

MODEL = TrainSpec(epochs=1)
OTHER = TrainSpec(epochs=2)


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that ships one model, MODEL."""
    where = tmp_path / "reference"
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(where))
    put(where, MODEL, reference={"name": "first"})
    for extra in (where / ".locks", where / ".tmp"):
        for path in (*extra.glob("*"), extra):
            path.unlink() if path.is_file() else path.rmdir()
    return where


def put(root: Path, spec: TrainSpec | AttackSpec, **card: object) -> store.Artifact:
    """Write a small artifact."""
    arrays = {"weights": {"w": np.arange(4, dtype=np.float16)}}
    return store.write(spec, root, card={**CARD, **card}, arrays=arrays, tables={"test": pd.DataFrame({"y": [1]})})


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root`, and every folder."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"" for path in root.rglob("*")}


def test_shipped_models_are_seen_as_if_they_lay_in_the_store(ships: Path, store_root: Path) -> None:
    """Listed after the user's own, found by spec, by id and by the beginning of it; nothing is written for that."""
    assert [model.id for model in store.models(store_root)] == [MODEL.artifact_name()]
    assert not store_root.exists()
    before = content(ships)
    found = store.find(MODEL, store_root)
    assert found is not None
    assert found == store.open_model(found.id, store_root) == store.open_model(found.id[:-3], store_root)
    assert found.root == ships
    assert found.arrays("weights")["w"].dtype == np.float16
    assert store.open_model(found.id, found.root) == found
    own = put(store_root, OTHER)
    assert store.models(store_root) == [own, found]
    assert content(ships) == before


def test_without_a_reference_folder_nothing_ships(
    ships: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty name is none; a folder that is not there holds none; otherwise it is beside the package."""
    for named in ("", str(ships / "nowhere")):
        monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", named)
        assert store.models(store_root) == []
        assert store.find(MODEL, store_root) is None
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    assert bundled.root() == Path(bundled.__file__).parents[2] / "saved_models" / "reference"


def test_training_the_same_spec_finds_the_shipped_model(ships: Path, store_root: Path) -> None:
    """Nothing is trained: a job is done at once, and names the place that the model would have."""
    assert queue.run(MODEL, store_root) == store.find(MODEL, store_root)
    job = queue.submit(MODEL, store_root)
    assert (job.state, job.artifacts) == ("done", [MODEL.artifact_name()])
    assert queue.submit(MODEL, store_root).id == job.id


def test_the_users_own_model_comes_first(ships: Path, store_root: Path) -> None:
    """One with the same key hides the shipped one, which stays."""
    own = put(store_root, MODEL, here=True)
    assert own.root == store_root
    assert store.models(store_root) == [own]
    assert store.find(MODEL, store_root) == store.open_model(own.id, store_root) == own


def test_results_on_a_shipped_model_are_written_into_the_users_store(ships: Path, store_root: Path) -> None:
    """The model is copied there first, whole, so that a result always lies under its model."""
    before = content(ships)
    spec = AttackSpec(model=MODEL.artifact_name(), attack=Fgsm(), eps=0.1)
    assert store.results(spec.model, store_root) == []
    made = put(store_root, spec)
    assert made.root == store_root
    assert store.results(spec.model, store_root) == [made]
    copy = store.open_model(spec.model, store_root)
    assert copy.folder == store_root / spec.model
    assert (copy.folder / "weights.safetensors").read_bytes() == before[f"{copy.id}/weights.safetensors"]
    assert store.models(store_root) == [copy]
    assert content(ships) == before
    assert put(store_root, spec.model_copy(update={"seed": 1})).root == store_root


def test_a_copy_is_no_training_of_ones_own(ships: Path, store_root: Path) -> None:
    """Who asks for a training of one's own gets none; once there is one, the copy and its results step aside."""
    spec = AttackSpec(model=MODEL.artifact_name(), attack=Fgsm(), eps=0.1)
    assert store.find(MODEL, store_root, allow_bundled=False) is None
    put(store_root, spec)
    assert store.find(MODEL, store_root, allow_bundled=False) is None
    own = store.write(MODEL, store_root, card=CARD, arrays={"weights": {"w": np.zeros(4)}})
    assert store.find(MODEL, store_root, allow_bundled=False) == store.find(MODEL, store_root) == own
    (aside,) = (store_root / "set_aside").iterdir()
    assert "copy of the bundled model" in (aside / "why.txt").read_text()
    assert (aside / "results").is_dir()
    assert store.results(own.id, store_root) == []
    assert own.card["results_set_aside"] == 1
    assert store_root / own.card["set_aside"] == aside
    assert cards.verified(own.folder) == own.card


@pytest.mark.parametrize("filename", ["weights.safetensors", "card.json"])
def test_damaged_shipped_files_are_reported_but_never_moved(ships: Path, store_root: Path, filename: str) -> None:
    """The message says so; a training of the same spec goes on and makes one in the user's store."""
    path = ships / MODEL.artifact_name() / filename
    path.write_bytes(path.read_bytes()[:-9])
    before = content(ships)
    for ask in (
        lambda: store.find(MODEL, store_root),
        lambda: put(store_root, AttackSpec(model=MODEL.artifact_name(), attack=Fgsm(), eps=0.1)),
    ):
        with pytest.raises(store.DamagedArtifact, match="is a bundled model and was left as it is"):
            ask()
    if filename == "card.json":
        assert store.models(store_root) == []
        with pytest.raises(store.DamagedArtifact, match=r"card\.json is not JSON"):
            store.open_model(MODEL.artifact_name(), store_root)
    else:
        with pytest.raises(store.DamagedArtifact, match="does not match"):
            store.open_model(MODEL.artifact_name(), store_root).arrays("weights")
    assert content(ships) == before
    assert not (store_root / "set_aside").exists()
    own = put(store_root, MODEL, here=True)
    assert store.find(MODEL, store_root) == own


def test_what_a_killed_copy_left_is_removed_by_the_next(ships: Path, store_root: Path) -> None:
    """A half-written copy is never taken for a model."""
    half = store_root / ".tmp" / "adopted" / f"{MODEL.artifact_name()}.0000"
    half.mkdir(parents=True)
    (half / "card.json").write_text(json.dumps({"torn": True}))
    put(store_root, AttackSpec(model=MODEL.artifact_name(), attack=Fgsm(), eps=0.1))
    assert not half.exists()
    assert store.find(MODEL, store_root) is not None


def test_replacing_never_loses_what_ships(ships: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a full disk, in the writing or the last rename, nor another's unfinished work costs a model."""
    name = MODEL.artifact_name()
    others = ships / ".tmp" / "another.0000" / "before"
    others.mkdir(parents=True)
    before = content(ships / name)
    real = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return real(self, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="disk full"):
            bundled.replace(name, {"card.json": b"{}"})
    assert content(ships / name) == before
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", lambda descriptor: (ships / name / "card.json").read_bytes() and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bundled.replace(name, {"card.json": b"{}"})
    assert content(ships / name) == before
    assert bundled.replace(name, {"card.json": b"{}"}) == ships / name
    assert content(ships / name) == {"card.json": b"{}"}
    assert others.is_dir()
