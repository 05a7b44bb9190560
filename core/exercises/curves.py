"""The curves of the exercises as numbers, from the store and as published, for pages and reports to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from core import specs
from core.data import shown
from core.exercises import published, set3, set5, which
from core.exercises.evidence import Evidence, Found
from core.linear import toy

RATES = (0.1, 0.5, 2.0)
"""Learning rates of set 4's steps on the input."""
STEPS = 12


@dataclass(frozen=True)
class Series:
    """One curve: points, the ends of their intervals if they have any, and how it is drawn.

    Attributes:
        name: written beside it.
        x: horizontal positions, rising.
        y: values; None where there is none.
        low: lower ends of the intervals; empty where there are none.
        high: upper ends.
        place: of its colour in the palette; curves of one network share it.
        hollow: drawn with open marks and a dashed line: published by others.
        joined: whether a line joins the points.
        found: the artifact that it was read from; None for published figures.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    place: int = 0
    hollow: bool = False
    joined: bool = True
    found: Found | None = None


def of_sweep(found: Found, name: str, place: int = 0, value: str = "accuracy") -> Series:
    """A metric of a stored sweep against ε; only the accuracy has intervals."""
    rows = found.artifact.card["rows"]
    low, high = (tuple(row[end] for row in rows) if value == "accuracy" else () for end in ("low", "high"))
    x, y = (tuple(row[column] for row in rows) for column in ("eps", value))
    return Series(name, x, y, low, high, place=place, found=found)


def set3_curves(evidence: Evidence) -> list[Series]:
    """Accuracy of both LeNets under FGSM from the store, and the published points."""
    found = []
    for place, (training, fits) in enumerate((("standard", set3.STANDARD), ("adversarial", set3.DEFENDED))):
        sweep = _mnist_first(evidence, which.both(set3.SWEPT, fits))
        title = "LeNet, standard training" if place == 0 else "LeNet, trained with FGSM"
        if sweep is not None:
            found.append(of_sweep(sweep, _told(title, sweep), place))
        table = published.TABLE3
        points = tuple(table[training, images]["accuracy"] for images in ("clean", "FGSM"))
        found.append(
            Series(f"{title}: published", (0.0, published.EPS3), points, place=place, hollow=True, joined=False)
        )
    return found


def set5_curves(evidence: Evidence) -> list[Series]:
    """Accuracy of set 5's networks under FGSM from the store, and the published curves."""
    found = []
    for place, kind in enumerate(set5.KINDS):
        sweep = _mnist_first(evidence, which.both(set5.FGSM, set5.KINDS[kind]))
        if sweep is not None:
            found.append(of_sweep(sweep, _told(published.TITLES5[kind], sweep), place))
        if kind in published.CURVES5:
            name = f"{published.TITLES5[kind]}: published"
            found.append(Series(name, published.EPS5, published.CURVES5[kind], place=place, hollow=True))
    return found


def toy_curves() -> list[Series]:
    """Set 4: the output f after each gradient step on x_A towards class 1, for several rates."""
    return [
        Series(
            f"rate {rate:g}",
            tuple(float(step) for step in range(STEPS + 1)),
            tuple(float(value) for value in toy.input_path(toy.X_A, rate=rate, steps=STEPS).f),
            place=place,
        )
        for place, rate in enumerate(RATES)
    ]


def epochs(found: Found) -> list[Series]:
    """Accuracy by epoch of a model: on clean validation images and, where it was watched, under attack."""
    history = [row for row in found.artifact.card.get("history", ()) if "validation_accuracy" in row]
    parts = (("clean", "validation_accuracy"), ("under FGSM", "fgsm_accuracy"), ("under PGD", "robust_accuracy"))
    return [
        Series(
            name,
            tuple(float(row["epoch"]) for row in history),
            tuple(row.get(key) for row in history),
            place=place,
            found=found,
        )
        for place, (name, key) in enumerate(parts)
        if any(row.get(key) is not None for row in history)
    ]


@dataclass(frozen=True)
class Cost:
    """A defended model beside its undefended twin: the same network on the same data."""

    model: Found
    twin: Found

    @property
    def before(self) -> float:
        """Clean test accuracy of the undefended twin."""
        return _clean(self.twin)

    @property
    def after(self) -> float:
        """Clean test accuracy of the defended model."""
        return _clean(self.model)

    @property
    def lost(self) -> float:
        """Clean accuracy that the defence costs; negative where it gains."""
        return self.before - self.after


def costs(evidence: Evidence) -> list[Cost]:
    """Every adversarially trained model whose network was also trained on clean images of the same data."""
    found = []
    trained = (*which.ADVERSARIAL, "generator", "ibp")
    for model in evidence.all(specs.TrainSpec, which.recipe(*trained)):
        twins = evidence.all(
            specs.TrainSpec,
            which.both(which.standard, which.network(model.model.network), which.data(model.model.data)),
        )
        if twins:
            found.append(Cost(model, next((twin for twin in twins if twin.bundled), twins[0])))
    return found


def crossing(series: Series, level: float) -> float | None:
    """The first x at which a falling curve reaches `level`, by straight lines between points; None if it never does."""
    pairs = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
    for (x0, y0), (x1, y1) in pairwise(pairs):
        if y0 > level >= y1:
            return float(np.interp(level, [y1, y0], [x1, x0]))
    return None


def sources(series: Sequence[Series]) -> list[Found]:
    """The artifacts that curves were read from."""
    return [one.found for one in series if one.found is not None]


def _told(title: str, sweep: Found) -> str:
    """The title, with the data set where it is not the published figures' MNIST."""
    return title if which.mnist(sweep) else f"{title} ({shown.title(sweep.data)})"


def _clean(found: Found) -> float:
    return float(found.artifact.card["metrics"]["test_accuracy"])


def _mnist_first(evidence: Evidence, fits: which.Test) -> Found | None:
    """Published figures are of MNIST: a sweep there comes before one of another data set."""
    return evidence.first(specs.SweepSpec, which.both(fits, which.mnist)) or evidence.first(specs.SweepSpec, fits)
