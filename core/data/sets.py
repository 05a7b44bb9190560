"""Data sets as uint8 tensors in memory, with a fixed validation split taken out of train."""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from core import paths
from core.data import folder_layout, folder_state, npz, own
from core.data.folder import DataMissing, data_root, is_present, missing_message
from core.data.folder_images import read_images
from core.data.folder_layout import Layout
from core.progress import Progress
from core.specs import DATASETS, DataSpec
from core.specs.base import found_at

VALIDATION_LIMIT = 5_000
"""The validation split is a tenth of train, at most this many images."""
_CONNECT = 5.0  # seconds that a server of a download has to answer first, so that a missing network is soon clear
_PAUSE = 20.0  # seconds that it may pause later
_SPLIT_SEED = 20_150_320  # fixed for ever: splits and the order of the test set must never move


@dataclass(frozen=True)
class Split:
    """Images of one split: x (N, C, H, W), y (N,) int64, index (N,) int64 into the split as it is on disk.

    `x` is uint8; or float32 in [0, 1], where a file holds values between the levels of a byte. `to_float` takes both.
    """

    x: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]
    y: Int64[Tensor, " n"]
    index: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, x: np.ndarray | Tensor, y: np.ndarray | Tensor | list[int]) -> Split:
        """All images of a part, uint8 or float32 (N, C, H, W), and their classes (N,), as they are on disk."""
        images, labels = torch.as_tensor(x), torch.as_tensor(y, dtype=torch.int64)
        return cls(images.contiguous(), labels, torch.arange(len(labels)))

    def take(self, rows: Tensor) -> Split:
        """The rows at the given positions, or where a mask is true."""
        return Split(self.x[rows], self.y[rows], self.index[rows])


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    `fingerprint` is the SHA-256 of all its images and labels; `notes` are sentences on what was left out of an own
    folder, or decided for it.
    """

    title: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image: channels, height, width."""
        channels, height, width = self.test.x.shape[1:]
        return channels, height, width


