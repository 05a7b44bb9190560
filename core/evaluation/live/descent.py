"""Gradient steps on the input: an image is moved until a network classifies it as another class.

x ← clip(x - rate · ∇ cross-entropy(network(x), target), 0, 1), as in exercise set 4: plain steps, no sign, no ball.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.engine import fast_layout, frozen, gradients, predict
from core.attacks.engine.losses import Goal
from core.evaluation.live.clock import Clock, alone


@dataclass(frozen=True)
class Descent:
    """What gradient steps made of some images.

    Attributes:
        x: (N, steps + 1, C, H, W) float32 in [0, 1]: the images as they were, then after each step.
        probabilities: (N, steps + 1, K) float32 at each of these.
        reached: (N,) int64: the first step after which an image is classified as its target; -1: none.
    """

    x: np.ndarray
    probabilities: np.ndarray
    reached: np.ndarray


def descend(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y_target: Int[Tensor, " n"],
    *,
    steps: int,
    rate: float,
    clock: Clock | None = None,
) -> Descent:
    """Move images towards classes, by `steps` steps of the length `rate` times the gradient.

    Args:
        model: pixels to logits, in eval mode; used by one thread at a time.
        x: the images, in [0, 1].
        y_target: the class that each is led to, int64.
        steps: how many, at least 1.
        rate: the factor of the gradient, above 0.
        clock: the time limit; by default `LIMIT` seconds from now on. Where it ends, the steps end.

    Returns:
        As many steps as there was time for, all of them with enough of it.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps)
    check_positive(rate=rate)
    check(model, x, y_target)
    clock, goal = clock or Clock(), Goal.of(y_target, y_target)
    points, logits = [x], []
    with alone(model), frozen(model):
        for _ in range(steps):
            gradient, now = gradients(model, points[-1], goal, "ce")
            # `gradients` follows the log-odds, whose direction is the cross-entropy's; its length is put right here
            share = 1 - now.softmax(1).gather(1, y_target[:, None])[:, 0]
            logits.append(now)
            points.append((points[-1] - rate * share.view(-1, 1, 1, 1) * gradient).clamp(0, 1))
            if clock.left <= 0:
                break
        logits.append(predict(model, fast_layout(points[-1])))
    chances = torch.stack(logits, 1).softmax(2)
    there = chances.argmax(2) == y_target[:, None]
    first = torch.where(there.any(1), there.int().argmax(1), -1)
    return Descent(torch.stack(points, 1).cpu().numpy(), chances.cpu().numpy(), first.cpu().numpy())


def success_matrix(
    model: nn.Module,
    x: Float[Tensor, "k c h w"],
    *,
    steps: int,
    rate: float,
    clock: Clock | None = None,
) -> tuple[Int[np.ndarray, "k k"], int]:
    """After how many steps the image of each class is classified as each other class.

    Args:
        model: as in `descend`.
        x: one image a class, in the order of the classes.
        steps: as in `descend`.
        rate: as in `descend`.
        clock: as in `descend`.

    Returns:
        (K, K) int64, row: class of the image, column: target; -1 where the steps did not lead there, 0 on the diagonal.
        And how many steps there was time for.

    Raises:
        ValueError: as `descend`.
    """
    count = len(x)
    rows, columns = np.nonzero(~np.eye(count, dtype=bool))
    targets = torch.from_numpy(columns).to(x.device)
    found = descend(model, x[torch.from_numpy(rows)], targets, steps=steps, rate=rate, clock=clock)
    matrix = np.zeros((count, count), dtype=np.int64)
    matrix[rows, columns] = found.reached
    return matrix, found.x.shape[1] - 1
