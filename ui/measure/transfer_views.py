"""The transfer matrix on the comparison page: which model's adversarial examples fool which other model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.figures import records
from core.storage import store
from ui.app import jobs, sources
from ui.form import controls
from ui.form.select import select
from ui.measure import sweep_views
from ui.show import downloads, elements, model_names, provenance
from ui.text import say

ATTACKS = ("mifgsm", "bim", "fgsm", "pgd", "apgd")
"""On offer: in linf, and MI-FGSM first, as it is made to transfer."""


def section(page: str, models: Sequence[store.Artifact]) -> tuple[pd.DataFrame, str]:
    """Draw the form, the job and the matrix; returns its rows for the exports, and their provenance."""
    if len(models) < 2:
        st.info("Choose two models or more to see who fools whom.", icon=":material/info:")
        return pd.DataFrame(), ""
    left, middle, right = st.columns(3)
    with left:
        attack = select(page, "transfer_attack", "Made by", ATTACKS, text=say, kind="list")
    with middle:
        eps = controls.eps(page, name="transfer_eps", default=0.1)
    with right:
        n = controls.field(page, specs.TransferSpec, "n", key="transfer_n", default=200)
    spec = controls.build(
        specs.TransferSpec, models=[model.id for model in models], attack={"name": attack}, eps=eps, n=n
    )
    if spec is None:
        return pd.DataFrame(), ""
    result = sources.artifact(spec)
    if result is None:
        text = f"Make images on {len(models)} models and show them to all"
        jobs.offer(page, spec, text, name="transfer_run", primary=False)
        return pd.DataFrame(), ""
    return draw(page, spec, models, result)


def draw(
    page: str, spec: specs.TransferSpec, models: Sequence[store.Artifact], result: store.Artifact
) -> tuple[pd.DataFrame, str]:
    """Draw the matrix as a heat map; returns its rows with intervals, and their provenance."""
    names = model_names.short_names(models)
    order = [model.id for model in models]
    table = pd.DataFrame(result.card["rows"])
    rates, counted = (
        table.pivot_table(index="surrogate", columns="victim", values=name, dropna=False)
        .loc[order, order]
        .to_numpy(dtype=np.float64)
        for name in ("rate", "counted")
    )
    elements.chart(
        records.transfer_matrix(rates, counted, [names[model] for model in order]),
        key=f"{page}_transfer",
        alt="Share of images that fool, made on (row) and shown to (column): "
        + "; ".join(
            f"{names[row['surrogate']]} to {names[row['victim']]} {row['rate']:.0%}" for row in result.card["rows"]
        ),
    )
    st.caption(
        "Each row's images were made on that model alone, by all of the attack's steps; each column is the model that "
        f"is shown them. Counted are the images that both read correctly unchanged: {_span(counted)} of "
        f"{result.card['n']:,}. The diagonal is the attack with full knowledge."
    )
    line = provenance.line(
        attack=sweep_views.attack_text(spec.attack),
        eps=spec.eps,
        seed=spec.seed,
        n=result.card["n"],
        more=f"{len(order)} models · result {result.id}",
    )
    passes = table["surrogate"].map(result.card["cost"])
    downloads.table(
        page, table.assign(passes=passes), name="transfer", provenance=line, formats=("csv", "md", "tex", "xlsx")
    )
    provenance.show(line, here=False)
    return table.assign(passes=passes), line


def _span(counted: np.ndarray) -> str:
    """The smallest and the largest count, such as `184 to 197`; `190` if they are equal."""
    low, high = int(counted.min()), int(counted.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
