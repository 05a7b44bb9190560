"""The strongest evaluation: right where the truth is known, the same however it is cut, stopped or loaded."""

from __future__ import annotations

import copy
import itertools
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import margin
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.minimal.fab import fab
from core.evaluation.robust import cascade, digging, gradient_masked, robust, schedule
from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.schedule import Stage
from core.evaluation.robust.state import CascadeState, Subject
from core.evaluation.robust.towards import nearest_classes, towards
from core.networks.layers import ScalarScore
from core.progress import Cancelled

NORMS = {"linf": 0.08, "l2": 0.5, "l1": 1.5, "l0": 2.0}


def two_classes(features: int = 64) -> nn.Module:
    """A linear scalar network: its robust accuracy is known exactly."""
    torch.manual_seed(1)
    model = ScalarScore(nn.Sequential(nn.Flatten(), nn.Linear(features, 1))).eval()
    with torch.no_grad():
        model.body[1].bias.fill_(-0.5 * model.body[1].weight.sum())  # grey is on the boundary
    return model


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_evaluate_finds_the_truth_of_a_scalar_linear_model(norm: str) -> None:
    """With two classes and no curvature, what stands is what the closed form says; the certificate agrees in linf."""
    model = two_classes()
    x = 0.3 + 0.4 * torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    y = (model(x)[:, 1] > 0).long()
    eps = {"linf": 0.01, "l2": 0.1}[norm]
    weight = model.body[1].weight[0].detach()
    score = model.score(x).abs().detach()
    reach = eps * (weight.abs().sum() if norm == "linf" else weight.norm())
    made = evaluate(model, x, y, norm=norm, eps=eps, effort="quick", trust=False)
    clear = (score - reach).abs() > 1e-4  # but for ties
    assert 0.1 < made.robust_accuracy < 0.9
    assert (made.robust == (score > reach))[clear].all()
    if norm == "linf":
        assert ((made.lower > 0) == made.robust)[clear].all()
        assert made.proven_accuracy <= made.robust_accuracy


