"""JSMA's saliency maps, and the best pair of features on one, found without looking at every pair.

Source: Papernot, McDaniel, Jha, Fredrikson, Celik, Swami 2016, arXiv 1511.07528, equations 8 to 10 and algorithm 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.engine import input_gradient, leaf_of, logits_of_leaf
from core.attacks.engine.losses import Goal, soft_margin

Outputs = Literal["logits", "probabilities"]
OUTPUTS: tuple[Outputs, ...] = ("logits", "probabilities")

MAP_SIZE = 4_000_000
"""Pairs compared at once: limits the memory where many features compete."""
CROWD = 200
"""More competing features than this are thinned out by a sort before they are paired."""
PROBES = 4
"""Features paired with all others to set the saliency that a pair has to reach."""


def slopes(
    model: nn.Module, x: Float[Tensor, "n c h w"], goal: Goal, outputs: Outputs
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n d"], Float[Tensor, "n d"] | None]:
    """How the label's output rises with each feature, and how the sum of all others falls; freeze the model first.

    Probabilities sum to 1: what the label's gains all others lose, and one backward pass gives both. It is that of the
    log-odds log(p / (1 - p)), whose gradient is that of p divided by p (1 - p): the same order of features, without
    underflow where the model is confident. For two classes this is the map of the logits too, since in a single-output
    network, written as logits (0, N - tau), one logit is constant.

    Returns:
        logits: detached.
        up: (N, features).
        down: (N, features); None where it is `up`.
    """
    leaf = leaf_of(x)
    logits = logits_of_leaf(model, leaf)
    if outputs == "probabilities" or logits.shape[1] == 2:
        rise = input_gradient(soft_margin(logits, goal.label).sum(), leaf)
        return logits.detach(), rise.flatten(1), None
    own = logits.gather(1, goal.label[:, None])[:, 0]
    rise = input_gradient(own.sum(), leaf, retain_graph=True)
    fall = input_gradient((own - logits.sum(1)).sum(), leaf)
    return logits.detach(), rise.flatten(1), fall.flatten(1)


def best_pairs(
    up: Float[Tensor, "n d"], down: Float[Tensor, "n d"] | None, free: Bool[Tensor, "n d"], count: int
) -> tuple[Int[Tensor, "n {count} 2"], Int[Tensor, " n"]]:
    """The best pair of free features (see `best_pair`), the best of all others, and so on.

    Where `down` is None, that is as `up`, a pair's saliency is (up_p + up_q)^2: the features in the order of `up`.

    Returns:
        pairs: (N, count, 2) int64; of different features as far as they were found.
        found: (N,) int64, how many have two positive sums.
    """
    if down is None and up.shape[1] >= 2 * count:
        value, feature = torch.where(free, up, -torch.inf).topk(2 * count, dim=1)
        return feature.unflatten(1, (count, 2)), (value.unflatten(1, (count, 2)).sum(2) > 0).sum(1)
    pairs = torch.zeros(len(up), count, 2, dtype=torch.int64, device=up.device)
    many = pairs[:, 0, 0].clone()
    for place in range(count):
        pairs[:, place], found = best_pair(up, up if down is None else down, free)
        if not found.any():
            break
        many += found
        free = free.scatter(1, pairs[:, place], False)
    return pairs, many


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
    largest_count = max(2, int(count.max()))
    image, feature = competes.nonzero(as_tuple=True)  # by image and then by feature
    place = torch.arange(len(image), device=up.device) - (count.cumsum(0) - count)[image]
    features = torch.zeros(len(up), largest_count, dtype=torch.int64, device=up.device)
    features[image, place] = feature
    rises, falls = (
        torch.full((len(up), largest_count), -torch.inf, dtype=up.dtype, device=up.device) for _ in range(2)
    )
    rises[image, place], falls[image, place] = up[image, feature], down[image, feature]
    first, last = torch.triu_indices(largest_count, largest_count, 1, device=up.device)
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
