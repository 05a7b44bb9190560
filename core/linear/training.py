"""Adversarial training of binary linear models in closed form, and what it has to do with the soft-margin SVM.

The worst loss in the ball is ℓ(m - ε‖w‖_*), m = y(w·x + b), * the dual norm: l2 for l2, l1 for linf. So the inner
maximum is gone and what is left is convex:

    R_ε(w, b) = mean ℓ(m_i - ε‖w‖_*)     adversarial: ε‖w‖ inside the loss
    H(w, b) + ε‖w‖_*                      regularised: outside; for the hinge no less, equal iff m_i ≤ 1

hinge, linf     a linear programme in w = p - q (HiGHS)
hinge, l2       linear programmes whose cuts t ≥ u·w come closer to t ≥ ‖w‖₂: each gives a lower bound, so a gap
logistic, l2    L-BFGS; its only kink is w = 0, whose optimality is tested first
logistic, linf  L-BFGS-B in p, q ≥ 0

Labels are -1 and 1, points (n, d) of any range. numpy and scipy only.

Source: Xu, Caramanis, Mannor 2009 (robustness and regularisation of SVMs); least distance: Lawson, Hanson 1974.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog, minimize, nnls
from scipy.special import expit

from core.checks import check_choice

DUAL = {"l2": 2.0, "linf": 1.0}
"""Order of the dual norm."""
LOSSES = ("hinge", "logistic")
ROUNDS = 400
"""The most cuts of the hinge loss in l2."""
TOLERANCE = 1e-7
"""Gap at which the cuts end, of a loss that is 1 at w = 0."""


@dataclass(frozen=True)
class LinearFit:
    """A linear model w·x + b and what it was trained for.

    Attributes:
        weight: (d,).
        bias: 0 without an intercept.
        objective: its value there.
        gap: how far the true minimum may lie below, at most; nan for the logistic loss, for which there is no bound.
    """

    weight: np.ndarray
    bias: float
    objective: float
    gap: float


def margins(weight: np.ndarray, bias: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """m_i = y_i (w·x_i + b), (n,)."""
    return y * (x @ weight + bias)


def dual_norm(weight: np.ndarray, norm: str) -> float:
    """‖w‖_*: what a change of length 1 moves w·x by, at most."""
    _known(norm, "hinge")
    return float(np.linalg.norm(weight, DUAL[norm]))


def worst(weight: np.ndarray, y: int, *, eps: float, norm: str) -> np.ndarray:
    """The change δ (d,), ‖δ‖ = eps, that costs a point of label y (-1 or 1) the most margin: ε‖w‖_*, 0 for w = 0.

    l2: -yεw/‖w‖₂. linf: -yε sign(w), which is FGSM's step.
    """
    size = dual_norm(weight, norm)
    step = np.sign(weight) if norm == "linf" else weight / size if size else np.zeros_like(weight)
    return -y * eps * step


def risk(
    weight: np.ndarray,
    bias: float,
    x: np.ndarray,
    y: np.ndarray,
    *,
    eps: float,
    norm: str = "l2",
    loss: str = "hinge",
    inside: bool = True,
) -> float:
    """The mean worst loss R_ε, or with `inside=False` the mean loss plus ε‖w‖_*; exact, without a box."""
    _check(x, y, eps)
    _known(norm, loss)
    m, push = margins(weight, bias, x, y), eps * dual_norm(weight, norm)
    m, outside = (m - push, 0.0) if inside else (m, push)
    return float((np.maximum(0, 1 - m) if loss == "hinge" else np.logaddexp(0, -m)).mean()) + outside


def robust_accuracy(
    weight: np.ndarray, bias: float, x: np.ndarray, y: np.ndarray, *, eps: float, norm: str = "l2"
) -> float:
    """The share of points with m_i > ε‖w‖_*: those that no change of this size carries to the boundary."""
    _check(x, y, eps)
    return float((margins(weight, bias, x, y) > eps * dual_norm(weight, norm)).mean())


def fit(
    x: np.ndarray,
    y: np.ndarray,
    *,
    eps: float,
    norm: str = "l2",
    loss: str = "hinge",
    inside: bool = True,
    intercept: bool = True,
) -> LinearFit:
    """Minimise the risk exactly (see `risk`).

    Args:
        x: (n, d).
        y: (n,) of -1 and 1.
        eps: the ball's ε, 0 or more, in the units of x.
        norm: "l2" or "linf", of the ball.
        loss: "hinge" or "logistic".
        inside: adversarial (True), or regularised by ε‖w‖ outside the hinge: what the soft-margin SVM minimises.
        intercept: whether b is free; otherwise 0.

    Raises:
        ValueError: bad input; the logistic loss has no minimum, since the points are separable by more than eps.
        RuntimeError: a solver gave up.
    """
    _check(x, y, eps)
    _known(norm, loss)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if loss == "hinge":
        found, low = _hinge(x, y, eps, norm, inside, intercept)
    else:
        if not inside:
            raise ValueError("inside: expected True for the logistic loss, got False")
        if robustly_separable(x, y, eps=eps, norm=norm, intercept=intercept):
            raise ValueError(
                f"eps: expected a value at which the points are not separable, got {eps:g}: the logistic loss has no "
                "minimum, since it falls as w grows"
            )
        found, low = _logistic(x, y, eps, norm, intercept), np.nan
    weight, bias = found
    value = risk(weight, bias, x, y, eps=eps, norm=norm, loss=loss, inside=inside)
    return LinearFit(weight, bias, value, value - low)


def robustly_separable(x: np.ndarray, y: np.ndarray, *, eps: float, norm: str = "l2", intercept: bool = True) -> bool:
    """Whether some w has every m_i > ε‖w‖_*: whether eps is below the largest margin in this norm."""
    return largest_margin(x, y, norm=norm, intercept=intercept) > eps


def largest_margin(x: np.ndarray, y: np.ndarray, *, norm: str = "l2", intercept: bool = True) -> float:
    """γ: the largest eps at which the points are robustly separable, max over ‖w‖_* = 1 of the least m_i; 0 if none."""
    _check(x, y, 0.0)
    _known(norm, "hinge")
    if norm == "l2":
        found = _least_norm(x, y, intercept)
        return 0.0 if found is None else 1 / float(np.linalg.norm(found[0]))
    n, d = x.shape
    rows = np.hstack([-y[:, None] * x, y[:, None] * x, -y[:, None] * intercept])
    answer = linprog(
        np.r_[np.ones(2 * d), 0], A_ub=rows, b_ub=-np.ones(n), bounds=[(0, None)] * (2 * d) + [(None, None)]
    )
    return 1 / float(answer.fun) if answer.status == 0 and answer.fun > 0 else 0.0


def hard_margin(x: np.ndarray, y: np.ndarray, *, eps: float = 0.0, intercept: bool = False) -> LinearFit:
    """The smallest w, in l2, whose robust hinge loss is 0: the hard margin's direction, of norm 1/(γ - ε).

    Raises:
        ValueError: eps is γ or more, or the points are not separable (γ = 0): there is no such w.
    """
    _check(x, y, eps)
    found = _least_norm(x, y, intercept)
    gamma = 0.0 if found is None else 1 / float(np.linalg.norm(found[0]))
    if found is None or eps >= gamma:
        raise ValueError(f"eps: expected less than the largest margin {gamma:.6g}, got {eps:g}")
    scale = gamma / (gamma - eps)
    return LinearFit(scale * found[0], scale * found[1], 0.0, 0.0)


def svm(x: np.ndarray, y: np.ndarray, *, decay: float) -> LinearFit:
    """The soft-margin SVM by scikit-learn: minimises H(w, b) + λ‖w‖₂², λ = decay > 0, that is C = 1/(2λn).

    It also minimises H + ε‖w‖₂ with ε = 2λ‖w‖ (see `eps_of`), where w is not 0. Its `gap` is nan: scikit-learn's own
    tolerance.
    """
    from sklearn.svm import SVC

    _check(x, y, 0.0)
    if not 0 < decay < np.inf:
        raise ValueError(f"decay: expected a finite number above 0, got {decay}")
    machine = SVC(kernel="linear", C=1 / (2 * decay * len(x)), tol=1e-6).fit(x, y)
    weight, bias = machine.coef_[0], float(machine.intercept_[0])
    value = risk(weight, bias, x, y, eps=0.0) + decay * float(weight @ weight)
    return LinearFit(weight, bias, value, np.nan)


def eps_of(weight: np.ndarray, decay: float) -> float:
    """ε = 2λ‖w*‖: the size whose regularised hinge loss H + ε‖w‖ the SVM's w* minimises as well."""
    return 2 * decay * float(np.linalg.norm(weight))


