"""Run a spec here, or in a process of its own that outlives the page, the browser and the server.

A job is a folder, `root/.jobs/<id>/`, and all that is known of it is in its files:

    spec.json             the task, when it was submitted, and by whom
    events.jsonl          one line an event: state, phase, done, total, eta, metrics; only ever appended to
    snapshot.safetensors  what there is to see so far, replaced as a whole
    log.txt               all that the worker printed
    cancel                there when the job is to stop
    lock                  held by the worker for life; the kernel frees it on any death

One job at a time has a process and computes, the others wait, in the order of their requests and without one. The next
is started by the process of the one that ends; where that was killed, by whoever looks at the jobs next. What a job is
is read in `core.jobs.reading`. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import filelock

from core.jobs import events, limits, reading, running, spare, turns, worker
from core.jobs.events import ENDED
from core.jobs.reading import QUEUED, STARTING, Job
from core.jobs.running import run
from core.jobs.turns import TooManyJobs
from core.jobs.worker import relative
from core.progress import Cancelled
from core.specs import Task, dump_task
from core.storage import files, locks, store

__all__ = ["ENDED", "Cancelled", "Job", "TooManyJobs", "cancel", "forget", "jobs", "read", "run", "submit", "work"]

KILL_AFTER = 5.0  # seconds from asking a worker to stop until it is made to
KEPT = 300  # ended jobs
LOOK = 1.0  # seconds between two looks, by whoever reads jobs, whether one that waits is to be started
GONE = 2.0  # seconds that a killed process may take to be gone

_children: dict[Path, subprocess.Popen[bytes]] = {}  # living workers that this process started
_looked: dict[Path, float] = {}  # time.monotonic() of the last look whether a job that waits is to be started
_asked: dict[Path, float] = {}  # time.monotonic() of the first look at a job that is to stop


# ---------------------------------------------------------------- jobs


def submit(task: Task, root: Path | None = None, *, owner: str = "") -> Job:
    """Start a job for `task` in a process of its own, or let it wait for its turn: first come, first served.

    A live job with the same task is returned instead; when all that it would make is in the store, a job that is done.
    `owner` says who asks: it is kept with a job that this call makes, and a job that was there before keeps its own.
    The oldest ended jobs are forgotten beyond a few hundred. Raises ValueError when the task names a model that is not
    in the store or was trained on other images than its folder holds now, DataMissing for a folder that cannot be used,
    DamagedArtifact when the model's card cannot be trusted, TooManyJobs when as many jobs wait as may (`turns.limit`),
    OverLimit when the task asks for more than a job may here (`limits`).
    """
    root = _root(root)
    task = store.resolve(task, root)
    with _changing(root):
        everything = _jobs(root)
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
        live = [job for job in everything if job.live]
        if found is None:
            limits.check(task, root)
        if live and found is None:
            turns.check_room(sum(job.queued for job in live))
        folder = _new_folder(task, root, 1 + max((job.ticket for job in live), default=0), owner)
        try:
            for note in notes:
                events.append(folder, {"message": note})
            if found is not None:
                events.append(folder, {"state": "done", "artifacts": names, "message": "Loaded from the store."})
            else:
                events.append(folder, {"state": QUEUED})
                _start_next(root)
        except OSError:  # the disk is full: a request that is refused leaves no job
            if reading.last_state(events.read(folder)) in (QUEUED, None):
                shutil.rmtree(folder, ignore_errors=True)
                reading.forget(folder)
            raise
    return read(folder.name, root)


def advance(root: Path | None = None, *, wait: bool = True) -> None:
    """Start the job whose turn it is, if none is at work.

    A worker calls it at its end, and so do readers, which do not wait for one another (`wait`).
    """
    root = _root(root)
    with contextlib.suppress(filelock.Timeout, OSError), _changing(root, timeout=-1.0 if wait else 0.0):
        _start_next(root)


def work(folder: Path) -> int:
    """Do the job in `folder` in this process, then start the one that waits longest; returns the exit status."""
    try:
        return worker.work(folder)
    finally:
        advance(Path(folder).resolve().parents[1])


def jobs(root: Path | None = None) -> list[Job]:
    """Every job, ended ones too, newest first; folders that are no job are left out."""
    root = _root(root)
    found = _jobs(root)
    return _jobs(root) if any(job.queued for job in found) and _look(root) else found


def _jobs(root: Path) -> list[Job]:
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(root / ".jobs") as entries:
        for entry in entries:
            if files.is_id(entry.name):
                with contextlib.suppress(ValueError, OSError):
                    found.append(_read(Path(entry.path)))
    return sorted(found, key=lambda job: (job.created, job.id), reverse=True)


def read(job_id: str, root: Path | None = None) -> Job:
    """The job of this id, now. Raises ValueError when there is none."""
    folder = _folder(job_id, root)
    try:
        job = _read(folder)
        return _read(folder) if job.queued and _look(_root(root)) else job
    except (OSError, ValueError) as error:
        raise ValueError(f"job_id: expected the id of a job, got {job_id!r} ({error})") from error


def cancel(job_id: str, root: Path | None = None) -> Job:
    """Cancel a job.

    One that is at work and has not stopped after a few seconds is killed the next time it is read; one that has not
    begun, or loads PyTorch still, at once: it has nothing to put away, and what loads does not listen.
    """
    job = read(job_id, root)
    if job.live:
        with contextlib.suppress(FileExistsError):
            (job.folder / events.CANCEL).touch(exist_ok=False)
        with _changing(_root(root)):  # nobody starts it meanwhile
            state = reading.last_state(events.read(job.folder))
            if state == QUEUED:
                events.append(job.folder, _CANCELLED)
        if os.name != "posix":  # no signal is gentle there: the flag is read at the next progress
            pass
        elif state == "running":
            _signal(job.folder, signal.SIGTERM)
        elif state != QUEUED and state not in ENDED:
            _signal(job.folder, signal.SIGKILL)
            _end_killed(job.folder)
            advance(root)
    return read(job_id, root)


def forget(job_id: str, root: Path | None = None) -> None:
    """Remove the folder of an ended job; what it made stays in the store. Raises ValueError on a live one."""
    folder = _folder(job_id, root)
    state = "live" if reading.is_held(folder) else "broken" if folder.is_dir() else "there is none"
    with contextlib.suppress(ValueError, OSError):
        state = _read(folder).state
    if state not in (*ENDED, "broken"):
        raise ValueError(f"job_id: expected the id of an ended job, got {job_id!r} ({state})")
    reading.forget(folder)
    _asked.pop(folder, None)
    shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- files


def _read(folder: Path) -> Job:
    job = reading.read(folder)
    if job.live and not job.queued:
        _kill_if_overdue(folder)
    return job


def _changing(root: Path, timeout: float = -1.0) -> contextlib.AbstractContextManager[bool]:
    """One at a time adds, starts and cancels jobs."""
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    return locks.held(root / ".locks" / "submit.lock", timeout=timeout)


def _root(root: Path | None) -> Path:
    return (Path(root) if root is not None else store.default_root()).resolve()


def _folder(job_id: str, root: Path | None) -> Path:
    return _root(root) / ".jobs" / files.checked_id(job_id, "job_id")


def _new_folder(task: Task, root: Path, ticket: int, owner: str) -> Path:
    now = datetime.now()
    folder = root / ".jobs" / f"{now:%Y%m%d-%H%M%S}-{task.slug()[:80]}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    more = {"created": now.timestamp(), "ticket": ticket, "owner": owner, "start": turns.circumstances()}
    body = {**dump_task(task), **more}
    files.replace_file(folder / events.SPEC, json.dumps(body).encode(), durable=True)
    return folder


def _sweep(root: Path) -> None:
    """Remove what killed processes left: jobs without a task, and what they had half written; not what is new."""
    for folder in (root / ".jobs").iterdir() if (root / ".jobs").is_dir() else ():
        bare = files.is_id(folder.name) and not (folder / events.SPEC).exists()
        if bare and files.is_old(folder, files.OLD) and not reading.is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)
    locks.remove_stale(root, files.OLD)


# ---------------------------------------------------------------- processes


def _command(folder: Path) -> list[str]:
    # -P: the caller's working folder is kept, for relative paths, but no module is imported from it.
    return [sys.executable, "-P", "-u", "-m", "core", "work", str(folder)]


def _start_next(root: Path) -> None:
    """Start the job that waits longest, if none is at work; called by whoever holds the lock of `_changing`."""
    live = [job for job in _jobs(root) if job.live]
    if not all(job.queued for job in live):
        return
    for job in sorted(live, key=lambda job: (job.ticket, job.created, job.id)):
        if (job.folder / events.CANCEL).exists():  # whoever cancelled it was killed before it could say so
            events.append(job.folder, _CANCELLED)
        elif _spawn(job.folder):
            return


def _look(root: Path) -> bool:
    """Whether a reader has looked after the jobs that wait: now and then one does."""
    now = time.monotonic()
    if now - _looked.get(root, -LOOK) < LOOK:
        return False
    _looked[root] = now
    advance(root, wait=False)
    return True


def _spawn(folder: Path) -> bool:
    """Start the process of a job; whether it could be started."""
    events.append(folder, {"state": STARTING})
    kept = files.read_json(folder / events.SPEC).get("start", {})
    process = spare.take(folder) if kept == turns.circumstances() else None
    if process is None:
        try:
            with (folder / events.LOG).open("ab") as log:
                process = spare.start(
                    _command(folder),
                    env=spare.environment(turns.environment(kept)),
                    cwd=turns.folder(kept),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        except OSError as error:
            events.append(folder, {"state": "failed", "message": f"No process could be started: {error}"})
            return False
        with contextlib.suppress(OSError):  # it runs, whether there is room to say so or not
            events.append(folder, {"pid": process.pid, "host": platform.node()})
    _children[folder] = process
    threading.Thread(target=_reap, args=(folder, process), name=f"reap {folder.name}", daemon=True).start()
    return True


def _reap(folder: Path, process: subprocess.Popen[bytes]) -> None:
    # A thread, so that a dead child leaves the process table at once, whether anybody looks or not.
    process.wait()
    _children.pop(folder, None)


def _signal(folder: Path, number: int) -> None:
    """Signal the worker and all its children, if it lives: numbers of dead processes are given to others."""
    pid = reading.pid_of(folder)
    if pid is None or not (reading.is_held(folder) or folder in _children):
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


def _end_killed(folder: Path) -> None:
    """Write how a job ended whose process was killed before it began, as soon as that is gone."""
    end = time.monotonic() + GONE
    while time.monotonic() < end:
        if not reading.is_held(folder):
            if reading.last_state(events.read(folder)) not in ENDED:
                with contextlib.suppress(OSError):
                    events.append(folder, _CANCELLED)
            locks.remove_stale(folder.parents[1])
            return
        time.sleep(0.01)


_CANCELLED = {"state": "cancelled", "message": "Cancelled. Nothing was written."}
