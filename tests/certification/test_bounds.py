"""Interval bounds hold for every image of the ball, are exact where they can be, and say what they cannot do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd
from core.certification.ball import Ball
from core.certification.bounds import interval, intervals, linf_box, margin_bounds, noises, own_error
from core.certification.crown import crown_bounds, lower_bounds
from core.certification.graph import Unbounded, lower
from core.certification.nodes import Graph
from core.certification.proof import TINY, certified_margins, proven
from core.networks.layers import Centre
from core.networks.residual import PreActBlock
from core.specs import NETWORKS

Made = Callable[..., tuple[nn.Module, torch.Tensor]]


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "preactresnet18"])
def test_logits_of_random_images_of_the_ball_are_within_the_bounds(network: str, prepared: Made) -> None:
    """Corners and inner points, many of them; a degenerate ball has the logits themselves for bounds."""
    model, x = prepared(network)
    low, high = linf_box(x, 0.05)
    bottom, top = interval(model, low, high)
    with torch.no_grad():
        for draw in range(60):
            share = torch.rand_like(x).round() if draw % 2 else torch.rand_like(x)
            logits = model(low + share * (high - low))
            assert (logits >= bottom - 1e-4).all()
            assert (logits <= top + 1e-4).all()
        at_x = interval(model, x, x)
        assert torch.allclose(at_x[0], model(x), atol=1e-4)
        assert torch.allclose(at_x[1], model(x), atol=1e-4)


def test_residual_network_of_the_literature_has_bounds(prepared: Made) -> None:
    """The same rule bounds PreActResNet-18's blocks."""
    model, x = prepared("preactresnet18")
    bottom, top = interval(model, *linf_box(x[:2], 1e-4))
    with torch.no_grad():
        logits = model(x[:2])
    assert (bottom <= logits).all()
    assert (logits <= top).all()


def test_margins_of_a_linear_model_are_exact(prepared: Made) -> None:
    """The lower bound is reached by moving every pixel against the difference of the weights."""
    model, x = prepared("linear")
    y = model(x).argmax(1)
    bound = margin_bounds(model, x, y, 0.1)
    weight = model[-1].weight  # type: ignore[index]
    low, high = linf_box(x, 0.1)
    for k in range(5):
        slope = (weight[y] - weight[k]).view_as(x)
        worst = torch.where(slope > 0, low, high)
        logits = model(worst)
        reached = logits.gather(1, y[:, None])[:, 0] - logits[:, k]
        assert torch.allclose(bound[:, k], reached, atol=1e-4)
    assert torch.allclose(bound.gather(1, y[:, None]), torch.zeros(6, 1), atol=1e-6)


def test_last_layer_joined_with_the_margin_is_tighter(prepared: Made) -> None:
    """Never below the difference of the logits' own bounds."""
    model, x = prepared("mlp")
    y = model(x).argmax(1)
    low, high = interval(model, *linf_box(x, 0.03))
    apart = (low.gather(1, y[:, None]) - high).scatter(1, y[:, None], 0)
    assert (margin_bounds(model, x, y, 0.03) >= apart - 1e-5).all()


@pytest.mark.parametrize("network", ["linear", "mlp", "strided"])
def test_no_attack_fools_what_is_proven(network: str, prepared: Made) -> None:
    """And something is proven, with one radius for all and one an image."""
    model, x = prepared(network)
    y = model(x).argmax(1)
    eps = torch.tensor([1e-4, 1e-3, 1e-3, 2e-3, 0.2, 0.4])
    sure = proven(model, x, y, eps)
    assert sure[0]
    assert torch.equal(proven(model, x, y, 1e-3)[1:3], sure[1:3])
    assert not (pgd(model, x, y, eps=eps, steps=30).success & sure).any()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("network", ["linear", "mlp", "strided", "resnet_small"])
def test_first_look_loses_no_proof(network: str, prepared: Made) -> None:
    """What bounds in float32 throw out is not proven by those that allow for rounding either, at any radius."""
    model, x = prepared(network)
    y = model(x).argmax(1)
    for eps in (0.0, 1e-3, 0.01, 0.03, 0.1):
        assert torch.equal(proven(model, x, y, eps), certified_margins(model, x, y, eps, method="ibp") > TINY)
    each = torch.linspace(0, 0.1, len(x))
    assert torch.equal(proven(model, x, y, each), certified_margins(model, x, y, each, method="ibp") > TINY)


