"""Tasks that judge a model: radii, evaluate, certify."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from core.specs.base import Spec
from core.specs.methods import Norm
from core.specs.shared import MAX_EPS, MODEL, SEED, THRESHOLD, Eps


class RadiiSpec(Spec):
    """The smallest perturbation of each of the first n test images: what a curve over any ε is looked up in.

    Nothing is drawn at random, so there is no seed.
    """

    model: str = MODEL
    norm: Norm = Field("linf", title="Norm", description="What is to be small; l0 counts features.")
    budget: int = Field(200, ge=50, le=1_000_000, title="Passes", description="The most passes spent on each image.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    threshold: float = THRESHOLD

    def slug(self) -> str:
        """Such as `radii-linf`."""
        return f"radii-{self.norm}"


class EvaluateSpec(Spec):
    """What is left of a model's accuracy inside a ball, by the strongest evaluation, per image."""

    model: str = MODEL
    norm: Norm = Field("linf", title="Norm", description="Shape of the ball; l0 counts features.")
    eps: Eps = Field(title="ε", description="Size of the ball; in [0, 1] for linf, features for l0.")
    effort: Literal["quick", "standard", "at_least_autoattack"] = Field(
        "standard",
        title="Effort",
        description="How much is tried on each image that stands, in passes: quick up to about 150 in linf and 400 "
        "elsewhere; standard some hundred for most (l0: 2,200), up to about 10,000; at_least_autoattack 10,000 to "
        "30,000 (AutoAttack itself 9,800).",
    )
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    threshold: float = THRESHOLD
    seed: int = SEED

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

    model: str = MODEL
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
    threshold: float = THRESHOLD
    seed: int = SEED

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
