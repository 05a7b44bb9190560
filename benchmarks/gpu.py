"""Everything that a real GPU must show, in one command of under ten minutes and one table.

    python -m benchmarks.gpu [--device cuda] [--out TABLE.md] [--sections device tests training ...]
    python -m benchmarks.gpu --device cpu --small      # the same on a CPU in about a minute: that it works, no figures

It needs what `requirements.txt` names; pytest for the section `tests`, CIFAR-10 in the data folder (else images are
made) and torchattacks for the AutoAttack of others are used where they are there.

device       what `python -m core device` says: the check against the CPU, memory, rates of matrix products
tests        the tests marked `gpu`: every attack, every task and every recipe on the device
training     steps a second of PreActResNet-18 in batches of 512: plain float32, then bfloat16 and channels last, then
             compiled, as the project trains; share of the device's bfloat16 rate (backward counted as twice forward)
pgd          PGD on it, every step taken: images a second, and share of the float32 rate (verdicts are in float32)
evaluation   `evaluate --effort standard` in linf, at the ε at which PGD leaves half of the images: images a minute, and
             the time that 10,000 images would take at this pace
autoattack   AutoAttack on some of the same images: torchattacks' where it is installed, else its four parts by this
             project at its lengths (APGD-CE and targeted APGD-DLR of 100 steps, targeted FAB of 100, Square of 5,000
             queries)

Every section says the most memory that it took. One that takes longer than `LIMIT` seconds is stopped and says so; but
torchattacks cannot be stopped.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.gpu_subject import FULL, SMALL, Bench, spec_of, steps_of, subject
from core.attacks.black_box.square import square
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.pgd import pgd
from core.attacks.minimal.fab import fab
from core.evaluation.robust.robust import evaluate
from core.jobs import devices
from core.networks.catalogue import logits_of
from core.networks.portions import arithmetic
from core.progress import Cancelled
from core.storage import cards
from core.training.steps import compiled, mixed_precision, new_model

LIMIT = 100.0
"""Seconds that one section may take, the tests apart."""
TESTS = 150.0
"""Seconds that the tests may take."""
GIB = 1 << 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help=devices.HELP)
    parser.add_argument("--small", action="store_true", help="so little that a CPU does it in a minute: no figures")
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    try:
        device = devices.settled(options.device, None, lambda text: print(text, file=sys.stderr))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    bench = Bench(device, SMALL if options.small else FULL)
    start = time.perf_counter()
    for name in options.sections:
        section(bench, name)
    text = table(bench, time.perf_counter() - start)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


def section(bench: Bench, name: str) -> None:
    """One section, with the most memory that it took; one that fails says so, and the others go on."""
    cuda = bench.device.startswith("cuda")
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        SECTIONS[name](bench)
    except Exception as error:  # the table is worth having without this section
        said = (str(error) or "no message").splitlines()[0]
        bench.add(f"{name} failed", f"{type(error).__name__}: {said[:160]}")
    peak = f", peak memory {torch.cuda.max_memory_allocated() / GIB:.1f} GiB" if cuda else ""
    bench.add(f"section {name}", f"{time.perf_counter() - start:.0f} s{peak}")


def table(bench: Bench, seconds: float) -> str:
    """The table in Markdown, with the machine and the versions above it."""
    where = cards.machine() if bench.device == devices.CPU else f"{devices.name(bench.device)}, {cards.machine()}"
    head = (
        f"`python -m benchmarks.gpu`, {datetime.date.today()}, {where}, PyTorch {torch.__version__}, "
        f"{seconds:.0f} s in all."
    )
    if bench.size is SMALL:
        head += " With `--small`: that it works, no figures."
    return f"{head}\n\n" + tabulate(
        bench.rows, headers=("what", "figure", "how"), tablefmt="pipe", disable_numparse=True
    )


# ---------------------------------------------------------------- sections


def of_device(bench: Bench) -> None:
    """The check against the CPU, and rates of matrix products."""
    if bench.device != devices.CPU:
        text = devices.fault(bench.device)
        bench.add("self-check", text or "agrees with the CPU", "one attack and one proof on both")
        free, whole = devices.memory(bench.device) or (0, 0)
        bench.add("memory", f"{whole / GIB:.0f} GiB, {free / GIB:.0f} free")
    for kind in devices.kinds_of(bench.device):
        bench.add(f"matrix products, {kind}", f"{bench.rate(kind):.3g} TFLOP/s", "large square matrices")


def of_tests(bench: Bench) -> None:
    """The tests marked `gpu`, in a process of their own."""
    if importlib.util.find_spec("pytest") is None:
        bench.add("tests marked gpu", "not run: no pytest here")
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-x", "-p", "no:cacheprovider"]
    places = ["tests/training", "tests/attacks/test_on_device.py", "tests/jobs/test_on_device.py"]
    root = Path(__file__).resolve().parents[1]
    try:
        ended = subprocess.run([*command, *places], cwd=root, capture_output=True, text=True, timeout=TESTS)
    except subprocess.TimeoutExpired:
        bench.add("tests marked gpu", f"not done in {TESTS:.0f} s")
        return
    lines = ended.stdout.strip().splitlines() or ["no answer"]
    bench.add("tests marked gpu", lines[-1].strip("= "), "`python -m pytest -m gpu`")


def of_training(bench: Bench) -> None:
    """Steps a second in three ways, from the plainest to the project's own."""
    spec, images = spec_of(bench.size), bench.data()
    work = 3 * arithmetic(new_model(spec, images).eval(), torch.rand(2, *images.shape)) * spec.batch_size
    plain = torch.autocast(bench.device.split(":")[0], dtype=torch.bfloat16, enabled=False)
    ways: list[tuple[str, torch.autocast, bool, bool]] = [
        ("float32", plain, False, False),
        ("bfloat16, channels last", mixed_precision(bench.device), True, False),
        ("bfloat16, channels last, compiled", mixed_precision(bench.device), True, True),
    ]
    for name, precision, last, fast in ways if bench.device.startswith("cuda") else ways[:2]:
        torch.manual_seed(0)
        model = new_model(spec, images).to(bench.device)
        if not last:
            model = model.to(memory_format=torch.contiguous_format)
        if fast:
            model = compiled(model, spec, bench.device)
        step = steps_of(bench, model, precision)
        first = bench.timed(step)
        step()
        count, spent = 0, 0.0
        while spent < bench.size.seconds:
            spent += bench.timed(lambda step=step: [step() for _ in range(4)])
            count += 4
        kind = "bfloat16" if precision._enabled else "float32"
        bench.add(
            f"training {bench.size.network}, {name}",
            f"{count / spent:.3g} steps/s, {count * spec.batch_size / spent:,.0f} images/s, "
            f"{work * count / spent / 1e12 / bench.rate(kind):.0%} of the {kind} rate",
            f"batches of {spec.batch_size}; first step {first:.1f} s",
        )


