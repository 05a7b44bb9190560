"""What an artifact's folder holds, and whether it is what its card says. Reads and composes; writes nothing.

The card holds the SHA-256 of every file and of itself, and the spec that the folder is named after. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import time
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core import __version__
from core.specs import FORMAT, TASKS, Task, dump_task
from core.storage import files

if TYPE_CHECKING:
    import pandas as pd

CARD = "card.json"
WRITTEN_BY_STORE = ("format", "task", "spec", "key", "created", "versions", "files", "sha256")
"""Fields of a card that `compose` fills in itself."""
_KINDS: dict[str, type] = {"format": int, "task": str, "spec": dict, "key": str, "created": str, "files": dict}

_ENDS_IN_KEY = re.compile(r"-[0-9a-f]{10}$")
_NAME = re.compile(r"[a-z0-9_]{1,60}")
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # other errors say nothing about the artifact


class Damage(Exception):
    """What is wrong with a folder, before it is decided what to do about it."""


class OtherVersion(Exception):
    """Why a folder that may well be sound cannot be read by this version: nothing is to be done about it."""


# ---------------------------------------------------------------- reading


_SETTLED = 2.0  # seconds since a file's last change, after which another change surely shows in its time
_KEPT = 4096  # cards
_read: dict[Path, tuple[tuple[int, ...], dict[str, Any]]] = {}  # sound cards, and the files that they were read from


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a folder, whole and unchanged.

    Raises Damage, OtherVersion (another format, or a task that is not known here), or OSError where nothing can be
    said of it.

    It is shared by all who read it: change a copy. A file that has not changed is not read again.
    """
    try:
        stat = (folder / CARD).stat()
    except _MISSING as error:
        _read.pop(folder, None)
        raise Damage(f"{CARD} is missing") from error
    signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    known = _read.get(folder)
    if known is not None and known[0] == signature:
        return known[1]
    card = sound_card(folder, folder.name)
    if time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED:
        if len(_read) >= _KEPT:
            _read.clear()
        _read[folder] = (signature, card)
    return card


def sound_card(folder: Path, name: str) -> dict[str, Any]:
    """As `read_card`, of the artifact of this name, wherever its folder lies by now; always read."""
    try:
        card = files.read_json(folder / CARD)
    except _MISSING as error:
        raise Damage(f"{CARD} is missing") from error
    except ValueError as error:
        raise Damage(f"{CARD} is not JSON ({error})") from error
    if not isinstance(card, dict):
        raise Damage(f"{CARD} is no card")
    if isinstance(card.get("format"), int) and card["format"] != FORMAT:
        age = "an earlier version (python -m core migrate)" if card["format"] < FORMAT else "a later version"
        raise OtherVersion(f"{CARD} is of format {card['format']}, which {age} wrote; this version reads {FORMAT}")
    lacks = [name for name in WRITTEN_BY_STORE if name not in card]
    if lacks:
        raise Damage(f"{CARD} lacks {', '.join(lacks)}")
    if card["sha256"] != card_hash(card):
        raise Damage(f"{CARD} was changed after it was written")
    wrong = [name for name, kind in _KINDS.items() if not isinstance(card[name], kind)]
    if wrong:
        raise OtherVersion(f"{CARD} has another kind of {', '.join(wrong)} than this version writes")
    if card["task"] not in TASKS:
        raise OtherVersion(f"{CARD} is of the task {card['task']!r}; this version knows {', '.join(TASKS)}")
    # The raw JSON, not the spec it would load as: a later version may add fields with defaults, and that is no damage.
    body = {"format": FORMAT, "spec": TASKS[card["task"]].__name__, **card["spec"]}
    key = json_hash(body)
    if key != card["key"] or not name.endswith(f"-{key[:10]}"):
        raise Damage(f"the spec in {CARD} is not the one that the folder is named after")
    return card


def verified(folder: Path) -> dict[str, Any]:
    """The card of a folder whose every file matches it. Raises Damage, OtherVersion or OSError."""
    card = read_card(folder)
    for filename, expected in card["files"].items():
        checked_bytes(folder, filename, expected)
    return card


