"""The body of a job's process: take its turn, run its task, say how it goes, end in one of the known ways."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import numpy as np

from core import events, running, store
from core.progress import Cancelled
from core.specs import Task, load_task

EVENT_INTERVAL = 1 / 3  # seconds between two progress events
SNAPSHOT_INTERVAL = 0.5
LOOK_INTERVAL = 0.1  # seconds between two looks at the cancel flag, or at a lock that another holds
LOCK_TIMEOUT = 10.0  # a reader may hold a worker's lock for the moment in which it looks whether it is held
NICENESS = 5


class Reporter:
    """Writes a job's events: at most three a second, but for those of an epoch, a new phase or a new state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = False
        self._looked = self._written = self._shown = -math.inf
        self._phase = ""
        self._since: tuple[float, int, int] | None = None  # when, at what `done` and of what `total` the timing began

    def state(self, name: str, **more: Any) -> None:
        """Write that a new state begins."""
        self._write({"state": name, **more})

    def note(self, message: str) -> None:
        """Write a sentence for people, into the log as well."""
        print(message, file=sys.stderr)  # noqa: T201  # a worker's standard error is its log
        self._write({"message": message})

    def check(self) -> None:
        """Raise Cancelled after a signal or when the cancel flag is up; the flag is looked at ten times a second."""
        now = time.monotonic()
        if now - self._looked >= LOOK_INTERVAL:
            self._looked = now
            self.stopped = self.stopped or (self.folder / events.CANCEL).exists()
        if self.stopped:
            raise Cancelled

    def __call__(
        self,
        done: int,
        total: int,
        *,
        phase: str | None = None,
        snapshot: dict[str, np.ndarray] | None = None,
        **metrics: Any,
    ) -> None:
        """Report progress (see `progress.Progress`)."""
        self.check()
        now = time.monotonic()
        new_phase = phase is not None and phase != self._phase
        if new_phase or self._since is None or done < self._since[1] or total != self._since[2]:
            self._since = (now, done, total)
        if new_phase or "epoch" in metrics or now - self._written >= EVENT_INTERVAL:
            self._phase, self._written = phase or self._phase, now
            event: dict[str, Any] = {"done": int(done), "total": int(total), "phase": self._phase}
            event["eta"] = _eta(now, done, self._since)
            if metrics:
                event["metrics"] = {name: _plain(name, value) for name, value in metrics.items()}
            self._write(event)
        if snapshot is not None and now - self._shown >= SNAPSHOT_INTERVAL:
            self._shown = now
            self._show(store.encode_arrays(snapshot))

    def _show(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # only a view: neither a full disk nor a reader on Windows ends the run
            temporary = self.folder / f"{events.SNAPSHOT}.new"
            temporary.write_bytes(data)
            temporary.replace(self.folder / events.SNAPSHOT)

    def _write(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the run itself meets the full disk, where it can be said
            events.append(self.folder, event)


def work(folder: Path) -> int:
    """Do the job in `folder` in this process, until it ends; returns the exit status. A job is done once."""
    folder = Path(folder).resolve()
    life = filelock.FileLock(folder / events.LOCK)
    try:
        life.acquire(timeout=LOCK_TIMEOUT)
    except filelock.Timeout:
        print(f"{folder.name}: another process works on this job", file=sys.stderr)  # noqa: T201  # goes to the log
        return 1
    try:
        if any(event.get("state") in events.ENDED for event in events.read(folder)):
            return 0
        report = Reporter(folder)
        report.state("waiting", pid=os.getpid())
        if hasattr(os, "nice"):  # not on Windows, where the process is started with a low priority
            os.nice(NICENESS)
        with _signals(report):
            ending = _ending(folder, report)
            report.state(**ending)
        return 0 if ending["name"] == "done" else 1
    finally:
        life.release()


def _ending(folder: Path, report: Reporter) -> dict[str, Any]:
    """Work, and say how it ended."""
    try:
        try:
            task = load_task(json.loads((folder / events.SPEC).read_bytes()))
            made = _work(task, folder.parents[1], report)
        except Cancelled:
            raise
        except Exception as error:
            traceback.print_exc()
            return {"name": "failed", "message": _sentence(error)}
    except Cancelled:
        return {"name": "cancelled", "message": "It was cancelled; the store is as it was."}
    return {"name": "done", "artifacts": relative(made, folder.parents[1])}


def _work(task: Task, root: Path, report: Reporter) -> list[store.Artifact]:
    report.check()
    made = running.find_all(task, root, report.note)
    if made is None:
        with _turn(root, report):
            report.state("loading")
            device = running.default_device()
            for part in running.parts(task):
                running.runner_for(part)
            report.state("running")
            made = running.run_all(task, root, device=device, on_progress=report, note=report.note)
    return made


def relative(made: list[store.Artifact], root: Path) -> list[str]:
    """The artifacts' folders, relative to the store, with forward slashes."""
    return [artifact.folder.resolve().relative_to(root.resolve()).as_posix() for artifact in made]


@contextlib.contextmanager
def _turn(root: Path, report: Reporter) -> Iterator[None]:
    """Queue for the device."""
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    device = filelock.FileLock(root / ".locks" / "device.lock")
    while True:
        try:
            device.acquire(blocking=False)
            break
        except filelock.Timeout:
            report.check()
            time.sleep(LOOK_INTERVAL)
    try:
        yield
    finally:
        device.release()


@contextlib.contextmanager
def _signals(report: Reporter) -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into Cancelled, wherever the main thread is, and ignore later ones.

    A second one would come in the middle of cleaning up. One that some library swallows is raised again at the next
    progress.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        report.stopped = True
        raise Cancelled

    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _eta(now: float, done: int, since: tuple[float, int, int]) -> float | None:
    """Seconds to go at the mean pace since the timing began, None before there is a pace."""
    begun, first, total = since
    return round((total - done) * (now - begun) / (done - first), 2) if done > first else None


def _plain(name: str, value: Any) -> float | str | None:
    plain = value.item() if hasattr(value, "item") else value  # a number of numpy's or torch's
    if not isinstance(plain, int | float | str):
        raise ValueError(f"{name}: expected a number or text, got {plain!r}")
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _sentence(error: Exception) -> str:
    """What went wrong, for people; the traceback is in the log."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full: {error}"
    if isinstance(error, ValueError | store.DamagedArtifact):
        return str(error)
    return f"{type(error).__name__}: {error}"
