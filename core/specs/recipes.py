"""Recipes: how a batch's loss is made while training; each class says to page, command line and docs what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from core.specs.base import OneOf, Real, Spec, register_in


def _eps(default: float) -> Any:
    return Field(
        default,
        gt=0,
        le=1,
        title="ε",
        description="Perturbation budget while training, in [0, 1]. Larger: more robust, less accurate.",
    )


def _warmup() -> Any:
    text = "Share of the training in which ε rises from 0. 0: full from the start."
    return Field(0.0, ge=0, le=1, title="ε warm-up", description=text)


def _steps() -> Any:
    return Field(
        10,
        ge=1,
        le=1000,
        title="Attack steps",
        description="Gradient steps per batch. More make stronger examples and slower training.",
    )


def _relative_step() -> Any:
    return Field(0.25, gt=0, le=2, title="Step / ε", description="Length of each step as a share of ε.")


class RecipeBase(Spec):
    """Base of the recipes. The class variables describe the recipe to page, command line and docs."""

    if TYPE_CHECKING:  # every recipe has a field of this name

        @property
        def name(self) -> str:
            """The name that the class is registered under."""

    title: ClassVar[str]
    help: ClassVar[str]
    paper: ClassVar[str] = ""
    made: ClassVar[str] = ""
    """What a model of this recipe is called, such as `PGD-trained`; empty: the title and `-trained`."""

    def kind(self) -> str:
        """What a model of this recipe is called, such as `PGD-trained`, whatever its ε."""
        return self.made or f"{self.title}-trained"

    def label(self) -> str:
        """The recipe in a list of models, such as `PGD 0.3`."""
        eps = getattr(self, "eps", None)
        return self.title if eps is None else f"{self.title} {eps:.3g}"


RECIPES: dict[str, type[RecipeBase]] = {}
"""Every recipe by its name."""
register_recipe = register_in(RECIPES)
"""Class decorator: puts a recipe into `RECIPES`. Raises ValueError if the name is taken."""


@register_recipe
class StandardRecipe(RecipeBase):
    """Clean images, cross-entropy."""

    title: ClassVar[str] = "Standard"
    made: ClassVar[str] = "standard"
    help: ClassVar[str] = "Trains on clean images only."
    name: Literal["standard"] = "standard"


@register_recipe
class FgsmMixRecipe(RecipeBase):
    """Settings of exercise set 3's adversarial training."""

    title: ClassVar[str] = "FGSM mix"
    made: ClassVar[str] = "FGSM-trained"
    help: ClassVar[str] = "Trains on each image twice: clean, and as an FGSM example against the current network."
    paper: ClassVar[str] = "Exercise set 3; Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572"
    name: Literal["fgsm_mix"] = "fgsm_mix"
    eps: Real = _eps(0.25)
    clip: bool = Field(
        True,
        title="Clip to [0, 1]",
        description="Keep every pixel in [0, 1]. Off: the exercise's literal formula, whose results may be no valid "
        "images.",
    )
    remade: Literal["batch", "epoch"] = Field(
        "batch",
        title="Remade",
        description="When adversarial examples are made: for each batch, or once per epoch (the exercise's).",
    )


@register_recipe
class FgsmRecipe(RecipeBase):
    """Settings of single-step adversarial training."""

    title: ClassVar[str] = "FGSM"
    help: ClassVar[str] = (
        "Trains on adversarial examples of one step. Fast; a random start prevents catastrophic overfitting."
    )
    paper: ClassVar[str] = "Wong, Rice, Kolter 2020, arXiv 2001.03994; N-FGSM: de Jorge et al. 2022, arXiv 2202.01181"
    name: Literal["fgsm"] = "fgsm"
    eps: Real = _eps(0.3)
    start: Literal["noise", "ball", "image"] = Field(
        "noise",
        title="Start",
        description="Noise within 2ε, then a step of ε, unprojected (N-FGSM); a point of the ball, then 1.25ε; image.",
    )
    warmup: Real = _warmup()
    mode: Literal["eval", "train"] = Field(
        "eval",
        title="Network's mode",
        description="Mode of the network while examples are made. train: dropout is active, as in exercise set 5.",
    )

    LATER: ClassVar[tuple[str, ...]] = ("mode",)

    def kind(self) -> str:
        """`N-FGSM-trained` with the start of that method."""
        return "N-FGSM-trained" if self.start == "noise" else super().kind()


@register_recipe
class PgdRecipe(RecipeBase):
    """Settings of PGD adversarial training."""

    title: ClassVar[str] = "PGD"
    help: ClassVar[str] = (
        "Trains on adversarial examples of several steps from a random start: the standard of robust training."
    )
    paper: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083; stable ReLUs: Xiao et al. 2019, arXiv 1809.03008"
    name: Literal["pgd"] = "pgd"
    eps: Real = _eps(0.3)
    steps: int = _steps()
    relative_step: Real = _relative_step()
    warmup: Real = _warmup()
    stability: Real = Field(
        0.0,
        ge=0,
        le=100,
        title="ReLU stability",
        description="Weight of a loss that keeps the ReLUs' signs in the ball: makes exact proofs quick. 0: left out.",
    )

    LATER: ClassVar[tuple[str, ...]] = ("stability",)


