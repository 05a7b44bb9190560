"""Attacks that only ask the model for its answers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.methods.base import Method, Norm


class Square(Method):
    """Settings of the Square attack."""

    title: ClassVar[str] = "Square"
    help: ClassVar[str] = "Random squares of full contrast, kept where they help; no gradient, so none can be hidden."
    paper: ClassVar[str] = "Andriushchenko et al. 2020, arXiv 1912.00049"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    needs_eps: ClassVar[bool] = True
    name: Literal["square"] = "square"
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Shape of the ball.")
    queries: int = Field(1000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    area: float = Field(0.8, gt=0, le=1, title="First area", description="Share of the image in a square.")


class SimBa(Method):
    """Settings of SimBA."""

    title: ClassVar[str] = "SimBA"
    help: ClassVar[str] = "Single pixels, or single cosines, a step up or down, kept where the model grows less sure."
    paper: ClassVar[str] = "Guo et al. 2019, arXiv 1905.07121"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    needs_eps: ClassVar[bool] = True
    name: Literal["simba"] = "simba"
    norm: Literal["linf", "l2"] = Field("l2", title="Norm", description="Shape of the ball.")
    basis: Literal["pixel", "dct"] = Field("pixel", title="Basis", description="Single pixels, or cosines (DCT).")
    queries: int = Field(1000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    relative_step: float | None = Field(
        None, gt=0, le=2, title="Step / ε", description="Empty: 1 in ℓ∞ (a pixel's whole way), 0.2 in ℓ2."
    )
    frequencies: float = Field(
        0.5, gt=0, le=1, title="Frequencies", description="DCT: share of the lowest ones along each side."
    )


class HopSkipJump(Method):
    """Settings of HopSkipJump."""

    title: ClassVar[str] = "HopSkipJump"
    help: ClassVar[str] = "Only the predicted class is seen: probes at the boundary say where it turns, then a jump."
    paper: ClassVar[str] = "Chen, Jordan, Wainwright 2020, arXiv 1904.02144"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    name: Literal["hop_skip_jump"] = "hop_skip_jump"
    norm: Literal["linf", "l2"] = Field("l2", title="Norm", description="What is to be small.")
    queries: int = Field(2000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    probes: int = Field(100, ge=1, le=10_000, title="First probes", description="Of the first gradient; more later.")
