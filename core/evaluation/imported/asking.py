"""A network of which nothing is known is asked about images: what it takes, what it answers, what one image costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.evaluation.imported.behaviour import FAILURES
from core.evaluation.imported.fits import dims
from core.networks.framed import Framed
from core.networks.portions import BUDGET, arithmetic, memory
from core.specs import Framing, ImportSpec


@dataclass
class Sample:
    """Images to ask a network about, and what one of them costs.

    Attributes:
        body: the network.
        x: (N, C, H, W) in [0, 1].
        arithmetic: operations an image.
        memory: bytes an image.
        many: it takes several images at once.
        stress: its answers to images far outside the pixel range.
        shape: of an answer, without the batch.
    """

    body: nn.Module
    x: Tensor
    arithmetic: float
    memory: int
    many: bool
    stress: list[Tensor]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, body: nn.Module, x: Tensor, framings: list[Framing]) -> Sample:
        """Ask it about the first two images, in the first of these framings that it takes.

        Raises:
            ValueError: it fails in every one, or answers with something else than numbers an image.
        """
        error: Exception | None = None
        sent = ""
        for framing in _one_a_fit(framings):
            given = Framed(body, framing).given(x[:2] if len(x) > 1 else x[:1].expand(2, *x.shape[1:]))
            for images in (given, given[:1]):
                try:
                    with torch.no_grad():
                        out = body(images.clone())
                except torch.OutOfMemoryError:
                    raise
                except (*FAILURES, NotImplementedError, OSError) as caught:
                    error, sent = error or caught, sent or dims(tuple(given.shape[1:]))
                    continue
                _check_answer(out, len(images))
                return cls(
                    body,
                    x,
                    arithmetic(body, images),
                    _memory(body, images),
                    len(images) > 1,
                    _stress(body, images),
                    tuple(out.shape[1:]),
                )
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"data: the network fails on images of {sent}: {why}") from error

    def ask(self, framing: Framing, images: Tensor) -> Tensor | None:
        """Its answers under a framing; None where it fails."""
        framed = Framed(self.body, framing).to(images.device)
        batch = max(1, min(100, BUDGET // max(self.memory, 1))) if self.many else 1
        try:
            with torch.no_grad():
                parts = [self.body(framed.given(part).contiguous()).clone() for part in images.split(batch)]
        except torch.OutOfMemoryError:
            raise
        except (*FAILURES, NotImplementedError, OSError):
            return None
        out = torch.cat(parts)
        return out if len(out) == len(images) and tuple(out.shape[1:]) == self.shape else None


def _one_a_fit(framings: list[Framing]) -> list[Framing]:
    kept: dict[tuple[object, ...], Framing] = {}
    for framing in framings:
        kept.setdefault((framing.resize, framing.crop, framing.layout, framing.shape, len(framing.mean)), framing)
    return list(kept.values())


def _check_answer(out: object, n: int) -> None:
    if not isinstance(out, Tensor):
        raise ValueError(f"outputs: expected one tensor of numbers an image, got a {type(out).__name__}")
    if not out.is_floating_point():
        raise ValueError(f"outputs: expected logits or probabilities, got {str(out.dtype).removeprefix('torch.')}")
    if out.ndim == 0 or len(out) != n:
        raise ValueError(f"outputs: expected a row an image, got {dims(tuple(out.shape))} for {n} images")


def _memory(function: nn.Module, images: Tensor) -> int:
    try:
        return memory(function, images)
    except torch.OutOfMemoryError:
        raise
    except (*FAILURES, NotImplementedError):  # it bears no gradients: `slopes` says so
        return 0


def _stress(body: nn.Module, images: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator).to(images)
    found = []
    for far in (8 * images, -8 * images, 4 * noise, 100 * noise):
        try:
            with torch.no_grad():
                found.append(body(far).clone())
        except torch.OutOfMemoryError:
            raise
        except (*FAILURES, NotImplementedError):
            continue
    return found


def outputs_of(sample: Sample, asked: ImportSpec, classes: int) -> int:
    """How many numbers it answers with, an image. Raises ValueError where they do not fit the classes."""
    count = math.prod(sample.shape)
    if asked.classes is not None:
        single = count == 1 and classes == 2
        if len(asked.classes) != classes or max(asked.classes) >= (2 if single else count) or min(asked.classes) < 0:
            raise ValueError(
                f"classes: expected {classes} different outputs of 0 to {count - 1}, one a class, got {asked.classes}"
            )
    elif count != classes and not (count == 1 and classes == 2):
        if count > classes:
            hint = ": name the output of each class (`classes`)"
        else:
            hint = ": choose a data set of as many classes, or some of its classes"
        raise ValueError(
            f"outputs: the network answers with {count:,} numbers, the data set has {classes} classes{hint}"
        )
    if asked.outputs is not None and (asked.outputs in ("score", "probability")) != (count == 1):
        raise ValueError(f"outputs: expected one of a network with {count:,} outputs, got {asked.outputs}")
    return count
