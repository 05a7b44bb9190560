"""Attacks that follow the gradient inside a given budget."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.specs.methods.base import Method, Norm


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
    relative_step: float = Field(
        1.0, gt=0, le=2, title="Step / ε", description="First step as a share of ε; it falls to a tenth of that."
    )
    restarts: int = Field(1, ge=1, le=1000, title="Restarts", description="Random starts, on images not yet fooled.")
    random_start: bool = Field(True, title="Random start", description="Start at a random point of the ball.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")
