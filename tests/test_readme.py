"""README and docs tell the truth: examples run, commands and make targets exist, every task and page is described."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from core.cli.docs import pages
from core.cli.parser import parser
from core.specs import TASKS
from ui.app.routes import ROUTES

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
WRITTEN = {
    str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8")
    for path in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    if path.name not in pages(parser([]))
}
"""The pages that people write, by file name; the others are made by `python -m core docs`."""
COMMAND = re.compile(r"^(?:torchrun --nproc-per-node 2 -m core|python -m core|adversarial-lab) (.*)", re.MULTILINE)

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
MAKE = re.compile(r"(?:`|^)make ([a-z-]+)", re.MULTILINE)


def found(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """What a pattern's only group matches, with the page that it stands on."""
    return [(name, match) for name, text in WRITTEN.items() for match in pattern.findall(text)]


@pytest.mark.parametrize(("page", "code"), [both for both in found(EXAMPLE) if both[0] != "README.md"])
def test_python_examples_run(page: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, in an empty store with the bundled models."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    exec(compile(code, page, "exec"), {})


def test_first_example_prints_a_share(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's example: five lines."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    (code,) = EXAMPLE.findall(README)
    exec(compile(code, "README.md", "exec"), {})
    assert sum(bool(line) for line in code.splitlines()) == 5
    (share,) = re.fullmatch(r"tensor\((.*)\)\n", capsys.readouterr().out).groups()
    assert 0.5 < float(share) <= 1  # an undefended network


@pytest.mark.parametrize(("page", "line"), found(COMMAND))
def test_commands_are_understood(page: str, line: str) -> None:
    """The parser takes every printed command with its flags and values."""
    arguments = shlex.split(line, comments=True)
    assert vars(parser(arguments).parse_args(arguments))["command"] == arguments[0]


@pytest.mark.parametrize("target", sorted({target for _, target in found(MAKE)}))
def test_make_targets_exist(target: str) -> None:
    """`make run`, `make test`, `make test-all`, `make check`."""
    assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_task_has_a_page() -> None:
    """With its command; the README links to it."""
    assert {path.stem for path in (PROJECT / "docs" / "tasks").glob("*.md")} == set(TASKS)
    for name in TASKS:
        assert f"(docs/tasks/{name}.md)" in README
        assert f"python -m core {name} " in WRITTEN[f"docs/tasks/{name}.md"]


def test_every_dashboard_page_is_described() -> None:
    """The table of pages has a row for each, in the order of the sidebar."""
    (table,) = re.findall(r"## The pages of the dashboard\n(.*?)\n\n[A-Z]", WRITTEN["docs/quickstart.md"], re.DOTALL)
    assert re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:] == [route.title for route in ROUTES.values()]


def test_the_first_screen_shows_the_product() -> None:
    """One picture, small enough to load at once, above the two commands."""
    picture = re.search(r"!\[.+\]\((docs/images/\S+\.png)\)", README)
    assert picture is not None
    assert (PROJECT / picture[1]).stat().st_size < 300_000
    assert picture.start() < README.index("make run") < README.index("make test") < 2000


def test_the_map_names_every_package() -> None:
    """The map in CONTRIBUTING has a line for each folder with code, and for no other."""
    (tree,) = re.findall(r"## The map\n.*?```\n(.*?)```", WRITTEN["CONTRIBUTING.md"], re.DOTALL)
    packages = {path.parent for top in ("core", "ui") for path in (PROJECT / top).rglob("__init__.py")}
    code = {path.name for path in packages} | {"pages", "tests", "benchmarks", "docs", "saved_models"}
    named = {name for line in tree.splitlines() for name in re.findall(r"(\w+)/(?=\s)", line)}
    assert named - {"reference"} == code
