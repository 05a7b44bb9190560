"""The trust report: decoys are flagged by the right check, honest models are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd, sparse_rs
from core.evaluation.trust.attacks import ATTACKS
from core.evaluation.trust.examination import EFFORTS, Claims, Examination
from core.evaluation.trust.examine import examine
from core.evaluation.trust.model import OUTPUTS
from core.evaluation.trust.report import MARKS, Check, Trust
from core.evaluation.trust.rules import MIN_IMAGES, RULES
from core.models.saved import load_model
from core.progress import Cancelled
from tests.evaluation.trust import decoys
from tests.evaluation.trust.decoys import DECOYS, Decoy
from tests.fixtures import network

EPS = {"linf": 0.15, "l2": 0.5, "l1": 0.8, "l0": 1}
"""Balls in which much of the honest model stands."""
X, Y = decoys.X[decoys.TRAINED :][:120], decoys.Y[decoys.TRAINED :][:120]
SMALL = replace(EFFORTS["quick"], images=60, steps=10, restarts=2, queries=120, draws=20)


def report(*args: Any, **settings: Any) -> Trust:
    """The report alone, without the adversarial examples that its attacks found."""
    return examine(*args, **settings)[0]


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """An effort for tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "small", SMALL)
        yield


@cache
def honest() -> nn.Module:
    """An adversarially trained model."""
    return network("honest")


@cache
def careful(norm: str) -> tuple[Tensor, Tensor]:
    """A careful evaluation of it."""
    return decoys.evaluated(honest(), X, Y, norm, EPS[norm])


@cache
def judged(norm: str) -> Trust:
    """The report on it."""
    robust, x_adv = careful(norm)
    effort = "quick" if norm == "linf" else "small"
    return report(honest(), X, Y, norm=norm, eps=EPS[norm], robust=robust, x_adv=x_adv, effort=effort)


@cache
def decoy_judged(name: str) -> Trust:
    """The report on a decoy, without an evaluation."""
    return report(Decoy(honest(), DECOYS[name]), X, Y, eps=EPS["linf"], effort="small")


def asked(
    name: str, robust: Tensor, x_adv: Tensor, lower: Tensor | None = None, model: nn.Module | None = None
) -> Check:
    """One check of an evaluation, of the honest model unless another is given."""
    claims, settings = Claims(X, Y, robust, x_adv, lower), {"norm": "linf", "index": None, "seed": 0}
    with Examination.open(model or honest(), claims, eps=0.15, effort="small", **settings) as case:
        return Check.of(name, *ATTACKS[name](case), case.n)


@pytest.mark.slow
@pytest.mark.parametrize("norm", EPS)
def test_honest_model_is_not_flagged(norm: str) -> None:
    """An adversarially trained network, evaluated with care, passes in every norm, and much of it stands."""
    made = judged(norm)
    assert made.verdict == "pass", made.to_markdown()
    assert made.accuracy["all of the report"] > 0.3
    asked = {check.name for check in made.checks if check.verdict == "pass"}
    assert {"gradients", "slope", "cosine", "single_step", "unbounded", "missed", "images"} <= asked


def test_plain_model_is_not_flagged() -> None:
    """A model that is not robust at all is no reason for mistrust: its low figure is true."""
    plain = network("plain")
    robust, x_adv = decoys.evaluated(plain, X, Y, "linf", 0.15)
    made = report(plain, X, Y, eps=0.15, robust=robust, x_adv=x_adv, effort="small")
    assert made.verdict == "pass", made.to_markdown()
    assert made.accuracy["all of the report"] < 0.3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_reason_for_mistrust(dtype: torch.dtype) -> None:
    """Its steps are no jumps, and changes that rounding hides are not held against the gradients."""
    made = report(deepcopy(honest()).to(dtype), X, Y, eps=0.15, effort="small")
    assert made.verdict == "pass", made.to_markdown()


