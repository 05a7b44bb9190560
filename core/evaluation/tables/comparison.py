"""Models × attacks × ε as one table, read from finished sweeps, and its exports. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.data import shown
from core.evaluation.tables import export
from core.specs import CompareSpec, Method, ModelSpec, SweepSpec, TrainSpec, recipe_of
from core.storage import store

METRIC_COLUMNS = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")
"""The five metrics of exercise set 3, in the order of its table."""


PASSES = "of each ε"
"""What a sweep's card says of the passes in its rows: those of older cards are sums over all ε up to the row's."""


@dataclass(frozen=True)
class Comparison:
    """A comparison as far as it has been run.

    Attributes:
        table: a row for each model, attack and ε: model, attack, eps, n, the five metrics, low, high, calibration_gap,
            success_rate, forwards and backwards (passes per image, of the search at that ε). Cells not yet run are
            missing.
        models: a row a model: id, network, recipe, parameters, test_accuracy, test_low, test_high, seconds.
        missing: the sweeps that have not been run.
        warnings: reasons why the rows may not be comparable.
    """

    spec: CompareSpec
    table: pd.DataFrame
    models: pd.DataFrame
    missing: list[SweepSpec]
    warnings: list[str]

    def _counted(self) -> str:
        """The n of the rows, which is below the requested n where the test set has fewer images."""
        counted = sorted({int(n) for n in self.table["n"]}) if len(self.table) else [self.spec.n]
        return " and ".join(str(n) for n in counted)

    def provenance(self) -> str:
        """One line that says where the figures come from."""
        attacks = "; ".join(method_line(sweep) for sweep in self.spec.sweeps()[: len(self.spec.attacks)])
        eps = ", ".join(f"{value:g}" for value in self.spec.eps)
        images = "" if self.spec.data is None else f" of {shown.title(self.spec.data)}"
        return (
            f"Adversarial Lab: models {len(self.spec.models)}, attacks {attacks}, ε in [0, 1]: {eps}, "
            f"{'' if self.spec.target is None else f'towards class {self.spec.target}, '}"
            f"first n = {self._counted()} test images{images} (fixed order), seed {self.spec.seed}, "
            "intervals Clopper–Pearson 95 %"
        )


def method_line(sweep: SweepSpec) -> str:
    """The attack with the settings that are not its defaults, such as `pgd(norm=l2, steps=100)`."""
    settings = settings_line(sweep.attack)
    return sweep.attack.slug() + (f"({settings})" if settings else "")


def settings_line(method: Method) -> str:
    """A method's settings that are not its defaults, such as `norm=l2, steps=100`; may be empty."""
    changed = method.model_dump(exclude_defaults=True, exclude={"name"})
    return ", ".join(f"{name}={value}" for name, value in changed.items())


def compare(spec: CompareSpec, root: Path) -> Comparison:
    """Read the finished cells of a comparison from the store; nothing is run.

    Raises ValueError for an unknown model. A damaged cell is set aside by the store and counts as missing.
    """
    resolved = store.resolve(spec, root)
    assert isinstance(resolved, CompareSpec)
    rows, missing = [], []
    prints: dict[str, set[str]] = {}
    for sweep in resolved.sweeps():
        try:
            found = store.find(sweep, root)
        except store.DamagedArtifact:
            found = None
        if found is None:
            missing.append(sweep)
            continue
        prints.setdefault(found.card["data"]["fingerprint"], set()).add(sweep.model)
        rows += [{"model": sweep.model, "attack": method_line(sweep), **row} for row in rows_of(found.card)]
    models = pd.DataFrame([model_row(store.open_model(model, root)) for model in resolved.models])
    warnings = []
    if len(prints) > 1 or (resolved.data is None and len(set(models["data"])) > 1):
        warnings.append(
            "The models were shown images of different data sets or classes: their rows are not comparable."
        )
    if rows and len({row["n"] for row in rows}) > 1:
        warnings.append("The rows count different numbers of images: compare the intervals, not the figures.")
    # null in a card is an undefined metric
    table = pd.DataFrame(rows).astype({name: float for name in METRIC_COLUMNS} if rows else {})
    return Comparison(resolved, table, models, missing, warnings)


def rows_of(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a sweep's card, the passes of older ones left out where they are those of several ε together."""
    rows = [dict(row) for row in card["rows"]]
    if card.get("passes") == PASSES:
        return rows
    unknown = {"forwards": None, "backwards": None}
    return [row | unknown if place and "forwards" in row else row for place, row in enumerate(rows)]


def model_row(artifact: store.Artifact) -> dict[str, object]:
    """What the table of models says of one of them; of an imported one the time of its training is not known."""
    card, spec = artifact.card, artifact.spec()
    assert isinstance(spec, ModelSpec)
    return {
        "model": artifact.id,
        "data": spec.data.slug(),
        "network": spec.network + (" (scalar)" if spec.scalar else ""),
        "recipe": recipe_of(spec),
        "parameters": card["network"]["parameters"],
        "test_accuracy": card["metrics"]["test_accuracy"],
        "test_low": card["metrics"]["test_low"],
        "test_high": card["metrics"]["test_high"],
        "seconds": card["timing"]["seconds"] if isinstance(spec, TrainSpec) else None,
        "created": card["created"],
    }


def to_csv(comparison: Comparison) -> str:
    """The table as CSV with full precision, and nothing else; see `export`."""
    return export.to_text(comparison.table, "csv", "")


def to_markdown(comparison: Comparison) -> str:
    """The table as GitHub's Markdown, the provenance below it."""
    return export.to_markdown(_printed(comparison.table), comparison.provenance(), as_text=True)


def to_latex(comparison: Comparison) -> str:
    """The table as LaTeX (booktabs), the provenance as a comment before it."""
    return export.to_latex(_printed(comparison.table), comparison.provenance(), as_text=True)


def _printed(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that people read, four decimals, a dash where a metric is undefined."""
    names = {
        "model": "model",
        "attack": "attack",
        "eps": "ε",
        "n": "n",
        "accuracy": "correct",
        "interval": "95 % interval",
        "error": "error",
        "confidence": "confidence",
        "confidence_correct": "conf. correct",
        "confidence_wrong": "conf. wrong",
        "calibration_gap": "calibration gap",
        "success_rate": "success rate",
        "passes": "passes",
    }
    if table.empty:
        return pd.DataFrame(columns=list(names.values()))
    shown = table.assign(
        interval=[f"{_number(low)}–{_number(high)}" for low, high in zip(table["low"], table["high"], strict=True)],
        eps=[f"{value:g}" for value in table["eps"]],
        passes=[passes(row) for row in table.to_dict("records")],
    )[list(names)]
    for name in shown.columns:
        if name in METRIC_COLUMNS or name in ("calibration_gap", "success_rate"):
            shown[name] = [_number(value) for value in shown[name]]
    return shown.rename(columns=names)


def passes(row: Mapping[Any, Any]) -> str:
    """Forward and backward passes an image of a sweep's row, such as `12.5 + 4`; a dash where they were not counted."""
    counted = [row.get(name) for name in ("forwards", "backwards")]
    return "–" if any(value is None or pd.isna(value) for value in counted) else " + ".join(f"{n:.4g}" for n in counted)


def _number(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.4f}"
