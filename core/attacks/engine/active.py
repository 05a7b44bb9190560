"""The images under attack, so many at once: an image that is done leaves, a waiting one takes its place.

Every image goes at its own pace, so a batch stays full until the last images are left. What an attack knows of each
image under attack (its iterate, its step, its bounds) is a dataclass of tensors derived from `Rows`, a row an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from core.attacks.engine.engine import ATTACK_BATCH
from core.attacks.engine.streams import Streams
from core.progress import Progress


@dataclass(frozen=True)
class Run:
    """What every attack can be given beside its own settings.

    Attributes:
        streams: random streams of the images; None: seed 0 and the positions in the batch.
        budget: model evaluations to spend on each image at most; None: no limit.
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.
    """

    streams: Streams | None = None
    budget: int | None = None
    batch: int = ATTACK_BATCH
    on_progress: Progress | None = None


@dataclass
class Rows:
    """Base of what an attack knows of its images: fields that are tensors with a row an image, or None."""

    def take(self, keep: Bool[Tensor, " n"]) -> Self:
        """Some of the rows."""
        fields = (getattr(self, name) for name in self.__dataclass_fields__)
        return type(self)(*(None if value is None else value[keep] for value in fields))

    def join(self, other: Self) -> Self:
        """These rows and then the others; what is None here is None there."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return type(self)(*(None if one is None else torch.cat([one, two]) for one, two in pairs))


_R = TypeVar("_R", bound=Rows)


class Active(Generic[_R]):
    """The active set of an attack.

        active = Active(waiting, batch, begin)
        while active.refill():
            rows, state = active.rows, active.state
            ...
            active.keep(stay)

    Attributes:
        rows: (n,) int64, the images under attack, at most `batch`; in the order in which they came.
        state: what `begin` returned for them, row by row; it may be changed in place. There is none before the first
            `refill`.
    """

    rows: Tensor
    state: _R

    def __init__(self, waiting: Int[Tensor, " m"], batch: int, begin: Callable[[Tensor], _R]) -> None:
        """An active set that is empty as yet.

        Args:
            waiting: the images to attack, in this order.
            batch: images under attack at once, at least 1.
            begin: for images (n,) int64 that come in: what the attack knows of them at first.
        """
        self.rows = waiting[:0]
        self._waiting, self._batch, self._begin = waiting, batch, begin

    @property
    def left(self) -> int:
        """Images that are not done: under attack or waiting."""
        return len(self.rows) + len(self._waiting)

    def refill(self) -> bool:
        """Let waiting images in, as many as there is room for; returns whether any image is under attack."""
        room = self._batch - len(self.rows)
        if room > 0 and len(self._waiting):
            new, self._waiting = self._waiting[:room], self._waiting[room:]
            state = self._begin(new)
            self.state = self.state.join(state) if len(self.rows) else state
            self.rows = torch.cat([self.rows, new])
        return len(self.rows) > 0

    def keep(self, stay: Bool[Tensor, " n"], again: Int[Tensor, " k"] | None = None) -> bool:
        """Let the other images go, and those of `again` wait for another turn; returns whether any has gone."""
        if again is not None and len(again):
            self._waiting = torch.cat([self._waiting, again])
        if bool(stay.all()):
            return False
        self.rows, self.state = self.rows[stay], self.state.take(stay)
        return True


def even_batch(images: int, batch: int) -> int:
    """The number of images at once, at most `batch`, for which no small rest is left at the end."""
    return max(1, math.ceil(images / max(1, math.ceil(images / batch))))
