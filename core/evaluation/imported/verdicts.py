"""The findings that come from what was tried: size, normalisation, layout, outputs, classes, memory; in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from core.evaluation.imported import answers, orders
from core.evaluation.imported.findings import Finding, Verdict
from core.evaluation.imported.fits import dims
from core.evaluation.imported.search import Scored, clearly, rivals, unlike
from core.evaluation.tables.paired import mcnemar
from core.networks.layers import Shape
from core.specs import Framing, ImportSpec

CHANCE = 1e-3
"""p of the binomial test from which an accuracy is more than always answering with the commonest class."""
UNDERFLOW = 104.0
"""Difference of two logits from which float32 makes the smaller one's probability 0."""
FLAT = 1e-2
"""Spread of logits below which every probability is that of chance."""
SHOWN = 16
"""Rows of evidence at most."""


def surely(one: Scored, other: Scored, *, of: int = 1) -> bool:
    """Whether one of `of` other readings is right clearly more often than what was taken, so that figures are wrong."""
    only_one, only_other = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    return only_one > only_other and mcnemar(only_one, only_other) * of <= answers.CERTAIN


def size(
    images: Shape,
    sized: Shape,
    takes: tuple[int, ...],
    framing: Framing,
    padded: tuple[Scored, Scored] | None = None,
) -> Finding:
    """What stands between the data set's images and the size that the network takes.

    `padded` is the framing on images resized, and in an even frame, where the latter is clearly better.
    """
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
    if padded is not None:
        return Finding(
            "size",
            title,
            "wrong",
            f"{said}. In the middle of an even frame of that size, accuracy is {padded[1].accuracy:.1%} instead "
            f"of {padded[0].accuracy:.1%} when they are resized: the network was made for padded images.",
            "Give the images with their frame as data, or put the padding in front of the network's first layer; or "
            f"give resize {framing.resize} if they are to be resized.",
        )
    if not parts:
        return Finding("size", title, "fine", f"{said}.")
    return Finding("size", title, "note", f"{said}, and are {', '.join(parts)}. ε is of the data set's pixels.")


def normalisation(
    best: Scored,
    fitting: list[Scored],
    every: list[Scored],
    asked: ImportSpec,
    *,
    above: bool,
    alike: Sequence[Scored] = (),
) -> Finding:
    """Which normalisation is right, and which could be as well.

    Args:
        best: the framing that is proposed.
        fitting: those on the most images, of which what was given allows each.
        every: all that were tried.
        asked: its mean and std.
        above: whether accuracy is above chance.
        alike: those under which the network answers the same to any image.
    """
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
    others = _by_title(one for one in rivals(best, fitting) if one.tried.title != best.tried.title and one not in alike)
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
    if same := _by_title(one for one in alike if one.tried.title != best.tried.title):
        return Finding(
            "normalisation",
            title,
            "note",
            f"{said}. It makes no difference: the network answers the same to any image with "
            f"{', '.join(_plainly(one) for one in same[:3])}, so it normalises by itself.",
            "",
            rows,
        )
    near = _by_title(one for one in fitting if one.tried.title != best.tried.title and not clearly(best, one))
    if near:
        far = max(unlike(best, one) for one in near)
        return Finding(
            "normalisation",
            title,
            "note",
            f"{said}. {', '.join(_plainly(one) for one in near[:3])} cannot be told from it, but the probabilities "
            f"differ by {far:.1%} at most.",
            "",
            rows,
        )
    second = _by_title(one for one in fitting if one.tried.title != best.tried.title)
    behind = f"; next is {_plainly(second[0])} with {second[0].accuracy:.1%}" if second else ""
    return Finding("normalisation", title, "fine", f"{said}{behind}.", "", rows)


