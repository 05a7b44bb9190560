"""The examination of a network made by others: what it needs, what it answers with, how it behaves."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from core.evaluation.imported.findings import Examination
from core.progress import Progress
from core.specs import ImportSpec


def examine(
    body: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    asked: ImportSpec,
    class_names: Sequence[str],
    takes: tuple[int, ...],
    on_progress: Progress | None = None,
) -> Examination:
    """Find out how a network is to be asked, and whether its figures can be believed."""
    raise NotImplementedError
