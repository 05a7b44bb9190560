"""The store keeps what it is given, whole or not at all, under ids that are safe, and lists it."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.specs import AttackSpec, Fgsm, SweepSpec, TrainSpec
from core.storage import cards, files, locks, store
from tests.planted import CARD
from tests.storage.small import MODEL, TABLE, WEIGHTS, attack_on, content, put


def test_write_then_find_gives_back_every_array_and_table(tmp_path: Path) -> None:
    """Shapes, dtypes and values survive, also of views, of scalars, of empty and of big-endian arrays."""
    arrays = {
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(10)[::-3],
        "scalar": np.array(2.5, dtype=np.float16),
        "empty": np.zeros((0, 4), dtype=np.uint8),
        "truth": np.array([True, False]),
        "big_endian": np.arange(3, dtype=">i4"),
        "undefined": np.array([np.nan, np.inf]),
    }
    store.write(MODEL, tmp_path, card=CARD, arrays={"weights": arrays}, tables={"test": TABLE})
    found = store.find(MODEL, tmp_path)
    assert found is not None
    back = found.arrays("weights")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
        assert back[name].shape == array.shape
        assert back[name].dtype == array.dtype.newbyteorder("=")
        assert back[name].flags.writeable
    pd.testing.assert_frame_equal(found.table("test"), TABLE)


def test_the_card_names_the_spec_the_versions_and_every_file(tmp_path: Path) -> None:
    """The card alone says what the artifact is; its own fields and the store's lie side by side."""
    made = put(tmp_path)
    card = json.loads((made.folder / "card.json").read_text(encoding="utf-8"))
    assert card == made.card
    assert card["metrics"] == CARD["metrics"]
    assert (card["format"], card["task"], card["key"]) == (1, "train", MODEL.key())
    assert set(card["files"]) == {"weights.safetensors", "test.parquet"}
    assert {"python", "numpy", "torch", "adversarial_lab"} <= set(card["versions"])
    assert made.spec() == MODEL
    assert made.id == MODEL.artifact_name()


def test_results_lie_under_their_model(tmp_path: Path) -> None:
    """Attacks and sweeps belong to their model, newest first; the list of models holds models only."""
    model = put(tmp_path)
    specs = [attack_on(model), SweepSpec(model=model.id), attack_on(model, seed=1)]
    made = [put(tmp_path, spec) for spec in specs]
    assert all(artifact.folder.parent == model.folder / "results" for artifact in made)
    assert store.results(model.id, tmp_path) == made[::-1]
    assert [artifact.spec() for artifact in made] == specs
    assert {artifact.root for artifact in [model, *made]} == {tmp_path}
    assert store.models(tmp_path) == [model]
    assert store.find(specs[1], tmp_path) == made[1]
    assert store.find(attack_on(model, seed=2), tmp_path) is None


def test_results_of_another_version_are_left_out(tmp_path: Path) -> None:
    """A result of a method that this version does not know is kept, but no page has to draw it."""
    model = put(tmp_path)
    known = put(tmp_path, attack_on(model))
    card = json.loads(json.dumps(known.card))
    card["spec"]["attack"] = {"name": "of_tomorrow"}
    card["key"] = cards.json_hash({"format": card["format"], "spec": "AttackSpec", **card["spec"]})
    card["sha256"] = cards.card_hash(card)
    folder = known.folder.parent / f"attack-of_tomorrow-{card['key'][:10]}"
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(card))
    cards.read_card(folder)  # whole: nothing but the method is unknown
    assert store.results(model.id, tmp_path) == [known]


