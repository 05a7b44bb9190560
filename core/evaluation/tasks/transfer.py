"""Who fools whom: images made on each of several models, shown to all of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from core.data.sets import Split, first_of_test, to_float
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tasks import parts
from core.evaluation.tasks.answers import DISTANCES, classes_of, probabilities
from core.evaluation.tasks.opening import card_of
from core.evaluation.tasks.parts import Part
from core.models.saved import SavedModel, load_model
from core.progress import Progress, part
from core.specs import DataSpec, TransferSpec
from core.storage import store

BATCH = 500
"""Images that are made and shown at once; memory holds the rest as they are stored."""


def run(spec: TransferSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Attack the first n test images on each model, and show what was made to every model.

    As in the field, an attack takes all its steps: an image just beyond one model's boundary says little about others.

    Returns:
        Outcome: table `images`, a row for each surrogate, victim and image: pred_surrogate and pred_clean are what the
        surrogate and the victim predict for the unchanged image, pred what the victim predicts for the adversarial
        example. Arrays `images`: index (n,), x_adv (M, n, C, H, W) in the order of `spec.models`. In the card `rows`,
        one for each surrogate and victim: `rate`, the share that fools the victim of the `counted` images that both
        classify correctly unchanged, with its exact interval; `cost`, forward and backward passes per image.

    Raises:
        ValueError: an unknown model, or models of different images or classes; DataMissing: their data cannot be had.
    """
    return parts.run(
        ByImage(spec, root, device=device, on_progress=on_progress), store.unfinished(spec, root), on_progress
    )


class ByImage(parts.ByImage):
    """Who fools whom, on the first test images; see `run`."""

    def __init__(
        self,
        spec: TransferSpec,
        root: Path,
        *,
        device: str,
        found: dict[str, Any] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.spec, self.device = spec, device
        self.saved = [load_model(model, root, device=device) for model in spec.models]
        _same_images(self.saved, spec.data)
        self.data = self.saved[0].data(spec.data, on_progress)
        self.images = first_of_test(self.data, spec.n)
        self.found, self.count = found or {}, len(self.images)
        self.first = to_float(self.images.x[:2]).to(device)
        self.models = [model.model for model in self.saved]
        self.depends = parts.depends([model.artifact for model in self.saved], self.data.fingerprint, device)

    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Attack some of the images on every model; see `parts.ByImage`. No state is kept.

        Table: a row for each image, surrogate and victim. Arrays: x_adv (n, M, C, H, W).
        """
        saved, batch = self.saved, self.images.take(torch.arange(self.count)[rows])
        start = time.perf_counter()
        clean = [classes_of(probabilities(model.model, batch.x)) for model in saved]
        made = np.empty((len(batch), len(saved), *batch.x.shape[1:]), dtype=np.float32)
        tables, passes = [], {}
        for place, surrogate in enumerate(saved):
            name, done = surrogate.artifact.id, place * len(batch)
            passes[name] = 0
            for low in range(0, len(batch), BATCH):
                few = slice(low, min(low + BATCH, len(batch)))
                report = part(
                    on_progress,
                    done + low,
                    done + few.stop,
                    len(saved) * len(batch),
                    phase=f"attacking {name}",
                    metrics={},
                )
                result = _made(self.spec, surrogate, batch.take(torch.arange(len(batch))[few]), self.device, report)
                made[few, place] = result.x_adv.cpu().numpy()
                passes[name] += int((result.forwards + result.backwards).sum())
                known = {
                    "index": batch.index[few].numpy(),
                    "y": batch.y[few].numpy(),
                    "pred_surrogate": clean[place][few],
                    **{name: result.distance[name].cpu().numpy() for name in DISTANCES[:-1]},
                }
                for victim, before in zip(saved, clean, strict=True):
                    # reversed, so that a verdict does not hang on how a batch was cut
                    after = probabilities(victim.model, result.x_adv.flip(0))[::-1]
                    both = {"surrogate": surrogate.artifact.id, "victim": victim.artifact.id}
                    said = {"pred_clean": before[few], "pred": classes_of(after), "confidence": after.max(axis=1)}
                    tables.append(pd.DataFrame({**both, **known, **said}))
        counts = {"seconds": time.perf_counter() - start, **passes}
        return Part(pd.concat(tables, ignore_index=True), {"x_adv": made}, counts)

    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """The rate of each pair, and what was made in the order of the models; see `parts.ByImage`."""
        names = [model.artifact.id for model in self.saved]
        of = whole.table.groupby(["surrogate", "victim"], sort=False)  # a group's rows stay in the images' order
        tables = [of.get_group((surrogate, victim)) for surrogate in names for victim in names]
        pairs = [
            {"surrogate": table["surrogate"].iloc[0], "victim": table["victim"].iloc[0], **rate(table)}
            for table in tables
        ]
        card = {
            "rows": pairs,
            "cost": {name: whole.counts[name] / self.count for name in names},
            "n": self.count,
            **card_of(self.data, self.device, seconds=whole.counts["seconds"]),
        }
        made = np.ascontiguousarray(whole.arrays["x_adv"].swapaxes(0, 1))
        arrays = {"images": {"index": self.images.index.numpy(), "x_adv": made}}
        return store.Outcome(card=card, arrays=arrays, tables={"images": pd.concat(tables, ignore_index=True)})


def _made(
    spec: TransferSpec, surrogate: SavedModel, batch: Split, device: str, on_progress: Progress | None
) -> AttackResult:
    """What the attack makes of some of the images on one model; random streams hang on the images' numbers."""
    return run_method(
        surrogate.model,
        to_float(batch.x).to(device),
        batch.y.to(device),
        spec.attack,
        eps=spec.eps,
        streams=Streams.of(spec.seed, batch.index.to(device)),
        early_stop=spec.early_stop,
        on_progress=on_progress,
    )


def rate(table: pd.DataFrame) -> dict[str, float]:
    """How often one victim is fooled by what was made on one surrogate, with the exact interval.

    Only images that both classify correctly count: on one that the surrogate misclassifies, nothing was made.
    """
    y = table["y"]
    right = ((table["pred_clean"] == y) & (table["pred_surrogate"] == y)).to_numpy()
    fooled = int((right & (table["pred"] != y).to_numpy()).sum())
    low, high = clopper_pearson(fooled, int(right.sum()))
    return {
        "n": len(table),
        "counted": int(right.sum()),
        "rate": fooled / right.sum() if right.any() else float("nan"),
        "low": low,
        "high": high,
    }


def _same_images(saved: list[SavedModel], data: DataSpec | None) -> None:
    """Refuse models whose own images differ, and, where others are named, models of other shapes or classes."""
    for other in saved[1:]:
        ours, theirs = (
            (model.artifact.card["shape"], model.spec.data if data is None else model.class_names)
            for model in (saved[0], other)
        )
        if ours != theirs:
            fitting = tuple(other.artifact.card["shape"]) == tuple(saved[0].artifact.card["shape"])
            more = "; name images for all of them in `data`" if fitting and data is None else ""
            raise ValueError(
                f"models: expected models of the same images and classes as {saved[0].artifact.id}, "
                f"got {other.artifact.id}{more}"
            )
