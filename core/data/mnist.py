"""MNIST and Fashion-MNIST in torchvision's layout: read here, downloaded by torchvision, whose import takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.data.sets import Split

_SIZE = {"train": 60_000, "t10k": 10_000}  # images of a part


def mnist(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """MNIST's training and test part: (N, 1, 28, 28) uint8 handwritten digits.

    Args:
        root: folder that holds `MNIST/raw`, or is to hold it.
        download: fetch what is missing first.

    Raises:
        RuntimeError, OSError: the files are missing or damaged, or cannot be fetched.
    """
    if download:
        from torchvision.datasets import MNIST

        MNIST(root, download=True)
    return _parts(root / "MNIST" / "raw")


def fashion_mnist(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """Fashion-MNIST's training and test part: (N, 1, 28, 28) uint8 clothes. As `mnist`, in `FashionMNIST/raw`."""
    if download:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(root, download=True)
    return _parts(root / "FashionMNIST" / "raw")


def _parts(folder: Path) -> tuple[Split, Split]:
    train, test = (
        Split.of(
            _idx(folder / f"{part}-images-idx3-ubyte", (n, 28, 28))[:, None],
            _idx(folder / f"{part}-labels-idx1-ubyte", (n,)),
        )
        for part, n in _SIZE.items()
    )
    return train, test


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes of an IDX file of this shape: four bytes of kind, four for each size, the data."""
    data = path.read_bytes()
    head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
    if not data.startswith(head) or len(data) != len(head) + np.prod(shape):
        raise RuntimeError(f"{path.name}: expected an IDX file of {' × '.join(map(str, shape))} bytes, got another one")
    return np.frombuffer(data, np.uint8, offset=len(head)).reshape(shape).copy()
