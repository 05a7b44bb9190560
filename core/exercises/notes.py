"""What leaves no artifact: items ticked by hand, answers to the questions, and the counts of the quiz.

A small JSON file in the store, written whole or not at all. It belongs to the store as results do; people who sign in
to a server have one each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.storage import files, locks

NAME, PEOPLE = "exercises.json", ".exercises"
"""The file of a store that has no people, and the folder with theirs."""
LONGEST = 20_000
"""Characters of an answer that are kept."""


def nothing() -> dict[str, Any]:
    """Notes in which nothing is noted: see `read`."""
    return {"ticked": {}, "answers": {}, "quiz": []}


def read(root: Path, person: str = "") -> dict[str, Any]:
    """`ticked` (item → True), `answers` (item → text) and `quiz` (a row for each ε); empty where nothing is noted.

    person: whose, as an id; "" for those of the store.
    """
    empty = nothing()
    try:
        found = files.read_json(_path(root, person))
    except (OSError, ValueError):
        return empty
    if not isinstance(found, dict):
        return empty
    return {name: found[name] if isinstance(found.get(name), type(value)) else value for name, value in empty.items()}


def ticked(notes: dict[str, Any], item: str, done: bool) -> dict[str, Any]:
    """The notes with an item done, or not."""
    return _with(notes, "ticked", item, done or None)


def answered(notes: dict[str, Any], item: str, text: str) -> dict[str, Any]:
    """The notes with the answer to an item's questions; an empty one is forgotten."""
    return _with(notes, "answers", item, text.strip()[:LONGEST] or None)


def quizzed(notes: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The notes with the counts of a finished quiz, in the place of the one before."""
    return {**notes, "quiz": files.to_jsonable(rows, "quiz")}


def _with(notes: dict[str, Any], part: str, item: str, value: Any) -> dict[str, Any]:
    others = {name: kept for name, kept in notes[part].items() if name != item}
    return {**notes, part: others if value is None else {**others, item: value}}


def _path(root: Path, person: str) -> Path:
    return Path(root) / PEOPLE / f"{files.checked_id(person, 'person')}.json" if person else Path(root) / NAME


def change(root: Path, made: Callable[[dict[str, Any]], dict[str, Any]], person: str = "") -> None:
    """Keep what a function makes of the notes that are kept in a store, or there for a person. Raises OSError."""
    root, path = Path(root), _path(root, person)
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    with locks.held(root / ".locks" / "exercises.lock"):
        kept = made(read(root, person))
        files.replace_file(path, json.dumps(kept, indent=1, ensure_ascii=False).encode())
