"""Artifacts on disk: what running a spec leaves behind, under a name made from the spec.

    root/<model>/card.json, weights.safetensors, ...     a trained model
    root/<model>/results/<result>/card.json, ...         an attack or a sweep on that model
    root/set_aside/                                      what was found damaged: never loaded, never deleted
    root/.tmp/  root/.locks/                             half-written folders; one lock file an artifact
    root/.checkpoints/                                   where unfinished trainings go on (see core.training.checkpoint)

A file is safetensors, Parquet or JSON; no pickle is read or written. An artifact appears whole, by one rename, or not
at all. The card holds the SHA-256 of every file and of itself, and every read is checked against it. Nothing here
imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np
import pandas as pd

from core import __version__, files
from core.specs import (
    FORMAT,
    TASKS,
    AttackSpec,
    CompareSpec,
    Method,
    PatternSpec,
    SweepSpec,
    Task,
    TrainSpec,
    UniversalSpec,
    dump_task,
    load_task,
)

CARD = "card.json"
SET_ASIDE = "set_aside"
CHECKPOINTS = ".checkpoints"
WRITTEN_BY_STORE = ("format", "task", "spec", "key", "created", "versions", "files", "sha256")
"""Fields of a card that `write` fills in itself."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_NAME = re.compile(r"[a-z0-9_]{1,60}")
_POLL = 0.1  # seconds between two looks at a lock that another process holds
_held = threading.local()  # names of the artifacts whose lock this thread holds
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # other errors say nothing about the artifact
_T = TypeVar("_T")


class DamagedArtifact(RuntimeError):
    """An artifact that does not match its card: what was found, where it was set aside, how to make it again."""


class _Damage(Exception):
    """Internal: what is wrong with a folder, before it is decided what to do about it."""


@dataclass
class Outcome:
    """What a runner returns: the card's own fields, and arrays and tables by file name without its ending."""

    card: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A folder of the store and its card. Files are read, and checked against the card, when they are asked for."""

    folder: Path
    card: dict[str, Any]

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def root(self) -> Path:
        """The store that it lies in."""
        return self.folder.parent if self.card["task"] == "train" else self.folder.parents[2]

    def spec(self) -> Task:
        """What was asked for."""
        return load_task(self.card)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.safetensors`, writable. Raises ValueError (no such file) or DamagedArtifact."""
        return self._file(f"{name}.safetensors", files.decode_arrays)

    def table(self, name: str) -> pd.DataFrame:
        """The table of `<name>.parquet`. Raises ValueError (no such file) or DamagedArtifact."""
        return self._file(f"{name}.parquet", files.decode_table)

    def _file(self, filename: str, parse: Callable[[bytes], _T]) -> _T:
        if filename not in self.card["files"]:
            raise ValueError(f"{self.id}: expected one of {', '.join(self.card['files'])}, got {filename!r}")

        def read() -> bytes:
            # The card on disk, not the one in memory: the artifact may have been set aside and made again since.
            return _checked_bytes(self.folder, filename, _read_card(self.folder)["files"].get(filename, ""))

        return parse(_or_set_aside(self.folder, self.root, read))


# ---------------------------------------------------------------- where things are


def default_root() -> Path:
    """The store's folder: `ADVERSARIAL_LAB_STORE`, or `saved_models` beside the package."""
    return Path(os.environ.get("ADVERSARIAL_LAB_STORE") or Path(__file__).resolve().parents[1] / "saved_models")


def locate(spec: Task, root: Path) -> Path:
    """The folder where the artifact of `spec` lies or would lie. Raises ValueError on an id that is no plain name."""
    root = Path(root)
    if isinstance(spec, TrainSpec):
        return root / _checked_id(spec.artifact_name(), "artifact")
    if isinstance(spec, CompareSpec):
        raise ValueError("spec: expected train, attack or sweep, got a comparison (its artifacts are its sweeps')")
    return root / _checked_id(spec.model, "model") / "results" / _checked_id(spec.artifact_name(), "artifact")


def _checked_id(name: str, field_name: str) -> str:
    # Ids come from addresses and command lines; one that is no plain name could lead out of the store.
    if not _ID.fullmatch(name):
        raise ValueError(f"{field_name}: expected an id of letters, digits, '-', '_' and '.', got {name!r}")
    return name


def resolve(spec: Task, root: Path) -> Task:
    """The same spec with the full ids of the models that it names. Raises ValueError on an unknown one."""
    if isinstance(spec, AttackSpec | SweepSpec):
        found = {"model": open_model(spec.model, root).id, "attack": _full_surrogate(spec.attack, root)}
        return spec.model_copy(update=found)
    if isinstance(spec, UniversalSpec | PatternSpec):
        return spec.model_copy(update={"model": open_model(spec.model, root).id})
    if isinstance(spec, CompareSpec):
        models = tuple(open_model(model, root).id for model in spec.models)
        return spec.model_copy(
            update={"models": models, "attacks": tuple(_full_surrogate(method, root) for method in spec.attacks)}
        )
    return spec


