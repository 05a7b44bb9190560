"""The generator attacks of exercise set 1."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.base import MaybeReal, Real
from core.specs.methods.base import Method, Norm, register


@register
class GeneratorMethod(Method):
    """Settings of the generator attack of exercise set 1, in its literal mode."""

    title: ClassVar[str] = "Generator (literal)"
    help: ClassVar[str] = (
        "Trains a network with one input neuron, in turns, to draw the image and to be classified as the target class."
    )
    paper: ClassVar[str] = "Exercise set 1; x = σ(w) is the variable of Carlini and Wagner 2017, arXiv 1608.04644"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.generator.generator:generator_attack"
    needs_target: ClassVar[bool] = True
    trace_axis: ClassVar[int] = 1
    random: ClassVar[bool] = True
    name: Literal["generator"] = "generator"
    rounds: int = Field(
        200,
        ge=1,
        le=20_000,
        title="Rounds",
        description="Times that the training alternates between the image and the class.",
    )
    image_steps: int = Field(
        1, ge=1, le=100, title="Image steps (a)", description="Steps per round towards the original image."
    )
    class_steps: int = Field(
        1, ge=1, le=100, title="Class steps (b)", description="Steps per round towards the target class."
    )
    lr: Real = Field(0.05, gt=0, le=10, title="Learning rate", description="Learning rate of Adam.")
    init: Literal["random", "image"] = Field(
        "random",
        title="Initialisation",
        description="Start at random weights, or at weights that draw the original image.",
    )
    loss: Literal["mse", "ce", "margin"] = Field(
        "mse",
        title="Class loss",
        description="Squared error to the one-hot vector (the exercise's), cross-entropy, or the logit margin.",
    )
    shared_adam: bool = Field(
        False, title="Shared Adam state", description="One state of Adam for both kinds of step. Off: one for each."
    )
    generator: Literal["linear", "deep"] = Field(
        "linear",
        title="Generator",
        description="Layers of the generator: 1 → C·H·W, or 1 → 256 → C·H·W. A sigmoid keeps its output in [0, 1].",
    )
    stop_confidence: MaybeReal = Field(
        None,
        gt=0,
        lt=1,
        title="Stop at confidence",
        description="Stop an image once the target class has this probability. Empty: take all rounds.",
    )


@register
class GeneratorStrong(Method):
    """Settings of the generator attack as a penalty method."""

    title: ClassVar[str] = "Generator (strong)"
    help: ClassVar[str] = (
        "A step towards the image while the model is fooled, a step towards the class while it is not."
    )
    paper: ClassVar[str] = "The switching subgradient method, Polyak 1967; as DDN, Rony et al. 2019, arXiv 1811.09600"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.generator.generator_strong:generator_strong"
    trace_axis: ClassVar[int] = 1
    name: Literal["generator_strong"] = "generator_strong"
    rounds: int = Field(
        100, ge=1, le=20_000, title="Rounds", description="Steps, each towards the image or towards the class."
    )
    step_size: Real = Field(
        0.5,
        gt=0,
        le=10,
        title="First step",
        description="Length of the first step as a share of the distance; the step shrinks to a hundredth of it.",
    )
    loss: Literal["ce", "margin"] = Field(
        "margin",
        title="Class loss",
        description="What the step towards the class follows: the cross-entropy or the logit margin.",
    )
