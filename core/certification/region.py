"""A part of a ball where more is known, and tighter bounds of what ReLUs read there.

In a region one function of the logits is at most 0, as a margin is that fails, and some ReLUs have given signs. Bounds
there may be much tighter than in the whole ball, and they tighten each other; where they contradict each other, no
image is left (Kotha et al. 2023, arXiv 2302.01404).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from core.attacks.engine.engine import frozen
from core.certification.alpha import Beginning, Choice, first_choice, optimized, shifts_of
from core.certification.ball import Ball
from core.certification.bounds import Known, in_float32
from core.certification.crown import MAX_VALUES, worth_refining
from core.certification.proof import RISEN, TINY, Graphs, evaluated
from core.certification.reduced import bounds_of_part, part_of, put_back, reduced
from core.certification.worth import Worth

STEPS = 8
"""Gradient steps on the slopes of each bound."""
AGAIN = 0.6
"""The factor on learning rates of a search that begins where one ended."""
LITTLE, REST = 0.01, 3
"""Bounds of what comes before the first ReLU tighten by what fails alone, in most regions by nothing. Where that takes
less than this share off their width, so many regions inside keep them as they are. Bounds behind a ReLU are always
tried: what is worth splitting is read from them."""
KEPT = 2**20
"""Slopes of a node's bounds that are kept at most, to begin with."""


@dataclass(frozen=True)
class Start:
    """How some values of a node were bounded last, for the next search to begin there.

    Attributes:
        at: (C,) the values, flat, in the model's graph; their lower bounds come first, then the upper ones.
        slopes, multipliers: as `alpha.Choice` has them, for the graph of a part.
        weight: (1, 2C, 1) of the region's function; None where there was none.
        kept: what was left of each node of that part.
    """

    at: Tensor
    slopes: dict[int, Tensor]
    multipliers: dict[int, Tensor]
    weight: Tensor | None
    kept: dict[int, Tensor]

    def for_part(self, at: Tensor, kept: dict[int, Tensor], ends: int) -> Start:
        """The same for fewer values and in a smaller graph; where there is nothing to begin with, anything."""
        rows = torch.searchsorted(self.at, at).clamp(max=len(self.at) - 1)
        rows = torch.cat([rows + len(self.at) * end for end in range(ends)])

        def taken(values: dict[int, Tensor]) -> dict[int, Tensor]:
            return {relu: self._columns(relu, value[:, rows], kept.get(relu)) for relu, value in values.items()}

        weight = None if self.weight is None else self.weight[:, rows]
        return Start(at, taken(self.slopes), taken(self.multipliers), weight, kept)

    def _columns(self, relu: int, value: Tensor, new: Tensor | None) -> Tensor:
        old = self.kept.get(relu)
        if new is None or (old is not None and len(old) == len(new)):
            return value
        flat = value.flatten(2)
        return flat[..., new if old is None else torch.searchsorted(old, new).clamp(max=len(old) - 1)]


@dataclass(frozen=True)
class Region:
    """Images of one ball where one function of the logits is at most `level` and some ReLUs have given signs.

    Attributes:
        known: bounds of what every ReLU reads there, (1, *shape).
        row: (K,) coefficients of the function; None: the whole ball.
        level: what the function is at most.
        signs: for nodes that ReLUs read, (1, *shape) in -1, 0, 1: values known to be negative, either, positive.
        starts: by node, how its values and the function were bounded there or in a region around it.
        rests: for nodes whose bounds hardly tightened, how many more regions keep them.
    """

    known: Known
    row: Tensor | None = None
    level: float = 0.0
    signs: dict[int, Tensor] = field(default_factory=dict)
    starts: dict[int, Start] = field(default_factory=dict)
    rests: dict[int, int] = field(default_factory=dict)

    @property
    def width(self) -> float:
        """The total width of the bounds that leave a sign open."""
        return sum(float((high - low)[(low < 0) & (high > 0)].sum()) for low, high in self.known.values())

    @property
    def depth(self) -> int:
        """The number of signs that are given."""
        return sum(int((sign != 0).sum()) for sign in self.signs.values())

    def open_at(self, place: int, at: int) -> bool:
        """Whether one value, `at` in the flat node, may have both signs."""
        low, high = (float(end.flatten()[at]) for end in self.known[place])
        return low < 0 < high

    def split(self, place: int, at: int, sign: int) -> Region:
        """The part where that value has a sign; the end of its bounds is 0."""
        low, high = (end.clone() for end in self.known[place])
        signs = self.signs.get(place, torch.zeros_like(low)).clone()
        signs.view(-1)[at] = sign
        end = low if sign > 0 else high
        end.view(-1)[at] = 0.0
        return replace(self, known={**self.known, place: (low, high)}, signs={**self.signs, place: signs})


