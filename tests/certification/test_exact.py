"""Complete verification: the truth on networks small enough to know it, and never a wrong answer when time is short."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from core.attacks import pgd
from core.certification import branching, cases, exact
from core.certification.ball import Ball
from core.certification.bounds import intervals, margin_rows, noises
from core.certification.crown import crown_bounds, interval_bounds
from core.certification.exact import FOOLED, PROVEN, UNKNOWN, exact_radius, verify
from core.certification.graph import lower
from core.certification.milp import decide, program
from core.certification.proof import graphs_of
from core.certification.region import Region, margins, shrink, tightened
from core.linear.exact import affine_model, smallest

SEEDS = (3, 4)


def small(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Six ReLUs, four pixels, and four images from near a boundary to far from it."""
    torch.manual_seed(seed)
    layers = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    with torch.no_grad():
        for layer in layers:
            layer.weight.normal_()
            layer.bias.copy_(-layer.weight.sum(1) / 2 + 0.3 * torch.randn(len(layer.bias)))
    model = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()
    x = torch.rand(60, 1, 2, 2)
    with torch.no_grad():
        top = model(x).topk(2, dim=1).values
    x = x[(top[:, 0] - top[:, 1]).argsort()[3::15]]
    return model, x, model(x).argmax(1)


def without_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only proofs find images that fool."""
    for module in (exact, branching):
        monkeypatch.setattr(module, "pgd", lambda model, x, y, **more: pgd(model, x, y, eps=0.0, steps=1))


def smallest_margin(model: nn.Module, x: np.ndarray, y: int, eps: float) -> float:
    """The exact minimum over the linf ball: a linear programme for each of the 64 activation patterns."""
    (w1, b1), (w2, b2), (w3, b3) = (
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in model
        if isinstance(layer, nn.Linear)
    )
    box = list(zip(np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1), strict=True))
    best = np.inf
    for pattern in itertools.product((0.0, 1.0), repeat=6):
        on1, on2 = np.array(pattern[:3]), np.array(pattern[3:])
        m1, c1 = w1, b1
        m2, c2 = w2 @ (on1[:, None] * m1), w2 @ (on1 * c1) + b2
        m3, c3 = w3 @ (on2[:, None] * m2), w3 @ (on2 * c2) + b3
        sign1, sign2 = 1 - 2 * on1, 1 - 2 * on2  # sign·z <= 0
        matrix = np.concatenate([sign1[:, None] * m1, sign2[:, None] * m2])
        limit = np.concatenate([-sign1 * c1, -sign2 * c2])
        for other in set(range(3)) - {y}:
            found = linprog(m3[y] - m3[other], A_ub=matrix, b_ub=limit, bounds=box)
            if found.status == 0:
                best = min(best, found.fun + c3[y] - c3[other])
    return float(best)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", SEEDS)
def test_verdicts_are_those_of_every_activation_pattern(seed: int) -> None:
    """Proven where the smallest margin is positive, fooled where it is negative: at a radius where both occur."""
    model, x, y = small(seed)
    eps = 0.12
    truth = np.array([smallest_margin(model, x[i].flatten().double().numpy(), int(y[i]), eps) for i in range(len(x))])
    assert (np.abs(truth) > 1e-3).all()
    answer = verify(model, x, y, eps)
    assert list(answer.verdict) == [PROVEN if margin > 0 else FOOLED for margin in truth]
    assert (truth < 0).any()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("by", ["branch and bound", "milp"])
def test_each_way_alone_finds_the_truth(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither optimised slopes nor an attack before it: branch and bound to its leaves, or one integer programme."""
    without_attacks(monkeypatch)
    monkeypatch.setattr(branching, "sloped_margins", lambda graphs, ball, y, known: -torch.ones(1, 3))
    monkeypatch.setattr(cases, "STEPS", 1)
    if by == "milp":
        monkeypatch.setattr(branching.BranchAndBound, "_branch", lambda self, rows, deadline: None)
    for seed in SEEDS:
        model, x, y = small(seed)
        truth = [smallest_margin(model, x[i].flatten().double().numpy(), int(y[i]), 0.12) > 0 for i in range(2)]
        answer = verify(model, x[:2], y[:2], 0.12)
        assert list(answer.verdict == PROVEN) == truth
        assert not (answer.verdict == UNKNOWN).any()
        assert set(answer.found_by) <= {by, "ibp"} | ({"milp"} if by != "milp" else set())


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_fooling_image_is_real_and_nothing_proven_is_fooled(norm: str) -> None:
    """Inside ball and box and read wrongly; and a strong attack leaves the proven ones alone."""
    for seed in SEEDS:
        model, x, y = small(seed)
        eps = {"linf": 0.15, "l2": 0.25, "l1": 0.4}[norm]
        answer = verify(model, x, y, eps, norm=norm)
        lost = torch.from_numpy(answer.verdict == FOOLED)
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
        assert lost.any()
        assert (model(answer.x_adv).argmax(1) != y)[lost].all()
        size = torch.linalg.vector_norm((answer.x_adv - x).double().flatten(1), order, dim=1)
        assert (size <= eps + 1e-6).all()
        assert ((answer.x_adv >= 0) & (answer.x_adv <= 1)).all()
        attacked = pgd(model, x, y, eps=eps, norm=norm, steps=60, restarts=4).success
        assert not (attacked & torch.from_numpy(answer.verdict == PROVEN)).any()