def _full_surrogate(method: Method, root: Path) -> Method:
    if not method.needs_surrogate:
        return method
    return method.model_copy(update={"surrogate": open_model(getattr(method, "surrogate", ""), root).id})


# ---------------------------------------------------------------- reading


def find(spec: Task, root: Path) -> Artifact | None:
    """The artifact of `spec` with every file checked, or None. A damaged one is set aside: DamagedArtifact."""
    folder = locate(spec, root)
    if not folder.exists():
        return None
    return _or_set_aside(folder, Path(root), lambda: _verified(folder))


def open_model(model_id: str, root: Path) -> Artifact:
    """The saved model of this id, or of the only id that begins so; its card is checked, its files when they are read.

    Raises ValueError listing the ids there are, DamagedArtifact when its card cannot be trusted.
    """
    root = Path(root)
    _checked_id(model_id, "model")
    folder = root / model_id
    if (folder / CARD).is_file() and _may_be_model(folder):
        return _or_set_aside(folder, root, lambda: Artifact(folder, _read_card(folder)))
    saved = models(root)
    matches = [model for model in saved if model.id.startswith(model_id)]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(model.id for model in (matches or saved)) or "none; train one first"
    kind = "one of the ids that begin so" if matches else "the id of a saved model"
    raise ValueError(f"model: expected {kind} ({there}), got {model_id!r}")


def unfinished(spec: Task, root: Path) -> Path:
    """Where the state of a training that was stopped is kept, for it to go on from; there may be none."""
    return Path(root) / CHECKPOINTS / f"{spec.artifact_name()}.safetensors"


def models(root: Path) -> list[Artifact]:
    """Every saved model whose card can be read, newest first. Reads cards only; skips whatever is no model."""
    return _list(Path(root), "train")


def results(model_id: str, root: Path) -> list[Artifact]:
    """Every result of a model whose card and spec can be read, newest first."""
    listed = _list(Path(root) / _checked_id(model_id, "model") / "results", "attack", "sweep")
    return [result for result in listed if _is_understood(result)]


def _is_understood(artifact: Artifact) -> bool:
    """Whether this version knows what was asked for: another one may have methods and fields that it lacks."""
    try:
        artifact.spec()
    except ValueError:
        return False
    return True


def _list(folder: Path, *tasks: str) -> list[Artifact]:
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(_Damage, OSError):
                card = _read_card(Path(entry.path))
                if card["task"] in tasks:
                    found.append(Artifact(Path(entry.path), card))
    return sorted(found, key=lambda artifact: (artifact.card["created"], artifact.id), reverse=True)


def _may_be_model(folder: Path) -> bool:
    # A readable card of another format or task belongs to another version or place: not damaged, but no model of ours.
    try:
        card = files.read_json(folder / CARD)
        return bool(card["format"] == FORMAT and card["task"] == "train")
    except (ValueError, KeyError, TypeError):
        return True


def _verified(folder: Path) -> Artifact:
    card = _read_card(folder)
    for filename, expected in card["files"].items():
        _checked_bytes(folder, filename, expected)
    return Artifact(folder, card)


def _checked_bytes(folder: Path, filename: str, expected: str) -> bytes:
    try:
        data = (folder / filename).read_bytes()
    except _MISSING as error:
        raise _Damage(f"{filename} is missing") from error
    if _hash(data) != expected:
        raise _Damage(f"{filename} ({len(data)} bytes) does not match the SHA-256 in its card")
    return data


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card = files.read_json(folder / CARD)
    except _MISSING as error:
        raise _Damage(f"{CARD} is missing") from error
    except ValueError as error:
        raise _Damage(f"{CARD} is not JSON ({error})") from error
    lacks = [name for name in WRITTEN_BY_STORE if not isinstance(card, dict) or name not in card]
    if lacks:
        raise _Damage(f"{CARD} lacks {', '.join(lacks)}")
    if card["format"] != FORMAT or card["task"] not in list(TASKS):
        raise _Damage(f"{CARD} is of format {card['format']!r}, task {card['task']!r}; this version reads {FORMAT}")
    if card["sha256"] != _card_hash(card):
        raise _Damage(f"{CARD} was changed after it was written")
    # The raw JSON, not the spec it would load as: a later version may add fields with defaults, and that is no damage.
    body = {"format": FORMAT, "spec": TASKS[card["task"]].__name__, **card["spec"]}
    key = _json_hash(body)
    if key != card["key"] or not folder.name.endswith(f"-{key[:10]}"):
        raise _Damage(f"the spec in {CARD} is not the one that the folder is named after")
    return card


def _card_hash(card: dict[str, Any]) -> str:
    return _json_hash({name: value for name, value in card.items() if name != "sha256"})


