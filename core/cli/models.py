"""Commands that make and list models, and what is bundled: train, models, reference, bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.checks import check_choice
from core.cli.flags import add_choice, add_fields, chosen, given
from core.cli.output import artifacts, note, progress, show
from core.jobs import devices, running
from core.models import reference, trained_on
from core.specs import PRESETS, RECIPES, DataSpec, TrainSpec, preset
from core.storage import bundled, left_out, store


def train_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Data, network and training as flags, and the settings of the recipe that is named."""
    command.add_argument("--preset", choices=list(PRESETS), help="named settings; other flags override them")
    add_fields(command, DataSpec, leave_out=("content",))
    add_fields(command, TrainSpec, leave_out=("data", "recipe"))
    add_choice(command, "recipe", RECIPES, "standard", arguments)


def train(options: dict[str, Any], as_json: bool) -> None:
    """Train a model and show its accuracy."""
    root = store.default_root()
    spec = store.resolve(_train_spec(given(options)), root)
    assert isinstance(spec, TrainSpec)
    cached = spec.artifact_name() in [model.id for model in store.models(root)]
    (artifact,) = artifacts(spec)
    if not running.leads():  # torchrun: the first of the processes reports for all
        return
    metrics = artifact.card["metrics"]
    for text in artifact.card.get("data", {}).get("notes", ()):
        note(text)
    if not cached and (text := trained_on.earlier(spec, root)):
        note(text)
    show(
        {
            "model": artifact.id,
            "test_accuracy": metrics["test_accuracy"],
            "low": metrics["test_low"],
            "high": metrics["test_high"],
            "n": metrics["test_n"],
            "seconds": artifact.card["timing"]["seconds"],
            "images_per_second": artifact.card["timing"]["images_per_second"],
            "seed": spec.seed,
            "cached": cached,
        },
        as_json,
    )


def _train_spec(options: dict[str, Any]) -> TrainSpec:
    data = {name: options.pop(name) for name in DataSpec.model_fields if name in options}
    recipe = chosen(options, "recipe", RECIPES, "standard")
    settings = preset(options.pop("preset", "fast"), data.get("dataset", "digits"))
    return TrainSpec.model_validate({**settings, **options, "data": data, "recipe": recipe})


def models_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """No flags: all models are listed."""


def models(options: dict[str, Any], as_json: bool) -> None:
    """List the models of the store."""
    from core.evaluation.tables.comparison import model_row

    root = store.default_root()
    rows = [model_row(artifact) for artifact in store.models(root)]
    if not rows and not as_json:
        print(f"no saved models in {root}; train one: python -m core train")
    else:
        show(rows, as_json)
    for one in left_out.unreadable(root):
        note(f"cannot be read: {one.sentence()}")


def reference_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Which reference models to list or make, and on which device."""
    command.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(reference.REFERENCES)}")
    command.add_argument(
        "--make", action="store_true", help="train and measure the named models again, and bundle them"
    )
    command.add_argument(
        "--measure", action="store_true", help="measure the named models again, as they are bundled, without training"
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="with --make: all that this machine can make; with --measure: all that are bundled",
    )
    command.add_argument("--device", help=devices.HELP)
    command.add_argument("--n", type=int, help="test images for PGD and proofs. Default: all.")


def references(options: dict[str, Any], as_json: bool) -> None:
    """List the named reference models, or all of them; with --make or --measure, work on them first."""
    root, names, device, n = store.default_root(), options["names"], options["device"], options["n"]
    for name in names:
        check_choice("name", name, reference.REFERENCES)
    if options["make"] and options["measure"]:
        raise ValueError("measure: expected --make, which measures too, or --measure, got both")
    works = options["make"] or options["measure"]
    if (works and not names and not options["all"]) or (options["all"] and not works):
        raise ValueError("make: expected --make or --measure with names or with --all, got one without the other")
    if works:
        bundled.check_replaceable()
        from core.jobs import reference_build

        for name in names or _all_of(options["make"], device, root):
            with progress() as line:
                if options["make"]:
                    made = reference_build.make(name, root, device=device, n=n, on_progress=line)
                else:
                    made = reference_build.measure_again(name, device=device, n=n, on_progress=line)
            note(f"{name}: {made.folder}")
    show([row for row in reference.rows(root) if not names or row["name"] in names], as_json)


def _all_of(make: bool, device: str | None, root: Path) -> list[str]:
    """The reference models that can be made on this device, or else those that are bundled."""
    gpu = make and devices.settled(device, root, note).startswith("cuda")
    return [
        one.name
        for one in reference.REFERENCES.values()
        if (gpu or not one.needs_gpu if make else bundled.folder(one.spec.artifact_name()))
    ]


def bundle_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Which results, and what to do with them."""
    command.add_argument(
        "--only", nargs="+", metavar="NAME", help="those on these bundled models (see `reference`). Default: all."
    )
    command.add_argument("--list", action="store_true", help="list them, with their sizes; run nothing")
    command.add_argument("--force", action="store_true", help="also what is bundled already")
    command.add_argument("--device", help=devices.HELP)


def bundle(options: dict[str, Any], as_json: bool) -> None:
    """Make the results that are missing with the bundled models, and list them."""
    from core.jobs import bundle as made

    only, wanted = options["only"], 0
    for name in only or ():
        check_choice("only", name, reference.REFERENCES)
    if not options["list"]:
        bundled.check_replaceable()
        for item in made.items(only):
            if item.folder is not None and not options["force"]:
                continue
            wanted += 1
            with progress() as line:
                item = made.make(item.spec, device=options["device"], on_progress=line)
            note(f"{item.size:>9,} bytes  {item.folder}")
    rows = [item.row() for item in made.items(only)]
    show(rows, as_json)
    note(f"{wanted} made; {made.total():,} bytes of at most {made.LARGEST:,} together")