@pytest.mark.slow
def test_radius_is_where_the_smallest_margin_changes_sign() -> None:
    """Just below it nothing fools, just above something does."""
    model, x, y = small(3)
    safe, fooled = exact_radius(model, x[:2], y[:2], tolerance=2e-3)
    found = fooled.isfinite()
    assert found.any()
    assert ((fooled - safe)[found] <= 2e-3).all()
    assert (safe[~found] == 0.5).all()
    for i in range(2):
        pixels = x[i].flatten().double().numpy()
        assert smallest_margin(model, pixels, int(y[i]), float(safe[i])) > 0
        if found[i]:
            assert smallest_margin(model, pixels, int(y[i]), float(fooled[i]) + 1e-6) <= 1e-5


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_networks_without_relus_are_decided_as_they_are_solved(norm: str) -> None:
    """Linear models: proven just below the exact distance, fooled just above it; nothing is open to be split."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).eval()
    x = torch.rand(8, 1, 6, 6)
    y = model(x).argmax(1)
    distance = smallest(affine_model(model, (1, 6, 6)), x, y, norm=norm).distance
    assert (verify(model, x, y, 0.98 * distance, norm=norm).verdict == PROVEN).all()
    assert (verify(model, x, y, 1.02 * distance, norm=norm).verdict == FOOLED).all()


def test_no_time_ends_in_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that need branching, in a microsecond."""
    without_attacks(monkeypatch)
    monkeypatch.setattr(branching, "sloped_margins", lambda graphs, ball, y, known: -torch.ones(1, 3))
    model, x, y = small(3)
    answer = verify(model, x, y, 0.3, time_limit=1e-6)
    needs = answer.found_by == ""
    assert needs.any()
    assert (answer.verdict[needs] == UNKNOWN).all()
    assert set(answer.found_by[~needs]) <= {"ibp"}
    assert torch.equal(answer.x_adv, x)
    with pytest.raises(ValueError, match="time_limit: expected more than 0"):
        verify(model, x, y, 0.3, time_limit=0)


def test_wrong_images_are_fooled_without_a_change() -> None:
    """At radius 0 too."""
    model, x, y = small(3)
    answer = verify(model, x, (y + 1) % 3, 0.0)
    assert (answer.found_by == "clean").all()
    assert torch.equal(answer.x_adv, x)


def test_integer_programme_agrees_with_itself_on_loose_bounds() -> None:
    """Tighter bounds make it quicker, not other; with an l1 ball as well; and l2 is refused."""
    model, x, y = small(3)
    graph = lower(model, (1, 2, 2), torch.float64)
    for norm in ("linf", "l1"):
        ball = Ball.around(x[:1], 0.2, norm, torch.float64)
        row = margin_rows(3, y[:1], ball.x)[0, int((y[0] + 1) % 3)]
        lowest = []
        with torch.no_grad():
            for known in (interval_bounds(graph, ball), crown_bounds(graph, ball)):
                _, pixels = decide(program(graph, ball, known), row, 1e3, time_limit=30, minimize=True)
                assert pixels is not None
                values = graph.forward(torch.from_numpy(pixels).view(1, 1, 2, 2))[-1][0]
                lowest.append(float(row @ values))
        assert lowest[0] == pytest.approx(lowest[1], abs=1e-5)
    with pytest.raises(ValueError, match="expected linf or l1 for linear programming, got 'l2'"):
        program(graph, Ball.around(x[:1], 0.2, "l2", torch.float64), {})


