"""HopSkipJump: the smallest perturbation by asking only which class is predicted.

Source: Chen, Jordan, Wainwright 2020, arXiv 1904.02144, algorithm 2. Departures: each image has noise and a counter of
queries of its own; starts are noise of several coarsenesses, so that more classes are met, and the one whose blend
comes nearest is taken; the nearest fooling image of all is kept, not the last; the last round's probes are as many as
queries are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_x_init
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, predict
from core.attacks.engine.geometry import norm_of, per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, steps_within, unit
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress

NORMS = ("linf", "l2")
TRIES = 40
"""Noise images tried until one fools, at most, and never more than a quarter of the queries."""
MAX_STARTS, START_SHARE, FEW_CUTS = 16, 80, 5
"""Noise images that are blended towards the image, by so many cuts; one for each 80 queries."""
CELLS = (1, 2, 4, 7)
"""Pixels along a side of the squares of constant grey that the noise is made of, in turn."""
HALVINGS = 12
"""How often a jump is halved that does not fool."""
MIN_PROBES = 8
"""A round with fewer probes left for its gradient is not begun."""
BLOCK = 25
"""Probes drawn together; part of what a seed means."""
MAX_PROBES = 10_000


@attack(gradients=False)
def hop_skip_jump(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Literal["linf", "l2"] = "l2",
    queries: int = 2000,
    probes: int = 100,
    x_init: Float[Tensor, "n c h w"] | None = None,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small perturbation from verdicts alone: to the boundary, a gradient there from probes, a jump, again.

    Args:
        model: pixels to logits, of which only the largest is looked at; left untouched, and never differentiated.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small.
        queries: forward passes of the search for each image, at least 1.
        probes: of the first round's gradient, at least 1; round t has sqrt(t) times as many.
        x_init: (N, C, H, W) in [0, 1], images to start from, such as some of the target classes; one that does not fool
            counts as a query. None: noise.
        budget: the most forward passes to spend on each image, the verification included, at least 3; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes. Noise meets few classes: give `x_init`.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images under attack at once.
        on_progress: called each round with images done, all, share of `success`.

    Returns:
        The nearest fooling image met, the probes around it left out; images fooled before, and those for which no start
        was found, come back unchanged. `backwards` is 0.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(queries=queries, probes=probes, batch=batch)
    check_choice("norm", norm, NORMS)
    check(model, x, y, y_target=y_target)
    x_init = x_init.to(x) if isinstance(x_init, Tensor) else x_init
    check_x_init(x_init, x)
    limit = 1 + steps_within(budget, queries, 1, 2)
    streams = default_streams(streams, x)
    with frozen(model), torch.no_grad():
        best = Smallest.start(model, x, Goal.of(y, y_target), norm, batch, on_progress)
        best.goal = Goal.of(y, y_target)  # it sees the class only, and no margin
        search = _Search(best, streams, limit, math.ceil((1.5 if norm == "l2" else 2) * math.log2(x[0].numel())))
        for chunk in best.chunks():
            rows, point = search.first_point(chunk, None if x_init is None else x_init[chunk])
            point = search.to_boundary(rows, point)
            turn = 0
            while True:
                enough = search.left(rows) >= MIN_PROBES + 2
                rows, point, turn = rows[enough], point[enough], turn + 1
                if not len(rows):
                    break
                direction = search.direction(rows, point, turn, probes)
                point = search.to_boundary(rows, search.jump(rows, point, direction, turn))
                best.report(chunk, 1 - search.left(rows).max().item() / limit)
        return best.result()


@dataclass(frozen=True)
class _Search:
    """What the parts of a round share.

    Attributes:
        best: the nearest fooling images so far, and the queries spent.
        streams: random streams of all images.
        limit: forward passes that an image may have spent when its search ends.
        cuts: rounds of a bisection: the paper's precision is d^-1.5 of the distance in l2, d^-2 in linf.
    """

    best: Smallest
    streams: Streams
    limit: int
    cuts: int

    def left(self, rows: Tensor) -> Tensor:
        """Queries left (n,)."""
        return self.limit - self.best.forwards[rows]

    def ask(self, rows: Tensor, trial: Tensor) -> Tensor:
        """Which trials fool; False where no query is left. What is nearer than the best is kept."""
        fooled = torch.zeros_like(rows, dtype=torch.bool)
        can = self.left(rows) > 0
        if can.any():
            fooled[can] = self.best.look(rows[can], trial[can])
        return fooled

    def first_point(self, rows: Tensor, x_init: Tensor | None) -> tuple[Tensor, Tensor]:
        """Those of the images for which a fooling image was found, and that image: of several noises the best blend."""
        image, model = self.best.x[rows], self.best.model
        if x_init is not None:
            self.ask(rows, confine(model, x_init, image))
        several = min(MAX_STARTS, self.limit // START_SHARE)
        for attempt in range(min(TRIES, max(1, self.limit // 4))):
            found = self.best.size[rows] < torch.inf
            todo = (~found if x_init is not None or attempt >= several else torch.ones_like(found)).nonzero()[:, 0]
            if not len(todo):
                break
            noise = confine(model, _noise(self.streams.take(rows[todo]), image[todo], attempt), image[todo])
            fooled = self.ask(rows[todo], noise)
            if attempt < several and x_init is None:
                self.to_boundary(rows[todo[fooled]], noise[fooled], FEW_CUTS)
        found = self.best.size[rows] < torch.inf
        return rows[found], self.best.x_adv[rows[found]]

    def to_boundary(self, rows: Tensor, point: Tensor, cuts: int | None = None) -> Tensor:
        """From fooling points towards the images: by blending in l2, into smaller and smaller boxes in linf."""
        image = self.best.x[rows]
        delta = point - image
        low, high = torch.zeros_like(delta[:, 0, 0, 0]), torch.ones_like(delta[:, 0, 0, 0])
        for _ in range(self.cuts if cuts is None else cuts):
            middle = (low + high) / 2
            fooled = self.ask(rows, self._between(image, delta, middle))
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        return torch.where(per_image(high < 1, point), self._between(image, delta, high), point)

    def _between(self, image: Tensor, delta: Tensor, share: Tensor) -> Tensor:
        if self.best.norm == "l2":
            return (image + per_image(share, delta) * delta).clamp(0, 1)
        bound = per_image(share * norm_of(delta, "linf"), delta)
        return (image + delta.clamp(-bound, bound)).clamp(0, 1)

    def direction(self, rows: Tensor, point: Tensor, turn: int, probes: int) -> Tensor:
        """Where fooling is surest, seen from the boundary: the mean of random directions, weighed by their verdicts.

        Against the verdicts' own mean, which makes the estimate's variance small (equation 16 of the paper). Returns
        unit vectors in l2, signs in linf.
        """
        best, norm, shape = self.best, self.best.norm, tuple(point.shape[1:])
        reach = norm_of(point - best.x[rows], norm) / point[0].numel()  # sqrt(d) d^-1.5 in l2, d d^-2 in linf
        if turn == 1:
            reach = torch.full_like(reach, 0.1)
        wanted = min(MAX_PROBES, int(probes * turn**0.5))
        # a quarter of what is left stays for the jump and the way back to the boundary
        count = torch.minimum(torch.full_like(rows, wanted), (self.left(rows) * 3 + 3) // 4)
        weighed, plain = torch.zeros_like(point), torch.zeros_like(point)
        hits = torch.zeros_like(reach)
        for first in range(0, int(count.max()), BLOCK):
            own = self.streams.take(rows).fork(turn).fork(first)
            draw = (BLOCK, *shape)
            noise = own.normal(draw, point.dtype) if norm == "l2" else own.uniform(-1, 1, draw, point.dtype)
            noise = confine(best.model, noise, torch.zeros_like(noise))
            noise = noise / noise.flatten(2).norm(dim=2).clamp(min=torch.finfo(point.dtype).tiny)[..., None, None, None]
            reached = per_image(reach, noise)
            trial = (point[:, None] + reached * noise).clamp(0, 1)
            change = (trial - point[:, None]) / reached
            asked = first + torch.arange(BLOCK, device=rows.device) < count[:, None]
            owner = rows[:, None].expand_as(asked)[asked]
            verdict = torch.zeros_like(asked, dtype=point.dtype)
            fooled = best.goal.take(owner).reached(predict(best.model, trial[asked], max(best.batch, 256)))
            verdict[asked] = fooled.to(point.dtype) * 2 - 1
            weighed += torch.einsum("nb,nbchw->nchw", verdict, change)
            plain += torch.einsum("nb,nbchw->nchw", asked.to(point.dtype), change)
            hits += verdict.sum(1)
        best.forwards[rows] += count
        mean = hits / count
        one_sided = mean.abs() == 1  # all alike: no baseline, else nothing is left
        estimate = weighed - per_image(torch.where(one_sided, 0, mean), plain) * plain
        return estimate.sign() if norm == "linf" else unit(estimate)

    def jump(self, rows: Tensor, point: Tensor, direction: Tensor, turn: int) -> Tensor:
        """Away from the boundary, by the distance over sqrt(turn), or the first half, quarter, ... of it that fools."""
        length = norm_of(point - self.best.x[rows], self.best.norm) / turn**0.5
        made, todo = point.clone(), torch.arange(len(rows), device=rows.device)
        for _ in range(HALVINGS):
            trial = (point[todo] + per_image(length[todo], point) * direction[todo]).clamp(0, 1)
            fooled = self.ask(rows[todo], trial)
            made[todo[fooled]] = trial[fooled]
            length = length / 2
            todo = todo[~fooled]
            if not len(todo):
                break
        return made


def _noise(streams: Streams, x: Tensor, attempt: int) -> Tensor:
    """Noise of squares of constant grey, or of black and white: coarse noise meets classes that fine noise does not."""
    channels, height, width = x.shape[1:]
    cell = CELLS[attempt % len(CELLS)]
    grid = (channels, -(-height // cell), -(-width // cell))
    noise = streams.fork(-1 - attempt).uniform(0, 1, grid, x.dtype)
    if attempt // len(CELLS) % 2:
        noise = noise.round()
    return noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[:, :, :height, :width]
