"""One perturbation for many images: the classical algorithm (UAP), and mini-batch steps on one shared perturbation.

A universal perturbation is judged on images that it was not made from: `apply` does that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_budget, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import BATCH, confine, frozen, gradient_step, predict
from core.attacks.engine.geometry import into_ball, project_l1, project_l2, project_linf
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import cosine
from core.attacks.engine.steps import BALLS, Ball, eps_limit, step_against
from core.attacks.engine.streams import Streams, default_streams
from core.attacks.minimal.deepfool import deepfool
from core.checks import check_choice
from core.progress import Progress

LAST_STEP = 0.1
"""The last step as a share of the first."""
DEEPFOOL_MIN = 5
UAP_MIN = DEEPFOOL_MIN + 4
"""The fewest model evaluations (forward and backward passes) of DeepFool, and of one epoch of UAP, per image."""


@dataclass(frozen=True)
class Universal:
    """One perturbation, and how it does on the images it was made from.

    Attributes:
        delta: (C, H, W), dtype and device of the images; zero outside the model's mask. It keeps to the ball to the
            last bit; adding it to an image rounds once more.
        success: (N,) bool: fooled by it, verified. The perturbation was made from these images: measure it on others.
        forwards: (N,) int64, forward passes per image, the verification included.
        backwards: (N,) int64, backward passes likewise.
        trace: the method's own records, see there.
    """

    delta: Tensor
    success: Tensor
    forwards: Tensor
    backwards: Tensor
    trace: dict[str, Tensor] = field(default_factory=dict)


def shifted(
    model: nn.Module, x: Float[Tensor, "n c h w"], delta: Float[Tensor, "c h w"], *, clip: bool = True
) -> Float[Tensor, "n c h w"]:
    """The images with the perturbation added inside the model's mask, clipped to [0, 1] unless `clip` is off."""
    moved = x + delta
    return confine(model, moved.clamp(0, 1) if clip else moved, x)


