"""Sparse-RS: random search over few pixels, with no gradient at all.

Source: Croce, Andriushchenko, Singh, Flammarion, Hein 2022, arXiv 2006.12834, algorithm 1 for l0, with the schedule of
the public code, scaled to the number of queries. Departures: each image has its own draws, its own k and its own query
counter; fooled images leave the batch at once; a drawn colour always differs from the image's own (there only where a
single pixel moves); what leaves the loss as it was is kept too, so that plateaus are crossed; cross-entropy towards a
target is followed as log-odds, which order images alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows
from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, predict
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import steps_within
from core.attacks.engine.steps import divisor
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress

COUNTS = ("pixels", "features")


@attack(gradients=False)
def sparse_rs(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    count: Literal["pixels", "features"] = "pixels",
    queries: int = 1000,
    alpha: float = 0.3,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool with k = floor(eps) pixels: move some of them, give them random colours, keep what lowers the loss.

    Colours are corners of the colour cube: each channel 0 or 1. The loss is the margin; towards a target, the log-odds.

    Args:
        model: pixels to logits; left untouched, and never differentiated.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: how many may change, one for all or (N,), 0 or more; a fraction is dropped.
        count: what is counted: `pixels`, all colours of which may change, or `features`, single colours.
        queries: forward passes of the search for an image that stands, at least 1; the first is its random start.
        alpha: share of the k that moves at first, in (0, 1]; it falls to a twentieth, but one always moves.
        budget: the most passes to spend on each image, the verification included; None: no limit. The schedule is
            shortened to fit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: the first fooling image, else the one of the lowest loss seen (which may be `x`). Images fooled before
        come back unchanged, as successes. At most floor(eps) of `distance["pixels"]`, or of `distance["l0"]` where
        features are counted. `backwards` is 0. `trace`: `margin` (N,), the margin at `x_adv`.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(queries=queries, batch=batch)
    check_choice("count", count, COUNTS)
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: expected a share above 0 and at most 1, got {alpha}")
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=torch.inf)
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    loss: Loss = "ce" if goal.targeted else "margin"
    queries = steps_within(budget, queries, 1, 2)
    shares = torch.tensor([alpha / divisor(query / queries) for query in range(queries)], device=x.device)

    with frozen(model), torch.no_grad():
        best = Lowest.start(model, x, goal, max(batch, 256), loss=loss)
        colours = x.shape[1] if count == "pixels" else 1
        places = _places(model, x, colours)
        allowed = eps.floor().clamp(max=len(places)).long()

        def begin(rows: Tensor) -> _Search:
            return _Search.of(x[rows], colours, places, allowed[rows], streams.take(rows))

        active = Active(best.standing(allowed > 0), batch, begin)
        while active.refill():
            rows, search = active.rows, active.state
            proposal = search.propose(streams.take(rows).fork(search.query), shares[search.query])
            trial = confine(model, proposal.view(-1, *x.shape[1:]), x[rows])
            logits = predict(model, trial, batch)
            best.forwards[rows] += 1
            part = best.goal.take(rows)
            now, found = part.reached(logits), part.loss(logits, loss)
            search.accept((search.query == 0) | (found <= search.lowest), proposal, found)
            best.offer(rows, trial, now, found, None if loss == "margin" else part.margin(logits))
            search.query = search.query + 1
            active.keep(~now & (search.query < queries))
            best.report(on_progress, active.left)
        return best.result(batch)


def _places(model: nn.Module, x: Tensor, colours: int) -> Tensor:
    """The pixels (or features) that may change, as numbers: all, or those of the model's mask."""
    inside = confine(model, torch.ones_like(x[:1]), torch.zeros_like(x[:1])) > 0
    return inside.reshape(colours, -1).any(0).nonzero()[:, 0]


