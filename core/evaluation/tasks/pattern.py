"""One pattern on glasses or a patch for many images of one saved model: made from training images, worn by others."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from core.attacks.engine.streams import Streams
from core.attacks.physical.pattern import universal_pattern, wear
from core.attacks.physical.scenes import Scene
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tasks.answers import ANY, classes_of, probabilities
from core.evaluation.tasks.opening import card_of, card_of_mask, made_from_and_held_out, opened, targets
from core.progress import Progress
from core.specs import PatternSpec
from core.storage import store

SHOWN = 24
"""Images that are kept as pictures; the table has them all."""


def run(spec: PatternSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Make the pattern that the spec names, and measure it on images that it was not made from.

    Returns:
        Outcome: arrays `pattern` (`pattern` (C, H, W), `noise`, the control, `mask` (H, W) bool, `loss` by epoch) and
        `held_out` (index, y, x, x_adv, views and view_logits of the first images); table `held_out`, a row for each
        image with the share of new transformations under which it is fooled; `metrics`: `fooling_rate` of the n
        held-out images (without a transformation and under at least `least` of the new ones) with `low` and `high`,
        `mean_share`, and both for random noise on the same object (`noise_rate`, `noise_share`).

    Raises:
        ValueError: a class that does not exist, or no image that qualifies.
        DataMissing: the model's data set cannot be had.
    """
    lab = opened(spec, root, device=device, on_progress=on_progress)
    fit, held = made_from_and_held_out(lab, spec)
    (x, y), (held_x, held_y) = lab.tensors(fit), lab.tensors(held)
    model, mask = lab.masked(spec.mask, x)
    assert mask is not None  # a pattern always has an object that bears it
    scene = Scene(spec.shift, spec.angle, spec.scale, spec.brightness, spec.noise)

    start = time.perf_counter()
    made = universal_pattern(
        model,
        x,
        y,
        scene=scene,
        epochs=spec.epochs,
        minibatch=spec.minibatch,
        scenes=spec.scenes,
        lr=spec.lr,
        y_target=targets(y, spec.target),
        streams=lab.streams(spec.seed, fit),
        on_progress=on_progress,
    )
    seconds = time.perf_counter() - start
    noise = Streams.of(spec.seed, torch.tensor([-1], device=device)).uniform(0, 1, tuple(x.shape[1:]), x.dtype)[0]
    streams = lab.streams(spec.seed, held)
    worn, control = (
        wear(
            model,
            held_x,
            held_y,
            pattern,
            scene=scene,
            fresh=spec.fresh,
            least=spec.least,
            y_target=targets(held_y, spec.target),
            streams=streams,
        )
        for pattern in (made.pattern, noise)
    )
    after = probabilities(lab.model, worn.x_adv)
    table = pd.DataFrame(
        {
            "index": held.index.numpy(),
            "y": held.y.numpy(),
            "target": ANY if spec.target == "any" else int(spec.target),
            "pred": classes_of(after),
            "confidence": after.max(axis=1),
            "success": worn.success.cpu().numpy(),
            "share": worn.trace["share"].cpu().numpy(),
            "noise_share": control.trace["share"].cpu().numpy(),
        }
    )
    low, high = clopper_pearson(int(table["success"].sum()), len(table))
    card = {
        "metrics": {
            "n": len(table),
            "fooling_rate": float(table["success"].mean()),
            "low": low,
            "high": high,
            "mean_share": float(table["share"].mean()),
            "noise_rate": control.success.double().mean().item(),
            "noise_share": float(table["noise_share"].mean()),
            "fit_n": len(fit),
            "mean_forwards": made.forwards.double().mean().item(),
            "mean_backwards": made.backwards.double().mean().item(),
            "seconds": seconds,
        },
        "mask": card_of_mask(mask),
        **card_of(lab.data, device),
    }
    shown: dict[str, np.ndarray] = {"index": held.index[:SHOWN].numpy(), "y": held.y[:SHOWN].numpy()}
    for name, images in (("x", held_x), ("x_adv", worn.x_adv), *worn.trace.items()):
        shown[name] = images[:SHOWN].cpu().numpy()
    pattern = {"pattern": made.pattern, "noise": noise, "loss": made.loss}
    stored = {name: value.cpu().numpy() for name, value in pattern.items()} | {"mask": mask}
    return store.Outcome(card=card, arrays={"pattern": stored, "held_out": shown}, tables={"held_out": table})
