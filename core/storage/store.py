"""Artifacts on disk: the results of running specs, under names made from the specs.

    root/<model>/card.json, weights.safetensors, ...     a trained model
    root/<model>/results/<result>/card.json, ...         an attack or a sweep on that model
    root/set_aside/                                      what was found damaged: never loaded, never deleted
    root/.tmp/  root/.locks/                             half-written folders; one lock file an artifact
    root/.checkpoints/                                   where unfinished runs resume (see core.storage.checkpoint)

A file is safetensors, Parquet or JSON; no pickle is read or written. An artifact appears whole, by one rename, or not
at all. Every read is checked against the card (see `cards`). The bundled models (`bundled`) are found as if
they lay here, after your own; results on them are written here. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from core import paths
from core.data import own, shown
from core.data.folder import DataMissing
from core.specs import (
    TASKS,
    AttackSpec,
    CompareSpec,
    DataSpec,
    Method,
    ModelSpec,
    ModelTask,
    SweepSpec,
    Task,
    TrainSpec,
    TransferSpec,
    load_task,
)
from core.specs.tasks import MODELS
from core.storage import bundled, cards, damage, files, left_out, locks, readable
from core.storage.cards import CARD, Damage, OtherVersion
from core.storage.damage import SET_ASIDE as SET_ASIDE
from core.storage.damage import DamagedArtifact as DamagedArtifact
from core.storage.damage import UnreadableArtifact as UnreadableArtifact
from core.storage.locks import CHECKPOINTS as CHECKPOINTS

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T")
_S = TypeVar("_S", bound=Task)


@dataclass
class Outcome:
    """What a runner returns: the card's own fields, arrays and tables by file name without its ending, other files."""

    card: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A folder of the store and its card. Files are read, and checked against the card, when they are used."""

    folder: Path
    card: dict[str, Any]

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def root(self) -> Path:
        """The store that it lies in; for a bundled model, the folder of those."""
        return self.folder.parent if self.card["task"] in MODELS else self.folder.parents[2]

    def spec(self) -> Task:
        """The spec that it was made from."""
        return load_task(self.card)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.safetensors`, writable. Raises ValueError (no such file) or DamagedArtifact."""
        return self._file(f"{name}.safetensors", files.decode_arrays)

    def table(self, name: str) -> pd.DataFrame:
        """The table of `<name>.parquet`. Raises ValueError (no such file) or DamagedArtifact."""
        return self._file(f"{name}.parquet", files.decode_table)

    def blob(self, filename: str) -> bytes:
        """The bytes of a file. Raises ValueError (no such file) or DamagedArtifact."""
        return self._file(filename, lambda data: data)

    def _file(self, filename: str, parse: Callable[[bytes], _T]) -> _T:
        if filename not in self.card["files"]:
            raise ValueError(f"{self.id}: expected one of {', '.join(self.card['files'])}, got {filename!r}")

        def read() -> bytes:
            # The card on disk, not the one in memory: the artifact may have been set aside and made again since.
            return cards.checked_bytes(self.folder, filename, cards.read_card(self.folder)["files"].get(filename, ""))

        return parse(damage.or_set_aside(self.folder, self.root, read))


def default_root() -> Path:
    """The store's folder: `ADVERSARIAL_LAB_STORE`, else `saved_models` in the clone or in the user's data folder."""
    return Path(os.environ.get("ADVERSARIAL_LAB_STORE") or paths.own_folder("saved_models"))


def locate(spec: Task, root: Path) -> Path:
    """The folder where the artifact of `spec` lies or would lie. Raises ValueError on an id that is no plain name."""
    root = Path(root)
    spec = normal(spec, root)
    if isinstance(spec, ModelSpec):
        return root / files.checked_id(spec.artifact_name(), "artifact")
    if isinstance(spec, CompareSpec):
        raise ValueError("spec: expected train, attack or sweep, got a comparison (its artifacts are its sweeps')")
    return root / files.checked_id(spec.model, "model") / "results" / files.checked_id(spec.artifact_name(), "artifact")


