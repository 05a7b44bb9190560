"""Names that people and files gave to things, written so that no reader takes them for more than names.

A class, a file, a folder or a model may be called `![x](http://…)`, `=1+1` or `<img …>`: as Markdown a browser calls
another host for it, a spreadsheet works it out, a page of HTML draws it.
"""

from __future__ import annotations

import re
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that have no place in a line of text: controls, line ends, changes of the writing direction."""
_MARKS = re.compile(r"([\\`*{}\[\]<>|~$]|:(?=\u2060?[A-Za-z])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_]))")
"""Characters that mean something in Markdown: `:` and `&` in front of a name, `_` at the end of a word."""
_BLOCK = re.compile(r"^(\d+(?=[.)])|(?=[-+=#]))")
"""What makes a list or a heading of a line that starts with it."""
_LATER = re.compile(
    r"((?<=:)(?=[\w+/-]+:)|(?<=http)(?=s?:)|(?<=www)(?=\.)|(?=@)|(?<=\s[-<>=~])(?=[-=>]\s))", re.IGNORECASE
)
"""What Streamlit looks for in the finished text, where a backslash is no help: icons, emoji, addresses, arrows."""
_NOTHING = "\u2060"
"""A character without width, at which no line breaks."""
_WILD = re.compile(r"[\\`*{}\[\]<>|~$&:#@=!]|(?<=www)\.", re.IGNORECASE)
_FORMULA = re.compile(r"^\s*[=+\-@]")
_NUMBER = re.compile(r"^\s*[+-]?[\d.,]+([eE][+-]?\d+)?\s*%?$")


def line(text: object) -> str:
    """The text on one line, without characters that only change how others are shown."""
    return CONTROL.sub(" ", str(text)).strip()


def tame(text: object) -> str:
    """The text without what means something in Markdown, HTML or a spreadsheet: a part of names that we make."""
    return re.sub(r"\s+", " ", _WILD.sub(" ", line(text))).strip(" -+")


def markdown(text: object) -> str:
    """The Markdown that shows this text as it is, on one line, here and in Streamlit."""
    marked = _LATER.sub(_NOTHING, f" {line(text)} ")[1:-1]
    marked = _MARKS.sub(r"\\\1", marked)
    return _BLOCK.sub(lambda found: f"{found[0]}\\", marked)


def cell(value: Any) -> Any:
    """A cell of a table that a spreadsheet opens: a text that would be worked out there has `'` in front.

    Numbers, also those in a text, are returned as they are.
    """
    if not isinstance(value, str):
        return value
    plain = CONTROL.sub(" ", value)
    return f"'{plain}" if _FORMULA.match(plain) and not _NUMBER.match(plain) else plain
