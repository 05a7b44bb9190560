"""JSMA: pairs of features read off the Jacobian's saliency map, changed by theta until the target is reached.

Source: Papernot, McDaniel, Jha, Fredrikson, Celik, Swami 2016, arXiv 1511.07528, algorithm 3, on the logits, as there;
without a target the map for leaving a class (Wiyatno and Xu 2018, arXiv 1808.07945, NT-JSMA). Departures: all images
run side by side; of the Jacobian only the two rows that the map needs are computed; the best pair is found exactly
without looking at every pair; with `pairs` above 1 one Jacobian serves several pairs; features within 0.01 of their
end are out from the start; where no pair fits, the image is given up; for two classes the map is that of the
difference of the logits, so that scalar networks, whose other logit is constant, have one.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine import (
    AttackResult,
    check,
    confine,
    finish,
    frozen,
    input_gradient,
    leaf_of,
    logits_of_leaf,
    predict,
)
from core.attacks.losses import Goal
from core.attacks.smallest import SMALLEST_BATCH, check_counts, steps_within
from core.progress import Progress

MAP_SIZE = 4_000_000
"""Pairs looked at in one go: bounds the memory where many features compete."""
CROWD = 200
"""More competing features than this are thinned out by a sort before they are paired."""
PROBES = 4
"""Features paired with all others to set the mark that a pair has to reach."""


def jsma(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    theta: float = 1.0,
    gamma: float = 0.1,
    pairs: int = 1,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = SMALLEST_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Change two features a step, those of the largest saliency, until the image is fooled; l0 counts features.

    A pair's saliency is the product of how much it raises the target's logit and how much it lowers the sum of all
    others, where it does both. Without a target: how much it lowers the true class and raises the sum of all others.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        theta: added to both features each step, in [-1, 1] and not 0; below 0 features are darkened. A feature that
            has reached its end, 1 or 0, is out.
        gamma: share of the features that may change, in (0, 1]: at most ceil(features * gamma / 2) steps (the paper
            rounds down; so every share allows a step).
        pairs: pairs changed by one Jacobian, the best, the best of the other features, and so on; 1 is the paper's.
            Where they reach the goal, the last ones are taken back as far as it stays reached.
        budget: the most forward and backward passes to spend on each image, the verification included; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images under attack at once.
        on_progress: called each step with images done, all, share of `success`.

    Returns:
        Images fooled before come back unchanged; a failed image holds all its changes. `trace`, each (N,): `steps`
        int64, pairs changed; `stuck` bool, given up since no pair of features does both.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(batch=batch, pairs=pairs)
    if not (0 < abs(theta) <= 1):
        raise ValueError(f"theta: expected a number from -1 to 1, not 0, got {theta}")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma: expected a share above 0 and at most 1, got {gamma}")
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    most = math.ceil(x[0].numel() * gamma / 2 - 1e-9)
    steps = min(most, pairs * steps_within(budget, math.ceil(most / pairs), price=3, other=1 + pairs))
    end = 1.0 if theta > 0 else 0.0
    # a rise of the label's logit is wanted (target) or unwanted (true class), and theta moves with or against it
    sign = (1.0 if goal.targeted else -1.0) * (1.0 if theta > 0 else -1.0)

    x_adv = x.clone()
    fooled, stuck = (torch.zeros_like(y, dtype=torch.bool) for _ in range(2))
    forwards, backwards, step = (torch.zeros_like(y) for _ in range(3))
    last = torch.zeros(len(x), pairs, 2, dtype=torch.int64, device=x.device)  # what the last Jacobian changed
    before = torch.zeros(len(x), pairs, 2, dtype=x.dtype, device=x.device)  # and what it was
    block = torch.zeros_like(y)
    with frozen(model):
        free = (confine(model, torch.full_like(x, 1 - end), torch.full_like(x, end)) != end).flatten(1)
        free &= ((x - end).abs() > 0.01).flatten(1)
        waiting = deque(range(len(x)))
        rows = torch.zeros(0, dtype=torch.int64, device=x.device)
        while waiting or len(rows):
            if waiting and len(rows) < batch:
                new = [waiting.popleft() for _ in range(min(len(waiting), batch - len(rows)))]
                rows = torch.cat([rows, torch.tensor(new, device=x.device)])
            forwards[rows] += 1
            over = step[rows] == steps
            if over.any():  # these need a verdict only
                fooled[rows[over]] = goal.take(rows[over]).reached(predict(model, x_adv[rows[over]], batch))
                ended = rows[over & fooled[rows]]
                _take_back(model, x_adv, goal, ended, last, before, block, forwards, step)
                rows = rows[~over]
            if len(rows):
                logits, up, down = _slopes(model, x_adv[rows], goal.take(rows))
                backwards[rows] += 2 if logits.shape[1] > 2 else 1
                now = goal.take(rows).reached(logits)
                fooled[rows[now]] = True
                _take_back(model, x_adv, goal, rows[now], last, before, block, forwards, step)
                rows, up, down = rows[~now], up[~now], down[~now]
                block[rows] = 0
                more, wide = torch.ones_like(rows, dtype=torch.bool), free[rows]
                for place in range(pairs):
                    more &= step[rows] < steps
                    pair, found = best_pair(sign * up, sign * down, wide & more[:, None])
                    stuck[rows[more & ~found]] = place == 0
                    more &= found
                    some, pair = rows[more], pair[more]
                    old = x_adv[some].flatten(1).gather(1, pair)
                    moved = (old + theta).clamp(0, 1)
                    last[some, place], before[some, place] = pair, old
                    x_adv[some] = x_adv[some].flatten(1).scatter(1, pair, moved).view(-1, *x.shape[1:])
                    free[some] = free[some].scatter(1, pair, moved != end)
                    wide[more] = wide[more].scatter(1, pair, False)  # another pair is of other features
                    step[some] += 1
                    block[some] += 1
                rows = rows[~stuck[rows]]
            if on_progress:
                done = len(x) - len(waiting) - len(rows)
                on_progress(done, len(x), success=fooled.float().mean().item())
        return finish(model, x, x_adv, goal, fooled, forwards, backwards, {"steps": step, "stuck": stuck}, batch)


def _take_back(
    model: nn.Module,
    x_adv: Tensor,
    goal: Goal,
    rows: Tensor,
    last: Tensor,
    before: Tensor,
    block: Tensor,
    forwards: Tensor,
    step: Tensor,
) -> None:
    """Take the last pairs of a Jacobian back, one at a time, while the goal stays reached; changes all in place."""
    while len(rows := rows[block[rows] > 1]):
        place = block[rows] - 1
        trial = x_adv[rows].flatten(1).scatter(1, last[rows, place], before[rows, place]).view(-1, *x_adv.shape[1:])
        forwards[rows] += 1
        still = goal.take(rows).reached(predict(model, trial))
        rows = rows[still]
        x_adv[rows] = trial[still]
        step[rows] -= 1
        block[rows] -= 1


def _slopes(model: nn.Module, x: Tensor, goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, and (n, features): how the label's logit rises with each feature, and how the sum of all others falls."""
    leaf = leaf_of(x)
    logits = logits_of_leaf(model, leaf)
    own = logits.gather(1, goal.label[:, None])[:, 0]
    if logits.shape[1] == 2:
        rise = input_gradient((own - logits.sum(1) + own).sum(), leaf).flatten(1)
        return logits.detach(), rise, rise
    rise = input_gradient(own.sum(), leaf, retain_graph=True).flatten(1)
    fall = input_gradient((own - logits.sum(1)).sum(), leaf).flatten(1)
    return logits.detach(), rise, fall


