"""How many images more a search of AutoAttack's strength would fool, with an interval.

Every stage is a trial on each image that it runs on: so many passes, with a find or without. The rate of finds per pass
falls as a power of the passes that an image has had, as failures do of a machine whose faults are mended one after
another (Duane 1964, doi 10.1109/TA.1964.4319640), and along the order in which searches take the images (`digging`):

    rate = exp(a) * place ** b * exp(c * place) * passes ** -POWER

with the place between 0 and 1. a, b and c are fitted to the trials of the evaluation at hand, a Poisson regression that
begins with what they were on other networks (`PRIOR`). Where the order says nothing, b and c become small; late finds
make a large. The rates of the images that stand, over the passes that the other search would spend on them, add up to
the expected number of finds. The interval holds what a, b and c leave open, chance, and how much more or less the
other search finds than its passes say (`OTHER`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.evaluation.robust import digging
from core.evaluation.robust.schedule import AFTER
from core.evaluation.robust.state import CascadeState

POWER = 1.5
"""The rate of finds falls with the passes to this power."""
PRIOR = ((-1.4, -0.5, -7.0), (1.5, 0.25, 3.5))
"""Mean and standard deviation of a, b and c on other networks."""
OTHER = 1.0
"""Standard deviation of the logarithm of the other search's rate over the rate that its passes say, 1 in the mean."""
DRAWS = 2000
"""Draws of a, b and c."""
LEVEL = 0.95
"""Of the interval."""
SQUARE = 5000
"""Queries of AutoAttack's Square."""
SPARSE = 10_000 + 2000
"""Passes of the search in l0, which AutoAttack does not know: Sparse-RS at its authors' length, and `minimum`."""


@dataclass(frozen=True)
class Trials:
    """What every stage of an evaluation did to every image, in the order of the stages.

    Attributes:
        places: (N, S + 1) of an image in the order, before each stage and after the last, above 0 and below 1; NaN
            where it did not stand.
        spent: (N, S) passes of the stage on it.
        fell: (N, S) whether the stage fooled it.
    """

    places: Float[Tensor, "n s+1"]
    spent: Int[Tensor, "n s"]
    fell: Bool[Tensor, "n s"]

    @classmethod
    def of(cls, state: CascadeState, last: Float[Tensor, " n"]) -> Trials:
        """Those of an evaluation whose images are at the places `last` after it."""
        return cls(torch.cat([state.places, last[:, None]], 1), state.spent, state.fell)


@dataclass(frozen=True)
class LeftToFind:
    """How many of the images that stand a search of AutoAttack's strength (`at_least_autoattack`) would fool.

    Attributes:
        expected: number of images.
        low: the 95 % interval of that number begins here.
        high: and ends here.
        n: images that were evaluated.
        norm: of the ball; in l0 the other search is Sparse-RS at 10,000 queries, and `minimum`.
    """

    expected: float
    low: int
    high: int
    n: int
    norm: str = "linf"

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, made: dict[str, Any] | None) -> LeftToFind | None:
        """What `to_json` wrote; None stays None: not known."""
        return None if made is None else cls(**made)

    @property
    def said(self) -> str:
        """Such as `about 0.1 points (95 %: 0.0 to 0.3)`."""
        about, low, high = (f"{100 * count / self.n:.1f}" for count in (self.expected, self.low, self.high))
        return f"about {about} points (95 %: {low} to {high})"

    @property
    def sentence(self) -> str:
        """The same as a sentence."""
        search = "Sparse-RS with 10,000 queries" if self.norm == "l0" else "A search of AutoAttack's strength"
        return f"{search} on all images would fool {self.said} more."


