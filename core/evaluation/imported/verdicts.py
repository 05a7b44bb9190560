"""The findings that come from what was tried: size, normalisation, layout, outputs, classes, memory; in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from scipy.special import bdtrc
from torch import Tensor

from core.evaluation.imported import answers
from core.evaluation.imported.findings import Finding, Verdict
from core.evaluation.imported.fits import dims
from core.evaluation.imported.search import Scored, best_of, clearly, rivals, unlike
from core.evaluation.tables.paired import mcnemar
from core.networks.layers import Shape
from core.specs import Framing, ImportSpec

CHANCE = 1e-3
"""p of the binomial test from which an accuracy is more than always answering with the commonest class."""
SHOWN = 16
"""Rows of evidence at most."""


def size(images: Shape, sized: Shape, takes: tuple[int, ...], framing: Framing) -> Finding:
    """What stands between the data set's images and the size that the network takes."""
    title = "Which size of images does it take?"
    parts = []
    if framing.resize is not None:
        parts.append(f"resized so that the shorter side is {framing.resize} pixels")
    if framing.crop is not None:
        parts.append(f"cropped to the middle {framing.crop} by {framing.crop}")
    if images[0] == 1 and max(len(framing.mean), len(framing.std)) == 3:
        parts.append("shown as three equal channels")
    if framing.shape is not None:
        parts.append(f"reshaped to {dims(framing.shape)}")
    said = f"It takes {dims(takes)}; the data set's images are {dims(images)}"
    if not parts:
        return Finding("size", title, "fine", f"{said}.")
    return Finding("size", title, "note", f"{said}, and are {', '.join(parts)}. ε is of the data set's pixels.")


