"""What every attack promises, as checks that anybody's attack can be held to.

`check_attack(function)` runs them all; `attack_checks(function)` gives them one by one, with names, for pytest:

    @pytest.mark.parametrize(("name", "check"), attack_checks(my_attack, eps=0.1))
    def test_my_attack(name, check):
        check()

As scikit-learn's `check_estimator` does for estimators.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.attacks.engine.geometry import DISTANCES, distances
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.subject import Subject, classified, expect, toy

NEAR = 1e-6
"""How far an image may lie from itself, per feature in float64, after its batch was cut in another way."""


def check_attack(
    function: Callable[..., AttackResult],
    *,
    eps: float | None = None,
    norm: str = "linf",
    strict: bool = False,
    model: nn.Module | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    **settings: Any,
) -> None:
    """Check that an attack keeps what every attack here promises; it says nothing on how strong the attack is.

    The attack is a function `attack(model, x, y, *, ...) -> AttackResult`. Of these keyword arguments it has those that
    it needs, and only what it has is checked: `eps`, `norm`, `y_target` (None: any other class; without a default: the
    attack needs targets), `streams` (random numbers, without which an attack must be deterministic), `x_init` (without
    `eps`: images of the target classes), `on_progress` (called with `done, total`; what it raises must come through).

    Args:
        function: the attack.
        eps: its budget, greater than 0; None for an attack that takes none.
        norm: what the budget is measured in: linf, l2, l1, l0 (features) or pixels. Passed on if the attack takes it.
        strict: a success may ask for more than that the returned image fools.
        model: a model to attack, with `x` and `y`; without them a small convolutional network with batch normalisation
            and dropout on 12 random images of 8 by 8 pixels.
        x: (N, C, H, W) float32 in [0, 1], N of 8 or more; images for which the model predicts several classes.
        y: (N,) int64, their classes.
        **settings: the attack's other keyword arguments. Small ones: it is run about twenty times.

    Raises:
        AssertionError: what was expected, and what came instead.
        ValueError: `eps` or `norm` makes no sense, or the model came without images.
    """
    for _, check in attack_checks(function, eps=eps, norm=norm, strict=strict, model=model, x=x, y=y, **settings):
        check()


def attack_checks(
    function: Callable[..., AttackResult],
    *,
    eps: float | None = None,
    norm: str = "linf",
    strict: bool = False,
    model: nn.Module | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    **settings: Any,
) -> list[tuple[str, Callable[[], None]]]:
    """The checks of `check_attack` that apply to this attack, each with its name; the arguments are the same."""
    if norm not in DISTANCES:
        raise ValueError(f"norm: expected one of {', '.join(DISTANCES)}, got {norm!r}")
    if eps is not None and not eps > 0:
        raise ValueError(f"eps: expected a budget greater than 0, got {eps}")
    takes = inspect.signature(function).parameters
    if (eps is None) != ("eps" not in takes):
        expected = "a budget" if "eps" in takes else "none"
        raise ValueError(f"eps: expected {expected}, as the attack's signature says, got {eps}")
    if model is None or x is None or y is None:
        if not (model is None and x is None and y is None):
            raise ValueError("model: expected all of model, x and y, or none of them, got some")
        model, x, y = toy()
    if "norm" in takes:
        settings["norm"] = norm
    subject = Subject(function, settings, model, x, y, eps, norm, strict)
    return [(name, partial(check, subject)) for name, (applies, check) in CHECKS.items() if applies(subject)]


_HELP = " (`linf_bounds` and `into_ball` of core.attacks.engine.geometry keep images inside to the last bit)"


def _honest(subject: Subject, result: AttackResult, y_target: Tensor | None = None) -> None:
    """What holds of every result: its form, the box, the ball, and a success that a fresh forward pass confirms."""
    x, n = subject.x, len(subject.x)
    expect(isinstance(result, AttackResult), "result", "an AttackResult", type(result).__name__)
    for name, like in (("x_adv", x), ("success", subject.y.bool()), ("forwards", subject.y), ("backwards", subject.y)):
        value = getattr(result, name)
        expect(isinstance(value, Tensor), f"result.{name}", "a tensor", type(value).__name__)
        form = (tuple(value.shape), value.dtype, value.device)
        wanted = (tuple(like.shape), like.dtype, like.device)
        expect(form == wanted, f"result.{name}", f"shape, dtype and device {wanted}", form)
    x_adv = result.x_adv
    expect(not x_adv.requires_grad, "result.x_adv", "a tensor without a graph", "one that requires gradients")
    inside = bool(((x_adv >= 0) & (x_adv <= 1)).all())  # false for NaN too
    expect(inside, "result.x_adv", "pixels in [0, 1]", f"{x_adv.min().item():g} to {x_adv.max().item():g}")
    measured = distances(x_adv, x)
    expect(result.distance.keys() == measured.keys(), "result.distance", f"{list(measured)}", list(result.distance))
    for name, value in measured.items():
        given = result.distance[name]
        same = given.dtype == value.dtype and torch.equal(given.to(value.device), value)
        expect(same, f"result.distance[{name!r}]", "what core.attacks.engine.geometry.distances measures", given)
    if subject.eps is not None:
        largest = measured[subject.norm].max().item()
        expect(
            largest <= subject.eps, f"{subject.norm} distance", f"at most ε = {subject.eps!r}", repr(largest) + _HELP
        )
    found = classified(subject.model, x_adv)
    target = subject.targets() if y_target is None else y_target
    fooled = found != subject.y if target is None else found == target
    wrong = result.success & ~fooled if subject.strict else result.success != fooled
    rows = wrong.nonzero()[:, 0].tolist()
    expect(not rows, "result.success", "what the model says of the returned images", f"another verdict for {rows}")
    expect(bool((result.forwards >= 1).all()), "result.forwards", "1 or more of every image", result.forwards.tolist())
    expect(bool((result.backwards >= 0).all()), "result.backwards", "0 or more", result.backwards.tolist())
    expect(n == len(result.success), "result", f"{n} rows", len(result.success))


def check_result(subject: Subject) -> None:
    """The form of the result, the box, the ball to the last bit, and successes that hold on the returned images."""
    _honest(subject, subject.run())


def check_float64(subject: Subject) -> None:
    """The same in float64: what comes back has the dtype of the images."""
    wide = subject.on(dtype=torch.float64)
    _honest(wide, wide.run())


def check_small_ball(subject: Subject) -> None:
    """The ball holds for a small budget too, and with a budget of 0 every image comes back as it was."""
    assert subject.eps is not None
    small = replace(subject, eps=subject.eps / 7 if subject.norm not in ("l0", "pixels") else 1.0)
    _honest(small, small.run())
    result = replace(subject, eps=0.0).run()
    expect(torch.equal(result.x_adv, subject.x), "x_adv for ε = 0", "the images themselves", "others")


def check_targeted(subject: Subject) -> None:
    """Towards a target, a success is an image of which the model predicts the target."""
    y_target = subject.clean()[subject.partner()]
    _honest(subject, subject.run(y_target=y_target), y_target)


def check_misclassified(subject: Subject) -> None:
    """An image that the model gets wrong as it is counts as fooled, and comes back unchanged."""
    wrong = replace(subject, y=subject.clean()[subject.partner()])
    result = wrong.run()
    _honest(wrong, result)
    expect(bool(result.success.all()), "success of misclassified images", "True", result.success.tolist())
    expect(torch.equal(result.x_adv, subject.x), "x_adv of misclassified images", "the images themselves", "others")


def check_slices(subject: Subject) -> None:
    """Some images attacked alone end as they do among the others: an attack of each image, not of a batch."""
    wide = subject.on(dtype=torch.float64)
    rows = torch.tensor([len(wide.x) - 1, 3, 0, 5], device=wide.x.device)
    streams = Streams.of(5, torch.arange(len(wide.x), device=wide.x.device))
    y_target = wide.targets()
    whole = wide.run(y_target=y_target, streams=streams)
    part = wide.take(rows).run(y_target=None if y_target is None else y_target[rows], streams=streams.take(rows))
    far = (whole.x_adv[rows] - part.x_adv).abs().max().item()
    hint = "" if "streams" in wide.takes else " (random numbers belong to an image if they come from `streams`)"
    expect(far <= NEAR, "x_adv of a slice", f"that of the whole batch, within {NEAR:g}{hint}", f"{far:g} apart")
    for name in ("success", "backwards"):
        ours, theirs = getattr(whole, name)[rows].tolist(), getattr(part, name).tolist()
        expect(ours == theirs, f"{name} of a slice", f"that of the whole batch, {ours}", theirs)


def check_seed(subject: Subject) -> None:
    """The same seed gives the same result, bit for bit; another seed keeps every promise as well."""
    first, second = subject.run(seed=1), subject.run(seed=1)
    same = torch.equal(first.x_adv, second.x_adv) and torch.equal(first.success, second.success)
    expect(same, "a second run with the same seed", "the same images", "others")
    if "streams" in subject.takes:
        _honest(subject, subject.run(seed=2))


def check_untouched(subject: Subject) -> None:
    """The model (weights, buffers, modes, hooks, `requires_grad`, `.grad`) and the given tensors stay as they are."""
    model = copy.deepcopy(subject.model).train()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.full_like(parameters[-1], 0.5)
    subject = replace(subject, model=model)
    y_target = subject.targets()
    given = {"x": subject.x, "y": subject.y} | ({} if y_target is None else {"y_target": y_target})
    kept, before = {name: value.clone() for name, value in given.items()}, _state(model)
    subject.run(y_target=y_target)
    for name, value in given.items():
        expect(torch.equal(value, kept[name]), name, "the tensor as it was given", "another content")
    _unchanged(before, _state(model), "the attack")


def check_cancelled(subject: Subject) -> None:
    """What `on_progress` raises comes through, and the model is left as it was."""

    class Stop(Exception):
        pass

    def stop(done: int, total: int, **metrics: object) -> None:
        expect(0 <= done <= total, "on_progress", "0 <= done <= total", (done, total))
        raise Stop

    model = copy.deepcopy(subject.model).train()
    before, subject = _state(model), replace(subject, model=model)
    try:
        subject.run(on_progress=stop)
    except Stop:
        _unchanged(before, _state(model), "an attack that was stopped")
    else:
        raise AssertionError(
            "on_progress: expected that it is called and that what it raises comes through, got neither"
        )


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything that an attack might leave behind in a model."""
    return {
        **{name: value.clone() for name, value in (*model.named_parameters(), *model.named_buffers())},
        **{f"{name}.requires_grad": value.requires_grad for name, value in model.named_parameters()},
        **{
            f"{name}.grad": None if value.grad is None else value.grad.clone()
            for name, value in model.named_parameters()
        },
        **{f"{name}.training": module.training for name, module in model.named_modules()},
        **{
            f"{name}.{kind}": list(getattr(module, kind))
            for name, module in model.named_modules()
            for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        },
        **{f"{name}.attributes": sorted(vars(module)) for name, module in model.named_modules()},
    }


