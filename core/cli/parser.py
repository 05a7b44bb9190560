"""The list of the commands, and the parser made from it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.cli import attacks, dashboard, docs, evaluation, models
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
    return made


def _fields(spec: type[Spec]) -> Flags:
    """Flags for all fields of a task."""
    return lambda command, arguments: add_fields(command, spec)


COMMANDS = {
    "docs": Command("write the reference pages in docs, from what is registered", docs.docs_flags, docs.docs),
    "dashboard": Command("start the dashboard in a browser", dashboard.dashboard_flags, dashboard.dashboard),
    "train": Command("train a model, or find it in the store", models.train_flags, models.train),
    "models": Command("list the saved models", models.models_flags, models.models),
    "reference": Command(
        "list the reference models; named, make them anew: train, measure, put them where they ship",
        models.reference_flags,
        models.references,
    ),
    "attack": Command(
        "attack images of a model and keep what was made", attacks.attack_flags(AttackSpec), attacks.attack
    ),
    "minimum": Command(
        "the smallest perturbation of each image that a budget of passes finds, in any norm",
        attacks.minimum_flags,
        attacks.minimum,
    ),
    "sweep": Command("accuracy and confidence of a model against ε", attacks.attack_flags(SweepSpec), attacks.sweep),
    "compare": Command(
        "several models under several attacks, as one table", evaluation.compare_flags, evaluation.compare
    ),
    "universal": Command(
        "one perturbation for many images, measured on images that it was not made from",
        attacks.universal_flags,
        attacks.universal,
    ),
    "evaluate": Command(
        "what is left of the accuracy inside a ball, by the strongest evaluation; says when not to trust it",
        _fields(EvaluateSpec),
        evaluation.evaluate,
    ),
    "trust": Command(
        "the trust report of a stored evaluation: every check, what it measured, and what to do; runs nothing",
        evaluation.trust_flags,
        evaluation.trust,
    ),
    "pattern": Command(
        "one pattern on glasses or a patch for many images, measured likewise, in fresh scenes",
        _fields(PatternSpec),
        attacks.pattern,
    ),
    "radii": Command(
        "the smallest perturbation of each test image: what a curve over any ε is looked up in",
        _fields(RadiiSpec),
        evaluation.radii,
    ),
    "curve": Command(
        "accuracy of models at any ε, between proven and attacked: looked up, nothing is run",
        evaluation.curve_flags,
        evaluation.curve,
    ),
    "audit": Command(
        "check a published table of the five metrics: can its printed digits be right?",
        evaluation.audit_flags,
        evaluation.audit,
    ),
    "transfer": Command(
        "who fools whom: images made on each of several models, shown to all of them",
        attacks.attack_flags(TransferSpec, attacks.FIRST_TRANSFER),
        attacks.transfer,
    ),
    "certify": Command(
        "which test images no perturbation of a ball can fool: a proof for each",
        _fields(CertifySpec),
        evaluation.certify,
    ),
}
