"""Linear models, targeted: the smallest change after which one chosen class has the largest logit, exactly.

All other classes must be beaten at once, so the nearest boundary of a pair is only a lower bound. With A the rows
w_t - w_k and g_k = f_k - f_t the change is the shortest one with Aδ ≥ g in the box:

linf, l1    a linear programme (HiGHS)
l2          a quadratic programme by its dual, at most K - 1 multipliers μ ≥ 0: δ_j = (Aᵀμ)_j cut to the room of feature
            j; L-BFGS-B, then Newton's steps on the features and classes that are left free
l0, boxed   an integer programme (HiGHS): which features may leave the image at all; without the box a feature has no
            limit that could be switched on and off, so that case is refused

Every solution is checked against its dual: feasible, and no longer than the bound plus `TOLERANCE`.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp, minimize
from torch import Tensor

from core.checks import check_choice
from core.linear.exact import AffineModel, Exact, check_fits
from core.linear.sides import beside_model
from core.specs.methods.base import NORMS

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
SECONDS = 60.0
"""The longest that an integer programme may take."""
TOLERANCE = 1e-6
"""Relative: of the length over its lower bound, and of the logits that must be beaten."""


@beside_model
def smallest_to(
    linear: AffineModel, x: Float[Tensor, "n c h w"], y_target: Int[Tensor, " n"], *, norm: str, box: bool = True
) -> Exact:
    """The smallest perturbation after which no logit exceeds the target's.

    Args:
        linear: the model; see `exact.affine_model`.
        x: (N, C, H, W) in [0, 1].
        y_target: (N,).
        norm: "linf", "l2", "l1" or "l0" (features).
        box: whether the perturbed image must stay in [0, 1]; in l0 it must.

    Returns:
        As `exact.smallest` does: distance 0 where the image is classified as the target already, inf (and rival -1)
        where no image of the box is, otherwise rival is the target.

    Raises:
        ValueError: an unknown norm, l0 without the box, images or targets that do not fit the model.
        RuntimeError: a solver did not come within `TOLERANCE` of its bound, or not within `SECONDS`.
    """
    classes, features = linear.weight.shape
    check_choice("norm", norm, NORMS)
    if norm == "l0" and not box:
        raise ValueError("box: expected True in l0, got False: without it no feature has a limit")
    check_fits(linear, x, y_target, "y_target")
    flat, weight = x.flatten(1).to(linear.weight).numpy(), linear.weight.numpy()
    logits = linear.logits(x).numpy()
    distance, rival, moved = np.zeros(len(x)), y_target.clone(), np.zeros_like(flat)
    for row, target in enumerate(y_target.tolist()):
        others = np.arange(classes) != target
        slopes = weight[target] - weight[others]
        need = logits[row, others] - logits[row, target]
        if (need <= 0).all():
            continue
        low, high = (-flat[row], 1 - flat[row]) if box else (np.full(features, -np.inf), np.full(features, np.inf))
        solve = {"l2": _quadratic, "l0": _integer}.get(norm, _linear)
        found = solve(slopes, need, low, high, norm)
        if found is None:
            distance[row], rival[row] = np.inf, -1
        else:
            moved[row] = found
            distance[row] = np.linalg.norm(found, ORDERS[norm])
    linear.agrees(torch.from_numpy(flat + moved).view_as(x))
    return Exact(torch.from_numpy(distance), torch.from_numpy(moved).view_as(x).to(x.dtype), rival)


def _linear(slopes: np.ndarray, need: np.ndarray, low: np.ndarray, high: np.ndarray, norm: str) -> np.ndarray | None:
    """δ = p - q with p, q ≥ 0; linf: p + q ≤ s, and s is what is paid."""
    features = slopes.shape[1]
    rows, right = sparse.csr_array(np.hstack([-slopes, slopes])), -need
    cost, bounds = np.ones(2 * features), [(0.0, top) for top in (*high, *-low)]
    if norm == "linf":
        eye = sparse.eye_array(features)
        caps = sparse.hstack([eye, eye, -np.ones((features, 1))])
        rows = sparse.vstack([sparse.hstack([rows, sparse.csr_array((len(need), 1))]), caps])
        right = np.r_[right, np.zeros(features)]
        cost, bounds = np.r_[np.zeros(2 * features), 1.0], [*bounds, (0.0, np.inf)]
    answer = linprog(cost, A_ub=rows.tocsr(), b_ub=right, bounds=bounds, method="highs")
    if answer.status == 2:
        return None
    if answer.status != 0:
        raise RuntimeError(f"the linear programme was not solved: {answer.message}")
    delta = answer.x[:features] - answer.x[features : 2 * features]
    _verify(slopes, need, delta, float(answer.fun), float(np.linalg.norm(delta, np.inf if norm == "linf" else 1)))
    return delta


def _quadratic(slopes: np.ndarray, need: np.ndarray, low: np.ndarray, high: np.ndarray, norm: str) -> np.ndarray | None:
    if _linear(slopes, need, low, high, "l1") is None:  # the dual would climb for ever
        return None
    scale = float(np.abs(slopes).max())
    slopes, need = slopes / scale, need / scale

    def at(mu: np.ndarray) -> np.ndarray:
        return np.clip(mu @ slopes, low, high)

    def dual(mu: np.ndarray) -> float:
        delta = at(mu)
        return float(delta @ delta / 2 - mu @ (slopes @ delta - need))

    def climb(mu: np.ndarray) -> tuple[float, np.ndarray]:
        return -dual(mu), slopes @ at(mu) - need

    options = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-16, "gtol": 1e-12}
    mu = minimize(
        climb, np.zeros(len(need)), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(need), options=options
    ).x
    for _ in range(30):
        delta = at(mu)
        free = (delta > low) & (delta < high)
        held = (mu > 0) | (slopes @ delta < need)
        inner = slopes[held][:, free]
        rest = need[held] - slopes[held][:, ~free] @ delta[~free]
        trial = np.zeros_like(mu)
        trial[held] = np.linalg.lstsq(inner @ inner.T, rest, rcond=None)[0].clip(min=0)
        if not dual(trial) > dual(mu):
            break
        mu = trial
    delta = at(mu)
    _verify(slopes, need, delta, float(np.sqrt(max(0.0, 2 * dual(mu)))), float(np.linalg.norm(delta)))
    return delta


def _integer(slopes: np.ndarray, need: np.ndarray, low: np.ndarray, high: np.ndarray, norm: str) -> np.ndarray | None:
    """δ_j between z_j low_j and z_j high_j with z_j in {0, 1}: their sum is paid; then the δ with the most room."""
    features = slopes.shape[1]
    eye, none = sparse.eye_array(features), np.zeros(features)
    rules = [
        LinearConstraint(sparse.hstack([sparse.csr_array(slopes), sparse.csr_array(slopes.shape)]), need, np.inf),
        LinearConstraint(sparse.hstack([eye, -sparse.diags_array(high)]), -np.inf, none),
        LinearConstraint(sparse.hstack([eye, -sparse.diags_array(low)]), none, np.inf),
    ]
    answer = milp(
        np.r_[none, np.ones(features)],
        integrality=np.r_[none, np.ones(features)],
        bounds=Bounds(np.r_[low, none], np.r_[high, np.ones(features)]),
        constraints=rules,
        options={"time_limit": SECONDS},
    )
    if answer.status == 2:
        return None
    if answer.status != 0:
        raise RuntimeError(f"the integer programme was not solved: {answer.message}")
    chosen = answer.x[features:] > 0.5
    bounds = [*zip(low[chosen], high[chosen], strict=True), (None, None)]
    rows = np.hstack([-slopes[:, chosen], np.ones((len(need), 1))])
    room = linprog(np.r_[np.zeros(chosen.sum()), -1.0], A_ub=rows, b_ub=-need, bounds=bounds, method="highs")
    delta = np.zeros(features)
    delta[chosen] = room.x[:-1]
    _verify(slopes, need, delta, float(np.ceil(answer.mip_dual_bound - TOLERANCE)), float(np.linalg.norm(delta, 0)))
    return delta


def _verify(slopes: np.ndarray, need: np.ndarray, delta: np.ndarray, bound: float, length: float) -> None:
    """Raise RuntimeError unless the solution is feasible and optimal, by its own numbers."""
    short = float((need - slopes @ delta).max()) / (1 + float(np.abs(need).max()))
    if not (short <= TOLERANCE and length - bound <= TOLERANCE * (1 + bound)):
        raise RuntimeError(
            f"the programme ended {short:.2g} short of the target and {length - bound:.2g} above its bound"
        )
