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
from core.certification.crown import Linear, adaptive_slope, backward, lines_of
from core.certification.nodes import Graph

SLOPE_RATE, MULTIPLIER_RATE, DECAY = 0.25, 0.1, 0.97
"""Adam's learning rates, and the factor on them after each step."""
FIRST_WEIGHT = 0.5
"""Where the search for a weight begins: at 0 no slope behind the node has a gradient, and the weight may stay there.
Half of the weight that outweighs the bound; chosen, with `region.STEPS`, on two images of one network (mnistfc 256x4).
"""


@dataclass
class Choice:
    """The best that was found for each row.

    Attributes:
        value: (N, M) the bound, in the graph's dtype.
        slopes: for each ReLU (N, M, *shape), in [0, 1].
        multipliers: for each ReLU (N, M, *shape), 0 or more; empty without splits.
        point: (N, M, C, H, W), where the linear function is smallest: an image that may fool.
        at_relu: for each ReLU the coefficients (N, M, *shape) of its output.
        weight: (N, M, 1), 0 or more: of the function that is known to be at most 0.
    """

    value: Tensor
    slopes: dict[int, Tensor]
    multipliers: dict[int, Tensor]
    point: Tensor
    at_relu: dict[int, Tensor]
    weight: Tensor


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
    rows: Float[Tensor, "n m ..."],
    bounds: Known,
    *,
    steps: int,
    at: int | None = None,
    signs: dict[int, Tensor] | None = None,
    slopes: dict[int, Tensor] | None = None,
    multipliers: dict[int, Tensor] | None = None,
    goal: float = torch.inf,
    noise: Sequence[Tensor] | None = None,
    ceiling: Float[Tensor, "n m k"] | None = None,
) -> Choice:
    """The highest lower bounds of functions of the logits, or of another node, that `steps` steps find.

    Args:
        graph: see `graph.lower`; ball and bounds are in its dtype.
        ball: one for each of N, or one for all.
        rows: coefficients of the node's values.
        bounds: of what every ReLU reads; they hold the splits already.
        steps: evaluations with a gradient; one without follows.
        at: the node; the logits by default.
        signs: for each node before a ReLU (N, *shape) in -1, 0, 1: values known to be negative, open, positive.
        slopes: where to start.
        multipliers: where to start; for the ReLUs that have any, all by default.
        goal: stop when every bound is above it.
        noise: see `crown.backward`.
        ceiling: coefficients of functions of the logits that are at most 0 wherever the bounds are to hold. The lower
            bound of a function plus such a one, times any weight of 0 or more, is one of the function there (Kotha et
            al. 2023, arXiv 2302.01404). Their own bounds are best about as far below 0 as the functions' bounds are.
    """
    last = len(graph.nodes) - 1
    at = last if at is None else at
    slopes = first_choice(graph, bounds, at if ceiling is None else last) if slopes is None else slopes
    if signs is not None and multipliers is None:
        multipliers = {relu: torch.zeros_like(value) for relu, value in slopes.items()}
    count = rows.shape[:2]
    a = {relu: _own(value, count).requires_grad_() for relu, value in slopes.items()}
    b = {relu: _own(value, count).requires_grad_() for relu, value in (multipliers or {}).items()}
    weight = rows.new_full((*count, 1), FIRST_WEIGHT).requires_grad_(ceiling is not None)
    free = [*b.values(), *([] if ceiling is None else [weight])]
    leaves = [*a.values(), *free]
    groups = [{"params": list(a.values()), "lr": SLOPE_RATE}]
    if free:
        groups.append({"params": free, "lr": MULTIPLIER_RATE})
    optimizer = torch.optim.Adam(groups) if leaves else None
    lines = lines_of(graph, bounds)

    def look(keep: bool = False) -> tuple[Tensor, Linear]:
        shifts = shifts_of(graph, b, signs) if signs is not None else None
        start = {at: rows} if ceiling is None else {at: rows, last: weight * ceiling}
        made = backward(graph, start, bounds, slopes=a, shifts=shifts, keep=keep, noise=noise, lines=lines)
        return ball.lowest(made.coefficients) + made.constant, made

    best = rows.new_full(count, -torch.inf)
    kept = [leaf.detach().clone() for leaf in leaves]
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps and optimizer is not None):
            value, _ = look()
        won = value.detach() > best
        best = torch.where(won, value.detach(), best)
        for old, leaf in zip(kept, leaves, strict=True):
            old.copy_(torch.where(won.view(*count, *(1,) * (leaf.ndim - 2)), leaf.detach(), old))
        # behind the first layer's pooling no slope counts: the bound is exact
        if step == steps or optimizer is None or not value.requires_grad or bool((best > goal).all()):
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
            for leaf in free:
                leaf.clamp_(min=0)
    with torch.no_grad():
        for old, leaf in zip(kept, leaves, strict=True):
            leaf.copy_(old)
        _, made = look(keep=True)
    return Choice(
        best,
        {relu: leaf.detach() for relu, leaf in a.items()},
        {relu: leaf.detach() for relu, leaf in b.items()},
        ball.minimizer(made.coefficients),
        made.at_relu,
        weight.detach(),
    )


def _own(value: Tensor, count: torch.Size) -> Tensor:
    """A copy for each row."""
    return value.detach().expand(*count, *value.shape[2:]).clone()
