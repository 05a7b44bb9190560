"""Run a spec here, or in a process of its own that outlives the page, the browser and the server.

A job is a folder, `root/.jobs/<id>/`, and all that is known of it is in its files:

    spec.json             the task, and when it was submitted
    events.jsonl          one line an event: state, phase, done, total, eta, metrics; only ever appended to
    snapshot.safetensors  what there is to see so far, replaced as a whole
    log.txt               all that the worker printed
    cancel                there when the job is to stop
    lock                  held by the worker for life; the kernel frees it on any death

`root/.locks/device.lock` is the queue: one job at a time computes, and the others wait before PyTorch is imported.
Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from core.jobs import events, running, spare
from core.jobs.events import ENDED
from core.jobs.running import run
from core.jobs.worker import relative, work
from core.progress import Cancelled
from core.specs import Task, dump_task, load_task
from core.storage import files, locks, store

__all__ = ["ENDED", "Cancelled", "Job", "cancel", "forget", "jobs", "read", "run", "submit", "work"]

START_GRACE = 30.0  # seconds that a worker may take, on a busy machine, to start Python and take its lock
KILL_AFTER = 5.0  # seconds from asking a worker to stop until it is made to
KEPT = 300  # ended jobs
LOG_TAIL = 4000  # bytes

_children: dict[Path, subprocess.Popen[bytes]] = {}  # living workers that this process started
_seen: dict[Path, float] = {}  # time.monotonic() of the first look at a job that has not begun
_asked: dict[Path, float] = {}  # time.monotonic() of the first look at a job that is to stop


@dataclass(frozen=True)
class Job:
    """One job at one moment, read from its files.

    state: "starting", "waiting" (for the device), "loading" (PyTorch), "running"; or ended: "done", "failed",
    "cancelled", "dead". seconds: at work, the queue left out. eta: seconds to go, None while unknown. metrics: the
    newest of each name, NaN where a runner reported it. history: for each event with metrics, these and its time, done,
    total and phase. message: one plain sentence. artifacts: folders relative to the store.
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


# ---------------------------------------------------------------- jobs


def submit(task: Task, root: Path | None = None) -> Job:
    """Start a job for `task` in a process of its own.

    A live job with the same task is returned instead; when all that it would make is in the store, a job that is done.
    The oldest ended jobs are forgotten beyond a few hundred. Raises ValueError when the task names a model that is not
    in the store or was trained on other images than its folder holds now, DataMissing for a folder that cannot be used,
    DamagedArtifact when the model's card cannot be trusted.
    """
    root = _root(root)
    task = store.resolve(task, root)
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    with locks.held(root / ".locks" / "submit.lock"):
        everything = jobs(root)
        same = [job for job in everything if job.task == task]
        for job in same:
            if job.live:
                return job
        notes: list[str] = []
        found = running.find_all(task, root, notes.append)
        names = relative(found or [], root)
        for job in same:
            if found is not None and job.state == "done" and job.artifacts == names:
                return job
        for job in [job for job in everything if not job.live][KEPT:]:
            forget(job.id, root)
        _sweep(root)
        folder = _new_folder(task, root)
        for note in notes:
            events.append(folder, {"message": note})
        if found is not None:
            events.append(folder, {"state": "done", "artifacts": names, "message": "Loaded from the store."})
        else:
            _spawn(folder)
    return read(folder.name, root)


