"""A recipe is how a batch's loss is made; everything else of training is the same loop.

Every class here is the working half of the spec of the same name in `core.specs.recipes`, which holds its settings and
sources.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import specs
from core.certification.bounds import margin_bounds
from core.certification.crown import linear_margins
from core.data.sets import Split, to_float
from core.training.batch_loss import BatchLoss, ramp
from core.training.crafting import ascent_sign, ball_bounds, evaluating, fgsm_images, pgd_images, slope
from core.training.generator import GeneratorAdversarial
from core.training.stability import instability

MAX_STEPS = 8
"""The most steps that single-step training grows to."""
EPOCH_BATCH = 500
"""Images at once where all adversarial examples are made at the start of an epoch."""


class FgsmMix(BatchLoss):
    """Mean of the clean loss and the loss of the adversarial examples of one step of FGSM.

    Its purpose is robustness against one step, as in the exercise, and its best epoch is chosen by that; the accuracy
    under many steps is shown beside it.
    """

    selected_by = "fgsm_accuracy"

    def __init__(self, spec: specs.FgsmMixRecipe) -> None:
        self.spec = spec
        self.x_adv: Tensor | None = None

    def begin_epoch(self, model: nn.Module, train: Split) -> None:
        """As in exercise set 3: adversarial examples of all training images for the present network, in float16."""
        if self.spec.remade == "batch":
            return
        parts = []
        for rows in torch.arange(len(train)).split(EPOCH_BATCH):
            x, y = to_float(train.x[rows]), train.y[rows]
            parts.append(self._step(x, self._ascent(model, x, y)).half())
        self.x_adv = torch.cat(parts)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`; the logits are the clean images'."""
        if self.x_adv is not None:
            x_adv = self.x_adv[rows].float()
            logits = model(x).float()
        elif _same_in_both_modes(model):  # the clean forward pass gives the step's gradient as well
            leaf = x.detach().requires_grad_()
            logits = model(leaf).float()
            (gradient,) = torch.autograd.grad(logits, leaf, slope(logits, y), retain_graph=True)
            x_adv = self._step(x, gradient.sign())
        else:
            x_adv = self._step(x, self._ascent(model, x, y))
            logits = model(x).float()
        attacked = model(x_adv.contiguous(memory_format=torch.channels_last)).float()
        return (F.cross_entropy(logits, y) + F.cross_entropy(attacked, y)) / 2, logits

    def _ascent(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with evaluating(model):
            return ascent_sign(model, x, y)

    def _step(self, x: Tensor, sign: Tensor) -> Tensor:
        x_adv = x + self.spec.eps * sign
        return x_adv.clamp(0, 1) if self.spec.clip else x_adv


class Fgsm(BatchLoss):
    """Loss of adversarial examples of one step; of two and more, once the network has overfitted to one."""

    def __init__(self, spec: specs.FgsmRecipe) -> None:
        self.spec, self.steps = spec, 1

    def strengthen(self) -> bool:
        """Twice the steps, from a random start; `MAX_STEPS` at most."""
        harder = self.steps < MAX_STEPS
        self.steps = min(2 * self.steps, MAX_STEPS)
        return harder

    def state(self) -> dict[str, Tensor]:
        """The number of steps."""
        return {"steps": torch.tensor(self.steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `state`."""
        self.steps = int(state["steps"])

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`."""
        eps = ramp(self.spec.eps, self.spec.warmup, progress)
        if self.steps == 1:
            x_adv = fgsm_images(model, x, y, eps, self.spec.start, self.spec.mode)
        else:
            step = 1.25 / self.steps
            x_adv = pgd_images(model, x, y, eps, steps=self.steps, relative_step=step)
        return super().__call__(model, x_adv, y, rows=rows, progress=progress)


class Pgd(BatchLoss):
    """Loss of adversarial examples of several steps from a random start; may add a term for ReLUs of no stable sign."""

    spec: specs.PgdRecipe

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`."""
        spec, eps = self.spec, ramp(self.spec.eps, self.spec.warmup, progress)
        x_adv = pgd_images(model, x, y, eps, steps=spec.steps, relative_step=spec.relative_step)
        loss, logits = super().__call__(model, x_adv, y, rows=rows, progress=progress)
        if spec.stability:
            loss = loss + spec.stability * instability(model, x, eps)
        return loss, logits


class Trades(BatchLoss):
    """Clean cross-entropy plus beta times the divergence of the outputs for an image and its adversarial example."""

    spec: specs.TradesRecipe

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`; the logits are the clean images'."""
        spec, eps = self.spec, ramp(self.spec.eps, self.spec.warmup, progress)
        with evaluating(model), torch.no_grad():
            clean = model(x).float().softmax(1)

        # at the image itself the divergence has no slope: start close to it (as in the paper)
        start = x + 1e-3 * torch.randn_like(x)
        x_adv = pgd_images(model, x, clean, eps, steps=spec.steps, relative_step=spec.relative_step, start=start)
        logits, attacked = model(torch.cat([x, x_adv])).float().chunk(2)
        apart = F.kl_div(attacked.log_softmax(1), logits.log_softmax(1), reduction="batchmean", log_target=True)
        return F.cross_entropy(logits, y) + spec.beta * apart, logits


class Free(BatchLoss):
    """The batch `replays` times: each backward pass steps the weights (in the loop) and the images (here)."""

    def __init__(self, spec: specs.FreeRecipe) -> None:
        self.spec, self.replays = spec, spec.replays
        self.delta: Tensor | None = None

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`. The change made to one batch is where the next one's starts (arXiv 1904.12843)."""
        eps, delta = self.spec.eps, self._stepped()
        if delta is None or len(delta) != len(x):
            delta = torch.zeros_like(x)
        x_adv = (x + delta).clamp(*ball_bounds(x, eps))
        self.delta = (x_adv - x).detach().requires_grad_()
        return super().__call__(model, x + self.delta, y, rows=rows, progress=progress)

    def _stepped(self) -> Tensor | None:
        """The change after the step that the last backward pass asks for."""
        if self.delta is None or self.delta.grad is None:
            return self.delta
        return (self.delta.detach() + self.spec.eps * self.delta.grad.sign()).clamp(-self.spec.eps, self.spec.eps)

    def state(self) -> dict[str, Tensor]:
        """The change that the next batch starts from."""
        delta = self._stepped()
        return {} if delta is None else {"delta": delta.detach()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `state`."""
        self.delta = state.get("delta")


class Ibp(BatchLoss):
    """Loss of the worst logits that interval bounds allow, weighed against a loss without bounds."""

    certifies = True
    largest_gradient = 10.0

    spec: specs.IbpRecipe

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`; the logits are of clean images or adversarial examples. The bounds' weight rises with ε."""
        spec = self.spec
        share = ramp(1.0, spec.warmup, progress)
        eps, weight = spec.eps * share, spec.weight * share
        if spec.steps:
            x_adv = pgd_images(model, x, y, eps, steps=spec.steps, relative_step=spec.relative_step)
        else:
            x_adv = x
        loss, logits = super().__call__(model, x_adv, y, rows=rows, progress=progress)
        margins = margin_bounds(model, x, y, eps).float()
        if spec.bounds == "crown_ibp" and share < 1:  # tight at first, when intervals would say nothing (1906.06316)
            margins = share * margins + (1 - share) * linear_margins(model, x, y, eps)
        worst = -margins  # logits less that of y, at their highest
        return (1 - weight) * loss + weight * F.cross_entropy(worst, y), logits


class Noise(BatchLoss):
    """Loss of images under Gaussian noise, which may leave [0, 1]: smoothing queries the network with such images."""

    selected_by = "noise_accuracy"

    spec: specs.NoiseRecipe

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, rows: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """See `BatchLoss`."""
        return super().__call__(model, x + self.spec.sigma * torch.randn_like(x), y, rows=rows, progress=progress)


MADE_BY: dict[type[specs.RecipeBase], type[BatchLoss]] = {
    specs.StandardRecipe: BatchLoss,
    specs.FgsmMixRecipe: FgsmMix,
    specs.FgsmRecipe: Fgsm,
    specs.PgdRecipe: Pgd,
    specs.TradesRecipe: Trades,
    specs.FreeRecipe: Free,
    specs.IbpRecipe: Ibp,
    specs.GeneratorRecipe: GeneratorAdversarial,
    specs.NoiseRecipe: Noise,
}


def batch_loss(recipe: specs.RecipeBase) -> BatchLoss:
    """The loss that a recipe asks for."""
    return MADE_BY[type(recipe)](recipe)


def _same_in_both_modes(model: nn.Module) -> bool:
    """Whether train mode computes what eval mode does: no dropout, no batch statistics."""
    other = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    return not any(isinstance(module, other) for module in model.modules())
