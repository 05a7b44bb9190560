"""A result as a gate: exit status 3 below a share, or where a figure must not be used; and what JUnit is told."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.evaluation.trust.report import Trust
from core.storage import store

Capture = pytest.CaptureFixture[str]
MODEL = "digits-mlp"
FLAGS = ("--model", MODEL, "--eps", "8/255", "--effort", "quick", "--n", "30")


def suite(path: Path) -> ET.Element:
    """The one suite of a report, whose counts are those of its cases."""
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites"
    (found,) = root.findall("testsuite")
    cases = found.findall("testcase")
    for counted in (root, found):
        assert int(counted.attrib["tests"]) == len(cases)
        assert int(counted.attrib["failures"]) == len(found.findall("testcase/failure"))
        assert int(counted.attrib["skipped"]) == len(found.findall("testcase/skipped"))
        assert counted.attrib["errors"] == "0"
        assert float(counted.attrib["time"]) >= 0
    return found


def failures(found: ET.Element) -> list[str]:
    """Names of the cases that failed, each with its message."""
    failed = [case for case in found.findall("testcase") if case.find("failure") is not None]
    assert all(case.find("failure").attrib["message"] for case in failed)  # type: ignore[union-attr]
    return [case.attrib["name"] for case in failed]


@pytest.fixture(autouse=True)
def models(trained_store: Path, store_root: Path) -> None:
    """Trained models in a store of our own."""
    shutil.copytree(trained_store, store_root)


@pytest.fixture
def robust(capsys: Capture, models: None) -> float:
    """The robust accuracy of the model at 8/255; found again afterwards."""
    assert main(["evaluate", *FLAGS, "--json"]) == 0
    found: float = json.loads(capsys.readouterr().out)["robust_accuracy"]
    assert 0 < found < 1
    return found


def test_a_gate_on_the_robust_accuracy(robust: float, capsys: Capture, tmp_path: Path) -> None:
    """It passes at the figure itself and fails above; the result is shown all the same."""
    report = tmp_path / "report.xml"
    assert main(["evaluate", *FLAGS, "--fail-under", repr(robust), "--junit", str(report)]) == 0
    found = suite(report)
    assert failures(found) == []
    known = {one.attrib["name"]: one.attrib["value"] for one in found.findall("properties/property")}
    assert known["norm"] == "linf"
    assert float(known["eps"]) == 8 / 255
    assert (known["n"], known["seed"], known["effort"]) == ("30", "0", "quick")
    assert known["version.torch"]
    assert known["model"] in found.attrib["name"]
    names = [case.attrib["name"] for case in found.findall("testcase")]
    assert names[:3] == ["robust accuracy", "clean accuracy", "the robust accuracy may be used"]
    assert sum(name.startswith("reliability: ") for name in names) > 5
    capsys.readouterr()

    above = ("--fail-under", repr(robust + 0.01))
    assert main(["evaluate", *FLAGS, *above, "--junit", str(report)]) == 3
    out, err = capsys.readouterr()
    assert "robust_accuracy" in out
    assert f"FAILED: robust accuracy {robust:.4g} is below {robust + 0.01:g} (linf, ε = 0.0313725, n = 30, 95 %" in err
    assert failures(suite(report)) == ["robust accuracy"]
    assert main(["evaluate", *FLAGS, *above, "--json"]) == 3
    made = json.loads(capsys.readouterr().out)["gate"]
    assert made["passed"] is False
    assert len(made["failed"]) == 1

    assert main(["evaluate", *FLAGS, "--fail-under", "0", "--fail-under-clean", "1"]) == 3
    assert "clean accuracy" in capsys.readouterr().err
    assert main(["evaluate", *FLAGS, "--fail-under", "0,0"]) == 0


def test_a_figure_that_must_not_be_used_passes_no_gate(
    robust: float, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However high it is; without a gate the status stays 0."""
    plain = Trust.from_json

    def broken(made: Any) -> Trust:
        found = plain(made)
        object.__setattr__(found, "warning", "Two passes of the same images \x00differ.")
        return found

    monkeypatch.setattr(Trust, "from_json", broken)
    report = tmp_path / "report.xml"
    assert main(["evaluate", *FLAGS]) == 0
    assert main(["evaluate", *FLAGS, "--fail-under", "0", "--junit", str(report)]) == 3
    assert "must not be used: Two passes" in capsys.readouterr().err
    assert failures(suite(report)) == ["the robust accuracy may be used"]


