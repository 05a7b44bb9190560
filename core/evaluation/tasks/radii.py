"""The smallest perturbation of each test image and, where it is cheap, the radius that is proven safe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.attacks.minimal.minimum import plan
from core.attacks.run import run_method
from core.certification.graph import Unbounded
from core.certification.proof import proven
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tasks import parts
from core.evaluation.tasks.answers import DISTANCES, second_look
from core.evaluation.tasks.opening import OfOneModel, card_of
from core.evaluation.tasks.parts import Part
from core.networks.catalogue import logits_of
from core.progress import Progress, part
from core.specs import Minimum, RadiiSpec
from core.storage import checkpoint, store

PART = 500
"""Images that are searched before what was found is kept."""
_FOUND = ("x_adv", "forwards", "backwards", "part")
HALVINGS = 12
"""Halvings of the interval that the proven radius lies in: to a four-thousandth of what the attack found."""


def run(spec: RadiiSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Look for the smallest perturbation of the first n test images (fixed order), wrong ones included.

    A run that was stopped resumes from the store's checkpoints and ends in the same result. The checkpoint stays until
    the artifact is written.

    Returns:
        Outcome: table `images`, a row an image: index, y, pred and confidence of what was found (of the image itself
        where nothing was), clean_correct, lower (proven radius, 0 where nothing is), upper (distance found; inf where
        none was, 0 where the image was wrong before), found_by (the attack; "clean" where it was wrong, "" where none),
        forwards and backwards (of the attack), and what was found measured in every norm. Arrays `images`: index,
        x_adv. A perturbation counts only when a forward pass in another batch layout confirms it.

    Raises:
        ValueError: an unknown model, or a threshold that it has not; DataMissing: its data set cannot be had.
    """
    return parts.run(
        ByImage(spec, root, device=device, on_progress=on_progress), store.unfinished(spec, root), on_progress
    )


class ByImage(OfOneModel):
    """The smallest perturbations of the first test images; see `run`."""

    spec: RadiiSpec

    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Search some of the images; see `parts.ByImage`. State is kept after each `PART` of them."""
        spec, lab = self.spec, self.lab
        batch = self.taken(rows)
        x, y = lab.tensors(batch)

        start = time.perf_counter()
        of = {"task": store.resolve(spec, lab.root).key(), **self.depends, "rows": [rows.start, rows.stop]}
        result = _searched(lab.model, x, y, Minimum(norm=spec.norm, budget=spec.budget), kept, of, on_progress)
        clean = predicted(logits_of(lab.model, x)) == y
        x_adv = result["x_adv"]
        confidence, pred = second_look(lab.model, x_adv)
        size = distances(x_adv, x)
        upper = torch.where(pred != y, size[spec.norm].double(), torch.inf).where(clean, 0.0)
        lower = proven_radii(lab.model, x, y, torch.where(pred != y, size["linf"], 1.0).where(clean, 0.0), batch.index)
        seconds = time.perf_counter() - start

        methods = plan(spec.norm, spec.budget, len(lab.data.class_names), False)
        # the last, at -1, is that of what was not found
        named = np.array([*(one.attack.__name__ for one in methods), ""])[result["part"].cpu().numpy()]
        right = clean.cpu().numpy()
        table = pd.DataFrame(
            {
                "index": batch.index.numpy(),
                "y": batch.y.numpy(),
                "pred": pred.cpu().numpy(),
                "confidence": confidence.cpu().numpy(),
                "clean_correct": right,
                "lower": np.zeros(len(x)) if lower is None else lower.double().cpu().numpy(),
                "upper": upper.cpu().numpy(),
                "found_by": np.where(right, np.where(upper.isfinite().cpu().numpy(), named, ""), "clean"),
                "forwards": result["forwards"].cpu().numpy(),
                "backwards": result["backwards"].cpu().numpy(),
                **{name: size[name].cpu().numpy() for name in DISTANCES},
            }
        )
        arrays = {"index": batch.index.numpy(), "x_adv": x_adv.cpu().numpy()}
        facts = {"certificate": None if lower is None else "interval bounds"}
        return Part(table, arrays, {"seconds": seconds}, facts)

    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """The summary of all images; see `parts.ByImage`."""
        spec, table, certificate = self.spec, whole.table, whole.facts["certificate"]
        card = {
            # where no proof was tried, none failed: the radius is unknown, not 0
            "metrics": summary(table) | ({"median_proven": float("nan")} if certificate is None else {}),
            "norm": spec.norm,
            "eps": None,
            "n": len(table),
            "budget": spec.budget,
            "certificate": certificate,
            **card_of(self.lab.data, self.lab.device, seconds=whole.counts["seconds"]),
        }
        return store.Outcome(card=card, arrays={"images": whole.arrays}, tables={"images": table})


def _searched(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    method: Minimum,
    path: Path,
    of: dict[str, Any],
    on_progress: Progress | None,
) -> dict[str, Tensor]:
    """`x_adv`, `forwards`, `backwards` and `part` of the attack, `PART` images at a time, each kept when it is done.

    What `path` holds of the same run is not done again. Nothing is drawn, and no image hangs on its neighbours.
    """
    found = _known(path, of, x)
    done = sum(len(known["part"]) for known in found)
    for low in range(done, len(x), PART):
        rows = slice(low, low + PART)
        result = run_method(
            model, x[rows], y[rows], method, on_progress=part(on_progress, low, low + len(x[rows]), len(x))
        )
        found.append(
            {
                "x_adv": result.x_adv,
                "forwards": result.forwards,
                "backwards": result.backwards,
                "part": result.trace["part"],
            }
        )
        checkpoint.write(path, checkpoint.State({"images": _whole(found)}), of)
    return _whole(found)


def _known(path: Path, of: dict[str, Any], x: Tensor) -> list[dict[str, Tensor]]:
    """What was found of the first images before the run was stopped: nothing, or one part."""
    kept = checkpoint.read(path, of)
    if kept is None:
        return []
    known = {name: value.to(x.device) for name, value in kept.tensors.get("images", {}).items()}
    counts = {len(value) for value in known.values()}
    if known.keys() != set(_FOUND) or len(counts) != 1 or known["x_adv"].shape[1:] != x.shape[1:]:
        checkpoint.set_aside(path, f"expected {', '.join(_FOUND)} of the same images, got {', '.join(known) or 'none'}")
        return []
    return [known]


def _whole(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([found[name] for found in parts]) for name in parts[0]}


def proven_radii(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    max_radius: Float[Tensor, " n"],
    index: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"] | None:
    """The largest radius up to `max_radius` that interval bounds prove, by halving; None for a network without bounds.

    The ball is that of linf. As no norm of a change is below its linf norm, the radius is safe in l2, l1 and l0, too.
    `index` says what to call the images in an error.
    """
    low, high = torch.zeros_like(max_radius), max_radius.clone()
    try:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            safe = proven(model, x, y, middle, index=index) & (max_radius > 0)
            low, high = torch.where(safe, middle, low), torch.where(safe, high, middle)
    except Unbounded:
        return None
    return low


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Clean accuracy with its interval, the median distance of the correctly classified images, and the mean cost.

    The median is over all images that were right, those counted as infinitely far for which nothing was found.
    """
    right = table["clean_correct"].to_numpy()
    low, high = clopper_pearson(int(right.sum()), len(right))
    held = table[right]
    return {
        "n": len(table),
        "clean_accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "found": float(np.isfinite(held["upper"]).mean()),
        "median_distance": float(held["upper"].median()),
        "median_proven": float(held["lower"].median()),
        "forwards": float(table["forwards"].mean()),
        "backwards": float(table["backwards"].mean()),
    }
