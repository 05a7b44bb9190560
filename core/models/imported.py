"""Bring a model into the store: `import_model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.specs.base import found_at

if TYPE_CHECKING:
    from torch import nn

    from core.storage.store import Artifact


def import_model(source: nn.Module | Path | str | bytes, **options: Any) -> Artifact:
    """Import a module, a file or its bytes; see `core.jobs.importing.import_model`, which runs it."""
    made: Artifact = found_at("core.jobs.importing:import_model", "import_model", "this program")(source, **options)
    return made
