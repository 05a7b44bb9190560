"""Commands that attack: attack, minimum, sweep, universal, pattern, transfer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from core.cli.flags import add_choice, add_fields, add_group, chosen, given, named
from core.cli.output import about, artifacts, images, show
from core.specs import (
    METHODS,
    UNIVERSAL_METHODS,
    AttackSpec,
    Minimum,
    PatternSpec,
    Spec,
    SweepSpec,
    TransferSpec,
    UniversalSpec,
)
from core.storage import store

FIRST = "fgsm"  # the attack of a command that is given none
FIRST_TRANSFER = "mifgsm"


def attack_flags(spec: type[Spec], default: str = FIRST) -> Callable[[argparse.ArgumentParser, Sequence[str]], None]:
    """Flags for the fields of a task with one attack, and for the settings of the attack that is named."""

    def add(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
        method = named("attack", METHODS, default, arguments)
        own = () if method is None else tuple(method.model_fields)  # a method's own budget goes before the task's
        add_fields(command, spec, leave_out=("attack", *own))
        add_choice(command, "attack", METHODS, default, arguments)

    return add


def attack(options: dict[str, Any], as_json: bool) -> None:
    """Attack images of a model and show the success rate."""
    _attack(options, FIRST, as_json)


def minimum_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Those of `attack`, with the settings of this one attack and without ε."""
    add_fields(command, AttackSpec, leave_out=("attack", "eps", *Minimum.model_fields))
    add_group(command, Minimum)


def minimum(options: dict[str, Any], as_json: bool) -> None:
    """`attack` by the attack of that name."""
    _attack(options, "minimum", as_json)


def _attack(options: dict[str, Any], default: str, as_json: bool) -> None:
    spec = AttackSpec.model_validate(_with_attack(options, default))
    (artifact,) = artifacts(spec)
    show(
        {
            **about(artifact),
            "attack": spec.attack.slug(),
            "norm": getattr(spec.attack, "norm", spec.attack.norms[0]),
            "eps": spec.eps,
            "target": spec.target,
            "budget": spec.budget or getattr(spec.attack, "budget", None),
            "eight_bit": spec.eight_bit,
            "mask": spec.mask and f"{spec.mask.shape}, {artifact.card['mask']['pixels']} pixels",
            "seed": spec.seed,
            **artifact.card["metrics"],
            **artifact.card.get("proven", {}),
            "result": str(artifact.folder),
        },
        as_json,
    )


def sweep(options: dict[str, Any], as_json: bool) -> None:
    """Attack at several ε and show a row for each."""
    from core.evaluation.tables import comparison

    spec = SweepSpec.model_validate(_with_attack(options, FIRST))
    (artifact,) = artifacts(spec)
    request = {**about(artifact), "attack": spec.attack.slug(), "seed": spec.seed}
    show([{**request, **row} for row in comparison.rows_of(artifact.card)], as_json)


def transfer(options: dict[str, Any], as_json: bool) -> None:
    """Attack each of several models, show the images to all, and show a row for each pair."""
    spec = TransferSpec.model_validate(_with_attack(options, FIRST_TRANSFER))
    (artifact,) = artifacts(spec)
    request = {"attack": spec.attack.slug(), "eps": spec.eps, "seed": spec.seed, **images(store.data_of(artifact))}
    show(
        [{**row, **request, "passes": artifact.card["cost"][row["surrogate"]]} for row in artifact.card["rows"]],
        as_json,
    )


def _with_attack(options: dict[str, Any], default: str) -> dict[str, Any]:
    options = given(options)
    options["attack"] = chosen(options, "attack", METHODS, default)
    return options


def universal_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Flags for the fields of the task, and for the settings of the method that is named."""
    add_fields(command, UniversalSpec, leave_out=("method",))
    add_choice(command, "method", UNIVERSAL_METHODS, "gradient", arguments)


def universal(options: dict[str, Any], as_json: bool) -> None:
    """Make one perturbation for many images and show what it does to others."""
    options = given(options)
    options["method"] = chosen(options, "method", UNIVERSAL_METHODS, "gradient")
    spec = UniversalSpec.model_validate(options)
    (artifact,) = artifacts(spec)
    show(
        {
            **about(artifact),
            "method": spec.method.slug(),
            "eps": spec.eps,
            "target": spec.target,
            "budget": spec.budget,
            "seed": spec.seed,
            **artifact.card["metrics"],
            **artifact.card.get("lp", {}),
            "result": str(artifact.folder),
        },
        as_json,
    )


def pattern(options: dict[str, Any], as_json: bool) -> None:
    """Make one pattern on glasses or a patch and show what it does to other images."""
    spec = PatternSpec.model_validate(given(options))
    (artifact,) = artifacts(spec)
    request = {**about(artifact), "mask": spec.mask.shape, "target": spec.target}
    show({**request, "seed": spec.seed, **artifact.card["metrics"], "result": str(artifact.folder)}, as_json)
