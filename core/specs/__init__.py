"""The vocabulary: everything that can be asked for, as frozen, validated, hashable descriptions.

A spec is a pydantic model. Its field metadata (title, description, bounds) draws the form, the command line and the
error messages: one truth. `Spec.key()` names the artifact that running the spec leaves behind. Nothing here imports
torch, so that pages and the command line can draw their controls at once.

    base        what every spec is
    data        data sets
    recipes     how a batch's loss is made: standard, FGSM mix, FGSM, PGD, TRADES, free, IBP, generator, noise
    networks    networks
    training    optimisers, presets
    importing   models made by others
    methods     attack methods
    masks       the pixels that an attack may change
    shared      what the tasks have in common
    attacking   attack, sweep, compare, transfer
    many_images  universal, pattern
    judging     radii, evaluate, certify
    tasks       all that can be run
"""

from core.specs.attacking import AttackSpec, CompareSpec, SweepSpec, TransferSpec, sweepable
from core.specs.base import FORMAT, OneOf, Spec, choices_of, explain
from core.specs.data import DATASETS, OWN, DatasetInfo, DataSpec, register_dataset
from core.specs.importing import Framing, ImportSpec
from core.specs.judging import CertifySpec, EvaluateSpec, RadiiSpec
from core.specs.many_images import PatternSpec, UniversalSpec
from core.specs.masks import SHAPES, AnyMask, Cells, Eyeglasses, MaskField, Patch
from core.specs.methods import (
    METHODS,
    NORMS,
    UNIVERSAL_METHODS,
    Apgd,
    Bim,
    CarliniWagner,
    Ddn,
    DeepFool,
    Ead,
    Exhaustive,
    Fab,
    Fgsm,
    Fmn,
    Frontier,
    GeneratorMethod,
    GeneratorStrong,
    HopSkipJump,
    JacobianDense,
    JacobianSparse,
    Jsma,
    Method,
    MethodField,
    MiFgsm,
    Minimum,
    Norm,
    OnePixel,
    Pdpgd,
    Pgd,
    Physical,
    Rfgsm,
    SigmaZero,
    SimBa,
    SparseRs,
    Square,
    Transfer,
    Uap,
    UniversalGradient,
    UniversalLp,
    UniversalMethod,
    register,
    register_universal,
)
from core.specs.networks import NETWORKS, NetworkInfo, register_network
from core.specs.recipes import (
    RECIPES,
    FgsmMixRecipe,
    FgsmRecipe,
    FreeRecipe,
    GeneratorRecipe,
    IbpRecipe,
    NoiseRecipe,
    PgdRecipe,
    Recipe,
    RecipeBase,
    StandardRecipe,
    TradesRecipe,
    register_recipe,
)
from core.specs.shared import DEFAULT_EPS, MAX_EPS, Eps
from core.specs.tasks import IMPORTED, TASKS, ModelSpec, ModelTask, Task, dump_task, load_task, recipe_of, task_name
from core.specs.training import PRESET_TITLES, PRESETS, TrainSpec, preset

__all__ = [
    "DATASETS",
    "DEFAULT_EPS",
    "FORMAT",
    "IMPORTED",
    "MAX_EPS",
    "METHODS",
    "NETWORKS",
    "NORMS",
    "OWN",
    "PRESETS",
    "PRESET_TITLES",
    "RECIPES",
    "SHAPES",
    "TASKS",
    "UNIVERSAL_METHODS",
    "AnyMask",
    "Apgd",
    "AttackSpec",
    "Bim",
    "CarliniWagner",
    "Cells",
    "CertifySpec",
    "CompareSpec",
    "DataSpec",
    "DatasetInfo",
    "Ddn",
    "DeepFool",
    "Ead",
    "Eps",
    "EvaluateSpec",
    "Exhaustive",
    "Eyeglasses",
    "Fab",
    "Fgsm",
    "FgsmMixRecipe",
    "FgsmRecipe",
    "Fmn",
    "Framing",
    "FreeRecipe",
    "Frontier",
    "GeneratorMethod",
    "GeneratorRecipe",
    "GeneratorStrong",
    "HopSkipJump",
    "IbpRecipe",
    "ImportSpec",
    "JacobianDense",
    "JacobianSparse",
    "Jsma",
    "MaskField",
    "Method",
    "MethodField",
    "MiFgsm",
    "Minimum",
    "ModelSpec",
    "ModelTask",
    "NetworkInfo",
    "NoiseRecipe",
    "Norm",
    "OneOf",
    "OnePixel",
    "Patch",
    "PatternSpec",
    "Pdpgd",
    "Pgd",
    "PgdRecipe",
    "Physical",
    "RadiiSpec",
    "Recipe",
    "RecipeBase",
    "Rfgsm",
    "SigmaZero",
    "SimBa",
    "SparseRs",
    "Spec",
    "Square",
    "StandardRecipe",
    "SweepSpec",
    "Task",
    "TradesRecipe",
    "TrainSpec",
    "Transfer",
    "TransferSpec",
    "Uap",
    "UniversalGradient",
    "UniversalLp",
    "UniversalMethod",
    "UniversalSpec",
    "choices_of",
    "dump_task",
    "explain",
    "load_task",
    "preset",
    "recipe_of",
    "register",
    "register_dataset",
    "register_network",
    "register_recipe",
    "register_universal",
    "sweepable",
    "task_name",
]
