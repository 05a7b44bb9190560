"""Disks that fail and processes that are killed while a result is written: it is there whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest

from core.exercises import notes
from core.jobs import devices, queue, running
from core.specs import (
    DATASETS,
    TASKS,
    AttackSpec,
    CertifySpec,
    EvaluateSpec,
    Fgsm,
    ImportSpec,
    PatternSpec,
    RadiiSpec,
    SweepSpec,
    Task,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
)
from core.storage import bundled, files, store, uploads
from tests.faults import Operations, killed_at
from tests.planted import CARD

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
MODEL = TrainSpec(epochs=1)
NAME = MODEL.artifact_name()
FILE = b"what is imported"
EACH: dict[str, Callable[[Path], Task]] = {
    "train": lambda root: TrainSpec(seed=1),
    "import": lambda root: ImportSpec(
        route="onnx", digest=uploads.keep(FILE, root), label="mine", data={"dataset": "digits"}
    ),
    "attack": lambda root: AttackSpec(model=NAME, attack=Fgsm(), eps=0.1),
    "sweep": lambda root: SweepSpec(model=NAME),
    "universal": lambda root: UniversalSpec(model=NAME, eps=0.1),
    "pattern": lambda root: PatternSpec(model=NAME),
    "radii": lambda root: RadiiSpec(model=NAME),
    "transfer": lambda root: TransferSpec(models=(NAME, TrainSpec(seed=2).artifact_name()), eps=0.1),
    "evaluate": lambda root: EvaluateSpec(model=NAME, eps=0.1),
    "certify": lambda root: CertifySpec(model=NAME, method="exact", eps=0.1),
}
"""A request of each task that leaves an artifact."""


def toy(task: Task, root: Path, *, device: str, on_progress: Any) -> store.Outcome:
    """What stands in for a runner: arrays, a table and a file."""
    card = {**CARD, "data": {"fingerprint": DATASETS["digits"].fingerprint}}
    return store.Outcome(
        card=card,
        arrays={"weights": {"w": np.arange(5.0)}},
        tables={"test": pd.DataFrame({"index": [0, 1]})},
        blobs={"note.txt": b"a note"},
    )


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two toy models."""
    monkeypatch.setattr(running, "runner_for", lambda task: toy)
    monkeypatch.setattr(devices, "settled", lambda device, *_: device or "cpu")
    root = tmp_path / "lab"
    for spec in (MODEL, TrainSpec(seed=2)):
        running.run(spec, root)
    return root


def test_each_task_that_leaves_an_artifact_is_among_them() -> None:
    """A task that is added is killed, too."""
    assert set(EACH) == set(TASKS) - {"compare"}