def normalisation(
    best: Scored, fitting: list[Scored], every: list[Scored], asked: ImportSpec, *, above: bool
) -> Finding:
    """Which normalisation is right, and which could be as well; `above` says whether accuracy is above chance."""
    title = "Which normalisation does it need?"
    n = len(best.right)
    rows = tuple(one.row() for one in sorted(every, key=lambda one: one.rank, reverse=True)[:SHOWN])
    numbers = f"mean {_numbers(best.tried.framing.mean)}, divisor {_numbers(best.tried.framing.std)}"
    said = f"{best.tried.title} ({numbers}): accuracy {best.accuracy:.1%} on {n} images"
    if asked.mean is not None:
        better = [one for one in every if one.tried.title != best.tried.title and clearly(one, best)]
        if better:
            top = max(better, key=lambda one: one.rank)
            return Finding(
                "normalisation",
                title,
                "doubt",
                f"As given: accuracy {best.accuracy:.1%} on {n} images; {_plainly(top)} gives {top.accuracy:.1%}.",
                f"Leave mean and std empty to take {_plainly(top)}.",
                rows,
            )
        return Finding("normalisation", title, "fine", f"{said}; nothing that was tried is clearly better.", "", rows)
    if not above:
        said = (
            f"Nothing can be told: accuracy is {best.accuracy:.1%} on {n} images, no more than chance; {numbers} taken."
        )
        return Finding("normalisation", title, "doubt", said, "Give mean and std, if you know them.", rows)
    others = _by_title(one for one in rivals(best, fitting) if one.tried.title != best.tried.title)
    if others:
        listed = "; ".join(f"{_plainly(one)} {one.accuracy:.1%}" for one in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return Finding(
            "normalisation",
            title,
            "doubt",
            f"{said}. These images cannot tell it from {listed}{more}.",
            "Ask whoever made the network, and give mean and std.",
            rows,
        )
    alike = _by_title(one for one in fitting if one.tried.title != best.tried.title and not clearly(best, one))
    if alike:
        far = max(unlike(best, one) for one in alike)
        return Finding(
            "normalisation",
            title,
            "note",
            f"{said}. {', '.join(_plainly(one) for one in alike[:3])} cannot be told from it, but the probabilities "
            f"differ by {far:.1%} at most.",
            "",
            rows,
        )
    second = _by_title(one for one in fitting if one.tried.title != best.tried.title)
    behind = f"; next is {_plainly(second[0])} with {second[0].accuracy:.1%}" if second else ""
    return Finding("normalisation", title, "fine", f"{said}{behind}.", "", rows)


def layout(
    best: Scored, fitting: list[Scored], every: list[Scored], asked: ImportSpec, turned: Scored | None
) -> Finding:
    """Order of the colours, place of the channels, and whether rows and columns are swapped."""
    title = "In which order do colours and pixels come?"
    framing = best.tried.framing
    words = {"rgb": "red, green, blue", "bgr": "blue, green, red", "nchw": "channels first", "nhwc": "channels last"}
    colour = len({one.tried.framing.channels for one in every}) > 1
    place = len({one.tried.framing.layout for one in every}) > 1
    said = words[framing.layout] + (f", {words[framing.channels]}" if colour else "")
    if turned is not None and turned.accuracy > best.first(len(turned.right)).accuracy and clearly(turned, best):
        return Finding(
            "layout",
            title,
            "wrong",
            f"With rows and columns of the images swapped, accuracy is {turned.accuracy:.1%} instead of "
            f"{best.accuracy:.1%}: the network was made for transposed images.",
            "Import one whose first layer takes rows first.",
        )
    same = [
        one
        for one in every
        if (one.tried.framing.channels, one.tried.framing.layout) != (framing.channels, framing.layout)
    ]
    if not (colour or place):
        return Finding("layout", title, "fine", f"There is one way to give it the images: {said}.")
    given = asked.channels is not None or asked.layout is not None
    better = [one for one in same if clearly(one, best)] if given else []
    top = max(same, key=lambda one: one.rank)
    other = top.tried.framing
    figures = f"{best.accuracy:.1%}; {words[other.layout]}, {words[other.channels]}: {top.accuracy:.1%}"
    if better:
        return Finding(
            "layout", title, "doubt", f"As given ({said}), accuracy is {figures}.", "Leave channels and layout empty."
        )
    unsure = [one for one in same if not clearly(best, one)]
    if unsure and not given and max(unlike(best, one) for one in unsure) > 0.02:
        return Finding(
            "layout",
            title,
            "doubt",
            f"{said}: accuracy {figures}. These images cannot tell the two apart.",
            "Ask whoever made the network, and give channels and layout.",
        )
    return Finding("layout", title, "fine", f"{said}: accuracy {figures}.")


def outputs(table: Tensor, kind: str, asked: ImportSpec, count: int) -> Finding:
    """What the network answers with."""
    title = "What does it answer with?"
    words = {
        "logits": f"{count:,} logits",
        "probabilities": f"{count:,} probabilities",
        "log_probabilities": f"logarithms of {count:,} probabilities",
        "score": "one score: class 1 above 0",
        "probability": "one probability, of class 1",
    }
    seen = answers.kind_of(table)
    if asked.outputs is not None and seen != kind:
        # logarithms of probabilities are logits as well: a softmax leaves them as they are
        harmless = (kind, seen) == ("logits", "log_probabilities")
        verdict: Verdict = "fine" if harmless else "doubt"
        return Finding(
            "outputs", title, verdict, f"As given: {words[kind]}. Its answers look like {words[seen]}.",
            "" if harmless else "Leave outputs empty.",
        )  # fmt: skip
    if kind in ("probabilities", "probability"):
        share = answers.saturated(table)
        return Finding(
            "outputs",
            title,
            "note",
            f"{words[kind]}. {share:.0%} of the rows have one that rounding made 0 or 1: its gradient is lost.",
            "Cut the network before its last softmax or sigmoid, if you can: attacks then see every gradient.",
        )
    if kind == "logits" and answers.within_one(table):
        return Finding(
            "outputs",
            title,
            "note",
            f"{count:,} numbers in [0, 1] that do not sum to 1: a probability for each class by itself, as logits.",
            "Cut the network before its last sigmoid, if you can: attacks then see every gradient.",
        )
    return Finding("outputs", title, "fine", f"{words[kind]}.")


@dataclass(frozen=True)
class Order:
    """An order of the classes that fits better than the one as it is.

    Attributes:
        places: the network's output for each class.
        accuracy: on images that this order was not made from.
    """

    places: list[int]
    accuracy: float


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


def classes(plain: Scored, order: Order | None, y: Tensor, asked: ImportSpec, rival: Order | None = None) -> Finding:
    """Whether the network knows these classes, and in this order.

    Args:
        plain: the framing in the order of the classes that was given, or as it is.
        order: one that fits better.
        y: (N,) classes.
        asked: its `classes`.
        rival: one that explains the answers as well, with other images.
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
    if not above_chance(plain, y):
        common = int(torch.bincount(y[:n]).max())
        return Finding(
            "classes",
            title,
            "doubt",
            f"Accuracy is {plain.accuracy:.1%} of {n} images, no more than chance: always answering with the commonest "
            f"class gives {common / n:.1%}.",
            "Is this the data set that the network is for? No normalisation or order of the classes that was tried "
            "helps.",
        )
    given = "in the order given" if asked.classes is not None else "in the data set's order"
    return Finding(
        "classes", title, "fine", f"Accuracy is {plain.accuracy:.1%} of {n} images, with the classes {given}."
    )


def memory(kept: int, operations: float) -> Finding:
    """What an image costs."""
    said = f"{kept / 1e6:,.1f} MB and {operations / 1e9:,.2g} billion operations an image; batches are made to fit."
    return Finding("cost", "What does an image cost?", "fine", said)


def _plainly(one: Scored) -> str:
    framing = one.tried.framing
    more = [word for word in (framing.channels, framing.layout) if word in ("bgr", "nhwc")]
    return one.tried.title + (f" ({', '.join(more)})" if more else "")


def _by_title(every: Iterable[Scored]) -> list[Scored]:
    """The best of each normalisation, the best first."""
    best: dict[str, Scored] = {}
    for one in every:
        if one.tried.title not in best or one.rank > best[one.tried.title].rank:
            best[one.tried.title] = one
    return sorted(best.values(), key=lambda one: one.rank, reverse=True)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
