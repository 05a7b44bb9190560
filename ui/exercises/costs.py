"""What robustness costs in clean accuracy, and how accuracy went by epoch."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import specs
from core.exercises import curves, plot, which
from core.exercises.evidence import Evidence, of_measurement
from ui.form.select import select
from ui.show import elements
from ui.text import PERCENT, both, in_percent

FIRST = ("mnist-lenet-fgsm-mix", "digits28-fgsm-mix", "digits-fgsm-mix")
"""Bundled models whose epochs are shown at first, the first that is there."""


def show(page: str, known: Evidence) -> None:
    """Draw clean accuracy with and without a defence, and accuracy by epoch of one defended model."""
    st.write(
        "A defended network gives up some clean accuracy: each bar compares it with the same network, trained on clean "
        "images. By epoch, clean accuracy and accuracy under attack may go different ways."
    )
    costs = curves.costs(known)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Clean accuracy that the defence costs**")
        if costs:
            elements.chart(
                plot.clean_costs(costs),
                key=f"{page}_costs",
                alt="Clean accuracy of each defended model beside that of its undefended twin",
                tools=False,
            )
        else:
            st.info("No defended model has an undefended twin in this store.", icon=":material/info:")
    with right:
        _epochs(page, known)
    if costs:
        _table(costs)


def _epochs(page: str, known: Evidence) -> None:
    st.markdown("**Accuracy by epoch**")
    watched = [
        found
        for found in known.all(specs.TrainSpec, which.recipe(*which.ADVERSARIAL, "generator", "ibp"))
        if len(curves.epochs(found)) > 1
    ]
    if not watched:
        st.info("No model was watched under attack while it was trained.", icon=":material/info:")
        return
    by_id = {found.artifact.id: found for found in watched}
    names = {found.artifact.card.get("reference", {}).get("name"): found.artifact.id for found in watched}
    chosen = select(
        page,
        "epochs_of",
        "Model",
        list(by_id),
        text=lambda model: by_id[model].name(),
        default=next((names[name] for name in FIRST if name in names), None),
        kind="list",
    )
    found = by_id[chosen]
    lines = curves.epochs(found)
    elements.chart(
        plot.curves(lines, x_title="epoch", y_title="accuracy", height=320),
        key=f"{page}_epochs",
        alt=f"Clean and adversarial accuracy by epoch of {found.name()}",
        tools=False,
    )
    eps = getattr(getattr(found.model, "recipe", None), "eps", None)
    last = {line.name: line.y[-1] for line in lines}
    note = f"Clean: validation images. Under attack: at ε = {both(eps)}, on a part of them. " if eps else ""
    fgsm, pgd = last.get("under FGSM"), last.get("under PGD")
    if fgsm is not None and pgd is not None and fgsm - pgd > 0.3:
        note += (
            f"At the end {fgsm:.0%} withstand FGSM but only {pgd:.0%} withstand PGD: the network has overfitted to a "
            "single step."
        )
    st.caption(note + f" {found.artifact.id}")


def _table(costs: list[curves.Cost]) -> None:
    rows = []
    for cost in costs:
        pgd = of_measurement(cost.model, "pgd")
        at = cost.model.artifact.card.get("reference", {}).get("measured", {}).get("eps")
        rows.append(
            {
                "model": cost.model.name(),
                "clean": cost.after,
                "undefended": cost.before,
                "costs (points)": 100 * cost.lost,
                "not fooled by PGD": None if pgd is None else pgd.value,
                "at ε": "–" if at is None else both(at),
                "from": "bundled" if cost.model.bundled else "yours",
            }
        )
    shares = ("clean", "undefended", "not fooled by PGD")
    st.dataframe(
        in_percent(pd.DataFrame(rows), shares),
        hide_index=True,
        column_config={
            **{name: st.column_config.NumberColumn(format=PERCENT) for name in shares},
            "costs (points)": st.column_config.NumberColumn(format="%.2f"),
        },
        height=elements.table_height(len(rows), 330),
        alt="Clean accuracy with and without a defence, and accuracy under PGD",
    )
    st.caption("Positive costs: clean accuracy is lost. Both networks of a row differ in their training only.")