def _json_hash(body: dict[str, Any]) -> str:
    return _hash(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------- damage


def _or_set_aside(folder: Path, root: Path, read: Callable[[], _T]) -> _T:
    """`read()`; when it finds damage, look again alone (it may just have been made anew), then move the folder away."""
    try:
        return read()
    except _Damage as damage:
        found = str(damage)
    again = "Ask for it again and it is made anew."
    try:
        with _hold(folder.name, root, timeout=1.0):
            try:
                return read()
            except _Damage as damage:
                found = str(damage)
            if not folder.exists():
                raise DamagedArtifact(f"{folder.name} is no longer in the store. {again}")
            where = _set_aside(folder, root, found)
    except filelock.Timeout:
        raise DamagedArtifact(f"{folder.name}: {found}. Another process is making it again; wait for it.") from None
    except OSError as error:
        raise DamagedArtifact(f"{folder.name}: {found}. It could not be set aside ({error}).") from error
    raise DamagedArtifact(f"{folder.name}: {found}. It was set aside in {where}. {again}")


def _set_aside(folder: Path, root: Path, reason: str) -> Path:
    stem = where = root / SET_ASIDE / f"{folder.name}-{datetime.now():%Y%m%d-%H%M%S}"
    where.parent.mkdir(exist_ok=True)
    number = 1
    while where.exists():
        number += 1
        where = stem.with_name(f"{stem.name}-{number}")
    folder.rename(where)
    with contextlib.suppress(OSError):
        (where / "why.txt").write_text(f"Set aside: {reason}\n", encoding="utf-8")
    return where


# ---------------------------------------------------------------- locks


@contextlib.contextmanager
def lock(spec: Task, root: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the artifact of `spec` alone, among all processes and threads; the kernel frees it on any death.

    `on_wait()` is called again and again while another holds it, and may raise to give up. A thread that holds it
    already goes straight in.
    """
    with _hold(locate(spec, root).name, Path(root), on_wait=on_wait):
        yield


@contextlib.contextmanager
def _hold(
    name: str, root: Path, *, on_wait: Callable[[], None] | None = None, timeout: float = float("inf")
) -> Iterator[None]:
    names: set[tuple[Path, str]] = _held.__dict__.setdefault("names", set())
    here = (root.resolve(), name)
    if here in names:
        yield
        return
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(root / ".locks" / f"{name}.lock")
    deadline = time.monotonic() + timeout
    while True:
        try:
            held.acquire(blocking=False)
            break
        except filelock.Timeout:
            if time.monotonic() >= deadline:
                raise
            if on_wait is not None:
                on_wait()
            time.sleep(_POLL)
    try:
        names.add(here)
        _remove_stale(name, root)
        yield
    finally:
        names.discard(here)
        held.release()


def remove_stale(root: Path) -> None:
    """Remove what killed writers left half written; what a living one writes stays."""
    for folder in (Path(root) / ".tmp").glob("*.*"):
        with contextlib.suppress(filelock.Timeout), _hold(folder.name.rpartition(".")[0], Path(root), timeout=0.0):
            pass  # taking the lock has removed it


def _remove_stale(name: str, root: Path) -> None:
    # Only the holder of the artifact's lock writes it, so whoever wrote these is dead.
    for folder in (root / ".tmp").glob(f"{name}.*"):
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- writing


def write(
    spec: Task,
    root: Path,
    *,
    card: dict[str, Any],
    arrays: dict[str, dict[str, np.ndarray]] | None = None,
    tables: dict[str, pd.DataFrame] | None = None,
) -> Artifact:
    """Write the artifact of `spec`, whole or not at all; a sound one that is there already is kept and returned.

    card: the runner's own fields, anything JSON can say; numpy numbers become numbers, NaN and infinity become null.
    arrays, tables: by file name without its ending; tables are written without their index.

    Raises ValueError on what cannot be written without pickle, or when the model of a result is not in the store;
    OSError on a full disk, and the store is as it was.
    """
    root = Path(root)
    folder = locate(spec, root)
    data = _encode(arrays or {}, tables or {})
    body = files.strict(card, "card")
    taken = [name for name in WRITTEN_BY_STORE if name in body]
    if taken:
        raise ValueError(f"card: expected the runner's own fields, got {', '.join(taken)}, which the store writes")
    body |= dump_task(spec)
    body |= {
        "format": FORMAT,
        "key": spec.key(),
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "versions": versions(),
        "files": {filename: _hash(content) for filename, content in data.items()},
    }
    body["sha256"] = _card_hash(body)
    data[CARD] = json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False).encode()
    with lock(spec, root):
        with contextlib.suppress(DamagedArtifact):
            there = find(spec, root)
            if there is not None:
                return there
        if isinstance(spec, AttackSpec | SweepSpec | UniversalSpec | PatternSpec):
            if not (root / spec.model / CARD).is_file():
                raise ValueError(f"model: expected the id of a saved model, got {spec.model!r}, which is not there")
            folder.parent.mkdir(exist_ok=True)
        files.write_folder(folder, data, root / ".tmp")
    return Artifact(folder, body)


def _encode(arrays: dict[str, dict[str, np.ndarray]], tables: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    for name in [*arrays, *tables]:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name: expected lower-case letters, digits and '_', got {name!r}")
    encoded = {f"{name}.safetensors": files.encode_arrays(group) for name, group in arrays.items()}
    return encoded | {f"{name}.parquet": files.encode_table(table) for name, table in tables.items()}


@cache
def versions() -> dict[str, str]:
    """Versions of the program and of what its numbers depend on; found without importing any of it."""
    found = {"adversarial_lab": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
