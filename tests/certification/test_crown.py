"""Linear bounds hold for every image of the ball, are exact where they can be, and tighten what intervals say."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from core.attacks import pgd
from core.attacks.engine.steps import BALLS
from core.certification import crown
from core.certification.alpha import shifts_of
from core.certification.ascent import Descent
from core.certification.ball import Ball
from core.certification.bounds import intervals, margin_rows, rounding
from core.certification.crown import backward, crown_bounds, interval_bounds, lines_of, lower_bounds
from core.certification.graph import Unbounded, lower
from core.certification.proof import METHODS, certified_margins, proven

Made = Callable[..., tuple[nn.Module, torch.Tensor]]
SIZES = {"linf": 0.02, "l2": 0.2, "l1": 0.5}


def samples(ball: Ball, count: int) -> torch.Tensor:
    """Images of the ball, many of them at its boundary; (count, N, C, H, W)."""
    made = []
    for draw in range(count):
        delta = torch.randn_like(ball.x)
        if ball.norm == "linf":
            delta = delta.sign() if draw % 2 else delta.clamp(-1, 1)
        elif ball.norm == "l1":
            flat = torch.zeros_like(delta).flatten(1)
            spot = torch.randint(flat.shape[1], (len(flat), 2))
            delta = flat.scatter(1, spot, torch.randn(len(flat), 2, dtype=flat.dtype)).view_as(delta)
        length = torch.linalg.vector_norm(delta.flatten(1), {"linf": torch.inf, "l2": 2, "l1": 1}[ball.norm], dim=1)
        delta = delta * (ball.eps / length).view(-1, 1, 1, 1)
        made.append((ball.x + delta).clamp(0, 1))
    return torch.stack(made)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("network", ["linear", "mlp", "cnn", "strided"])
@pytest.mark.parametrize("norm", BALLS)
def test_no_image_of_the_ball_leaves_the_bounds(network: str, norm: str, prepared: Made) -> None:
    """Neither of intervals nor of linear bounds, at any ReLU, and no margin falls below its bound."""
    model, x = prepared(network)
    x = x[:2]
    ball = Ball.around(x, SIZES[norm] / 4, norm, torch.float64)
    graph = lower(model, (1, 12, 12), torch.float64)
    with torch.no_grad():
        rows = margin_rows(5, model(x).argmax(1), ball.x)
        for bounds_of in (interval_bounds, crown_bounds):
            known = bounds_of(graph, ball)
            least = lower_bounds(graph, ball, len(graph.nodes) - 1, rows, known)
            for images in samples(ball, 20):
                values = graph.forward(images)
                for place, (low, high) in known.items():
                    assert (values[place] >= low - 1e-9).all()
                    assert (values[place] <= high + 1e-9).all()
                assert ((rows @ values[-1][..., None])[..., 0] >= least - 1e-9).all()


def test_large_nodes_keep_no_matrix_and_have_the_same_bounds(prepared: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above `MAX_VALUES` only the rows that are needed are made; below, each node's are made once."""
    model, x = prepared("strided")
    ball = Ball.around(x[:2], 0.02, "linf", torch.float64)
    whole, bare = (lower(model, (1, 12, 12), torch.float64) for _ in range(2))
    with torch.no_grad():
        kept = crown_bounds(whole, ball)
        monkeypatch.setattr(crown, "MAX_VALUES", 2**13)
        made = crown_bounds(bare, ball)
    assert whole.stems
    values = [sum(rows.numel() for rows in stem.values()) for stem, _ in bare.stems.values()]
    assert len(bare.stems) < len(whole.stems)
    assert max(values, default=0) <= 2 * 2**13
    for place, ends in kept.items():
        for one, other in zip(ends, made[place], strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", BALLS)
def test_lowest_value_of_a_linear_function_is_that_of_a_fine_grid(norm: str) -> None:
    """Three pixels, ball and box together: never above the grid's minimum, and as near as the grid is fine."""
    torch.manual_seed(1)
    x = torch.tensor([[0.05, 0.5, 0.9]], dtype=torch.float64).view(1, 1, 1, 3)
    ball = Ball.around(x, 0.3, norm)
    rows = torch.randn(1, 20, 1, 1, 3, dtype=torch.float64)
    axis = torch.linspace(0, 1, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis, axis)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    grid = grid[torch.linalg.vector_norm(grid - x.flatten(), order, dim=1) <= ball.eps]
    best = (rows.flatten(2)[0] @ grid.T).amin(1)
    found = ball.lowest(rows)[0]
    assert (found <= best + 1e-9).all()
    assert (best - found <= 0.03 * rows.flatten(2)[0].abs().sum(1)).all()
    inside = ball.minimizer(rows)
    assert (torch.linalg.vector_norm((inside - x).flatten(2), order, dim=2) <= ball.eps + 1e-9).all()
    assert ((inside >= 0) & (inside <= 1)).all()


@pytest.mark.parametrize("method", METHODS)
def test_all_images_may_be_proven_before_the_last_method(method: str, prepared: Made) -> None:
    """In a ball of nearly nothing intervals prove every image; whoever watches is told of none that is not there."""
    net, x = prepared("mlp")
    y = net(x).argmax(1)
    said: list[tuple[int, int]] = []
    margin = certified_margins(net, x, y, 1e-7, method=method, on_progress=lambda *counts: said.append(counts))
    assert (margin > 0).all()
    assert all(0 < done <= total for done, total in said)


def test_bounds_are_tighter_from_method_to_method(tiny: Made) -> None:
    """The proven margin never falls on the way from intervals to optimised slopes, and rises for most images."""
    model, x = tiny()
    y = model(x).argmax(1)
    found = torch.stack([certified_margins(model, x, y, 0.3, method=method) for method in METHODS])
    assert (found[1:] >= found[:-1] - 1e-6).float().mean() > 0.9
    hard = found[0] < 0
    assert hard.sum() >= 4
    assert (found[2] > found[0] + 1e-3)[hard].float().mean() > 0.5
    assert (found[3] >= found[2] - 1e-5).all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", BALLS)
def test_no_corner_of_a_small_ball_fools_what_is_proven(norm: str, tiny: Made) -> None:
    """Every corner of the box around x, pulled into the ball, and a fine grid between them."""
    model, x = tiny(3)
    y = model(x).argmax(1)
    axis = torch.linspace(-1, 1, 7)
    for eps in (0.02, 0.1, 0.3):
        sure = {method: proven(model, x, y, eps, norm=norm, method=method) for method in METHODS}
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
        fooled = torch.zeros(len(x), dtype=torch.bool)
        for corner in itertools.product(axis.tolist(), repeat=4):
            delta = torch.tensor(corner)
            length = torch.linalg.vector_norm(delta, order).clamp(min=1e-9)
            moved = (x + eps * (delta / length.clamp(min=1)).view(1, 1, 2, 2)).clamp(0, 1)
            fooled |= model(moved).argmax(1) != y
        for method, mask in sure.items():
            assert not (mask & fooled).any(), method
    assert sure["alpha_crown"].sum() >= sure["ibp"].sum()


@pytest.mark.parametrize("norm", BALLS)
def test_linear_models_are_solved_exactly(norm: str, prepared: Made) -> None:
    """Without ReLUs there is nothing to relax: the margin at the minimiser is the bound."""
    model, x = prepared("linear")
    y = model(x).argmax(1)
    ball = Ball.around(x, SIZES[norm], norm, torch.float64)
    graph = lower(model, (1, 12, 12), torch.float64)
    with torch.no_grad():
        rows = margin_rows(5, y, ball.x)
        weight = (rows @ graph.nodes[-1].affine.weight).unflatten(2, (1, 12, 12))  # type: ignore[union-attr]
        factor = graph.nodes[1].affine.factor  # type: ignore[union-attr]
        worst = ball.minimizer(weight * factor)
        reached = torch.stack([(rows[:, k] * graph.forward(worst[:, k])[-1]).sum(1) for k in range(5)], 1)
        bound = lower_bounds(graph, ball, len(graph.nodes) - 1, rows, {})
    assert (bound <= reached + 1e-9).all()
    assert torch.allclose(bound, reached, atol=1e-2)


@pytest.mark.parametrize("network", ["mlp", "strided"])
def test_no_attack_fools_what_linear_bounds_prove(network: str, prepared: Made) -> None:
    """And more is proven than by intervals."""
    model, x = prepared(network)
    y = model(x).argmax(1)
    eps = torch.tensor([1e-3, 2e-3, 4e-3, 8e-3, 0.2, 0.4])
    sure = proven(model, x, y, eps, method="alpha_crown")
    assert sure.sum() >= proven(model, x, y, eps).sum()
    assert sure[0]
    assert not (pgd(model, x, y, eps=eps, steps=30).success & sure).any()


def test_float32_stays_within_the_allowance(prepared: Made) -> None:
    """The logits in float32, in several batch layouts, are nearer to the exact ones than the allowance."""
    model, x = prepared("strided")
    graph = lower(model, (1, 12, 12), torch.float64)
    ball = Ball.around(x, 0.05, "linf", torch.float64)
    with torch.no_grad():
        allowed = rounding(graph, intervals(graph, ball.low, ball.high))
        assert (allowed > 0).all()
        assert allowed.max() < 1e-2
        for images in samples(ball, 10):
            short = images.float()
            exact = graph.forward(short.double())[-1]
            for logits in (model(short), model(short.flip(0)).flip(0), torch.cat([model(one[None]) for one in short])):
                assert ((logits.double() - exact).abs() <= allowed).all()


def test_bounds_have_gradients(tiny: Made) -> None:
    """With respect to the weights: so they can be trained for."""
    model, x = tiny()
    graph = lower(model, (1, 2, 2))
    ball = Ball.around(x, 0.1)
    rows = margin_rows(3, model(x).argmax(1), x)
    bound = lower_bounds(graph, ball, len(graph.nodes) - 1, rows, interval_bounds(graph, ball))
    gradients = torch.autograd.grad(bound.sum(), list(model.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


MIXED: dict[str, Callable[[], list[nn.Module]]] = {
    "dense": lambda: [nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)],
    "pooled": lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 7), nn.ReLU()],
    "smooth": lambda: [nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)],
}


