"""Words and numbers as people read them: names in specs, both scales of ε, classes, shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from core import specs

CHOICES: dict[str, str] = {
    "folder": "Folder of images",
    "one_cycle": "one-cycle",
    "default": "PyTorch's",
    "gaussian": "Gaussian",
    "sgd": "SGD",
    "adam": "Adam",
    "linf": "ℓ∞",
    "l2": "ℓ2",
    "l1": "ℓ1",
    "l0": "ℓ0",
    "ce": "cross-entropy",
    "mse": "squared error",
    "crop_flip": "crop, flip",
    "crop_flip_cutout": "and cutout",
}
"""How the choices of a spec's field are written for people, besides what is registered under a title of its own."""


def say(name: object) -> str:
    """A spec's name as people read it."""
    text = str(name)
    for registry in (specs.DATASETS, specs.NETWORKS, specs.METHODS):
        if text in registry:
            return str(registry[text].title)
    return CHOICES.get(text, text)


def grey_levels(eps: float) -> str:
    """ε as a count of grey levels, such as `25.5/255`."""
    return f"{eps * 255:.4g}/255"


def both(eps: float) -> str:
    """ε in both units, such as `0.1 (25.5/255)`; above 1, where it is no change of a pixel, the number alone."""
    return f"{eps:.4g} ({grey_levels(eps)})" if eps <= 1 else f"{eps:.4g}"


def eps_text(value: float) -> str:
    """ε as one would type it, exactly: `0.3`, or `8/255` where that is shorter."""
    plain = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    levels = round(value * 255)
    return f"{levels}/255" if levels / 255 == value and len(plain) > len(f"{levels}/255") else plain


def class_text(number: int, class_names: Sequence[str]) -> str:
    """A class as people read it: its name, and its number where the name is a word."""
    name = class_names[number]
    return name if name.isdigit() else f"{number} · {name}"


PERCENT = "%.2f%%"
"""The format of a column of what `in_percent` returns. Streamlit's own drops the last zeros: 97.1% under 97.76%."""


def in_percent(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The table with these shares times 100; those that it has not are passed over, None becomes NaN."""
    return frame.assign(**{name: 100 * frame[name].astype(float) for name in names if name in frame})


def percent(share: float | None, digits: int = 2) -> str:
    """A share in words, such as `97.10%`; a dash where it is not known."""
    return "–" if share is None or math.isnan(share) else f"{share:.{digits}%}"
