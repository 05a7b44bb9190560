"""What strangers on a server may reach; `ADVERSARIAL_LAB_PUBLIC=1` switches it on.

Without it whoever uses the program may read what its user may, as with any program. With it, or where
`ADVERSARIAL_LAB_FOLDERS` names folders, images of one's own are read below those folders alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from core import paths

PUBLIC, FOLDERS = "ADVERSARIAL_LAB_PUBLIC", "ADVERSARIAL_LAB_FOLDERS"
MAX_UPLOAD = 25
"""Megabytes of an upload on a public server."""
_PATH = re.compile(r"(?<![\w/\\.:…-])(?:[A-Za-z]:[\\/]|[/\\])(?:[^\s'\"“”()\[\],;:|]+[/\\])*([^\s'\"“”()\[\],;:|]*)")


class OutOfReach(ValueError):
    """A path that visitors of this server may not read."""


def is_public() -> bool:
    """Whether strangers use this server."""
    return os.environ.get(PUBLIC, "").strip().lower() not in ("", "0", "false", "no", "off")


def folders() -> tuple[Path, ...]:
    """The folders that `ADVERSARIAL_LAB_FOLDERS` names, links followed."""
    named = os.environ.get(FOLDERS, "").split(os.pathsep)
    return tuple(paths.expanded(name).resolve() for name in named if name.strip())


def check(path: Path) -> None:
    """Refuse a path that is not to be read here, whether there is something or not. Raises OutOfReach."""
    if not is_public() and not folders():
        return
    real = path.resolve()
    if not any(real.is_relative_to(folder) for folder in folders()):
        where = "below the folders that its keeper has named" if folders() else "of its own data sets alone"
        raise OutOfReach(f"this server reads images {where}, got {str(path)!r}")


def without_places(text: str) -> str:
    """A message for visitors: on a public server it names files and folders, not where they lie."""
    return _PATH.sub(lambda found: f"…/{found[1]}" if found[1] else "…", text) if is_public() else text
