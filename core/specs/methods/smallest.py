"""Attacks that look for the smallest perturbation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.base import Real
from core.specs.methods.base import Method, Norm, register


@register
class DeepFool(Method):
    """Settings of DeepFool."""

    title: ClassVar[str] = "DeepFool"
    help: ClassVar[str] = (
        "Steps to the nearest decision boundary of the linearised model, inside [0, 1]. A few steps are enough."
    )
    paper: ClassVar[str] = "Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv 1511.04599"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    function: ClassVar[str] = "core.attacks.minimal.deepfool:deepfool"
    name: Literal["deepfool"] = "deepfool"
    norm: Literal["linf", "l2", "l1"] = Field(
        "l2", title="Norm", description="Norm in which the perturbation is made small."
    )
    steps: int = Field(50, ge=1, le=1000, title="Steps", description="Steps at most.")
    overshoot: Real = Field(
        0.02,
        ge=0,
        lt=1,
        title="Overshoot",
        description="Share by which the perturbation is lengthened to cross the boundary.",
    )
    candidates: int = Field(
        10,
        ge=1,
        le=1000,
        title="Classes",
        description="Number of the most likely other classes whose boundaries are considered.",
    )


@register
class CarliniWagner(Method):
    """Settings of Carlini and Wagner's l2 attack."""

    title: ClassVar[str] = "Carlini-Wagner"
    help: ClassVar[str] = (
        "Minimises the squared distance plus c times the loss, and searches the best c for each image."
    )
    paper: ClassVar[str] = "Carlini and Wagner 2017, arXiv 1608.04644, section VI"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.minimal.carlini_wagner:carlini_wagner"
    name: Literal["carlini_wagner"] = "carlini_wagner"
    searches: int = Field(
        5,
        ge=1,
        le=20,
        title="Searches",
        description="Values of c tried per image. More find smaller perturbations and cost more.",
    )
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps for each value of c.")
    lr: Real = Field(
        0.1,
        gt=0,
        le=10,
        title="Learning rate",
        description="Learning rate of Adam at the start, as a share of the distance.",
    )
    loss: Literal["ce", "margin"] = Field(
        "ce", title="Loss", description="What the attack follows: the cross-entropy or the logit margin."
    )


@register
class Ead(Method):
    """Settings of EAD, the elastic net."""

    title: ClassVar[str] = "EAD"
    help: ClassVar[str] = (
        "Minimises c times the loss plus ‖δ‖₂² + β‖δ‖₁ (the elastic net), and searches the best c for each image."
    )
    paper: ClassVar[str] = "Chen et al. 2018, arXiv 1709.04114"
    norms: ClassVar[tuple[Norm, ...]] = ("l1",)
    function: ClassVar[str] = "core.attacks.minimal.ead:ead"
    name: Literal["ead"] = "ead"
    beta: Real = Field(
        10.0,
        gt=0,
        le=1000,
        title="Weight of ℓ1 β",
        description="Weight of the ℓ1 norm against the squared ℓ2 norm. Larger: fewer changed pixels.",
    )
    rule: Literal["en", "l1"] = Field(
        "l1",
        title="Rule",
        description="Which example is kept: the one of smallest ℓ1 norm, or of smallest elastic net.",
    )
    searches: int = Field(
        5,
        ge=1,
        le=20,
        title="Searches",
        description="Values of c tried per image. More find smaller perturbations and cost more.",
    )
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps for each value of c.")
    lr: Real = Field(
        0.25, gt=0, le=10, title="Learning rate", description="Learning rate at the start, as a share of the distance."
    )
    accelerate: bool = Field(True, title="Look ahead", description="Use FISTA, which converges faster. Off: ISTA.")
    loss: Literal["ce", "margin"] = Field(
        "ce", title="Loss", description="What the attack follows: the cross-entropy or the logit margin."
    )


@register
class Ddn(Method):
    """Settings of DDN."""

    title: ClassVar[str] = "DDN"
    help: ClassVar[str] = (
        "Walks along the decision boundary: gradient steps whose radius shrinks while the model is fooled and grows "
        "while it is not."
    )
    paper: ClassVar[str] = "Rony et al. 2019, arXiv 1811.09600"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.minimal.ddn:ddn"
    name: Literal["ddn"] = "ddn"
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    gamma: Real = Field(
        0.05, gt=0, lt=1, title="Radius change γ", description="Relative change of the radius per step, at the start."
    )


@register
class Fmn(Method):
    """Settings of FMN."""

    title: ClassVar[str] = "FMN"
    help: ClassVar[str] = (
        "A gradient step, then a projection onto a ball whose radius follows the distance to the decision boundary."
    )
    paper: ClassVar[str] = "Pintor, Roli, Brendel, Biggio 2021, arXiv 2102.12827"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.minimal.fmn:fmn"
    name: Literal["fmn"] = "fmn"
    norm: Literal["linf", "l2", "l1", "l0"] = Field(
        "l2", title="Norm", description="Norm in which the perturbation is made small."
    )
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    step_size: Real = Field(
        1.0,
        gt=0,
        le=100,
        title="Step size",
        description="Length of the first step; in ℓ∞ as a share of the ball's radius.",
    )
    gamma: Real = Field(
        0.05,
        gt=0,
        lt=1,
        title="Radius change γ",
        description="Relative change of the ball's radius per step, at the start.",
    )
    loss: Literal["ce", "margin"] = Field(
        "ce", title="Loss", description="What the attack follows: the cross-entropy or the logit margin."
    )


