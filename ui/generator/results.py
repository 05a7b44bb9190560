"""What the generator attack's page shows below its form: the results, and the matrix of classes."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs
from ui.form import samples
from ui.form.select import KEEP, select
from ui.generator import views
from ui.show import downloads, elements, provenance
from ui.text import PERCENT, class_text, in_percent

PAGE = "generator_attack"


def show(result: store.Artifact, model: store.Artifact) -> None:
    """Draw the result of a finished attack: verdict, grid, one pair, distances."""
    pairs = views.Pairs.of(result)
    table, names, line = pairs.table, pairs.names, provenance.of(result, model)
    counted = views.counted(table)
    views.verdict(int(table[counted]["success"].sum()), int(counted.sum()))
    views.metrics(result)

    kinds = {"image": "Images", "change": "Changes"}
    kind = select(PAGE, "view", "The grid shows", list(kinds), text=kinds.__getitem__)
    picture = views.grid(pairs, kind)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.picture(PAGE, picture, name=f"grid_{kind}", provenance=line, label="Grid as PNG")
        downloads.arrays(PAGE, pairs.arrays, name="generator_attack", provenance=line, label="All arrays as NPZ")

    st.subheader("One pair", anchor=False)
    left, right = st.columns(2)
    with left:
        options = list(range(len(pairs.samples)))

        def text(s: int) -> str:
            first = table.iloc[pairs.samples[s]]
            return f"{names[first['y']]} · #{first['index']}"

        sample = select(PAGE, "shown_sample", "Sample", options, text=text, kind="list")
    with right:
        own = int(table["y"].iloc[pairs.samples[sample]])
        target = select(
            PAGE,
            "shown_target",
            "Target",
            pairs.targets,
            text=lambda k: class_text(k, names),
            default=next((k for k in pairs.targets if k != own), None),
            kind="list",
        )
    views.pair(pairs, sample, target)
    views.rounds(pairs, sample, target, PAGE)

    st.subheader("Distances of every pair", anchor=False)
    frame = views.distances(pairs)
    st.dataframe(
        in_percent(frame, ["P(target)"]),
        hide_index=True,
        height=elements.table_height(len(frame), 330),
        column_config={
            "P(target)": st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100),
            **{
                name: st.column_config.NumberColumn(format=text)
                for name, text in (("ℓ1", "%.2f"), ("ℓ2", "%.3f"), ("ℓ∞", "%.4f"))
            },
        },
        alt="Distances and outcome of every pair",
    )
    downloads.table(PAGE, frame, name="generator_pairs", provenance=line)


def matrix(model: store.Artifact, spec: specs.AttackSpec, tests: pd.DataFrame, confidence: float) -> None:
    """Draw the success rate by true class and target, for the samples above or for several images of every class."""
    st.subheader("Success by class", anchor=False)
    names = model.card["class_names"]
    with st.form(f"{PAGE}_matrix_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        each = st.number_input(
            "Images of every class",
            min_value=0,
            max_value=20,
            value=0,
            step=1,
            help="0: the samples above. More: the first so many of each class that are read this confidently, each "
            "drawn towards every class, with the settings above.",
            key=f"{PAGE}_each",
            **KEEP,
        )
        asked = st.form_submit_button("Show the matrix", icon=":material/grid_view:")
    if each:
        found = pd.concat([samples.candidates(tests, k, confidence=confidence).head(each) for k in range(len(names))])
        spec = spec.model_copy(update={"indices": tuple(int(i) for i in found["index"]), "target": "all"})
    count = len(spec.indices or ()) * len(names)
    empty = f"{count} generators, not trained yet: “Show the matrix” trains them."
    result = jobs.result(PAGE, spec, asked=asked and each > 0, empty=empty, icon=":material/draw:")
    if result is None:
        return
    pairs = views.Pairs.of(result)
    elements.chart(
        views.matrix(pairs),
        key=f"{PAGE}_matrix",
        alt="Matrix of true class against target class: how many pairs were fooled, and their median distance",
    )
    found = result.card["metrics"]
    rate = f"{found['success_rate']:.1%} of {found['n']} pairs fooled" if found["n"] else "no pair to count"
    st.caption(
        f"{rate}. In a cell: outcome and median ℓ2; darker means that the image had to move further. Rows are true "
        "classes, columns targets."
    )
    line = provenance.of(result, model)
    if each:
        provenance.show(line)
        downloads.table(PAGE, views.distances(pairs), name="generator_matrix", provenance=line, formats=("csv",))
