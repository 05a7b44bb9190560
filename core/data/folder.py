"""Where image data lies on this machine, and what to say when it does not. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from core import access, paths
from core.specs import DATASETS


class DataMissing(RuntimeError):
    """A data set is neither on disk nor to be downloaded; the message says what was looked for and how to mend it."""


def check_reach(path: Path) -> None:
    """Refuse a folder or a file of images that is not to be read on this server. Raises DataMissing."""
    if not access.may_read(path):
        where = "below the folders that its keeper has named" if access.folders() else "of its own data sets alone"
        raise DataMissing(f"this server reads images {where}, got {str(path)!r}")


def data_root() -> Path:
    """The data folder: `ADVERSARIAL_LAB_DATA` if set, else `data` in the clone or in the user's data folder."""
    named = os.environ.get("ADVERSARIAL_LAB_DATA")
    return paths.expanded(named) if named else paths.own_folder("data")


def is_present(dataset: str, root: Path | None = None) -> bool:
    """Whether a built-in data set can be read without a download."""
    if DATASETS[dataset].embedded:
        return True
    return ((root or data_root()) / DATASETS[dataset].mark).is_file()


def missing_message(dataset: str, root: Path | None = None) -> str:
    """What was looked for, where, and the ways to mend it."""
    root, info = root or data_root(), DATASETS[dataset]
    return (
        f"{info.title} is not here: looked for {info.mark} in {root.resolve()}. "
        "Ways to mend it: connect to the internet and ask again, and it is downloaded there "
        f"({info.download_size / 1e6:.0f} MB); or set ADVERSARIAL_LAB_DATA to a folder that holds it in "
        f"torchvision's layout; or copy {info.mark.split('/')[0]}/ into that folder; "
        "or use the embedded data set 'digits28', handwritten digits in MNIST's frame."
    )