@dataclass(frozen=True)
class Part:
    """A region on graphs that have only what counts there.

    Attributes:
        graphs: of the model.
        region: its bounds and signs for these graphs' nodes.
        noise: of every node of theirs, see `bounds.noises`.
        kept: what `reduced.reduced` says is left of each node.
        whole: the region on the model's own graph.
    """

    graphs: Graphs
    region: Region
    noise: list[Tensor]
    kept: dict[int, Tensor]
    whole: Region

    def below(self, row: Tensor | None, level: float) -> Part:
        """The images of the part where a function is at most `level`, and nothing else is known; None: all of them."""
        region, whole = (replace(given, row=row, level=level) for given in (self.region, self.whole))
        return replace(self, region=region, whole=whole)

    def put_back(self, place: int, value: Tensor, part: Tensor) -> Tensor:
        """Values (1, *shape) of a node of the model's graph, with those that are left taken from `part`."""
        return put_back(value, part, self.kept.get(place))

    def in_whole(self, place: int, at: Tensor) -> Tensor:
        """Where the model's graph has the values that are left at `at`, flat."""
        return self.kept[place][at] if place in self.kept else at

    def named(self, place: int, at: int) -> tuple[int, int]:
        """The node, and where that of the model's graph has what is left at `at`; both flat."""
        return place, int(self.kept[place][at]) if place in self.kept else at


def shrink(graphs: Graphs, region: Region, noise: Sequence[Tensor]) -> Part:
    """A region without the values of dense layers whose ReLUs are off there, unless their signs are given.

    Args:
        graphs: of the model.
        region: of one ball.
        noise: of every node, see `bounds.noises`.
    """
    needed = {place: high > 0 for place, (_, high) in region.known.items()}
    for place, given in region.signs.items():
        needed[place] = needed[place] | (given != 0)
    exact, kept = reduced(graphs.exact, needed)
    quick, _ = reduced(graphs.quick, needed)
    known = bounds_of_part(region.known, kept)
    signs = {at: part_of(value, kept.get(at)) for at, value in region.signs.items()}
    less = [part_of(value, kept.get(at)) for at, value in enumerate(noise)]
    return Part(Graphs(graphs.model, exact, quick), Region(known, region.row, region.level, signs), less, kept, region)