def test_a_gate_on_the_proven_accuracy(capsys: Capture, tmp_path: Path) -> None:
    """Of certify."""
    report = tmp_path / "report.xml"
    flags = ("--model", MODEL, "--eps", "1/255", "--method", "ibp", "--n", "20", "--junit", str(report))
    assert main(["certify", *flags, "--fail-under", "0"]) == 0
    assert [case.attrib["name"] for case in suite(report).findall("testcase")] == ["proven accuracy", "clean accuracy"]
    assert main(["certify", *flags, "--fail-under", "1.0", "--fail-under-clean", "0"]) == 3
    assert failures(suite(report)) == ["proven accuracy"]
    capsys.readouterr()
    smoothing = ("--method", "smoothing", "--norm", "l2", "--fail-under", "0.1")
    assert main(["certify", "--model", MODEL, *smoothing]) == 2
    assert "finds a radius for each image" in capsys.readouterr().err


def test_a_gate_on_accuracies_that_are_looked_up(robust: float, capsys: Capture, tmp_path: Path) -> None:
    """Of curve: at every ε that was named; one that nothing is known of passes no gate."""
    report = tmp_path / "report.xml"
    at = ("--models", MODEL, "--n", "30", "--junit", str(report))
    assert main(["curve", *at, "--eps", "8/255", "--fail-under", repr(robust), "--fail-under-clean", "0.1"]) == 0
    found = suite(report)
    assert failures(found) == []
    assert [case.attrib["name"].split(" of ")[0] for case in found.findall("testcase")] == [
        "clean accuracy",
        "robust accuracy",
    ]
    capsys.readouterr()
    assert main(["curve", *at, "--eps", "8/255", "--fail-under", repr(robust + 0.01), "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["gate"]["passed"] is False
    assert f"{robust:.4g} is below" in err
    assert main(["curve", *at, "--eps", "8/255", "0.3", "--fail-under", "0"]) == 3
    assert "is not known (linf, ε = 0.3)" in capsys.readouterr().err
    assert len(failures(suite(report))) == 1
    assert main(["curve", *at, "--eps", "8/255", "--fail-under-clean", "1"]) == 3
    assert "clean accuracy" in capsys.readouterr().err
    assert main(["curve", *at, "--fail-under", "0"]) == 2
    assert "eps: expected at least one ε at which the gate looks" in capsys.readouterr().err


def test_what_only_single_attacks_say_passes_no_gate(capsys: Capture, tmp_path: Path) -> None:
    """A sweep by FGSM fools few images, which is no reason to call the others robust."""
    assert main(["sweep", "--model", MODEL, "--attack", "fgsm", "--eps", "8/255", "--n", "30"]) == 0
    at = ("--models", MODEL, "--n", "30", "--eps", "8/255")
    assert main(["curve", *at, "--fail-under", "0"]) == 0
    assert main(["curve", *at, "--fail-under", "0.01"]) == 3
    assert "only single attacks were run on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fail-under", "40"], "fail_under: expected a share from 0 to 1, such as 0.40, got 40"),
        (["--fail-under-clean", "-1"], "fail_under_clean: expected a share"),
        (["--junit", "no/such/folder/report.xml"], "junit: expected a file in a folder that exists, got 'no/such"),
        (["--junit", "."], "junit: expected a file"),
    ],
)
def test_bad_gates_are_refused_before_anything_is_run(
    flags: list[str], said: str, capsys: Capture, store_root: Path
) -> None:
    """One sentence, and no result is left behind."""
    assert main(["evaluate", *FLAGS, *flags]) == 2
    assert said in capsys.readouterr().err
    assert store.results(store.open_model(MODEL, store_root).id, store_root, "evaluate") == []


def test_a_share_that_is_no_number_is_refused(capsys: Capture) -> None:
    """By the parser, with what was expected."""
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *FLAGS, "--fail-under", "much"])
    assert left.value.code == 2
    assert "expected a number such as 0.03 or 8/255, got 'much'" in capsys.readouterr().err
