"""One step of training and what it takes: the network, its optimiser, batches, the learning rate, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from core.data.sets import Dataset, Split, to_float
from core.kernels.half import native
from core.networks.catalogue import build, centre_of
from core.specs import NETWORKS, TrainSpec
from core.training.batch_loss import BatchLoss
from core.training.parallel import ALONE, Group

Tensors = tuple[Tensor, ...] | list[Tensor]


def new_model(spec: TrainSpec, data: Dataset) -> nn.Module:
    """The untrained network, its normalisation set from the training images; seed torch first."""
    model = build(spec.network, data.shape, len(data.class_names), scalar=spec.scalar)
    if spec.init == "gaussian":
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.01)
            elif name.endswith("bias"):  # and not batch normalisation's scale, without which nothing is learnt
                nn.init.zeros_(parameter)
    centre = centre_of(model)
    if centre is not None:
        centre.fit(to_float(data.train.x[:10_000]))
    return model.to(memory_format=torch.channels_last)


def compiled(model: nn.Module, spec: TrainSpec, device: str) -> nn.Module:
    """The same module, whose forward pass PyTorch compiles at its first call, on a GPU and if it is deep.

    Names of parameters and buffers, copies of the module and what is saved of it know nothing of that.
    """
    if device.startswith("cuda") and NETWORKS[spec.network].deep:
        model.compile()
    return model


def make_optimizer(spec: TrainSpec, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam; the weight decay is an l2 penalty in both."""
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=True
        )
    return torch.optim.Adam(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def batch_sizes(images: int, batch_size: int, min_batch: int = 1) -> list[int]:
    """Sizes of the batches of one pass; a last one of fewer than `min_batch` images is joined to the one before."""
    sizes = [batch_size] * (images // batch_size) + [images % batch_size] * (images % batch_size > 0)
    if len(sizes) > 1 and sizes[-1] < min_batch:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return sizes


def batches(
    split: Split, batch_size: int, generator: torch.Generator, device: str, min_batch: int = 1
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One pass in random order: x (B, C, H, W) float32 in [0, 1], channels last; y (B,); positions in it (B,).

    `min_batch` as in `batch_sizes`.
    """
    for rows in torch.randperm(len(split), generator=generator).split(batch_sizes(len(split), batch_size, min_batch)):
        rows = rows.to(split.x.device)
        yield to_float(split.x[rows]).contiguous(memory_format=torch.channels_last), split.y[rows], rows


def mixed_precision(device: str) -> torch.autocast:
    """Autocast to bfloat16 for a batch's loss where the hardware multiplies it natively, else a context without effect.

    Measured faster on a CPU with AVX512-BF16; see docs/MEASUREMENTS.md. For training only: every verdict is in float32.
    """
    # no cache: weights that were cast while gradients were off (TRADES) would be used again without a gradient
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=native(device), cache_enabled=False)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: BatchLoss,
    precision: torch.autocast,
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    progress: float = 1.0,
    group: Group = ALONE,
) -> tuple[Tensor, Tensor]:
    """One step down a batch's loss; returns the loss and the logits that it was made from (see `BatchLoss`).

    Of several processes (`group`) each brings its share of the batch, and steps down the loss of the whole.
    """
    with precision:
        loss, logits = loss_of(model, x, y, rows=rows, progress=progress)
    optimizer.zero_grad()
    loss.backward()
    group.average_gradients(model, len(y))
    if loss_of.largest_gradient is not None:
        nn.utils.clip_grad_norm_(model.parameters(), loss_of.largest_gradient)
    optimizer.step()
    return loss, logits


def learning_rate(spec: TrainSpec, progress: float) -> float:
    """Learning rate at a progress in [0, 1]: constant, or up for a quarter and down to a thousandth, both by cosine."""
    if spec.schedule == "constant":
        return spec.lr
    rise, start, end = 0.25, 1 / 25, 1e-3  # Smith and Topin 2018, arXiv 1708.07120; PyTorch's default start
    if progress < rise:
        share = 0.5 - 0.5 * math.cos(math.pi * progress / rise)
        return spec.lr * (start + (1 - start) * share)
    share = 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))
    return spec.lr * (end + (1 - end) * share)


def averaging(model: nn.Module, decay: float) -> AveragedModel:
    """The running mean of weights and buffers, w ← decay·w + (1 − decay)·new; the decay rises to its value at first."""

    @torch.no_grad()
    def mean(old: Tensors, new: Tensors, count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        if old[0].is_floating_point():
            torch._foreach_lerp_(old, new, 1 - now)
        else:  # counters
            torch._foreach_copy_(old, new)

    return AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
