"""Checks that compare attacks, and of the figure itself. Each gives a measured value (None skips) and a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.epsilon import reaches
from core.evaluation.trust.examination import Examination
from core.evaluation.trust.model import Measured

ROUNDING = 1e-6
"""Distances may exceed eps by so much, and by so much of eps: images may come from other tools, whose balls are
those of float32. The evaluation itself follows `core.epsilon`."""
NOTHING = "Skipped: no evaluation was given."


def single_step(exam: Examination) -> Measured:
    """Accuracy after many steps minus that after one."""
    one, many = exam.accuracy_after(exam.single.fooled), exam.accuracy_after(exam.many.fooled)
    return many - one, (f"Accuracy is {one:.1%} under one step and {many:.1%} under {exam.effort.steps} steps.")


def losses(exam: Examination) -> Measured:
    """The gap between log-odds and margin as losses; with an evaluation, by how much it is above the lower one."""
    odds, margins = exam.accuracy_after(exam.many.fooled), exam.accuracy_after(exam.margins.fooled)
    said = (
        f"Accuracy under {exam.effort.steps} steps is {odds:.1%} with the log-odds as the loss and {margins:.1%} with "
        "the margin"
    )
    if exam.robust is None:
        return abs(odds - margins), f"{said}."
    figure = exam.share(exam.robust)
    return max(0.0, figure - min(odds, margins)), f"{said}; the evaluation reports {figure:.1%}."


def converged(exam: Examination) -> Measured:
    """The share of images that the evaluation counts as robust and twice the steps fool."""
    if exam.robust is None:
        return None, NOTHING
    gain = exam.share(exam.longer.fooled & exam.robust)
    return gain, f"{2 * exam.effort.steps} steps fool {gain:.1%} of the images, which are counted as robust."


def restarts(exam: Examination) -> Measured:
    """The share of images that the evaluation counts as robust and more starts fool."""
    if exam.robust is None:
        return None, NOTHING
    gain = exam.share(exam.again.fooled & exam.robust)
    starts = exam.effort.restarts
    return gain, (
        f"{starts} new starts of {exam.effort.steps} steps fool {gain:.1%} of the images, which are counted as robust."
    )


def black_box(exam: Examination) -> Measured:
    """The share of images that random search fools and no attack with gradients does."""
    if exam.queries is None:
        return None, "Skipped: there is no random search in l1."
    share = exam.share(exam.queries.fooled)
    both = " and the evaluation" if exam.norm == "l0" and exam.robust is not None else ""
    return share, (
        f"Accuracy under attacks with gradients{both} is {exam.share(exam.left):.1%}; {exam.effort.queries} queries of "
        f"random search fool {share:.1%} more."
    )


def noise(exam: Examination) -> Measured:
    """The share of images that noise of the ball's size fools and no attack with gradients does."""
    share = exam.share(exam.drawn)
    return share, f"{exam.effort.draws} draws of noise fool {share:.1%} of the images, which gradients do not fool."


def transfer(exam: Examination) -> Measured:
    """The share of images that a step on a linear model fools and no attack with gradients does."""
    share = exam.share(exam.linear)
    return (
        share,
        f"A full step on a linear model of the images fools {share:.1%} of them, which gradients do not fool.",
    )


def unbounded(exam: Examination) -> Measured:
    """Accuracy in the whole box, without the images that are proven in the ball."""
    left = exam.accuracy_after(exam.unbounded.fooled | exam.proven)
    but = ", without the images that are proven in the ball," if exam.proven.any() else ""
    return left, f"If every pixel may take any value, accuracy{but} under {exam.effort.steps} steps is {left:.1%}."


def monotone(exam: Examination) -> Measured:
    """The largest rise of accuracy from one eps to the next larger one."""
    steps = list(itertools.pairwise(exam.ladder()))
    (small, before), (large, after) = max(steps, key=lambda pair: pair[1][1] - pair[0][1])
    rise = max(0.0, after - before)
    said = ", ".join(f"{accuracy:.1%} at {eps:.3g}" for eps, accuracy in exam.ladder())
    how = f"it rises from eps {small:.3g} to {large:.3g}" if rise else "it never rises"
    return rise, f"Accuracy is {said}: {how}."


def missed(exam: Examination) -> Measured:
    """The share of images that any of the checks fools inside the ball and that the evaluation counts as robust."""
    if exam.robust is None:
        return None, NOTHING
    share = exam.share(exam.inside & exam.robust)
    return share, (
        f"The evaluation counts {exam.share(exam.robust):.1%} of these images as robust; the attacks of the checks "
        f"fool {share:.1%} although they are counted so."
    )


def left_to_find(exam: Examination) -> Measured:
    """What longer searches would fool: the evaluation itself estimates it, from what its own found."""
    return None, "Skipped: it is estimated only by an evaluation that is not of AutoAttack's strength itself."


def images(exam: Examination) -> Measured:
    """The share of the evaluation's images that are outside ball or box, or are said to fool the model and do not."""
    x, x_adv, robust = exam.claims.x, exam.claims.x_adv, exam.claims.robust
    if x_adv is None:
        return None, "Skipped: no images were given."
    size = distances(x_adv, x)[exam.norm]
    far = ~(size <= exam.eps * (1 + ROUNDING) + ROUNDING)
    out = ~((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
    wrong = torch.zeros_like(far)
    if robust is not None and not exam.random:
        fallen = (~robust[: exam.n] & exam.correct).nonzero()[:, 0]
        if len(fallen):  # in another order than they were made in
            read = predicted(exam.logits(x_adv[fallen].flip(0))).flip(0)
            wrong[fallen] = read == exam.y[fallen]
    share = float((far | out | wrong).float().mean())
    return share, (
        f"Of {len(x)} images, {int(far.sum())} are farther than eps (the farthest {float(size.max()):.6g}) and "
        f"{int(out.sum())} leave [0, 1]; of the first {exam.n}, {int(wrong.sum())} are said to fool and do not."
    )


def proven(exam: Examination) -> Measured:
    """The share of images whose proof is contradicted by an adversarial example."""
    x, x_adv, robust, lower = exam.claims.x, exam.claims.x_adv, exam.claims.robust, exam.claims.lower
    if lower is None or not bool((lower > 0).any()):
        return None, "Skipped: nothing is proven."
    refuted = torch.zeros_like(lower, dtype=torch.bool)
    if robust is not None:
        refuted |= ~robust & reaches(lower, exam.eps)
        if x_adv is not None:
            found = distances(x_adv, x)[exam.norm]
            refuted |= ~robust & (found > 0) & (lower.double() > found * (1 + ROUNDING))
    refuted[: exam.n] |= exam.inside & reaches(lower[: exam.n], exam.eps)
    count, share = int(refuted.sum()), float(refuted.float().mean())
    return (
        share,
        f"{int((lower > 0).sum())} images have a proven radius; adversarial examples refute {count} of the proofs.",
    )


ATTACKS: dict[str, Callable[[Examination], Measured]] = {
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
    "left_to_find": left_to_find,
    "images": images,
    "proven": proven,
}
