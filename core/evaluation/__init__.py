"""Evaluation: what is left of a model's accuracy, and what an attack cost.

metrics      the five metrics and exact intervals (NumPy only)
attack       run an AttackSpec: chosen images, every image kept
pattern      run a PatternSpec: one pattern on glasses or a patch, worn by many
universal    run a UniversalSpec: one perturbation for many images, measured on others
sweep        run a SweepSpec: accuracy and confidence against eps, per image
certify      run a CertifySpec: what is proven of each image, and what was found
radii        run a RadiiSpec: the smallest perturbation of each image, the radius proven
transfer     run a TransferSpec: images made on each model, shown to all of them
record       what is known of a model's images in one norm, and which searches and proofs speak of an ε (no torch)
records      all artifacts of a model merged into bounds an image; curves are lookups (no torch)
paired       exact tests on the same images: is A more robust than B? (no torch)
workbook     tables as one Excel file (no torch)
auditor      does a published table of the five metrics hold? (no torch)
trust        whether a robust accuracy can be believed (no torch until it runs): trust_rules, trust_case,
             trust_model, trust_attacks
robust       the strongest evaluation of a model on given images: `evaluate`, importable from here
cascade      the attacks that it is made of, and which images each is for
shattered    models that only look robust: random answers, gradients that mislead; what the report found, in the figure
going_on     what is kept of an evaluation that is stopped
strongest    run an EvaluateSpec
comparison   models x attacks x eps as one table, and its exports (no torch)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.evaluation.robust import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> object:
    """`evaluate` and what it returns, loaded when first asked for: pages read tables from here without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from core.evaluation import robust

    return getattr(robust, name)
