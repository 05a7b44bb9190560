"""The Jacobian of logits or score with respect to the image, and the dense formula that follows from it.

Exercise set 2: for a scalar network N with threshold tau the smallest change of the same size on every pixel is, to
first order, delta = sign(tau - N) * eps * sign(J) with eps = |tau - N(x)| / ||J||_1 (Hoelder's equality; the linear
case is Goodfellow et al. 2015, arXiv 1412.6572). With the box [0, 1] each pixel has only its room to move, and eps
solves sum_j |J_j| min(eps, u_j) = |tau - N(x)| (MATHEMATICS sections 1 and 4). Not exact for a curved N.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.checks import check, check_images
from core.attacks.engine.door import attack
from core.attacks.engine.engine import frozen, input_gradient, leaf_of, logits_of_leaf, predict
from core.attacks.engine.geometry import per_image, water_level
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.steps import fgsm_step
from core.progress import Progress

JACOBIAN_BATCH = 128
"""Images in one forward pass; a few gradients of each are in memory at once, all K only where all K are returned."""


@attack
def jacobian(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    output: Literal["all", "score"] | int | Int[Tensor, " n"] = "all",
    *,
    batch: int = JACOBIAN_BATCH,
) -> Tensor:
    """Derivative of the chosen output with respect to each pixel.

    Args:
        model: pixels to logits (N, K); left untouched.
        x: (N, C, H, W) in [0, 1].
        output: a class or (N,) classes: that logit. `score`: N(x) of a scalar network (logits (0, N - tau)), or
            logit 1 minus logit 0 of any model of two classes. `all`: every logit.
        batch: images in one pass.

    Returns:
        (N, C, H, W), or (N, K, C, H, W) for `all`. Entries that are not finite are 0.

    Raises:
        ValueError: bad images, a class that does not exist, `score` with more than two classes.
    """
    classes = check_images(model, x)
    if isinstance(output, str):
        if output not in ("all", "score"):
            raise ValueError(f"output: expected 'all', 'score' or a class from 0 to {classes - 1}, got {output!r}")
        if output == "score" and classes != 2:
            raise ValueError(f"output: 'score' needs a model of two classes, got {classes}")
    else:
        label = torch.as_tensor(output)
        if label.ndim > 1 or (label.ndim == 1 and len(label) != len(x)) or label.is_meta:
            raise ValueError(f"output: expected a class or {len(x)} classes, got shape {tuple(label.shape)}")
        label = label.to(x.device).expand(len(x))
        whole = not (label.is_floating_point() or label.is_complex() or label.dtype == torch.bool)
        label = label.long() if whole else label
        if not whole or label.min() < 0 or label.max() >= classes:
            raise ValueError(f"output: expected classes from 0 to {classes - 1}, got {output}")
    parts = []
    with frozen(model):
        for start in range(0, len(x), batch):
            leaf = leaf_of(x[start : start + batch])
            logits = logits_of_leaf(model, leaf)
            if isinstance(output, str) and output == "all":
                parts.append(class_gradients(logits, leaf))
            elif isinstance(output, str):
                parts.append(input_gradient((logits[:, 1] - logits[:, 0]).sum(), leaf))
            else:
                chosen = logits.gather(1, label[start : start + batch, None])
                parts.append(input_gradient(chosen.sum(), leaf))
    made = torch.cat(parts)
    scale = bears_of(model).scale
    return made if scale == 1 else made / scale


def class_gradients(logits: Tensor, leaf: Tensor) -> Tensor:
    """Each logit's gradient, (N, K, C, H, W): one backward pass a class through the same graph."""
    classes = logits.shape[1]
    return torch.stack(
        [input_gradient(logits[:, k].sum(), leaf, retain_graph=k + 1 < classes) for k in range(classes)], 1
    )