def test_image_that_fools_lies_within_the_radius_as_asked() -> None:
    """0.3 is no float32, and the next one lies above it: neither the attack nor the search may end there."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 4))
        model[1].bias.copy_(torch.tensor([0.1, 0.0]))
    x, y, eps = torch.zeros(1, 1, 2, 2), torch.tensor([0]), torch.tensor([0.3], dtype=torch.float64)
    found = verify(model, x, y, 0.3)
    assert found.verdict.tolist() == [FOOLED]
    assert found.x_adv.double().max() <= 0.3
    search = branching.BranchAndBound(graphs_of(model, x, y), x, y, Ball.around(x, eps, "linf", torch.float64), eps)
    image = search._fools(torch.ones(1, 1, 2, 2))
    assert image is not None
    assert 0.299999 < image.double().max() <= 0.3


@pytest.mark.slow
def test_cases_without_open_relus_are_decided_in_l2_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Branch and bound alone, one step for each case: every image gets its answer from the cases' ends."""
    without_attacks(monkeypatch)
    monkeypatch.setattr(branching, "sloped_margins", lambda graphs, ball, y, known: -torch.ones(1, 3))
    monkeypatch.setattr(cases, "STEPS", 1)
    model, x, y = small(3)
    x, y = x[1:3], y[1:3]
    answer = verify(model, x, y, 0.18, norm="l2")
    assert not (answer.verdict == UNKNOWN).any()
    attacked = pgd(model, x, y, eps=0.18, norm="l2", steps=100, restarts=10).success
    assert list(answer.verdict == FOOLED) == attacked.tolist()


ENDS = [
    (["stuck", "fools"], "fools"),
    (["stuck", "empty"], "stuck"),
    (["empty", "stuck"], "stuck"),
    (["empty", "empty"], "empty"),
]


def outcome(name: str) -> cases.Outcome:
    """One that says it all."""
    return cases.Outcome(name == "empty", torch.zeros(1, 2, 2) if name == "fools" else None, name == "stuck")


@pytest.mark.parametrize(("ends", "whole"), ENDS)
def test_a_part_that_stays_undecided_keeps_no_other_from_being_looked_at(
    ends: list[str], whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regions and cases: one that fools counts, wherever it stands, and nothing is proven beside a stuck one."""
    model, x, y = small(3)
    ball = Ball.around(x[:1], 0.3, "linf", torch.float64)
    image = branching.BranchAndBound(graphs_of(model, x, y), x[:1], y[:1], ball, ball.eps)
    monkeypatch.setattr(branching, "sloped_margins", lambda graphs, ball, y, known: -torch.ones(1, 3))
    monkeypatch.setattr(branching.BranchAndBound, "_attacked", lambda self, bound: None)
    monkeypatch.setattr(branching.BranchAndBound, "_cases", lambda self, region, row, deadline: cases.Outcome())
    monkeypatch.setattr(branching.BranchAndBound, "_tight", lambda self, given, deadline: given)
    given = iter(ends)

    monkeypatch.setattr(branching, "FEW", 0)
    regions: list[branching._Open] = []

    def parted(
        self: branching.BranchAndBound, region: branching._Open, deadline: float
    ) -> tuple[cases.Outcome, list[branching._Open]]:
        regions.append(region)
        return (cases.Outcome(), [region, region]) if len(regions) == 1 else (outcome(next(given, "empty")), [])

    monkeypatch.setattr(branching.BranchAndBound, "_parted", parted)
    assert image.run(np.inf)[0] == {"fools": FOOLED, "stuck": UNKNOWN, "empty": PROVEN}[whole]
    noise = noises(image.graph, intervals(image.graph, ball.low, ball.high, image.known))
    part = shrink(image.graphs, Region(image.known, image.rows[int((y[0] + 1) % 3)]), noise)
    leaves = iter(ends)
    search = cases.Search(part, ball, fools=lambda points: None, leaf=lambda signs: outcome(next(leaves)))
    numbers, values = torch.full((2,), -1), torch.zeros(2, search.open)
    search.waiting = cases._Cases(values.to(torch.int8), values, values, numbers, numbers)
    end = search.run(np.inf, np.inf)
    said = {"fools": end.adversarial is not None, "stuck": end.stuck, "empty": end.empty}
    assert said == {name: name == whole for name in said}
    assert next(leaves, None) is None


def test_bounds_of_a_pooling_behind_the_first_layer_are_tightened_too() -> None:
    """What it reads hangs on no ReLU: there is no slope to choose, and what comes out still holds in the ball."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)).eval()
    x = torch.rand(1, 1, 8, 8)
    graphs = graphs_of(model, x, torch.tensor([0]))
    ball = Ball.around(x, 0.1, "linf", torch.float64)
    known = interval_bounds(graphs.exact, ball)
    noise = noises(graphs.exact, intervals(graphs.exact, ball.low, ball.high, known))
    part = shrink(graphs, Region(known), noise)
    made = tightened(part, ball, margins(part, ball, torch.eye(3, dtype=torch.float64), 5)[2])
    assert made is not None
    points = ball.low + torch.rand(50, 1, 8, 8) * (ball.high - ball.low)
    values = graphs.exact.forward(points)
    for place, (low, high) in made.known.items():
        assert (low >= known[place][0] - 1e-9).all()
        assert (high <= known[place][1] + 1e-9).all()
        assert (low <= values[place] + 1e-9).all()
        assert (values[place] <= high + 1e-9).all()
