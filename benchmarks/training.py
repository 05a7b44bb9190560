"""Training beside plain loops, its recipes beside standard training, and what trained models reach.

    python -m benchmarks.training [--sections loops pgd cost augmentation …] [--images 20000] [--rounds 5] ...
    python -m benchmarks.training --sections reach set1 --models A B --set1 STANDARD ROBUST
    python -m benchmarks.training --sections set3 set5 --set3 STANDARD MIX --set5 LINEAR CNN FGSM

`loops`: images a second of the training loop beside a plain torchvision + DataLoader loop and a naive in-memory one.
All train the same LeNet (431,080 parameters) with the same optimiser (SGD with momentum and weight decay) on MNIST; one
after the other, in turns, in one process; medians over the rounds, and ratios. The plain loop is the tutorials':
`ToTensor` and `Normalize` on one PIL image at a time, and the same architecture in ordinary float32 convolutions; the
naive loop indexes tensors in memory. Also measured: the rates of a large matrix multiplication, and what share of them
training reaches (multiplications and additions of the layers only, backward counted as twice forward).

`pgd`: the same for training on PGD's images: ours, and a plain DataLoader loop that calls torchattacks' PGD (needs the
environment of `benchmarks/requirements.txt`), with the same network, batch, steps, step size and random start.
`cost`: N-FGSM and PGD-k in units of the same network's standard steps, by this project on both sides; the goals are
2.2 and k + 1.3. Both measure CPU time: on a busy machine the clock says little.
`augmentation`: what random changes of CIFAR-10's images cost of a step of the small residual network.
`reach`: PGD by us and by torchattacks on saved models. `set1`: how far the strong generator attack must go on a
defended model, as multiples of an undefended one, and success against a cap on the distance, on 200 images at most.
`set3`, `set5`: the exercises' tables beside the sheets'.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from benchmarks import reach
from core.data.folder import data_root
from core.data.sets import Split, load
from core.networks.catalogue import build
from core.specs import DataSpec, TrainSpec
from core.training.augmentation import augmented
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


# ---------------------------------------------------------------- adversarial training

SECTIONS = ("loops", "pgd", "cost", "augmentation", "reach", "set1", "set3", "set5")
EPS, RELATIVE_STEP = 0.1, 0.25


def train_torchattacks(loader: Iterable[tuple[Tensor, Tensor]], model: nn.Module, steps: int) -> None:
    """The plain loop with torchattacks' PGD inside; it crafts in eval mode and puts train mode back, as ours does."""
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=RELATIVE_STEP * EPS, steps=steps, random_start=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    model.train()
    for x, y in loader:
        moved = attack(x, y)
        optimizer.zero_grad()
        F.cross_entropy(model(moved), y).backward()
        optimizer.step()


def pgd_spec(network: str, dataset: str, steps: int, batch_size: int) -> TrainSpec:
    """Training on PGD's images; no steps: standard training."""
    recipe = {"name": "pgd", "eps": EPS, "steps": steps, "relative_step": RELATIVE_STEP}
    return TrainSpec(
        data=DataSpec(dataset=dataset),
        network=network,
        batch_size=batch_size,
        lr=0.01,
        recipe=recipe if steps else {"name": "standard"},
    )


def pgd_section(options: argparse.Namespace) -> str:
    """Images a CPU-second of both loops, for each network."""
    rows = []
    for network in options.networks:
        dataset = "cifar10" if network == "resnet_small" else "mnist"
        reader = datasets.CIFAR10 if dataset == "cifar10" else datasets.MNIST
        raw = Subset(reader(data_root(), train=True, transform=transforms.ToTensor()), range(options.images))
        spec = pgd_spec(network, dataset, options.steps, options.batch_size)
        data = load(spec.data)
        split = data.train.take(torch.arange(options.images))
        plain, ours = [], []
        for turn in range(options.rounds + 1):
            torch.manual_seed(turn)
            model = build(network, data.shape, len(data.class_names))  # the same network, as PyTorch lays it out
            loader = DataLoader(raw, options.batch_size, shuffle=True)
            plain.append(_cpu_seconds(train_torchattacks, loader, model, options.steps))
            ours.append(_cpu_seconds(train_ours, split, spec, new_model(spec, data)))
        theirs, own = (options.images / statistics.median(times[1:]) for times in (plain, ours))
        rows.append([network, options.steps, theirs, own, own / theirs, 2.0])
    headers = ["network", "PGD steps", "DataLoader + torchattacks, images/s", "ours, images/s", "times as fast", "goal"]
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".2f")


