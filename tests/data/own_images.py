"""Folders of images as people have them, for the tests of this folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.data.sets import Dataset, load
from core.specs import DataSpec

RNG = np.random.default_rng(0)
RAMP = np.linspace(0, 1, 1024).reshape(32, 32)
NOISE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray | None = None) -> None:
    """An image of these pixels, or of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) if pixels is None else pixels).save(path)


def fill(root: Path, classes: tuple[str, ...] = ("cat", "dog"), n: int = 6) -> None:
    """Class folders of noise."""
    for name, number in itertools.product(classes, range(n)):
        save(root / name / f"{number}.png")


def read(root: Path, size: int = 8, **more: object) -> Dataset:
    """Load a folder."""
    return load(DataSpec.model_validate({"dataset": "folder", "folder": str(root), "image_size": size, **more}))


def one(tmp_path: Path, write: Callable[[Path], object], name: str = "a.png", **more: object) -> torch.Tensor:
    """What is read of one test image (C, 32, 32) among ordinary training images."""
    for label, number in itertools.product("xy", range(3)):
        save(tmp_path / "train" / label / f"{number}.png", NOISE)
    for label in "xy":
        (tmp_path / "test" / label).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "test" / label / name)
    return read(tmp_path, 32, **more).test.x[0]
