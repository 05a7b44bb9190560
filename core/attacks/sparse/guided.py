"""Random search over few features, drawn by gradients that were seen far from the image.

Sparse-RS draws all features alike, and most of them matter to no class. The gradient at the image says which do, but
not on a model that was trained in linf: what is about to be changed has no slope there. The gradients at mixtures of
the image and uniform noise see every feature somewhere along its range; their mean gain says where to draw. A share of
the draws stays uniform, since a feature may matter only together with others. It takes about a quarter of Sparse-RS's
queries (docs/MEASUREMENTS.md).

Source: Croce, Andriushchenko, Singh, Flammarion, Hein 2022, arXiv 2006.12834, algorithm 1 for l0: the search, and its
schedule. Departures: the draws, which are of a feature and an end of its range at once; a draw that is in the set
already changes nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows
from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, gradient_step, predict
from core.attacks.engine.losses import Goal
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, unit
from core.attacks.engine.steps import divisor
from core.attacks.engine.streams import Streams, default_streams
from core.progress import Progress

NOISE = (0.1, 0.25, 0.5, 0.9)
"""How much of each mixture is noise, in turn."""
LOOKS = 8
"""Mixtures at which gradients are taken, unless more are asked for."""
ALPHA = 0.3
"""The share of the k that is exchanged at first, as in Sparse-RS."""
UNIFORM = 0.2
"""The share of draws that all features have alike."""


FEWER = 0.7
"""The share of the features found so far that `count_down` tries first."""
FAILURES = 3
"""So many searches in a row that find nothing end it."""
QUERIES = (30, 60, 120)
"""How long these searches are: the longest of which four can be paid."""


@attack
def guided_search(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    queries: int = 200,
    looks: int = LOOKS,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool with k = floor(eps) features, each at an end of its range: exchange some, keep what lowers the margin.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: how many features may change, one for all or (N,), 0 or more; a fraction is dropped.
        queries: forward passes of the search for an image that stands, at least 1.
        looks: mixtures at which gradients are taken, at least 1.
        y_target: (N,) int64; given, the search goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: the first fooling image, else the one of the lowest margin seen (which may be `x`). At most floor(eps)
        of `distance["l0"]`. `trace`: `margin` (N,), the margin at `x_adv`.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(queries=queries, looks=looks, batch=batch)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=torch.inf)
    with frozen(model):
        best = Lowest.start(model, x, Goal.of(y, y_target), max(batch, 256))
        _exchange(best, eps.floor().long(), default_streams(streams, x), queries, looks, batch, on_progress)
        return best.result(batch)


def _exchange(
    best: Lowest,
    allowed: Tensor,
    streams: Streams,
    queries: int,
    looks: int,
    batch: int,
    on_progress: Progress | None = None,
) -> None:
    """The search, for so many features (N,) of each image."""
    x = best.x
    moved = torch.tensor([ALPHA / divisor(query / queries) for query in range(queries)], device=x.device)
    allowed = allowed.clamp(max=x[0].numel())
    widest = int(allowed.max()) if len(allowed) else 0

    def begin(rows: Tensor) -> _Search:
        own = streams.take(rows).fork(-1)
        return _Search.of(x[rows], _odds(best, rows, own, looks), allowed[rows], widest, own)

    active = Active(best.standing(allowed > 0), batch, begin)
    while active.refill():
        rows, search = active.rows, active.state
        number = (moved[search.query] * search.allowed).long().clamp(min=1)
        trial = search.exchanged(streams.take(rows).fork(search.query), number)
        point = search.image_of(trial).view_as(x[rows])
        part, logits = best.goal.take(rows), predict(best.model, point, batch)
        best.forwards[rows] += 1
        now, margin = part.reached(logits), part.margin(logits)
        search.keep(margin <= search.lowest, trial, margin)
        best.offer(rows, point, now, margin)
        active.keep(~now & (search.query < queries))
        best.report(on_progress, active.left)


def count_down(best: Smallest, rows: Tensor, spare: Tensor, worth: float = 0.0) -> None:
    """Search for fewer features than were found, by as many searches as there are model evaluations to spare.

    The first is for `FEWER` of the features, and each that finds for as much less; one that fails makes the next look
    half as far down.

    Args:
        best: what was found, in l0; changed in place.
        rows: (n,) the images.
        spare: (n,) the most model evaluations for each of them.
        worth: features that a search must promise for each of its evaluations; it promises what it would take off, half
            of that at first and less after failures.
    """
    other = 2 * LOOKS + 1  # the image's own look
    queries = torch.full_like(spare, QUERIES[0])
    for length in QUERIES[1:]:
        queries[spare >= 4 * (length + other)] = length
    fewest = torch.ones_like(spare)  # known to be too few, as far as searches can say
    failures = torch.zeros_like(spare)
    spare, streams = spare.clone(), Streams.of_images(0, best.x[rows])
    for turn in itertools.count():
        size = best.size[rows]
        aim = torch.where(failures > 0, (fewest * size).sqrt(), FEWER * size).floor()
        aim = torch.minimum(torch.maximum(aim, fewest + 1), size - 1)
        on = (size < torch.inf) & (aim > fewest) & (failures < FAILURES) & (spare >= queries + other)
        on &= (size - aim) / (2 + failures) >= worth * (queries + other)
        if not on.any():
            break
        for length in queries[on].unique():
            some = (on & (queries == length)).nonzero()[:, 0]
            mine = rows[some]
            made = Lowest.start(best.model, best.x[mine], best.goal.take(mine), max(best.batch, 256))
            _exchange(made, aim[some].long(), streams.take(some).fork(turn), int(length), LOOKS, best.batch)
            best.forwards[mine] += made.forwards
            best.backwards[mine] += made.backwards
            spare[some] -= made.forwards + made.backwards
            found = torch.where(made.fooled, (made.x_adv != made.x).flatten(1).sum(1).to(best.size), torch.inf)
            better = found < best.size[mine]
            best.x_adv[mine[better]], best.size[mine[better]] = made.x_adv[better], found[better]
            failures[some] = torch.where(better, 0, failures[some] + 1)
            fewest[some] = torch.where(better, fewest[some], aim[some].to(fewest))


def _odds(best: Lowest, rows: Tensor, streams: Streams, looks: int) -> Tensor:
    """The odds (n, 2d) of each feature at 1, and then of each at 0: by gain, and a share alike.

    The gain is what the margin would fall by, by its gradients at mixtures with noise. A feature that is at this end
    already, or outside the model's mask, has none.
    """
    x = best.x[rows]
    up, down = torch.zeros_like(x), torch.zeros_like(x)
    for look in range(looks):
        noise = streams.fork(look).uniform(0, 1, tuple(x.shape[1:]), x.dtype)
        point = confine(best.model, x + NOISE[look % len(NOISE)] * (noise - x), x)
        slope = unit(gradient_step(best.model, point, best.goal.take(rows), "margin")[1])
        best.forwards[rows] += 1
        best.backwards[rows] += 1
        up, down = up - slope * (1 - x), down + slope * x
    inside = confine(best.model, torch.ones_like(x), torch.zeros_like(x)) > 0
    alike = torch.cat([(inside & (x < 1)).flatten(1), (inside & (x > 0)).flatten(1)], 1).to(x.dtype)
    gain = torch.cat([up.flatten(1), down.flatten(1)], 1).nan_to_num(0.0).clamp(min=0) * alike
    alike, total = alike / alike.sum(1, keepdim=True).clamp(min=1), gain.sum(1, keepdim=True)
    share = gain / total.clamp(min=torch.finfo(x.dtype).tiny)
    return torch.where(total > 0, (1 - UNIFORM) * share + UNIFORM * alike, alike)


@dataclass
class _Search(Rows):
    """The images under attack: n images of d features, each at most k changed.

    A feature at an end of its range is a number: f at 1, d + f at 0. Places that an image may not use hold -1.

    Attributes:
        image: (n, d) before the attack.
        reach: (n, 2d) the odds, summed up.
        allowed: (n,) int64, how many may change.
        chosen: (n, k) int64, those of the best image so far; at first those of the start.
        query: (n,) int64, queries made.
        lowest: (n,) the margin of the best image.
    """

    image: Tensor
    reach: Tensor
    allowed: Tensor
    chosen: Tensor
    query: Tensor
    lowest: Tensor

    @classmethod
    def of(cls, x: Tensor, odds: Tensor, allowed: Tensor, widest: int, streams: Streams) -> _Search:
        """Each with as many features as it is allowed, drawn by their odds, none twice."""
        image, d = x.flatten(1), odds.shape[1] // 2
        draw = streams.fork(-1).uniform(0, 1, (2 * d,), torch.float64)
        # Gumbel's trick: the largest keys are draws without repetition
        key = odds.double().log() - (-(draw + 2.0**-26).log()).log()
        key, end = key.view(-1, 2, d).max(1)
        best = key.topk(widest, dim=1)
        chosen = best.indices + d * end.gather(1, best.indices)
        usable = torch.arange(widest, device=x.device) < allowed[:, None]
        chosen = torch.where(usable & best.values.isfinite(), chosen, -1)
        zeros, lowest = torch.zeros_like(allowed), torch.full_like(image[:, 0], torch.inf)
        return cls(image, odds.cumsum(1), allowed, chosen, zeros, lowest)

    def exchanged(self, streams: Streams, number: Tensor) -> Tensor:
        """The chosen ones with this many (n,) exchanged for others; the first query leaves them as they are."""
        k, d, widest = self.chosen.shape[1], self.image.shape[1], int(number.max())
        place = torch.arange(k, device=number.device)
        order = streams.uniform(0, 1, (k,)).masked_fill(place >= self.allowed[:, None], torch.inf).argsort(dim=1)
        draw = streams.fork(1).uniform(0, 1, (widest,), self.reach.dtype) * self.reach[:, -1:]
        new = torch.searchsorted(self.reach, draw, right=True).clamp(max=2 * d - 1)
        trial = self.chosen
        for turn in range(widest):
            here = place == order[:, turn, None]
            there = ((trial % d == new[:, turn, None] % d) & (trial >= 0) & ~here).any(1)
            moves = (turn < number) & ~there & (self.query > 0)
            trial = torch.where(here & moves[:, None], new[:, turn, None], trial)
        return trial

    def image_of(self, chosen: Tensor) -> Tensor:
        """The images (n, d) with these changes (n, k)."""
        d = self.image.shape[1]
        wide = torch.cat([self.image, self.image[:, :1]], 1)  # the last column takes what is none
        place = torch.where(chosen < 0, d, chosen % d)
        return wide.scatter(1, place, (chosen < d).to(wide.dtype))[:, :d]

    def keep(self, better: Tensor, trial: Tensor, margin: Tensor) -> None:
        """Go on from the trials (n, k) that are better (n,), with these margins (n,); a query is made."""
        self.chosen = torch.where(better[:, None], trial, self.chosen)
        self.lowest = torch.where(better, margin, self.lowest)
        self.query = self.query + 1
