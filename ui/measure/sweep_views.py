"""Finished sweeps as curves, their names, and tables made of them, for the two measuring pages.

Everything is read from the store, without torch; an ε is looked up, never computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.epsilon import same
from core.evaluation.tables import comparison, export
from core.storage import store
from ui.app import sources
from ui.form import samples
from ui.show import model_names, provenance
from ui.text import PERCENT, in_percent, say


def _kinds() -> dict[str, tuple[str, dict[str, str]]]:
    """Each method that gives a curve over ε, once for each of its norms: kind → title, fields of the spec."""
    found = {}
    for name in specs.sweepable():
        cls = specs.METHODS[name]
        norms = get_args(cls.model_fields["norm"].annotation) if "norm" in cls.model_fields else ()
        for norm in norms:
            found[f"{name}_{norm}"] = (f"{cls.title} {say(norm)}", {"name": name, "norm": norm})
        if not norms:
            found[name] = (cls.title, {"name": name})
    return found


KINDS = {kind: fields for kind, (_, fields) in _kinds().items()}
"""The attacks on offer: a method, and its norm where it has several."""
TITLES = {kind: title for kind, (title, _) in _kinds().items()} | {"jacobian_dense": "Dense formula"}
METRICS = {
    "accuracy": ("Correct", "Share of the n images that are read correctly."),
    "interval": ("95 % interval", "Exact interval of that share (Clopper–Pearson)."),
    "error": ("Error", "1 − correct."),
    "confidence": ("Confidence", "Mean of the largest softmax probability, over all n images."),
    "confidence_correct": ("… when correct", "The same over the images that are read correctly."),
    "confidence_wrong": ("… when wrong", "The same over the images that are misread."),
    "calibration_gap": ("Gap", "Calibration gap, confidence − correct: above 0, the model is surer than it is right."),
    "success_rate": (
        "Success",
        "Of the images read correctly before: the share that is not any more, or is read as the target.",
    ),
}
"""Column of a sweep's rows → its title and what it means: the five metrics of exercise set 3, and more."""


@dataclass(frozen=True)
class Curve:
    """A finished sweep: its name on the page, its model, its spec and its stored result."""

    name: str
    model: store.Artifact
    sweep: specs.SweepSpec
    result: store.Artifact

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each ε, rising: n, the five metrics, intervals, success rate; an undefined metric is None."""
        return comparison.rows_of(self.result.card)

    def at(self, eps: float) -> dict[str, Any]:
        """The row of this ε."""
        return self.rows[self.step(eps)]

    def step(self, eps: float) -> int:
        """The position of this ε in the ladder. Raises ValueError if it was not run."""
        return step_of(self.sweep.eps, eps)

    def has(self, eps: float) -> bool:
        """Whether this ε was run."""
        return any(same(value, eps) for value in self.sweep.eps)

    @property
    def attack(self) -> str:
        """The attack as people read it."""
        return attack_text(self.sweep.attack)

    def clean(self) -> Mapping[str, Any]:
        """The five metrics on the curve's images without any change."""
        if self.rows[0]["eps"] == 0:
            return self.rows[0]
        return _clean(self, self.result.card["sha256"])

    def images(self) -> pd.DataFrame:
        """The table of every image at every ε; shared by all visitors, never to be changed."""
        return _table(self.result, self.result.card["sha256"], "images")

    def gallery(self) -> dict[str, np.ndarray]:
        """The kept pictures: index (k,), y (k,), x (k, C, H, W), x_adv (E, k, C, H, W), eps (E,); shared, as above."""
        return _arrays(self.result, self.result.card["sha256"], "gallery")

    def tests(self) -> pd.DataFrame:
        """The model's predictions on the unchanged test set, by index; shared, as above."""
        return _tests(self.model, self.sweep.data, self.model.card["sha256"])

    def kept(self) -> list[list[tuple[int, float]]]:
        """(class, confidence) of each kept picture: first unchanged, then at each ε; shared, as above."""
        return _kept(self, self.result.card["sha256"])

    def provenance(self) -> str:
        """Where the curve comes from, in a line."""
        towards = None if self.sweep.target is None else f"towards class {self.sweep.target}"
        rest = (attack_text(self.sweep.attack), towards, f"result {self.result.id}")
        return provenance.line(
            model=self.model,
            data=self.sweep.data,
            attack=" ".join(part for part in rest[:2] if part),
            norm=None if self.sweep.attack.slug() == "pgd" else norm_of(self.sweep.attack),  # PGD's text has it
            eps=self.sweep.eps,
            seed=self.sweep.seed,
            n=self.rows[0]["n"],
            more=rest[2],
        )


@st.cache_resource(max_entries=24, show_spinner=False)
def _table(_artifact: store.Artifact, sha256: str, name: str) -> pd.DataFrame:
    return _artifact.table(name)


@st.cache_resource(max_entries=24, show_spinner=False)
def _tests(_model: store.Artifact, data: specs.DataSpec | None, sha256: str) -> pd.DataFrame:
    table = samples.table(_model, data)
    if table is None:
        st.stop()  # what is wrong stands on the page
    return table.set_index("index")


@st.cache_resource(max_entries=256, show_spinner=False)
def _kept(_curve: Curve, sha256: str) -> list[list[tuple[int, float]]]:
    index, images = _curve.gallery()["index"], _curve.images()
    at = [images[same(images["eps"], eps)].set_index("index") for eps in _curve.sweep.eps]
    return [_pairs(table.loc[index]) for table in (_curve.tests(), *at)]


