"""Models that only look robust fall under the evaluation; what the report finds counts; warnings come first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from core.__main__ import main
from core.attacks.engine.geometry import distances
from core.evaluation.robust import digging, gradient_masked, in_parts, robust
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.schedule import EFFORTS, stages, straight_through
from core.evaluation.robust.state import CascadeState, Subject
from core.evaluation.robust.with_checks import with_checks
from core.evaluation.trust.examination import Fooled
from core.evaluation.trust.examine import examine
from core.evaluation.trust.report import Check, Trust, warning_of
from core.evaluation.trust.rules import RULES
from core.jobs import queue
from core.models.saved import load_model
from core.progress import Cancelled
from core.specs import EvaluateSpec
from core.storage import store
from tests.attacks.engine.test_stand_ins import ROUNDING, jpeg_like
from tests.evaluation.trust.decoys import DECOYS, TRAINED, Decoy, X, Y

EPS = 0.15
"""A ball in which few digits of the bundled model stand."""
X_FEW, Y_FEW = X[TRAINED:][:60], Y[TRAINED:][:60]


@pytest.fixture
def honest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> nn.Module:
    """The bundled digits network."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    return load_model("digits-lenet-standard", tmp_path).model


def _resized(model: nn.Module, x: Tensor) -> Tensor:
    side = 7 + int(torch.randint(2, (1,)))
    left, upper = (int(torch.randint(9 - side, (1,))) for _ in range(2))
    small = nn.functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    return model(nn.functional.pad(small, (left, 8 - side - left, upper, 8 - side - upper)))


MISLEADING: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "JPEG-like": jpeg_like,
    "four bits": lambda model, x: model((15 * x).floor() / 15),
    "bytes": ROUNDING["bytes, divided"],
    **{
        name: DECOYS[name]
        for name in (
            "no gradient comes back",
            "another pixel's gradient comes back",
            "the gradient is NaN at 0",
            "a sigmoid of huge slope",
        )
    },
}


