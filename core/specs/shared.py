"""What the tasks share: fields, budgets, and what is refused in the same words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.specs.base import AS_WRITTEN
from core.specs.data import DataSpec
from core.specs.methods import Method

DEFAULT_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The budgets of exercise set 5, in units of a pixel's range [0, 1]."""

Eps = Annotated[float, Field(ge=0), AS_WRITTEN]
MAX_EPS: dict[str, float] = {"linf": 1.0, "l2": 100.0, "l1": 1000.0, "l0": 150_528.0}
"""Largest budget by norm: a pixel's whole range for linf; for l2 more than the diagonal of any image here, for l1 more
than any attack needs; for l0 every feature of the largest image here."""
NORM_SIGNS: dict[str, str] = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1", "l0": "ℓ0"}
"""The norms as the literature writes them."""


def within_range(eps: tuple[float, ...], method: Method) -> None:
    """Refuse an ε that the norm has no room for."""
    norm = getattr(method, "norm", method.norms[0])
    if eps and max(eps) > MAX_EPS[norm]:
        raise ValueError(f"eps: expected at most {MAX_EPS[norm]:g} for {method.slug()} in {norm}, got {max(eps):g}")


def one_kind_of_target(method: Method, target: str | int | None) -> None:
    """Refuse a target class for an attack that tries several by itself."""
    tried = getattr(method, "targets", 0)
    if tried and target not in ("any", None):
        raise ValueError(f"attack.targets: expected 0 towards a target class, got {tried}")


def names_a_surrogate(method: Method) -> None:
    """Refuse an attack through another model that names none."""
    if method.needs_surrogate and not getattr(method, "surrogate", ""):
        raise ValueError(f"attack.surrogate: expected the id of a saved model for {method.slug()}, got nothing")


MODEL = Field(
    min_length=1, title="Model", description="Id of a saved model (see `models`), or a reference model's name."
)
DATA: DataSpec | None = Field(
    None,
    title="Images of",
    description="Data set whose images the model is shown, of the same shape and classes as its own: NAME, "
    "NAME:CLASS,CLASS or folder:PATH. Empty: the data set that it was trained on.",
)
SEED = Field(
    0, ge=0, le=2**31 - 1, title="Seed", description="Seed of the random numbers. The same seed gives the same result."
)
THRESHOLD = Field(
    0.0,
    ge=-1e6,
    le=1e6,
    title="Threshold τ",
    description="Only for single-output networks: an output above it means class 1.",
)
BUDGET = Field(
    None,
    ge=1,
    le=10_000_000,
    title="Passes",
    description="Forward and backward passes per image at most. Empty: no limit.",
)
