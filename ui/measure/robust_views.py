"""Records on the comparison page: proven and attacked accuracy, medians, reliability checks, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables import paired, records
from core.evaluation.tables.records import Record
from core.evaluation.trust.report import Trust
from core.storage import store
from ui.app import jobs, sources
from ui.form.select import select
from ui.measure import record_choice, record_runs, record_views, trust_views
from ui.show import downloads, model_names
from ui.text import PERCENT, in_percent, say, sentence_case


def section(page: str, models: Sequence[store.Artifact]) -> tuple[str, dict[str, Record]]:
    """Draw the part on records in a chosen norm, on the images that all models share; returns norm and records."""
    norm, found = in_a_norm(page, models)
    if not found:
        return norm, {}
    if len({str(sources.model_spec(model).data) for model in models}) > 1:
        st.warning("These models read different images, so they are not tested against each other.")
    else:
        shared = records.common(list(found.values()))
        if len(shared[0]) < max(map(len, found.values())):
            st.caption(f"On the {len(shared[0]):,} images that were run on every model shown.")
        if len(shared[0]):
            found = dict(zip(found, shared, strict=True))
    found = record_choice.choose_images(page, found)
    reports = {model.id: reports_of(model.id, norm) for model in models}
    standing(page, models, found, norm, medians(models, found, norm))
    record_views.rests_on(page, found, model_names.short_names(models), norm, trust_lines(reports))
    return norm, found


def in_a_norm(page: str, models: Sequence[store.Artifact]) -> tuple[str, dict[str, Record]]:
    """Draw the choice of a norm and the forms that run more in it; returns the norm and the records there are."""
    norm = record_choice.choose_norm(page)
    found = record_views.read(models, norm)
    record_runs.find_more(page, models, found, norm)
    if not found:
        st.info(
            "Nothing was run on these models in this norm yet: find their radii, or evaluate them.",
            icon=":material/info:",
        )
    return norm, found


def show_trust(page: str, models: Sequence[store.Artifact], found: Mapping[str, Record], eps: float) -> None:
    """Draw the reliability checks of one model: those of an evaluation at exactly this ε on the images shown.

    Where there is none, that is said, with a button that makes them: what the checks of another ε say is not about the
    figures at this one.
    """
    names = model_names.short_names(models)
    judged = {model: made[0] for model, record in found.items() if (made := record.judged(eps))}
    if judged:
        chosen = select(page, "trust_of", "Reliability checks of", list(judged), text=names.__getitem__, kind="list")
        look, record = judged[chosen], found[chosen]
        report = Trust.from_json(look.trust or {})
        st.caption(
            f"Checks of the evaluation with {look.effort} effort at ε = {eps:g} in {say(record.norm)}, on "
            f"these {len(record):,} images."
        )
        trust_views.show_trust(report, key=f"{page}_trust")
    bare = {model: record for model, record in found.items() if model not in judged and eps > 0}
    if bare:
        unjudged(page, names, bare, eps)


def unjudged(page: str, names: Mapping[str, str], bare: Mapping[str, Record], eps: float) -> None:
    """Explain that there are no reliability checks at this ε, and offer the evaluation that makes them."""
    others = sorted({look.eps for one in bare.values() for look in one.looks if look.trust and look.eps is not None})
    overtaken = [names[model] for model, one in bare.items() if one.checked(eps)]
    if overtaken:
        st.warning(
            f"{', '.join(overtaken)}: other searches fooled images within ε = {eps:g} that the evaluation did not "
            "fool. Its reliability checks are about the higher accuracy that it reported, so they are not shown here. "
            "Evaluate with a higher effort level.",
            icon=":material/warning:",
        )
    bare = {model: one for model, one in bare.items() if not one.checked(eps)}
    if not bare:
        return
    record = next(iter(bare.values()))
    counts = sorted({len(one) for one in bare.values()})
    images = f"these {counts[0]:,} images" if len(counts) == 1 else "the images shown"
    where = f" Evaluations with checks exist at ε = {', '.join(f'{value:g}' for value in others)}." if others else ""
    asked = [_evaluation(model, one, eps) for model, one in bare.items()]
    wanted = [spec for spec in asked if spec is not None]
    command = f" Command: `{_command(wanted[0])}`." if wanted else ""
    st.info(
        f"No reliability checks at ε = {eps:g} in {say(record.norm)} on {images} for "
        f"{', '.join(names[model] for model in bare)}: nothing is said about how far to trust the figures at this ε."
        f"{where}{command}",
        icon=":material/info:",
    )
    missing = [spec for spec in wanted if store.located(spec, store.default_root()) is None]
    if missing and st.button(
        f"Evaluate and check at ε = {eps:g}", icon=":material/shield:", key=f"{page}_judge", type="secondary"
    ):
        jobs.start(*missing)


def _evaluation(model: str, record: Record, eps: float) -> specs.EvaluateSpec | None:
    """The evaluation whose checks would be about these images; None if such a spec is invalid."""
    try:
        return specs.EvaluateSpec(model=model, norm=record.norm, eps=eps, n=len(record))
    except ValueError:
        return None


def _command(spec: specs.EvaluateSpec) -> str:
    return f"python -m core evaluate --model {spec.model} --norm {spec.norm} --eps {spec.eps!r} --n {spec.n}"


def warn(models: Sequence[store.Artifact], found: Mapping[str, Record], eps: float) -> None:
    """Name the models whose figures at this ε must not be used, and why."""
    names = model_names.short_names(models)
    for model, record in found.items():
        report = trust_of(record, eps)
        if report is not None and report.warning:
            st.error(
                f"**Do not use the figures of {names[model]}** at ε = {report.eps:g}. {report.warning}",
                icon=":material/cancel:",
            )


@st.fragment
def standing(
    page: str,
    models: Sequence[store.Artifact],
    found: Mapping[str, Record],
    norm: str,
    distances: pd.DataFrame,
) -> None:
    """Draw the ε slider, the table of models at that ε, and the paired tests; a move reads no file.

    `distances` are the `medians`.
    """
    eps = record_choice.eps_slider(page, found, norm)
    names = model_names.short_names(models)
    warn(models, found, eps)
    frame = models_at(models, found, names, distances, eps)
    unmeasured = [f"median {name}" for name in records.NORMS if frame[f"median {name}"].isna().all() and name != norm]
    st.dataframe(
        in_percent(frame.drop(columns=["trust report", "note", "warning", *unmeasured]), record_views.SHARES),
        hide_index=True,
        placeholder="–",
        key=f"{page}_robust_table",
        alt=f"Models at ε = {eps:g} in {say(norm)}",
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            "interval": st.column_config.TextColumn("95 %", help=record_views.COLUMNS["interval"][1]),
            "trust": st.column_config.TextColumn(
                "Reliability", help="Verdict of the checks of an evaluation at this ε on these images."
            ),
            "training": st.column_config.NumberColumn("Training", format="%.0f s", help="Time that training took."),
            "passes": st.column_config.NumberColumn("Passes", format="%.0f", help=record_views.COLUMNS["passes"][1]),
            "n": st.column_config.NumberColumn("n", format="localized"),
            **{
                name: st.column_config.NumberColumn(title, format=PERCENT, help=record_views.COLUMNS[name][1])
                for name, title in (
                    ("clean", "Clean"),
                    ("proven", "Proven"),
                    ("attacked", "Attacked"),
                    ("fooled", "Fooled, at least"),
                )
            },
            **{
                f"median {name}": st.column_config.NumberColumn(
                    f"Median {say(name)}",
                    format="%.4g",
                    help="Median of the smallest change found in this norm by searches for it (radii), over the "
                    "correctly classified images. –: not all of them were searched so.",
                )
                for name in records.NORMS
            },
        },
    )
    record_views.not_known(frame)
    record_views.weak(found, names, eps)
    tests = tests_at(found, names, eps)
    lines = "\n".join([f"at ε {eps:g} in {norm}", *(record_views.line(record) for record in found.values())])
    if len(tests):
        st.markdown("\n".join(f"- {sentence_case(paired.sentence(row))}." for row in _rows(tests)))
        st.caption(
            f"Exact McNemar tests on the same images at ε = {eps:g}, {len(tests)} of them, corrected by Holm's method; "
            "an image counts for a model if nothing that was run fooled it. Only images that radii, or an evaluation "
            "at this ε, looked at for both models are counted."
        )
    elif len(found) > 1 and len({record.data for record in found.values()}) == 1:
        st.caption(
            f"Not compared at ε = {eps:g}: no image was looked at by radii, or by an evaluation at this ε, for two of "
            "the models."
        )
    with st.container(horizontal=True):
        downloads.table(
            page,
            frame.assign(eps=eps, norm=norm),
            name="robust_models",
            provenance=lines,
            formats=("csv", "md", "tex", "xlsx"),
            label="Models",
            keep=("proven", "attacked", f"median {norm}", "passes"),
        )
        downloads.table(page, tests, name="paired_tests", provenance=lines, formats=("csv", "xlsx"), label="Tests")
    show_trust(page, models, found, eps)


def medians(models: Sequence[store.Artifact], found: Mapping[str, Record], norm: str) -> pd.DataFrame:
    """Median smallest change found, by model (row) and norm (column), over correctly classified images of `found`.

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
    eps: float,
) -> pd.DataFrame:
    """A row for each model: the interval at ε, median distances in every norm, reliability checks at that ε, cost."""
    rows = []
    for model in models:
        if model.id not in found:
            continue
        row = record_views.row_at(found[model.id], eps)
        report = trust_of(found[model.id], eps)
        rows.append(
            {
                "Model": names[model.id],
                **{key: row[key] for key in ("n", "clean", "proven", "attacked", "interval", "fooled", "passes")},
                **{f"median {name}": distances.loc[model.id, name] for name in records.NORMS},
                "trust": trust_views.word(report) + ("" if report is None else f" at ε {report.eps:g}"),
                "note": row["note"],
                "trust report": "" if report is None else report.line(),
                "warning": "" if report is None else report.warning,
                "training": model.card.get("timing", {}).get("seconds"),
            }
        )
    return pd.DataFrame(rows)