@pytest.fixture(scope="module")
def true_accuracy(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The robust accuracy of the honest model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
        model = load_model("digits-lenet-standard", tmp_path_factory.mktemp("empty")).model
    return evaluate(model, X_FEW, Y_FEW, eps=EPS, effort="quick", trust=False).robust_accuracy


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", MISLEADING)
def test_model_whose_gradients_mislead_is_fooled(name: str, honest: nn.Module, true_accuracy: float) -> None:
    """Quick, in a ball in which nearly all of the honest model falls, most of a decoy around it falls as well.

    A threshold takes away most of a small change, so that one is left with more (and stood at .75 before).
    """
    made = evaluate(Decoy(honest, MISLEADING[name]), X_FEW, Y_FEW, eps=EPS, effort="quick", trust=False)
    assert true_accuracy < 0.2
    assert made.clean_accuracy > 0.8
    assert made.robust_accuracy < (0.62 if "sigmoid" in name else 0.4)
    assert (made.x_adv - X_FEW).abs().max() <= EPS + 1e-6


@pytest.mark.parametrize("misleads", [True, False])
def test_parts_share_the_answer_whether_gradients_mislead(
    misleads: bool, honest: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one of all images, and parts that are given it have the verdicts of the whole."""
    monkeypatch.setattr(digging, "BLOCK", 20)
    model = Decoy(honest, MISLEADING["four bits"]) if misleads else honest
    how: dict[str, Any] = {"norm": "linf", "eps": EPS / 3, "effort": "quick", "seed": 0}
    index = torch.arange(60) + 7
    whole = evaluate(model, X_FEW, Y_FEW, index=index, trust=False, **how)
    found = in_parts.first_look(model, X_FEW, Y_FEW, index=index, **how)
    assert found.mislead == misleads
    cuts = [slice(0, 20), slice(20, 40), slice(40, 60)]
    parts = [evaluate(model, X_FEW[cut], Y_FEW[cut], index=index[cut], trust=False, found=found, **how) for cut in cuts]
    assert torch.cat([part.robust for part in parts]).tolist() == whole.robust.tolist()
    assert [name for part in parts for name in part.found_by] == whole.found_by.tolist()
    assert any("straight-through" in name for name in whole.found_by) == misleads


@pytest.mark.parametrize("name", ["noise", pytest.param("resize", marks=pytest.mark.slow)])
def test_random_model_is_judged_by_the_mean_of_draws(name: str, honest: nn.Module) -> None:
    """It falls, its passes are counted, the same call gives the same, and its figure is marked."""
    answer = DECOYS["noise before each answer"] if name == "noise" else _resized
    model, passed = Decoy(honest, answer), []
    handle = model.register_forward_hook(lambda _, given, __: passed.append(len(given[0])))
    made = evaluate(model, X_FEW[:24], Y_FEW[:24], eps=EPS, effort="quick", trust=False)
    total = sum(passed)
    handle.remove()
    assert made.clean_accuracy > 0.7
    assert made.robust_accuracy < 0.5
    assert not made.usable
    assert made.warning.startswith("The model's outputs are random.")
    assert total * 0.95 < made.forwards.sum() <= total
    torch.rand(5)
    again = evaluate(model, X_FEW[:24], Y_FEW[:24], eps=EPS, effort="quick", trust=False)
    assert torch.equal(again.x_adv, made.x_adv)
    assert torch.equal(again.robust, made.robust)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_honest_model_is_evaluated_as_before(norm: str, honest: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage is added, and every bit is what it is without the look at gradients and answers."""
    phases: list[str] = []
    settings: dict[str, Any] = {"norm": norm, "eps": {"linf": 0.05, "l2": 0.5}[norm], "effort": "quick"}
    made = evaluate(
        honest, X_FEW, Y_FEW, on_progress=lambda *_, phase="", **__: phases.append(phase), trust=False, **settings
    )
    assert made.robust.any()
    assert not any("straight" in phase or "masked" in phase for phase in phases)
    assert made.usable
    monkeypatch.setattr(gradient_masked, "gradients_mislead", lambda *_, **__: False)
    monkeypatch.setattr(gradient_masked, "outputs_vary", lambda *_, **__: False)
    bare = evaluate(honest, X_FEW, Y_FEW, trust=False, **settings)
    for name in ("robust", "x_adv", "upper", "forwards", "backwards"):
        assert torch.equal(getattr(made, name), getattr(bare, name)), name


def test_look_costs_little(honest: nn.Module) -> None:
    """At most 40 passes of a few images, whatever the number of images."""
    passed: list[int] = []
    handle = honest.register_forward_hook(lambda _, given, __: passed.append(len(given[0])))
    rows = torch.arange(len(X_FEW))
    assert not gradient_masked.outputs_vary(honest, X_FEW)
    assert not gradient_masked.gradients_mislead(Subject(honest, X_FEW, Y_FEW, "linf", EPS, rows))
    handle.remove()
    assert sum(passed) <= 40 * gradient_masked.FEW


def test_stopped_evaluation_of_a_gradient_masked_model_resumes(honest: nn.Module, tmp_path: Path) -> None:
    """The added stages are part of the run that resumes."""
    model, state, seen = Decoy(honest, ROUNDING["round"]), tmp_path / "state.safetensors", []
    whole = evaluate(model, X_FEW, Y_FEW, eps=EPS, effort="quick", trust=False)

    def stop(*_: Any, phase: str = "", **__: Any) -> None:
        if phase == "PGD log-odds, straight-through":
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(model, X_FEW, Y_FEW, eps=EPS, effort="quick", trust=False, state=state, on_progress=stop)
    rest = evaluate(
        model,
        X_FEW,
        Y_FEW,
        eps=EPS,
        effort="quick",
        trust=False,
        state=state,
        on_progress=lambda *_, phase="", **__: seen.append(phase),
    )
    assert "one step" not in seen
    assert torch.equal(rest.x_adv, whole.x_adv)
    assert rest.found_by.tolist() == whole.found_by.tolist()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_added_stages_run_in_every_norm(norm: str, honest: nn.Module) -> None:
    """Each norm has some, at each effort, and a larger effort has more."""
    sizes = [len(list(straight_through(norm, effort))) for effort in EFFORTS]
    assert 0 < sizes[0] < sizes[1]
    model = Decoy(honest, ROUNDING["round"])
    eps = {"linf": 0.1, "l2": 0.8, "l1": 3.0, "l0": 3.0}[norm]
    made = evaluate(model, X_FEW[:16], Y_FEW[:16], norm=norm, eps=eps, effort="quick", trust=False)
    assert any("straight-through" in name for name in made.found_by)


# ---------------------------------------------------------------- what the report finds


def weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let evaluations attack nothing, so that all is left to the report."""
    monkeypatch.setattr(robust, "stages", lambda norm, effort, classes: stages(norm, effort, classes)[:0])


def test_what_the_report_fools_enters_the_figure(honest: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, distances and names are those of the report's attacks, verified; all images were looked at."""
    weak(monkeypatch)
    made = evaluate(honest, X_FEW, Y_FEW, eps=EPS, effort="quick")
    assert made.trust is not None
    assert made.trust.check("missed").verdict == "fail"
    assert made.robust_accuracy == pytest.approx(made.trust.accuracy["all of the report"], abs=0.04)
    fallen = made.clean & ~made.robust
    assert fallen.sum() > 10
    assert all(made.found_by[int(row)].startswith("reliability checks: ") for row in fallen.nonzero()[:, 0])
    assert torch.equal(honest.eval()(made.x_adv).argmax(1) == Y_FEW, made.robust)
    size = distances(made.x_adv, X_FEW)["linf"].double()
    torch.testing.assert_close(made.upper[fallen], size[fallen])
    assert made.upper[fallen].max() <= EPS
    assert made.usable


def test_figure_that_the_report_belies_is_not_to_be_used(honest: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it looked at some images only, the rest is unknown: the warning says so, with the bound that it knows."""
    weak(monkeypatch)
    x, y = X[TRAINED:][:130], Y[TRAINED:][:130]
    made = evaluate(honest, x, y, eps=EPS, effort="quick")
    share = made.robust[:100].double().mean().item()
    assert share < 0.5
    assert made.robust[100:].double().mean() > 0.8
    assert not made.usable
    assert "the other 30 may be fooled as well" in made.warning
    assert f"On the 100 images that were checked, robust accuracy is at most {share:.1%}." in made.warning
    assert made.trust is not None
    assert made.trust.warning == made.warning
    assert made.trust.line().startswith("do not use this accuracy: reliability checks: fail")
    assert made.trust.to_markdown().startswith("**Do not use this accuracy.**")
    assert Trust.from_json(json.loads(json.dumps(made.trust.to_json()))) == made.trust


@pytest.mark.slow
def test_what_does_not_fool_again_does_not_enter(honest: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the ball, outside the box, or read correctly: such an image changes nothing."""
    weak(monkeypatch)
    made = evaluate(honest, X_FEW, Y_FEW, eps=EPS, effort="quick", trust=False)
    judged, _ = examine(honest, X_FEW, Y_FEW, eps=EPS)
    images = X_FEW.clone()
    images[0], images[1] = (X_FEW[0] + 0.5).clamp(0, 1), X_FEW[1] + 0.1
    fooled = Fooled(images, ["PGD"] * 3 + [""] * 57)
    after = with_checks(made, judged, fooled, honest.eval(), X_FEW, Y_FEW, 10)
    assert torch.equal(after.robust, made.robust)
    assert torch.equal(after.x_adv, made.x_adv)
    assert after.found_by.tolist() == made.found_by.tolist()


# ---------------------------------------------------------------- said first


def marked(n: int = 100, bad: dict[str, float] | None = None, **more: Any) -> Trust:
    """A report in which these checks measured something bad."""
    values = {name: 0.5 if rule.below else 0.0 for name, rule in RULES.items()} | (bad or {})
    checks = tuple(Check.of(name, value, f"Measured {value}.", n) for name, value in values.items())
    return Trust(checks, "linf", 0.1, n, 0, "quick", {"clean": 1.0}, ((0.0, 1.0), (0.1, 0.5)), (), 10, 10, **more)


def test_reports_of_before_are_read_with_their_warning() -> None:
    """A card without one: what its report found did not enter its figure, so a failed check forbids the figure."""
    for bad, warned in (({}, False), ({"missed": 0.3}, True), ({"randomness": 1.0}, True), ({"gradients": 1.0}, False)):
        old = marked(bad=bad).to_json()
        del old["warning"]
        assert bool(Trust.from_json(old).warning) is warned
        assert Trust.from_json(old | {"warning": ""}).warning == ""


def test_warning_hangs_on_what_was_left_out() -> None:
    """Of 100 images that all entered there is none; of 1,000 there is; none where nothing fooled again."""
    report = marked(bad={"missed": 0.3})
    assert warning_of(report.checks, report.n, 100, 0.3) == ""
    assert "the other 900" in warning_of(report.checks, report.n, 1000, 0.3)
    assert warning_of(report.checks, report.n, 1000, 0.0) == ""


def _evaluated(warning: str) -> Callable[..., Evaluation]:
    def evaluated(model: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Evaluation:
        made = evaluate(model, x, y, norm="linf", eps=settings["eps"], effort="quick", trust=False)
        return replace(made, trust=marked(len(x), {"missed": 0.3}, warning=warning), warning=warning)

    return evaluated


def test_command_line_says_it_first(
    trained_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` and `trust` begin with it; JSON has both keys first, and so has the card."""
    monkeypatch.setattr("core.evaluation.tasks.evaluate.evaluate", _evaluated("It is a decoy."))
    root = shutil.copytree(trained_store, tmp_path / "copy")
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    spec = EvaluateSpec(model="digits-mlp-standard", eps=0.071, effort="quick", n=20)
    made = queue.run(spec, root)
    assert isinstance(made, store.Artifact)
    assert (made.card["usable"], made.card["warning"]) == (False, "It is a decoy.")
    asked = ["--model", "digits-mlp-standard", "--eps", "0.071"]
    assert main(["evaluate", *asked, "--effort", "quick", "--n", "20"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("DO NOT USE THIS ACCURACY. It is a decoy.")
    assert out.split()[:2] == ["usable", "NO,"]
    assert main(["evaluate", *asked, "--effort", "quick", "--n", "20", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed)[:2] == ["usable", "warning"]
    assert (printed["usable"], printed["warning"]) == (False, "It is a decoy.")
    assert main(["trust", *asked]) == 0
    assert capsys.readouterr().err.startswith("DO NOT USE THIS ACCURACY. It is a decoy.")


def test_page_says_it_first() -> None:
    """An error above the verdict of the checks, and a word in the table's cell."""
    from ui.measure import trust_views

    def page(given: object) -> None:
        from ui.measure.trust_views import show_trust

        show_trust(given)  # type: ignore[arg-type]

    report = marked(bad={"missed": 0.3}, warning="It is a decoy.")
    app = AppTest.from_function(page, args=(report.to_json(),), default_timeout=20).run()
    assert not app.exception
    assert app.error[0].value == "**Do not use this accuracy.** It is a decoy."
    assert trust_views.word(report) == "✗ do not use"


def test_confirm_puts_back_what_was_luck() -> None:
    """What a stage fooled by luck stands again; what fools again does not."""
    x = torch.zeros(2, 1, 2, 2)
    x[1] = 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        model[1].bias.copy_(torch.tensor([1.0, -1.0]))
    y = torch.zeros(2, dtype=torch.int64)
    state = CascadeState.first(Subject(model, x, y, "linf", 1.0, torch.arange(2)), model(x).detach())
    state.fooled[:], state.found[:] = True, 3
    gradient_masked.confirm(model, y, state, 3)
    assert state.fooled.tolist() == [False, True]
    assert state.found.tolist() == [-1, 3]
