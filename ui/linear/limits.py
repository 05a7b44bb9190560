"""Two limits of adversarial training in the plane: the hard margin, and one budget that all points share."""

from __future__ import annotations

import numpy as np
import streamlit as st

from ui.linear import points


def show(n: int, apart: float, seed: int, eps: float) -> None:
    """Draw the hard margin as the limit for separable points, and one budget shared by all points (ℓ2, hinge)."""
    left, right = st.columns(2)
    with left:
        st.markdown("**Separable points: the hard margin is the limit**")
        st.latex(
            r"\min\lVert w\rVert\ \text{ with }\ R_\varepsilon(w)=0\ :\quad \lVert w\rVert=\frac{1}{\gamma-\varepsilon}"
        )
        st.markdown(hard(n, apart, seed, eps))
    with right:
        st.markdown("**One budget for all points together**")
        st.latex(
            r"\begin{aligned}\max_{\sum_i\lVert\delta_i\rVert\le c}\ &\textstyle\sum_i \max(0,1-m_i(\delta_i))\\"
            r"=\ &\textstyle\sum_i\max(0,1-m_i)+c\lVert w\rVert\end{aligned}"
        )
        st.markdown(shared(n, apart, seed, eps))


def hard(n: int, apart: float, seed: int, eps: float) -> str:
    """The smallest w without robust loss at this ε in numbers, without intercept as in the formula."""
    from core.linear import training

    x, y = points.points(n, apart, seed)
    gamma = training.largest_margin(x, y, intercept=False)
    if gamma == 0:
        return (
            "No line through the origin separates these points, so γ = 0 and no w makes the robust loss 0 at any ε. "
            "Move the classes apart."
        )
    text = f"Here γ = **{gamma:.4f}** (line through the origin, ℓ2): the largest ε at which some w has robust loss 0. "
    if eps >= gamma:
        return text + f"At ε = {eps:g}, beyond γ, there is none: the infimum of Rε is above 0."
    found = training.hard_margin(x, y, eps=eps)
    direction = training.hard_margin(x, y)
    length = float(np.linalg.norm(found.weight))
    cosine = float(found.weight @ direction.weight / length / np.linalg.norm(direction.weight))
    return text + (
        f"At ε = {eps:g} the smallest such w has ‖w‖ = **{length:.4f}** = 1/({gamma:.4f} − {eps:g}) and cosine "
        f"{cosine:.4f} with the hard margin's direction: ε rescales w, it does not turn it; ‖w‖ → ∞ as ε → γ."
    )


def shared(n: int, apart: float, seed: int, eps: float) -> str:
    """The worst sum of hinge losses under a shared budget nε, beside the formula and beside a ball for each point."""
    from core.linear import training

    x, y = points.points(n, apart, seed)
    found = points.solved(n, apart, seed, "l2", "hinge", eps)
    if isinstance(found, str):
        return found
    model = (found.weight, found.bias, x, y)
    budget, size = n * eps, training.dual_norm(found.weight, "l2")
    least = float(training.margins(*model).min())
    worst, formula = (
        training.shared_eps(*model, eps=budget, norm="l2"),
        n * training.risk(*model, eps=0) + budget * size,
    )
    each = n * training.risk(*model, eps=eps)
    agree = "they agree, since" if least <= 1 else "the formula is too large, since"
    bound = "is at most 1" if least <= 1 else "exceeds 1"
    return (
        f"At the w trained with ε = {eps:g} and c = nε = {budget:g}: exactly **{worst:.4f}**, by the formula "
        f"{formula:.4f}; {agree} the least margin, {least:.3f}, {bound}. The sum is convex in how c is "
        f"shared, so one point gets all of it. With ε for each point instead: {each:.4f}, never more. Divided by n, "
        "the formula is H + ε‖w‖, what the SVM minimises."
    )
