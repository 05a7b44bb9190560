"""Attack chosen images of one saved model and keep every image made."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.engine.losses import predicted
from core.attacks.engine.masks import Masked
from core.attacks.engine.stand_ins import stand_in
from core.attacks.engine.streams import Streams
from core.attacks.physical import mask_shapes
from core.attacks.run import run_method
from core.data.sets import Dataset, Split, first_of_test, to_float
from core.evaluation.tables import enumeration
from core.evaluation.tables.metrics import clopper_pearson
from core.models.saved import load_model, load_surrogate
from core.networks.build import logits_of
from core.progress import Progress
from core.specs import AttackSpec, Exhaustive, Method
from core.storage import store

ANY = -1
"""Stands for "any wrong class" in the `target` column of a table."""
_NORMS = ("linf", "l2", "l1", "l0")


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
    saved = load_model(spec.model, root, device=device, threshold=spec.threshold)
    data = saved.data(on_progress)
    images = select_images(spec, saved.model, data)
    rows, target = _rows_and_targets(spec, images, len(data.class_names))
    batch = images.take(rows)
    x, y = to_float(batch.x).to(device), batch.y.to(device)
    y_target = None if spec.target == "any" else target.to(device)

    mask = None if spec.mask is None else mask_shapes.draw(spec.mask, *x.shape[2:])
    model = saved.model if mask is None else Masked(saved.model, torch.from_numpy(mask).to(device))

    start = time.perf_counter()
    result = run_method(
        model,
        x,
        y,
        spec.attack,
        eps=spec.eps,
        y_target=y_target,
        streams=Streams.of(spec.seed, batch.index.to(device)),
        budget=spec.budget,
        eight_bit=spec.eight_bit,
        surrogate=load_surrogate(spec.attack, saved, root, device=device),
        start=None if y_target is None or not spec.attack.takes_start else starts(saved.model, data, x, y_target),
        on_progress=on_progress,
    )
    seconds = time.perf_counter() - start

    judge = stand_in(saved.model, getattr(spec.attack, "draws", 1))  # a random model is judged as it was attacked
    before, after = probabilities(judge, x), probabilities(judge, result.x_adv)
    table = pd.DataFrame(
        {
            "row": np.arange(len(rows)),
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
        **{f"trace_{name}": value.cpu().numpy() for name, value in result.trace.items()},
    }
    # `physical`: how often a pattern fools in scenes that it was not made for; NaN for images that wear none
    scenes = {"mean_share": result.trace["share"].nanmean().item()} if "share" in result.trace else {}
    # changes made at one ε are about that ε: in its own norm their median is no distance that was looked for
    edge = {} if spec.eps is None else {f"median_{norm_of(spec.attack)}": float("nan")}
    card = {
        "metrics": {**summarize(table), **edge, **scenes, "seconds": seconds},
        "class_names": list(data.class_names),
        "data": {"title": data.title, "fingerprint": data.fingerprint},
        "device": device,
    }
    stored = {"images": arrays}
    if isinstance(spec.attack, Exhaustive):
        card["proven"] = enumeration.summary(arrays)
    if mask is not None:
        stored["mask"] = {"mask": mask}
        card["mask"] = {"pixels": int(mask.sum()), "share": float(mask.mean())}
    return store.Outcome(card=card, arrays=stored, tables={"images": table})


def norm_of(method: Method) -> str:
    """The norm in which a method's ε is measured."""
    return getattr(method, "norm", None) or method.norms[0]


def select_images(spec: AttackSpec, model: nn.Module, data: Dataset) -> Split:
    """The test images that the spec names, or the first n correctly classified ones in the test set's fixed order.

    With a source class only images of it, with a target class only images of others.
    Raises ValueError when an index or a class does not exist, or nothing qualifies.
    """
    names = data.class_names
    for field, value in (("source", spec.source), ("target", spec.target)):
        if isinstance(value, int) and value >= len(names):
            raise ValueError(f"{field}: expected a class from 0 to {len(names) - 1}, got {value}")
    if spec.indices is not None:
        place = {int(index): row for row, index in enumerate(data.test.index)}
        unknown = [index for index in spec.indices if index not in place]
        if unknown:
            raise ValueError(f"indices: expected numbers of test images, as in a table's `index`, got {unknown[0]}")
        return data.test.take(torch.tensor([place[index] for index in spec.indices]))
    sources = None if spec.source is None else (spec.source,)
    return first_right(model, first_of_test(data, len(data.test)), spec.n, sources, spec.target)


def first_right(
    model: nn.Module, ordered: Split, n: int, sources: tuple[int, ...] | None = None, target: str | int = "any"
) -> Split:
    """The first n images that the model reads correctly: of the source classes if any, and none of the target class.

    Raises ValueError when nothing qualifies.
    """
    wanted = torch.ones(len(ordered), dtype=torch.bool)
    if sources is not None:
        wanted &= torch.isin(ordered.y, torch.tensor(sources))
    if isinstance(target, int):
        wanted &= ordered.y != target
    ordered = ordered.take(wanted)
    # a share of the images is nearly always enough; the whole set is looked at only when it is not
    for limit in (n + n // 2 + 100, len(ordered)):
        candidates = ordered.take(torch.arange(min(limit, len(ordered))))
        if not len(candidates):
            break
        correct = predicted(logits_of(model, candidates.x)).cpu() == candidates.y
        if int(correct.sum()) >= n or limit >= len(ordered):
            break
    if not len(candidates) or not correct.any():
        raise ValueError("n: expected at least one correctly classified image to attack, there is none")
    return candidates.take(correct.nonzero()[:n, 0])


def _rows_and_targets(spec: AttackSpec, images: Split, classes: int) -> tuple[Tensor, Tensor]:
    """Which image each row attacks, and towards which class; images × classes rows when every class is a target."""
    positions = torch.arange(len(images))
    if spec.target == "all":
        return positions.repeat_interleave(classes), torch.arange(classes).repeat(len(images))
    return positions, torch.full_like(positions, ANY if spec.target == "any" else int(spec.target))


def starts(model: nn.Module, data: Dataset, x: Tensor, y_target: Tensor) -> Tensor:
    """For each row a training image of its target class that is read as it; the row's own image where there is none."""
    made = x.clone()
    for label in y_target.unique().tolist():
        of_class = data.train.x[(data.train.y == label).nonzero()[:100, 0]]
        right = (predicted(logits_of(model, of_class)).cpu() == label).nonzero()[:1, 0] if len(of_class) else ()
        if len(right):
            made[y_target == label] = to_float(of_class[right]).to(x.device)
    return made


def probabilities(model: nn.Module, x: Tensor) -> np.ndarray:
    """Softmax probabilities (N, K) of images in [0, 1]."""
    return F.softmax(logits_of(model, x), dim=1).cpu().numpy()


def classes_of(probabilities: np.ndarray) -> np.ndarray:
    """The class (N,) of each row of probabilities; -1 where a model gave NaN: it has no class there, not the first."""
    return np.where(np.isnan(probabilities).any(axis=1), -1, probabilities.argmax(axis=1))


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
        **{f"median_{name}": float(won[name].median()) for name in (*_NORMS, "pixels", "confidence")},
        "mean_forwards": float(counted["forwards"].mean()),
        "mean_backwards": float(counted["backwards"].mean()),
    }
