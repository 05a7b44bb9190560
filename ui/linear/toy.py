"""Logistic regression with six features: both gradients in numbers, steps on the input, the step that flips it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core.figures import linear
from core.figures.base import traces
from core.linear import toy
from ui.form.select import KEEP, select
from ui.show import downloads, elements

RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STARTS = {"x_A": toy.X_A, "x_B": toy.X_B}
OBJECTIVES = {"loss": "cross-entropy of the other class, descended", "output": "the output f itself"}


def vector(values: np.ndarray) -> str:
    """A vector as text, such as `(−0.105, 0.105, 0)`."""
    return "(" + ", ".join(f"{round(float(value), 4) + 0.0:.4g}".replace("-", "−") for value in values) + ")"


def choose(page: str) -> tuple[str, str, float, int]:
    """Draw the settings; returns start, objective, rate and number of steps."""
    with st.container(border=True):
        first, second = st.columns([1, 2], vertical_alignment="bottom")
        with first:
            start = select(page, "start", "Start at", list(STARTS))
        with second:
            objective = select(
                page,
                "objective",
                "What the steps follow",
                list(OBJECTIVES),
                text=OBJECTIVES.__getitem__,
                kind="list",
                help="The cross-entropy pulls hardest where the answer is surely the old class; the slope of f itself "
                "is small there.",
            )
        first, second = st.columns(2)
        with first:
            rate = select(page, "rate", "Rate η", RATES, text="{:g}".format, default=0.1, kind="slider")
        with second:
            steps = st.slider("Steps", min_value=0, max_value=300, value=7, key=f"{page}_steps", **KEEP)
    return start, objective, rate, int(steps)


def show(page: str) -> None:
    """Draw the tab. Needs no PyTorch."""
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
        elements.chart(
            linear.features(begin, here, STARTS[other], (start, f"after {steps} steps", other)),
            key=f"{page}_bars",
            alt=f"Six bars: the features after {steps} steps are {np.round(here, 3).tolist()}",
        )
        st.caption("Features 5 and 6 have weight 0: no gradient ever moves them.")
    with right:
        st.markdown("**Step by step**")
        figure = traces(
            {"f(x)": path.f, "distance to x_A": to_a, "distance to x_B": to_b},
            x_title="steps",
            y_title="",
            level=0.5,
            level_name="f = ½",
            marked=float(path.flip) if path.flip else None,
            height=300,
        )
        elements.chart(figure, key=f"{page}_steps_chart", alt="f and the distances to both points after each step")
        st.caption("The vertical line is the step that flips the class." if path.flip else "No step flips it yet.")
    derivation(here, f)
    reliable()
    line = f"logistic toy · from {start} · {OBJECTIVES[objective]} · η {rate:g} · {steps} steps"
    st.caption(f"{line} · this page's address reproduces it")
    frame = pd.DataFrame(path.points, columns=[f"x{k}" for k in range(1, 7)])
    frame = frame.assign(f=path.f, to_x_A=to_a, to_x_B=to_b).rename_axis("step").reset_index()
    downloads.table(page, frame, name="logistic_toy", provenance=line)


def verdict(path: toy.InputPath, steps: int, flip: int | None, other: str) -> None:
    """Draw whether the class has flipped, and at which step it does."""
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
    """Draw both gradients at this point."""
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
    """Draw what follows about the reliability of the model, folded."""
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
