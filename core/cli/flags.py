"""Flags from the fields of specs, and the fields back from the flags."""

from __future__ import annotations

import argparse
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from core import epsilon, paths
from core.specs import Spec, choices_of


def add_fields(command: Any, spec: type[Spec], leave_out: tuple[str, ...] = ()) -> None:
    """Add a flag for each field of a spec to a parser or to a group of one; `leave_out` names fields without."""
    for name, info in spec.model_fields.items():
        if name in leave_out:
            continue
        flag = "--" + name.replace("_", "-")
        text = _help(info)
        if info.annotation is bool:
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif _is_tuple(info.annotation):
            command.add_argument(flag, nargs="+", metavar=name.upper(), help=text)
        else:
            command.add_argument(
                flag, metavar="{" + ",".join(_choices(info)) + "}" if _choices(info) else None, help=text
            )


def add_choice(
    command: argparse.ArgumentParser,
    name: str,
    choices: Mapping[str, type[Spec]],
    default: str,
    arguments: Sequence[str],
) -> None:
    """Add a flag that names one of several specs, and the fields of the one that is named."""
    example = list(choices)[-1]
    command.add_argument(
        f"--{name}", help=f"one of {', '.join(choices)}; its settings become flags (--{name} {example} --help)"
    )
    chosen = named(name, choices, default, arguments)
    if chosen:
        add_group(command, chosen)


def add_group(command: argparse.ArgumentParser, spec: Any) -> None:
    """Add the fields of a recipe or a method under its title."""
    add_fields(command.add_argument_group(spec.title, spec.help), spec, leave_out=("name",))


def named(name: str, choices: Mapping[str, Any], default: str, arguments: Sequence[str]) -> Any:
    """The spec that a flag names: which settings there are depends on it, so it is looked for before flags are made."""
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument(f"--{name}", default=default)
    return choices.get(vars(finder.parse_known_args(list(arguments))[0])[name])


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were set: specs have the defaults of the others."""
    return {name: value for name, value in options.items() if value is not None}


def chosen(options: dict[str, Any], name: str, choices: Mapping[str, type[Spec]], default: str) -> dict[str, Any]:
    """Take a choice and its settings out of the flags: `{"name": …, setting: value, …}`.

    Raises:
        ValueError: no spec of that name.
    """
    choice = options.pop(name, default)
    if choice not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {choice!r}")
    settings = {field: options.pop(field) for field in choices[choice].model_fields if field in options}
    return {"name": choice, **settings}


def number(text: str) -> float:
    """The value of a flag that is a number and no field of a spec: `0.1`, `0,1` or `8/255`."""
    try:
        found: float = epsilon.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from None
    return found


def port(text: str) -> int:
    """The value of a flag that is a port of this machine."""
    found = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= found <= 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 65535, got {text!r}")
    return found


def path(text: str) -> str:
    """The value of a flag that is a path, with `~` as the home folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return str(paths.expanded(text))


def _help(info: FieldInfo) -> str:
    default = "" if info.is_required() or info.default is None else f" Default: {info.get_default()}."
    return f"{info.title}. {info.description or ''}{default}".replace("%", "%%")


def _is_tuple(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_tuple(part) for part in get_args(annotation))
    return get_origin(annotation) is tuple


def _choices(info: FieldInfo) -> list[str]:
    if get_origin(info.annotation) is Literal:
        return [str(value) for value in get_args(info.annotation)]
    return choices_of(info) or []