def test_a_card_is_read_again_only_when_its_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page lists the models several times a run. A file that was changed a moment ago may change unseen."""
    reads: list[Path] = []
    before = files.read_json
    monkeypatch.setattr(files, "read_json", lambda path: reads.append(path) or before(path))
    folder = put(tmp_path).folder
    monkeypatch.setattr(cards, "_SETTLED", 3600.0)
    reads.clear()
    assert cards.read_card(folder) == cards.read_card(folder)
    assert len(reads) == 2
    monkeypatch.setattr(cards, "_SETTLED", -1.0)
    reads.clear()
    card = cards.read_card(folder)
    assert cards.read_card(folder) == card
    assert len(reads) == 1
    (folder / "card.json").write_text("{ not JSON")
    with pytest.raises(cards.Damage, match="is not JSON"):
        cards.read_card(folder)
    (folder / "card.json").unlink()
    with pytest.raises(cards.Damage, match="is missing"):
        cards.read_card(folder)


def test_models_come_newest_first(tmp_path: Path) -> None:
    """The order is that of writing."""
    made = [put(tmp_path, TrainSpec(seed=seed)) for seed in (3, 1, 2)]
    assert store.models(tmp_path) == made[::-1]


def test_a_result_without_its_model_is_refused(tmp_path: Path) -> None:
    """A result of no saved model could never be found again; nothing is left of it."""
    spec = AttackSpec(model="digits-lenet-standard-0123456789", attack=Fgsm(), eps=0.1)
    with pytest.raises(ValueError, match="model: expected the id of a saved model, got 'digits-lenet"):
        put(tmp_path, spec)
    assert content(tmp_path) == {}
    assert not (tmp_path / spec.model).exists()


def test_a_sound_artifact_is_kept_when_written_again(tmp_path: Path) -> None:
    """Writing over it would take its results away; the first stays."""
    first = put(tmp_path, run=1)
    assert put(tmp_path, run=2) == first


def test_undefined_numbers_become_null(tmp_path: Path) -> None:
    """The card is strict JSON: what is NaN or infinite is null, numpy's numbers are plain, tuples are lists."""
    made = put(
        tmp_path,
        metrics={"error": math.nan, "best": np.float32(0.5), "n": np.int64(7), "sure": np.bool_(True)},
        rows=[{"eps": np.float64("inf")}, {"eps": -math.inf}],
        shape=(1, 8, 8),
        curve=np.array([1.0, np.nan]),
    )

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} in the card")

    card = json.loads((made.folder / "card.json").read_bytes(), parse_constant=refuse)
    assert card["metrics"] == {"error": None, "best": 0.5, "n": 7, "sure": True}
    assert card["rows"] == [{"eps": None}, {"eps": None}]
    assert card["shape"] == [1, 8, 8]
    assert card["curve"] == [1.0, None]


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"when": {"at": object()}}, r"card\.when\.at: expected numbers, text, lists and dictionaries, got object"),
        ({"rows": [1, {2}]}, r"card\.rows\[1\]: expected numbers, text, lists and dictionaries, got set"),
        ({"rows": {1: 2}}, r"card\.rows: expected names that are text, got 1"),
        ({"key": "mine"}, "card: expected the runner's own fields, got key"),
    ],
)
def test_a_card_that_cannot_be_json_is_refused(tmp_path: Path, card: dict, message: str) -> None:
    """The message names the place; nothing is written."""
    with pytest.raises(ValueError, match=message):
        put(tmp_path, **card)
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    "array", [np.array([{}], dtype=object), np.array(["text"]), np.array([1j]), np.zeros(2, dtype="f4,i4")]
)
def test_arrays_that_would_need_pickle_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    """Numbers and truth values only."""
    with pytest.raises(ValueError, match="w: expected an array of numbers or truth values, got dtype"):
        store.write(MODEL, tmp_path, card=CARD, arrays={"weights": {"w": array}})
    assert content(tmp_path) == {}


def test_tables_of_objects_are_refused(tmp_path: Path) -> None:
    """A column of Python objects cannot be a Parquet column."""
    with pytest.raises(ValueError, match="table: expected columns of numbers, truth values or text"):
        store.write(MODEL, tmp_path, card=CARD, tables={"test": pd.DataFrame({"a": [object(), {}]})})
    assert content(tmp_path) == {}


@pytest.mark.parametrize("name", ["../weights", "a/b", "Weights", "", "card.json"])
def test_file_names_are_plain(tmp_path: Path, name: str) -> None:
    """A file's name cannot lead out of the folder."""
    with pytest.raises(ValueError, match="name: expected lower-case letters"):
        store.write(MODEL, tmp_path, card=CARD, arrays={name: WEIGHTS})


