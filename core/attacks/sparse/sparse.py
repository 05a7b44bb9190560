"""The greedy Jacobian attack on few features: shortlist by the Jacobian, apply the best real gain, prune.

After Papernot et al. 2016, arXiv 1511.07528 (JSMA). Departures: one feature a step and not a pair; the Jacobian only
proposes, each proposal is tried by a forward pass, and the best is taken; a feature goes to whichever end helps; in the
end every change that is not needed is undone, and two are exchanged for one where that still fools. Optimal for binary
linear models; greedy otherwise (MATHEMATICS sections 1, 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_budget, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import BATCH, frozen, gradient_step, predict
from core.attacks.engine.geometry import distances, linf_bounds, norm_of, shortest_prefix
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import Smallest
from core.attacks.sparse.swaps import swap
from core.checks import check_choice
from core.progress import Progress

SWAP_CALLS = 400
"""The most model evaluations (forward and backward passes) for the swaps of one image; they usually end sooner."""


@attack
def jacobian_sparse(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    y_target: Int[Tensor, " n"] | None = None,
    max_features: int = 60,
    candidates: int = 16,
    prune: bool = True,
    swaps: bool = True,
    cap: float = 1.0,
    loss: Loss = "ce",
    budget: int | None = None,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by changing few features, chosen greedily; a feature is one colour of one pixel.

    Each step takes the gradient J of the loss, shortlists the features by |J_j| u_j (u_j is the room to the end, 0, 1
    or the cap, that lowers the loss), tries each of them in one batch, and applies the one that gives the lowest loss
    (of those that fool, if some do), even if that is no gain. Then pruning: while some change can be undone without
    losing the success, the one after which the image is most clearly fooled is undone.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        y_target: (N,) int64; given, the attack goes towards these classes.
        max_features: give up after this many changes, at least 1.
        candidates: features tried by forward passes each step, at least 1.
        prune: undo the changes that are not needed.
        swaps: after pruning, exchange two changes for one other while that fools (see `swaps`); none without pruning.
        cap: the most that any feature may change, in (0, 1].
        loss: `ce` (the log-odds, see `losses.soft_margin`, which needs fewer features than the margin, as the search
            does not decide for one class too early), `margin` or `dlr`; for two classes all are the same.
        budget: the most forward and backward passes per image, at least 5; None: no limit. It first reduces the
            candidates, as far as 10 changes need, then the changes; pruning and swaps end where they would exceed it.
        batch: images attacked side by side, and images in one forward pass.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        Images that are misclassified already come back unchanged; a failed image holds all its changes. `trace` with
        M = max_features (or the number of features, if that is less): `order` (N, M) int64, the features in the order
        of their change, counted through (C, H, W), -1 after the last; `value` (N, M), what each became, NaN after the
        last; `margin` (N, M + 1), before and after each change, positive until fooled, NaN after the last; `kept`
        (N, M) bool, the changes left by pruning, and their number `pruned_count` (N,) int64 (swaps, which come after,
        make other changes too: the image holds them, `order` does not); `linear_estimate` (N,) int64, the shortest
        prefix according to the loss and its gradient at x alone, -1 if that says impossible; `greedy_count` (N,)
        int64, changes before pruning.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(max_features=max_features, candidates=candidates, batch=batch)
    if not 0 < cap <= 1:
        raise ValueError(f"cap: expected a number in (0, 1], got {cap}")
    check_choice("loss", loss, LOSSES)
    check_budget(budget, 5)
    check(model, x, y, y_target=y_target)
    max_features, candidates = min(max_features, x[0].numel()), min(candidates, x[0].numel())
    if budget is not None:
        left = budget - 2  # the look at the image itself, the verification
        candidates = min(candidates, max(1, left // min(max_features, 10) - 2))
        max_features = min(max_features, left // (2 + candidates))
    search = _Search.start(model, x, Goal.of(y, y_target), max_features, candidates, cap, loss, budget, batch)

    def report(done: int) -> None:
        if on_progress:
            on_progress(done, len(x), success=search.fooled[:done].float().mean().item() if done else 0.0)

    with frozen(model):
        for first in range(0, len(x), batch):
            rows = torch.arange(first, min(first + batch, len(x)), device=x.device)
            active = search.look(rows)
            for step in range(search.trace["order"].shape[1]):
                if not len(active):
                    break
                active = search.change(active, step)
                report(first + len(rows) - len(active))
            if prune:
                search.prune(rows[search.fooled[rows]])
            search.trace["pruned_count"][rows] = search.trace["kept"][rows].sum(1)
            if prune and swaps:
                search.swap(rows[search.fooled[rows]])
            report(first + len(rows))
        search.trace["l0"] = distances(search.x_adv, x)["l0"]
        return finish(
            model, x, search.x_adv, search.goal, search.fooled, search.forwards, search.backwards, search.trace, batch
        )


@dataclass
class _Search:
    """The images as they are now, what is known of them, and their costs; rows are indices into the batch."""

    model: nn.Module
    x: Tensor
    x_adv: Tensor
    goal: Goal
    candidates: int
    low: Tensor
    high: Tensor
    loss: Loss
    budget: int | None
    batch: int
    logits: Tensor
    fooled: Tensor
    forwards: Tensor
    backwards: Tensor
    trace: dict[str, Tensor]

    @classmethod
    def start(
        cls,
        model: nn.Module,
        x: Tensor,
        goal: Goal,
        max_features: int,
        candidates: int,
        cap: float,
        loss: Loss,
        budget: int | None,
        batch: int,
    ) -> _Search:
        """Nothing changed yet."""
        count = torch.zeros_like(goal.label)
        nothing = torch.full((len(x), max_features + 1), torch.nan, dtype=x.dtype, device=x.device)
        trace = {
            "order": torch.full((len(x), max_features), -1, dtype=torch.int64, device=x.device),
            "value": nothing[:, 1:].clone(),
            "margin": nothing,
            "kept": torch.zeros(len(x), max_features, dtype=torch.bool, device=x.device),
            "linear_estimate": count.clone(),
            "greedy_count": count.clone(),
            "pruned_count": count.clone(),
        }
        fooled = torch.zeros_like(count, dtype=torch.bool)
        logits = x.new_zeros(len(x), 0)  # the number of classes is known after the first look
        passes = count.clone()
        low, high = linf_bounds(x, torch.full_like(x[:, 0, 0, 0], cap))
        return cls(
            model, x, x.clone(), goal, candidates, low, high, loss, budget, batch, logits, fooled, count, passes, trace
        )

    def look(self, rows: Tensor) -> Tensor:
        """Compute the margins at the start; returns the rows that are not fooled yet."""
        logits = predict(self.model, self.x[rows], self.batch)
        if not self.logits.numel():
            self.logits = logits.new_zeros(len(self.x), logits.shape[1])
        self.logits[rows] = logits
        goal = self.goal.take(rows)
        self.forwards[rows] += 1
        self.trace["margin"][rows, 0] = goal.margin(logits)
        self.fooled[rows] = goal.reached(logits)
        return rows[~self.fooled[rows]]

    def change(self, rows: Tensor, step: int) -> Tensor:
        """Change one more feature of each of these rows; returns those that are still not fooled and can go on."""
        goal = self.goal.take(rows)
        logits, slope = gradient_step(self.model, self.x_adv[rows], goal, self.loss)
        self.forwards[rows] += 1
        self.backwards[rows] += 1
        now = self.x_adv[rows].flatten(1)
        slope = slope.flatten(1)
        # down where the loss rises with the feature, else up; a feature is changed once
        ends = torch.where(slope > 0, self.low[rows].flatten(1), self.high[rows].flatten(1))
        gain = slope * (now - ends)
        if step == 0:
            self.trace["linear_estimate"][rows] = shortest_prefix(gain, goal.loss(logits, self.loss))[0]
        done = self.trace["order"][rows, :step]
        gain, feature = gain.scatter(1, done, -1).topk(self.candidates, dim=1)
        end = ends.gather(1, feature)

        trials = now[:, None].repeat(1, self.candidates, 1)
        trials.scatter_(2, feature[:, :, None], end[:, :, None])
        found = predict(self.model, trials.view(-1, *self.x.shape[1:]), self.batch)
        self.forwards[rows] += self.candidates
        many = goal.repeated(self.candidates)
        margin, after = (value.view(len(rows), -1) for value in (many.margin(found), many.loss(found, self.loss)))
        reached = many.reached(found).view(len(rows), -1)
        allowed = (gain > 0) & ~after.isnan()
        able = allowed.any(1)  # else no feature has any effect, and the row gives up
        allowed &= reached | ~(reached & allowed).any(1, keepdim=True)
        best = torch.where(allowed, after, torch.inf).min(1).indices
        every = torch.arange(len(rows), device=rows.device)

        rows, every, best = rows[able], every[able], best[able]
        self.x_adv[rows] = trials[every, best].view(-1, *self.x.shape[1:])
        self.trace["order"][rows, step] = feature[every, best]
        self.trace["value"][rows, step] = end[every, best]
        self.trace["margin"][rows, step + 1] = margin[every, best]
        self.trace["kept"][rows, step] = True
        self.trace["greedy_count"][rows] = step + 1
        self.fooled[rows] = reached[every, best]
        return rows[~self.fooled[rows]]

    def prune(self, rows: Tensor) -> None:
        """Undo changes, one per round, while the image stays fooled without them."""
        while len(rows):
            if self.budget is not None:
                price = self.trace["kept"][rows].sum(1) + 1  # a trial for each change, and the verification
                rows = rows[self.forwards[rows] + self.backwards[rows] + price <= self.budget]
            image, place = self.trace["kept"][rows].nonzero(as_tuple=True)  # one trial for each change still there
            feature = self.trace["order"][rows][image, place][:, None]
            before = self.x[rows].flatten(1)[image].gather(1, feature)
            trials = self.x_adv[rows].flatten(1)[image].scatter(1, feature, before)
            logits = predict(self.model, trials.view(-1, *self.x.shape[1:]), self.batch) if len(image) else None
            if logits is None:
                return
            goal = self.goal.take(rows[image])
            self.forwards.index_add_(0, rows[image], torch.ones_like(image))
            value = torch.where(goal.reached(logits), goal.margin(logits), torch.inf)
            margins = torch.full(self.trace["kept"][rows].shape, torch.inf, dtype=value.dtype, device=value.device)
            margins[image, place] = value
            lowest, place = margins.min(1)
            more = lowest < torch.inf
            rows, place = rows[more], place[more]
            feature = self.trace["order"][rows, place][:, None]
            original = self.x[rows].flatten(1).gather(1, feature)
            self.x_adv[rows] = self.x_adv[rows].flatten(1).scatter(1, feature, original).view(-1, *self.x.shape[1:])
            self.trace["kept"][rows, place] = False

    def swap(self, rows: Tensor) -> None:
        """Exchange changes for fewer ones, within what is left of the budget."""
        spent = self.forwards[rows] + self.backwards[rows] + 1  # and the verification
        calls = torch.full_like(spent, SWAP_CALLS)
        if self.budget is not None:
            calls = torch.minimum(calls, self.budget - spent)
        size = torch.full_like(self.x[:, 0, 0, 0], torch.inf)
        size[rows] = norm_of(self.x_adv[rows] - self.x[rows], "l0")
        found = Smallest(
            model=self.model,
            x=self.x,
            goal=self.goal,
            logits=self.logits,
            norm="l0",
            x_adv=self.x_adv,
            size=size,
            forwards=self.forwards,
            backwards=self.backwards,
            batch=self.batch,
            on_progress=None,
        )
        swap(found, rows, calls, self.low, self.high)
