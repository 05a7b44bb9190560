"""The store never hands out anything that does not match its card."""

from __future__ import annotations

import errno
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.storage import cards, left_out, store
from tests.planted import CARD
from tests.storage.small import MODEL, attack_on, content, put


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _edit_card(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_bytes())
        (folder / "card.json").write_text(json.dumps(card | changes))

    return edit


def _resign_card(folder: Path) -> None:
    """A card that is sound in itself, of another spec."""
    card = json.loads((folder / "card.json").read_bytes())
    card["spec"]["seed"] += 1
    card["sha256"] = cards.card_hash(card)
    (folder / "card.json").write_text(json.dumps(card))


DAMAGE = {
    "cut weights": (lambda folder: _cut(folder / "weights.safetensors"), "weights.safetensors .* SHA-256"),
    "flipped byte": (lambda folder: _flip(folder / "weights.safetensors"), "weights.safetensors .* SHA-256"),
    "empty weights": (lambda folder: (folder / "weights.safetensors").write_bytes(b""), r"\(0 bytes\)"),
    "missing weights": (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing"),
    "flipped table": (lambda folder: _flip(folder / "test.parquet"), "test.parquet .* SHA-256"),
    "cut card": (lambda folder: _cut(folder / "card.json"), "card.json is not JSON"),
    "binary card": (lambda folder: (folder / "card.json").write_bytes(b"\xff\xfe\x00"), "card.json is not JSON"),
    "deep card": (lambda folder: (folder / "card.json").write_bytes(b"[" * 200_000), "card.json is not JSON"),
    "list for a card": (lambda folder: (folder / "card.json").write_text("[]"), "card.json is no card"),
    "missing card": (lambda folder: (folder / "card.json").unlink(), "card.json is missing"),
    "undefined in card": (_edit_card(metrics=math.nan), "NaN is not JSON"),
    "edited card": (_edit_card(metrics={"test_accuracy": 1.0}), "card.json was changed"),
    "other spec": (_resign_card, "not the one that the folder is named after"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_set_aside_and_made_again(tmp_path: Path, kind: str) -> None:
    """It is refused with what was found and where it went, kept to the last byte, and does not stand in the way."""
    damage, message = DAMAGE[kind]
    made = put(tmp_path)
    damage(made.folder)
    left = content(made.folder)
    with pytest.raises(store.DamagedArtifact, match=message) as caught:
        store.find(MODEL, tmp_path)
    aside = list((tmp_path / "set_aside").iterdir())
    assert len(aside) == 1
    assert aside[0].name.startswith(f"{made.id}-")
    assert str(aside[0]) in str(caught.value)
    assert "made again" in str(caught.value)
    kept = content(aside[0])
    assert "Set aside: " in kept.pop("why.txt").decode()
    assert kept == left
    assert store.find(MODEL, tmp_path) is None
    assert store.models(tmp_path) == []
    again = put(tmp_path)
    assert store.find(MODEL, tmp_path) == again
    assert aside[0].exists()


@pytest.mark.parametrize(("read", "filename"), [("arrays", "weights.safetensors"), ("table", "test.parquet")])
def test_files_are_checked_each_time_they_are_read(tmp_path: Path, read: str, filename: str) -> None:
    """An artifact in hand gives nothing out that was damaged since."""
    made = put(tmp_path)
    name = filename.partition(".")[0]
    getattr(made, read)(name)
    _flip(made.folder / filename)
    with pytest.raises(store.DamagedArtifact, match="set aside"):
        getattr(made, read)(name)
    assert not made.folder.exists()
    with pytest.raises(store.DamagedArtifact, match="no longer in the store"):
        getattr(made, read)(name)


def test_a_damaged_result_leaves_its_model(tmp_path: Path) -> None:
    """Only what is damaged goes."""
    model = put(tmp_path)
    result = put(tmp_path, attack_on(model))
    _cut(result.folder / "test.parquet")
    with pytest.raises(store.DamagedArtifact):
        result.table("test")
    assert store.find(MODEL, tmp_path) == model
    assert store.results(model.id, tmp_path) == []


@pytest.mark.parametrize("file", ["weights.safetensors", "test.parquet", "card.json"])
def test_the_results_of_a_damaged_model_come_back_with_its_weights(tmp_path: Path, file: str) -> None:
    """They go with it; a model made again has them where its weights are the same, whatever was damaged."""
    model = put(tmp_path)
    result, other = put(tmp_path, attack_on(model)), put(tmp_path, attack_on(model, seed=1))
    _cut(model.folder / file)
    with pytest.raises(store.DamagedArtifact, match="2 results on it were set aside with it"):
        store.find(MODEL, tmp_path)
    put(tmp_path)
    assert {one.id for one in store.results(model.id, tmp_path)} == {result.id, other.id}
    assert store.find(attack_on(model), tmp_path) == result


def test_results_on_other_weights_stay_aside(tmp_path: Path) -> None:
    """A model made again with other weights has none of the results on those before: they are kept where they are."""
    model = put(tmp_path)
    result = put(tmp_path, attack_on(model))
    _flip(model.folder / "weights.safetensors")
    with pytest.raises(store.DamagedArtifact):
        model.arrays("weights")
    store.write(MODEL, tmp_path, card=CARD, arrays={"weights": {"w": np.zeros(9)}})
    assert store.results(model.id, tmp_path) == []
    aside = next((tmp_path / "set_aside").iterdir())
    assert (aside / "results" / result.id / "card.json").is_file()


def test_open_model_sets_a_damaged_card_aside(tmp_path: Path) -> None:
    """The id alone leads to the same check."""
    model = put(tmp_path)
    _cut(model.folder / "card.json")
    with pytest.raises(store.DamagedArtifact, match=r"card\.json is not JSON"):
        store.open_model(model.id, tmp_path)
    assert not model.folder.exists()


def test_damage_in_the_same_second_is_kept_apart(tmp_path: Path) -> None:
    """Nothing set aside is written over."""
    for _ in range(3):
        _cut(put(tmp_path).folder / "weights.safetensors")
        with pytest.raises(store.DamagedArtifact):
            store.find(MODEL, tmp_path)
    assert len(list((tmp_path / "set_aside").iterdir())) == 3


def test_an_artifact_in_hand_survives_its_being_made_again(tmp_path: Path) -> None:
    """The card on disk decides, so a reader with an old card does not set the new artifact aside."""
    old = put(tmp_path)
    _cut(old.folder / "weights.safetensors")
    with pytest.raises(store.DamagedArtifact):
        store.find(MODEL, tmp_path)
    store.write(MODEL, tmp_path, card=CARD, arrays={"weights": {"w": np.ones(3)}})
    np.testing.assert_array_equal(old.arrays("weights")["w"], np.ones(3))
    assert len(list((tmp_path / "set_aside").iterdir())) == 1


def test_damage_is_left_alone_while_another_makes_it(tmp_path: Path, held: Callable[..., None]) -> None:
    """Whoever holds the lock deals with it; the reader is told, and loads nothing."""
    made = put(tmp_path)
    held(MODEL, tmp_path)
    _cut(made.folder / "weights.safetensors")
    with pytest.raises(store.DamagedArtifact, match="Another process is making it again"):
        made.arrays("weights")
    assert made.folder.exists()


def test_damage_is_looked_at_again_alone(tmp_path: Path, held: Callable[..., None]) -> None:
    """What a reader saw while another set it aside and made it anew is no damage: the new one stays."""
    made = put(tmp_path)
    weights = (made.folder / "weights.safetensors").read_bytes()
    _cut(made.folder / "weights.safetensors")
    let_go = held(MODEL, tmp_path)

    def mend() -> None:
        (made.folder / "weights.safetensors").write_bytes(weights)
        let_go()

    timer = threading.Timer(0.3, mend)
    timer.start()
    assert store.find(MODEL, tmp_path) == made
    timer.join()
    assert not (tmp_path / "set_aside").exists()


def test_damage_that_cannot_be_moved_is_still_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only disk: the message says that it lies where it was."""
    made = put(tmp_path)
    _cut(made.folder / "weights.safetensors")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(store.DamagedArtifact, match=r"could not be set aside .*Permission denied"):
        store.find(MODEL, tmp_path)


def test_an_unreadable_disk_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system, such as too many open files, says nothing of the artifact: it stays."""
    made = put(tmp_path)

    def refuse(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            store.find(MODEL, tmp_path)
        assert store.models(tmp_path) == []
    assert store.find(MODEL, tmp_path) == made


def test_a_card_of_another_version_of_a_spec_is_sound(tmp_path: Path) -> None:
    """The key is that of the JSON in the card: a field that this version does not know of yet is no damage.

    It is told, and left where it is.
    """
    spec = MODEL.model_dump(mode="json") | {"later_field": 1}
    body = {"format": 1, "spec": "TrainSpec", **spec}
    key = cards.json_hash(body)
    sample = put(tmp_path).card
    card = sample | {"spec": spec, "key": key, "files": {}}
    card["sha256"] = cards.card_hash(card)
    folder = tmp_path / f"from-later-{key[:10]}"
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(card))
    assert [model.id for model in store.models(tmp_path)] == [MODEL.artifact_name()]
    (told,) = left_out.unreadable(tmp_path)
    assert (told.name, told.damaged) == (folder.name, False)
    assert "later_field" in told.why
    with pytest.raises(store.UnreadableArtifact, match="later_field"):
        store.open_model(folder.name, tmp_path)
    assert folder.is_dir()
