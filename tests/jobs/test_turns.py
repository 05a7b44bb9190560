"""Jobs that wait: first come, first served, without a process, no more than may, and none is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.jobs import events, queue, reading, turns
from core.specs import TrainSpec, dump_task
from core.storage import files, leases, locks
from tests.faults import killed_at
from tests.jobs.toys import MODEL, TOY, WAIT, runs, until, wait_for

PROJECT = Path(queue.__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def models(count: int) -> list[TrainSpec]:
    """Different requests."""
    return [TrainSpec(seed=seed) for seed in range(count)]


def pids(job: queue.Job) -> list[int]:
    """The processes that were started for a job."""
    return [event["pid"] for event in events.read(job.folder) if "pid" in event]


# ---------------------------------------------------------------- order


def test_jobs_are_done_in_the_order_of_their_requests(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """Each is started when the one before has ended, with its asker's environment; none that waits has a process."""
    jobs = [toys(task, misdeed="hold", mark=f"mark{place}") for place, task in enumerate(models(6))]
    until(jobs[0], "running", tmp_path)
    for job in jobs[1:]:
        now = queue.read(job.id, tmp_path)
        assert (now.state, now.live, now.queued, now.seconds) == ("waiting", True, True, 0.0)
        assert pids(job) == []
    assert len(queue._children) == 1
    (tmp_path / "release").touch()
    until(jobs[-1], "done", tmp_path)
    assert {queue.read(job.id, tmp_path).state for job in jobs} == {"done"}
    assert [mark for _, mark, _ in runs(tmp_path)] == [f"mark{place}" for place in range(6)]
    assert len({pid for pid, _, _ in runs(tmp_path)}) == 6


