"""Linear models, solved exactly: the smallest perturbation and the smallest margin in every norm, box included.

For logits Wx + b the margin over a rival t is affine in the image with slope v = w_y - w_t, so each rival is one of the
binary problems below, and the nearest rival decides. u_j is the room of feature j: how far it may move against v_j
before it leaves [0, 1]; without the box it is infinite. All arithmetic is in float64, whatever the model's dtype.

linf    every |delta_j| = min(t, u_j)                       one level t: a concave, piecewise linear equation
l2      every |delta_j| = min(t |v_j|, u_j)                 the same equation with weights v_j^2 and room u_j / |v_j|
l1      fractional knapsack: fill features by falling |v_j|
l0      the shortest list of the largest gains |v_j| u_j    optimal by exchange

Source: MATHEMATICS, the sections on linear models; duality of norms without a box, water levels and knapsacks with it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core import epsilon
from core.attacks.engine.geometry import shortest_prefix
from core.certification.bounds import intervals
from core.certification.graph import Unbounded, lower
from core.checks import check_choice
from core.linear.sides import beside_model
from core.networks.layers import Shape
from core.specs.methods.base import NORMS

ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
TINY = torch.finfo(torch.float64).tiny
AGREED = 1e-9
"""How far logits may be from affine ones, relative to their size: rounding in float64."""
PROBES = 64
FEW = 64
"""Features that are sorted first where features are taken by falling gain: most images need no more."""


@dataclass(frozen=True)
class AffineModel:
    """Logits Wx + b of flattened images, in float64.

    Attributes:
        weight: (K, D).
        bias: (K,).
        model: what they were taken from, in float64; every solution is checked against its logits.
        shape: of the model's images.
    """

    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]
    model: nn.Module | None = None
    shape: Shape | None = None

    def logits(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
        """The logits in float64."""
        return x.flatten(1).to(self.weight) @ self.weight.T + self.bias

    @torch.no_grad()
    def agrees(self, x: Float[Tensor, "n ..."]) -> None:
        """Raise ValueError unless these are the model's logits for all of these images."""
        if self.model is None or self.shape is None or not len(x):
            return
        x = x.reshape(-1, *self.shape).to(self.weight.device)
        found = self.logits(x)
        apart = (self.model(x.to(self.weight)) - found).abs().amax(1)
        scale = 1 + self.bias.abs().max() + self.weight.abs().sum(1).max() * (1 + x.double().flatten(1).abs().amax(1))
        wrong = ~(apart <= AGREED * scale)
        if wrong.any():
            raise ValueError(
                "model: expected logits that are affine in the pixels, got some that are off by "
                f"{float(apart[wrong][0]):.3g} at image {int(wrong.nonzero()[0, 0])}"
            )


@dataclass(frozen=True)
class Exact:
    """The smallest perturbations.

    Attributes:
        distance: (N,) float64, to the boundary itself: any smaller change leaves the image correctly classified, and
            every larger ball has an image that is not. 0 where the image is misclassified or tied, inf where no image
            of the box is misclassified. l0: the number of features that crosses the boundary.
        delta: (N, C, H, W) in the images' dtype; reaches the boundary (l0: crosses it). 0 where distance is 0 or inf.
        rival: (N,) int64, the class across the boundary; -1 where the distance is inf.
    """

    distance: Float[Tensor, " n"]
    delta: Float[Tensor, "n c h w"]
    rival: Int[Tensor, " n"]


