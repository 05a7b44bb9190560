"""Attacks that look for the smallest perturbation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.methods.base import Method, Norm, register


@register
class DeepFool(Method):
    """Settings of DeepFool."""

    title: ClassVar[str] = "DeepFool"
    help: ClassVar[str] = (
        "Step to the nearest boundary of the linearised model, inside the box; a few steps are enough."
    )
    paper: ClassVar[str] = "Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv 1511.04599"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    function: ClassVar[str] = "core.attacks.minimal.deepfool:deepfool"
    name: Literal["deepfool"] = "deepfool"
    norm: Literal["linf", "l2", "l1"] = Field("l2", title="Norm", description="What is to be small.")
    steps: int = Field(50, ge=1, le=1000, title="Steps", description="At most so many.")
    overshoot: float = Field(0.02, ge=0, lt=1, title="Overshoot", description="The change is lengthened by this share.")
    candidates: int = Field(10, ge=1, le=1000, title="Classes", description="Strongest other classes looked at.")


@register
class CarliniWagner(Method):
    """Settings of Carlini and Wagner's l2 attack."""

    title: ClassVar[str] = "Carlini-Wagner"
    help: ClassVar[str] = "Descend on the squared distance plus c times the loss; c is searched for each image."
    paper: ClassVar[str] = "Carlini and Wagner 2017, arXiv 1608.04644, section VI"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.minimal.carlini_wagner:carlini_wagner"
    name: Literal["carlini_wagner"] = "carlini_wagner"
    searches: int = Field(5, ge=1, le=20, title="Searches", description="Values of c tried for each image.")
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Steps for each c.")
    lr: float = Field(0.1, gt=0, le=10, title="Learning rate", description="Adam's first, as a share of the distance.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


@register
class Ead(Method):
    """Settings of EAD, the elastic net."""

    title: ClassVar[str] = "EAD"
    help: ClassVar[str] = (
        "Descend on c times the loss plus ‖δ‖₂² + β‖δ‖₁, the elastic net; c is searched for each image."
    )
    paper: ClassVar[str] = "Chen et al. 2018, arXiv 1709.04114"
    norms: ClassVar[tuple[Norm, ...]] = ("l1",)
    function: ClassVar[str] = "core.attacks.minimal.ead:ead"
    name: Literal["ead"] = "ead"
    beta: float = Field(10.0, gt=0, le=1000, title="Weight of ℓ1 β", description="Against the squared ℓ2 norm.")
    rule: Literal["en", "l1"] = Field("l1", title="Rule", description="What the kept image has least of: ℓ1, or both.")
    searches: int = Field(5, ge=1, le=20, title="Searches", description="Values of c tried for each image.")
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Steps for each c.")
    lr: float = Field(0.25, gt=0, le=10, title="Learning rate", description="The first, as a share of the distance.")
    accelerate: bool = Field(True, title="Look ahead", description="FISTA; off: ISTA.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


@register
class Ddn(Method):
    """Settings of DDN."""

    title: ClassVar[str] = "DDN"
    help: ClassVar[str] = "Walk along the boundary: the direction follows the gradient, the radius the last verdict."
    paper: ClassVar[str] = "Rony et al. 2019, arXiv 1811.09600"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    function: ClassVar[str] = "core.attacks.minimal.ddn:ddn"
    name: Literal["ddn"] = "ddn"
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    gamma: float = Field(0.05, gt=0, lt=1, title="Radius change γ", description="The radius's first change a step.")


@register
class Fmn(Method):
    """Settings of FMN."""

    title: ClassVar[str] = "FMN"
    help: ClassVar[str] = "A gradient step, then the nearest point of a ball whose radius follows the boundary."
    paper: ClassVar[str] = "Pintor, Roli, Brendel, Biggio 2021, arXiv 2102.12827"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.minimal.fmn:fmn"
    name: Literal["fmn"] = "fmn"
    norm: Literal["linf", "l2", "l1", "l0"] = Field("l2", title="Norm", description="What is to be small.")
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    step_size: float = Field(
        1.0, gt=0, le=100, title="Step size", description="First step (ℓ2; ℓ∞: share of the ball)."
    )
    gamma: float = Field(0.05, gt=0, lt=1, title="Radius change γ", description="The ball's first change a step.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


@register
class Pdpgd(Method):
    """Settings of PDPGD."""

    title: ClassVar[str] = "PDPGD"
    help: ClassVar[str] = "A step on the loss, then the norm's own shrinkage; their trade-off follows the last verdict."
    paper: ClassVar[str] = "Matyasko and Chau 2021, arXiv 2106.01538"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.minimal.pdpgd:pdpgd"
    name: Literal["pdpgd"] = "pdpgd"
    norm: Literal["linf", "l2", "l1", "l0"] = Field("l2", title="Norm", description="What is to be small.")
    steps: int = Field(100, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    lr: float = Field(0.3, gt=0, le=10, title="Learning rate", description="Adam's first.")
    dual_lr: float = Field(0.1, gt=0, le=10, title="Trade-off's rate", description="Its logarithm's first change.")
    dual_start: float = Field(0.1, gt=0, le=1000, title="First trade-off", description="Weight of the norm at first.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


@register
class Fab(Method):
    """Settings of FAB."""

    title: ClassVar[str] = "FAB"
    help: ClassVar[str] = "Onto the linearised boundary, drawn towards the image; a step back where it is crossed."
    paper: ClassVar[str] = "Croce and Hein 2020, arXiv 1907.02044"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    function: ClassVar[str] = "core.attacks.minimal.fab:fab"
    name: Literal["fab"] = "fab"
    norm: Literal["linf", "l2", "l1"] = Field("linf", title="Norm", description="What is to be small.")
    steps: int = Field(50, ge=1, le=10_000, title="Steps", description="Steps of each run.")
    targets: int = Field(
        0, ge=0, le=1000, title="Runs", description="So many, each towards another class; 0: one to the nearest."
    )
    candidates: int = Field(10, ge=1, le=1000, title="Classes", description="Boundaries looked at where runs is 0.")
    alpha_max: float = Field(0.1, ge=0, le=1, title="Bias α", description="The most that a step is drawn to the image.")
    eta: float = Field(1.05, ge=1, lt=2, title="Overshoot η", description="Factor on each projection.")
    beta: float = Field(0.9, gt=0, lt=1, title="Back β", description="Share of the change kept where a step fools.")


@register
class SigmaZero(Method):
    """Settings of σ-zero."""

    title: ClassVar[str] = "σ-zero"
    help: ClassVar[str] = "Descend on a smooth count of the changed features, then put back what is not needed."
    paper: ClassVar[str] = "Cinà et al. 2024, arXiv 2402.01879"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    function: ClassVar[str] = "core.attacks.sparse.sigma_zero:sigma_zero"
    name: Literal["sigma_zero"] = "sigma_zero"
    steps: int = Field(200, ge=1, le=10_000, title="Steps", description="Gradient steps.")
    lr: float = Field(1.0, gt=0, le=10, title="Learning rate", description="Adam's first.")
    sigma: float = Field(1e-3, gt=0, le=1, title="Sharpness σ", description="How sharply 0 is told from not 0.")
    threshold: float = Field(0.3, gt=0, lt=1, title="Threshold", description="Smaller changes are put back each step.")
    prune_calls: int = Field(50, ge=0, le=10_000, title="Pruning", description="The most passes spent on pruning.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


@register
class Minimum(Method):
    """Settings of the combination that looks for the smallest perturbation."""

    title: ClassVar[str] = "Smallest perturbation"
    help: ClassVar[str] = "Complementary attacks within a budget of passes, the best of each image, then bisection."
    paper: ClassVar[str] = "Combines DeepFool, DDN, FMN, σ-zero and the greedy Jacobian attack"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    function: ClassVar[str] = "core.attacks.minimal.minimum:minimum"
    name: Literal["minimum"] = "minimum"
    norm: Literal["linf", "l2", "l1", "l0"] = Field("l2", title="Norm", description="What is to be small.")
    budget: int = Field(1000, ge=50, le=1_000_000, title="Passes", description="The most passes spent on each image.")