@attack
def apply(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    delta: Float[Tensor, "c h w"],
    *,
    y_target: Int[Tensor, " n"] | None = None,
    clip: bool = True,
    batch: int = BATCH,
) -> AttackResult:
    """Add one perturbation to these images and verify which of them it fools.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1]; images that the perturbation was not made from, to measure it.
        y: (N,) int64 true classes.
        delta: (C, H, W).
        y_target: (N,) int64; given, only these classes count as a success.
        clip: clip the result to [0, 1]; without, `x_adv` may leave this range.
        batch: images in one forward pass.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check(model, x, y, y_target=y_target)
    if delta.shape != x.shape[1:]:
        raise ValueError(f"delta: expected shape {tuple(x.shape[1:])}, as the images, got {tuple(delta.shape)}")
    goal, none = Goal.of(y, y_target), torch.zeros_like(y)
    with frozen(model):
        x_adv = shifted(model, x, delta, clip=clip)
        claimed = goal.reached(predict(model, x_adv, batch))
        return finish(model, x, x_adv, goal, claimed, none + 1, none, batch=batch)


@attack
def universal_gradient(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float,
    norm: Ball = "linf",
    epochs: int = 10,
    minibatch: int = 64,
    relative_step: float = 0.25,
    momentum: float = 0.9,
    kappa: float = 5.0,
    validation: float = 0.2,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> Universal:
    """Descend the images' clipped margins by steps on one shared perturbation.

    The loss of an image is max(0, margin + kappa), so that an image that is fooled by more than `kappa` adds nothing.
    Steps go against the gradient's sign (linf) or the gradient (l2, l1), with momentum; their length falls by a cosine
    from `relative_step * eps` to a tenth of it. After each epoch the perturbation is scored on the validation images,
    and the best one is kept.

    Source: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein 2020, arXiv 1811.11304, algorithm 2. Departures: the margin
    in the place of their clipped cross-entropy; momentum; decaying steps; the best on validation; a pixel that is
    clipped takes part again as soon as its gradient points inwards (the plain gradient through the clipping stays 0
    there, which would keep most of a dark background from ever moving).

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1], images to make it from.
        y: (N,) int64 true classes.
        eps: largest norm of the perturbation, one for all.
        norm: of the perturbation before clipping.
        epochs: times that each image is seen, at least 1.
        minibatch: images per step.
        relative_step: the first step as a share of `eps`.
        momentum: of the gradient, in [0, 1).
        kappa: margin, in logits, beyond which a fooled image adds nothing to the loss; 0 or more.
        validation: share of the images that only choose the best epoch, in [0, 0.9]; 0: all images serve for both.
        y_target: (N,) int64; given, the images are driven to these classes.
        streams: random numbers per image (which images validate, the order); default seed 0 and positions.
        budget: the most model evaluations per image, the verification included; there are fewer epochs where it is
            short. None: no limit.
        batch: images in one forward pass.
        on_progress: called after each step with steps done, all steps, and `success`, the latest fooling rate on the
            validation images.

    Returns:
        `trace`: `validation` (epochs,) the fooling rate on the validation images; `validates` (N,) bool, which images
        these are; `best`, the epoch that was kept, from 1, or 0 where no epoch fools any image.

    Raises:
        ValueError: bad input, naming the argument.
    """
    eps = _checked(model, x, y, eps, norm, y_target, epochs=epochs, minibatch=minibatch, batch=batch)
    check_positive(relative_step=relative_step)
    for name, value, top in (("momentum", momentum, 1), ("validation", validation, 0.9), ("kappa", kappa, math.inf)):
        if not 0 <= value <= top or value == 1 or value == math.inf:
            raise ValueError(f"{name}: expected a number from 0 to {top:g}, got {value}")
    streams, goal = default_streams(streams, x), Goal.of(y, y_target)
    lot = streams.fork(0).uniform(0, 1, ())
    judges = torch.zeros_like(y, dtype=torch.bool)
    judges[lot.argsort(stable=True)[: int(validation * len(x))]] = True
    fit = (~judges).nonzero()[:, 0]
    judging = judges.nonzero()[:, 0] if judges.any() else fit
    if budget is not None:
        check_budget(budget, 4)
        epochs = min(epochs, (budget - 1) // (2 if judges.any() else 3))
    if eps == 0:
        epochs = 0
    total = epochs * math.ceil(len(fit) / minibatch)
    lengths = cosine(1.0, LAST_STEP, total)
    forwards, backwards = torch.zeros_like(y), torch.zeros_like(y)
    delta = torch.zeros_like(x[:1])
    velocity, best, best_rate, kept, step = torch.zeros_like(delta), delta, 0.0, 0, 0
    rates: list[float] = []
    with frozen(model):
        for epoch in range(1, epochs + 1):
            order = fit[streams.fork(epoch).uniform(0, 1, ())[fit].argsort(stable=True)]
            for rows in order.split(minibatch):
                moved = x[rows] + delta
                logits, slope = gradient_step(model, shifted(model, x[rows], delta[0]), goal.take(rows), "margin")
                held = ((moved <= 0) & (slope > 0)) | ((moved >= 1) & (slope < 0))
                slope[held | (goal.take(rows).margin(logits) <= -kappa)[:, None, None, None]] = 0
                slope = slope.sum(0, keepdim=True)
                size = slope.abs().sum()
                velocity = momentum * velocity + slope / size.clamp(min=torch.finfo(x.dtype).tiny)
                length = delta.new_tensor([eps * relative_step * lengths[step]])
                delta = _project(step_against(delta, velocity, length, "linf" if norm == "linf" else "l2"), eps, norm)
                forwards[rows] += 1
                backwards[rows] += 1
                step += 1
                if on_progress:
                    on_progress(step, total, success=rates[-1] if rates else 0.0)
            delta = confine(model, delta, torch.zeros_like(delta))
            rates.append(_rate(model, x[judging], goal.take(judging), delta, batch))
            forwards[judging] += 1
            if rates[-1] >= best_rate and rates[-1] > 0:
                best, best_rate, kept = delta, rates[-1], epoch
        trace = {
            "validation": torch.tensor(rates, dtype=torch.float64),
            "validates": judges,
            "best": torch.tensor(kept),
        }
        return verified(model, x, goal, best[0], forwards, backwards, trace, batch=batch)


@attack
def uap(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float,
    norm: Literal["linf", "l2"] = "linf",
    epochs: int = 2,
    rate: float = 1.0,
    steps: int = 20,
    overshoot: float = 0.02,
    candidates: int = 10,
    together: int = 16,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> Universal:
    """Image after image: add what DeepFool needs to fool it at its perturbed point, and project onto the ball.

    Source: Moosavi-Dezfooli, Fawzi, Fawzi, Frossard 2017, arXiv 1610.08401, algorithm 1. With `together=1` its steps
    are the paper's, and images that are fooled already are found many at a time. Departures: images are clipped to
    [0, 1] and DeepFool steps inside this range; fooled means classified as another class than `y`; the attack can be
    targeted; the best perturbation after an epoch is kept.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1], images to make it from.
        y: (N,) int64 true classes.
        eps: largest norm of the perturbation, one for all.
        norm: of the perturbation before clipping; DeepFool's own steps are the smallest in l2.
        epochs: the most times through the images, at least 1.
        rate: stop when this share of the images is fooled, in (0, 1]; the paper's 1 - delta.
        steps: the most steps of DeepFool for one image at one time.
        overshoot: of DeepFool.
        candidates: how many of the strongest other classes DeepFool considers.
        together: images whose DeepFool steps start from the same perturbation. They are added one after the other, each
            only if its image is not fooled by then. More are quicker, but start from a perturbation that is a little
            out of date.
        y_target: (N,) int64; given, the images are driven to these classes.
        streams: random numbers per image, for the order; default seed 0 and positions.
        budget: the most model evaluations per image, the verification included; an image that has none left is left
            out. None: no limit.
        batch: images in one forward pass.
        on_progress: called with images visited, images times epochs, and `success`, the share fooled after the last
            epoch.

    Returns:
        `trace`: `fooled` (epochs run,), the share of these images fooled after each epoch; `best`, the epoch that was
        kept, from 1, or 0 where no epoch fools any image.

    Raises:
        ValueError: bad input, naming the argument.
    """
    eps = _checked(model, x, y, eps, norm, y_target, epochs=epochs, steps=steps, together=together, batch=batch)
    if norm == "l1":
        raise ValueError(f"norm: expected linf or l2, got {norm!r}")
    if not 0 < rate <= 1:
        raise ValueError(f"rate: expected a number above 0, at most 1, got {rate}")
    if budget is not None:
        check_budget(budget, UAP_MIN)
        epochs = min(epochs, budget - UAP_MIN + 1)
    streams, goal = default_streams(streams, x), Goal.of(y, y_target)
    forwards, backwards = torch.zeros_like(y), torch.zeros_like(y)
    delta = torch.zeros_like(x[:1])
    best, best_rate, kept = delta, 0.0, 0
    rates: list[float] = []
    everyone = torch.arange(len(x), device=x.device)
    walk = {"steps": steps, "overshoot": overshoot, "candidates": candidates}
    # kept back: an image's verdict after each epoch, and its verification
    spendable = None if budget is None else budget - epochs - 1

    def unfooled(rows: Tensor) -> Tensor:
        forwards[rows] += 1
        return ~goal.take(rows).reached(predict(model, shifted(model, x[rows], delta[0]), batch))

    with frozen(model):
        for epoch in range(1, epochs + 1 if eps > 0 else 1):
            order = streams.fork(epoch).uniform(0, 1, ()).argsort(stable=True)
            queue, ahead = order, together
            while True:
                if spendable is not None:  # an image that cannot pay for its verdict and DeepFool is left out
                    queue = queue[(forwards + backwards)[queue] <= spendable - 2 - DEEPFOOL_MIN]
                if not len(queue):
                    break
                rows = queue[:ahead]
                missed = unfooled(rows).nonzero()[:, 0].tolist()
                if not missed:
                    queue, ahead = queue[len(rows) :], min(2 * ahead, batch)
                    continue
                # the perturbation changes at the first image that it misses: the images after it are queried again
                end = min(missed[0] + together, len(rows))
                group, queue, ahead = rows[[k for k in missed if k < end]], queue[end:], together
                point = shifted(model, x[group], delta[0])
                left = None if spendable is None else spendable - 1 - int((forwards + backwards)[group].max())
                aims = None if y_target is None else y_target[group]
                found = deepfool(model, point, y[group], **walk, budget=left, y_target=aims, batch=len(group))
                forwards[group] += found.forwards
                backwards[group] += found.backwards
                for k in range(len(group)):
                    if k == 0 or unfooled(group[k : k + 1]).any():
                        delta = _project(delta + (found.x_adv[k] - point[k]), eps, norm)
                if on_progress:
                    done = (epoch - 1) * len(x) + len(x) - len(queue)
                    on_progress(done, epochs * len(x), success=rates[-1] if rates else 0.0)
            rates.append(1 - unfooled(everyone).double().mean().item())
            if rates[-1] >= best_rate and rates[-1] > 0:
                best, best_rate, kept = delta, rates[-1], epoch
            if rates[-1] >= rate:
                break
        trace = {"fooled": torch.tensor(rates, dtype=torch.float64), "best": torch.tensor(kept)}
        return verified(model, x, goal, best[0], forwards, backwards, trace, batch=batch)


def verified(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    delta: Tensor,
    forwards: Tensor,
    backwards: Tensor,
    trace: dict[str, Tensor],
    *,
    clip: bool = True,
    batch: int = BATCH,
) -> Universal:
    """The result of a search, verified for every image as `engine.finish` does."""
    x_adv = shifted(model, x, delta, clip=clip)
    seen = finish(
        model, x, x_adv, goal, torch.ones_like(goal.label, dtype=torch.bool), forwards, backwards, batch=batch
    )
    return Universal(delta.detach().clone(), seen.success, seen.forwards, seen.backwards, trace)


def _checked(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, y_target: Tensor | None, **counts: int
) -> float:
    """The perturbation's ε as one number of the images' dtype, after the checks that both algorithms share."""
    check_counts(**counts)
    check_choice("norm", norm, BALLS)
    if isinstance(eps, Tensor) and eps.ndim:
        raise ValueError(f"eps: expected one number, the same for all images, got shape {tuple(eps.shape)}")
    return check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))[0].item()


def _project(delta: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest perturbation (1, C, H, W) of this norm."""
    project = {"linf": project_linf, "l2": project_l2, "l1": project_l1}[norm]
    ball = delta.new_tensor([eps])
    near = project(delta, ball)
    return near if norm == "linf" else into_ball(near, torch.zeros_like(near), ball, norm)


def _rate(model: nn.Module, x: Tensor, goal: Goal, delta: Tensor, batch: int) -> float:
    """The share of images that the perturbation fools."""
    return goal.reached(predict(model, shifted(model, x, delta[0]), batch)).double().mean().item()