def checked_bytes(folder: Path, filename: str, expected: str) -> bytes:
    """The bytes of a file whose SHA-256 is `expected`, also where it lies packed (see `files.packed`).

    Raises Damage where they are not, or are missing.
    """
    try:
        data = _bytes(folder / filename)
    except _MISSING as error:
        raise Damage(f"{filename} is missing") from error
    except ValueError as error:
        raise Damage(f"{filename}{files.PACKED} is damaged ({error})") from error
    if hash_of(data) != expected:
        raise Damage(f"{filename} ({len(data)} bytes) does not match the SHA-256 in its card")
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return files.unpacked(path.with_name(f"{path.name}{files.PACKED}").read_bytes())


def raw(folder: Path) -> dict[str, Any]:
    """What a card says, of whatever version, unchecked; empty where it says nothing."""
    try:
        found = files.read_json(folder / CARD)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def artifact_folders(root: Path) -> list[Path]:
    """Every folder in `root` that is an artifact of some version, sound or not, by name: it has a card, or an id."""
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        named = (Path(entry.path) for entry in entries if files.is_id(entry.name) and entry.is_dir())
        return sorted(folder for folder in named if (folder / CARD).is_file() or _ENDS_IN_KEY.search(folder.name))
    return []


def folders(root: Path, *tasks: str) -> list[tuple[Path, dict[str, Any]]]:
    """Every folder in `root` with a sound card of one of these tasks, and the card; reads cards only."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root) as entries:
        for entry in entries:
            with contextlib.suppress(Damage, OtherVersion, OSError):
                card = read_card(Path(entry.path))
                if card["task"] in tasks:
                    found.append((Path(entry.path), card))
    return found


# ---------------------------------------------------------------- composing


def compose(
    spec: Task,
    card: dict[str, Any],
    arrays: dict[str, dict[str, np.ndarray]],
    tables: dict[str, pd.DataFrame],
    blobs: dict[str, bytes] | None = None,
    *,
    before: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The whole card of an artifact, and the bytes of its files, the card's included.

    blobs: files as they are, by their names, each with an ending that is none of the above: data, never code.
    before: the artifact's card until now, where it was made then and now has more to it: when and with what stays.

    Raises ValueError on what cannot be written without pickle, a bad name, or a field of `WRITTEN_BY_STORE` in `card`.
    """
    for name in [*arrays, *tables, *(name.partition(".")[0] for name in blobs or ())]:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name: expected lower-case letters, digits and '_', got {name!r}")
    data = {f"{name}.safetensors": files.encode_arrays(group) for name, group in arrays.items()}
    data |= {f"{name}.parquet": files.encode_table(table) for name, table in tables.items()}
    data |= blobs or {}
    body = files.to_jsonable(card, "card")
    taken = [name for name in WRITTEN_BY_STORE if name in body]
    if taken:
        raise ValueError(f"card: expected the runner's own fields, got {', '.join(taken)}, which the store writes")
    body |= dump_task(spec)
    body |= {
        "format": FORMAT,
        "key": spec.key(),
        **({name: before[name] for name in made_now()} if before else made_now()),
        "files": {filename: hash_of(content) for filename, content in data.items()},
    }
    body["sha256"] = card_hash(body)
    return body, data | {CARD: json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False).encode()}


def made_now() -> dict[str, Any]:
    """When and with what something is made that is made now."""
    return {"created": datetime.now(UTC).isoformat(timespec="microseconds"), "versions": versions()}


@cache
def versions() -> dict[str, str]:
    """Versions of the program and of what its numbers depend on; found without importing any of it."""
    found = {"adversarial_lab": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def machine() -> str:
    """The processor and how many threads it runs, in words; "" where the system does not say."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} threads" if name else ""


def card_hash(card: dict[str, Any]) -> str:
    """SHA-256 of all of a card but this hash itself."""
    return json_hash({name: value for name, value in card.items() if name != "sha256"})


def json_hash(body: dict[str, Any]) -> str:
    """SHA-256 of canonical JSON, in hexadecimal."""
    return hash_of(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def hash_of(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
