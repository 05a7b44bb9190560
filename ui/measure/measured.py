"""What is known of the chosen models at every ε: all parts of the measuring pages take their figures from here.

A figure is shown only where a search, or a proof, at that ε stands behind it; elsewhere it is NaN, and the page writes
a dash. Nothing here reads a file: curves and records are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from core import specs
from core.epsilon import same, within
from core.evaluation.tables import comparison, records
from core.evaluation.tables.records import Record
from core.evaluation.trust.report import Trust
from core.storage import store
from ui.measure import sweep_views, trust_views
from ui.measure.sweep_views import Curve
from ui.text import both, counted, literal

USUAL = {"linf": 0.1, "l2": 1.0, "l1": 10.0, "l0": 5.0}
"""Where the slider starts, by norm, if something is known there."""
FINE = 60
"""Steps of the slider over the whole range where every ε can be looked up."""


@dataclass(frozen=True)
class Measured:
    """The chosen models in one norm, with all that is stored of them.

    Attributes:
        page: url path of the page.
        spec: what was asked for: models × attacks × ε.
        models: the models.
        names: id → short name.
        norm: the norm of ε.
        curves: the finished sweeps of `spec`.
        missing: the sweeps of `spec` that have not been run.
        found: id → record in this norm, of any attack and proof.
        fine: whether the slider has more stops than the ε that were run.
    """

    page: str
    spec: specs.CompareSpec
    models: list[store.Artifact]
    names: dict[str, str]
    norm: str
    curves: list[Curve]
    missing: list[specs.SweepSpec]
    found: dict[str, Record]
    fine: bool = False
    kept: dict[str, Any] = field(default_factory=dict)
    """Figures and tables that were made; a moved slider takes them from here."""

    @property
    def attacks(self) -> list[str]:
        """The chosen attacks as people read them."""
        return [sweep_views.attack_text(attack) for attack in self.spec.attacks]

    @property
    def targeted(self) -> bool:
        """Whether the sweeps lead to one class."""
        return self.spec.target is not None

    def of(self, model: str) -> dict[str, Curve]:
        """Attack → the finished sweep of this model."""
        return {c.attack: c for c in self.curves if c.sweep.model == model}

    def place(self, model: str) -> int:
        """The model's position, which its colour is made from."""
        return list(self.names).index(model)


def stops(measured: Measured) -> list[float]:
    """The ε that the slider stops at: those that were run, evaluated or proven, and more between them where asked."""
    most = farthest(measured)
    found = [0.0, *measured.spec.eps]
    for record in measured.found.values():
        found += record.budgets(hard=True)
        found += [s.eps for s in record.sources if s.task == "certify" and s.eps is not None and s.norm == record.norm]
    if measured.fine:
        digits = 0 if measured.norm == "l0" else max(0, 2 - math.floor(math.log10(max(most, 1e-6))) - 1)
        found += [round(float(eps), digits) for eps in np.linspace(0, most, FINE + 1)]
    made: list[float] = []
    for eps in sorted(float(eps) for eps in found if within(eps, most)):
        if not (made and same(made[-1], eps)):
            made.append(eps)
    lowest = min(measured.spec.eps)
    return made if measured.fine or len(made) < 2 else [eps for eps in made if eps > 0 or lowest == 0]


def farthest(measured: Measured) -> float:
    """The largest ε of chart and slider: that of the ladder, or of an evaluation or proof beyond it."""
    budgets = [eps for record in measured.found.values() for eps in record.budgets(hard=True)]
    return max([*measured.spec.eps, *budgets])


def start(measured: Measured, options: Sequence[float]) -> float:
    """The stop that the slider starts at: of those at which most is known, the one nearest to a usual ε above 0."""

    def known(eps: float) -> int:
        runs = sum(curve.has(eps) for curve in measured.curves)
        return runs + sum(record.known(eps) for record in measured.found.values())

    above = [eps for eps in options if eps > 0] or list(options)
    counts = {eps: known(eps) for eps in above}
    most = max(counts.values())
    usual = USUAL[measured.norm] if USUAL[measured.norm] <= max(above) else max(above) / 2  # of colour images: 8/255
    return min((eps for eps in above if counts[eps] == most), key=lambda eps: abs(eps - usual))


def figures(measured: Measured, eps: float) -> pd.DataFrame:
    """A row a model: what is known of it at ε, as shares; NaN where nothing at this ε stands behind a figure.

    Returns:
        `id`, `model`, `n` (of the sweeps, else of the record or of the test set), `clean`; for each attack its share,
        `low`, `high` (columns named `<attack>`, `<attack> low`, `<attack> high`); `images` (of the record), `all`
        (not fooled by anything that was run), `proven`, their interval's ends `least` and `most`, `fooled`, `median`,
        `passes`; `attacked` (the lowest known figure under attack) with `attacked_by`, `attacked_low` and
        `attacked_high`; `trust` (a word), `note` (what is not known), `warning`, `parameters` and `seconds`.
    """
    return pd.DataFrame([_row(measured, model, eps) for model in measured.models])


