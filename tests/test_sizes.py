"""Functions and modules stay small: 80 lines of code and 12 arguments a function, 400 lines a module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
CHECKED = ["core", "ui", "pages"]
"""The packages that the rules hold for."""
MAX_LINES = 80
"""Lines of code in a function; its docstring, comments and empty lines do not count."""
MAX_ARGUMENTS = 12
"""Arguments of a function. An `@attack`, whose keywords are its spec's fields, may have more."""
MAX_MODULE = 400
"""Lines of a module, everything counted."""
EXEMPT = re.compile(r"\s*# long: \S")
"""A comment directly above a function, or before its first statement, that says why it is long."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_code(function: Function, lines: list[str]) -> int:
    """The function's lines from `def` on, without its docstring, comments and empty lines."""
    documented = ast.get_docstring(function) is not None
    first = function.body[0]
    left_out = range(first.lineno, (first.end_lineno or 0) + 1) if documented else range(0)
    numbers = (n for n in range(function.lineno, (function.end_lineno or 0) + 1) if n not in left_out)
    return sum(bool(text) and not text.startswith("#") for text in (lines[n - 1].strip() for n in numbers))


def arguments(function: Function) -> int:
    """How many arguments a caller can give."""
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])


def is_exempt(function: Function, lines: list[str]) -> bool:
    """Whether a comment `# long: reason` stands directly above the function or before its first statement."""
    top = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    first = body[0].lineno if body else (function.end_lineno or 0) + 1
    return any(EXEMPT.match(lines[n - 1]) for n in range(max(1, top - 1), first))


def is_attack(function: Function) -> bool:
    """Whether the function is decorated with `@attack` or `@attack(...)`."""
    called = [d.func if isinstance(d, ast.Call) else d for d in function.decorator_list]
    return any(isinstance(name, ast.Name) and name.id == "attack" for name in called)


def too_large(text: str) -> list[str]:
    """What breaks the rules in a module's source text, each with its name and size."""
    lines = text.splitlines()
    found = [f"the module has {len(lines)} lines"] if len(lines) >= MAX_MODULE else []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, Function) or is_exempt(node, lines):
            continue
        if (size := lines_of_code(node, lines)) > MAX_LINES:
            found.append(f"{node.name} has {size} lines of code")
        if (count := arguments(node)) > MAX_ARGUMENTS and not is_attack(node):
            found.append(f"{node.name} has {count} arguments")
    return found


def _files() -> list[str]:
    return sorted(str(path.relative_to(PROJECT)) for part in CHECKED for path in (PROJECT / part).rglob("*.py"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("path", _files())
def test_functions_and_modules_are_small(path: str) -> None:
    """No function over 80 lines of code or 12 arguments, no module of 400 lines or more."""
    assert not too_large((PROJECT / path).read_text(encoding="utf-8"))


def test_the_packages_exist() -> None:
    """Every package of the list has modules: a folder that was renamed does not slip out of the rule."""
    assert [part for part in CHECKED if not list((PROJECT / part).rglob("*.py"))] == []


def _source(head: str, count: int, above: str = "", first: str = "") -> str:
    body = [f"    a{n} = {n}" for n in range(count)]
    return "\n".join([*([above] if above else []), head, *([first] if first else []), *body])


def test_the_rule_sees_long_functions() -> None:
    """Docstring, comments and empty lines do not count; a reason exempts, above the function or inside it."""
    assert too_large(_source("def f():", 80)) == ["f has 81 lines of code"]
    assert not too_large(_source("def f():", 79))
    assert not too_large(_source('def f():\n    """Says\n\n    more."""\n    # a note\n', 79))
    assert not too_large(_source("def f():", 90, above="# long: reads like the paper"))
    assert not too_large(_source("def f(\n    a,\n):", 90, first="    # long: reads like the paper"))
    assert not too_large(_source('def f():\n    """Says."""', 90, first="    # long: reads like the paper"))
    assert too_large(_source("def f():", 90, above="# long:")) == ["f has 91 lines of code"]


def test_the_rule_sees_many_arguments() -> None:
    """Thirteen arguments are too many; `self` is none; an attack may have them."""
    many = ", ".join(f"a{n}" for n in range(13))
    assert too_large(f"def f({many}): pass") == ["f has 13 arguments"]
    assert not too_large(f"def f(self, {many[:-5]}): pass")
    assert not too_large(f"@attack\ndef f(*, {many}): pass")
    assert not too_large(f"@attack(gradients=False)\ndef f(*, {many}): pass")


def test_the_rule_sees_long_modules() -> None:
    """A module of 400 lines is too long, one of 399 is not."""
    assert too_large("a = 1\n" * 400) == ["the module has 400 lines"]
    assert not too_large("a = 1\n" * 399)