def decay_of(x: np.ndarray, y: np.ndarray, *, eps: float) -> tuple[float, LinearFit] | None:
    """The λ whose SVM has 2λ‖w‖ = eps, and that SVM, by bisection of log λ; None where eps is out of reach.

    2λ‖w‖ does not fall as λ grows, and ends at the pull of the points at w = 0.
    """
    low, high = 1e-5, 1e3
    first, last = svm(x, y, decay=low), svm(x, y, decay=high)
    if not eps_of(first.weight, low) <= eps < eps_of(last.weight, high):
        return None
    while high / low > 1 + 1e-4:
        middle = float(np.sqrt(low * high))
        found = svm(x, y, decay=middle)
        if eps_of(found.weight, middle) <= eps:
            low, first = middle, found
        else:
            high = middle
    return low, first


def shared_eps(weight: np.ndarray, bias: float, x: np.ndarray, y: np.ndarray, *, eps: float, norm: str) -> float:
    """The largest summed hinge when all changes together may be no longer than ε: Σ‖δ_i‖ ≤ ε.

    The sum is convex in how ε is shared, so that one point gets all of it. It is Σ hinge + ε‖w‖_* iff some margin is at
    most 1.
    """
    _check(x, y, eps)
    m = margins(weight, bias, x, y)
    now = np.maximum(0, 1 - m)
    then = np.maximum(0, 1 - m + eps * dual_norm(weight, norm))
    return float(now.sum() + (then - now).max())


