"""Whether this version can read an artifact: its spec, and what pages and commands need of its card. Imports no torch.

An artifact of another version may have a field more or less, a network or recipe that is not known here, or a value
that is out of range by now. That is no damage: it is left where it lies, and lists go on without it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, ValidationError

from core.specs import DATASETS, METHODS, NETWORKS, RECIPES, UNIVERSAL_METHODS, explain, load_task

Json = dict[str, Any]
_REGISTRIES: tuple[dict[str, Any], ...] = (DATASETS, METHODS, NETWORKS, RECIPES, UNIVERSAL_METHODS)


class _Accuracy(BaseModel):
    test_accuracy: float
    test_low: float
    test_high: float
    test_n: int


class _Size(BaseModel):
    parameters: int


class _Time(BaseModel):
    seconds: float


class _Model(BaseModel):
    class_names: tuple[str, ...] = Field(min_length=2)
    shape: tuple[int, int, int]
    metrics: _Accuracy
    data: Json


class _Trained(_Model):
    network: _Size
    timing: _Time
    history: tuple[Json, ...]
    device: str


class _Imported(_Model):
    network: _Size
    framing: Json
    found: tuple[Json, ...]


class _Rows(BaseModel):
    rows: tuple[Json, ...]


class _Metrics(BaseModel):
    metrics: Json


NEEDS: dict[str, type[BaseModel]] = {
    "train": _Trained,
    "import": _Imported,
    "sweep": _Rows,
    "transfer": _Rows,
    **dict.fromkeys(("attack", "universal", "pattern", "radii", "evaluate", "certify"), _Metrics),
}
"""What pages and commands need of a card, by its task; every card that was ever released has it."""


_KEPT = 4096
_read: set[tuple[Any, ...]] = set()  # cards that can be read, by their hashes, with what was registered then


def reason(card: Json) -> str:
    """Why this version cannot read an artifact with a sound card, as one line; "" where it can."""
    known = (card["sha256"], *(len(registry) for registry in _REGISTRIES))
    if known in _read:
        return ""
    why = _reason(card)
    if not why:
        if len(_read) >= _KEPT:
            _read.clear()
        _read.add(known)
    return why


def _reason(card: Json) -> str:
    try:
        load_task(card)
    except ValidationError as error:
        return f"its request has {_line(error)}"
    except (ValueError, TypeError) as error:
        return f"its request cannot be read: {error}"
    try:
        NEEDS[card["task"]].model_validate(card)
    except ValidationError as error:
        return f"its card has {_line(error)}"
    return ""


def made_by(card: Json) -> str:
    """The version of the program that a card says it was made by; "" where it does not say."""
    versions = card.get("versions")
    found = versions.get("adversarial_lab") if isinstance(versions, dict) else None
    return found if isinstance(found, str) else ""


def _line(error: ValidationError) -> str:
    return "; ".join(explain(error).splitlines())