def resolve(spec: Task, root: Path) -> Task:
    """The same spec with the full ids of the models that it names, or the content of the folder that it trains on.

    Its `data` comes back as keys have it: see `shown_data`.

    Raises ValueError on an unknown model or on images that it cannot be shown, DataMissing on a folder that cannot be
    used.
    """
    if isinstance(spec, ModelSpec):
        if isinstance(spec, TrainSpec):
            own.check_trainable(spec.data)
        data = own.resolved(spec.data)
        return spec if data is spec.data else spec.model_copy(update={"data": data})
    spec = _full_models(spec, root)
    if spec.data is None:
        return spec
    return spec.model_copy(update={"data": _data_of_all(spec, root)})


def normal(spec: _S, root: Path) -> _S:
    """The same request in the form that it is kept under: without `data` where that is the models' own.

    What cannot be shown is left for `resolve` to refuse.
    """
    if not isinstance(spec, ModelSpec) and spec.data is not None:
        with contextlib.suppress(ValueError, DataMissing, DamagedArtifact):
            changed: Any = spec.model_copy(update={"data": _data_of_all(spec, root)})
            return changed
    return spec


def shown_data(model: Artifact, data: DataSpec | None) -> DataSpec | None:
    """The images that a model is to be shown, as keys have them: None for its own; see `core.data.shown`.

    Raises ValueError on images of another shape or other classes, DataMissing on a folder that cannot be used.
    """
    return None if data is None else shown.fitted(data, shown.frame(model.id, model.card))


def _data_of_all(spec: Any, root: Path) -> DataSpec | None:
    """The `data` of a task on all its models; of a comparison of models of other classes, as it was given."""
    models = spec.models if isinstance(spec, TransferSpec | CompareSpec) else (spec.model,)
    frames = [shown.frame(model.id, model.card) for model in (open_model(name, root) for name in models)]
    found = [shown.fitted(spec.data, one) for one in frames]
    whole = {data or one.own for data, one in zip(found, frames, strict=True)}
    return found[0] if not any(found) else next(iter(whole)) if len(whole) == 1 else spec.data


def _full_models(spec: Any, root: Path) -> Any:
    if isinstance(spec, AttackSpec | SweepSpec):
        found = {"model": open_model(spec.model, root).id, "attack": _full_surrogate(spec.attack, root)}
        return spec.model_copy(update=found)
    if isinstance(spec, TransferSpec):
        return spec.model_copy(update={"models": tuple(sorted(open_model(model, root).id for model in spec.models))})
    if isinstance(spec, CompareSpec):
        models = tuple(open_model(model, root).id for model in spec.models)
        return spec.model_copy(
            update={"models": models, "attacks": tuple(_full_surrogate(method, root) for method in spec.attacks)}
        )
    return spec.model_copy(update={"model": open_model(spec.model, root).id})


def _full_surrogate(method: Method, root: Path) -> Method:
    if not method.needs_surrogate:
        return method
    return method.model_copy(update={"surrogate": open_model(getattr(method, "surrogate", ""), root).id})


def find(spec: Task, root: Path, *, allow_bundled: bool = True) -> Artifact | None:
    """The artifact of `spec` with every file checked, or None. A damaged one is set aside: DamagedArtifact.

    One that this version cannot read is left as it is: UnreadableArtifact.

    allow_bundled: whether what is bundled, or a copy of a bundled model, counts as found.
    """
    folder = located(spec, root, allow_bundled=allow_bundled)
    if folder is None:
        return None
    found = _readable(damage.or_set_aside(folder, Path(root), lambda: Artifact(folder, cards.verified(folder))))
    return found if allow_bundled or not bundled.is_copy(found.card) else None


