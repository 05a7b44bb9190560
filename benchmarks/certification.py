"""Bounds and seconds an image of every method of certification, beside auto_LiRPA and HiGHS without our bounds.

    python -m benchmarks.certification MODEL EPS [--images 50] [--time-limit 10] [--methods ibp crown alpha_crown exact]

MODEL is the id of a saved model with ReLUs, EPS an linf radius. Every method sees the same images. auto_LiRPA is used
directly where it can be imported, with its own defaults, in float32; where it cannot, the reason is printed. HiGHS
without our bounds gets those of intervals, on the images that intervals leave open, a few of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.attacks import pgd
from core.certification import METHODS, certified_margins, verify
from core.certification.ball import Ball
from core.certification.crown import crown_bounds, interval_bounds, margin_rows
from core.certification.graph import lower
from core.certification.milp import decide, program
from core.certification.proof import TINY
from core.data import first_of_test, to_float
from core.models import load_model
from core.store import default_root


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What it gives, and seconds."""
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start


def lirpa(model: nn.Module, x: Tensor, y: Tensor, eps: float, method: str) -> Tensor:
    """Smallest margins by auto_LiRPA, image by image, as its examples do. Raises ImportError where it is missing."""
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm  # type: ignore[import-not-found]

    bounded = BoundedModule(model, x[:1])
    found = []
    for i in range(len(x)):
        low, high = (x[i : i + 1] - eps).clamp(min=0), (x[i : i + 1] + eps).clamp(max=1)
        ball = PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high)
        rows = margin_rows(10, y[i : i + 1], x)
        rows = rows[:, [k for k in range(rows.shape[1]) if k != int(y[i])]]
        least, _ = bounded.compute_bounds(x=(BoundedTensor(x[i : i + 1], ball),), C=rows, method=method)
        found.append(least.min())
    return torch.stack(found)


def integer_programmes(model: nn.Module, x: Tensor, y: Tensor, eps: float, limit: float) -> None:
    """HiGHS on the same images with the bounds of intervals, and with linear bounds."""
    graph = lower(model, tuple(x.shape[1:]), torch.float64)
    for name, bounds_of in (("intervals", interval_bounds), ("linear bounds", crown_bounds)):
        decided, binaries, start = 0, 0, time.perf_counter()
        for i in range(len(x)):
            ball = Ball.around(x[i : i + 1], eps, "linf", torch.float64)
            with torch.no_grad():
                made = program(graph, ball, bounds_of(graph, ball))
                rows = margin_rows(graph.nodes[-1].shape[0], y[i : i + 1], ball.x)[0]
            binaries += int(made.binary.sum())
            deadline, answers = time.perf_counter() + limit, []
            for k in range(len(rows)):
                if k != int(y[i]):
                    sure, pixels = decide(made, rows[k], 1e-5, time_limit=deadline - time.perf_counter())
                    answers.append(sure or pixels is not None)
                    if pixels is not None or not answers[-1]:
                        break
            decided += all(answers)
        seconds = (time.perf_counter() - start) / max(1, len(x))
        print(f"HiGHS with {name:14s} decides {decided} of {len(x)}, {seconds:8.2f} s an image, ", end="")
        print(f"{binaries / max(1, len(x)):.0f} binaries", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("eps", type=float)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--programmes", type=int, default=3, help="images for HiGHS alone")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds an image, exact and HiGHS")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, "exact"], choices=[*METHODS, "exact"])
    options = parser.parse_args()
    saved = load_model(options.model, default_root())
    batch = first_of_test(saved.data(), options.images)
    x, y, model, eps = to_float(batch.x), batch.y, saved.model, options.eps

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads; {saved.artifact.id}, linf {eps:g}, first {len(x)} test images")
    with torch.no_grad():
        right = model(x).argmax(1) == y
    attacked = pgd(model, x, y, eps=eps, steps=40, restarts=2).success | ~right
    print(f"clean {right.float().mean():.4f}, PGD-40×2 leaves {1 - attacked.float().mean():.4f}")
    open_rows = right.clone()
    for method in options.methods:
        if method == "exact":
            start = time.perf_counter()
            answer = verify(model, x, y, eps, time_limit=options.time_limit)
            seconds = time.perf_counter() - start
            shares = {name: float((answer.verdict == name).mean()) for name in ("proven", "fooled", "unknown")}
            print(f"{'exact':12s} {shares}, {seconds / len(x):8.3f} s an image, {seconds:.0f} s in all", flush=True)
            continue
        margins, seconds = timed(lambda method=method: certified_margins(model, x, y, eps, method=method))
        open_rows &= ~(margins > TINY) if method == "ibp" else open_rows
        share = float((margins > TINY).double().mean())
        median = float(margins[right].median())
        print(
            f"{method:12s} proven {share:.4f}, median margin {median:9.3f}, {seconds / len(x):8.3f} s an image",
            flush=True,
        )
    try:
        for method in ("IBP", "CROWN", "CROWN-Optimized"):
            margins, seconds = timed(lambda method=method: lirpa(model, x, y, eps, method))
            share = float((margins > 0).double().mean())
            print(f"auto_LiRPA {method:16s} proven {share:.4f}, {seconds / len(x):8.3f} s an image", flush=True)
    except ImportError as error:
        print(f"auto_LiRPA cannot be used here: {error}")
    rows = (open_rows & ~attacked).nonzero()[: options.programmes, 0]
    integer_programmes(model, x[rows], y[rows], eps, options.time_limit)


if __name__ == "__main__":
    main()
