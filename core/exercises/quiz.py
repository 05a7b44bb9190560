"""The quiz of set 5: adversarial images of every ε, for a person to classify. Imports torch only to attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Questions:
    """The images of a quiz, in the order in which they are shown: the ε are mixed.

    Attributes:
        x_adv: what is shown (n, C, H, W).
        x: the unchanged images.
        y: true classes (n,).
        eps: of each image (n,).
        index: in the test set (n,).
        pred: the model's classes (n,).
    """

    x_adv: np.ndarray
    x: np.ndarray
    y: np.ndarray
    eps: np.ndarray
    index: np.ndarray
    pred: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


def draw(y: np.ndarray, ladder: Sequence[float], each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which test images are shown at which ε: `each` at every ε, no image twice, in random order.

    Args:
        y: true classes of all test images.
        ladder: the budgets.
        each: images at every ε.
        seed: of the draw.

    Returns:
        Rows of `y` and the ε of each, both (len(ladder) · each,).

    Raises:
        ValueError: fewer test images than questions.
    """
    count = len(ladder) * each
    if count > len(y):
        raise ValueError(f"each: expected at most {len(y) // len(ladder)} images at every ε, got {each}")
    rng = np.random.default_rng((5, seed))
    rows = rng.permutation(len(y))[:count]
    return rows, rng.permutation(np.repeat(np.asarray(ladder, dtype=np.float64), each))


def attacked(model: nn.Module, x: np.ndarray, y: np.ndarray, eps: np.ndarray, index: np.ndarray) -> Questions:
    """FGSM of each image at its own ε, clipped to [0, 1], and what the model says of the result.

    Args:
        model: in eval mode; (n, C, H, W) to logits.
        x: images in [0, 1], float32.
        y: true classes.
        eps: of each image.
        index: in the test set.
    """
    import torch

    from core.attacks.engine.checks import check_eps
    from core.attacks.engine.losses import predicted
    from core.attacks.engine.steps import fgsm_step
    from core.attacks.fixed_budget.fgsm import fgsm_direction
    from core.networks.catalogue import logits_of

    images, labels = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)), torch.from_numpy(np.asarray(y))
    direction = fgsm_direction(model, images, labels.long(), None)  # of every image, as a sweep does
    budgets = check_eps(torch.from_numpy(np.asarray(eps, dtype=np.float64)), images)
    made = fgsm_step(images, direction, budgets)
    pred = predicted(logits_of(model, made)).numpy()
    return Questions(made.numpy(), x, np.asarray(y), eps, index, pred)


def counts(questions: Questions, answers: Sequence[int | None], name: str) -> list[dict[str, Any]]:
    """A row for each ε, rising, over the answered questions: how many there were, and how many you and the model got.

    Args:
        questions: of the quiz.
        answers: a class for each of the first questions; None: "I cannot tell", which counts as wrong.
        name: what the model is called.
    """
    told = len(answers)
    eps, y, pred = questions.eps[:told], questions.y[:told], questions.pred[:told]
    yours = np.array([-1 if answer is None else answer for answer in answers], dtype=np.int64)
    rows = []
    for budget in sorted(set(eps.tolist())):
        at = eps == budget
        rows.append(
            {
                "eps": budget,
                "asked": int(at.sum()),
                "right": int((yours[at] == y[at]).sum()),
                "models": {name: int((pred[at] == y[at]).sum())},
            }
        )
    return rows


def shared_errors(questions: Questions, answers: Sequence[int | None]) -> int:
    """How many images you and the model both got wrong."""
    told = len(answers)
    yours = np.array([-1 if answer is None else answer for answer in answers], dtype=np.int64)
    wrong = (yours != questions.y[:told]) & (questions.pred[:told] != questions.y[:told])
    return int(wrong.sum())


def share(rows: Sequence[Mapping[str, Any]], part: str) -> float | None:
    """The share of all answered questions that `part` ("you", or a model's name) got right; None where none is."""
    asked = sum(row["asked"] for row in rows)
    right = sum(row["right"] if part == "you" else row["models"].get(part, 0) for row in rows)
    return right / asked if asked else None
