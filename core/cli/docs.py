"""The command `docs`: reference pages in Markdown, made from the registries and from the parser of the command line.

What is registered when a page is rendered is on it. Only the page on Python imports torch.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from core import paths, specs
from core.cli import exercises
from core.cli.flags import path
from core.specs.shared import NORM_SIGNS

MADE = "<!-- Made by `python -m core docs`: change the specs or docstrings and run it again. -->\n"
PUBLIC = ("attacks", "evaluation", "certification", "training", "data", "models", "networks", "jobs", "storage.store")
"""Packages of `core` whose public functions are on the page on Python."""


def docs_flags(command: argparse.ArgumentParser, arguments: Any) -> None:
    """Where the pages are written."""
    command.add_argument("--folder", type=path, help="folder to write to. Default: docs in the clone.")


def write(options: dict[str, Any], commands: argparse.ArgumentParser) -> None:
    """Write every page and list the files; `commands` is the parser of the command line.

    Raises:
        ValueError: no folder is given and the code is an installed package, which has no docs.
    """
    if options["folder"] is None and not paths.in_clone():
        raise ValueError("folder: expected a folder, got none; only a clone of the repository has docs of its own")
    folder = Path(options["folder"] or paths.BESIDE / "docs")
    folder.mkdir(parents=True, exist_ok=True)
    for name, render in pages(commands).items():
        (folder / name).write_text(render(), encoding="utf-8", newline="\n")
        print(folder / name)


# ---------------------------------------------------------------- specs


def attacks() -> str:
    """The page on attacks: what there is, then the settings of each."""
    fixed = {name: method for name, method in specs.METHODS.items() if method.needs_eps}
    smallest = {name: method for name, method in specs.METHODS.items() if not method.needs_eps}
    parts = [
        "# Attacks",
        'Names are those of the command line (`--attack pgd`), of specs (`AttackSpec(attack="pgd")`) and, but for '
        "`generator`, of functions in `core.attacks`. ε and distances are in units of the pixel range [0, 1]; "
        "in ℓ0 they count features.",
        "Every attack can be confined to a mask (`--mask eyeglasses`). Every attack whose cost is not fixed takes "
        "`--budget`, the largest number of forward and backward passes per image. With `--eight-bit` every adversarial "
        "example survives being saved with 8 bits per feature.",
        "## Inside a given ε",
        _methods(fixed),
        "## The smallest perturbation",
        "These attacks take no ε: they look for the smallest change that fools the model.",
        _methods(smallest),
        "## One perturbation for many images",
        "The methods of `python -m core universal`.",
        _methods(specs.UNIVERSAL_METHODS),
        "## Settings",
        *_settings(specs.METHODS),
        "## Settings of universal perturbations",
        *_settings(specs.UNIVERSAL_METHODS),
    ]
    return _page(parts)


def _methods(methods: Mapping[str, Any]) -> str:
    rows = (
        (f"[`{name}`](#{name})", one.title, one.help, ", ".join(NORM_SIGNS[norm] for norm in one.norms), one.paper)
        for name, one in methods.items()
    )
    return _table(("name", "title", "what it does", "norms", "source"), rows)


def recipes() -> str:
    """The page on training recipes."""
    rows = ((f"[`{name}`](#{name})", one.title, one.help, one.paper) for name, one in specs.RECIPES.items())
    parts = [
        "# Training recipes",
        "A recipe is how the loss of a batch is made. `python -m core train --recipe NAME` takes one, and its settings "
        "become flags (`--recipe pgd --help`).",
        _table(("name", "title", "what it does", "source"), rows),
        "## Settings",
        *_settings(specs.RECIPES),
        "## Presets",
        "`--preset NAME` sets the optimiser and the schedule; other flags change them.",
        _table(("name", "title"), ((f"`{name}`", specs.PRESET_TITLES[name]) for name in specs.PRESETS)),
    ]
    return _page(parts)


def networks_and_data() -> str:
    """The page on networks and data sets."""
    networks = ((f"`{name}`", one.title) for name, one in specs.NETWORKS.items())
    data = (
        (
            f"`{name}`",
            one.title,
            "×".join(map(str, one.shape)),
            len(one.class_names),
            f"{one.train_size:,}",
            f"{one.test_size:,}",
        )
        for name, one in specs.DATASETS.items()
    )
    parts = [
        "# Networks and data sets",
        "## Networks",
        "Every network takes pixels in [0, 1]; whatever normalisation it needs is its first layer. It adapts to the "
        "size of the images and to the number of classes. With `--scalar` it has a single output and a threshold, for "
        "two classes.",
        _table(("name", "network"), networks),
        "## Data sets",
        "Shapes are channels × height × width. A tenth of the training images is held out for validation, by a fixed "
        "split. `--dataset folder --folder FOLDER` takes [your own images](quickstart.md#your-own-images).",
        _table(("name", "data set", "shape", "classes", "training images", "test images"), data),
        "## Settings of the data",
        _fields(specs.DataSpec),
    ]
    return _page(parts)


def _settings(choices: Mapping[str, Any]) -> Iterable[str]:
    for name, spec in choices.items():
        yield f"### {name}"
        yield f"{spec.help}" + (f" Source: {spec.paper}." if spec.paper else "")
        yield _fields(spec) or "No settings."


def _fields(spec: Any) -> str:
    """The settings of a spec, without the name that tells it from others."""
    rows = [
        (f"`{name}`", info.title or name, _range(info), _default(info), info.description or "")
        for name, info in spec.model_fields.items()
        if name not in ("name", "content")
    ]
    return _table(("setting", "title", "values", "default", "what it does"), rows) if rows else ""


def _range(info: FieldInfo) -> str:
    choices = specs.choices_of(info)
    if choices or get_origin(info.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in choices or get_args(info.annotation))
    if info.annotation is bool:
        return "yes, no"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [f"{sign} {getattr(m, name):g}" for name, sign in signs.items() for m in info.metadata if hasattr(m, name)]
    return ", ".join(found)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, specs.Spec):
        value = getattr(value, "name", getattr(value, "shape", value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"`{value}`"


# ---------------------------------------------------------------- the command line


def command_line(parser: argparse.ArgumentParser) -> str:
    """The page on the command line: every command of its parser, with its flags."""
    (choice,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    commands: dict[str, argparse.ArgumentParser] = choice.choices
    parts = [
        "# Command line",
        "`python -m core COMMAND` in a clone, `adversarial-lab COMMAND` where the package is installed. Results go to "
        "standard output, progress and errors to standard error. The exit status is 0, or 2 for a request that is "
        "refused, or 1 for one that fails, or 3 for a result that does not pass a gate (`--fail-under`, see "
        "[a gate in your CI](gate.md)). Every command takes `--json`, which prints JSON instead of a table, and "
        "`--help`.",
        "`ID` is the id of a model, the beginning of one, or the name of a bundled model such as `digits28-pgd`.",
        _table(
            ("command", "what it does"), ((f"[`{name}`](#{name})", one.description) for name, one in commands.items())
        ),
    ]
    for name, command in commands.items():
        parts += [f"## {name}", _sentence(command.description or ""), *_flags(command)]
    return _page(parts)


def _flags(command: argparse.ArgumentParser) -> Iterable[str]:
    """The flags of a command as a table; those of one attack, recipe or method are on their own pages."""
    plain = (command._positionals, command._optionals)
    rows = [
        (_flag(action), (action.help or "").replace("%%", "%"))
        for group in command._action_groups
        if group in plain
        for action in group._group_actions
        if not {"--help", "--json"} & set(action.option_strings)
    ]
    yield _table(("flag", "meaning"), rows) if rows else "No flags of its own."
    if len(command._action_groups) > len(plain):
        yield (
            "The settings of the attack, method or recipe that is named are flags as well: see [attacks](attacks.md) "
            "and [recipes](recipes.md)."
        )


def _flag(action: argparse.Action) -> str:
    flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
    if action.option_strings:
        return flags
    return f"`{action.metavar or action.dest}`"


# ---------------------------------------------------------------- Python


def python() -> str:
    """The page on Python: public functions and classes with the first paragraph of their docstrings. Imports torch."""
    parts = [
        "# Python",
        "What the packages offer under their own names, such as `from core.attacks import pgd`. `help(pgd)` says what "
        "every argument is: shapes, ranges, units and errors.",
    ]
    for name in PUBLIC:
        module = importlib.import_module(f"core.{name}")
        parts += [f"## core.{name}", _first_paragraph(module)]
        for public in _public(module):
            parts += _described(public, getattr(module, public))
    return _page(parts)


def _public(module: Any) -> list[str]:
    """The names that a package offers, or the functions and classes that a module defines."""
    if getattr(module, "__all__", None):
        names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    else:
        names = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return sorted(name for name in names if not name.startswith("_") and callable(getattr(module, name)))


def _described(name: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        return [f"### {name}", _first_paragraph(value)]
    return [f"### {name}", f"```python\n{signature(name, value)}\n```", _first_paragraph(value)]


def signature(name: str, function: Callable[..., Any]) -> str:
    """The signature of a function, on one line if it is short, else an argument a line."""
    found = inspect.signature(function)
    arguments, marked = [], False
    for one in found.parameters.values():
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not marked:
            arguments.append("*")
        marked = marked or one.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL)
        arguments.append(_argument(one))
    returned = found.return_annotation
    end = "" if returned is inspect.Signature.empty else f" -> {_annotation(returned)}"
    short = f"{name}({', '.join(arguments)}){end}"
    return short if len(short) <= 100 else f"{name}(\n    " + ",\n    ".join(arguments) + f",\n){end}"


def _argument(one: inspect.Parameter) -> str:
    stars = "*" * ((one.kind == one.VAR_POSITIONAL) + 2 * (one.kind == one.VAR_KEYWORD))
    annotated = "" if one.annotation is inspect.Parameter.empty else f": {_annotation(one.annotation)}"
    if one.default is inspect.Parameter.empty:
        return f"{stars}{one.name}{annotated}"
    default = re.sub(r" at 0x[0-9a-f]+", "", repr(one.default))
    return f"{stars}{one.name}{annotated} = {default}" if annotated else f"{stars}{one.name}={default}"


def _annotation(value: Any) -> str:
    return value if isinstance(value, str) else inspect.formatannotation(value)


def _first_paragraph(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


# ---------------------------------------------------------------- Markdown


def _page(parts: Iterable[str]) -> str:
    return MADE + "\n" + "\n\n".join(part for part in parts if part) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A table of GitHub's Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


PAGES: dict[str, Callable[[], str]] = {
    "attacks.md": attacks,
    "recipes.md": recipes,
    "networks-and-data.md": networks_and_data,
    "exercises.md": lambda: exercises.exercises(MADE),
    "python.md": python,
}
"""What renders each file, but for the page on the command line, which needs its parser."""


def pages(commands: argparse.ArgumentParser) -> dict[str, Callable[[], str]]:
    """What renders each file; `commands` is the parser of the command line."""
    return {**PAGES, "command-line.md": lambda: command_line(commands)}
