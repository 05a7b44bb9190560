"""The attacks that the playground offers: a moment each on one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core import specs


@dataclass(frozen=True)
class Offer:
    """An attack on offer.

    Attributes:
        title: as people call it.
        help: what it does, in a sentence.
        norms: that it can measure in, the usual one first.
        make: norm → its settings, with an effort that one image has in a moment.
        sweep: its name on the page that measures over ε; empty where there is no such curve.
    """

    title: str
    help: str
    norms: tuple[str, ...]
    make: Callable[[str], specs.Method]
    sweep: str = ""

    @property
    def needs_eps(self) -> bool:
        """Whether it works inside a given ε."""
        return self.make(self.norms[0]).needs_eps


OFFERS: dict[str, Offer] = {
    "pgd": Offer(
        "PGD",
        "20 gradient steps inside the ε-ball; it keeps the image of which the model is most certain.",
        ("linf", "l2", "l1"),
        lambda norm: specs.Pgd(norm=norm, steps=20),
        "pgd",
    ),
    "fgsm": Offer(
        "FGSM", "One step of size ε along the sign of the gradient.", ("linf",), lambda _: specs.Fgsm(), "fgsm"
    ),
    "smallest": Offer(
        "Smallest change",
        "Looks for the nearest image that is classified as another class. It needs no ε: it finds one.",
        ("linf", "l2", "l1"),
        lambda norm: specs.Minimum(norm=norm, budget=100),
    ),
    "fewest": Offer(
        "Fewest pixels",
        "Changes one pixel after the other, as far as it can, until the class changes. It needs no ε.",
        ("l0",),
        lambda _: specs.JacobianSparse(),
    ),
    "generator": Offer(
        "Generator",
        "Draws an image that stays close to the original and is classified as another class. It needs no ε.",
        ("l2",),
        lambda _: specs.GeneratorStrong(rounds=40),
    ),
}
"""Every attack on offer by its name in the address; the first is the default."""
