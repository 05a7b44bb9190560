"""Complete verification of ReLU networks: proven, fooled (with the image), or unknown when the time is up.

Intervals first, then an attack, then each undecided image on its own: tighter bounds, an attack towards each class that
is left, branch and bound, and mixed-integer programming (`branching`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core import epsilon
from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.attacks.engine.streams import Streams, default_streams
from core.attacks.fixed_budget.pgd import pgd
from core.certification.agreement import checked, refute
from core.certification.ball import Ball, at_most, exact_eps
from core.certification.branching import FOOLED, PROVEN, UNKNOWN, BranchAndBound
from core.certification.nodes import Unbounded
from core.certification.proof import TINY, Graphs, certified_margins, graphs_of
from core.progress import Progress


@dataclass(frozen=True)
class Verdicts:
    """One verdict per image.

    Attributes:
        verdict: (N,) "proven", "fooled" or "unknown".
        found_by: (N,) what decided: "clean", "ibp", "alpha_crown", "pgd", "branch and bound", "milp", or "".
        x_adv: (N, C, H, W): the image that fools, where there is one, verified by the model again; else `x`.
        seconds: (N,) spent on each image alone, beyond what the batch shared.
        cases: (N,) int64, cases and regions bounded.
    """

    verdict: np.ndarray
    found_by: np.ndarray
    x_adv: Tensor
    seconds: np.ndarray
    cases: np.ndarray


def verify(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float | Float[Tensor, " n"],
    *,
    norm: str = "linf",
    time_limit: float = 30.0,
    streams: Streams | None = None,
    index: Int[Tensor, " n"] | None = None,
    on_progress: Progress | None = None,
) -> Verdicts:
    """Decide for each image whether any image of the ball is classified as another class.

    A time limit ends in "unknown", never in a wrong answer: every "fooled" comes with its image, misclassified by the
    model in its own dtype and inside the ball; every "proven" allows for float32's rounding (`bounds.rounding`), and
    where a linear programme took part, for its tolerance. An image whose own logits are NaN is misclassified.

    Args:
        model: pixels to logits, of layers that `graph.RULES` names.
        x: (N, C, H, W) in [0, 1].
        y: (N,) classes.
        eps: the ball's ε, one or (N,).
        norm: "linf", "l2" or "l1"; l2 without linear programming.
        time_limit: seconds per image, besides the bounds and the attack that all share.
        streams: random numbers per image, for the attack's starts.
        index: (N,) the images' names in an error; their positions by default.
        on_progress: called with images done and all undecided images.

    Raises:
        ValueError: as `proof.certified_margins`, or a time limit that is not positive.
        Unbounded: as there.
        FalseProof: as there.
    """
    if not isinstance(time_limit, int | float) or not time_limit > 0:
        raise ValueError(f"time_limit: expected more than 0 seconds, got {time_limit!r}")
    graphs = _complete(model, x, y)
    index = torch.arange(len(x), device=x.device) if index is None else index.to(x.device)
    Ball.around(x, eps, norm, torch.float64)  # refuses what is no ε
    eps = exact_eps(eps, x).expand(len(x))
    streams = default_streams(streams, x)
    verdict, found_by = np.full(len(x), UNKNOWN, dtype=object), np.full(len(x), "", dtype=object)
    seconds, cases, x_adv = np.zeros(len(x)), np.zeros(len(x), dtype=np.int64), x.clone()

    def settle(rows: Tensor, what: str, by: str) -> None:
        verdict[rows.cpu().numpy()], found_by[rows.cpu().numpy()] = what, by

    def open_rows() -> Tensor:
        return torch.from_numpy(np.flatnonzero(verdict == UNKNOWN)).to(x.device)

    with frozen(model):
        settle((predicted(predict(model, x)) != y).nonzero()[:, 0], FOOLED, "clean")
    rows = open_rows()
    if len(rows):
        margins = certified_margins(model, x[rows], y[rows], eps[rows], norm=norm, method="ibp", index=index[rows])
        settle(rows[margins > TINY], PROVEN, "ibp")
    rows = open_rows()
    if len(rows):
        kind: Any = norm
        attack = pgd(
            model,
            x[rows],
            y[rows],
            eps=at_most(eps[rows], x.dtype),
            norm=kind,
            steps=40,
            restarts=2,
            streams=streams.take(rows),
        )
        size = distances(attack.x_adv.double(), x[rows].double())[norm]
        fools = attack.success & epsilon.within(size, eps[rows])
        x_adv[rows[fools]] = attack.x_adv[fools]
        settle(rows[fools], FOOLED, "pgd")
    rows = open_rows()
    for done, row in enumerate(rows.tolist()):
        start = time.perf_counter()
        one = torch.tensor([row], device=x.device)
        ball = Ball.around(x[one], eps[one], norm, torch.float64)
        search = BranchAndBound(graphs, x[one], y[one], ball, eps[one])
        verdict[row], found_by[row], adversarial = search.run(start + time_limit)
        if adversarial is not None:
            x_adv[row] = adversarial
        seconds[row], cases[row] = time.perf_counter() - start, search.cases
        if on_progress:
            on_progress(done + 1, len(rows), phase="branch and bound", unknown=float((verdict == UNKNOWN).sum()))
    found = torch.from_numpy((verdict == PROVEN) & (found_by != "ibp")).to(x.device)
    if found.any():
        ball = Ball.around(x, eps, norm, torch.float64)
        kept = checked(model, graphs.exact, ball, x, y, torch.zeros_like(eps), found, index)
        settle((found & ~kept).nonzero()[:, 0], UNKNOWN, "")
    return Verdicts(verdict.astype(str), found_by.astype(str), x_adv, seconds, cases)


def _complete(model: nn.Module, x: Tensor, y: Tensor) -> Graphs:
    """The graphs of a model whose only non-linearities are ReLUs."""
    graphs = graphs_of(model, x, y)
    if graphs.exact.smooth:
        raise Unbounded(
            "model: expected a network of ReLUs for complete verification, got one with tanh or sigmoid; the method "
            "alpha_crown bounds it"
        )
    return graphs


def exact_radius(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: str = "linf",
    high: float = 0.5,
    tolerance: float = 1e-3,
    time_limit: float = 30.0,
    on_progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Between which radii each image's smallest adversarial perturbation lies, by bisection.

    Ends where the two are `tolerance` apart, or where an image's answer is unknown.

    Args:
        model: as in `verify`.
        x: as in `verify`.
        y: as in `verify`.
        norm: as in `verify`.
        high: the largest radius to try.
        tolerance: width of the interval, more than 0.
        time_limit: seconds per image and radius.
        on_progress: called with rounds done and all rounds.

    Returns:
        Proven radius (0 where the image is misclassified or its logits are NaN) and smallest radius at which an image
        was fooled (inf where none was), (N,) float64.

    Raises:
        ValueError: as `verify`, or a largest radius or tolerance that is not positive.
        FalseProof: as `verify`, or an image that is fooled within its proven radius.
    """
    if not isinstance(tolerance, int | float) or not tolerance > 0:
        raise ValueError(f"tolerance: expected more than 0, got {tolerance!r}")
    if not isinstance(high, int | float) or not 0 < high < np.inf:
        raise ValueError(f"high: expected a finite radius above 0, got {high!r}")
    _complete(model, x, y)
    safe = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    fooled = torch.full_like(safe, torch.inf)
    eps = torch.full_like(safe, high)
    left = torch.arange(len(x), device=x.device)
    rounds = max(1, int(np.ceil(np.log2(high / tolerance))) + 1)
    for turn in range(rounds + 1):
        if not len(left):
            break
        answer = verify(model, x[left], y[left], eps[left], norm=norm, time_limit=time_limit, index=left)
        sure = torch.from_numpy(answer.verdict == PROVEN).to(x.device)
        lost = torch.from_numpy(answer.verdict == FOOLED).to(x.device)
        clean = torch.from_numpy(answer.found_by == "clean").to(x.device)
        safe[left[sure]] = eps[left[sure]]
        # the image that fools may be nearer than ε
        near = distances(answer.x_adv.double(), x[left].double())[norm]
        fooled[left[lost]] = near[lost]
        refute(lost & (near < safe[left]), left, float(safe[left].max()), norm)
        left = left[(sure | lost) & ~clean]
        left = left[fooled[left] - safe[left] > tolerance]
        left = left[~(epsilon.reaches(safe[left], high) & fooled[left].isinf())]
        eps[left] = (safe[left] + fooled[left]) / 2
        if on_progress:
            on_progress(turn + 1, rounds + 1, phase="bisection")
    return safe, fooled
