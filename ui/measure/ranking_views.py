"""The comparison page's ranked table: a row a model at one ε, what is unknown said so, and what can be run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.epsilon import same
from core.evaluation.tables import records
from ui.app import sources
from ui.measure import record_runs, record_views
from ui.measure.measured import Measured, figures
from ui.measure.sweep_parts import COLUMNS, intervals
from ui.show import elements
from ui.text import PERCENT, both, in_percent, say

PICKED = "ranked"
"""Second half of the key of the ids of the rows that were selected."""


def ranked(measured: Measured, eps: float) -> pd.DataFrame:
    """The figures at ε, the most robust first; models of which nothing is known under attack come last."""
    frame = figures(measured, eps).sort_values(
        ["attacked", "proven", "clean"], ascending=False, na_position="last", kind="stable"
    )
    return frame.reset_index(drop=True)


def section(measured: Measured, eps: float) -> None:
    """Draw the table, and below it what its dashes mean; two selected rows are those of Side by side."""
    frame = ranked(measured, eps)
    picked = st.dataframe(
        in_percent(shown(measured, frame, eps), ["clean", "attacked", "all", "proven", *measured.attacks]),
        hide_index=True,
        placeholder="–",
        key=f"{measured.page}_ranking",
        height=elements.table_height(len(frame), 460),
        alt=f"Models by accuracy under attack at ε = {eps:g}: "
        + "; ".join(f"{row['model']} {row['attacked']:.1%}" for row in frame.to_dict("records")),
        column_config=_columns(measured, eps),
        on_select="rerun",
        selection_mode="multi-row",
    )
    pair(measured, frame, picked["selection"]["rows"])
    _open_pair(measured)
    alone = set(frame["attacked_by"]) - {"", "all attacks"}
    st.caption(
        f"Ranked by Attacked at ε = {both(eps)}: the share that nothing that was run at this ε fools"
        + (f" ({', '.join(sorted(alone))} alone where no more was run)" if alone else "")
        + ". Intervals are exact (95 %, Clopper–Pearson). –: not known at this ε. Select two rows to see them side by "
        "side on the same images."
    )
    record_views.not_known(frame)
    for said in differences(measured, eps):
        st.warning(said, icon=":material/warning:")
    record_runs.find_more(measured.page, measured.models, measured.found, measured.norm, measured.spec.data, eps)


def pair(measured: Measured, frame: pd.DataFrame, rows: Sequence[int]) -> None:
    """Take the first two selected rows for Side by side, once for each new selection."""
    ids = [frame["id"][row] for row in rows if row < len(frame)][:2]
    key = f"{measured.page}_{PICKED}"
    if len(ids) == 2 and st.session_state.get(key) != ids:
        st.session_state[key] = ids
        for name, model in zip(("a", "b"), ids, strict=True):
            st.session_state[f"{measured.page}_{name}"] = model


def _open_pair(measured: Measured) -> None:
    """Draw a button that opens Side by side with the two selected models."""
    ids = st.session_state.get(f"{measured.page}_{PICKED}", [])
    if len(ids) < 2 or not set(ids) <= set(measured.names):
        return
    key = f"{measured.page}_tab"

    def go() -> None:
        st.session_state[key] = "Side by side"

    st.button(
        f"{measured.names[ids[0]]} and {measured.names[ids[1]]} side by side",
        icon=":material/compare:",
        key=f"{measured.page}_compare",
        on_click=go,
    )


def shown(measured: Measured, frame: pd.DataFrame, eps: float) -> pd.DataFrame:
    """The columns of the table, in their order."""
    several = len(measured.attacks) > 1
    table = pd.DataFrame(
        {
            "Model": frame["model"],
            "attacked": frame["attacked"],
            "interval": intervals(frame, "attacked_low", "attacked_high"),
            "proven": frame["proven"],
            "clean": frame["clean"],
            "trust": frame["trust"],
            "curve": [curve_of(measured, model) for model in frame["id"]],
        }
    )
    for attack in measured.attacks if several else ():
        table[attack] = frame[attack]
    return table.assign(
        searched=[searches(measured, model, eps) or "–" for model in frame["id"]],
        parameters=frame["parameters"],
        seconds=frame["seconds"],
        n=frame["n"].replace(0, None),
        id=frame["id"],
    )


def curve_of(measured: Measured, model: str) -> list[float] | None:
    """Accuracy under attack over the ladder, for a small curve: the lowest sweep's, else the record's; or None."""
    curves = measured.of(model)
    if curves:
        lowest = min(curves.values(), key=lambda curve: sum(row["accuracy"] for row in curve.rows))
        return [row["accuracy"] for row in lowest.rows]
    record = measured.found.get(model)
    if record is None:
        return None
    shares = records.curve(record, measured.spec.eps)["attacked"].to_numpy()
    return None if np.isnan(shares).any() else shares.tolist()


def _columns(measured: Measured, eps: float) -> dict[str, Any]:
    number, text, ladder = st.column_config.NumberColumn, st.column_config.TextColumn, measured.spec.eps
    return {
        "Model": text(pinned=True),
        "attacked": number(
            f"Attacked, ε {eps:g}", format=PERCENT, help="Share that nothing that was run at this ε fools."
        ),
        "interval": text("95 %", help="Exact interval of Attacked, in per cent."),
        "proven": number("Proven", format=PERCENT, help=COLUMNS["proven"][1]),
        "clean": number("Clean", format=PERCENT, help=COLUMNS["clean"][1]),
        "trust": text("Checks", help="Verdict of the reliability checks of an evaluation at this ε on these images."),
        "curve": st.column_config.LineChartColumn(
            f"ε {min(ladder):g}–{max(ladder):g}", y_min=0, y_max=1, width="small", help="Accuracy under attack."
        ),
        **{
            attack: number(attack, format=PERCENT, help=f"Accuracy under {attack} alone.")
            for attack in measured.attacks
        },
        "searched": text("Searched by", help="What was run against the model at this ε: what Attacked rests on."),
        "parameters": number("Parameters", format="localized"),
        "seconds": number("Training", format="%.0f s", help="Time that training took."),
        "n": number("n", format="localized", help="Images that were attacked."),
        "id": text("Id"),
    }


def differences(measured: Measured, eps: float) -> list[str]:
    """Why the rows may not be comparable: other images, other n, other attacks at this ε."""
    frame = figures(measured, eps)
    said = []
    if len({str(sources.model_spec(model).data) for model in measured.models}) > 1 and measured.spec.data is None:
        said.append("The models were trained on different data sets or classes: their rows are not comparable.")
    known = frame[frame["attacked"].notna()]
    counts = sorted(set(known["n"]))
    if len(counts) > 1:
        said.append(
            f"The rows count different numbers of images ({' and '.join(f'{n:,}' for n in counts)}): compare the "
            "intervals, not the figures."
        )
    searched = {row["model"]: searches(measured, row["id"], eps) for row in known.to_dict("records")}
    if len(set(searched.values())) > 1:
        said.append(
            "The models were not attacked alike at this ε (see “Searched by”): a model that was searched less may only "
            "seem more robust."
        )
    return said


def searches(measured: Measured, model: str, eps: float) -> str:
    """What was run against a model at ε, in words: the same for models that were attacked alike."""
    record = measured.found.get(model)
    looks = [] if record is None else [look for look in record.looks if look.eps is None or same(look.eps, eps)]
    found = {look.text or say(look.id.split("-")[1]) for look in looks}
    found |= set() if found else {curve.attack for curve in measured.of(model).values() if curve.has(eps)}
    return ", ".join(sorted(found))