@torch.no_grad()
def tightened(part: Part, ball: Ball, worth: Worth, *, gap: float = 1.0, deadline: float = torch.inf) -> Region | None:
    """Bounds of what the ReLUs of one image read, once more, with slopes chosen for each value whose sign is open.

    Args:
        part: a region of the ball.
        ball: of one image.
        worth: of the region's margins; learns what each bound hangs on.
        gap: how far below its level the bound of the region's function is, more than 0; the unit of the search for its
            weight.
        deadline: of `time.perf_counter`, after which bounds stay as they are.

    Returns:
        The region on the model's graph, with bounds that are nowhere looser; None: there is no image in it.
    """
    region, graph, made, whole = part.region, part.graphs.exact, dict(part.region.known), part.whole
    starts, rests = dict(whole.starts), dict(whole.rests)
    if region.row is not None and worth.found.value.shape[1] == 1:
        found, last = worth.found, len(graph.nodes) - 1
        starts[last] = Start(torch.zeros(1, dtype=torch.int64), found.slopes, found.multipliers, None, part.kept)
    for place in graph.before_relus:
        low, high = (end.flatten().clone() for end in made[place])
        if not (worth_refining(graph, ball, place) or (region.row is not None and graph.nodes[place].kind != "add")):
            continue
        if rests.get(place):
            rests[place] -= 1
            continue
        where = ((low < 0) & (high > 0)).nonzero()[:, 0]
        wide = float((high - low)[where].sum())
        width = max(torch.Size(node.shape).numel() for node in graph.nodes[: place + 1])
        for chosen in where.split(max(1, MAX_VALUES // (8 * width))):
            if time.perf_counter() > deadline:
                break
            bottom, top, start = _ends(part, made, ball, place, chosen, gap, worth)
            low[chosen], high[chosen] = torch.maximum(low[chosen], bottom), torch.minimum(high[chosen], top)
            if sum(value.numel() for value in start.slopes.values()) <= KEPT and len(chosen) == len(where):
                starts[place] = start
        if bool((low > high + TINY).any()):
            return None
        # rounding in float64 may turn a range of one point around
        made[place] = low.view_as(made[place][0]), torch.maximum(low, high).view_as(made[place][1])
        if place < graph.relus[0] and float((high - low)[where].sum()) > (1 - LITTLE) * wide:
            rests[place] = REST
    known = {
        at: (part.put_back(at, low, made[at][0]), part.put_back(at, high, made[at][1]))
        for at, (low, high) in whole.known.items()
    }
    return replace(whole, known=known, starts=starts, rests=rests)


def _ends(
    part: Part, known: Known, ball: Ball, place: int, chosen: Tensor, gap: float, worth: Worth
) -> tuple[Tensor, Tensor, Start]:
    """Lower and upper bounds of some values of a node, and how they were found."""
    graph, region = part.graphs.exact, part.region
    one = torch.zeros(
        len(chosen), torch.Size(graph.nodes[place].shape).numel(), dtype=graph.dtype, device=chosen.device
    )
    one[torch.arange(len(chosen)), chosen] = 1
    rows = torch.cat([one, -one]).unflatten(1, graph.nodes[place].shape)[None]
    size = torch.cat([-known[place][0].flatten()[chosen], known[place][1].flatten()[chosen]])
    unit = (size / gap)[None, :, None]
    ceiling, level = (None, None) if region.row is None else (unit * region.row, unit * region.level)
    at = part.in_whole(place, chosen)
    start = part.whole.starts[place].for_part(at, part.kept, 2) if place in part.whole.starts else None
    if start is not None and start.weight is not None:
        start = replace(start, weight=start.weight / unit.float())
    found = _choice(part, ball, rows, known, STEPS, at=place, ceiling=ceiling, level=level, begin=start)
    worth.note(place, chosen, known, found, size)
    given, less = {place: rows}, torch.zeros_like(unit)
    if ceiling is not None and level is not None:
        given[len(graph.nodes) - 1] = found.weight.double() * ceiling
        less = found.weight.double() * level
    bottom, top = (_evaluated(part, ball, given, known, found) - less[..., 0])[0].chunk(2)
    weight = None if ceiling is None else found.weight * unit.float()
    return bottom, -top, Start(at, found.slopes, found.multipliers, weight, part.kept)


@torch.no_grad()
def margins(
    part: Part, ball: Ball, rows: Float[Tensor, "m k"], steps: int, beside: Float[Tensor, "l k"] | None = None
) -> tuple[Tensor, Tensor, Worth]:
    """Functions of the logits in a region.

    Args:
        part: the region.
        ball: that it is in.
        rows: coefficients of the functions.
        steps: see `alpha.optimized`.
        beside: of more functions, whose bounds are all that is wanted.

    Returns:
        Lower bounds (M + L,), images (M, C, H, W) where they may be low, and what the lowest of each of M hangs on.
    """
    given = (rows if beside is None else torch.cat([rows, beside]))[None]
    last, start = len(part.graphs.exact.nodes) - 1, None
    if last in part.whole.starts and len(given[0]) == 1:  # of this function
        start = part.whole.starts[last].for_part(torch.zeros(1, dtype=torch.int64), part.kept, 1)
    found = _choice(part, ball, given, part.region.known, steps, goal=RISEN, begin=start)
    bound = _evaluated(part, ball, {last: given}, part.region.known, found)[0]
    lacks = torch.cat([-bound[: len(rows)], torch.full_like(bound[len(rows) :], torch.inf)])
    return bound, found.point[0, : len(rows)], Worth(part.graphs.exact, part.region.known, found, lacks)


def _choice(
    part: Part,
    ball: Ball,
    rows: Tensor,
    known: Known,
    steps: int,
    *,
    at: int | None = None,
    ceiling: Tensor | None = None,
    level: Tensor | None = None,
    goal: float = torch.inf,
    begin: Start | None = None,
) -> Choice:
    """Slopes and multipliers for functions of a node, found in float32."""
    graph, signs = part.graphs.quick, part.region.signs
    short = in_float32(known)
    split = {relu: signs[read] for relu in graph.relus if (read := graph.nodes[relu].parents[0]) in signs}
    multipliers = {relu: torch.zeros_like(value[:, None], dtype=torch.float32) for relu, value in split.items()}
    slopes = first_choice(graph, short, at if ceiling is None else None)
    again = begin is not None and (ceiling is None or begin.weight is not None)
    if begin is not None:
        slopes.update({relu: value for relu, value in begin.slopes.items() if relu in slopes})
        multipliers.update({relu: value for relu, value in begin.multipliers.items() if relu in multipliers})
    weight = begin.weight if begin is not None and ceiling is not None else None
    with frozen(part.graphs.model):
        return optimized(
            graph,
            ball.to(torch.float32),
            rows.float(),
            short,
            steps=steps,
            at=at,
            signs={read: value.float() for read, value in signs.items()} or None,
            begin=Beginning(slopes, multipliers, weight, AGAIN if again else 1.0),
            goal=goal,
            ceiling=None if ceiling is None else ceiling.float(),
            level=None if level is None else level.float(),
        )


def _evaluated(part: Part, ball: Ball, start: dict[int, Tensor], known: Known, found: Choice) -> Tensor:
    """What a choice proves, in float64."""
    graph = part.graphs.exact
    shifts = shifts_of(graph, {relu: value.double() for relu, value in found.multipliers.items()}, part.region.signs)
    return evaluated(graph, ball, start, known, found.slopes, shifts, noise=part.noise)
