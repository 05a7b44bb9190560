"""Keys never change: what any version stored is found by its request of today. See `tests.fixtures.requests.make`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from core import paths
from core.specs import load_task
from core.specs.base import Spec
from core.storage import cards
from tests.fixtures.artifacts import STORE
from tests.fixtures.requests import make

LINES = make.earlier("")
CLASSES = make.classes()
FIELDS = [line for line in LINES if "fields" in line]
"""The fields of each class in every version where they changed, and the defaults of those in `LATER`."""
REQUESTS = [line for line in LINES if "key" in line]


def forgotten(cls: type[Spec], released: list[str], later: dict[str, Any]) -> list[str]:
    """What would change keys, or the meaning of keys, of a class that was released with these fields."""
    found = [f"{name} is gone" for name in released if name not in cls.model_fields]
    for name, info in cls.model_fields.items():
        if name not in released and name not in cls.LATER:
            found.append(f"{name} is new and not in LATER")
        elif name not in released and info.is_required():
            found.append(f"{name} is new and has no default")
        if name in later and make._json(info.get_default()) != later[name]:
            found.append(f"{name} has another default than {later[name]!r}, which stored requests mean")
    return found


@pytest.mark.parametrize("name", sorted({line["class"] for line in REQUESTS}))
def test_every_stored_request_has_its_key(name: str) -> None:
    """It is read, its key is the one that it was stored under, and it is written as it was."""
    for line in REQUESTS:
        if line["class"] == name:
            spec = CLASSES[name].model_validate(line["body"])
            assert spec.key() == line["key"], line
            assert spec.body() == line["body"]


@pytest.mark.parametrize("line", FIELDS, ids=lambda line: line["class"])
def test_no_field_was_forgotten(line: dict[str, Any]) -> None:
    """A field that a class did not have when it was released is in its `LATER`, and no field is gone.

    Where this fails, put the new field into `LATER` of its class: it is left out of keys at its default then.
    """
    assert forgotten(CLASSES[line["class"]], line["fields"], line["later"]) == []


def test_every_class_is_watched() -> None:
    """A new class, or a field that came since, is in the fixtures.

    Where this fails, run `python -m tests.fixtures.requests.make unreleased`.
    """
    assert [line for line in make.lines() if "fields" in line and line not in FIELDS] == []


class Released(Spec):
    """A class as it was released."""

    steps: int = 10


class Forgot(Spec):
    """The same with a field that changes every key."""

    steps: int = 10
    draws: int = 1


class Remembered(Spec):
    """The same with a field that does not."""

    steps: int = 10
    draws: int = 1
    LATER: ClassVar[tuple[str, ...]] = ("draws",)


class Required(Spec):
    """The same with one that stored requests do not have."""

    steps: int = 10
    draws: int = Field(ge=1)
    LATER: ClassVar[tuple[str, ...]] = ("draws",)


class Renamed(Spec):
    """The same under another name."""

    iterations: int = 10


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Released, []),
        (Forgot, ["draws is new and not in LATER"]),
        (Remembered, []),
        (Required, ["draws is new and has no default"]),
        (Renamed, ["steps is gone", "iterations is new and not in LATER"]),
    ],
)
def test_the_watch_sees_what_is_forgotten(cls: type[Spec], says: list[str]) -> None:
    """Each way to change old keys is told; a field in `LATER` changes none."""
    assert forgotten(cls, ["steps"], {}) == says
    assert (not says) == (cls is Released or (Remembered().body() == Released().body() and cls is Remembered))
    assert forgotten(Remembered, ["steps", "draws"], {"draws": 2}) == [
        "draws has another default than 2, which stored requests mean"
    ]


def test_every_card_at_hand_has_its_key() -> None:
    """Of what earlier code left, and of all that is bundled."""
    bundled = paths.bundled_models()
    assert bundled is not None
    found = [path for root in (STORE, Path(bundled)) for path in root.rglob(cards.CARD)]
    assert len(found) > 100
    for path in found:
        card = cards.raw(path.parent)
        spec = load_task(card)
        assert (spec.key(), spec.body()) == (card["key"], card["spec"]), path.parent.name
        assert path.parent.name == spec.artifact_name()