def _unchanged(before: dict[str, Any], after: dict[str, Any], whom: str) -> None:
    expect(before.keys() == after.keys(), f"the model after {whom}", f"{list(before)}", list(after))
    for name, old in before.items():
        new = after[name]
        same = (
            torch.equal(old, new) if isinstance(old, Tensor) and isinstance(new, Tensor) else old is new or old == new
        )
        expect(bool(same), f"{name} of the model after {whom}", "what it was before", "something else")


def check_one_image(subject: Subject) -> None:
    """A batch of one image."""
    y_target, row = subject.targets(), torch.tensor([2], device=subject.x.device)
    target = subject.clean()[subject.partner()][row] if y_target is not None else None
    one = subject.take(row)
    _honest(one, one.run(y_target=target), target)


def check_no_image(subject: Subject) -> None:
    """No image at all is refused by name, or gives a result of no rows."""
    none = subject.take(torch.tensor([], dtype=torch.int64, device=subject.x.device))
    y_target = none.y.clone() if subject.only_targeted else None
    try:
        result = none.run(y_target=y_target)
    except ValueError as error:
        expect("x:" in str(error), "the ValueError of an empty batch", "one that names x", str(error))
    else:
        expect(len(result.x_adv) == 0, "the result of an empty batch", "no rows", len(result.x_adv))


