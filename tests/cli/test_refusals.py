"""What the command line is given and cannot do: one sentence that names it, exit status 2 or 1, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.__main__ import main
from core.cli.parser import COMMANDS

NONE = "no-such-model"
REFUSED: list[tuple[list[str], str]] = [
    *((["curve", "--models", NONE, "--eps", eps], "eps") for eps in ("nan", "inf", "1e400", "x", "", "8/0")),
    *((["trust", "--model", NONE, "--eps", eps], "eps") for eps in ("nan", "-inf", "much")),
    (["curve", "--models", NONE, "--n", "1.5"], "n"),
    *((["train", "--dataset", "folder", "--folder", path], "folder") for path in ("", " ", "~no-such-user/x", "a\0b")),
    *((["train", "--dataset", "file", "--file", path], "file") for path in ("", "~no-such-user/x.npz", "a\0b.npz")),
    *((["evaluate", "--model", NONE, "--eps", "0.1", "--fail-under", much], "fail") for much in ("nan", "2", "-1")),
    (["evaluate", "--model", NONE, "--eps", "0.1", "--fail-under", "0.5", "--junit", ""], "junit"),
    *((["dashboard", "--port", port], "port") for port in ("-1", "0", "99999", "9" * 5000, "x", "²")),
    *((["report", "--out", out], "out") for out in ("", "a\0b")),
    (["docs", "--folder", ""], "folder"),
    (["audit", ""], "file"),
    (["train", "--device", "tpu"], "device"),
    (["work", "no-such-job"], "no-such-job"),
    (["work"], "work"),
    *((["compare", "--models", NONE, "--attacks", f"pgd:{setting}"], "pgd") for setting in ("steps=nan", "steps", "=")),
    *((["attack", "--model", NONE, "--eps", "0.1", "--indices", number], "indices") for number in ("-1", "x", "1.5")),
]
"""Command lines, and a word of the sentence that refuses them."""


def status(arguments: list[str]) -> int:
    """The exit status of a command; argparse refuses by leaving."""
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(("arguments", "named"), REFUSED, ids=lambda value: " ".join(value)[:50].replace("\0", "NUL"))
def test_it_is_refused_in_one_sentence(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Standard output stays empty, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert status(arguments) in (1, 2)
    out, error = capfd.readouterr()
    said = [line for line in error.splitlines() if line and not line.startswith((" ", "usage:"))]
    assert out == ""
    assert len(said) == 1, error
    assert named in said[0]
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == []


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "9" * 5000, "x", "", "\x1b[31m"])
@pytest.mark.parametrize("command", ["attack", "sweep", "radii", "evaluate", "certify", "pattern"])
def test_every_number_of_a_task_is_refused_by_its_name(
    command: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The two that all tasks have; `tests/specs/test_bounds.py` tries every field."""
    assert command in COMMANDS
    for flag in ("--seed", "--n") if command != "attack" else ("--seed",):
        if command == "certify" and flag == "--seed":
            continue
        assert status([command, "--model", NONE, flag, value]) == 2
        assert flag.strip("-") in capfd.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "x " + " ".join(["0." + "1234567890" * 2000] * 5),
        "x " + " ".join(["1" * 50] * 5),
        "a," * 200_000,
        " " * 400_000 + "%",
        'a,"b\n0.9,0.1',
        "\x00\x01",
    ],
    ids=["20,000 digits", "50 digits", "wide", "blank", "an open quote", "controls"],
)
def test_a_table_that_is_none_is_refused(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By its size, before anything is worked out."""
    file = tmp_path / "table.txt"
    file.write_text(text)
    assert status(["audit", str(file)]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_table_that_is_no_text_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes, and a folder."""
    (tmp_path / "bytes").write_bytes(b"\x00\xff\x87" * 100)
    assert status(["audit", str(tmp_path / "bytes")]) == 2
    assert "UTF-8" in capfd.readouterr().err
    assert status(["audit", str(tmp_path)]) == 1
    assert capfd.readouterr().err.count("\n") == 1
