"""Records on the measuring pages: accuracy at any ε by lookup, what it rests on, and the forms that find more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import figures, figures_records, specs, store
from core.evaluation import records
from core.evaluation.records import Record
from ui import controls, downloads, percent, sources, sweep_views
from ui.sweep_views import CONFIG, Curve

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
    """Model id → its record in this norm, of those that have one; on the first n images."""
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


def choose_norm(page: str, start: str = "linf") -> str:
    """The norm in which records are read."""
    key = f"{page}_record_norm"
    controls.seed(key, list(records.NORMS), controls.say)
    return str(
        st.segmented_control(
            "Norm",
            list(records.NORMS),
            default=start,
            format_func=controls.say,
            required=True,
            help="What ε is measured in. ℓ∞: the largest change of a pixel; ℓ2: the length of the change; ℓ1: its sum; "
            "ℓ0: how many features change.",
            key=key,
            **controls.KEEP,
        )
    )


def farthest(found: Sequence[Record], norm: str) -> float:
    """The ε up to which a curve says something: beyond the distance of nearly all images, at most the whole range."""
    uppers = np.concatenate([record.uppers[np.isfinite(record.uppers)] for record in found] or [np.zeros(0)])
    most = float(np.quantile(uppers, 0.98)) * 1.1 if len(uppers) else 0.0
    most = min(most, specs.MAX_EPS[norm]) or {"linf": 0.3, "l2": 3.0, "l1": 30.0, "l0": 20.0}[norm]
    digits = 0 if norm == "l0" else max(0, 1 - int(np.floor(np.log10(most))))
    return float(np.ceil(most * 10**digits) / 10**digits)


def eps_slider(page: str, found: Mapping[str, Record], norm: str) -> float:
    """A slider over every ε that these records say something of."""
    most = farthest(list(found.values()), norm)
    key = f"{page}_record_at_{norm}"
    step = 1.0 if norm == "l0" else float(10.0 ** np.floor(np.log10(most / 100)))
    usual = {"linf": 0.1, "l2": 1.0, "l1": 10.0, "l0": 5.0}[norm]
    start = round(min(usual, most / 2) / step) * step
    if key in st.session_state:
        st.session_state[key] = min(max(0.0, float(st.session_state[key])), most)
    return float(
        st.slider(
            "ε",
            0.0,
            most,
            start,
            step,
            format="%.4g",
            key=key,
            help="Any budget: what is known of each image is looked up, nothing is computed.",
            **controls.KEEP,
        )
    )


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
    """A slider over every ε, the curves as bands, and the table at that ε; moving it searches sorted bounds only.

    `above` and `under` draw what else there is to say at that ε, before and below them.
    """
    names, eps = sweep_views.short_names(models), eps_slider(page, found, norm)
    above(eps)
    most = farthest(list(found.values()), norm)
    grid = np.unique(np.append(np.linspace(0, most, POINTS), eps))
    drawn = {names[model]: records.curve(record, grid) for model, record in found.items()}
    single = _single(curves, found, norm, most)
    if norm not in charts:
        lines = {
            name: {key: table[key].to_numpy() for key in ("eps", "proven", "attacked")} for name, table in drawn.items()
        }
        charts[norm] = figures_records.between(lines, single=single, marked=eps, chance=chance, unit=UNITS[norm])
    at = {name: table[table["eps"] == eps].iloc[0] for name, table in drawn.items()}
    st.plotly_chart(
        figures.mark(charts[norm], eps),
        key=f"{page}_record_curves",
        alt="Robust accuracy between proven and attacked: "
        + "; ".join(f"{name} {row['proven']:.1%} to {row['attacked']:.1%} at ε = {eps:g}" for name, row in at.items()),
        config=CONFIG,
    )
    st.caption(
        "Solid: accuracy under all attacks that were run, the most that can be left. Dotted: what is proven, the "
        "least. "
        "The truth for these images lies between. "
        + ("Crosses: FGSM, one gradient for all ε and one forward pass each." if single else "")
    )
    weak(found, names)
    table_at(page, found, names, eps, norm)
    under(eps)


def _single(
    curves: Sequence[Curve], found: Mapping[str, Record], norm: str, most: float
) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """The FGSM curves among the sweeps, with the place of their model's colour."""
    places = {model: place for place, model in enumerate(found)}
    return {
        curve.name: (places[curve.sweep.model], [row for row in curve.rows if row["eps"] <= most])
        for curve in curves
        if norm == "linf"
        and isinstance(curve.sweep.attack, specs.Fgsm)
        and curve.sweep.attack.clip
        and curve.sweep.target is None
        and curve.sweep.model in places
    }