def test_only_unproven_images_need_a_gradient() -> None:
    """Where an image is proven, nothing is asked of the attacks."""
    model = Decoy(honest(), DECOYS["no gradient comes back"])
    right = honest()(X).argmax(1) == Y
    for lower, share in ((None, 1.0), (right * 0.15, 1 - right[: SMALL.images].double().mean().item())):
        claims = Claims(X, Y, right, X, lower)
        with Examination.open(model, claims, norm="linf", eps=0.15, index=None, seed=0, effort="small") as case:
            assert OUTPUTS["gradients"](case)[0] == pytest.approx(share)


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("decoy", "check"),
    [
        ("no gradient comes back", "gradients"),
        ("the gradient is NaN at 0", "gradients"),
        ("a sigmoid of huge slope", "gradients"),
        ("five grey levels", "gradients"),
        ("five grey levels", "continuity"),
        ("another pixel's gradient comes back", "slope"),
        ("ripples of huge slope", "black_box"),
        ("logits times a thousand", "saturation"),
        ("noise before each answer", "randomness"),
        ("the batch's mean subtracted", "neighbours"),
        ("probabilities", "probabilities"),
        ("a class for changed images", "rejects"),
        ("NaN for changed images", "rejects"),
    ],
)
def test_decoy_is_flagged_by_its_check(decoy: str, check: str) -> None:
    """Each way to look robust fails the check that is for it, and the overall verdict with it."""
    made = decoy_judged(decoy)
    assert made.check(check).verdict == "fail", made.to_markdown()
    assert made.verdict == "fail"
    assert RULES[check].sign in made.line()


@pytest.mark.parametrize(
    ("decoy", "check"),
    [
        ("logits times a thousand", "saturation"),
        ("probabilities", "probabilities"),
        ("a class for changed images", "rejects"),
    ],
)
def test_decoy_with_true_gradients_is_flagged_by_no_other_check(decoy: str, check: str) -> None:
    """The report names the reason, not everything."""
    assert {found.name for found in decoy_judged(decoy).doubts()} == {check}


def test_zero_gradients_show_in_the_attacks_too() -> None:
    """Queries find what gradients miss, and images stand where nothing can."""
    made = decoy_judged("no gradient comes back")
    assert {made.check(name).verdict for name in ("black_box", "unbounded")} == {"fail"}
    assert made.check("cosine").verdict == "skipped"


def test_random_model_is_not_asked_what_needs_one_answer() -> None:
    """The check for randomness fails; those that compare single answers are left out and say why."""
    made = decoy_judged("noise before each answer")
    for name in ("neighbours", "continuity", "slope"):
        assert made.check(name).verdict == "skipped"
        assert "differ" in made.check(name).finding


def test_weak_evaluation_is_found_out() -> None:
    """A figure that a single step made falls to the report's own attacks."""
    made = pgd(honest(), X, Y, eps=0.15, steps=1, random_start=False)
    trust = report(honest(), X, Y, eps=0.15, robust=~made.success, x_adv=made.x_adv, effort="small")
    assert trust.check("missed").verdict == "fail"
    assert trust.check("images").verdict == "pass"


@pytest.mark.parametrize(("name", "steps"), [("converged", 2), ("restarts", 1)])
def test_steps_and_restarts_are_held_against_the_figure(monkeypatch: pytest.MonkeyPatch, name: str, steps: int) -> None:
    """Where a walk of a step or two stops short, twice the steps and new starts take images from the figure."""
    monkeypatch.setitem(EFFORTS, "small", replace(SMALL, images=120, steps=steps, restarts=20))
    plain = network("plain")
    right = plain(X).argmax(1) == Y
    assert asked(name, right, X, model=plain).verdict == "fail"


