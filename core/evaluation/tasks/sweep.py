"""Accuracy and confidence of one saved model against ε, per image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from core.attacks.engine.checks import check_eps
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.attacks.engine.stand_ins import stand_in
from core.attacks.engine.steps import fgsm_step
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.fgsm import fgsm_direction
from core.attacks.run import run_method
from core.data.sets import to_float
from core.epsilon import within
from core.evaluation.tables.comparison import PASSES
from core.evaluation.tables.metrics import clopper_pearson, five_metrics
from core.evaluation.tasks import parts
from core.evaluation.tasks.answers import DISTANCES, second_look
from core.evaluation.tasks.opening import OfOneModel, card_of
from core.evaluation.tasks.parts import Part
from core.networks.catalogue import logits_of
from core.progress import Progress, part
from core.specs import Fgsm, Method, SweepSpec
from core.storage import store

_Rung = tuple[float, Tensor, tuple[Tensor, Tensor]]
"""ε, the images made for it, and the forward and backward passes of the search that each image's verdict rests on."""


@dataclass(frozen=True)
class _Images:
    """The images of one sweep, on the device, with their random streams."""

    x: Tensor
    y: Tensor
    y_target: Tensor | None
    streams: Streams

    def take(self, rows: Tensor) -> _Images:
        target = None if self.y_target is None else self.y_target[rows]
        return _Images(self.x[rows], self.y[rows], target, self.streams.take(rows))

    def fooled(self, pred: Tensor) -> Tensor:
        """Whether each prediction is what the attack wants."""
        return pred != self.y if self.y_target is None else pred == self.y_target


