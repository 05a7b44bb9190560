"""The logistic toy: both gradients with their numbers, steps on the input, the step at which the class flips."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core.figures import base as figures
from core.figures import linear
from core.linear import toy
from ui.form import controls
from ui.show import downloads

CONFIG = {"displaylogo": False}
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STARTS = {"x_A": toy.X_A, "x_B": toy.X_B}
OBJECTIVES = {"loss": "cross-entropy of the other class, descended", "output": "the output f itself"}


def vector(values: np.ndarray) -> str:
    """Such as `(−0.105, 0.105, 0)`."""
    return "(" + ", ".join(f"{round(float(value), 4) + 0.0:.4g}".replace("-", "−") for value in values) + ")"


def choose(page: str) -> tuple[str, str, float, int]:
    """Start, objective, rate and steps."""
    with st.container(border=True):
        first, second = st.columns([1, 2], vertical_alignment="bottom")
        with first:
            controls.seed(f"{page}_start", list(STARTS))
            start = st.segmented_control(
                "Start at", list(STARTS), default="x_A", required=True, key=f"{page}_start", **controls.KEEP
            )
        with second:
            controls.seed(f"{page}_objective", list(OBJECTIVES), OBJECTIVES.__getitem__)
            objective = st.selectbox(
                "What the steps follow",
                list(OBJECTIVES),
                format_func=OBJECTIVES.__getitem__,
                help="The cross-entropy pulls hardest where the answer is surely the old class; the slope of f itself "
                "is small there.",
                key=f"{page}_objective",
                **controls.KEEP,
            )
        first, second = st.columns(2)
        with first:
            controls.seed(f"{page}_rate", list(RATES), "{:g}".format)
            rate = st.select_slider(
                "Rate η", RATES, value=0.1, format_func="{:g}".format, key=f"{page}_rate", **controls.KEEP
            )
        with second:
            steps = st.slider("Steps", min_value=0, max_value=300, value=7, key=f"{page}_steps", **controls.KEEP)
    return start, objective, float(rate), int(steps)


def show(page: str) -> None:
    """The whole tab; needs no PyTorch."""
    st.markdown(
        "Logistic regression on six features: $f(x)=\\sigma(\\theta\\cdot x)$ with $\\theta=(-1,1,-1,1,0,0)$ is the "
        "probability of class 1. $x_A=(1,0,1,0,0,0)$ is of class 0, $x_B=(0,1,0,1,0,0)$ of class 1."
    )
    start, objective, rate, steps = choose(page)
    begin = STARTS[start]
    other = "x_B" if start == "x_A" else "x_A"
    path = toy.input_path(begin, rate=rate, steps=steps, objective=objective)
    here, f = path.points[-1], float(path.f[-1])
    flip = toy.steps_to_flip(begin, rate=rate, objective=objective)
    verdict(path, steps, flip, other)
    to_a, to_b = (np.linalg.norm(path.points - point, axis=1) for point in (toy.X_A, toy.X_B))
    with st.grid(4, min_column_width=130):
        st.metric("f(x)", f"{f:.4f}", delta=f"{f - path.f[0]:+.4f}", delta_color="off")
        st.metric("ℓ2 distance to x_A", f"{to_a[-1]:.4f}")
        st.metric("ℓ2 distance to x_B", f"{to_b[-1]:.4f}")
        share = float((here - begin) @ (STARTS[other] - begin) / 4)
        st.metric("Way to the other point", f"{share:.1%}", help="c of x + cθ: 50 % is the boundary.")
    left, right = st.columns(2)
    with left:
        st.markdown("**The six features**")
        st.plotly_chart(
            linear.features(begin, here, STARTS[other], (start, f"after {steps} steps", other)),
            key=f"{page}_bars",
            config=CONFIG,
            alt=f"Six bars: the features after {steps} steps are {np.round(here, 3).tolist()}",
        )
        st.caption("Features 5 and 6 have weight 0: no gradient ever moves them.")
    with right:
        st.markdown("**Step by step**")
        figure = figures.traces(
            {"f(x)": path.f, "distance to x_A": to_a, "distance to x_B": to_b},
            x_title="steps",
            y_title="",
            level=0.5,
            level_name="f = ½",
            marked=float(path.flip) if path.flip else None,
            height=300,
        )
        st.plotly_chart(
            figure, key=f"{page}_steps_chart", config=CONFIG, alt="f and the distances to both points after each step"
        )
        st.caption("The vertical line is the step that flips the class." if path.flip else "No step flips it yet.")
    derivation(here, f)
    reliable()
    line = f"logistic toy · from {start} · {OBJECTIVES[objective]} · η {rate:g} · {steps} steps"
    st.caption(f"{line} · this page's address reproduces it")
    frame = pd.DataFrame(path.points, columns=[f"x{k}" for k in range(1, 7)])
    frame = frame.assign(f=path.f, to_x_A=to_a, to_x_B=to_b).rename_axis("step").reset_index()
    downloads.table(page, frame, name="logistic_toy", provenance=line)


def verdict(path: toy.InputPath, steps: int, flip: int | None, other: str) -> None:
    """Whether it is flipped, and when it is."""
    if path.flip is not None:
        st.success(
            f"**Flipped at step {path.flip}** of {steps}: f = {path.f[path.flip]:.3f}, read as class {1 - path.label}.",
            icon=":material/check_circle:",
        )
    elif flip is not None:
        st.info(
            f"Not flipped after {steps} steps: still read as class {path.label}. **It flips at step {flip}.**",
            icon=":material/info:",
        )
    else:
        st.info(f"Not flipped within 10,000 steps on the way to {other}.", icon=":material/info:")


def derivation(x: np.ndarray, f: float) -> None:
    """Both gradients at the point on show."""
    st.markdown("**The two gradients, at this point.** The derivative of σ is $f(1-f)$; the chain rule does the rest.")
    z = float(x @ toy.THETA)
    st.markdown(
        f"$\\theta\\cdot x$ = {z:.4f}, so $f=\\sigma(\\theta\\cdot x)$ = **{f:.4f}** and $f(1-f)$ = "
        f"**{float(toy.slope(x)):.5f}**."
    )
    left, right = st.columns(2)
    with left:
        st.latex(r"\nabla_\theta f = f(1-f)\,x")
        st.markdown(f"= {vector(toy.gradient_theta(x))}")
        st.caption("Along the input: training moves the weights towards (or away from) the points that it sees.")
    with right:
        st.latex(r"\nabla_x f = f(1-f)\,\theta")
        st.markdown(f"= {vector(toy.gradient_x(x))}")
        pull = -(1 - f) * toy.THETA
        st.caption(
            "Along the weights, whatever the input: every step goes the same way, only its length changes. Of the "
            f"cross-entropy −log f it is −(1 − f)θ = {vector(pull)}: no factor f that vanishes."
        )


def reliable() -> None:
    """What this says about the model."""
    with st.expander("Is it reliable? What follows from this", icon=":material/school:"):
        st.markdown(
            """
The model was right about both points that it was trained on, and sure: 88 %. Yet a change of **½ on four features**
(ℓ∞ = 0.5, ℓ2 = 1, ℓ1 = 2) brings it to the boundary, and at c = 1 the changed $x_A$ *is* $x_B$. Inside the box [0, 1],
two whole features make a tie and three flip it.

- The attack needs no luck: the direction θ is known from one gradient, for every input the same.
- Confidence is no distance: a few steps more, and it is as sure of the other class.
- With d features of weight ±w, a change of ε on each moves θ·x by d·w·ε. Here d is 4. An image has hundreds: a change
  that nobody sees is then enough.
"""
        )
    st.page_link(
        "pages/sparse_attack.py", label="The same gradient of a network, as a picture", icon=":material/grid_on:"
    )
