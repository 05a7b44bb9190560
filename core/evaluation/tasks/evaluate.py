"""Run an EvaluateSpec: the strongest evaluation of a saved model on the first n test images, per image."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from core.attacks.engine.geometry import distances
from core.certification.graph import Unbounded
from core.certification.proof import proven
from core.evaluation.robust.robust import evaluate
from core.evaluation.tasks.answers import DISTANCES, classes_of, probabilities
from core.evaluation.tasks.opening import card_of, opened
from core.progress import Progress
from core.specs import EvaluateSpec
from core.storage import store


def run(spec: EvaluateSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Evaluate the first n test images (fixed order).

    A run that was stopped resumes from the store's checkpoints and ends in the same result. The checkpoint stays until
    the artifact is written.

    Returns:
        Outcome: table `images` (a row an image: index, y, pred, confidence, clean_correct, lower, upper, found_by,
        forwards, backwards; pred and confidence are those at the image that was made; linf, l2, l1 and l0 are the
        distances of what fools, inf where nothing does), arrays `images` (index, x_adv)

    Raises:
        ValueError: a model that is not there, or one that cannot be evaluated; DataMissing: its data set cannot be had.
    """
    lab = opened(spec, root, device=device, on_progress=on_progress)
    batch = lab.first(spec.n)
    x, y = lab.tensors(batch)
    start = time.perf_counter()
    made = evaluate(
        lab.model,
        x,
        y,
        norm=spec.norm,
        eps=spec.eps,
        effort=spec.effort,
        seed=spec.seed,
        index=batch.index.to(device),
        state=store.unfinished(spec, root),
        on_progress=on_progress,
    )
    seconds = time.perf_counter() - start
    after = probabilities(lab.model, made.x_adv)
    found, size = made.upper.isfinite().cpu(), distances(made.x_adv, x)
    table = pd.DataFrame(
        {
            "index": batch.index.numpy(),
            "y": batch.y.numpy(),
            "pred": classes_of(after),
            "confidence": after.max(axis=1),
            "clean_correct": made.clean.cpu().numpy(),
            "lower": made.lower.cpu().numpy(),
            "upper": made.upper.cpu().numpy(),
            "found_by": made.found_by,
            "forwards": made.forwards.cpu().numpy(),
            "backwards": made.backwards.cpu().numpy(),
            **{name: size[name].cpu().where(found, torch.inf).numpy() for name in DISTANCES[:-1]},
        }
    )
    low, high = made.interval
    certificate = _certificate(lab.model, x, y, spec)
    card = {
        "norm": spec.norm,
        "eps": spec.eps,
        "effort": spec.effort,
        "certificate": certificate,
        "n": made.n,
        "seed": spec.seed,
        "seconds": seconds,
        "metrics": {
            "clean_accuracy": made.clean_accuracy,
            "robust_accuracy": made.robust_accuracy,
            "low": low,
            "high": high,
            # where no proof was tried, none failed: the share is unknown, not 0
            "proven_accuracy": None if certificate is None else made.proven_accuracy,
            "n": made.n,
            "seconds": seconds,
            "forwards": float(table["forwards"].mean()),
            "backwards": float(table["backwards"].mean()),
            "trust_forwards": 0.0 if made.trust is None else made.trust.forwards / made.n,
            "trust_backwards": 0.0 if made.trust is None else made.trust.backwards / made.n,
        },
        "usable": made.usable,
        "warning": made.warning,
        "notes": list(made.notes),
        "trust": None if made.trust is None else made.trust.to_json(),
        **card_of(lab.data, device),
    }
    arrays = {"images": {"index": batch.index.numpy(), "x_adv": made.x_adv.cpu().numpy()}}
    return store.Outcome(card=card, arrays=arrays, tables={"images": table})


def _certificate(model: nn.Module, x: Tensor, y: Tensor, spec: EvaluateSpec) -> str | None:
    """By what `evaluate` tried to prove images safe; None where it has no bounds for the norm or the network."""
    if spec.norm == "l0" or spec.eps <= 0:
        return None
    try:
        proven(model, x[:1], y[:1], min(spec.eps, 1.0))
    except Unbounded:
        return None
    return "interval bounds"