def cost_section(options: argparse.Namespace) -> str:
    """CPU time of each recipe over that of standard training, on the same images, in turns."""
    rows = []
    for network in options.networks:
        dataset = "cifar10" if network == "resnet_small" else "mnist"
        data = load(DataSpec(dataset=dataset))
        split = data.train.take(torch.arange(options.images))
        noise = {"name": "fgsm", "eps": EPS, "start": "noise"}
        standard = pgd_spec(network, dataset, 0, options.batch_size)
        specs = {"standard": standard, "N-FGSM": TrainSpec.model_validate({**standard.model_dump(), "recipe": noise})}
        specs |= {f"PGD-{k}": pgd_spec(network, dataset, k, options.batch_size) for k in (1, 3, 7)}
        times: dict[str, list[float]] = {name: [] for name in specs}
        for turn in range(options.rounds + 1):
            for name, spec in specs.items():
                torch.manual_seed(turn)
                model = new_model(spec, data)
                seconds = _cpu_seconds(train_ours, split, spec, model)
                if turn:
                    times[name].append(seconds)
        unit = statistics.median(times["standard"])
        goals = {"N-FGSM": 2.2, **{f"PGD-{k}": k + 1.3 for k in (1, 3, 7)}}
        rows += [[network, name, statistics.median(times[name]) / unit, goal] for name, goal in goals.items()]
    headers = ["network", "recipe", "standard epochs", "goal, at most"]
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".2f")


def augmentation_section(options: argparse.Namespace) -> str:
    """CPU time of each augmentation, as a share of a step of standard training with it."""
    rows = []
    data = load(DataSpec(dataset="cifar10"))
    split = data.train.take(torch.arange(options.images))
    for kind in ("crop_flip", "crop_flip_cutout"):
        spec = TrainSpec(
            data=DataSpec(dataset="cifar10"), network="resnet_small", augment=kind, batch_size=options.batch_size
        )
        changing, steps = [], []
        for turn in range(options.rounds + 1):
            torch.manual_seed(turn)
            generator = torch.Generator().manual_seed(turn)
            model = new_model(spec, data)
            xs = [x for x, _, _ in batches(split, spec.batch_size, generator, "cpu")]
            changing.append(_cpu_seconds(lambda xs=xs, kind=kind: [augmented(x, kind) for x in xs]))
            steps.append(_cpu_seconds(train_ours, split, spec, model))
        change, step = (statistics.median(times[1:]) for times in (changing, steps))
        rows.append([kind, 1e6 * change / options.images, 1e6 * step / options.images, change / (change + step)])
    headers = ["augmentation", "µs an image", "standard step without it, µs an image", "share of a step"]
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".2f")


def _cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def loops_section(options: argparse.Namespace) -> str:
    """The plain, the naive and the project's loop on clean images."""
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

    rates = {str(dtype): matmul_gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(options.rounds + 1):  # the first round warms up
        for name, work in loops.items():
            seconds = _seconds(work)
            if turn:
                times[name].append(seconds)
    speed = {name: options.images / statistics.median(values) for name, values in times.items()}
    ours = speed["this project"]
    lines = [
        f"{name:24s} {value:8.0f} images/s   this project is {ours / value:5.2f} times as fast"
        for name, value in speed.items()
    ]
    reached = ours * flops_per_image(plain_lenet()) / 1e9
    lines.append(f"training reaches {reached:.0f} GFLOP/s")
    for name, rate in rates.items():
        lines.append(f"    {100 * reached / rate:.0f} % of a {name} matrix multiplication's {rate:.0f} GFLOP/s")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=["loops"])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="DataLoader workers to try (loops)")
    parser.add_argument("--networks", nargs="+", default=["strided", "lenet", "resnet_small"], help="pgd, cost")
    parser.add_argument("--steps", type=int, default=7, help="PGD steps (pgd)")
    parser.add_argument("--models", nargs="+", default=[], help="ids of saved models (reach)")
    parser.add_argument("--n", type=int, default=10_000, help="test images (reach, set3, set5)")
    parser.add_argument("--eps", type=float, help="reach: instead of the ε of training; set3: instead of .25")
    parser.add_argument("--attack-steps", type=int, default=50, help="reach")
    parser.add_argument("--restarts", type=int, default=10, help="reach")
    parser.add_argument("--set1", nargs="+", metavar="MODEL", help="ids of saved models, an undefended one first")
    parser.add_argument("--set3", nargs=2, metavar=("STANDARD", "MIX"), help="ids of saved models")
    parser.add_argument("--set5", nargs=3, metavar=("LINEAR", "CNN", "FGSM"), help="ids of saved models")
    options = parser.parse_args()
    for section in ("set1", "set3", "set5"):
        if section in options.sections and not getattr(options, section):
            parser.error(f"--sections {section} needs --{section} with ids of saved models")
    if "reach" in options.sections and not options.models:
        parser.error("--sections reach needs --models with ids of saved models")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {options.images} images, batch {options.batch_size}")
    sections: dict[str, Callable[[], str]] = {
        "loops": lambda: loops_section(options),
        "pgd": lambda: pgd_section(options),
        "cost": lambda: cost_section(options),
        "reach": lambda: reach.reach(options.models, options.n, options.attack_steps, options.restarts, options.eps),
        "augmentation": lambda: augmentation_section(options),
        "set1": lambda: reach.set1(options.set1, min(options.n, 200)),
        "set3": lambda: reach.set3(*options.set3, options.n, options.eps or 0.25),
        "set5": lambda: reach.set5(options.set5, options.n),
    }
    for section in options.sections:
        print(f"\n{section}\n{sections[section]()}", flush=True)


if __name__ == "__main__":
    main()