def _check(x: np.ndarray, y: np.ndarray, eps: float) -> None:
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x: expected finite points (n, d), got shape {x.shape}")
    if y.shape != (len(x),) or set(np.unique(y)) != {-1, 1}:
        raise ValueError(f"y: expected {len(x)} labels, some -1 and some 1, got {np.unique(y).tolist()[:5]}")
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps: expected a finite number of 0 or more, got {eps}")


def _known(norm: str, loss: str) -> None:
    check_choice("norm", norm, DUAL)
    check_choice("loss", loss, LOSSES)


def _hinge(
    x: np.ndarray, y: np.ndarray, eps: float, norm: str, inside: bool, intercept: bool
) -> tuple[tuple[np.ndarray, float], float]:
    """Variables p, q (w = p - q), b, t (the dual norm), slacks; the best w and b, and a lower bound of the minimum."""
    n, d = x.shape
    signed = y[:, None] * x
    rows = np.hstack([-signed, signed, -y[:, None] * intercept, np.full((n, 1), eps * inside), -np.eye(n)])
    right = -np.ones(n)
    cost = np.r_[np.zeros(2 * d + 1), 0.0 if inside else eps, np.full(n, 1 / n)]
    bounds = [(0, None)] * (2 * d) + [(None, None)] + [(0, None)] * (n + 1)

    def cut(direction: np.ndarray) -> np.ndarray:
        return np.r_[direction, -direction, 0, -1, np.zeros(n)]

    if norm == "linf":  # t ≥ Σ (p + q)
        cuts = [np.r_[np.ones(2 * d), 0, -1, np.zeros(n)]]
    else:
        cuts = [cut(sign * row) for row in np.eye(d) for sign in (1, -1)]
    best, value = (np.zeros(d), 0.0), np.inf
    for _ in range(1 if norm == "linf" else ROUNDS):
        answer = linprog(
            cost, A_ub=np.vstack([rows, *cuts]), b_ub=np.r_[right, np.zeros(len(cuts))], bounds=bounds, method="highs"
        )
        if answer.status != 0:
            raise RuntimeError(f"the linear programme was not solved: {answer.message}")
        weight, bias = answer.x[:d] - answer.x[d : 2 * d], float(answer.x[2 * d]) * intercept
        here = risk(weight, bias, x, y, eps=eps, norm=norm, inside=inside)
        if here < value:
            best, value = (weight, bias), here
        size = np.linalg.norm(weight)
        if value - answer.fun <= TOLERANCE or size == 0:
            break
        cuts.append(cut(weight / size))
    return best, float(answer.fun)


