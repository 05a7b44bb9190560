"""The bundled reference models and results on them: a second root of the store, which only reads it.

    root()/<model>/card.json, weights.safetensors, test.parquet, measurements.parquet
    root()/<model>/results/<result>/card.json, *.safetensors.zst, *.parquet.zst

A model or a result in the store with the same key comes first. `core.models.reference` says which models these are,
`core.models.bundled_results` which results. A result's card says under `bundled` of which weights it is (SHA-256 by
model), and how many of its images are kept where a table has more (`images_kept`): theirs are the numbers in `index`.
Its other files lie packed; a card names them and their SHA-256 as they are unpacked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from core import paths
from core.storage import cards, files, locks


def root() -> Path | None:
    """The folder of the bundled models; `ADVERSARIAL_LAB_REFERENCE` names another, or, empty, none."""
    named = os.environ.get("ADVERSARIAL_LAB_REFERENCE")
    if named is not None:
        return Path(named) if named else None
    return paths.bundled_models()


def folder(model_id: str) -> Path | None:
    """The folder of a bundled model; None where there is none of this id."""
    where = root()
    return where / model_id if where is not None and (where / model_id / cards.CARD).is_file() else None


def results(model_id: str) -> Path | None:
    """The folder of the results that are bundled with a model; None where there are none."""
    where = folder(model_id)
    return where / "results" if where is not None and (where / "results").is_dir() else None


def weights_of(card: dict[str, Any]) -> str | None:
    """The SHA-256 of a saved model's weights, from its card: what tells it from another of the same key."""
    found: str | None = card["files"].get("weights.safetensors")
    return found


def is_of_models_here(card: dict[str, Any], store_root: Path) -> bool:
    """Whether the models here are those that a bundled result was made on: one that was trained here has others."""
    made_on: dict[str, str] = card.get("bundled", {}).get("weights", {})
    for model_id, weights in made_on.items():
        own = store_root / model_id / cards.CARD
        where = own.parent if own.is_file() else folder(model_id)
        try:
            model = None if where is None else cards.read_card(where)
        except (cards.Damage, cards.OtherVersion):
            model = None
        if model is None or weights_of(model) != weights:
            return False
    return bool(made_on)


def is_inside(path: Path) -> bool:
    """Whether a folder is that of a bundled model or result."""
    where = root()
    return where is not None and where.resolve() in path.resolve().parents


def is_copy(card: dict[str, Any]) -> bool:
    """Whether a card is that of a bundled model, wherever it lies: not of one that was trained here."""
    return "reference" in card


def name_of(card: dict[str, Any]) -> str | None:
    """The name of the reference model that a card is of; None for a model that was trained here."""
    return card.get("reference", {}).get("name")


def adopt(model_id: str, store_root: Path) -> None:
    """Copy a bundled model into the store, checked, whole or not at all: results on it lie under it there.

    Does nothing where a model of this id is there, or none is bundled. Raises Damage or OSError.
    """
    source = folder(model_id)
    if source is None or (store_root / model_id / cards.CARD).is_file():
        return
    card = cards.verified(source)
    data = {name: cards.checked_bytes(source, name, expected) for name, expected in card["files"].items()}
    data[cards.CARD] = (source / cards.CARD).read_bytes()
    temporary = store_root / ".tmp" / "adopted"  # of its own: who holds a model's lock clears the rest
    (store_root / ".locks").mkdir(parents=True, exist_ok=True)
    with locks.held(store_root / ".locks" / "adopt.lock"):
        shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
        if not (store_root / model_id / cards.CARD).is_file():
            files.write_folder(store_root / model_id, data, temporary)


def check_replaceable() -> Path:
    """The folder in which a bundled model can be replaced.

    Raises ValueError where `ADVERSARIAL_LAB_REFERENCE` is empty, so that there are no bundled models, and in an
    installed package, whose files are not to be changed, unless that variable names a folder.
    """
    where = root()
    if where is None:
        raise ValueError(
            "ADVERSARIAL_LAB_REFERENCE: expected a folder, got an empty name, which means no bundled models"
        )
    if where == paths.bundled_models() and not paths.in_clone():
        raise ValueError(
            "make: the bundled models of an installed package are not replaced; use a clone of the repository, or set "
            "ADVERSARIAL_LAB_REFERENCE to a folder of your own"
        )
    return where


def replace(model_id: str, data: dict[str, bytes]) -> Path:
    """Bundle a model, in the place of the one before; `data` is its files by name. Returns its folder.

    Results that were bundled with it stay where its weights are the same, to the last bit; else they go.

    The new one is whole on disk before the old one is touched; a kill between the two renames leaves both in `.tmp`,
    which nobody else clears. Several processes may do so at once.

    Raises ValueError where there is no such folder (see `check_replaceable`), or OSError.
    """
    where = check_replaceable()
    (where / ".tmp").mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{model_id}.", dir=where / ".tmp"))
    target, new, before = where / model_id, temporary / "new", temporary / "before"
    files.write_folder(new, data, temporary)
    with locks.held(where / ".tmp" / "replace.lock"):
        if target.exists():
            if (target / "results").is_dir() and _same_weights(model_id, target, new):
                shutil.copytree(target / "results", new / "results")
            files.move(target, before)
        try:
            files.move(new, target)
        except OSError:
            if before.exists():
                files.move(before, target)
            raise
    shutil.rmtree(temporary)
    return target


def _same_weights(model_id: str, one: Path, other: Path) -> bool:
    try:
        first, second = (weights_of(cards.sound_card(folder, model_id)) for folder in (one, other))
    except (cards.Damage, cards.OtherVersion):
        return False
    return first is not None and first == second


def add_result(model_id: str, name: str, card: bytes, data: dict[str, bytes]) -> Path:
    """Bundle a result with a bundled model, packed, in the place of the one before; returns its folder.

    card, data: the bytes of its card, and of its other files by name.

    Raises ValueError where there is no such folder or model (see `check_replaceable`), or OSError.
    """
    where = check_replaceable()
    if folder(model_id) is None:
        raise ValueError(f"model: expected a bundled one, got {model_id!r}")
    there = where / model_id / "results"
    there.mkdir(exist_ok=True)
    small = {f"{file}{files.PACKED}": files.packed(content) for file, content in data.items()} | {cards.CARD: card}
    shutil.rmtree(there / name, ignore_errors=True)
    files.write_folder(there / name, small, where / ".tmp")
    return there / name


def drop_result(where: Path) -> None:
    """Remove a bundled result. Raises OSError."""
    shutil.rmtree(where)
