"""Shards in processes of this machine, which share its cores, and its GPUs in turn. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from core.jobs import processes
from core.jobs.shards.engines import Engine, EngineError

TRIES = 3
"""How often a step is begun whose process ended without an answer."""
COMMAND = [sys.executable, "-P", "-u", "-m", "core", "shards"]
"""What a process is started by; see `serve`."""
TICK = 0.2
"""Seconds after which the process that asks looks up again."""


class Local:
    """So many processes; see `engines.Running`."""

    def __init__(self, engine: Engine, device: str) -> None:
        """Start them. Raises OSError where they cannot be."""
        self.device = device.partition(":")[0]  # of the one GPU that each process sees
        self._gpus = _gpus(device)
        self._free: list[subprocess.Popen[str]] = []
        self._all: list[subprocess.Popen[str]] = []
        self._answers: queue.SimpleQueue[tuple[subprocess.Popen[str], str]] = queue.SimpleQueue()
        self._workers = engine.workers
        for number in range(engine.workers):
            self._start(number)

    def nodes(self) -> list[dict[str, Any]]:
        """The machine that this process is on."""
        return [{"host": platform.node(), "cpus": processes.cores(), "gpus": len(self._gpus)}]

    def run(self, steps: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]] | None]:
        """See `engines.Running.run`."""
        waiting, tries = list(range(len(steps)))[::-1], [0] * len(steps)
        at: dict[int, int] = {}  # by process: the step that it is at
        while waiting or at:
            while waiting and self._free:
                process, place = self._free.pop(), waiting.pop()
                at[process.pid], tries[place] = place, tries[place] + 1
                assert process.stdin is not None
                with contextlib.suppress(OSError):  # it has just ended; whoever listens to it says so
                    process.stdin.write(json.dumps(steps[place]) + "\n")
                    process.stdin.flush()
            try:
                process, line = self._answers.get(timeout=TICK)
            except queue.Empty:
                yield None
                continue
            if line:
                self._free.append(process)
                yield at.pop(process.pid), json.loads(line)
                continue
            number, status = self._all.index(process), _buried(process)
            self._free = [one for one in self._free if one is not process]
            lost = at.pop(process.pid, None)
            if lost is not None and tries[lost] >= TRIES:
                raise EngineError(_ended(steps[lost], status))
            if lost is None and status:
                raise EngineError(f"A process for shards ended before it could begin (status {status}); see the log.")
            self._start(number)
            waiting += [] if lost is None else [lost]

    def stop(self) -> None:
        """End the processes."""
        for process in self._all:
            process.kill()
        for process in self._all:
            _buried(process)

    def _start(self, number: int) -> None:
        process = subprocess.Popen(
            COMMAND,
            env={**processes.environment(), **_share(number, self._workers, self._gpus)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        if number < len(self._all):
            self._all[number] = process
        else:
            self._all.append(process)
        self._free.insert(0, process)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as answers:
            for line in answers:
                self._answers.put((process, line))
        self._answers.put((process, ""))


def _buried(process: subprocess.Popen[str]) -> int:
    """The exit status of a process that has ended or is about to."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # what was to be said to it
        process.stdin.close()
    return process.wait()


def _ended(step: dict[str, Any], status: int) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    rows = step.get("rows")
    what = f"images {rows[0]} to {rows[1]}" if rows else f"the step {step['step']}"
    return (
        f"The process that worked on {what} {how}, {TRIES} times. Often that is a lack of memory: start it with fewer "
        "processes. What was finished is kept."
    )


def _share(number: int, workers: int, gpus: list[str]) -> dict[str, str]:
    """What keeps processes from taking more threads than there are cores, and gives each a GPU."""
    own = os.environ.get("OMP_NUM_THREADS", "")
    most = max(1, processes.cores() // workers)
    threads = str(min(most, int(own)) if own.isdecimal() and int(own) else most)
    found = {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return found | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})


def _gpus(device: str) -> list[str]:
    """The GPUs that processes may use, as `CUDA_VISIBLE_DEVICES` names them."""
    if not device.startswith("cuda"):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        import torch

        named = ",".join(str(number) for number in range(torch.cuda.device_count()))
    found = [name for name in named.split(",") if name]
    number = device.partition(":")[2]
    return [found[int(number)]] if number else found
