"""Commands that look after a store: verify, restore, migrate."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.cli.output import note, show
from core.storage import damage, store
from core.storage import migrate as migrating
from core.storage import restore as restoring
from core.storage import verify as verifying


def verify_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """No flags: the whole store is looked at, and what is bundled."""


def verify(options: dict[str, Any], as_json: bool) -> None:
    """Check every artifact; raises DamagedArtifact where one is damaged."""
    root = store.default_root()
    looked = verifying.every(root)
    rows = [
        {"artifact": one.folder.name, "model": one.model, "what": what, "damaged": what in one.damaged}
        for one in looked
        for what in (*one.damaged, *filter(None, [one.unreadable]))
    ]
    broken = sum(1 for one in looked if one.damaged)
    counts = {"artifacts": len(looked), "files": sum(one.files for one in looked), "damaged": broken}
    aside = len(damage.aside(root))
    if as_json:
        show(
            {**counts, "unreadable": sum(1 for one in looked if one.unreadable), "set_aside": aside, "rows": rows}, True
        )
    elif rows:
        show(rows, False)
    text = f"{counts['files']:,} files of {len(looked):,} models and results were read"
    if aside:
        text += f"; set aside earlier: {aside} (python -m core restore)"
    note(f"{text}.")
    if broken:
        raise store.DamagedArtifact(
            f"damaged: {broken} of {len(looked)}. `python -m core restore` puts back what it has a whole copy of; what "
            "is asked for again is made again."
        )
    note("None is damaged.")


def restore_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Where copies may lie."""
    command.add_argument(
        "--backup", nargs="+", default=[], metavar="FOLDER", help="copies of the store, to take what matches from"
    )


def restore(options: dict[str, Any], as_json: bool) -> None:
    """Put back what was set aside, part by part; raises DamagedArtifact where something is not back."""
    for backup in options["backup"]:
        if not Path(backup).is_dir():
            raise ValueError(f"backup: expected a folder, got {backup!r}, which is none")
    root = store.default_root()
    done = restoring.restore(root, [Path(backup) for backup in options["backup"]], _rebuild)
    if done or as_json:
        show(
            [{"artifact": one.name, "model": one.model, "outcome": one.outcome, "what": one.said} for one in done],
            as_json,
        )
    if not done:
        note(f"nothing is set aside or damaged in {root}")
    lost = sum(one.outcome == "lost" for one in done)
    if lost:
        raise store.DamagedArtifact(f"could not be put back: {lost} of {len(done)}; nothing was deleted")


def _rebuild(card: dict[str, Any], data: dict[str, bytes]) -> dict[str, bytes]:
    from core.jobs import remade

    return remade.rebuild(card, data)


def migrate_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Whether to write."""
    command.add_argument("--dry-run", action="store_true", help="say what would change; write nothing")


def migrate(options: dict[str, Any], as_json: bool) -> None:
    """Rewrite artifacts of earlier formats, or say what would change; raises UnreadableArtifact for what cannot be."""
    root = store.default_root()
    changes = (migrating.plan if options["dry_run"] else migrating.migrate)(root)
    if changes or as_json:
        rows = [{"artifact": one.folder.name, "format": one.before, "what": one.said} for one in changes]
        show(rows, as_json)
    if not changes:
        note(f"nothing to migrate: no artifact in {root} is of an earlier format than {migrating.FORMAT}")
    stuck = sum(1 for one in changes if not one.name)
    if stuck:
        raise store.UnreadableArtifact(f"cannot be rewritten: {stuck} of {len(changes)}; they were left as they are")
