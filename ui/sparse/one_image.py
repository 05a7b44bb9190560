"""The tabs on one image: all pixels a little, and a few pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.data import folder
from core.jobs import queue
from core.storage import store
from ui.app import sources
from ui.form import controls
from ui.form.select import select
from ui.show import downloads, elements, gallery, provenance
from ui.show.sheet import Picture
from ui.sparse import views
from ui.text import both, grey_levels

PAGE = "sparse_attack"
OTHERS = ("jsma", "sigma_zero", "sparse_rs", "one_pixel")
"""Other attacks on few pixels, where the registry has them."""
LEVELS = {name: st.column_config.NumberColumn(format="%.3f") for name in ("old", "new")}
"""How a table of changed pixels writes grey levels."""


def at_once(spec: specs.AttackSpec | None) -> store.Artifact | None:
    """The result of a small attack: the stored one, or made now in this process; None if it fails."""
    if spec is None:
        return None
    found = sources.artifact(spec)
    if found is not None:
        return found
    with st.spinner("Attacking …"):
        try:
            made = queue.run(spec, store.default_root())
        except (ValueError, OSError, store.DamagedArtifact, folder.DataMissing) as error:
            elements.failed("The attack could not be run.", error)
            return None
    assert isinstance(made, store.Artifact)  # only a comparison makes several
    return made


def source_line(result: store.Artifact, case: views.Case, *, one: bool = True) -> str:
    """The provenance of a result on this image, or on many images of its class."""
    tau = f" · τ = {case.threshold:g}" if case.scalar else ""
    what = f"test image {case.index}" if one else f"class {case.names[case.label]}"
    return f"{provenance.of(result, case.model)} · {what}{tau}"


BOXED, FREE = "in the box [0, 1]", "no box"
"""The two forms of the dense formula."""


def dense(case: views.Case, ask: dict[str, Any], factor: float) -> None:
    """Draw the tab on all pixels a little: the formula with and without the box."""
    dense_formula(case)
    results: dict[str, store.Artifact] = {}
    for name, boxed in ((BOXED, True), (FREE, False)):
        attack = {"name": "jacobian_dense", "boxed": boxed, "factor": factor}
        result = at_once(controls.build(specs.AttackSpec, attack=attack, **ask))
        if result is None:
            return
        results[name] = result
    arrays, found = results[BOXED].arrays("images"), results[BOXED].table("images").iloc[0]
    free = results[FREE].arrays("images")
    views.verdict(
        bool(found["success"]),
        case.names[case.label],
        case.names[int(found["pred"])],
        f"every pixel moves by at most {both(float(arrays['trace_eps'][0]))}, inside the box",
    )
    frame = pd.DataFrame([dense_row(case, name, result) for name, result in results.items()])
    numbers = frame.select_dtypes(np.floating).columns.astype(str)
    st.dataframe(
        frame,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.4g") for name in numbers},
        alt="The formula's ε* with and without the box, and the predicted and actual score",
    )
    left, right = st.columns([1, 1])
    with left:
        pictures = [
            views.triptych(case, made["x_adv"][0], np.log(made["probabilities"][0] + 1e-30), what=f"result, {name}")
            for name, made in ((BOXED, arrays), (FREE, free))
        ]
        lowest, highest = free["x_adv"][0].min(), free["x_adv"][0].max()
        st.caption(f"Without the box pixels range from {lowest:.3f} to {highest:.3f}; shown clipped to [0, 1].")
    with right:
        levels = {name: float(made["trace_eps_star"][0]) for name, made in ((FREE, free), (BOXED, arrays))}
        elements.chart(
            views.dense_curve(case, int(free["trace_toward"][0]), levels, float(arrays["trace_eps"][0])),
            key=f"{PAGE}_dense_curve",
            alt="Score against ε, predicted by the Jacobian and actual, with and without the box, and both ε*",
        )
        st.caption("Where solid and dashed lines part, N is curved: the formula is exact only for a linear N.")
    take_away(results[BOXED], case, frame, pictures[0], table="dense", name="dense", formats=("csv", "md", "tex"))


def dense_formula(case: views.Case) -> None:
    """Draw the dense formula and its explanation."""
    st.markdown(
        "The same tiny step on *every* pixel, each in the direction that helps. To first order the score moves by "
        "ε·‖J‖₁ (Hölder's equality), so the smallest ε that reaches the threshold is known at once:"
        if case.scalar
        else "The same tiny step on *every* pixel, each in the direction that helps: the exercise's formula for N, "
        "with the margin to the nearest class (or to the target) in the place of N."
    )
    gap = r"|\tau - N(x)|" if case.scalar else r"\mathrm{margin}(x)"
    left, right = st.columns(2)
    with left:
        st.latex(
            rf"\delta = \pm\,\varepsilon^{{*}}\,\mathrm{{sign}}(J),\quad "
            rf"\varepsilon^{{*}} = {gap} \,/\, \lVert J \rVert_1"
        )
    with right:
        st.latex(rf"\text{{in the box: }}\textstyle\sum_j |J_j|\min(\varepsilon^{{*}},u_j) = {gap}")
    st.caption(
        "In the box, a pixel has only its room uⱼ to move: a black one cannot get darker. So a larger ε* is needed, "
        "and only then is the result a valid image."
    )


def dense_row(case: views.Case, name: str, result: store.Artifact) -> dict[str, Any]:
    """The dense formula's ε* and the score that it predicts, beside the score that it reaches."""
    arrays, found = result.arrays("images"), result.table("images").iloc[0]
    level, start = float(arrays["trace_eps_star"][0]), float(case.margin(case.logits[None])[0])
    return {
        "": name,
        "ε*": level,
        "ε* in grey levels": grey_levels(level),
        "ε applied": float(arrays["trace_eps"][0]),
        f"{case.quantity.split(':')[0]} before": case.shown(start),
        "predicted": case.shown(float(arrays["trace_predicted"][0])),
        "actual": case.shown(float(arrays["trace_actual"][0])),
        "read as": case.names[int(found["pred"])],
        "outcome": "fooled" if found["success"] else "not fooled",
    }