def of_pgd(bench: Bench) -> None:
    """PGD with every step taken: its images a second, and its share of the matrix rate."""
    model, (x, y) = subject(bench), bench.images()
    one = arithmetic(model, x[:2])
    pgd(model, x, y, eps=bench.eps, steps=2, early_stop=False)
    made = None

    def work() -> None:
        nonlocal made
        made = pgd(model, x, y, eps=bench.eps, steps=bench.size.steps, early_stop=False)

    seconds = bench.timed(work)
    assert made is not None
    passes = int((made.forwards + made.backwards).sum())  # a gradient of the images costs what a forward pass does
    done = passes * one / seconds / 1e12
    bench.add(
        f"PGD, {bench.size.steps} steps",
        f"{len(x) / seconds:,.0f} images/s, {passes / seconds:,.0f} passes/s, "
        f"{done / bench.rate('float32'):.0%} of the float32 rate",
        f"{len(x)} images, linf {bench.eps:.4f}, float32",
    )


def of_evaluation(bench: Bench) -> None:
    """`evaluate`, as the command line runs it."""
    model, (x, y) = subject(bench), bench.images()
    made = None

    def work() -> None:
        nonlocal made
        made = evaluate(model, x, y, eps=bench.eps, effort=bench.size.effort, on_progress=until(LIMIT))

    try:
        seconds = bench.timed(work)
    except Cancelled:
        bench.add(f"evaluate --effort {bench.size.effort}", f"not done in {LIMIT:.0f} s", f"{len(x)} images")
        return
    assert made is not None
    bench.add(
        f"evaluate --effort {bench.size.effort}",
        f"{60 * len(x) / seconds:,.0f} images/min, 10,000 images in {10_000 * seconds / len(x) / 60:.1f} min",
        f"{len(x)} images of {bench.data().title}, linf {bench.eps:.4f}: accuracy {made.clean.float().mean():.1%}, "
        f"robust {made.robust.float().mean():.1%}",
    )


