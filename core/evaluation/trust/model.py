"""Checks of the model itself, its outputs and gradients. Each returns a measured value (None skips) and a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from core.attacks.engine.bears import bears_of
from core.attacks.engine.engine import leaf_of, logits_of_leaf
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import margin, predicted, soft_margin
from core.attacks.engine.steps import random_point
from core.evaluation.trust.examination import Examination, relative
from core.evaluation.trust.report import Surface

Measured = tuple[float | None, str]
FEW = 32
"""Images whose path is looked at point by point."""
PICTURES = 1 << 33
SMALL_STEPS = PICTURES + 1
DIRECTIONS, LENGTHS = 4, (0.003, 0.03)
"""Small steps: how many, and how long each of them is (in l2)."""
CLEAR = 20
"""How many times what rounding may change the log-odds by they must change to be looked at."""
WORST = 2.0
"""The largest relative error: what is said is the opposite of what happens, or NaN."""
SHIFT = 0.05
"""Noise of a pixel before these steps, at most."""
SIDE = 21
"""Points along each side of a loss surface."""
OUTPUTS_VARY = "Skipped: two passes of the same images differ."


def coarse(exam: Examination) -> torch.dtype:
    """The coarsest type that the model computes in."""
    bears = bears_of(exam.model)
    return bears.inside or bears.precision or torch.float32


def rounding(exam: Examination, rows: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
    """What the rounding of the logits of these images may change their log-odds by, in float64."""
    return torch.finfo(coarse(exam)).eps * exam.clean[rows].double().abs().nan_to_num(0, 0, 0).amax(1)


def probabilities(exam: Examination) -> Measured:
    """Rows in [0, 1] that sum to 1."""
    logits = exam.clean
    inside = ((logits >= 0) & (logits <= 1)).all(1)
    share = exam.share(inside & ((logits.sum(1) - 1).abs() < 1e-3))
    return share, f"{share:.0%} of the outputs lie in [0, 1] and sum to 1."


def randomness(exam: Examination) -> Measured:
    """Whether two passes of the same batch differ."""
    return exam.wobble, f"Two passes of the same images differ by {exam.wobble:.2g} at most, relative to the logits."


def neighbours(exam: Examination) -> Measured:
    """The same between a pass of all images and passes of two at a time, in reverse order."""
    if exam.random:
        return None, OUTPUTS_VARY
    rows = torch.arange(min(exam.n, FEW), device=exam.x.device).flip(0)
    alone = torch.cat([exam.logits(exam.x[pair]) for pair in rows.split(2)])
    apart = relative(alone, exam.clean[rows])
    return apart, f"Logits in batches of 2 differ from those of the whole batch by {apart:.2g} at most."


def saturation(exam: Examination) -> Measured:
    """The median log-odds of correctly classified images; above 17 softmax is 1 in float32, above 88 it is flat."""
    if not exam.correct.any():
        return None, "Skipped: no image is correctly classified."
    logits, y = exam.clean[exam.correct], exam.y[exam.correct]
    odds = float(soft_margin(logits, y).median())
    vanished = float((logits.float().softmax(1) == F.one_hot(y, exam.classes)).all(1).float().mean())
    return odds, (
        f"The median log-odds of the true class are {odds:.3g}; for {vanished:.0%} of the images the cross-entropy's "
        "gradient is exactly 0 in float32."
    )


def rejects(exam: Examination) -> Measured:
    """The share of images that some change sends to a class that no image has, to NaN, or to equal logits."""
    names, labels = exam.classes, exam.claims.y.unique()
    unseen = torch.ones(names, dtype=torch.bool, device=exam.y.device)
    unseen[labels] = False
    unseen[predicted(exam.clean).clamp(min=0)] = False
    enough = len(exam.claims.y) >= 10 * names and int(unseen.sum()) <= max(1, names // 10) and len(labels) > 1
    sent = torch.zeros_like(exam.correct)
    nowhere, empty = torch.zeros_like(sent), torch.zeros_like(sent)
    points = [exam.noise(0), exam.single.x_adv, exam.many.x_adv]
    points.append(exam.streams.fork(PICTURES).uniform(0, 1, tuple(exam.x.shape[1:]), exam.x.dtype))
    for point in points:
        logits = exam.logits(point)
        empty |= ~logits.isfinite().all(1) | (logits == logits[:, :1]).all(1)
        found = predicted(logits)
        nowhere |= (found >= 0) & unseen[found.clamp(min=0)]
    sent = empty | nowhere if enough else empty
    if not enough and not empty.any():
        return None, (
            f"{len(labels)} of {names} classes are labels of {len(exam.claims.y)} images: too few to tell whether a "
            "class stands for rejection."
        )
    share = exam.share(sent)
    return share, (
        f"Noise or an attack sends {exam.share(nowhere & sent):.0%} of the images to a class that no image has, "
        f"and {exam.share(empty):.0%} to logits that are NaN, infinite or all equal."
    )


def continuity(exam: Examination) -> Measured:
    """The share of images whose logits jump on the way to noise: the step is halved ten times, the jump remains."""
    if exam.random:
        return None, OUTPUTS_VARY
    x = exam.x[:FEW]
    way = exam.noise(0)[:FEW] - x
    start, width = torch.zeros(len(x), dtype=x.dtype, device=x.device), 1 / 16
    places = torch.linspace(0, 1, 17, dtype=x.dtype, device=x.device)
    logits = torch.stack([exam.logits(x + place * way) for place in places])
    size = (logits[1:] - logits[:-1]).abs().amax(2).nan_to_num(0)
    first, where = size.max(0)
    start = places[where]
    left, right = (logits.gather(0, (where + k)[None, :, None].expand(-1, -1, exam.classes))[0] for k in (0, 1))
    for _ in range(10):
        width /= 2
        middle = exam.logits(x + per_image(start + width, x) * way)
        upper = (right - middle).abs().amax(1) > (middle - left).abs().amax(1)
        start = torch.where(upper, start + width, start)
        left, right = torch.where(upper[:, None], middle, left), torch.where(upper[:, None], right, middle)
    last = (right - left).abs().amax(1)
    blur = CLEAR * rounding(exam, torch.arange(len(x), device=x.device))  # half precision goes in steps
    jumps = (last > 0.05 * first) & (last > blur) & (first > 1e-4 * exam.clean.abs().max())
    share = float(jumps.float().mean())
    return share, (
        f"On the way to noise, the logits of {share:.0%} of {len(x)} images jump: a step a thousand times shorter "
        "changes them nearly as much."
    )


def gradients(exam: Examination) -> Measured:
    """The share of images whose gradient of the log-odds is NaN somewhere, or zero as far as rounding tells.

    That is one that says of a step through the whole box that it changes the log-odds by less than rounding does. Where
    an image is proven, it may be so.
    """
    leaf = leaf_of(exam.x)
    value = soft_margin(logits_of_leaf(exam.model, leaf), exam.y).sum()
    exam.forwards += exam.n
    exam.backwards += exam.n
    slope = None
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value, leaf, allow_unused=True)
    flat = torch.zeros_like(exam.x).flatten(1) if slope is None else slope.flatten(1)
    blur = rounding(exam, torch.arange(exam.n, device=exam.x.device))
    broken, none = ~flat.isfinite().all(1), (flat.double().abs().sum(1) <= blur) & ~exam.proven
    share = exam.share(broken | none)
    zeros = float((flat == 0).float().mean())
    but = ", proven ones aside" if exam.proven.any() else ""
    return share, (
        f"The gradient is zero, up to rounding, in every pixel of {exam.share(none):.0%} and NaN in "
        f"{exam.share(broken):.0%} of the images{but}; {zeros:.0%} of all its entries are 0."
    )


def slope(exam: Examination) -> Measured:
    """How far the effect of small random steps is from what the gradients say: the median relative error.

    Each image gets a little noise, so that no pixel is where a ReLU or a maximum has its kink (as dark pixels are), and
    then steps of every pixel up or down. What the gradients at both ends of a step say is compared with what it does.
    Of the lengths, the better one counts: in a short step few kinks are crossed, in a long one rounding is small.
    """
    if exam.random:
        return None, OUTPUTS_VARY
    rows = torch.arange(min(exam.n, FEW), device=exam.x.device)
    x, streams, shape = exam.x[rows], exam.streams.take(rows), tuple(exam.x.shape[1:])
    start = x + (1 - 2 * (x > 0.5).to(x.dtype)) * streams.fork(SMALL_STEPS).uniform(0, SHIFT, shape, x.dtype)
    start = start.to(coarse(exam)).to(x.dtype)
    before, here = exam.odds(start, rows)
    seen: list[list[Tensor]] = [[] for _ in LENGTHS]
    said: list[list[Tensor]] = [[] for _ in LENGTHS]
    for number in range(DIRECTIONS):
        signs = (streams.fork(SMALL_STEPS + 1 + number).uniform(0, 1, shape, x.dtype) < 0.5).to(x.dtype) * 2 - 1
        for at, length in enumerate(LENGTHS):
            step = signs * (length / math.sqrt(x[0].numel()))
            step = torch.where((start + step < 0) | (start + step > 1), -step, step)
            point = (start + step).to(coarse(exam)).to(x.dtype)
            after, there = exam.odds(point, rows)
            seen[at].append(after - before)
            said[at].append(((point - start).double() * (here.double() + there.double()) / 2).flatten(1).sum(1))
    does, says = (torch.stack([torch.stack(part) for part in parts]) for parts in (seen, said))  # lengths, steps, n
    size = torch.maximum(does.norm(dim=1), says.norm(dim=1)).nan_to_num(torch.inf)
    clear = size > CLEAR * rounding(exam, rows)
    error = torch.where(clear, (does - says).norm(dim=1) / size, WORST).nan_to_num(WORST).amin(0)
    moving = clear.any(0)
    if not moving.any():
        return None, "Skipped: small steps change the log-odds by no more than rounding does."
    middle = float(error[moving].median())
    return middle, (
        f"Small random steps change the log-odds by what the gradients say up to {middle:.1%} (median over "
        f"{int(moving.sum())} images)."
    )


def cosine(exam: Examination) -> Measured:
    """The median cosine of the gradients at an image and at a noisy one, over correctly classified images."""
    if exam.robust is not None and not exam.robust.any():
        return None, "Skipped: no image is robust."
    if not exam.correct.any():
        return None, "Skipped: no image is correctly classified."
    noisy = exam.gradient(random_point(exam.streams.fork(PICTURES), exam.x, exam.eps_each, exam.norm))
    here, there = exam.slope.flatten(1), noisy.flatten(1)
    counted = exam.correct & (here != 0).any(1) & (there != 0).any(1)
    if not counted.any():
        return None, "Skipped: there are no gradients."
    value = F.cosine_similarity(here[counted], there[counted])
    middle = float(value.median())
    return middle, f"The median cosine of the gradients at an image and at a random point of its ball is {middle:.2f}."


OUTPUTS: dict[str, Callable[[Examination], Measured]] = {
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


def surfaces(exam: Examination) -> tuple[Surface, ...]:
    """Margins over the plane of a full step and a random one, of the first images that are not fooled, if any."""
    robust = exam.correct & ~exam.inside
    order = torch.cat([(mask).nonzero()[:, 0] for mask in (robust, exam.correct & ~robust, ~exam.correct)])
    axis = torch.linspace(-1, 1, SIDE, dtype=exam.x.dtype, device=exam.x.device)
    steps, noises = exam.stepped(exam.slope) - exam.x, exam.noise(0) - exam.x
    made = []
    for row in order[: exam.effort.surfaces].tolist():
        across = axis[:, None, None, None, None] * noises[row] + axis[None, :, None, None, None] * steps[row]
        points = (exam.x[row] + across.flatten(0, 1)).clamp(0, 1)
        value = margin(exam.logits(points), exam.y[row].expand(len(points))).nan_to_num(0).view(SIDE, SIDE)
        rounded = tuple(tuple(float(f"{v:.4g}") for v in line) for line in value.tolist())
        places = tuple(round(float(place), 4) for place in axis.tolist())
        made.append(Surface(int(exam.index[row]), int(exam.y[row]), places, rounded))
    return tuple(made)