@dataclass
class _Search(Rows):
    """The images under attack as they are now: n images of g colours (1 where features are counted) and p places.

    Attributes:
        image: (n, g, p) before the attack.
        point: (n, g, p) the best so far.
        allowed: (n,) int64, k.
        order: (n, q) the places that may change; the first k are those that differ from the image.
        moving: (n,) how many of them the last proposal moved.
        query: (n,) int64, queries made.
        lowest: (n,) the loss at the point.
    """

    image: Tensor
    point: Tensor
    allowed: Tensor
    order: Tensor
    moving: Tensor
    query: Tensor
    lowest: Tensor

    @classmethod
    def of(cls, x: Tensor, colours: int, places: Tensor, allowed: Tensor, streams: Streams) -> _Search:
        """Nothing changed yet, but the k places of the start are drawn."""
        image = x.flatten(2) if x.shape[1] == colours else x.flatten(1)[:, None]
        order = places[streams.fork(-1).uniform(0, 1, (len(places),)).argsort(dim=1, stable=True)]
        zeros = torch.zeros_like(allowed)
        lowest = torch.full_like(image[:, 0, 0], torch.inf)
        return cls(image, image.clone(), allowed, order, zeros, zeros, lowest)

    def propose(self, streams: Streams, share: Tensor) -> Tensor:
        """Some of the k places go back to the image, as many others get colours; at first all k get colours."""
        first = self.query == 0
        spare = self.order.shape[1] - self.allowed
        moving = (share * self.allowed).long().clamp(min=1)
        moving = torch.where(spare > 0, torch.minimum(moving, spare), moving)
        # where all places are among the k, there are none to go to: new colours where they are
        self.moving = torch.where(first | (spare == 0), 0, moving)
        start, widest = torch.zeros_like(moving), int(moving.max())
        self._shuffle(streams.fork(1), start, self.allowed, moving, widest)
        self._shuffle(streams.fork(2), self.allowed, self.allowed + spare, self.moving, widest)
        places, some = self._slots(start, moving, widest)
        trial = _put(self.point, places, some & ~first[:, None], self._before(places))
        places, some = self._slots(torch.where(spare > 0, self.allowed, 0), moving, widest)
        trial = _put(trial, places, some & ~first[:, None], self._painted(streams.fork(3), places))
        if first.any():
            places, some = self._slots(start, self.allowed, int(self.allowed.max()))
            trial = _put(trial, places, some & first[:, None], self._painted(streams.fork(3), places))
        return trial

    def accept(self, rows: Tensor, proposal: Tensor, found: Tensor) -> None:
        """The proposals of these images (n,) bool are their new points, with these losses."""
        self.lowest = torch.where(rows, found.nan_to_num(torch.inf), self.lowest)
        self.point = torch.where(per_image(rows, self.point), proposal, self.point)
        width = self.order.shape[1]
        for place in range(int(self.moving.max())):
            swap = rows & (place < self.moving)
            there = torch.where(swap, self.allowed + place, place).clamp(max=width - 1)
            self._swap(torch.full_like(there, place), there)

    def _swap(self, one: Tensor, other: Tensor) -> None:
        """Exchange two slots (n,) of each order."""
        slots = torch.stack([one, other], 1)
        self.order = self.order.scatter(1, slots, self.order.gather(1, slots.flip(1)))

    def _shuffle(self, streams: Streams, start: Tensor, end: Tensor, number: Tensor, widest: int) -> None:
        """Draw `number` of the slots from `start` to `end`, without repetition, to the first places there."""
        draws = streams.uniform(0, 1, (widest,), torch.float64)
        for place in range(widest):
            here = torch.where(place < number, start + place, 0)
            drawn = here + (draws[:, place] * (end - here)).long()
            self._swap(here, torch.where(place < number, drawn, 0))

    def _slots(self, start: Tensor, number: Tensor, widest: int) -> tuple[Tensor, Tensor]:
        """The places (n, widest) in the slots from `start` on, and which of them are among the first `number`.

        All places of a row differ, so that what is written to one is not overwritten by another.
        """
        slot = torch.arange(widest, device=start.device)
        return self.order.gather(1, (start[:, None] + slot) % self.order.shape[1]), slot < number[:, None]

    def _before(self, places: Tensor) -> Tensor:
        """The image's own colours (n, g, m) at places (n, m)."""
        return self.image.gather(2, places[:, None].expand(-1, self.image.shape[1], -1))

    def _painted(self, streams: Streams, places: Tensor) -> Tensor:
        """Random colours (n, g, widest), each 0 or 1, and at least one of a pixel's other than in the image."""
        before = self._before(places)
        colours = before.shape[1]
        draws = streams.uniform(0, 1, (places.shape[1], colours + 1)).movedim(2, 1)
        drawn = (draws[:, :colours] < 0.5).to(before.dtype)
        # the image's own colour: turn one channel round
        same = (drawn == before).all(1, keepdim=True)
        chosen = (draws[:, colours:] * colours).long() == torch.arange(colours, device=places.device)[:, None]
        return torch.where(same & chosen, 1 - drawn, drawn)


def _put(point: Tensor, places: Tensor, some: Tensor, values: Tensor) -> Tensor:
    """`point` (n, g, p) with the values (n, g, m) at those of the places (n, m) that `some` says."""
    index = places[:, None].expand(-1, point.shape[1], -1)
    return point.scatter(2, index, torch.where(some[:, None], values, point.gather(2, index)))
