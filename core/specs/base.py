"""What every spec is: frozen, validated, hashable, JSON both ways; and how a refusal is put in words."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

FORMAT = 1
"""Version of the artifact format; part of every key."""


class Spec(BaseModel):
    """Base of every description: frozen, no unknown fields, no NaN or infinity, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    LATER: ClassVar[tuple[str, ...]] = ()
    """Fields that came after the first artifacts were made: left out of the key at their default, so that what was made
    before is still found."""

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


def named(choices: Mapping[str, type[Spec]]) -> BeforeValidator:
    """Let a field that is one of several specs be given by the name of one, with that spec's defaults."""

    def from_name(value: Any) -> Any:
        if isinstance(value, str):
            if value not in choices:
                raise ValueError(f"expected one of {', '.join(choices)}")
            return {"name": value}
        return value

    return BeforeValidator(from_name)


_PLAIN = {
    "missing": "expected a value",
    "finite_number": "expected a finite number",
    "float_parsing": "expected a number",
    "int_parsing": "expected a whole number",
}
"""Pydantic's kinds of error that its own words leave unclear."""


def explain(error: ValidationError) -> str:
    """One line per refused field: its name, what was expected, what came."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "spec"
        got = "nothing" if item["type"] == "missing" else repr(item["input"])
        if len(got) > 120:
            got = got[:117] + "..."
        what = item["msg"].removeprefix("Value error, ")
        what = re.sub(r"^Input should be", "expected", what)
        what = _PLAIN.get(item["type"], what)
        # a check of the whole spec names its field, and what came, itself
        lines.append(what if where == "spec" and ", got " in what else f"{where}: {what}, got {got}")
    return "\n".join(lines)
