"""The one-pixel attack: differential evolution of a few pixels' places and colours, with no gradient at all.

Source: Su, Vargas, Sakurai 2019, arXiv 1710.08864, section III: no crossover, each child against its own parent.
Departures: all images evolve side by side, each with its own population and draws; an image is finished as soon as a
candidate fools; the probability is followed as log-odds, which order candidates alike and do not saturate; places that
leave the image are drawn anew, colours that leave [0, 1] stop at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows
from core.attacks.engine.checks import check, check_budget, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import BATCH, confine, frozen, predict
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams, default_streams
from core.progress import Progress

TRIALS = 4096
"""Candidates of all images in memory at a time; the images under attack are as many as fit, at least one."""
MIN_POPULATION = 4
"""The smallest population: a child needs three different parents."""


@attack(gradients=False)
def one_pixel(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    pixels: int = 1,
    population: int = 400,
    generations: int = 100,
    factor: float = 0.5,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool with one pixel, or a few: evolve where they are and what colours they have.

    A child is one candidate plus `factor` times the difference of two others; it takes its parent's place if it is
    not worse.

    Args:
        model: pixels to logits; left untouched, and never differentiated.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        pixels: how many may change, with all their colours; at least 1.
        population: candidates of an image, at least 4.
        generations: at most so many after the first, random one; 0 or more.
        factor: the paper's F, in (0, 2].
        budget: the most passes to spend on each image, the verification included; None: no limit. To fit, first the
            population shrinks, to about four times as many as the generations that are left, then these.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images in one forward pass.
        on_progress: called each generation with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: of the first generation that fools the best candidate, else the best of the last (or `x`, if none is
        better). Images fooled before come back unchanged, as successes. At most `pixels` of `distance["pixels"]`.
        `backwards` is 0. `trace`, each (N,): `margin`, that at `x_adv`; `generations` int64, bred.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(pixels=pixels, batch=batch)
    if population < MIN_POPULATION:
        raise ValueError(f"population: expected at least {MIN_POPULATION}, got {population}")
    if generations < 0:
        raise ValueError(f"generations: expected 0 or more, got {generations}")
    if not 0 < factor <= 2:
        raise ValueError(f"factor: expected a number above 0 and at most 2, got {factor}")
    check_budget(budget, MIN_POPULATION + 2)
    population, generations = fitted(population, generations, budget)
    check(model, x, y, y_target=y_target)
    streams = default_streams(streams, x)

    with frozen(model), torch.no_grad():
        best = Lowest.start(model, x, Goal.of(y, y_target), batch, loss="ce")
        bred = torch.zeros_like(y)
        bounds = _bounds(model, x)
        shape = (population, pixels, 2 + x.shape[1])

        def begin(rows: Tensor) -> _People:
            strangers = _strangers(streams.take(rows), shape, bounds, x.dtype)
            return _People(strangers, x.new_full((len(rows), population), torch.inf))

        active = Active(best.standing(torch.ones_like(best.fooled)), max(1, TRIALS // population), begin)
        while active.refill():
            rows, on = active.rows, active.state
            first = bred[rows] == 0  # the random ones themselves
            children = _children(streams.take(rows).fork(bred[rows]), on.people, factor, bounds)
            children = torch.where(per_image(first, on.people), on.people, children)
            trials = confine(model, _painted(x[rows], children), x[rows, None])
            logits = predict(model, trials.flatten(0, 1), batch)
            best.forwards[rows] += population
            part = best.goal.take(rows).repeated(population)
            found = part.loss(logits).nan_to_num(torch.inf, torch.inf).view(len(rows), -1)
            reached = part.reached(logits).view(len(rows), -1)
            better = found <= on.fitness
            on.people = torch.where(better[:, :, None, None], children, on.people)
            on.fitness = torch.where(better, found, on.fitness)

            now = reached.any(1)
            value, which = torch.where(reached | ~now[:, None], found, torch.inf).min(1)
            every = torch.arange(len(rows), device=x.device)
            margin = part.margin(logits).view(len(rows), -1)[every, which]
            best.offer(rows, trials[every, which], now, value, margin)
            stay = ~now & (bred[rows] < generations)
            bred[rows[stay]] += 1
            active.keep(stay)
            best.report(on_progress, active.left)
        return best.result(batch, {"margin": best.margin, "generations": bred})


@dataclass
class _People(Rows):
    """The images under attack.

    Attributes:
        people: (n, population, pixels, 2 + C) candidates: row and column, and the colours, of each pixel.
        fitness: (n, population) their losses, inf before the first look.
    """

    people: Tensor
    fitness: Tensor


def fitted(population: int, generations: int, budget: int | None) -> tuple[int, int]:
    """The population and generations that a budget of passes pays for; each generation costs a pass a candidate."""
    if budget is None:
        return population, generations
    left = budget - 2  # the look at the image itself, the verification
    if population * (generations + 1) > left:
        population = min(population, max(MIN_POPULATION, int((4 * left) ** 0.5)))
    return population, min(generations, left // population - 1)


def _bounds(model: nn.Module, x: Tensor) -> Tensor:
    """First and number of the rows and of the columns (2, 2) that may change: all, or those that hold the mask."""
    inside = (confine(model, torch.ones_like(x[:1]), torch.zeros_like(x[:1])) > 0)[0].any(0)
    spans = [inside.any(axis).nonzero()[:, 0] for axis in (1, 0)]
    return torch.stack([torch.stack([span[0], span[-1] - span[0] + 1]) for span in spans])


def _strangers(streams: Streams, shape: tuple[int, ...], bounds: Tensor, dtype: torch.dtype) -> Tensor:
    """Random candidates (n, *shape): places uniform, colours normal with mean and deviation 1/2, as in the paper."""
    places = _anywhere(streams.fork(1), shape[:-1], bounds, dtype)
    colours = 0.5 + 0.5 * streams.fork(2).normal((*shape[:-1], shape[-1] - 2), dtype)
    return torch.cat([places, colours.clamp(0, 1)], -1)


def _anywhere(streams: Streams, shape: tuple[int, ...], bounds: Tensor, dtype: torch.dtype) -> Tensor:
    """Places (n, *shape, 2), uniform between the bounds; the upper one is never reached, not by rounding either."""
    low, high = bounds[:, 0].to(dtype), bounds.sum(1).to(dtype)
    places = low + streams.uniform(0, 1, (*shape, 2), dtype) * (high - low)
    return torch.minimum(places, torch.nextafter(high, low))


def _children(streams: Streams, people: Tensor, factor: float, bounds: Tensor) -> Tensor:
    """A child for each candidate, of three others that differ; what left its range is brought back."""
    size = people.shape[1]
    draws = streams.fork(3).uniform(0, 1, (size, 3), torch.float64)
    one = (draws[:, :, 0] * size).long()
    two = (one + 1 + (draws[:, :, 1] * (size - 1)).long()) % size
    three = (draws[:, :, 2] * (size - 2)).long()
    three = three + (three >= torch.minimum(one, two)).long()
    three = three + (three >= torch.maximum(one, two)).long()
    every = torch.arange(len(people), device=people.device)[:, None]
    made = people[every, one] + factor * (people[every, two] - people[every, three])
    places, low, high = made[..., :2], bounds[:, 0], bounds[:, 0] + bounds[:, 1]
    anew = _anywhere(streams.fork(4), tuple(made.shape[1:-1]), bounds, made.dtype)
    places = torch.where((places >= low) & (places < high), places, anew)
    return torch.cat([places, made[..., 2:].clamp(0, 1)], -1)


def _painted(x: Float[Tensor, "n c h w"], people: Float[Tensor, "n p k g"]) -> Float[Tensor, "n p c h w"]:
    """The images of all candidates; of two pixels at one place the later is seen."""
    size = people.shape[1]
    trials = x[:, None].repeat(1, size, 1, 1, 1).flatten(3)
    place = people[..., :2].long()
    index = (place[..., 0] * x.shape[3] + place[..., 1])[..., None]
    for pixel in range(people.shape[2]):
        where = index[:, :, pixel, None].expand(-1, -1, x.shape[1], -1)
        trials.scatter_(3, where, people[:, :, pixel, 2:, None])
    return trials.view(len(x), size, *x.shape[1:])
