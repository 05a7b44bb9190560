"""Data sets: which there are, and which images are wanted."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from core.specs.base import Spec


class DatasetInfo(BaseModel):
    """What is known of a built-in data set before it is loaded."""

    model_config = ConfigDict(frozen=True)
    title: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_size: int
    test_size: int
    fast_epochs: int = 3
    """Epochs that the fast preset needs on this set."""
    embedded: bool = False


_TEN = tuple(str(digit) for digit in range(10))
DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        title="Digits 8×8 (embedded)",
        shape=(1, 8, 8),
        class_names=_TEN,
        train_size=1437,
        test_size=360,
        fast_epochs=40,
        embedded=True,
    ),
    "mnist": DatasetInfo(title="MNIST", shape=(1, 28, 28), class_names=_TEN, train_size=60_000, test_size=10_000),
    "fashion_mnist": DatasetInfo(
        title="Fashion-MNIST",
        shape=(1, 28, 28),
        class_names=(
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        train_size=60_000,
        test_size=10_000,
    ),
    "cifar10": DatasetInfo(
        title="CIFAR-10",
        shape=(3, 32, 32),
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        train_size=50_000,
        test_size=10_000,
        fast_epochs=8,
    ),
}

DatasetName = Literal["digits", "mnist", "fashion_mnist", "cifar10", "folder"]


class DataSpec(Spec):
    """Which images: a built-in set or a folder of images (one sub-folder a class), all classes or some of them."""

    dataset: DatasetName = Field("digits", title="Data set", description="Where the images come from.")
    folder: str | None = Field(
        None,
        title="Image folder",
        description="Only for 'folder': FOLDER/train/CLASS and FOLDER/test/CLASS, with FOLDER/val/CLASS if there is "
        "one; or FOLDER/CLASS, of which a fifth of every class becomes the test part.",
    )
    image_size: int = Field(32, ge=8, le=224, title="Image size", description="Only for 'folder': side in pixels.")
    grey: bool = Field(False, title="Grey", description="Only for 'folder': one channel instead of three.")
    classes: tuple[int, ...] | None = Field(
        None, title="Classes", description="Keep only these classes, renumbered in this order (4 9: four against nine)."
    )
    content: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        title="Content",
        description="Only for 'folder': SHA-256 of its images and class names. Filled in when a model is trained.",
    )

    LATER: ClassVar[tuple[str, ...]] = ("content",)

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if len(value) < 2 or len(set(value)) != len(value):
            raise ValueError("expected at least two different classes")
        if min(value) < 0:
            raise ValueError("expected class numbers of 0 or more")
        return value

    @model_validator(mode="after")
    def _fits_the_data_set(self) -> Self:
        if (self.dataset == "folder") != (self.folder is not None):
            raise ValueError("'folder' must be given exactly when dataset is 'folder'")
        if self.dataset != "folder":
            if self.content is not None:
                raise ValueError("'content' is only for dataset 'folder'")
            if (self.image_size, self.grey) != (32, False):
                raise ValueError("'image_size' and 'grey' are only for dataset 'folder'")
            known = len(DATASETS[self.dataset].class_names)
            if self.classes and max(self.classes) >= known:
                raise ValueError(f"classes: {self.dataset} has the classes 0 to {known - 1}, got {max(self.classes)}")
        return self

    def slug(self) -> str:
        """Such as `mnist`, `mnist-4v9`, `folder-cats`."""
        name: str = self.dataset
        if self.folder is not None:
            last = re.sub(r"[^a-z0-9]+", "-", self.folder.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower())
            name = f"folder-{last.strip('-') or 'images'}"
        return name + (f"-{'v'.join(map(str, self.classes))}" if self.classes else "")
