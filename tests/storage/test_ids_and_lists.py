"""Ids lead nowhere else, and lists hold what can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import paths
from core.specs import CompareSpec, DataSpec, SweepSpec, TrainSpec
from core.storage import left_out, store
from tests.storage.small import MODEL, attack_on, content, put

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
