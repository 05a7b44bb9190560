"""How every runner begins and ends: the model with its images, and what a card says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.attacks.engine.losses import predicted
from core.attacks.engine.masks import Masked
from core.attacks.engine.streams import Streams
from core.attacks.physical import mask_shapes
from core.data.sets import Dataset, Split, first_of_test, to_float
from core.evaluation.tables.metrics import five_metrics
from core.evaluation.tasks import parts
from core.models.saved import SavedModel, load_model, load_surrogate
from core.networks.catalogue import logits_of
from core.progress import Progress
from core.specs import (
    AnyMask,
    AttackSpec,
    CertifySpec,
    EvaluateSpec,
    Method,
    PatternSpec,
    RadiiSpec,
    SweepSpec,
    UniversalSpec,
)

_OfOneModel = AttackSpec | SweepSpec | UniversalSpec | PatternSpec | RadiiSpec | EvaluateSpec | CertifySpec


@dataclass(frozen=True)
class Opened:
    """A saved model, the data set whose images it is shown, and the device where both are used."""

    saved: SavedModel
    data: Dataset
    root: Path
    device: str

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode with frozen parameters."""
        return self.saved.model

    def first(self, n: int) -> Split:
        """The first n test images, in the fixed order of the test set."""
        return first_of_test(self.data, n)

    def first_correct(
        self, ordered: Split, n: int, sources: Sequence[int] | None = None, target: str | int = "any"
    ) -> Split:
        """The first n correctly classified images: of the source classes if any, and none of the target class.

        Raises:
            ValueError: no image qualifies.
        """
        wanted = torch.ones(len(ordered), dtype=torch.bool)
        if sources is not None:
            wanted &= torch.isin(ordered.y, torch.tensor(sources))
        if isinstance(target, int):
            wanted &= ordered.y != target
        ordered = ordered.take(wanted)
        # a share of the images is nearly always enough; the whole set is classified only where it is not
        for limit in (n + n // 2 + 100, len(ordered)):
            candidates = ordered.take(torch.arange(min(limit, len(ordered))))
            if not len(candidates):
                break
            correct = predicted(logits_of(self.model, candidates.x)).cpu() == candidates.y
            if int(correct.sum()) >= n or limit >= len(ordered):
                break
        if not len(candidates) or not correct.any():
            raise ValueError("n: expected at least one correctly classified image to attack, there is none")
        return candidates.take(correct.nonzero()[:n, 0])

    def tensors(self, images: Split) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) in [0, 1] and their classes (n,), on the device."""
        return to_float(images.x).to(self.device), images.y.to(self.device)

    def streams(self, seed: int, images: Split) -> Streams:
        """The random streams of images: they depend on the seed and on the images' numbers."""
        return Streams.of(seed, images.index.to(self.device))

    def masked(self, mask: AnyMask | None, x: Tensor) -> tuple[nn.Module, np.ndarray | None]:
        """The model, whose pixels can be changed inside the mask only, and the mask (H, W); without one, as it is."""
        if mask is None:
            return self.model, None
        drawn = mask_shapes.draw(mask, *x.shape[2:])
        return Masked(self.model, torch.from_numpy(drawn).to(self.device)), drawn

    def surrogate(self, method: Method) -> nn.Module | None:
        """The model whose gradients a method follows; None where it needs none."""
        return load_surrogate(method, self.saved, self.root, device=self.device)

    def check_classes(self, **fields: object) -> None:
        """Raises ValueError where a field names a class by a number that the data set does not have.

        Args:
            fields: name of the field → a class, several classes, or text and None, which name none.
        """
        last = len(self.data.class_names) - 1
        for name, value in fields.items():
            for label in value if isinstance(value, tuple) else (value,):
                if isinstance(label, int) and label > last:
                    raise ValueError(f"{name}: expected a class from 0 to {last}, got {label}")


def opened(spec: _OfOneModel, root: Path, *, device: str, on_progress: Progress | None = None) -> Opened:
    """Load the model that a task names, and the data set whose images it is shown: its own, or the task's `data`.

    Raises:
        ValueError: an unknown model, a threshold for a model that has none, a data set that has changed since, or one
            that does not fit the model.
        DataMissing: the data set cannot be had.
    """
    saved = load_model(spec.model, root, device=device, threshold=spec.threshold)
    return Opened(saved, saved.data(spec.data, on_progress), root, device)


class OfOneModel(parts.ByImage):
    """A task on the first test images of one model, or on those that `chosen` names."""

    spec: Any

    def __init__(
        self,
        spec: Any,
        root: Path,
        *,
        device: str,
        found: dict[str, Any] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.spec, self.found = spec, found or {}
        self.lab = opened(spec, root, device=device, on_progress=on_progress)
        self.images = self.chosen()
        self.count = len(self.images)
        self.first = to_float(self.images.x[:2]).to(device)
        self.models = [self.lab.model]
        self.depends = parts.depends([self.lab.saved.artifact], self.lab.data.fingerprint, device)

    def chosen(self) -> Split:
        """The images, in their order."""
        return self.lab.first(self.spec.n)

    def taken(self, rows: slice) -> Split:
        """Some of the images, by their places."""
        return self.images.take(torch.arange(self.count)[rows])


def made_from_and_held_out(lab: Opened, spec: UniversalSpec | PatternSpec) -> tuple[Split, Split]:
    """The training images that one change for many is made from, and the test images that it is measured on.

    Both are the first correctly classified ones, in the fixed orders; see `Opened.first_correct`.
    """
    lab.check_classes(source=spec.source, target=spec.target)
    if not len(lab.data.train):
        raise ValueError(f"data: expected images to make it from, got {lab.data.title}, which has test images alone")
    fit = lab.first_correct(lab.data.train, spec.n, spec.source, spec.target)
    return fit, lab.first_correct(lab.first(len(lab.data.test)), spec.held_out, spec.source, spec.target)


def targets(y: Tensor, target: str | int) -> Tensor | None:
    """The class that each image is to be classified as; None where any wrong class will do."""
    return None if target == "any" else torch.full_like(y, int(target))


def card_of(data: Dataset, device: str, **between: Any) -> dict[str, Any]:
    """The last fields of a card: classes, data set and device, `between` before the device."""
    return {
        "class_names": list(data.class_names),
        "data": facts_of(data),
        **between,
        "device": device,
    }


def facts_of(data: Dataset) -> dict[str, Any]:
    """What a card says of a data set, so that a changed one is noticed."""
    return {"title": data.title, "fingerprint": data.fingerprint}


def card_of_model(data: Dataset, table: Mapping[str, Any], **metrics: Any) -> dict[str, Any]:
    """What the card of any model says of its data set and of its answers to the test images.

    Args:
        data: the data set.
        table: see `answers.test_table`.
        metrics: what else was measured.
    """
    scores = five_metrics(table["y"], table["pred"], table["confidence"])
    parts = (("train", data.train), ("validation", data.validation), ("test", data.test))
    return {
        "metrics": {
            "test_accuracy": scores.accuracy,
            "test_low": scores.low,
            "test_high": scores.high,
            "test_n": scores.n,
            **metrics,
            **scores.row(),
        },
        "class_names": list(data.class_names),
        "shape": list(data.shape),
        "data": {**facts_of(data), **{f"{name}_size": len(of) for name, of in parts}, "notes": list(data.notes)},
    }


def card_of_mask(mask: np.ndarray) -> dict[str, Any]:
    """What a card says of a mask (H, W): its pixels, and their share of the image."""
    return {"pixels": int(mask.sum()), "share": float(mask.mean())}
