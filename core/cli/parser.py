"""The list of the commands, and the parser made from it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.cli import attacks, dashboard, devices, docs, evaluation, exercises, gate, importing, models, upkeep
from core.cli.flags import add_fields
from core.specs import AttackSpec, CertifySpec, EvaluateSpec, PatternSpec, RadiiSpec, Spec, SweepSpec, TransferSpec

Flags = Callable[[argparse.ArgumentParser, Sequence[str]], None]


class Command(NamedTuple):
    """What a command is for, the flags that it adds to its parser, and what it does with their values."""

    summary: str
    flags: Flags
    run: Callable[[dict[str, Any], bool], None]


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; `arguments` tell which recipe or attack has its settings among the flags."""
    prog = "adversarial-lab" if Path(sys.argv[0]).stem == "adversarial-lab" else "python -m core"
    made = argparse.ArgumentParser(prog=prog, description="Adversarial Lab")
    commands = made.add_subparsers(dest="command", required=True, metavar="{" + ", ".join(COMMANDS) + "}")
    for name, (summary, flags, _) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        flags(command, arguments)
        if name in IN_SHARDS:
            command.add_argument("--on", metavar="ENGINE", help=ON)
    return made


def _fields(spec: type[Spec]) -> Flags:
    """Flags for all fields of a task."""
    return lambda command, arguments: add_fields(command, spec)


IN_SHARDS = ("attack", "minimum", "sweep", "compare", "evaluate", "radii", "certify", "transfer")
"""Commands that judge images one by one, and can do so in several processes."""
ON = (
    "where it runs: local:N (N processes here), ray, ray://HOST:PORT or HOST:PORT of a Ray cluster. Default: the "
    "environment variable ADVERSARIAL_LAB_ENGINE, else this process."
)

COMMANDS = {
    "dashboard": Command("start the dashboard in a browser", dashboard.dashboard_flags, dashboard.dashboard),
    "train": Command("train a model, or load it if it was trained before", models.train_flags, models.train),
    "import": Command(
        "make a network of somebody else a saved model, and find out what it needs",
        importing.import_flags,
        importing.import_,
    ),
    "models": Command("list your models and the bundled ones", models.models_flags, models.models),
    "reference": Command(
        "list the bundled models; with --make, train and measure the named ones again; with --measure, only measure",
        models.reference_flags,
        models.references,
    ),
    "bundle": Command(
        "make the results that are missing with the bundled models, so that pages open with an answer",
        models.bundle_flags,
        models.bundle,
    ),
    "device": Command(
        "list the devices here, check each against the CPU, measure their matrix rates, and say which is used",
        devices.device_flags,
        devices.device,
    ),
    "verify": Command(
        "check every file of the store, and of what is bundled, against its hash; changes nothing",
        upkeep.verify_flags,
        upkeep.verify,
    ),
    "restore": Command(
        "put back what was set aside or is damaged, as far as a part with the right hash is left",
        upkeep.restore_flags,
        upkeep.restore,
    ),
    "migrate": Command(
        "rewrite models and results of earlier formats to today's; with --dry-run, say what would change",
        upkeep.migrate_flags,
        upkeep.migrate,
    ),
    "attack": Command(
        "attack images of a model and keep the adversarial examples", attacks.attack_flags(AttackSpec), attacks.attack
    ),
    "minimum": Command(
        "find the smallest perturbation of each image, in any norm, within a budget of passes",
        attacks.minimum_flags,
        attacks.minimum,
    ),
    "sweep": Command(
        "measure accuracy and confidence of a model at several ε", attacks.attack_flags(SweepSpec), attacks.sweep
    ),
    "compare": Command(
        "measure several models under several attacks, as one table", evaluation.compare_flags, evaluation.compare
    ),
    "universal": Command(
        "make one perturbation for many images and measure it on images it was not made from",
        attacks.universal_flags,
        attacks.universal,
    ),
    "pattern": Command(
        "make one pattern on glasses or a patch for many images and measure it under new transformations",
        _fields(PatternSpec),
        attacks.pattern,
    ),
    "evaluate": Command(
        "measure robust accuracy at one ε by the strongest evaluation, and check whether the figure is reliable",
        gate.flags(EvaluateSpec, "robust accuracy"),
        evaluation.evaluate,
    ),
    "trust": Command(
        "print the reliability checks of a stored evaluation: what each measured, and what to do; runs nothing",
        evaluation.trust_flags,
        evaluation.trust,
    ),
    "radii": Command(
        "find the smallest perturbation of each test image; curves over any ε are looked up in the result",
        _fields(RadiiSpec),
        evaluation.radii,
    ),
    "curve": Command(
        "look up the accuracy of models at any ε, between proven and attacked; runs nothing",
        evaluation.curve_flags,
        evaluation.curve,
    ),
    "certify": Command(
        "prove which test images no perturbation inside a ball can fool",
        gate.flags(CertifySpec, "proven accuracy"),
        evaluation.certify,
    ),
    "transfer": Command(
        "make adversarial examples on each of several models and show them to all of them",
        attacks.attack_flags(TransferSpec, attacks.FIRST_TRANSFER),
        attacks.transfer,
    ),
    "audit": Command(
        "check whether the printed digits of a published table of the five metrics can be right",
        evaluation.audit_flags,
        evaluation.audit,
    ),
    "report": Command(
        "write the lab report: the exercises that are done, as one HTML file; runs nothing",
        exercises.report_flags,
        exercises.report,
    ),
    "docs": Command(
        "write the reference pages in docs from what is registered",
        docs.docs_flags,
        lambda options, as_json: docs.write(options, parser([])),
    ),
}
"""Every command by its name, in the order in which `--help` lists them."""
