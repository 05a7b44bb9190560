"""Patterns on objects: glasses, patches."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.base import Real, Spec
from core.specs.methods.base import Method, Norm, register

_HELP = "Every scene draws its own value between minus and plus this."


class Scenes(Spec):
    """How much varies from scene to scene, and how a pattern is measured in fresh ones."""

    shift: Real = Field(2.0, ge=0, le=100, title="Shift", description=f"In pixels. {_HELP}")
    angle: Real = Field(0.0, ge=0, le=180, title="Turn", description=f"In degrees. {_HELP}")
    scale: Real = Field(0.0, ge=0, le=0.9, title="Size", description=f"Share of the object's size. {_HELP}")
    brightness: Real = Field(0.3, ge=0, le=1, title="Light", description=f"Share of the image's brightness. {_HELP}")
    noise: Real = Field(
        0.1,
        ge=0,
        le=1,
        title="Printing noise",
        description="Largest random error of each printed pixel, in units of the pixel range.",
    )
    fresh: int = Field(
        64,
        ge=1,
        le=100_000,
        title="Fresh scenes",
        description="New scenes, not used by the optimisation, in which the pattern is measured.",
    )
    least: Real = Field(
        0.5,
        gt=0,
        le=1,
        title="Least share",
        description="Share of the fresh scenes in which the model must be fooled for a success.",
    )


@register
class Physical(Scenes, Method):
    """Settings of the attack by a pattern on glasses or on a patch."""

    title: ClassVar[str] = "Glasses or patch (EOT)"
    help: ClassVar[str] = (
        "Optimises a pattern on the mask that fools the model also when the object shifts and the light changes."
    )
    paper: ClassVar[str] = (
        "Athalye et al. 2018, arXiv 1707.07397; Sharif et al. 2016, doi 10.1145/2976749.2978392; "
        "Brown et al. 2017, arXiv 1712.09665"
    )
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.physical.physical:physical"
    strict: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["physical"] = "physical"
    scenes: int = Field(
        4,
        ge=0,
        le=1000,
        title="Scenes a step",
        description="Random scenes over which each gradient is averaged. 0: use the still image only.",
    )
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    lr: Real = Field(
        0.2, gt=0, le=10, title="Learning rate", description="Learning rate of Adam at the start; it falls to a tenth."
    )
    smooth: Real = Field(
        0.0,
        ge=0,
        le=1e6,
        title="Smoothness",
        description="Weight of the penalty on differences between neighbouring pixels. Larger: a smoother pattern.",
    )
