"""Training against the project's own generator attack, the working half of `specs.GeneratorRecipe`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import specs
from core.training.batch_loss import BatchLoss, ramp
from core.training.crafting import evaluating, generator_images, pgd_images

Weights = dict[str, Tensor]


class GeneratorAdversarial(BatchLoss):
    """Half of the loss on clean images, half on adversarial examples: some of the generator attack, the others of PGD.

    Every image is used twice, clean and as an adversarial example, in one forward pass. Its place in the batch decides
    which of the two attacks is used, so it changes from epoch to epoch. The generator attack is run for each batch,
    every other time against one of the last networks instead of the present one: trained against the present one alone,
    a network may learn to mislead that attack's gradients instead of becoming robust.
    """

    def __init__(self, spec: specs.GeneratorRecipe) -> None:
        self.spec = spec
        self.calls = 0
        self.pool: list[Weights] = []

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`; the logits are the clean images'."""
        spec, eps = self.spec, ramp(self.spec.eps, self.spec.warmup, progress)
        self._remember(model)
        drawn = round(spec.share * len(x))
        parts = []
        if drawn:
            cap = spec.relative_cap * eps * math.sqrt(x[0].numel())
            with evaluating(model):
                parts.append(generator_images(self._attacked(model), x[:drawn], y[:drawn], cap, rounds=spec.rounds))
        if drawn < len(x):
            rest, step = (x[drawn:], y[drawn:]), spec.relative_step
            parts.append(pgd_images(model, *rest, eps, steps=spec.steps, relative_step=step))
        both = torch.cat([x, *parts]).contiguous(memory_format=torch.channels_last)
        logits, attacked = model(both).float().chunk(2)
        return (F.cross_entropy(logits, y) + F.cross_entropy(attacked, y)) / 2, logits

    def _attacked(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """The present network, or every other time one of the pool."""
        if not self.pool or torch.rand(()) < 0.5:
            return model
        weights = self.pool[int(torch.randint(len(self.pool), ()))]
        return lambda images: torch.func.functional_call(model, weights, (images,))

    def _remember(self, model: nn.Module) -> None:
        """Every `refresh` batches put the network into the pool, whose oldest one leaves."""
        if self.spec.pool and self.calls and self.calls % self.spec.refresh == 0:
            self.pool.append({name: value.detach().clone() for name, value in model.state_dict().items()})
            del self.pool[: -self.spec.pool]
        self.calls += 1

    def state(self) -> dict[str, Tensor]:
        """The pool and the count of batches."""
        kept = {f"{place}/{name}": value for place, net in enumerate(self.pool) for name, value in net.items()}
        return {"calls": torch.tensor(self.calls), **kept}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `state`."""
        state = dict(state)
        self.calls, self.pool = int(state.pop("calls")), []
        for key, value in state.items():
            place, _, name = key.partition("/")
            while len(self.pool) <= int(place):
                self.pool.append({})
            # laid out as in the network, so that sums are in the same order
            layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
            self.pool[int(place)][name] = value.contiguous(memory_format=layout)
