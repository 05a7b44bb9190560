"""How many images at once: more on a device with room for them, fewer where its memory does not hold them.

An attack's result does not depend on how many images are under attack at once, so a batch may be any size. On a CPU it
is the attack's own, which fits the caches. On another device it is doubled while the images' share of the free memory
allows, as far as the model's cost an image can be counted. Where the memory runs out all the same, the attack is run
again with half as many images, until they fit; the model keeps that limit.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from core.attacks.engine.bears import innermost
from core.attacks.engine.find_out import FAILURES
from core.attacks.engine.result import AttackResult
from core.networks.portions import memory, most_of

LARGEST = 2048
"""Images at once that an attack's own batch grows to, at most: by then every device is busy."""
SHARE = 0.4
"""Of the free memory, what the images of a batch may take as counted: an attack keeps some more tensors an image."""

_logger = logging.getLogger(__name__)
_bytes: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = weakref.WeakKeyDictionary()
_most: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def at_once(model: nn.Module, x: Tensor, usual: Any, asked: Any = None, fit: nn.Module | None = None) -> Any:
    """The batch to begin with; what is no whole number stays as it is.

    Args:
        model: the model; what is found out is kept with it.
        x: (N, C, H, W) images, N of 1 or more.
        usual: the attack's own batch.
        asked: what the caller asked for, which does not grow; None: nothing.
        fit: the model, frozen and in a form that bears a pass forward and backward; None: as it is.
    """
    batch = usual if asked is None else asked
    if type(batch) is not int:
        return batch
    if asked is None and x.device.type == "cuda" and len(x) > batch:
        free, taken = torch.cuda.mem_get_info(x.device)[0], _cost(model, x, model if fit is None else fit)
        while taken and 2 * batch <= LARGEST and batch < len(x) and 2 * batch * taken <= SHARE * free:
            batch *= 2
    limits = [limit for limit in (most_of(model), _most.get(innermost(model))) if limit is not None]
    return min([batch, *limits])


def halving(model: nn.Module, run: Callable[[Any], Any], batch: Any) -> Any:
    """`run(batch)`, again with half the batch where the memory ran out; the result says so in a note.

    Raises:
        torch.OutOfMemoryError: not even one image fits, or the batch is no number.
    """
    first = batch
    while True:
        try:
            made = run(batch)
        except torch.OutOfMemoryError:
            if type(batch) is not int or batch <= 1:
                raise
            batch //= 2
        else:
            break
        # outside the handler: the error's traceback holds the tensors that did not fit
        _most[innermost(model)] = batch
        _logger.warning("out of memory: attacks on this model go on with %d images at once", batch)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if batch == first or not isinstance(made, AttackResult):
        return made
    text = f"The memory holds {batch} images at once, not {first}: the attack was run again with fewer at once."
    return replace(made, notes=(text, *made.notes))


def _cost(model: nn.Module, x: Tensor, fit: nn.Module) -> int:
    """Bytes an image of a forward and a backward pass, counted once a model and shape; 0 where it cannot be counted."""
    known = _bytes.setdefault(innermost(model), {})
    shape = (*x.shape[1:], x.element_size())
    if shape not in known:
        try:
            known[shape] = memory(getattr(fit, "_orig_mod", fit), x[:2])
        except FAILURES:  # somebody else's model; running out of memory is among them
            known[shape] = 0
    return known[shape]