@pytest.mark.slow
def test_queries_count_in_l0_beyond_what_the_evaluation_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Random search outdoes gradients there on honest models too: no reason for mistrust if the evaluation had both."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    monkeypatch.setitem(EFFORTS, "small", replace(SMALL, steps=1, restarts=1, queries=300))
    defended = load_model("digits-pgd", tmp_path).model
    x, y = X[:60], Y[:60]
    found = sparse_rs(defended, x, y, eps=3, count="features", queries=1000)
    claims = {"robust": ~found.success & (defended(x).argmax(1) == y), "x_adv": found.x_adv}
    alone, beside = (report(defended, x, y, norm="l0", eps=3, effort="small", **more) for more in ({}, claims))
    assert alone.check("black_box").verdict == "fail"
    assert beside.check("black_box").verdict == "pass", beside.check("black_box").finding


def test_one_image_is_told_as_one() -> None:
    """The line for exports counts in plain words."""
    assert "checks of 1 image" in report(honest(), X[:1], Y[:1], eps=0.15, effort="small").line()
    assert "of 1 images" not in report(honest(), X[:1], Y[:1], eps=0.15, effort="small").line()


def test_figure_is_held_against_the_better_loss() -> None:
    """A figure far above what either loss leaves is warned of; a careful one is below both."""
    right = honest()(X).argmax(1) == Y
    assert asked("losses", right, X).verdict == "warn"
    careful_one = asked("losses", *careful("linf"))
    assert (careful_one.verdict, careful_one.measured) == ("pass", 0.0)


def test_images_that_break_the_rules_are_found() -> None:
    """Too far, outside the box, or not fooling: each fails, and a single image is enough."""
    robust, x_adv = careful("linf")
    far, out, kept = x_adv.clone(), x_adv.clone(), x_adv.clone()
    far[3] = (X[3] + 0.2).clamp(0, 1)
    out[5, 0, 0, 0] = -1e-3
    fallen = int((~robust & (honest()(X).argmax(1) == Y)).nonzero()[0])
    kept[fallen] = X[fallen]
    assert [asked("images", robust, images).verdict for images in (x_adv, far, out, kept)] == ["pass"] + 3 * ["fail"]


def test_proof_that_is_belied_blocks_the_figure() -> None:
    """A radius above the distance of an adversarial image fails; one below it does not; none is not asked."""
    robust, x_adv = careful("linf")
    found = (x_adv - X).abs().flatten(1).amax(1)
    fallen = int((~robust & (found > 0)).nonzero()[0])
    lower = torch.where(robust, 0.15, found / 2)
    assert asked("proven", robust, x_adv, lower).verdict == "pass"
    lower[fallen] = found[fallen] + 0.01
    assert asked("proven", robust, x_adv, lower).verdict == "fail"
    assert asked("proven", robust, x_adv).verdict == "skipped"


def test_proof_is_held_against_the_reports_own_attacks() -> None:
    """An image proven at eps that only this report fools counts as well."""
    right = honest()(X).argmax(1) == Y
    made = report(honest(), X, Y, eps=0.15, robust=right, x_adv=X, lower=right * 0.15, effort="small")
    assert (made.check("proven").verdict, made.verdict) == ("fail", "fail")


def test_report_is_the_same_again_and_leaves_the_model() -> None:
    """Same arguments, same report, of a model that draws as well; mode, gradients and the generator are untouched."""
    name = "noise before each answer"
    model = Decoy(honest(), DECOYS[name]).train()
    state = torch.get_rng_state()
    torch.rand(7)
    assert report(model, X, Y, eps=0.15, effort="small") == decoy_judged(name)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    torch.set_rng_state(state)
    report(model, X[:1], Y[:1], eps=0.15, effort="small")
    assert torch.equal(state, torch.get_rng_state())


def test_report_survives_json() -> None:
    """What was written is read back, surfaces included, and holds nothing that JSON has no word for."""
    for made in (judged("linf"), decoy_judged("NaN for changed images")):
        text = json.dumps(made.to_json(), allow_nan=False)
        assert Trust.from_json(json.loads(text)) == made
        assert json.loads(text)["verdict"] == made.verdict


