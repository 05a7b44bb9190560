"""Check a published table of the five metrics: C = A·Cc + E·Ce must hold within the rounding of its printed digits.

The mean confidence C of all images is that of the correct ones, Cc, and of the wrong ones, Ce, weighted by their
shares A and E = 1 − A. A printed number means the interval of all numbers that round to it, so the identity gives
a range in which the printed C must lie; where it does not, one of the five was misprinted or measured on other images.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

METRICS = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")
"""A, E, C, Cc and Ce: the order of a table without names."""
SLACK = 1e-12
"""For the arithmetic itself, where numbers are printed in full."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)\s*(\\?%)?")
MAX_TEXT, MAX_LINE, MAX_DIGITS = 500_000, 5_000, 40
"""Characters of a table and of a line, and digits of a number, that are read at most."""
_NOTHING = {"", "-", "–", "—", "n/a", "nan", "none"}


@dataclass(frozen=True)
class Printed:
    """A printed number: its digits, and the smallest and largest share that would be printed so."""

    text: str
    low: float
    high: float

    @classmethod
    def of(cls, text: str) -> Printed:
        """The interval of what rounds to these digits; `97.1 %` is a share, too. Raises ValueError on a word."""
        text = text.strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"text: expected a number such as .9712 or 97.12 %, got {text!r}")
        digits = text.rstrip("\\% ")
        unit = 0.01 if text.endswith("%") else 1.0
        half = 0.5 * 10.0 ** -len(digits.partition(".")[2])
        value = float(digits)
        return cls(text, max(0.0, unit * (value - half)), min(1.0, unit * (value + half)))


UNKNOWN = Printed("–", 0.0, 1.0)


@dataclass(frozen=True)
class Row:
    """A row of the pasted table: its label and what is printed for each of `METRICS`."""

    label: str
    printed: dict[str, Printed]


@dataclass(frozen=True)
class Finding:
    """What was found of one row.

    Attributes:
        row: the row.
        verdict: "holds", "fails" (no numbers that round to the printed ones satisfy it), or "incomplete".
        low, high: the range of C that the other four give.
        note: the verdict in words.
        misprints: single changes that would make the row right, the likeliest first: (metric, printed, could be).
    """

    row: Row
    verdict: str
    low: float
    high: float
    note: str
    misprints: tuple[tuple[str, str, str], ...] = ()


def audit(text: str) -> list[Finding]:
    """Check every row of a pasted table: CSV, Markdown, LaTeX or words and numbers, metrics as columns or as rows.

    Shares and confidences of a row are each read as percentages where one of them is above 1, with or without the sign.
    Raises ValueError when no row of five metrics can be found in it.
    """
    rows = parse(text)
    if not rows:
        raise ValueError(
            "text: expected rows of correct, error, confidence, confidence when correct and when wrong, got none"
        )
    return [check(row) for row in rows]


def check(row: Row) -> Finding:
    """The identity for one row, and A + E = 1."""
    known = [name for name in METRICS if name in row.printed]
    if "confidence" not in known or not {"accuracy", "error"} & set(known) or len(known) < 4:
        lacks = ", ".join(name.replace("_", " ") for name in METRICS if name not in known)
        return Finding(row, "incomplete", 0.0, 1.0, f"cannot be checked without {lacks}")
    low, high = implied(row)
    printed = row.printed["confidence"]
    if low > high:
        total = f"{row.printed['accuracy'].text} + {row.printed['error'].text}"
        return Finding(row, "fails", low, high, f"correct and error do not add up to 1: {total}", _misprints(row))
    if printed.low <= high + SLACK and printed.high >= low - SLACK:
        return Finding(row, "holds", low, high, f"C within {low:.5f} to {high:.5f}, as printed")
    note = f"C is printed {printed.text}, but A·Cc + E·Ce is {low:.5f} to {high:.5f}"
    return Finding(row, "fails", low, high, note, _misprints(row))


def implied(row: Row) -> tuple[float, float]:
    """The range of A·Cc + (1 − A)·Ce over all numbers that round to the printed ones; low > high if A + E ≠ 1."""
    a, e, correct, wrong = (row.printed.get(METRICS[k], UNKNOWN) for k in (0, 1, 3, 4))
    min_share, max_share = max(a.low, 1 - e.high), min(a.high, 1 - e.low)
    if min_share > max_share + SLACK:
        return 1.0, 0.0
    # linear in A, rising in Cc and Ce: the ends are at the ends
    return (
        min(share * correct.low + (1 - share) * wrong.low for share in (min_share, max_share)),
        max(share * correct.high + (1 - share) * wrong.high for share in (min_share, max_share)),
    )


def _misprints(row: Row) -> tuple[tuple[str, str, str], ...]:
    """Single numbers whose change makes the row right: two neighbouring digits swapped, then one digit changed."""
    found: list[tuple[str, str, str]] = []
    for variants in (_swapped, _changed):
        for name in METRICS:
            if name not in row.printed:
                continue
            text = row.printed[name].text
            for other in variants(text):
                changed = replace(row, printed={**row.printed, name: Printed.of(other)})
                low, high = implied(changed)
                printed = changed.printed["confidence"]
                if low <= high and printed.low <= high + SLACK and printed.high >= low - SLACK:
                    found.append((name, text, other))
        if found:
            break
    # of several, those of C itself first: then the table's other four are right
    return tuple(sorted(found, key=lambda item: item[0] != "confidence")[:6])


