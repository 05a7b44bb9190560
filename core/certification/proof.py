"""Which images no perturbation of a ball can fool, by bounds from the quickest to the tightest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check
from core.attacks.engine.engine import admitted, frozen, predict
from core.attacks.engine.losses import margin
from core.certification.agreement import checked
from core.certification.alpha import optimized
from core.certification.ball import Ball, exact_eps
from core.certification.bounds import (
    UNIT,
    Known,
    in_float32,
    interval_margins,
    intervals,
    margin_bounds,
    margin_rows,
    noises,
)
from core.certification.crown import (
    backward,
    crown_bounds,
    interval_bounds,
    lower_bounds,
)
from core.certification.graph import lower
from core.certification.nodes import Graph, Unbounded
from core.checks import check_choice
from core.networks.portions import halved

METHODS = ("ibp", "crown_ibp", "crown", "alpha_crown")
"""Bounds from the quickest to the tightest: intervals; linear bounds of the margins on top of intervals; linear bounds
throughout; the same with slopes chosen for each image."""
BATCH = {"ibp": 256, "crown_ibp": 64, "crown": 16, "alpha_crown": 16}
STEPS = 20
"""Gradient steps on the slopes."""
RISEN = 0.5
"""The steps end when every bound in float32 is above this: more than rounding takes off."""
NEARLY = 0.05
"""The share of an image's own margin that quick bounds may lack where float64 is to decide."""
LOOK, FAR = 32, 10.0
"""So many images of the largest margins are bounded first. Where each bound lies below its image's margin by over `FAR`
times the largest margin of all, the others are not bounded: what proves one would have to be so much closer on it."""
TINY = 1e-9
"""A margin above this, less what rounding in the network may hide, is proven: float64 hides less in the bounds."""


@torch.no_grad()
def certified_margins(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float | Float[Tensor, " n"],
    *,
    norm: str = "linf",
    method: str = "crown",
    batch: int | None = None,
    index: Int[Tensor, " n"] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, " n"]:
    """Lower bounds of how far logit y stays above every other logit in the ball; float64, -inf where nothing is known.

    Computed in float64, for the network as float32 evaluates it: what rounding may take off a margin, in any order of
    summation, is part of the bounds (`bounds.noise_at`). Stronger methods are used where weaker ones prove nothing.

    The result is checked on the model itself (`agreement`), at four forward passes and one backward pass for each image
    that is proven, and for a few others.

    Args:
        model: pixels to logits, of layers that `graph.RULES` names; taken as in eval mode.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 classes.
        eps: the ball's ε, one or (N,).
        norm: "linf", "l2" or "l1".
        method: one of `METHODS`.
        batch: images at once.
        index: (N,) the images' names in an error; their positions by default.
        on_progress: called with images done and all images.

    Raises:
        ValueError: an unknown method or norm, an ε out of range, images outside [0, 1], labels that are no classes.
        Unbounded: a layer without a rule, a dtype of less than float32, or a model that its layers do not explain.
        FalseProof: the model contradicts a bound.
    """
    check_choice("method", method, METHODS)
    graphs = graphs_of(model, x, y)
    ball = Ball.around(x, eps, norm, torch.float64)
    found = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
    ladder = [name for name in METHODS[: METHODS.index(method)] if not (method == "alpha_crown" and name != "ibp")]
    ladder.append(method)
    for rung in ladder:
        left = (~(found > TINY)).nonzero()[:, 0]
        for rows in left.split(batch or BATCH[rung]) if len(left) else ():
            margins = halved(partial(_margins, rung, graphs, ball, y), rows)
            found[rows] = torch.fmax(found[rows], margins)
            if on_progress and rung == ladder[-1]:
                on_progress(int(rows[-1]) + 1, len(x))
    sure = found > TINY
    kept = checked(model, graphs.exact, ball, x, y, found, sure, index)
    return found.masked_fill(sure & ~kept, -torch.inf)


def _margins(rung: str, graphs: Graphs, ball: Ball, y: Tensor, rows: Tensor) -> Tensor:
    return _BY_METHOD[rung](graphs, ball.take(rows), y[rows])


