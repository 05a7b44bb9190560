"""The Square attack: random search by patches, with no gradient at all, in the linf and l2 balls.

Source: Andriushchenko, Croce, Flammarion, Hein 2020, arXiv 1912.00049, algorithms 1 to 3. Departures: each image has
squares, signs and a query counter of its own (the public code draws one square for the whole batch); fooled images
leave the batch at once; the margin is the loss towards a target too; several squares may be tried at once and the best
be kept (`offspring`; the paper's search is a (1+1) evolution strategy, this a (1+lambda) one); in linf a square that
leaves the image as it was turns its signs over; the l2 bump is written as a sum over rings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows
from core.attacks.engine.checks import check, check_counts, check_x_init
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, predict
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.in_half import half_of
from core.attacks.engine.losses import Goal
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import steps_within
from core.attacks.engine.steps import eps_limit
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress

NORMS = ("linf", "l2")
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""The square's area is halved after each of these shares of all queries."""
TILES = 5
"""The l2 attack starts from so many bumps along each side."""


@attack(gradients=False)
def square(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Literal["linf", "l2"] = "linf",
    queries: int = 1000,
    offspring: int = 1,
    area: float = 0.8,
    milestones: tuple[tuple[int, float], ...] = (),
    x_init: Float[Tensor, "n c h w"] | None = None,
    spent: int = 0,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by trying random squares and keeping each that lowers the margin.

    Args:
        model: pixels to logits; left untouched, and never differentiated.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball, one for all or (N,); in [0, 1] for linf, 0 or more for l2.
        norm: shape of the ball.
        queries: forward passes of the search for an image that stands, at least 1; the first is its random start.
        offspring: so many of the queries at once, from the same point, at least 1. Where few squares are any good 16
            at once find as much by the query, in less time.
        area: share of the image that the first squares cover, in (0, 1].
        milestones: pairs of queries and a share of the margin where the search begins, the image's own unless `x_init`
            is given: a search that is still above it after so many queries is given up.
        x_init: (N, C, H, W) inside ball and box: the best points that an earlier search found, instead of the random
            start.
        spent: so many queries of the schedule of areas are taken as made, 0 or more: the first squares are smaller.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        budget: the most forward passes to spend on each image, at least 3: it cuts `queries`; None: no limit.
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: the first fooling image, else the one of the lowest margin seen (which may be `x`). Images fooled
        before come back unchanged, as successes. The ball holds to the last bit in `distance`. `backwards` is 0.
        `trace`: `margin` (N,), the margin at `x_adv` (NaN where the model's output is).

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(queries=queries, offspring=offspring, batch=batch)
    check_choice("norm", norm, NORMS)
    if not 0 < area <= 1:
        raise ValueError(f"area: expected a share above 0 and at most 1, got {area}")
    if spent < 0:
        raise ValueError(f"spent: expected 0 or more, got {spent}")
    check_x_init(x_init, x)
    queries = steps_within(budget, queries, 1, 2)
    wide = min(offspring, queries)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    streams = default_streams(streams, x)
    sides = torch.tensor(side_lengths(spent + queries, area, min(x.shape[2:]))[spent:], device=x.device)
    allowed = _allowed(milestones, queries, wide, x)

    with frozen(model), torch.no_grad():
        best = Lowest.start(model, x, Goal.of(y, y_target), max(batch, 256), x_init=x_init)
        first_margin = best.margin.clone()
        search = _Search(best, streams, eps, norm, sides, wide, anew=x_init is None)
        active = Active(best.standing(eps > 0), max(1, batch // wide), search.begin)
        while active.refill():
            rows, on = active.rows, active.state
            many = torch.arange(len(rows), device=x.device).repeat_interleave(wide)
            trial = search.propose(rows, on, many)
            logits = predict(model, trial, batch, half=wide > 1)
            best.forwards[rows] += wide
            part = best.goal.take(rows[many])
            now, found = part.reached(logits), part.margin(logits)
            if wide > 1:
                score = torch.where(now, -torch.inf, found.where(found.isfinite(), torch.inf))
                best_one = score.view(-1, wide).argmin(1) + many[::wide] * wide
                trial, now, found = trial[best_one], now[best_one], found[best_one]
            if wide > 1 and half_of(model) is not None:  # the best of them by rounded logits: what is it worth?
                logits, part = predict(model, trial), best.goal.take(rows)
                best.forwards[rows] += 1
                now, found = part.reached(logits), part.margin(logits)
            accept = now | (found < on.lowest)
            on.point = torch.where(per_image(accept, x), trial, on.point)
            on.lowest = torch.where(accept, found, on.lowest)
            best.offer(rows, trial, now, found)

            on.query = on.query + wide
            promising = on.lowest <= allowed[on.query] * first_margin[rows]
            active.keep(~now & (on.query + wide <= queries) & promising)
            best.report(on_progress, active.left)

        if norm == "l2":
            best.x_adv = into_ball(best.x_adv, x, eps, "l2")
        return best.result(batch)


@dataclass
class _Points(Rows):
    """The images under attack.

    Attributes:
        query: (n,) int64, queries made.
        point: (n, C, H, W) where the search is; the image that is kept may be the clean one.
        lowest: (n,) the margin there.
        low, high: limits of the point in linf, kept because finding them costs as much as a query.
    """

    query: Tensor
    point: Tensor
    lowest: Tensor
    low: Tensor | None
    high: Tensor | None


@dataclass(frozen=True)
class _Search:
    """What all squares share.

    Attributes:
        best: the best images so far.
        streams: random streams of all images.
        eps: (N,) the budgets.
        norm: shape of the ball.
        sides: (queries,) int64, side of the square at each query.
        wide: squares tried at once.
        anew: whether the search begins at a random start, and not at the best images so far.
    """

    best: Lowest
    streams: Streams
    eps: Tensor
    norm: str
    sides: Tensor
    wide: int
    anew: bool

    def begin(self, rows: Tensor) -> _Points:
        """These images, before their first query."""
        x, value = self.best.x[rows], self.best.value[rows]
        low, high = linf_bounds(x, self.eps[rows]) if self.norm == "linf" else (None, None)
        lowest = torch.full_like(value, torch.inf) if self.anew else value
        return _Points(torch.zeros_like(rows), self.best.x_adv[rows], lowest, low, high)

    def propose(self, rows: Tensor, on: _Points, many: Tensor) -> Tensor:
        """Images to ask the model about, `wide` of each image; `many` are their rows in `on`."""
        number = on.query[many] + torch.arange(self.wide, device=rows.device).repeat(len(rows))
        streams, side = self.streams.take(rows[many]).fork(number), self.sides[on.query[many]]
        first = (on.query[many] == 0) & self.anew
        x = self.best.x[rows[many]]
        if on.low is not None and on.high is not None:
            trial = _linf_proposal(streams, on.point[many], on.low[many], on.high[many], side, first)
        else:
            trial = _l2_proposal(streams, on.point[many], x, self.eps[rows[many]], side, first)
        return confine(self.best.model, trial, x)


def _allowed(milestones: tuple[tuple[int, float], ...], queries: int, wide: int, x: Tensor) -> Tensor:
    """After each number of queries, the share of the first margin above which a search is given up: mostly inf."""
    allowed = torch.full((queries + wide,), torch.inf, dtype=x.dtype, device=x.device)
    for at, share in milestones:
        if at < queries:
            allowed[-(-at // wide) * wide] = share
    return allowed


def side_lengths(queries: int, area: float, longest: int) -> list[int]:
    """Side of the square at each query, for images whose shorter side is `longest`; from 1, and never growing."""
    shares = [area / 2 ** sum(query > share * queries for share in HALVINGS) for query in range(queries)]
    return [min(longest, max(1, round(share**0.5 * longest))) for share in shares]


def _inside(corner: Tensor, side: Tensor, shape: tuple[int, int]) -> Tensor:
    """Which pixels (n, H, W) are in a square with this upper left corner (n, 2)."""
    down, right = (torch.arange(size, device=side.device) - corner[:, axis, None] for axis, size in enumerate(shape))
    rows, columns = ((at >= 0) & (at < side[:, None]) for at in (down, right))
    return rows[:, :, None] & columns[:, None, :]


def _corner(streams: Streams, side: Tensor, shape: tuple[int, int], number: int) -> Tensor:
    """A random corner (n, 2) of a square that lies inside the image."""
    space = torch.tensor(shape, device=side.device) - side[:, None] + 1
    return (streams.fork(number).uniform(0, 1, (2,), torch.float64) * space).long()


def _signs(streams: Streams, shape: tuple[int, ...], number: int, dtype: torch.dtype) -> Tensor:
    """Random signs (n, *shape)."""
    return 1 - 2 * (streams.fork(number).uniform(0, 1, shape) < 0.5).to(dtype)


def _linf_proposal(streams: Streams, point: Tensor, low: Tensor, high: Tensor, side: Tensor, first: Tensor) -> Tensor:
    """A square at x ± eps, a sign a channel; at the first query vertical stripes, a sign a column and channel."""
    channels, height, width = point.shape[1:]
    mask = _inside(_corner(streams, side, (height, width), 1), side, (height, width))[:, None]
    up = _signs(streams, (channels, 1, 1), 2, point.dtype) > 0
    trial = torch.where(mask, torch.where(up, high, low), point)
    same = (trial == point).flatten(1).all(1).nonzero()[:, 0]
    if len(same):  # the square is there already: the other way round
        other = torch.where(up[same], low[same], high[same])
        trial[same] = torch.where(mask[same], other, point[same])
    if first.any():
        stripes = torch.where(_signs(streams, (channels, 1, width), 0, point.dtype) > 0, high, low)
        trial = torch.where(per_image(first, point), stripes, trial)
    return trial


def _l2_proposal(streams: Streams, point: Tensor, x: Tensor, eps: Tensor, side: Tensor, first: Tensor) -> Tensor:
    """Move budget from one square to a bump in another; at the first query a grid of bumps with random signs."""
    channels, height, width = x.shape[1:]
    tiny = torch.finfo(x.dtype).tiny
    side = (side.clamp(min=3) | 1).clamp(max=min(height, width))  # odd, so that a bump has a middle
    delta = point - x
    corner = _corner(streams, side, (height, width), 1)
    down = torch.arange(height, device=x.device)[None, :, None] - corner[:, 0, None, None]
    right = torch.arange(width, device=x.device)[None, None, :] - corner[:, 1, None, None]
    into = _inside(corner, side, (height, width))
    away = _inside(_corner(streams, side, (height, width), 2), side, (height, width))
    turned = streams.fork(3).uniform(0, 1, (1, 1)) < 0.5
    bump = torch.where(turned, _bump(right, down, side), _bump(down, right, side)) * into
    bump = bump / bump.square().sum((1, 2), keepdim=True).sqrt().clamp(min=tiny)
    into, away, bump = into[:, None], away[:, None], bump[:, None].to(x.dtype)

    there = delta * into
    there = there / there.square().sum((2, 3), keepdim=True).sqrt().clamp(min=tiny)
    shape = _signs(streams, (channels, 1, 1), 4, x.dtype) * bump + there
    shape = shape / shape.square().sum((2, 3), keepdim=True).sqrt().clamp(min=tiny)
    unused = (eps.square() - delta.square().flatten(1).sum(1)).clamp(min=0)
    freed = (delta * (into | away)).square().sum((2, 3), keepdim=True)
    size = (freed + per_image(unused, x) / channels).sqrt()
    moved = delta * ~(into | away) + shape * size
    if first.any():
        moved = torch.where(per_image(first, x), _grid(streams, x), moved)
    length = torch.linalg.vector_norm(moved.flatten(1), dim=1).clamp(min=tiny)
    return (x + moved * per_image(eps / length, x)).clamp(0, 1)


def _bump(down: Tensor, right: Tensor, side: Tensor) -> Tensor:
    """Two hills, the upper one positive and the lower one negative, on the square's own coordinates (n, H, W).

    Each pixel sums 1 / k² over the rings k from its own, counted from its hill's middle, to the outermost.
    """
    half = (side // 2)[:, None, None]
    lower = down >= half
    middle = torch.where(lower, half + (side[:, None, None] - half) // 2, half // 2)
    ring = torch.maximum((down - middle).abs(), (right - half).abs())
    last = int(side.max()) + 1
    total = torch.cat([torch.zeros(1), (1 / torch.arange(1, last + 1).double() ** 2).cumsum(0).float()])
    total = total.to(side.device)
    height = total[half + 1] - total[ring.clamp(max=last)]
    return torch.where(lower, -height, height)


def _grid(streams: Streams, x: Tensor) -> Tensor:
    """Bumps over the whole image, each with a random sign a channel."""
    channels, height, width = x.shape[1:]
    tile = max(1, min(height, width) // TILES)
    side = torch.full((len(x),), tile, device=x.device)
    down = torch.arange(height, device=x.device)[None, :, None].expand(len(x), height, width)
    right = torch.arange(width, device=x.device)[None, None, :].expand(len(x), height, width)
    bump = _bump(down % tile, right % tile, side).to(x.dtype)
    cells = (height // tile + 1) * (width // tile + 1)
    signs = _signs(streams, (channels, cells), 0, x.dtype)
    place = (down // tile * (width // tile + 1) + right // tile).flatten(1)[:, None].expand(-1, channels, -1)
    return bump[:, None] * signs.gather(2, place).view_as(x)
