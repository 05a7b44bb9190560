"""The process that asks for a task: it hands out the shards, follows them, and puts them together. Imports no torch."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.data.folder import DataMissing
from core.jobs.shards import kept, ranges, version
from core.jobs.shards.cluster import Cluster
from core.jobs.shards.engines import Engine, EngineError, Running, note_seen
from core.jobs.shards.local import Local
from core.progress import Progress
from core.specs import Task
from core.storage.store import DamagedArtifact, Outcome

KINDS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "DataMissing": DataMissing,
    "DamagedArtifact": DamagedArtifact,
    "UnreadableArtifact": DamagedArtifact,
    "FloatingPointError": FloatingPointError,
}
"""Errors of a shard that are raised here as they were there; others as an EngineError."""


class Pool:
    """An engine that is started when the first task needs it, and serves all tasks of a request."""

    def __init__(self, engine: Engine | None, device: str | None, settled: Callable[[], str]) -> None:
        """`device`: what was asked for, None: any that a cluster has. `settled`: the one to take on this machine."""
        self.engine = engine
        self._device, self._settled, self._running = device, settled, None

    _running: Running | None

    def takes(self, task: Task) -> bool:
        """Whether a task is run in shards; not on this machine, if a single one would be enough."""
        if self.engine is None or type(task) not in ranges.SIZES:
            return False
        return self.engine.kind == "ray" or ranges.asked(task) > ranges.size(task)

    def running(self, root: Path) -> Running:
        """The engine, started. Raises ValueError and OSError where it cannot be."""
        assert self.engine is not None
        if self._running is None:
            if self.engine.kind == "local":
                self._running = Local(self.engine, self._settled())
            else:
                self._running = Cluster(self.engine, self._device)
            with contextlib.suppress(OSError):  # only a view
                note_seen(self.engine, self._running.nodes(), root)
        return self._running

    def stop(self) -> None:
        """End what was started."""
        if self._running is not None:
            self._running.stop()
        self._running = None


@contextlib.contextmanager
def pool(engine: Engine | None, device: str | None, settled: Callable[[], str]) -> Iterator[Pool]:
    """A pool that is ended with the context, however that ends."""
    made = Pool(engine, device, settled)
    try:
        yield made
    finally:
        made.stop()


def make(task: Task, root: Path, on: Pool, report: Progress, note: Callable[[str], None]) -> Outcome:
    """Make what a task leaves, in shards; those that were finished before are not made again.

    Args:
        task: one that `on` takes.
        root: the store's folder, which every process of the engine sees.
        on: where it runs.
        report: called several times a second; whatever it raises ends all shards.
        note: takes messages for the reader.

    Raises:
        ValueError: what the task itself would raise, a model that cannot be judged in parts, or an engine that cannot
            be used.
        EngineError: a shard failed otherwise.
        OSError: the store is full, among others. What was finished is kept in all cases.
    """
    begun = time.time()
    where, mark = kept.folder(task, root.resolve()), secrets.token_hex(8)
    assert on.engine is not None
    report(0, 1, phase=f"starting {on.engine.kind}")
    kept.open_request(where, task, mark)
    try:
        running = on.running(root)
        asked = {"folder": str(where), "mark": mark, "root": str(root.resolve()), "device": running.device}
        asked["version"] = version.version()
        run = _Run(running, asked, where, report, note)
        found = run.one({"step": "find"}, 0, 1, "looking at the images")
        cuts = ranges.ranges(task, found["count"])
        done = [cut for cut in cuts if kept.read(kept.path(where, cut, kept.SHARD), kept.of_rows(found["of"], cut))]
        run.all([cut for cut in cuts if cut not in done], found["count"], len(cuts))
        run.one({"step": "close", "ranges": cuts}, found["count"], found["count"], "putting the shards together")
        made = kept.read(where / kept.WHOLE, {"mark": mark})
        if made is None:
            raise EngineError(f"The result is damaged that was put together in {where}. Start it again.")
    except BaseException:
        on.stop()  # no process is left that could write when this is swept
        kept.sweep(where)
        raise
    card = made.facts["card"]
    card["shards"] = {
        "engine": on.engine.kind,
        "count": len(cuts),
        "machines": len(run.hosts),
        "wall_seconds": round(time.time() - begun, 3),
        "processor_seconds": round(run.processor, 3),
    }
    return Outcome(card=card, arrays=made.arrays, tables=made.tables)


class _Run:
    """The steps of one task on an engine, and how far they are."""

    def __init__(
        self, running: Running, asked: dict[str, Any], where: Path, report: Progress, note: Callable[[str], None]
    ) -> None:
        self.running, self.asked, self.where, self.report, self.note = running, asked, where, report, note
        self.hosts: Counter[str] = Counter()  # images judged by each machine
        self.processor = 0.0  # seconds

    def one(self, step: dict[str, Any], done: int, total: int, phase: str) -> dict[str, Any]:
        """Do a single step and return its answer."""
        self.report(done, total, phase=phase)
        for answered in self.running.run([{**self.asked, **step}]):
            self.report(done, total, phase=phase)
            if answered is not None:
                answer = _checked(answered[1])
                self.processor += answer.get("processor", 0.0)
                return answer
        raise AssertionError("an engine answers every step")

    def all(self, cuts: list[tuple[int, int]], count: int, number: int) -> None:
        """Judge the images of these shards, of `number` in all with `count` images."""
        left = {place: cut for place, cut in enumerate(cuts)}
        before = count - sum(high - low for low, high in cuts)
        begun, looked, partly = time.monotonic() - 1e-9, 0.0, 0.0
        for answered in self.running.run([{**self.asked, "step": "part", "rows": cut} for cut in cuts]):
            if answered is not None:
                answer = _checked(answered[1])
                low, high = left.pop(answered[0])
                self.hosts[answer["host"]] += high - low
                self.processor += answer["processor"]
                for text in answer["notes"]:
                    self.note(text)
            now = time.monotonic()
            if now - looked >= LOOK or not left:
                looked = now
                partly = sum((high - low) * kept.progress(self.where, (low, high)) for low, high in left.values())
            finished = before + sum(self.hosts.values())
            rates = [f"{host} {images / (now - begun):.3g} images/s" for host, images in sorted(self.hosts.items())[:3]]
            phase = ", ".join([f"{number - len(left)} of {number} shards", *rates])
            self.report(min(count, int(finished + partly)), count, phase=phase)


LOOK = 1.0
"""Seconds between two looks at how far the shards are."""


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless it is an error: that is raised."""
    if "error" not in answer:
        return answer
    kind, message = answer["error"], answer["message"]
    if kind == "OSError":
        text = f"{message} (on {answer['host']})"
        raise OSError(text) if answer["errno"] is None else OSError(answer["errno"], text)
    if kind == "MemoryError":
        raise EngineError(
            f"The memory of {answer['host']} is too small even for a few images at once ({message}). What was finished "
            "is kept."
        )
    if kind in KINDS:
        raise KINDS[kind](message)
    raise EngineError(message if kind in ("FalseProof", "EngineError") else f"{kind}: {message}")