@dataclass(frozen=True)
class Graphs:
    """A model and what its bounds are computed on.

    Attributes:
        model: pixels to logits.
        exact: its graph in float64, for proofs.
        quick: its graph in float32, for searches.
    """

    model: nn.Module
    exact: Graph
    quick: Graph

    @property
    def classes(self) -> int:
        """The number of logits."""
        return self.exact.nodes[-1].shape[0]


def graphs_of(model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]) -> Graphs:
    """The graphs of a model that takes these images and labels.

    Raises:
        ValueError: images outside [0, 1], labels that are no classes of the model, or a model that does not take them.
        Unbounded: a layer without a rule, or numbers of less than float32's precision, for which `rounding` is too
            small.
    """
    with admitted(model, x, gradients=False) as fit:  # unknown layers may not allow what attacks need
        check(fit, x, y)
    coarse = {x.dtype, *(value.dtype for value in (*model.parameters(), *model.buffers()) if value.is_floating_point())}
    coarse -= {torch.float32, torch.float64}
    if coarse:
        raise Unbounded(f"model: expected float32 or float64 for a proof, got {', '.join(map(str, coarse))}")
    exact, quick = (lower(model, tuple(x.shape[1:]), dtype) for dtype in (torch.float64, torch.float32))
    exact.unit = UNIT
    if len(exact.nodes[-1].shape) != 1:
        raise Unbounded(f"model: expected logits (N, K), got values of shape {exact.nodes[-1].shape} for an image")
    return Graphs(model, exact, quick)


def proven(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float | Float[Tensor, " n"],
    *,
    norm: str = "linf",
    method: str = "ibp",
    batch: int | None = None,
    index: Int[Tensor, " n"] | None = None,
) -> Bool[Tensor, " n"]:
    """Whether every image of the ball is classified as `y`; false means that it was not proven.

    Arguments and errors as in `certified_margins`. By intervals in linf, float64 and the bound of rounding are only
    used for images that are nearly proven in the images' own dtype, which is much cheaper on a network that was not
    trained for such bounds (docs/MEASUREMENTS.md).
    """
    if method != "ibp" or norm != "linf":
        return certified_margins(model, x, y, eps, norm=norm, method=method, batch=batch, index=index) > TINY
    graphs_of(model, x, y)  # refuses what is no image, class or network of known layers
    index = torch.arange(len(x)) if index is None else index
    Ball.around(x, eps, norm, x.dtype)  # refuses what is no ε
    eps = exact_eps(eps, x).expand(len(x))
    near = _nearly_proven(model, x, y, eps, batch or BATCH["ibp"])
    safe = torch.zeros_like(near)
    if near.any():
        names = index.to(x.device)[near]
        margins = certified_margins(model, x[near], y[near], eps[near], method="ibp", batch=batch, index=names)
        safe[near] = margins > TINY
    return safe


@torch.no_grad()
def _nearly_proven(model: nn.Module, x: Tensor, y: Tensor, eps: Tensor, batch: int) -> Tensor:
    """Whether quick bounds lack at most `NEARLY` of the image's own margin; none where a look says that all are far."""
    eps = eps.to(x.dtype)

    def bounds(rows: Tensor) -> Tensor:
        return smallest_margin(margin_bounds(model, x[rows], y[rows], eps[rows]), y[rows])

    with frozen(model):
        own = margin(predict(model, x), y)
        if len(x) > LOOK and (eps == eps[0]).all():
            rows = own.topk(LOOK).indices
            if (own[rows] - bounds(rows)).min() > FAR * own[rows[0]]:  # NaN, where something overflows, is not far
                return torch.zeros_like(own, dtype=torch.bool)
        parts = [bounds(rows) for rows in torch.arange(len(x), device=x.device).split(batch)]
        return torch.cat(parts) > -NEARLY * own.abs()


def margin_rounding(graph: Graph, ball: Ball, known: Known, rows: Float[Tensor, "n m k"]) -> Float[Tensor, "n m"]:
    """By how much rounding in float32 may lower functions of the logits."""
    noise = noises(graph, intervals(graph, ball.low, ball.high, known))
    return (rows.abs() @ noise[-1][..., None])[..., 0]


