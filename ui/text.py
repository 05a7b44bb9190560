"""Words and numbers as people read them: names in specs, norms, both scales of ε, classes, shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from core import access, escaping, specs
from core.specs.shared import NORM_SIGNS

if TYPE_CHECKING:
    import pandas as pd

CHOICES: dict[str, str] = {
    "folder": "Folder of images",
    "file": "File of images (.npz)",
    "onnx": "ONNX graph",
    "rgb": "RGB",
    "bgr": "BGR",
    "nchw": "channels first (NCHW)",
    "nhwc": "channels last (NHWC)",
    "log_probabilities": "log-probabilities",
    "score": "one score",
    "probability": "one probability",
    "one_cycle": "one-cycle",
    "default": "PyTorch's",
    "gaussian": "Gaussian",
    "sgd": "SGD",
    "adam": "Adam",
    **NORM_SIGNS,
    "ce": "cross-entropy",
    "mse": "squared error",
    "crop_flip": "crop, flip",
    "crop_flip_cutout": "crop, flip, cutout",
    "at_least_autoattack": "at least AutoAttack",
}
"""How the choices of a spec's field are written for people, besides what is registered under a title of its own."""


def literal(text: object) -> str:
    """The Markdown that shows a text as it is, on one line: for every name that a person or a file gave to a thing.

    An error names, on a public server, no place on its disk.
    """
    return escaping.markdown(access.without_places(str(text)) if isinstance(text, Exception) else text)


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
    """ε in both units, such as `0.031 (8/255)`; above 1, which no pixel can change by, only the number."""
    if eps > 1:
        return f"{eps:.4g}"
    short = f"{eps:.3g}"
    return f"{short if float(short) == eps else f'{eps:.2g}'} ({grey_levels(eps)})"


def eps_text(value: float) -> str:
    """ε as one would type it, exactly: `0.3`, or `8/255` where that is shorter."""
    plain = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    levels = round(value * 255)
    return f"{levels}/255" if levels / 255 == value and len(plain) > len(f"{levels}/255") else plain


def class_text(number: int, class_names: Sequence[str]) -> str:
    """A class as people read it: its name, with its number in front if the name is a word."""
    name = class_names[number]
    return name if name.isdigit() else f"{number} · {name}"


ANY_CLASS = {"any": "any wrong class"}
"""The choice beside the classes where an attack may lead to whichever class it likes."""


def wanted_class(target: str | int | None, class_names: Sequence[str]) -> str:
    """What an attack wants the images to be classified as: `a wrong class`, or the name of its target class."""
    return "a wrong class" if target in ("any", None) else f"“{literal(class_names[int(target)])}”"


PERCENT = "%.2f%%"
"""The format of a column of what `in_percent` returns. Streamlit's own drops the last zeros: 97.1% under 97.76%."""


def in_percent(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The table with these columns of shares times 100, None as NaN; names that it does not have are ignored."""
    return frame.assign(**{name: 100 * frame[name].astype(float) for name in names if name in frame})


def percent(share: float | None, digits: int = 2) -> str:
    """A share in per cent, such as `97.10%`; a dash if it is not known."""
    return "–" if share is None or math.isnan(share) else f"{share:.{digits}%}"


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """An interval of shares, such as `95.0% – 98.2%`; a dash for an end that is not known."""
    return f"{percent(low, digits)} – {percent(high, digits)}"


def percent_interval(low: float, high: float) -> str:
    """An interval of shares in per cent for a column of a table: `1.2–5.4`; `≤ 5.4`, `≥ 1.2` or `–` if ends are NaN."""
    if math.isnan(low) and math.isnan(high):
        return "–"
    if math.isnan(low) or math.isnan(high):
        return f"≤ {100 * high:.1f}" if math.isnan(low) else f"≥ {100 * low:.1f}"
    return f"{100 * low:.1f}–{100 * high:.1f}"


def exact_percent(share: float) -> str:
    """A share in per cent with as many digits as it has, such as `99%` and `99.9%`."""
    return f"{100 * share:g}%"


def counted(n: int, noun: str) -> str:
    """A number with its noun, such as `1 epoch` and `1,200 images`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def sentence_case(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