@register_recipe
class TradesRecipe(RecipeBase):
    """Settings of TRADES."""

    title: ClassVar[str] = "TRADES"
    help: ClassVar[str] = (
        "Clean loss plus β times the divergence between the outputs for the image and its adversarial example."
    )
    paper: ClassVar[str] = "Zhang et al. 2019, arXiv 1901.08573"
    name: Literal["trades"] = "trades"
    eps: Real = _eps(0.3)
    steps: int = _steps()
    relative_step: Real = _relative_step()
    beta: Real = Field(
        1.0, ge=0, le=100, title="β", description="Weight of robustness against accuracy. The paper uses 1 and 6."
    )
    warmup: Real = _warmup()


@register_recipe
class FreeRecipe(RecipeBase):
    """Settings of free adversarial training."""

    title: ClassVar[str] = "Free"
    help: ClassVar[str] = (
        "Uses each batch several times in a row; one backward pass updates both the weights and the perturbations."
    )
    paper: ClassVar[str] = "Shafahi et al. 2019, arXiv 1904.12843"
    name: Literal["free"] = "free"
    eps: Real = _eps(0.3)
    replays: int = Field(
        4,
        ge=1,
        le=50,
        title="Replays",
        description="Times in a row that each batch is used. More is more robust and slower per epoch.",
    )


@register_recipe
class IbpRecipe(RecipeBase):
    """Settings of training by interval bounds."""

    title: ClassVar[str] = "IBP"
    help: ClassVar[str] = (
        "Part of the loss comes from bounds on the whole ε-ball, so that the robustness of the network can be proven."
    )
    paper: ClassVar[str] = (
        "Gowal et al. 2018, arXiv 1810.12715; with attack steps MTL-IBP: De Palma et al. 2024, arXiv 2305.13991; "
        "CROWN-IBP: Zhang et al. 2020, arXiv 1906.06316"
    )
    name: Literal["ibp"] = "ibp"
    eps: Real = _eps(0.3)
    weight: Real = Field(
        0.5,
        gt=0,
        le=1,
        title="Weight of the bounds",
        description="Share of the bounds in the loss once ε is full. Larger: more is proven, less accuracy.",
    )
    steps: int = Field(
        0,
        ge=0,
        le=1000,
        title="Attack steps",
        description="The rest of the loss: 0 uses clean images, more uses adversarial examples of so many steps.",
    )
    relative_step: Real = _relative_step()
    warmup: Real = Field(
        0.33, ge=0, le=1, title="ε warm-up", description="Share of the training in which ε rises from 0."
    )
    bounds: Literal["ibp", "crown_ibp"] = Field(
        "ibp",
        title="Bounds",
        description="Intervals; or linear bounds on top of them, which give way to them while ε rises (CROWN-IBP).",
    )

    LATER: ClassVar[tuple[str, ...]] = ("bounds",)


@register_recipe
class GeneratorRecipe(RecipeBase):
    """Settings of training against the generator attack."""

    title: ClassVar[str] = "Generator-adversarial"
    made: ClassVar[str] = "generator-trained"
    help: ClassVar[str] = (
        "Half of the loss on clean images, half on adversarial examples of the generator attack and of PGD."
    )
    paper: ClassVar[str] = "Exercise set 1; at their own boundaries: Ding et al. 2020, arXiv 1812.02637"
    name: Literal["generator"] = "generator"
    eps: Real = _eps(0.3)
    share: Real = Field(
        0.5,
        gt=0,
        le=1,
        title="Drawn by the generator",
        description="Share of the adversarial examples that the generator makes; PGD makes the others.",
    )
    rounds: int = Field(10, ge=1, le=1000, title="Generator rounds", description="Generator steps per batch.")
    relative_cap: Real = Field(
        0.3,
        gt=0,
        le=1,
        title="ℓ2 cap / (ε √pixels)",
        description="How far the generator may go, as a share of the ε-ball's corners: further, labels are not right.",
    )
    steps: int = Field(5, ge=2, le=1000, title="PGD steps", description="Steps of PGD for the other examples.")
    relative_step: Real = Field(
        0.4, gt=0, le=2, title="Step / ε", description="Length of each PGD step as a share of ε."
    )
    pool: int = Field(
        3,
        ge=0,
        le=20,
        title="Earlier networks",
        description="Earlier versions of the network that every other batch attacks. 0: only the current one.",
    )
    refresh: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Refresh",
        description="Batches after which the current network joins the earlier ones.",
    )
    warmup: Real = _warmup()


@register_recipe
class NoiseRecipe(RecipeBase):
    """Settings of training on Gaussian noise."""

    title: ClassVar[str] = "Gaussian noise"
    made: ClassVar[str] = "noise-trained"
    help: ClassVar[str] = "Trains on noisy images, which randomised smoothing needs."
    paper: ClassVar[str] = "Cohen, Rosenfeld, Kolter 2019, arXiv 1902.02918"
    name: Literal["noise"] = "noise"
    sigma: Real = Field(
        0.25, gt=0, le=2, title="σ", description="Standard deviation of the noise on each pixel of [0, 1]; not clipped."
    )

    def label(self) -> str:
        """Such as `Gaussian noise 0.25`."""
        return f"{self.title} {self.sigma:.3g}"


Recipe = Annotated[RecipeBase, OneOf(RECIPES)]
"""A registered recipe; or its name, with its defaults."""
