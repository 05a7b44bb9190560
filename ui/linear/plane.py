"""Adversarial training in the plane: ball and maximiser, boundary and loss against ε, the SVM over it, λ and ε."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from core.figures import linear
from core.figures.base import CLEAN, colour, traces
from ui.form import bound
from ui.form.select import select
from ui.linear import limits, points
from ui.show import downloads, elements
from ui.text import say

NORMS = ("l2", "linf")
LOSSES = ("hinge", "logistic")


def choose(page: str) -> tuple[int, float, int, str, str, float, int]:
    """Draw the settings; returns points, distance, seed, norm, loss, ε and the position of the marked point."""
    eps = bound.slider(
        "ε",
        min_value=0.0,
        max_value=1.5,
        value=0.3,
        step=0.05,
        help="Radius of the ball around every point, in units of the plane. The plane has no valid range: a point may "
        "go anywhere in its ball.",
        key=f"{page}_plane_eps",
    )
    with st.container(horizontal=True):
        norm = select(page, "norm", "Norm", NORMS, text=say)
        loss = select(page, "loss", "Loss", LOSSES)
    with st.expander("More settings", icon=":material/tune:"):
        n = bound.slider("Points", min_value=10, max_value=100, value=40, step=2, key=f"{page}_n")
        apart = bound.slider(
            "Distance of the classes",
            min_value=0.0,
            max_value=3.0,
            value=0.8,
            step=0.1,
            help="Half the distance between their means. Each class has standard deviation ½.",
            key=f"{page}_apart",
        )
        first, second = st.columns(2)
        with first:
            if isinstance(st.session_state.get(f"{page}_point"), int):
                st.session_state[f"{page}_point"] = min(st.session_state[f"{page}_point"], n)
            chosen = bound.number_input(
                "Point",
                whole=True,
                min_value=1,
                max_value=n,
                value=1,
                help="The point whose ball is drawn.",
                key=f"{page}_point",
            )
        with second:
            seed = bound.number_input("Seed", whole=True, min_value=0, max_value=9999, value=0, key=f"{page}_seed")
    return int(n), float(apart), int(seed), norm, loss, float(eps), int(chosen) - 1


def corners(centre: np.ndarray, eps: float, norm: str) -> np.ndarray:
    """The outline of the ball, an array (k, 2)."""
    if norm == "linf":
        return centre + eps * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    angles = np.linspace(0, 2 * np.pi, 73)
    return centre + eps * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def show(page: str) -> None:
    """Draw the tab."""
    left, right = st.columns([3, 2])
    with right:
        n, apart, seed, norm, loss, eps, row = choose(page)
    found = points.solved(n, apart, seed, norm, loss, eps)
    line = f"two classes in the plane · {n} points, distance {apart:g}, seed {seed} · {say(norm)}"
    if isinstance(found, str):
        with left:
            st.info(
                f"The {loss} loss has no minimum at this ε: the classes are farther apart than 2ε, and the loss keeps "
                "falling as w grows. Choose a larger ε, classes that overlap, or the hinge loss, which reaches 0.",
                icon=":material/info:",
            )
    else:
        shown = Shown(*points.points(n, apart, seed), norm, loss, eps, row, found)
        svm = points.machine(n, apart, seed, eps) if norm == "l2" and loss == "hinge" else None
        plain = points.solved(n, apart, seed, norm, loss, 0.0) if eps > 0 else "the same"
        with left:
            picture(page, shown, svm, plain)
        with right:
            figures(shown)
        maximum(shown, svm)
    table = points.curves(n, apart, seed, norm, loss)
    against(page, table, eps, loss)
    st.caption(f"{line} · {loss} · ε {eps:g} · this page's address reproduces it")
    downloads.table(page, table, name="adversarial_training_plane", provenance=f"{line} · {loss}")
    with st.expander("The soft-margin SVM is the same model under another name (ℓ2, hinge)", icon=":material/equal:"):
        equivalence(page, n, apart, seed)
    with st.expander(
        "Two limits: the hard margin, and one budget for all points", icon=":material/vertical_align_top:"
    ):
        limits.show(n, apart, seed, eps)


class Shown(NamedTuple):
    """Points (n, 2) with classes −1 and 1, the model trained on them, and the row of the point whose ball is drawn."""

    x: np.ndarray
    y: np.ndarray
    norm: str
    loss: str
    eps: float
    row: int
    found: Any

    @property
    def moves(self) -> tuple[np.ndarray, np.ndarray]:
        """The worst change of the point in its ball, and FGSM's step."""
        from core.linear import training

        label = int(self.y[self.row])
        worst, step = (
            training.worst(self.found.weight, label, eps=self.eps, norm=norm) for norm in (self.norm, "linf")
        )
        return worst, step


