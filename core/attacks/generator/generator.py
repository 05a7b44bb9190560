"""The generator attack of exercise set 1, literally: a network of one input neuron learns, in turns, image and class.

f(w) = sigmoid(w) (linear, 1 -> C*H*W) or sigmoid of 1 -> 256 -> C*H*W (deep); the input is always 1, so f is a
function of its weights. Every (image, target) pair has weights of its own; all pairs are rows of one batch, which is
the same as training them apart, since Adam works element by element. x = sigmoid(w) is also the change of variable
of Carlini and Wagner 2017, arXiv 1608.04644. What to expect of it: MATHEMATICS section 9.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.adam import Adam
from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import confine, fast_layout, frozen, logits_of_leaf
from core.attacks.engine.losses import Goal, cross_entropy, squared_error
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import steps_within
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress

HIDDEN = 256
"""Width of the deep generator's hidden layer."""
SPREAD = 0.1
"""Random weights of the linear generator are uniform within ± this: nearly grey at first. PyTorch's own start for one
input (within ± 1) fails more often with the squared error (docs/MEASUREMENTS.md)."""
CLAMP = 1e-3
"""Pixels are moved this far from 0 and 1 before the sigmoid is inverted: at exactly 0 or 1 it has no inverse."""
MEMORY = 256 * 2**20
"""Bytes of the weights of one chunk of rows, at most; gradients and Adam states take up to five times more."""


