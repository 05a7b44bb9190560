"""What every attack promises: box and ball, batch invariance, an untouched model, honest failure."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import core.attacks
from core import specs
from core.attacks.engine.geometry import distances
from core.attacks.engine.masks import Masked
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.subject import toy
from tests.attacks.conftest import ATTACKS, USUAL_EPS, Small

Attack = Callable[..., AttackResult]
Batch = tuple[Tensor, Tensor]
Extra = dict[str, Tensor]
BUDGETED = {name: attack.norm for name, attack in ATTACKS.items() if attack.spec.needs_eps}
"""Attacks with a budget, and its norm."""
LARGE_EPS = {"linf": 0.4, "l2": 3.0, "l1": 16.0, "l0": 25}
"""Budgets with which nearly every image reaches any class."""
ONE_STEP = ("fgsm", "rfgsm", "jacobian_dense")
"""Attacks that trust one gradient, and often miss."""
FEW_PIXELS = ("exhaustive", "one_pixel")
"""Attacks that change a pixel or a few, and often miss."""
NO_GRADIENT = (
    *(f"{name}-{norm}" for name in ("square", "simba", "hop_skip_jump") for norm in ("linf", "l2")),
    "exhaustive",
    "sparse_rs",
    "one_pixel",
)
"""Attacks that take none."""
STRICTER = tuple(name for name, attack in ATTACKS.items() if attack.spec.strict)
"""Attacks that ask for more than that the stored image fools: that it fools in other scenes too."""
SHORTER = {"steps": 4, "queries": 40, "rounds": 12, "searches": 2, "generations": 4, "probes": 8, "fresh": 8}
"""Settings of the attacks where they are run twenty times: at most so much."""
SMALL_EPS = {"linf": 0.02, "l2": 0.1, "l1": 0.4, "l0": 3}
"""Budgets with which some images of the small network are fooled, and some are not."""


def assert_honest(name: str, result: AttackResult, fooled: Tensor) -> None:
    """Success is what a fresh forward pass says."""
    if name in STRICTER:
        assert not (result.success & ~fooled).any()
    else:
        assert torch.equal(result.success, fooled)


def test_every_method_is_held_to_the_contract() -> None:
    """Each registered attack is run by these tests, in every norm that has code of its own."""
    assert {attack.method for attack in ATTACKS.values()} == set(specs.METHODS)
    walks = ("bim", "mifgsm")  # PGD's loop
    for key, cls in specs.METHODS.items():
        if "norm" in cls.model_fields and key not in walks:
            assert {attack.norm for attack in ATTACKS.values() if attack.method == key} == set(cls.norms), key


@pytest.mark.sampled(3)
def test_attack_passes_the_checks_for_anybodys_attack(attack: Small) -> None:
    """Form of the result, box, ball, slices, seeds, an untouched model, misclassified images, one image, none."""
    settings = {key: min(value, SHORTER.get(key, value)) for key, value in attack.settings.items() if key != "norm"}
    model, x, y = toy()
    surrogate = {"surrogate": model} if attack.spec.needs_surrogate else {}
    core.attacks.check_attack(
        core.attacks.function_of(attack.spec),
        eps=SMALL_EPS[attack.norm] if attack.spec.needs_eps else None,
        norm="pixels" if attack.method == "sparse_rs" else attack.norm,
        strict=attack.spec.strict,
        **dict(model=model, x=x, y=y),
        **settings | surrogate,
    )


@pytest.mark.sampled(9)
def test_attack_fools_and_stays_in_the_box(
    attack: Attack, name: str, net: nn.Module, few: Batch, targets: Extra
) -> None:
    """Most images are fooled; every stored image is valid; success is what a fresh forward pass says."""
    x, y = few
    result = attack(net, x, y, **targets)
    assert result.success.float().mean() > (0.1 if name in FEW_PIXELS else 0.4)
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()
    assert result.x_adv.dtype == x.dtype
    found = copy.deepcopy(net).eval()(result.x_adv).argmax(1)
    fooled = found == targets["y_target"] if targets else found != y
    assert_honest(name, result, fooled)
    for key, value in distances(result.x_adv, x).items():
        assert torch.equal(result.distance[key], value)
    assert (result.forwards >= 1).all()
    assert (result.backwards.max() == 0) == (name in NO_GRADIENT)


@pytest.mark.sampled(9)
def test_attack_towards_a_target_reaches_it(attack: Attack, name: str, net: nn.Module, few: Batch) -> None:
    """Targeted success means that the target is predicted; an image that shows it already comes back unchanged."""
    x, y = few
    options = {"eps": LARGE_EPS[BUDGETED[name]]} if name in BUDGETED else {}
    clean = copy.deepcopy(net).eval()(x).argmax(1)
    y_target = torch.where(torch.arange(len(y)) < 5, clean, (y + 3) % 10)
    result = attack(net, x, y, y_target=y_target, **options)
    found = copy.deepcopy(net).eval()(result.x_adv).argmax(1)
    assert_honest(name, result, found == y_target)
    assert result.success[5:].float().mean() > (0.1 if name in ONE_STEP else 0.05 if name in FEW_PIXELS else 0.9)
    if name != "generator":  # which is literal: it draws the image anew even so
        assert result.success[:5].all()
        assert torch.equal(result.x_adv[:5], x[:5])


@pytest.mark.slow
def test_attack_of_a_slice_equals_the_slice_of_the_attack(
    attack: Attack, net: nn.Module, few: Batch, targets: Extra
) -> None:
    """Neighbours in the batch change nothing beyond rounding; random starts belong to the image.

    A convolution of another batch is rounded in another way. In float64 no step hangs on that (`check_attack`); in
    float32 a sign near 0 may, and one image of the four then goes another way.
    """
    model, (x, y) = net, few
    rows = torch.tensor([30, 3, 17, 8])
    streams = Streams.of(5, torch.arange(len(x)))
    whole = attack(model, x, y, streams=streams, **targets)
    part = attack(model, x[rows], y[rows], streams=streams.take(rows), **{k: v[rows] for k, v in targets.items()})
    near = (whole.x_adv[rows] - part.x_adv).abs().flatten(1).amax(1) <= 2e-3
    same = (whole.success[rows] == part.success) & (whole.backwards[rows] == part.backwards)
    assert int((near & same).sum()) >= 3, (near, same)


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", BUDGETED, indirect=True)
@pytest.mark.parametrize("eps", [0.02, pytest.param(0.1, marks=pytest.mark.slow), 0.3])
def test_attack_stays_in_the_ball_to_the_last_bit(
    name: str, attack: Attack, net: nn.Module, few: Batch, eps: float
) -> None:
    """Distances never exceed the float32 budget; after an 8-bit round trip linf is within half a level of it."""
    x, y = few
    norm = BUDGETED[name]
    eps = 100 * eps if norm == "l0" else eps
    result = attack(net, x, y, eps=eps)
    assert (result.distance[norm] <= torch.tensor(eps)).all()
    assert result.distance[norm].max() > 0.7 * eps  # small steps stop where they fool
    if norm == "linf":
        assert ((result.x_adv - x).abs() <= torch.tensor(eps)).all()
        exported = (result.x_adv * 255).round().to(torch.uint8).float() / 255
        assert (exported - x).abs().max() <= eps + 0.5 / 255 + 1e-6


@pytest.mark.parametrize("name", BUDGETED, indirect=True)
def test_attack_with_zero_budget_returns_the_image(name: str, attack: Attack, net: nn.Module, few: Batch) -> None:
    """Exactly, and only those that were wrong before count as successes."""
    x, y = few
    result = attack(net, x, y, eps=0.0)
    assert torch.equal(result.x_adv, x)
    assert torch.equal(result.success, copy.deepcopy(net).eval()(x).argmax(1) != y)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", BUDGETED, indirect=True)
def test_attack_takes_a_budget_an_image(name: str, attack: Attack, net: nn.Module, few: Batch) -> None:
    """The same budget for each equals the scalar one; different budgets hold each for its image."""
    x, y = few
    unit = 100 if BUDGETED[name] == "l0" else 1
    alike = torch.full((len(x),), 0.1 * unit, dtype=torch.float64)  # in float32 it would be another number
    scalar, spread = (attack(net, x, y, eps=eps) for eps in (0.1 * unit, alike))
    assert torch.equal(scalar.x_adv, spread.x_adv)
    ladder = torch.linspace(0, 0.3 * unit, len(x))
    mixed = attack(net, x, y, eps=ladder)
    assert (mixed.distance[BUDGETED[name]] <= ladder).all()
    assert torch.equal(mixed.x_adv[0], x[0])


FIXED_COST = tuple(name for name, attack in ATTACKS.items() if attack.spec.fixed_cost)
"""Attacks whose settings say what they cost; they take no budget."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("budget", [24, *(pytest.param(budget, marks=pytest.mark.slow) for budget in (5, 9, 70))])
def test_attack_keeps_to_a_budget_of_passes(
    attack: Attack, name: str, net: nn.Module, few: Batch, targets: Extra, budget: int
) -> None:
    """No image costs more, whatever the settings; a budget too small for anything is refused, and what is is small."""
    if name in FIXED_COST:
        pytest.skip("of fixed cost")
    x, y = few
    try:
        result = attack(net, x, y, budget=budget, **targets)
    except ValueError as error:
        least = re.fullmatch(rf"budget: expected at least (\d+), got {budget}", str(error))
        if not least or not budget < int(least[1]) <= (50 if name.startswith("minimum") else 10):
            raise
        return
    assert (result.forwards + result.backwards).max() <= budget
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()
    found = copy.deepcopy(net).eval()(result.x_adv).argmax(1)
    assert_honest(name, result, found == targets["y_target"] if targets else found != y)
    if name in BUDGETED:
        assert (result.distance[BUDGETED[name]] <= torch.tensor(USUAL_EPS[BUDGETED[name]])).all()
    if budget >= 70:
        assert result.success.float().mean() > 0.2


