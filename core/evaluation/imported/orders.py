"""In which order a network has the classes, and whether it knows any of them: the findings, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import bdtrc
from torch import Tensor

from core.evaluation.imported import answers
from core.evaluation.imported.findings import Finding
from core.evaluation.imported.search import Scored, best_of
from core.evaluation.tables.paired import mcnemar
from core.specs import ImportSpec

CHANCE = 1e-3
"""p of the binomial test from which an accuracy is more than always answering with the commonest class."""


@dataclass(frozen=True)
class Turned:
    """The best framing of images that lie in another way.

    Attributes:
        how: in words, such as "that are mirrored".
        scored: the framing.
    """

    how: str
    scored: Scored


@dataclass(frozen=True)
class Order:
    """An order of the classes that fits better than the one as it is.

    Attributes:
        places: the network's output for each class.
        accuracy: on images that this order was not made from.
    """

    places: list[int]
    accuracy: float

    @property
    def explains(self) -> bool:
        """Whether most images are right under it; else it may only be the best that chance or other images leave."""
        return self.accuracy > 0.5


def other_order(best: Scored, every: list[Scored], labels: Tensor, count: int) -> Order | None:
    """An order of the classes in which one framing is right clearly more often than the best as it is; or None."""
    found: Order | None = None
    for one in [best, *(one for one in every if one is not best)]:
        order = answers.other_order(one.pred, labels, count)
        if order is None:
            continue
        right = float(order[1].double().mean())
        only_new, only_old = int((order[1] & ~best.right).sum()), int((best.right & ~order[1]).sum())
        better = only_new > only_old and mcnemar(only_new, only_old) <= answers.CERTAIN
        if better and (found is None or right > found.accuracy):
            found = Order(order[0], right)
    return found


def order_of_positives(best: Scored, every: list[Scored], labels: Tensor, count: int) -> Order | None:
    """Where the best framing takes negative images: an order of the classes under which positive ones do as well."""
    positive = [one for one in every if min(one.tried.framing.std) > 0]
    if min(best.tried.framing.std) > 0 or not positive:
        return None
    order = other_order(best_of(positive), positive, labels, count)
    return order if order is not None and order.accuracy >= best.accuracy - 0.02 else None


def above_chance(one: Scored, y: Tensor) -> bool:
    """Whether more images are right than of a network that always answers with the commonest class."""
    n, right = len(one.right), int(one.right.sum())
    common = int(torch.bincount(y[:n].cpu()).max())
    return right == n or (right > 0 and float(bdtrc(right - 1, n, common / n)) <= CHANCE)


def classes(
    plain: Scored,
    order: Order | None,
    y: Tensor,
    asked: ImportSpec,
    *,
    tried: int,
    rival: Order | None = None,
    weak: Order | None = None,
) -> Finding:
    """Whether the network knows these classes, and in this order.

    Args:
        plain: the framing in the order of the classes that was given, or as it is.
        order: one that fits better.
        y: (N,) classes.
        asked: its `classes`.
        tried: how many framings were.
        rival: one that explains the answers as well, with other images.
        weak: an order that fits better and explains too few answers to be believed.
    """
    title = "Does it know the classes, in this order?"
    n = len(plain.right)
    if order is not None:
        places = order.places if asked.classes is None else [asked.classes[place] for place in order.places]
        return Finding(
            "classes",
            title,
            "wrong" if asked.classes is None else "doubt",
            f"Accuracy is {plain.accuracy:.1%} in the order as it is, and {order.accuracy:.1%} in another one: the "
            "network's outputs are in another order than the data set's classes.",
            f"If that is how the network was trained, give classes: {' '.join(map(str, places))}",
        )
    if rival is not None:
        places = rival.places if asked.classes is None else [asked.classes[place] for place in rival.places]
        return Finding(
            "classes",
            title,
            "doubt",
            f"Accuracy is {plain.accuracy:.1%} with negative images and the classes in their order, and "
            f"{rival.accuracy:.1%} with positive images and the classes in another order.",
            f"Which one is right? For positive images, give mean, std and classes: {' '.join(map(str, places))}",
        )
    common = int(torch.bincount(y[:n].cpu()).max()) / n
    chance = "" if above_chance(plain, y) else f", no more than chance ({common:.1%} are of the commonest class)"
    if weak is not None:
        return Finding(
            "classes",
            title,
            "doubt",
            f"Accuracy is {plain.accuracy:.1%} of {n} images{chance} with the best of {tried} framings and the classes "
            f"in their order. The order of the classes that fits best gives {weak.accuracy:.1%}, which is too little "
            "for a network that knows these classes in another order.",
            "Is this the data set that the network is for, and are the images prepared as in its training? Take that "
            f"order ({' '.join(map(str, weak.places))}) only if you know that its outputs lie so.",
        )
    if chance:
        return Finding(
            "classes",
            title,
            "doubt",
            f"Accuracy is {plain.accuracy:.1%} of {n} images{chance} with the best of {tried} framings, and no other "
            "order of the classes gives clearly more.",
            "Is this the data set that the network is for, and are the images prepared as in its training?",
        )
    given = "in the order given" if asked.classes is not None else "in the data set's order"
    return Finding(
        "classes", title, "fine", f"Accuracy is {plain.accuracy:.1%} of {n} images, with the classes {given}."
    )