@attack
def generator_attack(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    y_target: Int[Tensor, " n"],
    rounds: int = 200,
    image_steps: int = 1,
    class_steps: int = 1,
    lr: float = 0.05,
    init: Literal["random", "image"] = "random",
    loss: Literal["mse", "ce", "margin"] = "mse",
    shared_adam: bool = False,
    generator: Literal["linear", "deep"] = "linear",
    stop_confidence: float | None = None,
    budget: int | None = None,
    streams: Streams | None = None,
    batch: int = 512,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Train one generator per row, in turns, to draw `x` and to be classified as `y_target`.

    A round is `image_steps` Adam steps on the mean squared error to the image, then `class_steps` on the class loss
    through the frozen model.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1]; one row per pair, so an image with nine targets comes nine times.
        y: (N,) int64 true classes.
        y_target: (N,) int64, the class that each row is drawn towards; may be the true one.
        rounds: alternations, at least 1.
        image_steps: steps to the image in each, at least 1.
        class_steps: steps to the class in each, at least 1.
        lr: Adam's learning rate.
        init: `random` (uniform weights, see `SPREAD`; the deep one starts as PyTorch's linear layers do) or `image`
            (f(w) = x up to `CLAMP`).
        loss: squared error of softmax to the one-hot, cross-entropy, or the logit margin to the best other class.
        shared_adam: one Adam state for both kinds of step, or one each.
        generator: `linear` or `deep`.
        stop_confidence: a row is finished when its target is predicted with this probability after a round.
        budget: the most model evaluations (forward and backward passes) per row, at least 4 (2 + 2 times
            `class_steps`); there are fewer rounds where it is short.
        streams: random numbers per image; the target class is mixed in. Default: seed 0 and positions.
        batch: rows in one forward pass.
        on_progress: called about a hundred times, with `snapshot={"x_adv": ...}`, mean `l2`, and `success`, the share
            of rows that have reached a target other than the true class.

    Returns:
        `x_adv`: the nearest (l2) of the iterates that are classified as the target; the last iterate where there was
        none. With `stop_confidence`, the iterate that reached it where one did. `forwards` and `backwards` count
        the model's evaluations, not the generator's. `trace`: `l2` and `confidence` (rounds, N) after each round; a
        finished row keeps its last values.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(rounds=rounds, image_steps=image_steps, class_steps=class_steps, batch=batch)
    check_positive(lr=lr)
    _check_settings(init, loss, generator, stop_confidence)
    if y_target is None:
        raise ValueError("y_target: the generator attack needs a target class for each image, got None")
    check(model, x, y, y_target=y_target)
    rounds = steps_within(budget, rounds, 2 * class_steps + 1, 1)
    streams = default_streams(streams, x).fork(y_target)
    goal = Goal(y_target, targeted=True)
    counted = y_target != y

    weights_a_row = x[0].numel() * (1 if generator == "linear" else HIDDEN + 1)
    chunk = max(1, min(batch, MEMORY // (weights_a_row * x.element_size())))
    state = _Best(x)
    l2_trace = torch.zeros(rounds, len(x), dtype=x.dtype, device=x.device)
    confidence_trace = torch.zeros_like(l2_trace)
    total = rounds * math.ceil(len(x) / chunk)

    with frozen(model):
        for first in range(0, len(x), chunk):
            rows = torch.arange(first, min(first + chunk, len(x)), device=x.device)
            weights = _start(x[rows], streams.take(rows), init, generator)
            to_class = Adam.start(weights, lr)
            to_image = to_class if shared_adam else Adam.start(weights, lr)
            for turn in range(rounds):
                target = goal.take(rows)
                for _ in range(image_steps):
                    images = confine(model, _draw(weights, x[rows]), x[rows])
                    error = (images - x[rows]).square().flatten(1).mean(1)
                    to_image.step(weights, error)
                for _ in range(class_steps):
                    images = confine(model, _draw(weights, x[rows]), x[rows])
                    logits = logits_of_leaf(model, fast_layout(images))
                    state.see(rows, images.detach(), logits.detach(), x[rows], target)
                    state.forwards[rows] += 1
                    state.backwards[rows] += 1
                    to_class.step(weights, _class_loss(logits, target, loss))
                with torch.no_grad():
                    images = confine(model, _draw(weights, x[rows]), x[rows])
                    logits = model(fast_layout(images))
                state.forwards[rows] += 1
                distance = state.see(rows, images, logits, x[rows], target)
                confidence = logits.softmax(1).gather(1, target.label[:, None])[:, 0]
                l2_trace[turn, rows], confidence_trace[turn, rows] = distance, confidence
                if on_progress and ((turn + 1) % max(1, total // 100) == 0 or turn + 1 == rounds):
                    done, begun = first // chunk * rounds + turn + 1, slice(0, first + chunk)
                    _report(on_progress, done, total, state, l2_trace[turn, begun], counted[begun])
                if stop_confidence is not None:
                    stop = target.reached(logits) & (confidence >= stop_confidence)
                    if stop.any():
                        state.x_adv[rows[stop]] = images[stop]
                        l2_trace[turn:, rows[stop]] = distance[stop]
                        confidence_trace[turn:, rows[stop]] = confidence[stop]
                        keep = ~stop
                        rows, weights = rows[keep], [weight.detach()[keep].requires_grad_() for weight in weights]
                        to_class = to_class.take(keep)
                        to_image = to_class if shared_adam else to_image.take(keep)
                        if not len(rows):
                            break
        trace = {"l2": l2_trace, "confidence": confidence_trace}
        return finish(model, x, state.x_adv, goal, state.success, state.forwards, state.backwards, trace)


class _Best:
    """The nearest successful iterate of each row so far, else the last one; and the model evaluations."""

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.clone()
        self.nearest = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self.success = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.forwards = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.backwards = torch.zeros_like(self.forwards)

    def see(self, rows: Tensor, images: Tensor, logits: Tensor, x: Tensor, goal: Goal) -> Tensor:
        """Record an iterate; returns its l2 distances."""
        distance = torch.linalg.vector_norm((images - x).flatten(1), dim=1)
        reached = goal.reached(logits)
        take = torch.where(reached, distance < self.nearest[rows], ~self.success[rows])
        self.x_adv[rows[take]] = images[take]
        self.nearest[rows] = torch.where(reached & take, distance, self.nearest[rows])
        self.success[rows] |= reached
        return distance


def _report(on_progress: Progress, done: int, total: int, state: _Best, l2: Tensor, counted: Tensor) -> None:
    """Progress with the images so far: the first `len(counted)` rows have begun, `counted` says which can succeed."""
    success = state.success[: len(counted)][counted]
    on_progress(
        done,
        total,
        snapshot={"x_adv": state.x_adv.cpu().numpy().copy()},
        l2=l2.mean().item(),
        success=success.float().mean().item() if len(success) else 0.0,
    )


def _start(x: Tensor, streams: Streams, init: str, generator: str) -> list[Tensor]:
    """Weights of one generator a row: [w], or [w1, b1, w2, b2] of the deep one."""
    size = x[0].numel()
    inverse = torch.logit(x.flatten(1).clamp(CLAMP, 1 - CLAMP))
    if generator == "linear":
        weights = [inverse if init == "image" else streams.uniform(-SPREAD, SPREAD, (size,), x.dtype)]
    else:
        bound = HIDDEN**-0.5  # PyTorch's linear layers start uniform within 1 / sqrt(inputs)
        hidden = [streams.fork(part).uniform(-1, 1, (HIDDEN,), x.dtype) for part in (1, 2)]
        wide = streams.fork(3).uniform(-bound, bound, (size, HIDDEN), x.dtype)
        bias = streams.fork(4).uniform(-bound, bound, (size,), x.dtype)
        if init == "image":
            wide, bias = torch.zeros_like(wide), inverse
        weights = [*hidden, wide, bias]
    return [weight.requires_grad_() for weight in weights]


def _draw(weights: list[Tensor], like: Tensor) -> Tensor:
    """The images f(w), shaped like `like`; the only input neuron is 1."""
    if len(weights) == 1:
        return weights[0].sigmoid().view_as(like)
    first, bias, wide, last = weights
    hidden = (first + bias).relu()
    return (torch.bmm(wide, hidden[:, :, None])[:, :, 0] + last).sigmoid().view_as(like)


def _class_loss(logits: Tensor, goal: Goal, loss: str) -> Tensor:
    if loss == "mse":
        return squared_error(logits, goal.label)
    return cross_entropy(logits, goal.label) if loss == "ce" else goal.margin(logits)


def _check_settings(init: str, loss: str, generator: str, stop_confidence: float | None) -> None:
    check_choice("init", init, ("random", "image"))
    check_choice("loss", loss, ("mse", "ce", "margin"))
    check_choice("generator", generator, ("linear", "deep"))
    if stop_confidence is not None and not 0 < stop_confidence < 1:
        raise ValueError(f"stop_confidence: expected a number between 0 and 1, got {stop_confidence}")
