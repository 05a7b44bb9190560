"""What lies in a store and is left out of every list, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.storage import bundled, cards, readable
from core.storage.cards import Damage, OtherVersion


@dataclass(frozen=True)
class Unreadable:
    """An artifact that no list has, and why.

    Attributes:
        name: its folder's.
        model: the model's that it lies under, for a result; "" for a model.
        why: one line.
        made_by: the version of the program that made it, "" where that is not known.
        damaged: whether it does not match its card; else another version made it.
    """

    name: str
    model: str
    why: str
    made_by: str = ""
    damaged: bool = False

    def sentence(self) -> str:
        """In one line: what it is, why, and the version that made it."""
        of = f"a result on {self.model}" if self.model else "a model"
        made = f"; version {self.made_by} made it" if self.made_by else ""
        return f"{self.name}, {of}: {self.why}{made}"


def unreadable(root: Path) -> list[Unreadable]:
    """What lies in the store, or is bundled, and is left out of every list: models, then results, by name.

    Reads cards only: files that are damaged are found when they are read, or by `core.storage.verify`.
    """
    found: list[Unreadable] = []
    for place in filter(None, (Path(root), bundled.root())):
        models = cards.artifact_folders(place)
        found += [Unreadable(folder.name, "", *why) for folder in models if (why := why_not(folder))]
        for model in models:
            results = cards.artifact_folders(model / "results")
            found += [Unreadable(folder.name, model.name, *why) for folder in results if (why := why_not(folder))]
    return sorted(set(found), key=lambda one: (one.model, one.name))


def why_not(folder: Path) -> tuple[str, str, bool] | None:
    """Why an artifact cannot be read, what made it, and whether it is damaged; None where it can."""
    try:
        card = cards.read_card(folder)
    except OtherVersion as error:
        return str(error), readable.made_by(cards.raw(folder)), False
    except (Damage, OSError) as error:
        return str(error), "", True
    why = readable.reason(card)
    return (why, readable.made_by(card), False) if why else None
