"""The store keeps what it is given, whole or not at all, and never hands out anything that does not match its card."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core import paths
from core.specs import AttackSpec, CompareSpec, DataSpec, Fgsm, SweepSpec, TrainSpec
from core.storage import cards, files, left_out, locks, store
from tests.planted import CARD

MODEL = TrainSpec(epochs=1)
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}
TABLE = pd.DataFrame({"index": [0, 1], "y": [3, 4], "name": ["three", "four"], "sure": [True, False]})


def put(root: Path, spec: TrainSpec | AttackSpec | SweepSpec = MODEL, **card: object) -> store.Artifact:
    """Write a small artifact."""
    return store.write(spec, root, card={**CARD, **card}, arrays={"weights": WEIGHTS}, tables={"test": TABLE})


def attack_on(model: store.Artifact, seed: int = 0) -> AttackSpec:
    """A result's spec."""
    return AttackSpec(model=model.id, attack=Fgsm(), eps=0.1, seed=seed)


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root` but the locks, which are no part of what is stored."""
    paths = (path for path in root.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


# ---------------------------------------------------------------- writing and reading


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


# ---------------------------------------------------------------- damage


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


# ---------------------------------------------------------------- what goes wrong in mid-write


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


# ---------------------------------------------------------------- ids

DANGEROUS = ["../x", "..", ".", "/etc", "a/b", "a\\b", "C:\\x", "", ".jobs", "-x", "x\n", "x\0y", "é", "x" * 300]


@pytest.mark.parametrize("name", DANGEROUS)
def test_dangerous_ids_are_refused(tmp_path: Path, name: str) -> None:
    """An id from an address or a command line cannot lead out of the store."""
    put(tmp_path / "store")
    asked = [lambda: store.open_model(name, tmp_path / "store"), lambda: store.results(name, tmp_path / "store")]
    if name:
        spec = SweepSpec(model=name)
        asked += [lambda: store.locate(spec, tmp_path / "store"), lambda: store.find(spec, tmp_path / "store")]
        asked += [lambda: put(tmp_path / "store", spec), lambda: store.resolve(spec, tmp_path / "store")]
    before = content(tmp_path)
    for ask in asked:
        with pytest.raises(ValueError, match="model: expected an id of letters, digits"):
            ask()
    assert content(tmp_path) == before


def test_open_model_takes_an_id_or_what_only_one_begins_with(tmp_path: Path) -> None:
    """Unknown and ambiguous ids are answered with those there are."""
    with pytest.raises(ValueError, match=r"none; train one first.* got 'mnist'"):
        store.open_model("mnist", tmp_path)
    lenet, mlp = put(tmp_path, TrainSpec()), put(tmp_path, TrainSpec(network="mlp"))
    assert store.open_model(lenet.id, tmp_path) == lenet
    assert store.open_model("digits-l", tmp_path) == lenet
    for name in ("mnist", "set_aside", "digits-"):
        with pytest.raises(ValueError, match=rf"model: expected .*{mlp.id}, {lenet.id}.* got '{name}'"):
            store.open_model(name, tmp_path)


def test_open_model_takes_a_reference_models_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before ids that begin so; the user's own model of the same id goes before the one that ships."""
    where, mine = tmp_path / "reference", tmp_path / "store"
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(where))
    put(where, TrainSpec(), reference={"name": "digits"})
    put(where, TrainSpec(network="mlp"), reference={"name": "digits-lenet"})
    assert store.open_model("digits", mine).id == TrainSpec().artifact_name()
    assert store.open_model("digits-lenet", mine).id == TrainSpec(network="mlp").artifact_name()
    own = put(mine, TrainSpec())
    assert store.open_model("digits", mine) == own
    assert store.resolve(SweepSpec(model="digits"), mine) == SweepSpec(model=own.id)


def test_resolve_gives_full_ids(tmp_path: Path) -> None:
    """So that a short id and a long one ask for the same artifact."""
    model = put(tmp_path)
    for short, full in [
        (SweepSpec(model="digits"), SweepSpec(model=model.id)),
        (attack_on(model).model_copy(update={"model": "digits"}), attack_on(model)),
        (CompareSpec(models=("digits", model.id)), CompareSpec(models=(model.id, model.id))),
        (MODEL, MODEL),
    ]:
        assert store.resolve(short, tmp_path) == full
    with pytest.raises(ValueError, match="model: expected"):
        store.resolve(SweepSpec(model="mnist"), tmp_path)


def test_a_comparison_has_no_artifact_of_its_own(tmp_path: Path) -> None:
    """Its sweeps have."""
    with pytest.raises(ValueError, match="spec: expected train, attack or sweep, got a comparison"):
        store.find(CompareSpec(models=("x",)), tmp_path)


def test_default_root_is_the_environments_or_beside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ADVERSARIAL_LAB_STORE` moves the store."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", "elsewhere")
    assert store.default_root() == Path("elsewhere")
    monkeypatch.delenv("ADVERSARIAL_LAB_STORE")
    assert store.default_root() == Path(store.__file__).parents[2] / "saved_models"
    monkeypatch.setattr(paths, "in_clone", lambda: False)
    assert store.default_root().parts[-2:] == ("adversarial-lab", "saved_models")


def test_long_names_are_cut(tmp_path: Path) -> None:
    """An image folder's name becomes part of the id; a file system takes 255 characters."""
    spec = TrainSpec(data=DataSpec(dataset="folder", folder="/pictures/" + "long" * 60, classes=tuple(range(200))))
    made = put(tmp_path, spec)
    assert len(made.id) < 100
    assert store.open_model(made.id, tmp_path) == store.find(spec, tmp_path) == made


