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

from core.certification.ascent import Ascent, Descent
from core.certification.ball import Ball
from core.certification.bounds import Known
from core.certification.crown import adaptive_slope, lines_of
from core.certification.nodes import Graph

SLOPE_RATE, MULTIPLIER_RATE, DECAY = 0.25, 0.1, 0.97
"""Adam's learning rates, and the factor on them after each step."""
LATE = 3
"""The last evaluations, of which the best counts: before, only one that is good enough for all does. A copy of every
slope at every step would take a tenth of the time."""
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
        weight: (N, M, 1), 0 or more: of the function that is known to be at most its level.
    """

    value: Tensor
    slopes: dict[int, Tensor]
    multipliers: dict[int, Tensor]
    point: Tensor
    at_relu: dict[int, Tensor]
    weight: Tensor


@dataclass(frozen=True)
class Beginning:
    """Where a search begins.

    Attributes:
        slopes: by ReLU; CROWN's by default.
        multipliers: for the ReLUs that have any; 0 for all by default, where signs are given.
        weight: (N, M, 1) of the function that is known to be at most its level; `FIRST_WEIGHT` by default.
        rate: a factor on the learning rates, less than 1 where the beginning is good.
    """

    slopes: dict[int, Tensor] | None = None
    multipliers: dict[int, Tensor] | None = None
    weight: Tensor | None = None
    rate: float = 1.0


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


@torch.no_grad()
def optimized(
    graph: Graph,
    ball: Ball,
    rows: Float[Tensor, "n m ..."],
    bounds: Known,
    *,
    steps: int,
    at: int | None = None,
    signs: dict[int, Tensor] | None = None,
    begin: Beginning | None = None,
    goal: float = torch.inf,
    noise: Sequence[Tensor] | None = None,
    ceiling: Float[Tensor, "n m k"] | None = None,
    level: Float[Tensor, "n m 1"] | None = None,
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
        begin: where to start.
        goal: stop when every bound is above it.
        noise: see `crown.backward`.
        ceiling: coefficients of functions of the logits that are at most `level` wherever the bounds are to hold. The
            lower bound of a function plus what such a one is above its level, times any weight of 0 or more, is one of
            the function there (Kotha et al. 2023, arXiv 2302.01404). Their own bounds are best about as far below their
            level as the functions' bounds are below 0.
        level: of each; 0 by default.
    """
    last = len(graph.nodes) - 1
    at = last if at is None else at
    begin = Beginning() if begin is None else begin
    slopes, multipliers = begin.slopes, begin.multipliers
    if slopes is None:
        slopes = first_choice(graph, bounds, at if ceiling is None else last)
    if signs is not None and multipliers is None:
        multipliers = {relu: torch.zeros_like(value) for relu, value in slopes.items()}
    count = rows.shape[:2]
    lines = lines_of(graph, bounds)
    chords = {relu: lines[graph.nodes[relu].parents[0]] for relu in slopes}
    free, weights = multipliers or {}, {}
    if ceiling is not None:
        weights[last] = rows.new_full((1, 1, 1), FIRST_WEIGHT) if begin.weight is None else begin.weight
    low, high = (
        [
            {relu: torch.where(chords[relu][2], end, chords[relu][0]) for relu in slopes},
            *({place: rows.new_tensor(most) for place in group} for group in (free, weights)),
        ]
        for end, most in ((0.0, 0.0), (1.0, torch.inf))
    )
    rates = [begin.rate * rate for rate in (SLOPE_RATE, MULTIPLIER_RATE, MULTIPLIER_RATE)]
    search = Ascent([slopes, free, weights], low, high, rates, (count[0], count[1]))
    pass_ = Descent(graph, ball, bounds, {at: rows}, signs=signs, noise=noise, ceiling=ceiling, level=level)
    now, steep = search.parts(search.now), search.parts(search.slope)
    best, won = rows.new_full(count, -torch.inf), torch.zeros(count, dtype=torch.bool)
    for step in range(steps + 1):
        late = step > steps - LATE
        value = pass_.backwards(*now, bounded=late or goal < torch.inf)
        # behind the first layer's pooling no slope counts: the bound is exact
        ends = step == steps or not pass_.at_relu
        if value is None and ends:
            value = pass_.backwards(*now)
        if value is not None and (late or ends or bool((value > goal).all())):
            won = value > best
            best = torch.where(won, value, best)
            search.keep(won)
        if ends or bool((best > goal).all()):
            break
        pass_.gradient(*steep)
        search.move()
        search.rates = [rate * DECAY for rate in search.rates]
    found, beta, of_ceiling = search.parts(search.best)
    if not bool(won.all()):  # else the last pass is that of the best
        pass_.backwards(found, beta, of_ceiling, bounded=False)
    assert pass_.end is not None
    weight = of_ceiling.get(last, rows.new_zeros(*count, 1))
    return Choice(best, found, beta, ball.minimizer(pass_.end), pass_.at_relu, weight)
