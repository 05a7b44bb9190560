"""The tabs on many images: how many changes they need, and a blind quiz."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs
from ui.form import controls
from ui.form.select import select
from ui.show import downloads, elements, gallery, provenance
from ui.sparse import one_image, views
from ui.text import PERCENT, grey_levels, in_percent

PAGE = "sparse_attack"
QUIZ_IMAGES = 20
"""Images that the quiz draws from."""


def many(case: views.Case, ask: dict[str, Any], sparse: dict[str, Any], factor: float) -> None:
    """Draw how many changes many images of the class need, and which ε of the dense formula."""
    name = case.names[case.label]
    st.write(
        f"One image says little. Here the sparse attack runs on many test images of the class {name}, with the "
        "settings above; each is read correctly before."
    )
    with st.form(f"{PAGE}_many_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        n = controls.field(PAGE, specs.AttackSpec, "n", default=200)
        asked = st.form_submit_button("Measure", type="primary", icon=":material/bar_chart:")
    spec = controls.build(specs.AttackSpec, attack=sparse, n=n, **ask)
    if spec is None:
        return
    empty = f"Not measured yet for these settings: “Measure” attacks {n} images."
    result = jobs.result(PAGE, spec, asked=asked, empty=empty, icon=":material/bar_chart:")
    if result is None:
        return
    arrays, table = result.arrays("images"), result.table("images")
    metrics, line = result.card["metrics"], one_image.source_line(result, case, one=False)
    left, right = st.columns([3, 2])
    with left:
        figure, summary = views.counts(arrays, table)
        elements.chart(
            figure,
            key=f"{PAGE}_counts",
            alt=f"Histogram of the number of changes that {len(table)} images need, with its median",
        )
    with right:
        with st.grid(2, min_column_width=110):
            st.metric("Median count", f"{metrics['median_l0']:g}" if np.isfinite(metrics["median_l0"]) else "–")
            st.metric(
                "Success",
                f"{metrics['success_rate']:.1%}",
                help=f"Of {metrics['n']} images within the budget; 95 % interval {metrics['low']:.1%} to "
                f"{metrics['high']:.1%}.",
            )
        st.dataframe(summary, hide_index=True, alt="Median, least and most changes by way of counting")
        st.caption(
            "Swapped, pruned and greedy are upper bounds; the linear estimate is only a first guess. What is "
            "proven: see “Every change of one or two”."
        )
        known = enumerated(case, ask)
        if known is not None:
            st.info(f"Proven: {known.card['proven']['proven']}", icon=":material/verified:")
    won = table[table["success"]].sort_values("l0", kind="stable")
    if len(won):
        ends = pd.concat([won.head(5), won.tail(5)]).drop_duplicates("row")
        picture = gallery.show(
            [[arrays["x"][r] for r in ends["row"]], [arrays["x_adv"][r] for r in ends["row"]]],
            rows=["before", "after"],
            captions=[
                [f"#{index}" for index in ends["index"]],
                [
                    f"{count} → {case.names[pred]}"
                    for count, pred in zip(ends["l0"].astype(int), ends["pred"], strict=True)
                ],
            ],
            legend="The five that needed fewest changes and the five that needed most: count → read as.",
            alt="The images that needed fewest and most changes, before and after",
        )
    formula(case, ask, n, factor)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, table, name="sparse_many", provenance=line, formats=("csv",))
        if len(won):
            downloads.picture(PAGE, picture, name="sparse_many", provenance=line)
        downloads.arrays(PAGE, arrays, name="sparse_many", provenance=line)


def enumerated(case: views.Case, ask: dict[str, Any]) -> store.Artifact | None:
    """The largest stored enumeration of images of this class, or None."""
    found = []
    for result in store.results(case.model.id, store.default_root()):
        spec = result.spec()
        if isinstance(spec, specs.AttackSpec) and isinstance(spec.attack, specs.Exhaustive):
            same = all(getattr(spec, name) == value for name, value in ask.items() if name != "n")
            if same and spec.indices is None and "proven" in result.card:
                found.append((spec.attack.pixels, spec.n, result.id, result))
    return max(found)[-1] if found else None


def formula(case: views.Case, ask: dict[str, Any], n: int, factor: float) -> None:
    """Draw the dense formula's ε* on the same images, and how often a step of that size fools the model."""
    rows = []
    for boxed in (False, True):
        for size in sorted({1.0, factor}):
            attack = {"name": "jacobian_dense", "boxed": boxed, "factor": size}
            result = one_image.at_once(controls.build(specs.AttackSpec, attack=attack, n=n, **ask))
            if result is None:
                return
            level, metrics = result.arrays("images")["trace_eps_star"], result.card["metrics"]
            rows.append(
                {
                    "formula": "in the box" if boxed else "no box",
                    "size": f"{size:g} · ε*",
                    "median ε*": float(np.median(level)),
                    "in grey levels": grey_levels(float(np.median(level))),
                    "fooled": metrics["success_rate"],
                    "95 % from": metrics["low"],
                    "to": metrics["high"],
                    "n": metrics["n"],
                }
            )
    st.markdown("**The dense formula on the same images**")
    shares = ("fooled", "95 % from", "to")
    st.dataframe(
        in_percent(pd.DataFrame(rows), shares),
        hide_index=True,
        column_config={
            "median ε*": st.column_config.NumberColumn(format="%.4f"),
            **{name: st.column_config.NumberColumn(format=PERCENT) for name in shares},
        },
        alt="Median ε* of the dense formula and the share of images that it fools",
    )
    st.caption("At exactly 1 · ε* a linear N would sit on its threshold; a curved one falls short or goes beyond.")