def best_pair(
    up: Float[Tensor, "n d"], down: Float[Tensor, "n d"], free: Bool[Tensor, "n d"]
) -> tuple[Int[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """The two free features p < q of the largest (up_p + up_q)(down_p + down_q) with both sums positive.

    Exactly the pair that a search through all pairs finds first, in much less time: with the largest `up` and `down`
    of all as its partner's, no feature can be in a pair better than its bound; the pairs of a few features of the
    highest bounds set a mark; only features whose bound reaches it are paired with each other. Where these are many,
    those are left out that two others match or beat in both numbers: one of the two makes a better pair.

    Returns:
        pair: (N, 2) int64.
        found: (N,) bool, false where no pair has two positive sums.
    """
    nothing = torch.zeros(len(up), 2, dtype=torch.int64, device=up.device)
    if up.shape[1] < 2 or not len(up):
        return nothing, nothing[:, 0] > 0
    up, down = (torch.where(free, value.double(), -torch.inf) for value in (up, down))
    bound = _saliency(up, down, up.amax(1, keepdim=True), down.amax(1, keepdim=True))
    strong = bound.topk(min(PROBES, up.shape[1]), dim=1).indices
    mates = _saliency(up[:, None], down[:, None], up.gather(1, strong)[:, :, None], down.gather(1, strong)[:, :, None])
    mark = mates.scatter(2, strong[:, :, None], 0).amax((1, 2))  # a feature is no pair with itself
    competes = (bound >= mark[:, None]) & (bound > 0)
    if int(competes.sum(1).max()) > CROWD:
        competes &= _unbeaten(up, down)

    count = competes.sum(1)
    most = max(2, int(count.max()))
    image, feature = competes.nonzero(as_tuple=True)  # by image and then by feature
    place = torch.arange(len(image), device=up.device) - (count.cumsum(0) - count)[image]
    features = torch.zeros(len(up), most, dtype=torch.int64, device=up.device)
    features[image, place] = feature
    rises, falls = (torch.full((len(up), most), -torch.inf, dtype=up.dtype, device=up.device) for _ in range(2))
    rises[image, place], falls[image, place] = up[image, feature], down[image, feature]
    first, last = torch.triu_indices(most, most, 1, device=up.device)
    pairs, found = [], []
    size = max(1, MAP_SIZE // len(first))
    for rise, fall, names in zip(rises.split(size), falls.split(size), features.split(size), strict=True):
        value, best = _saliency(rise[:, first], fall[:, first], rise[:, last], fall[:, last]).max(1)
        pairs.append(names.gather(1, torch.stack([first[best], last[best]], 1)))
        found.append(value > 0)
    return torch.cat(pairs), torch.cat(found)


def _unbeaten(up: Tensor, down: Tensor) -> Tensor:
    """Which features (n, d) at most one other, or one equal but earlier, matches or beats in both numbers.

    Going down in `up`, those whose `down` is above the second largest so far.
    """
    order = up.sort(dim=1, descending=True, stable=True).indices
    other = down.gather(1, order)
    start = torch.full_like(other[:, :1], -torch.inf)
    largest = torch.cat([start, other.cummax(1).values[:, :-1]], 1)
    second = torch.cat([start, torch.minimum(other, largest).cummax(1).values[:, :-1]], 1)
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, other > second)


def _saliency(up: Tensor, down: Tensor, other_up: Tensor, other_down: Tensor) -> Tensor:
    """(up + other_up)(down + other_down) where both sums are positive, else 0."""
    rise, fall = up + other_up, down + other_down
    return torch.where((rise > 0) & (fall > 0), rise * fall, 0)
