"""Where the runner of each task is, by name, since importing it imports torch."""

from __future__ import annotations

from core.specs import (
    AttackSpec,
    CertifySpec,
    EvaluateSpec,
    ImportSpec,
    PatternSpec,
    RadiiSpec,
    SweepSpec,
    Task,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
)

RUNNERS: dict[type[Task], str] = {
    TrainSpec: "core.training.task",
    ImportSpec: "core.evaluation.tasks.importing",
    AttackSpec: "core.evaluation.tasks.attack",
    SweepSpec: "core.evaluation.tasks.sweep",
    UniversalSpec: "core.evaluation.tasks.universal",
    PatternSpec: "core.evaluation.tasks.pattern",
    RadiiSpec: "core.evaluation.tasks.radii",
    TransferSpec: "core.evaluation.tasks.transfer",
    EvaluateSpec: "core.evaluation.tasks.evaluate",
    CertifySpec: "core.evaluation.tasks.certify",
}
"""The module whose `run` makes the artifact of each task; those of `shards.ranges.SIZES` have a `ByImage` as well."""