def layout(
    best: Scored, fitting: list[Scored], every: list[Scored], asked: ImportSpec, turned: orders.Turned | None
) -> Finding:
    """Order of the colours, place of the channels, and whether images lie as the network expects them."""
    title = "In which order do colours and pixels come?"
    framing = best.tried.framing
    words = {"rgb": "red, green, blue", "bgr": "blue, green, red", "nchw": "channels first", "nhwc": "channels last"}
    colour = len({one.tried.framing.channels for one in every}) > 1
    place = len({one.tried.framing.layout for one in every}) > 1
    said = words[framing.layout] + (f", {words[framing.channels]}" if colour else "")
    if turned is not None:
        return Finding(
            "layout",
            title,
            "wrong",
            f"On images {turned.how}, accuracy is {turned.scored.accuracy:.1%} instead of {best.accuracy:.1%}: "
            "the network was made for images that lie so.",
            "Turn them back in front of its first layer, or choose a data set whose images lie as in its training.",
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


def outputs(
    table: Tensor,
    best: Scored,
    kind: str,
    asked: ImportSpec,
    count: int,
    *,
    negative: Scored | None = None,
    halved: Scored | None = None,
    cut: str = "",
) -> Finding:
    """What the network answers with.

    Args:
        table: finite answers to all images that were tried, under every framing, and to far ones.
        best: the framing that is proposed.
        kind: what the answers are taken for.
        asked: its `outputs`.
        count: how many numbers an image.
        negative: the best framing if the smallest number marks the class, where that is clearly better.
        halved: a framing that is as good as the best if class 1 is above 0.5, and clearly worse if it is above 0.
        cut: the operator that was cut off the end of its graph, such as "softmax"; "" where none was.
    """
    title = "What does it answer with?"
    words = {
        "logits": f"{count:,} logits",
        "probabilities": f"{count:,} probabilities",
        "log_probabilities": f"logarithms of {count:,} probabilities",
        "score": "one score: class 1 above 0",
        "probability": "one probability, of class 1",
    }
    cut_off = f" Its graph ends in a {cut.replace('_', '-')}, which was cut off." if cut else ""
    if negative is not None:
        return Finding(
            "outputs",
            title,
            "wrong",
            f"The smallest of its {count:,} numbers is that of the class on {negative.accuracy:.1%} of "
            f"{len(negative.right)} images, the largest on {best.accuracy:.1%}: they are distances or losses.{cut_off}",
            "Change their sign at the end of the network.",
        )
    here = answers.columns([best.tried.out])
    if bad := _no_good_answers(here, best, title):
        return bad
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
        return Finding(
            "outputs",
            title,
            "note",
            f"{words[kind]}. {answers.saturated(here):.0%} of the images have one that rounding made 0 or 1: its "
            "gradient is lost.",
            "Cut the network before its last softmax or sigmoid, if you can: attacks then see every gradient.",
        )
    if halved is not None:
        return Finding(
            "outputs",
            title,
            "doubt",
            f"{words[kind]}: accuracy {best.accuracy:.1%} with {_plainly(best)}. With class 1 above 0.5 instead and "
            f"{_plainly(halved)}, it is {halved.accuracy:.1%}.",
            "If it was trained to answer 0 and 1, subtract 0.5 at its end; or give mean and std, if you know them.",
        )
    total = answers.sum_of(table)
    if kind == "logits" and total is not None:
        return Finding(
            "outputs",
            title,
            "doubt",
            f"{count:,} numbers of 0 or more that sum to {total:.4g} for every image: probabilities times {total:.4g}, "
            "taken as logits. Classes are right; confidences are not, and gradients are lost where it is sure.",
            f"Cut the network before its last softmax, or divide its answers by {total:.4g}.",
        )
    if kind == "logits" and answers.within_one(table):
        return Finding(
            "outputs",
            title,
            "note",
            f"{count:,} numbers in [0, 1] that do not sum to 1: a probability for each class by itself, as logits.",
            "Cut the network before its last sigmoid, if you can: attacks then see every gradient.",
        )
    if kind in ("logits", "log_probabilities") and (said := _out_of_scale(here)):
        return Finding("outputs", title, "note", f"{words[kind]}.{cut_off} {said}", "Bring its logits to units.")
    return Finding("outputs", title, "fine", f"{words[kind]}.{cut_off}")


def _out_of_scale(logits: Tensor) -> str:
    """That logits are so large that a softmax has no gradient, or so small that it tells no class from another."""
    if len(logits) == 0 or logits.shape[1] < 2:
        return ""
    top = logits.double().topk(2, dim=1).values
    lost = float((top[:, 0] - top[:, 1] > UNDERFLOW).double().mean())
    if lost > 0:
        return f"On {lost:.0%} of the images one is so much the largest that a softmax has no gradient in float32."
    spread = float((logits.amax(1) - logits.amin(1)).amax())
    return f"They differ by {spread:.2g} at most, so that no confidence is above chance." if spread < FLAT else ""


def _no_good_answers(here: Tensor, best: Scored, title: str) -> Finding | None:
    """Answers that name no class: not finite, the same for every image, or several numbers the largest."""
    n = len(best.right)
    given = best.tried.out.flatten(1) if best.tried.out.ndim > 1 else best.tried.out[:, None]
    top = given.amax(1)  # NaN where one of a row is; infinity below it rules a class out
    none, ruled_out = int((~top.isfinite()).sum()), int((top.isfinite() & ~given.isfinite().all(1)).sum())
    if none == n:
        said = f"The answers to all {n} images are NaN or infinite."
        return Finding("outputs", title, "wrong", said, "Look for a division by 0 or an overflow in the network.")
    if none:
        return Finding(
            "outputs",
            title,
            "doubt",
            f"The answers to {none} of {n} images are NaN, which counts as misclassified, or infinite.",
            "Look for a division by 0 or a logarithm or root of a negative number in the network.",
        )
    if ruled_out:
        return Finding(
            "outputs",
            title,
            "doubt" if ruled_out > n / 2 else "note",
            f"On {ruled_out} of {n} images some classes have −∞, which rules them out: no gradient leads to them.",
            "Where these are logarithms of a softmax, cut the network before it.",
        )
    if n > 1 and bool((here == here[:1]).all()):
        said = f"The answers to all {n} images are the same: they do not depend on the image."
        return Finding("outputs", title, "wrong", said, "Look at how the network was exported.")
    share = answers.tied(here)
    if share * n >= 2:
        return Finding(
            "outputs",
            title,
            "doubt",
            f"On {share:.0%} of {n} images several classes share the largest number, so that their order decides: its "
            "outputs are saturated or rounded.",
            "Cut the network before its last sigmoid, tanh or rounding: accuracy and attacks suffer from it.",
        )
    return None


def operators(unchecked: Sequence[str]) -> Finding | None:
    """Which operators of a graph could not be compared with ONNX's own numbers; None where all were."""
    if not unchecked:
        return None
    return Finding(
        "operators",
        "Does every operator give ONNX's own numbers?",
        "note",
        f"Not compared: {', '.join(unchecked)}. ONNX's reference evaluator gives no numbers for them here, or is too "
        "slow; all others agree.",
        "Compare the test accuracy with the one that you know of this network.",
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
