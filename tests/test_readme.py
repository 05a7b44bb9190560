"""The README tells the truth: its example runs, its commands exist, its table names every attack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.__main__ import main
from core.specs import METHODS, RECIPES

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The example as printed, in an empty store."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "robust accuracy at 0.1:" in capsys.readouterr().out


def test_every_attack_has_a_row() -> None:
    """An attack that the README does not name is not finished."""
    assert sorted(rows_of("Attacks")) == sorted(METHODS)


def test_every_recipe_has_a_row() -> None:
    """Nor is a recipe that it does not name."""
    assert rows_of("Training") == list(RECIPES)


def rows_of(section: str) -> list[str]:
    """The names in the first column of a section's table."""
    (text,) = re.findall(rf"^## {section}\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize("line", re.findall(r"^python -m core .*", README, re.MULTILINE))
def test_every_command_line_is_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each printed command parses: --help after it lists its flags."""
    with pytest.raises(SystemExit) as left:
        main([*line.split()[3:], "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(flag in printed for flag in re.findall(r"--\w+", line))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README))))
def test_every_make_target_exists(target: str) -> None:
    """`make run`, `make test`, `make test-all`, `make check`."""
    assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