@pytest.mark.parametrize("network", MIXED)
@pytest.mark.parametrize("norm", BALLS)
def test_gradients_by_two_passes_are_those_of_the_bound(network: str, norm: str) -> None:
    """By slopes, multipliers of given signs and the weight of a ceiling, as automatic differentiation has them."""
    torch.manual_seed(1)
    model, x = nn.Sequential(*MIXED[network]()).eval(), torch.rand(2, 1, 6, 6)
    graph = lower(model, tuple(x.shape[1:]), torch.float64)
    ball = Ball.around(x, 5 * SIZES[norm], norm, torch.float64)
    known = crown_bounds(graph, ball)
    last, at = len(graph.nodes) - 1, graph.before_curves[-1]
    rows = torch.randn(2, 3, *graph.nodes[at].shape, dtype=torch.float64)
    ceiling = torch.randn(2, 3, graph.nodes[-1].shape[0], dtype=torch.float64)
    reads = {relu: graph.nodes[relu].parents[0] for relu in graph.relus}
    lines = lines_of(graph, known)
    signs = {read: ((low < 0) & (high > 0)) * torch.randn_like(low).sign() for read, (low, high) in known.items()}
    shapes = {relu: (2, 3, *graph.nodes[relu].shape) for relu in graph.relus}
    slopes = {relu: torch.rand(shape, dtype=torch.float64).requires_grad_() for relu, shape in shapes.items()}
    multipliers = {relu: torch.rand(shape, dtype=torch.float64).requires_grad_() for relu, shape in shapes.items()}
    weight = torch.rand(2, 3, 1, dtype=torch.float64).requires_grad_()
    start, shifts = {at: rows, last: weight * ceiling}, shifts_of(graph, multipliers, signs)
    made = backward(graph, start, known, slopes=slopes, shifts=shifts)
    value = ball.lowest(made.coefficients) + made.constant
    value.sum().backward()
    one = Descent(graph, ball, known, {at: rows}, signs=signs, ceiling=ceiling)
    with torch.no_grad():
        given = {relu: torch.where(lines[reads[relu]][2], slopes[relu], lines[reads[relu]][0]) for relu in slopes}
        assert one.backwards(given, multipliers, {last: weight}, bounded=False) is None
        assert torch.allclose(one.backwards(given, multipliers, {last: weight}), value, atol=1e-9)
        found = [{relu: torch.full_like(part, 9.0) for relu, part in parts.items()} for parts in (slopes, multipliers)]
        of_ceiling = torch.zeros_like(weight)
        one.gradient(*found, {last: of_ceiling})
    for relu, read in reads.items():
        open_ = lines[read][2]
        assert torch.allclose(found[0][relu] * open_, slopes[relu].grad, atol=1e-8)  # of others it is not used
        assert torch.allclose(found[1][relu], multipliers[relu].grad, atol=1e-8)
    assert torch.allclose(of_ceiling, weight.grad, atol=1e-8)
    assert any(float(part.abs().max()) > 0 for part in found[1].values())