@posix
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", EACH)
def test_killed_at_every_operation_a_result_is_whole_or_not_there(
    name: str, models: Path, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    """`kill -9` before each operation on the disk; the next asker gets a whole result, and nothing is left over."""
    with pytest.MonkeyPatch.context() as patch:
        root = Path(shutil.copytree(models, tmp_path / "whole"))
        task = EACH[name](root)
        operations = Operations(patch)
        running.run(task, root)
    count = len(operations.names)
    record_property("operations", count)
    print(f"{name}: killed at each of {count} operations")  # noqa: T201  # for the reader of `pytest -rP`
    assert count > 15
    for number in range(1, count + 1):
        root = Path(shutil.copytree(models, tmp_path / f"{number}"))
        task = EACH[name](root)
        assert killed_at(number, lambda task=task, root=root: running.run(task, root)), number  # type: ignore[misc]
        found = store.find(task, root)
        made = running.run(task, root)
        assert isinstance(made, store.Artifact)
        assert found is None or found == made
        assert made.arrays("weights")["w"].tolist() == list(range(5))
        assert made.blob("note.txt") == b"a note"
        assert not list((root / ".tmp").glob("*")), number
        assert not (root / store.SET_ASIDE).exists(), number
        shutil.rmtree(root)


# ---------------------------------------------------------------- what is left over


def left_over(root: Path) -> dict[str, Path]:
    """What killed processes may leave, of each kind."""
    found = {
        "half a checkpoint": root / store.CHECKPOINTS / f"{NAME}.safetensors.0badcafe",
        "half an artifact": root / ".tmp" / f"{NAME}.0badcafe" / "weights.safetensors",
        "a job without a task": root / ".jobs" / "20200101-000000-train-0bad" / "spec.json.0badcafe",
    }
    for path in found.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    return found


def age(root: Path, seconds: float) -> None:
    """Everything below was last changed so long ago."""
    then = time.time() - seconds
    for path in root.rglob("*"):
        os.utime(path, (then, then))


@pytest.mark.parametrize(("seconds", "stays"), [(files.OLD + 60, False), (60, True)])
def test_what_is_left_over_is_swept_when_it_is_old(models: Path, seconds: float, stays: bool) -> None:
    """At the next request of anything: what is new may be in use, whatever its lock says, and a checkpoint stays."""
    found = left_over(models)
    whole = models / store.CHECKPOINTS / f"{NAME}.safetensors"
    whole.write_bytes(b"the state of a run that was stopped")
    age(models, seconds)
    running.run(SweepSpec(model=NAME), models)
    queue.submit(SweepSpec(model=NAME), models)
    assert {kind: path.exists() for kind, path in found.items()} == dict.fromkeys(found, stays)
    assert whole.exists()


def test_what_a_living_process_writes_is_not_swept(models: Path) -> None:
    """However old it is: whoever holds the lock writes it."""
    found = left_over(models)
    age(models, files.OLD + 60)
    job = found["a job without a task"].parent
    with filelock.FileLock(models / ".locks" / f"{NAME}.lock"), filelock.FileLock(job / "lock"):
        age(models, files.OLD + 60)
        queue.submit(MODEL, models)
    assert all(path.exists() for path in found.values())


def test_whoever_takes_a_lock_removes_what_the_one_before_left(models: Path) -> None:
    """However new it is: its writer is dead."""
    found = left_over(models)
    with store.lock(MODEL, models):
        assert not found["half a checkpoint"].exists()
        assert not found["half an artifact"].exists()


# ---------------------------------------------------------------- renames that fail


def _artifact(root: Path) -> None:
    running.run(TrainSpec(seed=1), root)


def _set_aside(root: Path) -> None:
    (root / NAME / "weights.safetensors").write_bytes(b"cut short")
    with pytest.raises(store.DamagedArtifact, match="was set aside"):
        store.find(MODEL, root)
    assert store.find(MODEL, root) is None


def _upload(root: Path) -> None:
    assert uploads.read(uploads.keep(FILE, root), root) == FILE


def _file(root: Path) -> None:
    files.replace_file(root / "file", b"old")
    files.replace_file(root / "file", b"new")
    assert (root / "file").read_bytes() == b"new"


def _notes(root: Path) -> None:
    notes.change(root, lambda kept: notes.answered(kept, "1a", "because"))
    assert notes.read(root)["answers"] == {"1a": "because"}


def _bundled(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVERSARIAL_LAB_REFERENCE", str(root / "reference"))
        (root / "reference").mkdir(exist_ok=True)
        for content in (b"one", b"two"):
            assert (bundled.replace("a-model", {"card.json": content}) / "card.json").read_bytes() == content


MOVES: dict[str, Callable[[Path], None]] = {
    "artifact": _artifact,
    "set aside": _set_aside,
    "upload": _upload,
    "file": _file,
    "notes": _notes,
    "bundled": _bundled,
}
"""Everything that renames something into its place."""
ERRORS = ("ESTALE", "EIO", "EXDEV", "EACCES", "ENOTEMPTY", "EBUSY")


@pytest.mark.parametrize("done", [False, True], ids=["failed", "done, its answer lost"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", MOVES)
def test_a_rename_that_fails_once_loses_nothing(
    name: str, error: str, done: bool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename in turn: it is tried again, and on another file system the content is copied beside its place."""
    if done and error in ("EXDEV", "EACCES", "ENOTEMPTY"):
        pytest.skip("such an error says that nothing was done")
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))
    real, calls, failing = os.replace, list[int](), [0]

    def replace(source: Any, target: Any) -> None:
        calls.append(len(calls) + 1)
        if calls[-1] == failing[0]:
            if done:
                real(source, target)
            raise OSError(getattr(errno, error), error)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    while failing[0] <= len(calls):  # the last round fails nowhere
        failing[0] += 1
        calls.clear()
        root = Path(shutil.copytree(models, models.with_name(f"{failing[0]}")))
        MOVES[name](root)
        assert not list((root / ".tmp").glob("*"))
        left = [path for path in root.rglob(".*.*") if path.name.startswith(f".{NAME}")]
        assert not left
    assert failing[0] > 1


@pytest.mark.parametrize("error", ["ESTALE", "EXDEV"])
def test_a_rename_that_always_fails_is_an_error_and_leaves_nothing(
    error: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is as it was."""
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))

    def replace(source: Any, target: Any) -> None:
        raise OSError(getattr(errno, error), error)

    before = {path.name for path in models.iterdir()}
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match=error):
        running.run(TrainSpec(seed=1), models)
    assert {path.name for path in models.iterdir()} == before
    assert not list((models / ".tmp").glob("*"))
