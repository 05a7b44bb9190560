"""Attacks: ways to change an image so that a model reads it as something else.

    geometry     distances, exact projections onto balls and the box, the exact solvers of linear models
    losses       what an attack minimises, and what counts as fooled
    convolution  the input gradient of a first layer, in less time on a CPU
    engine       input checks, frozen models, random streams an image, verified results
    fitted       what a model bears (layouts, changes in place, precision, gradients), and one that bears it all
    door         the decorator of every attack: tensors and model made fit, results in the images' dtype
    verdict      successes right on the boundary: looked at closely, or moved over
    masks        models that let an attack change some pixels only
    stand_ins    the mean over a random model's draws; gradients straight through steps that stop them
    eight_bit    images that survive being saved in 8 bits a feature
    fgsm         one signed step
    steps        random points of a ball, steps inside ball and box
    pgd          many projected steps, linf, l2 and l1, with an active set
    iterative    PGD's relatives: R+FGSM, BIM, MI-FGSM
    apgd         steps that adapt, losses CE, margin and DLR, one class after the other; linf, l2, l1
    hop          from the best point of another attack, disturbed and descended again; linf, l2, l1
    square       random search by squares, without gradients; linf, l2
    scenes       objects that shift, in changing light
    physical     a pattern on glasses or a patch, averaged over scenes
    pattern      one such pattern for many images
    simba        one direction of a basis at a time, without gradients; linf, l2
    hop_skip_jump   the smallest perturbation by the predicted class alone; linf, l2
    transfer     made on a surrogate, asked once: MI, DI, TI; linf, l2
    generator    exercise set 1's generators, trained in turns
    generator_strong   the same two steps, each where it is needed; l2
    jacobian     derivatives of logits and scores; the dense formula
    sparse       few features, greedily, then pruned
    exhaustive   every change of one feature, and of two; what it proves
    first_layer  rank-one updates where the first layer is linear
    swaps        fewer features by exchanging two changes for one other
    jsma         pairs of features by their saliency; l0
    saliency     JSMA's maps and the best pairs on them
    frontier     how few features against the cap on each change
    sparse_rs    random search over few pixels, without gradients; l0
    one_pixel    differential evolution of a pixel, or a few; l0
    smallest     what the attacks on the smallest perturbation share: best so far, bisection
    deepfool     to the linearised boundary, exactly, inside the box; linf, l2, l1
    carlini_wagner   squared distance plus margin, searched trade-off; l2
    ead          elastic net: few and small changes; l1
    ddn          direction and norm apart, along the boundary; l2
    fmn          a ball that follows the boundary; linf, l2, l1, l0
    pdpgd        descent, the norm's shrinkage, a trade-off by verdict; linf, l2, l1, l0
    fab          between the linearised boundary and the image; linf, l2, l1
    sigma_zero   a smooth count of features; l0
    pruning      fewer features of an image that fools
    minimum      the best of several within a budget of passes; linf, l2, l1, l0
    universal    one perturbation for many images: UAP, gradient steps
    universal_lp   the smallest one for a set of images, by linear programming; why there is none
    universal_search   what a perturbation does to a set, and the programme set up there
    programme    a linear programme over one perturbation, and what its dual proves

Every attack is a function `attack(model, x, y, *, ..., y_target=None, on_progress=None) -> AttackResult`; `run_method`
calls the one that a spec describes. Those for many images at once are called in their own
modules and return a `Universal` (universal, universal_lp) or a `Pattern` (pattern).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from core import specs
from core.attacks.apgd import apgd
from core.attacks.carlini_wagner import carlini_wagner
from core.attacks.ddn import ddn
from core.attacks.deepfool import deepfool
from core.attacks.ead import ead
from core.attacks.eight_bit import PASSES, in_eight_bits
from core.attacks.engine import AttackResult, Streams
from core.attacks.exhaustive import exhaustive
from core.attacks.fab import fab
from core.attacks.fgsm import fgsm, fgsm_direction, fgsm_step
from core.attacks.fmn import fmn
from core.attacks.frontier import frontier
from core.attacks.generator import generator_attack
from core.attacks.generator_strong import generator_strong
from core.attacks.hop import hop
from core.attacks.hop_skip_jump import hop_skip_jump
from core.attacks.iterative import bim, mifgsm, rfgsm
from core.attacks.jacobian import jacobian, jacobian_dense
from core.attacks.jsma import jsma
from core.attacks.masks import Masked
from core.attacks.minimum import minimum
from core.attacks.one_pixel import one_pixel
from core.attacks.pdpgd import pdpgd
from core.attacks.pgd import pgd
from core.attacks.physical import physical
from core.attacks.sigma_zero import sigma_zero
from core.attacks.simba import simba
from core.attacks.sparse import jacobian_sparse
from core.attacks.sparse_rs import sparse_rs
from core.attacks.square import square
from core.attacks.stand_ins import stand_in
from core.attacks.transfer import transfer
from core.progress import Progress

METHODS: dict[type[specs.Method], Callable[..., AttackResult]] = {
    specs.Fgsm: fgsm,
    specs.Pgd: pgd,
    specs.GeneratorMethod: generator_attack,
    specs.GeneratorStrong: generator_strong,
    specs.JacobianSparse: jacobian_sparse,
    specs.JacobianDense: jacobian_dense,
    specs.Exhaustive: exhaustive,
    specs.Frontier: frontier,
    specs.DeepFool: deepfool,
    specs.CarliniWagner: carlini_wagner,
    specs.Ead: ead,
    specs.Ddn: ddn,
    specs.Fmn: fmn,
    specs.Pdpgd: pdpgd,
    specs.Fab: fab,
    specs.SigmaZero: sigma_zero,
    specs.Minimum: minimum,
    specs.Rfgsm: rfgsm,
    specs.Bim: bim,
    specs.MiFgsm: mifgsm,
    specs.Apgd: apgd,
    specs.Square: square,
    specs.Jsma: jsma,
    specs.SimBa: simba,
    specs.HopSkipJump: hop_skip_jump,
    specs.SparseRs: sparse_rs,
    specs.Transfer: transfer,
    specs.OnePixel: one_pixel,
    specs.Physical: physical,
}
"""The function of each spec. The spec's fields, without `name`, are its keyword arguments."""

