"""One step of a task in shards, in whichever process it runs: find what all share, judge some images, or close.

A step is asked for by a small dictionary and answers with one; what it makes goes to the folder of the task (`kept`).
A shard that runs out of memory is judged in halves; so is one whose process ended without an answer, when it is begun
again, for the system may have ended it for its memory. Imports torch.
"""

from __future__ import annotations

import gc
import logging
import platform
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from core.evaluation.tasks.parts import ByImage, Part
from core.jobs.runners import RUNNERS
from core.jobs.shards import kept, version
from core.specs import Task
from core.storage import store

_logger = logging.getLogger(__name__)

LEAST = 4
"""Images below which a shard that does not fit the memory is not halved again."""
TRIES = 6
"""How often a shard is begun, in ever smaller pieces, whose process ends without an answer."""
TELL = 1.0
"""Seconds between two notes of how far a shard is."""
SAID = ("ValueError", "OSError", "MemoryError", "DataMissing", "DamagedArtifact", "UnreadableArtifact", "FalseProof")
"""Errors whose message says it all; of others the traceback goes to the log."""
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

_opened: tuple[object, ByImage] | None = None  # of the last step: the next one is of the same task, most likely


def hold_threads(most: int) -> None:
    """Run no more threads in this process."""
    torch.set_num_threads(most)


def do(asked: dict[str, Any]) -> dict[str, Any]:
    """Do a step.

    Args:
        asked: `step` (find, part or close), `folder`, `mark`, `root`, `device`, `version`; for a part its `rows`; for
            close `ranges`.

    Returns:
        `host` and, where it went wrong, `error` (the name of the exception), `message` and `errno`. Otherwise of find
        `count` and `of`; of a part `sha256` and `notes`; of close `sha256`; of both `processor`, the seconds of this
        process's threads after the models and images were opened.
    """
    host = platform.node()
    try:
        version.check(asked["version"], host)
        return {"host": host, **_STEPS[asked["step"]](asked)}
    except Exception as error:
        kind = "MemoryError" if _of_memory(error) else type(error).__name__
        for base in (ValueError, OSError):  # their subclasses are said as they are
            kind = base.__name__ if isinstance(error, base) else kind
        if kind not in SAID:
            _logger.warning("A shard failed on %s", host, exc_info=True)
        return {"host": host, "error": kind, "message": str(error), "errno": getattr(error, "errno", None)}


def _task(asked: dict[str, Any], found: dict[str, Any] | None) -> ByImage:
    """The task with its models and images, kept from the last step where that was of the same."""
    global _opened
    same = (asked["mark"], asked["device"], found)
    if _opened is None or _opened[0] != same:
        _opened = None
        spec = kept.request(Path(asked["folder"]), asked["mark"])
        made = import_module(RUNNERS[type(spec)]).ByImage(
            spec, Path(asked["root"]), device=asked["device"], found=found
        )
        _opened = (same, made)
    return _opened[1]


def _find(asked: dict[str, Any]) -> dict[str, Any]:
    where = Path(asked["folder"])
    spec = kept.request(where, asked["mark"])
    task = _task(asked, None)
    task.check_apart()
    with task.asked():
        found = task.find()
    of = {"key": _key(spec, asked), "version": asked["version"], "depends": task.depends, "found": found}
    kept.write(where / kept.FOUND, kept.Kept({"found": found, "of": of}), {"mark": asked["mark"]})
    return {"count": task.count, "of": of}


def _key(spec: Task, asked: dict[str, Any]) -> str:
    return store.normal(spec, Path(asked["root"])).key()


def _shared(asked: dict[str, Any]) -> dict[str, Any]:
    """What `_find` found: `found`, and what every shard is of."""
    there = kept.read(Path(asked["folder"]) / kept.FOUND, {"mark": asked["mark"]})
    if there is None:
        raise FileNotFoundError(f"{kept.FOUND} in {asked['folder']}")
    return there.facts


