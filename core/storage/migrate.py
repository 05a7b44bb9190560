"""Rewrites artifacts of earlier formats to today's. What was there is set aside, never deleted. Imports no torch.

`STEPS` says how a card of one format becomes one of the next. The format is part of every key, and an id ends in its
key: a model that is rewritten has another id, and so have its results, whose requests name it.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.specs import FORMAT, TASKS
from core.storage import cards, damage, files, locks, readable

Json = dict[str, Any]
STEPS: dict[int, Callable[[Json], Json]] = {}
"""From a format to the one after it: a card of the first as one of the second. There has been one format so far."""


@dataclass(frozen=True)
class Change:
    """What is to become of one artifact.

    Attributes:
        folder: where it lies.
        model: the id of the model that it is a result on; "" for a model.
        before: its format.
        card: the new card; None where it cannot be made.
        name: the new folder's name; "" where there is none.
        said: what changes, or why nothing can be done, in one line.
    """

    folder: Path
    model: str
    before: int
    card: Json | None
    name: str
    said: str


def plan(root: Path, steps: Mapping[int, Callable[[Json], Json]] | None = None) -> list[Change]:
    """What `migrate` would do, an entry for every artifact of an earlier format; models before their results."""
    steps = STEPS if steps is None else steps
    found: list[Change] = []
    names: dict[str, str] = {}
    models = cards.artifact_folders(Path(root))
    for folder in models:
        if (before := _earlier(folder)) is not None:
            found.append(_change(folder, "", before, names, steps))
            names[folder.name] = found[-1].name
    for model in models:
        for folder in damage.results_in(model):
            if (before := _earlier(folder)) is not None:
                found.append(_change(folder, model.name, before, names, steps))
    return found


def migrate(root: Path, steps: Mapping[int, Callable[[Json], Json]] | None = None) -> list[Change]:
    """Rewrite every artifact of an earlier format that can be; returns what `plan` said.

    A model and its results become new folders in one step; the old one is set aside. A result under a model of today's
    format is rewritten alone.

    Raises:
        OSError: the store cannot be written to; what was not rewritten yet is as it was.
    """
    root, changes = Path(root), plan(root, steps)
    renamed = {change.folder.name for change in changes if change.name and not change.model}
    for change in changes:
        if change.name and change.model not in renamed:
            inside = [one for one in changes if one.name and not change.model and one.model == change.folder.name]
            with locks.hold(change.folder.name, root):
                _rewrite(change, inside, root)
    return changes


def _rewrite(change: Change, results: list[Change], root: Path) -> None:
    half = root / ".tmp" / f"{change.folder.name}.{secrets.token_hex(4)}"
    shutil.copytree(change.folder, half)
    for one in results:
        files.move(half / "results" / one.folder.name, half / "results" / one.name)
        _write_card(half / "results" / one.name, one.card)
    _write_card(half, change.card)
    files.move(half, change.folder.with_name(change.name))
    damage.set_aside(
        change.folder, root, f"it is of format {change.before}; rewritten, it is {change.name}", replaced=True
    )


def _write_card(folder: Path, card: Json | None) -> None:
    files.replace_file(folder / cards.CARD, json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False).encode())


def _earlier(folder: Path) -> int | None:
    """The format of an artifact that is of an earlier one; None for others."""
    found = cards.raw(folder).get("format")
    return found if isinstance(found, int) and not isinstance(found, bool) and found < FORMAT else None


def _change(
    folder: Path, model: str, before: int, names: Mapping[str, str], steps: Mapping[int, Callable[[Json], Json]]
) -> Change:
    card = cards.raw(folder)
    try:
        new = _stepped(card, before, names, steps)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Change(folder, model, before, None, "", f"cannot be rewritten: {error}")
    name = f"{folder.name.rpartition('-')[0]}-{new['key'][:10]}"
    if why := readable.reason(new):
        return Change(folder, model, before, None, "", f"cannot be rewritten: {why}")
    if folder.with_name(name).exists():
        return Change(folder, model, before, None, "", f"cannot be rewritten: {name} is there already")
    changed = sorted(
        part for part in {*card, *new} if card.get(part) != new.get(part) and part not in ("key", "sha256")
    )
    return Change(folder, model, before, new, name, f"becomes {name}; other fields of its card: {', '.join(changed)}")


def _stepped(card: Json, before: int, names: Mapping[str, str], steps: Mapping[int, Callable[[Json], Json]]) -> Json:
    """The card in today's format, with its new key. Raises ValueError on a missing step or a damaged card."""
    if card.get("sha256") != cards.card_hash(card):
        raise ValueError(f"{cards.CARD} was changed after it was written")
    new = deepcopy(card)
    for step in range(before, FORMAT):
        if step not in steps:
            raise ValueError(f"this version knows no way from format {step} to {step + 1}")
        new = steps[step](new)
    new["spec"] = _renamed(new["spec"], names)
    new["format"] = FORMAT
    new["key"] = cards.json_hash({"format": FORMAT, "spec": TASKS[new["task"]].__name__, **new["spec"]})
    new["sha256"] = cards.card_hash(new)
    return new


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same with the new ids of models in place of the old ones. Raises ValueError on one that has none."""
    if isinstance(value, dict):
        return {name: _renamed(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, str):
        return value
    if names.get(value) == "":
        raise ValueError(f"its model {value} cannot be")
    return names.get(value, value)
