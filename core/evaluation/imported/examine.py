"""The examination of a network made by others: what it needs, what it answers with, how it behaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.certification.graph import Unbounded, lower
from core.evaluation.imported import answers, orders, verdicts
from core.evaluation.imported.asking import Sample, outputs_of
from core.evaluation.imported.behaviour import APART, FAILURES, apart, behaviour
from core.evaluation.imported.candidates import as_asked, candidates
from core.evaluation.imported.findings import Examination, Finding
from core.evaluation.imported.fits import after
from core.evaluation.imported.search import Scored, Tried, best_of, clearly, scored, simplest_of, usual_of
from core.evaluation.imported.slopes import slopes
from core.networks.framed import Framed, as_logits
from core.networks.layers import Shape
from core.networks.onnx_network import OnnxNetwork
from core.progress import Progress
from core.specs import ImportSpec

ARITHMETIC = 1e12
"""Floating-point operations that the search for a framing may take: under a minute on two cores."""
PROVABLE = 5e8
"""Operations an image up to which the certifier is asked about a network: bounds of larger ones would be useless."""
FEW = 200
"""Images that every framing is tried on, at most."""
LEAST = 8
"""The same, at least."""
HIGH = 0.97
"""Accuracy from which on images need not be tried lying in another way, nor the smallest output as the class."""
FINAL = 8
"""Framings that are tried on more images, at most."""


def examine(
    body: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    asked: ImportSpec,
    class_names: Sequence[str],
    takes: tuple[int, ...],
    train: Tensor | None = None,
    on_progress: Progress | None = None,
) -> Examination:
    """Find out how a network is to be asked, and whether its figures can be believed.

    Every framing (`candidates`) is tried on the first `FEW` images, or fewer where the network is large; those that
    these cannot tell from the best one are tried on all, as far as `ARITHMETIC` allows.

    Args:
        body: the network, in eval mode, on the images' device; it comes back as it was.
        x: (N, C, H, W) images in [0, 1], float32, 200 or more.
        y: (N,) their classes, int64.
        asked: what was asked for; what is given there is taken, and compared with what is found.
        class_names: of the data set.
        takes: shape of one image as the network takes it.
        train: images whose mean and standard deviation are tried as a normalisation; None takes `x`.
        on_progress: called with the framings tried so far and all of them.

    Returns:
        The same for the same network and images, whatever was drawn before; global random numbers are left alone.

    Raises:
        ValueError: the network cannot be given these images, fails on them, or its outputs do not fit the classes.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False):
        torch.manual_seed(0)
        flags = [(parameter, parameter.requires_grad) for parameter in body.parameters()]
        try:
            body.requires_grad_(False)
            looked = _look(body, x, y, asked, len(class_names), takes, x if train is None else train, on_progress)
            return _told(looked, takes, asked)
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


@dataclass(frozen=True)
class _Looked:
    """What the search found.

    Attributes:
        sample: the network and the images.
        y: their classes.
        outputs: how many numbers the network answers with.
        table: its answers, finite ones.
        kind: what they are.
        order: the order of the classes that fits, where it is not the one as it is.
        every: each framing as good as it is, under `order`.
        final: those on the most images.
        best: the best one that what was given allows.
        turned: the best with images that lie in another way, where that is clearly better.
        rival: where the best takes negative images, an order of the classes that explains the answers as well.
        plain: the best one without `order`.
        weak: an order that fits better and explains too few answers to be believed.
        negative: the best one if the smallest number marks the class, where that is clearly better.
        halved: a framing that is as good as the best if class 1 is above a score of 0.5, and clearly worse if above 0.
        alike: framings under which the network answers the same to any image, as under the best.
        padded: on images resized, and padded to the size that the network takes, where the latter is clearly better.
    """

    sample: Sample
    y: Tensor
    outputs: int
    table: Tensor
    kind: str
    order: orders.Order | None
    every: list[Scored]
    final: list[Scored]
    best: Scored
    turned: orders.Turned | None
    rival: orders.Order | None
    plain: Scored
    weak: orders.Order | None
    negative: Scored | None
    halved: Scored | None
    alike: list[Scored]
    padded: tuple[Scored, Scored] | None


