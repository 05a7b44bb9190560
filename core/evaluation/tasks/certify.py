"""What is proven of each test image, and what was found where a method also looks for the opposite."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from core import epsilon
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.attacks.engine.streams import Streams
from core.certification import smoothing
from core.certification.agreement import refute
from core.certification.exact import verify
from core.certification.proof import TINY, certified_margins
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tasks import parts
from core.evaluation.tasks.answers import second_look
from core.evaluation.tasks.opening import OfOneModel, card_of
from core.evaluation.tasks.parts import Part
from core.networks.catalogue import logits_of
from core.progress import Progress, part
from core.specs import CertifySpec
from core.storage import store


@dataclass(frozen=True)
class _Question:
    """What is to be certified: the settings, and the images with their random streams, on the device."""

    spec: CertifySpec
    model: nn.Module
    x: Tensor
    y: Tensor
    index: Tensor
    streams: Streams
    on_progress: Progress | None


@dataclass(frozen=True)
class _Answer:
    """For each image: "proven", "fooled" or "unknown", by what, and the image that fools or the image itself."""

    verdict: np.ndarray
    found_by: np.ndarray
    x_adv: Tensor
    more: dict[str, np.ndarray]


def run(spec: CertifySpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Certify the first n test images (fixed order); misclassified images count as fooled at distance 0.

    An image whose logits are NaN has no class (pred -1) and is misclassified.

    Returns:
        Outcome: table `images`, a row an image: index, y, pred and confidence (of the image that fools where there is
        one), clean_correct, verdict, lower (ε where it is proven, else 0), upper (distance of the image that fools; inf
        where none was found), found_by (what gave the answer), forwards and backwards (not counted here: 0). With
        bounds `margin`, the smallest margin proven; with exact `seconds` and `cases`; with smoothing `smoothed_pred`
        (-1: abstained) and `smoothed_radius`, which hold for the smoothed classifier, while lower stays 0: nothing is
        proven of the model itself. With exact also arrays `images`: index, x_adv.

    Raises:
        ValueError: an unknown model, a threshold that it has not, a layer without bounds (named, with those that have);
            DataMissing: its data set cannot be had; FalseProof: an image that was proven is misclassified.
    """
    return parts.run(
        ByImage(spec, root, device=device, on_progress=on_progress), store.unfinished(spec, root), on_progress
    )


