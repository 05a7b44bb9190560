"""What a model bears, found out before it is attacked: memory layout, changes in place, precision, gradients.

Attacks give a model channels-last batches of any size, keep the images that they gave, and differentiate by a quicker
convolution (`convolution`). Most models bear that. Some do not: one that flattens by `view` refuses channels-last
images, one that normalises in place overwrites them, one in half precision takes no float32, an exported one takes one
image at a time, and some have no gradient. `fitted` looks at two images and puts such a model into a `Fitted` one,
which bears it all and gives the same logits; a model that bears everything comes back as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from core.attacks.engine.bears import KNOWN, Fitted, innermost
from core.attacks.engine.find_out import find_out
from core.attacks.engine.masks import Masked


@contextmanager
def fitted(model: nn.Module, x: Float[Tensor, "n c h w"], *, gradients: bool = True) -> Iterator[nn.Module]:
    """The model, or one with the same logits that bears what attacks do with it; for as long as the context lasts.

    Attacks inside that are given this model again take it as it is. Costs a few passes of two images, which are not
    counted, or none for a model of common layers; the global random numbers stay what they were. A model that fails on
    its images comes back as it is: the attack's own check says so.

    Args:
        model: pixels to logits; freeze it first.
        x: the images, float32 or float64, N >= 1.
        gradients: also look at backward passes; off for attacks that take none.
    """
    known = KNOWN.get()
    base = innermost(model)
    seen, differentiated = known.get(id(base), (None, False))
    if isinstance(base, Fitted) or (seen is not None and seen.everything and differentiated):
        yield model
        return
    own = inner = model.model if isinstance(model, Masked) else model
    if any(value.is_inference() for value in (*inner.parameters(), *inner.buffers())):
        inner = copy.deepcopy(inner)  # outside inference mode: weights like any other
    bears, differentiated = known.get(id(own), (None, False))
    if bears is None or (gradients and not differentiated):
        # what is compiled bears what it was compiled from does: each look at it would be a compilation
        bears = find_out(getattr(inner, "_orig_mod", inner), x, gradients=gradients)
        bears = bears if inner is own else replace(bears, weights=False)
    made: nn.Module = model
    if not bears.everything:
        made = Fitted(inner, bears)
        made.training = inner.training if hasattr(inner, "training") else False
        made = Masked(made, model.mask) if isinstance(model, Masked) else made
    token = KNOWN.set({**known, id(own): (bears, gradients or differentiated)})
    try:
        yield made
    finally:
        KNOWN.reset(token)
