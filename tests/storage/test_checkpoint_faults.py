"""Whatever happens to a checkpoint, the task ends in the result of the unbroken run, and no finished work is lost."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from core.evaluation.robust import robust
from core.evaluation.tasks import radii
from core.jobs import queue, running
from core.progress import Cancelled
from core.specs import EvaluateSpec, RadiiSpec, Task, TrainSpec, dump_task
from core.storage import cards, checkpoint, files, store
from core.training import loop
from tests.faults import Operations, flip, killed_at, places

TASKS: dict[str, Task] = {
    "train": TrainSpec(epochs=3, network="mlp", batch_size=256),
    "radii": RadiiSpec(model="digits-linear", n=50, budget=60),
    "evaluate": EvaluateSpec(model="digits-linear", eps=0.05, effort="quick", n=12),
}
"""Every task that keeps checkpoints."""
WORK: dict[str, tuple[Any, str]] = {
    "train": (loop._Loop, "_one_epoch"),
    "radii": (radii, "run_method"),
    "evaluate": (robust, "run_stage"),
}
"""What does one part of each."""


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each part, and several parts."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(radii, "PART", 20)


@pytest.fixture(scope="module")
def kept(trained_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """For each task a store with the checkpoint of a run that was stopped after two parts, and the unbroken result."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
        patch.setattr(radii, "PART", 20)
        for name, task in TASKS.items():
            root = Path(shutil.copytree(trained_store, tmp_path_factory.mktemp(name) / "store"))
            made = running.run(task, root, device="cpu")
            result = contents(made)
            shutil.rmtree(made.folder)
            with pytest.MonkeyPatch.context() as stopped:
                stop_after(2, name, stopped)
                with pytest.raises(Cancelled):
                    running.run(task, root, device="cpu")
            assert of(task, root).is_file()
            found[name] = (root, result)
    return found


