"""Attacks: ways to change an image so that a model classifies it as something else.

    engine        what every attack is built on
    fixed_budget  inside a given perturbation budget, by gradients
    minimal       the smallest perturbation
    sparse        few features
    black_box     without gradients
    universal     one perturbation for many images
    physical      patterns on objects
    generator     a generator network for each image
    run           the attack that a spec describes

Every attack is a function `attack(model, x, y, *, ..., y_target=None, on_progress=None) -> AttackResult`; `run_method`
calls the one that a spec describes. Those for many images at once are called in their own
modules and return a `Universal` (universal, universal_lp) or a `Pattern` (pattern).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "run": ["METHODS", "run_method"],
        "engine.result": ["AttackResult"],
        "engine.streams": ["Streams"],
        "engine.eight_bit": ["in_eight_bits"],
        "engine.masks": ["Masked"],
        "engine.steps": ["fgsm_step"],
        "fixed_budget.apgd": ["apgd"],
        "fixed_budget.fgsm": ["fgsm", "fgsm_direction"],
        "fixed_budget.hop": ["basin_hopping"],
        "fixed_budget.iterative": ["bim", "mifgsm", "rfgsm"],
        "fixed_budget.pgd": ["pgd"],
        "fixed_budget.transfer": ["transfer"],
        "minimal.carlini_wagner": ["carlini_wagner"],
        "minimal.ddn": ["ddn"],
        "minimal.deepfool": ["deepfool"],
        "minimal.ead": ["ead"],
        "minimal.fab": ["fab"],
        "minimal.fmn": ["fmn"],
        "minimal.minimum": ["minimum"],
        "minimal.pdpgd": ["pdpgd"],
        "sparse.exhaustive": ["exhaustive"],
        "sparse.frontier": ["frontier"],
        "sparse.jacobian": ["jacobian", "jacobian_dense"],
        "sparse.jsma": ["jsma"],
        "sparse.sigma_zero": ["sigma_zero"],
        "sparse.sparse": ["jacobian_sparse"],
        "black_box.hop_skip_jump": ["hop_skip_jump"],
        "black_box.one_pixel": ["one_pixel"],
        "black_box.simba": ["simba"],
        "black_box.sparse_rs": ["sparse_rs"],
        "black_box.square": ["square"],
        "generator.generator": ["generator_attack"],
        "generator.generator_strong": ["generator_strong"],
        "physical.physical": ["physical"],
    },
)
