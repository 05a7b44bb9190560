"""Where the processor's time of an evaluation goes, and what searches in half precision save; one run, one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.speed --networks cifar10-fgsm cnn-trades-2 lenet-fgsm-2 --images 100

A network is a bundled reference model or one of `benchmarks.carry_over`. Evaluations with and without half precision
take turns in one process, after one of each that is not counted; a figure is the median in seconds of the processor.
`of the rate` is what convolutions and dense layers would take at the machine's measured rate of float32 products, over
what the evaluation took. Under `by kernel` is one profiled evaluation of each kind, in shares of its time
by the clock, which is all that the profiler knows; profiling inflates small steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from unittest import mock

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import carry_over
from core.data.sets import first_of_test, to_float
from core.evaluation.robust import precision
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.robust import evaluate
from core.kernels.half import native
from core.models.reference import REFERENCES
from core.models.saved import load_model
from core.networks.portions import arithmetic
from core.storage.store import default_root

SIDE, TIMES = 1024, 20
"""Of the square matrices whose product is the machine's rate, and how many products are timed."""
KERNELS = {
    "convolution, forwards": ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward"),
    "convolution, backwards": ("aten::convolution_backward", "_QuickConvolutionBackward"),
    "dense layers": ("aten::addmm", "aten::mm", "aten::bmm"),
    "batch norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
    "ReLU, pooling, sums": (
        *("aten::clamp_min", "aten::relu", "aten::threshold_backward", "aten::add", "aten::add_"),
        *("aten::max_pool2d_with_indices", "aten::max_pool2d_with_indices_backward"),
        *("aten::adaptive_max_pool2d", "aten::adaptive_max_pool2d_backward"),
    ),
    "copies and casts": ("aten::copy_", "aten::clone", "aten::_to_copy", "aten::index"),
}
"""What PyTorch calls the kernels of each row."""

Subject = tuple[nn.Module, Tensor, Tensor, Tensor, float]


def subject(name: str, n: int) -> Subject:
    """A network, the first n test images, their classes and numbers, and the linf budget that it is judged at."""
    if name in carry_over.SUBJECTS:
        return carry_over.network(name), *carry_over.images(name, n), carry_over.SUBJECTS[name].eps["linf"]
    saved = load_model(REFERENCES[name].spec.artifact_name(), default_root())
    batch = first_of_test(saved.data(), n)
    return saved.model.eval(), to_float(batch.x), batch.y, batch.index, REFERENCES[name].eps


def evaluated(of: Subject, half: bool) -> Evaluation:
    """The evaluation, with or without searches in half precision."""
    model, x, y, index, eps = of
    with mock.patch.object(precision, "native", native if half else lambda device: False):
        return evaluate(model, x, y, eps=eps, index=index, trust=False)


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of two square matrices."""
    one, two = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    return 2 * SIDE**3 / statistics.median(seconds(lambda: one @ two) for _ in range(TIMES))


def compared(name: str, n: int, repeats: int, products: float) -> tuple[str, ...]:
    """A row of the first table."""
    of = subject(name, n)
    made = {half: evaluated(of, half) for half in (False, True)}
    took: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(repeats):
        for half in (False, True) if turn % 2 == 0 else (True, False):
            took[half].append(seconds(lambda half=half: evaluated(of, half)))
    plain, rounded = (made[half] for half in (False, True))
    middle = {half: statistics.median(found) for half, found in took.items()}
    each = arithmetic(of[0], of[1][:1])
    shares = [
        each * int((made[half].forwards + made[half].backwards).sum()) / products / middle[half]
        for half in (False, True)
    ]
    only = [int((plain.robust & ~rounded.robust).sum()), int((~plain.robust & rounded.robust).sum())]
    return (
        name,
        f"{each / 1e6:.1f}",
        str(n),
        f"{100 * plain.robust_accuracy:.1f} / {100 * rounded.robust_accuracy:.1f} %",
        f"{only[0]} / {only[1]}",
        f"{middle[False]:.1f}",
        f"{middle[True]:.1f}",
        f"{middle[False] / middle[True]:.2f}",
        f"{100 * shares[0]:.0f} / {100 * shares[1]:.0f} %",
    )


def by_kernel(name: str, n: int, half: bool) -> dict[str, float]:
    """The share of an evaluation's time in each kind of kernel."""
    of = subject(name, n)
    evaluated(of, half)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        start = time.perf_counter()
        evaluated(of, half)
        whole = time.perf_counter() - start
    kinds = {kernel: kind for kind, kernels in KERNELS.items() for kernel in kernels}
    found: Counter[str] = Counter()
    for event in seen.key_averages():
        found[kinds.get(event.key, "everything else of PyTorch")] += event.self_cpu_time_total / 1e6
    found["Python"] = whole - sum(found.values())
    return {kind: found[kind] / whole for kind in (*KERNELS, "everything else of PyTorch", "Python")}


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True), end="\n\n", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["cifar10-fgsm", "cnn-trades-2", "lenet-fgsm-2"])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    products, rounded = rate(torch.float32), rate(torch.bfloat16)
    print(f"float32 products {products / 1e9:.0f} GFLOP/s, bfloat16 {rounded / 1e9:.0f}; native: {native('cpu')}\n")
    head = ("network", "MFLOP", "n", "robust", "only half / only float32 fools", "float32 s", "half s", "ratio")
    rows = [compared(name, options.images, options.repeats, products) for name in options.networks]
    show((*head, "of the rate"), rows)
    for name in options.networks:
        plain, half = (by_kernel(name, options.images, how) for how in (False, True))
        print(f"{name}, by kernel\n")
        show(("kernel", "float32", "half"), [(kind, f"{plain[kind]:.0%}", f"{half[kind]:.0%}") for kind in plain])


if __name__ == "__main__":
    main()
