"""MNIST and Fashion-MNIST, read and downloaded by torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.data.sets import Split


def mnist(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """MNIST's training and test part: (N, 1, 28, 28) uint8 handwritten digits.

    Args:
        root: folder that holds `MNIST/raw`, or is to hold it.
        download: fetch what is missing first.

    Raises:
        RuntimeError, OSError: the files are missing or damaged, or cannot be fetched.
    """
    from torchvision.datasets import MNIST  # its import takes 2.5 s, which other data sets do not need

    return _parts(MNIST, root, download)


def fashion_mnist(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """Fashion-MNIST's training and test part: (N, 1, 28, 28) uint8 clothes. As `mnist`, in `FashionMNIST/raw`."""
    from torchvision.datasets import FashionMNIST

    return _parts(FashionMNIST, root, download)


def _parts(kind: Any, root: Path, download: bool) -> tuple[Split, Split]:
    train, test = (kind(root, train=part, download=download) for part in (True, False))
    return Split.of(train.data[:, None], train.targets), Split.of(test.data[:, None], test.targets)
