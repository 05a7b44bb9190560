"""What is kept of a task while it runs in shards: a folder beside the checkpoints, each file whole or not there.

    root/.checkpoints/<artifact>.shards/
        request.json             the task, and a mark by which others see that they share this folder
        found                    what all shards are made with
        000000-000250.shard      what was found of these images
        000000-000250.state...   where a shard that is stopped resumes
        000000-000250.tries      how often it was begun
        000000-000250.progress   how far it is
        whole                    what is to be stored

No lock is needed: a shard is the same whoever writes it, and the last of several identical writers wins. `found`,
shards and `whole` begin with the SHA-256 of the rest, and say what they are of. Nothing here is seen as a result.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.specs import Task, dump_task, load_task
from core.storage import files, store

if TYPE_CHECKING:
    import pandas as pd

REQUEST, FOUND, WHOLE = "request.json", "found", "whole"
SHARD, STATE, TRIES, PROGRESS = ".shard", ".state.safetensors", ".tries", ".progress"
_META, _TABLE, _DIGEST = "meta", "table:", hashlib.sha256().digest_size


@dataclass(frozen=True)
class Kept:
    """Arrays by file and name, tables by name, and everything else as JSON."""

    facts: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def folder(task: Task, root: Path) -> Path:
    """Where the shards of a task are kept."""
    return store.unfinished(task, root).with_suffix(".shards")


def path(where: Path, rows: tuple[int, int], ending: str) -> Path:
    """A file of one shard."""
    return where / f"{rows[0]:06d}-{rows[1]:06d}{ending}"


def open_request(where: Path, task: Task, mark: str) -> None:
    """Make the folder, and sweep from it what processes that are gone had half written. Raises OSError."""
    where.mkdir(parents=True, exist_ok=True)
    sweep(where)
    files.replace_file(where / REQUEST, json.dumps({**dump_task(task), "mark": mark}).encode(), durable=True)


def request(where: Path, mark: str) -> Task:
    """The task that shards in a folder are of.

    Raises:
        ValueError: this process does not see the folder of the one that asks.
    """
    try:
        body = files.read_json(where / REQUEST)
    except FileNotFoundError:
        body = {}
    if body.get("mark") != mark:
        raise ValueError(
            f"engine: expected the store in a folder that every machine sees under the same path, got "
            f"{platform.node()} without what was written to {where}"
        )
    return load_task(body)


def sweep(where: Path) -> None:
    """Remove what is of no use once every process of a run has ended: how far shards were, and half-written files."""
    for file in where.iterdir() if where.is_dir() else ():
        whole = file.name in (REQUEST, FOUND, WHOLE) or file.name.endswith((SHARD, STATE)) or file.is_dir()
        if not whole:
            with contextlib.suppress(OSError):
                file.unlink()


def forget(where: Path) -> None:
    """Remove all that is kept."""
    shutil.rmtree(where, ignore_errors=True)


def write(file: Path, kept: Kept, of: dict[str, Any]) -> str:
    """Put a file in its place; returns its SHA-256. Raises OSError, and ValueError on what cannot be written.

    of: what it depends on, ready for JSON; `read` gives it out for the same alone.
    """
    arrays = {f"{group}/{name}": value for group, named in kept.arrays.items() for name, value in named.items()}
    for name, table in kept.tables.items():
        arrays[_TABLE + name] = np.frombuffer(files.encode_table(table), dtype=np.uint8)
    meta = json.dumps({"facts": files.to_jsonable(kept.facts, "facts"), "of": of})
    data = files.encode_arrays(arrays | {_META: np.frombuffer(meta.encode(), dtype=np.uint8)})
    digest = hashlib.sha256(data)
    files.replace_file(file, digest.digest() + data, durable=True)
    return digest.hexdigest()


def read(file: Path, of: dict[str, Any]) -> Kept | None:
    """What a file holds; None where there is none, or one that is damaged or of something else: it is made again."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    digest, data = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return None
    arrays = files.decode_arrays(data)
    meta = json.loads(arrays.pop(_META).tobytes())
    if meta["of"] != json.loads(json.dumps(of)):
        return None
    found = Kept(meta["facts"])
    for key, value in arrays.items():
        if key.startswith(_TABLE):
            found.tables[key.removeprefix(_TABLE)] = files.decode_table(value.tobytes())
        else:
            group, _, name = key.partition("/")
            found.arrays.setdefault(group, {})[name] = value
    return found


def of_rows(of: dict[str, Any], rows: tuple[int, int]) -> dict[str, Any]:
    """What the shard of these images depends on, of what all of them do."""
    return {**of, "rows": list(rows)}


def note_progress(where: Path, rows: tuple[int, int], share: float, host: str) -> None:
    """Say how far a shard is, for whoever asks; a disk that is full is met elsewhere."""
    with contextlib.suppress(OSError):
        files.replace_file(path(where, rows, PROGRESS), json.dumps({"share": share, "host": host}).encode())


def progress(where: Path, rows: tuple[int, int]) -> float:
    """The share of a shard that is done, as far as it said so."""
    try:
        return float(files.read_json(path(where, rows, PROGRESS))["share"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def count_try(where: Path, rows: tuple[int, int]) -> int:
    """How often a shard has been begun, this time included."""
    file = path(where, rows, TRIES)
    try:
        tries = 1 + int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        tries = 1
    with contextlib.suppress(OSError):
        files.replace_file(file, str(tries).encode())
    return tries
