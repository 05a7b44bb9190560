"""The set of images that a certificate is about: an linf, l2 or l1 ball, cut with the valid range [0, 1] (the box)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from core import epsilon
from core.attacks.engine.checks import check_eps
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.steps import BALLS
from core.checks import check_choice

ROUNDS = 12
"""Rounds of the search for the l2 multiplier; the bound is valid for any number."""
WIDER = 1 + 4 * epsilon.SAME
"""A proof at ε covers every ε that counts as the same, and every distance that counts as within that one."""


def at_most(eps: Tensor, dtype: torch.dtype) -> Tensor:
    """The next number of a dtype at or below each ε."""
    near = eps.to(dtype)
    return torch.where(near.to(eps.dtype) > eps, torch.nextafter(near, torch.zeros_like(near)), near)


def exact_eps(eps: float | Sequence[float] | Float[Tensor, " n"], x: Float[Tensor, "n c h w"]) -> Tensor:
    """One ε, or one per image, as float64 on the images' device. Raises ValueError for anything else, None included."""
    check_eps(eps, x, torch.inf)
    given = [epsilon.parse(one) for one in eps] if isinstance(eps, list | tuple) else epsilon.parse(eps)
    return torch.as_tensor(given, dtype=torch.float64).detach().to(x.device)


def check_box(x: Float[Tensor, "n c h w"]) -> None:
    """Refuse images outside [0, 1], whose ball may have no image in the box. Raises ValueError."""
    low, high = x.detach().aminmax()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"x: expected finite values in [0, 1], got {low.item():g} to {high.item():g}")


def inside(
    points: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], norm: str
) -> Float[Tensor, "n c h w"]:
    """Points of the ball, up to rounding, as images in the dtype of `x`: in the box, and within `eps` in float64."""
    images = points.to(x.device, x.dtype).clamp(0, 1)
    if norm == "linf":
        low, high = linf_bounds(x, at_most(eps, x.dtype))
        return torch.minimum(torch.maximum(images, low), high)
    # distances are rounded to the images' dtype
    return into_ball(images, x, at_most(eps * (1 - 4 * torch.finfo(x.dtype).eps), x.dtype), norm)


