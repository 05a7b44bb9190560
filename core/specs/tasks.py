"""Tasks: what can be run, by a page, the command line or a job."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.specs.base import Spec
from core.specs.masks import Eyeglasses, MaskField, SomeMask
from core.specs.methods import (
    METHODS,
    UNIVERSAL_METHODS,
    Fgsm,
    Method,
    MethodField,
    MiFgsm,
    Norm,
    UniversalField,
    UniversalGradient,
)
from core.specs.methods.physical import Scenes
from core.specs.training import TrainSpec

DEFAULT_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The budgets of exercise set 5, in units of a pixel's range [0, 1]."""

Eps = Annotated[float, Field(ge=0)]
MAX_EPS: dict[str, float] = {"linf": 1.0, "l2": 100.0, "l1": 1000.0, "l0": 150_528.0}
"""Largest budget by norm: a pixel's whole range for linf; for l2 more than the diagonal of any image here, for l1 more
than any attack needs; for l0 every feature of the largest image here."""


def _within_range(eps: tuple[float, ...], method: Method) -> None:
    norm = getattr(method, "norm", method.norms[0])
    if eps and max(eps) > MAX_EPS[norm]:
        raise ValueError(f"eps: expected at most {MAX_EPS[norm]:g} for {method.slug()} in {norm}, got {max(eps):g}")


def _one_kind_of_target(method: Method, target: str | int | None) -> None:
    tried = getattr(method, "targets", 0)
    if tried and target not in ("any", None):
        raise ValueError(f"attack.targets: expected 0 towards a target class, got {tried}")


def _names_a_surrogate(method: Method) -> None:
    if method.needs_surrogate and not getattr(method, "surrogate", ""):
        raise ValueError(f"attack.surrogate: expected the id of a saved model for {method.slug()}, got nothing")


_MODEL = Field(min_length=1, title="Model", description="Id of a saved model (see `models`).")
_SEED = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Random streams are keyed by this and the image index.")
_THRESHOLD = Field(0.0, ge=-1e6, le=1e6, title="Threshold τ", description="Scalar networks: class 1 above it.")
_BUDGET = Field(
    None,
    ge=1,
    le=10_000_000,
    title="Passes",
    description="The most forward and backward passes to spend on each image. Empty: no limit.",
)


class AttackSpec(Spec):
    """Attack chosen images of one model and keep every image made."""

    model: str = _MODEL
    attack: MethodField = Field(title="Attack", description="Method and its settings.")
    eps: Eps | None = Field(
        None, title="ε", description="Budget; in [0, 1] for linf, features for l0. Only for methods that need one."
    )
    indices: tuple[int, ...] | None = Field(
        None, title="Images", description="Test images, by their `index` in tables; else the first n that qualify."
    )
    n: int = Field(100, ge=1, le=100_000, title="Images (n)", description="How many, when no indices are given.")
    source: int | None = Field(None, ge=0, title="Of class", description="Only images of this class.")
    target: Literal["any", "all"] | int = Field(
        "any",
        title="Target class",
        description="A class, 'all' (every class, one after the other), or 'any' wrong one.",
    )
    mask: MaskField = Field(
        None,
        title="Mask",
        description="Pixels that may change: none (all may), eyeglasses, patch, or patch:size=0.3,top=0.5,left=0.5.",
    )
    budget: int | None = _BUDGET
    eight_bit: bool = Field(
        False, title="8 bits", description="Every image made survives being saved with 8 bits a feature."
    )
    threshold: float = _THRESHOLD
    seed: int = _SEED

    LATER: ClassVar[tuple[str, ...]] = ("mask", "budget", "eight_bit")

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
            raise ValueError(f"eps: {self.attack.name} finds its own size and takes no budget")
        if self.attack.needs_target and self.target == "any":
            raise ValueError(f"target: {self.attack.name} needs a class or 'all'")
        if self.attack.fixed_cost and self.budget is not None:
            raise ValueError(f"budget: {self.attack.name} has a fixed cost and takes none, got {self.budget}")
        if self.eps is not None:
            _within_range((self.eps,), self.attack)
        _one_kind_of_target(self.attack, self.target)
        _names_a_surrogate(self.attack)
        return self

    def slug(self) -> str:
        """Such as `attack-fgsm`."""
        return f"attack-{self.attack.name}"