def run(spec: SweepSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Attack the first n test images (fixed order) at every ε.

    FGSM's gradient is computed once and serves every ε; its formula is applied to every image. Other attacks climb the
    ladder of budgets: what fooled the model inside a small ball lies inside the larger ones too, so only the images
    that are not fooled yet are attacked again, and accuracy never rises with ε; misclassified images stay as they are.
    The dense formula finds its own ε* once; at a budget below it the image is not fooled.

    Returns:
        Outcome: table `images` (a row for each ε and image), array file `gallery` (a correctly classified image of each
        class at every ε) and the five metrics of each ε as `rows` in the card. `forwards` and `backwards` of an image
        at ε are the passes of the search that its verdict at ε rests on, with one look at the result: the search at
        this ε, or the one in a smaller ball that fooled it; failed searches in smaller balls are left out. A row has
        their means over all images.

    Raises:
        ValueError: a target class that does not exist, a surrogate that does not fit; DataMissing: the model's data set
            cannot be had.
    """
    return parts.run(
        ByImage(spec, root, device=device, on_progress=on_progress), store.unfinished(spec, root), on_progress
    )


class ByImage(OfOneModel):
    """Accuracy against ε on the first test images; see `run`."""

    spec: SweepSpec

    def __init__(self, spec: SweepSpec, root: Path, **how: Any) -> None:
        super().__init__(spec, root, **how)
        self.lab.check_classes(target=spec.target)
        self.surrogate = self.lab.surrogate(spec.attack)
        self.models += [] if self.surrogate is None else [self.surrogate]

    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Attack some of the images at every ε; see `parts.ByImage`. No state is kept.

        Arrays: of the first correctly classified image of each class in this part, its place (in all images) and what
        it became at every ε.
        """
        spec, lab = self.spec, self.lab
        batch = self.taken(rows)
        x, y = lab.tensors(batch)
        target = None if spec.target is None else torch.full_like(y, spec.target)
        images = _Images(x, y, target, lab.streams(spec.seed, batch))

        start = time.perf_counter()
        judge = stand_in(lab.model, getattr(spec.attack, "draws", 1))  # a random model is judged as it was attacked
        clean = predicted(logits_of(judge, x))
        shown = _one_a_class(batch.y, (clean == y).cpu(), len(lab.data.class_names))
        tables, pictures = [], []
        ladder = _ladder(lab.model, self.surrogate, images, spec.attack, spec.eps, clean, on_progress)
        for eps, x_adv, (forwards, backwards) in ladder:
            confidence, pred = (value.cpu() for value in second_look(judge, x_adv))
            size = distances(x_adv, x)
            tables.append(
                pd.DataFrame(
                    {
                        "eps": eps,
                        "index": batch.index.numpy(),
                        "y": batch.y.numpy(),
                        "pred_clean": clean.cpu().numpy(),
                        "pred": pred.numpy(),
                        "confidence": confidence.numpy(),
                        "success": images.fooled(pred.to(lab.device)).cpu().numpy(),
                        **{name: size[name].cpu().numpy() for name in DISTANCES},
                        "forwards": forwards.cpu().numpy() + 1,
                        "backwards": backwards.cpu().numpy(),
                    }
                )
            )
            pictures.append(x_adv[shown].cpu().numpy())
        arrays = {"place": shown.numpy() + rows.start, "x_adv": np.stack(pictures, axis=1)}
        return Part(pd.concat(tables, ignore_index=True), arrays, {"seconds": time.perf_counter() - start})

    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """The five metrics at each ε and the gallery; see `parts.ByImage`."""
        spec = self.spec
        by_eps = whole.table.sort_values("eps", kind="stable", ignore_index=True)
        rows = []
        for eps in spec.eps:
            table = by_eps[by_eps["eps"] == eps]
            counted = table["pred_clean"] == table["y"]
            if spec.target is not None:
                counted &= table["y"] != spec.target
            passes = {name: float(table[name].mean()) for name in ("forwards", "backwards")}
            rows.append({"eps": eps, **_row(table, counted.to_numpy()), **passes})
        y = self.images.y[torch.from_numpy(whole.arrays["place"])]
        first = _one_a_class(y, torch.ones_like(y, dtype=torch.bool), len(self.lab.data.class_names)).numpy()
        shown = self.images.take(torch.from_numpy(whole.arrays["place"][first]))
        gallery = {
            "index": shown.index.numpy(),
            "y": shown.y.numpy(),
            "x": to_float(shown.x).numpy(),
            "x_adv": np.ascontiguousarray(whole.arrays["x_adv"][first].swapaxes(0, 1)),
            "eps": np.asarray(spec.eps, dtype=np.float64),
        }
        card = {
            "rows": rows,
            "passes": PASSES,
            **card_of(self.lab.data, self.lab.device, seconds=whole.counts["seconds"]),
        }
        return store.Outcome(card=card, arrays={"gallery": gallery}, tables={"images": by_eps})


def _row(table: pd.DataFrame, counted: np.ndarray) -> dict[str, float]:
    """Five metrics and success rate at one ε; the rate is over images first correct (and not of the target class)."""
    metrics = five_metrics(table["y"].to_numpy(), table["pred"].to_numpy(), table["confidence"].to_numpy())
    won = int(table["success"].to_numpy()[counted].sum())
    low, high = clopper_pearson(won, int(counted.sum()))
    rate = won / counted.sum() if counted.any() else float("nan")
    return {**metrics.row(), "success_rate": float(rate), "success_low": low, "success_high": high}


def _one_a_class(y: Tensor, correct: Tensor, classes: int) -> Tensor:
    """Positions of the first correctly classified image of each class, in the order of the classes."""
    first = [((y == c) & correct).nonzero()[:1, 0] for c in range(classes)]
    return torch.cat(first)


def _ladder(
    model: nn.Module,
    surrogate: nn.Module | None,
    images: _Images,
    method: Method,
    budgets: tuple[float, ...],
    clean: Tensor,
    on_progress: Progress | None,
) -> Iterator[_Rung]:
    """Each ε, rising, the images made for it, and the passes that their verdicts rest on."""
    if isinstance(method, Fgsm):
        yield from _fgsm_ladder(model, images, method, budgets, on_progress)
    elif method.needs_eps:
        yield from _budget_ladder(model, surrogate, images, method, budgets, clean, on_progress)
    else:
        result = run_method(model, images.x, images.y, method, y_target=images.y_target, on_progress=on_progress)
        for eps in budgets:
            reached = (result.success & within(result.distance["linf"], eps))[:, None, None, None]
            yield eps, torch.where(reached, result.x_adv, images.x), (result.forwards, result.backwards)


def _fgsm_ladder(
    model: nn.Module, images: _Images, method: Fgsm, budgets: tuple[float, ...], on_progress: Progress | None
) -> Iterator[_Rung]:
    model = stand_in(model, method.draws, method.straight_through)
    direction = fgsm_direction(model, images.x, images.y, images.y_target)
    for done, eps in enumerate(budgets, start=1):
        once = torch.full_like(images.y, method.draws)
        yield eps, fgsm_step(images.x, direction, check_eps(eps, images.x), clip=method.clip), (once, once)
        if on_progress:
            on_progress(done, len(budgets), phase=f"FGSM, ε = {eps:g}")


def _budget_ladder(
    model: nn.Module,
    surrogate: nn.Module | None,
    images: _Images,
    method: Method,
    budgets: tuple[float, ...],
    clean: Tensor,
    on_progress: Progress | None,
) -> Iterator[_Rung]:
    x_adv = images.x.clone()
    waiting = ~images.fooled(clean)
    forwards, backwards = torch.zeros_like(images.y), torch.zeros_like(images.y)
    for place, eps in enumerate(budgets):
        if eps > 0 and waiting.any():
            rows = waiting.nonzero()[:, 0]
            left = images.take(rows)
            result = run_method(
                model,
                left.x,
                left.y,
                method,
                eps=eps,
                y_target=left.y_target,
                streams=left.streams,
                surrogate=surrogate,
                on_progress=part(
                    on_progress,
                    place * len(images.x),
                    (place + 1) * len(images.x),
                    len(budgets) * len(images.x),
                    phase=f"ε = {eps:g}",
                    metrics={"eps": eps},
                ),
            )
            # a failed attempt is shown at its own ε, but the next ε starts from the clean image again
            x_adv[rows] = result.x_adv
            waiting[rows[result.success]] = False
            forwards[rows], backwards[rows] = result.forwards.to(forwards), result.backwards.to(backwards)
        yield eps, x_adv.clone(), (forwards.clone(), backwards.clone())