def row_at(record: Record, eps: float) -> dict[str, Any]:
    """What the tables say of a record at one ε."""
    line = records.curve(record, [eps]).iloc[0]
    table = record.table
    return {
        "n": len(record),
        "clean": float(table["clean_correct"].mean()),
        "proven": float(line["proven"]),
        "attacked": float(line["attacked"]),
        "interval": f"{100 * line['proven_low']:.1f}–{100 * line['attacked_high']:.1f}",
        "undecided": round((line["attacked"] - line["proven"]) * len(record)),
        "median": record.median(),
        "passes": float((table["forwards"] + table["backwards"]).mean()) or np.nan,  # sweeps do not count theirs
    }


COLUMNS = {
    "n": ("n", "Images."),
    "clean": ("Clean", "Share read correctly unchanged."),
    "proven": ("Proven", "Share for which no change within ε can fool the model: the least that is robust."),
    "attacked": ("Attacked", "Share that withstood everything that was run: the most that can be robust."),
    "interval": ("95 %", "From the lower end of proven's exact interval to the upper end of attacked's, in per cent."),
    "undecided": ("Open", "Images neither proven nor fooled at this ε."),
    "median": (
        "Median distance",
        "Smallest change found, over the images read correctly; – where most withstand.",
    ),
    "passes": ("Passes", "Forward and backward passes spent on an image, on average, over all that was run."),
}
SHARES = ("clean", "proven", "attacked")


def table_at(page: str, found: Mapping[str, Record], names: Mapping[str, str], eps: float, norm: str) -> None:
    """A row a model at one ε."""
    frame = pd.DataFrame([{"Model": names[model], **row_at(record, eps)} for model, record in found.items()])
    frame["median"] = frame["median"].replace(np.inf, np.nan)
    st.dataframe(
        percent.of(frame, SHARES),
        hide_index=True,
        placeholder="–",
        key=f"{page}_record_table",
        alt=f"Proven and attacked accuracy at ε = {eps:g} in {controls.say(norm)}",
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            **{
                name: st.column_config.NumberColumn(
                    title,
                    help=text,
                    format={"median": "%.4g", "passes": "%.0f", "n": "localized", "undecided": "localized"}.get(
                        name, percent.FORMAT
                    ),
                )
                if name != "interval"
                else st.column_config.TextColumn(title, help=text)
                for name, (title, text) in COLUMNS.items()
            },
        },
    )


def weak(found: Mapping[str, Record], names: Mapping[str, str]) -> None:
    """Name the models whose record rests, for some of its images, on single attacks alone."""
    bare = [names[model] for model, record in found.items() if not record.search]
    if bare:
        st.warning(
            f"{', '.join(bare)}: single attacks only, no radii and no evaluation in this norm. “Attacked” may "
            "say more of those attacks than of the model.",
            icon=":material/warning:",
        )
    mixed = [f"{names[model]}: {record.search}" for model, record in found.items() if "; " in record.search]
    if mixed:
        st.caption("Not all images were searched alike. " + ". ".join(mixed) + ".")


def rests_on(
    page: str, found: Mapping[str, Record], names: Mapping[str, str], norm: str, notes: Sequence[str] = ()
) -> None:
    """Contradictions, the artifacts behind each record, and the records as files, with `notes` in their provenance."""
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
            "norm": controls.say(source.norm),
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
    counted = "1 result" if len(rows) == 1 else f"{len(rows)} results"
    with st.expander(f"What it rests on ({counted})", icon=":material/database:"):
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
            records.curve(record, np.linspace(0, farthest([record], norm), POINTS)).assign(model=model, norm=norm)
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
        f"model {record.model} · {controls.say(record.norm)} · first n = {len(record):,} test images · "
        f"merged from {ids} · intervals Clopper–Pearson 95 %"
    )
