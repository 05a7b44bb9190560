"""Tasks that make one change for many images: universal, pattern."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.specs.base import Real, Spec
from core.specs.data import DataSpec
from core.specs.masks import Eyeglasses, MaskField, SomeMask
from core.specs.methods import UNIVERSAL_METHODS, UniversalField, UniversalGradient
from core.specs.methods.physical import Scenes
from core.specs.shared import BUDGET, DATA, MODEL, SEED, THRESHOLD, Eps, within_range


def _distinct_classes(value: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if value is not None and (not value or min(value) < 0 or len(set(value)) != len(value)):
        raise ValueError("expected different classes of 0 or more")
    return None if value is None else tuple(sorted(value))


def _another_class(source: tuple[int, ...] | None, target: str | int) -> None:
    if isinstance(target, int) and target < 0:
        raise ValueError(f"target: expected a class number of 0 or more, or 'any', got {target}")
    if source == (target,):
        raise ValueError(f"target: expected another class than the images', got {target}")


class UniversalSpec(Spec):
    """One perturbation made from training images of one model, and measured on test images that it never saw."""

    model: str = MODEL
    data: DataSpec | None = DATA
    method: UniversalField = Field(
        default_factory=UniversalGradient, title="Method", description="The method and its settings."
    )
    eps: Eps | None = Field(
        None, title="ε", description="Perturbation budget, in [0, 1] for linf. Not for lp, which finds the smallest."
    )
    n: int = Field(
        title="Images (n)",
        ge=1,
        description="Training images that the perturbation is made from. Empty: 1,000; 300 for uap; 20 for lp.",
    )
    held_out: int = Field(
        1000, ge=1, le=100_000, title="Held out", description="Test images that the result is measured on."
    )
    source: tuple[int, ...] | None = Field(
        None, title="Of classes", description="Only images of these classes; empty: of all."
    )
    target: Literal["any"] | int = Field(
        "any", title="Target class", description="A class number, or 'any' other class."
    )
    mask: MaskField = Field(
        None,
        title="Mask",
        description="Pixels that may change: none (all may), eyeglasses, patch, or patch:size=0.3,top=0.5,left=0.5.",
    )
    budget: int | None = BUDGET
    threshold: Real = THRESHOLD
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("budget", "data")

    @model_validator(mode="before")
    @classmethod
    def _images_of_the_method(cls, body: Any) -> Any:
        if not isinstance(body, dict) or body.get("n") is not None:
            return body
        method = body.get("method", "gradient")
        name = method.get("name") if isinstance(method, dict) else getattr(method, "name", method)
        return {**body, "n": UNIVERSAL_METHODS[name].images if name in UNIVERSAL_METHODS else 1}

    _classes = field_validator("source")(_distinct_classes)

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.method.needs_eps and self.eps is None:
            raise ValueError(f"eps: {self.method.name} needs a budget, got none")
        if not self.method.needs_eps and self.eps is not None:
            raise ValueError(
                f"eps: {self.method.name} looks for the smallest ε itself and takes no budget, got {self.eps:g}"
            )
        if self.eps is not None:
            within_range((self.eps,), self.method)
        if self.n > self.method.max_images:
            raise ValueError(f"n: expected at most {self.method.max_images} for {self.method.name}, got {self.n}")
        _another_class(self.source, self.target)
        return self

    def slug(self) -> str:
        """Such as `universal-gradient`."""
        return f"universal-{self.method.name}"


class PatternSpec(Scenes):
    """One pattern on glasses or a patch for many images, made from training images, measured on test images."""

    model: str = MODEL
    data: DataSpec | None = DATA
    mask: SomeMask = Field(
        default_factory=Eyeglasses, title="Object", description="eyeglasses, patch, or patch:size=0.3,top=0.5,left=0.5."
    )
    target: Literal["any"] | int = Field(
        "any", title="Target class", description="A class number, or 'any' other class."
    )
    source: tuple[int, ...] | None = Field(
        None, title="Of classes", description="Only images of these classes; empty: of all."
    )
    n: int = Field(
        1000, ge=1, le=100_000, title="Images (n)", description="Training images that the pattern is made from."
    )
    held_out: int = Field(
        300, ge=1, le=100_000, title="Held out", description="Test images that the result is measured on."
    )
    epochs: int = Field(5, ge=1, le=1000, title="Epochs", description="Passes over the images.")
    minibatch: int = Field(64, ge=1, le=10_000, title="Mini-batch", description="Images per step.")
    scenes: int = Field(1, ge=1, le=1000, title="Scenes", description="Random scenes per image and step.")
    lr: Real = Field(
        0.1, gt=0, le=10, title="Learning rate", description="Learning rate of Adam at the start; it falls to a tenth."
    )
    threshold: Real = THRESHOLD
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("data",)

    _classes = field_validator("source")(_distinct_classes)

    @model_validator(mode="after")
    def _target_is_another_class(self) -> Self:
        _another_class(self.source, self.target)
        return self

    def slug(self) -> str:
        """Such as `pattern-eyeglasses`."""
        return f"pattern-{self.mask.shape}"
