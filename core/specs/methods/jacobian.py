"""Attacks that read their change off the Jacobian."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from core.specs.base import AS_WRITTEN, Real
from core.specs.methods.base import Method, Norm, register


@register
class JacobianSparse(Method):
    """Settings of the greedy Jacobian attack on few features."""

    title: ClassVar[str] = "Jacobian, sparse"
    help: ClassVar[str] = (
        "Change the feature (a pixel, or one colour of it) with the best real gain among those the Jacobian proposes; "
        "then prune and swap."
    )
    paper: ClassVar[str] = "After Papernot et al. 2016, arXiv 1511.07528, with real gains, pruning and swaps"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.sparse:jacobian_sparse"
    name: Literal["jacobian_sparse"] = "jacobian_sparse"
    max_features: int = Field(
        60,
        ge=1,
        le=3072,
        title="Largest count",
        description="Changed features at most; beyond it the attack gives up on the image.",
    )
    candidates: int = Field(
        16,
        ge=1,
        le=256,
        title="Shortlist",
        description="Changes that are evaluated by the model in each step. More find smaller solutions and cost more.",
    )
    prune: bool = Field(True, title="Prune", description="At the end, undo every change that is not needed.")
    swaps: bool = Field(True, title="Swaps", description="After pruning, look for one change that replaces two.")
    cap: Real = Field(
        1.0, gt=0, le=1, title="Cap ε", description="Largest change of a feature, in units of the pixel range [0, 1]."
    )


@register
class Frontier(Method):
    """Settings of the frontier of feature count against the cap on each change."""

    title: ClassVar[str] = "Count against cap"
    help: ClassVar[str] = (
        "The fewest features (pixels, or single colours of them) that fool, for each cap ε on the change of every one."
    )
    paper: ClassVar[str] = "Largest gains first, exact for linear models; re-linearised and greedy elsewhere"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.frontier:frontier"
    name: Literal["frontier"] = "frontier"
    caps: tuple[Annotated[float, Field(gt=0, le=1), AS_WRITTEN], ...] = Field(
        (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
        min_length=1,
        max_length=50,
        title="Caps ε",
        description="Largest change of a feature, in units of the pixel range; each value gives one point of the "
        "curve.",
    )
    candidates: int = Field(
        8,
        ge=0,
        le=256,
        title="Shortlist",
        description="Changes that are evaluated by the model in each step. 0: trust the Jacobian.",
    )

    @field_validator("caps")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(value)))


@register
class JacobianDense(Method):
    """Settings of the dense formula ε* = |τ − N(x)| / ‖J‖₁."""

    title: ClassVar[str] = "Jacobian, dense formula"
    help: ClassVar[str] = (
        "The same small change ±ε* of every pixel, with ε* = |τ − N(x)| / ‖J‖₁ (equality in Hölder's inequality)."
    )
    paper: ClassVar[str] = "Exercise set 2; linear case of Goodfellow et al. 2015, arXiv 1412.6572"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    function: ClassVar[str] = "core.attacks.sparse.jacobian:jacobian_dense"
    fixed_cost: ClassVar[bool] = True
    finds_eps: ClassVar[bool] = True
    name: Literal["jacobian_dense"] = "jacobian_dense"
    boxed: bool = Field(
        True, title="Respect [0, 1]", description="Respect that no pixel can leave [0, 1] when solving for ε*."
    )
    factor: Real = Field(
        1.1,
        ge=1,
        le=3,
        title="Overshoot",
        description="Factor on ε*. A network that is not linear needs a little more than 1.",
    )
