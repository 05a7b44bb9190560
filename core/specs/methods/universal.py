"""One perturbation for many images: what makes it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.specs.base import OneOf, Real, register_in
from core.specs.methods.base import Method, Norm


class UniversalMethod(Method):
    """Base of the methods that make one perturbation for many images."""

    images: ClassVar[int] = 1000
    """Images that a perturbation is made from, unless told otherwise."""
    max_images: ClassVar[int] = 100_000


UNIVERSAL_METHODS: dict[str, type[UniversalMethod]] = {}
"""Every way to a universal perturbation by its name."""
register_universal = register_in(UNIVERSAL_METHODS)
"""Class decorator: puts a method into `UNIVERSAL_METHODS`. Raises ValueError if the name is taken."""


@register_universal
class UniversalGradient(UniversalMethod):
    """Settings of mini-batch steps on one shared perturbation."""

    title: ClassVar[str] = "Universal, gradient steps"
    help: ClassVar[str] = (
        "Mini-batch gradient steps on one shared perturbation. Images that are fooled clearly add nothing."
    )
    paper: ClassVar[str] = "Shafahi et al. 2020, arXiv 1811.11304"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    function: ClassVar[str] = "core.attacks.universal.universal:universal_gradient"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["gradient"] = "gradient"
    norm: Literal["linf", "l2", "l1"] = Field(
        "linf",
        title="Norm",
        description="Norm in which ε limits the perturbation, before images are clipped to [0, 1].",
    )
    epochs: int = Field(10, ge=1, le=1000, title="Epochs", description="Passes over the images.")
    minibatch: int = Field(64, ge=1, le=10_000, title="Mini-batch", description="Images per step.")
    kappa: Real = Field(
        5.0,
        ge=0,
        le=1000,
        title="Margin κ",
        description="Logit margin beyond which a fooled image adds nothing to the step.",
    )
    validation: Real = Field(
        0.2,
        ge=0,
        le=0.9,
        title="Validation part",
        description="Share of the images that is used only to choose the best epoch.",
    )


@register_universal
class Uap(UniversalMethod):
    """Settings of the classical universal adversarial perturbation."""

    title: ClassVar[str] = "UAP"
    help: ClassVar[str] = (
        "Goes through the images: adds what DeepFool needs at each perturbed image, and projects the sum onto the "
        "ε-ball."
    )
    paper: ClassVar[str] = "Moosavi-Dezfooli et al. 2017, arXiv 1610.08401, algorithm 1"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.universal.universal:uap"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    images: ClassVar[int] = 300
    name: Literal["uap"] = "uap"
    norm: Literal["linf", "l2"] = Field(
        "linf",
        title="Norm",
        description="Norm in which ε limits the perturbation, before images are clipped to [0, 1].",
    )
    epochs: int = Field(2, ge=1, le=100, title="Epochs", description="Passes over the images at most.")
    rate: Real = Field(1.0, gt=0, le=1, title="Stop at", description="Stop once this share of the images is fooled.")
    steps: int = Field(20, ge=1, le=1000, title="DeepFool steps", description="Steps of DeepFool per image at most.")
    together: int = Field(
        16,
        ge=1,
        le=1000,
        title="Together",
        description="Images for which DeepFool starts from the same perturbation. 1 is the paper's; more is faster.",
    )


@register_universal
class UniversalLp(UniversalMethod):
    """Settings of the linear programme."""

    title: ClassVar[str] = "Linear programme"
    help: ClassVar[str] = (
        "The smallest ε for a whole set of images, with a lower bound, and which images contradict each other if there "
        "is none."
    )
    paper: ClassVar[str] = "Linear programming duality; the set S of exercise set 2"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    function: ClassVar[str] = "core.attacks.universal.universal_lp:universal_lp"
    images: ClassVar[int] = 20
    max_images: ClassVar[int] = 200
    name: Literal["lp"] = "lp"
    boxed: bool = Field(
        True, title="Valid images", description="Keep image plus perturbation in [0, 1] without clipping."
    )
    clipped: bool = Field(
        True,
        title="Try clipping",
        description="Where no perturbation fools all images, look for one whose images are clipped to [0, 1].",
    )
    kappa: Real = Field(
        0.01, ge=0, le=1000, title="Margin κ", description="Logit margin by which each image must be fooled."
    )
    rounds: int = Field(
        30,
        ge=1,
        le=1000,
        title="Programmes",
        description="Linear programmes at most, each set up at the last solution.",
    )


UniversalField = Annotated[UniversalMethod, OneOf(UNIVERSAL_METHODS)]
"""A registered method; or its name, with its defaults."""
