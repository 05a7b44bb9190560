"""What every recipe is: a function from a batch to its loss, with a state. By itself it is the standard recipe."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from core.data.sets import Split


class BatchLoss:
    """The standard recipe, and base of the others in `recipes`."""

    replays = 1
    """Steps in a row on the same batch."""
    certifies = False
    """Whether the networks are also measured by what bounds prove."""
    selected_by = "robust_accuracy"
    """The measurement by which the best epoch is chosen, where nothing is proven."""
    largest_gradient: float | None = None
    """Gradients of the weights are clipped to this l2 norm."""

    def __init__(self, spec: Any) -> None:
        """`spec` is of the class that `recipes.MADE_BY` pairs with this one."""
        self.spec = spec

    def begin_epoch(self, model: nn.Module, train: Split) -> None:
        """Called before an epoch's first batch."""

    def strengthen(self) -> bool:
        """Make the recipe's attack harder, since the network has overfitted to it; false where that cannot be done."""
        return False

    def state(self) -> dict[str, Tensor]:
        """What the next epoch needs of the epochs before."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up the state of an earlier run."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the logits that count for the accuracy on the fly.

        Args:
            model: in train mode.
            x: (B, C, H, W) in [0, 1].
            y: (B,) classes.
            rows: (B,) positions in the training split.
            progress: share of the training that is done, from 0 to 1.

        Returns:
            The scalar loss, and logits (B, K) of what was trained on: the clean images where the recipe uses them.
        """
        logits = model(x).float()
        return F.cross_entropy(logits, y), logits


def ramp(eps: float, warmup: float, progress: float) -> float:
    """Budget at this point of the training: rising linearly over the first `warmup` of it."""
    return eps * min(1.0, progress / warmup) if warmup > 0 else eps
