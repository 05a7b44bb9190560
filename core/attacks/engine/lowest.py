"""What the attacks inside a given budget share: of each image the best attempt so far, and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.engine import predict
from core.attacks.engine.in_half import half_of
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.result import AttackResult, clear_goal, finish
from core.progress import Progress


@dataclass
class Lowest:
    """The image of the lowest loss found for each row, and the passes spent; changed in place. Use it while frozen.

    Attributes:
        model: the frozen model.
        x: (N, C, H, W) the images.
        goal: what counts as fooled, beyond what rounding may hide (`clear_goal`).
        logits: (N, K) at the images, or where the attack started.
        x_adv: (N, C, H, W) the first fooling image offered, else the one of the lowest loss.
        fooled: (N,) bool, whether it fools.
        value: (N,) its loss.
        margin: (N,) its margin; the same tensor where the margin is the loss.
        forwards: (N,) int64 passes.
        backwards: (N,) int64 passes.
        doubt: (N,) of a search in half precision, the margins up to which its logits are asked for again; else None.
        first: (N,) and the losses where it began, which are not rounded.
    """

    model: nn.Module
    x: Tensor
    goal: Goal
    logits: Tensor
    x_adv: Tensor
    fooled: Tensor
    value: Tensor
    margin: Tensor
    forwards: Tensor
    backwards: Tensor
    doubt: Tensor | None = None
    first: Tensor | None = None

    @classmethod
    def start(
        cls,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        goal: Goal,
        batch: int,
        *,
        x_init: Float[Tensor, "n c h w"] | None = None,
        loss: Loss = "margin",
        half: bool = False,
    ) -> Lowest:
        """One forward pass of the images, or of the points `x_init` that an earlier search found.

        Args:
            model: frozen.
            x: the images.
            goal: what counts as fooled.
            batch: images at once.
            x_init: where the search begins, instead of at the images.
            loss: what is the `value` of a point.
            half: the search gives all its logits to `sharpened`, so that it may ask for rounded ones (`in_half`).
        """
        x_adv = x.clone() if x_init is None else x_init.clone()
        logits = predict(model, x_adv, batch)
        margin = goal.margin(logits)
        value = margin if loss == "margin" else goal.loss(logits, loss)
        clear, fooled = clear_goal(model, goal, logits), goal.reached(logits)
        ones, zeros = torch.ones_like(goal.label), torch.zeros_like(goal.label)
        made = cls(model, x, clear, logits, x_adv, fooled, value, margin, ones, zeros)
        how = half_of(model) if half else None
        if how is not None:
            made.doubt, made.first = how.doubt(logits), value.clone()
        return made

    def standing(self, allowed: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
        """The images that are not fooled yet, of those that are allowed to change."""
        return (~self.fooled & allowed).nonzero()[:, 0]

    def offer(
        self,
        rows: Int[Tensor, " n"],
        point: Float[Tensor, "n c h w"],
        now: Bool[Tensor, " n"],
        value: Float[Tensor, " n"],
        margin: Float[Tensor, " n"] | None = None,
    ) -> Bool[Tensor, " n"]:
        """Keep these points where they are the first to fool or have a lower loss; returns where they were kept.

        Args:
            rows: their images.
            point: the points.
            now: whether each fools.
            value: their losses.
            margin: their margins, where the loss is another.
        """
        better = (now & ~self.fooled[rows]) | (value < self.value[rows])
        kept = rows[better]
        self.x_adv[kept], self.value[kept] = point[better], value[better]
        if margin is not None:
            self.margin[kept] = margin[better]
        self.fooled[rows[now]] = True
        return better

    def sharpened(
        self,
        rows: Int[Tensor, " n"],
        point: Float[Tensor, "n c h w"],
        logits: Float[Tensor, "n k"],
        counts: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n k"]:
        """The logits of these points, in float32 where they were rounded and the point may fool, if it counts."""
        if self.doubt is None or not len(rows):
            return logits
        close = ~(self.goal.take(rows).margin(logits) > self.doubt[rows])
        close = close if counts is None else close & counts
        if not close.any():
            return logits
        logits = logits.clone()
        logits[close] = predict(self.model, point[close])
        self.forwards[rows[close]] += 1
        return logits

    def report(self, on_progress: Progress | None, left: int) -> None:
        """Tell the progress how many images are left."""
        if on_progress:
            on_progress(len(self.x) - left, len(self.x), success=self.fooled.float().mean().item())

    def result(self, batch: int, trace: dict[str, Tensor] | None = None) -> AttackResult:
        """Verified; `trace` is the margin at `x_adv` where nothing else is given, in float32."""
        if self.first is not None:
            rows = (~self.fooled & (self.value != self.first)).nonzero()[:, 0]
            if len(rows):
                self.margin[rows] = self.goal.take(rows).margin(predict(self.model, self.x_adv[rows], batch))
                self.forwards[rows] += 1
        records = {"margin": self.margin} if trace is None else trace
        return finish(
            self.model, self.x, self.x_adv, self.goal, self.fooled, self.forwards, self.backwards, records, batch
        )
