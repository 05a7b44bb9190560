"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from core.epsilon import reaches
from core.evaluation.robust.left_to_find import LeftToFind, Trials
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.trust.report import Trust


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, a row an image.

    Attributes:
        clean: (N,) bool, correctly classified as it is.
        robust: (N,) bool, correctly classified whatever was tried. An upper bound of the truth.
        x_adv: (N, C, H, W): the adversarial example, else the best attempt; the image itself where it is misclassified
            or proven robust.
        lower: (N,) float64 proven radius: eps where every image of the ball is classified as y, else 0: not known.
        upper: (N,) distance of the nearest adversarial example found: 0 where the image is misclassified, inf for none.
        found_by: (N,) names of the attacks that fooled, "" where none did.
        forwards: (N,) int64 forward passes spent on each image.
        backwards: (N,) int64 backward passes.
        norm: of the ball.
        eps: perturbation budget.
        effort: effort level.
        seed: of the random draws.
        notes: sentences to be shown beside the accuracies.
        trust: the reliability checks, None if they were left out; what their attacks fooled counts in `robust`.
        changed: verdicts that were another one in another batch layout; the worse one counts.
        undefined: images for which an attack found a point where the model returns NaN.
        trials: what every stage did to every image, which `left_to_find` is estimated from.
        left_to_find: what a search of AutoAttack's strength would still fool, None where that is not known.
        warning: why the accuracies must not be used, "" where nothing forbids it; to be shown before them.
        earlier: seconds that runs took which were stopped, up to the state that this one resumed from.
    """

    clean: Tensor
    robust: Tensor
    x_adv: Tensor
    lower: Tensor
    upper: Tensor
    found_by: np.ndarray
    forwards: Tensor
    backwards: Tensor
    norm: str
    eps: float
    effort: str
    seed: int
    notes: tuple[str, ...] = ()
    trust: Trust | None = None
    warning: str = ""
    changed: int = 0
    undefined: int = 0
    trials: Trials | None = None
    left_to_find: LeftToFind | None = None
    earlier: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether nothing forbids using the accuracies; `warning` says what does."""
        return not self.warning

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.clean)

    @property
    def clean_accuracy(self) -> float:
        """Share of correctly classified images."""
        return self.clean.double().mean().item()

    @property
    def robust_accuracy(self) -> float:
        """Share of images that are correctly classified whatever was tried."""
        return self.robust.double().mean().item()

    @property
    def proven_accuracy(self) -> float:
        """Share of images that no image of the ball can change; never above `robust_accuracy`."""
        return reaches(self.lower, self.eps).logical_and(self.clean).double().mean().item()

    @property
    def interval(self) -> tuple[float, float]:
        """Of the robust accuracy, over the draw of the images (Clopper and Pearson, 95 %)."""
        return clopper_pearson(int(self.robust.sum()), self.n)
