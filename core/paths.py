"""Where the project keeps its files: in a clone beside the code, otherwise in the user's data folder."""

from __future__ import annotations

from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent
"""The folder of the package `core`."""
BESIDE = PACKAGE.parent
"""The folder that `core`, `ui`, `pages` and `dashboard.py` lie in: a clone's root, or `site-packages`."""


def in_clone() -> bool:
    """Whether the code runs from a clone of the repository and not from an installed package."""
    return (BESIDE / "pyproject.toml").is_file()


def expanded(text: str) -> Path:
    """The path that a person wrote, with `~` as the home folder; that of a user who does not exist stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def own_folder(name: str) -> Path:
    r"""The folder `name` that programs may write to: in a clone at its root, else in the user's data folder.

    The user's data folder is `~/.local/share/adversarial-lab` on Linux, `~/Library/Application Support/adversarial-lab`
    on macOS and `%LOCALAPPDATA%\adversarial-lab` on Windows. Nothing is created.
    """
    return (BESIDE if in_clone() else Path(platformdirs.user_data_dir("adversarial-lab", appauthor=False))) / name


def bundled_models() -> Path:
    """The folder of the models that come with the project."""
    return BESIDE / "saved_models" / "reference" if in_clone() else PACKAGE / "bundled_models"
