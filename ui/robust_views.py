"""What the comparison page says of records: proven and attacked at any ε, medians, trust, and who is more robust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import store
from core.evaluation import paired, records, trust
from core.evaluation.records import Record
from ui import controls, downloads, percent, record_runs, record_views, sources, sweep_choice, sweep_views, trust_views


def section(page: str, models: Sequence[store.Artifact]) -> tuple[str, dict[str, Record]]:
    """The records of the models in a chosen norm, on the images that all of them have; returns norm and records."""
    norm = record_views.choose_norm(page)
    found = record_views.read(models, norm)
    record_runs.find_more(page, models, found, norm)
    if not found:
        st.info(
            "Nothing was run on these models in this norm yet: find their radii, or evaluate them.",
            icon=":material/info:",
        )
        return norm, {}
    if len({str(sources.model_spec(model).data) for model in models}) > 1:
        st.warning("These models read different images, so they are not tested against each other.")
    else:
        shared = records.common(list(found.values()))
        if len(shared[0]) < max(map(len, found.values())):
            st.caption(f"On the {len(shared[0]):,} images that were run on every model shown.")
        if len(shared[0]):
            found = dict(zip(found, shared, strict=True))
    reports = {model.id: reports_of(model.id, norm) for model in models}
    standing(page, models, found, norm, medians(models, found, norm), reports)
    record_views.rests_on(page, found, sweep_views.short_names(models), norm, trust_lines(reports))
    return norm, found


def show_trust(
    page: str, models: Sequence[store.Artifact], reports: Mapping[str, Sequence[trust.Trust]], eps: float
) -> None:
    """The trust report of one of the models that were evaluated, of the evaluation nearest to ε."""
    nearest = {model: report for model, made in reports.items() if (report := trust_of(made, eps)) is not None}
    if nearest:
        names = sweep_views.short_names(models)
        chosen = sweep_choice.one_of(page, "trust_of", "Trust report of", list(nearest), names.__getitem__)
        st.caption(f"Of the evaluation at ε = {nearest[chosen].eps:g}, the nearest to ε = {eps:g}.")
        trust_views.show_trust(nearest[chosen], key=f"{page}_trust")


def warn(models: Sequence[store.Artifact], reports: Mapping[str, Sequence[trust.Trust]], eps: float) -> None:
    """Say first whose figures must not be used, by the evaluation nearest to ε, and why; draws nothing where none."""
    names = sweep_views.short_names(models)
    for model in models:
        report = trust_of(reports.get(model.id, ()), eps)
        if report is not None and report.warning:
            st.error(
                f"**Do not use the figures of {names[model.id]}** (evaluation at ε = {report.eps:g}). {report.warning}",
                icon=":material/cancel:",
            )


@st.fragment
def standing(
    page: str,
    models: Sequence[store.Artifact],
    found: Mapping[str, Record],
    norm: str,
    distances: pd.DataFrame,
    reports: Mapping[str, Sequence[trust.Trust]],
) -> None:
    """The slider, the table of models at that ε, and the paired tests; a move is a lookup and reads no file.

    `distances` are the `medians`; `reports` the trust reports of each model's evaluations.
    """
    eps = record_views.eps_slider(page, found, norm)
    names = sweep_views.short_names(models)
    warn(models, reports, eps)
    frame = models_at(models, found, names, distances, reports, eps)
    st.dataframe(
        percent.of(frame.drop(columns=["trust report", "warning"]).dropna(axis=1, how="all"), record_views.SHARES),
        hide_index=True,
        placeholder="–",
        key=f"{page}_robust_table",
        alt=f"Models at ε = {eps:g} in {controls.say(norm)}",
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            "interval": st.column_config.TextColumn("95 %", help=record_views.COLUMNS["interval"][1]),
            "trust": st.column_config.TextColumn("Trust", help="Verdict of the evaluation nearest in ε."),
            "training": st.column_config.NumberColumn("Training", format="%.0f s", help="Time that training took."),
            "passes": st.column_config.NumberColumn("Passes", format="%.0f", help=record_views.COLUMNS["passes"][1]),
            "n": st.column_config.NumberColumn("n", format="localized"),
            **{
                name: st.column_config.NumberColumn(title, format=percent.FORMAT, help=record_views.COLUMNS[name][1])
                for name, title in (("clean", "Clean"), ("proven", "Proven"), ("attacked", "Attacked"))
            },
            **{
                f"median {name}": st.column_config.NumberColumn(
                    f"Median {controls.say(name)}",
                    format="%.4g",
                    help="Smallest change found in this norm, median over the images read correctly.",
                )
                for name in records.NORMS
            },
        },
    )
    record_views.weak(found, names)
    tests = tests_at(found, names, eps)
    lines = "\n".join([f"at ε {eps:g} in {norm}", *(record_views.line(record) for record in found.values())])
    if len(tests):
        st.markdown(
            "\n".join(f"- {paired.sentence(row)[0].upper()}{paired.sentence(row)[1:]}." for row in _rows(tests))
        )
        st.caption(
            f"Exact McNemar tests on the same images at ε = {eps:g}, {len(tests)} of them, corrected by Holm's method; "
            "an image counts for a model that withstood everything that was run on it."
        )
    with st.container(horizontal=True):
        downloads.table(
            page, frame, name="robust_models", provenance=lines, formats=("csv", "md", "tex", "xlsx"), label="Models"
        )
        downloads.table(page, tests, name="paired_tests", provenance=lines, formats=("csv", "xlsx"), label="Tests")
    show_trust(page, models, reports, eps)


def medians(models: Sequence[store.Artifact], found: Mapping[str, Record], norm: str) -> pd.DataFrame:
    """A row a model, a column a norm: the median distance found, over the images of `found` that are read correctly.

    In other norms, too, all models are measured on the same images: those of `found` that all were searched on.
    """
    columns = {norm: {model: record.median() for model, record in found.items()}}
    for other in (name for name in records.NORMS if name != norm):
        read = record_views.read([model for model in models if model.id in found], other)
        index = [found[model].table["index"].to_numpy() for model in read]
        shared = records.common([record.take(wanted) for record, wanted in zip(read.values(), index, strict=True)])
        columns[other] = {model: record.median() for model, record in zip(read, shared, strict=True) if len(record)}
    return pd.DataFrame(columns, index=list(found), columns=list(records.NORMS)).replace(np.inf, np.nan)


def models_at(
    models: Sequence[store.Artifact],
    found: Mapping[str, Record],
    names: Mapping[str, str],
    distances: pd.DataFrame,
    reports: Mapping[str, Sequence[trust.Trust]],
    eps: float,
) -> pd.DataFrame:
    """A row a model: the interval at ε, median distances in every norm, trust, cost."""
    rows = []
    for model in models:
        if model.id not in found:
            continue
        row = record_views.row_at(found[model.id], eps)
        report = trust_of(reports[model.id], eps)
        rows.append(
            {
                "Model": names[model.id],
                **{key: row[key] for key in ("n", "clean", "proven", "attacked", "interval", "passes")},
                **{f"median {name}": distances.loc[model.id, name] for name in records.NORMS},
                "trust": trust_views.word(report) + ("" if report is None else f" at ε {report.eps:g}"),
                "trust report": "" if report is None else report.line(),
                "warning": "" if report is None else report.warning,
                "training": model.card.get("timing", {}).get("seconds"),
            }
        )
    return pd.DataFrame(rows)


def reports_of(model: str, norm: str) -> list[trust.Trust]:
    """The trust reports of a model's evaluations in this norm, newest first."""
    cards = [result.card for result in sources.results(model, "evaluate")]
    return [trust.Trust.from_json(card["trust"]) for card in cards if card.get("norm") == norm and card.get("trust")]


