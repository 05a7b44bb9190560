"""Data sets as uint8 tensors in memory, with a fixed validation split taken out of train."""

from __future__ import annotations

import hashlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from core.data_folder import DataMissing, data_root, download_size, is_present, missing_message
from core.progress import Progress
from core.specs import DATASETS, DataSpec

VALIDATION_LIMIT = 5_000
"""The validation split is a tenth of train, at most this many images."""
_SPLIT_SEED = 20_150_320  # fixed for ever: splits and the order of the test set must never move


@dataclass(frozen=True)
class Split:
    """Images of one split: x (N, C, H, W) uint8, y (N,) int64, index (N,) int64 into the split as it is on disk."""

    x: UInt8[Tensor, "n c h w"]
    y: Int64[Tensor, " n"]
    index: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Tensor) -> Split:
        """The rows at the given positions, or where a mask is true."""
        return Split(self.x[rows], self.y[rows], self.index[rows])


@dataclass(frozen=True)
class Dataset:
    """A data set in memory. `fingerprint` is the SHA-256 of all its images and labels."""

    title: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image: channels, height, width."""
        channels, height, width = self.test.x.shape[1:]
        return channels, height, width


def to_float(x: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Grey levels 0…255 as float32 in [0, 1]."""
    return x.to(torch.float32).div_(255)


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

    Args:
        spec: what to load.
        root: data folder; by default `data_root()`.
        on_progress: called with bytes while downloading, with files while reading an image folder.

    Raises:
        DataMissing: not on disk and not to be downloaded, or an image folder that holds nothing usable.
        ValueError: a class that the image folder does not have.
    """
    if spec.dataset != "folder" and not is_present(spec.dataset, root or data_root()):
        _download(spec.dataset, root or data_root(), on_progress)
    return _load(spec, (root or data_root()).resolve(), _Quiet(on_progress))


class _Quiet:
    """Carries a progress function past the cache: every instance is equal to every other."""

    def __init__(self, on_progress: Progress | None) -> None:
        self.call = on_progress

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Quiet)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=3)
def _load(spec: DataSpec, root: Path, progress: _Quiet) -> Dataset:
    title, names, train, test = _read(spec, root, progress.call)
    if spec.classes is not None:
        if max(spec.classes) >= len(names):
            raise ValueError(f"classes: {title} has the classes 0 to {len(names) - 1}, got {max(spec.classes)}")
        train, test = _only(train, spec.classes), _only(test, spec.classes)
        names = tuple(names[c] for c in spec.classes)
    order = shuffled(len(train))
    held_out = min(VALIDATION_LIMIT, len(train) // 10)
    digest = hashlib.sha256()
    for part in (train.x, train.y, test.x, test.y):
        digest.update(part.contiguous().numpy().data)
    return Dataset(
        title=title,
        class_names=names,
        train=train.take(order[held_out:]),
        validation=train.take(order[:held_out]),
        test=test,
        fingerprint=digest.hexdigest(),
    )


def _only(split: Split, classes: tuple[int, ...]) -> Split:
    """Keep some classes, renumbered in the order given."""
    renumber = torch.full((int(split.y.max()) + 2 + max(classes),), -1, dtype=torch.int64)
    renumber[torch.tensor(classes)] = torch.arange(len(classes))
    kept = split.take(renumber[split.y] >= 0)
    return replace(kept, y=renumber[kept.y])


def _split(x: np.ndarray | Tensor, y: np.ndarray | Tensor | list[int]) -> Split:
    images, labels = torch.as_tensor(x), torch.as_tensor(y, dtype=torch.int64)
    return Split(images.contiguous(), labels, torch.arange(len(labels)))


def _read(spec: DataSpec, root: Path, on_progress: Progress | None) -> tuple[str, tuple[str, ...], Split, Split]:
    """Title, class names, train and test as they are on disk."""
    if spec.dataset == "folder":
        return _read_folder(spec, on_progress)
    info = DATASETS[spec.dataset]
    if spec.dataset == "digits":
        train, test = _read_digits()
    else:
        reader = _torchvision_reader(spec.dataset)
        try:
            parts = [reader(root, train=train) for train in (True, False)]
        except (RuntimeError, OSError) as error:
            raise DataMissing(f"{info.title} in {root} cannot be read: {error}") from error
        if spec.dataset == "cifar10":
            train, test = (_split(part.data.transpose(0, 3, 1, 2), part.targets) for part in parts)
        else:
            train, test = (_split(part.data[:, None], part.targets) for part in parts)
    return info.title, info.class_names, train, test


def _torchvision_reader(dataset: str) -> Any:
    """Torchvision's class for a data set; its import takes 2.5 s, which the embedded set does not need."""
    from torchvision import datasets

    return {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[dataset]


def _read_digits() -> tuple[Split, Split]:
    """scikit-learn's 1,797 handwritten digits, 17 grey levels scaled to 0…255; a fixed fifth is the test split."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    both = _split(x, raw.target)
    order = shuffled(len(both))
    train_size = DATASETS["digits"].train_size
    return both.take(order[:train_size]), both.take(order[train_size:])


def _download(dataset: str, root: Path, on_progress: Progress | None) -> None:
    """Let torchvision download into `root`, reporting bytes; raises DataMissing if it cannot."""
    reader = _torchvision_reader(dataset)
    failure: list[BaseException] = []

    def fetch() -> None:
        try:
            reader(root, download=True)
        except Exception as error:  # whatever the network or the disk says is passed on below
            failure.append(error)

    before = _folder_bytes(root)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # a dead connection must end in a message, not in a hang
    try:
        worker = threading.Thread(target=fetch, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(0.3)
            if on_progress:
                size = download_size(dataset)
                got = min(_folder_bytes(root) - before, size)
                on_progress(got, size, phase=f"downloading {DATASETS[dataset].title}")
    finally:
        socket.setdefaulttimeout(timeout)
    if failure:
        raise DataMissing(f"{missing_message(dataset, root)} The download failed: {failure[0]}") from failure[0]


def _folder_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) if root.is_dir() else 0


_IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def _read_folder(spec: DataSpec, on_progress: Progress | None) -> tuple[str, tuple[str, ...], Split, Split]:
    """Train and test: folders train/ and test/ (or val/) of class folders, or class folders, a fifth held out."""
    assert spec.folder is not None
    root = Path(spec.folder).expanduser()
    if not root.is_dir():
        raise DataMissing(f"folder: expected an existing folder of images, got {spec.folder!r}")
    test_root = next((root / name for name in ("test", "val", "validation") if (root / name).is_dir()), None)
    train_root = root / "train" if (root / "train").is_dir() and test_root else root
    names = tuple(sorted(p.name for p in train_root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(names) < 2:
        raise DataMissing(
            f"folder: expected at least two class folders in {train_root}, got {', '.join(names) or 'none'}. "
            "Layout: FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, or FOLDER/CLASS/*.png"
        )
    train = _read_images(train_root, names, spec, on_progress)
    if test_root is not None and train_root != root:
        return root.name, names, train, _read_images(test_root, names, spec, on_progress)
    order = shuffled(len(train))
    held_out = max(1, len(train) // 5)
    return root.name, names, train.take(order[held_out:]), train.take(order[:held_out])


def _read_images(root: Path, names: tuple[str, ...], spec: DataSpec, on_progress: Progress | None) -> Split:
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in _IMAGE_ENDINGS
    ]
    empty = [name for label, name in enumerate(names) if not any(got == label for _, got in files)]
    if empty:
        raise DataMissing(f"folder: no images in {', '.join(str(root / name) for name in empty)}")
    pixels = []
    with ThreadPoolExecutor() as pool:
        for done, image in enumerate(pool.map(lambda item: _read_image(item[0], spec), files), start=1):
            pixels.append(image)
            if on_progress and done % 100 == 0:
                on_progress(done, len(files), phase=f"reading {root.name}")
    return _split(np.stack(pixels), [label for _, label in files])


def _read_image(path: Path, spec: DataSpec) -> np.ndarray:
    """One image as (C, H, W) uint8: shorter side scaled to `image_size`, centre cropped."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if spec.grey else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataMissing(f"folder: {path} is not an image that can be read: {error}") from error
    scale = spec.image_size / min(image.size)
    width, height = (max(spec.image_size, round(side * scale)) for side in image.size)
    image = image.resize((width, height))
    left, top = (width - spec.image_size) // 2, (height - spec.image_size) // 2
    image = image.crop((left, top, left + spec.image_size, top + spec.image_size))
    array = np.asarray(image)
    return array[None] if spec.grey else array.transpose(2, 0, 1)
