"""Linear bounds, propagated backwards: how low a margin can fall while the image moves inside a ball.

Source: Zhang et al. 2018, arXiv 1811.00866 (CROWN). A function of the logits is rewritten, layer by layer from the last
to the first, as a linear function of each layer's input that is never above it; as a function of the image, its
smallest value over the ball is known. Where a ReLU's input may have both signs, its output is at most the chord between
the ends of the input's range, and at least `slope` times the input, for any slope in [0, 1].

A margin is a function of the logits (a row true - other), so the last layer is folded into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.certification.ball import Ball, check_box
from core.certification.bounds import Bounds, Known, interval_at, intervals, margin_rows, noise_at, noises
from core.certification.curves import above, below
from core.certification.graph import lower
from core.certification.nodes import CURVED, Graph

MAX_VALUES = 2**24
"""The most values in one tensor of coefficients: more rows are bounded in chunks."""


@dataclass
class Linear:
    """Functions of the image that are never above the given ones: coefficients·x' + constant.

    Attributes:
        coefficients: (N, M, C, H, W).
        constant: (N, M).
    """

    coefficients: Tensor
    constant: Tensor


def chord(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of the smallest linear function above a ReLU between `low` and `high`."""
    below, above = low.clamp(max=0), high.clamp(min=0)
    slope = above / (above - below).clamp(min=torch.finfo(low.dtype).tiny)
    return slope, -slope * below


def lines_of(graph: Graph, bounds: Known) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """For each node with bounds that ReLUs read: slope and intercept of the chord, and where the sign is open."""
    read = {graph.nodes[place].parents[0] for place in graph.relus}
    made = {}
    for place in read & bounds.keys():
        low, high = (end[:, None] for end in bounds[place])
        made[place] = (*chord(low, high), (low < 0) & (high > 0))
    return made


def adaptive_slope(low: Tensor, high: Tensor) -> Tensor:
    """CROWN's choice of the lower line: the one with the smaller area, 1 or 0."""
    return ((high > -low) & (high > 0)).to(low.dtype)


def backward(
    graph: Graph,
    start: dict[int, Tensor],
    bounds: Known,
    *,
    constant: Tensor | float = 0.0,
    slopes: dict[int, Tensor] | None = None,
    shifts: dict[int, Tensor] | None = None,
    noise: Sequence[Tensor] | None = None,
) -> Linear:
    """Functions of some nodes as functions of the image that are nowhere above them, as long as `bounds` hold.

    Args:
        graph: see `graph.lower`.
        start: the nodes' places and coefficients (N, M, *shape of the node).
        bounds: of what every ReLU and tanh before them reads; (N, *shape).
        constant: of the functions, (N, M).
        slopes: for each ReLU slopes in [0, 1] of its lower line, for unstable values; (N, M or 1, *shape).
        shifts: for each ReLU what is added to the coefficients of its input (the multipliers of split constraints).
        noise: what rounding may add to each node, see `bounds.noise_at`: then the functions are not above what that
            arithmetic gives, if `bounds` are of it.
    """
    lines = lines_of(graph, bounds)
    pending = dict(start)
    if noise is not None:
        constant = constant - sum(noisy(noise[place], value) for place, value in start.items())
    for place in range(max(pending), 0, -1):
        if place not in pending:
            continue
        if graph.nodes[place].kind not in CURVED:
            constant = constant + affine_step(graph, place, pending)
            continue
        if graph.nodes[place].kind == "tanh":
            constant = constant + _bent(graph, place, pending, bounds, noise)
            continue
        value, parent = pending.pop(place), graph.nodes[place].parents[0]
        upper, intercept, unstable = lines[parent]
        if slopes is None:
            lower = adaptive_slope(*(end[:, None] for end in bounds[parent]))
        else:
            lower = torch.where(unstable, slopes[place], upper)
        above = value.clamp(max=0)
        constant = constant + (above * intercept).flatten(2).sum(2)
        value = above * upper + value.clamp(min=0) * lower
        value = value + shifts[place] if shifts is not None and place in shifts else value
        if noise is not None:
            constant = constant - noisy(noise[parent], value)
        _give(pending, parent, value)
    some = next(iter(start.values()))
    zero = some.new_zeros(*some.shape[:2], *graph.nodes[0].shape)
    return Linear(pending.get(0, zero), constant + zero.flatten(2)[..., 0])


