"""Proofs: what every method proves of a network and in how many seconds, beside auto_LiRPA and HiGHS on its own.

    python -m benchmarks.certification MODEL EPS [--images 50] [--sections bounds exact lirpa milp] [--time-limit 10]
    python -m benchmarks.certification --sections linear [--seeds 4]
    python -m benchmarks.certification --sections vnncomp --folder FOLDER [--time-limit 120] [--networks 256x2]

A dense network whose ReLUs mostly keep their signs in the ball, so that complete verification decides nearly all
images; it ships as the reference model `mnist-mlp-stable`:

    python -m core train --dataset mnist --network mlp --epochs 10 --batch-size 256 --optimizer adam --lr 0.002
        --weight-decay 0 --average 0.995 --recipe pgd --eps 0.1 --steps 7 --warmup 0.3 --stability 0.7
    python -m benchmarks.certification mnist-mlp-pgd .1 --images 200 --sections exact --time-limit 60

MODEL is the id of a saved model with ReLUs, or the start of one; EPS an linf radius. Every method sees the same images:
the first of the test set, those that are read wrongly among them. Seconds are CPU seconds of this process, the clock's
beside them for the whole.

`bounds`: ours, from intervals to optimised slopes. `exact`: proven, fooled, unknown; and the gap between what is proven
and what is left by the search for a fooling image. `lirpa`: auto_LiRPA used directly (see `benchmarks.lirpa`), in
float32 and without an allowance for rounding, which ours have. `milp`: HiGHS on images that intervals leave open and
PGD does not fool, a few of them, in programmes with the bounds of intervals and with our linear bounds.
`linear`: the table of robust accuracy of a 10-class linear model, FGSM's beside the exact one with and without the box,
beside the one that was computed on another machine from a training of the same kind.
`vnncomp`: complete verification of a competition's instances beside published verdicts (see `benchmarks.vnncomp`).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks import lirpa, vnncomp
from core.attacks.fixed_budget.fgsm import fgsm
from core.attacks.fixed_budget.pgd import pgd
from core.certification.ball import Ball
from core.certification.bounds import margin_rows
from core.certification.crown import crown_bounds, interval_bounds
from core.certification.exact import verify
from core.certification.graph import lower
from core.certification.milp import IntegerProgram, decide, program
from core.certification.proof import METHODS, TINY, certified_margins
from core.data.sets import Dataset, Split, first_of_test, load, to_float
from core.linear.exact import affine_model, smallest
from core.models.saved import load_model
from core.networks.catalogue import build
from core.specs import TrainSpec, preset
from core.storage.store import default_root
from core.training.recipes import batch_loss
from core.training.steps import batches, make_optimizer, train_step

SECTIONS = ("bounds", "exact", "lirpa", "milp", "linear", "vnncomp")
LINEAR = TrainSpec.model_validate({**preset("set5"), "data": {"dataset": "mnist"}, "network": "linear"})
SHEET = {
    0.05: (0.6212, 0.5732, 0.2573),
    0.1: (0.1559, 0.1067, 0.0060),
    0.15: (0.0261, 0.0092, 0),
    0.2: (0.0014, 0.0001, 0),
}
"""Of a softmax regression: at each eps FGSM clipped, exact with the box, exact without it."""


@contextmanager
def timed(said: list[str], n: int) -> Iterator[None]:
    """Add CPU seconds an image, and both clocks for all, to what is printed."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    said.append(f"{cpu / max(1, n):.3f} CPU s an image, {cpu:.0f} CPU s and {wall:.0f} s by the clock in all")


