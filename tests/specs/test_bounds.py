"""Every bound that a spec declares is kept: below it, above it, no number and a choice that does not exist are refused.

The bounds are read from the specs, so that a new setting is tested without another line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from core import specs

EXAMPLES: list[specs.Spec] = [
    *(method() for method in (*specs.METHODS.values(), *specs.UNIVERSAL_METHODS.values())),
    *(recipe() for recipe in specs.RECIPES.values()),
    *(specs.Eyeglasses(), specs.Patch(), specs.Cells(height=2, width=2, bits="f0")),
    specs.DataSpec(),
    specs.TrainSpec(),
    specs.AttackSpec(model="m", attack="pgd", eps=0.1),
    specs.SweepSpec(model="m"),
    specs.CompareSpec(models=("m",)),
    specs.TransferSpec(models=("a", "b"), eps=0.1),
    specs.UniversalSpec(model="m", eps=0.1),
    specs.PatternSpec(model="m"),
    specs.RadiiSpec(model="m"),
    specs.EvaluateSpec(model="m", eps=0.1),
    specs.CertifySpec(model="m", eps=0.1),
    specs.ImportSpec(label="m", route="onnx", digest="0" * 64, mean=(0.5,), std=(0.5,)),
    specs.Framing(),
]
"""A valid spec of every kind."""


def kinds_of(schema: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """The plain types that a field's JSON schema allows, and whether in a list."""
    for kind in schema.get("anyOf", [schema]):
        if "items" in kind:
            yield from ((inner, True) for inner, _ in kinds_of(kind["items"]))
        else:
            yield kind, False


def beyond(kind: dict[str, Any]) -> Iterator[Any]:
    """Values just outside what a plain type allows."""
    if "minimum" in kind:
        yield kind["minimum"] - 1
    if "exclusiveMinimum" in kind:
        yield kind["exclusiveMinimum"]
    if "maximum" in kind:
        yield kind["maximum"] + 1
    if "exclusiveMaximum" in kind:
        yield kind["exclusiveMaximum"]
    if kind.get("type") in ("integer", "number"):
        yield from (float("nan"), float("inf"), float("-inf"), 10**400)
        yield from ("nan", "inf", "1e400", "9" * 5000, "x", "", "8/0", [1], {"a": 1}, b"\xff")
    if kind.get("type") == "integer":
        yield from (1.5, "1.5")
    if "enum" in kind:
        yield "bogus"


def cases(spec: specs.Spec) -> Iterator[tuple[str, Any]]:
    """Every field of a spec with a value beyond its bounds."""
    for field, schema in type(spec).model_json_schema()["properties"].items():
        for kind, listed in kinds_of(schema):
            for value in beyond(kind):
                yield field, [value] if listed else value


@pytest.mark.parametrize("spec", EXAMPLES, ids=lambda spec: type(spec).__name__)
def test_a_value_beyond_its_bounds_is_refused_by_the_fields_name(spec: specs.Spec) -> None:
    """The field is named, and what came."""
    for field, value in cases(spec):
        with pytest.raises(ValidationError) as caught:
            type(spec)(**(spec.model_dump() | {field: value}))
        named = any(error["loc"] and str(error["loc"][0]) == field for error in caught.value.errors())
        assert named or specs.explain(caught.value).startswith(f"{field}: "), (field, value)
        assert specs.explain(caught.value).startswith(field)


def test_every_kind_of_spec_has_an_example() -> None:
    """A new one is tested as the others are, once it stands above."""

    def below(kind: type[specs.Spec]) -> Iterator[type[specs.Spec]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    ready = {kind for kind in below(specs.Spec) if kind.__module__.startswith("core.") and not kind.__subclasses__()}
    assert {kind.__name__ for kind in ready} - {type(example).__name__ for example in EXAMPLES} == set()


def test_every_setting_that_is_a_number_has_a_least_value() -> None:
    """Else nothing above would test it."""
    kinds = [*specs.METHODS.values(), *specs.UNIVERSAL_METHODS.values(), *specs.RECIPES.values(), specs.TrainSpec]
    open_ended = [
        f"{kind.__name__}.{field}"
        for kind in kinds
        for field, schema in kind.model_json_schema()["properties"].items()
        for plain, _ in kinds_of(schema)
        if plain.get("type") in ("integer", "number") and not {"minimum", "exclusiveMinimum"} & plain.keys()
    ]
    assert open_ended == []
