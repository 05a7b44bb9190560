"""Puts back what was set aside, as far as each part has the hash that its card names.

A part may come from the folder that was set aside, from another one of the same artifact, from what is bundled, or from
a backup. Nothing is taken that does not match; what is not needed for that stays where it is.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.storage import bundled, cards, damage, files, locks, verify

Json = dict[str, Any]
Rebuild = Callable[[Json, dict[str, bytes]], dict[str, bytes]]
"""From a model's card and the files of it that are whole to the ones that are not, made again; raises what it likes."""


@dataclass(frozen=True)
class Restored:
    """What became of one artifact.

    Attributes:
        name: its id.
        model: the id of the model that it is a result on; "" for a model.
        outcome: whether it is back in the store, stays aside since another has its place, or has lost a part.
        said: how, or why, in one line.
    """

    name: str
    model: str
    outcome: Literal["back", "aside", "lost"]
    said: str


def restore(root: Path, backups: Sequence[Path] = (), rebuild: Rebuild | None = None) -> list[Restored]:
    """Put back what is set aside, and what is damaged where it lies; models first, then results.

    Args:
        root: the store's folder.
        backups: copies of stores, whose files are taken where they match.
        rebuild: makes what is missing of a model again from the rest, where that can be done.

    Raises:
        OSError: the store cannot be written to.
    """
    root = Path(root)
    said: list[Restored] = []
    for looked in verify.every(root):
        if looked.damaged and not looked.bundled and not looked.unreadable:
            with contextlib.suppress(FileNotFoundError), locks.hold(looked.folder.name, root):
                damage.set_aside(looked.folder, root, "; ".join(looked.damaged))
    asides = [folder for folder in damage.aside(root) if not damage.is_replaced(folder)]
    models = {folder: damage.model_of(folder) for folder in asides}
    for folder in (folder for folder, model in models.items() if model == ""):
        said += _model(folder, root, backups, rebuild)
    for folder, model in models.items():
        if model:
            said.append(_result(folder, model, root, backups))
        elif model is None:
            why = f"not restored: neither {damage.WHY} nor its card says what it was. It stays in {folder}."
            said.append(Restored(damage.id_of(folder), "", "lost", why))
    said += _inside(root, backups)
    return said


def _model(folder: Path, root: Path, backups: Sequence[Path], rebuild: Rebuild | None) -> Iterator[Restored]:
    """One model that was set aside, and the results that went with it."""
    name, place = damage.id_of(folder), root / damage.id_of(folder)
    with locks.hold(name, root):
        if not folder.exists():
            return
        results = len(damage.results_in(folder))
        if not place.exists():
            card, data, lost = _whole(name, [folder, *_others(name, root), *_copies(name, "", backups)])
            if card is not None and lost and rebuild is not None and not (set(lost) & set(damage.BODIES)):
                card, data, lost = _rebuilt(card, data, lost, rebuild)
            if card is None or lost:
                yield Restored(name, "", "lost", f"not restored: {'; '.join(lost.values())}. It stays in {folder}.")
                return
            files.write_folder(place, data | {cards.CARD: _bytes_of(card)}, root / ".tmp")
            yield Restored(name, "", "back", _how(card))
        back = damage.bring_results_back(place, root)
        if back:
            yield Restored(name, "", "back", f"results that came back: {back}")
        elif results:
            known = damage.weights_in(folder)
            why = "the model there has other weights" if known else "of which weights its results are is not known"
            yield Restored(name, "", "aside", f"{why}; results that stay in {folder}: {results}")
        _forget(folder, place)


def _result(folder: Path, model: str, root: Path, backups: Sequence[Path]) -> Restored:
    """One result that was set aside alone, and the id of its model."""
    name = damage.id_of(folder)
    place = root / model / "results" / name
    with locks.hold(name, root):
        if place.exists():
            if not verify.one(place, model).damaged:
                _forget(folder, place)
                return Restored(name, model, "back", "is in the store, whole")
            return Restored(name, model, "aside", f"not restored: another one is in its place. It stays in {folder}.")
        if text := _other_weights(folder, model, root):
            return Restored(name, model, "aside", f"not restored: {text}. It stays in {folder}.")
        card, data, lost = _whole(name, [folder, *_others(name, root), *_copies(name, model, backups)])
        if card is None or lost:
            again = "Ask for it again, and it is made again."
            return Restored(name, model, "lost", f"not restored: {'; '.join(lost.values())}. {again}")
        _put(place, card, data, root)
        _forget(folder, place)
    return Restored(name, model, "back", _how(card))


