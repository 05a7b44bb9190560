"""Proof: what no perturbation inside a ball can do.

linear      linear models solved exactly: smallest perturbation, largest damage, k(eps), in every norm, with the box
linear_targeted: the smallest change after which one chosen class wins, by linear, quadratic and integer programmes
linear_training: adversarial training of binary linear models in closed form, beside the soft-margin SVM
ball        linf, l2 and l1 balls inside the box, and the lowest value of a linear function there
affine      the maps that networks are made of
graph       a network as affine maps, ReLUs and sums
bounds      intervals through it, quick and differentiable; what float32 may take off its logits
crown       linear bounds, backwards
alpha       slopes and multipliers chosen for each image
agreement   the model's own answers beside the bounds: that what is proven is proven of it
proof       which images are proven, by bounds of rising strength
milp        margins by mixed-integer linear programming
branching   one image by branch and bound, and by integer programming
exact       complete verification: proven, fooled, unknown; exact radii
smoothing   randomised smoothing: an l2 certificate with a confidence

Verdicts on networks are computed in float64 and hold for the network as float32 evaluates it.
"""

from core.certification.bounds import interval, margin_bounds
from core.certification.crown import linear_margins
from core.certification.exact import Verdicts, exact_radius, verify
from core.certification.graph import Unbounded
from core.certification.proof import METHODS, certified_margins, proven
from core.false_proof import FalseProof

__all__ = [
    "METHODS",
    "FalseProof",
    "Unbounded",
    "Verdicts",
    "certified_margins",
    "exact_radius",
    "interval",
    "linear_margins",
    "margin_bounds",
    "proven",
    "verify",
]
