"""The number of pixels that must change if none may change by more than a cap, of one image and of many."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.figures.base import ATTACKED, DASHES, UNKNOWN, colour, faint, styled
from ui.app import jobs, sources
from ui.form import controls
from ui.form.select import select
from ui.show import at_once, downloads, elements, provenance
from ui.sparse import one_image, views
from ui.sparse.case import Case
from ui.sparse.choice import PAGE
from ui.text import both, counted, grey_levels

TICKS = [lead * 10**k for k in range(5) for lead in (1, 2, 5)]
"""Of the logarithmic axis: plotly itself would write 2 and 5 for 20 and 50."""
EXACT = (
    "For a linear score the counts are exact: take the largest gains |w_j|·min(ε, u_j) until they add up to the "
    "margin. For a curved one they are what was found, an upper bound; left of the curve's end nothing was "
    "found."
)


def show(case: Case) -> None:
    """Draw k(ε) of this image, the image at a chosen cap, and the median over many images."""
    st.write(
        f"You can change few {case.unit} by much, or many by a little. For each cap ε the chart shows the fewest that "
        "fool the model when none may change by more than ε."
    )
    result = at_once.result(PAGE, case.ask({"name": "frontier"}), name="frontier")
    if result is None:
        return
    arrays = result.arrays("images")
    caps, count = arrays["trace_cap"][0].astype(float).round(6), arrays["trace_count"][0]
    together = many(case)
    usable = [float(cap) for cap, k in zip(caps, count, strict=True) if k >= 0]
    if not usable:
        st.error(f"With none of the caps were any number of {case.unit} found to be enough.", icon=":material/cancel:")
        return
    left, right = st.columns([3, 2])
    with right:
        cap = usable[0]
        if len(usable) > 1:
            cap = select(
                PAGE,
                "cap",
                "Cap ε on each change",
                usable,
                text=both,
                default=usable[-1],
                kind="slider",
                help="Shows the image that was found for this cap; nothing is computed again.",
            )
        place = int(np.flatnonzero(np.isclose(caps, cap))[0])
        image = arrays["trace_images"][0, place]
        pixels = int(arrays["trace_pixels"][0, place])
        text = f"{count[place]} features in {pixels} pixels" if len(case.x) > 1 else f"{count[place]} pixels"
        picture = views.triptych(case, image, case.read(image[None])[0], what=text, tile=130)
    frame = pd.DataFrame(
        {
            "cap ε": caps,
            "in grey levels": [grey_levels(float(cap)) for cap in caps],
            "features": [int(k) if k >= 0 else None for k in count],
            "pixels": [int(k) if k >= 0 else None for k in arrays["trace_pixels"][0]],
            "linear estimate": [int(k) if k >= 0 else None for k in arrays["trace_linear_estimate"][0]],
        }
    )
    frame = frame if len(case.x) > 1 else frame.drop(columns="features")
    with left:
        elements.chart(
            chart(caps, count, arrays["trace_linear_estimate"][0], together, float(cap)),
            key=f"{PAGE}_frontier",
            alt="Number of changed features against the cap on each change: this image, the linear estimate, many",
        )
    shown = frame.map(lambda value: value if isinstance(value, str) else "–" if pd.isna(value) else f"{value:g}")
    st.dataframe(shown, hide_index=True, alt="The fewest changes for each cap")
    line = one_image.source_line(result, case)
    st.caption(EXACT)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, frame, name="frontier", provenance=line)
        downloads.picture(PAGE, picture, name="frontier", provenance=line)
        downloads.arrays(PAGE, arrays, name="frontier", provenance=line, images=result.table("images"))


def many(case: Case) -> dict[str, np.ndarray] | None:
    """The arrays of the same attack on many images of the class; None, and its job, if they are not stored."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=200):
            n = controls.field(PAGE, specs.AttackSpec, "n", key="frontier_n", default=50)
        spec = case.ask_many({"name": "frontier"}, n)
        if spec is None:
            return None
        result = sources.artifact(spec)
        asked = result is None and st.button(
            f"Add the median over {counted(n, 'image')}", icon=":material/bar_chart:", key=f"{PAGE}_frontier_many"
        )
    result = result or jobs.result(PAGE, spec, asked=asked)
    return None if result is None else result.arrays("images")


def chart(
    caps: np.ndarray, count: np.ndarray, linear: np.ndarray, together: dict[str, np.ndarray] | None, marked: float
) -> go.Figure:
    """Count against cap; caps without success are left out, and the median where it fails on half of the images."""
    figure = go.Figure()
    if together is not None:
        counts = np.where(together["trace_count"] >= 0, together["trace_count"], np.inf)
        low, middle, high = (_quantile(counts, share) for share in (0.25, 0.5, 0.75))
        x = together["trace_cap"][0]
        inside = np.isfinite(high)
        figure.add_scatter(
            x=[*x[inside], *x[inside][::-1]],
            y=[*high[inside], *low[inside][::-1]],
            fill="toself",
            fillcolor=faint(colour(2)),
            line={"width": 0},
            mode="lines",
            name="middle half of them",
            hoverinfo="skip",
        )
        _curve(figure, x, middle, f"median of {len(counts)} images", 2, colour(2))
    _curve(figure, caps, np.where(linear >= 0, linear, np.inf), "linear estimate", 1, UNKNOWN)
    _curve(figure, caps, np.where(count >= 0, count, np.inf), "this image", 0, ATTACKED)
    figure.add_vline(x=marked, line={"color": colour(4), "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title_text="cap ε on the change of each pixel, in [0, 1]", range=[0, 1.03])
    figure.update_yaxes(title_text="changed features", type="log", tickvals=TICKS)
    return styled(figure, height=340, margin={"t": 8}, legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0})


def _quantile(counts: np.ndarray, share: float) -> np.ndarray:
    """The count that this share of the images needs at most, inf where fewer succeed."""
    rank = max(0, int(np.ceil(share * len(counts))) - 1)
    return np.sort(counts, axis=0)[rank]


def _curve(figure: go.Figure, x: np.ndarray, y: np.ndarray, name: str, place: int, hue: str) -> None:
    there = np.isfinite(y)
    figure.add_scatter(
        x=x[there],
        y=y[there],
        name=name,
        mode="lines+markers",
        line={"color": hue, "width": 2, "dash": DASHES[place]},
        marker={"size": 7},
        hovertemplate=f"ε = %{{x:.3g}}: %{{y}} changes<extra>{name}</extra>",
    )
