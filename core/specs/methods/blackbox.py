"""Attacks that only ask the model for its answers, or are made on another model."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from core.specs.methods.base import Method, Norm, register


@register
class Square(Method):
    """Settings of the Square attack."""

    title: ClassVar[str] = "Square"
    help: ClassVar[str] = "Random squares of full contrast, kept where they help; no gradient, so none can be hidden."
    paper: ClassVar[str] = "Andriushchenko et al. 2020, arXiv 1912.00049"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.black_box.square:square"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["square"] = "square"
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Shape of the ball.")
    queries: int = Field(1000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    area: float = Field(0.8, gt=0, le=1, title="First area", description="Share of the image in a square.")


@register
class SimBa(Method):
    """Settings of SimBA."""

    title: ClassVar[str] = "SimBA"
    help: ClassVar[str] = "Single pixels, or single cosines, a step up or down, kept where the model grows less sure."
    paper: ClassVar[str] = "Guo et al. 2019, arXiv 1905.07121"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.black_box.simba:simba"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["simba"] = "simba"
    norm: Literal["linf", "l2"] = Field("l2", title="Norm", description="Shape of the ball.")
    basis: Literal["pixel", "dct"] = Field(
        "pixel", title="Basis", description="Single pixels (better in ℓ∞), or cosines (in ℓ2)."
    )
    queries: int = Field(1000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    relative_step: float | None = Field(
        None, gt=0, le=2, title="Step / ε", description="Empty: what was measured best for norm and basis."
    )
    frequencies: float = Field(
        0.5, gt=0, le=1, title="Frequencies", description="DCT: share of the lowest ones along each side."
    )


@register
class HopSkipJump(Method):
    """Settings of HopSkipJump."""

    title: ClassVar[str] = "HopSkipJump"
    help: ClassVar[str] = "Only the predicted class is seen: probes at the boundary say where it turns, then a jump."
    paper: ClassVar[str] = "Chen, Jordan, Wainwright 2020, arXiv 1904.02144"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.black_box.hop_skip_jump:hop_skip_jump"
    takes_start: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["hop_skip_jump"] = "hop_skip_jump"
    norm: Literal["linf", "l2"] = Field("l2", title="Norm", description="What is to be small.")
    queries: int = Field(2000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    probes: int = Field(100, ge=1, le=10_000, title="First probes", description="Of the first gradient; more later.")


@register
class Transfer(Method):
    """Settings of the attack from a surrogate."""

    title: ClassVar[str] = "Transfer"
    help: ClassVar[str] = "Made on another model, with momentum, diverse inputs and smooth gradients; asked once."
    paper: ClassVar[str] = "MI, DI, TI: arXiv 1710.06081, 1803.06978, 1904.02884"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    function: ClassVar[str] = "core.attacks.fixed_budget.transfer:transfer"
    needs_eps: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["transfer"] = "transfer"
    surrogate: str = Field("", title="Surrogate", description="Id of the saved model whose gradients are followed.")
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Shape of the ball.")
    steps: int = Field(20, ge=1, le=10_000, title="Steps", description="Gradient steps; none ends early.")
    relative_step: float = Field(0.1, gt=0, le=2, title="Step / ε", description="Each step as a share of ε.")
    momentum: float = Field(1.0, ge=0, le=10, title="Momentum (MI)", description="Share of the running sum kept.")
    diversity: float = Field(
        0.7, ge=0, le=1, title="Diverse inputs (DI)", description="Probability that a step sees a smaller, moved image."
    )
    smallest: float = Field(0.8, gt=0, le=1, title="Least size", description="Of such an image, as a share.")
    kernel: int = Field(
        5, ge=1, le=51, title="Kernel (TI)", description="Odd side of the Gaussian that smooths gradients; 1: none."
    )

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("expected an odd number")
        return value