def _look(
    body: nn.Module,
    x: Tensor,
    y: Tensor,
    asked: ImportSpec,
    classes: int,
    takes: tuple[int, ...],
    train: Tensor,
    on_progress: Progress | None,
) -> _Looked:
    shape: Shape = (x.shape[1], x.shape[2], x.shape[3])
    every = candidates(shape, takes, asked, train)
    sample = Sample.of(body, x, [framing for _, framing in every])
    outputs = outputs_of(sample, asked, classes)
    n = max(1, min(len(x), FEW, max(LEAST, int(ARITHMETIC / 2 / max(1.0, sample.arithmetic * len(every))))))
    tried = []
    for done, (title, framing) in enumerate(every):
        if on_progress:
            on_progress(done, len(every), phase="finding out what the network needs")
        out = sample.ask(framing, x[:n])
        if out is not None:
            tried.append(Tried(title, framing, out))
    if not any(as_asked(one.framing, asked) for one in tried):
        raise ValueError("data: the network fails on the images in every framing that what was given allows")
    table = answers.columns([*(one.out for one in tried), *sample.stress])
    kind = asked.outputs or answers.kind_of(table)
    labels = y.cpu()
    plain = [scored(one, labels[:n], kind) for one in tried]
    order = orders.other_order(best_of(plain), plain, labels[:n], classes)
    turned = _turned(sample, plain, labels, kind)
    negative = _negative(plain, labels[:n], kind, classes)
    # one change explains it better than another order of all classes; of several, the one that explains most
    explained = [one.scored if isinstance(one, orders.Turned) else one for one in (turned, negative) if one is not None]
    most = max((one.accuracy for one in explained), default=0.0)
    if turned is not None and turned.scored.accuracy < most:
        turned = None
    if negative is not None and negative.accuracy < most:
        negative = None
    weak = None
    if order is not None and explained and most >= order.accuracy:
        order = None
    elif order is not None and not order.explains and asked.classes is None:
        order, weak = None, order
    if order is not None or weak is not None:
        turned = negative = None
    seen = labels if order is None else torch.tensor(order.places)[labels]
    first = plain if order is None else [scored(one, seen[:n], kind) for one in tried]
    final = _final(sample, first, seen, kind, asked)
    fitting = [one for one in final if as_asked(one.tried.framing, asked)]
    best = usual_of(simplest_of(best_of(fitting), fitting), fitting)
    if not orders.above_chance(best, seen):  # nothing can be told: the simplest
        best = fitting[0]
    seen_all = [*final, *(one for one in first if all(one.tried.framing != other.tried.framing for other in final))]
    return _Looked(
        sample=sample,
        y=seen,
        outputs=outputs,
        table=table,
        kind=kind,
        order=order,
        every=seen_all,
        final=final,
        best=best,
        turned=turned,
        rival=None if order is not None else orders.order_of_positives(best, first, labels[:n], classes),
        plain=scored(best.tried, labels[: len(best.right)], kind),
        weak=weak,
        negative=negative,
        halved=_halved(best, first, seen[:n], kind),
        alike=_alike(sample, best, [one for one in final if one is not best], kind),
        padded=None if asked.resize is not None else _padded(sample, best, seen, kind),
    )