def bounds(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> None:
    """Our bounds of every strength."""
    for method in METHODS:
        said: list[str] = []
        with timed(said, len(x)):
            margins = certified_margins(model, x, y, eps, method=method)
        share, median = (margins > TINY).double().mean(), margins.median()
        print(f"{method:27s} proven {share:.4f}, median margin {median:9.3f}, {said[0]}", flush=True)


def exact(model: nn.Module, x: Tensor, y: Tensor, eps: float, limit: float) -> None:
    """Complete verification, and the gap that it leaves."""
    said: list[str] = []
    with timed(said, len(x)):
        answer = verify(model, x, y, eps, time_limit=limit)
    shares = {name: float((answer.verdict == name).mean()) for name in ("proven", "fooled", "unknown")}
    by_intervals = float((answer.found_by == "ibp").mean())
    attacked = 1 - float(((answer.found_by == "clean") | (answer.found_by == "pgd")).mean())
    print(f"{'exact':27s} " + ", ".join(f"{name} {share:.4f}" for name, share in shares.items()) + f", {said[0]}")
    for name, low, high in (
        ("intervals and PGD", by_intervals, attacked),
        ("exact", shares["proven"], 1 - shares["fooled"]),
    ):
        print(f"  {name}: [{low:.4f}, {high:.4f}], {100 * (high - low):.1f} points apart", flush=True)
    named = np.where(answer.found_by == "", "nothing", answer.found_by)
    print("  answers by " + ", ".join(f"{by} {int((named == by).sum())}" for by in np.unique(named)), flush=True)


def peer(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> None:
    """auto_LiRPA's bounds, or why there are none."""
    for method in lirpa.METHODS:
        said: list[str] = []
        try:
            with timed(said, len(x)):
                assert isinstance(model, nn.Sequential)
                margins = lirpa.margins(model, x, y, eps, method)
        except Exception as error:  # whatever breaks in the peer is its result
            print(f"auto_LiRPA {method:16s} broken: {type(error).__name__}: {error}", flush=True)
            continue
        share, median = (margins > 0).double().mean(), margins.median()
        print(f"auto_LiRPA {method:16s} proven {share:.4f}, median margin {median:9.3f}, {said[0]}", flush=True)


def programmes(model: nn.Module, x: Tensor, y: Tensor, eps: float, limit: float, most: int) -> None:
    """HiGHS alone on the same images, with the bounds of intervals and with linear bounds."""
    left = ~(certified_margins(model, x, y, eps, method="ibp") > TINY)
    left &= ~pgd(model, x, y, eps=eps, steps=40, restarts=2).success & (model(x).argmax(1) == y)
    rows = left.nonzero()[:most, 0]
    graph = lower(model, tuple(x.shape[1:]), torch.float64)
    for name, bounds_of in (("intervals", interval_bounds), ("linear bounds", crown_bounds)):
        decided, binaries = 0, 0
        said: list[str] = []
        with timed(said, len(rows)), torch.no_grad():
            for i in rows.tolist():
                ball = Ball.around(x[i : i + 1], eps, "linf", torch.float64)
                made = program(graph, ball, bounds_of(graph, ball))
                binaries += int(made.binary.sum())
                apart = margin_rows(graph.nodes[-1].shape[0], y[i : i + 1], ball.x)[0]
                decided += _decided(made, [row for k, row in enumerate(apart) if k != int(y[i])], limit)
        count = max(1, len(rows))
        print(
            f"HiGHS with {name:16s} decides {decided} of {len(rows)}, {binaries / count:.0f} binaries, {said[0]}",
            flush=True,
        )


def _decided(made: IntegerProgram, rows: list[Tensor], limit: float) -> bool:
    """Whether every margin is proven, or an image found where one is not, within `limit` seconds."""
    deadline = time.perf_counter() + limit
    for row in rows:
        sure, pixels = decide(made, row, 1e-5, time_limit=deadline - time.perf_counter())
        if not sure:
            return pixels is not None
    return True


def softmax_regression(data: Dataset, seed: int) -> nn.Module:
    """Trained as the sheet's: set 5's preset, on pixels as they are, on all training images, in float32."""
    parts = [vars(part) for part in (data.train, data.validation)]
    whole = Split(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(LINEAR.network, data.shape, len(data.class_names))  # its normalisation stays the identity
    optimizer, loss_of = make_optimizer(LINEAR, model), batch_loss(LINEAR.recipe)
    order, precision = torch.Generator().manual_seed(seed), torch.autocast("cpu", enabled=False)
    for _ in range(LINEAR.epochs):
        for x, y, rows in batches(whole, LINEAR.batch_size, order, "cpu"):
            train_step(model, optimizer, loss_of, precision, x, y, rows)
    return model.eval().requires_grad_(False)


def linear(seeds: list[int]) -> None:
    """Softmax regressions of several seeds: robust accuracy beside the sheet's, which is one training's."""
    data = load(LINEAR.data)
    x, y = to_float(data.test.x), data.test.y
    sheet, found = torch.tensor(list(SHEET.values())), []
    for seed in seeds:
        said: list[str] = []
        with timed(said, 1):
            model = softmax_regression(data, seed)
            solved = affine_model(model, data.shape)
            ends = [smallest(solved, x, y, norm="linf", box=box).distance for box in (True, False)]
        rows = []
        for eps in SHEET:
            stands = [~fgsm(model, x, y, eps=eps).success, *(end > eps for end in ends)]
            rows.append([float(mask.double().mean()) for mask in stands])
        found.append(torch.tensor(rows))
        apart, clean = (found[-1] - sheet).abs().max(), (model(x).argmax(1) == y).double().mean()
        print(f"seed {seed}: clean {clean:.4f}, at most {apart:.4f} from the sheet; {said[0]}", flush=True)
    made = torch.stack(found)
    nearest = int((made - sheet).abs().amax((1, 2)).argmin())
    named = {f"nearest, seed {seeds[nearest]}": made[nearest], "mean": made.mean(0), "least": made.amin(0)}
    named |= {"most": made.amax(0), "sheet": sheet}
    heads = [f"ε {eps:g}, {what}" for eps in SHEET for what in ("FGSM", "box", "no box")]
    print(
        tabulate(
            zip(heads, *(table.flatten().tolist() for table in named.values()), strict=True),
            ["", *named],
            floatfmt=".4f",
        )
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("eps", type=float, nargs="?")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--programmes", type=int, default=3, help="images for HiGHS alone")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds an image, exact and HiGHS")
    parser.add_argument("--seeds", type=int, default=4, help="trainings for the linear table")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of a competition's files")
    parser.add_argument("--year", default="2021", help="whose published verdicts are of these instances")
    parser.add_argument("--networks", nargs="*", default=[], help="parts of the names of a competition's networks")
    options = parser.parse_args()
    sections = options.sections or (SECTIONS[:-2] if options.model else SECTIONS[-2:-1])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads")
    if "linear" in sections:
        linear(list(range(options.first_seed, options.first_seed + options.seeds)))
    if "vnncomp" in sections:
        if options.folder is None:
            parser.error("--folder is needed for vnncomp")
        vnncomp.compare(options.folder, options.time_limit, options.year, options.networks)
    if set(sections) <= {"linear", "vnncomp"}:
        return
    if options.model is None or options.eps is None:
        parser.error("MODEL and EPS are needed for all sections but linear and vnncomp")
    saved = load_model(options.model, default_root())
    batch = first_of_test(saved.data(), options.images)
    x, y, model, eps = to_float(batch.x), batch.y, saved.model, options.eps
    print(f"{saved.artifact.id}, linf {eps:g}, first {len(x)} test images")
    work = {
        "bounds": lambda: bounds(model, x, y, eps),
        "exact": lambda: exact(model, x, y, eps, options.time_limit),
        "lirpa": lambda: peer(model, x, y, eps),
        "milp": lambda: programmes(model, x, y, eps, options.time_limit, options.programmes),
    }
    for section in sections:
        if section in work:
            work[section]()


if __name__ == "__main__":
    main()
