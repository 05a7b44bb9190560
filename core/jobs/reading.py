"""What a job is at one moment, read from the files in its folder. Starts, stops and changes nothing.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.jobs import events
from core.jobs.events import ENDED
from core.specs import Task, load_task
from core.storage import files, locks

QUEUED, STARTING = "queued", "starting"
"""States that are written before there is a worker: it waits for its turn, its process is being started."""
START_GRACE = 30.0  # seconds that a worker may take, on a busy machine, to start Python and take its lock
LOG_TAIL = 4000  # bytes

_first_seen: dict[Path, float] = {}  # time.monotonic() of the first look at a job that has not begun


@dataclass(frozen=True)
class Job:
    """One job at one moment, read from its files.

    state: "waiting" (for its turn), "starting", "loading" (PyTorch), "running"; or ended: "done", "failed",
    "cancelled", "dead". queued: whether it waits without a process. ticket: its number in the queue. owner: who asked
    for it, as `submit` was told. seconds: at work, the queue left out. eta: seconds to go, None while unknown. metrics:
    the newest of each name, NaN where a runner reported it. history: for each event with metrics, these and its time,
    done, total and phase. message: one plain sentence. artifacts: folders relative to the store.
    """

    id: str
    folder: Path
    task: Task
    state: str
    created: float
    done: int = 0
    total: int = 0
    phase: str = ""
    seconds: float = 0.0
    eta: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""
    artifacts: list[str] = field(default_factory=list)
    log_tail: str = ""
    queued: bool = False
    ticket: int = 0
    owner: str = ""

    @property
    def live(self) -> bool:
        """Whether it may still change."""
        return self.state not in ENDED

    def snapshot(self) -> dict[str, np.ndarray] | None:
        """What there was to see when the worker last showed something, or None."""
        try:
            return files.decode_arrays((self.folder / events.SNAPSHOT).read_bytes())
        except (OSError, ValueError):
            return None


_ended: dict[Path, tuple[object, Job]] = {}  # what ended jobs were, and the files it was read from: they stay so


def forget(folder: Path) -> None:
    """Drop what is remembered of a job whose folder is going to be removed."""
    events.forget(folder)
    _ended.pop(folder, None)
    _first_seen.pop(folder, None)


def read(folder: Path) -> Job:
    """The job in a folder, now. Raises ValueError or OSError on a folder that is none."""
    stats = [path.stat() for path in (folder / events.SPEC, folder / events.EVENTS) if path.exists()]
    signature = [(stat.st_mtime_ns, stat.st_size) for stat in stats]
    if folder in _ended and _ended[folder][0] == signature:
        return _ended[folder][1]
    held, log = _look(folder)
    try:
        job = _described(folder, held, log)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name}: its files are not a job's ({error!r})") from error
    if not job.live and last_state(log) in ENDED:
        _ended[folder] = (signature, job)
    elif not job.live:  # it was killed, perhaps in mid-write
        locks.remove_stale(folder.parents[1])
    return job


def _look(folder: Path) -> tuple[bool, list[dict[str, Any]]]:
    """Whether a worker lives, and the events: as of one moment, though they are looked at one after the other."""
    # The lock first: a worker that ends in between has written how before it let go.
    held, log = is_held(folder), events.read(folder)
    if not held and last_state(log) not in (*ENDED, QUEUED, STARTING, None):
        # No worker, and yet its events: it died, or it took its lock in between. A second look decides.
        held, log = is_held(folder), events.read(folder)
    return held, log


def last_state(log: list[dict[str, Any]]) -> str | None:
    """The state that was written last; None where none was."""
    return next((str(event["state"]) for event in reversed(log) if "state" in event), None)


def _described(folder: Path, held: bool, log: list[dict[str, Any]]) -> Job:
    """The job, from its files. Raises ValueError, OSError, AttributeError, KeyError, TypeError on broken ones."""
    body = files.read_json(folder / events.SPEC)
    task, created = load_task(body), float(body["created"])
    # with a number and without an event whoever asked was killed, or its machine, before it could say more
    queued = last_state(log) == QUEUED or (last_state(log) is None and not held and "ticket" in body)
    state = "waiting" if queued else _state(folder, held, created, log)
    last: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    history = []
    for event in log:
        last |= event
        if event.get("metrics"):
            numbers = {name: math.nan if value is None else value for name, value in event["metrics"].items()}
            metrics |= numbers
            history.append({**{name: event.get(name) for name in ("time", "done", "total", "phase")}, **numbers})
    now = time.time() if state not in ENDED else last.get("time", created)
    begun = next((event["time"] for event in log if event.get("state") == "loading"), now)
    eta = last.get("eta") if state == "running" else None
    return Job(
        id=folder.name,
        folder=folder,
        task=task,
        state=state,
        created=created,
        done=last.get("done", 0),
        total=last.get("total", 0),
        phase=last.get("phase", ""),
        seconds=max(0.0, now - begun),
        eta=max(0.0, eta - max(0.0, now - last["time"])) if eta is not None else None,
        metrics=metrics,
        history=history,
        message=last.get("message") or _MESSAGES.get(state, ""),
        artifacts=last.get("artifacts", []),
        log_tail=_log_tail(folder),
        queued=queued,
        ticket=int(body.get("ticket", 0)),
        owner=str(body.get("owner", "")),
    )


_MESSAGES = {
    "starting": "The process is starting.",
    "waiting": "Waiting for the job before it.",
    "loading": "Loading PyTorch.",
    "cancelled": "Cancelled. Nothing was written.",
    "dead": "The process ended without a message: it was killed, or out of memory. The end of its log may say why.",
}


def _state(folder: Path, held: bool, created: float, log: list[dict[str, Any]]) -> str:
    state = last_state(log) or STARTING
    since = next((event["time"] for event in reversed(log) if event.get("state") == STARTING), created)
    if held or state in ENDED or (state == STARTING and _may_still_start(folder, since)):
        return state
    return "cancelled" if (folder / events.CANCEL).exists() else "dead"


def _log_tail(folder: Path) -> str:
    with contextlib.suppress(OSError), (folder / events.LOG).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_TAIL))
        return file.read().decode("utf-8", errors="replace")
    return ""


def is_held(folder: Path) -> bool:
    """Whether a living worker holds the job's lock."""
    return locks.is_held(folder / events.LOCK)


def _may_still_start(folder: Path, since: float) -> bool:
    """Whether a worker that has not been heard of may yet take its lock."""
    pid = pid_of(folder)
    if pid is not None and os.name == "posix":  # elsewhere signal 0 is not harmless
        with contextlib.suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
    seen = _first_seen.setdefault(folder, time.monotonic())  # the clock may have been set back since
    return time.time() - since < START_GRACE and time.monotonic() - seen < START_GRACE


def pid_of(folder: Path) -> int | None:
    """The worker's number, if it is one of this machine: a store may be shared by several."""
    known = [event for event in events.read(folder) if "pid" in event]
    return int(known[-1]["pid"]) if known and known[-1].get("host") == platform.node() else None
