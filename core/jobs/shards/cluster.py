"""Shards on Ray, on this machine or a cluster. Ray is an optional package: `requirements-ray.txt`. Imports no torch.

A shard is a task of Ray Core. What it makes goes to the store, not through Ray: Ray recovers lost data, but not what
belonged to a process that is gone, and the process that asks may be.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.data.folder import data_root
from core.jobs import processes
from core.jobs.shards.engines import SETTING, Engine, EngineError

TASK_CPUS = "ADVERSARIAL_LAB_TASK_CPUS"
"""CPUs that a shard takes of a node, and threads that it runs; 1 without it."""
RETRIES = 3
"""How often a shard is begun again whose node or process was lost."""
TICK = 0.2
"""Seconds after which the process that asks looks up again."""
PATIENCE = 10
"""Seconds that a cluster has to answer."""
OBJECTS = 80_000_000
"""Bytes of Ray's object store, where Ray is started here: nothing but small answers goes through it."""


class Cluster:
    """Ray, joined or started here; see `engines.Running`."""

    def __init__(self, engine: Engine, device: str | None) -> None:
        """Join the cluster, or start Ray here where none is named.

        Raises:
            ValueError: Ray is not installed, or there is no such cluster.
        """
        self._ray = _imported(alone=_address(engine) == "local")
        self._cpus = _task_cpus()
        self._own = not self._ray.is_initialized()  # a program that uses Ray itself keeps its own
        if self._own:
            self._join(engine)
        there = self._ray.cluster_resources()
        self.device = device or ("cuda" if there.get("GPU", 0) >= 1 else "cpu")
        wanted = {"CPU": self._cpus, **({"GPU": 1} if self.device.startswith("cuda") else {})}
        for name, least in wanted.items():
            if not any(node["Resources"].get(name, 0) >= least for node in self._alive()):
                self.stop()
                raise ValueError(f"engine: expected a Ray node with {least} {name} or more, there is none")
        self._refs: dict[Any, int] = {}

    def nodes(self) -> list[dict[str, Any]]:
        """The living machines of the cluster."""
        return [
            {
                "host": node["NodeManagerHostname"],
                "cpus": node["Resources"].get("CPU", 0),
                "gpus": node["Resources"].get("GPU", 0),
            }
            for node in self._alive()
        ]

    def run(self, steps: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]] | None]:
        """See `engines.Running.run`."""
        gpus = 1 if self.device.startswith("cuda") else 0
        remote = self._ray.remote(_step()).options(
            num_cpus=self._cpus, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=False
        )
        places, settings = (str(processes.PROJECT), str(Path.cwd())), _settings(self._cpus)
        self._refs = {remote.remote(step, places, settings): place for place, step in enumerate(steps)}
        while self._refs:
            try:
                ready, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=TICK)
                answers = self._ray.get(ready)
            except (self._ray.exceptions.RayError, ConnectionError) as error:
                raise EngineError(f"Ray could not finish a shard: {_first_line(error)}") from error
            if not ready:
                yield None
            for ref, answer in zip(ready, answers, strict=True):
                yield self._refs.pop(ref), answer

    def stop(self) -> None:
        """Cancel what is left of this run, and leave the cluster, or end the Ray that was started here."""
        refs = list(getattr(self, "_refs", {}))
        for ref in refs:
            with contextlib.suppress(Exception):  # it has just ended, or the cluster is gone
                self._ray.cancel(ref, force=True)
        with contextlib.suppress(Exception):
            self._ray.wait(refs, num_returns=len(refs), timeout=5)
        self._refs = {}
        if self._own:
            self._ray.shutdown()

    def _join(self, engine: Engine) -> None:
        how: dict[str, Any] = {"address": _address(engine)}
        if how["address"] == "local":
            how |= {"num_cpus": processes.cores(), "object_store_memory": OBJECTS, "include_dashboard": False}
        try:
            _check_there(how["address"])
            self._ray.init(**how, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (self._ray.exceptions.RayError, ImportError, OSError, RuntimeError, ValueError) as error:
            name = "Ray to start on this machine" if how["address"] == "local" else f"a Ray cluster at {how['address']}"
            raise ValueError(f"engine: expected {name}, it did not answer: {_first_line(error)}") from error

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]


def _address(engine: Engine) -> str:
    """Where the cluster is: as it was asked for, or as Ray's own environment says; "local" for a new one here."""
    return engine.address or os.environ.get("RAY_ADDRESS", "") or "local"


def _check_there(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def _imported(alone: bool) -> Any:
    """Ray. Raises ValueError where it is not installed.

    alone: for a Ray on this machine alone, which then listens on the loopback interface and no other. This is what Ray
        does by itself on Windows and macOS, and it reads the variable when it is imported.
    """
    if alone:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise ValueError(
            "engine: Ray is not installed; get it with `pip install -r requirements-ray.txt`, or as the extra `ray` of "
            "the package"
        ) from None
    import ray.exceptions

    return ray


def _task_cpus() -> int:
    text = os.environ.get(TASK_CPUS, "").strip() or "1"
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{TASK_CPUS}: expected a whole number of CPUs, 1 or more, got {text!r}")
    return int(text)


def _settings(cpus: int) -> dict[str, str]:
    """What a shard needs of this process's environment: where things are, and how many threads it may run."""
    mine = {name: value for name, value in os.environ.items() if name.startswith("ADVERSARIAL_LAB_")}
    mine.pop(SETTING, None)
    return {**mine, "ADVERSARIAL_LAB_DATA": str(data_root().resolve()), "OMP_NUM_THREADS": str(cpus)}


def _step() -> Callable[[dict[str, Any], tuple[str, str], dict[str, str]], dict[str, Any]]:
    """The task of Ray: a function inside another one, which Ray passes on as it is, and not by its place in a module.

    So the code of its machine is imported by itself, after it is known where; and where there is none, it can say so.
    It takes a step, the folders of the code and of the process that asks, for relative paths, and settings.
    """

    def do(step: dict[str, Any], places: tuple[str, str], settings: dict[str, str]) -> dict[str, Any]:
        import os
        import platform
        import sys

        code, here = places
        os.environ.update(settings)
        if os.path.isdir(os.path.join(code, "core")) and code not in sys.path:  # noqa: PTH112, PTH118
            sys.path.insert(0, code)
        if os.path.isdir(here):  # noqa: PTH112
            os.chdir(here)
        try:
            from core.jobs.shards import piece
        except ImportError as error:
            host = platform.node()
            message = (
                f"engine: expected Adversarial Lab on every machine, got none on {host} ({error}): install it there"
            )
            return {"host": host, "error": "ValueError", "message": message, "errno": None}
        piece.hold_threads(int(settings["OMP_NUM_THREADS"]))
        return piece.do(step)

    return do


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
