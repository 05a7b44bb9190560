"""Adversarial training of linear models: against general solvers, scikit-learn's SVM, and the theorems themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from core.linear import training


def cloud(seed: int = 0, n: int = 40, d: int = 2, apart: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping Gaussian classes, unequal in size."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) < 0.4 * n, 1, -1)
    return rng.normal(size=(n, d)) + apart * y[:, None], y


def far(seed: int = 0, n: int = 30, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Points that a plane through the origin separates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    normal = np.ones(d) / np.sqrt(d)
    side = np.where(x @ normal > 0, 1, -1)
    y = np.where(np.arange(n) % 2, 1, -1)  # both classes, whatever n
    return (x + 0.5 * side[:, None] * normal) * (side * y)[:, None], y


def searched(x: np.ndarray, y: np.ndarray, start: np.ndarray, **kind: object) -> float:
    """The least risk that a search without gradients finds from several starts near the answer and far from it."""

    def value(point: np.ndarray) -> float:
        return training.risk(point[:-1], point[-1], x, y, **kind)  # type: ignore[arg-type]

    rng = np.random.default_rng(1)
    starts = [start, *(start + scale * rng.normal(size=len(start)) for scale in (0.1, 1.0))]
    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000}
    return min(minimize(value, one, method="Nelder-Mead", options=options).fun for one in starts)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hinge_is_the_minimum_within_its_gap(norm: str, inside: bool) -> None:
    """No search does better than the lower bound that the programme proves, and the gap is small."""
    for seed, eps in ((0, 0.0), (0, 0.1), (1, 0.3), (2, 0.6)):
        x, y = cloud(seed)
        found = training.fit(x, y, eps=eps, norm=norm, inside=inside)
        assert -1e-9 <= found.gap <= 2 * training.TOLERANCE
        kind = {"eps": eps, "norm": norm, "inside": inside}
        assert found.objective == training.risk(found.weight, found.bias, x, y, **kind)  # type: ignore[arg-type]
        assert searched(x, y, np.r_[found.weight, found.bias], **kind) >= found.objective - found.gap - 1e-9


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_logistic_is_the_minimum_and_ends_at_zero_for_large_eps(norm: str) -> None:
    """A search finds nothing better; where the ball swallows the classes, w is exactly 0 and b the log odds."""
    x, y = cloud(3)
    for eps in (0.0, 0.05, 0.3):
        found = training.fit(x, y, eps=eps, norm=norm, loss="logistic")
        start = np.r_[found.weight, found.bias]
        assert searched(x, y, start, eps=eps, norm=norm, loss="logistic") >= found.objective - 1e-7
    none = training.fit(x, y, eps=5.0, norm=norm, loss="logistic")
    assert not none.weight.any()
    assert none.bias == pytest.approx(np.log(0.4 / 0.6))
    near = np.random.default_rng(0).normal(size=(200, 3)) * 1e-3 + np.r_[none.weight, none.bias]
    assert all(training.risk(p[:2], p[2], x, y, eps=5.0, norm=norm, loss="logistic") >= none.objective for p in near)


def test_logistic_without_a_minimum_is_refused() -> None:
    """Separable by more than eps: the loss falls for ever; by less: there is a minimum."""
    x, y = far()
    gamma = training.largest_margin(x, y)
    with pytest.raises(ValueError, match="the logistic loss has no minimum"):
        training.fit(x, y, eps=0.9 * gamma, loss="logistic")
    assert np.isfinite(training.fit(x, y, eps=1.1 * gamma, loss="logistic").objective)


def test_worst_change_costs_eps_times_the_dual_norm_and_fgsm_is_it() -> None:
    """No other change of that length costs more; in linf it is the sign of the loss's gradient times eps."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=5)
    for norm in ("l2", "linf"):
        for label in (-1, 1):
            delta = training.worst(weight, label, eps=0.3, norm=norm)
            assert np.linalg.norm(delta, 2 if norm == "l2" else np.inf) == pytest.approx(0.3)
            assert -label * weight @ delta == pytest.approx(0.3 * training.dual_norm(weight, norm))
            others = rng.normal(size=(500, 5))
            order = 2 if norm == "l2" else np.inf
            others *= 0.3 / np.linalg.norm(others, order, axis=1, keepdims=True)
            assert (-label * others @ weight <= 0.3 * training.dual_norm(weight, norm) + 1e-12).all()
    gradient = -1 * weight  # of any falling loss of the margin, for y = 1, up to a positive factor
    step, fgsm = training.worst(weight, 1, eps=0.3, norm="linf"), 0.3 * np.sign(gradient)
    assert step @ fgsm / np.linalg.norm(step) / np.linalg.norm(fgsm) == pytest.approx(1)
    assert not training.worst(np.zeros(5), 1, eps=0.3, norm="l2").any()