def quiz(case: views.Case, ask: dict[str, Any], sparse: dict[str, Any], factor: float) -> None:
    """Draw two pictures, one of them attacked, and ask which; the answers are counted in this session."""
    ways = {"dense": "all pixels a little", "sparse": "a few pixels"}
    way = select(PAGE, "quiz_way", "How it was changed", list(ways), text=ways.__getitem__, kind="buttons")
    attack = sparse if way == "sparse" else {"name": "jacobian_dense", "factor": factor}
    result = one_image.at_once(controls.build(specs.AttackSpec, attack=attack, **ask))
    if result is None:
        return
    arrays, table = result.arrays("images"), result.table("images")
    won = table[table["success"]]["row"].to_numpy()
    if not len(won):
        st.info("None of the images was fooled with these settings, so there is nothing to guess.")
        return
    key = f"{PAGE}_quiz"
    state = st.session_state.setdefault(key, {"turn": 0, "answer": None, "right": 0, "asked": 0})
    draw = np.random.default_rng((2, state["turn"], way == "sparse"))
    row, changed = int(draw.choice(won)), int(draw.integers(2))
    pair = [arrays["x"][row], arrays["x_adv"][row]]
    found = table.iloc[row]
    st.write(f"Both are the same test image of a {case.names[case.label]}; one was changed and fools the model. Which?")
    answered = state["answer"] is not None
    names = ["left", "right"]
    captions = [["left", "right"]]
    if answered:
        texts = (f"original: {case.names[case.label]}", f"changed: read as {case.names[int(found['pred'])]}")
        captions = [[texts[side == changed] for side in (0, 1)]]
    gallery.show(
        [[pair[side == changed] for side in (0, 1)]], captions=captions, alt="Two pictures to tell apart", tile=196
    )

    def answer(side: int | None) -> None:
        if side is None:
            state.update(turn=state["turn"] + 1, answer=None)
        elif state["answer"] is None:
            state.update(answer=side, asked=state["asked"] + 1, right=state["right"] + (side == changed))

    with st.container(horizontal=True):
        for side, name in enumerate(names):
            st.button(
                f"The {name} one",
                key=f"{PAGE}_quiz_{name}",
                on_click=answer,
                args=(side,),
                disabled=answered,
            )
        st.button(
            "Next pair",
            key=f"{PAGE}_quiz_next",
            on_click=answer,
            args=(None,),
            icon=":material/skip_next:",
            disabled=not answered,
            type="primary" if answered else "secondary",
        )
    if answered:
        say = st.success if state["answer"] == changed else st.warning
        verb = "Right" if state["answer"] == changed else "Wrong"
        say(
            f"{verb}: the {names[changed]} one was changed, by at most {found['linf']:.3g} in {found['pixels']:.0f} "
            f"pixels (test image {found['index']:.0f}).",
            icon=":material/check:" if verb == "Right" else ":material/close:",
        )
    if state["asked"]:
        st.caption(f"{state['right']} of {state['asked']} right so far; guessing gives about {state['asked'] / 2:g}.")
