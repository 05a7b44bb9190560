"""How a network behaves: beside other images, on every call, in train mode, and whether calls change it."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from core.evaluation.imported.findings import Finding
from core.networks.draws import drawn_by
from core.networks.framed import Framed
from core.networks.onnx_network import OnnxNetwork

FAILURES = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError)
"""What a network of which nothing is known may end in."""
APART = 1e-3
"""Share of the logits' spread from which two answers to an image are different ones and not only rounded ones."""
_RANDOM = (
    "If this is dropout or noise that was left on, export the network in eval mode. If it is a defence, attack it with "
    "averaged gradients and repeat every measurement."
)
_TOGETHER = (
    "Batch normalisation in train mode does so (export the network after model.eval()), and so does a step over the "
    "whole batch, such as a softmax over dimension 0 or a division by the batch's maximum."
)
NEIGHBOURS = "Does an image's answer depend on the other images of its batch?"
LARGE = 50_000
"""Pixel values of an image from which on three images are enough."""
FEW = 8
"""Images that are asked about."""


def behaviour(model: Framed, x: Tensor) -> list[Finding]:
    """Whether an image's logits depend on the batch, on the call, on train mode; and whether calls change buffers."""
    images = x[: FEW if x[:1].numel() < LARGE else 3]
    before = {name: value.detach().clone() for name, value in model.body.named_buffers()}
    with torch.no_grad():
        first, again = model(images), model(images)
        random = max(apart(first, again), apart(first, model(images)))
        draws = drawn_by(lambda: model(images))
        together = _beside(model, images, first) if random <= APART else 0.0
    changed = [name for name, value in model.body.named_buffers() if not _equal(before.get(name), value)]
    with torch.no_grad():
        for name, value in model.body.named_buffers():
            if name in changed and before.get(name) is not None and before[name].shape == value.shape:
                value.copy_(before[name])
    neighbours = _of_graph(model.body) or _of_neighbours(random, together, len(images))
    return [_of_calls(random, draws, len(images)), neighbours, *_of_mode(model, changed)]


def _beside(model: nn.Module, images: Tensor, first: Tensor) -> float:
    """How far an image's logits move when its neighbours are others: none, the same in another order, noise, extremes.

    A faint image is asked about as well: where a network divides by the largest value of a batch, most images have the
    same one.
    """
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    others = (noise, torch.zeros_like(images), torch.ones_like(images))
    found = [apart(first, model(images.flip(0)).flip(0))]
    for row in range(min(4, len(images)) if images[:1].numel() < LARGE else 1):
        for image, before in (
            (images[row : row + 1], first[row : row + 1]),
            (0.25 + 0.5 * images[row : row + 1], None),
        ):
            answers = [] if before is None else [before]
            answers += [model(torch.cat([image, other[1:]]))[:1] for other in others]
            with contextlib.suppress(*FAILURES):  # batch normalisation in train mode refuses a batch of one
                answers.append(model(image))
            found += [apart(answers[0], answer) for answer in answers[1:]]
    return max(found)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tables of logits, as a share of their spread; infinite where one has NaN only."""
    if one.shape != other.shape or not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    a, b = one.double().nan_to_num(0, 0, 0), other.double().nan_to_num(0, 0, 0)
    spread = float((a.amax(1) - a.amin(1)).amax()) if a.numel() else 0.0
    spread = max(spread, 1e-6 * float(a.abs().amax())) if a.numel() else 0.0
    far = float((a - b).abs().amax()) if a.numel() else 0.0
    return far / spread if spread > 0 else (0.0 if far == 0 else float("inf"))


def _equal(before: Tensor | None, after: Tensor) -> bool:
    return before is not None and before.shape == after.shape and torch.equal(before.nan_to_num(0), after.nan_to_num(0))


def _of_calls(random: float, draws: bool, n: int) -> Finding:
    title = "Does it answer the same on every call?"
    if random <= APART and draws:
        return Finding(
            "calls",
            title,
            "doubt",
            f"The network draws random numbers on every call, though the logits of {n} images were the same on three "
            "calls.",
            _RANDOM,
        )
    if random <= APART:
        return Finding("calls", title, "fine", f"The logits of {n} images are the same on three calls.")
    return Finding(
        "calls",
        title,
        "doubt",
        f"The network is random: the logits of the same {n} images differ by {random:.2g} of their spread from call "
        "to call.",
        _RANDOM,
    )


def _of_graph(body: nn.Module) -> Finding | None:
    """What reading the graph told already: then its images are run one by one."""
    if not isinstance(body, OnnxNetwork) or not body.one_by_one:
        return None
    if body.depends_on_batch:
        return Finding(
            "neighbours",
            NEIGHBOURS,
            "wrong",
            "The graph takes batches of any size but mixes their images: an image's logits change with its neighbours.",
            _TOGETHER,
        )
    return Finding(
        "neighbours",
        NEIGHBOURS,
        "note",
        "No: the graph takes one image at a time, so images are run one by one, which is slower.",
        "Export it with a batch of any size, if you can.",
    )


def _of_neighbours(random: float, together: float, n: int) -> Finding:
    title = NEIGHBOURS
    if random > APART:
        return Finding("neighbours", title, "note", "Not told: the network answers differently on every call.")
    if together <= APART:
        said = f"The logits of {n} images are the same alone, in another order, and beside noise, black and white."
        return Finding("neighbours", title, "fine", said)
    return Finding(
        "neighbours",
        title,
        "wrong",
        f"The logits of an image change by {together:.2g} of their spread with the other images of its batch.",
        _TOGETHER,
    )


def _of_mode(model: Framed, changed: list[str]) -> list[Finding]:
    title = "Is it in eval mode?"
    stuck = [
        type(part).__name__
        for part in model.body.modules()
        if getattr(part, "training", False)
        or (isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None)
    ]
    if changed:
        return [
            Finding(
                "mode",
                title,
                "doubt",
                f"Calls change the network: {', '.join(changed[:3])} had other values afterwards.",
                "Figures depend on what it was asked before. Export it in eval mode.",
            )
        ]
    if stuck:
        return [
            Finding(
                "mode",
                title,
                "doubt",
                f"{len(stuck)} layers stay in train mode ({', '.join(sorted(set(stuck))[:3])}).",
                "Export the network after model.eval(), with running statistics.",
            )
        ]
    return [Finding("mode", title, "fine", "No layer stays in train mode, and calls change nothing.")]