def of_autoattack(bench: Bench) -> None:
    """AutoAttack on some of the same images."""
    model, (x, y) = subject(bench), (part[: bench.size.compared] for part in bench.images())
    theirs = importlib.util.find_spec("torchattacks") is not None
    run, name = (of_others, "torchattacks' AutoAttack") if theirs else (in_parts, "AutoAttack's four parts, our own")
    left = None

    def work() -> None:
        nonlocal left
        left = run(bench, model, x, y)

    try:
        seconds = bench.timed(work)
    except Cancelled:
        bench.add(name, f"not done in {LIMIT:.0f} s", f"{len(x)} images")
        return
    assert left is not None
    bench.add(
        name,
        f"{60 * len(x) / seconds:,.0f} images/min, 10,000 images in {10_000 * seconds / len(x) / 60:.1f} min",
        f"{len(x)} images, linf {bench.eps:.4f}: robust {left.float().mean():.1%}",
    )


def of_others(bench: Bench, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N,) bool: what torchattacks' standard version leaves."""
    import torchattacks

    x_adv = torchattacks.AutoAttack(model, norm="Linf", eps=bench.eps, version="standard", n_classes=10, seed=0)(x, y)
    return logits_of(model, x_adv).argmax(1) == y


def in_parts(bench: Bench, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N,) bool: what APGD-CE, targeted APGD-DLR, targeted FAB and Square leave, each of what the ones before left."""
    steps, queries = bench.size.lengths
    watch, budget = until(LIMIT), {"eps": bench.eps}
    parts: list[Callable[..., Any]] = [
        lambda *given, **more: apgd(*given, **budget, steps=steps, **more),
        lambda *given, **more: apgd(*given, **budget, steps=steps, loss="dlr", restarts=0, targets=9, **more),
        lambda *given, streams, **more: fab(*given, norm="linf", steps=steps, targets=9, enough=bench.eps, **more),
        lambda *given, **more: square(*given, **budget, queries=queries, **more),
    ]
    rows = (logits_of(model, x).argmax(1) == y).nonzero()[:, 0]
    for attack in parts:
        if len(rows):
            made = attack(model, x[rows], y[rows], streams=Streams.of(0, rows), on_progress=watch)
            rows = rows[~(made.success & (made.distance["linf"] <= bench.eps))]
    return torch.zeros_like(y, dtype=torch.bool).index_fill_(0, rows, True)


def until(seconds: float) -> Callable[..., None]:
    """A progress that stops the run after so many seconds."""
    end = time.perf_counter() + seconds

    def watch(done: int, total: int, **more: Any) -> None:
        if time.perf_counter() > end:
            raise Cancelled

    return watch


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "device": of_device,
    "tests": of_tests,
    "training": of_training,
    "pgd": of_pgd,
    "evaluation": of_evaluation,
    "autoattack": of_autoattack,
}
"""Every section by its name, in the order in which they run."""


if __name__ == "__main__":
    sys.exit(main())
