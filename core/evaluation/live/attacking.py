"""One image, attacked at several ε in one batch, and what the model makes of every result.

A batch of forty costs two or three times as much as one image: a slider over ε is answered as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.attacks.engine.geometry import distances
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from core.evaluation.live.clock import Clock, TooLong, alone
from core.specs import Method


@dataclass(frozen=True)
class Look:
    """An image, and what a model makes of it.

    Attributes:
        x: (C, H, W) float32 in [0, 1].
        probabilities: (K,) float64.
        distance: to the original: `linf`, `l2`, `l1`, `l0` (features) and `pixels`.
        success: whether the attack reached its goal; false for the original.
        stopped: whether the time limit ended the attack: the image is the best until then.
    """

    x: np.ndarray
    probabilities: np.ndarray
    distance: dict[str, float]
    success: bool = False
    stopped: bool = False

    @property
    def predicted(self) -> int:
        """The class of the largest probability; the first where it is not known."""
        return int(np.nan_to_num(self.probabilities, nan=-1.0).argmax())


def seen(model: nn.Module, x: Float[np.ndarray, "c h w"]) -> Look:
    """The image itself, as the model sees it. The model must be in eval mode."""
    with alone(model):
        image = _batch(model, x, 1)
        return _looks(model, image, image, [False], stopped=False)[0]


def attacked(
    model: nn.Module,
    x: Float[np.ndarray, "c h w"],
    label: int,
    method: Method,
    *,
    eps: Sequence[float] | None = None,
    target: int | None = None,
    stream: int = 0,
    clock: Clock | None = None,
) -> list[Look]:
    """Attack one image.

    Args:
        model: pixels to logits, in eval mode; used by one thread at a time.
        x: the image, in [0, 1].
        label: the class that the attack leads away from.
        method: the attack and its settings. Those that can stop early go on: of what fools, a page shows the surest.
        eps: one ε a result, each above 0, for the methods that need one; None for the others: one result.
        target: the class that the attack leads to; None: any other.
        stream: which random numbers: an image's index, as in the tasks.
        clock: the time limit; by default `LIMIT` seconds from now on.

    Returns:
        A `Look` for each ε; for other methods one.

    Raises:
        TooLong: the time was over before there was anything to show.
        ValueError: bad input, naming the argument; a target for a method that wants one.
    """
    clock = clock or Clock()
    n = 1 if eps is None else len(eps)
    with alone(model):
        clock.check()
        image = _batch(model, x, n)
        y = torch.full((n,), label, dtype=torch.int64, device=image.device)
        budgets = None if eps is None else torch.tensor(eps, dtype=torch.float64, device=image.device)
        try:
            made = run_method(
                model,
                image,
                y,
                method,
                eps=budgets,
                y_target=None if target is None else torch.full_like(y, target),
                streams=Streams.of(0, torch.full_like(y, stream)) if method.random else None,
                early_stop=False,
                on_progress=clock,
            )
        except TooLong as late:
            best = late.snapshot.get("x_adv")
            if best is None or best.shape != tuple(image.shape):
                raise
            points = torch.from_numpy(np.array(best)).to(image)
            return _looks(model, image, points, _fooled(model, points, label, target), stopped=True)
        return _looks(model, image, made.x_adv, made.success.tolist(), stopped=False)


def _batch(model: nn.Module, x: Float[np.ndarray, "c h w"], n: int) -> Float[Tensor, "n c h w"]:
    """So many copies of the image, in the model's dtype and on its device."""
    like = next(model.parameters(), torch.zeros(()))
    dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
    return torch.tensor(x, dtype=dtype, device=like.device)[None].repeat(n, 1, 1, 1)


@torch.no_grad()
def _fooled(model: nn.Module, points: Tensor, label: int, target: int | None) -> list[bool]:
    found = model(points).argmax(1)
    reached: list[bool] = (found != label if target is None else found == target).tolist()
    return reached


@torch.no_grad()
def _looks(model: nn.Module, x: Tensor, points: Tensor, success: Sequence[bool], *, stopped: bool) -> list[Look]:
    chances = model(points).double().softmax(1).cpu().numpy()
    apart = {name: values.tolist() for name, values in distances(points, x).items()}
    images = points.float().cpu().numpy()
    return [
        Look(
            np.ascontiguousarray(images[k]),
            chances[k],
            {name: float(values[k]) for name, values in apart.items()},
            bool(success[k]),
            stopped,
        )
        for k in range(len(points))
    ]
