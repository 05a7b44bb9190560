"""From a file, its bytes or a module in memory to a model in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.jobs import running
from core.progress import Progress
from core.specs import DataSpec, Framing, ImportSpec
from core.specs.importing import label_of
from core.storage import store, uploads
from core.storage.store import Artifact

COMPARED = 4
"""Images of the data set on which a module is compared with its export."""


def request(
    source: Path | str | bytes,
    *,
    data: DataSpec | str,
    label: str | None = None,
    architecture: str = "",
    root: Path | None = None,
    **settings: Any,
) -> ImportSpec:
    """Put a file into the store's waiting room and describe its import; nothing is looked into.

    Args:
        source: a file, or its bytes (then with a `label`).
        data: the data set that the model is for.
        label: what it is called; None: made from the file's name.
        architecture: for weights: the network that they are of. Empty: the file is a graph in ONNX.
        root: the store's folder; None: the default one.
        settings: further fields of `ImportSpec`.

    Raises:
        ValueError: no such file, too large a one, or a refused field.
        OSError: it cannot be read.
    """
    root = store.default_root() if root is None else root
    name = label or label_of("model" if isinstance(source, bytes) else Path(source).name)
    digest = uploads.keep(source if isinstance(source, bytes) else Path(source), root)
    fields = {"data": data, "label": name, "architecture": architecture, **settings}
    try:
        return ImportSpec(route="weights" if architecture else "onnx", digest=digest, **fields)
    except ValueError:
        uploads.forget(digest, root)
        raise


def import_model(
    source: Any,
    *,
    data: DataSpec | str,
    root: Path | None = None,
    device: str | None = None,
    on_progress: Progress | None = None,
    **options: Any,
) -> Artifact:
    """Import a model here, or find it where it was imported before.

    Args:
        source: as in `request`; or an `nn.Module`, which is exported to ONNX first and must agree with it there.
        data: the data set that it is for.
        root: the store's folder; None: the default one.
        device: where it is examined; None takes CUDA where there is one.
        on_progress: as in `core.jobs.running.run`.
        options: see `request`.

    Raises:
        ValueError: what the file holds, or the network in it, is refused: see `core.evaluation.tasks.importing`; or a
            module that cannot be exported, or that its export does not agree with.
    """
    root = store.default_root() if root is None else root
    if not isinstance(source, Path | str | bytes):
        source, label = _exported(source, data, options, on_progress), options.pop("label", None)
        options["label"] = label or "model"
    spec = request(source, data=data, root=root, **options)
    try:
        made = running.run(spec, root, device=device, on_progress=on_progress)
    finally:
        uploads.forget(spec.digest, root)
    assert isinstance(made, Artifact)
    return made


def _exported(module: Any, data: DataSpec | str, options: dict[str, Any], on_progress: Progress | None) -> bytes:
    """The ONNX file of a module that takes the images of a data set, resized and cropped as the options say."""
    from torch import nn

    from core.data.sets import first_of_test, load, to_float
    from core.networks.framed import Framed
    from core.networks.onnx_export import exported

    if not isinstance(module, nn.Module):
        raise ValueError(f"source: expected a file, its bytes or a torch.nn.Module, got {type(module).__name__}")
    if options.get("architecture"):
        raise ValueError("architecture: expected none for a module, which has its own")
    spec = DataSpec.model_validate(data)
    images = to_float(first_of_test(load(spec, on_progress=on_progress), COMPARED).x)
    framing = Framing(resize=options.get("resize"), crop=options.get("crop"))
    side = framing.crop or framing.resize
    fitted = Framed(nn.Identity(), framing).given(images)
    if side and fitted.shape[2:] != (side, side):
        fitted = nn.functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return exported(module, tuple(fitted.shape[1:]), fitted)