SWEEPABLE = tuple(name for name, cls in METHODS.items() if cls.needs_eps or name == "jacobian_dense")
"""Methods that give a curve over ε: those with a budget, and the formula, whose ε* is compared with it."""


def _eps_ladder(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value:
        raise ValueError("expected at least one ε")
    return tuple(sorted(set(value)))


def _sweepable(method: Method) -> Method:
    if method.slug() not in SWEEPABLE:
        raise ValueError(f"expected one of {', '.join(SWEEPABLE)} for a curve over ε")
    return method


class SweepSpec(Spec):
    """Accuracy and confidence of one model against ε, per image."""

    model: str = _MODEL
    attack: MethodField = Field(default_factory=Fgsm, title="Attack", description="Method and its settings.")
    eps: tuple[Eps, ...] = Field(DEFAULT_EPS, title="ε", description="Budgets; in [0, 1] for linf, features for l0.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    target: int | None = Field(None, ge=0, title="Target class", description="Empty: any wrong class will do.")
    threshold: float = _THRESHOLD
    seed: int = _SEED

    _ladder = field_validator("eps")(_eps_ladder)
    _method = field_validator("attack")(_sweepable)

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        _within_range(self.eps, self.attack)
        _one_kind_of_target(self.attack, self.target)
        _names_a_surrogate(self.attack)
        return self

    def slug(self) -> str:
        """Such as `sweep-fgsm`."""
        return f"sweep-{self.attack.name}"


class CompareSpec(Spec):
    """Several models under several attacks over ε: one sweep a cell."""

    models: tuple[str, ...] = Field(min_length=1, title="Models", description="Ids of saved models.")
    attacks: tuple[MethodField, ...] = Field((Fgsm(),), min_length=1, title="Attacks", description="Methods.")
    eps: tuple[Eps, ...] = Field(DEFAULT_EPS, title="ε", description="Budgets; in [0, 1] for linf, features for l0.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    target: int | None = Field(None, ge=0, title="Target class", description="Empty: any wrong class will do.")
    seed: int = _SEED

    _ladder = field_validator("eps")(_eps_ladder)

    @field_validator("attacks")
    @classmethod
    def _methods(cls, value: tuple[Method, ...]) -> tuple[Method, ...]:
        return tuple(_sweepable(method) for method in value)

    @model_validator(mode="after")
    def _fits_every_method(self) -> Self:
        for method in self.attacks:
            _within_range(self.eps, method)
            _one_kind_of_target(method, self.target)
            _names_a_surrogate(method)
        return self

    def sweeps(self) -> list[SweepSpec]:
        """The cells: one sweep for each model and attack."""
        return [
            SweepSpec(model=model, attack=attack, eps=self.eps, n=self.n, target=self.target, seed=self.seed)
            for model in self.models
            for attack in self.attacks
        ]

    def slug(self) -> str:
        """Always `compare`."""
        return "compare"


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

    model: str = _MODEL
    method: UniversalField = Field(
        default_factory=UniversalGradient, title="Method", description="How it is made, and its settings."
    )
    eps: Eps | None = Field(None, title="ε", description="Budget; in [0, 1] for linf. Not for lp, which finds it.")
    n: int = Field(
        title="Images (n)",
        ge=1,
        description="Made from the first n training images that qualify. Empty: 1,000; uap 300; lp 20.",
    )
    held_out: int = Field(
        1000, ge=1, le=100_000, title="Held out", description="Measured on the first so many test images that qualify."
    )
    source: tuple[int, ...] | None = Field(
        None, title="Of classes", description="Only images of these classes; empty: of all."
    )
    target: Literal["any"] | int = Field("any", title="Target class", description="A class, or 'any' wrong one.")
    mask: MaskField = Field(
        None,
        title="Mask",
        description="Pixels that may change: none (all may), eyeglasses, patch, or patch:size=0.3,top=0.5,left=0.5.",
    )
    budget: int | None = _BUDGET
    threshold: float = _THRESHOLD
    seed: int = _SEED

    LATER: ClassVar[tuple[str, ...]] = ("budget",)

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
            raise ValueError(f"eps: {self.method.name} finds its own size and takes no budget, got {self.eps:g}")
        if self.eps is not None:
            _within_range((self.eps,), self.method)
        if self.n > self.method.most_images:
            raise ValueError(f"n: expected at most {self.method.most_images} for {self.method.name}, got {self.n}")
        _another_class(self.source, self.target)
        return self

    def slug(self) -> str:
        """Such as `universal-gradient`."""
        return f"universal-{self.method.name}"


class PatternSpec(Scenes):
    """One pattern on glasses or a patch for many images, made from training images, measured on test images."""

    model: str = _MODEL
    mask: SomeMask = Field(
        default_factory=Eyeglasses, title="Object", description="eyeglasses, patch, or patch:size=0.3,top=0.5,left=0.5."
    )
    target: Literal["any"] | int = Field("any", title="Target class", description="A class, or 'any' wrong one.")
    source: tuple[int, ...] | None = Field(
        None, title="Of classes", description="Only images of these classes; empty: of all."
    )
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="Made from the first n that qualify.")
    held_out: int = Field(
        300, ge=1, le=100_000, title="Held out", description="Measured on the first so many test images that qualify."
    )
    epochs: int = Field(5, ge=1, le=1000, title="Epochs", description="Times that each image is seen.")
    minibatch: int = Field(64, ge=1, le=10_000, title="Mini-batch", description="Images a step.")
    scenes: int = Field(1, ge=1, le=1000, title="Scenes", description="In which each image is seen in a step.")
    lr: float = Field(0.1, gt=0, le=10, title="Learning rate", description="Adam's first; falls to a tenth.")
    threshold: float = _THRESHOLD
    seed: int = _SEED

    _classes = field_validator("source")(_distinct_classes)

    @model_validator(mode="after")
    def _target_is_another_class(self) -> Self:
        _another_class(self.source, self.target)
        return self

    def slug(self) -> str:
        """Such as `pattern-eyeglasses`."""
        return f"pattern-{self.mask.shape}"


class RadiiSpec(Spec):
    """The smallest perturbation of each of the first n test images: what a curve over any ε is looked up in.

    Nothing is drawn at random, so there is no seed.
    """

    model: str = _MODEL
    norm: Norm = Field("linf", title="Norm", description="What is to be small; l0 counts features.")
    budget: int = Field(200, ge=50, le=1_000_000, title="Passes", description="The most passes spent on each image.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    threshold: float = _THRESHOLD

    def slug(self) -> str:
        """Such as `radii-linf`."""
        return f"radii-{self.norm}"


class TransferSpec(Spec):
    """Images made on each of several models, shown to all of them: who fools whom."""

    models: tuple[str, ...] = Field(min_length=2, title="Models", description="Ids of saved models of the same data.")
    attack: MethodField = Field(default_factory=MiFgsm, title="Attack", description="Made on each model; its settings.")
    eps: Eps | None = Field(None, title="ε", description="Budget; in [0, 1] for linf. Only for methods that need one.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    early_stop: bool = Field(
        False,
        title="Stop when fooled",
        description="Stop at the first image that fools its surrogate; off: all steps, which transfers better.",
    )
    seed: int = _SEED

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
            raise ValueError(f"eps: {self.attack.name} finds its own size and takes no budget, got {self.eps:g}")
        if self.eps is not None:
            _within_range((self.eps,), self.attack)
        return self

    @property
    def model(self) -> str:
        """The first of the models: the matrix lies in the store with it."""
        return self.models[0]

    def slug(self) -> str:
        """Such as `transfer-mifgsm`."""
        return f"transfer-{self.attack.name}"


class EvaluateSpec(Spec):
    """What is left of a model's accuracy inside a ball, by the strongest evaluation, per image."""

    model: str = _MODEL
    norm: Norm = Field("linf", title="Norm", description="Shape of the ball; l0 counts features.")
    eps: Eps = Field(title="ε", description="Size of the ball; in [0, 1] for linf, features for l0.")
    effort: Literal["quick", "standard", "at_least_autoattack"] = Field(
        "standard", title="Effort", description="How much is tried on each image that stands."
    )
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    threshold: float = _THRESHOLD
    seed: int = _SEED

    @model_validator(mode="after")
    def _within_the_norm(self) -> Self:
        if self.eps > MAX_EPS[self.norm]:
            raise ValueError(f"eps: expected at most {MAX_EPS[self.norm]:g} in {self.norm}, got {self.eps:g}")
        return self

    def slug(self) -> str:
        """Such as `evaluate-linf`."""
        return f"evaluate-{self.norm}"


class CertifySpec(Spec):
    """Which of the first n test images no perturbation of a ball can fool: a proof for each, by one method."""

    model: str = _MODEL
    method: Literal["ibp", "crown_ibp", "crown", "alpha_crown", "exact", "smoothing"] = Field(
        "alpha_crown",
        title="Method",
        description="Bounds, from the quickest to the tightest; exact decides; smoothing: a vote on noisy copies.",
    )
    norm: Literal["linf", "l2", "l1"] = Field("linf", title="Norm", description="Of the ball; smoothing: l2.")
    eps: Eps | None = Field(None, title="ε", description="Radius; in [0, 1] for linf. Not for smoothing.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    time_limit: float = Field(
        30.0, gt=0, le=86_400, title="Time limit", description="Seconds an image for exact; then it stays unknown."
    )
    sigma: float = Field(0.25, gt=0, le=10, title="σ", description="Smoothing: the noise, in units of a pixel's range.")
    draws: int = Field(100_000, ge=10, le=10_000_000, title="Draws", description="Smoothing: noisy copies an image.")
    alpha: float = Field(0.001, gt=0, lt=1, title="α", description="Smoothing: the chance that a certificate is wrong.")
    threshold: float = _THRESHOLD
    seed: int = _SEED

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.method == "smoothing":
            if self.norm != "l2":
                raise ValueError(f"norm: expected l2 for smoothing, which certifies no other, got {self.norm}")
            if self.eps is not None:
                raise ValueError(f"eps: smoothing finds each image's radius and takes none, got {self.eps:g}")
        elif self.eps is None:
            raise ValueError(f"eps: {self.method} needs a radius, got none")
        elif self.eps > MAX_EPS[self.norm]:
            raise ValueError(f"eps: expected at most {MAX_EPS[self.norm]:g} in {self.norm}, got {self.eps:g}")
        return self

    def slug(self) -> str:
        """Such as `certify-exact`."""
        return f"certify-{self.method}"


ModelTask = AttackSpec | SweepSpec | UniversalSpec | PatternSpec | RadiiSpec | TransferSpec | EvaluateSpec | CertifySpec
"""What is asked of one saved model, and lies in the store with it."""
Task = TrainSpec | CompareSpec | ModelTask
TASKS: dict[str, type[Task]] = {
    "train": TrainSpec,
    "attack": AttackSpec,
    "sweep": SweepSpec,
    "compare": CompareSpec,
    "universal": UniversalSpec,
    "pattern": PatternSpec,
    "radii": RadiiSpec,
    "transfer": TransferSpec,
    "evaluate": EvaluateSpec,
    "certify": CertifySpec,
}
"""What can be run, by the name of its command."""


def task_name(spec: Spec) -> str:
    """The command that runs `spec`."""
    return next(name for name, cls in TASKS.items() if isinstance(spec, cls))


def dump_task(spec: Task) -> dict[str, Any]:
    """`{"task": name, "spec": {...}}`, ready for JSON."""
    return {"task": task_name(spec), "spec": spec.body()}


def load_task(body: dict[str, Any]) -> Task:
    """The inverse of `dump_task`. Raises ValueError on an unknown task or a refused field."""
    if body.get("task") not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {body.get('task')!r}")
    return TASKS[body["task"]].model_validate(body["spec"])