@pytest.mark.parametrize("method", specs.METHODS)
def test_method_of_fixed_cost_takes_no_budget(method: str, net: nn.Module, few: Batch) -> None:
    """What the spec says is what the function takes; the refusal names the method."""
    cls = specs.METHODS[method]
    takes = "budget" in inspect.signature(core.attacks.function_of(cls)).parameters
    assert takes is not cls.fixed_cost
    if cls.fixed_cost:
        eps = {"eps": 0.1} if cls.needs_eps else {}
        with pytest.raises(ValueError, match=f"budget: {method} has a fixed cost and takes none, got 9"):
            core.attacks.run_method(net, *few, cls(), budget=9, **eps)


def test_run_method_keeps_the_smaller_of_two_budgets(net: nn.Module, few: Batch) -> None:
    """A method with a budget of its own never spends more than either; 8 bits are paid from the one given."""
    for own, given in ((60, 90), (90, 60)):
        result = core.attacks.run_method(net, *few, specs.Minimum(budget=own), budget=given)
        assert (result.forwards + result.backwards).max() <= 60
    result = core.attacks.run_method(net, *few, specs.Pgd(steps=20), eps=0.2, budget=20, eight_bit=True)
    assert (result.forwards + result.backwards).max() <= 20
    with pytest.raises(ValueError, match="budget: expected more than 3 for images in 8 bits, got 3"):
        core.attacks.run_method(net, *few, specs.Pgd(), eps=0.1, budget=3, eight_bit=True)


