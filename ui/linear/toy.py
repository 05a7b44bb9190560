"""Logistic regression with six features: both gradients in numbers, steps on the input, the step that flips it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core.figures import linear
from core.figures.base import ATTACKED, CLEAN, colour, traces
from core.linear import toy
from ui.form import bound
from ui.form.select import select
from ui.show import downloads, elements
from ui.text import counted

RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
OTHER = colour(3)
"""Of the point of the other class."""
STARTS = {"x_A": toy.X_A, "x_B": toy.X_B}
OBJECTIVES = {"loss": "cross-entropy of the other class, descended", "output": "the output f itself"}


def vector(values: np.ndarray) -> str:
    """A vector as text, such as `(−0.105, 0.105, 0)`."""
    return "(" + ", ".join(f"{round(float(value), 4) + 0.0:.4g}".replace("-", "−") for value in values) + ")"


def choose(page: str) -> tuple[str, str, float, int]:
    """Draw the settings; returns start, objective, rate and number of steps."""
    start = select(page, "start", "Start at", list(STARTS))
    rate = select(page, "rate", "Rate η", RATES, text="{:g}".format, default=0.1, kind="slider")
    steps = bound.slider("Steps", min_value=0, max_value=300, value=7, key=f"{page}_steps")
    with st.expander("More settings", icon=":material/tune:"):
        objective = select(
            page,
            "objective",
            "What the steps follow",
            list(OBJECTIVES),
            text=OBJECTIVES.__getitem__,
            kind="list",
            help="The gradient of the cross-entropy is largest where the model is sure of the old class. The gradient "
            "of f itself is small there, so it needs more steps.",
        )
    return start, objective, rate, int(steps)


def show(page: str) -> None:
    """Draw the tab. Needs no PyTorch."""
    st.markdown(
        "Logistic regression on six features: $f(x)=\\sigma(\\theta\\cdot x)$ with $\\theta=(-1,1,-1,1,0,0)$ is the "
        "probability of class 1. $x_A=(1,0,1,0,0,0)$ is of class 0, $x_B=(0,1,0,1,0,0)$ of class 1."
    )
    left, right = st.columns([1, 3])
    with left:
        start, objective, rate, steps = choose(page)
    begin = STARTS[start]
    other = "x_B" if start == "x_A" else "x_A"
    path = toy.input_path(begin, rate=rate, steps=steps, objective=objective)
    here, f = path.points[-1], float(path.f[-1])
    to_a, to_b = (np.linalg.norm(path.points - point, axis=1) for point in (toy.X_A, toy.X_B))
    with right:
        verdict(path, steps, toy.steps_to_flip(begin, rate=rate, objective=objective), other)
        charts(page, path, (start, other), steps, (to_a, to_b))
    with st.grid(4, min_column_width=130):
        st.metric("f(x)", f"{f:.4f}", delta=f"{f - path.f[0]:+.4f}", delta_color="off", help="Probability of class 1.")
        st.metric("ℓ2 distance to x_A", f"{to_a[-1]:.4f}")
        st.metric("ℓ2 distance to x_B", f"{to_b[-1]:.4f}")
        share = float((here - begin) @ (STARTS[other] - begin) / 4)
        st.metric("Way to the other point", f"{share:.1%}", help="c of x + cθ: 50 % is the decision boundary.")
    derivation(here, f)
    line = f"logistic toy · from {start} · {OBJECTIVES[objective]} · η {rate:g} · {steps} steps"
    st.caption(f"{line} · this page's address reproduces it")
    frame = pd.DataFrame(path.points, columns=[f"x{k}" for k in range(1, 7)])
    frame = frame.assign(f=path.f, to_x_A=to_a, to_x_B=to_b).rename_axis("step").reset_index()
    downloads.table(page, frame, name="logistic_toy", provenance=line)
    reliable()


def charts(
    page: str, path: toy.InputPath, ends: tuple[str, str], steps: int, distances: tuple[np.ndarray, np.ndarray]
) -> None:
    """Draw the six features after the last step, and f and both distances (to x_A, to x_B) after each step."""
    here, (start, other) = path.points[-1], ends
    left, right = st.columns(2)
    with left:
        st.markdown("**The six features**")
        elements.chart(
            linear.features(path.points[0], here, STARTS[other], (start, f"after {counted(steps, 'step')}", other)),
            key=f"{page}_bars",
            alt=f"Six bars: the features after {counted(steps, 'step')} are {np.round(here, 3).tolist()}",
        )
        st.caption("Features 5 and 6 have weight 0, so no gradient step changes them.")
    with right:
        st.markdown("**Step by step**")
        figure = traces(
            {"f(x)": path.f, "distance to x_A": distances[0], "distance to x_B": distances[1]},
            x_title="steps",
            y_title="",
            level=0.5,
            level_name="f = ½",
            marked=float(path.flip) if path.flip else None,
            height=300,
        )
        hues = (CLEAN, OTHER) if start == "x_A" else (OTHER, CLEAN)
        linear.told_apart(figure, (ATTACKED, *hues))
        elements.chart(figure, key=f"{page}_steps_chart", alt="f and the distances to both points after each step")
        st.caption("The vertical line is the step that flips the class." if path.flip else "No step flips it yet.")


def verdict(path: toy.InputPath, steps: int, flip: int | None, other: str) -> None:
    """Draw whether the class has flipped, and at which step it does."""
    if path.flip is not None:
        st.success(
            f"**Flipped at step {path.flip}** of {steps}: f = {path.f[path.flip]:.3f}, "
            f"classified as class {1 - path.label}.",
            icon=":material/check_circle:",
        )
    elif flip is not None:
        st.info(
            f"Not flipped after {counted(steps, 'step')}: still classified as class {path.label}. "
            f"**It flips at step {flip}.**",
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
        st.caption(
            "It points along the input: training moves the weights towards points of class 1 and away from points of "
            "class 0."
        )
    with right:
        st.latex(r"\nabla_x f = f(1-f)\,\theta")
        st.markdown(f"= {vector(toy.gradient_x(x))}")
        pull = -(1 - f) * toy.THETA
        st.caption(
            "It points along the weights, whatever the input is: every step has the same direction, only its length "
            f"changes. The gradient of the cross-entropy −log f is −(1 − f)θ = {vector(pull)}: its factor does not "
            "vanish where f is small."
        )


def reliable() -> None:
    """Draw what follows about the reliability of the model, folded."""
    with st.expander("Is it reliable? What follows from this", icon=":material/school:"):
        st.markdown(
            """
The model classifies both points correctly, with 88 % confidence. Yet a change of **½ on four features** (ℓ∞ = 0.5,
ℓ2 = 1, ℓ1 = 2) brings a point to the decision boundary, and at c = 1 the changed $x_A$ *is* $x_B$. Inside the valid
range [0, 1], changing two whole features makes a tie and changing three flips the class.

- The attack needs no luck: one gradient gives the direction θ, and it is the same for every input.
- Confidence is not distance: after a few more steps the model is just as sure of the other class.
- With d features of weight ±w, a change of ε on each of them moves θ·x by d·w·ε. Here d is 4. An image has hundreds of
  features: there, a change that nobody sees is enough.
"""
        )
    st.page_link(
        "pages/sparse_attack.py", label="The same gradient of a network, as a picture", icon=":material/grid_on:"
    )