def affine_model(model: nn.Module, shape: Shape) -> AffineModel:
    """The matrix and the offset of a model whose logits are affine in the pixels.

    The model is left untouched: a copy in float64 is queried. Where its layers are known (`graph`), it is affine if no
    ReLU can switch inside the box; any other model is queried at random images, dark ones, corners and grey ones, and
    again at the images that a problem is solved for (`AffineModel.agrees`).

    Raises:
        ValueError: the logits are not affine.
    """
    double = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    leaf = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    logits = double(leaf)
    rows = [torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)[0] for value in logits[0]]
    weight = torch.stack([torch.zeros_like(leaf) if row is None else row for row in rows]).flatten(1)
    found = AffineModel(weight, logits.detach()[0], double, shape)
    probe = torch.rand(PROBES, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grey = torch.linspace(0, 1, PROBES, dtype=torch.float64).view(-1, 1, 1, 1).expand_as(probe)
    # the power of a uniform number: from images of few bright pixels to images of few dark ones
    found.agrees(torch.cat([probe, probe ** (1 / (grey + 0.02) ** 2), probe.round(), (probe < grey).double(), grey]))
    if not _never_switches(double, shape):
        raise ValueError(
            "model: expected logits that are affine in the pixels, got a network with ReLUs that may switch"
        )
    return found


@torch.no_grad()
def _never_switches(model: nn.Module, shape: Shape) -> bool:
    """Whether every ReLU keeps its sign in the whole box, or the layers are not known and nothing can be said."""
    try:
        graph = lower(model, shape, torch.float64)
    except Unbounded:
        return True
    ends = torch.zeros(1, *shape, dtype=torch.float64), torch.ones(1, *shape, dtype=torch.float64)
    made = intervals(graph, *ends)
    return not graph.smooth and all(
        bool(((made[place][0] >= 0) | (made[place][1] <= 0)).all()) for place in graph.before_relus
    )


@beside_model
def smallest(
    linear: AffineModel, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, norm: str, box: bool = True
) -> Exact:
    """The smallest perturbation that changes the prediction.

    Args:
        linear: the model; see `affine_model`.
        x: (N, C, H, W) in [0, 1].
        y: (N,) true classes.
        norm: "linf", "l2", "l1" or "l0" (features).
        box: whether the perturbed image must stay in [0, 1]; without, one feature always suffices for l0.

    Raises:
        ValueError: an unknown norm, images or labels that do not fit the model.
    """
    _check(linear, x, y, norm)
    flat = x.flatten(1).to(linear.weight)
    distance = torch.full((len(x),), torch.inf, dtype=torch.float64)
    rival = torch.full((len(x),), -1)
    moved = torch.zeros_like(flat)
    for rows, other, slope, need in _pairs(linear, flat, y, norm):
        nearer = _at_least(slope, need, norm) < distance[rows]
        if not nearer.any():
            continue
        rows, need = rows[nearer], need[nearer]
        amount, size = _smallest_amounts(slope.abs(), _room(slope, flat[rows], box), need, norm, distance[rows])
        nearer = size < distance[rows]
        rows = rows[nearer]
        distance[rows], rival[rows] = size[nearer], other
        moved[rows] = -slope.sign() * amount[nearer]
    linear.agrees((flat + moved).view_as(x))
    return Exact(distance, moved.view_as(x).to(x.dtype), rival)


@beside_model
def largest(
    linear: AffineModel,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float,
    norm: str,
    box: bool = True,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n c h w"]]:
    """The smallest margin in a ball, and where it is.

    Returns:
        margin: (N,) float64, logit y minus the largest other one at the worst image of the ball. delta: (N, C, H, W) in
        the images' dtype, which reaches it.

    Raises:
        ValueError: as in `smallest`; a negative or infinite eps.
    """
    _check(linear, x, y, norm)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps: expected a finite number of 0 or more, got {eps}")
    flat = x.flatten(1).to(linear.weight)
    margin = torch.full((len(x),), torch.inf, dtype=torch.float64)
    moved = torch.zeros_like(flat)
    for rows, _other, slope, need in _pairs(linear, flat, y, norm):
        amount = _largest_amounts(slope.abs(), _room(slope, flat[rows], box), eps, norm)
        left = need - amount @ slope.abs()
        worse = left < margin[rows]
        margin[rows[worse]] = left[worse]
        moved[rows[worse]] = -slope.sign() * amount[worse]
    linear.agrees((flat + moved).view_as(x))
    return margin, moved.view_as(x).to(x.dtype)


@beside_model
def frontier(
    linear: AffineModel, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], caps: tuple[float, ...]
) -> Int[Tensor, "n m"]:
    """k(eps): the fewest features that change the prediction when none may move by more than a cap; exact.

    Returns:
        (N, M) int64 for the M caps; 0 where the image is misclassified, -1 where all features together do not suffice.
    """
    _check(linear, x, y, "l0")
    flat = x.flatten(1).to(linear.weight)
    never = flat.shape[1] + 1
    fewest = torch.full((len(x), len(caps)), never)
    for rows, _other, slope, need in _pairs(linear, flat, y, "l0"):
        room = _room(slope, flat[rows], True)
        for column, cap in enumerate(caps):
            count, _order = shortest_prefix(slope.abs() * room.clamp(max=cap), need)
            count = torch.where(need <= 0, 0, torch.where(count < 0, never, count))
            fewest[rows, column] = torch.minimum(fewest[rows, column], count)
    return torch.where(fewest == never, -1, fewest)


@beside_model
def robust(
    linear: AffineModel, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, eps: float, norm: str, box: bool = True
) -> Bool[Tensor, " n"]:
    """Whether no perturbation of the ball changes the prediction, or makes it a tie: an equivalence, not a bound."""
    distance = smallest(linear, x, y, norm=norm, box=box).distance
    return ~epsilon.within(distance, math.floor(eps * (1 + epsilon.SAME)) if norm == "l0" else eps)


def _check(linear: AffineModel, x: Tensor, y: Tensor, norm: str) -> None:
    check_choice("norm", norm, NORMS)
    check_fits(linear, x, y)


def check_fits(linear: AffineModel, x: Tensor, labels: Tensor, name: str = "y") -> None:
    """Refuse what are no images in [0, 1] of the model's size, no int64 classes of it, or a model that is not affine.

    Raises:
        ValueError: naming the argument; `name` is that of the labels.
    """
    classes, features = linear.weight.shape
    if not x.is_floating_point() or x.ndim < 2 or x[:1].numel() not in (0, features):
        raise ValueError(f"x: expected images of {features} features, got {x.dtype} of shape {tuple(x.shape)}")
    if len(x) and not (x.min().item() >= 0 and x.max().item() <= 1):  # false for NaN too
        raise ValueError(f"x: expected finite values in [0, 1], got {x.min().item():g} to {x.max().item():g}")
    if labels.dtype != torch.int64 or labels.shape != x.shape[:1]:
        raise ValueError(
            f"{name}: expected an int64 tensor of shape ({len(x)},), got {labels.dtype} {tuple(labels.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"{name}: expected {len(x)} classes from 0 to {classes - 1}, got {labels.tolist()[:10]}")
    linear.agrees(x)


def _pairs(linear: AffineModel, flat: Tensor, y: Tensor, norm: str) -> Iterator[tuple[Tensor, int, Tensor, Tensor]]:
    """Each class with each rival, the nearest first: rows of the class, rival, slope (D,), margins (n,)."""
    logits = linear.logits(flat)
    for label in y.unique().tolist():
        rows = (y == label).nonzero()[:, 0]
        slopes = linear.weight[label] - linear.weight
        needs = logits[rows, label, None] - logits[rows]
        near = torch.stack([_at_least(slope, need, norm).median() for slope, need in zip(slopes, needs.T, strict=True)])
        for other in near.argsort().tolist():
            if other != label:
                yield rows, other, slopes[other], needs[:, other]


def _room(slope: Tensor, flat: Tensor, box: bool) -> Tensor:
    """How far each feature may move against the slope."""
    return torch.where(slope > 0, flat, 1 - flat) if box else torch.full_like(flat, torch.inf)


def _at_least(slope: Tensor, need: Tensor, norm: str) -> Tensor:
    """A lower bound (n,) of the distance: the dual norm's, without a box; l0: every feature at its largest gain."""
    dual = float(torch.linalg.vector_norm(slope, {"linf": 1, "l2": 2, "l1": torch.inf, "l0": torch.inf}[norm]))
    if dual == 0:
        return torch.where(need > 0, torch.inf, 0.0)
    return torch.where(need > 0, 1.0, 0.0) if norm == "l0" else (need / dual).clamp(min=0)


def _smallest_amounts(weight: Tensor, room: Tensor, need: Tensor, norm: str, best: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest amounts (n, D), 0 to room, whose gain reaches `need`, and their length; inf where none does.

    Where they are longer than `best` (n,) the search breaks off, with some length that is not below it.
    """
    room = torch.where(weight > 0, room, 0)
    if norm in ("linf", "l2"):
        amount, able = _levelled(weight, room, need, norm, best)
    else:
        amount, able = _filled(weight, room, need) if norm == "l1" else _fewest(weight, room, need)
    length = (amount > 0).sum(1).double() if norm == "l0" else torch.linalg.vector_norm(amount, ORDER[norm], dim=1)
    size = torch.where(need <= 0, 0.0, torch.where(able, length, torch.inf))
    return torch.where((size[:, None] > 0) & able[:, None], amount, 0), size


def _levelled(weight: Tensor, room: Tensor, need: Tensor, norm: str, best: Tensor) -> tuple[Tensor, Tensor]:
    """For linf and l2: amounts min(t r_j, u_j), r_j = 1 or |v_j|, the t whose gain is `need`; whether there is one.

    The gain is concave and piecewise linear in t: Newton's steps from 0 rise to the root and end on it.
    """
    rate = torch.ones_like(weight) if norm == "linf" else weight / weight.max().clamp(min=TINY)  # no square underflows
    limit = torch.where(weight > 0, room / rate.clamp(min=TINY), 0)
    amount, able = torch.zeros_like(room), torch.ones_like(need, dtype=torch.bool)
    level, rows = torch.zeros_like(need), (need > 0).nonzero()[:, 0]
    while len(rows):
        now = level[rows, None]
        moved = torch.minimum(now * rate, room[rows])
        rest = need[rows] - moved @ weight
        slope = (limit[rows] > now).to(weight) @ (weight * rate)
        amount[rows] = moved
        # nothing left to fill: reached but for rounding, or out of reach
        able[rows] = (slope > 0) | (rest <= 1e-12 * need[rows])
        open_ = (rest > 1e-13 * need[rows]) & (slope > 0)
        open_ &= torch.linalg.vector_norm(moved, ORDER[norm], dim=1) < best[rows]
        level[rows] = torch.where(open_, level[rows] + rest / slope.clamp(min=TINY), level[rows])
        rows = rows[open_]
    return amount, able


def _filled(weight: Tensor, room: Tensor, need: Tensor) -> tuple[Tensor, Tensor]:
    """For l1: the features by falling weight, each filled before the next is touched; and where they are enough."""
    order = weight.argsort(descending=True, stable=True)
    order = order[weight[order] > 0]
    amount, able = torch.zeros_like(room), torch.zeros_like(need, dtype=torch.bool)
    for first in (order[:FEW], order):  # most images need few
        rows = (~able).nonzero()[:, 0]
        if not len(rows) or not len(first):
            break
        limits = room[rows][:, first]
        total = (weight[first] * limits).cumsum(1)
        before = torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], 1)
        each = torch.minimum((need[rows, None] - before).clamp(min=0) / weight[first], limits)
        amount[rows] = torch.zeros_like(room[rows]).index_copy(1, first, each)
        able[rows] = total[:, -1] >= need[rows]
    return amount, able


def _fewest(weight: Tensor, room: Tensor, need: Tensor) -> tuple[Tensor, Tensor]:
    """For l0: the shortest list of the largest gains whose sum exceeds `need`, moved wholly; and where there is one.

    Without a box one feature crosses, however far it must go: it is moved to the boundary.
    """
    gains = torch.where(weight > 0, weight * room, 0)
    amount, able = torch.zeros_like(room), torch.zeros_like(need, dtype=torch.bool)
    far = torch.where(room.isinf(), need[:, None] / weight.clamp(min=TINY), room)
    for count in (FEW, gains.shape[1]):
        rows = (~able).nonzero()[:, 0]
        if not len(rows):
            break
        largest, places = gains[rows].topk(min(count, gains.shape[1]), dim=1)
        length, order = shortest_prefix(largest, need[rows])
        able[rows] = length >= 0
        taken = torch.arange(largest.shape[1]) < length[:, None]
        chosen = torch.zeros_like(room[rows], dtype=torch.bool).scatter(1, places.gather(1, order), taken)
        amount[rows] = torch.where(chosen, far[rows], 0)
    return amount, able


def _largest_amounts(weight: Tensor, room: Tensor, eps: float, norm: str) -> Tensor:
    """The amounts (n, D) within ε whose gain is the largest."""
    room = torch.where(weight > 0, room, 0)
    if norm == "linf":
        return room.clamp(max=eps)
    if norm == "l1":
        order = weight.argsort(descending=True, stable=True)
        limits = room[:, order].clamp(max=eps)
        before = limits.cumsum(1) - limits
        return torch.zeros_like(room).index_copy(1, order, torch.minimum((eps - before).clamp(min=0), limits))
    if norm == "l0":
        limits = room.clamp(max=torch.finfo(room.dtype).max)
        order = (weight * limits).argsort(dim=1, descending=True, stable=True)[:, : math.floor(eps)]
        return torch.zeros_like(limits).scatter(1, order, limits.gather(1, order))
    # l2: full features are those with the smallest u_j / w_j; the level of the others follows from what is left
    ratio = torch.where(weight > 0, room / weight.clamp(min=TINY), torch.inf)
    ordered, order = ratio.sort(dim=1)
    spent = room.gather(1, order).square().cumsum(1)
    squares = weight.square().expand_as(ratio).gather(1, order)
    rest = squares.flip(1).cumsum(1).flip(1)  # of those that are not full, this one included
    before = torch.cat([torch.zeros_like(spent[:, :1]), spent[:, :-1]], 1)
    level = ((eps**2 - before).clamp(min=0) / rest.clamp(min=TINY)).sqrt()
    fits = (level <= ordered) & (before <= eps**2)
    found = torch.where(fits.any(1), level.gather(1, fits.int().argmax(1, keepdim=True))[:, 0], torch.inf)
    return torch.minimum(found.clamp(max=torch.finfo(found.dtype).max)[:, None] * weight, room)