class Broken(nn.Module):
    """Models on which gradients say nothing, or logits are extreme."""

    def __init__(self, kind: str, net: nn.Module) -> None:
        super().__init__()
        self.kind, self.net = kind, copy.deepcopy(net)
        if kind == "nan":
            self.net[8].weight.data.fill_(torch.nan)  # after the last ReLU, which would hide it from gradients
        if kind == "dead":
            self.net[6].bias.data.fill_(-1e3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits that go wrong in the way of `kind`."""
        if self.kind == "constant":
            return torch.eye(10)[3].expand(len(x), 10)
        if self.kind == "saturated":
            return self.net(x) * 1e4
        return self.net(x)


@pytest.mark.sampled(9)
@pytest.mark.parametrize("kind", ["constant", "dead", "nan"])
def test_attack_fails_honestly(attack: Attack, net: nn.Module, few: Batch, targets: Extra, kind: str) -> None:
    """No crash, nothing fooled that was not wrong before, valid images; who answers NaN has no image right."""
    x, y = few
    model = Broken(kind, net).eval()
    clean = model(x)
    y = torch.full_like(y, 3) if kind != "dead" else clean.argmax(1)
    targets = {key: (y + 1) % 10 for key in targets}
    result = attack(model, x, y, **targets)
    assert result.success.all() if kind == "nan" and not targets else not result.success.any()
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()


@pytest.mark.sampled(9)
def test_attack_fools_a_saturated_model(attack: Attack, net: nn.Module, few: Batch, targets: Extra, name: str) -> None:
    """Logits times 10,000 change no class, so they must not stop an attack."""
    if name == "generator":
        pytest.skip("its literal losses saturate: that is one of its lessons")
    x, y = few
    plain, hot = attack(net, x, y, **targets), attack(Broken("saturated", net), x, y, **targets)
    assert hot.success.sum() >= 0.8 * plain.success.sum()


@pytest.mark.sampled(5)
def test_attack_works_on_a_scalar_network(
    attack: Attack, name: str, digits: Batch, targets: Extra, scalar_linear: Callable[[Tensor, float], nn.Module]
) -> None:
    """Two logits (0, N - tau): images of both classes change sides; by a few pixels, one at least."""
    x, y = digits
    x, y = x[(y == 4) | (y == 9)][:40], (y[(y == 4) | (y == 9)][:40] == 9).long()
    mean = x[y == 1].mean(0) - x[y == 0].mean(0)
    model = scalar_linear(mean.flatten(), 0.0)
    model.threshold += model.score(x).median()
    budget = {"eps": {"linf": 0.9, "l2": 4.0, "l1": 16.0, "l0": 30}[BUDGETED[name]]} if name in BUDGETED else {}
    result = attack(model, x, y, **budget, **{key: 1 - y for key in targets})
    if name in FEW_PIXELS:
        assert (result.success & (model(x).argmax(1) == y)).any()
    else:
        assert min(result.success[y == label].float().mean() for label in (0, 1)) > 0.8
    assert_honest(name, result, model(result.x_adv).argmax(1) != y)


@pytest.mark.sampled(9)
def test_attack_confined_to_a_mask_changes_nothing_outside(
    attack: Attack, name: str, net: nn.Module, few: Batch, targets: Extra
) -> None:
    """Bit for bit, whatever the attack draws; inside a mask of three quarters of the image it still fools some."""
    x, y = few
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:, :6] = mask[:, :2, 2:] = True
    options = {"eps": LARGE_EPS[BUDGETED[name]]} if name in BUDGETED else {}
    result = attack(Masked(net, mask), x, y, **targets, **options)
    outside = ~mask.expand_as(x)
    assert torch.equal(result.x_adv[outside], x[outside])
    assert (result.success & ~fooling(net, x, y, targets)).sum() >= (2 if name in ONE_STEP else 8)
    assert_honest(name, result, fooling(net, result.x_adv, y, targets))


def fooling(net: nn.Module, x_adv: Tensor, y: Tensor, targets: Extra) -> Tensor:
    """Which images fool the plain network."""
    found = copy.deepcopy(net).eval()(x_adv).argmax(1)
    return found == targets["y_target"] if targets else found != y


@pytest.mark.sampled(9)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_attack_that_fails_inside_a_mask_changes_nothing_outside(
    attack: Attack, name: str, net: nn.Module, few: Batch, targets: Extra, seed: int
) -> None:
    """A mask of six pixels is too little for most images: failed attempts keep to it too."""
    x, y = few[0][:12], few[1][:12]
    mask = torch.zeros(64, dtype=torch.bool)
    mask[torch.randperm(64, generator=torch.Generator().manual_seed(seed))[:6]] = True
    mask = mask.view(1, 8, 8)
    result = attack(Masked(net, mask), x, y, **{key: value[:12] for key, value in targets.items()})
    outside = ~mask.expand_as(x)
    assert torch.equal(result.x_adv[outside], x[outside])


SHORT = {
    "generator": {"rounds": 20},
    "square": {"queries": 50},
    "simba": {"queries": 50},
    "hop_skip_jump": {"queries": 200},
    "exhaustive": {"levels": 5},
    "frontier": {"caps": (0.5, 1.0)},
    "sparse_rs": {"queries": 50},
    "one_pixel": {"population": 10, "generations": 5},
    "physical": {"steps": 10},
    "minimum": {"budget": 80},
    "ead": {"searches": 2, "steps": 20},
    "carlini_wagner": {"searches": 2, "steps": 20},
    "fab": {"steps": 15},
    "sigma_zero": {"steps": 40},
}
"""Settings of methods that take long by default."""


@pytest.mark.sampled(7)
@pytest.mark.parametrize("method", specs.METHODS)
def test_run_method_is_the_attack_of_the_spec(method: str, net: nn.Module, few: Batch) -> None:
    """Each spec's fields are its attack's arguments, and the result is the direct call's."""
    x, y = few[0][:10], few[1][:10]
    spec = specs.METHODS[method](**SHORT.get(method, {}))
    budget = {"eps": 5.0 if spec.norms == ("l0",) else 0.1} if spec.needs_eps else {}
    target = {"y_target": (y + 1) % 10} if spec.needs_target else {}
    given = {"surrogate": net} if spec.needs_surrogate else {}
    found = core.attacks.run_method(net, x, y, spec, **budget, **target, **given)
    options = {key: value for key, value in spec.model_dump().items() if key != "name"} | given
    direct = core.attacks.function_of(type(spec))(net, x, y, **budget, **target, **options)
    assert torch.equal(found.x_adv, direct.x_adv)


def test_run_method_says_what_is_missing_or_too_much(net: nn.Module, few: Batch) -> None:
    """A budget or target that the method needs, or a budget that it does not take."""
    with pytest.raises(ValueError, match="eps: fgsm needs a budget"):
        core.attacks.run_method(net, *few, specs.Fgsm())
    with pytest.raises(ValueError, match="eps: jacobian_sparse looks for the smallest ε itself and takes no budget"):
        core.attacks.run_method(net, *few, specs.JacobianSparse(), eps=0.1)
    with pytest.raises(ValueError, match="y_target: generator needs a target class"):
        core.attacks.run_method(net, *few, specs.GeneratorMethod())
    with pytest.raises(ValueError, match="method: expected one of fgsm, pgd"):
        core.attacks.run_method(net, *few, specs.Method())
