"""Attacks that follow the gradient inside a given budget."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from core.specs.base import Real
from core.specs.methods.base import Method, Norm, register

DRAWS: Any = Field(
    1,
    ge=1,
    le=1000,
    title="Draws",
    description="Model evaluations that each gradient and each verdict is averaged over. 1 for an ordinary model; 10 "
    "to 50 for a model whose answers are random. The cost grows with it.",
)
STRAIGHT_THROUGH: Any = Field(
    False,
    title="Straight-through",
    description="For a model that rounds, compresses or detaches its input: gradients pass straight through such steps "
    "(BPDA). The model's answers do not change. Off for an ordinary model.",
)
_Loss = Literal["ce", "margin", "dlr", "probability_margin"]
_LOSSES = (
    "What the attack increases: the cross-entropy, the logit margin, DLR, the margin divided by the logits' scale, "
    "or the margin of probabilities, of logits brought to one scale."
)


class GradientMethod(Method):
    """Base of the attacks that can average over a model's randomness and step over what stops gradients.

    Source of both: Athalye, Carlini, Wagner 2018, arXiv 1802.00420.
    """

    LATER: ClassVar[tuple[str, ...]] = ("draws", "straight_through")


@register
class Fgsm(GradientMethod):
    """Settings of FGSM."""

    title: ClassVar[str] = "FGSM"
    help: ClassVar[str] = "One step of size ε along the sign of the gradient. Fast; a weak test of robustness."
    paper: ClassVar[str] = "Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    function: ClassVar[str] = "core.attacks.fixed_budget.fgsm:fgsm"
    needs_eps: ClassVar[bool] = True
    fixed_cost: ClassVar[bool] = True
    name: Literal["fgsm"] = "fgsm"
    clip: bool = Field(
        True,
        title="Clip to [0, 1]",
        description="Keep every pixel in [0, 1]. Off: the exercise's literal formula, whose results may be no valid "
        "images.",
    )
    draws: int = DRAWS
    straight_through: bool = STRAIGHT_THROUGH


@register
class Pgd(GradientMethod):
    """Settings of PGD."""

    title: ClassVar[str] = "PGD"
    help: ClassVar[str] = (
        "Many gradient steps, each projected back into the ε-ball. An image is finished as soon as it is misclassified."
    )
    paper: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.fixed_budget.pgd:pgd"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    stops_early: ClassVar[bool] = True
    name: Literal["pgd"] = "pgd"
    norm: Literal["linf", "l2", "l1", "l0"] = Field(
        "linf", title="Norm", description="Norm in which ε limits the perturbation."
    )
    steps: int = Field(
        40,
        ge=1,
        le=10_000,
        title="Steps",
        description="Gradient steps per restart. More steps find more adversarial examples and cost more.",
    )
    relative_step: Real = Field(
        1.0,
        gt=0,
        le=2,
        title="Step / ε",
        description="Length of the first step as a share of ε; the step shrinks to a tenth of it. Not used in ℓ0.",
    )
    restarts: int = Field(
        1,
        ge=1,
        le=1000,
        title="Restarts",
        description="Attempts per image, each from another random start. Only images that still resist are tried "
        "again.",
    )
    random_start: bool = Field(
        True, title="Random start", description="Start at a random point of the ε-ball instead of the image itself."
    )
    loss: _Loss = Field("ce", title="Loss", description=_LOSSES)
    draws: int = DRAWS
    straight_through: bool = STRAIGHT_THROUGH


@register
class Rfgsm(GradientMethod):
    """Settings of R+FGSM."""

    title: ClassVar[str] = "R+FGSM"
    help: ClassVar[str] = "A random step up or down on every feature, then one FGSM step with the rest of ε."
    paper: ClassVar[str] = "Tramèr et al. 2018, arXiv 1705.07204"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    function: ClassVar[str] = "core.attacks.fixed_budget.iterative:rfgsm"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    stops_early: ClassVar[bool] = True
    name: Literal["rfgsm"] = "rfgsm"
    offset: Real = Field(
        0.5, ge=0, lt=1, title="Random share", description="Length of the random step as a share of ε."
    )
    restarts: int = Field(
        1,
        ge=1,
        le=1000,
        title="Restarts",
        description="Attempts per image, each with another random step. Only images that still resist are tried again.",
    )
    draws: int = DRAWS
    straight_through: bool = STRAIGHT_THROUGH


@register
class Bim(GradientMethod):
    """Settings of the basic iterative method."""

    title: ClassVar[str] = "BIM"
    help: ClassVar[str] = (
        "Repeats the FGSM step with a constant length, starting at the image itself. Nothing is random."
    )
    paper: ClassVar[str] = "Kurakin, Goodfellow, Bengio 2017, arXiv 1607.02533"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.fixed_budget.iterative:bim"
    needs_eps: ClassVar[bool] = True
    stops_early: ClassVar[bool] = True
    name: Literal["bim"] = "bim"
    norm: Literal["linf", "l2", "l1", "l0"] = Field(
        "linf", title="Norm", description="Norm in which ε limits the perturbation."
    )
    steps: int = Field(10, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    relative_step: Real = Field(0.25, gt=0, le=2, title="Step / ε", description="Length of each step as a share of ε.")
    draws: int = DRAWS
    straight_through: bool = STRAIGHT_THROUGH


@register
class MiFgsm(GradientMethod):
    """Settings of MI-FGSM."""

    title: ClassVar[str] = "MI-FGSM"
    help: ClassVar[str] = (
        "BIM with momentum: steps follow a running sum of gradients. Its examples transfer better to other models."
    )
    paper: ClassVar[str] = "Dong et al. 2018, arXiv 1710.06081"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.fixed_budget.iterative:mifgsm"
    needs_eps: ClassVar[bool] = True
    stops_early: ClassVar[bool] = True
    name: Literal["mifgsm"] = "mifgsm"
    norm: Literal["linf", "l2", "l1", "l0"] = Field(
        "linf", title="Norm", description="Norm in which ε limits the perturbation."
    )
    steps: int = Field(10, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    relative_step: Real = Field(0.1, gt=0, le=2, title="Step / ε", description="Length of each step as a share of ε.")
    momentum: Real = Field(
        1.0,
        ge=0,
        le=10,
        title="Momentum",
        description="Share of the running sum of gradients that each step keeps. 0: no momentum.",
    )
    draws: int = DRAWS
    straight_through: bool = STRAIGHT_THROUGH


@register
class Apgd(GradientMethod):
    """Settings of APGD."""

    title: ClassVar[str] = "APGD"
    help: ClassVar[str] = "PGD with momentum. Where it stalls, it halves its step and returns to the best point so far."
    paper: ClassVar[str] = "Croce and Hein 2020, arXiv 2003.01690; ℓ1: 2021, arXiv 2103.01208"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    function: ClassVar[str] = "core.attacks.fixed_budget.apgd:apgd"
    needs_eps: ClassVar[bool] = True
    random: ClassVar[bool] = True
    stops_early: ClassVar[bool] = True
    name: Literal["apgd"] = "apgd"
    norm: Literal["linf", "l2", "l1"] = Field(
        "linf", title="Norm", description="Norm in which ε limits the perturbation."
    )
    loss: _Loss = Field("ce", title="Loss", description=_LOSSES)
    steps: int = Field(
        100,
        ge=1,
        le=10_000,
        title="Steps",
        description="Gradient steps per start. More steps find more adversarial examples and cost more.",
    )
    restarts: int = Field(1, ge=0, le=1000, title="Restarts", description="Untargeted starts per image.")
    targets: int = Field(
        0,
        ge=0,
        le=1000,
        title="Classes tried",
        description="After the restarts, one targeted start towards each of this many most likely other classes.",
    )
    odi_steps: int = Field(
        0,
        ge=0,
        le=100,
        title="Diversifying steps",
        description="Steps along random logits before each start (ODI), which make the starts differ more. 0: none.",
    )
    random_start: bool = Field(
        True, title="Random start", description="Start at a random point of the ε-ball instead of the image itself."
    )
    draws: int = DRAWS
    straight_through: bool = STRAIGHT_THROUGH

    @model_validator(mode="after")
    def _some_start(self) -> Self:
        if self.restarts + self.targets < 1:
            raise ValueError("restarts: expected at least 1 where no classes are tried, got 0")
        return self
