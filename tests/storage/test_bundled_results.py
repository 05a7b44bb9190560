"""Results that ship with a model are found behind the user's own, as long as the model here is that very one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.jobs import queue
from core.specs import AttackSpec, DataSpec, Fgsm, SweepSpec, TrainSpec, TransferSpec
from core.storage import bundled, cards, files, store
from tests.planted import CARD

MODEL, OTHER = TrainSpec(epochs=1), TrainSpec(epochs=2)
ID = MODEL.artifact_name()
SWEEP = SweepSpec(model=ID, n=7)
ATTACK = AttackSpec(model=ID, attack=Fgsm(), eps=0.1)
X = np.linspace(0, 1, 5000, dtype=np.float32)


def train(root: Path, spec: TrainSpec, weights: float, **card: object) -> store.Artifact:
    """Write a small model."""
    arrays = {"weights": {"w": np.full(4, weights, dtype=np.float16)}}
    return store.write(spec, root, card={**CARD, **card}, arrays=arrays)


def ship(spec: SweepSpec | AttackSpec | TransferSpec, **weights: str) -> Path:
    """Bundle a small result; `weights` that it claims to be of, by default those that ship."""
    models = spec.models if isinstance(spec, TransferSpec) else (spec.model,)
    made_on = {
        name: weights.get("all") or bundled.weights_of(cards.read_card(bundled.root() / name)) for name in models
    }
    _, data = cards.compose(
        spec, {**CARD, "bundled": {"weights": made_on}}, {"images": {"x": X}}, {"t": pd.DataFrame({"y": [1]})}
    )
    return bundled.add_result(spec.model, spec.artifact_name(), data.pop(cards.CARD), data)


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models that ship, the first with a sweep."""
    where = tmp_path / "reference"
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(where))
    for spec in (MODEL, OTHER):
        train(where, spec, spec.epochs, reference={"name": f"model-{spec.epochs}"})
    ship(SWEEP)
    return where


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root`."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_they_are_found_like_any_other(ships: Path, store_root: Path) -> None:
    """By spec, in the list, by a job, which is done at once; read to the last bit; nothing is written."""
    before = content(ships)
    found = store.find(SWEEP, store_root)
    assert found is not None
    assert store.located(SWEEP, store_root) == found.folder
    assert (found.root, found.spec()) == (ships, SWEEP)
    assert store.results(ID, store_root) == [found]
    assert store.results(ID, store_root, "attack") == []
    assert (found.arrays("images")["x"] == X).all()
    assert found.table("t")["y"].tolist() == [1]
    assert store.find(SWEEP, store_root, allow_bundled=False) is None
    job = queue.submit(SWEEP, store_root)
    assert (job.state, job.artifacts) == ("done", [f"{ID}/results/{found.id}"])
    assert content(ships) == before
    assert not (store_root / ID).exists()
    for absent in (SWEEP.model_copy(update={"n": 8}), SWEEP.model_copy(update={"data": DataSpec(dataset="digits28")})):
        assert store.located(absent, store_root) is None


def test_files_lie_packed_and_cards_say_what_they_are_unpacked(ships: Path, store_root: Path) -> None:
    """The names and hashes on a card are those of a user's own run."""
    folder = store.located(SWEEP, store_root)
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {"card.json", "images.safetensors.zst", "t.parquet.zst"}
    card = cards.verified(folder)
    assert set(card["files"]) == {"images.safetensors", "t.parquet"}
    whole = files.encode_arrays({"x": X})
    assert files.unpacked((folder / "images.safetensors.zst").read_bytes()) == whole
    assert files.unpacked(files.packed(b"")) == b""
    with pytest.raises(ValueError, match="packed file"):
        files.unpacked(whole)


def test_a_copy_of_the_model_keeps_them_and_own_results_come_first(ships: Path, store_root: Path) -> None:
    """A result of one's own puts a copy of the model into the store; the same request made there hides the bundled."""
    shipped = store.find(SWEEP, store_root)
    own = store.write(ATTACK, store_root, card=CARD)
    assert bundled.is_copy(store.open_model(ID, store_root).card)
    assert store.results(ID, store_root) == [own, shipped]
    again = store.write(SWEEP, store_root, card={**CARD, "mine": True})
    assert store.find(SWEEP, store_root) == again
    assert again.root == store_root
    assert sorted(result.id for result in store.results(ID, store_root)) == sorted([again.id, own.id])


@pytest.mark.parametrize("reference", [{}, {"reference": {"name": "an older one"}}])
def test_other_weights_under_the_same_key_have_other_results(
    ships: Path, store_root: Path, reference: dict[str, object]
) -> None:
    """A model that was trained here, and a copy of another version's, do not get what was measured on this one."""
    train(store_root, MODEL, 0.5, **reference)
    assert store.find(SWEEP, store_root) is None
    assert store.located(SWEEP, store_root) is None
    assert store.results(ID, store_root) == []


def test_results_of_a_model_that_was_replaced_are_gone(ships: Path, store_root: Path) -> None:
    """Nor is one found that says of other weights than those that ship, or says nothing."""
    assert store.results(ID, store_root)
    ship(SWEEP, all="0" * 64)
    assert store.find(SWEEP, store_root) is None
    folder = bundled.root() / ID / "results" / SWEEP.artifact_name()
    _, data = cards.compose(SWEEP, {}, {}, {})
    (folder / "card.json").write_bytes(data["card.json"])
    assert store.results(ID, store_root) == []


@pytest.mark.parametrize(("weights", "stay"), [(1.0, True), (0.5, False)])
def test_results_stay_with_a_model_that_is_replaced_by_the_same_weights(
    ships: Path, store_root: Path, weights: float, stay: bool
) -> None:
    """As where it is measured again; those of other weights go."""
    before = content(ships / ID / "results")
    card = {**CARD, "reference": {"name": "measured again"}}
    bundled.replace(ID, cards.compose(MODEL, card, {"weights": {"w": np.full(4, weights, dtype=np.float16)}}, {})[1])
    assert store.open_model(ID, store_root).card["reference"] == card["reference"]
    assert (bundled.results(ID) is not None) == stay == (store.find(SWEEP, store_root) is not None)
    if stay:
        assert content(ships / ID / "results") == before


def test_a_matrix_needs_all_of_its_models(ships: Path, store_root: Path) -> None:
    """One that was trained here, and the matrix is about another."""
    matrix = TransferSpec(models=(ID, OTHER.artifact_name()), eps=0.1)
    ship(matrix)
    assert store.find(matrix, store_root) is not None
    train(store_root, MODEL if matrix.model != ID else OTHER, 0.5)
    assert store.find(matrix, store_root) is None
    assert store.results(matrix.model, store_root, "transfer") == []


@pytest.mark.parametrize("filename", ["images.safetensors.zst", "t.parquet.zst", "card.json"])
@pytest.mark.parametrize("how", ["torn", "gone"])
def test_damaged_ones_are_reported_and_left(ships: Path, store_root: Path, filename: str, how: str) -> None:
    """Never set aside; the same request can be run, and is the user's own then."""
    path = bundled.root() / ID / "results" / SWEEP.artifact_name() / filename
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes()[:-9])
    before = content(ships)
    with pytest.raises(store.DamagedArtifact, match="is a bundled result and was left as it is"):
        store.find(SWEEP, store_root)
    assert content(ships) == before
    assert not (store_root / "set_aside").exists()
    own = store.write(SWEEP, store_root, card=CARD)
    assert store.find(SWEEP, store_root) == own


def test_nothing_is_bundled_where_nothing_may_be_replaced(ships: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with a model that does not ship."""
    with pytest.raises(ValueError, match="expected a bundled one"):
        bundled.add_result("nonesuch", SWEEP.artifact_name(), json.dumps({}).encode(), {})
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    monkeypatch.setattr("core.paths.in_clone", lambda: False)
    with pytest.raises(ValueError, match="installed package"):
        bundled.add_result(ID, SWEEP.artifact_name(), b"{}", {})
