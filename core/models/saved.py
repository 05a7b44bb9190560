"""A saved model, back in memory and ready to be attacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from core.data.sets import Dataset, first_of_test, load, to_float
from core.models import bodies, trained_on
from core.networks.catalogue import build, with_threshold
from core.networks.framed import Framed
from core.networks.layers import Shape
from core.networks.portions import at_once
from core.networks.table import device_of
from core.progress import Progress
from core.specs import DataSpec, Framing, ImportSpec, Method, ModelSpec, TrainSpec
from core.storage import readable, store


@dataclass(frozen=True)
class SavedModel:
    """A model in eval mode with frozen parameters, and the artifact that it came from."""

    model: nn.Module
    artifact: store.Artifact
    spec: ModelSpec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of its classes, by number."""
        return tuple(self.artifact.card["class_names"])

    def data(self, data: DataSpec | None = None, on_progress: Progress | None = None) -> Dataset:
        """The data set that it was trained on, or another whose images it can be shown, see `data_of`."""
        return data_of(self.artifact, data, on_progress)

    def images(self, n: int, data: DataSpec | None = None) -> tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]:
        """The first n test images in their fixed order, float32 in [0, 1], and their classes, on the model's device.

        Of its own data set, or of `data`: see `data_of`.
        """
        first, device = first_of_test(self.data(data), n), device_of(self.model)
        return to_float(first.x).to(device), first.y.to(device)


def data_of(model: store.Artifact, data: DataSpec | None = None, on_progress: Progress | None = None) -> Dataset:
    """The images that a saved model is shown: whoever shows it images takes them from here.

    Args:
        model: a saved model.
        data: which; None: the data set that it was trained on. Others are of the same shape and classes, see
            `core.data.shown`.
        on_progress: as in `core.data.sets.load`.

    Raises:
        DataMissing: it cannot be had.
        ValueError: what is there now has other classes, another order of them, or (of the model's own, or of a `data`
            that names its content) other images; or `data` does not fit the model.
    """
    wanted = store.shown_data(model, data)
    if wanted is not None:
        return load(wanted, on_progress=on_progress)
    return _own_data(model, on_progress)


def _own_data(model: store.Artifact, on_progress: Progress | None) -> Dataset:
    spec = trained_on.spec_of(model)
    data = load(spec.model_copy(update={"content": None}), on_progress=on_progress)
    trained_on.check(model, data.class_names, data.fingerprint, (len(data.train), len(data.validation), len(data.test)))
    return data


def load_surrogate(method: Method, victim: SavedModel, root: Path, *, device: str = "cpu") -> nn.Module | None:
    """The model that a method follows the gradients of; None for a method that needs none.

    Raises ValueError for an unknown id, or a model of other images or classes than the victim's.
    """
    if not method.needs_surrogate:
        return None
    other = load_model(getattr(method, "surrogate", ""), root, device=device)
    ours, theirs = ((one.artifact.card["shape"], one.class_names) for one in (victim, other))
    if ours != theirs:
        raise ValueError(
            f"attack.surrogate: expected a model of the same images and classes as {victim.artifact.id}, "
            f"got {other.artifact.id}"
        )
    return other.model


def load_model(model_id: str, root: Path | None = None, *, device: str = "cpu", threshold: float = 0.0) -> SavedModel:
    """Load a saved model, or a bundled one.

    Args:
        model_id: id of the model, or the beginning of only one, or the name of a bundled model.
        root: the store's folder; None: the default one.
        device: where the model shall live.
        threshold: τ of a scalar network; must be 0 for every other.

    Raises:
        ValueError: unknown id, or a threshold for a model that has none.
        store.DamagedArtifact: its files do not match its card; they were set aside.
        store.UnreadableArtifact: another version made it, with weights that do not fit the network as it is now.
    """
    artifact = store.open_model(model_id, store.default_root() if root is None else root)
    spec = artifact.spec()
    assert isinstance(spec, ModelSpec)
    model = _trained(artifact, spec) if isinstance(spec, TrainSpec) else _imported(artifact, spec)
    model = with_threshold(model, threshold).to(device).to(memory_format=torch.channels_last).eval()
    return SavedModel(model.requires_grad_(False), artifact, spec)


def _trained(artifact: store.Artifact, spec: TrainSpec) -> nn.Module:
    shape = cast(Shape, tuple(artifact.card["shape"]))
    model = build(spec.network, shape, len(artifact.card["class_names"]), scalar=spec.scalar)
    weights = _weights(artifact)
    if why := _misfit(model, weights):
        raise _does_not_fit(artifact, f"the network {spec.network}", why)
    model.load_state_dict(weights)
    return model


def _does_not_fit(artifact: store.Artifact, what: str, why: str) -> store.UnreadableArtifact:
    made = f" (version {version} made it)" if (version := readable.made_by(artifact.card)) else ""
    return store.UnreadableArtifact(
        f"{artifact.id}: its weights do not fit {what} of this version{made}: {why}. It was left as it is."
    )


def _misfit(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
    """How weights differ in name or shape from those of a network; "" where they fit."""
    expected, found = ({name: tuple(value.shape) for name, value in of.items()} for of in (model.state_dict(), weights))
    wrong = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if not wrong:
        return ""
    name = wrong[0]
    shapes = ["none" if shape is None else f"shape {shape}" for shape in (expected.get(name), found.get(name))]
    more = f", and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
    return f"expected {shapes[0]} for {name}, got {shapes[1]}{more}"


def _imported(artifact: store.Artifact, spec: ImportSpec) -> nn.Module:
    """The network behind what was found out when it was imported."""
    try:
        body, framing = _body(artifact, spec), Framing.model_validate(artifact.card["framing"])
    except (ValueError, KeyError, TypeError) as error:
        said = "; ".join(str(error).removeprefix("architecture: ").splitlines())
        raise _does_not_fit(artifact, spec.architecture or "the ONNX reader", said) from None
    return Framed(body, framing, at_once(artifact.card.get("cost", {}).get("bytes_an_image", 0)))


def _body(artifact: store.Artifact, spec: ImportSpec) -> nn.Module:
    if spec.route == "onnx":
        return bodies.of_graph(artifact.blob(bodies.GRAPH))
    network = artifact.card["network"]
    takes = cast(Shape, tuple(network["takes"]))
    return bodies.of_weights(spec.architecture, network["outputs"], _weights(artifact), takes)


def _weights(artifact: store.Artifact) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in artifact.arrays("weights").items()}
