"""Attacks that try everything there is to try."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.methods.base import Method, Norm, register


@register
class Exhaustive(Method):
    """Settings of the enumeration of changes of one feature and of two."""

    title: ClassVar[str] = "Exhaustive"
    help: ClassVar[str] = (
        "Tries every change of one feature (a pixel, or one colour of it) to every grey level, then every pair of "
        "features set to 0 or 1."
    )
    paper: ClassVar[str] = "Enumeration; by rank-one updates where the first layer is linear"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.exhaustive:exhaustive"
    fixed_cost: ClassVar[bool] = True
    name: Literal["exhaustive"] = "exhaustive"
    pixels: int = Field(
        1,
        ge=1,
        le=2,
        title="Features at once",
        description="1: single features only. 2: also pairs, for images that no single change fools.",
    )
    levels: int = Field(
        256, ge=2, le=65_536, title="Levels", description="Values tried for each feature. 256 are all grey levels."
    )
    pairs: int | None = Field(
        None, ge=1, title="Pairs", description="Pairs tried at most, the most promising first. Empty: all of them."
    )
