"""Checks that compare attacks, and of the figure itself. Each gives a measured value (None skips) and a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.epsilon import reaches
from core.evaluation.trust.case import Case
from core.evaluation.trust.model import Found

ROUNDING = 1e-6
"""Distances may exceed eps by so much, and by so much of eps: images may come from other tools, whose balls are
those of float32; the evaluation here keeps to `core.epsilon`."""
NOTHING = "Not asked: no figure of an evaluation was given."


def single_step(case: Case) -> Found:
    """Accuracy after many steps minus that after one."""
    one, many = case.standing(case.single.fooled), case.standing(case.many.fooled)
    return many - one, f"One step leaves {one:.1%}, {case.effort.steps} steps leave {many:.1%}."


def losses(case: Case) -> Found:
    """The gap between the log-odds and the margin as losses; of a figure, by how much it is above the lower one."""
    odds, margins = case.standing(case.many.fooled), case.standing(case.margins.fooled)
    told = f"{case.effort.steps} steps leave {odds:.1%} by log-odds and {margins:.1%} by the margin"
    if case.robust is None:
        return abs(odds - margins), f"{told}."
    figure = case.share(case.robust)
    return max(0.0, figure - min(odds, margins)), f"{told}; the figure is {figure:.1%}."


def converged(case: Case) -> Found:
    """What twice the steps take of the figure."""
    if case.robust is None:
        return None, NOTHING
    gain = case.share(case.longer.fooled & case.robust)
    return gain, f"{2 * case.effort.steps} steps take {gain:.1%} of the images from the figure."


def restarts(case: Case) -> Found:
    """What more starts take of the figure."""
    if case.robust is None:
        return None, NOTHING
    gain = case.share(case.again.fooled & case.robust)
    starts = case.effort.restarts
    return gain, f"{starts} new starts of {case.effort.steps} steps take {gain:.1%} of the images from the figure."


def black_box(case: Case) -> Found:
    """The share of images that random search fools and no attack with gradients does."""
    if case.queries is None:
        return None, "Not asked: there is no random search in l1."
    share = case.share(case.queries.fooled)
    both = " and the evaluation" if case.norm == "l0" and case.robust is not None else ""
    return share, (
        f"Gradients{both} leave {case.share(case.left):.1%}; {case.effort.queries} queries of random search fool "
        f"{share:.1%} more."
    )


def noise(case: Case) -> Found:
    """The share of images that noise of the ball's size fools and no attack with gradients does."""
    share = case.share(case.drawn)
    return share, f"{case.effort.draws} draws of noise fool {share:.1%} of the images, which gradients leave."


def transfer(case: Case) -> Found:
    """The share of images that a step on a linear model fools and no attack with gradients does."""
    share = case.share(case.linear)
    return (
        share,
        f"A full step on a linear model of the images fools {share:.1%} of them, which gradients leave.",
    )


def unbounded(case: Case) -> Found:
    """Accuracy in the whole box."""
    left = case.standing(case.unbounded.fooled)
    return left, f"Where every pixel may be anything, {case.effort.steps} steps leave {left:.1%}."


def monotone(case: Case) -> Found:
    """The largest rise of accuracy from one size of the ball to the next."""
    steps = list(itertools.pairwise(case.ladder()))
    (small, before), (large, after) = max(steps, key=lambda pair: pair[1][1] - pair[0][1])
    rise = max(0.0, after - before)
    told = ", ".join(f"{accuracy:.1%} at {eps:.3g}" for eps, accuracy in case.ladder())
    how = f"it rises from eps {small:.3g} to {large:.3g}" if rise else "it never rises"
    return rise, f"{told}: {how}."


def missed(case: Case) -> Found:
    """What anything of the report fools inside the ball although the evaluation says that it stands."""
    if case.robust is None:
        return None, NOTHING
    share = case.share(case.inside & case.robust)
    return share, (
        f"The figure is {case.share(case.robust):.1%} of these images; the attacks of this report fool {share:.1%} "
        "that it counts as standing."
    )


def images(case: Case) -> Found:
    """The share of images of the evaluation that leave ball or box, or are said to fool and do not."""
    x, x_adv, robust = case.claims.x, case.claims.x_adv, case.claims.robust
    if x_adv is None:
        return None, "Not asked: no images were given."
    size = distances(x_adv, x)[case.norm]
    far = ~(size <= case.eps * (1 + ROUNDING) + ROUNDING)
    out = ~((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
    wrong = torch.zeros_like(far)
    if robust is not None and not case.random:
        fallen = (~robust[: case.n] & case.correct).nonzero()[:, 0]
        if len(fallen):  # in another order than they were made in
            read = predicted(case.logits(x_adv[fallen].flip(0))).flip(0)
            wrong[fallen] = read == case.y[fallen]
    share = float((far | out | wrong).float().mean())
    return share, (
        f"Of {len(x)} images {int(far.sum())} are farther than eps (the farthest {float(size.max()):.6g}) and "
        f"{int(out.sum())} leave [0, 1]; of the first {case.n}, {int(wrong.sum())} are said to fool and do not."
    )


def proven(case: Case) -> Found:
    """The share of images with a proof that an adversarial image belies."""
    x, x_adv, robust, lower = case.claims.x, case.claims.x_adv, case.claims.robust, case.claims.lower
    if lower is None or not bool((lower > 0).any()):
        return None, "Not asked: nothing is proven."
    belied = torch.zeros_like(lower, dtype=torch.bool)
    if robust is not None:
        belied |= ~robust & reaches(lower, case.eps)
        if x_adv is not None:
            found = distances(x_adv, x)[case.norm]
            belied |= ~robust & (found > 0) & (lower.double() > found * (1 + ROUNDING))
    belied[: case.n] |= case.inside & reaches(lower[: case.n], case.eps)
    count, share = int(belied.sum()), float(belied.float().mean())
    return share, f"{int((lower > 0).sum())} images have a proven radius; adversarial images belie {count} of them."


ATTACKS: dict[str, Callable[[Case], Found]] = {
    "single_step": single_step,
    "losses": losses,
    "converged": converged,
    "restarts": restarts,
    "black_box": black_box,
    "noise": noise,
    "transfer": transfer,
    "unbounded": unbounded,
    "monotone": monotone,
    "missed": missed,
    "images": images,
    "proven": proven,
}
