"""Models made by others: which file, and what stands between images in [0, 1] and the network in it."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from core.specs.base import Real, Spec
from core.specs.data import DataSpec

Outputs = Literal["logits", "probabilities", "log_probabilities", "score", "probability"]
"""What a network answers with: K logits, K probabilities (softmax), K logarithms of them; or, for two classes, one
score (class 1 above 0) or one probability (of class 1)."""


class Framing(Spec):
    """What is done to images (N, C, H, W) in [0, 1] before the network, and to its outputs afterwards.

    In this order: resize (bilinear, antialiased) so that the shorter side is `resize`, centre crop to `crop`, reverse
    the channels (`bgr`), subtract `mean` and divide by `std`, bring the channels last (`nhwc`), reshape to `shape`.
    """

    resize: int | None = Field(None, ge=1, le=4096, title="Resize", description="Shorter side in pixels. Empty: no.")
    crop: int | None = Field(None, ge=1, le=4096, title="Crop", description="Side of the central square. Empty: no.")
    channels: Literal["rgb", "bgr"] = Field("rgb", title="Channels", description="Order of the three colours.")
    mean: tuple[Real, ...] = Field((0.0,), title="Mean", description="Subtracted: one number, or one a channel.")
    std: tuple[Real, ...] = Field((1.0,), title="Divisor", description="Divided by: one number, or one a channel.")
    layout: Literal["nchw", "nhwc"] = Field("nchw", title="Layout", description="Where the channels lie.")
    shape: tuple[int, ...] | None = Field(
        None, title="Shape", description="Shape of one image as the network takes it, such as 784. Empty: as it is."
    )
    outputs: Outputs = Field("logits", title="Outputs", description="What the network answers with.")
    classes: tuple[int, ...] | None = Field(
        None,
        title="Class order",
        description="The network's output for each class of the data set. Empty: the same order.",
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if not self.mean or not self.std or min(map(abs, self.std)) == 0:
            raise ValueError(f"std: expected numbers other than 0, got {self.std}")
        return self


class ImportSpec(Spec):
    """A model made by others: the file by its content, the data set it is for, and how it is asked.

    What is None or empty is found out from images of the data set when the model is imported; the card says what was
    found (`framing`), with the evidence (`found`).
    """

    data: DataSpec = Field(default_factory=DataSpec)
    label: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", title="Name", description="What the model is called: a-z, 0-9 and '-'."
    )
    route: Literal["onnx", "weights"] = Field(title="Kind", description="An ONNX graph, or weights of an architecture.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", title="Content", description="SHA-256 of the file.")
    architecture: str = Field(
        "",
        max_length=200,
        pattern=r"^([a-z]+:)?[A-Za-z0-9_.]*$",
        title="Architecture",
        description="Only for weights: a network of this program, torchvision:NAME or timm:NAME.",
    )
    resize: int | None = Field(None, ge=1, le=4096, title="Resize", description="Shorter side in pixels. Empty: no.")
    crop: int | None = Field(None, ge=1, le=4096, title="Crop", description="Side of the central square. Empty: no.")
    channels: Literal["rgb", "bgr"] | None = Field(
        None, title="Channels", description="Order of the three colours. Empty: found out."
    )
    mean: tuple[Real, ...] | None = Field(
        None,
        title="Mean",
        description="Subtracted from images in [0, 1]: one number, or one a channel. Empty: found out.",
    )
    std: tuple[Real, ...] | None = Field(
        None,
        title="Divisor",
        description="What they are divided by then: one number, or one a channel. Empty: found out.",
    )
    layout: Literal["nchw", "nhwc"] | None = Field(
        None, title="Layout", description="Where the channels lie. Empty: found out."
    )
    outputs: Outputs | None = Field(
        None, title="Outputs", description="What the network answers with. Empty: found out."
    )
    classes: tuple[int, ...] | None = Field(
        None,
        title="Class order",
        description="The network's output for each class of the data set. Empty: the same order.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.route == "weights") != bool(self.architecture):
            raise ValueError(
                f"architecture: expected one exactly where the file holds weights alone, got {self.architecture!r}"
            )
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean: expected mean and std together, got one of them")
        if self.std is not None and (not self.std or min(map(abs, self.std)) == 0):
            raise ValueError(f"std: expected numbers other than 0, got {self.std}")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: expected every output once, got {self.classes}")
        return self

    @property
    def network(self) -> str:
        """The architecture; of a graph, which names none, `onnx`."""
        return self.architecture or "onnx"

    @property
    def scalar(self) -> bool:
        """Whether it answers with one score: never, a framing makes two logits of it."""
        return False

    def slug(self) -> str:
        """Such as `mnist-my-net-imported`."""
        return f"{self.data.slug()}-{self.label}-imported"


def label_of(filename: str) -> str:
    """A label made from a file's name: `My Net.v2.onnx` gives `my-net-v2`."""
    stem = re.sub(
        r"\.(onnx|safetensors|pt|pth|bin|pt2|ckpt)$", "", filename.replace("\\", "/").rsplit("/", 1)[-1].lower()
    )
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40].strip("-") or "model"
