"""Run the attack that a spec describes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.eight_bit import PASSES, in_eight_bits
from core.attacks.engine.result import AttackResult
from core.attacks.engine.stand_ins import stand_in
from core.attacks.engine.streams import Streams
from core.progress import Progress
from core.specs import METHODS, Method
from core.specs.base import found_at


@cache
def function_of(method: type[Method]) -> Callable[..., Any]:
    """The function of a method, imported from where its spec says; its keyword arguments are the spec's fields.

    Raises:
        ValueError: there is no such function; or it lacks an argument for one of the spec's fields, or for something
            else that the spec says it takes.
    """
    found = found_at(getattr(method, "function", ""), "function", method.__name__)
    wanted = [name for name in method.model_fields if name != "name"]
    wanted += [name for name, given in _GIVEN.items() if getattr(method, given)]
    wanted += ["y_target", "on_progress"] + ([] if method.fixed_cost else ["budget"])
    takes = inspect.signature(found).parameters
    if lacking := [name for name in wanted if name not in takes]:
        raise ValueError(
            f"function: expected {method.function} to take every argument that {method.__name__} promises, "
            f"got none for {', '.join(lacking)}"
        )
    return found


_GIVEN = {
    "eps": "needs_eps",
    "streams": "random",
    "surrogate": "needs_surrogate",
    "x_init": "takes_start",
    "early_stop": "stops_early",
}
"""Arguments of a function that are no settings, and what the spec says where it takes them."""


# long: the one door to every attack; its arguments are those that attacks share, by their names
def run_method(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    method: Method,
    *,
    eps: float | Tensor | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    eight_bit: bool = False,
    surrogate: nn.Module | None = None,
    x_init: Float[Tensor, "n c h w"] | None = None,
    early_stop: bool = True,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Run the attack that `method` describes.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        method: one of `specs.METHODS`.
        eps: size of the ball, one or (N,); exactly for the methods that need one.
        y_target: (N,) int64 targets; None for any other class.
        streams: random streams an image, for the methods that draw; default seed 0 and the positions in `x`.
        budget: the most forward and backward passes to spend on each image, the verification included; None: no
            limit, or the method's own. Not for methods of fixed cost.
        eight_bit: round each image to 8 bits a feature, inside the ball, and verify it again (see `in_eight_bits`);
            3 passes of the budget are kept for this.
        surrogate: the model that `method.surrogate` names, exactly for the methods that need one.
        x_init: (N, C, H, W) images to start at, for the methods that can; ignored by the others.
        early_stop: off, methods that can stop early take all their steps, so that other models are fooled too.
        on_progress: see the method.

    Raises:
        ValueError: `eps`, a surrogate, a target or a budget is missing or not wanted; bad input as the method says.
    """
    if type(method) not in METHODS.values():
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if method.needs_eps and eps is None:
        raise ValueError(f"eps: {method.slug()} needs a budget, got None")
    if not method.needs_eps and eps is not None:
        raise ValueError(f"eps: {method.slug()} looks for the smallest ε itself and takes no budget, got {eps}")
    if method.needs_target and y_target is None:
        raise ValueError(f"y_target: {method.slug()} needs a target class for each image, got None")
    settings = {name: getattr(method, name) for name in type(method).model_fields if name != "name"}
    if method.needs_eps:
        settings["eps"] = eps
    if method.random:
        settings["streams"] = streams
    if method.needs_surrogate != (surrogate is not None):
        wanted = "the model that is attacked instead" if method.needs_surrogate else "none"
        got = "None" if surrogate is None else type(surrogate).__name__
        raise ValueError(f"surrogate: expected {wanted} for {method.slug()}, got {got}")
    if method.needs_surrogate:
        settings["surrogate"] = surrogate
    if method.takes_start and x_init is not None:
        settings["x_init"] = x_init
    if not early_stop and method.stops_early:
        settings["early_stop"] = False
    draws: int = settings.get("draws", 1)
    if budget is not None:
        if method.fixed_cost:
            raise ValueError(f"budget: {method.slug()} has a fixed cost and takes none, got {budget}")
        if eight_bit and budget <= PASSES * draws:
            raise ValueError(f"budget: expected more than {PASSES * draws} for images in 8 bits, got {budget}")
        left = budget - PASSES * draws if eight_bit else budget
        settings["budget"] = min(left, settings.get("budget", left))
    attack = function_of(type(method))
    result: AttackResult = attack(model, x, y, y_target=y_target, on_progress=on_progress, **settings)
    if not eight_bit:
        return result
    norm = getattr(method, "norm", method.norms[0])
    if getattr(method, "count", norm) == "pixels":  # its ball is of pixels, and a colour pixel has three features
        norm = "pixels"
    made = in_eight_bits(stand_in(model, draws), x, y, result, norm=norm, eps=eps, y_target=y_target)
    made = replace(made, forwards=result.forwards + draws * (made.forwards - result.forwards))
    # rounding sees the still image only: it may take such a success away, but not give one
    return replace(made, success=made.success & result.success) if method.strict else made