def _inside(root: Path, backups: Sequence[Path]) -> list[Restored]:
    """Results that came back with their models and are damaged themselves: whole again where a copy is."""
    said = []
    for looked in verify.every(root):
        if looked.damaged and looked.model and not looked.bundled and not looked.unreadable:
            with locks.hold(looked.folder.name, root):
                aside = damage.set_aside(looked.folder, root, "; ".join(looked.damaged))
                said.append(_result(aside, looked.model, root, backups))
    return said


def _put(place: Path, card: Json, data: dict[str, bytes], root: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    files.write_folder(place, data | {cards.CARD: _bytes_of(card)}, root / ".tmp")


def _whole(name: str, places: Sequence[Path]) -> tuple[Json | None, dict[str, bytes], dict[str, str]]:
    """The first card of an artifact that is sound, its files from wherever they match, and what is not found and why.

    Of several cards that are sound the one with the fewest files lost.
    """
    best: tuple[Json | None, dict[str, bytes], dict[str, str]] = (None, {}, {cards.CARD: "no sound card of it is left"})
    for place in places:
        try:
            card = cards.sound_card(place, name)
        except (cards.Damage, cards.OtherVersion, OSError) as error:
            if best[0] is None and place == places[0]:
                best = (None, {}, {cards.CARD: str(error)})
            continue
        data, lost = {}, {}
        for file, expected in card["files"].items():
            for other in places:
                with contextlib.suppress(cards.Damage, OSError):
                    data[file] = cards.checked_bytes(other, file, expected)
                    break
            else:
                lost[file] = f"no copy of {file} has the SHA-256 in its card"
        if best[0] is None or len(lost) < len(best[2]):
            best = (card, data, lost)
        if not lost:
            break
    return best


def _rebuilt(
    card: Json, data: dict[str, bytes], lost: dict[str, str], rebuild: Rebuild
) -> tuple[Json, dict[str, bytes], dict[str, str]]:
    """With what was lost made again; the card says what, where it is not the same to the last bit."""
    try:
        made = rebuild(card, data)
    except Exception as error:  # whatever is missing for it: it is said, and the model stays set aside
        return card, data, {**lost, "": f"it could not be made again ({str(error) or type(error).__name__})"}
    left = {file: why for file, why in lost.items() if file not in made}
    other = {file: card["files"][file] for file in lost if file in made}
    other = {file: was for file, was in other.items() if cards.hash_of(made[file]) != was}
    if other:
        hashes = {file: cards.hash_of(made[file]) for file in other}
        card = {**card, "files": {**card["files"], **hashes}, "remade": {**card.get("remade", {}), **other}}
        card["sha256"] = cards.card_hash(card)
    return card, data | {file: made[file] for file in lost if file in made}, left


def _others(name: str, root: Path) -> list[Path]:
    """Other places in a store's folder of what was set aside where parts of an artifact may lie."""
    asides = damage.aside(root)
    nested = [result for folder in asides for result in damage.results_in(folder) if result.name == name]
    return [folder for folder in asides if damage.id_of(folder) == name] + nested


def _copies(name: str, model: str, backups: Sequence[Path]) -> list[Path]:
    """Where a backup, or what is bundled, has an artifact of this name."""
    roots = [*map(Path, backups), *filter(None, [bundled.root()])]
    return [root / model / "results" / name if model else root / name for root in roots]


def _other_weights(folder: Path, model: str, root: Path) -> str:
    """Why a result is not of the model that is there: none is, or one with other weights than it was made on."""
    with contextlib.suppress(cards.Damage, cards.OtherVersion):
        bundled.adopt(model, root)
    there = root / model
    if not (there / cards.CARD).is_file():
        return f"its model {model} is not in the store"
    since = [
        one for one in damage.aside(root) if damage.id_of(one) == model and damage.stamp(one) >= damage.stamp(folder)
    ]
    if since and damage.weights_in(since[-1]) != damage.weights_in(there):
        return f"{model} was made again since, with other weights"
    return ""


def _bytes_of(card: Json) -> bytes:
    return json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _how(card: Json) -> str:
    if remade := card.get("remade"):
        return f"restored; {', '.join(remade)} was made again and is not the same to the last bit"
    return "restored, every file as its card says"


def _forget(folder: Path, place: Path) -> None:
    """Remove what was set aside where the store has every file of it, the same to the last byte."""
    if not place.exists():
        return
    for path in folder.rglob("*"):
        if path.is_file() and path.name != damage.WHY:
            twin = place / path.relative_to(folder)
            if not twin.is_file() or twin.read_bytes() != path.read_bytes():
                return
    shutil.rmtree(folder)
