"""Slopes optimised for each image: the lower lines of the ReLUs, by gradient steps, and multipliers of split ReLUs.

Source: Xu et al. 2021, arXiv 2011.13824 (alpha-CROWN); Wang et al. 2021, arXiv 2103.06624 (beta-CROWN). Any slope in
[0, 1] and any multiplier of 0 or more gives a valid bound, so the search may be short and in float32; its result is
evaluated again in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from core.certification.ball import Ball
from core.certification.bounds import Known
from core.certification.crown import Linear, adaptive_slope, backward
from core.certification.nodes import Graph

SLOPE_RATE, MULTIPLIER_RATE, DECAY = 0.25, 0.1, 0.97
"""Adam's learning rates, and the factor on them after each step."""


@dataclass
class Choice:
    """The best that was found for each row.

    Attributes:
        value: (N,) the bound, in the graph's dtype.
        slopes: for each ReLU (N, 1, *shape), in [0, 1].
        multipliers: for each ReLU (N, 1, *shape), 0 or more; empty without splits.
        point: (N, C, H, W), where the linear function is smallest: an image that may fool.
        at_relu: for each ReLU the coefficients (N, *shape) of its output.
    """

    value: Tensor
    slopes: dict[int, Tensor]
    multipliers: dict[int, Tensor]
    point: Tensor
    at_relu: dict[int, Tensor]


def first_choice(graph: Graph, bounds: Known, at: int | None = None) -> dict[int, Tensor]:
    """CROWN's slopes of the ReLUs before node `at`."""
    relus = [relu for relu in graph.relus if at is None or relu < at]
    return {relu: adaptive_slope(*bounds[graph.nodes[relu].parents[0]])[:, None] for relu in relus}


def shifts_of(graph: Graph, multipliers: dict[int, Tensor], signs: Known | dict[int, Tensor]) -> dict[int, Tensor]:
    """What split constraints sign·z >= 0 add to the coefficients of a ReLU's input z: - multiplier × sign."""
    made = {}
    for relu, value in multipliers.items():
        sign = signs[graph.nodes[relu].parents[0]]
        assert isinstance(sign, Tensor)
        made[relu] = -value * sign[:, None]
    return made


def optimized(
    graph: Graph,
    ball: Ball,
    rows: Float[Tensor, "n 1 ..."],
    bounds: Known,
    *,
    steps: int,
    at: int | None = None,
    signs: dict[int, Tensor] | None = None,
    slopes: dict[int, Tensor] | None = None,
    multipliers: dict[int, Tensor] | None = None,
    goal: float = torch.inf,
    noise: Sequence[Tensor] | None = None,
) -> Choice:
    """The highest lower bound of one function a row, of the logits or of another node, that `steps` steps find.

    Args:
        graph: see `graph.lower`; ball and bounds are in its dtype.
        ball: one a row.
        bounds: of what every ReLU reads; they hold the splits already.
        rows: coefficients of the node's values.
        steps: evaluations with a gradient; one without follows.
        at: the node; the logits by default.
        signs: for each node before a ReLU (N, *shape) in -1, 0, 1: values known to be negative, open, positive.
        slopes: where to start.
        multipliers: where to start.
        goal: stop when every bound is above it.
        noise: see `crown.backward`.
    """
    at = len(graph.nodes) - 1 if at is None else at
    slopes = first_choice(graph, bounds, at) if slopes is None else slopes
    if signs is not None and multipliers is None:
        multipliers = {relu: torch.zeros_like(value) for relu, value in slopes.items()}
    a = {relu: value.detach().clone().requires_grad_() for relu, value in slopes.items()}
    b = {relu: value.detach().clone().requires_grad_() for relu, value in (multipliers or {}).items()}
    leaves = [*a.values(), *b.values()]
    groups = [{"params": list(a.values()), "lr": SLOPE_RATE}]
    if b:
        groups.append({"params": list(b.values()), "lr": MULTIPLIER_RATE})
    optimizer = torch.optim.Adam(groups) if leaves else None
    best: Choice | None = None

    def look(keep: bool) -> tuple[Tensor, Linear]:
        shifts = shifts_of(graph, b, signs) if signs is not None else None
        made = backward(graph, {at: rows}, bounds, slopes=a, shifts=shifts, keep=keep, noise=noise)
        return (ball.lowest(made.coefficients) + made.constant)[:, 0], made

    def note(value: Tensor, made: Linear, best: Choice | None) -> Choice:
        found = Choice(
            value.detach(),
            {relu: leaf.detach().clone() for relu, leaf in a.items()},
            {relu: leaf.detach().clone() for relu, leaf in b.items()},
            ball.minimizer(made.coefficients)[:, 0],
            {relu: kept.detach()[:, 0] for relu, kept in made.at_relu.items()},
        )
        return found if best is None else _better(found, best)

    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps and optimizer is not None):
            value, made = look(keep=True)
        best = note(value, made, best)
        # behind the first layer's pooling no slope counts: the bound is exact
        if step == steps or optimizer is None or not value.requires_grad or bool((best.value > goal).all()):
            break
        gradients = torch.autograd.grad(-value.sum(), leaves, allow_unused=True)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = torch.zeros_like(leaf) if gradient is None else gradient
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= DECAY
        with torch.no_grad():
            for leaf in a.values():
                leaf.clamp_(0, 1)
            for leaf in b.values():
                leaf.clamp_(min=0)
    assert best is not None
    return best


def _better(new: Choice, old: Choice) -> Choice:
    """Row by row the choice with the higher bound."""
    won = new.value > old.value

    def pick(first: Tensor, second: Tensor) -> Tensor:
        return torch.where(won.view(-1, *(1,) * (first.ndim - 1)), first, second)

    return Choice(
        pick(new.value, old.value),
        {relu: pick(value, old.slopes[relu]) for relu, value in new.slopes.items()},
        {relu: pick(value, old.multipliers[relu]) for relu, value in new.multipliers.items()},
        pick(new.point, old.point),
        {relu: pick(value, old.at_relu[relu]) for relu, value in new.at_relu.items()},
    )