@register
class Pdpgd(Method):
    """Settings of PDPGD."""

    title: ClassVar[str] = "PDPGD"
    help: ClassVar[str] = (
        "A step on the loss, then a proximal step on the norm. Their weights change with every step, depending on "
        "whether the model is fooled."
    )
    paper: ClassVar[str] = "Matyasko and Chau 2021, arXiv 2106.01538"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.minimal.pdpgd:pdpgd"
    name: Literal["pdpgd"] = "pdpgd"
    norm: Literal["linf", "l2", "l1", "l0"] = Field(
        "l2", title="Norm", description="Norm in which the perturbation is made small."
    )
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    lr: Real = Field(0.3, gt=0, le=10, title="Learning rate", description="Learning rate of Adam at the start.")
    dual_lr: Real = Field(
        0.1,
        gt=0,
        le=10,
        title="Trade-off's rate",
        description="Change per step of the logarithm of the trade-off, at the start.",
    )
    dual_start: Real = Field(
        0.1, gt=0, le=1000, title="First trade-off", description="Weight of the norm at the start."
    )
    loss: Literal["ce", "margin"] = Field(
        "ce", title="Loss", description="What the attack follows: the cross-entropy or the logit margin."
    )


@register
class Fab(Method):
    """Settings of FAB."""

    title: ClassVar[str] = "FAB"
    help: ClassVar[str] = (
        "Projects onto the linearised decision boundary, biased towards the image, and steps back once the boundary "
        "is crossed."
    )
    paper: ClassVar[str] = "Croce and Hein 2020, arXiv 1907.02044"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    function: ClassVar[str] = "core.attacks.minimal.fab:fab"
    name: Literal["fab"] = "fab"
    norm: Literal["linf", "l2", "l1"] = Field(
        "linf", title="Norm", description="Norm in which the perturbation is made small."
    )
    steps: int = Field(50, ge=1, le=10_000, title="Steps", description="Steps per run.")
    targets: int = Field(
        0,
        ge=0,
        le=1000,
        title="Runs",
        description="Targeted runs, each towards another class. 0: one untargeted run to the nearest boundary.",
    )
    candidates: int = Field(
        10,
        ge=1,
        le=1000,
        title="Classes",
        description="Number of the most likely other classes that are considered, where runs is 0.",
    )
    alpha_max: Real = Field(0.1, ge=0, le=1, title="Bias α", description="Largest bias of a step towards the image.")
    eta: Real = Field(
        1.05, ge=1, lt=2, title="Overshoot η", description="Factor by which each projection is lengthened."
    )
    beta: Real = Field(
        0.9,
        gt=0,
        lt=1,
        title="Back β",
        description="Share of the perturbation that is kept after a step that fools the model.",
    )


@register
class SigmaZero(Method):
    """Settings of σ-zero."""

    title: ClassVar[str] = "σ-zero"
    help: ClassVar[str] = (
        "Minimises a smooth count of the changed features, then undoes the changes that are not needed."
    )
    paper: ClassVar[str] = "Cinà et al. 2024, arXiv 2402.01879"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.sigma_zero:sigma_zero"
    name: Literal["sigma_zero"] = "sigma_zero"
    steps: int = Field(200, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    lr: Real = Field(1.0, gt=0, le=10, title="Learning rate", description="Learning rate of Adam at the start.")
    sigma: Real = Field(
        1e-3,
        gt=0,
        le=1,
        title="Sharpness σ",
        description="How closely the smooth count follows the true one. Smaller: closer, but harder to optimise.",
    )
    threshold: Real = Field(
        0.3, gt=0, lt=1, title="Threshold", description="Changes smaller than this are undone in each step."
    )
    prune_calls: int = Field(
        50, ge=0, le=10_000, title="Pruning", description="Model evaluations spent on pruning per image at most."
    )
    loss: Literal["ce", "margin"] = Field(
        "ce", title="Loss", description="What the attack follows: the cross-entropy or the logit margin."
    )


@register
class Minimum(Method):
    """Settings of the combination that looks for the smallest perturbation."""

    title: ClassVar[str] = "Smallest perturbation"
    help: ClassVar[str] = (
        "Runs attacks that complement each other within a budget, keeps the best example per image, then bisects."
    )
    paper: ClassVar[str] = "Combines DeepFool, DDN, FMN, σ-zero and the greedy Jacobian attack"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.minimal.minimum:minimum"
    name: Literal["minimum"] = "minimum"
    norm: Literal["linf", "l2", "l1", "l0"] = Field(
        "l2", title="Norm", description="Norm in which the perturbation is made small."
    )
    budget: int = Field(
        1000,
        ge=50,
        le=1_000_000,
        title="Passes",
        description="Forward and backward passes per image at most. More find smaller perturbations.",
    )
