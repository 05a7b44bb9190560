"""Attacks that only ask the model for its answers, inside a given budget."""

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
