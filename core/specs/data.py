"""Data sets: which there are, and which images are wanted."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from core.specs.base import OneOf, Spec, enter


class DatasetInfo(BaseModel):
    """All that the rest of the program knows of a data set before it is read; `register_dataset` offers it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    class_names: tuple[str, ...]
    train_size: int
    """Images of the training part, those held out for validation included."""
    test_size: int
    reader: str
    """Where its function is, such as "core.data.mnist:mnist": `(root, *, download=False) -> (train, test)`, two
    `core.data.Split` of all classes; with `download` it fetches what is missing in `root` first, and it raises
    RuntimeError or OSError where it cannot read. Imported when the data set is loaded."""
    mark: str = ""
    """A file below the data folder that is there only when the data set can be read; empty for an embedded one."""
    download_size: int = 0
    """Bytes of the download."""
    fingerprint: str = ""
    """SHA-256 of all its images and labels, as `core.data.Dataset` has it; others are refused. Empty: not known."""
    fast_epochs: int = 3
    """Epochs that the fast preset needs on this set."""

    @property
    def embedded(self) -> bool:
        """Whether it needs no files."""
        return not self.mark


OWN = ("folder", "file")
"""Names that stand for people's own images: a folder of image files, or a `.npz` file of arrays."""
DATASETS: dict[str, DatasetInfo] = {}
"""Every built-in data set by its name, in the order in which people see them."""


def register_dataset(info: DatasetInfo) -> DatasetInfo:
    """Put a data set into `DATASETS`. Raises ValueError if the name is taken."""
    if info.name in OWN:
        raise ValueError(f"name: expected one that is not taken, got {info.name!r}")
    enter(DATASETS, info.name, info)
    return info


_TEN = tuple(str(digit) for digit in range(10))
for _info in (
    DatasetInfo(
        name="digits28",
        title="UCI digits (28×28)",
        shape=(1, 28, 28),
        class_names=_TEN,
        train_size=1437,
        test_size=360,
        reader="core.data.digits:digits28",
        fingerprint="4fe7bfdfc1289e4f9895a95c2f80b80220a25747a8f5f5d2b72a10eb2bd7d141",
        fast_epochs=10,
    ),
    DatasetInfo(
        name="mnist",
        title="MNIST",
        shape=(1, 28, 28),
        class_names=_TEN,
        train_size=60_000,
        test_size=10_000,
        reader="core.data.mnist:mnist",
        fingerprint="1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b",
        mark="MNIST/raw/t10k-labels-idx1-ubyte",
        download_size=11_594_722,
    ),
    DatasetInfo(
        name="fashion_mnist",
        title="Fashion-MNIST",
        shape=(1, 28, 28),
        class_names=(
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        train_size=60_000,
        test_size=10_000,
        reader="core.data.mnist:fashion_mnist",
        mark="FashionMNIST/raw/t10k-labels-idx1-ubyte",
        download_size=30_878_645,
    ),
    DatasetInfo(
        name="cifar10",
        title="CIFAR-10",
        shape=(3, 32, 32),
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        train_size=50_000,
        test_size=10_000,
        reader="core.data.cifar10:cifar10",
        fingerprint="9048fcbac9c08a64d57a7c5a5a66750a974ad4eab380914df129f7e223d823df",
        mark="cifar-10-batches-py/test_batch",
        download_size=170_498_071,
        fast_epochs=8,
    ),
    DatasetInfo(
        name="digits",
        title="UCI digits 8×8",
        shape=(1, 8, 8),
        class_names=_TEN,
        train_size=1437,
        test_size=360,
        reader="core.data.digits:digits",
        fingerprint="3c13ddfdddb285f60ef52a608014c32658bb47dd5eb67174a2184cbf01dc2e78",
        fast_epochs=40,
    ),
):
    register_dataset(_info)


class DataSpec(Spec):
    """Which images: a built-in set, a folder of images (one sub-folder a class) or a `.npz` file; all classes or some.

    A string stands for one: `mnist`, `mnist:4,9` (of classes 4 and 9), `folder:PATH`, `file:PATH.npz`.
    """

    dataset: Annotated[str, OneOf(DATASETS, *OWN)] = Field(
        "digits", title="Data set", description="Where the images come from."
    )
    folder: str | None = Field(
        None,
        title="Image folder",
        description="Only for 'folder': FOLDER/train/CLASS and FOLDER/test/CLASS, with FOLDER/val/CLASS if there is "
        "one; or FOLDER/CLASS, of which a fifth of every class becomes the test part. FOLDER/test/CLASS alone: images "
        "to test a model on, none to train on.",
    )
    file: str | None = Field(
        None,
        title="Image file",
        description="Only for 'file': a .npz file with x_train, y_train, x_test and y_test, or with x and y alone, "
        "which are test images. x holds uint8 0 to 255 or float in [0, 1], y whole numbers; class_names if you like.",
    )
    image_size: int = Field(
        32, ge=8, le=224, title="Image size", description="Only for 'folder': side of the images in pixels."
    )
    grey: bool = Field(False, title="Grey", description="Only for 'folder': read the images in grey, with one channel.")
    classes: tuple[int, ...] | None = Field(
        None, title="Classes", description="Keep only these classes, renumbered in this order. 4 9: four against nine."
    )
    content: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        title="Content",
        description="Only for your own images: SHA-256 of them and their class names. Filled in by the program.",
    )

    LATER: ClassVar[tuple[str, ...]] = ("content", "file")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, body: Any) -> Any:
        if not isinstance(body, str):
            return body
        name, _, rest = body.partition(":")
        if name not in (*DATASETS, *OWN) and body.lower().endswith(".npz"):
            name, rest = "file", body
        if name in OWN:
            return {"dataset": name, name: rest or None}
        return {"dataset": name, **({"classes": rest.replace(",", " ").split()} if rest else {})}

    @field_validator(*OWN)
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or "\0" in value):
            raise ValueError("expected a path")
        return value

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
        for name in OWN:
            if (self.dataset == name) != (getattr(self, name) is not None):
                raise ValueError(f"'{name}' must be given exactly when dataset is '{name}'")
        if self.dataset != "folder" and (self.image_size, self.grey) != (32, False):
            raise ValueError("'image_size' and 'grey' are only for dataset 'folder'")
        if self.dataset in DATASETS:
            if self.content is not None:
                raise ValueError("'content' is only for datasets 'folder' and 'file'")
            known = len(DATASETS[self.dataset].class_names)
            if self.classes and max(self.classes) >= known:
                raise ValueError(f"classes: {self.dataset} has the classes 0 to {known - 1}, got {max(self.classes)}")
        return self

    @property
    def path(self) -> str | None:
        """Where people's own images lie; None for a built-in set."""
        return self.folder if self.dataset == "folder" else self.file

    def slug(self) -> str:
        """Such as `mnist`, `mnist-4v9`, `folder-cats`, `file-cats`."""
        name = self.dataset
        if self.path is not None:
            last = self.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower().removesuffix(".npz")
            name = f"{name}-{re.sub(r'[^a-z0-9]+', '-', last).strip('-') or 'images'}"
        return name + (f"-{'v'.join(map(str, self.classes))}" if self.classes else "")
