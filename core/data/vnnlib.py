"""Properties of the verification competitions (VNN-COMP): a box of inputs, and whether another class can win there.

Read are files in SMT-LIB's form (VNN-LIB 1.0, vnnlib.org) whose inputs have one lower and one upper limit each, and
whose output condition says that some logit is at least that of one class, the label: satisfied where the label can be
changed. Robustness of a classifier is stated like this. Anything else is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Property:
    """Whether one of some classes can reach the label's logit in a box.

    Attributes:
        low, high: (D,) float64, the box.
        label: the class whose logit is compared.
        rivals: the classes that may reach it, in order.
        outputs: logits that are declared.
    """

    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]
    label: int
    rivals: tuple[int, ...]
    outputs: int

    def ball(self, shape: tuple[int, ...]) -> tuple[Float[Tensor, "1 ..."], float]:
        """The image (1, *shape), float32, and the smallest ε whose linf ball, cut to [0, 1], holds this box.

        Raises:
            ValueError: another number of inputs, or a box that is no such ball, up to 1e-6.
        """
        if math.prod(shape) != len(self.low):
            raise ValueError(f"shape: expected {len(self.low)} values, got {shape}")
        room = (self.high - self.low).max() / 2
        x = (self.low + self.high) / 2
        x = torch.where(self.low <= 0, self.high - room, torch.where(self.high >= 1, self.low + room, x))
        x = x.clamp(0, 1).float().double()
        eps = float(torch.maximum(self.high - x, x - self.low).max())
        apart = [(x - eps).clamp(min=0) - self.low, (x + eps).clamp(max=1) - self.high]
        if max(float(end.abs().max()) for end in apart) > 1e-6:
            raise ValueError("property: expected a box that is an linf ball cut to [0, 1], got another")
        return x.float().view(1, *shape), eps


def read_property(path: Path) -> Property:
    """Read a property.

    Raises:
        ValueError: what this module does not read; the message says what.
        OSError: no such file.
    """
    limits: dict[str, dict[int, float]] = {"<=": {}, ">=": {}}
    declared: dict[str, int] = {"X": 0, "Y": 0}
    pairs: list[tuple[int, int]] | None = None
    for command in _expressions(path.read_text(encoding="utf-8")):
        match command:
            case ["declare-const", str(name), "Real"] if re.fullmatch(r"[XY]_\d+", name):
                declared[name[0]] = max(declared[name[0]], int(name[2:]) + 1)
            case ["assert", [("<=" | ">=") as sign, str(name), str(value)]] if _is(name, "X") and not _is(value, "XY"):
                number, at = _number(value, name), int(name[2:])
                if at in limits[sign]:
                    raise ValueError(f"property: expected one limit of each kind for an input, got two of {name}")
                limits[sign][at] = number
            case ["assert", condition]:
                if pairs is not None:
                    raise ValueError("property: expected one output condition, got more")
                pairs = _pairs(condition)
            case _:
                raise ValueError(f"property: expected declare-const and assert, got {_said(command)}")
    for sign in limits:
        if sorted(limits[sign]) != list(range(declared["X"])) or not declared["X"]:
            raise ValueError("property: expected a lower and an upper limit for every input, got some without")
    low, high = (
        torch.tensor([limits[sign][at] for at in range(declared["X"])], dtype=torch.float64) for sign in (">=", "<=")
    )
    if not bool((low <= high).all()):
        raise ValueError("property: expected lower limits that are at most the upper ones, got others")
    if not pairs or len({label for _, label in pairs}) != 1:
        raise ValueError("property: expected an output condition on one label, got none or several labels")
    label, rivals = pairs[0][1], tuple(sorted({rival for rival, _ in pairs}))
    if label in rivals or max(label, *rivals) >= declared["Y"]:
        raise ValueError(f"property: expected classes below {declared['Y']} other than the label, got {rivals}")
    return Property(low, high, label, rivals, declared["Y"])


def _pairs(condition: Any) -> list[tuple[int, int]]:
    """Rival and label of each alternative: (or (and (>= Y_1 Y_0)) ...)."""
    match condition:
        case ["or", *parts] if parts:
            return [pair for part in parts for pair in _pairs(part)]
        case ["and", part]:
            return _pairs(part)
        case [">=", str(a), str(b)] if _is(a, "Y") and _is(b, "Y"):
            return [(int(a[2:]), int(b[2:]))]
        case ["<=", str(a), str(b)] if _is(a, "Y") and _is(b, "Y"):
            return [(int(b[2:]), int(a[2:]))]
    raise ValueError(f"property: expected alternatives (>= Y_i Y_j) on outputs, got {_said(condition)}")


def _number(value: str, name: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"property: expected a number as the limit of {name}, got {value!r}")
    return number


def _is(name: str, letters: str) -> bool:
    return re.fullmatch(rf"[{letters}]_\d+", name) is not None


def _said(expression: Any) -> str:
    text = expression if isinstance(expression, str) else "(" + " ".join(_said(part) for part in expression) + ")"
    return text if len(text) < 60 else text[:57] + "..."


def _expressions(text: str) -> list[Any]:
    """Nested lists of words."""
    stack: list[list[Any]] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) == 1:
                raise ValueError("property: expected balanced parentheses, got one too many closed")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) > 1:
        raise ValueError("property: expected balanced parentheses, got one that stays open")
    return stack[0]