class Stopped(NamedTuple):
    """A task that was stopped after two parts: its store, which a test may change, and the unbroken result.

    source: the same store, which stays.
    """

    name: str
    source: Path
    root: Path
    result: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint lies."""
        return of(TASKS[self.name], self.root)

    def run(self, root: Path | None = None) -> dict[str, Any]:
        """What comes of it when it is asked for again, here or in another store."""
        return contents(running.run(TASKS[self.name], root or self.root, device="cpu"))


@pytest.fixture(params=TASKS)
def stopped(request: pytest.FixtureRequest, kept: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path) -> Stopped:
    """Each task in turn, in a store of its own."""
    source, result = kept[request.param]
    return Stopped(request.param, source, Path(shutil.copytree(source, tmp_path / "lab")), result)


def stop_after(parts: int, name: str, patch: pytest.MonkeyPatch) -> list[int]:
    """Cancel when more than so many parts of a task are begun; gives the parts as they are begun."""
    owner, function = WORK[name]
    real, begun = getattr(owner, function), list[int]()

    def counted(*args: Any, **options: Any) -> Any:
        if len(begun) == parts:
            raise Cancelled
        begun.append(len(begun))
        return real(*args, **options)

    patch.setattr(owner, function, counted)
    return begun


def of(task: Task, root: Path) -> Path:
    """Where its checkpoint lies."""
    return store.unfinished(store.resolve(task, root), root)


def contents(made: Any) -> dict[str, Any]:
    """All that an artifact says but the time that it took."""
    found: dict[str, Any] = {name: made.card[name] for name in ("n", "best_epoch", "warning") if name in made.card}
    for name in made.card["files"]:
        stem, _, kind = name.partition(".")
        if kind == "safetensors":
            found |= {f"{stem}/{key}": value.tobytes() for key, value in made.arrays(stem).items()}
        else:
            found[stem] = made.table(stem).to_json()
    return found


def _truncated(path: Path, patch: pytest.MonkeyPatch) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _empty(path: Path, patch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"")


def _flipped(path: Path, patch: pytest.MonkeyPatch) -> None:
    found = places(path)
    flip(path, found[max(name for name in found if name != checkpoint.META)])


def _other_version(path: Path, patch: pytest.MonkeyPatch) -> None:
    _written_with(path, patch, cards, "versions", lambda: {**cards.versions(), "adversarial_lab": "0.0"})


def _other_settings(path: Path, patch: pytest.MonkeyPatch) -> None:
    arrays = files.decode_arrays(path.read_bytes())
    _rewritten(path, lambda meta: {**meta, "of": {**meta["of"], next(iter(meta["of"])): "another"}}, arrays)


def _before_there_were_hashes(path: Path, patch: pytest.MonkeyPatch) -> None:
    arrays = files.decode_arrays(path.read_bytes())
    arrays[checkpoint.META] = np.frombuffer(b'{"mark": "x", "history": []}', dtype=np.uint8)
    path.write_bytes(files.encode_arrays(arrays))


def _sound_but_lacking(path: Path, patch: pytest.MonkeyPatch) -> None:
    """As a program of the same version with other code would have written it."""
    arrays = files.decode_arrays(path.read_bytes())
    del arrays[max(name for name in arrays if name.split("/")[0] in ("model", "images", "cascade"))]
    _rewritten(path, lambda meta: meta, arrays)


def _unreadable(path: Path, patch: pytest.MonkeyPatch) -> None:
    real = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self == path:
            raise OSError(errno.EIO, "Input/output error")
        return real(self)

    patch.setattr(Path, "read_bytes", refuse)


def _written_with(path: Path, patch: pytest.MonkeyPatch, *what: Any) -> None:
    arrays = files.decode_arrays(path.read_bytes())
    versions = what[2]()
    _rewritten(path, lambda meta: {**meta, "versions": versions}, arrays)


def _rewritten(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], arrays: dict[str, np.ndarray]) -> None:
    """The file with another description and a hash that fits it."""
    arrays = dict(arrays)
    meta = change(json.loads(arrays.pop(checkpoint.META).tobytes()))
    meta.pop("sha256")
    meta["sha256"] = checkpoint._hash(arrays, meta)
    arrays[checkpoint.META] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    path.write_bytes(files.encode_arrays(arrays))


DAMAGE: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], str]] = {
    "flipped bit": (_flipped, "does not match its SHA-256"),
    "truncated": (_truncated, "expected a whole checkpoint, got .* bytes that are none"),
    "empty": (_empty, "expected a whole checkpoint, got 0 bytes"),
    "other version": (_other_version, r"expected a checkpoint of adversarial_lab .*, got one of adversarial_lab 0\.0"),
    "other settings": (_other_settings, "expected a checkpoint of this run, got one of another: "),
    "without a hash": (_before_there_were_hashes, "expected a checkpoint with its SHA-256, got one without"),
    "sound but lacking": (_sound_but_lacking, "does not fit|of the same images"),
    "unreadable": (_unreadable, "Input/output error"),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_checkpoint_is_set_aside_and_the_task_starts_anew(
    stopped: Stopped, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The result is that of the unbroken run; the file is kept with a note of what is wrong with it, and said once."""
    path = stopped.checkpoint
    damage, said = DAMAGE[kind]
    damage(path, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert stopped.run() == stopped.result
    (aside,) = (stopped.root / store.SET_ASIDE).iterdir()
    assert {entry.name for entry in aside.iterdir()} == {path.name, "why.txt"}
    note = (aside / "why.txt").read_text(encoding="utf-8")
    (message,) = [record.getMessage() for record in caplog.records if record.name == checkpoint.__name__]

    assert re.search(said, note)
    assert re.search(said, message)
    assert str(aside) in message
    assert not path.exists()


def test_no_flipped_bit_of_any_tensor_is_read(stopped: Stopped, tmp_path: Path) -> None:
    """The hash covers every tensor, the description, and the header, which gives names, types and shapes."""
    path = stopped.checkpoint
    meta = files.decode_arrays(path.read_bytes())[checkpoint.META].tobytes()

    wanted = json.loads(meta)["of"]
    copy = tmp_path / "copy.safetensors"
    shutil.copy(path, copy)
    assert checkpoint.read(copy, wanted) is not None
    found = places(path)
    assert set(found) >= {checkpoint.META}
    data = path.read_bytes()
    header = data.index(b'"dtype"')
    print(f"{stopped.name}: {2 * (len(found) + 2)} bits flipped in {len(found)} tensors and the header")  # noqa: T201
    for where in [*found.values(), 3, header + 10]:
        for bit in (0, 6):
            shutil.copy(path, copy)
            flip(copy, where, bit)
            assert checkpoint.read(copy, wanted) is None, where
            assert not copy.exists()


def test_a_result_that_cannot_be_written_is_not_worked_out_again(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the artifact is to be written: the checkpoint stays, and no part is done a second time."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_folder", full)
        with pytest.raises(OSError, match="No space left"):
            stopped.run()
    assert stopped.checkpoint.is_file()
    stop_after(0, stopped.name, monkeypatch)
    assert stopped.run() == stopped.result
    assert not stopped.checkpoint.exists()


def test_no_run_ends_because_its_checkpoint_cannot_be_written(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on, says so, and what was kept before stays until the end."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "replace_file", full)
    with caplog.at_level(logging.WARNING):
        assert stopped.run() == stopped.result
    assert "could not be saved ([Errno 28] No space left on device). The run continues." in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
@pytest.mark.slow
def test_killed_at_every_operation_a_task_ends_in_the_same(
    stopped: Stopped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[..., None]
) -> None:
    """`kill -9` before each operation on the disk, after which it is asked for again: nothing is lost or left over."""
    torch.set_num_threads(1)  # a copy of this process has none of its threads
    if stopped.name == "evaluate":  # the reliability checks keep nothing on the disk, and take most of the time
        monkeypatch.setattr(robust, "with_reliability", lambda _given, _judge, made, *_: made)
        stopped = stopped._replace(result=_unbroken(stopped, tmp_path / "unbroken"))
    with pytest.MonkeyPatch.context() as patch:
        operations = Operations(patch)
        stopped.run()
    count = len(operations.names)
    record_property("operations", count)
    print(f"{stopped.name}: killed at each of {count} operations")  # noqa: T201  # for the reader of `pytest -rP`
    assert count > 10
    for number in range(1, count + 1):
        root = Path(shutil.copytree(stopped.source, tmp_path / f"{number}"))
        assert killed_at(number, lambda root=root: stopped.run(root)), number  # type: ignore[misc]
        assert stopped.run(root) == stopped.result, number
        assert not list((root / ".tmp").glob("*")), number
        assert not list((root / store.CHECKPOINTS).glob("*")), number
        assert not (root / store.SET_ASIDE).exists(), number
        shutil.rmtree(root)


def test_the_reader_of_a_job_is_told_what_is_wrong_with_its_checkpoint(
    kept: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path
) -> None:
    """As a message of the job, which ends well."""
    source, _ = kept["train"]
    root = Path(shutil.copytree(source, tmp_path / "lab"))
    path = of(TASKS["train"], root)
    path.write_bytes(b"half a file")
    folder = root / ".jobs" / "one"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**dump_task(TASKS["train"]), "created": 1.0}))
    assert queue.work(folder) == 0
    job = queue.read("one", root)
    assert job.state == "done"
    assert job.message.startswith("The saved progress could not be used: expected a whole checkpoint, got 11 bytes")


def _unbroken(stopped: Stopped, root: Path) -> dict[str, Any]:
    """What comes of the task in one go, as things are now."""
    shutil.copytree(stopped.source, root)
    of(TASKS[stopped.name], root).unlink()
    return stopped.run(root)
