"""What is measured after each epoch beside plain accuracy, and which epoch is the best.

Catastrophic overfitting (Wong, Rice, Kolter 2020, arXiv 2001.03994): a network becomes robust
against one step, and no longer against many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from core.attacks.engine.losses import predicted
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.fgsm import fgsm
from core.attacks.fixed_budget.pgd import pgd
from core.certification.proof import proven
from core.data.sets import Split, to_float
from core.epsilon import same
from core.networks.catalogue import logits_of

Row = Mapping[str, float]
WATCHED = 512
"""Validation images on which the robust accuracy is measured after each epoch, by PGD of `WATCH_STEPS` steps."""
WATCH_STEPS = 10
FALL, SHARE = 0.2, 0.5
"""Catastrophic overfitting: PGD's accuracy falls by `FALL` below its best, or below this share of one step's."""
LAST: tuple[float, ...] = (-1.0,)
"""The rank of an epoch that counts only where there is no other."""


def watch(model: nn.Module, validation: Split, eps: float, *, seed: int, certifies: bool) -> dict[str, float]:
    """`robust_accuracy` under many steps and `fgsm_accuracy` under one, on the same images every epoch, at `eps`.

    With `certifies` also `certified_accuracy`, the proven share of the whole split.
    """
    part = Split(*(values[:WATCHED] for values in (validation.x, validation.y, validation.index)))
    x, streams = to_float(part.x), Streams.of(seed, torch.arange(len(part), device=part.y.device))
    many = pgd(model, x, part.y, eps=eps, steps=WATCH_STEPS, relative_step=0.25, streams=streams)
    one = fgsm(model, x, part.y, eps=eps)
    sure = {}
    if certifies:
        held = proven(model, to_float(validation.x), validation.y, eps)
        sure = {"certified_accuracy": held.float().mean().item()}
    return sure | {
        "eps": eps,
        "robust_accuracy": 1 - many.success.float().mean().item(),
        "fgsm_accuracy": 1 - one.success.float().mean().item(),
    }


def under_noise(model: nn.Module, validation: Split, sigma: float, *, seed: int) -> dict[str, float]:
    """`noise_accuracy`, each image under one draw of Gaussian noise: the same images and draws every epoch."""
    x, y = to_float(validation.x[:WATCHED]), validation.y[:WATCHED]
    noise = Streams.of(seed, torch.arange(len(y), device=y.device)).normal(tuple(x.shape[1:]))
    right = predicted(logits_of(model, x + sigma * noise)) == y
    return {"sigma": sigma, "noise_accuracy": right.float().mean().item()}


def overfitted(row: Row, history: Sequence[Row]) -> bool:
    """Whether a watched epoch has overfitted to a single step; `history` has the epochs before it."""
    robust = row["robust_accuracy"]
    before = [past["robust_accuracy"] for past in history if same(past["eps"], row["eps"])]
    return robust < max(before, default=0.0) - FALL or robust < SHARE * row["fgsm_accuracy"]


def ranked(row: Row, selected_by: str) -> tuple[float, ...]:
    """By proven accuracy, else by `BatchLoss.selected_by`, else plain; of equals by plain accuracy, then the loss."""
    plain = row["validation_accuracy"]
    return row.get("certified_accuracy", row.get(selected_by, plain)), plain, -row["validation_loss"]