def affine_step(graph: Graph, place: int, pending: dict[int, Tensor]) -> Tensor | float:
    """Replace the coefficients of an affine node or a sum by those of its parents; returns the constant."""
    affine, value = graph.nodes[place].affine, pending[place]
    step_back(graph, place, pending)
    return 0.0 if affine is None else affine.constant(value)


def step_back(graph: Graph, place: int, pending: dict[int, Tensor]) -> None:
    """The same without the constant."""
    node, value = graph.nodes[place], pending.pop(place)
    if node.affine is not None:
        _give(pending, node.parents[0], node.affine.back(value))
        return
    first, second = node.parents
    _give(pending, first, value)
    _give(pending, second, value if node.sign > 0 else -value)


def noisy(noise: Tensor, value: Tensor) -> Tensor:
    """The most that noise (N or 1, *shape) takes off functions with these coefficients (N, M, *shape)."""
    size = value.abs().flatten(2)
    if len(noise) == 1:
        return size @ noise.flatten()
    return (size @ noise.flatten(1)[..., None])[..., 0]


def _bent(
    graph: Graph, place: int, pending: dict[int, Tensor], bounds: Known, noise: Sequence[Tensor] | None
) -> Tensor:
    """The same for a tanh: lines above and below it."""
    value, parent = pending.pop(place), graph.nodes[place].parents[0]
    ends = [end[:, None] for end in bounds[parent]]
    (steep, upper), (flat, lower) = above(*ends), below(*ends)
    down, up = value.clamp(max=0), value.clamp(min=0)
    slope, constant = down * steep + up * flat, (down * upper + up * lower).flatten(2).sum(2)
    _give(pending, parent, slope)
    if noise is None:
        return constant
    return constant - noisy(noise[parent], slope) - noisy(noise[place], value)


def _give(pending: dict[int, Tensor], place: int, value: Tensor) -> None:
    pending[place] = pending[place] + value if place in pending else value


def lower_bounds(
    graph: Graph,
    ball: Ball,
    at: int,
    rows: Float[Tensor, "n m ..."],
    bounds: Known,
    noise: Sequence[Tensor] | None = None,
) -> Float[Tensor, "n m"]:
    """The smallest value over the ball of functions of node `at`, or less."""
    made = backward(graph, {at: rows}, bounds, noise=noise)
    return ball.lowest(made.coefficients) + made.constant


def linear_margins(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], eps: float
) -> Float[Tensor, "n k"]:
    """As `bounds.margin_bounds`, by linear functions on top of intervals: for training, float32 and differentiable.

    Raises:
        ValueError, Unbounded: as there.
    """
    check_box(x)
    with torch.autocast(x.device.type, enabled=False):
        graph = lower(model, tuple(x.shape[1:]), torch.float32)
        ball = Ball.around(x, eps, "linf", torch.float32)
        rows = margin_rows(graph.nodes[-1].shape[0], y, ball.x)
        return lower_bounds(graph, ball, len(graph.nodes) - 1, rows, interval_bounds(graph, ball))


def interval_bounds(graph: Graph, ball: Ball) -> Known:
    """What every ReLU and tanh reads, by intervals; exact for any norm where only affine layers come before.

    Outside linf, the first ReLUs are bounded by linear functions of the image, as the box around a ball says little.
    """
    known = {} if ball.norm == "linf" else _exact_first(graph, ball)
    made = intervals(graph, ball.low, ball.high, known)
    return {place: made[place] for place in graph.before_curves}


def crown_bounds(graph: Graph, ball: Ball) -> Known:
    """What every ReLU and tanh reads, by linear bounds where intervals leave its sign open, in the order of the layers.

    The differences of a max-pooling behind other ReLUs keep their intervals: they are many.
    """
    known: Known = {}
    made: list[Bounds] = []
    noise: list[Tensor] = []
    wanted = set(graph.before_curves)
    for place in range(max(wanted, default=-1) + 1):
        made.append(interval_at(graph, place, made, (ball.low, ball.high), known))
        if graph.unit:
            noise.append(noise_at(graph, place, made, noise))
        if place in wanted:
            if worth_refining(graph, ball, place):
                made[place] = refined(graph, ball, place, made[place], known, noise if graph.unit else None)
            known[place] = made[place]
    return known


