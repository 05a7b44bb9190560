"""What leaves no artifact: items ticked by hand, answers to the questions, and the counts of the quiz.

One small JSON file in the store, written whole or not at all. It belongs to the store as results do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.storage import files, locks

NAME = "exercises.json"
LONGEST = 20_000
"""Characters of an answer that are kept."""


def read(root: Path) -> dict[str, Any]:
    """`ticked` (item → True), `answers` (item → text) and `quiz` (a row for each ε); empty where nothing is noted."""
    empty: dict[str, Any] = {"ticked": {}, "answers": {}, "quiz": []}
    try:
        found = files.read_json(Path(root) / NAME)
    except (OSError, ValueError):
        return empty
    if not isinstance(found, dict):
        return empty
    return {name: found[name] if isinstance(found.get(name), type(value)) else value for name, value in empty.items()}


def tick(root: Path, item: str, done: bool) -> None:
    """Note that an item is done, or not. Raises OSError."""
    _change(root, "ticked", item, done or None)


def answer(root: Path, item: str, text: str) -> None:
    """Keep the answer to an item's questions; an empty one is forgotten. Raises OSError."""
    _change(root, "answers", item, text.strip()[:LONGEST] or None)


def quiz(root: Path, rows: list[dict[str, Any]]) -> None:
    """Keep the counts of a finished quiz, in the place of the one before. Raises OSError."""
    _change(root, "quiz", None, files.to_jsonable(rows, "quiz"))


def _change(root: Path, part: str, item: str | None, value: Any) -> None:
    root = Path(root)
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    with locks.held(root / ".locks" / "exercises.lock"):
        kept = read(root)
        if item is None:
            kept[part] = value
        elif value is None:
            kept[part].pop(item, None)
        else:
            kept[part][item] = value
        files.replace_file(root / NAME, json.dumps(kept, indent=1, ensure_ascii=False).encode())