def _row(measured: Measured, model: store.Artifact, eps: float) -> dict[str, Any]:
    curves, record, unknown = measured.of(model.id), measured.found.get(model.id), float("nan")
    some = next(iter(curves.values()), None)
    row: dict[str, Any] = {"id": model.id, "model": measured.names[model.id]}
    row["n"] = some.rows[0]["n"] if some else len(record) if record else model.card["metrics"].get("test_n", 0)
    row["clean"] = clean(model, some, record)
    known: list[tuple[float, float, float, str]] = []
    for attack in measured.attacks:
        curve = curves.get(attack)
        at = curve.at(eps) if curve and curve.has(eps) else None
        share, low, high = (at["accuracy"], at["low"], at["high"]) if at else (unknown,) * 3
        row |= {attack: share, f"{attack} low": low, f"{attack} high": high}
        if at and curve and getattr(curve.sweep.attack, "clip", True):  # what leaves the pixel range is no image
            known.append((share, low, high, attack))
    line = records.curve(record, [eps]).iloc[0] if record is not None else None
    row |= {
        "images": len(record) if record is not None else 0,
        "all": float(line["attacked"]) if line is not None else unknown,
        "proven": float(line["proven"]) if line is not None else unknown,
        "least": float(line["proven_low"]) if line is not None else unknown,
        "most": float(line["attacked_high"]) if line is not None else unknown,
        "fooled": float(line["fooled_at_least"]) if line is not None else unknown,
        "median": _finite(record.median()) if record is not None else unknown,
        "passes": float(line["passes"]) if line is not None else unknown,
        "note": str(line["note"]) if line is not None else "nothing was run in this norm",
    }
    if line is not None and not math.isnan(row["all"]):
        known.append((row["all"], float(line["attacked_low"]), float(line["attacked_high"]), "all attacks"))
    if measured.targeted:  # a search for one class leaves the others out: what it did not fool may be fooled
        known = known[-1:] if known and known[-1][3] == "all attacks" else []
    share, low, high, by = (
        min(known, key=lambda one: (one[0], one[3] != "all attacks")) if known else (unknown,) * 3 + ("",)
    )
    row |= {"attacked": share, "attacked_low": low, "attacked_high": high, "attacked_by": by}
    report = trust_of(record, eps) if record is not None else None
    row["trust"] = trust_views.word(report)
    row["warning"] = report.warning if report is not None else ""
    card: dict[str, Any] = comparison.model_row(model)
    return row | {"parameters": card["parameters"], "seconds": card["seconds"]}


def clean(model: store.Artifact, curve: Curve | None, record: Record | None) -> float:
    """Share of the images that the model classifies correctly unchanged: those of the sweep, else those of the record.

    Where neither is there, of the whole test set.
    """
    if curve is not None:
        return float(curve.clean()["accuracy"])
    if record is not None:
        return float(record.table["clean_correct"].mean())
    return float(model.card["metrics"]["test_accuracy"])


def trust_of(record: Record, eps: float) -> Trust | None:
    """The reliability checks of an evaluation at this ε on this record's images; None where there are none."""
    made = record.judged(eps)
    return Trust.from_json(made[0].trust) if made and made[0].trust else None


def _finite(value: float) -> float:
    return value if math.isfinite(value) else float("nan")


# ---------------------------------------------------------------- in words


def per_cent(share: float) -> str:
    """A share for a sentence: whole per cents, one digit more near 0 and 100; a dash where it is not known."""
    if math.isnan(share):
        return "–"
    digits = 1 if 0 < min(share, 1 - share) < 0.02 else 0
    return f"{100 * share:.{digits}f} %"


def sentence(measured: Measured, eps: float, frame: pd.DataFrame) -> str:
    """The answer at ε in a sentence or two, in Markdown."""
    if measured.targeted:
        return _targeted(measured, eps)
    ran = frame[measured.attacks[0]].notna().any() or not frame["attacked"].notna().any()
    one = len(measured.attacks) == 1 and bool(ran)
    column = measured.attacks[0] if one else "attacked"
    known = frame[frame[column].notna()]
    at = both(eps) if measured.norm == "linf" else f"{eps:g}"
    said = f"At **ε = {at}**" + (", " if len(known) else ":")
    if len(known):
        counts = sorted(set(known["n"]))
        images = counted(int(counts[0]), "image") if len(counts) == 1 else "its images"
        under = f" under {measured.attacks[0]}" if one else " under every attack that was run"
        parts = [
            f"**{row['model']}** keeps {per_cent(row[column])} of {images}{under}"
            if place == 0
            else f"**{row['model']}** {per_cent(row[column])}"
            for place, row in enumerate(known.to_dict("records"))
        ]
        said += "; ".join(parts) + "."
    unknown = [f"**{name}**" for name in frame.loc[frame[column].isna(), "model"]]
    if unknown:
        which = measured.attacks[0] if one else "any attack"
        said += f" Not known of {', '.join(unknown)}: {which} was not run at this ε."
    proven = [f"{row['model']} {per_cent(row['proven'])}" for row in frame.to_dict("records") if row["proven"] > 0]
    if eps > 0 and proven:
        said += f" Proven, whatever the attack: {'; '.join(proven)}."
    return said


def _targeted(measured: Measured, eps: float) -> str:
    name = literal(measured.models[0].card["class_names"][measured.spec.target or 0])
    parts = []
    for curve in measured.curves:
        rate = curve.at(eps)["success_rate"] if curve.has(eps) else None
        if rate is not None:
            whose = measured.names[curve.sweep.model]
            parts.append(f"{per_cent(rate)} of the images that **{whose}** gets right ({curve.attack})")
    if not parts:
        return f"At **ε = {both(eps)}** nothing is known towards class “{name}”: no attack towards it was run here."
    return f"At **ε = {both(eps)}** the attack makes “{name}” of " + "; of ".join(parts) + "."
