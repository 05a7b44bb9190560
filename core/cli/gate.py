"""A robustness gate for somebody's CI: the flags, what passes, exit status 3, and the report in JUnit's XML."""

from __future__ import annotations

import argparse
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.cli.flags import add_fields, number, path
from core.specs import Spec
from core.storage import files
from core.storage.store import Artifact

Outcome = Literal["pass", "fail", "skipped"]
UNUSABLE = ("randomness", "neighbours", "images", "proven", "missed")
"""Reliability checks whose failure can mean that a robust accuracy must not be used."""
ROUNDING = 1e-12
"""What a share may miss the least that passes by: floating point rounds the last digit."""
_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


class Failed(Exception):
    """A result was found, and it does not pass the gate: exit status 3."""


@dataclass(frozen=True)
class Case:
    """One thing that was asked, and how it came out: a test case for JUnit."""

    name: str
    outcome: Outcome
    said: str


@dataclass(frozen=True)
class Gate:
    """What was asked of a result, taken out of a command's flags."""

    fail_under: float | None
    fail_under_clean: float | None
    junit: Path | None
    cases: list[Case] = field(default_factory=list)

    @property
    def asked(self) -> bool:
        """Whether any of the flags was given."""
        return (self.fail_under, self.fail_under_clean, self.junit) != (None, None, None)

    def row(self) -> dict[str, Any]:
        """What JSON says of it; empty where nothing was asked."""
        if not self.asked:
            return {}
        failed = [case.said for case in self.cases if case.outcome == "fail"]
        return {"gate": {"fail_under": self.fail_under, "passed": not failed, "failed": failed}}

    def add(self, name: str, outcome: Outcome, said: str) -> None:
        """Note how something came out."""
        self.cases.append(Case(name, outcome, said))

    def at_least(self, name: str, found: float | None, least: float | None, about: str) -> None:
        """Compare a share with the least that passes; without a least it is only reported.

        A figure that is missing passes no gate. What floating point rounds in the last digit is no difference.
        """
        if found is None:
            self.add(name, "skipped" if least is None else "fail", f"{name} is not known {about}")
        elif least is None:
            self.add(name, "pass", f"{name} {found:.4g} {about}")
        else:
            passes = found >= least - ROUNDING
            sign = "at least" if passes else "below"
            self.add(name, "pass" if passes else "fail", f"{name} {found:.4g} is {sign} {least:g} {about}")

    def close(self, artifact: Artifact | None, title: str, properties: Mapping[str, Any]) -> None:
        """Write the report, if one is wanted.

        Args:
            artifact: the result that was judged; None where several were looked up.
            title: of the suite.
            properties: of the suite.

        Raises:
            Failed: something does not pass.
            OSError: the report cannot be written.
        """
        if not self.asked:
            return
        if self.junit is not None:
            files.replace_file(self.junit, self._report(artifact, title, properties))
        if failed := [case.said for case in self.cases if case.outcome == "fail"]:
            raise Failed("FAILED: " + "; ".join(failed))

    def _report(self, artifact: Artifact | None, title: str, properties: Mapping[str, Any]) -> bytes:
        """JUnit's XML: a suite, its properties and its cases."""
        card: Mapping[str, Any] = {} if artifact is None else artifact.card
        seconds = f"{float(card.get('seconds') or 0):.3f}"
        counts = {
            "tests": str(len(self.cases)),
            "failures": str(sum(case.outcome == "fail" for case in self.cases)),
            "errors": "0",
            "skipped": str(sum(case.outcome == "skipped" for case in self.cases)),
            "time": seconds,
        }
        root = ET.Element("testsuites", {"name": "Adversarial Lab", **counts})
        when = {"timestamp": str(card["created"])} if card.get("created") else {}
        suite = ET.SubElement(root, "testsuite", {"name": _text(title), **counts, **when})
        versions = {f"version.{name}": version for name, version in card.get("versions", {}).items()}
        about = {**properties, "result": None if artifact is None else artifact.id, **versions}
        known = ET.SubElement(suite, "properties")
        for name, value in about.items():
            if value is not None:
                ET.SubElement(known, "property", {"name": name, "value": _text(str(value))})
        for place, case in enumerate(self.cases):
            made = ET.SubElement(
                suite,
                "testcase",
                {"classname": _text(title), "name": _text(case.name), "time": seconds if place == 0 else "0.000"},
            )
            if case.outcome == "pass":
                ET.SubElement(made, "system-out").text = _text(case.said)
            else:
                kind = "failure" if case.outcome == "fail" else "skipped"
                body = ET.SubElement(made, kind, {"message": _text(case.said)})
                if kind == "failure":
                    body.set("type", "gate")
                    body.text = _text(case.said)
        ET.indent(root)
        return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def flags(spec: type[Spec], figure: str) -> Callable[[argparse.ArgumentParser, Sequence[str]], None]:
    """Flags for the fields of a task and for a gate on its `figure`."""

    def add(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
        add_fields(command, spec)
        add_flags(command, figure)

    return add


def add_flags(command: argparse.ArgumentParser, figure: str) -> None:
    """The flags of a gate on a command's `figure`."""
    share: dict[str, Any] = {"type": number, "metavar": "SHARE"}
    command.add_argument(
        "--fail-under", help=f"exit with status 3 if the {figure} is below this share, such as 0.40", **share
    )
    command.add_argument("--fail-under-clean", help="likewise for the accuracy on clean images", **share)
    command.add_argument("--junit", type=path, metavar="FILE", help="write the outcome to this file as JUnit XML")


def taken(options: dict[str, Any]) -> Gate:
    """Take the flags of a gate out of a command's options.

    Raises:
        ValueError: a share outside [0, 1], or a report that could not be written; before anything is run.
    """
    shares = {name: options.pop(name) for name in ("fail_under", "fail_under_clean")}
    for name, value in shares.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, such as 0.40, got {value:g}")
    given = options.pop("junit")
    junit = None if given is None else Path(given)
    if junit is not None and (junit.is_dir() or not junit.absolute().parent.is_dir()):
        raise ValueError(f"junit: expected a file in a folder that exists, got {given!r}")
    return Gate(shares["fail_under"], shares["fail_under_clean"], junit)


def _text(text: str) -> str:
    return _NO_TEXT.sub("�", text)