def test_adversarial_risk_lies_between_hinge_and_regularised_hinge() -> None:
    """H ≤ R ≤ H + ε‖w‖, and the upper one is an equality iff every margin is at most 1, or ε‖w‖ = 0."""
    rng = np.random.default_rng(0)
    equal = 0
    for trial in range(300):
        x, y = cloud(trial, n=12)
        weight, bias = rng.normal(size=2) * rng.choice([0, 0.05, 0.3, 2]), rng.normal() * 0.2
        eps = rng.choice([0, 0.1, 1])
        for norm in ("l2", "linf"):
            plain = training.risk(weight, bias, x, y, eps=0, norm=norm)
            inner = training.risk(weight, bias, x, y, eps=eps, norm=norm)
            outer = training.risk(weight, bias, x, y, eps=eps, norm=norm, inside=False)
            assert plain - 1e-12 <= inner <= outer + 1e-12
            same = (
                bool((training.margins(weight, bias, x, y) <= 1).all()) or eps * training.dual_norm(weight, norm) == 0
            )
            assert (abs(inner - outer) < 1e-12) == same
            equal += same
    assert 50 < equal < 550


def test_svm_minimises_the_regularised_hinge_at_its_eps() -> None:
    """ε = 2λ‖w*‖: scikit-learn's solution reaches the minimum of H + ε‖w‖ that the cuts bound from below."""
    x, y = cloud(4)
    sizes = []
    for decay in (0.003, 0.03, 0.2):
        machine = training.svm(x, y, decay=decay)
        eps = training.eps_of(machine.weight, decay)
        sizes.append(eps)
        ours = training.fit(x, y, eps=eps, inside=False)
        value = training.risk(machine.weight, machine.bias, x, y, eps=eps, inside=False)
        assert ours.objective - ours.gap - 1e-9 <= value <= ours.objective + 1e-5
        # and at another eps it does not
        other = training.fit(x, y, eps=2 * eps, inside=False)
        assert training.risk(machine.weight, machine.bias, x, y, eps=2 * eps, inside=False) > other.objective + 1e-4
    assert sizes == sorted(sizes)


def test_decay_of_an_eps_is_found_again() -> None:
    """λ(ε) inverts ε(λ); an ε that no SVM has is None."""
    x, y = cloud(4)
    found = training.decay_of(x, y, eps=0.1)
    assert found is not None
    assert training.eps_of(found[1].weight, found[0]) == pytest.approx(0.1, rel=1e-3)
    assert training.decay_of(x, y, eps=50.0) is None