def located(spec: Task, root: Path, *, allow_bundled: bool = True) -> Path | None:
    """The folder where the artifact of `spec` lies, yours or else the bundled one; None where there is none.

    A look that reads at most cards: what lies there may be damaged.
    """
    root = Path(root)
    folder = locate(spec, root)
    if folder.exists():
        return folder
    if not allow_bundled:
        return None
    if isinstance(spec, ModelSpec):
        return bundled.folder(spec.artifact_name())
    there = bundled.results(folder.parents[1].name)
    if there is None or not (there / folder.name).is_dir():
        return None
    try:
        card = cards.read_card(there / folder.name)
    except (Damage, OtherVersion):
        return there / folder.name  # whoever reads it is told
    return there / folder.name if bundled.is_of_models_here(card, root) else None


def open_model(model_id: str, root: Path) -> Artifact:
    """The saved model of this id, or of a reference model's name, or of the only id that begins so.

    Its card is checked, its files when they are read.

    Raises ValueError listing the ids there are, DamagedArtifact when its card cannot be trusted, UnreadableArtifact
    when another version made it.
    """
    root = Path(root)
    found = _opened(files.checked_id(model_id, "model"), root)
    if found is not None:
        return found
    saved = models(root)
    by_name = {bundled.name_of(model.card): model.id for model in (*saved, *bundled_models())}
    named = _opened(by_name[model_id], root) if model_id in by_name else None
    if named is not None:
        return named
    matches = [model for model in saved if model.id.startswith(model_id)]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(model.id for model in (matches or saved)) or "none; train one first"
    kind = "one of the ids that begin so" if matches else "the id of a saved model"
    raise ValueError(f"model: expected {kind} ({there}), got {model_id!r}")


def _opened(model_id: str, root: Path) -> Artifact | None:
    """The model of exactly this id: your own, else the bundled one."""
    own = root / model_id
    folder = own if (own / CARD).is_file() else bundled.folder(model_id)
    if folder is None:
        return None
    found = damage.or_set_aside(folder, root, lambda: Artifact(folder, cards.read_card(folder)))
    return _readable(found) if found.card["task"] in MODELS else None


def _readable(artifact: Artifact) -> Artifact:
    if why := readable.reason(artifact.card):
        raise damage.unreadable(artifact.id, why)
    return artifact


def unfinished(spec: Task, root: Path) -> Path:
    """Where the state of a training that was stopped is kept, for it to resume from; there may be none."""
    return Path(root) / CHECKPOINTS / f"{normal(spec, root).artifact_name()}.safetensors"


def models(root: Path) -> list[Artifact]:
    """Every saved model that this version can read, newest first, then the bundled ones.

    Reads cards only; skips whatever is no model. What cannot be read is among the `unreadable`.
    """
    own = _list(Path(root), *MODELS)
    here = {model.id for model in own}
    return _understood(own) + [model for model in bundled_models() if model.id not in here]


def bundled_models() -> list[Artifact]:
    """The bundled models, as `models` lists them, also those of which the store has another one."""
    where = bundled.root()
    return [] if where is None else _understood(_list(where, *MODELS))


def results(model_id: str, root: Path, *tasks: str, data: DataSpec | None = None) -> list[Artifact]:
    """A model's results of these tasks (none named: attack and sweep) that can be read, newest first; cards only.

    Those that are bundled with it come after your own. Those on the images of `data` alone, None for the model's own:
    the same numbers are other images elsewhere.
    """
    wanted = None if data is None else shown_data(open_model(model_id, root), data)
    return [result for result in all_results(model_id, root, *tasks) if data_of(result) == wanted]


def all_results(model_id: str, root: Path, *tasks: str) -> list[Artifact]:
    """As `results`, whichever images they are about."""
    return _understood(_listed(model_id, root, tasks or ("attack", "sweep")))


def _listed(model_id: str, root: Path, tasks: tuple[str, ...]) -> list[Artifact]:
    root = Path(root)
    own = _list(root / files.checked_id(model_id, "model") / "results", *tasks)
    here, there = {result.id for result in own}, bundled.results(model_id)
    more = [] if there is None else [one for one in _list(there, *tasks) if one.id not in here]
    return own + [result for result in more if bundled.is_of_models_here(result.card, root)]


