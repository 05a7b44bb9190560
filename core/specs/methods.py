"""Attack methods and their settings; each class says to pages, command line and docs what the method is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from core.specs.base import Spec

Norm = Literal["linf", "l2", "l1", "l0"]


class Method(Spec):
    """Base of the attack methods. The class variables describe the method to pages, command line and docs."""

    title: ClassVar[str]
    help: ClassVar[str]
    paper: ClassVar[str]
    norms: ClassVar[tuple[Norm, ...]]
    needs_eps: ClassVar[bool] = False
    """Whether the attack works inside a given budget; if not, it looks for its own smallest perturbation."""
    needs_target: ClassVar[bool] = False
    """Whether the attack only makes sense towards a given class."""

    def slug(self) -> str:
        """The method's registry name."""
        return str(self.name)  # type: ignore[attr-defined]  # every concrete method has a Literal field `name`


class Fgsm(Method):
    """Settings of FGSM."""

    title: ClassVar[str] = "FGSM"
    help: ClassVar[str] = "One step of size ε along the sign of the gradient; one gradient serves every ε."
    paper: ClassVar[str] = "Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    needs_eps: ClassVar[bool] = True
    name: Literal["fgsm"] = "fgsm"
    clip: bool = Field(
        True, title="Clip to [0, 1]", description="Off: the exercise's literal formula, which leaves valid images."
    )


class Pgd(Method):
    """Settings of PGD."""

    title: ClassVar[str] = "PGD"
    help: ClassVar[str] = "Many small gradient steps, each projected back into the ε-ball; fooled images are dropped."
    paper: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    needs_eps: ClassVar[bool] = True
    name: Literal["pgd"] = "pgd"
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Shape of the ball.")
    steps: int = Field(40, ge=1, le=10_000, title="Steps", description="Gradient steps a restart.")
    relative_step: float = Field(0.1, gt=0, le=2, title="Step / ε", description="First step as a share of ε.")
    restarts: int = Field(1, ge=1, le=1000, title="Restarts", description="Random starts, on images not yet fooled.")
    random_start: bool = Field(True, title="Random start", description="Start at a random point of the ball.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


class GeneratorMethod(Method):
    """Settings of the generator attack of exercise set 1, in its literal mode."""

    title: ClassVar[str] = "Generator (literal)"
    help: ClassVar[str] = "A network with one input neuron is trained, in turns, to draw the image and to be read as j."
    paper: ClassVar[str] = "Exercise set 1; x = σ(w) is the variable of Carlini and Wagner 2017, arXiv 1608.04644"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    needs_target: ClassVar[bool] = True
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


class JacobianSparse(Method):
    """Settings of the greedy Jacobian attack on few pixels."""

    title: ClassVar[str] = "Jacobian, sparse"
    help: ClassVar[str] = "Change the pixel with the best real gain among those the Jacobian proposes; then prune."
    paper: ClassVar[str] = "After Papernot et al. 2016, arXiv 1511.07528, with real gains and pruning"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    name: Literal["jacobian_sparse"] = "jacobian_sparse"
    max_features: int = Field(60, ge=1, le=3072, title="Largest count", description="Give up beyond so many changes.")
    candidates: int = Field(16, ge=1, le=256, title="Shortlist", description="Changes really tried, each step.")
    prune: bool = Field(True, title="Prune", description="Put back every change that is not needed.")


class JacobianDense(Method):
    """Settings of the dense formula ε* = |τ − N(x)| / ‖J‖₁."""

    title: ClassVar[str] = "Jacobian, dense formula"
    help: ClassVar[str] = "The same tiny change ±ε* on every pixel, ε* = |τ − N(x)| / ‖J‖₁ (Hölder's equality)."
    paper: ClassVar[str] = "Exercise set 2; linear case of Goodfellow et al. 2015, arXiv 1412.6572"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    name: Literal["jacobian_dense"] = "jacobian_dense"
    boxed: bool = Field(True, title="Respect [0, 1]", description="Solve for ε* with the room each pixel has.")
    factor: float = Field(
        1.1, ge=1, le=3, title="Overshoot", description="Multiply ε* by this; a curved N needs a little."
    )


AnyMethod = Annotated[
    Fgsm | Pgd | GeneratorMethod | JacobianSparse | JacobianDense,
    Field(discriminator="name"),
]
METHODS: dict[str, type[Method]] = {
    cls.model_fields["name"].default: cls for cls in (Fgsm, Pgd, GeneratorMethod, JacobianSparse, JacobianDense)
}
"""Every attack method by its registry name."""


def _method_from_name(value: Any) -> Any:
    if isinstance(value, str):
        if value not in METHODS:
            raise ValueError(f"expected one of {', '.join(METHODS)}")
        return {"name": value}
    return value


MethodField = Annotated[AnyMethod, BeforeValidator(_method_from_name)]
