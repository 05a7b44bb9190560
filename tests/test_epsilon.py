"""ε, one rule: a float64 number, never rounded before it is compared; balls keep to it exactly, proofs cover it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from core.attacks import apgd, basin_hopping, fgsm, pgd, shrinking_ball, simba, square
from core.attacks.engine.checks import check_eps
from core.attacks.engine.eight_bit import in_eight_bits
from core.attacks.engine.geometry import distances, into_ball, linf_bounds, rounded_down
from core.attacks.fixed_budget.iterative import bim, mifgsm, rfgsm
from core.certification.proof import certified_margins
from core.epsilon import SAME, parse, reaches, several, within
from core.evaluation.robust.robust import evaluate
from core.specs import AttackSpec, CertifySpec, EvaluateSpec, ImportSpec, SweepSpec, TrainSpec, explain
from core.specs.base import settings_in

COMMON = [k / 255 for k in (1, 2, 4, 8, 16, 64)] + [0.1, 0.12, 0.2, 0.3, 3 * 0.1, 0.031, 0.0314, 0.05, 0.5, 1.0]
"""What people ask for; in float32 half of them are rounded up."""
RANDOM = [random.Random(1).uniform(0, 1) for _ in range(1000)]
DTYPES = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF])
def test_rounded_down_is_the_largest_number_within_the_budget(dtype: torch.dtype) -> None:
    """Never above ε, and the next number is."""
    eps = torch.tensor(COMMON + RANDOM, dtype=torch.float64)
    made = rounded_down(eps, dtype)
    assert made.dtype == dtype
    assert (made.double() <= eps).all()
    above = torch.nextafter(made, torch.full_like(made, 2))
    assert (above.double() > eps).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_corner_of_the_linf_ball_is_within_the_budget(dtype: torch.dtype) -> None:
    """1,000 random ε and the common ones, at random pixels: in float64, without any slack."""
    generator = torch.Generator().manual_seed(0)
    eps = torch.tensor(COMMON + RANDOM, dtype=torch.float64)
    x = torch.rand(len(eps), 1, 4, 4, generator=generator, dtype=dtype)
    x[:, 0, 0] = torch.tensor([0, 1, 128 / 255, 3 / 255], dtype=dtype)
    low, high = linf_bounds(x, check_eps(eps, x))
    for corner in (low, high):
        assert (distances(corner, x)["linf"] <= eps).all()
    # and as good as all of it is used
    free = (x.double() + eps[:, None, None, None] <= 1).flatten(1).any(1)
    used = distances(high, x)["linf"][free]
    assert (used >= eps[free] * (1 - 1e-5) - 1e-7).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_pulled_into_a_ball_is_within_the_budget(norm: str, dtype: torch.dtype) -> None:
    """Points of about the right length, half of which rounding left outside."""
    generator = torch.Generator().manual_seed(1)
    eps = torch.tensor(COMMON + RANDOM, dtype=torch.float64)
    x = torch.rand(len(eps), 1, 4, 4, generator=generator, dtype=dtype)
    way = 0.5 - x  # inside the box
    length = torch.linalg.vector_norm(way.flatten(1), ord=2 if norm == "l2" else 1, dim=1)
    point = x + way * (eps / length).clamp(max=1).to(dtype)[:, None, None, None]
    made = into_ball(point, x, check_eps(eps, x, torch.inf), norm)
    assert (distances(made, x)[norm] <= eps).all()
    assert ((made - point).abs() <= 1e-5).all()


class Slope(nn.Module):
    """A linear model of three classes that no ball here fools for most images: attacks end at the ball's edge."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(3, 48, generator=generator, dtype=torch.float64).to(dtype))
        self.register_buffer("bias", torch.tensor([30.0, 0, 0], dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Logits; class 0 is far ahead."""
        return x.flatten(1) @ self.weight.T + self.bias


ATTACKS: dict[str, Callable[..., Any]] = {
    "fgsm": lambda m, x, y, eps, norm: fgsm(m, x, y, eps=eps),
    "rfgsm": lambda m, x, y, eps, norm: rfgsm(m, x, y, eps=eps),
    "mifgsm": lambda m, x, y, eps, norm: mifgsm(m, x, y, eps=eps, steps=3),
    "bim": lambda m, x, y, eps, norm: bim(m, x, y, eps=eps, steps=4, norm=norm),
    "pgd": lambda m, x, y, eps, norm: pgd(m, x, y, eps=eps, steps=4, norm=norm),
    "apgd": lambda m, x, y, eps, norm: apgd(m, x, y, eps=eps, steps=4, norm=norm),
    "hop": lambda m, x, y, eps, norm: basin_hopping(m, x, y, eps=eps, steps=3, hops=2, chains=1, norm=norm),
    "shrinking": lambda m, x, y, eps, norm: shrinking_ball(m, x, y, eps=eps, steps=4, norm=norm),
    "square": lambda m, x, y, eps, norm: square(m, x, y, eps=eps, queries=5, norm=norm),
    "simba": lambda m, x, y, eps, norm: simba(m, x, y, eps=eps, queries=5, norm=norm),
}
LINF_ONLY = ("fgsm", "rfgsm", "mifgsm")
NO_L1 = ("square", "simba")
NO_LINF = ("shrinking",)


@pytest.mark.sampled(9)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("dtype", [*DTYPES, *HALF])
def test_attack_keeps_to_the_budget_exactly(attack: str, norm: str, dtype: torch.dtype) -> None:
    """Every image within ε in float64, for a number and for one ε an image; distances say the same."""
    without = {"linf": NO_LINF, "l2": LINF_ONLY, "l1": LINF_ONLY + NO_L1}
    if attack in without[norm]:
        pytest.skip("there is no such attack")
    model = Slope(dtype)
    eps = torch.tensor(COMMON, dtype=torch.float64)
    x = torch.rand(len(eps), 3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)
    y = torch.zeros(len(eps), dtype=torch.int64)
    made = ATTACKS[attack](model, x, y, eps, norm)
    size = (made.x_adv.double() - x.double()).flatten(1)
    exact = torch.linalg.vector_norm(size, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1)
    assert (exact <= eps).all()
    torch.testing.assert_close(made.distance[norm], exact, rtol=1e-13, atol=0)  # sums in another order
    assert made.x_adv.dtype == dtype
    for number in (0.1, 0.3, 8 / 255):
        one = ATTACKS[attack](model, x[:2], y[:2], number, norm)
        assert one.distance[norm].dtype == torch.float64
        assert (one.distance[norm] <= number).all()
        assert one.distance[norm].max() > 0.9 * number or attack not in ("fgsm", "pgd", "apgd") or dtype in HALF


@pytest.mark.sampled(7)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("eps", [0.1, 0.3, 0.12, 8 / 255, 0.0314])
def test_evaluation_says_the_same_in_float32_and_float64(norm: str, eps: float) -> None:
    """A linear model whose margins are far from every boundary that ε draws: the masks are equal, not only near."""
    size = {"linf": eps, "l2": 5 * eps, "l1": 20 * eps, "l0": round(20 * eps) + 1}[norm]
    x = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    masks = []
    for dtype in DTYPES:
        model = Slope(dtype)
        model.bias.zero_()
        y = model(x.to(dtype)).argmax(1)
        found = evaluate(model, x.to(dtype), y, norm=norm, eps=size, effort="quick", trust=False)
        assert (found.upper[found.upper.isfinite()] <= size).all()
        masks.append(found.robust)
    assert int((masks[0] != masks[1]).sum()) <= 1  # an image right on the edge
    assert not masks[0].all() or norm == "l0" or size < 0.04


def test_eight_bits_keep_to_the_budget_exactly() -> None:
    """Levels of a byte, within ε in float64, from images of 8 bits and from others."""
    model = Slope(torch.float32)
    generator = torch.Generator().manual_seed(5)
    for x in (torch.randint(256, (8, 3, 4, 4), generator=generator) / 255, torch.rand(8, 3, 4, 4, generator=generator)):
        y = torch.zeros(8, dtype=torch.int64)
        for eps in (8 / 255, 0.1, 0.0314):
            made = in_eight_bits(model, x, y, pgd(model, x, y, eps=eps), norm="linf", eps=eps)
            assert ((made.x_adv.double() - x.double()).abs() <= eps).all()


@pytest.mark.parametrize("eps", COMMON)
def test_the_rule_takes_numbers_arrays_and_tensors(eps: float) -> None:
    """The same answer in each form; what differs in the last digit of decimal arithmetic is the same ε."""
    for distance, inside in ((eps, True), (eps * (1 + SAME / 2), True), (eps * (1 + 1e-9), False), (math.nan, False)):
        assert bool(within(distance, eps)) == inside
        assert bool(within(np.float64(distance), eps)) == inside
        assert bool(within(torch.tensor(distance, dtype=torch.float64), eps)) == inside
    for radius, proven in ((eps, True), (eps * (1 - SAME / 2), True), (eps * (1 - 1e-9), False), (math.nan, False)):
        assert bool(reaches(radius, eps)) == proven
        assert bool(reaches(torch.tensor(radius, dtype=torch.float64), eps)) == proven


@pytest.mark.parametrize(
    ("eps", "said"),
    [
        (None, "got None"),
        ("8/255px", "got '8/255px'"),
        ("8/0", "a divisor other than 0, got '8/0'"),
        (8, "got 8; grey levels of 255 are 8/255"),
        (float("nan"), "got nan"),
        (-0.1, "got -0.1"),
        (float("inf"), "got inf"),
        ([0.1, 0.2], r"shape \(2,\)"),
        (torch.full((3, 1, 1, 1), 0.1), r"shape \(3, 1, 1, 1\)"),
        (torch.full((1, 3), 0.1), r"shape \(1, 3\)"),
        (np.full(4, 0.1), r"shape \(4,\)"),
        (torch.tensor([0.1, float("nan"), 0.1]), "got nan"),
        ({"eps": 1}, "got dict"),
        (True, "got True"),
    ],
)
@pytest.mark.parametrize("function", [fgsm, pgd, apgd, square, basin_hopping])
def test_bad_budgets_are_refused_in_a_sentence(function: Callable[..., Any], eps: Any, said: str) -> None:
    """The argument's name, what was expected, what came."""
    x, y = torch.rand(3, 3, 4, 4), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"^eps: expected .*{said}"):
        function(Slope(torch.float32), x, y, eps=eps)


@pytest.mark.parametrize(
    "eps", [[0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3]), (0.1, 0.2, 0.3), ["1/10", "0,2", Fraction(3, 10)]]
)
def test_budgets_come_as_lists_and_arrays(eps: Any) -> None:
    """One an image, in any of the usual forms."""
    x, y = torch.rand(3, 3, 4, 4), torch.zeros(3, dtype=torch.int64)
    made = pgd(Slope(torch.float32), x, y, eps=eps)
    assert (made.distance["linf"] <= torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)).all()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("0.031", 0.031),
        (".031", 0.031),
        ("0,031", 0.031),
        (",5", 0.5),
        ("1e-3", 0.001),
        ("2,5/255", 2.5 / 255),
        ("3.", 3.0),
        ("1,5", 1.5),
        ("0,125", 0.125),
        (Fraction(8, 255), 8 / 255),
        (0.1, 0.1),
        (None, None),
    ],
)
def test_numbers_are_read_as_people_write_them(text: Any, number: Any) -> None:
    """To the last bit what Python makes of the same number; what is no text comes back as it is."""
    assert parse(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "/", "8/", "/255", "8/0", "8/0.0", "1/3/5", "nan", "inf", "-inf", "8/255px", "8 255", "0x10"),
        *("1_000", "1,000", "12,500", "1,2,3", "0.1.2", "1e999", "٣", "8\\255", "1e99999999999", Fraction(10**400)),
    ],
)
def test_what_is_no_number_is_refused_in_a_sentence(text: Any) -> None:
    """Nor is what may be two numbers, such as 1,000."""
    with pytest.raises(ValueError, match=r"^expected a (finite )?number"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0 4/255 8/255", [0, 4 / 255, 8 / 255]),
        ("0,05;0,1", [0.05, 0.1]),
        ("0.05,0.1", [0.05, 0.1]),
        ("0,1,2", [0, 1, 2]),
        ("", []),
    ],
)
def test_several_numbers_in_one_text(text: str, numbers: list[float]) -> None:
    """With blanks, semicolons or commas between them."""
    assert several(text) == numbers


