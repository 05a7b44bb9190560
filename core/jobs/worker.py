"""The body of a job's process: wait for the device, run the task, report progress, write how it ended."""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import math
import os
import platform
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

from core.jobs import devices, events, limits, running
from core.jobs.shards import engines
from core.progress import Cancelled
from core.specs import Task, load_task
from core.storage import files, locks, store

EVENT_INTERVAL = 1 / 3  # seconds between two progress events
SNAPSHOT_INTERVAL = 0.5
PACE_WINDOW = 30.0  # seconds that the time to go is estimated from
PACE_POINT = 0.5  # seconds between two points of that estimate
LOOK_INTERVAL = 0.1  # seconds between two looks at the cancel flag
LOCK_TIMEOUT = 10.0  # a reader may hold a worker's lock for the moment in which it looks whether it is held
NICENESS = 5


class Reporter:
    """Writes a job's events: at most three of progress a second, but for those of an epoch, which are all written.

    Progress that comes too soon waits, its metrics kept, until its time has come or newer progress takes its place: a
    long pause never hides what was reported before it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = False  # whether it is to stop
        self.over = False  # whether there is nothing left to stop
        self.ends = math.inf  # time.monotonic() at which it has run as long as it may
        self._pace = Pace()
        self._looked = self._shown = self._written = -math.inf
        self._phase = ""
        self._waiting: dict[str, Any] | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()  # the timer writes from its own thread

    def state(self, name: str, **more: Any) -> None:
        """Write that a new state begins, after all progress before it."""
        with self._lock:
            self._write_waiting()
            self._append({"state": name, **more})

    def note(self, message: str) -> None:
        """Write a message for the reader, into the log as well."""
        print(message, file=sys.stderr)  # noqa: T201  # a worker's standard error is its log
        with self._lock:
            self._append({"message": message})

    @property
    def is_late(self) -> bool:
        """Whether it has run as long as it may."""
        return time.monotonic() >= self.ends

    def check(self) -> None:
        """Raise Cancelled after a signal, when its time is over, or when the cancel flag is up (looked at at times)."""
        now = time.monotonic()
        if now - self._looked >= LOOK_INTERVAL:
            self._looked = now
            self.stopped = self.stopped or self.is_late or (self.folder / events.CANCEL).exists()
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
        """Report progress (see `progress.Progress`). Raises ValueError on a metric that is no number."""
        self.check()
        now = time.monotonic()
        with self._lock:
            self._phase = self._phase if phase is None else phase
            before = (self._waiting or {}).get("metrics", {})
            self._waiting = {
                "time": time.time(),
                "done": int(done),
                "total": int(total),
                "phase": self._phase,
                "eta": self._pace.eta(now, done, total),
                "metrics": before | {name: _number(name, value) for name, value in metrics.items()},
            }
            if "epoch" in metrics or now - self._written >= EVENT_INTERVAL:
                self._write_waiting()
            elif self._timer is None:
                self._timer = threading.Timer(EVENT_INTERVAL - (now - self._written), self._late)
                self._timer.daemon = True
                self._timer.start()
        if snapshot is not None and now - self._shown >= SNAPSHOT_INTERVAL:
            self._shown = now
            data = files.encode_arrays(snapshot)
            with contextlib.suppress(OSError):  # only a view: neither a full disk nor a reader on Windows ends the run
                files.replace_file(self.folder / events.SNAPSHOT, data)

    def _late(self) -> None:
        with self._lock:
            self._timer = None
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting is not None:
            self._append(self._waiting)
            self._waiting = None
            self._written = time.monotonic()

    def _append(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the run itself meets the full disk, where it can be said
            events.append(self.folder, event)


class Pace:
    """How long there is to go, from the pace of the last half minute or, when steps are longer, of the last step."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._points: collections.deque[tuple[float, int]] = collections.deque()

    def eta(self, now: float, done: int, total: int) -> float | None:
        """Seconds to go, None before there is a pace. `now` in seconds; less done or another total is a new start."""
        points = self._points
        if total != self._total or (points and done < points[-1][1]):
            self._total = total
            points.clear()
        if not points or (done > points[-1][1] and now - points[-1][0] >= PACE_POINT):
            points.append((now, done))
        while len(points) > 2 and now - points[1][0] >= PACE_WINDOW:
            points.popleft()
        begun, first = points[0]
        return round((total - done) * (now - begun) / (done - first), 2) if done > first and now > begun else None


LOWERED = "_ADVERSARIAL_LAB_LOWERED"
"""Set in the environment of a process that was started by a worker: it has that one's low priority."""
_lowered = False


def is_lowered() -> bool:
    """Whether this process is a worker, of low priority."""
    return _lowered


