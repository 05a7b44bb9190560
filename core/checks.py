"""The sentence of a ValueError about an argument that is not among the known values."""

from __future__ import annotations

from collections.abc import Iterable


def check_choice(name: str, got: object, known: Iterable[object]) -> None:
    """Raises ValueError if `got` is not one of `known`: `norm: expected one of linf, l2, got 'l7'`.

    Args:
        name: of the argument, as its caller wrote it.
        got: the value that was given.
        known: the values that are allowed, in the order in which the message lists them.
    """
    known = tuple(known)
    if got not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, known))}, got {got!r}")