def test_wrong_images_and_broken_models_are_never_proven(prepared: Made) -> None:
    """An image that is read wrongly, and a network with a weight that is no number."""
    model, x = prepared("mlp")
    y = model(x).argmax(1)
    assert not proven(model, x, (y + 1) % 5, 0.0).any()
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan  # type: ignore[index]
    assert not proven(model, x, y, 1e-4).any()


def test_scalar_network_has_bounds(prepared: Made) -> None:
    """Logits (0, N - tau)."""
    model, x = prepared("mlp", scalar=True)
    low, high = interval(model, *linf_box(x, 0.02))
    assert torch.equal(low[:, 0], torch.zeros(6))
    assert (low[:, 1] <= model(x)[:, 1]).all()
    assert (model(x)[:, 1] <= high[:, 1]).all()


def test_layer_without_a_rule_is_named() -> None:
    """A GELU inside: a clear refusal, not a wrong bound."""
    with pytest.raises(Unbounded, match="got GELU"):
        interval(nn.Sequential(nn.Flatten(), nn.GELU()), torch.zeros(1, 4), torch.ones(1, 4))


def test_layers_outside_the_rules_are_refused_or_still_right() -> None:
    """Padding by reflection and batch norm without statistics are refused; a negative factor swaps the ends."""
    x = torch.rand(1, 1, 6, 6)
    with pytest.raises(Unbounded, match="padded with zeros, got 'reflect'"):
        interval(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), x, x)
    with pytest.raises(Unbounded, match="running statistics"):
        interval(nn.BatchNorm2d(1, affine=False), x, x)
    centre = Centre((1, 6, 6))
    centre.factor.fill_(-2.0)
    low, high = interval(centre, x - 0.1, x + 0.1)
    assert (low < high).all()


def noisy(graph: Graph, x: Tensor, draw: torch.Generator) -> list[Tensor]:
    """The values of every node in an arithmetic that errs as much as it may, up or down, at every step."""
    values: list[Tensor] = []
    for place, node in enumerate(graph.nodes):
        if node.kind == "input":
            values.append(x)
            continue
        read = [values[parent] for parent in node.parents]
        if node.kind == "affine":
            assert node.affine is not None
            exact = node.affine(read[0])
        elif node.kind == "relu":
            exact = read[0].clamp(min=0)
        elif node.kind == "tanh":
            exact = read[0].tanh()
        else:
            exact = read[0] + node.sign * read[1]
        error = own_error(graph, place, [(value, value) for value in values])
        error = 0.0 if node.sign < 0 else error  # the differences of a pooling are never computed
        values.append(exact + error * (2 * torch.rand(exact.shape, generator=draw, dtype=exact.dtype).round() - 1))
    return values


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "smooth"])
@pytest.mark.parametrize("unit", [2.0**-24, 2.0**-12, 2.0**-9])
def test_bounds_hold_in_coarse_arithmetic(name: str, unit: float) -> None:
    """Whatever rounding does at each step, values and functions of the logits stay within their bounds."""
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 9), nn.Sigmoid(), nn.Linear(9, 4))
    pooled = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)),
    )
    dense = nn.Sequential(nn.Flatten(), *(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)))
    residual = nn.Sequential(PreActBlock(1, 4, 1), PreActBlock(4, 4, 2), nn.Flatten(), nn.Linear(64, 4)).eval()
    model = {"mlp": dense, "cnn": pooled, "residual": residual, "smooth": smooth}[name]
    graph = lower(model, (1, 8, 8), torch.float64)
    graph.unit = unit
    x = torch.rand(3, 1, 8, 8)
    ball = Ball.around(x, 0.02, "linf", torch.float64)
    known = crown_bounds(graph, ball)
    made = intervals(graph, ball.low, ball.high, known)
    noise = noises(graph, made)
    rows = torch.randn(3, 5, 4, dtype=torch.float64)
    least = lower_bounds(graph, ball, len(graph.nodes) - 1, rows, known, noise)
    draw = torch.Generator().manual_seed(0)
    for turn in range(40):
        share = torch.rand(ball.low.shape, generator=draw, dtype=torch.float64)
        values = noisy(graph, ball.low + (ball.high - ball.low) * (share.round() if turn % 2 else share), draw)
        for place, (low, high) in enumerate(made):
            assert (values[place] >= low - 1e-12).all()
            assert (values[place] <= high + 1e-12).all()
        assert ((rows @ values[-1][..., None])[..., 0] >= least - 1e-12).all()