def _final(sample: Sample, first: list[Scored], y: Tensor, kind: str, asked: ImportSpec) -> list[Scored]:
    """Those that the first images cannot tell from the best, on as many images as the arithmetic allows."""
    best = best_of([one for one in first if as_asked(one.tried.framing, asked)])
    open_ones = [one for one in first if one is not best and not clearly(best, one)]
    if not open_ones or not orders.above_chance(best, y):
        return first
    going = [best, *sorted(open_ones, key=lambda one: one.rank, reverse=True)[: FINAL - 1]]
    plain = simplest_of(best, [best, *open_ones])
    going += [plain] * all(one is not plain for one in going)
    m = min(len(y), int(ARITHMETIC / 2 / max(1.0, sample.arithmetic * len(going))))
    if m <= len(best.right):
        return first
    asked_again = [(one, sample.ask(one.tried.framing, sample.x[:m])) for one in first if one in going]
    return [
        scored(Tried(one.tried.title, one.tried.framing, out), y[:m], kind)
        for one, out in asked_again
        if out is not None
    ]


def _told(looked: _Looked, takes: tuple[int, ...], asked: ImportSpec) -> Examination:
    sample, best, n = looked.sample, looked.best, len(looked.best.right)
    shape: Shape = (sample.x.shape[1], sample.x.shape[2], sample.x.shape[3])
    framing = best.tried.framing.model_copy(update={"outputs": looked.kind})
    model = Framed(sample.body, framing).to(sample.x.device).eval()
    few = sample.x[: min(n, 16)]
    behaves = behaviour(model, few)
    steady = all(one.verdict in ("fine", "note") for one in behaves if one.name in ("calls", "neighbours"))
    findings = [
        verdicts.size(shape, after(shape, asked), takes, framing, looked.padded),
        verdicts.normalisation(
            best, looked.final, looked.every, asked, above=orders.above_chance(best, looked.y), alike=looked.alike
        ),
        verdicts.layout(best, looked.final, looked.every, asked, looked.turned),
        verdicts.outputs(
            looked.table,
            best,
            looked.kind,
            asked,
            looked.outputs,
            negative=looked.negative,
            halved=looked.halved,
            cut=sample.body.ends_in if isinstance(sample.body, OnnxNetwork) and sample.body.cut else "",
        ),
        orders.classes(
            looked.plain,
            looked.order,
            looked.y[:n],
            asked,
            tried=len(looked.every),
            rival=looked.rival,
            weak=looked.weak,
        ),
        *filter(None, (verdicts.operators(getattr(sample.body, "unchecked", ())),)),
        *behaves,
        slopes(model, few, random=not steady),
        verdicts.memory(sample.memory, sample.arithmetic),
        _layers(model, shape, sample.arithmetic),
    ]
    more = {"cost": {"bytes_an_image": sample.memory, "operations_an_image": sample.arithmetic}}
    return Examination(framing, tuple(findings), looked.plain.accuracy, n, more)


TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "whose rows and columns are swapped": lambda x: x.transpose(2, 3),
    "whose rows and columns are swapped and which are upside down": lambda x: x.transpose(2, 3).flip(2),
    "whose rows and columns are swapped and which are mirrored": lambda x: x.transpose(2, 3).flip(3),
    "whose rows and columns are swapped and which are upside down and mirrored": lambda x: x.transpose(2, 3).flip(2, 3),
    "that are mirrored": lambda x: x.flip(3),
    "that are upside down": lambda x: x.flip(2),
    "that are upside down and mirrored": lambda x: x.flip(2, 3),
}
"""The other ways in which images can lie; those that swap rows and columns only for square ones."""


def _turned(sample: Sample, plain: list[Scored], y: Tensor, kind: str) -> orders.Turned | None:
    """The best way in which images lie and framing, where it is clearly better than all framings as they are.

    Tried with the framings that are best as they are; not where accuracy is high, or the network is large or takes
    images one by one.
    """
    best = best_of(plain)
    n = len(best.right)
    x = sample.x[:n]
    ways = {how: turn for how, turn in TURNS.items() if turn(x[:1]).shape == x[:1].shape}
    going = sorted(plain, key=lambda one: one.rank, reverse=True)[:FINAL]
    slow = not sample.many or getattr(sample.body, "one_by_one", False)
    if slow or best.accuracy > HIGH or sample.arithmetic * n * len(ways) * len(going) > ARITHMETIC / 2:
        return None
    found = []
    for how, turn in ways.items():
        images = turn(x).contiguous()
        for one in going:
            out = sample.ask(one.tried.framing, images)
            if out is not None:
                found.append(orders.Turned(how, scored(Tried(one.tried.title, one.tried.framing, out), y[:n], kind)))
    top = max(found, key=lambda one: one.scored.rank, default=None)
    return top if top is not None and verdicts.surely(top.scored, best, of=len(ways)) else None