def reports_of(model: str, norm: str) -> list[Trust]:
    """The reliability checks of a model's evaluations in this norm, newest first."""
    cards = [result.card for result in sources.results(model, "evaluate")]
    return [Trust.from_json(card["trust"]) for card in cards if card.get("norm") == norm and card.get("trust")]


def trust_lines(reports: Mapping[str, Sequence[Trust]]) -> list[str]:
    """The verdict of the reliability checks of each evaluation in a line, for exports."""
    return [
        f"model {model} · evaluation at ε {report.eps:g} · {report.line()}"
        for model, made in reports.items()
        for report in made
    ]


def trust_of(record: Record, eps: float) -> Trust | None:
    """The reliability checks of an evaluation at this ε on this record's images; None where there are none."""
    made = record.judged(eps)
    return Trust.from_json(made[0].trust) if made and made[0].trust else None


def tests_at(found: Mapping[str, Record], names: Mapping[str, str], eps: float) -> pd.DataFrame:
    """McNemar's test for each pair of models on robust images at ε, over the images that were searched on both.

    Empty where the models read different data: images of the same number are not the same images then.
    """
    if len({record.data for record in found.values()}) > 1:
        return paired.pairs({})
    return records.tests({names[model]: record for model, record in found.items()}, eps)


def tables(found: Mapping[str, Record], eps: Sequence[float], norm: str) -> dict[str, pd.DataFrame]:
    """Tables for the exports: the interval of each model and the test of each pair at each ε, reliability checks."""
    if not found:
        return {}
    curves = [records.curve(record, eps).assign(model=model, norm=norm) for model, record in found.items()]
    ids = {model: model for model in found}
    tests = [tests_at(found, ids, at).assign(eps=at, norm=norm) for at in eps]
    judged = [
        {"model": model, "norm": norm, "eps": report.eps, "n": report.n, "verdict": report.verdict}
        | {"report": report.line(), "usable": not report.warning, "warning": report.warning}
        for model in found
        for report in reports_of(model, norm)
    ]
    made = {"proven and attacked": pd.concat(curves), "paired tests": pd.concat(tests)}
    return made | ({"trust reports": pd.DataFrame(judged)} if judged else {})


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.sort_values("p_holm").head(8).to_dict("records")