def to_float(x: UInt8[Tensor, "*shape"] | Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Grey levels 0…255 as float32 in [0, 1], always a copy; floating point is in [0, 1] already."""
    return x.clone() if x.is_floating_point() else x.to(torch.float32).div_(255)


def shuffled(n: int) -> Int64[Tensor, " n"]:
    """The fixed random order of n things: the same on every machine and in every version."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(_SPLIT_SEED))


def first_of_test(dataset: Dataset, n: int) -> Split:
    """The first n test images in the test set's fixed random order; all of them if there are fewer.

    Subsets are nested and representative (MNIST's own order is not: its first half is the cleaner one).
    """
    return dataset.test.take(shuffled(len(dataset.test))[:n])


def load(spec: DataSpec, root: Path | None = None, on_progress: Progress | None = None) -> Dataset:
    """Load a data set into memory, downloading it if it is not on disk.

    What was loaded before is returned again, unless its files have changed since.

    Args:
        spec: what to load.
        root: data folder; by default `data_root()`.
        on_progress: called with bytes while downloading, with files while reading an image folder.

    Raises:
        DataMissing: not on disk and not to be downloaded, a built-in set with other images or labels than it comes
            with, or own images that hold nothing usable.
        ValueError: a class that own images do not have, or own images that are no longer those of `spec.content`.
    """
    root = (root or data_root()).resolve()
    if spec.path is None:
        if not is_present(spec.dataset, root):
            _download(spec.dataset, root, on_progress)
        return _load(spec, root, folder_state.stamp_of_files(spec.dataset, root), _Quiet(on_progress))
    found = folder_layout.layout(spec.path) if spec.dataset == "folder" else None
    stamp = _stamp(spec.path, found)
    if text := own.changed(spec):
        raise ValueError(f"{spec.dataset}: {text}")
    plain = spec.model_copy(update={"content": None})
    loaded = _load(plain, root, stamp, _Quiet(on_progress, found))
    if _stamp(spec.path, found) != stamp:
        what = f"the files in {found.root}" if found is not None else spec.path
        raise DataMissing(f"{spec.dataset}: {what} changed while being read: ask again")
    return loaded


def _stamp(path: str, found: Layout | None) -> str:
    return repr(npz.stamp(path)) if found is None else folder_state.stamp(found)


class _Quiet:
    """Carries what names no data set past the cache: every instance is equal to every other."""

    def __init__(self, on_progress: Progress | None, found: Layout | None = None) -> None:
        self.call, self.found = on_progress, found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Quiet)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class _Parts:
    """A data set as it is on disk. `held` marks the training images that are for validation.

    A folder may have a `validation` part of its own, and nothing is held then. Both are None for a built-in set.
    """

    title: str
    names: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    held: Bool[Tensor, " n"] | None = None
    notes: tuple[str, ...] = field(default=())

    def only(self, classes: tuple[int, ...]) -> _Parts:
        """Keep some classes, renumbered in the order given."""
        if max(classes) >= len(self.names):
            raise ValueError(f"classes: {self.title} has the classes 0 to {len(self.names) - 1}, got {max(classes)}")
        train, test = _only(self.train, classes), _only(self.test, classes)
        if (len(self.train) and not len(train)) or not len(test):
            raise ValueError(
                f"classes: expected classes with training and test images, got {' '.join(map(str, classes))}"
            )
        return replace(
            self,
            names=tuple(self.names[c] for c in classes),
            train=train,
            test=test,
            validation=None if self.validation is None else _only(self.validation, classes),
            held=None if self.held is None else self.held[torch.isin(self.train.y, torch.tensor(classes))],
        )

    def split(self) -> tuple[Split, Split]:
        """The images to train on and those for validation."""
        if self.held is not None:
            train, validation = self.train.take(~self.held), self.train.take(self.held)
        elif self.validation is not None:
            train, validation = self.train, self.validation
        else:
            order = shuffled(len(self.train))
            held_out = min(VALIDATION_LIMIT, len(self.train) // 10)
            train, validation = self.train.take(order[held_out:]), self.train.take(order[:held_out])
        return train, validation if len(validation) else train


@lru_cache(maxsize=3)
def _load(spec: DataSpec, root: Path, stamp: str, quiet: _Quiet) -> Dataset:
    if spec.file is not None:
        parts = _read_file(spec.file)
    elif quiet.found is None:
        parts = _read(spec, root)
    else:
        parts = _read_folder(spec, quiet.found, quiet.call)
    fingerprint = None if spec.path is not None else _checked(spec.dataset, root, stamp, parts)
    if spec.classes is not None:
        parts, fingerprint = parts.only(spec.classes), None
    train, validation = parts.split()
    return Dataset(
        title=parts.title,
        class_names=parts.names,
        train=train,
        validation=validation,
        test=parts.test,
        fingerprint=fingerprint or _fingerprint(parts),
        notes=parts.notes,
    )


def _fingerprint(parts: _Parts) -> str:
    digest = hashlib.sha256()
    for part in (parts.train, parts.test, parts.validation):
        if part is not None:
            digest.update(part.x.contiguous().numpy().data)
            digest.update(part.y.contiguous().numpy().data)
    return digest.hexdigest()


_found: dict[tuple[str, Path, str], str] = {}  # fingerprints of whole built-in sets, by their files' sizes and times


def _checked(dataset: str, root: Path, stamp: str, parts: _Parts) -> str:
    """The fingerprint of a whole built-in set. Raises DataMissing where it is not the one that is known."""
    if (dataset, root, stamp) not in _found:
        _found[dataset, root, stamp] = _fingerprint(parts)
    fingerprint, info = _found[dataset, root, stamp], DATASETS[dataset]
    if info.fingerprint not in ("", fingerprint):
        where, mend = "", "it comes with scikit-learn: install that again"
        if not info.embedded:
            where, mend = f" in {root}", f"remove {info.mark.split('/')[0]} there, and it is downloaded again"
        raise DataMissing(
            f"{info.title}{where} holds other images or labels than it comes with (fingerprint {fingerprint:.8}, "
            f"expected {info.fingerprint:.8}), so that a file is damaged or was replaced; to mend it, {mend}."
        )
    return fingerprint


def _only(split: Split, classes: tuple[int, ...]) -> Split:
    """Keep some classes, renumbered in the order given."""
    renumber = torch.full((max([*split.y.tolist(), *classes]) + 1,), -1, dtype=torch.int64)
    renumber[torch.tensor(classes)] = torch.arange(len(classes))
    kept = split.take(renumber[split.y] >= 0)
    return replace(kept, y=renumber[kept.y])


def _read(spec: DataSpec, root: Path) -> _Parts:
    """A built-in data set as it is on disk."""
    info = DATASETS[spec.dataset]
    reader = found_at(info.reader, "reader", info.name)
    try:
        train, test = reader(root)
    except (RuntimeError, OSError) as error:
        raise DataMissing(f"{info.title} in {root} cannot be read: {error}") from error
    return _Parts(info.title, info.class_names, train, test)


class _Download(threading.Thread):
    """Fetches a data set into `root`; whoever wants it meanwhile waits for the same one."""

    live: ClassVar[dict[tuple[str, Path], _Download]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()
    usual_timeout: ClassVar[float | None] = None

    def __init__(self, dataset: str, root: Path) -> None:
        super().__init__(daemon=True)
        self.key, self.before = (dataset, root), _folder_bytes(root)
        self.failure: BaseException | None = None

    @classmethod
    def of(cls, dataset: str, root: Path) -> _Download:
        """The one that is running, or a new one: a dead connection ends it with a message, it does not hang."""
        with cls.lock:
            found = cls.live.get((dataset, root))
            if found is None:
                if not cls.live:
                    cls.usual_timeout = socket.getdefaulttimeout()
                socket.setdefaulttimeout(_CONNECT)
                found = cls.live[dataset, root] = cls(dataset, root)
                found.start()
            return found

    def answered(self) -> None:
        """A server sends: later ones may pause for longer."""
        with self.lock:
            if self.key in self.live:
                socket.setdefaulttimeout(_PAUSE)

    def run(self) -> None:
        dataset, root = self.key
        try:
            found_at(DATASETS[dataset].reader, "reader", dataset)(root, download=True)
        except Exception as error:  # whatever the network or the disk says is passed on by those who wait
            self.failure = error
        finally:
            with self.lock:
                del self.live[self.key]
                if not self.live:
                    socket.setdefaulttimeout(self.usual_timeout)


def _download(dataset: str, root: Path, on_progress: Progress | None) -> None:
    """Let the reader download into `root`, reporting bytes; raises DataMissing if it cannot."""
    info, worker = DATASETS[dataset], _Download.of(dataset, root)
    while worker.is_alive():
        worker.join(0.3)
        got = min(_folder_bytes(root) - worker.before, info.download_size)
        if got > 0:
            worker.answered()
        if on_progress:
            on_progress(got, info.download_size, phase=f"downloading {info.title}")
    if worker.failure is not None:
        text = f"{missing_message(dataset, root)} The download failed: {worker.failure}"
        raise DataMissing(text) from worker.failure


def _folder_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) if root.is_dir() else 0


def _read_file(file: str) -> _Parts:
    """A `.npz` file: its parts in its own order; all images are test images where it has no training part."""
    facts, found = npz.read(file)
    train, validation, test = (Split.of(part.x, part.y) for part in (found[name] for name in own.PARTS))
    floats = any(part.x.is_floating_point() for part in (train, validation, test))
    if floats:  # of one kind in all parts
        train, validation, test = (replace(part, x=to_float(part.x)) for part in (train, validation, test))
    return _Parts(
        Path(file).name, facts.class_names, train, test, validation if len(validation) else None, notes=facts.notes
    )


def _read_folder(spec: DataSpec, found: Layout, on_progress: Progress | None) -> _Parts:
    """An own folder: its parts as they are named there, what is missing of them held out of the training part."""
    folder_state.class_names(found, spec)  # before images are read, since that may take long
    files = {part: found.files(part) for part in ("train", "validation", "test")}
    every = [path for of in files.values() for path, _ in of]
    pixels, notes = read_images(every, found.root, size=spec.image_size, grey=spec.grey, on_progress=on_progress)
    ends = np.cumsum([len(of) for of in files.values()])[:-1]
    splits = {
        part: Split.of(x, [label for _, label in of])
        for (part, of), x in zip(files.items(), np.split(pixels, ends), strict=True)
    }
    train, validation, test = splits.values()
    items, held = files["train"], None
    notes = (*found.notes, *notes)
    if not len(test) and len(validation):
        validation, test = test, validation
        notes += ("There is no test part: the validation part is the test part.",)
    if not len(test):
        rows = folder_state.held_out(items, 5, least=2)
        if not rows:
            raise DataMissing(f"folder: expected a class of at least two images in {found.root}, to keep one for tests")
        kept = sorted(set(range(len(items))) - set(rows))
        train, test, items = (
            train.take(torch.tensor(kept)),
            train.take(torch.tensor(rows)),
            [items[row] for row in kept],
        )
        if single := [found.classes[label] for label in set(train.y.tolist()) - set(test.y.tolist())]:
            notes += (
                f"{folder_layout.listed(sorted(single))}: one image, which is trained on; no test image shows it.",
            )
    if not len(train):
        notes += ("All images are test images: there are none to train on.",)
    elif not len(validation):
        held = torch.zeros(len(train), dtype=torch.bool)
        held[folder_state.held_out(items, 10, least=3, limit=VALIDATION_LIMIT)] = True
        if not held.any():
            notes += ("There are too few images to hold some out: the training images are for validation, too.",)
    assert spec.folder is not None
    title = paths.expanded(spec.folder).name or found.root.resolve().name
    return _Parts(title, found.classes, train, test, validation if len(validation) else None, held, notes)
