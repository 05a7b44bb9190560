"""Attack chosen images of one saved model and keep every image made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from core.attacks.engine.losses import predicted
from core.attacks.engine.stand_ins import stand_in
from core.attacks.run import run_method
from core.data.sets import Dataset, Split, to_float
from core.evaluation.tables import enumeration
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tasks import parts
from core.evaluation.tasks.answers import ANY, classes_of, probabilities
from core.evaluation.tasks.opening import OfOneModel, Opened, card_of, card_of_mask
from core.evaluation.tasks.parts import Part
from core.networks.catalogue import logits_of
from core.progress import Progress
from core.specs import AttackSpec, Exhaustive, Method
from core.specs.methods.base import NORMS
from core.storage import store


def run(spec: AttackSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Attack what the spec names.

    Returns:
        Outcome: arrays `images` (x, x_adv, probabilities before and after, and the method's traces, a row each),
        with a mask also `mask` (the pixels that could change, (H, W) bool; their number and share on the card),
        table `images` (a row for each image and target) and the summary `metrics`. A success counts only when a
        forward pass of the stored image, in another batch layout, confirms it; rows whose target is the true class,
        and images that were wrong before, are shown but left out of the success rate.

    Raises:
        ValueError: an image index, class or target that does not exist, no image that qualifies, or a surrogate of
            other images or classes.
        DataMissing: the model's data set cannot be had.
    """
    return parts.run(
        ByImage(spec, root, device=device, on_progress=on_progress), store.unfinished(spec, root), on_progress
    )


class ByImage(OfOneModel):
    """An attack on chosen images; see `run`."""

    spec: AttackSpec

    def __init__(self, spec: AttackSpec, root: Path, **how: Any) -> None:
        super().__init__(spec, root, **how)
        self.model, self.mask = self.lab.masked(spec.mask, self.first)
        self.surrogate = self.lab.surrogate(spec.attack)
        self.models += [] if self.surrogate is None else [self.surrogate]

    def chosen(self) -> Split:
        """The images that the task names; those that qualified, where that is known."""
        return _named(self.found["index"], self.lab) if self.found else select_images(self.spec, self.lab)

    def find(self) -> dict[str, Any]:
        """Which images qualified."""
        return {"index": self.images.index.tolist()}

    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Attack some of the images; see `parts.ByImage`. No state is kept."""
        spec, lab = self.spec, self.lab
        images = self.taken(rows)
        places, target = _rows_and_targets(spec, images, len(lab.data.class_names))
        batch = images.take(places)
        x, y = lab.tensors(batch)
        y_target = None if spec.target == "any" else target.to(lab.device)

        start = time.perf_counter()
        result = run_method(
            self.model,
            x,
            y,
            spec.attack,
            eps=spec.eps,
            y_target=y_target,
            streams=lab.streams(spec.seed, batch),
            budget=spec.budget,
            eight_bit=spec.eight_bit,
            surrogate=self.surrogate,
            x_init=None
            if y_target is None or not spec.attack.takes_start
            else starts(lab.model, lab.data, x, y_target),
            on_progress=on_progress,
        )
        seconds = time.perf_counter() - start

        judge = stand_in(lab.model, getattr(spec.attack, "draws", 1))  # a random model is judged as it was attacked
        before, after = probabilities(judge, x), probabilities(judge, result.x_adv)
        table = pd.DataFrame(
            {
                "row": np.arange(len(places)),
                "index": batch.index.numpy(),
                "y": batch.y.numpy(),
                "target": target.numpy(),
                "pred_clean": classes_of(before),
                "confidence_clean": before.max(axis=1),
                "pred": classes_of(after),
                "confidence": after.max(axis=1),
                "success": result.success.cpu().numpy(),
                **{name: result.distance[name].cpu().numpy() for name in ("l0", "pixels", "l1", "l2", "linf")},
                "forwards": result.forwards.cpu().numpy(),
                "backwards": result.backwards.cpu().numpy(),
            }
        )
        arrays = {
            "x": x.cpu().numpy(),
            "x_adv": result.x_adv.cpu().numpy(),
            "probabilities_clean": before,
            "probabilities": after,
            **{
                f"trace_{name}": value.movedim(spec.attack.trace_axis, 0).cpu().numpy()
                for name, value in result.trace.items()
            },
        }
        return Part(table, arrays, {"seconds": seconds})

    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """The summary of all rows; see `parts.ByImage`."""
        spec = self.spec
        axis = spec.attack.trace_axis
        arrays = {
            name: np.moveaxis(value, 0, axis) if name.startswith("trace_") else value
            for name, value in whole.arrays.items()
        }
        table = whole.table.assign(row=np.arange(len(whole.table)))
        # `physical`: how often a pattern fools in scenes that it was not made for; NaN for images that wear none
        share = arrays.get("trace_share")
        scenes = {} if share is None else {"mean_share": torch.from_numpy(share).nanmean().item()}
        # changes made at one ε are about that ε: in its own norm their median is no distance that was looked for
        edge = {} if spec.eps is None else {f"median_{norm_of(spec.attack)}": float("nan")}
        card = {
            "metrics": {**summarize(table), **edge, **scenes, "seconds": whole.counts["seconds"]},
            **card_of(self.lab.data, self.lab.device),
        }
        stored = {"images": arrays}
        if isinstance(spec.attack, Exhaustive):
            card["proven"] = enumeration.summary(arrays)
        if self.mask is not None:
            stored["mask"] = {"mask": self.mask}
            card["mask"] = card_of_mask(self.mask)
        return store.Outcome(card=card, arrays=stored, tables={"images": table})


def norm_of(method: Method) -> str:
    """The norm in which a method's ε is measured."""
    return getattr(method, "norm", None) or method.norms[0]


