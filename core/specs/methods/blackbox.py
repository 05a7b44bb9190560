"""Attacks that only ask the model for its answers, or are made on another model."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from core.specs.base import MaybeReal, Real
from core.specs.methods.base import Method, Norm, register


@register
class Square(Method):
    """Settings of the Square attack."""

    title: ClassVar[str] = "Square"
    help: ClassVar[str] = (
        "Tries random squares of full contrast and keeps those that help. It uses no gradient, so gradient masking "
        "does not stop it."
    )
    paper: ClassVar[str] = "Andriushchenko et al. 2020, arXiv 1912.00049"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.black_box.square:square"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["square"] = "square"
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Norm in which ε limits the perturbation.")
    queries: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        title="Queries",
        description="Model evaluations per image at most. More queries find more adversarial examples.",
    )
    area: Real = Field(
        0.8,
        gt=0,
        le=1,
        title="First area",
        description="Share of the image that the first squares cover; later squares are smaller.",
    )


@register
class SimBa(Method):
    """Settings of SimBA."""

    title: ClassVar[str] = "SimBA"
    help: ClassVar[str] = (
        "Changes one pixel, or one cosine, at a time and keeps the change where the model becomes less confident."
    )
    paper: ClassVar[str] = "Guo et al. 2019, arXiv 1905.07121"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.black_box.simba:simba"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["simba"] = "simba"
    norm: Literal["linf", "l2"] = Field("l2", title="Norm", description="Norm in which ε limits the perturbation.")
    basis: Literal["pixel", "dct"] = Field(
        "pixel",
        title="Basis",
        description="What is changed: single pixels, which work better in ℓ∞, or cosines (DCT), which work better in "
        "ℓ2.",
    )
    queries: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        title="Queries",
        description="Model evaluations per image at most. More queries find more adversarial examples.",
    )
    relative_step: MaybeReal = Field(
        None,
        gt=0,
        le=2,
        title="Step / ε",
        description="Length of each step as a share of ε. Empty: a good value for the norm and the basis.",
    )
    frequencies: Real = Field(
        0.5,
        gt=0,
        le=1,
        title="Frequencies",
        description="Share of the lowest frequencies along each side that are used. Only for the DCT basis.",
    )


@register
class HopSkipJump(Method):
    """Settings of HopSkipJump."""

    title: ClassVar[str] = "HopSkipJump"
    help: ClassVar[str] = (
        "Needs only the predicted class. It estimates the direction of the decision boundary from random probes, "
        "then jumps."
    )
    paper: ClassVar[str] = "Chen, Jordan, Wainwright 2020, arXiv 1904.02144"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.black_box.hop_skip_jump:hop_skip_jump"
    takes_start: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["hop_skip_jump"] = "hop_skip_jump"
    norm: Literal["linf", "l2"] = Field("l2", title="Norm", description="Norm in which the perturbation is made small.")
    queries: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        title="Queries",
        description="Model evaluations per image at most. More queries find more adversarial examples.",
    )
    probes: int = Field(
        100,
        ge=1,
        le=10_000,
        title="First probes",
        description="Model evaluations for the first estimate of the boundary's direction; later estimates use more.",
    )


@register
class Transfer(Method):
    """Settings of the attack from a surrogate."""

    title: ClassVar[str] = "Transfer"
    help: ClassVar[str] = (
        "Attacks another model, with momentum, diverse inputs and smoothed gradients; the model under attack is "
        "queried once."
    )
    paper: ClassVar[str] = "MI, DI, TI: arXiv 1710.06081, 1803.06978, 1904.02884"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.fixed_budget.transfer:transfer"
    needs_eps: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["transfer"] = "transfer"
    surrogate: str = Field(
        "", title="Surrogate", description="Id of the saved model whose gradients the attack follows."
    )
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Norm in which ε limits the perturbation.")
    steps: int = Field(
        20,
        ge=1,
        le=10_000,
        title="Steps",
        description="Gradient steps. All are taken, also once an image is misclassified.",
    )
    relative_step: Real = Field(0.1, gt=0, le=2, title="Step / ε", description="Length of each step as a share of ε.")
    momentum: Real = Field(
        1.0,
        ge=0,
        le=10,
        title="Momentum (MI)",
        description="Share of the running sum of gradients that each step keeps. 0: no momentum.",
    )
    diversity: Real = Field(
        0.7,
        ge=0,
        le=1,
        title="Diverse inputs (DI)",
        description="Probability that a step looks at a smaller, shifted copy of the image. 0: never.",
    )
    smallest: Real = Field(
        0.8, gt=0, le=1, title="Least size", description="Smallest size of such a copy, as a share of the image's side."
    )
    kernel: int = Field(
        5,
        ge=1,
        le=51,
        title="Kernel (TI)",
        description="Side in pixels of the Gaussian that smooths the gradients, an odd number. 1: no smoothing.",
    )

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("expected an odd number")
        return value
