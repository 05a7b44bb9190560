"""A task that judges images one by one: run on all of them, or on parts that come together to the same result.

The images of a task are numbered from 0 in its own order. What must be the same for all of them (which images, whether
gradients mislead) is found once, by `ByImage.find`; each part is made with it; `close` counts what was found of all.
A run in one piece goes the same way with a single part, so that there is one computation and not two. Parts differ
from the whole by no more than a batch of another size does: by rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.engine import admitted
from core.evaluation.robust.gradient_masked import outputs_vary
from core.progress import Progress
from core.storage import store


@dataclass(frozen=True)
class Part:
    """What was found of some images.

    Attributes:
        table: rows in the order of the images; a task that has several rows an image puts them in order in `close`.
        arrays: a row an image, or a row of the table.
        counts: numbers that add up over parts.
        facts: what is the same of every image, ready for JSON.
    """

    table: pd.DataFrame
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> Part:
        """The parts, in the order of their images, as one.

        Raises:
            ValueError: they differ in what is the same of every image.
        """
        first, *others = parts
        for other in others:
            if other.facts != first.facts:
                raise ValueError(
                    f"parts: expected the same of every image, got {first.facts} and {other.facts}: the model cannot "
                    "be judged in parts; run the task without an engine"
                )
        return cls(
            pd.concat([part.table for part in parts], ignore_index=True) if others else first.table,
            {name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays},
            {name: sum(part.counts[name] for part in parts) for name in first.counts},
            first.facts,
        )


class ByImage(ABC):
    """A task with its models and images, ready to judge any of them. Subclasses open these in their constructor.

    A constructor takes the task, the store's folder, and by name `device`, `found` (what `find` returned, for a part
    of several) and `on_progress`.

    Attributes:
        count: the number of images.
        found: what `find` returned; empty where all images are judged in one piece.
        models: all models that are asked.
        first: (2, C, H, W) the first two images (or the only one), on the device: how each model is to be asked is
            found out with them, see `core.attacks.engine.fitted`.
        unit: images that are judged together: each part begins at a multiple of it, and ends at one or with the last
            image.
        depends: what the result depends on besides the task: the models' and the data's fingerprints, the device.
    """

    unit: int = 1
    count: int
    found: dict[str, Any]
    models: list[nn.Module]
    first: Tensor
    depends: dict[str, Any]

    def find(self) -> dict[str, Any]:
        """What every part is made with, ready for JSON."""
        return {}

    @abstractmethod
    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Judge the images of `rows` (start and stop given).

        Args:
            rows: which images, by their places.
            kept: where a run that is stopped may keep its state, to resume from.
            on_progress: called with the progress of the part.
        """

    @abstractmethod
    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """What is stored, from what was found of all images."""

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Inside, every model is asked in the way that the first images showed, in all parts alike."""
        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(admitted(model, self.first))
            yield

    def check_apart(self) -> None:
        """Raises ValueError for a model whose answers depend on the batch: parts would not be those of the whole."""
        for model in self.models:
            with admitted(model, self.first) as fit:
                if not bears_of(fit).neighbours:
                    raise ValueError(
                        "model: expected one that can be judged in parts, got one whose answer to an image depends on "
                        "the other images of its batch; run the task without an engine"
                    )
                if outputs_vary(fit, self.first):
                    raise ValueError(
                        "model: expected one that can be judged in parts, got one whose outputs are random and depend "
                        "on the order of its batches; run the task without an engine"
                    )


def run(task: ByImage, kept: Path, on_progress: Progress | None = None) -> store.Outcome:
    """The task in one piece: all images as a single part."""
    with task.asked():
        return task.close(task.part(slice(0, task.count), kept, on_progress), on_progress)


def depends(models: Sequence[store.Artifact], fingerprint: str, device: str) -> dict[str, Any]:
    """What a result depends on besides its task; of a device the kind, since any of one kind may go on."""
    return {"models": [model.card["sha256"] for model in models], "data": fingerprint, "device": device.split(":")[0]}
