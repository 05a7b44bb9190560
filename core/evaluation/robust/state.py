"""What is evaluated, and what is known of each image while an evaluation runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.losses import Goal, margin, predicted
from core.attacks.engine.result import clear_goal
from core.attacks.engine.streams import Streams


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, images, and the ball around each of them.

    Attributes:
        model: pixels to logits (N, K), frozen.
        x: (N, C, H, W) in [0, 1].
        y: (N,) true classes.
        norm: of the ball.
        eps: its radius.
        index: (N,) the images' numbers, which their random draws depend on.
        seed: of all random draws.
    """

    model: nn.Module
    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    norm: str
    eps: float
    index: Int[Tensor, " n"]
    seed: int = 0

    @property
    def streams(self) -> Streams:
        """The random streams of the images."""
        return Streams.of(self.seed, self.index.to(self.x.device))


@dataclass(frozen=True)
class Found:
    """What the first stages show of the model, at a few images that are hard to fool.

    Attributes:
        mislead: whether its gradients mislead (`gradient_masked`).
        half: what half precision moves its margins by, as a share of the span of its logits, where searches compute in
            it (`precision`); 0: they do not.
    """

    mislead: bool
    half: float = 0.0


@dataclass
class CascadeState:
    """What is known of each image, a row each; all that the next stage depends on.

    Attributes:
        x_adv: the best attempt, or the adversarial example.
        margin: at `x_adv`.
        clean: margin of the image itself.
        slack: how far below 0 a margin must be to be beyond what rounding may hide (`engine.clear_goal`).
        fooled: whether an adversarial example was found, or the image is misclassified as it is.
        found: number of the stage that found it, -1: none.
        gradient_masked: a probe without gradients lowered the margin as far as `cascade.PROBE_SHARE` says.
        nearest: distance of the nearest adversarial example, in the ball or not; inf where none is known.
        boundary_outside_box: the boundary of the model that is linear at the image is nowhere in the box, so its
            gradient says little.
        forwards: forward passes so far.
        backwards: backward passes so far.
        places: in the order of images before each stage, as in `left_to_find.Trials`.
        spent: passes of each stage on each image.
        fell: whether the stage fooled it.
    """

    x_adv: Float[Tensor, "n c h w"]
    margin: Float[Tensor, " n"]
    clean: Float[Tensor, " n"]
    slack: Float[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    found: Int[Tensor, " n"]
    gradient_masked: Bool[Tensor, " n"]
    nearest: Float[Tensor, " n"]
    boundary_outside_box: Bool[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]
    places: Float[Tensor, "n s"]
    spent: Int[Tensor, "n s"]
    fell: Bool[Tensor, "n s"]

    @classmethod
    def first(cls, given: Subject, logits: Float[Tensor, "n k"]) -> CascadeState:
        """After one forward pass of the images, which gave these logits."""
        none = torch.zeros_like(given.y)
        clean = margin(logits, given.y)
        slack = clear_goal(given.model, Goal.of(given.y, None), logits).slack
        assert slack is not None
        return cls(
            x_adv=given.x.clone(),
            margin=clean,
            clean=clean.clone(),
            slack=slack,
            fooled=predicted(logits) != given.y,
            found=none - 1,
            gradient_masked=none.bool(),
            nearest=torch.full_like(clean, torch.inf),
            boundary_outside_box=none.bool(),
            forwards=none + 1,
            backwards=none.clone(),
            places=clean.new_zeros(len(none), 0),
            spent=none.new_zeros(len(none), 0),
            fell=none.new_zeros((len(none), 0), dtype=torch.bool),
        )

    def enter(self, places: Float[Tensor, " n"], passes: Int[Tensor, " n"], number: int) -> None:
        """Note what stage `number` did to the images, whose places and passes these were before it."""
        fell = self.fooled & (self.found == number)
        self.places = torch.cat([self.places, places[:, None]], 1)
        self.spent = torch.cat([self.spent, (self.passes() - passes)[:, None]], 1)
        self.fell = torch.cat([self.fell, fell[:, None]], 1)

    def passes(self) -> Int[Tensor, " n"]:
        """Forward and backward passes so far."""
        return self.forwards + self.backwards

    def share(self) -> Float[Tensor, " n"]:
        """The lowest margin as a share of the clean image's; 0 where the image is misclassified."""
        return torch.where(self.clean > 0, self.margin / self.clean, 0.0).clamp(min=0)


STATE = tuple(CascadeState.__dataclass_fields__)
"""The names of all that a checkpoint must hold."""
BY_STAGE = ("places", "spent", "fell")
"""Those that have a column for each stage that is done."""
