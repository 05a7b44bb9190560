"""What was found out about a network made by others: one finding with its verdict, and the whole examination."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from core.specs import Framing

Verdict = Literal["fine", "note", "doubt", "wrong"]
"""`fine`: as it should be. `note`: worth knowing, handled by the program. `doubt`: figures may mislead, look at it.
`wrong`: figures would be wrong, the import is refused unless the reader says otherwise."""


REFUSED = "not imported, since its figures would be wrong."
"""How the refusal of an examination begins; what was found follows, with what to do."""


@dataclass(frozen=True)
class Finding:
    """One question about a network, and its answer.

    Attributes:
        name: the question, short and stable, such as "normalisation".
        title: the question as people read it.
        verdict: see `Verdict`.
        said: the answer in a sentence, with figures.
        advice: what to do, where there is something to do.
        rows: the evidence, a row a thing that was tried; empty where there is none.
    """

    name: str
    title: str
    verdict: Verdict
    said: str
    advice: str = ""
    rows: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Ready for a card."""
        return {**asdict(self), "rows": [dict(row) for row in self.rows]}


@dataclass(frozen=True)
class Examination:
    """All that was found out.

    Attributes:
        framing: what stands between images in [0, 1] and the network from now on.
        findings: in the order of the questions.
        accuracy: of the network behind this framing, on the images that were looked at.
        n: how many images these were.
        more: further facts for the card, such as bytes an image.
    """

    framing: Framing
    findings: tuple[Finding, ...]
    accuracy: float
    n: int
    more: dict[str, Any] = field(default_factory=dict)
