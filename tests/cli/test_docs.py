"""The reference pages in `docs` are what the registries, the parser and the docstrings say now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from core import paths, specs
from core.__main__ import main
from core.cli import docs
from core.cli.parser import COMMANDS, parser
from core.specs.methods.base import Method, Norm

PAGES = docs.pages(parser([]))
FOLDER = Path(__file__).resolve().parents[2] / "docs"


class Toy(Method):
    """An attack that is registered by this file alone."""

    title: ClassVar[str] = "Toy attack"
    help: ClassVar[str] = "Does nothing, slowly."
    paper: ClassVar[str] = "Nobody 2026"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    needs_eps: ClassVar[bool] = True
    name: Literal["toy"] = "toy"
    naps: int = Field(3, ge=1, lt=9, title="Naps", description="Times that it rests; more is | slower.")


@pytest.mark.parametrize("name", PAGES)
def test_committed_pages_are_up_to_date(name: str) -> None:
    """Where this fails, run `python -m core docs` and commit what it writes."""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run `python -m core docs`"


def test_a_registered_attack_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line in the table and its settings, without another file touched."""
    monkeypatch.setitem(specs.METHODS, "toy", Toy)
    page = docs.attacks()
    assert "| [`toy`](#toy) | Toy attack | Does nothing, slowly. | ℓ2 | Nobody 2026 |" in page
    assert r"| `naps` | Naps | ≥ 1, < 9 | `3` | Times that it rests; more is \| slower. |" in page
    assert page.index("`toy`") < page.index("## The smallest perturbation")  # it needs an ε


def test_every_command_and_flag_is_named() -> None:
    """All commands, with the flags that their own help names."""
    page = PAGES["command-line.md"]()
    assert re.findall(r"^## ([\w-]+)$", page, re.MULTILINE) == list(COMMANDS)
    for flag in ("--warmup", "--steps"):  # settings of one recipe or attack are on the other pages
        assert f"`{flag}`" not in page
    assert all(f"`{flag}`" in page for flag in ("--eight-bit", "--held-out", "--effort", "--make", "--preset"))


def test_the_command_writes_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the folder that is named; an installed package, which has no docs, asks for one."""
    assert main(["docs", "--folder", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PAGES)
    monkeypatch.setattr(paths, "in_clone", lambda: False)
    assert main(["docs"]) == 2


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link in README, CONTRIBUTING and docs names a file, and its anchor a heading there."""
    project = FOLDER.parent
    pages = [project / "README.md", project / "CONTRIBUTING.md", *FOLDER.rglob("*.md")]
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert not broken, broken


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
