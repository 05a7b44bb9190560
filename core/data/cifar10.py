"""CIFAR-10 in torchvision's layout: read here, downloaded by torchvision, whose import takes seconds."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np

from core.data.sets import Split

_TRAIN = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
_TEST = {"test_batch": "40351d587109b95175f43aff81a1287e"}
"""The MD5 of each file: a pickle may run code, so that no other one is opened."""


def cifar10(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """CIFAR-10's training and test part: (N, 3, 32, 32) uint8 photographs.

    Args:
        root: folder that holds `cifar-10-batches-py`, or is to hold it.
        download: fetch what is missing first.

    Raises:
        RuntimeError, OSError: the files are missing or damaged, or cannot be fetched.
    """
    if download:
        from torchvision.datasets import CIFAR10

        CIFAR10(root, download=True)
    folder = root / "cifar-10-batches-py"
    return _part(folder, _TRAIN), _part(folder, _TEST)


def _part(folder: Path, files: dict[str, str]) -> Split:
    images, labels = [], []
    for name, expected in files.items():
        data = (folder / name).read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != expected:
            raise RuntimeError(f"{name}: expected the file that CIFAR-10 comes with, got another one")
        batch = pickle.loads(data, encoding="latin1")
        images.append(batch["data"].reshape(-1, 3, 32, 32))
        labels += batch["labels"]
    return Split.of(np.concatenate(images), labels)
