"""One pattern for many images: glasses or a patch that fools on any of them, in random scenes.

Sources: Brown, Mané, Roy, Abadi, Gilmer 2017, arXiv 1712.09665 (the patch); Sharif et al. 2016, "Accessorize to a
crime", section 4.2 (universal glasses). Departures as in `physical`; mini-batches of images, each in scenes of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.adam import Adam
from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import fast_layout, frozen, logits_of_leaf, predict
from core.attacks.engine.losses import Goal
from core.attacks.engine.masks import unmasked
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import cosine
from core.attacks.engine.streams import Streams, default_streams
from core.attacks.physical.physical import PHYSICAL_BATCH, look
from core.attacks.physical.scenes import Scene
from core.progress import Progress


@dataclass(frozen=True)
class Pattern:
    """What `universal_pattern` makes.

    Attributes:
        pattern: (C, H, W) in [0, 1]; grey (0.5) outside the model's mask.
        forwards: (N,) int64 forward passes per image.
        backwards: (N,) int64 backward passes likewise.
        loss: (epochs,) the mean loss over the steps of each epoch.
    """

    pattern: Tensor
    forwards: Tensor
    backwards: Tensor
    loss: Tensor


@attack
def universal_pattern(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    scene: Scene,
    epochs: int = 10,
    minibatch: int = 64,
    scenes: int = 1,
    lr: float = 0.1,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    on_progress: Progress | None = None,
) -> Pattern:
    """Find one pattern that lowers the images' mean loss, on the model's mask (`masks.Masked`; else the whole image).

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1], images to make it from.
        y: (N,) int64 true classes.
        scene: what varies.
        epochs: times that each image is used, at least 1.
        minibatch: images per step, at least 1.
        scenes: scenes in which each image is rendered in a step, at least 1.
        lr: Adam's first learning rate; falls by a cosine to a tenth.
        y_target: (N,) int64; given, the images are driven to these classes.
        streams: random numbers per image (order and scenes); default seed 0 and the positions in `x`.
        on_progress: called after each step with steps done, all steps, and the step's `loss`.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(epochs=epochs, minibatch=minibatch, scenes=scenes)
    check_positive(lr=lr)
    check(model, x, y, y_target=y_target)
    streams, goal = default_streams(streams, x), Goal.of(y, y_target)
    net, mask = unmasked(model, x)
    minibatch = min(minibatch, len(x))
    steps = -(-len(x) // minibatch)
    rates = cosine(lr, lr / 10, epochs * steps)
    losses = torch.zeros(epochs, dtype=x.dtype, device=x.device)
    with frozen(model):
        pattern = torch.full_like(x[0], 0.5).requires_grad_()
        adam = Adam.start([pattern], lr)
        for epoch in range(epochs):
            order = streams.fork(epoch).uniform(0, 1, ()).argsort(stable=True)
            for step, rows in enumerate(order.split(minibatch)):
                many = rows.repeat_interleave(scenes)
                draw = torch.arange(scenes, device=x.device).repeat(len(rows)) + epoch * scenes
                seen = scene.seen(pattern.expand(len(many), -1, -1, -1), mask, x[many], streams.take(many).fork(draw))
                logits = logits_of_leaf(net, fast_layout(seen))
                loss = F.softplus(goal.take(many).loss(logits, "ce")).mean()
                adam.lr = rates[epoch * steps + step]
                adam.step([pattern], loss)
                with torch.no_grad():
                    pattern.clamp_(0, 1)
                losses[epoch] += loss.detach() * len(rows) / len(x)
                if on_progress:
                    on_progress(epoch * steps + step + 1, epochs * steps, loss=loss.item())
    passes = torch.full_like(y, epochs * scenes)
    return Pattern(pattern.detach(), passes, passes.clone(), losses)


@attack
def wear(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    pattern: Float[Tensor, "c h w"],
    *,
    scene: Scene,
    fresh: int = 64,
    least: float = 0.5,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = PHYSICAL_BATCH,
) -> AttackResult:
    """Put one pattern on these images and measure it, still and in new scenes; give it images it was not made from.

    Success and `trace` are as in `physical`, but images that are misclassified without the pattern have it too.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(fresh=fresh, batch=batch)
    if not 0 < least <= 1:
        raise ValueError(f"least: expected a share above 0 and at most 1, got {least}")
    check(model, x, y, y_target=y_target)
    if pattern.shape != x.shape[1:]:
        raise ValueError(f"pattern: expected shape {tuple(x.shape[1:])}, as the images, got {tuple(pattern.shape)}")
    streams, goal = default_streams(streams, x), Goal.of(y, y_target)
    net, mask = unmasked(model, x)
    with frozen(model):
        worn = pattern.expand_as(x)
        x_adv = torch.where(mask, worn, x)
        share, views, logits = look(net, worn, mask, x, goal, scene, streams, fresh, batch)
        claimed = goal.reached(predict(net, x_adv, batch)) & (share >= least)
        trace = {"share": share, "views": views, "view_logits": logits}
        spent = torch.full_like(y, fresh + 1)
        return finish(net, x, x_adv, goal, claimed, spent, torch.zeros_like(y), trace, batch)