def lower_priority() -> None:
    """Give way to other processes, once. Not on Windows, where a worker is started with a low priority."""
    global _lowered
    if hasattr(os, "nice") and not _lowered and LOWERED not in os.environ:
        os.nice(NICENESS)
    _lowered = True


def work(folder: Path) -> int:
    """Do the job in `folder` in this process, until it ends; returns the exit status. A job is done once."""
    folder = Path(folder).resolve()
    try:
        with locks.held(folder / events.LOCK, timeout=LOCK_TIMEOUT):
            return _work_once(folder)
    except filelock.Timeout:
        print(f"{folder.name}: another process works on this job", file=sys.stderr)  # noqa: T201  # goes to the log
        return 1


def _work_once(folder: Path) -> int:
    if any(event.get("state") in events.ENDED for event in events.read(folder)):
        return 0
    report = Reporter(folder)
    report.state("waiting", pid=os.getpid(), host=platform.node())
    lower_priority()
    with _signals(report), _warned(report):
        ending = _ending(folder, report)
        report.state(**ending)
    return 0 if ending["name"] == "done" else 1


def _ending(folder: Path, report: Reporter) -> dict[str, Any]:
    """Run the task; returns the event that says how it ended."""
    try:
        try:
            made = _work(load_task(files.read_json(folder / events.SPEC)), folder.parents[1], report)
            report.over = True
        except Cancelled:
            raise
        except Exception as error:
            report.over = True
            traceback.print_exc()
            return {"name": "failed", "message": _sentence(error)}
    except Cancelled:
        if report.is_late:
            most = limits.limit(limits.SECONDS)
            return {"name": "failed", "message": f"It ran for {most:,.0f} seconds, as long as a job may here."}
        return {"name": "cancelled", "message": "Cancelled. Nothing was written."}
    return {"name": "done", "artifacts": relative(made, folder.parents[1])}


def _work(task: Task, root: Path, report: Reporter) -> list[store.Artifact]:
    report.check()
    made = running.find_all(task, root, report.note)
    if made is None:
        with _turn(root, report):
            device = None
            if engines.chosen() is None:  # else other processes load it
                report.state("loading")
                device = devices.settled(None, root, report.note)
                for part in running.parts(task):
                    running.runner_for(part)
            report.state("running")
            _begin(report)
            made = running.run_all(task, root, device=device, on_progress=report, note=report.note)
    return made


def _begin(report: Reporter) -> None:
    """Hold the job to what it may take from now on; one that reports no progress is stopped by a signal."""
    limits.hold_memory()
    seconds = limits.limit(limits.SECONDS)
    report.ends = time.monotonic() + seconds
    if seconds < math.inf and hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, seconds + 0.05)


def relative(made: list[store.Artifact], root: Path) -> list[str]:
    """The artifacts' places relative to the store, with forward slashes, also of bundled models."""
    return [store.locate(artifact.spec(), root).relative_to(root).as_posix() for artifact in made]


@contextlib.contextmanager
def _turn(root: Path, report: Reporter) -> Iterator[None]:
    """Queue for the device."""
    with locks.hold("device", root, on_wait=report.check):
        yield


class _ToReader(logging.Handler):
    """Passes warnings on to the reader of the job."""

    def __init__(self, report: Reporter) -> None:
        super().__init__(logging.WARNING)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.report.note(record.getMessage())


@contextlib.contextmanager
def _warned(report: Reporter) -> Iterator[None]:
    """What is wrong with a checkpoint is a message of the job."""
    logger, handler = logging.getLogger("core.storage.checkpoint"), _ToReader(report)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _signals(report: Reporter) -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into Cancelled, wherever the main thread is, and ignore later ones.

    A second one would come in the middle of cleaning up. One that some library swallows is raised again at the next
    progress.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
    before = [signal.getsignal(number) for number in numbers]

    def stop(number: int, frame: FrameType | None) -> None:
        if not (report.stopped or report.over):
            report.stopped = True
            raise Cancelled

    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _number(name: str, value: Any) -> float | None:
    """A finite number as it is, any other as None (JSON has no NaN), whether it is Python's, numpy's or torch's."""
    number = value.item() if hasattr(value, "item") else value
    if not isinstance(number, int | float):
        raise ValueError(f"{name}: expected a number, got {number!r}")
    return number if math.isfinite(number) else None


def _sentence(error: Exception) -> str:
    """What went wrong, for people; the traceback is in the log."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full: {error}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        most = limits.limit(limits.MEMORY)
        return f"It needs more memory than {'there is' if most == math.inf else f'the {most:g} GiB that it may have'}."
    if devices.is_full(error):
        return devices.FULL
    if isinstance(error, ValueError | store.DamagedArtifact | engines.EngineError):
        return str(error)
    return f"{type(error).__name__}: {error}"
