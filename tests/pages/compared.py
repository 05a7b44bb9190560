"""The comparison page opened at a tab, and what is known of models as it reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import specs
from tests.pages.sweeps import LADDER
from ui.measure import record_views, sweep_views
from ui.measure.measured import Measured
from ui.show import model_names

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

A, B = "Linear · standard", "Dense · standard"


def of(lab: Lab, *models: Any, attacks: tuple[str, ...] = ("pgd",), norm: str = "linf") -> Measured:
    """What is known of these models, as the page reads it."""
    spec = specs.CompareSpec(models=tuple(model.id for model in models), attacks=attacks, eps=LADDER, n=100)
    curves, missing = sweep_views.read(spec, models)
    names, found = model_names.short_names(models), record_views.read(models, norm)
    return Measured("page", spec, list(models), names, norm, curves, missing, found)


def opened(lab: Lab, tab: str, *models: Any, **query: Any) -> AppTest:
    """The page at one of its tabs, with sweeps of 100 images."""
    chosen = {"model_comparison_models": [model.id for model in models]} if models else {}
    fixed = {"model_comparison_n": "100", "model_comparison_eps": "0 0.1 0.3"} if models else {}
    return lab.open("model_comparison", **chosen, **fixed, **query, model_comparison_tab=tab)
