"""Tasks: what can be run, by a page, the command line or a job; each is in the module of its kind."""

from __future__ import annotations

from typing import Any

from core.specs.attacking import AttackSpec, CompareSpec, SweepSpec, TransferSpec
from core.specs.base import Spec
from core.specs.importing import ImportSpec
from core.specs.judging import CertifySpec, EvaluateSpec, RadiiSpec
from core.specs.many_images import PatternSpec, UniversalSpec
from core.specs.training import TrainSpec

ModelTask = AttackSpec | SweepSpec | UniversalSpec | PatternSpec | RadiiSpec | TransferSpec | EvaluateSpec | CertifySpec
"""What is asked of one saved model, and lies in the store with it."""
ModelSpec = TrainSpec | ImportSpec
"""What leaves a model in the store: trained here, or made by others."""
Task = ModelSpec | CompareSpec | ModelTask
IMPORTED = "imported"
"""What stands where a model's recipe would, of one that was trained elsewhere."""
TASKS: dict[str, type[Task]] = {
    "train": TrainSpec,
    "import": ImportSpec,
    "attack": AttackSpec,
    "sweep": SweepSpec,
    "compare": CompareSpec,
    "universal": UniversalSpec,
    "pattern": PatternSpec,
    "radii": RadiiSpec,
    "transfer": TransferSpec,
    "evaluate": EvaluateSpec,
    "certify": CertifySpec,
}
"""What can be run, by the name of its command."""


MODELS = tuple(name for name, cls in TASKS.items() if issubclass(cls, TrainSpec | ImportSpec))
"""The tasks that leave a model."""


def recipe_of(spec: ModelSpec) -> str:
    """Name of the recipe that a model was trained by; `IMPORTED` where that is not known."""
    return spec.recipe.name if isinstance(spec, TrainSpec) else IMPORTED


def task_name(spec: Spec) -> str:
    """The command that runs `spec`."""
    return next(name for name, cls in TASKS.items() if isinstance(spec, cls))


def dump_task(spec: Task) -> dict[str, Any]:
    """`{"task": name, "spec": {...}}`, ready for JSON."""
    return {"task": task_name(spec), "spec": spec.body()}


def load_task(body: dict[str, Any]) -> Task:
    """The inverse of `dump_task`. Raises ValueError on an unknown task or a refused field."""
    if body.get("task") not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {body.get('task')!r}")
    return TASKS[body["task"]].model_validate(body["spec"])
