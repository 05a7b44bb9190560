"""Who fools whom: images made on each of several models, shown to all of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from core import store
from core.attacks import run_method
from core.attacks.engine import Streams
from core.attacks.geometry import distances
from core.data import first_of_test, to_float
from core.evaluation.attack import probabilities
from core.evaluation.metrics import clopper_pearson
from core.models import SavedModel, load_model
from core.progress import Progress
from core.specs import TransferSpec


def run(spec: TransferSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Attack the first n test images on each model, and show what was made to every model.

    Returns:
        Outcome: table `images`, a row for each surrogate, victim and image (pred_clean and pred are the victim's);
        arrays `images`: index (n,), x_adv (M, n, C, H, W) in the order of `spec.models`; in the card `rows`, one for
        each surrogate and victim: `rate`, the share that fools the victim of the `counted` images that it reads
        correctly unchanged, its exact interval, and the victim's `accuracy` over all n; `cost`, passes an image.

    Raises:
        ValueError: an unknown model, or models of different images or classes; DataMissing: their data cannot be had.
    """
    saved = [load_model(model, root, device=device) for model in spec.models]
    _same_images(saved)
    data = saved[0].data(on_progress)
    batch = first_of_test(data, spec.n)
    x, y = to_float(batch.x).to(device), batch.y.to(device)
    truth = batch.y.numpy()

    start = time.perf_counter()
    clean = [probabilities(victim.model, x).argmax(axis=1) for victim in saved]
    tables, rows, cost, made = [], [], {}, []
    for place, surrogate in enumerate(saved):
        result = run_method(
            surrogate.model,
            x,
            y,
            spec.attack,
            eps=spec.eps,
            streams=Streams.of(spec.seed, batch.index.to(device)),
            on_progress=_part(on_progress, place, len(saved), surrogate.artifact.id),
        )
        made.append(result.x_adv.cpu().numpy())
        size = {name: value.cpu().numpy() for name, value in distances(result.x_adv, x).items()}
        cost[surrogate.artifact.id] = (result.forwards + result.backwards).double().mean().item()
        for victim, before in zip(saved, clean, strict=True):
            # reversed, so that a verdict does not hang on how a batch was cut
            after = probabilities(victim.model, result.x_adv.flip(0))[::-1]
            table = pd.DataFrame(
                {
                    "surrogate": surrogate.artifact.id,
                    "victim": victim.artifact.id,
                    "index": batch.index.numpy(),
                    "y": truth,
                    "pred_clean": before,
                    "pred": after.argmax(axis=1),
                    "confidence": after.max(axis=1),
                    **{name: size[name] for name in ("linf", "l2", "l1", "l0")},
                }
            )
            tables.append(table)
            rows.append({"surrogate": surrogate.artifact.id, "victim": victim.artifact.id, **rate(table)})
    card = {
        "rows": rows,
        "cost": cost,
        "n": len(batch),
        "class_names": list(data.class_names),
        "data": {"title": data.title, "fingerprint": data.fingerprint},
        "seconds": time.perf_counter() - start,
        "device": device,
    }
    arrays = {"images": {"index": batch.index.numpy(), "x_adv": np.stack(made)}}
    return store.Outcome(card=card, arrays=arrays, tables={"images": pd.concat(tables, ignore_index=True)})


def rate(table: pd.DataFrame) -> dict[str, float]:
    """How often one victim is fooled by what was made on one surrogate, with the exact interval."""
    right = (table["pred_clean"] == table["y"]).to_numpy()
    fooled = int((right & (table["pred"] != table["y"]).to_numpy()).sum())
    low, high = clopper_pearson(fooled, int(right.sum()))
    return {
        "n": len(table),
        "counted": int(right.sum()),
        "rate": fooled / right.sum() if right.any() else float("nan"),
        "low": low,
        "high": high,
        "accuracy": float((table["pred"] == table["y"]).mean()),
    }


def _same_images(saved: list[SavedModel]) -> None:
    for other in saved[1:]:
        ours, theirs = ((model.artifact.card["shape"], model.spec.data) for model in (saved[0], other))
        if ours != theirs:
            raise ValueError(
                f"models: expected models of the same images and classes as {saved[0].artifact.id}, "
                f"got {other.artifact.id}"
            )


def _part(on_progress: Progress | None, place: int, parts: int, name: str) -> Progress | None:
    """Progress on one surrogate as progress of the whole."""
    if on_progress is None:
        return None

    def report(done: int, total: int, **metrics: object) -> None:
        on_progress(place * total + done, parts * total, phase=f"made on {name}")

    return report