def select_images(spec: AttackSpec, lab: Opened) -> Split:
    """The test images that the spec names, or the first n correctly classified ones in the test set's fixed order.

    With a source class only images of it, with a target class only images of others.
    Raises ValueError when an index or a class does not exist, or nothing qualifies.
    """
    lab.check_classes(source=spec.source, target=spec.target)
    if spec.indices is not None:
        return _named(spec.indices, lab)
    sources = None if spec.source is None else (spec.source,)
    return lab.first_correct(lab.first(len(lab.data.test)), spec.n, sources, spec.target)


def _named(indices: Sequence[int], lab: Opened) -> Split:
    """The test images of these numbers. Raises ValueError when one does not exist."""
    place = {int(index): row for row, index in enumerate(lab.data.test.index)}
    unknown = [index for index in indices if index not in place]
    if unknown:
        raise ValueError(f"indices: expected numbers of test images, as in a table's `index`, got {unknown[0]}")
    return lab.data.test.take(torch.tensor([place[index] for index in indices]))


def _rows_and_targets(spec: AttackSpec, images: Split, classes: int) -> tuple[Tensor, Tensor]:
    """Which image each row attacks, and towards which class; images × classes rows when every class is a target."""
    positions = torch.arange(len(images))
    if spec.target == "all":
        return positions.repeat_interleave(classes), torch.arange(classes).repeat(len(images))
    return positions, torch.full_like(positions, ANY if spec.target == "any" else int(spec.target))


def starts(model: nn.Module, data: Dataset, x: Tensor, y_target: Tensor) -> Tensor:
    """Per row a training image of its target class that is classified so; the row's own image where there is none."""
    made = x.clone()
    for label in y_target.unique().tolist():
        of_class = data.train.x[(data.train.y == label).nonzero()[:100, 0]]
        right = (predicted(logits_of(model, of_class)).cpu() == label).nonzero()[:1, 0] if len(of_class) else ()
        if len(right):
            made[y_target == label] = to_float(of_class[right]).to(x.device)
    return made


def summarize(table: pd.DataFrame) -> dict[str, float]:
    """Success rate with its interval, and the medians of the successes' distances, confidence and cost.

    Counted are rows whose image was right before and whose target is another class; medians of nothing are NaN.
    """
    counted = table[(table["pred_clean"] == table["y"]) & (table["target"] != table["y"])]
    won = counted[counted["success"]]
    low, high = clopper_pearson(len(won), len(counted))
    return {
        "n": len(counted),
        "success_rate": len(won) / len(counted) if len(counted) else float("nan"),
        "low": low,
        "high": high,
        **{f"median_{name}": float(won[name].median()) for name in (*NORMS, "pixels", "confidence")},
        "mean_forwards": float(counted["forwards"].mean()),
        "mean_backwards": float(counted["backwards"].mean()),
    }