def test_what_cannot_be_certified_is_said(tiny: Made) -> None:
    """A layer, a norm, a radius and a method that have no certificate are named, with what there is."""
    model, x = tiny()
    y = model(x).argmax(1)
    with pytest.raises(Unbounded, match=r"expected layers of .*Linear.*, got GELU"):
        proven(nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(4, 3)), x, y, 0.1)
    with pytest.raises(ValueError, match=r"norm: expected one of linf, l2, l1, got 'l0'"):
        proven(model, x, y, 0.1, norm="l0")
    with pytest.raises(ValueError, match=r"eps: expected numbers in \[0, 1\] for linf"):
        proven(model, x, y, 1.5)
    with pytest.raises(ValueError, match="eps: expected finite budgets of 0 or more"):
        proven(model, x, y, -0.1)
    with pytest.raises(ValueError, match="method: expected one of ibp"):
        proven(model, x, y, 0.1, method="magic")
    with pytest.raises(Unbounded, match="max-pooling without padding"):
        lower(nn.Sequential(nn.MaxPool2d(3, padding=1)), (1, 6, 6))


@pytest.mark.slow
def test_no_one_of_millions_of_images_fools_what_is_proven(prepared: Made) -> None:
    """A million images near the boundary of the ball for each norm, half of them corners."""
    model, x = prepared("strided")
    y = model(x).argmax(1)
    for norm, eps in (("linf", 2e-3), ("l2", 0.02), ("l1", 0.1)):
        sure = proven(model, x, y, eps, norm=norm, method="alpha_crown")
        assert sure.any()
        ball = Ball.around(x[sure], eps, norm)
        with torch.no_grad():
            for _ in range(1_000_000 // (200 * int(sure.sum()))):
                images = samples(ball, 200)
                pred = model(images.flatten(0, 1)).argmax(1).view(200, -1)
                assert (pred == y[sure]).all()
