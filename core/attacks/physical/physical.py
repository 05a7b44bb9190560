"""Glasses and patches: a pattern that fools on an object in random scenes, by averaging gradients over them.

Sources: Athalye, Engstrom, Ilyas, Kwok 2018, arXiv 1707.07397 (expectation over transformation); Sharif, Bhagavatula,
Bauer, Reiter 2016, "Accessorize to a crime" (eyeglass frames, smoothness); Brown et al. 2017, arXiv 1712.09665
(patches). Departures: there is no ball, the mask is the only limit; Adam and not plain descent; the loss is a softplus
of the log-odds, which is the cross-entropy of "fooled"; no non-printability score, which needs the colours of a given
printer; scenes are warped by bilinear sampling and have no perspective.

A pattern that was made on the still image alone often fails as soon as the object moves by a pixel; averaging over a
few scenes per step avoids this (measured in docs/MEASUREMENTS.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.adam import adam_move
from core.attacks.engine.checks import check, check_budget, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import fast_layout, frozen, input_gradient, logits_of_leaf, predict
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.masks import unmasked
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import cosine
from core.attacks.engine.streams import Streams, default_streams
from core.attacks.physical.scenes import Scene
from core.progress import Progress

PHYSICAL_BATCH = 64
"""Images attacked at once; each is rendered in several scenes."""
SETTLED = 64
"""An image is finished when this many scenes in a row have all fooled."""
SHOWN = 6
"""New scenes kept per image, to be shown."""
FRESH = 0x5EED
"""Fork of the streams that new scenes are drawn from; the steps use the numbers 0, 1, ..."""


@attack
def physical(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    shift: float = 2.0,
    angle: float = 0.0,
    scale: float = 0.0,
    brightness: float = 0.3,
    noise: float = 0.1,
    fresh: int = 64,
    least: float = 0.5,
    scenes: int = 4,
    steps: int = 100,
    lr: float = 0.2,
    smooth: float = 0.0,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = PHYSICAL_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find one pattern per image that fools on the masked object in random scenes.

    The object is the model's mask (`masks.Masked`); without one, the whole image. The pattern may take any values in
    [0, 1]. In a scene the object may leave its mask; `x_adv` is the still image.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        shift: the most pixels by which the object moves, down, up and to both sides.
        angle: the most degrees by which it turns, in both directions.
        scale: the largest share of its size by which it grows or shrinks.
        brightness: the largest share by which the brightness of the whole image varies.
        noise: the largest error of each printed pixel.
        scenes: random scenes averaged in each step; 0: no averaging, each step uses the still image only.
        steps: gradient steps, at least 1.
        lr: Adam's first learning rate; falls by a cosine to a tenth.
        smooth: weight of the pattern's mean squared difference between neighbours inside the mask, 0 or more.
        fresh: new scenes, which no step has used, in which the pattern is measured, at least 1.
        least: share of the new scenes that have to fool, in (0, 1].
        budget: the most model evaluations (forward and backward passes) per image; where it is short there are fewer
            steps, new scenes and scenes per step.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random numbers per image; default seed 0 and the positions in `x`.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        A success fools as the still image, and in at least `least` of the new scenes. Images that are misclassified
        already come back unchanged, as successes without a pattern. `trace`: `share` (N,) of the new scenes that fool
        (NaN for images misclassified already); `views` (N, M, C, H, W), the first 6 of the new scenes; `view_logits`
        (N, M, K), the model's logits for them.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, fresh=fresh, batch=batch)
    check_positive(lr=lr)
    if scenes < 0:
        raise ValueError(f"scenes: expected 0 or more, got {scenes}")
    if not 0 <= smooth < torch.inf:
        raise ValueError(f"smooth: expected a number of 0 or more, got {smooth}")
    if not 0 < least <= 1:
        raise ValueError(f"least: expected a share above 0 and at most 1, got {least}")
    scene = Scene(shift, angle, scale, brightness, noise)
    steps, scenes, fresh = _within(budget, steps, scenes, fresh)
    check(model, x, y, y_target=y_target)
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    net, mask = unmasked(model, x)
    rates = cosine(lr, lr / 10, steps)

    with frozen(model):
        clean = predict(net, x, batch)
        fooled = goal.reached(clean)
        x_adv = x.clone()
        forwards, backwards = torch.ones_like(y), torch.zeros_like(y)
        share = torch.full_like(x[:, 0, 0, 0], torch.nan)
        shown = min(SHOWN, fresh)
        views = x[:, None].repeat(1, shown, 1, 1, 1)
        view_logits = clean[:, None].repeat(1, shown, 1)
        ready = int(fooled.sum())
        todo = (~fooled).nonzero()[:, 0]
        for rows in todo.split(batch) if len(todo) else ():
            made = _Patterns(net, x[rows], mask, goal.take(rows), streams.take(rows), scene, smooth)
            for step in range(steps):
                took = made.step(step, max(1, scenes), scenes == 0, rates[step])
                forwards[rows[took]] += max(1, scenes)
                backwards[rows[took]] += max(1, scenes)
                if on_progress:
                    on_progress(ready + int((~took).sum()), len(x), success=fooled.float().mean().item())
                if not len(made.live):
                    break
            x_adv[rows] = made.image()
            part = goal.take(rows)
            own = streams.take(rows)
            share[rows], seen, logits = look(net, made.pattern, mask, x[rows], part, scene, own, fresh, batch)
            views[rows], view_logits[rows] = seen, logits
            fooled[rows] = part.reached(predict(net, x_adv[rows], batch)) & (share[rows] >= least)
            forwards[rows] += fresh + 1
            ready += len(rows)
            if on_progress:
                on_progress(ready, len(x), success=fooled.float().mean().item())
        trace = {"share": share, "views": views, "view_logits": view_logits}
        return finish(net, x, x_adv, goal, fooled, forwards, backwards, trace, batch)


def look(
    net: nn.Module,
    pattern: Float[Tensor, "n c h w"],
    mask: Bool[Tensor, "m h w"],
    x: Float[Tensor, "n c h w"],
    goal: Goal,
    scene: Scene,
    streams: Streams,
    fresh: int,
    batch: int = PHYSICAL_BATCH,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n v c h w"], Float[Tensor, "n v k"]]:
    """Render each pattern in `fresh` new scenes, which no step has used; `net` is frozen and has no mask.

    Returns the share of the scenes that fool (N,), the first 6 of them, and their logits.
    """
    hits = torch.zeros_like(goal.label)
    views, view_logits = [], []
    for number in range(fresh):
        seen = scene.seen(pattern, mask, x, streams.fork(FRESH).fork(number))
        logits = predict(net, seen, batch)
        hits += goal.reached(logits)
        if number < SHOWN:
            views.append(seen)
            view_logits.append(logits)
    return hits.to(x.dtype) / fresh, torch.stack(views, 1), torch.stack(view_logits, 1)


def _within(budget: int | None, steps: int, scenes: int, fresh: int) -> tuple[int, int, int]:
    """Steps, scenes per step and new scenes that a budget allows, besides three looks at the still image."""
    if budget is None:
        return steps, scenes, fresh
    check_budget(budget, 6)
    left = budget - 3
    fresh = min(fresh, max(1, left // 4))
    left -= fresh
    scenes = min(scenes, max(1, left // 40))  # twenty steps are more use than more scenes in each
    return min(steps, left // (2 * max(1, scenes))), scenes, fresh


class _Patterns:
    """The patterns of some images, one row each, and Adam's state."""

    def __init__(
        self, net: nn.Module, x: Tensor, mask: Tensor, goal: Goal, streams: Streams, scene: Scene, smooth: float
    ) -> None:
        self.net, self.x, self.mask, self.goal, self.streams = net, x, mask, goal, streams
        self.scene, self.smooth = scene, smooth
        self.pattern = x.clone()
        self.mean, self.square = torch.zeros_like(x), torch.zeros_like(x)
        self.streak = torch.zeros_like(goal.label)
        self.live = torch.arange(len(x), device=x.device)

    def image(self) -> Tensor:
        """The still images with their patterns."""
        return torch.where(self.mask, self.pattern, self.x)

    def step(self, number: int, scenes: int, still: bool, rate: float) -> Tensor:
        """One step of Adam on the mean loss over some scenes; returns which rows took part (a mask)."""
        rows = self.live
        took = torch.zeros_like(self.streak, dtype=torch.bool)
        took[rows] = True
        leaf = self.pattern[rows].detach().clone().requires_grad_()
        many = rows.repeat_interleave(scenes)
        draw = torch.arange(scenes, device=rows.device).repeat(len(rows)) + number * scenes
        scene = Scene() if still else self.scene
        seen = scene.seen(
            leaf.repeat_interleave(scenes, 0), self.mask, self.x[many], self.streams.take(many).fork(draw)
        )
        logits = logits_of_leaf(self.net, fast_layout(seen))
        goal = self.goal.take(many)
        value = F.softplus(goal.loss(logits, "ce")).sum() / scenes
        if self.smooth:
            value = value + self.smooth * self._roughness(leaf).sum()
        gradient = input_gradient(value, leaf)
        largest = gradient.abs().flatten(1).amax(1).clamp(min=torch.finfo(leaf.dtype).tiny)
        gradient = gradient / per_image(largest, gradient)
        move, self.mean[rows], self.square[rows] = adam_move(self.mean[rows], self.square[rows], gradient, number, rate)
        self.pattern[rows] = (leaf.detach() - move).clamp(0, 1)

        all_fooled = goal.reached(logits.detach()).view(-1, scenes).all(1)
        self.streak[rows] = torch.where(all_fooled, self.streak[rows] + scenes, 0)
        self.live = rows[self.streak[rows] < SETTLED]
        return took

    def _roughness(self, pattern: Tensor) -> Tensor:
        """The mean squared step between neighbours that are both in the mask, (n,)."""
        mask = self.mask.expand(pattern.shape[1:])
        total = torch.zeros_like(pattern[:, 0, 0, 0])
        pairs = 0
        for axis in (2, 3):
            size = mask.shape[axis - 1] - 1
            both = mask.narrow(axis - 1, 0, size) & mask.narrow(axis - 1, 1, size)
            total = total + (pattern.diff(dim=axis).square() * both).flatten(1).sum(1)
            pairs += int(both.sum())
        return total / max(1, pairs)
