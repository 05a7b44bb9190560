"""The literature's attacks on few pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from core.specs.methods.base import Method, Norm, register


@register
class Jsma(Method):
    """Settings of JSMA."""

    title: ClassVar[str] = "JSMA"
    help: ClassVar[str] = "Change the pair of features of the largest saliency, by θ each, until the class is reached."
    paper: ClassVar[str] = "Papernot et al. 2016, arXiv 1511.07528; untargeted: Wiyatno and Xu 2018, arXiv 1808.07945"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.jsma:jsma"
    LATER: ClassVar[tuple[str, ...]] = ("pairs", "outputs", "taylor")
    name: Literal["jsma"] = "jsma"
    theta: float = Field(1.0, ge=-1, le=1, title="Change θ", description="Of a feature, each step; below 0: darker.")
    gamma: float = Field(0.1, gt=0, le=1, title="Share γ", description="Of the features that may change.")
    pairs: int = Field(
        1,
        ge=1,
        le=100,
        title="Pairs a Jacobian",
        description="At most, before the next one; 1 is the paper's. More: quicker, some more features.",
    )
    outputs: Literal["logits", "probabilities"] = Field(
        "logits",
        title="Jacobian of",
        description="Logits: the paper's. Probabilities: fewer features, half the backward passes.",
    )
    taylor: bool = Field(
        False, title="Taylor's map", description="Derivatives times how far each feature can move: fewer features."
    )

    @field_validator("theta")
    @classmethod
    def _some_change(cls, value: float) -> float:
        if value == 0:
            raise ValueError("expected a number from -1 to 1, not 0")
        return value


@register
class SparseRs(Method):
    """Settings of Sparse-RS."""

    title: ClassVar[str] = "Sparse-RS"
    help: ClassVar[str] = "ε pixels of random colours, moved at random and kept where that helps; no gradient."
    paper: ClassVar[str] = "Croce et al. 2022, arXiv 2006.12834"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.black_box.sparse_rs:sparse_rs"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["sparse_rs"] = "sparse_rs"
    count: Literal["pixels", "features"] = Field(
        "pixels", title="Counted", description="Pixels, all colours of which may change, or single colours."
    )
    queries: int = Field(1000, ge=1, le=1_000_000, title="Queries", description="Looks at the model, an image.")
    alpha: float = Field(0.3, gt=0, le=1, title="Share moved α", description="Of the ε pixels, at first.")


@register
class OnePixel(Method):
    """Settings of the one-pixel attack."""

    title: ClassVar[str] = "One pixel"
    help: ClassVar[str] = "Differential evolution of a pixel's place and colour, or of a few pixels'; no gradient."
    paper: ClassVar[str] = "Su, Vargas, Sakurai 2019, arXiv 1710.08864"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.black_box.one_pixel:one_pixel"
    random: ClassVar[bool] = True
    name: Literal["one_pixel"] = "one_pixel"
    pixels: int = Field(1, ge=1, le=1000, title="Pixels", description="How many may change, with all their colours.")
    population: int = Field(400, ge=4, le=10_000, title="Population", description="Candidates of an image.")
    generations: int = Field(100, ge=0, le=10_000, title="Generations", description="At most, after the random one.")
    factor: float = Field(0.5, gt=0, le=2, title="Factor F", description="Of the difference added to make a child.")
