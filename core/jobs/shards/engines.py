"""Where shards run: what `--on` and `ADVERSARIAL_LAB_ENGINE` may say. Imports neither torch nor Ray."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from core import access
from core.storage import files

SETTING = "ADVERSARIAL_LAB_ENGINE"
"""Where tasks run that do not say it themselves: those of the dashboard, and of commands without `--on`."""
MOST = 256
"""Processes of one machine at most."""
SEEN = ".engine.json"
"""The file of a store that says of which machines and devices the engine was when it was used last."""
_ADDRESS = re.compile(r"(ray://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+)(:\d{1,5})?")


@dataclass(frozen=True)
class Engine:
    """Where shards run.

    Attributes:
        text: as it was asked for.
        kind: processes of this machine, or Ray.
        workers: of `local`, how many processes.
        address: of `ray`, where the cluster is; "" for the one of the environment, or else a new one on this machine.
    """

    text: str
    kind: Literal["local", "ray"]
    workers: int = 0
    address: str = ""


class EngineError(RuntimeError):
    """An engine, or a shard on it, failed; the message says how."""


class Running(Protocol):
    """An engine that has been started."""

    device: str
    """"cpu" or "cuda": what every shard is judged on."""

    def nodes(self) -> list[dict[str, Any]]:
        """Its machines: `host`, `cpus`, `gpus`."""

    def run(self, steps: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]] | None]:
        """Do steps (see `piece.do`), several at once: the place and answer of each as it ends, None while nothing does.

        Raises:
            EngineError: a step was begun several times and never answered.
        """

    def stop(self) -> None:
        """End every process of it, at once, with whatever they do; those of a cluster end this run's steps."""


def parse(text: str) -> Engine | None:
    """The engine that a text names; None for an empty one: everything runs in one process.

    Raises:
        ValueError: it names none.
    """
    text = text.strip()
    if not text:
        return None
    kind, _, rest = text.partition(":")
    if kind == "local" and rest.isascii() and rest.isdecimal() and 1 <= int(rest) <= MOST:
        return Engine(text, "local", workers=int(rest))
    if text == "ray":
        return Engine(text, "ray")
    match = _ADDRESS.fullmatch(text)
    if match and kind != "local" and (match[1] or match[3]) and 0 < int((match[3] or ":1")[1:]) < 65536:
        return Engine(text, "ray", address=text)
    raise ValueError(
        f"engine: expected local:N with 1 to {MOST} processes, ray, ray://HOST:PORT or HOST:PORT of a Ray cluster, "
        f"got {text!r}"
    )


_asked: ContextVar[Engine | None] = ContextVar("asked", default=None)


@contextmanager
def on(text: str | None) -> Iterator[None]:
    """Inside, tasks run where the text says, if it is given. Raises ValueError: see `parse`."""
    token = _asked.set(parse(text) if text else _asked.get())
    try:
        yield
    finally:
        _asked.reset(token)


def chosen() -> Engine | None:
    """The engine of `on`, or else that of the environment. Raises ValueError: see `parse`."""
    if (asked := _asked.get()) is not None:
        return asked
    try:
        return parse(os.environ.get(SETTING, ""))
    except ValueError as error:
        raise ValueError(f"{SETTING}: {error}") from None


def note_seen(engine: Engine, nodes: list[dict[str, Any]], root: Path) -> None:
    """Keep of which machines an engine is, for `described`."""
    files.replace_file(root / SEEN, json.dumps({"engine": engine.text, "nodes": nodes}).encode())


def described(root: Path) -> str:
    """The engine of the environment in words, with its machines and devices as they were last; "" without one."""
    try:
        engine = chosen()
    except ValueError as error:
        return str(error)
    if engine is None:
        return ""
    if engine.kind == "local":
        return f"{engine.workers} processes here" if engine.workers > 1 else "1 process here"
    name = "Ray" if access.is_public() or not engine.address else f"Ray at {engine.address.removeprefix('ray://')}"
    try:
        seen = files.read_json(root / SEEN)
        nodes = seen["nodes"] if seen["engine"] == engine.text else []
        cpus, gpus = (int(sum(node[kind] for node in nodes)) for kind in ("cpus", "gpus"))
    except (OSError, ValueError, KeyError, TypeError):
        nodes, cpus, gpus = [], 0, 0
    if not nodes:
        return f"{name}, not used yet"
    devices = f"{cpus} CPUs" + (f", {gpus} GPUs" if gpus else "")
    return f"{name}, {len(nodes)} {'nodes' if len(nodes) > 1 else 'node'} with {devices} when last used"
