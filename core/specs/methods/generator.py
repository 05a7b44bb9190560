"""The generator attacks of exercise set 1."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.methods.base import Method, Norm, register


@register
class GeneratorMethod(Method):
    """Settings of the generator attack of exercise set 1, in its literal mode."""

    title: ClassVar[str] = "Generator (literal)"
    help: ClassVar[str] = "A network with one input neuron is trained, in turns, to draw the image and to be read as j."
    paper: ClassVar[str] = "Exercise set 1; x = σ(w) is the variable of Carlini and Wagner 2017, arXiv 1608.04644"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.generator.generator:generator_attack"
    needs_target: ClassVar[bool] = True
    random: ClassVar[bool] = True
    name: Literal["generator"] = "generator"
    rounds: int = Field(200, ge=1, le=20_000, title="Rounds", description="Alternations between image and class.")
    image_steps: int = Field(1, ge=1, le=100, title="Image steps (a)", description="Steps to the sample, a round.")
    class_steps: int = Field(1, ge=1, le=100, title="Class steps (b)", description="Steps to the one-hot, a round.")
    lr: float = Field(0.05, gt=0, le=10, title="Learning rate", description="Adam's.")
    init: Literal["random", "image"] = Field("random", title="Initialisation", description="w random, or x = f(w).")
    loss: Literal["mse", "ce", "margin"] = Field(
        "mse", title="Class loss", description="Squared error to the one-hot (literal), cross-entropy, or margin."
    )
    shared_adam: bool = Field(False, title="Shared Adam state", description="One state for both steps, or one each.")
    generator: Literal["linear", "deep"] = Field(
        "linear", title="Generator", description="1 → C·H·W, or 1 → 256 → C·H·W, squashed by a sigmoid."
    )
    stop_confidence: float | None = Field(
        None, gt=0, lt=1, title="Stop at confidence", description="A pair that reaches it is finished; empty: never."
    )


@register
class GeneratorStrong(Method):
    """Settings of the generator attack as a penalty method."""

    title: ClassVar[str] = "Generator (strong)"
    help: ClassVar[str] = "The same two steps, each where it is needed: fooled, to the image; not fooled, to the class."
    paper: ClassVar[str] = "The switching subgradient method, Polyak 1967; as DDN, Rony et al. 2019, arXiv 1811.09600"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.generator.generator_strong:generator_strong"
    name: Literal["generator_strong"] = "generator_strong"
    rounds: int = Field(100, ge=1, le=20_000, title="Rounds", description="Steps, each to the image or to the class.")
    step_size: float = Field(
        0.5, gt=0, le=10, title="First step", description="As a share of the distance; it falls to a hundredth of it."
    )
    loss: Literal["ce", "margin"] = Field("margin", title="Class loss", description="Cross-entropy, or logit margin.")
