"""One perturbation for many images of one saved model: made from training images, measured on test images."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from core.attacks.engine.engine import confine
from core.attacks.engine.geometry import distances, norm_of
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.run import function_of
from core.attacks.universal.universal import Universal, apply
from core.data.sets import Split
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tasks.answers import ANY, classes_of, probabilities
from core.evaluation.tasks.opening import card_of, card_of_mask, made_from_and_held_out, opened, targets
from core.progress import Progress
from core.specs import UniversalLp, UniversalSpec
from core.storage import store

SHOWN = 40
"""Images of each part that are kept as pictures; tables have them all."""


def run(spec: UniversalSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Make the perturbation that the spec names, and measure it on images that it was not made from.

    It is made from the first n training images that the model reads correctly (validation images of the training never
    count among them), and measured on the first test images that it reads correctly, in the fixed orders.

    Returns:
        Outcome: arrays `perturbation` (`delta` (C, H, W), `noise`, the control), `held_out` and `made_from` (index, x,
        x_adv, y of the first images of each part); tables of the same names, a row for each image, those it was made
        from with their passes and, for lp, their weight in the bound; `metrics`: `fooling_rate` of the n held-out
        images with `low` and `high`, `fit_rate` of the fit_n it was made from, `noise_rate` of random noise of the same
        norm on the held-out ones, the perturbation's size, passes an image, seconds; for lp `lp`: what its trace says.

    Raises:
        ValueError: a class that does not exist, a threshold that is not wanted, or no image that qualifies.
        DataMissing: the model's data set cannot be had.
    """
    lab = opened(spec, root, device=device, on_progress=on_progress)
    fit, held = made_from_and_held_out(lab, spec)
    x, y = lab.tensors(fit)
    y_target = targets(y, spec.target)
    model, mask = lab.masked(spec.mask, x)

    settings = {name: getattr(spec.method, name) for name in type(spec.method).model_fields if name != "name"}
    if spec.method.needs_eps:
        settings["eps"] = spec.eps
    if spec.method.random:
        settings["streams"] = lab.streams(spec.seed, fit)
    start = time.perf_counter()
    make = function_of(type(spec.method))
    made: Universal = make(model, x, y, y_target=y_target, budget=spec.budget, on_progress=on_progress, **settings)
    seconds = time.perf_counter() - start

    clip = bool(made.trace.get("clips", torch.tensor(True)))
    norm = getattr(spec.method, "norm", "linf")
    noise = _noise(model, made.delta, norm, spec.seed)
    hx, hy = lab.tensors(held)
    h_target = targets(hy, spec.target)
    seen, control = (apply(model, hx, hy, delta, y_target=h_target, clip=clip) for delta in (made.delta, noise))
    again = apply(model, x, y, made.delta, y_target=y_target, clip=clip)
    weight = {"weight": made.trace["weights"].cpu().numpy()} if "weights" in made.trace else {}
    passes = {"forwards": made.forwards.cpu().numpy(), "backwards": made.backwards.cpu().numpy()}
    tables = {
        "held_out": _table(lab.model, held, hx, seen, spec.target),
        "made_from": _table(lab.model, fit, x, again, spec.target).assign(**passes, **weight),
    }
    low, high = clopper_pearson(int(seen.success.sum()), len(held))
    size = distances(made.delta[None], torch.zeros_like(made.delta)[None])
    card = {
        "metrics": {
            "n": len(held),
            "fooling_rate": seen.success.double().mean().item(),
            "low": low,
            "high": high,
            "noise_rate": control.success.double().mean().item(),
            "fit_n": len(fit),
            "fit_rate": made.success.double().mean().item(),
            **{name: value.item() for name, value in size.items()},
            "mean_forwards": made.forwards.double().mean().item(),
            "mean_backwards": made.backwards.double().mean().item(),
            "seconds": seconds,
        },
        "clip": clip,
        **card_of(lab.data, device),
    }
    if isinstance(spec.method, UniversalLp):
        card["lp"] = _programme(made)
    stored = {
        "perturbation": {"delta": made.delta.cpu().numpy(), "noise": noise.cpu().numpy()},
        "held_out": _pictures(held, hx, seen),
        "made_from": _pictures(fit, x, again),
        "trace": {name: np.atleast_1d(value.cpu().numpy()) for name, value in made.trace.items()},
    }
    if mask is not None:
        stored["mask"] = {"mask": mask}
        card["mask"] = card_of_mask(mask)
    return store.Outcome(card=card, arrays=stored, tables=tables)


def _noise(model: nn.Module, delta: Tensor, norm: str, seed: int) -> Tensor:
    """The control: random signs (linf) or normal noise (l2, l1) of the perturbation's norm, inside the mask."""
    streams = Streams.of(seed, torch.tensor([-1], device=delta.device))
    drawn = streams.normal(tuple(delta.shape), delta.dtype)
    drawn = confine(model, drawn.sign() if norm == "linf" else drawn, torch.zeros_like(drawn))
    return (drawn * (norm_of(delta[None], norm) / norm_of(drawn, norm)))[0]


def _table(model: nn.Module, split: Split, x: Tensor, result: AttackResult, target: str | int) -> pd.DataFrame:
    """A row for each image, before and after."""
    before, after = probabilities(model, x), probabilities(model, result.x_adv)
    return pd.DataFrame(
        {
            "index": split.index.numpy(),
            "y": split.y.numpy(),
            "target": ANY if target == "any" else int(target),
            "confidence_clean": before.max(axis=1),
            "pred": classes_of(after),
            "confidence": after.max(axis=1),
            "success": result.success.cpu().numpy(),
            **{name: result.distance[name].cpu().numpy() for name in ("l0", "pixels", "l1", "l2", "linf")},
        }
    )


def _pictures(split: Split, x: Tensor, result: AttackResult) -> dict[str, np.ndarray]:
    """The first images, before and after, and the probabilities after."""
    return {
        "index": split.index[:SHOWN].numpy(),
        "y": split.y[:SHOWN].numpy(),
        "x": x[:SHOWN].cpu().numpy(),
        "x_adv": result.x_adv[:SHOWN].cpu().numpy(),
    }


def _programme(made: Universal) -> dict[str, object]:
    """What the linear programme's trace says, for the card; a bound of infinity is the contradiction."""
    trace = made.trace
    return {
        "first": trace["first"].item(),
        "bound": trace["bound"].item(),
        "contradiction": bool(trace["contradiction"]),
        "here": trace["here"].item(),
        "stage": int(trace["stage"]),
        "rounds": len(trace["rounds"]),
    }
