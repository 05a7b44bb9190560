"""core/checks.py: what is refused, and the sentence."""

from __future__ import annotations

import pytest

from core.checks import check_choice
from core.specs.methods.base import NORMS, Norm


@pytest.mark.parametrize("norm", NORMS)
def test_known_values_pass(norm: Norm) -> None:
    """Every known value is accepted."""
    check_choice("norm", norm, NORMS)


def test_other_values_are_refused_by_name() -> None:
    """The message names the argument, lists what is known in its order, and shows what was given."""
    with pytest.raises(ValueError, match=r"^norm: expected one of linf, l2, l1, l0, got 'l3'$"):
        check_choice("norm", "l3", NORMS)
    with pytest.raises(ValueError, match=r"^size: expected one of 1, 2, got 3$"):
        check_choice("size", 3, iter((1, 2)))
