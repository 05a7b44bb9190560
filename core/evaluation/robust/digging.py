"""How far a search goes: along an order of the images, until it has spent in vain what a find is worth.

Which images may still be fooled differs from network to network: of one, nothing falls that has more than a quarter of
its clean margin left; of another, images fall that have half of it. So no search has a limit on that. It takes the
images in an order, the likeliest first, in groups, and ends when it has spent what a find is worth since it last fooled
one: `PRICE` passes for each image that stands; where few stand, more if the searches before it found one, since then
more is left to find (`LEAST`, `RECENT`). Where it finds, it goes on; where it finds nothing, that is all it costs. A
dear search begins with one image or two.

The order is the best place that an image has by any of the signs: what is left of its margin as a share of the clean
image's, the margin itself, and how far away FAB saw the boundary. A sign that says nothing about a network (margins of
another temperature an image) costs a part of the order and no more. One image in `ELSEWHERE` of each group comes from
anywhere further along, evenly: where the order as a whole says nothing, finds there keep the search going. For Square,
a mark is a sign more: marked images have a place among themselves, too.

Images are dug through in blocks of `BLOCK`, by their place among the images that are evaluated. A slice that begins and
ends with blocks is therefore the slice of the whole, and machines can share an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.evaluation.robust.schedule import AFTER, Stage
from core.evaluation.robust.state import CascadeState
from core.progress import Progress, part

PRICE = 12
"""Passes, for each image that stands, that a search spends in vain before it ends."""
LEAST = 2000
"""Passes that it spends in vain at least, where few images stand: a fifth of what AutoAttack spends on one; twice as
many where the last `RECENT` stages fooled an image of the block."""
RECENT = 3
"""Stages whose finds say that there are more; those of the first `AFTER`, which are for all images, do not."""
ELSEWHERE = 5
"""One image in so many of a group comes from further along the order, and one at least where there are several."""
BLOCK = 500
"""Images that are dug through together."""
SAMPLE, FEWEST = 4, 32
"""A probe first asks about one image in so many of those that stand in a block, or about so many if that is more."""
SEVERAL = 0.03
"""It asks about the others where it marked more than this share of these: ordinary networks have one or two such."""
SETTINGS = (PRICE, LEAST, RECENT, AFTER, ELSEWHERE, BLOCK, SAMPLE, FEWEST, SEVERAL)
"""All that the verdicts depend on here."""


@dataclass
class _Block:
    """The images of one block that the search has not seen, in their order, and what it has spent on others."""

    left: Tensor
    patience: int
    smallest: int
    size: int
    vain: int = 0

    def group(self) -> Tensor:
        """The next images, which leave `left`."""
        group, self.left = _split(self.left, self.size)
        return group

    def learn(self, n: int, cost: int, found: bool) -> None:
        """After a group of `n` images, which took `cost` passes."""
        self.vain = 0 if found else self.vain + cost
        affordable = (self.patience - self.vain) * n // max(1, cost)
        self.size = max(self.smallest, min(2 * self.size, affordable))
        if self.vain >= self.patience:
            self.left = self.left[:0]


def dig(
    stage: Stage,
    number: int,
    rows: Int[Tensor, " m"],
    eps: Float[Tensor, " n"],
    state: CascadeState,
    work: Callable[[Int[Tensor, " k"], Progress | None], None],
    on_progress: Progress | None = None,
) -> None:
    """Run a search on the images of `rows`, in their order, until it has spent in vain what a find is worth.

    Blocks go on side by side, a group of each at once, so that batches stay large.

    Args:
        stage: the search.
        number: its place in the schedule.
        rows: (M,) images that stand.
        eps: (N,) their budgets.
        state: of all images; `work` changes it.
        work: runs the search on some images, and reports its progress.
        on_progress: called with images searched and images that stand.
    """
    least = stage.smallest
    blocks = [_Block(block, patience(number, block, state), least, least) for block in order(stage, rows, eps, state)]
    done = 0
    while blocks := [block for block in blocks if len(block.left)]:
        groups = [block.group() for block in blocks]
        before = state.passes()
        some = torch.cat(groups)
        work(some, part(on_progress, done, done + len(some), len(rows)))
        done += len(some)
        spent = state.passes() - before
        for block, group in zip(blocks, groups, strict=True):
            block.learn(len(group), int(spent[group].sum()), bool(state.fooled[group].any()))


def probed(rows: Int[Tensor, " m"], state: CascadeState) -> Iterator[Int[Tensor, " k"]]:
    """The images that a probe is for: a sample of each block, then the others of blocks where it marked `SEVERAL`."""
    blocks = [rows[rows // BLOCK == number] for number in (rows // BLOCK).unique()]
    every = [max(1, min(SAMPLE, len(block) // FEWEST)) for block in blocks]
    samples = [block[::step] for block, step in zip(blocks, every, strict=True)]
    yield torch.cat(samples)
    others = [
        block[torch.arange(len(block), device=block.device) % step > 0]
        for block, step, sample in zip(blocks, every, samples, strict=True)
        if state.gradient_masked[sample].double().mean() > SEVERAL
    ]
    if others and len(rest := torch.cat(others)):
        yield rest


def patience(number: int, block: Int[Tensor, " k"], state: CascadeState) -> int:
    """Passes that search `number` spends in vain on the images of a block, `block` those that stand, before it ends."""
    first = int(block[0]) // BLOCK * BLOCK
    found = state.found[first : first + BLOCK]
    recent = bool(((found >= max(AFTER, number - RECENT)) & (found < number)).any())
    return max(LEAST * (1 + recent), PRICE * len(block))


def order(
    stage: Stage, rows: Int[Tensor, " m"], eps: Float[Tensor, " n"], state: CascadeState
) -> list[Int[Tensor, " k"]]:
    """The images of `rows` block by block, in each the likeliest to fall first."""
    place, number = places(rows, eps, state), rows // BLOCK
    if stage.gradient_masked:
        marked = state.gradient_masked[rows].nonzero()[:, 0]
        place[marked] = torch.minimum(place[marked], places(rows[marked], eps, state))
        place = 2 * place + 1
        place[marked] -= 1
    if stage.boundary_outside_box:
        place = place.masked_fill(state.boundary_outside_box[rows], -1)
    return [rows[mine][place[mine].argsort(stable=True)] for mine in (number == block for block in number.unique())]


def places(rows: Int[Tensor, " m"], eps: Float[Tensor, " n"], state: CascadeState) -> Int[Tensor, " m"]:
    """The place of each of these images in its block, the likeliest to fall first, 0."""
    place = torch.zeros_like(rows)
    number = rows // BLOCK
    for block in number.unique():
        mine = number == block
        place[mine] = _best(rows[mine], eps, state).argsort(stable=True).argsort()
    return place


def _best(rows: Tensor, eps: Tensor, state: CascadeState) -> Tensor:
    """The best place by any of the signs, of images of one block."""
    nearest = state.nearest[rows] / eps[rows].to(state.nearest)
    signs = torch.stack([state.share()[rows], state.margin[rows], nearest])
    places = signs.argsort(dim=1, stable=True).argsort(dim=1).masked_fill(~signs.isfinite(), len(rows))
    return places.min(0).values


def _split(left: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The next group, and what is left after it."""
    if len(left) <= size:
        return left, left[:0]
    far = min(size - 1, max(1, size // ELSEWHERE))
    near = size - far
    taken = torch.zeros(len(left), dtype=torch.bool, device=left.device)
    taken[:near] = True
    taken[[near + int((place + 0.5) * (len(left) - near) / far) for place in range(far)]] = True
    return left[taken], left[~taken]
