"""The cost of shards: one task in one process, in local processes, and on a Ray of two nodes of this machine.

    python -m benchmarks.scale --model mnist-lenet-standard --eps 0.1 --images 2000
    python -m benchmarks.scale --task radii --model mnist-lenet-standard --images 2000

Each run is made anew in a store of its own, with one thread a process. `start` is the time until the first shard is
begun: processes, PyTorch, images, and the look that all shards share. `after` is the rest. `processor` is the time of
processors from there on, of all processes; `overhead` is that over the one of one process, less 1: what is lost by
smaller batches, files and putting together, whatever else the machine does. `ideal` is the time after the start that
so many processes on the machine's cores would take without it. `same` says whether the verdicts are those of one
process. Needs Ray (`requirements-ray.txt`) for its row, which is left out without.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported

from tabulate import tabulate

from core import specs
from core.jobs import processes, running
from core.jobs.shards import engines, ranges
from core.storage import store

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}


@contextlib.contextmanager
def ray_of_two() -> Iterator[str]:
    """A Ray of two nodes with one CPU each, which listens on the loopback interface alone; its address."""
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    try:
        yield made.address
    finally:
        made.shutdown()


def measured(task: specs.Task, on: str) -> tuple[dict[str, Any], Any]:
    """The figures of one run in an empty store, and the verdicts: columns that must be equal everywhere."""
    times: dict[str, float] = {}

    def report(done: int, total: int, *, phase: str | None = None, **more: Any) -> None:
        times.setdefault("shards" if "shards" in (phase or "") else phase or "", time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, engines.on(on):
        begun, processor = time.perf_counter(), time.process_time()
        made = running.run(task, Path(folder), device="cpu", on_progress=report)
        ended, processor = time.perf_counter(), time.process_time() - processor
        assert isinstance(made, store.Artifact)
        table = made.table("images")
    first = times.get("shards", begun)
    shards = made.card.get("shards")
    row = {"start": first - begun, "after": ended - first}
    row["processor"] = processor if shards is None else shards["processor_seconds"] + processor
    verdicts = table[["index", "clean_correct"]].assign(fooled=table["upper"] < float("inf"))
    return row, verdicts


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["evaluate", "radii"], default="evaluate")
    parser.add_argument("--model", default="mnist-lenet-standard")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--no-ray", action="store_true")
    asked = parser.parse_args()
    task: specs.Task = (
        specs.EvaluateSpec(model=asked.model, eps=asked.eps, effort=asked.effort, n=asked.images)
        if asked.task == "evaluate"
        else specs.RadiiSpec(model=asked.model, budget=asked.budget, n=asked.images)
    )
    running.load()
    cores = processes.cores()
    print(f"{asked}, {cores} cores, load {os.getloadavg()[0]:.1f}, shards of {ranges.size(task)}")
    plain, verdicts = measured(task, "")
    rows = [{"on": "one process", **plain}]
    with contextlib.ExitStack() as stack:
        on = [(f"local:{count}", f"local:{count}", count) for count in asked.workers]
        if not asked.no_ray:
            on.append(("Ray, 2 nodes", stack.enter_context(ray_of_two()), 2))
        for name, engine, workers in on:
            row, found = measured(task, engine)
            row["ideal"] = plain["after"] / min(workers, cores)
            row["overhead"] = f"{row['processor'] / plain['processor'] - 1:+.1%}"
            row["same"] = found.equals(verdicts)
            rows.append({"on": name, **row})
    print(tabulate(rows, headers="keys", floatfmt=".1f", tablefmt="github"))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