class ByImage(OfOneModel):
    """Certificates of the first test images; see `run`."""

    spec: CertifySpec

    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Certify some of the images; see `parts.ByImage`. No state is kept."""
        spec, lab = self.spec, self.lab
        batch = self.taken(rows)
        x, y = lab.tensors(batch)
        clean = (predicted(logits_of(lab.model, x)) == y).cpu().numpy()

        start = time.perf_counter()
        question = _Question(spec, lab.model, x, y, batch.index, lab.streams(spec.seed, batch), on_progress)
        answer = _ANSWERS.get(spec.method, _by_bounds)(question)
        seconds = time.perf_counter() - start

        confidence, pred = (value.cpu().numpy() for value in second_look(lab.model, answer.x_adv))
        wrong = ~clean | (pred != batch.y.numpy())
        if spec.eps is not None:  # what is proven comes without an image that fools: it was looked at twice
            refute(torch.from_numpy((answer.verdict == "proven") & wrong), batch.index, spec.eps, spec.norm)
        verdict, found_by = np.where(clean, answer.verdict, "fooled"), np.where(clean, answer.found_by, "clean")
        distance = distances(answer.x_adv.double(), x.double())[spec.norm].double().cpu().numpy()
        # a verdict must not hang on how a batch was cut, nor on how ε was rounded
        outside = ~epsilon.within(distance, np.inf if spec.eps is None else spec.eps)
        lost = clean & (verdict == "fooled") & ((pred == batch.y.numpy()) | outside)
        verdict, found_by = np.where(lost, "unknown", verdict), np.where(lost, "", found_by)
        table = pd.DataFrame(
            {
                "index": batch.index.numpy(),
                "y": batch.y.numpy(),
                "pred": pred,
                "confidence": confidence,
                "clean_correct": clean,
                "verdict": verdict,
                "lower": np.where(verdict == "proven", 0.0 if spec.eps is None else spec.eps, 0.0),
                "upper": np.where(clean, np.where(verdict == "fooled", distance, np.inf), 0.0),
                "found_by": found_by,
                "forwards": 0,
                "backwards": 0,
                **answer.more,
            }
        )
        images = {"index": batch.index.numpy(), "x_adv": answer.x_adv.cpu().numpy()}
        return Part(table, images if spec.method == "exact" else {}, {"seconds": seconds})

    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """The summary of all images; see `parts.ByImage`."""
        spec, table = self.spec, whole.table
        card = {
            "metrics": summary(table),
            "norm": spec.norm,
            "eps": spec.eps,
            "n": len(table),
            "seed": spec.seed,
            "method": spec.method,
            **card_of(self.lab.data, self.lab.device, seconds=whole.counts["seconds"]),
        }
        if spec.method == "smoothing":
            card["smoothing"] = {"sigma": spec.sigma, "draws": spec.draws, "alpha": spec.alpha, "n0": smoothing.N0}
        arrays = {"images": whole.arrays} if whole.arrays else {}
        return store.Outcome(card=card, arrays=arrays, tables={"images": table})


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Shares of all images, what is proven with its interval; robust accuracy lies between that and `not_fooled`.

    Of smoothing: the share that is certified for the right class at any radius, and their median radius.
    """
    n = len(table)
    proven = int((table["verdict"] == "proven").sum())
    low, high = clopper_pearson(proven, n)
    made = {
        "n": n,
        "clean_accuracy": float(table["clean_correct"].mean()),
        "proven_accuracy": proven / n,
        "low": low,
        "high": high,
        "not_fooled": float((table["verdict"] != "fooled").mean()),
        "unknown": float((table["verdict"] == "unknown").mean()),
    }
    if "smoothed_pred" in table:
        right = table["smoothed_pred"] == table["y"]
        low, high = clopper_pearson(int(right.sum()), n)
        return {
            "n": n,
            "clean_accuracy": made["clean_accuracy"],
            "smoothed_accuracy": float(right.mean()),
            "low": low,
            "high": high,
            "abstained": float((table["smoothed_pred"] == smoothing.ABSTAIN).mean()),
            "median_radius": float(table["smoothed_radius"][right].median()),
        }
    return made


def _by_bounds(ask: _Question) -> _Answer:
    spec = ask.spec
    assert spec.eps is not None
    margin = certified_margins(
        ask.model,
        ask.x,
        ask.y,
        spec.eps,
        norm=spec.norm,
        method=spec.method,
        index=ask.index,
        on_progress=part(ask.on_progress, 0, len(ask.x), len(ask.x), phase=spec.method),
    )
    sure = (margin > TINY).cpu().numpy()
    names = np.where(sure, "proven", "unknown"), np.where(sure, spec.method, "")
    return _Answer(*names, ask.x, {"margin": margin.cpu().numpy()})


def _by_search(ask: _Question) -> _Answer:
    spec = ask.spec
    assert spec.eps is not None
    made = verify(
        ask.model,
        ask.x,
        ask.y,
        spec.eps,
        norm=spec.norm,
        time_limit=spec.time_limit,
        streams=ask.streams,
        index=ask.index,
        on_progress=ask.on_progress,
    )
    return _Answer(made.verdict, made.found_by, made.x_adv, {"seconds": made.seconds, "cases": made.cases})


def _by_votes(ask: _Question) -> _Answer:
    spec = ask.spec
    made = smoothing.certify(
        ask.model,
        ask.x,
        sigma=spec.sigma,
        n=spec.draws,
        alpha=spec.alpha,
        streams=ask.streams,
        on_progress=ask.on_progress,
    )
    unknown = np.full(len(ask.x), "unknown"), np.full(len(ask.x), "")
    return _Answer(*unknown, ask.x, {"smoothed_pred": made.pred, "smoothed_radius": made.radius})


_ANSWERS = {"exact": _by_search, "smoothing": _by_votes}
