"""Records on the measuring pages: read from the store, the results behind them, what is not known.

What is not known at an ε is a dash in tables and a gap in curves: `tables.records` decides, nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables import records
from core.evaluation.tables.records import Record
from core.storage import store
from ui.app import sources
from ui.measure import record_choice
from ui.show import downloads
from ui.text import counted, say

TASKS = {"radii": "radii", "evaluate": "evaluation", "certify": "certificate", "sweep": "sweep"}
UNITS = {
    "linf": "units of a pixel's range [0, 1]",
    "l2": "the length √Σδ² of the change",
    "l1": "the sum Σ|δ| of the change",
    "l0": "features changed",
}


def read(
    models: Sequence[store.Artifact], norm: str, n: int | None = None, data: specs.DataSpec | None = None
) -> dict[str, Record]:
    """Model id → record in this norm on the first n images of `data` (None: the model's own), where there is one."""
    found = {}
    for model in models:
        results = sources.results(model.id, *records.TASKS, data=data)
        record = _merged(model, results, norm, n, tuple(part.card["sha256"] for part in (model, *results)))
        if record is not None:
            found[model.id] = record
    return found


@st.cache_resource(max_entries=64, show_spinner="Merging what is known of each image …")
def _merged(
    _model: store.Artifact, _results: list[store.Artifact], norm: str, n: int | None, sha: tuple[str, ...]
) -> Record | None:
    return records.merge(_model, norm, _results, n=n)


def not_known(frame: pd.DataFrame) -> None:
    """Draw what the dashes of a table mean, in a line for each reason (columns `model` and `note`)."""
    models: dict[str, list[str]] = {}
    for model, note in zip(frame["model"], frame["note"], strict=True):
        if note:
            models.setdefault(note, []).append(model)
    if models:
        st.caption("  \n".join(f"– {', '.join(names)}: {note}." for note, names in models.items()))


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


def contradictions(page: str, found: Mapping[str, Record], names: Mapping[str, str]) -> None:
    """Draw as errors what certificates and adversarial examples say against each other, and what was left out."""
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


def rests_on(page: str, found: Mapping[str, Record], names: Mapping[str, str]) -> None:
    """Draw the results behind each record."""
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


def files(page: str, found: Mapping[str, Record], norm: str, most: float, notes: Sequence[str] = ()) -> None:
    """Draw buttons that download the records as curves up to `most` and image by image, with `notes` inside."""
    if not found:
        return
    whole = pd.concat([record.table.assign(model=model, norm=norm) for model, record in found.items()])
    curves = pd.concat(
        [
            records.curve(record, record_choice.grid([record], most)).assign(model=model, norm=norm)
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
        f"model {record.model} · {say(record.norm)} · first n = {len(record):,} test images of {record.images} · "
        f"merged from {ids} · intervals Clopper–Pearson 95 %"
    )
