"""Small dense networks, and a region of a ball around a random image, with images of it."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from core.certification.ball import Ball
from core.certification.bounds import intervals, margin_rows, noises
from core.certification.crown import crown_bounds
from core.certification.proof import Graphs, graphs_of
from core.certification.region import Region

EPS = {"linf": 0.15, "l2": 0.4, "l1": 1.0}


def network(seed: int, *widths: int, classes: int = 3) -> nn.Module:
    """Dense layers of these widths on nine pixels, many of their ReLUs off."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise((9, *widths)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], classes)).eval().requires_grad_(False)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.normal_(0, 1.0)
            layer.bias.normal_(-0.2, 0.5)
    return model


def start(model: nn.Module, norm: str = "linf") -> tuple[Graphs, Ball, Region, list[torch.Tensor]]:
    """Graphs, a ball, the region of one failing margin in it, and noise."""
    x = torch.rand(1, 1, 3, 3)
    y = model(x).argmax(1)
    graphs = graphs_of(model, x, y)
    ball = Ball.around(x, EPS[norm], norm, torch.float64)
    known = crown_bounds(graphs.exact, ball)
    row = margin_rows(graphs.classes, y, ball.x)[0, int((y + 1) % graphs.classes)]
    noise = noises(graphs.exact, intervals(graphs.exact, ball.low, ball.high, known))
    return graphs, ball, Region(known, row), noise


def images(ball: Ball, count: int = 5_000) -> torch.Tensor:
    """Images of the ball."""
    unit = torch.rand(count, *ball.x.shape[1:], dtype=torch.float64)
    points = ball.low + torch.where(torch.rand_like(unit) < 0.5, unit.round(), unit) * (ball.high - ball.low)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[ball.norm]
    length = torch.linalg.vector_norm((points - ball.x).flatten(1), order, dim=1)
    shrunk = (ball.eps / length).clamp(max=1).view(-1, 1, 1, 1)
    return ball.x + (points - ball.x) * shrunk
