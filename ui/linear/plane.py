"""Adversarial training in the plane: ball and maximiser, boundary and loss against ε, the SVM over it, λ and ε."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.figures import linear
from core.figures.base import traces
from ui.form.select import KEEP, select
from ui.linear import limits, points
from ui.show import downloads, elements
from ui.text import say

NORMS = ("l2", "linf")
LOSSES = ("hinge", "logistic")


def choose(page: str) -> tuple[int, float, int, str, str, float, int]:
    """Draw the settings; returns points, distance, seed, norm, loss, ε and the position of the marked point."""
    with st.container(border=True):
        first, second, third = st.columns(3, vertical_alignment="bottom")
        with first:
            n = st.slider("Points", min_value=10, max_value=100, value=40, step=2, key=f"{page}_n", **KEEP)
        with second:
            apart = st.slider(
                "Distance of the classes",
                min_value=0.0,
                max_value=3.0,
                value=0.8,
                step=0.1,
                help="Half the distance of their means; each has standard deviation ½.",
                key=f"{page}_apart",
                **KEEP,
            )
        with third:
            seed = st.number_input("Seed", min_value=0, max_value=9999, value=0, key=f"{page}_seed", **KEEP)
        first, second, third, fourth = st.columns([1, 1, 2, 1], vertical_alignment="bottom")
        with first:
            norm = select(page, "norm", "Norm", NORMS, text=say)
        with second:
            loss = select(page, "loss", "Loss", LOSSES)
        with third:
            eps = st.slider(
                "ε",
                min_value=0.0,
                max_value=1.5,
                value=0.3,
                step=0.05,
                help="Size of the ball around every point, in units of the plane; there is no box here.",
                key=f"{page}_plane_eps",
                **KEEP,
            )
        with fourth:
            if isinstance(st.session_state.get(f"{page}_point"), int):
                st.session_state[f"{page}_point"] = min(st.session_state[f"{page}_point"], n)
            chosen = st.number_input("Point", min_value=1, max_value=n, value=1, key=f"{page}_point", **KEEP)
    return int(n), float(apart), int(seed), norm, loss, float(eps), int(chosen) - 1


def corners(centre: np.ndarray, eps: float, norm: str) -> np.ndarray:
    """The outline of the ball, an array (k, 2)."""
    if norm == "linf":
        return centre + eps * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    angles = np.linspace(0, 2 * np.pi, 73)
    return centre + eps * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def show(page: str) -> None:
    """Draw the tab."""
    n, apart, seed, norm, loss, eps, row = choose(page)
    found = points.solved(n, apart, seed, norm, loss, eps)
    line = f"two classes in the plane · {n} points, distance {apart:g}, seed {seed} · {say(norm)}"
    if isinstance(found, str):
        st.info(
            f"The {loss} loss has no minimum at this ε: the classes are farther apart than that, and it falls for ever "
            "as w grows. Take a larger ε, classes that overlap, or the hinge loss, which ends at 0.",
            icon=":material/info:",
        )
    else:
        picture(page, n, apart, seed, norm, loss, eps, row, found)
    table = points.curves(n, apart, seed, norm, loss)
    against(page, table, eps, loss)
    equivalence(page, n, apart, seed)
    limits.show(n, apart, seed, eps)
    st.caption(f"{line} · {loss} · ε {eps:g} · this page's address reproduces it")
    downloads.table(page, table, name="adversarial_training_plane", provenance=f"{line} · {loss}")


def picture(page: str, n: int, apart: float, seed: int, norm: str, loss: str, eps: float, row: int, found: Any) -> None:
    """Draw the points, the boundaries and one ball with its worst point, and beside them the losses."""
    from core.linear import training

    x, y = points.points(n, apart, seed)
    weight, bias, label = found.weight, found.bias, int(y[row])
    delta = training.worst(weight, label, eps=eps, norm=norm)
    step = training.worst(weight, label, eps=eps, norm="linf")
    lines = {f"adversarial, ε = {eps:g}": (weight, bias)}
    svm = points.machine(n, apart, seed, eps) if norm == "l2" and loss == "hinge" else None
    if svm is not None:
        lines[f"SVM, λ = {svm[0]:.3g}"] = (svm[1].weight, svm[1].bias)
    if eps > 0:
        plain = points.solved(n, apart, seed, norm, loss, 0.0)
        if not isinstance(plain, str):
            lines["trained at ε = 0"] = (plain.weight, plain.bias)
    size, length = training.dual_norm(weight, norm), float(np.linalg.norm(weight))
    moves = {"maximiser": x[row] + delta}
    if norm != "linf":
        moves["FGSM's step"] = x[row] + step
    left, right = st.columns([3, 2])
    with left:
        elements.chart(
            linear.plane(
                x,
                y,
                lines,
                tube=eps * size / length if length else 0.0,
                ball=(row, corners(x[row], eps, norm)) if eps > 0 else None,
                moves=moves,
            ),
            key=f"{page}_plane",
            alt=f"Points of two classes, the boundary trained at ε = {eps:g}, and the ball around point {row + 1}",
        )
    with right:
        st.markdown("**The inner maximum, in closed form**")
        unit, dual = (r"w/\lVert w\rVert_2", 2) if norm == "l2" else (r"\mathrm{sign}(w)", 1)
        st.latex(rf"\delta^* = -y\,\varepsilon\,{unit}")
        st.latex(rf"m \to m-\varepsilon\lVert w\rVert_{dual}")
        m = float(training.margins(weight, bias, x, y)[row])
        cosine = float(delta @ step / np.linalg.norm(delta) / np.linalg.norm(step)) if eps * length > 0 else np.nan
        st.markdown(
            f"Point {row + 1}, class {label:+d}: w = ({weight[0]:.3f}, {weight[1]:.3f}), b = {bias:.3f}, margin "
            f"m = {m:.3f}. The worst point of its ball keeps m − ε‖w‖ = **{m - eps * size:.3f}**: "
            + ("still read right." if m > eps * size else "misread.")
        )
        if np.isfinite(cosine):
            st.markdown(
                f"Cosine of the maximiser with FGSM's step: **{cosine:.4f}**. "
                + (
                    "In ℓ∞ FGSM *is* the maximiser, for any falling loss."
                    if norm == "linf"
                    else f"FGSM's step has length {np.linalg.norm(step):.3f} in ℓ2, outside this ball."
                )
            )
        with st.grid(2, min_column_width=120):
            accuracy = training.robust_accuracy(weight, bias, x, y, eps=eps, norm=norm)
            st.metric("Robust accuracy", f"{accuracy:.1%}", help=f"Share of {n} points with m > ε‖w‖; exact.")
            clean = training.robust_accuracy(weight, bias, x, y, eps=0, norm=norm)
            st.metric("Clean accuracy", f"{clean:.1%}", help=f"Of the {n} points that it was trained on.")
            st.metric("Rε", f"{found.objective:.4f}", help="The mean worst loss, minimised.")
            gamma = training.largest_margin(x, y, norm=norm)
            text = f"{gamma:.4f}" if gamma else "none"
            st.metric("γ", text, help="The largest ε at which these points are robustly separable.")
        if length == 0:
            st.caption("w = 0: at this ε no direction is worth more than it costs, and there is no boundary.")
        elif norm == "l2" and loss == "hinge" and found.objective < points.NOTHING:
            st.caption("Many w have Rε = 0 here. Drawn is the shortest of them, the hard margin's: see below.")
        elif svm is not None:
            same = bool((training.margins(weight, bias, x, y) <= 1 + 1e-6).all())
            angle = float(weight @ svm[1].weight / length / np.linalg.norm(svm[1].weight))
            st.caption(
                f"The SVM with 2λ‖w‖ = ε minimises H + ε‖w‖. Cosine with the adversarial w: {angle:.4f}. "
                + (
                    "Every margin here is at most 1, so both objectives agree at this w."
                    if same
                    else "Some margins exceed 1, so Rε is below H + ε‖w‖ and the two may differ."
                )
            )


def against(page: str, table: pd.DataFrame, eps: float, loss: str) -> None:
    """Draw loss and accuracy against ε."""
    if not len(table):
        return
    left, right = st.columns(2)
    letter = "H" if loss == "hinge" else "L"
    names = {
        "R_eps": "Rε, minimised",
        "loss": f"{letter}, clean, of that model",
        "regularised": "H + ε‖w‖, minimised",
        "R_eps, trained at 0": "Rε, trained at ε = 0",
    }
    with left:
        st.markdown("**Loss against ε**")
        elements.chart(
            traces(
                {name: table[key].tolist() for key, name in names.items() if key in table},
                x=table["eps"].tolist(),
                x_title="ε",
                y_title=f"mean {loss} loss",
                marked=eps,
            ).update_yaxes(range=[0, max(0.1, 1.6 * float(table["R_eps"].max()))]),
            key=f"{page}_loss_curve",
            alt="Robust loss, clean loss and the regularised bound against ε",
        )
    with right:
        st.markdown("**Robust accuracy against ε**")
        names = {"robust accuracy": "trained at this ε", "robust accuracy, trained at 0": "trained at ε = 0"}
        figure = traces(
            {name: table[key].tolist() for key, name in names.items() if key in table},
            x=table["eps"].tolist(),
            x_title="ε",
            y_title="share with m > ε‖w‖",
            marked=eps,
        ).update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
        elements.chart(
            figure,
            key=f"{page}_accuracy_curve",
            alt="Exact robust accuracy against ε, for both trainings",
        )
    if loss == "hinge":
        st.caption("At every w, H ≤ Rε ≤ H + ε‖w‖; the upper two are equal where every margin is at most 1.")


def equivalence(page: str, n: int, apart: float, seed: int) -> None:
    """Draw ε against λ, and show that the SVM and adversarial training reach the same minimum."""
    st.markdown("**The soft-margin SVM is the same model under another name** (ℓ2, hinge)")
    table = points.path(n, apart, seed)
    left, right = st.columns(2)
    with left:
        st.latex(r"\min_w H + \lambda\lVert w\rVert^2 \;\Leftrightarrow\; \min_w H + \varepsilon\lVert w\rVert,")
        st.latex(r"\varepsilon = 2\lambda\lVert w^*\rVert")
        worst = float((table["SVM"] - table["minimum"]).abs().max())
        st.caption(
            f"At each of {len(table)} λ, scikit-learn's SVM is held against the minimum of H + ε‖w‖ that linear "
            f"programmes find on their own: the two values differ by at most {worst:.1e}."
        )
    with right:
        figure = traces(
            {"ε = 2λ‖w*‖": table["eps"].tolist(), "‖w*‖": table["norm of w"].tolist()},
            x=table["lambda"].tolist(),
            x_title="λ",
            y_title="",
            height=280,
        )
        elements.chart(
            figure.update_xaxes(type="log"),
            key=f"{page}_path",
            alt="ε and the norm of w against λ: as λ grows, ε grows and w shrinks",
        )
