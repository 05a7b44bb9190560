"""Is A more robust than B? Paired tests on the same images at one ε, and the tables of records for the exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables import paired, records
from core.evaluation.tables.records import Record
from core.storage import store
from ui.app import sources
from ui.measure import record_views, reliability
from ui.measure.measured import Measured
from ui.show import downloads
from ui.text import both, say, sentence_case


def section(measured: Measured, eps: float) -> None:
    """Draw the tests of each pair of models at this ε, and the median distances."""
    found, names = measured.found, measured.names
    if len(measured.models) < 2:
        st.info("Choose two models or more to compare them.", icon=":material/info:")
        return
    if measured.spec.data is None and len({str(sources.model_spec(model).data) for model in measured.models}) > 1:
        st.warning("These models read different images, so they are not tested against each other.")
    if not found:
        st.info(
            "Nothing was run on these models in this norm yet: find their radii, or evaluate them, under Ranking.",
            icon=":material/info:",
        )
        return
    record_views.weak(found, names, eps)
    tests = tests_at(found, names, eps)
    if len(tests):
        st.markdown("\n".join(f"- {sentence_case(paired.sentence(row))}." for row in _rows(tests)))
        st.caption(
            f"Exact McNemar tests on the same images at ε = {both(eps)}, {len(tests)} of them, corrected by Holm's "
            "method; an image counts for a model if nothing that was run fooled it. Only images that radii, or an "
            "evaluation at this ε, looked at for both models are counted."
        )
    elif len(found) > 1 and len({record.data for record in found.values()}) == 1:
        st.info(
            f"Not compared at ε = {both(eps)}: no image was looked at by radii, or by an evaluation at this ε, for two "
            "of the models. A single attack proves no order: it may be weak against one of them.",
            icon=":material/info:",
        )
    distances = medians(measured.models, shared(measured), measured.norm, measured.spec.data)
    known = [norm for norm in records.NORMS if distances[norm].notna().any()]
    if known:
        st.markdown("**Median of the smallest change that fools**")
        shown = pd.DataFrame(
            {"Model": [names[model] for model in found]} | {say(n): distances[n].tolist() for n in known}
        )
        st.dataframe(
            shown,
            hide_index=True,
            placeholder="–",
            key=f"{measured.page}_medians",
            alt="Median smallest change by norm",
            column_config={say(norm): st.column_config.NumberColumn(format="%.4g") for norm in known},
        )
        st.caption(
            "Over the correctly classified images, by searches for the smallest change (radii). –: not all of them "
            "were searched so, or most withstand. Measured on the images that all of these models were searched on."
        )
    if len(tests):
        lines = "\n".join([f"at ε {eps:g} in {measured.norm}", *(record_views.line(r) for r in found.values())])
        downloads.table(
            measured.page, tests, name="paired_tests", provenance=lines, formats=("csv", "xlsx"), label="Tests"
        )


def shared(measured: Measured) -> dict[str, Record]:
    """The records of the images that were run on all models; as they are where the models read different data."""
    found = measured.found
    if len({record.data for record in found.values()}) > 1 or len(found) < 2:
        return found
    common = records.common(list(found.values()))
    return dict(zip(found, common, strict=True)) if len(common[0]) else found


def medians(
    models: Sequence[store.Artifact], found: Mapping[str, Record], norm: str, data: specs.DataSpec | None = None
) -> pd.DataFrame:
    """Median smallest change found, by model (row) and norm (column), over correctly classified images of `found`.

    In other norms, too, all models are measured on the same images: those of `found` that all were searched on.
    """
    columns = {norm: {model: record.median() for model, record in found.items()}}
    for other in (name for name in records.NORMS if name != norm):
        read = record_views.read([model for model in models if model.id in found], other, data=data)
        index = [found[model].table["index"].to_numpy() for model in read]
        taken = records.common([record.take(wanted) for record, wanted in zip(read.values(), index, strict=True)])
        columns[other] = {model: record.median() for model, record in zip(read, taken, strict=True) if len(record)}
    return pd.DataFrame(columns, index=list(found), columns=list(records.NORMS)).replace(np.inf, np.nan)


def tests_at(found: Mapping[str, Record], names: Mapping[str, str], eps: float) -> pd.DataFrame:
    """McNemar's test for each pair of models on robust images at ε, over the images that were searched on both.

    Empty where the models read different data: images of the same number are not the same images then.
    """
    if len({record.data for record in found.values()}) > 1:
        return paired.pairs({})
    return records.tests({names[model]: record for model, record in found.items()}, eps)


def tables(
    found: Mapping[str, Record], eps: Sequence[float], norm: str, data: specs.DataSpec | None = None
) -> dict[str, pd.DataFrame]:
    """Tables for the exports: the interval of each model and the test of each pair at each ε, reliability checks.

    A table that would have no rows is left out.
    """
    if not found:
        return {}
    curves = [records.curve(record, eps).assign(model=model, norm=norm) for model, record in found.items()]
    ids = {model: model for model in found}
    tests = [made.assign(eps=at, norm=norm) for at in eps if len(made := tests_at(found, ids, at))]
    judged = [
        {"model": model, "norm": norm, "eps": made.report.eps, "n": made.report.n, "verdict": made.report.verdict}
        | {"report": made.report.line(), "usable": not made.report.warning, "warning": made.report.warning}
        | {"left_to_find": made.report.left_to_find(), "schedule": made.older}
        for model in found
        for made in reliability.reports_of(model, norm, data)
    ]
    made_of = {"proven and attacked": curves, "paired tests": tests}
    made_tables = {name: pd.concat(parts, ignore_index=True) for name, parts in made_of.items() if parts}
    return made_tables | ({"trust reports": pd.DataFrame(judged)} if judged else {})


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.sort_values("p_holm").head(8).to_dict("records")
