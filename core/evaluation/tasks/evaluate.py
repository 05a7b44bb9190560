"""Run an EvaluateSpec: the strongest evaluation of a saved model on the first n test images, per image."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from core.attacks.engine.geometry import distances
from core.certification.graph import Unbounded
from core.certification.proof import proven
from core.evaluation.robust import digging, in_parts
from core.evaluation.robust.edition import edition
from core.evaluation.robust.left_to_find import Trials
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.state import Found
from core.evaluation.tasks.answers import DISTANCES, classes_of, probabilities
from core.evaluation.tasks.opening import OfOneModel, card_of
from core.evaluation.tasks.parts import Part
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
    task = ByImage(spec, root, device=device, on_progress=on_progress)
    start = time.perf_counter()
    with task.asked():
        made = task.evaluated(slice(0, task.count), store.unfinished(spec, root), on_progress)
    return task.outcome(made, made.earlier + time.perf_counter() - start)


class ByImage(OfOneModel):
    """The strongest evaluation of the first test images; see `run`."""

    spec: EvaluateSpec
    unit = digging.BLOCK

    def evaluated(self, rows: slice, kept: Path, on_progress: Progress | None) -> Evaluation:
        """Evaluate some of the images; with the reliability checks where they are all of them, in one piece."""
        spec, batch = self.spec, self.taken(rows)
        x, y = self.lab.tensors(batch)
        return evaluate(
            self.lab.model,
            x,
            y,
            norm=spec.norm,
            eps=spec.eps,
            effort=spec.effort,
            seed=spec.seed,
            index=batch.index.to(self.lab.device),
            trust=not self.found,
            state=kept,
            found=Found(**self.found) if self.found else None,
            on_progress=on_progress,
        )

    def find(self) -> dict[str, Any]:
        """What the first stages show of the model, at images that are hard to fool."""
        x, y = self.lab.tensors(self.images)
        settings: dict[str, Any] = {name: getattr(self.spec, name) for name in ("norm", "eps", "effort", "seed")}
        index = self.images.index.to(self.lab.device)
        return asdict(in_parts.first_look(self.lab.model, x, y, index=index, **settings))

    def part(self, rows: slice, kept: Path, on_progress: Progress | None = None) -> Part:
        """Evaluate some of the images; see `parts.ByImage`. State is kept after each attack.

        Table and arrays: the fields of `Evaluation` and of its trials that have a row an image, and the model's answers
        at `x_adv`.
        """
        start = time.perf_counter()
        made = self.evaluated(rows, kept, on_progress)
        rows_of = {name: getattr(made, name).cpu().numpy() for name in _ROWS}
        table = pd.DataFrame({**rows_of, "found_by": made.found_by.astype(object), **self._answers(made.x_adv)})
        seconds = made.earlier + time.perf_counter() - start
        counts = {"seconds": seconds, "changed": made.changed, "undefined": made.undefined}
        arrays = {"x_adv": made.x_adv, **{name: getattr(made.trials, name) for name in _TRIALS}}
        return Part(table, {name: value.cpu().numpy() for name, value in arrays.items()}, counts)

    def close(self, whole: Part, on_progress: Progress | None = None) -> store.Outcome:
        """The verdicts on all images, with the reliability checks; see `parts.ByImage`."""
        spec, device = self.spec, self.lab.device
        start = time.perf_counter()
        rows: dict[str, Any] = {
            name: torch.from_numpy(whole.table[name].to_numpy().copy()).to(device) for name in _ROWS
        }
        made = Evaluation(
            **rows,
            x_adv=torch.from_numpy(whole.arrays["x_adv"]).to(device),
            trials=Trials(*(torch.from_numpy(whole.arrays[name]) for name in _TRIALS)),
            found_by=whole.table["found_by"].to_numpy().astype(str),
            norm=spec.norm,
            eps=float(spec.eps),
            effort=spec.effort,
            seed=spec.seed,
            changed=int(whole.counts["changed"]),
            undefined=int(whole.counts["undefined"]),
        )
        x, y = self.lab.tensors(self.images)
        index = self.images.index.to(device)
        made = in_parts.closed(self.lab.model, x, y, made, index=index, on_progress=on_progress)
        answers = {name: whole.table[name].to_numpy().copy() for name in ("pred", "confidence")}
        new = torch.from_numpy(whole.table["robust"].to_numpy().copy()) & ~made.robust.cpu()  # the checks fooled them
        if new.any():
            for name, values in self._answers(made.x_adv[new.to(device)]).items():
                answers[name][new.numpy()] = values
        return self.outcome(made, whole.counts["seconds"] + time.perf_counter() - start, answers)

    def _answers(self, x: Tensor) -> dict[str, np.ndarray]:
        """The class and the confidence that the model gives to images."""
        after = probabilities(self.lab.model, x)
        return {"pred": classes_of(after), "confidence": after.max(axis=1)}

    def outcome(self, made: Evaluation, seconds: float, answers: dict[str, np.ndarray] | None = None) -> store.Outcome:
        """What is stored of an evaluation of all images, which took so many seconds.

        answers: the model's at `x_adv`, where they are known.
        """
        spec, lab, batch = self.spec, self.lab, self.images
        x, y = lab.tensors(batch)
        found, size = made.upper.isfinite().cpu(), distances(made.x_adv, x)
        table = pd.DataFrame(
            {
                "index": batch.index.numpy(),
                "y": batch.y.numpy(),
                **(self._answers(made.x_adv) if answers is None else answers),
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
            "schedule": edition(spec.norm, spec.effort, max(2, len(lab.data.class_names))),
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
            "left_to_find": None if made.left_to_find is None else made.left_to_find.to_json(),
            "trust": None if made.trust is None else made.trust.to_json(),
            **card_of(lab.data, lab.device),
        }
        arrays = {"images": {"index": batch.index.numpy(), "x_adv": made.x_adv.cpu().numpy()}}
        return store.Outcome(card=card, arrays=arrays, tables={"images": table})


_TRIALS = tuple(Trials.__dataclass_fields__)
_ROWS = ("clean", "robust", "lower", "upper", "forwards", "backwards")


def _certificate(model: nn.Module, x: Tensor, y: Tensor, spec: EvaluateSpec) -> str | None:
    """By what `evaluate` tried to prove images safe; None where it has no bounds for the norm or the network."""
    if spec.norm == "l0" or spec.eps <= 0:
        return None
    try:
        proven(model, x[:1], y[:1], min(spec.eps, 1.0))
    except Unbounded:
        return None
    return "interval bounds"
