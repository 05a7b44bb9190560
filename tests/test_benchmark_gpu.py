"""The benchmark of a GPU: every section runs on a CPU and on a pretended device, and the table has its figures."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_subject
from benchmarks.gpu_subject import Bench, Size
from tests.pretended import Pretended

TINY = Size("resnet_small", 8, 0.01, 2, 4, 2, 2, "quick", (2, 5), side=32)
SECTIONS = ("device", "training", "pgd", "evaluation", "autoattack")
"""All but the tests, which are these."""


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few made images, and AutoAttack by this project on every machine."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchattacks" else find(name))
    for module in (gpu, gpu_subject):
        monkeypatch.setattr(module, "SMALL", TINY)


def rows(text: str) -> dict[str, str]:
    """The figures of a table by what they are of."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {what: figure for what, figure, _ in cells[2:]}


def test_a_small_run_on_the_cpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each section has its figures; the table is printed and written, and says that it is no measurement."""
    out = tmp_path / "table.md"
    assert gpu.main(["--device", "cpu", "--small", "--out", str(out), "--sections", *SECTIONS]) == 0
    text = capsys.readouterr().out
    assert out.read_text(encoding="utf-8") == text
    assert "no figures" in text
    found = rows(text)
    assert not [what for what in found if "failed" in what], text
    assert {f"section {name}" for name in SECTIONS} < set(found)
    assert re.fullmatch(r"[\d.]+ TFLOP/s", found["matrix products, float32"])
    assert re.search(r"steps/s, [\d,]+ images/s, \d+% of the float32 rate", found["training resnet_small, float32"])
    assert re.search(r"passes/s, \d+% of the float32 rate", found["PGD, 2 steps"])
    assert "images/min, 10,000 images in" in found["evaluate --effort quick"]
    assert "images/min" in found["AutoAttack's four parts, our own"]


def test_it_runs_on_a_device() -> None:
    """Every tensor is on the right side, and memory is told."""
    with Pretended():
        bench = Bench("cuda", TINY)
        for name in ("device", "training", "pgd", "autoattack"):
            gpu.section(bench, name)
    found = {what: figure for what, figure, _ in bench.rows}
    assert not [what for what in found if "failed" in what], found
    assert found["self-check"] == "agrees with the CPU"
    assert "training resnet_small, bfloat16, channels last, compiled" in found
    assert re.search(r"peak memory [\d.]+ GiB", found["section pgd"])


def test_a_section_that_fails_or_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on."""

    def broken(bench: Bench) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setitem(gpu.SECTIONS, "training", broken)
    monkeypatch.setattr(gpu, "LIMIT", -1.0)
    bench = Bench("cpu", TINY)
    for name in ("training", "evaluation"):
        gpu.section(bench, name)
    found = {what: figure for what, figure, _ in bench.rows}
    assert found["training failed"] == "OutOfMemoryError: CUDA out of memory."
    assert found["evaluate --effort quick"] == "not done in -1 s"


def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence."""
    assert gpu.main(["--device", "cuda:7"]) == 2
    assert capsys.readouterr().err.startswith("device: expected one that is there")


def test_the_tests_for_a_gpu_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of their own, by their mark; without pytest the row says so."""
    asked: list[list[str]] = []

    class Ended:
        stdout = "....\n4 passed, 9 deselected in 3.00s\n"

    monkeypatch.setattr(gpu.subprocess, "run", lambda command, **options: asked.append(command) or Ended())
    bench = Bench("cpu", TINY)
    gpu.of_tests(bench)
    assert bench.rows[-1][1] == "4 passed, 9 deselected in 3.00s"
    assert asked[0][asked[0].index("-m", 3) + 1] == "gpu"
    root = Path(gpu.__file__).resolve().parents[1]
    assert all((root / place).exists() for place in asked[0] if place.startswith("tests/"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    gpu.of_tests(bench)
    assert bench.rows[-1][1] == "not run: no pytest here"
