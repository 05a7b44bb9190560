"""Records on the measuring pages: proven and attacked accuracy at any ε by lookup, and the results behind them.

What is not known at an ε is a dash in tables and a gap in curves: `tables.records` decides, nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.epsilon import same, within
from core.evaluation.tables import records
from core.evaluation.tables.records import Record
from core.figures.base import mark
from core.figures.records import between
from core.storage import store
from ui.app import sources
from ui.measure import record_choice
from ui.measure.sweep_views import Curve
from ui.show import downloads, elements, model_names
from ui.text import PERCENT, counted, in_percent, percent, percent_interval, say

POINTS = 101
"""ε on a curve."""
TASKS = {"radii": "radii", "evaluate": "evaluation", "certify": "certificate", "sweep": "sweep"}
UNITS = {
    "linf": "units of a pixel's range [0, 1]",
    "l2": "the length √Σδ² of the change",
    "l1": "the sum Σ|δ| of the change",
    "l0": "features changed",
}


def read(models: Sequence[store.Artifact], norm: str, n: int | None = None) -> dict[str, Record]:
    """Model id → record in this norm on the first n images, for the models that have one."""
    found = {}
    for model in models:
        results = sources.results(model.id, *records.TASKS)
        record = _merged(model, results, norm, n, tuple(part.card["sha256"] for part in (model, *results)))
        if record is not None:
            found[model.id] = record
    return found


@st.cache_resource(max_entries=64, show_spinner="Merging what is known of each image …")
def _merged(
    _model: store.Artifact, _results: list[store.Artifact], norm: str, n: int | None, sha: tuple[str, ...]
) -> Record | None:
    return records.merge(_model, norm, _results, n=n)


@st.fragment
def lookup(
    page: str,
    models: Sequence[store.Artifact],
    found: Mapping[str, Record],
    norm: str,
    curves: Sequence[Curve],
    chance: float | None,
    charts: dict[str, go.Figure],
    under: Callable[[float], None] = lambda eps: None,
    above: Callable[[float], None] = lambda eps: None,
) -> None:
    """Draw the ε slider, the curves as bands, and the table at that ε; a move only looks up stored bounds.

    `above` and `under` draw what else there is to say at that ε, before and below them.
    """
    names, eps = model_names.short_names(models), record_choice.eps_slider(page, found, norm)
    above(eps)
    most = record_choice.farthest(list(found.values()), norm)
    single = _single(curves, found, norm, most)
    if norm not in charts:
        lines = {
            names[model]: {key: table[key].to_numpy() for key in ("eps", "proven", "attacked")}
            for model, record in found.items()
            for table in [records.curve(record, grid([record], most))]
        }
        charts[norm] = between(lines, single=single, marked=eps, chance=chance, unit=UNITS[norm])
    at = {names[model]: records.curve(record, [eps]).iloc[0] for model, record in found.items()}
    elements.chart(
        mark(charts[norm], eps),
        key=f"{page}_record_curves",
        alt=f"Robust accuracy between proven and attacked, at ε = {eps:g}: "
        + "; ".join(
            f"{name} proven {percent(row['proven'], 1)}, attacked {percent(row['attacked'], 1)}"
            for name, row in at.items()
        ),
    )
    st.caption(
        "Solid: accuracy under all attacks that were run, the most that can be left. Dotted: what is proven, the "
        "least. The truth for these images lies between. Gaps: at these ε not every image was searched, or no proof "
        "was tried. " + ("Crosses: FGSM, one gradient for all ε and one forward pass each." if single else "")
    )
    weak(found, names, eps)
    table_at(page, found, names, eps, norm)
    under(eps)


def _single(
    curves: Sequence[Curve], found: Mapping[str, Record], norm: str, most: float
) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """Name → colour and rows of the FGSM curves among the sweeps."""
    places = {model: place for place, model in enumerate(found)}
    return {
        curve.name: (places[curve.sweep.model], [row for row in curve.rows if within(row["eps"], most)])
        for curve in curves
        if norm == "linf"
        and isinstance(curve.sweep.attack, specs.Fgsm)
        and curve.sweep.attack.clip
        and curve.sweep.target is None
        and curve.sweep.model in places
    }


def grid(found: Sequence[Record], most: float) -> np.ndarray:
    """The ε of a curve up to `most`: evenly spaced, and in addition every ε that was searched."""
    budgets = [eps for record in found for eps in record.budgets() if within(eps, most)]
    every = np.sort(np.concatenate([np.linspace(0, most, POINTS), budgets]))
    return every[np.append(True, ~same(every[:-1], every[1:]))]


def row_at(record: Record, eps: float) -> dict[str, Any]:
    """The row of a record at one ε in the tables; NaN or "–" for what is not known there."""
    line = records.curve(record, [eps]).iloc[0]
    return {
        "n": len(record),
        "clean": float(record.table["clean_correct"].mean()),
        "proven": float(line["proven"]),
        "attacked": float(line["attacked"]),
        "interval": percent_interval(float(line["proven_low"]), float(line["attacked_high"])),
        "fooled": float(line["fooled_at_least"]),
        "undecided": int((record.robust(eps) & ~record.proven(eps)).sum()),
        "median": record.median(),
        "passes": float(line["passes"]),
        "note": str(line["note"]),
    }


COLUMNS = {
    "n": ("n", "Images."),
    "clean": ("Clean", "Share read correctly unchanged."),
    "proven": (
        "Proven",
        "Share for which no change within ε can fool the model: the least that is robust. –: no proof was tried at "
        "this ε.",
    ),
    "attacked": (
        "Attacked",
        "Share that no search at this ε fooled: the most that can be robust. –: some images were not searched at this "
        "ε, so the share is not known.",
    ),
    "interval": (
        "95 %",
        "From the lower end of proven's exact interval to the upper end of attacked's, in per cent; an end that is not "
        "known is left out.",
    ),
    "fooled": (
        "Fooled, at least",
        "Share that is misclassified within ε for sure, the images misclassified unchanged among them. An example "
        "found at a smaller distance counts, so this holds at every ε.",
    ),
    "undecided": ("Open", "Images neither proven nor fooled at this ε."),
    "median": (
        "Median distance",
        "Median of the smallest change found, over the correctly classified images, by searches for the smallest "
        "change (radii). –: not all images were searched so, or most withstand.",
    ),
    "passes": (
        "Passes",
        "Model evaluations per image (forward and backward passes), on average, of the searches that Attacked at this "
        "ε rests on. –: not counted.",
    ),
}
SHARES = ("clean", "proven", "attacked", "fooled")


def table_at(page: str, found: Mapping[str, Record], names: Mapping[str, str], eps: float, norm: str) -> None:
    """Draw a table with a row for each model at one ε."""
    frame = pd.DataFrame([{"Model": names[model], **row_at(record, eps)} for model, record in found.items()])
    frame["median"] = frame["median"].replace(np.inf, np.nan)
    st.dataframe(
        in_percent(frame.drop(columns="note"), SHARES),
        hide_index=True,
        placeholder="–",
        key=f"{page}_record_table",
        alt=f"Proven and attacked accuracy at ε = {eps:g} in {say(norm)}",
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            **{
                name: st.column_config.NumberColumn(
                    title,
                    help=text,
                    format={"median": "%.4g", "passes": "%.0f", "n": "localized", "undecided": "localized"}.get(
                        name, PERCENT
                    ),
                )
                if name != "interval"
                else st.column_config.TextColumn(title, help=text)
                for name, (title, text) in COLUMNS.items()
            },
        },
    )
    not_known(frame)


def not_known(frame: pd.DataFrame) -> None:
    """Draw what the dashes of a table mean, in a line for each model (columns `Model` and `note`)."""
    notes = [f"{model}: {note}" for model, note in zip(frame["Model"], frame["note"], strict=True) if note]
    if notes:
        st.caption("  \n".join(f"– {text}." for text in notes))


def weak(found: Mapping[str, Record], names: Mapping[str, str], eps: float) -> None:
    """Warn of models whose accuracy at ε comes from single attacks alone for some of the images."""
    bare = [names[model] for model, record in found.items() if record.known(eps) and record.single(eps).any()]
    if bare:
        st.warning(
            f"{', '.join(bare)}: single attacks only, no radii and no evaluation in this norm at ε = {eps:g}. "
            "“Attacked” may say more of those attacks than of the model.",
            icon=":material/warning:",
        )
    mixed = [f"{names[model]}: {record.search}" for model, record in found.items() if "; " in record.search]
    if mixed:
        st.caption("Not all images were searched alike. " + ". ".join(mixed) + ".")


def rests_on(
    page: str, found: Mapping[str, Record], names: Mapping[str, str], norm: str, notes: Sequence[str] = ()
) -> None:
    """Draw contradictions, the results behind each record, and the records as files, with `notes` inside."""
    for model, record in found.items():
        if len(record.contradictions):
            st.error(
                f"{names[model]}: on {len(record.contradictions)} images a certificate and a verified adversarial "
                "example contradict each other. One of the two has a bug; the example is counted.",
                icon=":material/error:",
            )
            st.dataframe(record.contradictions, hide_index=True, key=f"{page}_contradictions_{model}")
        if record.left_out:
            st.warning(
                f"{names[model]}: made from other data than the model's and left out: {', '.join(record.left_out)}.",
                icon=":material/warning:",
            )
    rows = [
        {
            "model": names[model],
            "task": TASKS.get(source.task, source.task),
            "norm": say(source.norm),
            "ε": source.eps,
            "n": source.n,
            "passes": source.passes or None,  # sweeps do not count theirs
            "nearest found": source.uppers,
            "farthest proven": source.lowers,
            "result": source.id,
        }
        for model, record in found.items()
        for source in record.sources
    ]
    with st.expander(f"What it rests on ({counted(len(rows), 'result')})", icon=":material/database:"):
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            placeholder="–",
            key=f"{page}_record_sources",
            alt="Results that the records were merged from",
            column_config={
                "passes": st.column_config.NumberColumn("passes", format="%.0f", help="Per image, on average."),
                "nearest found": st.column_config.NumberColumn(help="Images whose bound from above it gave."),
                "farthest proven": st.column_config.NumberColumn(help="Images whose bound from below it gave."),
            },
        )
    whole = pd.concat([record.table.assign(model=model, norm=norm) for model, record in found.items()])
    curves = pd.concat(
        [
            records.curve(record, grid([record], record_choice.farthest([record], norm))).assign(model=model, norm=norm)
            for model, record in found.items()
        ]
    )
    lines = "\n".join([*(line(record) for record in found.values()), *notes])
    with st.container(horizontal=True):
        downloads.table(page, curves, name=f"record_curves_{norm}", provenance=lines, formats=("csv",), label="Curves")
        downloads.table(page, whole, name=f"record_{norm}", provenance=lines, formats=("csv",), label="Every image")


def line(record: Record) -> str:
    """Where a record comes from, in a line."""
    ids = ", ".join(source.id for source in record.sources)
    return (
        f"model {record.model} · {say(record.norm)} · first n = {len(record):,} test images · "
        f"merged from {ids} · intervals Clopper–Pearson 95 %"
    )
