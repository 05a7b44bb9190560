"""The vocabulary: everything that can be asked for, as frozen, validated, hashable descriptions.

A spec is a pydantic model. Its field metadata (title, description, bounds) draws the form, the command line and the
error messages: one truth. `Spec.key()` names the artifact that running the spec leaves behind. Nothing here imports
torch, so that pages and the command line can draw their controls at once.

    base        what every spec is
    data        data sets
    recipes     how a batch's loss is made: standard, FGSM mix, FGSM, PGD, TRADES, free
    training    networks, optimisers, presets
    methods     attack methods
    masks       the pixels that an attack may change
    tasks       what can be run: train, attack, sweep, compare
"""

from core.specs.base import FORMAT, Spec, explain
from core.specs.data import DATASETS, DatasetInfo, DatasetName, DataSpec
from core.specs.masks import SHAPES, AnyMask, Cells, Eyeglasses, MaskField, Patch
from core.specs.methods import (
    METHODS,
    AnyMethod,
    Apgd,
    Bim,
    CarliniWagner,
    Ddn,
    DeepFool,
    Exhaustive,
    Fgsm,
    Fmn,
    GeneratorMethod,
    GeneratorStrong,
    JacobianDense,
    JacobianSparse,
    Jsma,
    Method,
    MethodField,
    MiFgsm,
    Minimum,
    Norm,
    Pgd,
    Physical,
    Rfgsm,
    SigmaZero,
    Square,
)
from core.specs.recipes import (
    RECIPES,
    FgsmMixRecipe,
    FgsmRecipe,
    FreeRecipe,
    PgdRecipe,
    Recipe,
    RecipeBase,
    StandardRecipe,
    TradesRecipe,
)
from core.specs.tasks import (
    DEFAULT_EPS,
    MAX_EPS,
    SWEEPABLE,
    TASKS,
    AttackSpec,
    CompareSpec,
    Eps,
    SweepSpec,
    Task,
    dump_task,
    load_task,
    task_name,
)
from core.specs.training import (
    NETWORKS,
    PRESET_TITLES,
    PRESETS,
    NetworkName,
    TrainSpec,
    preset,
)

__all__ = [
    "DATASETS",
    "DEFAULT_EPS",
    "FORMAT",
    "MAX_EPS",
    "METHODS",
    "NETWORKS",
    "PRESETS",
    "PRESET_TITLES",
    "RECIPES",
    "SHAPES",
    "SWEEPABLE",
    "TASKS",
    "AnyMask",
    "AnyMethod",
    "Apgd",
    "AttackSpec",
    "Bim",
    "CarliniWagner",
    "Cells",
    "CompareSpec",
    "DataSpec",
    "DatasetInfo",
    "DatasetName",
    "Ddn",
    "DeepFool",
    "Eps",
    "Exhaustive",
    "Eyeglasses",
    "Fgsm",
    "FgsmMixRecipe",
    "FgsmRecipe",
    "Fmn",
    "FreeRecipe",
    "GeneratorMethod",
    "GeneratorStrong",
    "JacobianDense",
    "JacobianSparse",
    "Jsma",
    "MaskField",
    "Method",
    "MethodField",
    "MiFgsm",
    "Minimum",
    "NetworkName",
    "Norm",
    "Patch",
    "Pgd",
    "PgdRecipe",
    "Physical",
    "Recipe",
    "RecipeBase",
    "Rfgsm",
    "SigmaZero",
    "Spec",
    "Square",
    "StandardRecipe",
    "SweepSpec",
    "Task",
    "TradesRecipe",
    "TrainSpec",
    "dump_task",
    "explain",
    "load_task",
    "preset",
    "task_name",
]
