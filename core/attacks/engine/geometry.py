"""Distances between images, and exact projections onto balls and the box [0, 1].

Every projection works on a whole batch of perturbations with one budget an image, is the identity inside its set,
gives a finite answer for a zero perturbation or a zero budget, and is the true Euclidean projection onto the set it
names: the ball alone, or ball and box together where the name says `box`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

DISTANCES = ("linf", "l2", "l1", "l0", "pixels")
ORDER = 2.0**-46
"""What the order of a sum in float64 may change it by, relatively."""


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Shape (N,) values so that they broadcast over (N, ...) images."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def distances(x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
    """How far each image moved, in every norm.

    Returns:
        `linf`, `l2`, `l1`: (N,) float64, computed from the stored values: compare them with ε by `core.epsilon.within`.
        `l0`: (N,) int64, features (a colour pixel has three). `pixels`: (N,) int64, a colour pixel counts once.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in DISTANCES}
    rows = max(1, 500_000 // max(1, x[0].numel())) if len(x) else 1
    for start in range(0, max(1, len(x)), rows):  # in chunks, so that float64 copies stay small
        delta = x_adv[start : start + rows].double() - x[start : start + rows].double()
        size = delta.abs().flatten(1)
        parts["linf"].append(size.amax(1))
        parts["l2"].append(torch.linalg.vector_norm(size, dim=1))
        parts["l1"].append(size.sum(1))
        parts["l0"].append((size > 0).sum(1))
        parts["pixels"].append((delta != 0).any(1).flatten(1).sum(1))
    return {name: torch.cat(values) for name, values in parts.items()}


def rounded_down(eps: Float[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """The largest number of `dtype` that is at most each float64 budget: a ball of this radius is inside that of ε."""
    near = eps.to(dtype)
    return torch.where(near.double() > eps, torch.nextafter(near, torch.zeros_like(near)), near)


def norm_of(delta: Float[Tensor, "n c h w"], norm: str) -> Float[Tensor, " n"]:
    """Length of each perturbation in its own dtype: quick, for use inside a loop; `distances` has the last word."""
    flat = delta.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).to(delta.dtype)
    return torch.linalg.vector_norm(flat, {"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)


def linf_bounds(
    x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], *, boxed: bool = True
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """Lowest and highest image of the linf ball, cut to the box [0, 1] unless `boxed` is off.

    Guarantee: any image between them is within `eps` of `x` to the last bit, in the images' dtype and in float64.
    x ± eps rounded to nearest may lie half a unit outside; such bounds are moved one floating-point number inwards.
    """
    room = per_image(eps, x)
    low, high = x - room, x + room
    exact = x.double()
    low = torch.where(exact - low.double() > room.double(), torch.nextafter(low, x), low)
    high = torch.where(high.double() - exact > room.double(), torch.nextafter(high, x), high)
    return (low.clamp(min=0), high.clamp(max=1)) if boxed else (low, high)


def into_ball(
    x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], norm: str
) -> Float[Tensor, "n c h w"]:
    """Remove what rounding left outside the l2 or l1 ball: `distances` of the result never exceeds `eps`.

    For images that are already in the ball up to rounding. They move towards `x`, so they stay in the box. They end so
    far inside that a sum in another order, in float64, does not exceed `eps` either.
    """
    inner = eps.double() * (1 - ORDER)
    for attempt in range(8):
        found = distances(x_adv, x)[norm]
        out = found > inner
        if not out.any():
            return x_adv
        shrink = (inner[out] / found[out]).to(x.dtype) * (1 - torch.finfo(x.dtype).eps * 4**attempt)
        x_adv = x_adv.clone()
        x_adv[out] = x[out] + (x_adv[out] - x[out]) * per_image(shrink, x)
    out = distances(x_adv, x)[norm] > inner
    return torch.where(per_image(out, x), x, x_adv)  # budgets near the smallest number: the image itself


def project_linf(delta: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation with every |delta_j| <= eps."""
    bound = per_image(eps, delta)
    return delta.clamp(-bound, bound)


def project_l2(delta: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation with ||delta||_2 <= eps: the factor is clamped to 1, never delta itself."""
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    factor = torch.where(length > eps, eps / length.clamp(min=torch.finfo(delta.dtype).tiny), torch.ones_like(eps))
    return delta * per_image(factor, delta)


def project_l1(delta: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation with ||delta||_1 <= eps: every |delta_j| loses the same threshold.

    Source: Duchi, Shalev-Shwartz, Singer, Chandra 2008, "Efficient projections onto the l1-ball", figure 1.
    """
    size = delta.abs().flatten(1)
    ordered = size.sort(dim=1, descending=True).values
    surplus = ordered.cumsum(1) - eps[:, None]
    rank = torch.arange(1, size.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    # the first is kept whatever rounding says: for eps = 0 it is equal to its own threshold
    kept = (ordered * rank > surplus).sum(1).clamp(min=1)
    threshold = (surplus.gather(1, kept[:, None] - 1)[:, 0] / kept).clamp(min=0)
    inside = size.sum(1) <= eps
    shrunk = delta.sign() * (size - threshold[:, None]).clamp(min=0).view_as(delta)
    return torch.where(per_image(inside, delta), delta, shrunk)


def project_box(delta: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation that leaves x + delta in [0, 1]."""
    return torch.minimum(torch.maximum(delta, -x), 1 - x)


def project_linf_box(
    delta: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation in the linf ball and the box: both are boxes, so one clamp after the other is exact."""
    return project_box(project_linf(delta, eps), x)


def _room(delta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """|delta_j|, and how far feature j may move in delta's direction inside the box; both (N, features)."""
    room = torch.where(delta > 0, 1 - x, x)
    return delta.abs().flatten(1), room.flatten(1)


def project_l2_box(
    delta: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation in the l2 ball and the box.

    The optimum is |delta_j| = min(s |delta_j|, u_j), u_j the room in the box, with one s <= 1 an image: s = 1 if that
    is in the ball, else the s that puts it on the sphere. Found without a sort: hold the features that s fills, solve
    for s with the others, repeat. s only grows and never passes the solution, so this ends after finitely many rounds.
    """
    size, room = _room(delta, x)
    eps2 = eps**2
    scale = torch.ones_like(eps)
    todo = torch.minimum(size, room).square().sum(1) > eps2
    full = torch.zeros_like(size, dtype=torch.bool)
    rows = todo.nonzero()[:, 0]
    a, u, e2, full = size[rows], room[rows], eps2[rows], full[rows]
    while len(rows):
        spent = torch.where(full, u, 0).square().sum(1)
        rest = torch.where(full, 0, a).square().sum(1)
        s = ((e2 - spent).clamp(min=0) / rest.clamp(min=torch.finfo(delta.dtype).tiny)).sqrt().clamp(max=1)
        scale[rows] = s
        now = full | (s[:, None] * a > u)
        more = (now != full).any(1)
        rows, a, u, e2, full = rows[more], a[more], u[more], e2[more], now[more]
    return (delta.sign().flatten(1) * torch.minimum(scale[:, None] * size, room)).view_as(delta)


def project_l1_box(
    delta: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation in the l1 ball and the box.

    The optimum is |delta_j| = min(max(|delta_j| - t, 0), u_j). Its sum falls piecewise linearly in t, with corners at
    |delta_j| and |delta_j| - u_j: sort them, find the piece in which the sum passes eps, solve it.
    Source: Croce and Hein 2021, "Mind the box", arXiv 2103.01208, proposition 2.1.
    """
    size, room = _room(delta, x)
    inside = torch.minimum(size, room).sum(1) <= eps
    corners, order = torch.cat([size - room, size], 1).sort(dim=1, descending=True)
    # going down in t, a feature starts to move at |delta_j| (slope +1) and is full at |delta_j| - u_j (slope -1)
    slope = torch.cat([-torch.ones_like(size), torch.ones_like(size)], 1).gather(1, order).cumsum(1)
    gaps = corners[:, :-1] - corners[:, 1:]
    total = torch.cat([torch.zeros_like(eps)[:, None], (slope[:, :-1] * gaps).cumsum(1)], 1)  # the sum at each corner
    piece = ((total <= eps[:, None]).sum(1) - 1).clamp(min=0)[:, None]
    left = (eps[:, None] - total.gather(1, piece)).clamp(min=0)
    threshold = corners.gather(1, piece) - left / slope.gather(1, piece).clamp(min=1)
    moved = torch.minimum((size - threshold.clamp(min=0)).clamp(min=0), room)
    moved = torch.where(inside[:, None], torch.minimum(size, room), moved)
    return (delta.sign().flatten(1) * moved).view_as(delta)


def project_l0_box(
    delta: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Nearest perturbation in the box with at most floor(eps) features: those whose loss would cost the most stay.

    Dropping feature j costs delta_j^2, keeping it only (delta_j - c_j)^2, c_j being delta_j cut to the box.
    """
    cut = project_box(delta, x).flatten(1)
    full = delta.flatten(1)
    order = (full.square() - (full - cut).square()).argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(full.shape[1], device=x.device).expand_as(order)
    kept = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, rank < eps.floor()[:, None])
    return torch.where(kept, cut, 0).view_as(delta)


def water_level(
    weight: Float[Tensor, "n d"], room: Float[Tensor, "n d"], need: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The smallest eps with sum_j |w_j| min(eps, u_j) = need: the exact linf distance of a linear model in a box.

    The left side is concave and piecewise linear in eps, with corners at the u_j (MATHEMATICS section 1, linf): the
    steps of Newton's method from 0 rise to the root and reach it after finitely many, without sorting the corners.

    Returns:
        (N,) in the weights' dtype; 0 where need <= 0, inf where even every feature at its limit is not enough.
    """
    size, limits, target = weight.abs().double(), room.double(), need.double()
    broken = target.isnan() | (size * limits).sum(1).isnan()
    found = torch.zeros_like(target)
    rows, level = torch.arange(len(target), device=target.device), found
    close = 1 + 4 * torch.finfo(target.dtype).eps
    for _ in range(size.shape[1] + 1):  # each step that is not the last one passes a corner
        # products with zeros and ones: on a CPU `where` takes ten times as long
        short = target - (size * torch.minimum(limits, level[:, None])).sum(1)
        slope = (size * (limits - level[:, None]).sign_().clamp_(min=0)).sum(1)
        step = torch.where(slope > 0, level + short / slope, torch.where(short > 0, torch.inf, level))
        higher = step > level * close
        level = torch.where(higher, step, level)
        found[rows] = level
        on = higher & level.isfinite()
        if not on.any():
            break
        if 4 * int(on.sum()) < 3 * len(on):  # a few rows take many steps
            rows, level, size, limits, target = rows[on], level[on], size[on], limits[on], target[on]
    found = torch.where(need <= 0, 0.0, found)
    return torch.where(broken, torch.inf, found).to(weight.dtype)


def shortest_prefix(
    gains: Float[Tensor, "n d"], need: Float[Tensor, " n"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, "n d"]]:
    """How many of the largest gains sum to more than `need`: the exact l0 distance of a linear model.

    Strictly more, since equality is a tie (MATHEMATICS section 1, l0).

    Returns:
        count: (N,) int64; 0 where need < 0, -1 where all gains together are not enough.
        order: (N, d) int64, the features by falling gain.
    """
    ordered, order = gains.double().sort(dim=1, descending=True)
    total = ordered.cumsum(1)
    count = (total <= need[:, None].double()).sum(1) + 1
    count = torch.where(need < 0, 0, count)
    return torch.where((count > gains.shape[1]) | need.isnan() | total[:, -1].isnan(), -1, count), order


DUAL = {"linf": "l1", "l2": "l2", "l1": "linf", "l0": "linf"}
"""A linear function f changes by at most size(delta) times the dual size of its slope; for l0 it stands in."""
PROJECT = {"linf": project_linf_box, "l2": project_l2_box, "l1": project_l1_box, "l0": project_l0_box}
"""The exact projection onto ball and box of each norm."""
