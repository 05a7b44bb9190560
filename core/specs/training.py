"""Networks and the settings of their training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from core.specs.base import OneOf, Real, Spec
from core.specs.data import DATASETS, DataSpec
from core.specs.networks import NETWORKS
from core.specs.recipes import Recipe, StandardRecipe


class TrainSpec(Spec):
    """A trained model: data, network, recipe and optimiser. The defaults are the fast preset."""

    data: DataSpec = Field(default_factory=DataSpec)
    network: Annotated[str, OneOf(NETWORKS)] = Field(
        "lenet", title="Network", description="Architecture. It adapts to the size of the images."
    )
    scalar: bool = Field(
        False,
        title="Single-output network",
        description="One output N(x), compared with a threshold, instead of one logit per class. Only for two classes.",
    )
    recipe: Recipe = Field(
        default_factory=StandardRecipe,
        title="Recipe",
        description="How the loss of a batch is made: standard or adversarial training.",
    )
    epochs: int = Field(3, ge=1, le=1000, title="Epochs", description="Passes over the training images.")
    batch_size: int = Field(128, ge=1, le=10_000, title="Batch size", description="Images per step.")
    optimizer: Literal["sgd", "adam"] = Field("sgd", title="Optimiser", description="SGD with momentum, or Adam.")
    lr: Real = Field(
        0.1, gt=0, le=10, title="Learning rate", description="Learning rate; the peak, if the schedule is one_cycle."
    )
    momentum: Real = Field(0.9, ge=0, lt=1, title="Momentum", description="Momentum of SGD.")
    weight_decay: Real = Field(5e-4, ge=0, le=1, title="Weight decay", description="L2 penalty on every parameter.")
    schedule: Literal["constant", "one_cycle"] = Field(
        "one_cycle",
        title="Schedule",
        description="How the learning rate changes: one_cycle rises and falls, constant stays.",
    )
    init: Literal["default", "gaussian"] = Field(
        "default",
        title="Initial weights",
        description="PyTorch's default, or N(0, 0.01²) with zero biases (exercise set 3).",
    )
    augment: Literal["none", "crop_flip", "crop_flip_cutout"] = Field(
        "none",
        title="Augmentation",
        description="Random crops and flips of each image, with cutout also a square that is blanked.",
    )
    average: Real = Field(
        0.0,
        ge=0,
        lt=1,
        title="Weight averaging",
        description="Decay of the running mean of the weights, such as 0.995. 0: no averaging.",
    )
    patience: int = Field(
        0, ge=0, le=1000, title="Patience", description="Stop after this many epochs without improvement. 0: never."
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, title="Seed", description="The same seed on the same machine gives the same weights."
    )

    LATER: ClassVar[tuple[str, ...]] = ("augment", "average", "patience")

    @model_validator(mode="after")
    def _moved_images_stay_where_they_are(self) -> Self:
        if self.augment != "none" and getattr(self.recipe, "remade", "batch") == "epoch":
            raise ValueError(f"augment: expected none where images are remade once an epoch, got {self.augment!r}")
        return self

    @model_validator(mode="after")
    def _recipe_fits_the_network(self) -> Self:
        stable, network = bool(getattr(self.recipe, "stability", 0.0)), NETWORKS[self.network]
        if (self.recipe.name == "ibp" or stable) and network.deep:
            raise ValueError(
                f"network: expected one of few layers for {'stability' if stable else 'ibp'}, such as strided or "
                "resnet_small (through 17 convolutions intervals grow past anything that could be learnt), "
                f"got {self.network!r}"
            )
        if stable and not network.relus:
            raise ValueError(f"network: expected one with ReLUs for stability, got {self.network!r}")
        if self.batch_size == 1 and network.batch_norm:
            raise ValueError(f"batch_size: expected at least 2 for the batch normalisation of {self.network}, got 1")
        return self

    @model_validator(mode="after")
    def _scalar_needs_two_classes(self) -> Self:
        if self.scalar and (self.data.classes is None or len(self.data.classes) != 2) and self.data.path is None:
            raise ValueError("scalar: expected a data set of two classes (choose two with 'classes')")
        return self

    def slug(self) -> str:
        """Such as `mnist-lenet-standard`."""
        return f"{self.data.slug()}-{self.network}{'-scalar' if self.scalar else ''}-{self.recipe.name}"


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "set3": {
        "epochs": 30,
        "batch_size": 100,
        "optimizer": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "constant",
        "init": "gaussian",
    },
    "set5": {
        "epochs": 10,
        "batch_size": 1000,
        "optimizer": "adam",
        "lr": 0.001,
        "weight_decay": 0.0,
        "schedule": "constant",
    },
}
"""Settings by name: `fast` is this project's (the defaults); `set3` and `set5` are the exercises' literal ones."""
PRESET_TITLES = {
    "fast": "Fast (one-cycle SGD)",
    "set3": "Exercise set 3, literal (SGD 0.001, 30 epochs)",
    "set5": "Exercise set 5, literal (Adam 0.001, batch 1000, 10 epochs)",
}


def preset(name: str, dataset: str = "mnist") -> dict[str, Any]:
    """The settings of a preset; the fast one trains as many epochs as the data set needs."""
    settings = dict(PRESETS[name])
    if name == "fast" and dataset in DATASETS:
        settings["epochs"] = DATASETS[dataset].fast_epochs
    return settings
