"""What a command shows: progress on standard error while it runs, then its result on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from tabulate import tabulate

from core.data import shown
from core.specs import CompareSpec, DataSpec, ModelSpec, Task, TransferSpec
from core.storage import files, store


def artifacts(spec: Task) -> list[store.Artifact]:
    """Run a task in this process, or load its artifacts from the store, with progress as one line."""
    from core.jobs import queue

    # what a library prints meanwhile, as Ray does of a node that is lost, is no part of the result
    with progress() as line, redirect_stdout(sys.stderr):
        made = queue.run(spec, on_progress=line)
    _note_numbers(spec)
    return made if isinstance(made, list) else [made]


def _note_numbers(spec: Task) -> None:
    """Print a note where a model takes the classes of its images by their numbers, since they have no names."""
    if isinstance(spec, ModelSpec) or spec.data is None:
        return
    models = spec.models if isinstance(spec, TransferSpec | CompareSpec) else (spec.model,)
    root = store.default_root()
    for text in dict.fromkeys(
        shown.note(spec.data, store.open_model(model, root).card["class_names"]) for model in models
    ):
        if text:
            note(text)


def about(result: store.Artifact) -> dict[str, str]:
    """What a result is about: the `model` and, where they are not its own, the images (`data`)."""
    return {"model": result.folder.parents[1].name, **images(store.data_of(result))}


def images(data: DataSpec | None) -> dict[str, str]:
    """The data set whose images were shown, as `data`; empty for the model's own."""
    return {} if data is None else {"data": data.slug()}


@contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """Progress as one line on standard error that overwrites itself; silent where standard error is no terminal."""
    shown = False

    def line(done: int, total: int, *, phase: str | None = None, snapshot: object = None, **metrics: Any) -> None:
        nonlocal shown
        if not sys.stderr.isatty():
            return
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, float))
        print(
            f"\r\033[K{phase or ''} {100 * done / max(1, total):.0f} %  {numbers}", end="", file=sys.stderr, flush=True
        )
        shown = True

    try:
        yield line
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def show(result: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Print one result, or rows of several, as a table or as JSON."""
    if as_json:
        print(json.dumps(files.to_jsonable(result, "result"), indent=2, allow_nan=False))
    elif isinstance(result, list):
        print(tabulate(_known(result), headers="keys", floatfmt=".4f", missingval="–"))
    else:
        rows = [(name, _short(value)) for name, value in _known([result])[0].items()]
        print(tabulate(rows, tablefmt="plain", disable_numparse=True, missingval="–"))


def note(text: str) -> None:
    """Print a remark on the result, on standard error."""
    print(text, file=sys.stderr)


def _known(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NaN, an unknown or undefined value, as None: a table shows a dash."""
    return [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in rows
    ]


def _short(value: Any) -> Any:
    """A float with four digits after the point, or, if it is tiny, four in all."""
    if not isinstance(value, float):
        return value
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4g}"
