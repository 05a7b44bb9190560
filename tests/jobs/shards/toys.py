"""What the tests of shards share: small tasks, what one piece gives, and how two artifacts are compared."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.jobs import queue
from core.jobs.shards import engines, kept
from core.specs import RadiiSpec, Task
from core.storage import store
from tests.rounding import ROUNDING, assert_arrays_alike

SIZE = 30
"""Images of a shard in these tests."""
FACTS = ("seconds", "wall_seconds", "processor_seconds", "created", "shards", "sha256", "files")
"""What a card says of time and machines, and of files that hold it."""
RADII = RadiiSpec(model="digits-mlp", n=120, budget=60)
"""Four shards of about a second."""


def run(task: Task, root: Path, on: str = "", **more: Any) -> store.Artifact:
    """Run a task on an engine, anew: what is in the store of it is removed."""
    task = store.resolve(task, root)
    with contextlib.suppress(FileNotFoundError):
        for file in sorted(store.locate(task, root).iterdir()):
            file.unlink()
        store.locate(task, root).rmdir()
    with engines.on(on):
        made = queue.run(task, root, device="cpu", **more)
    assert isinstance(made, store.Artifact)
    return made


class Made:
    """An artifact with all its files read, for it may be removed."""

    def __init__(self, artifact: store.Artifact) -> None:
        self.id, self.card = artifact.id, artifact.card
        names = [name.partition(".") for name in artifact.card["files"]]
        self.tables = {name: artifact.table(name) for name, _, kind in names if kind == "parquet"}
        self.arrays = {name: artifact.arrays(name) for name, _, kind in names if kind == "safetensors"}


def assert_alike(one: Made, other: Made) -> None:
    """The same key, rows and card, whatever time it took and where; numbers up to a batch's rounding."""
    assert one.id == other.id
    assert one.tables.keys() == other.tables.keys()
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, other.tables[name], **ROUNDING)
    for name, arrays in one.arrays.items():
        for key, array in arrays.items():
            assert_arrays_alike(array, other.arrays[name][key], f"{name} {key}")
    _same(_timeless(one.card), _timeless(other.card), "card")


def _timeless(card: Any) -> Any:
    if isinstance(card, dict):
        return {name: _timeless(value) for name, value in card.items() if name not in FACTS}
    return [_timeless(value) for value in card] if isinstance(card, list | tuple) else card


def _same(one: Any, other: Any, where: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            _same(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, value in enumerate(one):
            _same(value, other[place], f"{where}[{place}]")
    else:
        assert one == (pytest.approx(other, rel=1e-3, abs=1e-4) if isinstance(one, float) else other), where


def shards(task: Task, root: Path) -> list[str]:
    """The names of the shards that are kept of a task."""
    where = kept.folder(store.resolve(task, root), root)
    return sorted(file.name for file in where.glob(f"*{kept.SHARD}"))


def left(root: Path) -> list[str]:
    """All that is left in a store of runs that have ended but shards and what they are made with."""
    files = [file.name for file in (root / ".checkpoints").rglob("*") if file.is_file()]
    known = (kept.SHARD, kept.FOUND, kept.REQUEST, kept.STATE)
    return [name for name in files if not name.endswith(known)] + [
        file.name for file in (root / ".tmp").rglob("*") if file.is_file()
    ]


def toy(root: Path, **more: Any) -> list[int]:
    """Run `RADII` on two processes whose steps are toys (`toy_serve`); the process that judged each image."""
    made = run(RADII, root, "local:2", **more)
    table = made.table("images")
    assert table["index"].tolist() == list(range(120))
    assert made.arrays("images")["x"][:, 0].tolist() == list(range(120))
    assert not kept.folder(RADII, root).exists()
    return table["process"].tolist()


def parent_of(entry: Path) -> int:
    """The parent of the process of this folder of /proc; 0 where it is gone, or a zombie."""
    try:
        state = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state[0] == "Z" else int(state[1])


def workers(of: int = 0) -> list[int]:
    """The processes that run shards for this one, or for another one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if (b"toy_serve" in words or b"shards\0" in words) and parent_of(entry) == (of or os.getpid()):
                found.append(int(entry.name))
    return found
