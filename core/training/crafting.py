"""Adversarial examples for a training batch: gradient steps, without counts, verdicts or an active set.

An attack inside training wants the highest loss of every image at the least cost; `core.attacks` wants the first image
that fools, verified. They share the losses and the steps. Images are made in eval mode (but for `fgsm`'s mode
"train"), so that running statistics and dropout see the training batches only; the weights' gradients are never
touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.engine.engine import logits_of_leaf
from core.attacks.engine.geometry import norm_of, per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.smallest import cosine, linear_distance
from core.attacks.generator.generator_strong import GROWTH, move
from core.kernels.sequence import Sequence

Aim = Int[Tensor, " b"] | Float[Tensor, "b k"]
"""What adversarial examples move away from: their classes, or probabilities of all classes."""
FIRST_STEP, LAST_STEP = 0.5, 0.1
"""Steps of a short generator attack, as shares of the distance: the first one's and the last one's."""


@contextmanager
def evaluating(model: nn.Module, *, train: bool = False) -> Iterator[None]:
    """Eval mode inside (`train`: train mode), no gradients for the weights; afterwards both are as they were."""
    before = model.training
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train(train)
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.train(before)
        for parameter in learning:
            parameter.requires_grad_(True)


def ascent_sign(model: nn.Module, point: Tensor, aim: Aim, sequence: Sequence | None = None) -> Tensor:
    """Sign of the cross-entropy's gradient with respect to the images, by one pass forward and one back.

    `sequence`: the same model, as it is at its first step.
    """
    if sequence is not None:
        return sequence.gradient(point, lambda logits: slope(logits, aim)).sign()
    leaf = point.detach().requires_grad_()
    logits = logits_of_leaf(model, leaf)
    (gradient,) = torch.autograd.grad(logits, leaf, slope(logits, aim))
    return gradient.sign()


def slope(logits: Float[Tensor, "b k"], aim: Aim) -> Float[Tensor, "b k"]:
    """Gradient of the cross-entropy, summed over the batch, with respect to the logits.

    Written out, because autograd takes longer. For probabilities it is the divergence's gradient too.
    """
    found = logits.detach().float().softmax(1)
    return (found - (F.one_hot(aim, found.shape[1]) if aim.ndim == 1 else aim)).to(logits.dtype)


def ball_bounds(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Lowest and highest image of the linf ball in the box, up to rounding, which does not matter while training."""
    return (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)


def fgsm_images(
    model: nn.Module, x: Float[Tensor, "b c h w"], y: Int[Tensor, " b"], eps: float, start: str, mode: str = "eval"
) -> Float[Tensor, "b c h w"]:
    """One step. Args as in `specs.FgsmRecipe`: from the image; from a point of the ball, 1.25 eps; or N-FGSM.

    In the mode "train", dropout is drawn and batch normalisation takes the batch's own statistics, as while learning.

    N-FGSM (arXiv 2202.01181, algorithm 1): noise within 2 eps, a step of eps, no projection around `x`.
    """
    if start == "image":
        point, length = x, eps
    else:
        reach = 2 * eps if start == "noise" else eps
        point = (x + reach * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        length = eps if start == "noise" else 1.25 * eps
    train = mode == "train"
    with evaluating(model, train=train):
        fast = None if train else Sequence.of(model, x.device.type)
        x_adv = point + length * ascent_sign(model, point, y, fast)
    return x_adv.clamp(0, 1) if start == "noise" else x_adv.clamp(*ball_bounds(x, eps))


def pgd_images(
    model: nn.Module,
    x: Float[Tensor, "b c h w"],
    aim: Aim,
    eps: float,
    *,
    steps: int,
    relative_step: float,
    start: Tensor | None = None,
) -> Float[Tensor, "b c h w"]:
    """Several steps of `relative_step` times eps, from `start` or from a random point of the ball."""
    point = x + eps * (2 * torch.rand_like(x) - 1) if start is None else start
    point = point.clamp(0, 1)
    low, high = ball_bounds(x, eps)
    with evaluating(model):
        sequence = Sequence.of(model, x.device.type)
        for _ in range(steps):
            sign = ascent_sign(model, point, aim, sequence)
            point = point.detach().add(sign, alpha=relative_step * eps).clamp_(low, high)
    return point


def generator_images(
    logits_of: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b c h w"],
    y: Int[Tensor, " b"],
    cap: float,
    *,
    rounds: int,
) -> Float[Tensor, "b c h w"]:
    """The generator attack in few rounds, each image towards a wrong class drawn at random, within `cap` in l2.

    The alternation of `attacks.generator.generator_strong` in its last rounds: a step towards the image where it is
    classified as the target, towards the class where it is not. Nothing is kept or bisected. The attack knows no
    budget, and an image that is changed far enough is the target to human eyes too. So after each step whatever lies
    further away than `cap` comes back along the straight line, x + cap / distance (point - x), and the true label stays
    right. Nearer boundaries are met at their own distance, as in max-margin training (Ding et al. 2020, arXiv
    1812.02637).

    Args:
        logits_of: a network that computes what it does in eval mode; no gradient of its weights is made.
        x: (B, C, H, W) in [0, 1].
        y: (B,) true classes.
        cap: the largest l2 distance, at least 0.
        rounds: steps, at least 1.
    """
    point, nearest = x, torch.full((len(x),), torch.inf, device=x.device)
    for k, length in enumerate(cosine(FIRST_STEP, LAST_STEP, rounds)):
        leaf = point.detach().requires_grad_()
        logits = logits_of(leaf).float()
        if k == 0:
            goal = Goal((y + torch.randint_like(y, 1, logits.shape[1])) % logits.shape[1], targeted=True)
        margin = goal.margin(logits)
        (gradient,) = torch.autograd.grad(margin.sum(), leaf)
        fooled = goal.reached(logits.detach())
        if k == 0:
            scale = linear_distance(margin.detach(), gradient).clamp(max=cap)
        else:
            nearest = torch.where(fooled, norm_of(point - x, "l2").minimum(nearest), nearest)
            scale = torch.where(nearest < torch.inf, nearest, scale * GROWTH)
        delta = move(point, x, gradient, fooled, scale * length) - x
        point = x + delta * per_image(cap / norm_of(delta, "l2").clamp(min=max(cap, 1e-12)), x)
    return point
