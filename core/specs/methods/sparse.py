"""The literature's attacks on few pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from core.specs.base import Real
from core.specs.methods.base import Method, Norm, register


@register
class Jsma(Method):
    """Settings of JSMA."""

    title: ClassVar[str] = "JSMA"
    help: ClassVar[str] = "Changes the two features of largest saliency by θ each, and repeats until the class changes."
    paper: ClassVar[str] = "Papernot et al. 2016, arXiv 1511.07528; untargeted: Wiyatno and Xu 2018, arXiv 1808.07945"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.jsma:jsma"
    LATER: ClassVar[tuple[str, ...]] = ("pairs", "outputs", "taylor")
    name: Literal["jsma"] = "jsma"
    theta: Real = Field(
        1.0, ge=-1, le=1, title="Change θ", description="Change of a feature in each step. Negative: darker."
    )
    gamma: Real = Field(0.1, gt=0, le=1, title="Share γ", description="Share of the features that may be changed.")
    pairs: int = Field(
        1,
        ge=1,
        le=100,
        title="Pairs a Jacobian",
        description="Pairs changed for each Jacobian at most. 1 is the paper's; more is faster but changes more "
        "features.",
    )
    outputs: Literal["logits", "probabilities"] = Field(
        "logits",
        title="Jacobian of",
        description="Logits as in the paper, or probabilities, which change fewer features and need half the "
        "backward passes.",
    )
    taylor: bool = Field(
        False,
        title="Taylor's map",
        description="Multiply each derivative by how far the feature can move, which changes fewer features.",
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
    help: ClassVar[str] = (
        "Gives ε pixels random colours, moves them at random and keeps what helps. It uses no gradient."
    )
    paper: ClassVar[str] = "Croce et al. 2022, arXiv 2006.12834"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.black_box.sparse_rs:sparse_rs"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["sparse_rs"] = "sparse_rs"
    count: Literal["pixels", "features"] = Field(
        "pixels",
        title="Counted",
        description="What ε counts: pixels, of which all colours may change, or single colours.",
    )
    queries: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        title="Queries",
        description="Model evaluations per image at most. More queries find more adversarial examples.",
    )
    alpha: Real = Field(
        0.3,
        gt=0,
        le=1,
        title="Share moved α",
        description="Share of the ε pixels that is moved at the start; it falls.",
    )


@register
class OnePixel(Method):
    """Settings of the one-pixel attack."""

    title: ClassVar[str] = "One pixel"
    help: ClassVar[str] = (
        "Searches the places and colours of one or a few pixels by differential evolution. It uses no gradient."
    )
    paper: ClassVar[str] = "Su, Vargas, Sakurai 2019, arXiv 1710.08864"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.black_box.one_pixel:one_pixel"
    random: ClassVar[bool] = True
    name: Literal["one_pixel"] = "one_pixel"
    pixels: int = Field(1, ge=1, le=1000, title="Pixels", description="Pixels that may change, with all their colours.")
    population: int = Field(
        400, ge=4, le=10_000, title="Population", description="Candidates per image in each generation."
    )
    generations: int = Field(
        100, ge=0, le=10_000, title="Generations", description="Generations at most, after the random first one."
    )
    factor: Real = Field(
        0.5,
        gt=0,
        le=2,
        title="Factor F",
        description="Factor on the difference of two candidates that is added to a third. Larger: bolder changes.",
    )
