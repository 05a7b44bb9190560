"""Tasks that judge a model: radii, evaluate, certify."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from core.specs.base import Real, Spec
from core.specs.data import DataSpec
from core.specs.methods import Norm
from core.specs.shared import DATA, MAX_EPS, MODEL, SEED, THRESHOLD, Eps


class RadiiSpec(Spec):
    """The smallest perturbation of each of the first n test images: what a curve over any ε is looked up in.

    Nothing is drawn at random, so there is no seed.
    """

    model: str = MODEL
    data: DataSpec | None = DATA
    norm: Norm = Field(
        "linf", title="Norm", description="Norm in which the perturbation is made small; l0 counts features."
    )
    budget: int = Field(
        200,
        ge=50,
        le=1_000_000,
        title="Passes",
        description="Forward and backward passes per image at most. More find smaller perturbations.",
    )
    n: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Images (n)",
        description="Number of test images: the first n in a fixed random order.",
    )
    threshold: Real = THRESHOLD

    LATER: ClassVar[tuple[str, ...]] = ("data",)

    def slug(self) -> str:
        """Such as `radii-linf`."""
        return f"radii-{self.norm}"


class EvaluateSpec(Spec):
    """What is left of a model's accuracy inside a ball, by the strongest evaluation, per image."""

    model: str = MODEL
    data: DataSpec | None = DATA
    norm: Norm = Field("linf", title="Norm", description="Norm in which ε limits the perturbation; l0 counts features.")
    eps: Eps = Field(title="ε", description="Perturbation budget: in [0, 1] for linf, a number of features for l0.")
    effort: Literal["quick", "standard", "at_least_autoattack"] = Field(
        "standard",
        title="Effort",
        description="How much is tried on each image that stands, in passes: quick up to about 150 in linf, 400 in l2 "
        "and l1, 1,300 in l0, for a figure near AutoAttack's that may be a point too high in linf, some points in l1 "
        "and 13 in l0; standard some hundred for most (l0: 1,500), up to about 10,000; at_least_autoattack 10,000 to "
        "30,000 (AutoAttack itself 9,800).",
    )
    n: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Images (n)",
        description="Number of test images: the first n in a fixed random order.",
    )
    threshold: Real = THRESHOLD
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("data",)

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
    data: DataSpec | None = DATA
    method: Literal["ibp", "crown_ibp", "crown", "alpha_crown", "exact", "smoothing"] = Field(
        "alpha_crown",
        title="Method",
        description="Bounds from the fastest (ibp) to the tightest (alpha_crown); exact decides every image; "
        "smoothing votes on noisy copies.",
    )
    norm: Literal["linf", "l2", "l1"] = Field(
        "linf", title="Norm", description="Norm in which ε limits the perturbation. smoothing needs l2."
    )
    eps: Eps | None = Field(
        None,
        title="ε",
        description="Perturbation budget, in [0, 1] for linf. Not for smoothing, which finds a radius per image.",
    )
    n: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Images (n)",
        description="Number of test images: the first n in a fixed random order.",
    )
    time_limit: Real = Field(
        30.0,
        gt=0,
        le=86_400,
        title="Time limit",
        description="Seconds per image for exact; an image that takes longer stays undecided.",
    )
    sigma: Real = Field(
        0.25,
        gt=0,
        le=10,
        title="σ",
        description="smoothing: standard deviation of the noise, in units of the pixel range.",
    )
    draws: int = Field(
        100_000,
        ge=10,
        le=10_000_000,
        title="Draws",
        description="smoothing: noisy copies per image. More certify larger radii and cost more.",
    )
    alpha: Real = Field(0.001, gt=0, lt=1, title="α", description="smoothing: probability that a certificate is wrong.")
    threshold: Real = THRESHOLD
    seed: int = SEED

    LATER: ClassVar[tuple[str, ...]] = ("data",)

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