# ---------------------------------------------------------------- lists


def test_lists_skip_what_is_no_artifact(tmp_path: Path) -> None:
    """Folders of other versions, of other programs, files and broken cards are passed over, and left where they are."""
    assert store.models(tmp_path / "nowhere") == []
    model = put(tmp_path)
    (tmp_path / "README.md").write_text("Saved models")
    (tmp_path / "empty").mkdir()
    (tmp_path / "set_aside").mkdir()
    for name, text in [
        ("later-0123456789", json.dumps(model.card | {"format": 2})),
        ("torn-0123456789", '{"format": 1, "ta'),
        ("foreign", '{"name": "resnet"}'),
        ("strange", json.dumps(model.card | {"task": ["train"], "files": None, "spec": 3})),
        ("number", "3"),
        ("copy-of-another", json.dumps(model.card)),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(text)
    (tmp_path / "a-folder" / "card.json").mkdir(parents=True)
    before = content(tmp_path)
    assert store.models(tmp_path) == [model]
    assert store.results(model.id, tmp_path) == []
    with pytest.raises(store.UnreadableArtifact, match="of format 2, which a later version"):
        store.open_model("later-0123456789", tmp_path)
    told = {one.name: one for one in left_out.unreadable(tmp_path)}
    assert set(told) == {"later-0123456789", "torn-0123456789", "foreign", "strange", "number", "copy-of-another"}
    assert [name for name, one in told.items() if not one.damaged] == ["later-0123456789"]
    assert content(tmp_path) == before


def test_listing_reads_cards_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may be large; a list must not read them."""
    put(tmp_path)
    read: list[str] = []
    read_bytes = Path.read_bytes

    def record(path: Path) -> bytes:
        read.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", record)
    assert len(store.models(tmp_path)) == 1
    assert set(read) == {"card.json"}


def test_the_store_and_jobs_leave_torch_unloaded() -> None:
    """Pages list models before PyTorch is there: importing it takes seconds."""
    code = "import sys; from core.storage import store; import core.jobs.queue; store.models(store.default_root())"
    code += "; print('torch' in sys.modules)"
    project = Path(store.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=project, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_thousands_of_results_are_listed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list stays complete, in order, and quick enough for a page that is drawn anew at every click."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the disk is not what is tested here
    model = put(tmp_path)
    made = [store.write(attack_on(model, seed), tmp_path, card={"metrics": {"n": 1}}).id for seed in range(2000)]
    start = time.process_time()  # other work on the machine does not count
    listed = store.results(model.id, tmp_path)
    seconds = time.process_time() - start
    assert [result.id for result in listed] == made[::-1]
    assert seconds < 4  # measured: 0.2


# ---------------------------------------------------------------- locks


@pytest.fixture
def held() -> Iterator[Callable[[TrainSpec, Path], Callable[[], None]]]:
    """Hold an artifact's lock in another thread, until what is returned is called or the test ends."""
    release = threading.Event()
    threads = []

    def hold(spec: TrainSpec, root: Path) -> Callable[[], None]:
        taken = threading.Event()

        def body() -> None:
            with store.lock(spec, root):
                taken.set()
                release.wait()

        threads.append(threading.Thread(target=body))
        threads[-1].start()
        assert taken.wait(300)
        return release.set

    yield hold
    release.set()
    for thread in threads:
        thread.join()


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    """Threads of one process exclude each other as processes do."""
    inside = []

    def enter(number: int) -> None:
        with store.lock(MODEL, tmp_path):
            inside.append(number)
            time.sleep(0.02)
            assert inside.pop() == number
            assert not inside

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))


def test_waiting_for_a_lock_can_be_given_up(tmp_path: Path, held: Callable[..., None]) -> None:
    """`on_wait` is called again and again; what it raises ends the wait."""
    held(MODEL, tmp_path)
    calls = []

    def wait() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"), store.lock(MODEL, tmp_path, on_wait=wait):
        raise AssertionError("two are inside")
    with store.lock(TrainSpec(seed=9), tmp_path, on_wait=wait):
        assert len(calls) == 3


def test_whoever_holds_a_lock_may_take_it_again(tmp_path: Path) -> None:
    """So that `write` works inside and outside of it."""
    with store.lock(MODEL, tmp_path):
        with store.lock(MODEL, tmp_path):
            made = put(tmp_path)
        with pytest.raises(ValueError, match="card"):
            put(tmp_path, TrainSpec(seed=4), key=1)
    assert store.find(MODEL, tmp_path) == made


WRITER = """
import sys
from pathlib import Path
import numpy as np
from core.storage import store
from core.specs import TrainSpec
from tests.planted import CARD

for seed in range(10):
    arrays = {"weights": {"w": np.full(999, seed)}}
    made = store.write(TrainSpec(seed=seed), Path(sys.argv[1]), card=CARD, arrays=arrays)
    assert (made.arrays("weights")["w"] == seed).all()
"""


@pytest.mark.slow
def test_concurrent_writers_leave_one_sound_artifact_each(tmp_path: Path) -> None:
    """Three processes write the same ten artifacts at once: each is there once, whole, and nothing else is."""
    project = Path(store.__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=project) for _ in range(3)]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    for seed in range(10):
        found = store.find(TrainSpec(seed=seed), tmp_path)
        assert found is not None
        assert (found.arrays("weights")["w"] == seed).all()
    assert len(store.models(tmp_path)) == 10
    assert list((tmp_path / ".tmp").iterdir()) == []
    assert not (tmp_path / "set_aside").exists()


# ---------------------------------------------------------------- files


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
