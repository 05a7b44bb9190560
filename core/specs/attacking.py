"""Tasks that attack image by image: attack, sweep, compare, transfer."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.specs.base import Real, Spec
from core.specs.data import DataSpec
from core.specs.masks import MaskField
from core.specs.methods import METHODS, Fgsm, Method, MethodField, MiFgsm
from core.specs.shared import (
    BUDGET,
    DATA,
    DEFAULT_EPS,
    MODEL,
    SEED,
    THRESHOLD,
    Eps,
    names_a_surrogate,
    one_kind_of_target,
    within_range,
)


class AttackSpec(Spec):
    """Attack chosen images of one model and keep every image made."""

    model: str = MODEL
    data: DataSpec | None = DATA
    attack: MethodField = Field(title="Attack", description="The attack method and its settings.")
    eps: Eps | None = Field(
        None,
        title="ε",
        description="Perturbation budget: in [0, 1] for linf, a number of features for l0. Only for methods that "
        "need one.",
    )
    indices: tuple[int, ...] | None = Field(
        None, title="Images", description="Test images by their `index` in the tables. Empty: the first n that qualify."
    )
    n: int = Field(
        100, ge=1, le=100_000, title="Images (n)", description="Number of images, where no indices are given."
    )
    source: int | None = Field(None, ge=0, title="Of class", description="Only images of this class.")
    target: Literal["any", "all"] | int = Field(
        "any",
        title="Target class",
        description="A class number, 'all' (every class in turn), or 'any' other class.",
    )
    mask: MaskField = Field(
        None,
        title="Mask",
        description="Pixels that may change: none (all may), eyeglasses, patch, or patch:size=0.3,top=0.5,left=0.5.",
    )
    budget: int | None = BUDGET
    eight_bit: bool = Field(
        False,
        title="8 bits",
        description="Round adversarial examples to 8 bits per feature, so that they can be saved as ordinary images.",
    )
    threshold: Real = THRESHOLD
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("mask", "budget", "eight_bit", "data")

    @field_validator("indices")
    @classmethod
    def _some_indices(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not value:
            raise ValueError("expected at least one image")
        if value is not None and (min(value) < 0 or len(set(value)) != len(value)):
            raise ValueError("expected different indices of 0 or more")
        return value

    @field_validator("target")
    @classmethod
    def _target_not_negative(cls, value: str | int) -> str | int:
        if isinstance(value, int) and value < 0:
            raise ValueError("expected a class number of 0 or more, 'any' or 'all'")
        return value

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.attack.needs_eps and self.eps is None:
            raise ValueError(f"eps: {self.attack.name} needs a budget")
        if not self.attack.needs_eps and self.eps is not None:
            raise ValueError(f"eps: {self.attack.name} looks for the smallest ε itself and takes no budget")
        if self.attack.needs_target and self.target == "any":
            raise ValueError(f"target: {self.attack.name} needs a class or 'all'")
        if self.attack.fixed_cost and self.budget is not None:
            raise ValueError(f"budget: {self.attack.name} has a fixed cost and takes none, got {self.budget}")
        if self.eps is not None:
            within_range((self.eps,), self.attack)
        one_kind_of_target(self.attack, self.target)
        names_a_surrogate(self.attack)
        return self

    def slug(self) -> str:
        """Such as `attack-fgsm`."""
        return f"attack-{self.attack.name}"


def sweepable() -> list[str]:
    """Names of the methods that give a curve over ε: those with a budget, and those that compute the ε that fools."""
    return [name for name, cls in METHODS.items() if cls.needs_eps or cls.finds_eps]


def _eps_ladder(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value:
        raise ValueError("expected at least one ε")
    return tuple(sorted(set(value)))


def _sweepable(method: Method) -> Method:
    if not (method.needs_eps or method.finds_eps):
        raise ValueError(f"expected one of {', '.join(sweepable())} for a curve over ε")
    return method


class SweepSpec(Spec):
    """Accuracy and confidence of one model against ε, per image."""

    model: str = MODEL
    data: DataSpec | None = DATA
    attack: MethodField = Field(default_factory=Fgsm, title="Attack", description="The attack method and its settings.")
    eps: tuple[Eps, ...] = Field(
        DEFAULT_EPS, title="ε", description="Perturbation budgets: in [0, 1] for linf, a number of features for l0."
    )
    n: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Images (n)",
        description="Number of test images: the first n in a fixed random order.",
    )
    target: int | None = Field(
        None, ge=0, title="Target class", description="Target class of every image. Empty: any other class."
    )
    threshold: Real = THRESHOLD
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("data",)

    _ladder = field_validator("eps")(_eps_ladder)
    _method = field_validator("attack")(_sweepable)

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        within_range(self.eps, self.attack)
        one_kind_of_target(self.attack, self.target)
        names_a_surrogate(self.attack)
        return self

    def slug(self) -> str:
        """Such as `sweep-fgsm`."""
        return f"sweep-{self.attack.name}"


class CompareSpec(Spec):
    """Several models under several attacks over ε: one sweep a cell."""

    models: tuple[str, ...] = Field(min_length=1, title="Models", description="Ids of saved models.")
    data: DataSpec | None = DATA
    attacks: tuple[MethodField, ...] = Field(
        (Fgsm(),), min_length=1, title="Attacks", description="The attack methods and their settings."
    )
    eps: tuple[Eps, ...] = Field(
        DEFAULT_EPS, title="ε", description="Perturbation budgets: in [0, 1] for linf, a number of features for l0."
    )
    n: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Images (n)",
        description="Number of test images: the first n in a fixed random order.",
    )
    target: int | None = Field(
        None, ge=0, title="Target class", description="Target class of every image. Empty: any other class."
    )
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("data",)

    _ladder = field_validator("eps")(_eps_ladder)

    @field_validator("attacks")
    @classmethod
    def _methods(cls, value: tuple[Method, ...]) -> tuple[Method, ...]:
        return tuple(_sweepable(method) for method in value)

    @model_validator(mode="after")
    def _fits_every_method(self) -> Self:
        for method in self.attacks:
            within_range(self.eps, method)
            one_kind_of_target(method, self.target)
            names_a_surrogate(method)
        return self

    def sweeps(self) -> list[SweepSpec]:
        """The cells: one sweep for each model and attack."""
        return [
            SweepSpec(
                model=model, data=self.data, attack=attack, eps=self.eps, n=self.n, target=self.target, seed=self.seed
            )
            for model in self.models
            for attack in self.attacks
        ]

    def slug(self) -> str:
        """Always `compare`."""
        return "compare"


class TransferSpec(Spec):
    """Images made on each of several models, shown to all of them: who fools whom."""

    models: tuple[str, ...] = Field(min_length=2, title="Models", description="Ids of saved models of the same data.")
    data: DataSpec | None = DATA
    attack: MethodField = Field(
        default_factory=MiFgsm, title="Attack", description="The attack that is run on each model, and its settings."
    )
    eps: Eps | None = Field(
        None, title="ε", description="Perturbation budget, in [0, 1] for linf. Only for methods that need one."
    )
    n: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Images (n)",
        description="Number of test images: the first n in a fixed random order.",
    )
    early_stop: bool = Field(
        False,
        title="Stop when fooled",
        description="Stop as soon as the surrogate is fooled. Off: take all steps, which transfers better.",
    )
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("data",)

    @field_validator("models")
    @classmethod
    def _in_one_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("expected different models")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.attack.needs_surrogate or self.attack.needs_target:
            raise ValueError(f"attack: expected one that needs no surrogate and no target, got {self.attack.name}")
        if self.attack.needs_eps and self.eps is None:
            raise ValueError(f"eps: {self.attack.name} needs a budget, got none")
        if not self.attack.needs_eps and self.eps is not None:
            raise ValueError(
                f"eps: {self.attack.name} looks for the smallest ε itself and takes no budget, got {self.eps:g}"
            )
        if self.eps is not None:
            within_range((self.eps,), self.attack)
        return self

    @property
    def model(self) -> str:
        """The first of the models: the matrix lies in the store with it."""
        return self.models[0]

    def slug(self) -> str:
        """Such as `transfer-mifgsm`."""
        return f"transfer-{self.attack.name}"
