"""Jobs whose processes are toys (see `toy_worker.py`), for the tests of this folder."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.jobs import events, queue, reading, turns
from core.specs import Task, TrainSpec, dump_task
from core.storage import store
from tests.planted import CARD

TOY = [sys.executable, str(Path(__file__).with_name("toy_worker.py"))]
MODEL = TrainSpec(epochs=1)
WAIT = 300.0
"""Seconds that are waited for another process at most: a wait ends as soon as what it waits for is there."""
START = ({"state": "waiting", "time": 100.0}, {"state": "loading", "time": 110.0}, {"state": "running", "time": 112.0})
"""The events of a job that has begun to run."""


class Runner:
    """Makes a tiny artifact, and counts how often."""

    def __init__(self) -> None:
        self.made: list[Task] = []
        self.devices: list[str] = []

    def __call__(self, spec: Task, root: Path, *, device: str, on_progress: Any) -> store.Outcome:
        """Run, in four steps."""
        for step in range(1, 5):
            on_progress(step, 4, phase="toying", loss=1 / step)
        self.made.append(spec)
        self.devices.append(device)
        return store.Outcome(card=CARD, arrays={"weights": {"w": np.ones(3)}})


def wait_for(true: Callable[[], Any], seconds: float = WAIT) -> Any:
    """Whatever `true` gives, as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not true after {seconds} s")


def until(job: queue.Job, state: str, root: Path, seconds: float = WAIT) -> queue.Job:
    """The job as soon as it is in `state`."""

    def look() -> queue.Job | None:
        now = queue.read(job.id, root)
        assert now.live or now.state == state, now
        return now if now.state == state else None

    return wait_for(look, seconds)


def runs(root: Path) -> list[list[str]]:
    """For each time that a toy ran: its process, its mark, and whether torch was loaded."""
    path = root / "runs"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def remains(root: Path) -> list[str]:
    """What lies in the store: artifacts, and half-written ones if there are any."""
    found = [path.name for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
    half = [f".tmp/{path.name}" for path in (root / ".tmp").iterdir()] if (root / ".tmp").exists() else []
    return sorted(found + half)


def fake(root: Path, name: str, *log: dict[str, Any], age: float = 1000.0, task: Task = MODEL) -> Path:
    """A job's folder, as a worker that is no more has left it."""
    folder = root / ".jobs" / name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**dump_task(task), "created": time.time() - age}))
    for event in log:
        events.append(folder, event)
    return folder


def submitting(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., queue.Job]]:
    """Give what submits jobs whose processes are toys; none is left when the test ends."""
    monkeypatch.setattr(reading, "START_GRACE", WAIT)  # a busy machine may take long to start a worker
    monkeypatch.setattr(turns, "CARRIED", (*turns.CARRIED, "TOY_"))
    monkeypatch.setattr(queue, "_command", lambda folder: [*TOY, "work", str(folder)])
    monkeypatch.setattr(queue, "KILL_AFTER", 0.3)
    monkeypatch.setattr(queue, "LOOK", 0.0)

    def submit(task: Task = MODEL, *, seconds: float = 0.1, misdeed: str = "", **more: str) -> queue.Job:
        with monkeypatch.context() as patch:
            patch.setenv("TOY_SECONDS", str(seconds))
            patch.setenv("TOY_MISDEED", misdeed)
            patch.setenv("TOY_MARK", more.pop("mark", "passed-on"))
            for name, value in more.items():
                patch.setenv(name, value)
            return queue.submit(task, root)

    yield submit
    for job in queue.jobs(root):
        if job.queued:
            queue.cancel(job.id, root)
    for job in queue.jobs(root):
        if job.live:
            queue.cancel(job.id, root)
    for process in list(queue._children.values()):
        process.kill()
    wait_for(lambda: not queue._children)
    gc.collect()  # a child that was not waited for would warn now