RANDOM = (
    specs.Pgd,
    specs.GeneratorMethod,
    specs.Rfgsm,
    specs.Apgd,
    specs.Square,
    specs.SimBa,
    specs.HopSkipJump,
    specs.Transfer,
    specs.Physical,
    specs.SparseRs,
    specs.OnePixel,
)
"""Methods that draw random numbers."""

STOPPING = (specs.Pgd, specs.Rfgsm, specs.Bim, specs.MiFgsm, specs.Apgd)
"""Methods that stop at the first image that fools, and can go on."""


def run_method(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    method: specs.Method,
    *,
    eps: float | Tensor | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    eight_bit: bool = False,
    surrogate: nn.Module | None = None,
    start: Float[Tensor, "n c h w"] | None = None,
    early_stop: bool = True,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Run the attack that `method` describes.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        method: one of `METHODS`.
        eps: size of the ball, one or (N,); exactly for the methods that need one.
        y_target: (N,) int64 targets; None for any other class.
        streams: random streams an image, for the methods that draw; default seed 0 and the positions in `x`.
        budget: the most forward and backward passes to spend on each image, the verification included; None: no
            limit, or the method's own. Not for methods of fixed cost.
        eight_bit: round each image to 8 bits a feature, inside the ball, and verify it again (see `in_eight_bits`);
            3 passes of the budget are kept for this.
        surrogate: the model that `method.surrogate` names, exactly for the methods that need one.
        start: (N, C, H, W) images to begin at, for the methods that can; ignored by the others.
        early_stop: off, methods of `STOPPING` take all their steps, so that other models are fooled too; no others can.
        on_progress: see the method.

    Raises:
        ValueError: `eps`, a surrogate, a target or a budget is missing or not wanted; bad input as the method says.
    """
    if type(method) not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(specs.METHODS)}, got {method!r}")
    if method.needs_eps and eps is None:
        raise ValueError(f"eps: {method.slug()} needs a budget, got None")
    if not method.needs_eps and eps is not None:
        raise ValueError(f"eps: {method.slug()} finds its own size and takes no budget, got {eps}")
    if method.needs_target and y_target is None:
        raise ValueError(f"y_target: {method.slug()} needs a target class for each image, got None")
    settings = {name: getattr(method, name) for name in type(method).model_fields if name != "name"}
    if method.needs_eps:
        settings["eps"] = eps
    if isinstance(method, RANDOM):
        settings["streams"] = streams
    if method.needs_surrogate != (surrogate is not None):
        wanted = "the model that is attacked instead" if method.needs_surrogate else "none"
        got = "None" if surrogate is None else type(surrogate).__name__
        raise ValueError(f"surrogate: expected {wanted} for {method.slug()}, got {got}")
    if method.needs_surrogate:
        settings["surrogate"] = surrogate
    if method.takes_start and start is not None:
        settings["start"] = start
    if not early_stop and isinstance(method, STOPPING):
        settings["early_stop"] = False
    draws: int = settings.get("draws", 1)
    if budget is not None:
        if method.fixed_cost:
            raise ValueError(f"budget: {method.slug()} has a fixed cost and takes none, got {budget}")
        if eight_bit and budget <= PASSES * draws:
            raise ValueError(f"budget: expected more than {PASSES * draws} for images in 8 bits, got {budget}")
        left = budget - PASSES * draws if eight_bit else budget
        settings["budget"] = min(left, settings.get("budget", left))
    result = METHODS[type(method)](model, x, y, y_target=y_target, on_progress=on_progress, **settings)
    if not eight_bit:
        return result
    norm = getattr(method, "norm", method.norms[0])
    if getattr(method, "count", norm) == "pixels":  # its ball is of pixels, and a colour pixel has three features
        norm = "pixels"
    made = in_eight_bits(stand_in(model, draws), x, y, result, norm=norm, eps=eps, y_target=y_target)
    made = replace(made, forwards=result.forwards + draws * (made.forwards - result.forwards))
    # rounding sees the still image only: it may take such a success away, but not give one
    return replace(made, success=made.success & result.success) if method.strict else made


__all__ = [
    "METHODS",
    "AttackResult",
    "Masked",
    "Streams",
    "apgd",
    "bim",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "ead",
    "exhaustive",
    "fab",
    "fgsm",
    "fgsm_direction",
    "fgsm_step",
    "fmn",
    "frontier",
    "generator_attack",
    "generator_strong",
    "hop",
    "hop_skip_jump",
    "in_eight_bits",
    "jacobian",
    "jacobian_dense",
    "jacobian_sparse",
    "jsma",
    "mifgsm",
    "minimum",
    "one_pixel",
    "pdpgd",
    "pgd",
    "physical",
    "rfgsm",
    "run_method",
    "sigma_zero",
    "simba",
    "sparse_rs",
    "square",
    "transfer",
]
