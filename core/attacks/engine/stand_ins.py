"""What gradient attacks follow on models that are random, or that stop gradients on the way.

`Expectation` answers with the mean over several draws of a randomised model. `StraightThrough` gives exactly the
model's answers, but a gradient passes straight through each step that would stop it (the identity as backward pass).
`with_stand_ins` is the door of an attack: it puts the model behind what the settings `draws` and `straight_through`
ask for, and counts every pass of the model itself, so that the loops inside do not change.

Source: Athalye, Carlini, Wagner 2018, arXiv 1802.00420, section 4 (BPDA, expectation over a model's randomness).
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from core.attacks.engine.masks import Masked
from core.attacks.engine.result import AttackResult

P = ParamSpec("P")
MIN_BATCH = 32
"""Images under attack at once are fewer where each is drawn several times, for memory's sake, but not below this."""
SATURATED = 1e-6
"""Slope of a sigmoid or a tanh, relative to its largest, below which it counts as flat."""


def with_stand_ins(attack: Callable[P, AttackResult]) -> Callable[P, AttackResult]:
    """Give an attack the settings `draws` and `straight_through`; without them it is called as it is.

    A budget of passes is shared out over the draws, and `forwards` and `backwards` of the result count each draw. What
    a random model draws comes from PyTorch's generator, which is seeded by the attack's streams and put back.
    """

    @wraps(attack)
    def run(model: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> AttackResult:
        draws, straight = settings.pop("draws", 1), settings.pop("straight_through", False)
        call = cast(Callable[..., AttackResult], attack)
        if draws == 1 and not straight:
            return call(model, x, y, **settings)
        standing = stand_in(model, draws, straight)
        if draws == 1:
            return call(standing, x, y, **settings)
        if settings.get("budget") is not None:
            if settings["budget"] < 5 * draws:
                raise ValueError(f"budget: expected at least {5 * draws} for {draws} draws, got {settings['budget']}")
            settings["budget"] //= draws
        usual = settings.get("batch", inspect.signature(call).parameters["batch"].default)
        settings["batch"] = min(usual, max(MIN_BATCH, usual // draws))
        streams = settings.get("streams")
        with own_draws(0 if streams is None else int(streams.key[0]), x.device):
            made = call(standing, x, y, **settings)
        return replace(made, forwards=made.forwards * draws, backwards=made.backwards * draws)

    return cast(Callable[P, AttackResult], run)


def stand_in(model: nn.Module, draws: int = 1, straight_through: bool = False) -> nn.Module:
    """The model behind what the settings ask for; the model itself if they ask for nothing. A mask stays outermost.

    Raises:
        ValueError: `draws` is no whole number of 1 or more.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws: expected a whole number of 1 or more, got {draws!r}")
    if draws == 1 and not straight_through:
        return model
    if isinstance(model, Masked):
        return Masked(stand_in(model.model, draws, straight_through), model.mask)
    inner = StraightThrough(model) if straight_through else model
    return Expectation(inner, draws) if draws > 1 else inner


@contextmanager
def own_draws(seed: int, device: torch.device) -> Iterator[None]:
    """What is drawn inside from PyTorch's generator comes from the seed; the generator is put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed & (1 << 62) - 1)
        yield


# ---------------------------------------------------------------- random models


class Expectation(nn.Module):
    """The mean over `draws` draws of a randomised model: logarithms of the mean of its probabilities, (N, K).

    The class of the largest mean probability is what a randomised classifier is said to predict, and the gradient is
    that of its mean and not the mean of gradients of the loss (Salman et al. 2019, arXiv 1906.04584, section 2). The
    mean of logits, which AutoAttack's version for random models comes near, would let one confident draw outvote the
    others. Nothing underflows, since all is done in logarithms. For a model that is not random, margins and
    log-odds are the model's own up to rounding.
    """

    stands_in = True

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model, self.draws = model, draws

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Log of the mean probabilities; `draws` passes of the model."""
        each = torch.stack([self.model(x).log_softmax(1) for _ in range(self.draws)])
        return each.logsumexp(0) - math.log(self.draws)


# ---------------------------------------------------------------- steps that stop gradients


class StraightThrough(nn.Module):
    """The same model, with gradients that pass straight through the steps that would stop them (BPDA).

    Answers are the model's own to the last bit. The backward pass is the identity for

    - rounding, signs, casts to integers and what is computed from these, comparisons with a threshold;
    - a sub-module whose output has its input's shape and no gradient, or one that is 0 everywhere (NumPy inside it,
      `no_grad`, a median of detached values); where a model detaches its whole input, from there on;
    - a `torch.autograd.Function` of the model's own whose output has its input's shape, whatever its backward pass is;
    - a sigmoid or a tanh that is flat nearly everywhere.

    Where a slope is infinite (a root at 0), the gradient from there counts as 0. A step that changes the shape and
    passes no gradient, such as a one-hot code of grey levels, is not bridged.
    """

    stands_in = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._dead: dict[int, bool] = {}  # sub-modules, by id: whether their gradient is 0 everywhere

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The model's logits."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            plain: Tensor = self.model(x)
            return plain
        hooks = list(self._hooks(x))
        try:
            with _Bridges():
                logits: Tensor = self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        _bridge_functions(logits)
        return logits

    def _hooks(self, x: Tensor) -> Iterator[RemovableHandle]:
        """Hooks on every sub-module, which bridge those that stop the gradient; other threads do not see them."""
        thread = threading.get_ident()

        def before(module: nn.Module, args: tuple[Any, ...]) -> Any:
            if threading.get_ident() != thread or not torch.is_grad_enabled() or not _is_float(*args[:1]):
                return None
            if args[0].requires_grad or args[0].shape != x.shape:
                return None
            return (_through(args[0], x), *args[1:])

        def after(module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
            if threading.get_ident() != thread or not torch.is_grad_enabled() or not _is_float(*args[:1]):
                return None
            if not _is_float(out) or out.shape != args[0].shape or not args[0].requires_grad:
                return None
            return _through(out.detach(), args[0]) if self._stops(module, args[0], out) else None

        for module in self.model.modules():
            if module is not self.model:
                yield module.register_forward_pre_hook(before)
            yield module.register_forward_hook(after)

    def _stops(self, module: nn.Module, given: Tensor, out: Tensor) -> bool:
        if not out.requires_grad:
            return True
        if out is given or type(module).__module__.startswith("torch.nn"):
            return False
        if id(module) not in self._dead:
            weight = torch.arange(out.numel(), device=out.device, dtype=out.dtype).cos().view_as(out)
            (slope,) = torch.autograd.grad(out, given, weight, retain_graph=True, allow_unused=True)
            self._dead[id(module)] = slope is None or not bool((slope != 0).any())
        return self._dead[id(module)]


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, way: Tensor) -> Tensor:
        ctx.dtype = way.dtype
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient.to(ctx.dtype)


class _Finite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.nan_to_num(0.0, 0.0, 0.0)


def _through(value: Tensor, way: Tensor) -> Tensor:
    """`value` to the last bit, with a gradient that goes on to `way`, of the same shape."""
    made: Tensor = _Through.apply(value, way)
    return made


def _is_float(*values: Any) -> bool:
    return bool(values) and all(isinstance(value, Tensor) and value.is_floating_point() for value in values)


def _both(*names: str) -> set[Any]:
    """The functions of these names, of `torch` and of `Tensor`."""
    return {getattr(home, name) for name in names for home in (torch, Tensor) if hasattr(home, name)}


_STEPS = _both("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside")
_IN_PLACE = _both("round_", "floor_", "ceil_", "trunc_", "fix_", "sign_", "sgn_", "heaviside_")
_QUOTIENTS = _both("floor_divide", "__floordiv__", "div", "divide")
_FLAT: dict[Any, float] = dict.fromkeys(_both("sigmoid") | {nn.functional.sigmoid}, 0.25)
_FLAT |= dict.fromkeys(_both("tanh") | {nn.functional.tanh}, 1.0)
_STEEP = _both("sqrt", "rsqrt", "log", "log2", "log10", "pow", "__pow__", "reciprocal", "norm", "acos", "asin", "div")
_STEEP |= _both("divide", "true_divide", "__truediv__") | {torch.linalg.vector_norm}
_ABOVE = _both("gt", "ge", "greater", "greater_equal", "__gt__", "__ge__")
_BELOW = _both("lt", "le", "less", "less_equal", "__lt__", "__le__")
_CASTS = _both("to", "type", "byte", "char", "short", "int", "long", "bool", "bucketize")
_WAY = "_way_of_gradients"
"""Attribute of a tensor without gradients, of integers or truth values: the tensor that gradients go on to."""


class _Bridges(TorchFunctionMode):
    """While it is on, functions that stop a gradient pass it straight through; values do not change."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled() or not args:
            return func(*args, **kwargs)
        if _carried(args) or _carried(tuple(kwargs.values())):
            return _onwards(func, args, kwargs)
        x = args[0]
        if func in _ABOVE or func in _BELOW:
            return _compared(func, args, kwargs)
        if not (_is_float(x) and x.requires_grad):
            return func(*args, **kwargs)
        if func in _STEPS:
            return _through(func(*args, **kwargs).detach(), x)
        if func in _IN_PLACE:
            return x.copy_(_through(func(x.detach().clone(), *args[1:], **kwargs), x))
        if func in _QUOTIENTS and (kwargs.get("rounding_mode") or func not in _STEEP):
            return _through(func(*args, **kwargs).detach(), torch.true_divide(x, *args[1:2] or (kwargs["other"],)))
        if func in _FLAT:
            value = func(*args, **kwargs)
            slope = value * (1 - value) if _FLAT[func] < 1 else 1 - value.square()
            flat = (slope.detach() <= SATURATED * _FLAT[func]).float().mean() > 0.5
            return _through(value.detach(), x) if flat else value
        if func in _STEEP:
            return func(_Finite.apply(x), *args[1:], **kwargs)
        value = func(*args, **kwargs)
        if func in _CASTS and isinstance(value, Tensor) and not value.is_floating_point():
            setattr(value, _WAY, x)
        return value


def _compared(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A comparison, whose truth value goes with the difference of the two sides."""
    value = func(*args, **kwargs)
    sides = (*args, *kwargs.values())[:2]
    if any(isinstance(side, Tensor) and side.requires_grad for side in sides):
        gap = sides[0] - sides[1] if func in _ABOVE else sides[1] - sides[0]
        setattr(value, _WAY, gap)
    return value


def _carried(values: tuple[Any, ...]) -> bool:
    """Whether a tensor without gradients among the arguments (or in a list among them) knows where they go on."""
    for value in values:
        if isinstance(value, Tensor):
            if hasattr(value, _WAY):
                return True
        elif isinstance(value, tuple | list) and value and _carried(tuple(value)):
            return True
    return False


def _opened(value: Any) -> Any:
    """The argument with gradients: integers and truth values as floating point numbers of the same values."""
    if isinstance(value, tuple | list):
        return type(value)(_opened(part) for part in value)
    way = getattr(value, _WAY, None) if isinstance(value, Tensor) else None
    return value if way is None else _through(value.to(way.dtype), way)


def _onwards(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of tensors that carry a way for gradients: its own value, and the gradient of the same in floats."""
    opened, named = tuple(map(_opened, args)), {name: _opened(value) for name, value in kwargs.items()}
    if func is Tensor.__setitem__:
        return func(args[0], args[1], opened[2] if _is_float(args[0]) else args[2])
    carriers = [value for value in args if isinstance(value, Tensor) and hasattr(value, _WAY)]
    value = func(*args, **kwargs)
    if not isinstance(value, Tensor):
        return value
    if _is_float(value) and any(value is given for given in args):  # in place: the gradient so far stays
        return value
    made = _again(func, args, opened, named)
    if _is_float(made) and made.shape == value.shape and made.requires_grad:
        if value.is_floating_point():
            return _through(value.detach(), made.to(value.dtype))
        setattr(value, _WAY, made)
    elif not value.is_floating_point() and carriers and carriers[0].shape == value.shape:
        setattr(value, _WAY, getattr(carriers[0], _WAY))  # shifts of bits, casts from integer to integer
    return value


def _again(func: Callable[..., Any], args: tuple[Any, ...], opened: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The function of the opened arguments; None where floats are no arguments for it."""
    if func in _both("where") and len(args) == 3:
        if any(isinstance(value, Tensor) and value.requires_grad for value in args[1:]):
            return None  # the chosen branches have gradients, which are the function's own
        condition, first, second = opened if func is torch.where else (opened[1], opened[0], opened[2])
        return second + condition * (first - second)
    try:
        return func(*opened, **named)
    except (RuntimeError, TypeError, IndexError, NotImplementedError, ValueError):
        return None


# ---------------------------------------------------------------- functions with a backward pass of their own


def _bridge_functions(logits: Tensor) -> None:
    """Let gradients pass straight through the autograd functions of the model's own that keep the shape."""
    seen: set[Any] = set()
    waiting = [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        following = [edge[0] for edge in node.next_functions]
        waiting.extend(following)
        own = getattr(type(node), "_forward_cls", None)
        if own is not None and not own.__module__.startswith(("torch.", "core.")):
            shapes = [_shape(following[place], node.next_functions[place][1]) for place in range(len(following))]
            node.register_hook(_identity(shapes))


def _shape(node: Any, place: int) -> torch.Size | None:
    """The shape of a node's output number `place`: that of the gradient it takes."""
    if node is None:
        return None
    if hasattr(node, "variable"):
        return cast(torch.Size, node.variable.shape)
    return torch.Size(node._input_metadata[place].shape)


def _identity(shapes: list[torch.Size | None]) -> Callable[..., Any]:
    def passed(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> Any:
        if len(outputs) != 1 or outputs[0] is None or len(inputs) != len(shapes):
            return None
        place = next((at for at, shape in enumerate(shapes) if shape == outputs[0].shape), None)
        if place is None:
            return None
        return tuple(outputs[0] if at == place else value for at, value in enumerate(inputs))

    return passed