def picture(page: str, shown: Shown, svm: Any, plain: Any) -> None:
    """Draw the points, a ball and its worst point, and the boundaries: adversarial, the SVM's, trained at ε = 0."""
    from core.linear import training

    weight, eps, place = shown.found.weight, shown.eps, shown.x[shown.row]
    lines = {f"adversarial, ε = {eps:g}": (weight, shown.found.bias)}
    if svm is not None:
        lines[f"SVM, λ = {svm[0]:.3g}"] = (svm[1].weight, svm[1].bias)
    if not isinstance(plain, str):
        lines[linear.PLAIN] = (plain.weight, plain.bias)
    size, length = training.dual_norm(weight, shown.norm), float(np.linalg.norm(weight))
    delta, step = shown.moves
    moves = {"maximiser": place + delta}
    if shown.norm != "linf":
        moves["FGSM's step"] = place + step
    elements.chart(
        linear.plane(
            shown.x,
            shown.y,
            lines,
            tube=eps * size / length if length else 0.0,
            ball=(shown.row, corners(place, eps, shown.norm)) if eps > 0 else None,
            moves=moves,
        ),
        key=f"{page}_plane",
        alt=f"Points of two classes, the boundary trained at ε = {eps:g}, and the ball around point {shown.row + 1}",
    )


def figures(shown: Shown) -> None:
    """Draw what the training reached, in numbers."""
    from core.linear import training

    x, y, norm, eps = shown.x, shown.y, shown.norm, shown.eps
    model = (shown.found.weight, shown.found.bias, x, y)
    with st.grid(2, min_column_width=120):
        accuracy = training.robust_accuracy(*model, eps=eps, norm=norm)
        st.metric("Robust accuracy", f"{accuracy:.1%}", help=f"Share of the {len(y)} points with m > ε‖w‖; exact.")
        clean = training.robust_accuracy(*model, eps=0, norm=norm)
        st.metric("Clean accuracy", f"{clean:.1%}", help=f"Of the {len(y)} points that the model was trained on.")
        st.metric("Rε", f"{shown.found.objective:.4f}", help="The mean worst loss inside the balls, minimised over w.")
        gamma = training.largest_margin(x, y, norm=norm)
        text = f"{gamma:.4f}" if gamma else "none"
        st.metric("γ", text, help="The largest ε at which a line separates all the balls of these points.")