@dataclass(frozen=True)
class Ball:
    """Every image of [0, 1] within `eps` of `x`.

    One ball counts for any number of functions (N, ...).

    Attributes:
        x: (N, C, H, W) in [0, 1].
        eps: (N,) in the dtype of `x`.
        norm: linf, l2 or l1.
        low, high: a box around it, as the images; in float64 it is rounded outwards.
    """

    x: Tensor
    eps: Tensor
    norm: str
    low: Tensor
    high: Tensor

    @classmethod
    def around(
        cls, x: Tensor, eps: float | Float[Tensor, " n"], norm: str = "linf", dtype: torch.dtype | None = None
    ) -> Ball:
        """The ball, in `dtype` or the images' own.

        In float64, for proofs, it is a little larger than ε: it holds what `core.epsilon` counts as within every ε
        that `reaches` accepts for this one, and the next float32 at or above ε, so that attacks that compute in float32
        stay inside. A tensor's values are taken exactly, whatever its dtype. In other dtypes, for training and for
        searches whose results are evaluated again, `eps` is that float32, and bounds are rounded to nearest.

        Raises:
            ValueError: an unknown norm, or an ε that is negative or not finite, or above 1 in linf.
        """
        check_choice("norm", norm, BALLS)
        exact = exact_eps(eps, x)
        if norm == "linf" and not bool(epsilon.within(exact, 1.0).all()):
            raise ValueError(f"eps: expected numbers in [0, 1] for linf, the whole box, got {exact.max().item():g}")
        exact = exact.clamp(max=x[:1].numel() + 1.0)  # the whole box, in every norm
        short = exact.float()
        short = torch.where(short.double() < exact, torch.nextafter(short, torch.full_like(short, torch.inf)), short)
        dtype = dtype or x.dtype
        x = x.detach().to(dtype)
        if dtype != torch.float64:
            wider = short.to(dtype).expand(len(x))
            room = per_image(wider, x)
            return cls(x, wider, norm, (x - room).clamp(min=0), (x + room).clamp(max=1))
        wider = torch.maximum(short.double(), exact * WIDER).expand(len(x))
        room = per_image(wider, x)
        low, high = torch.nextafter(x - room, -torch.ones_like(x)), torch.nextafter(x + room, 2 * torch.ones_like(x))
        return cls(x, wider, norm, low.clamp(min=0), high.clamp(max=1))

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> Ball:
        """The balls of some of the images."""
        return Ball(self.x[rows], self.eps[rows], self.norm, self.low[rows], self.high[rows])

    def to(self, dtype: torch.dtype) -> Ball:
        """The same in another dtype."""
        values = (value.to(dtype) for value in (self.x, self.eps, self.low, self.high))
        x, eps, low, high = values
        return Ball(x, eps, self.norm, low, high)

    def lowest(self, rows: Float[Tensor, "n m c h w"]) -> Float[Tensor, "n m"]:
        """The smallest value of each linear function over the ball; never above it, and differentiable in `rows`.

        linf: exact. l1: exact, the fractional knapsack. l2: the Lagrangian at a multiplier that is found by holding
        the features that it moves to their limits; its value is a lower bound for any multiplier (weak duality).
        """
        flat = rows.flatten(2)
        if self.norm == "linf":
            middle, half = self._sides
            if len(self) == 1:
                return flat @ middle[0, 0] - flat.abs() @ half[0, 0]
            return (flat @ middle.mT - flat.abs() @ half.mT)[..., 0]
        point, penalty = self._lagrangian(flat.detach())
        return (flat * point).sum(2) + penalty

    def lowest_at(self, rows: Float[Tensor, "n m c h w"]) -> tuple[Float[Tensor, "n m c h w"], Tensor | float]:
        """Where `lowest` has its values, up to the multiplier's error in l2: rows · points + what comes second."""
        flat = rows.flatten(2)
        if self.norm != "linf":
            point, penalty = self._lagrangian(flat)
            return point.view_as(rows), penalty
        middle, half = self._sides
        return torch.addcmul(middle, half, flat.sgn(), value=-1).view_as(rows), 0.0  # much quicker than a choice

    @cached_property
    def _sides(self) -> tuple[Tensor, Tensor]:
        """Middle and half width of the box, (N, 1, features)."""
        return ((self.low + self.high) / 2).flatten(1)[:, None], ((self.high - self.low) / 2).flatten(1)[:, None]

    def minimizer(self, rows: Float[Tensor, "n m c h w"]) -> Float[Tensor, "n m c h w"]:
        """An image of the ball where each linear function is smallest, or nearly so."""
        flat = rows.detach().flatten(2)
        if self.norm == "linf":
            point, _ = self.lowest_at(rows.detach())  # up to rounding
            return torch.minimum(torch.maximum(point, self.low[:, None]), self.high[:, None])
        point, _ = self._lagrangian(flat)
        x = self.x.flatten(1)[:, None]
        order = 2 if self.norm == "l2" else 1
        length = torch.linalg.vector_norm(point - x, order, dim=2, keepdim=True)
        shrink = (self.eps[:, None, None] / length.clamp(min=torch.finfo(flat.dtype).tiny)).clamp(max=1)
        return (x + (point - x) * shrink).view_as(rows)

    def _lagrangian(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """The minimiser inside the box of a·x' + multiplier (|x' - x| - eps), or squared, and the second term there."""
        x, eps = self.x.flatten(1)[:, None], self.eps[:, None]
        room = torch.where(flat > 0, x - self.low.flatten(1)[:, None], self.high.flatten(1)[:, None] - x)
        size = flat.abs()
        if self.norm == "l1":
            ordered, order = size.sort(dim=2, descending=True)
            limits = room.gather(2, order)
            used = limits.cumsum(2)
            last = (used < eps[..., None]).sum(2, keepdim=True)
            beyond = last >= flat.shape[2]
            multiplier = ordered.gather(2, last.clamp(max=flat.shape[2] - 1)).masked_fill(beyond, 0.0)
            left = (eps[..., None] - (used - limits)).clamp(min=0)  # the feature at the multiplier takes the rest
            moved = torch.zeros_like(size).scatter(2, order, torch.minimum(limits, left))
            penalty = multiplier[..., 0] * (moved.sum(2) - eps)
        else:
            tiny = torch.finfo(flat.dtype).tiny
            step = eps / size.square().sum(2).sqrt().clamp(min=tiny)
            for _ in range(ROUNDS):
                full = step[..., None] * size >= room
                spent = torch.where(full, room, 0).square().sum(2)
                rest = torch.where(full, 0, size).square().sum(2)
                step = torch.maximum(step, ((eps**2 - spent).clamp(min=0) / rest.clamp(min=tiny)).sqrt())
            step = step.clamp(max=1e15 if flat.dtype == torch.float64 else 1e7)
            moved = torch.minimum(step[..., None] * size, room)
            penalty = (moved.square().sum(2) - eps**2) / (2 * step.clamp(min=tiny))
        return x - flat.sign() * moved, penalty
