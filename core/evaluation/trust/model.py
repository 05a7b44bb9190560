"""Checks of the model itself, its answers and gradients. Each gives a measured value (None skips) and a sentence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from core.attacks.engine.engine import leaf_of, logits_of_leaf
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import margin, predicted, soft_margin
from core.attacks.engine.steps import random_point
from core.evaluation.trust.case import Case, relative
from core.evaluation.trust.report import Surface

Found = tuple[float | None, str]
FEW = 32
"""Images whose path is looked at point by point."""
PICTURES = 1 << 33
SIDE = 21
"""Points along each side of a loss surface."""
ANSWERS_VARY = "Not asked: two passes of the very same images differ."


def probabilities(case: Case) -> Found:
    """Rows in [0, 1] that sum to 1."""
    logits = case.clean
    inside = ((logits >= 0) & (logits <= 1)).all(1)
    share = case.share(inside & ((logits.sum(1) - 1).abs() < 1e-3))
    return share, f"{share:.0%} of the outputs lie in [0, 1] and sum to 1."


def randomness(case: Case) -> Found:
    """Whether two passes of the same batch differ."""
    return case.wobble, f"Two passes of the same images differ by {case.wobble:.2g} at most, relative to the logits."


def neighbours(case: Case) -> Found:
    """The same between a pass of all images and passes of two at a time, in reverse order."""
    if case.random:
        return None, ANSWERS_VARY
    rows = torch.arange(min(case.n, FEW), device=case.x.device).flip(0)
    alone = torch.cat([case.logits(case.x[pair]) for pair in rows.split(2)])
    apart = relative(alone, case.clean[rows])
    return apart, f"Logits in batches of 2 differ from those of the whole batch by {apart:.2g} at most."


def saturation(case: Case) -> Found:
    """The median log-odds of images read rightly: above 17, softmax is 1 in float32; above 88, its gradient is 0."""
    if not case.correct.any():
        return None, "No image is read rightly."
    logits, y = case.clean[case.correct], case.y[case.correct]
    odds = float(soft_margin(logits, y).median())
    vanished = float((logits.float().softmax(1) == F.one_hot(y, case.classes)).all(1).float().mean())
    return odds, (
        f"The median log-odds of the right class are {odds:.3g}; of {vanished:.0%} of the images the cross-entropy's "
        "gradient is exactly 0 in float32."
    )


def rejects(case: Case) -> Found:
    """The share of images that some change sends where no image belongs: a class of no label, NaN, or level logits."""
    names, labels = case.classes, case.claims.y.unique()
    unseen = torch.ones(names, dtype=torch.bool, device=case.y.device)
    unseen[labels] = False
    unseen[predicted(case.clean).clamp(min=0)] = False
    enough = len(case.claims.y) >= 10 * names and int(unseen.sum()) <= max(1, names // 10) and len(labels) > 1
    sent = torch.zeros_like(case.correct)
    nowhere, empty = torch.zeros_like(sent), torch.zeros_like(sent)
    points = [case.noise(0), case.single.x_adv, case.many.x_adv]
    points.append(case.streams.fork(PICTURES).uniform(0, 1, tuple(case.x.shape[1:]), case.x.dtype))
    for point in points:
        logits = case.logits(point)
        empty |= ~logits.isfinite().all(1) | (logits == logits[:, :1]).all(1)
        found = predicted(logits)
        nowhere |= (found >= 0) & unseen[found.clamp(min=0)]
    sent = empty | nowhere if enough else empty
    if not enough and not empty.any():
        return None, (
            f"{len(labels)} of {names} classes are labels of {len(case.claims.y)} images: too few to know a class that "
            "is none."
        )
    share = case.share(sent)
    return share, (
        f"Noise or an attack sends {case.share(nowhere & sent):.0%} of the images to a class that is nobody's label, "
        f"and {case.share(empty):.0%} to logits that are NaN, infinite or all equal."
    )


def continuity(case: Case) -> Found:
    """The share of images on whose way to noise the logits jump: the largest jump, halved ten times, stays."""
    if case.random:
        return None, ANSWERS_VARY
    x = case.x[:FEW]
    way = case.noise(0)[:FEW] - x
    start, width = torch.zeros(len(x), dtype=x.dtype, device=x.device), 1 / 16
    places = torch.linspace(0, 1, 17, dtype=x.dtype, device=x.device)
    logits = torch.stack([case.logits(x + place * way) for place in places])
    size = (logits[1:] - logits[:-1]).abs().amax(2).nan_to_num(0)
    first, where = size.max(0)
    start = places[where]
    left, right = (logits.gather(0, (where + k)[None, :, None].expand(-1, -1, case.classes))[0] for k in (0, 1))
    for _ in range(10):
        width /= 2
        middle = case.logits(x + per_image(start + width, x) * way)
        upper = (right - middle).abs().amax(1) > (middle - left).abs().amax(1)
        start = torch.where(upper, start + width, start)
        left, right = torch.where(upper[:, None], middle, left), torch.where(upper[:, None], right, middle)
    last = (right - left).abs().amax(1)
    jumps = (last > 0.05 * first) & (first > 1e-4 * case.clean.abs().max())
    share = float(jumps.float().mean())
    return share, (
        f"On the way to noise, the logits of {share:.0%} of {len(x)} images jump: a step a thousand times shorter "
        "changes them nearly as much."
    )


def gradients(case: Case) -> Found:
    """The share of images whose gradient of the log-odds is zero in every pixel, or NaN somewhere."""
    leaf = leaf_of(case.x)
    value = soft_margin(logits_of_leaf(case.model, leaf), case.y).sum()
    case.forwards += case.n
    case.backwards += case.n
    slope = None
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value, leaf, allow_unused=True)
    flat = torch.zeros_like(case.x).flatten(1) if slope is None else slope.flatten(1)
    broken, none = ~flat.isfinite().all(1), (flat == 0).all(1)
    share = case.share(broken | none)
    zeros = float((flat == 0).float().mean())
    return share, (
        f"The gradient is zero in every pixel of {case.share(none):.0%} and NaN in {case.share(broken):.0%} of the "
        f"images; {zeros:.0%} of all its entries are 0."
    )


def slope(case: Case) -> Found:
    """The share of images where a small step changes the log-odds by under half or over twice of what was told."""
    if case.random:
        return None, ANSWERS_VARY
    blocked = ((case.x <= 0) & (case.slope > 0)) | ((case.x >= 1) & (case.slope < 0))
    way = torch.where(blocked, 0, -case.slope)
    length = torch.linalg.vector_norm(way.flatten(1), dim=1)
    asked = length > 0
    if not asked.any():
        return None, "Not asked: there are no gradients."
    unit = way / per_image(length.clamp(min=torch.finfo(case.x.dtype).tiny), way)
    point = (case.x + 0.01 * unit).clamp(0, 1)
    told = ((point - case.x) * case.slope).flatten(1).sum(1)[asked]
    seen = (soft_margin(case.logits(point), case.y) - soft_margin(case.clean, case.y))[asked]
    ratio = (seen / told).nan_to_num(torch.inf)
    share = float(((ratio < 0.5) | (ratio > 2)).float().mean())
    return share, (
        f"A step of length 0.01 changes the log-odds by {float(ratio.median()):.2f} of what the gradient says "
        f"(median); of {share:.0%} of the images by less than half or more than twice of it."
    )


def cosine(case: Case) -> Found:
    """The median cosine between the gradients at an image and at a noisy one, both read rightly when unchanged."""
    if case.robust is not None and not case.robust.any():
        return None, "Not asked: nothing stands."
    if not case.correct.any():
        return None, "No image is read rightly."
    noisy = case.gradient(random_point(case.streams.fork(PICTURES), case.x, case.radius, case.norm))
    here, there = case.slope.flatten(1), noisy.flatten(1)
    asked = case.correct & (here != 0).any(1) & (there != 0).any(1)
    if not asked.any():
        return None, "Not asked: there are no gradients."
    value = F.cosine_similarity(here[asked], there[asked])
    middle = float(value.median())
    return middle, f"The median cosine of the gradients at an image and at a random point of its ball is {middle:.2f}."


ANSWERS: dict[str, Callable[[Case], Found]] = {
    "probabilities": probabilities,
    "randomness": randomness,
    "neighbours": neighbours,
    "saturation": saturation,
    "rejects": rejects,
    "continuity": continuity,
    "gradients": gradients,
    "slope": slope,
    "cosine": cosine,
}


def surfaces(case: Case) -> tuple[Surface, ...]:
    """Margins over the plane of a full step and a random one: of the first images that stand, else of the first."""
    stands = case.correct & ~case.inside
    order = torch.cat([(mask).nonzero()[:, 0] for mask in (stands, case.correct & ~stands, ~case.correct)])
    axis = torch.linspace(-1, 1, SIDE, dtype=case.x.dtype, device=case.x.device)
    steps, noises = case.stepped(case.slope) - case.x, case.noise(0) - case.x
    made = []
    for row in order[: case.effort.surfaces].tolist():
        across = axis[:, None, None, None, None] * noises[row] + axis[None, :, None, None, None] * steps[row]
        points = (case.x[row] + across.flatten(0, 1)).clamp(0, 1)
        value = margin(case.logits(points), case.y[row].expand(len(points))).nan_to_num(0).view(SIDE, SIDE)
        rounded = tuple(tuple(float(f"{v:.4g}") for v in line) for line in value.tolist())
        places = tuple(round(float(place), 4) for place in axis.tolist())
        made.append(Surface(int(case.index[row]), int(case.y[row]), places, rounded))
    return tuple(made)
