"""The transfer matrix on the comparison page: which model's adversarial examples fool which other model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

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
from ui.measure.measured import Measured
from ui.show import downloads, elements, provenance
from ui.text import say

ATTACKS = ("mifgsm", "bim", "fgsm", "pgd", "apgd")
"""On offer: in linf, and MI-FGSM first, as it is made to transfer."""


def section(measured: Measured, eps: float) -> None:
    """Draw the choice of the attack, the job, and the matrix at this ε."""
    page, models = measured.page, measured.models
    if len(models) < 2:
        st.info("Choose two models or more to see who fools whom.", icon=":material/info:")
        return
    offered = [name for name in ATTACKS if measured.norm in norms_of(name)]
    if eps == 0 or not offered:
        st.info("Choose an ε above 0, in ℓ∞ or ℓ2, to see who fools whom.", icon=":material/info:")
        return
    left, right = st.columns(2)
    with left:
        attack = select(page, "transfer_attack", "Made by", offered, text=say, kind="list")
    with right:
        n = controls.field(page, specs.TransferSpec, "n", key="transfer_n")
    norm = {"norm": measured.norm} if "norm" in specs.METHODS[attack].model_fields else {}
    spec = controls.build(
        specs.TransferSpec,
        models=[model.id for model in models],
        data=measured.spec.data,
        attack={"name": attack, **norm},
        eps=eps,
        n=n,
    )
    if spec is None:
        return
    result = sources.artifact(spec)
    if result is None:
        st.caption(f"Not run at ε = {eps:g} yet: images are made on each model, and all models are shown them.")
        text = f"Make images on {len(models)} models and show them to all"
        jobs.offer(page, spec, text, name="transfer_run", primary=False)
        return
    draw(page, spec, models, measured.names, result)


def norms_of(name: str) -> tuple[str, ...]:
    """The norms in which a method can be run."""
    cls = specs.METHODS[name]
    return get_args(cls.model_fields["norm"].annotation) if "norm" in cls.model_fields else cls.norms


def draw(
    page: str,
    spec: specs.TransferSpec,
    models: Sequence[store.Artifact],
    names: Mapping[str, str],
    result: store.Artifact,
) -> None:
    """Draw the matrix as a heat map, with its rows as files."""
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
        f"is shown them. Counted are the images that both classify correctly unchanged: {_span(counted)} of "
        f"{result.card['n']:,}. The diagonal is the attack with full knowledge."
    )
    line = provenance.line(
        data=spec.data or sources.model_spec(models[0]).data,
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


def _span(counted: np.ndarray) -> str:
    """The smallest and the largest count, such as `184 to 197`; `190` if they are equal."""
    low, high = int(counted.min()), int(counted.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
