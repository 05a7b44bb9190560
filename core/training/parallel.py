"""Training by several processes at once: each takes its share of every batch, and the gradients are averaged.

    torchrun --nproc-per-node 8 -m core train --dataset cifar10 --network preactresnet18 ...

Same entry, same spec, same artifact: the first process finds or makes it, writes and reports; the others take part and
wait. On CUDA each process has a device of its own and NCCL carries the gradients, on CPUs gloo. They are averaged by
hand, after the backward pass and in one piece: recipes run the model several times a step and differentiate by the
images too, which the hooks of `DistributedDataParallel` do not expect.

The batch size of the spec is the whole batch's, so the weights are those of one process up to rounding, but for what
depends on how a batch is cut: noise and augmentation are drawn by each process for its own images; batch norm sees a
process's share of the batch, and its running statistics are averaged after each epoch.
"""

from __future__ import annotations

import atexit
import datetime
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist

TIMEOUT = datetime.timedelta(days=7)
"""A process may wait so long for the others: torchrun ends them all when one dies."""


@dataclass(frozen=True)
class Group:
    """The processes that train together, and the place of this one; alone, every method leaves things as they are."""

    rank: int = 0
    size: int = 1

    def share(self, rows: Tensor) -> Tensor:
        """Rows of a batch that fall to this process; all of them where there are fewer than processes."""
        if self.size == 1 or len(rows) < self.size:
            return rows
        return rows.tensor_split(self.size)[self.rank]

    def average_gradients(self, model: nn.Module, images: int) -> None:
        """Every parameter's gradient: the mean over the whole batch, of which this process saw so many images."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients] + [gradients[0].new_ones(1)]).mul_(images)
        dist.all_reduce(whole)
        parts = whole[:-1].div_(whole[-1]).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def average_buffers(self, *models: nn.Module | None) -> None:
        """Running statistics: their mean over the processes."""
        if self.size == 1:
            return
        for model in models:
            for buffer in [] if model is None else model.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.size

    def total(self, *values: Tensor) -> list[Tensor]:
        """Scalars, each the sum over the processes."""
        if self.size == 1:
            return list(values)
        summed = torch.stack([value.double() for value in values])
        dist.all_reduce(summed)
        return list(summed)

    def agreed(self, values: Iterable[float], device: str) -> list[float]:
        """The first process's numbers: what hangs on a threshold must turn out the same everywhere."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(list(values), dtype=torch.float64, device=device)
        dist.broadcast(numbers, src=0)
        return numbers.tolist()

    def named(self, device: str) -> str:
        """The device, or how many there are of its kind."""
        return device if self.size == 1 else f"{self.size} {device.split(':')[0]}"

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """The first process goes through alone, the others after it: it may have to download."""
        if self.rank:
            broadcast_flag()
        yield
        if self.size > 1 and self.rank == 0:
            broadcast_flag()

    def seed(self, seed: int, epoch: int) -> None:
        """Random numbers of this process's own; the first one keeps those that it would draw alone."""
        if self.rank:
            torch.manual_seed((seed + 0x9E3779B9 * self.rank + 0x85EBCA6B * epoch) % 2**63)


ALONE = Group()
"""One process, the usual case."""


def join(device: str) -> str:
    """Join the other processes; returns this one's device ("cuda" becomes "cuda:1"). Once a process."""
    if device.startswith("cuda"):
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if place >= torch.cuda.device_count():
            raise ValueError(
                f"nproc-per-node: expected at most one process a CUDA device ({torch.cuda.device_count()}), "
                f"got a process of number {place + 1}"
            )
        torch.cuda.set_device(place)
        device = f"cuda:{place}"
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device != "cpu" else "gloo", timeout=TIMEOUT)
        atexit.register(leave)  # its threads must not outlive the interpreter: now and then that aborts
    return device


def leave() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def group() -> Group:
    """The processes that have met, or this one alone."""
    return Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def broadcast_flag(answer: bool = False) -> bool:
    """The first process's answer, in every process."""
    word = torch.tensor(int(answer))
    dist.broadcast(word, src=0)
    _wait_until_alone(word)
    return bool(word)


def _wait_until_alone(tensor: Tensor) -> None:
    """Wait until gloo's thread has let go of a tensor; as its last owner while the interpreter ends it aborts us."""
    end = time.monotonic() + 10
    while tensor._use_count() > 1 and time.monotonic() < end:  # type: ignore[attr-defined]
        time.sleep(1e-3)
