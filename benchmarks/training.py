"""Images a second of the training loop, beside a plain torchvision + DataLoader loop and a naive in-memory one.

    python -m benchmarks.training [--images 20000] [--rounds 5] [--batch-size 128] [--workers 0 2]

All train the same LeNet (431,080 parameters) with the same optimiser (SGD with momentum and weight decay) on MNIST; one
after the other, in turns, in one process; medians over the rounds, and ratios. The plain loop is the tutorials':
`ToTensor` and `Normalize` on one PIL image at a time, and the same architecture in ordinary float32 convolutions; the
naive loop indexes tensors in memory. Also measured: the rates of a large matrix multiplication, and what share of them
training reaches (multiplications and additions of the layers only, backward counted as twice forward).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from core.data import Split, load
from core.data_folder import data_root
from core.specs import DataSpec, TrainSpec
from core.training.recipes import batch_loss
from core.training.steps import batches, make_optimizer, mixed_precision, new_model, train_step


def plain_lenet() -> nn.Module:
    """The same network as anyone would write it."""
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
        *(nn.Conv2d(50, 500, 4), nn.ReLU(), nn.Conv2d(500, 10, 1), nn.Flatten()),
    )


def train_plain(loader: Iterable[tuple[Tensor, Tensor]], model: nn.Module) -> None:
    """The loop of any tutorial."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def train_ours(split: Split, spec: TrainSpec, model: nn.Module) -> None:
    """The project's own batches, optimiser and loss, without validation or reports."""
    optimizer, loss_of = make_optimizer(spec, model), batch_loss(spec.recipe)
    model.train()
    for x, y, rows in batches(split, spec.batch_size, torch.Generator().manual_seed(0), "cpu"):
        train_step(model, optimizer, loss_of, mixed_precision("cpu"), x, y, rows)


def naive_batches(x: Tensor, y: Tensor, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """In-memory batches without further care."""
    for rows in torch.randperm(len(y)).split(size):
        yield (x[rows].float() / 255 - 0.1307) / 0.3081, y[rows]


def matmul_gflops(dtype: torch.dtype, side: int = 2048, repeats: int = 9) -> float:
    """Median rate of a matrix multiplication, in 10⁹ multiplications and additions a second."""
    a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    return 2 * side**3 / statistics.median(_seconds(lambda: a @ b) for _ in range(repeats)) / 1e9


def flops_per_image(model: nn.Module) -> float:
    """Multiplications and additions of a forward and backward pass of one 28×28 image (backward = 2 × forward)."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += 2 * output[0].numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    model(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return 3.0 * total


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="DataLoader workers to try")
    options = parser.parse_args()

    spec = TrainSpec(data=DataSpec(dataset="mnist"), network="lenet", batch_size=options.batch_size)
    data = load(spec.data)
    split = data.train.take(torch.arange(options.images))
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    raw = Subset(datasets.MNIST(data_root(), train=True, transform=prepare), range(options.images))
    loops: dict[str, Callable[[], None]] = {
        f"DataLoader, {workers} workers": lambda workers=workers: train_plain(
            DataLoader(raw, options.batch_size, shuffle=True, num_workers=workers), plain_lenet()
        )
        for workers in options.workers
    }
    loops["naive, in memory"] = lambda: train_plain(naive_batches(split.x, split.y, options.batch_size), plain_lenet())
    loops["this project"] = lambda: train_ours(split, spec, new_model(spec, data))

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {options.images} images, batch {options.batch_size}")
    rates = {str(dtype): matmul_gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(options.rounds + 1):  # the first round warms up
        for name, work in loops.items():
            seconds = _seconds(work)
            if turn:
                times[name].append(seconds)
    speed = {name: options.images / statistics.median(values) for name, values in times.items()}
    ours = speed["this project"]
    for name, value in speed.items():
        print(f"{name:24s} {value:8.0f} images/s   this project is {ours / value:5.2f} times as fast")
    reached = ours * flops_per_image(plain_lenet()) / 1e9
    print(f"training reaches {reached:.0f} GFLOP/s")
    for name, rate in rates.items():
        print(f"    {100 * reached / rate:.0f} % of a {name} matrix multiplication's {rate:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