def smallest_margin(margins: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The smallest margin over the other classes; NaN where one is."""
    return margins.scatter(1, y[:, None], torch.inf).amin(1)


def _by_intervals(graphs: Graphs, ball: Ball, y: Tensor) -> Tensor:
    known = interval_bounds(graphs.exact, ball)
    rows = margin_rows(graphs.classes, y, ball.x)
    bound = interval_margins(graphs.exact, intervals(graphs.exact, ball.low, ball.high, known), rows)
    return smallest_margin(bound - margin_rounding(graphs.exact, ball, known, rows), y)


def _by_linear(bounds_of: Callable[[Graph, Ball], Known]) -> Callable[..., Tensor]:
    def margins(graphs: Graphs, ball: Ball, y: Tensor) -> Tensor:
        graph = graphs.exact
        known = bounds_of(graph, ball)
        rows = margin_rows(graphs.classes, y, ball.x)
        noise = noises(graph, intervals(graph, ball.low, ball.high, known))
        return smallest_margin(lower_bounds(graph, ball, len(graph.nodes) - 1, rows, known, noise), y)

    return margins


def _by_slopes(graphs: Graphs, ball: Ball, y: Tensor) -> Tensor:
    """First on top of intervals, which are quick and, for networks trained for them, tight; then on linear bounds."""
    found = torch.full((len(y),), -torch.inf, dtype=graphs.exact.dtype, device=y.device)
    for bounds_of in (interval_bounds, crown_bounds):
        left = (~(found > TINY)).nonzero()[:, 0]
        if not len(left):
            break
        part = ball.take(left)
        bound = sloped_margins(graphs, part, y[left], bounds_of(graphs.exact, part))
        found[left] = torch.fmax(found[left], smallest_margin(bound, y[left]))
    return found


def sloped_margins(graphs: Graphs, ball: Ball, y: Tensor, known: Known, steps: int = STEPS) -> Float[Tensor, "n k"]:
    """The best of interval, linear and optimised bounds of every margin, less what rounding may take off."""
    graph, last = graphs.exact, len(graphs.exact.nodes) - 1
    rows = margin_rows(graphs.classes, y, ball.x)
    made = intervals(graph, ball.low, ball.high, known)
    noise = noises(graph, made)
    less = (rows.abs() @ noise[-1][..., None])[..., 0]
    bound = lower_bounds(graph, ball, last, rows, known, noise)
    bound = torch.fmax(bound, interval_margins(graph, made, rows) - less)
    image, row = (~(bound > TINY)).scatter(1, y[:, None], False).nonzero(as_tuple=True)
    if len(image) and graph.relus:
        part = {place: (low[image], high[image]) for place, (low, high) in known.items()}
        wanted, noise = rows[image, row][:, None], [value[image] for value in noise]
        with frozen(graphs.model):
            choice = optimized(
                graphs.quick,
                ball.take(image).to(torch.float32),
                wanted.float(),
                in_float32(part),
                steps=steps,
                goal=RISEN,
                noise=[value.float() for value in noise],
            )
        better = evaluated(graph, ball.take(image), {last: wanted}, part, choice.slopes, noise=noise)
        bound[image, row] = torch.fmax(bound[image, row], better[:, 0])
    return bound


def evaluated(
    graph: Graph,
    ball: Ball,
    start: dict[int, Float[Tensor, "n m ..."]],
    known: Known,
    slopes: dict[int, Tensor],
    shifts: dict[int, Tensor] | None = None,
    noise: Sequence[Tensor] | None = None,
) -> Float[Tensor, "n m"]:
    """The bound of functions of nodes (see `crown.backward`) that slopes and shifts prove, in the graph's dtype.

    -inf where a coefficient has overflowed.
    """
    slopes = {relu: value.to(graph.dtype) for relu, value in slopes.items()}
    shifts = None if shifts is None else {relu: value.to(graph.dtype) for relu, value in shifts.items()}
    made = backward(graph, start, known, slopes=slopes, shifts=shifts, noise=noise)
    found = ball.lowest(made.coefficients) + made.constant
    return found.where(found.isfinite(), -torch.inf)


_BY_METHOD = {
    "ibp": _by_intervals,
    "crown_ibp": _by_linear(interval_bounds),
    "crown": _by_linear(crown_bounds),
    "alpha_crown": _by_slopes,
}
