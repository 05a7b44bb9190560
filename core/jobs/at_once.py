"""Run a small task in this process, within a time limit; the answer is kept in memory and not written to the store.

For pages that answer while a person moves a slider: an attack on one image is a moment. Importing this module imports
no torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.jobs import running
from core.specs import ModelTask
from core.storage import cards, store

_T = TypeVar("_T")


class TooLong(RuntimeError):
    """The task did not end within its time limit."""


@dataclass(frozen=True)
class InMemory(store.Artifact):
    """An artifact that was never written: its folder is where it would lie, its files are the bytes in `contents`."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def _file(self, filename: str, parse: Callable[[bytes], _T]) -> _T:
        if filename not in self.contents:
            raise ValueError(f"{self.id}: expected one of {', '.join(self.contents)}, got {filename!r}")
        return parse(self.contents[filename])


def answer(task: ModelTask, root: Path, *, seconds: float, device: str = "cpu") -> store.Artifact:
    """The artifact of `task`: the stored one, or else one made here and kept in memory.

    Args:
        task: of one model, small enough for this process.
        root: the store's folder; nothing is written there.
        seconds: how long the run may take. It is stopped where the attack next reports its progress, so a single
            step that takes long ends later.
        device: where it runs.

    Raises:
        TooLong: it did not end in time.
        ValueError: what the task asks for does not exist.
        DataMissing: the images cannot be had.
        DamagedArtifact: the model, or the stored result.
    """
    task = store.normal(task, root)
    found = store.find(task, root)
    if found is not None:
        return found
    end = time.monotonic() + seconds

    def watch(
        done: int, total: int, *, phase: str | None = None, snapshot: dict[str, np.ndarray] | None = None, **_: Any
    ) -> None:
        if done < total and time.monotonic() > end:
            raise TooLong(f"{task.slug()}: not done after {seconds:g} s")

    outcome = running.runner_for(task)(task, root, device=device, on_progress=watch)
    card, contents = cards.compose(task, outcome.card, outcome.arrays, outcome.tables, outcome.blobs)
    return InMemory(store.locate(task, root), card, contents)
