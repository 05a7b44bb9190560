"""What a curve over ε costs once the radii are there: 5 models, 50 ε, up to 10,000 images each.

    python -m benchmarks.lookup [--models 5] [--eps 50] [--n 360] [--budget 200] [--planted 10000] [--rounds 20]

First the lookup alone, on planted bounds of `--planted` images a model: CPU milliseconds of the first look and of each
move of the slider, curves and paired tests. Then the whole on trained models (the embedded digits, in a store of its
own): seconds for the radii, and for the radii with the curves, read from disk and merged; the ratio is the price of the
curves. The bar: 100 ms a slider move, and a ratio of 1.2.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from core.evaluation.tables import records
from core.jobs import queue
from core.specs import RadiiSpec, TrainSpec
from core.storage import cards


def planted(n: int, seed: int) -> records.Record:
    """A record with random bounds."""
    rng = np.random.default_rng(seed)
    upper = rng.exponential(0.2, n)
    table = pd.DataFrame({"index": np.arange(n), "clean_correct": rng.random(n) < 0.95, "upper": upper})
    table = table.assign(lower=upper * rng.random(n), search="radii")
    return records.Record("planted", "", "linf", table, (), pd.DataFrame())


def lookup(models: int, eps: np.ndarray, n: int, rounds: int) -> tuple[float, float]:
    """CPU milliseconds of the first look at all models, which sorts, and the median of the later ones.

    A look is the curves of all models and the paired tests at one ε.
    """
    made = [planted(n, seed) for seed in range(models)]
    taken = []
    for place in range(rounds + 1):
        start = time.process_time()
        for record in made:
            records.curve(record, eps)
        records.tests({f"{seed}": record for seed, record in enumerate(made)}, float(eps[place % len(eps)]))
        taken.append(1000 * (time.process_time() - start))
    return taken[0], statistics.median(taken[1:])


def whole(models: int, eps: np.ndarray, n: int, budget: int, root: Path) -> tuple[float, float]:
    """Seconds for the radii of all models, and for their curves from the store."""
    ids = [queue.run(TrainSpec(network="mlp", epochs=10, seed=seed), root).id for seed in range(models)]
    start = time.perf_counter()
    for model in ids:
        queue.run(RadiiSpec(model=model, n=n, budget=budget), root)
    radii = time.perf_counter() - start
    start = time.perf_counter()
    for model in ids:
        record = records.load(model, "linf", root)
        assert record is not None
        records.curve(record, eps)
    return radii, time.perf_counter() - start


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("models", 5), ("eps", 50), ("n", 360), ("budget", 200), ("planted", 10_000), ("rounds", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    eps = np.linspace(0, 0.5, options.eps)
    first, later = lookup(options.models, eps, options.planted, options.rounds)
    print(f"lookup, {options.models} models x {options.planted} images x {options.eps} eps:")
    print(f"  first (sorts) {first:.2f} ms, then {later:.2f} ms a move (bar: 100 ms)")
    with tempfile.TemporaryDirectory() as folder:
        radii, curves = whole(options.models, eps, options.n, options.budget, Path(folder))
    print(f"radii of {options.models} models, n = {options.n}, {options.budget} passes: {radii:.2f} s")
    print(f"curves of {options.models} models over {options.eps} eps from the store: {curves:.3f} s")
    print(f"radii and curves / radii: {(radii + curves) / radii:.3f} (bar: 1.2)")
    print(f"versions: {cards.versions()}")


if __name__ == "__main__":
    main()