def take_away(
    result: store.Artifact,
    case: views.Case,
    frame: pd.DataFrame,
    picture: Picture,
    *,
    table: str,
    name: str,
    formats: Sequence[str] = ("csv",),
) -> None:
    """Draw the provenance and the downloads: a table called `table`, a picture and arrays called `name`."""
    line = source_line(result, case)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, frame, name=table, provenance=line, formats=formats)
        downloads.picture(PAGE, picture, name=name, provenance=line)
        downloads.arrays(PAGE, result.arrays("images"), name=name, provenance=line)


def few(case: views.Case, ask: dict[str, Any], sparse: dict[str, Any]) -> None:
    """Draw the tab on a few pixels: the greedy attack step by step, or the result of another sparse attack."""
    name = select(
        PAGE,
        "method",
        "Method",
        ["jacobian_sparse", *OTHERS],
        text=method_title,
        kind="buttons",
        help="The settings above are the greedy attack's; others have their own, some take the pixel budget too.",
    )
    method = specs.METHODS[name]
    st.caption(f"{method.help} *{method.paper}.*")
    if name == "jacobian_sparse":
        greedy(case, controls.build(specs.AttackSpec, attack=sparse, **ask))
    else:
        budget = {"eps": float(sparse["max_features"])} if method.needs_eps else {}
        with st.expander(f"Settings of {method.title}"):
            attack = {"name": name, **controls.method_settings(PAGE, name)}
        other(case, controls.build(specs.AttackSpec, attack=attack, **budget, **ask))


def method_title(name: str) -> str:
    """The title of a method in the choice."""
    return "Greedy" if name == "jacobian_sparse" else specs.METHODS[name].title