@attack
def jacobian_dense(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    y_target: Int[Tensor, " n"] | None = None,
    boxed: bool = True,
    factor: float = 1.1,
    batch: int = JACOBIAN_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Change every pixel by the same ±eps, eps from the Jacobian at `x`.

    Untargeted: the class t of the smallest eps for logit_y - logit_t. Targeted: N is the best other logit minus that
    of the target, at `x`; for more than two classes that is a necessary condition only.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        y_target: (N,) int64; given, the change aims at these classes.
        boxed: solve with the room that each pixel has in [0, 1]; off, the plain formula, which leaves valid images.
        factor: the change made is `factor * eps_star`; above 0. Equality is a tie, so 1 is on the boundary.
        batch: images in one pass.
        on_progress: called after each chunk with images done, all images, and `success`, the share fooled so far.

    Returns:
        Images that are misclassified already come back unchanged. Where the formula says that no size is enough
        (eps_star is inf), every pixel of a boxed image goes to its end, and an unboxed image (its gradient is 0) stays.
        `trace`, each (N,): `eps_star`; `eps`, the size applied; `toward`, the class aimed at; `predicted`, the margin
        at `x_adv` according to the Jacobian; `actual`, the margin there. Margins are positive before the image is
        fooled.

    Raises:
        ValueError: bad input, naming the argument.
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"factor: expected a positive number, got {factor}")
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    x_adv = x.clone()
    claimed = torch.zeros_like(y, dtype=torch.bool)
    forwards, backwards = torch.full_like(y, 2), torch.zeros_like(y)
    trace = {name: torch.zeros(len(x), dtype=x.dtype, device=x.device) for name in ("eps_star", "eps")}
    trace["toward"] = torch.zeros_like(y)
    trace |= {name: torch.zeros_like(trace["eps"]) for name in ("predicted", "actual")}
    with frozen(model):
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            part = goal.take(rows)
            leaf = leaf_of(x[rows])
            logits = logits_of_leaf(model, leaf)
            eps_star = torch.full_like(trace["eps_star"][rows], torch.inf)
            gap, slope, toward = torch.zeros_like(eps_star), torch.zeros_like(x[rows]), torch.zeros_like(part.label)
            seen = torch.zeros_like(part.label, dtype=torch.bool)
            for now, rise, aim in _conditions(logits, leaf, part):  # one after the other: K slopes are large
                level = _level(now, rise, x[rows], boxed)
                nearer = ~seen | (level < eps_star)
                eps_star, gap = torch.where(nearer, level, eps_star), torch.where(nearer, now, gap)
                toward, slope = torch.where(nearer, aim, toward), torch.where(per_image(nearer, rise), rise, slope)
                seen |= True
            backwards[rows] = 1 if goal.targeted or logits.shape[1] == 2 else logits.shape[1]
            # where no size is enough: every pixel to its limit, inside the box only
            eps = torch.where(eps_star.isfinite(), factor * eps_star, 1.0 if boxed else 0.0)
            x_adv[rows] = fgsm_step(x[rows], -slope.sign(), eps, clip=boxed)
            after = predict(model, x_adv[rows], batch)
            claimed[rows] = part.reached(after)
            trace["eps_star"][rows], trace["eps"][rows] = eps_star, eps
            trace["toward"][rows] = toward
            trace["predicted"][rows] = gap + (slope * (x_adv[rows] - x[rows])).flatten(1).sum(1)
            trace["actual"][rows] = part.margin(after)
            if on_progress:
                done = min(start + batch, len(x))
                on_progress(done, len(x), success=claimed[:done].float().mean().item())
        return finish(model, x, x_adv, goal, claimed, forwards, backwards, trace, batch)


def _conditions(logits: Tensor, leaf: Tensor, goal: Goal) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Margins of which one must fall below 0: value (N,), slope (N, C, H, W) and class aimed at (N,) of each.

    One margin where it says it all (a target, or two classes), else K - 1.
    """
    classes = logits.shape[1]
    if goal.targeted or classes == 2:
        slope = input_gradient(goal.margin(logits).sum(), leaf)
        yield goal.margin(logits).detach(), slope, goal.label if goal.targeted else 1 - goal.label
        return
    value, label = logits.detach(), goal.label[:, None]
    own = input_gradient(logits.gather(1, label).sum(), leaf, retain_graph=True)
    for rank in range(classes - 1):
        other = rank + (rank >= label).long()  # every class but the true one
        slope = own - input_gradient(logits.gather(1, other).sum(), leaf, retain_graph=rank + 2 < classes)
        yield (value.gather(1, label) - value.gather(1, other))[:, 0], slope, other[:, 0]


def _level(gap: Tensor, slope: Tensor, x: Tensor, boxed: bool) -> Tensor:
    """The formula's eps (N,) for one margin; inf where no size is enough or the margin is no number."""
    if boxed:
        room = torch.where(slope > 0, x, 1 - x)  # the margin falls against the slope
        return water_level(slope.flatten(1), room.flatten(1), gap)
    total = slope.flatten(1).abs().double().sum(1)
    level = torch.where(total > 0, gap.double() / total.clamp(min=torch.finfo(torch.float64).tiny), torch.inf)
    return torch.where(gap <= 0, 0, level).nan_to_num(torch.inf, torch.inf).to(x.dtype)