def maximum(shown: Shown, svm: Any) -> None:
    """Draw the inner maximum in closed form, its numbers for the point, and how the SVM compares."""
    from core.linear import training

    weight, bias, eps, norm = shown.found.weight, shown.found.bias, shown.eps, shown.norm
    size, length = training.dual_norm(weight, norm), float(np.linalg.norm(weight))
    delta, step = shown.moves
    left, right = st.columns([2, 3])
    with left:
        st.markdown("**The inner maximum, in closed form**")
        unit, dual = (r"w/\lVert w\rVert_2", 2) if norm == "l2" else (r"\mathrm{sign}(w)", 1)
        st.latex(rf"\delta^* = -y\,\varepsilon\,{unit},\quad m \to m-\varepsilon\lVert w\rVert_{dual}")
    with right:
        m = float(training.margins(weight, bias, shown.x, shown.y)[shown.row])
        cosine = float(delta @ step / np.linalg.norm(delta) / np.linalg.norm(step)) if eps * length > 0 else np.nan
        text = (
            f"Point {shown.row + 1}, class {'+1' if shown.y[shown.row] > 0 else '−1'}: w = ({weight[0]:.3f}, "
            f"{weight[1]:.3f}), b = {bias:.3f}, margin m = {m:.3f}. At the worst point of its ball the margin is "
            f"m − ε‖w‖ = **{m - eps * size:.3f}**: "
            + ("still correctly classified." if m > eps * size else "misclassified.")
        )
        if np.isfinite(cosine):
            text += f" Cosine of the maximiser with FGSM's step: **{cosine:.4f}**. " + (
                "In ℓ∞ FGSM *is* the maximiser, for any loss that falls with the margin."
                if norm == "linf"
                else f"FGSM's step has length {np.linalg.norm(step):.3f} in ℓ2, so it ends outside this ball."
            )
        st.markdown(text)
        if length == 0:
            st.caption("w = 0: at this ε every direction costs more than it gains, so there is no boundary.")
        elif norm == "l2" and shown.loss == "hinge" and shown.found.objective < points.NOTHING:
            st.caption(
                "Many w have Rε = 0 here. Drawn is the shortest of them, the one of the hard margin (see below)."
            )
        elif svm is not None:
            same = bool((training.margins(weight, bias, shown.x, shown.y) <= 1 + 1e-6).all())
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
    hues = {"R_eps": colour(3), "loss": colour(7), "regularised": colour(4), "R_eps, trained at 0": CLEAN}
    with left:
        st.markdown("**Loss against ε**")
        figure = traces(
            {name: table[key].tolist() for key, name in names.items() if key in table},
            x=table["eps"].tolist(),
            x_title="ε",
            y_title=f"mean {loss} loss",
            marked=eps,
        ).update_yaxes(range=[0, max(0.1, 1.6 * float(table["R_eps"].max()))])
        elements.chart(
            linear.told_apart(figure, [hues[key] for key in names if key in table]),
            key=f"{page}_loss_curve",
            alt="Robust loss, clean loss and the regularised bound against ε",
        )
    with right:
        st.markdown("**Robust accuracy against ε**")
        names = {"robust accuracy": "trained at this ε", "robust accuracy, trained at 0": linear.PLAIN}
        figure = traces(
            {name: table[key].tolist() for key, name in names.items() if key in table},
            x=table["eps"].tolist(),
            x_title="ε",
            y_title="share with m > ε‖w‖",
            marked=eps,
        ).update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
        elements.chart(
            linear.told_apart(figure, (colour(3), CLEAN)),
            key=f"{page}_accuracy_curve",
            alt="Exact robust accuracy against ε, for both trainings",
        )
    if loss == "hinge":
        st.caption("At every w, H ≤ Rε ≤ H + ε‖w‖; the upper two are equal where every margin is at most 1.")


def equivalence(page: str, n: int, apart: float, seed: int) -> None:
    """Draw ε against λ, and show that the SVM and adversarial training reach the same minimum."""
    table = points.path(n, apart, seed)
    left, right = st.columns(2)
    with left:
        st.latex(r"\min_w H + \lambda\lVert w\rVert^2 \;\Leftrightarrow\; \min_w H + \varepsilon\lVert w\rVert,")
        st.latex(r"\varepsilon = 2\lambda\lVert w^*\rVert")
        worst = float((table["SVM"] - table["minimum"]).abs().max())
        st.caption(
            f"At each of {len(table)} values of λ, the objective of scikit-learn's SVM is compared with the minimum of "
            f"H + ε‖w‖, which linear programmes find independently. The two values differ by at most {worst:.1e}."
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
