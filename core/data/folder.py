"""Where image data lies on this machine, and what to say when it does not. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from core import paths
from core.specs import DATASETS

# One file of each set that is there only when torchvision can read it, and the size of its download in bytes.
_MARKS = {
    "mnist": ("MNIST/raw/t10k-labels-idx1-ubyte", 11_594_722),
    "fashion_mnist": ("FashionMNIST/raw/t10k-labels-idx1-ubyte", 30_878_645),
    "cifar10": ("cifar-10-batches-py/test_batch", 170_498_071),
}


class DataMissing(RuntimeError):
    """A data set is neither on disk nor to be downloaded; the message says what was looked for and how to mend it."""


def data_root() -> Path:
    """The data folder: `ADVERSARIAL_LAB_DATA` if set, else `data` in the clone or in the user's data folder."""
    named = os.environ.get("ADVERSARIAL_LAB_DATA")
    return Path(named).expanduser() if named else paths.own_folder("data")


def is_present(dataset: str, root: Path | None = None) -> bool:
    """Whether a built-in data set can be read without a download."""
    if DATASETS[dataset].embedded:
        return True
    return ((root or data_root()) / _MARKS[dataset][0]).is_file()


def download_size(dataset: str) -> int:
    """Bytes that downloading a built-in data set takes."""
    return _MARKS[dataset][1]


def missing_message(dataset: str, root: Path | None = None) -> str:
    """What was looked for, where, and the ways to mend it."""
    root = root or data_root()
    return (
        f"{DATASETS[dataset].title} is not here: looked for {_MARKS[dataset][0]} in {root.resolve()}. "
        "Ways to mend it: connect to the internet and ask again, and it is downloaded there "
        f"({download_size(dataset) / 1e6:.0f} MB); or set ADVERSARIAL_LAB_DATA to a folder that holds it in "
        f"torchvision's layout; or copy {_MARKS[dataset][0].split('/')[0]}/ into that folder; "
        "or use the embedded data set 'digits'."
    )
