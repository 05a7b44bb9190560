"""Masks: the pixels that an attack may change, as shapes that fit any image size or as cells drawn by hand.

As text: `eyeglasses`, or with settings after a colon, `patch:size=0.25,top=0,left=1`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from core.specs.base import Real, Spec, settings_in

_HIGH = "Where in the free height: 0 at the top, 1 at the bottom."
_TOP = Field(0.5, ge=0, le=1, title="Top", description=_HIGH)
_LEFT = Field(0.5, ge=0, le=1, title="Left", description="Where in the free width: 0 at the left, 1 at the right.")


class Eyeglasses(Spec):
    """The frame of a pair of glasses: two rims, bridge and temples."""

    shape: Literal["eyeglasses"] = "eyeglasses"
    size: Real = Field(1.0, ge=0.4, le=1, title="Width", description="Share of the image's shorter side.")
    top: Real = Field(0.3, ge=0, le=1, title="Top", description=_HIGH)
    left: Real = _LEFT


class Patch(Spec):
    """A square sticker."""

    shape: Literal["patch"] = "patch"
    size: Real = Field(0.3, gt=0, le=1, title="Side", description="Share of the image's shorter side.")
    top: Real = _TOP
    left: Real = _LEFT


class Cells(Spec):
    """Pixels drawn by hand, for images of one size: row after row, as hexadecimal digits of eight pixels a pair."""

    shape: Literal["cells"] = "cells"
    height: int = Field(ge=1, le=4096, title="Height", description="Pixels.")
    width: int = Field(ge=1, le=4096, title="Width", description="Pixels.")
    bits: str = Field(pattern="^[0-9a-f]+$", title="Pixels", description="1 where the attack may change the image.")

    @model_validator(mode="after")
    def _fits_the_size(self) -> Self:
        digits = 2 * -(-self.height * self.width // 8)
        if len(self.bits) != digits:
            raise ValueError(
                f"bits: expected {digits} hexadecimal digits for {self.height} x {self.width} pixels, "
                f"got {len(self.bits)}"
            )
        if int(self.bits, 16) >> (4 * digits - self.height * self.width) == 0:
            raise ValueError("bits: expected at least one pixel to change, got none")
        return self


AnyMask = Annotated[Eyeglasses | Patch | Cells, Field(discriminator="shape")]
SHAPES: dict[str, type[Eyeglasses | Patch | Cells]] = {"eyeglasses": Eyeglasses, "patch": Patch, "cells": Cells}
"""Every kind of mask by its name."""


def _mask_from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shape, _, settings = value.partition(":")
    if shape in ("none", ""):
        return None
    if shape not in SHAPES:
        raise ValueError(f"expected none or one of {', '.join(SHAPES)}")
    return {"shape": shape, **settings_in(settings)}


SomeMask = Annotated[AnyMask, BeforeValidator(_mask_from_text)]
"""A mask, also as text."""
MaskField = Annotated[AnyMask | None, BeforeValidator(_mask_from_text)]

__all__ = ["SHAPES", "AnyMask", "Cells", "Eyeglasses", "MaskField", "Patch", "SomeMask"]
