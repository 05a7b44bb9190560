"""What every spec is: frozen, validated, hashable, JSON both ways; and how a refusal is put in words."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError, core_schema

from core import epsilon

C = TypeVar("C", bound="type[Spec]")

LARGEST = (1 << 53) - 1
"""Largest whole number of a field: JSON, as browsers read it, holds it exactly."""
FORMAT = 1
"""Version of the artifact format; part of every key."""
AS_WRITTEN = BeforeValidator(epsilon.parse)
"""Last in `Annotated`: a number also as people write it, `8/255`, `0,031`. In a key it is the number alone."""
Real = Annotated[float, AS_WRITTEN]
MaybeReal = Annotated[float | None, AS_WRITTEN]
"""Numbers as people write them."""


class Spec(BaseModel):
    """Base of every description: frozen, no unknown fields, no NaN or infinity, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    LATER: ClassVar[tuple[str, ...]] = ()
    """Fields that came after the first artifacts were made: left out of the key at their default, so that what was made
    before is still found."""

    @field_validator("*")
    @classmethod
    def _can_be_stored(cls, value: Any) -> Any:
        """No whole number that JSON, a table or a tensor cannot hold, where a field has no bound of its own."""
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int) and abs(one) > LARGEST:
                raise ValueError(f"expected a whole number of at most {LARGEST:,}")
        return value

    def body(self) -> dict[str, Any]:
        """The fields, ready for JSON: what cards hold and keys are made from."""
        old = {name for name in self.LATER if getattr(self, name) == type(self).model_fields[name].get_default()}
        plain = self.model_dump(mode="json", exclude=old)
        return {name: _plain(getattr(self, name), value) for name, value in plain.items()}

    def canonical(self) -> str:
        """The spec as JSON with sorted keys: equal specs give equal text on every machine."""
        body = {"format": FORMAT, "spec": type(self).__name__, **self.body()}
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def slug(self) -> str:
        """A readable name, for folders; not unique without the key."""
        raise NotImplementedError(f"{type(self).__name__} names no artifact")

    def artifact_name(self) -> str:
        """Folder name of the artifact: slug, cut to a folder name's length, and ten hexadecimal digits of the key."""
        return f"{self.slug()[:80]}-{self.key()[:10]}"


def _plain(value: Any, dumped: Any) -> Any:
    """A field ready for JSON; specs inside it answer for themselves, by their own `LATER`."""
    if isinstance(value, Spec):
        return value.body()
    if isinstance(value, tuple):
        return [_plain(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped


def enter(registry: dict[str, Any], name: str, entry: Any) -> None:
    """Put an entry into a registry. Raises ValueError if the name is taken."""
    if name in registry:
        raise ValueError(f"name: expected one that is not taken, got {name!r}")
    registry[name] = entry


def found_at(where: str, field: str, owner: str) -> Callable[..., Any]:
    """Import the function that an entry of a registry names, such as "core.networks.plain:lenet".

    Raises:
        ValueError: there is none; the message names the `field` that says where, and its `owner`.
    """
    try:
        found: Callable[..., Any] = pkgutil.resolve_name(where)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(
            f"{field}: expected where a function of {owner} is, such as 'package.module:function', got {where!r} "
            f"({error})"
        ) from error
    return found


def register_in(choices: dict[str, Any]) -> Callable[[C], C]:
    """A class decorator that puts a spec into a registry, under the default of its field `name`.

    Raises:
        ValueError: the class has no field `name` with a default, or another class has that name.
    """

    def register(cls: C) -> C:
        spec: type[Spec] = cls
        field = spec.model_fields.get("name")
        name = field.default if field else None
        if not isinstance(name, str):
            raise ValueError(f"name: expected a field with a default such as 'pgd' on {cls.__name__}, got {name!r}")
        enter(choices, name, cls)
        return cls

    return register


class OneOf:
    """Says of a field, in `Annotated`, that its value is one of those in a registry, looked up when it is validated.

    On `str` the value is a name: a key of the registry, or one of `more`. On a spec class it is a registered spec:
    given as an instance, as a dict with the key `name`, or as a name alone, which stands for that spec's defaults.
    Forms and the command line take a field's choices from here, through `choices_of`.
    """

    def __init__(self, registry: Mapping[str, Any], *more: str) -> None:
        self.registry, self.more = registry, more

    def choices(self) -> list[str]:
        """The names, in the order of registration."""
        return [*self.registry, *self.more]

    def __get_pydantic_core_schema__(self, source: Any, _: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._name if source is str else self._spec)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, _: GetJsonSchemaHandler) -> dict[str, Any]:
        name = {"type": "string", "enum": self.choices()}
        is_name = schema.get("function", {}).get("function") == self._name
        return name if is_name else {"anyOf": [name, {"type": "object"}]}

    def _name(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices():
            *others, last = [repr(name) for name in self.choices()]
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return value

    def _spec(self, value: Any) -> Any:
        if isinstance(value, str):
            if value not in self.registry:
                raise ValueError(f"expected one of {', '.join(self.registry)}")
            value = {"name": value}
        return _union(tuple(self.registry.values())).validate_python(value)


@lru_cache(maxsize=32)
def _union(classes: tuple[type[Spec], ...]) -> TypeAdapter[Any]:
    """What tells these specs apart by their names."""
    if len(classes) == 1:
        return TypeAdapter(classes[0])
    anyone: Any = Union[classes]  # noqa: UP007  # of a tuple
    return TypeAdapter(Annotated[anyone, Field(discriminator="name")])


def settings_in(text: str) -> dict[str, str]:
    """`norm=l2,steps=100` as names and values; a comma inside a value (`size=0,3`) is one of that value."""
    found: dict[str, str] = {}
    name = ""
    for piece in filter(None, text.split(",")):
        field, sign, value = piece.partition("=")
        if sign or not name:
            name, found[field.strip()] = field.strip(), value.strip()
        else:
            found[name] += f",{piece.strip()}"
    return found


def choices_of(info: FieldInfo) -> list[str] | None:
    """The names that a field takes, if it is `OneOf` a registry; None for any other field."""
    return next((mark.choices() for mark in info.metadata if isinstance(mark, OneOf)), None)


_PLAIN = {
    "missing": "expected a value",
    "union_tag_not_found": "expected a dictionary with the key 'name', a name, or a spec of the right kind",
    "finite_number": "expected a finite number",
    "float_parsing": "expected a number",
    "int_parsing": "expected a whole number",
}
"""Pydantic's kinds of error that its own words leave unclear."""


def explain(error: ValidationError) -> str:
    """One line per refused field: its name, what was expected, what came."""
    lines = []
    found = error.errors(include_url=False)
    refused = {item["loc"] for item in found}
    for item in found:
        inside = any(loc[: len(item["loc"])] == item["loc"] for loc in refused - {item["loc"]})
        if item["type"] == "too_short" and inside:
            continue  # short of what is refused itself
        where = ".".join(str(part) for part in item["loc"]) or "spec"
        got = "nothing" if item["type"] == "missing" else repr(item["input"])
        if len(got) > 120:
            got = got[:117] + "..."
        what = item["msg"].removeprefix("Value error, ")
        what = re.sub(r"^Input should be", "expected", what)
        what = _PLAIN.get(item["type"], what)
        if item["type"] == "union_tag_invalid":
            what = f"expected one of {item['ctx']['expected_tags']}".replace("'", "")
        # a check of the whole spec names its field, and what came, itself
        lines.append(what if where == "spec" and ", got " in what else f"{where}: {what}, got {got}")
    return "\n".join(lines)