def _pairs(table: pd.DataFrame) -> list[tuple[int, float]]:
    return [(int(pred), float(sure)) for pred, sure in zip(table["pred"], table["confidence"], strict=True)]


@st.cache_resource(max_entries=256, show_spinner=False)
def _clean(_curve: Curve, sha256: str) -> Mapping[str, Any]:
    from core.evaluation.tables import metrics  # imports SciPy, which takes a moment

    tests = _curve.tests().loc[_curve.images()["index"].unique()]
    return metrics.five_metrics(tests["y"].to_numpy(), tests["pred"].to_numpy(), tests["confidence"].to_numpy()).row()


@st.cache_resource(max_entries=24, show_spinner=False)
def _arrays(_artifact: store.Artifact, sha256: str, name: str) -> dict[str, np.ndarray]:
    return _artifact.arrays(name)


def step_of(ladder: Sequence[float], eps: float) -> int:
    """The position of an ε in a ladder. Raises ValueError if it is not in it; no other ε stands in for it."""
    for place, value in enumerate(ladder):
        if same(value, eps):
            return place
    raise ValueError(f"eps: expected one of {', '.join(f'{value:g}' for value in ladder)}, got {eps:g}")


# ---------------------------------------------------------------- names


def norm_of(method: specs.Method) -> specs.Norm:
    """The norm in which the attack's ε is measured."""
    return getattr(method, "norm", None) or method.norms[0]


def attack_text(method: specs.Method) -> str:
    """An attack as people read it, with the settings that are not its defaults: `PGD ℓ2, steps 100`."""
    changed = method.model_dump(exclude_defaults=True, exclude={"name", "norm"})
    words = [
        {"clip": "unclipped", "boxed": "unboxed"}.get(name, f"no {name.replace('_', ' ')}")
        if value is False
        else f"{name.replace('_', ' ')} {say(value)}"
        for name, value in changed.items()
    ]
    return ", ".join([TITLES[kind_of(method)], *words])


def kind_of(method: specs.Method) -> str:
    """Which of `KINDS` a method is."""
    norm = getattr(method, "norm", None)
    return method.slug() if norm is None else f"{method.slug()}_{norm}"


# ---------------------------------------------------------------- reading


def read(spec: specs.CompareSpec, models: Sequence[store.Artifact]) -> tuple[list[Curve], list[specs.SweepSpec]]:
    """The finished curves, and the sweeps that have not been run."""
    names, by_id = model_names.short_names(models), {model.id: model for model in models}
    curves, missing = [], []
    for sweep in spec.sweeps():
        result = sources.artifact(sweep)
        if result is None:
            missing.append(sweep)
        else:
            curves.append(Curve(curve_name(names, sweep), by_id[sweep.model], sweep, result))
    return curves, missing


def curve_name(names: dict[str, str], sweep: specs.SweepSpec) -> str:
    """Such as `LeNet · FGSM`."""
    return f"{names[sweep.model]} · {attack_text(sweep.attack)}"


def readings(
    curve: Curve, places: Sequence[int], eps: float
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(class, confidence) of the kept pictures at these positions: unchanged, and at this ε."""
    kept, step = curve.kept(), 1 + curve.step(eps)
    return [kept[0][place] for place in places], [kept[step][place] for place in places]


def looks(curves: Sequence[Curve], models: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Curve → number of its colour (the model's, as in every chart of the page) and of its dash (the attack's)."""
    attacks = list(dict.fromkeys(curve.attack for curve in curves))
    return {curve.name: (models.index(curve.sweep.model), attacks.index(curve.attack)) for curve in curves}


def named(curve: Curve) -> dict[str, Any]:
    """The columns that tell which curve a row of a table belongs to."""
    return {
        "model": curve.sweep.model,
        "attack": attack_text(curve.sweep.attack),
        "target": "any" if curve.sweep.target is None else curve.sweep.target,
        "seed": curve.sweep.seed,
    }


def metric_table(frame: pd.DataFrame, *, first: Sequence[str], key: str, alt: str) -> None:
    """Draw the five metrics with interval, calibration gap and success rate; `first` are the first columns."""
    shown = in_percent(frame[[*first, *METRICS]], [name for name in METRICS if name != "interval"])
    st.dataframe(
        shown,
        hide_index=True,
        placeholder="–",
        key=key,
        alt=alt,
        column_config={
            **{
                name: st.column_config.Column(name if len(name) == 1 else name.capitalize(), pinned=name == first[0])
                for name in first
            },
            **{
                name: st.column_config.Column(title, help=text)
                if name == "interval"
                else st.column_config.NumberColumn(title, help=text, format=PERCENT)
                for name, (title, text) in METRICS.items()
            },
        },
    )


def every_image(page: str, curves: Sequence[Curve], lines: str) -> None:
    """Draw a button that downloads a row for every image of every curve at every ε; the file is made on a click."""

    def text() -> str:
        tables = [curve.images().assign(**named(curve)) for curve in curves]
        return export.to_text(pd.concat(tables, ignore_index=True), "csv", lines)

    st.download_button(
        "Every image (CSV)",
        text,
        file_name=f"{page}_images.csv",
        mime="text/csv",
        icon=":material/download:",
        help="A row for each curve, ε and image: class, prediction, confidence, success, size of the change.",
        key=f"{page}_download_images_csv",
        on_click="ignore",
    )