def other(case: views.Case, spec: specs.AttackSpec | None) -> None:
    """Draw the result of another sparse attack: verdict, cost, changes."""
    result = at_once(spec)
    if result is None:
        return
    arrays, found = result.arrays("images"), result.table("images").iloc[0]
    unit = f"{found['l0']:.0f} features in {found['pixels']:.0f} pixels" if len(case.x) > 1 else f"{found['l0']:.0f}"
    views.verdict(
        bool(found["success"]),
        case.names[case.label],
        case.names[int(found["pred"])],
        f"{unit} of {case.x.size:,} {'features' if len(case.x) > 1 else 'pixels'} change",
    )
    with st.grid(4, min_column_width=150):
        st.metric("Changed", int(found["l0"]), help="Features; in a grey image these are pixels.")
        st.metric("Distance ℓ2", f"{found['l2']:.3g}", help=f"ℓ∞ {found['linf']:.3g}, ℓ1 {found['l1']:.3g}.")
        st.metric("Forward passes", f"{found['forwards']:,.0f}")
        st.metric("Backward passes", f"{found['backwards']:,.0f}")
    left, right = st.columns([1, 1])
    image = arrays["x_adv"][0]
    after = case.read(image[None])[0]
    with left:
        picture = views.triptych(case, image, after, what="result", gain=1.0)
        st.markdown("**Probabilities after**")
        gallery.probabilities(
            gallery.softmax(after), case.names, alt="Probabilities of the classes after it", marked=case.label
        )
    frame = views.changes(case.x, image)
    with right:
        st.dataframe(frame, hide_index=True, column_config=LEVELS, alt="The changed pixels")
    take_away(result, case, frame, picture, table="changed_pixels", name="sparse")


def greedy(case: views.Case, spec: specs.AttackSpec | None) -> None:
    """Draw the greedy attack with a slider over its steps."""
    result = at_once(spec)
    if result is None:
        return
    arrays, found = result.arrays("images"), result.table("images").iloc[0]
    trace = views.Trace.of(arrays)
    made, kept, left_over = len(trace.order), int(trace.kept.sum()), int(found["l0"])
    colour = f" ({found['pixels']:.0f} pixels)" if len(case.x) > 1 else ""
    views.verdict(
        bool(found["success"]),
        case.names[case.label],
        case.names[int(found["pred"])],
        f"{left_over} of {case.x.size:,} {'features' if colour else 'pixels'} change{colour}",
    )
    with st.grid(5, min_column_width=130):
        estimate = str(trace.linear) if trace.linear >= 0 else "impossible"
        st.metric("Linear estimate", estimate, help="How many the Jacobian at x alone says are needed.")
        st.metric("Greedy", made, help="Changes really made, one at a time, until the model was fooled or gave up.")
        st.metric("Pruned", kept, help="Left when every change that is not needed was put back.")
        st.metric("Swapped", left_over, help="Left when pairs of changes were exchanged for one other, where possible.")
        st.metric("Distance ℓ2", f"{found['l2']:.3g}", help=f"ℓ∞ {found['linf']:.3g}, ℓ1 {found['l1']:.3g}.")
    steps: list[Any] = [*range(made + 1), "pruned", *(["swapped"] if trace.swapped else [])]
    k = steps[0]
    if made:
        k = select(
            PAGE,
            "step",
            "Changes made",
            steps,
            default=steps[-1],
            kind="slider",
            help="Scrub through the stored trace: nothing is computed again. The last places: pruned and swapped.",
        )
    image = trace.image(k)
    along = case.read(np.stack([trace.image(step) for step in steps]))
    after = along[steps.index(k)]
    left, right = st.columns([1, 1])
    with left:
        what = f"{k} result" if isinstance(k, str) else f"after {k} changes" if k != 1 else "after 1 change"
        picture = views.triptych(case, image, after, what=what, gain=1.0)
        before_column, after_column = st.columns(2)
        for column, title, logits in ((before_column, "before", case.logits), (after_column, "after", after)):
            with column:
                st.markdown(f"**Probabilities {title}**")
                gallery.probabilities(
                    gallery.softmax(logits),
                    case.names,
                    alt=f"Probabilities of the classes {title} the changes",
                    marked=case.label,
                )
    with right:
        elements.chart(
            views.trace_curve(case, trace, k),
            key=f"{PAGE}_trace_curve",
            alt=f"The {case.quantity} after each change",
        )
    frame = trace.table(case)
    st.dataframe(
        frame,
        hide_index=True,
        height=elements.table_height(max(1, len(frame)), 320),
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in frame.columns if "after" in name}
        | LEVELS,
        alt="The changed pixels in their order",
    )
    take_away(result, case, frame, picture, table="changed_pixels", name="sparse")
