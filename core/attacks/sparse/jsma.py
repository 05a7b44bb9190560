"""JSMA: pairs of features read off the Jacobian's saliency map, changed by theta until the target is reached.

Source: Papernot, McDaniel, Jha, Fredrikson, Celik, Swami 2016, arXiv 1511.07528, algorithm 3, on the logits, as there,
or on the probabilities; without a target the map for leaving a class (Wiyatno and Xu 2018, arXiv 1808.07945, NT-JSMA);
by effects and not by derivatives alone (Combey, Loison, Faucher, Hajri 2020, arXiv 2007.06032, TJSMA). Departures: all
images run side by side; of the Jacobian only what the map needs is computed, two rows of the logits' or one of the
probabilities'; the best pair is found exactly without looking at every pair; with `pairs` above 1 one Jacobian serves
several pairs; features within 0.01 of their end are out from the start; where no pair fits, the image is given up; for
two classes the map is that of the difference of the logits, so that scalar networks, whose other logit is constant,
have one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows
from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, predict
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import steps_within
from core.attacks.sparse.saliency import OUTPUTS, Outputs, best_pairs, slopes
from core.checks import check_choice
from core.progress import Progress


@attack
def jsma(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    theta: float = 1.0,
    gamma: float = 0.1,
    pairs: int = 1,
    outputs: Outputs = "logits",
    taylor: bool = False,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Change two features per step, those of the largest saliency, until the image is fooled; l0 counts features.

    A pair's saliency is the product of how much it raises the target's output and how much it lowers the sum of all
    others, where it does both. Without a target: how much it lowers the true class and raises the sum of all others.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        theta: added to both features each step, in [-1, 1] and not 0; below 0 features are darkened. A feature that
            has reached its end, 1 or 0, is out.
        gamma: share of the features that may change, in (0, 1]: at most ceil(features * gamma / 2) steps (the paper
            rounds down; so every share allows a step).
        pairs: the most pairs changed by one Jacobian: the best, the best of the other features, and so on; 1 is the
            paper's. Of probabilities no more are changed than the Jacobian says are needed. Where they reach the goal,
            the last ones are undone as far as it stays reached, by bisection.
        outputs: whose Jacobian: `logits`, the paper's, or `probabilities`, where all others lose what the target's
            gains: half the backward passes, and fewer features, since the strongest other class counts most.
        taylor: derivatives times how far each feature can move before its end, so that one that cannot move by theta
            counts less (Combey et al. 2020).
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        Images that are misclassified already come back unchanged; a failed image holds all its changes. `trace`, each
        (N,): `steps` int64, pairs changed; `stuck` bool, given up since no pair of features does both.

    Raises:
        ValueError: bad input, naming the argument.
    """
    _check_settings(theta, gamma, outputs, batch=batch, pairs=pairs)
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    max_pairs = math.ceil(x[0].numel() * gamma / 2 - 1e-9)
    pairs = min(pairs, max_pairs, max(1, x[0].numel() // 2))
    price = 3 if outputs == "logits" else 2  # of a Jacobian, its forward pass with it
    turns = steps_within(budget, max_pairs, price, other=2 + math.ceil(math.log2(pairs)))
    end = 1.0 if theta > 0 else 0.0
    # a rise of the label's output is wanted (target) or unwanted (true class), and theta moves with or against it
    sign = (1.0 if goal.targeted else -1.0) * (1.0 if theta > 0 else -1.0)

    x_adv = x.clone(memory_format=torch.contiguous_format)
    flat = x_adv.flatten(1)  # the same memory
    fooled, stuck = (torch.zeros_like(y, dtype=torch.bool) for _ in range(2))
    forwards, backwards, step, turn = (torch.zeros_like(y) for _ in range(4))
    block = _Block.empty(x, pairs)
    with frozen(model):
        free = (confine(model, torch.full_like(x, 1 - end), torch.full_like(x, end)) != end).flatten(1)
        free &= ((x - end).abs() > 0.01).flatten(1)
        active = Active(torch.arange(len(x), device=x.device), batch, lambda _: Rows())
        while active.refill():
            rows = active.rows
            forwards[rows] += 1
            over = (step[rows] == max_pairs) | (turn[rows] == turns)
            if over.any():  # these need a verdict only
                fooled[rows[over]] = goal.take(rows[over]).reached(predict(model, x_adv[rows[over]], batch))
                block.take_back(model, x_adv, goal, rows[over & fooled[rows]], forwards, step)
                active.keep(~over)
                rows = active.rows
            if len(rows):
                logits, up, down = slopes(model, x_adv[rows], goal.take(rows), outputs)
                backwards[rows] += 1 if down is None else 2
                now = goal.take(rows).reached(logits)
                fooled[rows[now]] = True
                block.take_back(model, x_adv, goal, rows[now], forwards, step)
                active.keep(~now)
                rows, up, down = active.rows, sign * up[~now], None if down is None else sign * down[~now]
                changed = (flat[rows] + theta).clamp(0, 1)
                room = (changed - flat[rows]).abs()
                effect = up * room
                if taylor:
                    up, down = effect, None if down is None else down * room
                best, count = best_pairs(up, down, free[rows], pairs)
                stuck[rows] = count == 0
                feature = best.flatten(1)
                old, moved = flat[rows].gather(1, feature), changed.gather(1, feature)
                if down is None:
                    gain = effect.gather(1, feature).unflatten(1, (-1, 2)).sum(2).cumsum(1)
                    short = goal.take(rows).loss(logits[~now], "ce")
                    count = torch.minimum(count, 1 + (gain < short[:, None]).sum(1))
                count = torch.minimum(count, max_pairs - step[rows])
                image, place = _places(0 * count, count, pairs)
                which = rows[image], feature[image, place]
                flat[which] = moved[image, place]
                free[which] = moved[image, place] != end
                block.keep(rows, feature, old, count)
                step[rows] += count
                turn[rows] += 1
                active.keep(~stuck[rows])
            if on_progress:
                on_progress(len(x) - active.left, len(x), success=fooled.float().mean().item())
        return finish(model, x, x_adv, goal, fooled, forwards, backwards, {"steps": step, "stuck": stuck}, batch)


def _check_settings(theta: float, gamma: float, outputs: str, **counts: int) -> None:
    check_counts(**counts)
    if not (0 < abs(theta) <= 1):
        raise ValueError(f"theta: expected a number from -1 to 1, not 0, got {theta}")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma: expected a share above 0 and at most 1, got {gamma}")
    check_choice("outputs", outputs, OUTPUTS)


@dataclass
class _Block:
    """What the last Jacobian changed of each image; in place.

    Attributes:
        feature: (N, 2 pairs) int64, pair after pair.
        before: (N, 2 pairs) what they were.
        count: (N,) int64, how many pairs.
    """

    feature: Tensor
    before: Tensor
    count: Tensor

    @classmethod
    def empty(cls, x: Tensor, pairs: int) -> _Block:
        feature = torch.zeros(len(x), 2 * pairs, dtype=torch.int64, device=x.device)
        return cls(feature, feature.to(x.dtype), feature[:, 0].clone())

    def keep(self, rows: Tensor, feature: Tensor, before: Tensor, count: Tensor) -> None:
        self.feature[rows], self.before[rows], self.count[rows] = feature, before, count

    def take_back(
        self, model: nn.Module, x_adv: Tensor, goal: Goal, rows: Tensor, forwards: Tensor, step: Tensor
    ) -> None:
        """Leave of these images' pairs only so many, the first, as reach the goal, by bisection."""
        low, high = 0 * rows, self.count[rows]
        while (wide := high - low > 1).any():
            some, middle = rows[wide], (low + high)[wide] // 2
            trial = x_adv[some]
            self._put_back(trial, torch.arange(len(some), device=some.device), some, middle)
            forwards[some] += 1
            still = goal.take(some).reached(predict(model, trial))
            low[wide], high[wide] = torch.where(still, low[wide], middle), torch.where(still, middle, high[wide])
        self._put_back(x_adv, rows, rows, high)
        step[rows] -= self.count[rows] - high

    def _put_back(self, images: Tensor, at: Tensor, rows: Tensor, first: Tensor) -> None:
        """Undo the pairs from `first` on of these rows, which are the images number `at`."""
        image, place = _places(first, self.count[rows], self.feature.shape[1] // 2)
        images.flatten(1)[at[image], self.feature[rows[image], place]] = self.before[rows[image], place]


def _places(first: Tensor, end: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Row and place, in a list of pairs, of the features of pairs number `first` to `end` (excluded) of each row."""
    number = torch.arange(2 * pairs, device=first.device) // 2
    image, place = ((number >= first[:, None]) & (number < end[:, None])).nonzero(as_tuple=True)
    return image, place
