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


def is_public() -> bool:
    """Whether strangers use this server."""
    return os.environ.get(PUBLIC, "").strip().lower() not in ("", "0", "false", "no", "off")


def folders() -> tuple[Path, ...]:
    """The folders that `ADVERSARIAL_LAB_FOLDERS` names, links followed."""
    named = os.environ.get(FOLDERS, "").split(os.pathsep)
    return tuple(paths.expanded(name).resolve() for name in named if name.strip())


def may_read(path: Path) -> bool:
    """Whether images may be read at a path, whether there is something or not."""
    named = folders()
    if not named:
        return not is_public()
    real = path.resolve()
    return any(real.is_relative_to(folder) for folder in named)


def without_places(text: str) -> str:
    """A message for visitors: on a public server it names files and folders, not where they lie."""
    return _PATH.sub(lambda found: f"…/{found[1]}" if found[1] else "…", text) if is_public() else text
