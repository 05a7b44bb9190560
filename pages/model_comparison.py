"""Model comparison: models × attacks × ε as tables, two models on the same images, and the exports."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables import comparison
from core.storage import store
from ui.app import guard, routes
from ui.form.select import select
from ui.measure import (
    audit_views,
    comparison_views,
    record_views,
    robust_views,
    sweep_choice,
    sweep_notes,
    sweep_views,
    transfer_views,
)
from ui.measure.sweep_views import Curve
from ui.show import downloads, model_names, provenance
from ui.text import both, sentence_case

PAGE = "model_comparison"


@st.fragment
def lookup(spec: specs.CompareSpec, models: Sequence[store.Artifact], curves: Sequence[Curve]) -> None:
    """Draw the ε slider and what depends on it; a move draws only this part again, from memory."""
    eps = sweep_choice.eps_slider(PAGE, spec.eps)
    comparison_views.models_table(PAGE, spec, models, curves, eps)
    st.caption(
        f"A click on a column's head sorts. Accuracy under attack at ε = {both(eps)}, on the first n test "
        "images; intervals are exact (Clopper–Pearson). The small curves run from 0 to 100 %. –: not run yet."
    )
    if not curves:
        return
    st.subheader(f"Clean against adversarial, ε = {both(eps)}", anchor=False)
    comparison_views.set_three(PAGE, models, curves, eps)
    st.subheader("Two models on the same images", anchor=False)
    side_by_side(models, curves, eps)


def side_by_side(models: Sequence[store.Artifact], curves: Sequence[Curve], eps: float) -> None:
    """Compare models A and B under one attack: how many images each classifies correctly, a test, examples."""
    by_attack: dict[str, dict[str, Curve]] = {}
    for curve in curves:
        by_attack.setdefault(sweep_views.attack_text(curve.sweep.attack), {})[curve.sweep.model] = curve
    attacks = [attack for attack, cells in by_attack.items() if len(cells) >= 2]
    if not attacks:
        st.info("Choose and run two models under the same attack to see them side by side.", icon=":material/info:")
        return
    names = model_names.short_names(models)
    left, middle, right = st.columns(3)
    with left:
        attack = select(PAGE, "pair_attack", "Attack", attacks, kind="list")
    ids = list(by_attack[attack])
    with middle:
        a = select(PAGE, "a", "Model A", ids, text=names.__getitem__, kind="list")
    with right:
        rest = [other for other in ids if other != a]
        b = select(PAGE, "b", "Model B", rest, text=names.__getitem__, kind="list")
    pair = [by_attack[attack][a], by_attack[attack][b]]
    if len({curve.result.card["data"]["fingerprint"] for curve in pair}) > 1:
        st.warning("A and B were attacked on different images.", icon=":material/warning:")
        return
    counts = comparison_views.outcomes(pair[0], pair[1], eps)
    with st.grid(4, min_column_width=130):
        for text, count in zip(comparison_views.OUTCOMES, counts, strict=True):
            st.metric(
                sentence_case(text),
                f"{count:,}",
                help=f"{count / max(1, sum(counts)):.1%} of {sum(counts):,} images",
            )
    st.markdown(comparison_views.verdict([names[a], names[b]], counts, eps))
    st.caption("Each model is shown the images that the attack made against that model, from the same originals.")
    line = f"A: {pair[0].provenance()}\nB: {pair[1].provenance()}"
    picture = comparison_views.examples(pair, [names[a], names[b]], eps)
    with st.container(horizontal=True):
        if picture is not None:
            downloads.picture(PAGE, picture, name="side_by_side", provenance=f"{line}\nε {both(eps)}")
        counted = pd.DataFrame(
            {
                "images": list(comparison_views.OUTCOMES),
                "count": counts,
                "share": [c / max(1, sum(counts)) for c in counts],
            }
        )
        downloads.table(PAGE, counted, name="side_by_side", provenance=f"{line}\nε {both(eps)}", formats=("csv",))


guard.ensure_router()

st.title("Model comparison")
st.write("The same attacks, images and budgets on several models: what is left of each, as a table to take away.")

choice = sweep_choice.choose(PAGE, start=4)
if choice is None:
    st.stop()
spec, models = choice
curves, missing = sweep_views.read(spec, models)
sweep_choice.run_missing(PAGE, spec, models, missing)
made = comparison.compare(spec, store.default_root())
for text in made.warnings:
    st.warning(text, icon=":material/warning:")
lookup(spec, models, curves)
if curves:
    sweep_notes.remarks(models, curves)

st.subheader("Proven and attacked: is A more robust than B?", anchor=False)
norm, found = robust_views.section(PAGE, models)
st.subheader("Who fools whom", anchor=False)
transfer, made_by = transfer_views.section(PAGE, models)
st.subheader("Check a published table", anchor=False)
audit_views.section(PAGE)

st.subheader("Take away", anchor=False)
more = robust_views.tables(found, spec.eps, norm) | ({"transfer": transfer} if len(transfer) else {})
if len(made.table) or any(len(table) for table in more.values()):
    st.caption("Every cell that has been run, at every ε: five metrics, n, intervals, calibration gap, success rate.")
    origins = [record_views.line(record) for record in found.values()] + ([f"transfer: {made_by}"] if made_by else [])
    comparison_views.exports(PAGE, made, more, origins)
else:
    st.caption("Nothing has been run with these settings yet: there is no table to take away.")
if st.button(
    "Open these curves in the epsilon sweep", icon=":material/show_chart:", key=f"{PAGE}_open", type="tertiary"
):
    routes.go("epsilon_sweep", **sweep_choice.handed_over(PAGE, "epsilon_sweep"))
provenance.show(made.provenance())