def _logistic(x: np.ndarray, y: np.ndarray, eps: float, norm: str, intercept: bool) -> tuple[np.ndarray, float]:
    n, d = x.shape
    signed = y[:, None] * x
    # at w = 0: the best b, and the pull of the points against that of the norm
    bias = float(np.log((y > 0).sum() / (y < 0).sum())) if intercept else 0.0
    force = expit(-y * bias)
    pull = signed.T @ force
    if np.linalg.norm(pull, np.inf if norm == "linf" else 2) <= eps * force.sum():
        return np.zeros(d), bias

    def value(point: np.ndarray) -> tuple[float, np.ndarray]:
        if norm == "linf":
            weight, b = point[:d] - point[d : 2 * d], point[2 * d]
            size = point[: 2 * d].sum()
        else:
            weight, b = point[:d], point[d]
            size = np.linalg.norm(weight)
        m = signed @ weight + y * b * intercept - eps * size
        force = expit(-m) / n
        down = signed.T @ force
        by_bias = -(y @ force) * intercept
        grow = eps * force.sum()
        if norm == "linf":
            return float(np.logaddexp(0, -m).mean()), np.r_[grow - down, grow + down, by_bias]
        unit = weight / size if size > 0 else np.zeros(d)
        return float(np.logaddexp(0, -m).mean()), np.r_[grow * unit - down, by_bias]

    options = {"maxiter": 20_000, "maxfun": 200_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    if norm == "linf":
        start = np.r_[np.zeros(2 * d), bias]
        bounds = [(0, None)] * (2 * d) + [(None, None)]
        point = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        return point[:d] - point[d : 2 * d], float(point[2 * d]) * intercept
    # a start that is already below w = 0: descent never comes back to the kink
    length = 1.0
    while length > 1e-12:
        start = np.r_[length * pull / np.linalg.norm(pull), bias]
        if value(start)[0] < value(np.r_[np.zeros(d), bias])[0]:
            break
        length /= 2
    point = minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
    return point[:d], float(point[d]) * intercept


def _least_norm(x: np.ndarray, y: np.ndarray, intercept: bool) -> tuple[np.ndarray, float] | None:
    """The smallest ‖w‖₂ with every m_i ≥ 1, or None: least distance by non-negative least squares."""
    signed = y[:, None] * x
    if intercept:  # some b brings every margin to 1 iff every pair of unlike points is 2 apart
        rows = ((x[y > 0][:, None] - x[y < 0][None]) / 2).reshape(-1, x.shape[1])
    else:
        rows = signed
    left = np.vstack([rows.T, np.ones(len(rows))])
    amounts, length = nnls(left, np.r_[np.zeros(x.shape[1]), 1.0])
    rest = left @ amounts - np.r_[np.zeros(x.shape[1]), 1.0]
    if length < 1e-9:
        return None
    weight = -rest[:-1] / rest[-1]
    reach = x @ weight
    bias = -float(reach[y > 0].min() + reach[y < 0].max()) / 2 if intercept else 0.0
    return weight, bias
