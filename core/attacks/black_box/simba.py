"""SimBA: one direction of an orthonormal basis at a time, up or down, kept where the model grows less sure.

Source: Guo, Gardner, You, Wilson, Weinberger 2019, arXiv 1905.07121, algorithm 1. Departures: the loss is the log-odds
of the class and not its probability, which orders images alike and does not saturate; the result stays in a ball, by
projection; each image has an order of directions, and a counter, of its own; a proposal that box, ball or mask leave as
it was is not asked; directions are tried again in a new order once all were, until a whole turn changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows
from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, predict
from core.attacks.engine.geometry import into_ball, per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import steps_within
from core.attacks.engine.steps import eps_limit, nearest
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress

NORMS = ("linf", "l2")
BASES = ("pixel", "dct")
USUAL_STEP = {("linf", "pixel"): 1.0, ("linf", "dct"): 0.25, ("l2", "pixel"): 0.2, ("l2", "dct"): 0.1}
"""Length of a step as a share of eps where none is given; measured best (docs/MEASUREMENTS.md)."""


@attack(gradients=False)
def simba(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Literal["linf", "l2"] = "l2",
    basis: Literal["pixel", "dct"] = "pixel",
    queries: int = 1000,
    relative_step: float | None = None,
    frequencies: float = 0.5,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by single steps along directions of a basis in random order, each kept where it lowers the loss.

    Args:
        model: pixels to logits; left untouched, and never differentiated.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball, one for all or (N,); in [0, 1] for linf, 0 or more for l2.
        norm: shape of the ball.
        basis: `pixel` (single features) or `dct` (cosines over a channel's whole plane).
        queries: forward passes of the search for an image that stands, at least 1.
        relative_step: length of a step, in `norm`, as a share of eps; None: as in `USUAL_STEP`.
        frequencies: share of the lowest frequencies along each side that `dct` uses, in (0, 1].
        budget: the most forward passes to spend on each image, the verification included, at least 3; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: the first fooling image, else the one of the lowest loss. Images fooled before come back unchanged, as
        successes. The ball holds to the last bit in `distance`. `backwards` is 0. `trace`: `margin` (N,) at `x_adv`.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(queries=queries, batch=batch)
    check_choice("norm", norm, NORMS)
    check_choice("basis", basis, BASES)
    if not 0 < frequencies <= 1:
        raise ValueError(f"frequencies: expected a share above 0 and at most 1, got {frequencies}")
    share = USUAL_STEP[norm, basis] if relative_step is None else relative_step
    check_positive(relative_step=share)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    queries = steps_within(budget, queries, 1, 2)
    streams = default_streams(streams, x)
    waves = [_waves(side, frequencies if basis == "dct" else None, x) for side in x.shape[2:]]
    directions = x.shape[1] * len(waves[0]) * len(waves[1])

    with frozen(model), torch.no_grad():
        best = Lowest.start(model, x, Goal.of(y, y_target), max(batch, 256), loss="ce")

        def begin(rows: Tensor) -> _Turn:
            zeros = torch.zeros_like(rows)
            return _Turn(zeros, zeros, zeros + 1, zeros, _order(streams.take(rows), zeros, directions))

        active = Active(best.standing(eps > 0), batch, begin)
        while active.refill():
            rows, on = active.rows, active.state
            which = on.order.gather(1, on.place[:, None])[:, 0]
            length = (on.sign * share).to(x.dtype) * eps[rows]
            step = _direction(which, waves, x.shape[1], norm) * per_image(length, x)
            trial = confine(model, nearest(best.x_adv[rows] + step, x[rows], eps[rows], norm), x[rows])
            asked = (trial != best.x_adv[rows]).flatten(1).any(1)
            better = torch.zeros_like(asked)
            if asked.any():
                ask = rows[asked]
                logits = predict(model, trial[asked], batch)
                best.forwards[ask] += 1
                part = best.goal.take(ask)
                now, value = part.reached(logits), part.loss(logits, "ce")
                better[asked] = best.offer(ask, trial[asked], now, value, part.margin(logits))

            idle = on.advance(better, streams.take(rows), directions)
            active.keep(~best.fooled[rows] & (best.forwards[rows] <= queries) & ~idle)
            best.report(on_progress, active.left)

        if norm == "l2":
            best.x_adv = into_ball(best.x_adv, x, eps, "l2")
        return best.result(batch)


@dataclass
class _Turn(Rows):
    """The images under attack.

    Attributes:
        turn: (n,) int64, which turn through the basis this is.
        place: (n,) int64, in the turn's order.
        sign: (n,) int64, 1 or -1, of the next step.
        kept: (n,) int64, steps that the turn has kept.
        order: (n, directions) int64, the turn's.
    """

    turn: Tensor
    place: Tensor
    sign: Tensor
    kept: Tensor
    order: Tensor

    def advance(self, better: Tensor, streams: Streams, directions: int) -> Tensor:
        """On to the next step, in place; returns whose turn has changed nothing: the next would ask the same again.

        Down after up where up did not help; then the next direction; after the last one a new turn.
        """
        over = better | (self.sign < 0)
        self.kept, self.place = self.kept + better, self.place + over
        self.sign = torch.where(over, 1, -1)
        ended = self.place == directions
        idle = ended & (self.kept == 0)
        if ended.any():
            self.turn, self.place = self.turn + ended, torch.where(ended, 0, self.place)
            self.kept = torch.where(ended, 0, self.kept)
            self.order[ended] = _order(streams.take(ended), self.turn[ended], directions)
        return idle


def _order(streams: Streams, turn: Tensor, directions: int) -> Tensor:
    """A random order (n, directions) of the basis for this turn."""
    return streams.fork(turn).uniform(0, 1, (directions,), torch.float64).argsort(dim=1, stable=True)


def _waves(side: int, share: float | None, like: Tensor) -> Tensor:
    """Orthonormal rows (k, side): unit vectors, or the lowest share of the cosines of the DCT-II."""
    if share is None:
        return torch.eye(side, dtype=like.dtype, device=like.device)
    count = max(1, math.ceil(share * side))
    turns = torch.arange(count, dtype=torch.float64)[:, None] * (torch.arange(side, dtype=torch.float64) + 0.5)
    waves = (turns * math.pi / side).cos()
    return (waves / torch.linalg.vector_norm(waves, dim=1, keepdim=True)).to(like.device, like.dtype)


def _direction(which: Tensor, waves: list[Tensor], channels: int, norm: str) -> Tensor:
    """The directions (n, C, H, W) with these numbers, of length 1 in `norm`."""
    down, right = waves
    channel, plane = which // (len(down) * len(right)), which % (len(down) * len(right))
    flat = down[plane // len(right)][:, :, None] * right[plane % len(right)][:, None, :]
    if norm == "linf":
        flat = flat / flat.abs().amax((1, 2), keepdim=True)
    here = torch.arange(channels, device=which.device) == channel[:, None]
    return here[:, :, None, None].to(flat.dtype) * flat[:, None]
