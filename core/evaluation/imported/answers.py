"""What a network answers with: logits, probabilities, their logarithms, one score; and whether it knows the classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from core.evaluation.tables.paired import mcnemar

SUM = 1e-3
"""How far probabilities may sum to another number than 1."""
CERTAIN = 1e-3
"""From this p on another order of the classes is taken for the right one, seen on images that it was not made from."""


def columns(outs: Iterable[Tensor]) -> Tensor:
    """Answers in one table (M, K), finite rows only; one number an image is one column."""
    table = torch.cat([_table(out) for out in outs])
    return table[table.isfinite().all(1)]


def _table(out: Tensor) -> Tensor:
    return out.flatten(1) if out.ndim > 1 else out[:, None]


def kind_of(table: Tensor) -> str:
    """Which of `core.specs.importing.Outputs` a table of answers is.

    The table holds answers to ordinary images and to some far outside the pixel range: a score or logit that happens
    to lie in [0, 1] for images leaves it there, a probability never does.
    """
    if not len(table):
        return "logits"
    inside = bool((table >= 0).all() and (table <= 1 + SUM).all())
    if table.shape[1] == 1:
        return "probability" if inside and float(table.max() - table.min()) > 0 else "score"
    if inside and bool(((table.sum(1) - 1).abs() <= SUM).all()):
        return "probabilities"
    if bool((table <= SUM).all() and (table.logsumexp(1).abs() <= SUM).all()):
        return "log_probabilities"
    return "logits"


def within_one(table: Tensor) -> bool:
    """Whether answers lie in [0, 1] without summing to 1: one probability for each class by itself."""
    return len(table) > 0 and table.shape[1] > 1 and bool((table >= 0).all() and (table <= 1).all())


def sum_of(table: Tensor) -> float | None:
    """What the numbers of every row sum to, where none is negative and it is the same in every row, and not 0.

    Such numbers are probabilities times a constant, 100 for percent, whatever range of pixels was tried.
    """
    if not len(table) or table.shape[1] < 2 or bool((table < 0).any()):
        return None
    sums = table.double().sum(1)
    mean = float(sums.mean())
    return mean if mean > 0 and bool(((sums - mean).abs() <= SUM * mean).all()) else None


def tied(table: Tensor) -> float:
    """The share of rows in which several numbers are the largest, so that the order of the classes decides."""
    if not len(table) or table.shape[1] < 2:
        return 0.0
    return float(((table == table.amax(1, keepdim=True)).sum(1) > 1).double().mean())


def saturated(table: Tensor) -> float:
    """The share of rows with a probability that rounding made 0 or 1."""
    return float(((table <= 0) | (table >= 1)).any(1).double().mean()) if len(table) else 0.0


def other_order(predicted: Tensor, y: Tensor, classes: int) -> tuple[list[int], Tensor] | None:
    """The order of the classes under which most predictions are right, and which are right under an order like it.

    The order is the best assignment (Hungarian method) on all images. Whether it helps is told honestly: the images
    are cut into two halves, and each half is judged under the order that is best on the other.

    Args:
        predicted: (N,) the network's output with the largest value, below 0 where it gave none.
        y: (N,) classes.
        classes: how many there are, and outputs.

    Returns:
        The network's output for each class, and (N,) bool which images are right; None where that is not clearly more
        than under the order as it is.
    """
    judged = torch.zeros(len(y), dtype=torch.bool)
    halves = [torch.zeros(len(y), dtype=torch.bool) for _ in range(2)]
    for label in range(classes):  # every class in both halves
        rows = (y == label).nonzero()[:, 0]
        halves[0][rows[::2]] = True
        halves[1][rows[1::2]] = True
    for seen, other in (halves, halves[::-1]):
        order = _assigned(predicted[seen], y[seen], classes)
        judged[other] = predicted[other] == torch.tensor(order)[y[other]]
    same = predicted == y
    only_new, only_old = int((judged & ~same).sum()), int((same & ~judged).sum())
    if only_new <= only_old or mcnemar(only_new, only_old) > CERTAIN:
        return None
    return _assigned(predicted, y, classes), judged


def _assigned(predicted: Tensor, y: Tensor, classes: int) -> list[int]:
    counts = torch.zeros(classes, classes)
    good = (predicted >= 0) & (predicted < classes)
    counts.index_put_((y[good], predicted[good]), torch.ones(int(good.sum())), accumulate=True)
    counts += 0.5 * torch.eye(classes)  # where nothing speaks for a change, there is none
    return [int(column) for column in linear_sum_assignment(-counts.numpy())[1]]


def same_answers(first: Sequence[int] | None, second: Sequence[int] | None, classes: int) -> bool:
    """Whether two orders are the same; None is the order as it is."""
    return list(first or range(classes)) == list(second or range(classes))
