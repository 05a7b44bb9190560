"""Every artifact against the hashes in its card: what is damaged, and what cannot be read. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.storage import bundled, cards, damage, readable


@dataclass(frozen=True)
class Looked:
    """One artifact that was looked at.

    Attributes:
        folder: where it lies.
        model: the id of the model that it is a result on; "" for a model.
        files: how many files were read, its card among them.
        damaged: a line for each thing that does not match the card.
        unreadable: why this version cannot read it, if it cannot; that is no damage.
        bundled: whether it comes with the program.
    """

    folder: Path
    model: str
    files: int
    damaged: tuple[str, ...] = ()
    unreadable: str = ""
    bundled: bool = False


def every(root: Path, on_look: Callable[[str], None] = lambda name: None) -> list[Looked]:
    """Look at every artifact in a store, then at what is bundled: cards, and each file's SHA-256.

    on_look: called with the name of each before it is read.
    """
    found = []
    for folder, model in [*_places(Path(root)), *_places(bundled.root())]:
        on_look(folder.name)
        found.append(one(folder, model))
    return found


def one(folder: Path, model: str = "") -> Looked:
    """Look at one artifact."""
    inside = bundled.is_inside(folder)
    try:
        card = cards.read_card(folder)
    except cards.OtherVersion as error:
        return Looked(folder, model, 1, (), str(error), inside)
    except (cards.Damage, OSError) as error:
        return Looked(folder, model, 1, (str(error),), "", inside)
    wrong = []
    for name, expected in card["files"].items():
        try:
            cards.checked_bytes(folder, name, expected)
        except (cards.Damage, OSError) as error:
            wrong.append(str(error))
    return Looked(folder, model, 1 + len(card["files"]), tuple(wrong), readable.reason(card), inside)


def _places(root: Path | None) -> Iterator[tuple[Path, str]]:
    """Every artifact's folder below a root, a model's before those of its results, with the model's id or ""."""
    for folder in () if root is None else cards.artifact_folders(root):
        yield folder, ""
        for result in damage.results_in(folder):
            yield result, folder.name
