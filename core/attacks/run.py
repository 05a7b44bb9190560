"""Run the attack that a spec describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from core import specs
from core.attacks.black_box.hop_skip_jump import hop_skip_jump
from core.attacks.black_box.one_pixel import one_pixel
from core.attacks.black_box.simba import simba
from core.attacks.black_box.sparse_rs import sparse_rs
from core.attacks.black_box.square import square
from core.attacks.engine.eight_bit import PASSES, in_eight_bits
from core.attacks.engine.result import AttackResult
from core.attacks.engine.stand_ins import stand_in
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.fgsm import fgsm
from core.attacks.fixed_budget.iterative import bim, mifgsm, rfgsm
from core.attacks.fixed_budget.pgd import pgd
from core.attacks.fixed_budget.transfer import transfer
from core.attacks.generator.generator import generator_attack
from core.attacks.generator.generator_strong import generator_strong
from core.attacks.minimal.carlini_wagner import carlini_wagner
from core.attacks.minimal.ddn import ddn
from core.attacks.minimal.deepfool import deepfool
from core.attacks.minimal.ead import ead
from core.attacks.minimal.fab import fab
from core.attacks.minimal.fmn import fmn
from core.attacks.minimal.minimum import minimum
from core.attacks.minimal.pdpgd import pdpgd
from core.attacks.physical.physical import physical
from core.attacks.sparse.exhaustive import exhaustive
from core.attacks.sparse.frontier import frontier
from core.attacks.sparse.jacobian import jacobian_dense
from core.attacks.sparse.jsma import jsma
from core.attacks.sparse.sigma_zero import sigma_zero
from core.attacks.sparse.sparse import jacobian_sparse
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
        settings["x_init"] = start
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