NUMBERS = [
    lambda eps: EvaluateSpec(model="m", eps=eps),
    lambda eps: SweepSpec(model="m", eps=("0", eps) if isinstance(eps, str) else (0, eps)),
    lambda eps: CertifySpec(model="m", eps=eps),
    lambda eps: TrainSpec(recipe={"name": "pgd", "eps": eps}),
    lambda eps: AttackSpec(model="m", attack="pgd", eps=eps),
    lambda eps: AttackSpec(model="m", attack={"name": "fmn", "step_size": eps}),
    lambda eps: AttackSpec(model="m", attack={"name": "frontier", "caps": (eps, "0,5")}),
    lambda eps: ImportSpec(label="a", route="onnx", digest=64 * "0", mean=(eps,), std=(eps,)),
]


@pytest.mark.parametrize("make", NUMBERS)
def test_a_key_has_the_number_however_it_was_written(make: Callable[[Any], Any]) -> None:
    """8/255 and 0.03137254901960784 are the same request."""
    assert make("8/255").key() == make(8 / 255).key() == make("0,03137254901960784").key()


def test_a_bad_number_in_a_spec_is_explained() -> None:
    """The field, what was expected and what came."""
    with pytest.raises(ValidationError) as error:
        EvaluateSpec(model="m", eps="8/255px")
    assert explain(error.value) == "eps: expected a number such as 0.03 or 8/255, got '8/255px'"
    with pytest.raises(ValidationError) as error:
        SweepSpec(model="m", eps=("0", "1/3/5"))
    assert explain(error.value) == "eps.1: expected a number such as 0.03 or 8/255, got '1/3/5'"


def test_settings_in_one_word_take_fractions_and_decimal_commas() -> None:
    """A comma that no name follows belongs to the number before it."""
    assert settings_in("norm=l2,step_size=8/255,gamma=0,05") == {"norm": "l2", "step_size": "8/255", "gamma": "0,05"}
    assert settings_in("") == {}


def test_attacks_and_evaluations_read_text() -> None:
    """The same as for the number."""
    x, y = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(7)), torch.zeros(3, dtype=torch.int64)
    model = Slope(torch.float32)
    for eps in ("8/255", Fraction(8, 255)):
        assert torch.equal(pgd(model, x, y, eps=eps).x_adv, pgd(model, x, y, eps=8 / 255).x_adv)
        made = evaluate(model, x, y, eps=eps, effort="quick", trust=False)
        assert made.eps == 8 / 255
        linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        assert torch.equal(certified_margins(linear, x, y, eps), certified_margins(linear, x, y, 8 / 255))
    with pytest.raises(ValueError, match=r"^eps: expected a number such as 0.03 or 8/255, got '8/255px'$"):
        evaluate(model, x, y, eps="8/255px")