def test_zero_robust_loss_has_the_hard_margins_direction_and_norm() -> None:
    """1/(γ - ε), as a general solver finds; and there is none from γ on."""
    x, y = far()
    plain = training.hard_margin(x, y)
    gamma = 1 / np.linalg.norm(plain.weight)
    assert gamma == pytest.approx(training.largest_margin(x, y, intercept=False))
    assert training.margins(plain.weight, 0, x, y).min() == pytest.approx(1)
    for share in (0.3, 0.8):
        eps = share * gamma
        found = training.hard_margin(x, y, eps=eps)
        norm = np.linalg.norm(found.weight)
        assert norm == pytest.approx(1 / (gamma - eps))
        assert found.weight @ plain.weight == pytest.approx(norm * np.linalg.norm(plain.weight))
        assert training.risk(found.weight, 0, x, y, eps=eps) == pytest.approx(0, abs=1e-9)
        free = minimize(
            lambda w: w @ w,
            3 * found.weight + 0.1,
            constraints={
                "type": "ineq",
                "fun": lambda w, eps=eps: training.margins(w, 0, x, y) - eps * np.linalg.norm(w) - 1,
            },
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-12},
        )
        assert np.sqrt(free.fun) == pytest.approx(norm, rel=1e-4)
        assert training.fit(x, y, eps=eps, intercept=False).objective == pytest.approx(0, abs=1e-6)
    for eps in (gamma, 2 * gamma):
        with pytest.raises(ValueError, match="expected less than the largest margin"):
            training.hard_margin(x, y, eps=eps)
    assert training.fit(x, y, eps=1.2 * gamma, intercept=False).objective > 1e-3


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_largest_margin_is_where_separation_ends(norm: str) -> None:
    """Just below γ the robust hinge loss is 0, just above it is not; points that overlap have γ = 0."""
    x, y = far(1)
    x = x + 0.3  # so that the intercept matters
    gamma = training.largest_margin(x, y, norm=norm)
    assert gamma >= training.largest_margin(x, y, norm=norm, intercept=False)
    assert training.fit(x, y, eps=0.95 * gamma, norm=norm).objective < 1e-6
    assert training.fit(x, y, eps=1.05 * gamma, norm=norm).objective > 1e-4
    overlapping = cloud(0)
    assert training.largest_margin(*overlapping, norm=norm) == 0
    assert not training.robustly_separable(*overlapping, eps=0.0, norm=norm)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_shared_eps_is_the_worst_of_all_ways_to_share(norm: str) -> None:
    """Against random shares and those on one point; Σ hinge + c‖w‖ exactly where some margin is at most 1."""
    rng = np.random.default_rng(0)
    seen = set()
    for trial in range(60):
        x, y = far(trial, n=6)
        weight = rng.normal(size=3) if trial % 2 else 4 * training.hard_margin(x, y).weight
        c = rng.uniform(0.1, 3)
        value = training.shared_eps(weight, 0.0, x, y, eps=c, norm=norm)
        m, size = training.margins(weight, 0.0, x, y), training.dual_norm(weight, norm)
        shares = np.vstack([c * np.eye(6), c * rng.dirichlet(np.ones(6), size=400)])
        tried = np.maximum(0, 1 - m + size * shares).sum(1)
        assert tried.max() == pytest.approx(value)
        formula = np.maximum(0, 1 - m).sum() + c * size
        assert (abs(value - formula) < 1e-9) == bool((m <= 1).any())
        seen.add(bool((m <= 1).any()))
    assert seen == {True, False}


def test_robust_accuracy_counts_those_beyond_reach() -> None:
    """The share whose worst change, made, is still read right."""
    x, y = cloud(5)
    found = training.fit(x, y, eps=0.2, norm="linf")
    for eps in (0.0, 0.2, 0.7):
        moved = np.stack(
            [
                point + training.worst(found.weight, label, eps=eps, norm="linf")
                for point, label in zip(x, y, strict=True)
            ]
        )
        right = (training.margins(found.weight, found.bias, moved, y) > 0).mean()
        assert training.robust_accuracy(found.weight, found.bias, x, y, eps=eps, norm="linf") == right


def test_bad_input_is_named() -> None:
    """Labels, norms, losses, sizes."""
    x, y = cloud()
    with pytest.raises(ValueError, match="y: expected 40 labels"):
        training.fit(x, (y + 1) // 2, eps=0.1)
    with pytest.raises(ValueError, match="norm: expected one of l2, linf, got 'l1'"):
        training.fit(x, y, eps=0.1, norm="l1")
    with pytest.raises(ValueError, match="loss: expected one of hinge, logistic"):
        training.fit(x, y, eps=0.1, loss="squared")
    with pytest.raises(ValueError, match="eps: expected a finite number"):
        training.fit(x, y, eps=-1)
    with pytest.raises(ValueError, match="decay: expected a finite number above 0"):
        training.svm(x, y, decay=0)