def test_unknown_file_names_list_those_there_are(tmp_path: Path) -> None:
    """Asking for a file that was never written is a mistake, not damage."""
    made = put(tmp_path)
    with pytest.raises(ValueError, match=r"expected one of weights\.safetensors, test\.parquet, got 'images\.parquet'"):
        made.table("images")
    assert store.find(MODEL, tmp_path) == made


@pytest.mark.parametrize("call", range(1, 6))
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Whichever file or folder does not fit: nothing of it is left, and it can be written when there is room."""
    model = put(tmp_path)
    before = content(tmp_path)
    calls = iter(range(1, 100))
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        if call <= 4:  # weights, table, card, folder
            with pytest.raises(OSError, match="No space left"):
                put(tmp_path, attack_on(model))
            assert content(tmp_path) == before
            assert list((tmp_path / ".tmp").iterdir()) == []
            assert store.find(attack_on(model), tmp_path) is None
        else:  # the folder is in its place, and only the order to the disk failed
            with pytest.raises(OSError, match="No space left"):
                put(tmp_path, attack_on(model))
            assert store.find(attack_on(model), tmp_path) is not None
    assert put(tmp_path, attack_on(model)) == store.find(attack_on(model), tmp_path)


def test_a_full_disk_in_mid_file_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write itself is cut short, as by a real full disk."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    before = content(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            store.write(MODEL, tmp_path, card=CARD, arrays={"weights": {"w": np.zeros(100_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert content(tmp_path) == before
    assert store.find(MODEL, tmp_path) is None


KILLED_IN_MID_WRITE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from core.storage import store
from core.specs import TrainSpec
from tests.planted import CARD

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
store.write(TrainSpec(epochs=1), Path(sys.argv[1]), card=CARD, arrays={"weights": {"w": np.zeros(1000)}})
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_kill_in_mid_write_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """The half-written folder is no artifact, and goes as soon as somebody holds the artifact's lock."""
    project = Path(store.__file__).parents[2]
    command = [sys.executable, "-c", KILLED_IN_MID_WRITE, str(tmp_path)]
    assert subprocess.run(command, check=False, cwd=project).returncode == -signal.SIGKILL
    assert len(list((tmp_path / ".tmp").iterdir())) == 1
    assert store.models(tmp_path) == []
    assert store.find(MODEL, tmp_path) is None
    with store.lock(TrainSpec(seed=5), tmp_path):
        assert len(list((tmp_path / ".tmp").iterdir())) == 1
    with store.lock(MODEL, tmp_path):
        assert list((tmp_path / ".tmp").iterdir()) == []
    assert put(tmp_path) == store.find(MODEL, tmp_path)


def test_remove_stale_spares_what_is_being_written(tmp_path: Path, held: Callable[..., None]) -> None:
    """Folders of dead writers go, those of a living one stay."""
    living, dead = TrainSpec(seed=1), TrainSpec(seed=2)
    held(living, tmp_path)
    for spec in (living, dead):
        (tmp_path / ".tmp" / f"{spec.artifact_name()}.0badcafe").mkdir(parents=True)
    locks.remove_stale(tmp_path)
    assert [path.name for path in (tmp_path / ".tmp").iterdir()] == [f"{living.artifact_name()}.0badcafe"]


def test_decoding_anything_else_is_a_value_error() -> None:
    """A snapshot that is no safetensors file is told apart from one that is."""
    data = files.encode_arrays(WEIGHTS)
    assert set(files.decode_arrays(data)) == set(WEIGHTS)
    for broken in (b"", b"x", data[:-1], data[:20]):
        with pytest.raises(ValueError, match="data: expected a safetensors file"):
            files.decode_arrays(broken)


def test_replace_file_leaves_the_old_one_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers see the old file or the new one, and no rest lies about."""
    path = tmp_path / "file"
    files.replace_file(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        files.replace_file(path, b"new")
    assert content(tmp_path) == {"file": b"old"}