def _negative(plain: list[Scored], y: Tensor, kind: str, classes: int) -> Scored | None:
    """The best framing if the smallest number is that of the class, where it is clearly better than the largest."""
    best = best_of(plain)
    if kind != "logits" or classes < 3 or best.accuracy > HIGH:  # of two classes it is another order
        return None
    every = [scored(replace(one.tried, out=-one.tried.out), y, kind) for one in plain]
    top = max(every, key=lambda one: one.rank)
    return top if verdicts.surely(top, best) else None


def _halved(best: Scored, every: list[Scored], y: Tensor, kind: str) -> Scored | None:
    """The best framing if a score is one of class 1 above 0.5, as of a regression to 0 and 1, where that may be so."""
    if kind != "score":
        return None
    moved = [(one, scored(replace(one.tried, out=one.tried.out - 0.5), y, kind)) for one in every]
    fitting = [half for one, half in moved if verdicts.surely(half, one) and not clearly(best, half)]
    return max(fitting, key=lambda half: half.rank, default=None)


def _alike(sample: Sample, best: Scored, every: list[Scored], kind: str) -> list[Scored]:
    """Framings under which a network answers the same to images, to faint and noisy ones and to noise.

    So does one that normalises each image by itself.
    """
    x = sample.x[:4]
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    probes = torch.cat([x, 0.3 + 0.4 * x, 0.8 * x + 0.2 * noise, 0.5 * x + 0.5 * noise, noise])
    ours, found = sample.ask(best.tried.framing, probes), []
    for one in every:
        theirs = sample.ask(one.tried.framing, probes)
        if ours is None or theirs is None:
            continue
        if apart(as_logits(ours, kind), as_logits(theirs, kind)) <= APART:
            found.append(one)
    return found


def _padded(sample: Sample, best: Scored, y: Tensor, kind: str) -> tuple[Scored, Scored] | None:
    """The best framing with images resized, and in the middle of an even frame, where that is clearly better."""
    side = best.tried.framing.resize
    height, width = sample.x.shape[2:]
    if side is None or side <= max(height, width):
        return None
    n = max(1, min(len(y), int(ARITHMETIC / 6 / max(1.0, sample.arithmetic))))
    left, top = (side - width) // 2, (side - height) // 2
    frame = (left, side - width - left, top, side - height - top)
    x = sample.x[:n]
    found = []
    for images in (x, F.pad(x, frame), F.pad(x, frame, value=1.0)):
        out = sample.ask(best.tried.framing, images)
        if out is not None:
            found.append(scored(replace(best.tried, out=out), y[:n], kind))
    if len(found) < 3:
        return None
    resized, *padded = found
    better = max(padded, key=lambda one: one.rank)
    return (resized, better) if verdicts.surely(better, resized, of=2) else None


def _layers(model: Framed, shape: Shape, operations: float) -> Finding:
    title = "Does the certifier understand its layers?"
    if operations > PROVABLE:
        return Finding(
            "layers", title, "note", "Not tried: the network is so large that bounds through it would be useless."
        )
    try:
        graph = lower(model, shape)
    except Unbounded as error:
        return Finding("layers", title, "note", f"No proofs of this network: {str(error).removeprefix('model: ')}.")
    except (*FAILURES, NotImplementedError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:160]
        return Finding("layers", title, "note", f"No proofs of this network: {why}")
    units = sum(math.prod(graph.nodes[place].shape) for place in graph.relus)
    return Finding("layers", title, "fine", f"Yes: {len(graph.relus)} layers of ReLUs with {units:,} units in all.")
