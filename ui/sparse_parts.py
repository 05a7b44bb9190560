"""The parts of the page on Jacobian attacks: all pixels a little, few pixels, many images, and a blind quiz."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import data_folder, specs, store
from core import jobs as core_jobs
from ui import controls, downloads, gallery, jobs, provenance, sources, sparse_views

PAGE = "sparse_attack"
PARTS = ("All pixels a little", "A few pixels", "How sparse can it be?", "Can one tell?")
QUIZ_IMAGES = 20
"""Images that the quiz draws from."""


def show(case: sparse_views.Case, target: int | str, sparse: dict[str, Any], factor: float) -> None:
    """Draw the part that is chosen; the others cost nothing."""
    tabs = st.tabs(PARTS, key=f"{PAGE}_part", on_change="rerun", bind="query-params")
    common = {"model": case.model.id, "target": target, "threshold": case.threshold}
    one = {**common, "indices": (case.index,)}
    with tabs[0]:
        if tabs[0].open:
            dense(case, one, factor)
    with tabs[1]:
        if tabs[1].open:
            few(case, controls.build(specs.AttackSpec, attack=sparse, **one))
    with tabs[2]:
        if tabs[2].open:
            many(case, {**common, "source": case.label}, sparse, factor)
    with tabs[3]:
        if tabs[3].open:
            quiz(case, {**common, "source": case.label, "n": QUIZ_IMAGES}, sparse, factor)


def at_once(spec: specs.AttackSpec | None) -> store.Artifact | None:
    """The result of a small attack: from the store, or made now, in this process."""
    if spec is None:
        return None
    found = sources.artifact(spec)
    if found is not None:
        return found
    with st.spinner("Attacking …"):
        try:
            return core_jobs.run(spec, store.default_root())
        except (ValueError, OSError, store.DamagedArtifact, data_folder.DataMissing) as error:
            st.error("The attack could not be run.", icon=":material/error:")
            with st.expander("What went wrong"):
                st.write(str(error))
            return None


def source_line(result: store.Artifact, case: sparse_views.Case, *, one: bool = True) -> str:
    """Provenance of a result on this image, or on many of its class."""
    tau = f" · τ = {case.threshold:g}" if case.scalar else ""
    what = f"test image {case.index}" if one else f"class {case.names[case.label]}"
    return f"{provenance.of(result, case.model)} · {what}{tau}"


def dense(case: sparse_views.Case, ask: dict[str, Any], factor: float) -> None:
    """All pixels a little: the formula with and without the box."""
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
    results = {
        name: at_once(
            controls.build(specs.AttackSpec, attack={"name": "jacobian_dense", "boxed": boxed, "factor": factor}, **ask)
        )
        for name, boxed in (("in the box [0, 1]", True), ("no box", False))
    }
    if None in results.values():
        return
    rows, levels, toward = [], {}, case.label
    for name, result in results.items():
        arrays, found = result.arrays("images"), result.table("images").iloc[0]
        levels[name] = float(arrays["trace_eps_star"][0])
        toward = int(arrays["trace_toward"][0])
        start = float(case.margin(case.logits[None])[0])
        rows.append(
            {
                "": name,
                "ε*": levels[name],
                "ε* in grey levels": f"{levels[name] * 255:.3g}/255",
                "ε applied": float(arrays["trace_eps"][0]),
                f"{case.quantity.split(':')[0]} before": case.shown(start),
                "predicted": case.shown(float(arrays["trace_predicted"][0])),
                "actual": case.shown(float(arrays["trace_actual"][0])),
                "read as": case.names[int(found["pred"])],
                "outcome": "fooled" if found["success"] else "not fooled",
            }
        )
    boxed = results["in the box [0, 1]"]
    arrays, found = boxed.arrays("images"), boxed.table("images").iloc[0]
    sparse_views.verdict(
        bool(found["success"]),
        case.names[case.label],
        case.names[int(found["pred"])],
        f"every pixel moves by at most {controls.both(float(arrays['trace_eps'][0]))}, inside the box",
    )
    frame = pd.DataFrame(rows)
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.4g") for name in frame if frame[name].dtype.kind == "f"
        },
        alt="The formula's ε* with and without the box, and the predicted and actual score",
    )
    left, right = st.columns([1, 1])
    with left:
        pictures = [
            sparse_views.triptych(
                case, images["x_adv"][0], np.log(images["probabilities"][0] + 1e-30), what=f"result, {name}"
            )
            for name, images in ((name, result.arrays("images")) for name, result in results.items())
        ]
        free = results["no box"].arrays("images")["x_adv"][0]
        st.caption(f"Without the box pixels range from {free.min():.3f} to {free.max():.3f}; shown clipped to [0, 1].")
    with right:
        st.plotly_chart(
            sparse_views.dense_curve(case, toward, dict(reversed(levels.items())), rows[0]["ε applied"]),
            key=f"{PAGE}_dense_curve",
            config=sparse_views.CONFIG,
            alt="Score against ε, predicted by the Jacobian and actual, with and without the box, and both ε*",
        )
        st.caption("Where solid and dashed lines part, N is curved: the formula is exact only for a linear N.")
    line = source_line(boxed, case)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, frame, name="dense", provenance=line)
        downloads.picture(PAGE, pictures[0], name="dense", provenance=line)
        downloads.arrays(PAGE, arrays, name="dense", provenance=line)


def few(case: sparse_views.Case, spec: specs.AttackSpec | None) -> None:
    """A few pixels: the trace of the greedy attack, step by step."""
    result = at_once(spec)
    if result is None:
        return
    arrays, found = result.arrays("images"), result.table("images").iloc[0]
    trace = sparse_views.Trace.of(arrays)
    greedy, kept = len(trace.order), int(trace.kept.sum())
    colour = f" ({found['pixels']:.0f} pixels)" if len(case.x) > 1 else ""
    sparse_views.verdict(
        bool(found["success"]),
        case.names[case.label],
        case.names[int(found["pred"])],
        f"{kept} of {case.x.size:,} {'features' if colour else 'pixels'} change{colour}",
    )
    with st.grid(4, min_column_width=150):
        estimate = str(trace.linear) if trace.linear >= 0 else "impossible"
        st.metric("Linear estimate", estimate, help="How many the Jacobian at x alone says are needed.")
        st.metric("Greedy", greedy, help="Changes really made, one at a time, until the model was fooled or gave up.")
        st.metric("Pruned", kept, help="Left when every change that is not needed was put back.")
        st.metric("Distance ℓ2", f"{found['l2']:.3g}", help=f"ℓ∞ {found['linf']:.3g}, ℓ1 {found['l1']:.3g}.")
    steps: list[Any] = [*range(greedy + 1), "pruned"]
    key = f"{PAGE}_step"
    if st.session_state.get(key, "pruned") not in steps:
        del st.session_state[key]
    controls.seed(key, steps)
    k = (
        st.select_slider(
            "Changes made",
            steps,
            value="pruned",
            help="Scrub through the stored trace: nothing is computed again. The last place shows the pruned result.",
            key=key,
            **controls.KEEP,
        )
        if greedy
        else 0
    )
    image = trace.image(k)
    along = case.read(np.stack([trace.image(step) for step in steps]))
    after = along[steps.index(k)]
    left, right = st.columns([1, 1])
    with left:
        what = "pruned result" if k == "pruned" else f"after {k} changes" if k != 1 else "after 1 change"
        picture = sparse_views.triptych(case, image, after, what=what, gain=1.0)
        before_column, after_column = st.columns(2)
        for column, title, logits in ((before_column, "before", case.logits), (after_column, "after", after)):
            with column:
                st.markdown(f"**Probabilities {title}**")
                gallery.probabilities(
                    sparse_views.softmax(logits),
                    case.names,
                    alt=f"Probabilities of the classes {title} the changes",
                    marked=case.label,
                )
    with right:
        st.plotly_chart(
            sparse_views.trace_curve(case, trace, k),
            key=f"{PAGE}_trace_curve",
            config=sparse_views.CONFIG,
            alt=f"The {case.quantity} after each change",
        )
    frame = trace.table(case)
    st.dataframe(
        frame,
        hide_index=True,
        height=min(320, 38 + 35 * max(1, len(frame))),
        column_config={name: st.column_config.NumberColumn(format="%.4g") for name in frame.columns if "after" in name}
        | {name: st.column_config.NumberColumn(format="%.3f") for name in ("old", "new")},
        alt="The changed pixels in their order",
    )
    line = source_line(result, case)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, frame, name="changed_pixels", provenance=line, formats=("csv",))
        downloads.picture(PAGE, picture, name="sparse", provenance=line)
        downloads.arrays(PAGE, arrays, name="sparse", provenance=line)


def many(case: sparse_views.Case, ask: dict[str, Any], sparse: dict[str, Any], factor: float) -> None:
    """The same two attacks on many images of the class: how many changes they need, and how large an ε."""
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
    result = sources.artifact(spec)
    if result is None:
        if asked:
            jobs.start(spec)
        if jobs.panel(PAGE, spec) is None:
            st.info(f"Not measured yet for these settings: “Measure” attacks {n} images.", icon=":material/bar_chart:")
        return
    arrays, table = result.arrays("images"), result.table("images")
    metrics, line = result.card["metrics"], source_line(result, case, one=False)
    left, right = st.columns([3, 2])
    with left:
        figure, summary = sparse_views.counts(arrays, table)
        st.plotly_chart(
            figure,
            key=f"{PAGE}_counts",
            config=sparse_views.CONFIG,
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
        st.caption("Pruned and greedy are upper bounds; the linear estimate is no bound at all, only a first guess.")
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


def formula(case: sparse_views.Case, ask: dict[str, Any], n: int, factor: float) -> None:
    """The dense formula on the same images: ε*, and how often it keeps its word."""
    rows = []
    for boxed in (False, True):
        for size in sorted({1.0, factor}):
            attack = {"name": "jacobian_dense", "boxed": boxed, "factor": size}
            result = at_once(controls.build(specs.AttackSpec, attack=attack, n=n, **ask))
            if result is None:
                return
            level, metrics = result.arrays("images")["trace_eps_star"], result.card["metrics"]
            rows.append(
                {
                    "formula": "in the box" if boxed else "no box",
                    "size": f"{size:g} · ε*",
                    "median ε*": float(np.median(level)),
                    "in grey levels": f"{255 * np.median(level):.3g}/255",
                    "fooled": metrics["success_rate"],
                    "95 % from": metrics["low"],
                    "to": metrics["high"],
                    "n": metrics["n"],
                }
            )
    st.markdown("**The dense formula on the same images**")
    percent = {name: st.column_config.NumberColumn(format="percent") for name in ("fooled", "95 % from", "to")}
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={"median ε*": st.column_config.NumberColumn(format="%.4f"), **percent},
        alt="Median ε* of the dense formula and the share of images that it fools",
    )
    st.caption("At exactly 1 · ε* a linear N would sit on its threshold; a curved one falls short or goes beyond.")


def quiz(case: sparse_views.Case, ask: dict[str, Any], sparse: dict[str, Any], factor: float) -> None:
    """Two pictures, one of them changed: which? The answers are counted in this session."""
    ways = {"dense": "all pixels a little", "sparse": "a few pixels"}
    controls.seed(f"{PAGE}_quiz_way", list(ways), ways.__getitem__)
    way = st.segmented_control(
        "How it was changed",
        list(ways),
        default="dense",
        format_func=ways.get,
        required=True,
        key=f"{PAGE}_quiz_way",
        **controls.KEEP,
    )
    attack = sparse if way == "sparse" else {"name": "jacobian_dense", "factor": factor}
    result = at_once(controls.build(specs.AttackSpec, attack=attack, **ask))
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