def _understood(artifacts: list[Artifact]) -> list[Artifact]:
    return [artifact for artifact in artifacts if not readable.reason(artifact.card)]


def data_of(result: Artifact) -> DataSpec | None:
    """The data set whose images a result is about; None for that of its model. Raises ValueError: see `load_task`."""
    spec = result.spec()
    return None if isinstance(spec, ModelSpec) else spec.data


def _list(folder: Path, *tasks: str) -> list[Artifact]:
    found = [Artifact(*both) for both in cards.folders(folder, *tasks)]
    return sorted(found, key=lambda artifact: (artifact.card["created"], artifact.id), reverse=True)


@contextlib.contextmanager
def lock(spec: Task, root: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the artifact of `spec` alone, among all processes and threads; the kernel frees it on any death.

    `on_wait()` is called again and again while another holds it, and may raise to give up. A thread that holds it
    already goes straight in.
    """
    with locks.hold(locate(spec, root).name, Path(root), on_wait=on_wait):
        yield


def write(
    spec: Task,
    root: Path,
    *,
    card: dict[str, Any],
    arrays: dict[str, dict[str, np.ndarray]] | None = None,
    tables: dict[str, pd.DataFrame] | None = None,
    blobs: dict[str, bytes] | None = None,
) -> Artifact:
    """Write the artifact of `spec`, whole or not at all; a sound one that is there already is kept and returned.

    card: the runner's own fields, anything JSON can say; numpy numbers become numbers, NaN and infinity become null.
    arrays, tables: by file name without its ending; tables are written without their index. blobs: files as they are.

    A copy of a bundled model is set aside for one that was trained here, with the results on it. Then the card says
    where (`set_aside`) and how many results (`results_set_aside`). So is what this version cannot read. Results that
    were set aside with a model come back where the new one has the very same weights.

    Raises ValueError on what cannot be written without pickle, or when the model of a result is not in the store;
    OSError on a full disk, and the store is as it was.
    """
    root = Path(root)
    spec = normal(spec, root)
    folder = locate(spec, root)
    body, data = cards.compose(spec, card, arrays or {}, tables or {}, blobs)
    with lock(spec, root):
        with contextlib.suppress(DamagedArtifact):
            there = find(spec, root, allow_bundled=False)
            if there is not None:
                return there
        if isinstance(spec, ModelTask):
            _adopt(spec.model, root)
            if not (root / spec.model / CARD).is_file():
                raise ValueError(f"model: expected the id of a saved model, got {spec.model!r}, which is not there")
            folder.parent.mkdir(exist_ok=True)
        if folder.exists():  # a copy of the bundled model, or what this version cannot read
            why, kept = left_out.why_not(folder), len(cards.folders(folder / "results", *TASKS))
            text = f"this version cannot read it: {why[0]}" if why else "it was a copy of the bundled model"
            where = damage.set_aside(folder, root, f"{text}; now one was made here", replaced=True)
            if kept and not damage.same_weights(where, data):
                moved = {"set_aside": f"{SET_ASIDE}/{where.name}", "results_set_aside": kept}
                body, data = cards.compose(spec, {**card, **moved}, arrays or {}, tables or {}, blobs)
        files.write_folder(folder, data, root / ".tmp")
        if isinstance(spec, ModelSpec):
            damage.bring_results_back(folder, root)
    return Artifact(folder, body)


def _adopt(model_id: str, root: Path) -> None:
    there = (root / model_id / CARD).is_file()
    try:
        bundled.adopt(model_id, root)
        if not there:
            damage.bring_results_back(root / model_id, root)
    except (Damage, OtherVersion) as error:
        raise DamagedArtifact(f"{model_id}: {error}. It is a bundled model and was left as it is.") from None
