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
    subject       an attack with its settings, and what the checks try it on
    check         the promises that anybody's attack can be held to: `check_attack`

Every attack is a function `attack(model, x, y, *, ..., y_target=None, on_progress=None) -> AttackResult`; `run_method`
calls the one that a spec describes. Those for many images at once are called in their own
modules and return a `Universal` (universal, universal_lp) or a `Pattern` (pattern).
"""

import lazy_loader

from core.specs import METHODS

_names = {
    "check": ["attack_checks", "check_attack"],
    "run": ["function_of", "run_method"],
    "engine.result": ["AttackResult"],
    "engine.streams": ["Streams"],
    "engine.eight_bit": ["in_eight_bits"],
    "engine.masks": ["Masked"],
    "engine.steps": ["fgsm_step"],
    "fixed_budget.fgsm": ["fgsm_direction"],
    "fixed_budget.hop": ["basin_hopping"],
    "fixed_budget.shrinking": ["shrinking_ball"],
    "sparse.guided": ["guided_search"],
    "sparse.jacobian": ["jacobian"],
}
for _method in METHODS.values():
    _module, _function = _method.function.removeprefix(f"{__name__}.").split(":")
    _names.setdefault(_module, []).append(_function)

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_names)