def test_a_clock_that_is_set_back_does_not_change_the_order(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs have numbers."""
    real, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    jobs = []
    for place, task in enumerate(models(4)):
        jobs.append(toys(task, misdeed="hold", mark=f"mark{place}"))
        shift[0] -= 3600.0
    (tmp_path / "release").touch()
    until(jobs[-1], "done", tmp_path)
    assert [mark for _, mark, _ in runs(tmp_path)] == [f"mark{place}" for place in range(4)]


SERVER = """
import os, sys
from pathlib import Path
from core.jobs import queue, turns
from core.specs import TrainSpec

turns.CARRIED += ("TOY_",)
queue._command = lambda folder: [*sys.argv[2:], "work", str(folder)]
for seed in range(3):
    os.environ["TOY_MARK"] = f"mark{seed}"
    queue.submit(TrainSpec(seed=seed), Path(sys.argv[1]))
"""


@posix
def test_jobs_that_wait_outlive_the_server(tmp_path: Path) -> None:
    """Nobody looks at them: each worker starts the next, though not with a lower and lower priority."""
    env = {**os.environ, "TOY_SECONDS": "0.1", "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", SERVER, str(tmp_path), *TOY], env=env, check=True)
    folders = sorted((tmp_path / ".jobs").iterdir(), key=lambda folder: files.read_json(folder / "spec.json")["ticket"])
    wait_for(lambda: all(reading.last_state(events.read(folder)) == "done" for folder in folders))
    assert [mark for _, mark, _ in runs(tmp_path)] == ["mark0", "mark1", "mark2"]
    assert len(set((tmp_path / "priorities").read_text().split())) == 1


@posix
def test_a_killed_worker_holds_nobody_up(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """It could not start the next one: whoever looks does."""
    first, second = toys(seconds=60), toys(TrainSpec(seed=1))
    until(first, "running", tmp_path)
    os.kill(pids(first)[-1], signal.SIGKILL)
    until(second, "done", tmp_path)
    assert queue.read(first.id, tmp_path).state == "dead"


def test_a_process_that_cannot_start_holds_nobody_up(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails, and the next one is started."""
    first = toys(misdeed="hold")
    broken, fine = toys(TrainSpec(seed=1), mark="broken"), toys(TrainSpec(seed=2))
    body = files.read_json(broken.folder / "spec.json")
    until(first, "running", tmp_path)
    real = queue._command
    monkeypatch.setattr(
        queue, "_command", lambda folder: ["/no/such/program"] if folder == broken.folder else real(folder)
    )
    assert body["start"]["environment"]["TOY_MARK"] == "broken"
    os.kill(pids(first)[-1], signal.SIGKILL)  # so that this process starts the next
    until(fine, "done", tmp_path)
    job = queue.read(broken.id, tmp_path)
    assert job.state == "failed"
    assert "No process could be started" in job.message


# ---------------------------------------------------------------- how many may wait


def test_no_more_jobs_wait_than_may(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused with a sentence; one that is there already is returned; a place that is free is taken."""
    monkeypatch.setenv(turns.SETTING, "2")
    jobs = [toys(task, seconds=60) for task in models(3)]
    with pytest.raises(queue.TooManyJobs, match=r"jobs: expected at most 2 waiting jobs, and 2 are waiting already\."):
        toys(TrainSpec(seed=9))
    assert len(queue.jobs(tmp_path)) == 3
    assert toys(models(3)[1]).id == jobs[1].id
    queue.cancel(jobs[1].id, tmp_path)
    assert toys(TrainSpec(seed=9)).queued


@pytest.mark.parametrize("text", ["many", "-1", "2.5"])
def test_a_limit_that_is_no_number_is_refused(
    text: str, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name of the variable, when it matters."""
    monkeypatch.setenv(turns.SETTING, text)
    toys(seconds=60)
    with pytest.raises(ValueError, match=f"{turns.SETTING}: expected a number of jobs, 0 or more, got '{text}'"):
        toys(TrainSpec(seed=1))


def test_nothing_secret_is_kept_with_a_job(toys: Callable[..., queue.Job], tmp_path: Path) -> None:
    """Of the environment what says where things are, and how PyTorch runs; nothing else is on the disk."""
    toys(seconds=60, SOME_TOKEN="fD83kq", OMP_NUM_THREADS="1")
    job = toys(TrainSpec(seed=1), SOME_TOKEN="fD83kq", OMP_NUM_THREADS="1")
    text = (job.folder / "spec.json").read_text(encoding="utf-8")
    assert "fD83kq" not in text
    assert json.loads(text)["start"]["environment"]["OMP_NUM_THREADS"] == "1"


# ---------------------------------------------------------------- cancelling


def test_a_job_that_waits_is_cancelled_at_once(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """Nothing was started for it; those behind it keep their order."""
    jobs = [toys(task, misdeed="hold", mark=f"mark{place}") for place, task in enumerate(models(4))]
    assert queue.cancel(jobs[1].id, tmp_path).state == "cancelled"
    assert pids(jobs[1]) == []
    (tmp_path / "release").touch()
    until(jobs[3], "done", tmp_path)
    assert [mark for _, mark, _ in runs(tmp_path)] == ["mark0", "mark2", "mark3"]


@posix
def test_a_job_that_loads_is_cancelled_at_once(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what it loads listens to no signal; the next one is started."""
    monkeypatch.setattr(queue, "KILL_AFTER", WAIT)
    first, second = toys(misdeed="deaf loading"), toys(TrainSpec(seed=1))
    until(first, "loading", tmp_path)
    assert queue.cancel(first.id, tmp_path).state == "cancelled"
    until(second, "done", tmp_path)


# ---------------------------------------------------------------- clocks and disks


def never_started(root: Path) -> Path:
    """A job whose process was to be started when its starter was killed."""
    folder = root / ".jobs" / "one"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**dump_task(MODEL), "created": time.time()}))
    events.append(folder, {"state": reading.STARTING})
    return folder


@pytest.mark.parametrize("shift", [-86400.0, 86400.0, 0.0])
def test_a_job_that_never_starts_is_dead_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """And its request can be made again: the time is that which has passed, not that which the clock was set to."""
    never_started(tmp_path)
    real, now = time.time, [1000.0]
    monkeypatch.setattr(reading.time, "monotonic", lambda: now[0])
    assert queue.read("one", tmp_path).state == "starting"
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    now[0] += reading.START_GRACE
    assert queue.read("one", tmp_path).state == "dead"


@posix
@pytest.mark.parametrize("shift", [-86400.0, 86400.0])
def test_a_worker_that_does_not_listen_is_killed_whatever_the_clock_says(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """After the same time as ever."""
    job = until(toys(misdeed="deaf"), "running", tmp_path)
    wait_for(lambda: queue.read(job.id, tmp_path).phase == "deaf")
    queue.cancel(job.id, tmp_path)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    until(job, "cancelled", tmp_path)
    wait_for(lambda: not queue._children)


@posix
def test_without_flock_the_living_and_the_dead_are_told_apart(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job runs, is done; the next one is killed and seen to be dead; the one that waits has its turn."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(leases, "BEAT", 0.1)
    locks._flocks.clear()
    until(toys(TOY_FLOCK="none"), "done", tmp_path)
    first = toys(TrainSpec(seed=1), seconds=60, TOY_FLOCK="none")
    second = toys(TrainSpec(seed=2), TOY_FLOCK="none")
    until(first, "running", tmp_path)
    assert (first.folder / "lock.lease").exists()
    os.kill(pids(first)[-1], signal.SIGKILL)
    until(first, "dead", tmp_path)
    until(second, "done", tmp_path)
    locks._flocks.clear()


@posix
def test_killed_at_every_operation_a_request_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[..., None]
) -> None:
    """`kill -9` of whoever submits: the next request is made, and every job that waits has its turn."""
    monkeypatch.setattr(reading, "START_GRACE", 0.0)
    monkeypatch.setattr(queue, "LOOK", 0.0)
    real = queue._spawn
    monkeypatch.setattr(queue, "_command", lambda folder: ["true"])
    for number in range(1, 100):
        root = tmp_path / f"{number}"
        monkeypatch.setattr(queue, "_spawn", real)
        if not killed_at(number, lambda root=root: queue.submit(MODEL, root)):  # type: ignore[misc]
            break
        started = list[Path]()

        def spawn(folder: Path, started: list[Path] = started) -> bool:
            started.append(folder)
            events.append(folder, {"state": "done", "artifacts": []})
            return True

        monkeypatch.setattr(queue, "_spawn", spawn)
        job = queue.submit(TrainSpec(seed=1), root)
        wait_for(lambda root=root: not any(one.live for one in queue.jobs(root)))  # type: ignore[misc]
        assert started[-1] == job.folder, number
    assert number > 10
    record_property("operations", number - 1)
    print(f"submit: killed at each of {number - 1} operations")  # noqa: T201  # for the reader of `pytest -rP`


def test_a_request_whose_events_were_lost_has_its_turn(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """As after a power cut: the request is on the disk, what was said of it is not."""
    first, second = toys(misdeed="hold"), toys(TrainSpec(seed=1))
    until(first, "running", tmp_path)
    (second.folder / events.EVENTS).unlink()
    assert queue.read(second.id, tmp_path).queued
    (tmp_path / "release").touch()
    until(second, "done", tmp_path)


@pytest.mark.parametrize("call", [1, 2])
def test_a_request_that_finds_the_disk_full_leaves_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Where it is to be queued, and where it is to be started: it is refused, and no process is started."""
    real, calls = events.append, list[int]()
    monkeypatch.setattr(queue.spare, "start", lambda *_, **__: pytest.fail("a process was started"))

    def full(folder: Path, event: dict[str, Any]) -> None:
        calls.append(1)
        if len(calls) >= call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(folder, event)

    monkeypatch.setattr(events, "append", full)
    with pytest.raises(OSError, match="No space left"):
        queue.submit(MODEL, tmp_path)
    assert list((tmp_path / ".jobs").iterdir()) == []