def trust_lines(reports: Mapping[str, Sequence[trust.Trust]]) -> list[str]:
    """The verdict on each evaluation in a line, for exports."""
    return [
        f"model {model} · evaluation at ε {report.eps:g} · {report.line()}"
        for model, made in reports.items()
        for report in made
    ]


def trust_of(reports: Sequence[trust.Trust], eps: float) -> trust.Trust | None:
    """The report that is nearest in ε; the newest of several."""
    return min(reports, key=lambda report: abs(report.eps - eps), default=None)


def tests_at(found: Mapping[str, Record], names: Mapping[str, str], eps: float) -> pd.DataFrame:
    """McNemar's test of each pair of models on what still stands at ε, on the images that were searched for both.

    Empty where the models read different data: images of the same number are not the same images then.
    """
    if len({record.data for record in found.values()}) > 1:
        return paired.pairs({})
    return records.tests({names[model]: record for model, record in found.items()}, eps)


def tables(found: Mapping[str, Record], eps: Sequence[float], norm: str) -> dict[str, pd.DataFrame]:
    """For the exports: the interval of each model and the test of each pair, at each ε, and what reports say."""
    if not found:
        return {}
    curves = [records.curve(record, eps).assign(model=model, norm=norm) for model, record in found.items()]
    ids = {model: model for model in found}
    tests = [tests_at(found, ids, at).assign(eps=at, norm=norm) for at in eps]
    judged = [
        {"model": model, "norm": norm, "eps": report.eps, "verdict": report.verdict, "report": report.line()}
        | {"usable": not report.warning, "warning": report.warning}
        for model in found
        for report in reports_of(model, norm)
    ]
    made = {"proven and attacked": pd.concat(curves), "paired tests": pd.concat(tests)}
    return made | ({"trust reports": pd.DataFrame(judged)} if judged else {})


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.sort_values("p_holm").head(8).to_dict("records")
