"""CIFAR-10, read and downloaded by torchvision."""

from __future__ import annotations

from pathlib import Path

from core.data.sets import Split


def cifar10(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """CIFAR-10's training and test part: (N, 3, 32, 32) uint8 photographs.

    Args:
        root: folder that holds `cifar-10-batches-py`, or is to hold it.
        download: fetch what is missing first.

    Raises:
        RuntimeError, OSError: the files are missing or damaged, or cannot be fetched.
    """
    from torchvision.datasets import CIFAR10  # its import takes 2.5 s, which other data sets do not need

    train, test = (CIFAR10(root, train=part, download=download) for part in (True, False))
    return Split.of(train.data.transpose(0, 3, 1, 2), train.targets), Split.of(
        test.data.transpose(0, 3, 1, 2), test.targets
    )
