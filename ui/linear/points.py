"""Points in the plane, and models trained on them; cached for all visitors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

LADDER = tuple(round(0.1 * k, 1) for k in range(16))
"""ε of the curves."""
NOTHING = 1e-9
"""A hinge loss that is 0."""
DECAYS = tuple(float(value) for value in np.logspace(-3, 1, 13))


def points(n: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two round classes of standard deviation ½, their means 2·`apart` from each other."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) % 2, 1, -1)
    return 0.5 * rng.normal(size=(n, 2)) + apart * y[:, None] * np.array([0.8, 0.6]), y


@st.cache_data(max_entries=64, show_spinner="Training …")
def solved(n: int, apart: float, seed: int, norm: str, loss: str, eps: float) -> Any:
    """The adversarially trained model, or a text that explains why there is none."""
    from core.linear import training

    x, y = points(n, apart, seed)
    try:
        found = training.fit(x, y, eps=eps, norm=norm, loss=loss)
        if loss == "hinge" and norm == "l2" and found.objective < NOTHING:  # many w have no loss: the shortest of them
            found = training.hard_margin(x, y, eps=eps, intercept=True)
        return found
    except ValueError as error:
        return str(error)


@st.cache_data(max_entries=64, show_spinner="Training a support vector machine …")
def machine(n: int, apart: float, seed: int, eps: float) -> Any:
    """λ and the SVM with 2λ‖w‖ = eps; None if there is none."""
    from core.linear import training

    return training.decay_of(*points(n, apart, seed), eps=eps)


@st.cache_data(max_entries=32, show_spinner="Training at every ε …")
def curves(n: int, apart: float, seed: int, norm: str, loss: str) -> pd.DataFrame:
    """A row for each ε: the minimum of R_ε, that model's clean loss, the minimum of H + ε‖w‖, norms, accuracies."""
    from core.linear import training

    x, y = points(n, apart, seed)
    plain = solved(n, apart, seed, norm, loss, 0.0)
    rows = []
    for eps in LADDER:
        found = solved(n, apart, seed, norm, loss, eps)
        if isinstance(found, str):
            continue
        model = (found.weight, found.bias, x, y)
        row = {"eps": eps, "R_eps": found.objective, "loss": training.risk(*model, eps=0, norm=norm, loss=loss)}
        if loss == "hinge":
            row["regularised"] = training.fit(x, y, eps=eps, norm=norm, inside=False).objective
        row["norm of w"] = training.dual_norm(found.weight, norm)
        row["robust accuracy"] = training.robust_accuracy(*model, eps=eps, norm=norm)
        if not isinstance(plain, str):
            row["R_eps, trained at 0"] = training.risk(plain.weight, plain.bias, x, y, eps=eps, norm=norm, loss=loss)
            row["robust accuracy, trained at 0"] = training.robust_accuracy(
                plain.weight, plain.bias, x, y, eps=eps, norm=norm
            )
        rows.append(row)
    return pd.DataFrame(rows)


@st.cache_data(max_entries=32, show_spinner="Training support vector machines …")
def path(n: int, apart: float, seed: int) -> pd.DataFrame:
    """A row for each λ: the SVM's ε = 2λ‖w‖, its H + ε‖w‖, and the minimum of that, found independently."""
    from core.linear import training

    x, y = points(n, apart, seed)
    rows = []
    for decay in DECAYS:
        found = training.svm(x, y, decay=decay)
        eps = training.eps_of(found.weight, decay)
        value = training.risk(found.weight, found.bias, x, y, eps=eps, inside=False)
        ours = training.fit(x, y, eps=eps, inside=False)
        size = float(np.linalg.norm(found.weight))
        rows.append({"lambda": decay, "eps": eps, "norm of w": size, "SVM": value, "minimum": ours.objective})
    return pd.DataFrame(rows)