def jobs(root: Path | None = None) -> list[Job]:
    """Every job, ended ones too, newest first; folders that are no job are left out."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(_root(root) / ".jobs") as entries:
        for entry in entries:
            if files.is_id(entry.name):
                with contextlib.suppress(ValueError, OSError):
                    found.append(_read(Path(entry.path)))
    return sorted(found, key=lambda job: (job.created, job.id), reverse=True)


def read(job_id: str, root: Path | None = None) -> Job:
    """The job of this id, now. Raises ValueError when there is none."""
    folder = _folder(job_id, root)
    try:
        return _read(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"job_id: expected the id of a job, got {job_id!r} ({error})") from error


def cancel(job_id: str, root: Path | None = None) -> Job:
    """Cancel a job. If it has not stopped after a few seconds, it is killed the next time it is read."""
    job = read(job_id, root)
    if job.live:
        with contextlib.suppress(FileExistsError):
            (job.folder / events.CANCEL).touch(exist_ok=False)
        if os.name == "posix":  # elsewhere no signal is gentle: the flag is read at the next progress
            _signal(job.folder, signal.SIGTERM)
    return read(job_id, root)


def forget(job_id: str, root: Path | None = None) -> None:
    """Remove the folder of an ended job; what it made stays in the store. Raises ValueError on a live one."""
    folder = _folder(job_id, root)
    state = "live" if _is_held(folder) else "broken" if folder.is_dir() else "there is none"
    with contextlib.suppress(ValueError, OSError):
        state = _read(folder).state
    if state not in (*ENDED, "broken"):
        raise ValueError(f"job_id: expected the id of an ended job, got {job_id!r} ({state})")
    events.forget(folder)
    for known in (_ended, _seen, _asked):
        known.pop(folder, None)
    shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- files


def _root(root: Path | None) -> Path:
    return (Path(root) if root is not None else store.default_root()).resolve()


def _folder(job_id: str, root: Path | None) -> Path:
    return _root(root) / ".jobs" / files.checked_id(job_id, "job_id")


def _new_folder(task: Task, root: Path) -> Path:
    now = datetime.now()
    folder = root / ".jobs" / f"{now:%Y%m%d-%H%M%S}-{task.slug()[:80]}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    body = {**dump_task(task), "created": now.timestamp()}
    files.replace_file(folder / events.SPEC, json.dumps(body).encode())
    return folder


def _sweep(root: Path) -> None:
    """Remove what killed processes left: jobs without a task, and what they had half written; not what is new."""
    for folder in (root / ".jobs").iterdir() if (root / ".jobs").is_dir() else ():
        bare = files.is_id(folder.name) and not (folder / events.SPEC).exists()
        if bare and files.is_old(folder, files.OLD) and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)
    locks.remove_stale(root, files.OLD)


def _read(folder: Path) -> Job:
    stats = [path.stat() for path in (folder / events.SPEC, folder / events.EVENTS) if path.exists()]
    signature = [(stat.st_mtime_ns, stat.st_size) for stat in stats]
    if folder in _ended and _ended[folder][0] == signature:
        return _ended[folder][1]
    held, log = _look(folder)
    try:
        job = _described(folder, held, log)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name}: its files are not a job's ({error!r})") from error
    if job.live:
        _kill_if_overdue(folder)
    elif _last_state(log) in ENDED:
        _ended[folder] = (signature, job)
    else:  # it was killed, perhaps in mid-write
        locks.remove_stale(folder.parents[1])
    return job


def _look(folder: Path) -> tuple[bool, list[dict[str, Any]]]:
    """Whether a worker lives, and the events: as of one moment, though they are looked at one after the other."""
    # The lock first: a worker that ends in between has written how before it let go.
    held, log = _is_held(folder), events.read(folder)
    if not held and _last_state(log) not in (*ENDED, None):
        # No worker, and yet its events: it died, or it took its lock in between. A second look decides.
        held, log = _is_held(folder), events.read(folder)
    return held, log


def _last_state(log: list[dict[str, Any]]) -> str | None:
    return next((str(event["state"]) for event in reversed(log) if "state" in event), None)


def _described(folder: Path, held: bool, log: list[dict[str, Any]]) -> Job:
    """The job, from its files. Raises ValueError, OSError, AttributeError, KeyError, TypeError on broken ones."""
    body = files.read_json(folder / events.SPEC)
    task, created = load_task(body), float(body["created"])
    state = _state(folder, held, created, log)
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
    )


_MESSAGES = {
    "starting": "The process is starting.",
    "waiting": "Waiting for the job before it.",
    "loading": "Loading PyTorch.",
    "cancelled": "Cancelled. Nothing was written.",
    "dead": "The process ended without a message: it was killed, or out of memory. The end of its log may say why.",
}


def _state(folder: Path, held: bool, created: float, log: list[dict[str, Any]]) -> str:
    state = _last_state(log) or "starting"
    if held or state in ENDED or (state == "starting" and _may_still_start(folder, created)):
        return state
    return "cancelled" if (folder / events.CANCEL).exists() else "dead"


def _log_tail(folder: Path) -> str:
    with contextlib.suppress(OSError), (folder / events.LOG).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_TAIL))
        return file.read().decode("utf-8", errors="replace")
    return ""


# ---------------------------------------------------------------- processes


def _command(folder: Path) -> list[str]:
    # -P: the caller's working folder is kept, for relative paths, but no module is imported from it.
    return [sys.executable, "-P", "-u", "-m", "core", "work", str(folder)]


def _spawn(folder: Path) -> None:
    process = spare.take(folder)
    if process is None:
        try:
            with (folder / events.LOG).open("ab") as log:
                process = spare.start(_command(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        except OSError as error:
            events.append(folder, {"state": "failed", "message": f"No process could be started: {error}"})
            return
        events.append(folder, {"pid": process.pid, "host": platform.node()})
    _children[folder] = process
    threading.Thread(target=_reap, args=(folder, process), name=f"reap {folder.name}", daemon=True).start()


def _reap(folder: Path, process: subprocess.Popen[bytes]) -> None:
    # A thread, so that a dead child leaves the process table at once, whether anybody looks or not.
    process.wait()
    _children.pop(folder, None)


def _is_held(folder: Path) -> bool:
    """Whether a living worker holds the job's lock."""
    return locks.is_held(folder / events.LOCK)


def _may_still_start(folder: Path, created: float) -> bool:
    """Whether a worker that has not been heard of may yet take its lock."""
    pid = _pid(folder)
    if pid is not None and os.name == "posix":  # elsewhere signal 0 is not harmless
        with contextlib.suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
    seen = _seen.setdefault(folder, time.monotonic())  # the clock may have been set back since
    return time.time() - created < START_GRACE and time.monotonic() - seen < START_GRACE


def _pid(folder: Path) -> int | None:
    """The worker's number, if it is one of this machine: a store may be shared by several."""
    known = [event for event in events.read(folder) if "pid" in event]
    return int(known[-1]["pid"]) if known and known[-1].get("host") == platform.node() else None


def _signal(folder: Path, number: int) -> None:
    """Signal the worker and all its children, if it lives: numbers of dead processes are given to others."""
    pid = _pid(folder)
    if pid is None or not (_is_held(folder) or folder in _children):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _kill_if_overdue(folder: Path) -> None:
    if not (folder / events.CANCEL).exists():
        return
    if time.monotonic() - _asked.setdefault(folder, time.monotonic()) >= KILL_AFTER:
        _signal(folder, getattr(signal, "SIGKILL", signal.SIGTERM))