def test_every_check_says_what_why_and_what_to_do() -> None:
    """All rules are asked, in their order; each has a finding, limits in words and advice; the table shows them all."""
    made = judged("linf")
    assert [check.name for check in made.checks] == list(RULES)
    table = made.to_markdown()
    for check in made.checks:
        assert check.finding.endswith(".")
        assert check.advice
        assert check.limits
        assert (check.measured is None) == (check.verdict == "skipped")
        assert f"{MARKS[check.verdict]} {check.verdict}" in table
        assert check.title in table


def test_cost_is_counted_and_within_what_is_documented() -> None:
    """An image that nothing fools is the dearest: the passes told are those made, and no more than the docstring's."""
    passed = []
    model = Decoy(honest(), DECOYS["no gradient comes back"])
    handle = model.register_forward_hook(lambda _, given, __: passed.append(len(given[0])))
    made = report(model, X, Y, eps=0.01, effort="quick")
    handle.remove()
    looks = 40  # attacks look at one image first, to see whether the input is what it should be
    assert made.forwards <= sum(passed) <= made.forwards + looks
    assert made.forwards / made.n < 510
    assert made.backwards / made.n < 215


def test_only_the_first_images_are_attacked() -> None:
    """The report looks at as many as the effort says."""
    assert judged("linf").n == 100
    assert judged("l2").n == 60


def test_surface_shows_the_plane() -> None:
    """The middle is the image's own margin, and a full step against the gradient lowers it."""
    made = judged("linf")
    (surface,) = made.surfaces
    row = surface.index
    logits = honest()(X[row : row + 1])[0].detach()
    others = torch.cat([logits[: surface.y], logits[surface.y + 1 :]])
    middle = len(surface.axis) // 2
    assert surface.axis[middle] == 0
    assert surface.margin[middle][middle] == pytest.approx(float(logits[surface.y] - others.max()), rel=1e-3)
    assert surface.margin[middle][-1] < surface.margin[middle][middle] < surface.margin[middle][0]


def test_report_can_be_cancelled() -> None:
    """Progress names each check; what it raises ends the report."""
    seen: list[str] = []

    def tell(done: int, total: int, *, phase: str = "", **_: object) -> None:
        assert 0 <= done < total == len(RULES)
        if not seen or seen[-1] != phase:
            seen.append(phase)
        if phase.endswith(RULES["black_box"].title):
            raise Cancelled

    with pytest.raises(Cancelled):
        report(honest(), X, Y, eps=0.15, on_progress=tell, effort="small")
    assert seen[0] == "reliability checks: The model gives logits"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l3"}, "norm: expected one of"),
        ({"effort": "endless"}, "effort: expected one of"),
        ({"eps": 1.5}, "eps: expected finite budgets"),
        ({"robust": torch.ones(3, dtype=torch.bool)}, r"robust: expected shape \(120,\)"),
        ({"x_adv": X[:3]}, "x_adv: expected shape"),
        ({"lower": torch.zeros(3)}, "lower: expected shape"),
        ({"index": torch.arange(3)}, "index: expected 120"),
    ],
)
def test_bad_input_is_named(settings: dict[str, Any], message: str) -> None:
    """Each argument by its name, with what was expected."""
    with pytest.raises(ValueError, match=message):
        report(honest(), X, Y, **{"eps": 0.15, **settings})


def test_share_counts_from_a_few_images_on() -> None:
    """One or two images of a hundred are chance; one that breaks the rules is not."""
    assert RULES["black_box"].grade((MIN_IMAGES - 1) / 20, 20) == "pass"
    assert RULES["black_box"].grade(MIN_IMAGES / 20, 20) == "fail"
    assert RULES["images"].grade(1 / 1000, 1000) == "fail"
    assert RULES["cosine"].grade(0.1, 100) == "warn"
    assert RULES["cosine"].grade(0.5, 100) == "pass"


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_sets_give_an_honest_report(n: int) -> None:
    """One image: checks pass or are skipped, and nothing breaks."""
    assert report(honest(), X[:n], Y[:n], eps=0.15, effort="small").verdict == "pass"