@pytest.mark.sampled(5)
@pytest.mark.parametrize("norm", NORMS)
def test_evaluate_verdicts_are_those_of_the_images(norm: str, net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Images lie in ball and box, fool exactly where the result says so, and every column agrees with the others."""
    x, y = digits
    eps = NORMS[norm]
    made = evaluate(net, x, y, norm=norm, eps=eps, effort="standard", trust=False)
    size = (made.x_adv - x).flatten(1)
    length = (size != 0).sum(1) if norm == "l0" else size.norm(p={"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)
    fallen = made.clean & ~made.robust
    assert 0 < made.robust_accuracy < made.clean_accuracy
    assert (length <= eps * (1 + 1e-5)).all()
    assert made.x_adv.min() >= 0
    assert made.x_adv.max() <= 1
    assert torch.equal(net(made.x_adv).argmax(1) == y, made.robust)
    assert torch.equal(torch.tensor([bool(name) for name in made.found_by]), ~made.robust)
    assert torch.equal(made.upper == 0, ~made.clean)
    assert (made.upper[made.robust] == torch.inf).all()
    assert torch.allclose(made.upper[fallen], length[fallen].double(), atol=1e-6)
    assert (made.forwards > 0).all()
    low, high = made.interval
    assert low <= made.robust_accuracy <= high


def test_evaluate_is_no_weaker_than_pgd(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """What PGD with restarts fools does not stand."""
    x, y = digits
    made = evaluate(net, x, y, eps=0.08, trust=False)
    result = pgd(net, x, y, eps=0.08, steps=40, restarts=5)
    assert not (made.robust & result.success).any()


def test_evaluate_of_less_than_one_feature_attacks_nothing(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Below 1 nothing may change in l0: no stage is run, two looks an image are all."""
    x, y = digits
    made = evaluate(net, x, y, norm="l0", eps=0.5, trust=False)
    assert torch.equal(made.robust, made.clean)
    assert made.backwards.sum() == 0
    assert (made.forwards <= 3).all()


def test_evaluate_of_blocks_is_the_slice(
    net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks evaluated alone under their own indices get the verdicts and passes that they get among all."""
    monkeypatch.setattr(digging, "BLOCK", 10)
    net, x, y = copy.deepcopy(net).double(), digits[0].double(), digits[1]  # where no decision hangs on rounding
    index = torch.arange(100, 130)
    whole = evaluate(net, x, y, eps=0.08, index=index, trust=False)
    rows = torch.arange(10, 30)
    part = evaluate(net, x[rows], y[rows], eps=0.08, index=index[rows], trust=False)
    assert torch.equal(part.robust, whole.robust[rows])
    assert torch.equal(part.forwards, whole.forwards[rows])


class Stop:
    """Progress that cancels when the named stage begins."""

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def __call__(self, done: int, total: int, *, phase: str | None = None, **metrics: Any) -> None:
        """Cancel when the time has come."""
        if phase == self.phase:
            raise Cancelled


def test_stopped_evaluation_goes_on(net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    """Stopped in the middle and asked for again, it ends as if never stopped, and does not begin at the beginning."""
    x, y = digits
    state = tmp_path / "state.safetensors"
    whole = evaluate(net, x, y, eps=0.05, effort="quick", trust=False)
    last = schedule.stages("linf", "quick", 10)[5].name
    with pytest.raises(Cancelled):
        evaluate(net, x, y, eps=0.05, effort="quick", trust=False, state=state, on_progress=Stop(last))
    assert state.exists()
    phases: list[str | None] = []
    rest = evaluate(
        net,
        x,
        y,
        eps=0.05,
        effort="quick",
        trust=False,
        state=state,
        on_progress=lambda done, total, *, phase=None, **metrics: phases.append(phase),
    )
    assert "one step" not in phases
    assert state.exists()  # until whoever asked has kept the result
    for name in ("robust", "x_adv", "upper", "forwards", "backwards"):
        assert torch.equal(getattr(rest, name), getattr(whole, name)), name
    assert rest.found_by.tolist() == whole.found_by.tolist()


def test_seconds_of_a_run_that_resumes_are_those_of_all_runs(
    net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage takes ten seconds of this clock; what was kept before each stop counts, and what was lost does not."""
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(robust, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    how: dict[str, Any] = {"eps": 0.05, "effort": "quick", "trust": False, "state": tmp_path / "state.safetensors"}
    names = [stage.name for stage in schedule.stages("linf", "quick", 10)]
    for last in (2, 4):
        with pytest.raises(Cancelled):
            evaluate(net, *digits, on_progress=Stop(names[last]), **how)
    assert evaluate(net, *digits, **how).earlier == 40
    assert evaluate(net, *digits, **how).earlier == 10 * len(names)
    assert evaluate(net, *digits, **{**how, "eps": 0.04}).earlier == 0


def test_state_of_another_run_is_not_used(net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    """A state that was kept for another budget is no start."""
    x, y = digits
    state = tmp_path / "state.safetensors"
    with pytest.raises(Cancelled):
        evaluate(net, x, y, eps=0.2, effort="quick", trust=False, state=state, on_progress=Stop("PGD margin"))
    made = evaluate(net, x, y, eps=0.02, effort="quick", trust=False, state=state)
    assert torch.equal(made.robust, evaluate(net, x, y, eps=0.02, effort="quick", trust=False).robust)


def test_effort_begins_with_the_smaller_one() -> None:
    """A larger effort begins with the smaller one, so what falls to that falls to it too."""
    for norm in NORMS:
        plans = [schedule.stages(norm, effort, 10) for effort in schedule.EFFORTS]
        for less, more in pairwise(plans):
            assert more[: len(less)] == less
            assert len(more) > len(less)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_towards_classes_is_an_attack(norm: Any, net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """All targets at once: verdicts and margins are those of the images, in the ball; a slice is the slice."""
    net, x, y = copy.deepcopy(net).double(), digits[0].double(), digits[1]
    eps = torch.full((len(x),), NORMS[norm])
    streams = Streams.of(0, torch.arange(len(x)))
    made = towards(net, x, y, eps=eps, norm=norm, targets=3, steps=6, streams=streams)
    logits = net(made.x_adv)
    assert 0 < int(made.success.sum()) < len(x)
    assert torch.equal(logits.argmax(1) != y, made.success)
    assert torch.allclose(margin(logits, y), made.trace["margin"], atol=1e-5)
    assert (made.distance[norm] <= eps).all()
    rows = torch.tensor([1, 4, 17])
    part = towards(net, x[rows], y[rows], eps=eps[rows], norm=norm, targets=3, steps=6, streams=streams.take(rows))
    assert torch.allclose(part.x_adv, made.x_adv[rows], atol=1e-6)
    assert torch.equal(part.forwards, made.forwards[rows])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_nearest_classes_are_those_of_a_linear_model(norm: str) -> None:
    """A class far behind in its logit is the nearest where its logit is the steepest; temperature changes nothing."""
    weights = torch.zeros(4, 4)
    weights[1, 0], weights[2, 1], weights[3] = 1.0, 10.0, torch.tensor([0.0, 0.0, 3.0, 3.0])
    bias = torch.tensor([10.0, 9.0, 5.0, 6.5])
    slope = {"linf": [1.0, 10.0, 6.0], "l2": [1.0, 10.0, 18**0.5], "l1": [1.0, 10.0, 3.0]}[norm]
    truth = torch.tensor([1.0, 5.0, 3.5]).div(torch.tensor(slope)).argsort() + 1
    for temperature in (1.0, 100.0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
        with torch.no_grad():
            net[1].weight.copy_(weights / temperature)
            net[1].bias.copy_(bias / temperature)
        found = nearest_classes(net, torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), norm)
        assert found.tolist() == [truth.tolist()] * 3
    with torch.no_grad():
        net[1].weight.zero_()
    flat = nearest_classes(net, torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64), norm)
    assert flat.tolist() == [[1, 3, 2]]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_boundary_outside_is_pulled_into_the_ball(norm: str, net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """What FAB finds beyond eps is kept inside as the best attempt, with its margin."""
    x, y = digits
    eps = torch.full((len(x),), NORMS[norm] / 4)
    given = Subject(net, x, y, norm, NORMS[norm] / 4, torch.arange(len(x)))
    state = CascadeState.first(given, net(x))
    stage = Stage("FAB", fab, {"steps": 10, "targets": 1}, fixed_eps=False)
    cascade.run_stage(stage, 0, given, eps, torch.arange(len(x)), state)
    stand = ~state.fooled
    assert stand.any()
    assert (state.margin < state.clean)[stand].all()
    assert (distances(state.x_adv, x)[norm] <= eps).all()
    assert torch.allclose(margin(net(state.x_adv), y)[stand], state.margin[stand], atol=1e-5)
    assert not state.boundary_outside_box.any()


@pytest.mark.real_data
def test_quick_finds_the_way_on_an_interval_trained_network(interval_trained: Any) -> None:
    """MNIST, l2 2.0, 40 images: 4 stand; 16 did while FAB came from the other side of the box."""
    made = evaluate(*interval_trained, norm="l2", eps=2.0, effort="quick", trust=False)
    assert made.robust.sum() <= 7
    assert (made.forwards + made.backwards).float().mean() < 130


@pytest.mark.parametrize(("slope", "lost"), [(0.1, True), (1.0, False)])
def test_image_whose_slope_leads_astray_is_known(slope: float, lost: bool) -> None:
    """Too flat at the image for any boundary in the box, steep later: worth a stage that is for such images."""

    class Bend(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = x.flatten(1).mean(1)
            return torch.stack([0.5 - slope * mean - 10 * (mean - 0.3).clamp(min=0), torch.zeros_like(mean)], 1)

    seen: list[int] = []

    def second(model: nn.Module, x: Tensor, y: Tensor, **_settings: Any) -> AttackResult:
        seen.append(len(x))
        zeros = torch.zeros_like(y)
        return AttackResult(x, zeros.bool(), distances(x, x), zeros, zeros, {"margin": margin(model(x), y)})

    x, y, rows = torch.zeros(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64), torch.arange(3)
    eps = torch.full((3,), 0.5)
    given = Subject(Bend(), x, y, "l2", 0.5, rows)
    state = CascadeState.first(given, Bend()(x))
    for stage in (
        Stage("FAB", fab, {"steps": 15}, fixed_eps=False),
        Stage("for the lost", second, {}, only_outside=True),
    ):
        cascade.run_stage(stage, 0, given, eps, rows, state)
    assert state.boundary_outside_box.tolist() == [lost] * 3
    assert (state.nearest > eps).all()
    assert state.nearest.isfinite().all()
    assert seen == ([3] if lost else [])


@pytest.mark.slow
def test_largest_effort_leaves_no_more(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Run in full, it leaves no image that the smallest one fools, and spends AutoAttack's queries on what stands."""
    x, y = (part[:4] for part in digits)
    quick = evaluate(net, x, y, eps=0.06, effort="quick", trust=False)
    most = evaluate(net, x, y, eps=0.06, effort="at_least_autoattack", trust=False)
    assert not (most.robust & ~quick.robust).any()
    assert most.forwards[most.robust].min() > 5000


def test_evaluate_at_zero_is_clean_accuracy(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """In a ball of size 0 nothing falls."""
    made = evaluate(net, *digits, eps=0.0, trust=False)
    assert torch.equal(made.robust, made.clean)


def test_model_that_hides_its_gradients_falls(
    net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an input rounded in steps gradients are zero: they pass straight through, or Square finds the way."""

    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """Logits of the rounded image."""
            return net((x * 24).round() / 24)

    x, y = digits
    made = evaluate(Rounded(), x, y, eps=0.15, effort="standard", trust=False)
    assert made.robust_accuracy < 0.2
    assert made.clean_accuracy > 0.5
    assert any("straight-through" in name for name in made.found_by)
    monkeypatch.setattr(gradient_masked, "gradients_mislead", lambda *_, **__: False)
    made = evaluate(Rounded(), x, y, eps=0.15, effort="quick", trust=False)
    assert made.robust_accuracy < 0.5
    assert (made.found_by == "Square, marked").any()


def test_evaluate_is_importable_from_the_package() -> None:
    """As the design says; asking for it is what loads torch (tests/test_layers), and there is nothing else."""
    import core.evaluation as package

    assert package.evaluate is evaluate
    assert package.Evaluation.__name__ == "Evaluation"
    with pytest.raises(AttributeError, match="attribute evaluation"):
        _ = package.evaluation
