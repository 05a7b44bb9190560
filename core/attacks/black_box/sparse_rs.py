"""Sparse-RS: random search over few pixels, with no gradient at all.

Source: Croce, Andriushchenko, Singh, Flammarion, Hein 2022, arXiv 2006.12834, algorithm 1 for l0, with the schedule of
the public code, scaled to the number of queries. Departures: each image has its own draws, its own k and its own query
counter; fooled images leave the batch at once; a drawn colour always differs from the image's own (there only where a
single pixel moves); what leaves the loss as it was is kept too, so that plateaus are crossed; cross-entropy towards a
target is followed as log-odds, which order images alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.door import attack
from core.attacks.engine.engine import (
    ATTACK_BATCH,
    AttackResult,
    Streams,
    check,
    clear_goal,
    confine,
    default_streams,
    finish,
    frozen,
    predict,
    take_waiting,
)
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.smallest import check_counts, steps_within
from core.progress import Progress

COUNTS = ("pixels", "features")
SCHEDULE = ((0.0, 1), (0.005, 2), (0.02, 4), (0.05, 5), (0.1, 6), (0.2, 8), (0.4, 10), (0.6, 12), (0.8, 15), (1.0, 20))
"""Up to this share of all queries, alpha is divided by this number."""


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
    if count not in COUNTS:
        raise ValueError(f"count: expected one of {', '.join(COUNTS)}, got {count!r}")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: expected a share above 0 and at most 1, got {alpha}")
    allowance = check(model, x, y, eps=eps, y_target=y_target, eps_limit=torch.inf)
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    loss: Loss = "ce" if goal.targeted else "margin"
    queries = steps_within(budget, queries, 1, 2)
    shares = torch.tensor([alpha / divisor(query / queries) for query in range(queries)], device=x.device)

    with frozen(model), torch.no_grad():
        clean = predict(model, x, max(batch, 256))
        fooled, best, margin = goal.reached(clean), goal.loss(clean, loss), goal.margin(clean)
        goal = clear_goal(model, goal, clean)
        x_adv = x.clone()
        forwards = torch.ones_like(y)
        colours = x.shape[1] if count == "pixels" else 1
        places = _places(model, x, colours)
        most = allowance.floor().clamp(max=len(places)).long()
        waiting = deque((~fooled & (most > 0)).nonzero()[:, 0].tolist())
        ended = len(x) - len(waiting)
        rows = torch.zeros(0, dtype=torch.int64, device=x.device)
        search = _Search.of(x[:0], colours, places, most[:0], streams.take(rows))
        query, lowest = rows, best[:0]

        while waiting or len(rows):
            if waiting and len(rows) < batch:
                new = take_waiting(waiting, batch - len(rows), x.device)
                search = search.joined(_Search.of(x[new], colours, places, most[new], streams.take(new)))
                rows, query = torch.cat([rows, new]), torch.cat([query, torch.zeros_like(new)])
                lowest = torch.cat([lowest, torch.full_like(best[new], torch.inf)])

            proposal = search.propose(streams.take(rows).fork(query), shares[query], query == 0)
            trial = confine(model, proposal.view(-1, *x.shape[1:]), x[rows])
            logits = predict(model, trial, batch)
            forwards[rows] += 1
            part = goal.take(rows)
            now, found = part.reached(logits), part.loss(logits, loss)
            accept = (query == 0) | (found <= lowest)
            search.accept(accept, proposal)
            lowest = torch.where(accept, found.nan_to_num(torch.inf), lowest)
            better = now | (found < best[rows])
            x_adv[rows[better]], best[rows[better]] = trial[better], found[better]
            margin[rows[better]] = part.margin(logits)[better]
            fooled[rows[now]] = True

            query = query + 1
            stay = ~now & (query < queries)
            ended += int((~stay).sum())
            if not stay.all():
                rows, query, lowest, search = rows[stay], query[stay], lowest[stay], search.take(stay)
            if on_progress:
                on_progress(ended, len(x), success=fooled.float().mean().item())
        return finish(model, x, x_adv, goal, fooled, forwards, torch.zeros_like(y), {"margin": margin}, batch)


def divisor(share: float) -> int:
    """What alpha is divided by after this share of all queries."""
    return next(number for limit, number in SCHEDULE if share <= limit)


def _places(model: nn.Module, x: Tensor, colours: int) -> Tensor:
    """The pixels (or features) that may change, as numbers: all, or those of the model's mask."""
    inside = confine(model, torch.ones_like(x[:1]), torch.zeros_like(x[:1])) > 0
    return inside.reshape(colours, -1).any(0).nonzero()[:, 0]


@dataclass
class _Search:
    """The images under attack as they are now: n images of g colours (1 where features are counted) and p places.

    Attributes:
        image: (n, g, p) before the attack.
        point: (n, g, p) the best so far.
        most: (n,) k.
        order: (n, q) the places that may change; the first k are those that differ from the image.
        moving: (n,) how many of them the last proposal moved.
    """

    image: Tensor
    point: Tensor
    most: Tensor
    order: Tensor
    moving: Tensor

    @classmethod
    def of(cls, x: Tensor, colours: int, places: Tensor, most: Tensor, streams: Streams) -> _Search:
        """Nothing changed yet, but the k places of the start are drawn."""
        image = x.flatten(2) if x.shape[1] == colours else x.flatten(1)[:, None]
        order = places[streams.fork(-1).uniform(0, 1, (len(places),)).argsort(dim=1, stable=True)]
        return cls(image, image.clone(), most, order, torch.zeros_like(most))

    def joined(self, other: _Search) -> _Search:
        """Both."""
        if not len(self.most):
            return other
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return _Search(*(torch.cat(pair) for pair in pairs))

    def take(self, rows: Tensor) -> _Search:
        """Some of the images."""
        return _Search(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def propose(self, streams: Streams, share: Tensor, first: Tensor) -> Tensor:
        """Some of the k places go back to the image, as many others get colours; at first all k get colours."""
        spare = self.order.shape[1] - self.most
        moving = (share * self.most).long().clamp(min=1)
        moving = torch.where(spare > 0, torch.minimum(moving, spare), moving)
        # where all places are among the k, there are none to go to: new colours where they are
        self.moving = torch.where(first | (spare == 0), 0, moving)
        start, widest = torch.zeros_like(moving), int(moving.max())
        self._shuffle(streams.fork(1), start, self.most, moving, widest)
        self._shuffle(streams.fork(2), self.most, self.most + spare, self.moving, widest)
        places, some = self._slots(start, moving, widest)
        trial = _put(self.point, places, some & ~first[:, None], self._before(places))
        places, some = self._slots(torch.where(spare > 0, self.most, 0), moving, widest)
        trial = _put(trial, places, some & ~first[:, None], self._painted(streams.fork(3), places))
        if first.any():
            places, some = self._slots(start, self.most, int(self.most.max()))
            trial = _put(trial, places, some & first[:, None], self._painted(streams.fork(3), places))
        return trial

    def accept(self, rows: Tensor, proposal: Tensor) -> None:
        """The proposals of these images are their new points."""
        self.point = torch.where(per_image(rows, self.point), proposal, self.point)
        width = self.order.shape[1]
        for place in range(int(self.moving.max())):
            swap = rows & (place < self.moving)
            there = torch.where(swap, self.most + place, place).clamp(max=width - 1)
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
