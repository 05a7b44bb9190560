"""Whether the model agrees with what was proven of it: its own logits on images of the ball, against the bounds.

Bounds are computed on a graph that is made from a model's layers. If the graph were not the model, or a bound wrong,
every certificate would be worthless, and nothing else would show it: `evaluate` does not attack what is proven. So the
model is queried for every image that is proven and for a few others: at the image, at a random point and a random
corner of the ball, and where the margin's gradient points.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.engine import BATCH, admitted, gradient_step, predict
from core.attacks.engine.losses import Goal, margin
from core.certification.ball import Ball, inside
from core.certification.bounds import rounding
from core.certification.false_proof import FalseProof
from core.certification.nodes import Graph, Unbounded

FEW = 4
"""Images for whose points graph and model are both evaluated; their logits must agree up to rounding."""
FORWARDS, BACKWARDS = 4, 1
"""Forward and backward passes of the model for each image that is checked."""
LIKELY = 1e-3
"""Far more than rounding takes off logits in practice, relative to them."""
HIDDEN = 1e-9
"""What float64 may hide in a bound, relative to the logits."""


@torch.no_grad()
def checked(
    model: nn.Module,
    graph: Graph,
    ball: Ball,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    bound: Float[Tensor, " n"],
    sure: Bool[Tensor, " n"],
    index: Int[Tensor, " n"] | None = None,
) -> Bool[Tensor, " n"]:
    """The images of `sure` whose certificates the model's own logits do not contradict: all of them, or an error.

    Only an image for which the model gives NaN somewhere in its ball is dropped without an error.

    Args:
        model: what is proven to be robust.
        graph: what the bounds were computed on, in float64.
        ball: what they hold in, in float64.
        x: (N, C, H, W) the images, as the model takes them.
        y: (N,) classes.
        bound: (N,) lower bounds of the margins.
        sure: (N,) which images are proven.
        index: (N,) the images' names in an error; their positions by default.

    Raises:
        Unbounded: graph and model differ by more than rounding.
        FalseProof: a margin of the model is below its bound, or a proven image is misclassified.
    """
    rows = torch.cat([sure.nonzero()[:, 0], (~sure).nonzero()[:, 0][:FEW]])
    index = torch.arange(len(x), device=x.device) if index is None else index
    kept = sure.clone()
    with admitted(model, x) as fit:  # a first layer that works in place allows no gradient as it is
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            points, logits = _queried(fit, ball.take(part), x[part], y[part])
            if start == 0:
                _check_same(graph, points[:, :FEW].flatten(0, 1), logits[:, :FEW].flatten(0, 1))
            found = torch.stack([margin(answer.double(), y[part]) for answer in logits])
            lowest, size = found.amin(0), logits.abs().amax((0, 2)).double()
            kept[part[lowest.isnan()]] = False
            slack = HIDDEN * (1 + size.nan_to_num(0, 0, 0))
            false = sure[part] & (lowest < bound[part] - slack)
            if false.any():
                raise _contradiction(int(false.nonzero()[0, 0]), part, index, ball, bound, lowest)
    return kept


def refute(fooled: Bool[Tensor, " n"], index: Int[Tensor, " n"] | Iterable[int], eps: float, norm: str) -> None:
    """Stop where a proven image was fooled. Raises FalseProof, naming the first one and the number of them."""
    if bool(fooled.any()):
        names = [int(name) for name, bad in zip(index, fooled.tolist(), strict=True) if bad]
        raise FalseProof(
            names[0],
            f"proven within ε = {eps:g} in {norm}, yet misclassified there ({len(names)} of {len(fooled)} images are)",
        )


def _contradiction(at: int, part: Tensor, index: Tensor, ball: Ball, bound: Tensor, lowest: Tensor) -> FalseProof:
    row = int(part[at])
    return FalseProof(
        int(index[row]),
        f"proven within ε = {float(ball.eps[row]):g} in {ball.norm} with a margin of {float(bound[row]):.3g} or more, "
        f"yet the model's margin is {float(lowest[at]):.3g} there",
    )


def _queried(model: nn.Module, ball: Ball, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images of each ball (P, n, C, H, W), and the model's logits (P, n, K)."""
    with torch.enable_grad():
        first, slope = gradient_step(model, x, Goal.of(y, None), "margin")
    draw = torch.Generator().manual_seed(0)  # the same for every image, so that none depends on its neighbours
    share = torch.rand(2, *x.shape[1:], dtype=torch.float64, generator=draw).to(x.device)
    if ball.norm == "linf":
        between, corner = share[0], share[1].round()
        made = [ball.low + between * (ball.high - ball.low), ball.low + corner * (ball.high - ball.low)]
    else:  # a random function of few pixels and one of all, where they are lowest
        sparse = torch.where(share[1] > 0.9, share[0] - 0.5, 0.0)
        made = [ball.minimizer(rows.expand_as(ball.x)[:, None])[:, 0] for rows in (sparse, share[1] - 0.5)]
    made.append(ball.minimizer(slope.double()[:, None])[:, 0])
    points = torch.stack([x, *(inside(point, x, ball.eps, ball.norm) for point in made)])
    with torch.no_grad():
        return points, torch.stack([first, *(predict(model, point) for point in points[1:])])


def _check_same(graph: Graph, points: Tensor, logits: Tensor) -> None:
    """Raise Unbounded unless the graph gives these logits, up to rounding."""
    values = graph.forward(points.to(graph.dtype))
    apart = (values[-1] - logits).abs()
    allowed = rounding(graph, [(value, value) for value in values]) + HIDDEN * values[-1].abs()
    known = values[-1].isfinite() & allowed.isfinite()
    size = values[-1].abs().amax(1, keepdim=True)
    allowed = torch.minimum(allowed, LIKELY * (1 + size))  # the worst case says nothing of deep networks
    off = known & ~(apart <= allowed)
    if off.any():
        raise Unbounded(
            f"model: expected logits that its layers explain, got some that differ from theirs by "
            f"{float(apart[off].max()):.3g}, where rounding explains {float(allowed[off].max()):.3g}: nothing is proven"
        )