def refined(
    graph: Graph, ball: Ball, place: int, bound: Bounds, known: Known, noise: Sequence[Tensor] | None = None
) -> Bounds:
    """Bounds of a node's values whose sign is open, or of all where a tanh reads them, tightened by linear bounds."""
    low, high = (end.flatten(1) for end in bound)
    shape = graph.nodes[place].shape
    unstable = (low < 0) & (high > 0)
    if any(node.kind == "tanh" and node.parents[0] == place for node in graph.nodes):
        unstable = low < high
    count = int(unstable.sum(1).max()) if len(unstable) else 0
    if count == 0:
        return bound
    order = unstable.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    widest = max(torch.Size(node.shape).numel() for node in graph.nodes[: place + 1])
    parts = []
    for chosen in order.split(max(1, MAX_VALUES // (2 * widest * len(low))), dim=1):
        wanted, at = chosen.unique(return_inverse=True)
        stem, constant = stem_of(graph, place, wanted)
        start = {stop: torch.cat([rows[at], -rows[at]], 1) for stop, rows in stem.items()}
        shift = torch.cat([constant[at], -constant[at]], 1)
        made = backward(graph, start, known, constant=shift, noise=noise)
        ends = torch.stack((ball.lowest(made.coefficients) + made.constant).chunk(2, dim=1))
        parts.append(ends if noise is None else ends - noise[place].flatten(1).gather(1, chosen))
    bottom, top = torch.cat(parts, dim=2)
    low = low.scatter(1, order, torch.maximum(low.gather(1, order), bottom))
    high = high.scatter(1, order, torch.minimum(high.gather(1, order), -top))
    # rounding may turn a range of one point around
    return low.unflatten(1, shape), torch.maximum(low, high).unflatten(1, shape)


def stem_of(graph: Graph, place: int, wanted: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Some values of a node as functions of the ReLUs and the image that it reads.

    They are the same for all images: those of a node whose coefficients are at most `MAX_VALUES` are kept.

    Returns:
        Place of what is read to coefficients (K, *its shape), K the number of values; and constants (K,).
    """
    if place not in graph.stems:
        count = torch.Size(graph.nodes[place].shape).numel()
        widest = max(torch.Size(node.shape).numel() for node in graph.nodes[: place + 1])
        if count * widest > MAX_VALUES:
            return _stem(graph, place, wanted)
        graph.stems[place] = _stem(graph, place, torch.arange(count, device=graph.device))
    stem, constant = graph.stems[place]
    return {stop: rows[wanted] for stop, rows in stem.items()}, constant[wanted]


def _stem(graph: Graph, place: int, wanted: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    shape = graph.nodes[place].shape
    one = torch.zeros(len(wanted), torch.Size(shape).numel(), dtype=graph.dtype, device=graph.device)
    one[torch.arange(len(wanted), device=graph.device), wanted] = 1
    pending = {place: one.unflatten(1, shape)[None]}
    constant: Tensor | float = one.new_zeros(1, len(wanted))
    for at in range(place, 0, -1):
        if at in pending and graph.nodes[at].kind not in CURVED:
            constant = constant + affine_step(graph, at, pending)
    assert isinstance(constant, Tensor)
    return {stop: rows[0].contiguous() for stop, rows in pending.items()}, constant[0]


def _exact_first(graph: Graph, ball: Ball) -> Known:
    """Bounds of what ReLUs read that see the image through affine layers only."""
    known: Known = {}
    made = intervals(graph, ball.low, ball.high)
    noise = noises(graph, made) if graph.unit else None
    for place in graph.before_curves:
        if _sees_no_relu(graph, place):
            known[place] = refined(graph, ball, place, made[place], {}, noise)
    return known


def _sees_no_relu(graph: Graph, place: int) -> bool:
    node = graph.nodes[place]
    return node.kind not in CURVED and all(_sees_no_relu(graph, parent) for parent in node.parents)


def worth_refining(graph: Graph, ball: Ball, place: int) -> bool:
    """Whether linear bounds may say more of a node than intervals, and are not too many."""
    if ball.norm == "linf" and _is_first_layer(graph, place):
        return False
    return graph.nodes[place].kind != "add" or graph.nodes[place].sign > 0 or _sees_no_relu(graph, place)


def _is_first_layer(graph: Graph, place: int) -> bool:
    """Whether one matrix at most lies between image and node: then intervals are exact in linf."""
    matrices = 0
    while graph.nodes[place].kind == "affine":
        affine = graph.nodes[place].affine
        assert affine is not None
        matrices += affine.terms > 4
        place = graph.nodes[place].parents[0]
    return graph.nodes[place].kind == "input" and matrices <= 1