def places_now(rows: Int[Tensor, " m"], eps: Float[Tensor, " n"], state: CascadeState) -> Float[Tensor, " n"]:
    """The places in the order of the images of `rows` that stand, above 0 and below 1; NaN for the others."""
    rows = rows[~state.fooled[rows]]
    size = torch.bincount(torch.arange(len(state.fooled), device=rows.device) // digging.BLOCK)
    found = torch.full_like(state.margin, torch.nan)
    found[rows] = ((digging.places(rows, eps, state) + 0.5) / size[rows // digging.BLOCK]).to(found)
    return found


def passes(norm: str, classes: int) -> int:
    """Passes that AutoAttack's attacks spend on an image that they do not fool: APGD-CE, APGD-T, FAB-T and Square.

    In l0 those that `at_least_autoattack` adds to `standard`.
    """
    if norm == "l0":
        return SPARSE
    return 200 * (1 + 2 * min(9, classes - 1)) + (SQUARE if norm != "l1" else 0)


def estimate(trials: Trials, standing: Bool[Tensor, " n"], norm: str, classes: int) -> LeftToFind:
    """Estimate it from the trials.

    Args:
        trials: all of them.
        standing: the images that are not fooled, those that are proven among them.
        norm: of the ball.
        classes: of the model.
    """
    places, spent, fell = (part.double().cpu() for part in (trials.places, trials.spent, trials.fell))
    last, places = places[:, -1], places[:, :-1]
    total = 1 + spent.sum(1)
    begun = 1 + spent.cumsum(1) - spent
    tried = (spent > 0) & places.isfinite()
    tried[:, :AFTER] = False  # their finds are easy, and there is no order yet
    standing = standing.cpu() & last.isfinite()
    signs, ahead = _signs(last[standing]), _exposure(total[standing], torch.tensor(passes(norm, classes)))
    drawn, weight = _posterior(_signs(places[tried]), _exposure(begun[tried], spent[tried]), fell[tried])
    draw = torch.Generator().manual_seed(1)
    other = (OTHER * torch.randn(DRAWS, 1, generator=draw, dtype=torch.float64) - OTHER**2 / 2).exp()  # of mean 1
    mean = torch.cat(
        [
            -torch.expm1(-(some @ signs.T).exp() * ahead * times).sum(1)
            for some, times in zip(drawn.split(100), other.split(100), strict=True)
        ]
    )
    count, order = torch.poisson(mean, generator=draw).clamp(max=len(signs)).sort()
    reached = weight[order].cumsum(0) / weight.sum()
    low, high = (
        int(count[min(DRAWS - 1, int((reached < share).sum()))]) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    return LeftToFind(float((mean * weight).sum() / weight.sum()), low, high, len(standing), norm)


def _signs(place: Tensor) -> Tensor:
    """(M, 3): what a, b and c are the coefficients of."""
    return torch.stack([torch.ones_like(place), place.log(), place], 1)


def _exposure(begun: Tensor, spent: Tensor) -> Tensor:
    """The integral of passes ** -POWER over `spent` passes after `begun`."""
    power = POWER - 1
    return (begun**-power - (begun + spent) ** -power) / power


def _posterior(signs: Tensor, exposure: Tensor, finds: Tensor) -> tuple[Tensor, Tensor]:
    """(DRAWS, 3) coefficients, drawn from a normal density around the likeliest, and their weights by the true one."""
    mean, deviation = torch.tensor(PRIOR, dtype=torch.float64)

    def height(at: Tensor) -> Tensor:
        """The logarithm of the density at (D, 3) coefficients, up to a constant."""
        logs = at @ signs.T
        return logs @ finds - logs.exp() @ exposure - ((at - mean) / deviation).square().sum(1) / 2

    at = mean
    for _ in range(50):  # Newton; the density is log-concave
        rate = exposure * (signs @ at).exp()
        curvature = signs.T @ (rate[:, None] * signs) + torch.diag(deviation**-2)
        step = torch.linalg.solve(curvature, signs.T @ (finds - rate) - (at - mean) / deviation**2)
        sizes = 0.5 ** torch.arange(12, dtype=torch.float64)
        at = at + sizes[height(at + sizes[:, None] * step).argmax()] * step
        if step.abs().max() < 1e-6:
            break
    normal = torch.randn(DRAWS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = at + normal @ torch.linalg.inv(torch.linalg.cholesky(curvature))
    logs = torch.cat([height(some) for some in drawn.split(100)]) + normal.square().sum(1) / 2
    return drawn, (logs - logs.max()).exp()