def _swapped(text: str) -> Iterator[str]:
    places = [k for k, letter in enumerate(text) if letter.isdigit()]
    for one, other in itertools.pairwise(places):
        if text[one] != text[other]:
            letters = list(text)
            letters[one], letters[other] = letters[other], letters[one]
            yield "".join(letters)


def _changed(text: str) -> Iterator[str]:
    for place, letter in enumerate(text):
        if letter.isdigit():
            for digit in "0123456789":
                if digit != letter:
                    yield text[:place] + digit + text[place + 1 :]


# ---------------------------------------------------------------- reading


def parse(text: str) -> list[Row]:
    """The rows of a pasted table; lines without numbers are headers or are left out."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"text: expected a table of at most {MAX_TEXT:,} characters, got {len(text):,}")
    lines = [cells for number, line in enumerate(text.splitlines(), 1) if (cells := _cells(_checked(line, number)))]
    names = [[_metric(cell) for cell in cells] for cells in lines]
    sideways = [k for k, line in enumerate(names) if line[0] and len(lines[k]) > 1 and _is_number(lines[k][1])]
    if len(sideways) >= 4:
        return _sideways(lines, names, sideways)
    head = next((k for k, line in enumerate(names) if sum(name is not None for name in line) >= 4), None)
    rows = []
    for cells in lines[0 if head is None else head + 1 :]:
        row = _plain(cells) if head is None else _named(cells, names[head])
        if row is not None:
            rows.append(row)
    return rows


def _checked(line: str, number: int) -> str:
    """A line whose length, and whose numbers, are those of a printed table. Raises ValueError for another."""
    if len(line) > MAX_LINE:
        raise ValueError(f"text: expected lines of at most {MAX_LINE:,} characters, got {len(line):,} in line {number}")
    longest = max(map(len, re.findall(r"[\d.]+", line)), default=0)
    if longest > MAX_DIGITS:
        raise ValueError(f"text: expected numbers of at most {MAX_DIGITS} digits, got {longest:,} in line {number}")
    return line


def _cells(line: str) -> list[str]:
    line = line.strip().removesuffix("\\\\").strip()
    if not line or line[0] in "#%" or re.fullmatch(r"[|\s:+=-]+|\\\w+", line):
        return []
    if "|" in line:
        cells = line.strip("|").split("|")
    elif "&" in line:
        cells = line.split("&")
    elif "," in line:
        cells = next(csv.reader([line]))
    elif "\t" in line:
        cells = line.split("\t")
    else:
        cells = re.split(r"\s{2,}", line)
        if len(cells) < 4:  # single blanks: the numbers at the end, and before them the label
            words = re.sub(r"\s+%", "%", line).split()
            tail = list(itertools.takewhile(lambda word: _is_number(word) or word in _NOTHING, reversed(words)))
            label = " ".join(words[: len(words) - len(tail)])
            cells = [label, *reversed(tail)] if label else list(reversed(tail))
    return [cell.strip().strip("$*`") for cell in cells]


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _metric(cell: str) -> str | None:
    """Which of the five a name stands for."""
    name = cell.lower().replace("_", " ")
    if _is_number(name):
        return None
    sure = "conf" in name
    if re.search(r"incorrect|wrong|misclass|error", name):
        return "confidence_wrong" if sure else "error" if "error" in name else None
    if re.search(r"correct|right|accura|\bacc\b", name):
        return "confidence_correct" if sure else "accuracy"
    return "confidence" if sure and "interval" not in name else None


def _row(label: str, cells: Sequence[tuple[str, str]]) -> Row | None:
    texts = {name: cell for name, cell in cells if _is_number(cell)}
    for kind in (METRICS[:2], METRICS[2:]):  # shares and confidences: many tables give only one of them in per cent
        bare = [name for name in kind if name in texts and not texts[name].endswith("%")]
        if any(float(texts[name]) > 1 for name in bare):
            texts |= {name: f"{texts[name]} %" for name in bare}
    return Row(label, {name: Printed.of(text) for name, text in texts.items()}) if texts else None


def _named(cells: Sequence[str], names: Sequence[str | None]) -> Row | None:
    """A row below a head: label from the columns before the first metric, numbers from those that it names."""
    first = next(k for k, name in enumerate(names) if name)
    label = " · ".join(cell for cell in cells[:first] if cell)
    pairs = {name: cell for name, cell in reversed(list(zip(names, cells, strict=False))) if name}
    return _row(label, list(pairs.items()))


def _plain(cells: Sequence[str]) -> Row | None:
    """A row without a head: five numbers (or dashes) at the end, in the order of `METRICS`."""
    tail = cells[-len(METRICS) :]
    if len(tail) < len(METRICS) or sum(map(_is_number, tail)) < 4:
        return None
    if not all(_is_number(cell) or cell.lower() in _NOTHING for cell in tail):
        return None
    return _row(" · ".join(cells[: -len(METRICS)]), list(zip(METRICS, tail, strict=True)))


def _sideways(lines: list[list[str]], names: list[list[str | None]], places: list[int]) -> list[Row]:
    """A table with a metric a line and a column a row, as exercise set 3 prints it."""
    head = lines[places[0] - 1] if places[0] else []
    width = max(len(lines[k]) for k in places)
    rows = []
    for column in range(1, width):
        label = head[column - width] if len(head) >= width - 1 and head else f"column {column}"
        pairs = [(str(names[k][0]), lines[k][column]) for k in places if column < len(lines[k])]
        row = _row(label, pairs)
        if row is not None:
            rows.append(row)
    return rows
