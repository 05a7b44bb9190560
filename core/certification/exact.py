"""Complete verification of ReLU networks: proven, fooled (with the image), or unknown when time is up.

Intervals first, then an attack, then each image that is left on its own: tighter bounds, branch and bound, and
mixed-integer programming (`branching`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine import Streams, default_streams, frozen, predict
from core.attacks.pgd import pgd
from core.certification.ball import Ball
from core.certification.branching import FOOLED, PROVEN, UNKNOWN, Search, at_most
from core.certification.graph import lower
from core.certification.proof import TINY, certified_margins
from core.progress import Progress


@dataclass(frozen=True)
class Verdicts:
    """One answer an image.

    Attributes:
        verdict: (N,) "proven", "fooled" or "unknown".
        found_by: (N,) what gave the answer: "clean", "ibp", "alpha_crown", "pgd", "branch and bound", "milp", or "".
        x_adv: (N, C, H, W): the image that fools, where there is one, read wrongly again by the model; else `x`.
        seconds: (N,) spent on each image alone, beyond what the batch shared.
        cases: (N,) int64, cases bounded.
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
    on_progress: Progress | None = None,
) -> Verdicts:
    """Decide for each image whether any image of the ball is read as another class.

    A time limit ends in "unknown", never in a wrong answer: every "fooled" comes with its image, read wrongly by the
    model in its own dtype and inside the ball; every "proven" allows for float32's rounding (`bounds.rounding`), and
    where a linear programme took part, for its tolerance.

    Args:
        model: pixels to logits, of layers that `graph.RULES` names.
        x: (N, C, H, W) in [0, 1].
        y: (N,) classes.
        eps: radius, one or (N,).
        norm: "linf", "l2" or "l1"; l2 without linear programming.
        time_limit: seconds for each image, beyond the bounds and the attack that all share.
        streams: of the attack's random starts.
        on_progress: images done.

    Raises:
        ValueError: as `proof.certified_margins`, or a time limit that is not positive.
    """
    if not time_limit > 0:
        raise ValueError(f"time_limit: expected more than 0 seconds, got {time_limit!r}")
    eps = torch.as_tensor(eps, dtype=torch.float64, device=x.device).expand(len(x))
    streams = default_streams(streams, x)
    verdict, found_by = np.full(len(x), UNKNOWN, dtype=object), np.full(len(x), "", dtype=object)
    seconds, cases, x_adv = np.zeros(len(x)), np.zeros(len(x), dtype=np.int64), x.clone()

    def settle(rows: Tensor, what: str, by: str) -> None:
        verdict[rows.cpu().numpy()], found_by[rows.cpu().numpy()] = what, by

    def open_rows() -> Tensor:
        return torch.from_numpy(np.flatnonzero(verdict == UNKNOWN)).to(x.device)

    with frozen(model):
        settle((predict(model, x).argmax(1) != y).nonzero()[:, 0], FOOLED, "clean")
    rows = open_rows()
    if len(rows):
        sure = certified_margins(model, x[rows], y[rows], eps[rows], norm=norm, method="ibp") > TINY
        settle(rows[sure], PROVEN, "ibp")
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
        x_adv[rows[attack.success]] = attack.x_adv[attack.success]
        settle(rows[attack.success], FOOLED, "pgd")
    graph = lower(model, tuple(x.shape[1:]), torch.float64)
    quick = lower(model, tuple(x.shape[1:]), torch.float32)
    rows = open_rows()
    for done, row in enumerate(rows.tolist()):
        start = time.perf_counter()
        one = torch.tensor([row], device=x.device)
        ball = Ball.around(x[one], eps[one], norm, torch.float64)
        search = Search(model, graph, quick, x[one], y[one], ball, eps[one])
        verdict[row], found_by[row], adversarial = search.run(start + time_limit)
        if adversarial is not None:
            x_adv[row] = adversarial
        seconds[row], cases[row] = time.perf_counter() - start, search.cases
        if on_progress:
            on_progress(done + 1, len(rows), phase="branch and bound", unknown=float((verdict == UNKNOWN).sum()))
    return Verdicts(verdict.astype(str), found_by.astype(str), x_adv, seconds, cases)


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
        high: the largest radius to ask for.
        tolerance: width of the interval, more than 0.
        time_limit: seconds for each image and question.
        on_progress: rounds done.

    Returns:
        Proven radius and smallest radius at which an image was fooled (inf where none was), (N,) float64.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected more than 0, got {tolerance!r}")
    safe = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    fooled = torch.full_like(safe, torch.inf)
    ask = torch.full_like(safe, high)
    left = torch.arange(len(x), device=x.device)
    rounds = max(1, int(np.ceil(np.log2(high / tolerance))) + 1)
    for turn in range(rounds + 1):
        if not len(left):
            break
        answer = verify(model, x[left], y[left], ask[left], norm=norm, time_limit=time_limit)
        sure = torch.from_numpy(answer.verdict == PROVEN).to(x.device)
        lost = torch.from_numpy(answer.verdict == FOOLED).to(x.device)
        clean = torch.from_numpy(answer.found_by == "clean").to(x.device)
        safe[left[sure]] = ask[left[sure]]
        # the image that fools may be nearer than the radius that was asked for
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
        near = torch.linalg.vector_norm((answer.x_adv - x[left]).double().flatten(1), order, dim=1)
        fooled[left[lost]] = near[lost]
        left = left[(sure | lost) & ~clean]
        left = left[fooled[left] - safe[left] > tolerance]
        left = left[~((safe[left] >= high) & fooled[left].isinf())]
        ask[left] = (safe[left] + fooled[left]) / 2
        if on_progress:
            on_progress(turn + 1, rounds + 1, phase="bisection")
    return safe, fooled
