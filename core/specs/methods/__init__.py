"""Attack methods and their settings; each class says to pages, command line and docs what the method is.

base         what every method says of itself
gradient     following the gradient inside a budget: FGSM, R+FGSM, BIM, MI-FGSM, PGD, APGD
blackbox     asking for answers only: Square, SimBA, HopSkipJump; or another model: transfer
generator    exercise set 1, literal and strong
enumeration  trying everything: exhaustive
jacobian     read off the Jacobian: sparse, dense, count against cap
sparse       few pixels, as in the literature: JSMA, Sparse-RS, one pixel
physical     patterns on objects: glasses, patches
smallest     looking for the smallest change: DeepFool, Carlini-Wagner, EAD, DDN, FMN, PDPGD, FAB, σ-zero, all
universal    one perturbation for many images: gradient steps, UAP, linear programme; a task of their own
"""

from __future__ import annotations

from typing import Annotated

from core.specs.base import OneOf
from core.specs.methods.base import METHODS, NORMS, Method, Norm, register

# Importing a module registers its methods: this is the order in which people see them.
# isort: off
from core.specs.methods.gradient import Apgd, Bim, Fgsm, MiFgsm, Pgd, Rfgsm
from core.specs.methods.smallest import CarliniWagner, Ddn, DeepFool, Ead, Fab, Fmn, Minimum, Pdpgd, SigmaZero
from core.specs.methods.jacobian import Frontier, JacobianDense, JacobianSparse
from core.specs.methods.enumeration import Exhaustive
from core.specs.methods.sparse import Jsma, OnePixel, SparseRs
from core.specs.methods.blackbox import HopSkipJump, SimBa, Square, Transfer
from core.specs.methods.generator import GeneratorMethod, GeneratorStrong
from core.specs.methods.physical import Physical

# isort: on
from core.specs.methods.universal import (
    UNIVERSAL_METHODS,
    Uap,
    UniversalField,
    UniversalGradient,
    UniversalLp,
    UniversalMethod,
    register_universal,
)

MethodField = Annotated[Method, OneOf(METHODS)]
"""A registered method; or its name, with its defaults."""

__all__ = [
    "METHODS",
    "NORMS",
    "UNIVERSAL_METHODS",
    "Apgd",
    "Bim",
    "CarliniWagner",
    "Ddn",
    "DeepFool",
    "Ead",
    "Exhaustive",
    "Fab",
    "Fgsm",
    "Fmn",
    "Frontier",
    "GeneratorMethod",
    "GeneratorStrong",
    "HopSkipJump",
    "JacobianDense",
    "JacobianSparse",
    "Jsma",
    "Method",
    "MethodField",
    "MiFgsm",
    "Minimum",
    "Norm",
    "OnePixel",
    "Pdpgd",
    "Pgd",
    "Physical",
    "Rfgsm",
    "SigmaZero",
    "SimBa",
    "SparseRs",
    "Square",
    "Transfer",
    "Uap",
    "UniversalField",
    "UniversalGradient",
    "UniversalLp",
    "UniversalMethod",
    "register",
    "register_universal",
]
