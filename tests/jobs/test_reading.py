"""What jobs are, as their files tell; nothing runs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from core.jobs import events, queue, reading
from core.specs import (
    TrainSpec,
    dump_task,
)
from core.storage import store
from tests.jobs.toys import MODEL, START, Runner, fake

pytestmark = pytest.mark.usefixtures("patient")
STEP = {"done": 3, "total": 10, "phase": "training", "eta": 5.0, "metrics": {"loss": 0.5, "lr": None}, "time": 120.0}


def test_an_ended_job_tells_all(tmp_path: Path) -> None:
    """Progress, curves, time at work without the queue, artifacts, and the end of the log."""
    second = {**STEP, "done": 9, "metrics": {"loss": 0.25}, "time": 129.0}
    folder = fake(tmp_path, "one", *START, STEP, second, {"state": "done", "artifacts": ["a"], "time": 130.0})
    (folder / "log.txt").write_bytes(b"x" * 10_000 + "\xe9 end\n".encode())
    job = queue.read("one", tmp_path)
    assert (job.state, job.live, job.done, job.total, job.phase) == ("done", False, 9, 10, "training")
    assert (job.seconds, job.eta, job.artifacts) == (20.0, None, ["a"])
    assert job.metrics == {"loss": 0.25, "lr": pytest.approx(math.nan, nan_ok=True)}
    assert [(moment["done"], moment["loss"], moment["time"]) for moment in job.history] == [
        (3, 0.5, 120.0),
        (9, 0.25, 129.0),
    ]
    assert job.task == MODEL
    assert len(job.log_tail) <= reading.LOG_TAIL
    assert job.log_tail.endswith("é end\n")
    assert job.snapshot() is None


@pytest.mark.parametrize(
    ("log", "cancelled", "state", "message"),
    [
        ((*START, STEP), False, "dead", "ended without a message"),
        ((*START, STEP), True, "cancelled", "Cancelled"),
        (START[:1], False, "dead", "ended without a message"),
        ((), False, "dead", "ended without a message"),
        ((*START, {"state": "failed", "message": "No room."}), False, "failed", "No room."),
        ((*START, {"state": "cancelled", "message": "Stopped."}), True, "cancelled", "Stopped."),
        ((*START, {"state": "done", "artifacts": []}), True, "done", ""),
    ],
)
def test_a_job_without_a_worker_has_ended(
    tmp_path: Path, log: tuple, cancelled: bool, state: str, message: str
) -> None:
    """Whatever its last words were: with the lock free, it is dead or what it said."""
    folder = fake(tmp_path, "one", *log)
    (folder / "lock").touch()
    if cancelled:
        (folder / "cancel").touch()
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 131, "state": "ru')
    job = queue.read("one", tmp_path)
    assert job.state == state
    assert message in job.message
    assert not job.live


def test_a_job_is_live_while_its_lock_is_held(tmp_path: Path) -> None:
    """The state is the last one said, and the time to go shrinks as time goes by."""
    now = time.time()
    log = [{**event, "time": now - 3} for event in (*START, STEP)]
    folder = fake(tmp_path, "one", *log)
    with filelock.FileLock(folder / "lock"):
        job = queue.read("one", tmp_path)
        late = time.time() - now
        assert (job.state, job.live) == ("running", True)
        assert max(0, 2 - late) - 1e-3 <= job.eta <= 2 + 1e-3
        assert 3 - 1e-3 <= job.seconds <= 3 + late + 1e-3
        with pytest.raises(ValueError, match=r"job_id: expected the id of an ended job, got 'one' \(running\)"):
            queue.forget("one", tmp_path)
    assert queue.read("one", tmp_path).state == "dead"


def test_a_new_job_is_starting_until_its_time_is_up(tmp_path: Path) -> None:
    """A worker needs a moment to take its lock; one that never does, or is known to be gone, is dead."""
    fake(tmp_path, "new", age=1)
    fake(tmp_path, "late", age=reading.START_GRACE + 1)
    assert queue.read("new", tmp_path).state == "starting"
    assert queue.read("late", tmp_path).state == "dead"
    if os.name == "posix":
        import platform

        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        fake(tmp_path, "gone", {"pid": gone.pid, "host": platform.node()}, age=1)
        fake(tmp_path, "abroad", {"pid": gone.pid, "host": "another-machine"}, age=1)
        assert queue.read("gone", tmp_path).state == "dead"
        assert queue.read("abroad", tmp_path).state == "starting"


def test_a_worker_that_comes_between_two_looks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its lock after the reader looked at it, and speaks before the reader reads: alive, not dead."""
    fake(tmp_path, "one", START[0], age=1)
    looks = iter([False, True])
    monkeypatch.setattr(reading, "is_held", lambda folder: next(looks))
    assert queue.read("one", tmp_path).state == "waiting"


