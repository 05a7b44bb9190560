"""The five exercise sets, in order."""

from __future__ import annotations

from core.exercises import set1, set2, set3, set4, set5
from core.exercises.items import ExerciseSet, Item

SETS: dict[int, ExerciseSet] = {one.SET.number: one.SET for one in (set1, set2, set3, set4, set5)}
"""Every set by its number."""


def items() -> list[Item]:
    """All items of all sets, in order."""
    return [item for one in SETS.values() for item in one.items]


def item(name: str) -> Item:
    """The item of this name. Raises ValueError listing the names."""
    found = {one.name: one for one in items()}
    if name not in found:
        raise ValueError(f"item: expected one of {', '.join(found)}, got {name!r}")
    return found[name]
