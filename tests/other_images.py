"""Data sets of tests that models of the embedded digits can be shown: other images under the same numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from core import specs
from core.data.digits import digits
from core.data.sets import Split

_NAMES = tuple(str(digit) for digit in range(10))
_SHAPE = (1, 8, 8)


def faint(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """The digits in reverse order, an eighth fainter."""
    train, test = digits(root)
    return _faint(train), _faint(test)


def _faint(part: Split) -> Split:
    x = part.x.flip(0).to(torch.int64)
    return Split((x * 7 // 8).to(torch.uint8), part.y.flip(0), part.index)


def backwards(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """The same, with the classes numbered from the other end."""
    train, test = faint(root)
    return Split(train.x, 9 - train.y, train.index), Split(test.x, 9 - test.y, test.index)


def _info(name: str, title: str, names: tuple[str, ...], shape: tuple[int, int, int] = _SHAPE) -> specs.DatasetInfo:
    return specs.DatasetInfo(
        name=name,
        title=title,
        shape=shape,
        class_names=names,
        train_size=1437,
        test_size=360,
        reader=f"{__name__}:{name.removeprefix('toy_')}",
    )


OTHERS = (
    _info("toy_faint", "Toy faint digits", _NAMES),
    _info("toy_backwards", "Toy backwards", _NAMES[::-1]),
    _info("toy_letters", "Toy letters", tuple("abcdefghij")),
    _info("toy_large", "Toy large digits", _NAMES, (1, 9, 9)),
)
"""The last two fit no model of the digits; they are never read."""