def test_a_worker_that_ends_between_two_looks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets its lock go before the reader looks, and its last word comes before the reader reads: done, not dead."""
    folder = fake(tmp_path, "one", *START)

    def look(_: Path) -> bool:
        events.append(folder, {"state": "done", "artifacts": []})
        return False

    monkeypatch.setattr(reading, "is_held", look)
    assert queue.read("one", tmp_path).state == "done"


def test_jobs_are_listed_newest_first_and_broken_ones_left_out(tmp_path: Path) -> None:
    """A folder of another version, or torn, must not take the list away."""
    assert queue.jobs(tmp_path) == []
    for name, age in [("b", 100.0), ("a", 300.0), ("c", 200.0)]:
        fake(tmp_path, name, *START, age=age)
    folder = tmp_path / ".jobs"
    for name, text in [
        ("torn", '{"task": "tra'),
        ("later", '{"task": "other", "spec": {}, "created": 1}'),
        ("refused", '{"task": "train", "spec": {"epochs": -1}, "created": 1}'),
        ("undated", json.dumps(dump_task(MODEL))),
        ("number", "3"),
    ]:
        (folder / name).mkdir()
        (folder / name / "spec.json").write_text(text)
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    fake(tmp_path, "strange", {"metrics": "good", "state": "running", "eta": "soon"})
    assert [job.id for job in queue.jobs(tmp_path)] == ["b", "c", "a"]
    for name in ("torn", "empty", "nowhere", "undated", "strange"):
        with pytest.raises(ValueError, match=f"job_id: expected the id of a job, got '{name}'"):
            queue.read(name, tmp_path)
    queue.forget("torn", tmp_path)
    assert not (folder / "torn").exists()


@pytest.mark.parametrize("name", ["../one", "..", "", "/etc", "a/b", ".", "x" * 300])
def test_dangerous_job_ids_are_refused(tmp_path: Path, name: str) -> None:
    """Ids come from addresses."""
    fake(tmp_path, "one", *START)
    for ask in (queue.read, queue.cancel, queue.forget):
        with pytest.raises(ValueError, match="job_id: expected an id of letters"):
            ask(name, tmp_path)
    assert (tmp_path / ".jobs" / "one").exists()


def test_forget_removes_the_job_and_nothing_else(tmp_path: Path, runner: Runner) -> None:
    """What it made stays; forgetting twice is a mistake."""
    made = queue.run(MODEL, tmp_path)
    fake(tmp_path, "one", *START, {"state": "done", "artifacts": [made.id]})
    fake(tmp_path, "two", *START)
    queue.forget("one", tmp_path)
    assert [job.id for job in queue.jobs(tmp_path)] == ["two"]
    assert store.find(MODEL, tmp_path) == made
    for ask in (queue.forget, queue.read, queue.cancel):
        with pytest.raises(ValueError, match="job_id: expected the id of"):
            ask("one", tmp_path)


def test_many_ended_jobs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks for the list at every click: what has ended stays as it was, unless its files change."""
    for number in range(30):
        fake(tmp_path, f"job{number}", *START, {"state": "done"})
    first = queue.jobs(tmp_path)
    events.append(tmp_path / ".jobs" / "job3", {"message": "changed"})
    monkeypatch.setattr(reading, "load_task", lambda body: first[0].task)
    read: list[Path] = []
    monkeypatch.setattr(events, "read", lambda folder: read.append(folder) or [])
    queue.jobs(tmp_path)
    assert {path.name for path in read} == {"job3"}


def test_the_oldest_ended_jobs_are_forgotten(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does not grow for ever."""
    monkeypatch.setattr(queue, "KEPT", 3)
    for number in range(5):
        fake(tmp_path, f"job{number}", *START, {"state": "done"}, age=100 + number, task=TrainSpec(seed=9))
    queue.run(MODEL, tmp_path)
    new = queue.submit(MODEL, tmp_path)
    assert [job.id for job in queue.jobs(tmp_path)] == [new.id, "job0", "job1", "job2"]
