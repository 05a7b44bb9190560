"""What leaves no artifact: items ticked by hand, answers to the questions, and the counts of the quiz.

One small JSON file in the store, written whole or not at all. It belongs to the store as results do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.storage import files, locks

NAME = "exercises.json"
LONGEST = 20_000
"""Characters of an answer that are kept."""


def nothing() -> dict[str, Any]:
    """Notes in which nothing is noted: see `read`."""
    return {"ticked": {}, "answers": {}, "quiz": []}


def read(root: Path) -> dict[str, Any]:
    """`ticked` (item → True), `answers` (item → text) and `quiz` (a row for each ε); empty where nothing is noted."""
    empty = nothing()
    try:
        found = files.read_json(Path(root) / NAME)
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


def change(root: Path, made: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Keep what a function makes of the notes that are kept in a store. Raises OSError."""
    root = Path(root)
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    with locks.held(root / ".locks" / "exercises.lock"):
        kept = made(read(root))
        files.replace_file(root / NAME, json.dumps(kept, indent=1, ensure_ascii=False).encode())