def _part(asked: dict[str, Any]) -> dict[str, Any]:
    where, rows = Path(asked["folder"]), (asked["rows"][0], asked["rows"][1])
    shared = _shared(asked)
    task = _task(asked, shared["found"])
    if task.depends != shared["of"]["depends"]:
        raise ValueError("model: expected the one that the run began with, got another: start the run again")
    begun, notes = time.process_time(), list[str]()
    if rows[0] % task.unit or (rows[1] % task.unit and rows[1] != task.count):
        raise ValueError(f"rows: expected multiples of {task.unit}, which are judged together, got {rows}")
    cuts = _cuts(where, rows, task.unit)
    try:
        with task.asked():
            made = [_judged(task, where, part, _Told(where, rows, part), notes) for part in cuts]
    finally:  # what gives an answer, if only an error, has not died
        kept.path(where, rows, kept.TRIES).unlink(missing_ok=True)
    part = Part.joined(made)
    facts = {"counts": part.counts, "facts": part.facts}
    digest = kept.write(
        kept.path(where, rows, kept.SHARD),
        kept.Kept(facts, {"rows": part.arrays}, {"rows": part.table}),
        kept.of_rows(shared["of"], rows),
    )
    for file in where.glob(f"*{kept.STATE}"):
        low, high = (int(number) for number in file.name.partition(".")[0].split("-"))
        if rows[0] <= low and high <= rows[1]:
            file.unlink(missing_ok=True)
    return {"sha256": digest, "processor": time.process_time() - begun, "notes": notes}


def _cuts(where: Path, rows: tuple[int, int], unit: int) -> list[tuple[int, int]]:
    """The images in one piece; in halves and quarters where that was begun before and no state of it was kept."""
    again = kept.count_try(where, rows) - 1
    if again >= TRIES:
        raise MemoryError(
            f"Images {rows[0]} to {rows[1]} were begun {TRIES} times, and each time the process ended without an answer"
        )
    parts = 2 ** max(0, again - kept.path(where, rows, kept.STATE).exists())
    step = -(-(rows[1] - rows[0]) // (parts * unit)) * unit
    return [(low, min(low + step, rows[1])) for low in range(rows[0], rows[1], step)]


def _judged(task: ByImage, where: Path, rows: tuple[int, int], told: _Told, notes: list[str]) -> Part:
    """Judge some images, in halves where they do not fit the memory."""
    try:
        return task.part(slice(*rows), kept.path(where, rows, kept.STATE), told)
    except Exception as error:
        if not _of_memory(error) or rows[1] - rows[0] < 2 * max(LEAST, task.unit):
            raise
    gc.collect()  # outside the handler, whose traceback holds what filled the memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    notes.append(f"Images {rows[0]} to {rows[1]} did not fit the memory of {platform.node()}; they were halved.")
    middle = (rows[0] + rows[1]) // 2 // task.unit * task.unit
    halves = (rows[0], middle), (middle, rows[1])
    return Part.joined([_judged(task, where, half, told.within(half), notes) for half in halves])


def _of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(said in text for said in _NO_MEMORY)


class _Told:
    """The progress of some images of a shard, told as that of the shard."""

    def __init__(self, where: Path, shard: tuple[int, int], rows: tuple[int, int]) -> None:
        self.where, self.shard, self.rows, self.last = where, shard, rows, 0.0

    def within(self, rows: tuple[int, int]) -> _Told:
        return _Told(self.where, self.shard, rows)

    def __call__(self, done: int, total: int, **more: Any) -> None:
        if time.monotonic() - self.last < TELL:
            return
        self.last = time.monotonic()
        images = self.rows[0] - self.shard[0] + (self.rows[1] - self.rows[0]) * min(1.0, done / max(1, total))
        kept.note_progress(self.where, self.shard, images / (self.shard[1] - self.shard[0]), platform.node())


def _close(asked: dict[str, Any]) -> dict[str, Any]:
    where, shared = Path(asked["folder"]), _shared(asked)
    parts = []
    for low, high in asked["ranges"]:
        there = kept.read(kept.path(where, (low, high), kept.SHARD), kept.of_rows(shared["of"], (low, high)))
        if there is None:
            raise FileNotFoundError(f"the shard of images {low} to {high}, which was written before")
        parts.append(Part(there.tables["rows"], there.arrays.get("rows", {}), **there.facts))
    task = _task(asked, shared["found"])
    begun = time.process_time()
    with task.asked():
        outcome = task.close(Part.joined(parts))
    made = kept.Kept({"card": outcome.card}, outcome.arrays, outcome.tables)
    digest = kept.write(where / kept.WHOLE, made, {"mark": asked["mark"]})
    return {"sha256": digest, "processor": time.process_time() - begun}


_STEPS = {"find": _find, "part": _part, "close": _close}