def check_counted(subject: Subject) -> None:
    """Backward passes are counted exactly where gradients are taken, through this model or one among the settings."""
    taken: list[Tensor] = []
    settings = {
        name: _Counting(value, taken) if isinstance(value, nn.Module) else value
        for name, value in subject.settings.items()
    }
    result = replace(subject, model=_Counting(subject.model, taken), settings=settings).run()
    took, counted = bool(taken), int(result.backwards.sum()) > 0
    expect(took == counted, "result.backwards", "more than 0 exactly if gradients are taken", result.backwards.tolist())


class _Counting(nn.Module):
    """A copy of a model that puts each gradient taken through it into a list."""

    def __init__(self, inner: nn.Module, taken: list[Tensor]) -> None:
        super().__init__()
        self.inner, self.taken = copy.deepcopy(inner).eval(), taken

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        if logits.requires_grad:
            logits.register_hook(self.taken.append)
        return logits


def check_cuda(subject: Subject) -> None:
    """On a GPU the promises are the same, and the result lies there."""
    there = subject.on("cuda")
    _honest(there, there.run())


def _always(subject: Subject) -> bool:
    return True


CHECKS: dict[str, tuple[Callable[[Subject], bool], Callable[[Subject], None]]] = {
    "result": (_always, check_result),
    "float64": (_always, check_float64),
    "small ball": (lambda subject: subject.eps is not None, check_small_ball),
    "targeted": (lambda subject: "y_target" in subject.takes, check_targeted),
    "misclassified": (lambda subject: not subject.only_targeted, check_misclassified),
    "slices": (_always, check_slices),
    "seed": (_always, check_seed),
    "untouched": (_always, check_untouched),
    "cancelled": (lambda subject: "on_progress" in subject.takes, check_cancelled),
    "one image": (_always, check_one_image),
    "no image": (_always, check_no_image),
    "counted": (_always, check_counted),
    "cuda": (lambda subject: torch.cuda.is_available(), check_cuda),
}
"""Every check by its name: to which attacks it applies, and the check."""
