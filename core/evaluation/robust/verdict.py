"""The verdicts of an evaluation, made again, and what is to be said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from core.attacks.engine.engine import predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.epsilon import within
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.state import CascadeState, Subject

MIN_SHARE, MIN_CHANGED = 0.01, 2
"""From this share of the images on, and from so many, verdicts that change with the batch make an accuracy unusable."""


def verdict(given: Subject, state: CascadeState, safe: Tensor, plan_names: list[str]) -> Evaluation:
    """Every verdict is made again: images reversed, in batches of another size, ball and box looked at."""
    x, y, eps, norm = given.x, given.y, given.eps, given.norm
    misclassified = state.fooled & (state.found < 0)  # at first sight: it was never attacked, so it is not robust now
    clean = (predicted(predict(given.model, x.flip(0), 160)).flip(0) == y) & ~misclassified
    after = predicted(predict(given.model, state.x_adv.flip(0), 160)).flip(0)
    size = distances(state.x_adv, x)[norm].double()
    in_box = ((state.x_adv >= 0) & (state.x_adv <= 1)).flatten(1).all(1)
    outside = ~(within(size, float(eps)) & in_box)
    if outside.any():
        raise RuntimeError(
            f"An attack left the ball or [0, 1] for {int(outside.sum())} of {len(x)} images (farthest: "
            f"{size.max().item():.9g} for {eps:g} in {norm}). "
            "This is a bug of Adversarial Lab; no accuracy is reported."
        )
    fooled = (after != y) | (state.fooled & ~misclassified)
    robust = clean & ~fooled
    names = np.array([*plan_names, "clean image", ""])
    code = torch.where(fooled, state.found, len(plan_names) + 1)
    code = torch.where(fooled & (state.found < 0), len(plan_names), code)
    code = torch.where(~clean, len(plan_names), code)
    upper = torch.where(fooled, size, torch.inf)
    return Evaluation(
        clean=clean,
        robust=robust,
        x_adv=state.x_adv,
        lower=(safe & clean).double() * float(eps),
        upper=torch.where(clean, upper, 0.0),
        found_by=names[code.cpu().numpy()],
        forwards=state.forwards + 2,
        backwards=state.backwards,
        norm=norm,
        eps=float(eps),
        effort="",
        seed=given.seed,
        changed=int((state.fooled != ((after != y) | ~clean)).sum()),
        undefined=int((fooled & (after < 0)).sum()),
    )


def remarked(made: Evaluation, neighbours: bool) -> Evaluation:
    """The evaluation with what its counts say of it.

    Args:
        made: of all images.
        neighbours: whether the model gives an image the same logits beside others as alone.
    """
    notes, warning = [], ""
    if made.changed:
        notes.append(f"{made.changed} of {made.n} verdicts changed with the batch layout; the worse verdict counts.")
    if made.changed >= max(MIN_CHANGED, MIN_SHARE * made.n) or not neighbours:
        warning = (
            f"The model's outputs depend on the other images of the batch (verdicts that changed in another batch: "
            f"{made.changed} of {made.n}). Only an evaluation with one image per batch would count."
        )
    if made.undefined:
        notes.append(
            f"For {made.undefined} of {made.n} images an attack found a point where the model returns NaN. It predicts "
            "no class there, which counts as misclassified."
        )
    return replace(made, notes=tuple(notes), warning=warning)
