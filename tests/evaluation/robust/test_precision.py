"""Which evaluations search in half precision; their verdicts are in float32, however they are cut or stopped."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.engine import in_half
from core.evaluation.robust import digging, in_parts, precision, robust
from core.evaluation.robust.precision import rounding_in_half
from core.evaluation.robust.robust import evaluate
from core.progress import Cancelled

HOW: dict[str, Any] = {"norm": "linf", "eps": 0.06, "effort": "standard", "trust": False}


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """48 images of digits with their classes."""
    found = load_digits()
    return torch.tensor(found.images[-48:] / 16, dtype=torch.float32)[:, None], torch.tensor(found.target[-48:])


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A convolutional network with batch norm, trained on digits for a moment."""
    found = load_digits()
    x, y = torch.tensor(found.images[:1400] / 16, dtype=torch.float32)[:, None], torch.tensor(found.target[:1400])
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 9, 10)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for rows in torch.randint(len(x), (60, 128), generator=torch.Generator().manual_seed(1)):
        noise = 0.06 * torch.randn(128, 1, 8, 8, generator=torch.Generator().manual_seed(int(rows[0]))).sign()
        optimizer.zero_grad()
        F.cross_entropy(model((x[rows] + noise).clamp(0, 1)), y[rows]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16, and a network that is large enough."""
    monkeypatch.setattr(precision, "native", lambda device: True)
    monkeypatch.setattr(precision, "LEAST", 0)


@pytest.mark.usefixtures("fast")
def test_model_of_float32_bears_it(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Its margins are rounded by about bfloat16's unit; weights and mode are left alone."""
    before = copy.deepcopy(net.state_dict())
    assert 1e-5 < rounding_in_half(net, *digits) < torch.finfo(torch.bfloat16).eps
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


class Strict(nn.Module):
    """It takes no numbers but float32 inside."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        if self.net[0](x).dtype != torch.float32:
            raise TypeError("expected float32")
        return self.net(x)


class Jagged(nn.Module):
    """A wave is added, too low to matter to the logits, whose slope is another one when its argument is rounded."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.first, self.last = net, nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.net(x) + 1e-2 * self.last((3e3 * self.first(x.flatten(1))).sin())


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("kind", ["double", "half", "strict", "jagged", "no layer", "flat"])
def test_other_models_are_left_alone(kind: str, net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Weights of another type, one that fails in half precision, one whose gradients differ, one without layers."""
    x, y = digits
    torch.manual_seed(2)
    models = {
        "double": lambda: copy.deepcopy(net).double(),
        "half": lambda: copy.deepcopy(net).bfloat16(),
        "strict": lambda: Strict(net),
        "jagged": lambda: Jagged(net),
        "no layer": lambda: nn.Sequential(nn.Flatten(), nn.Softplus()),
        "flat": lambda: nn.Sequential(copy.deepcopy(net), nn.Hardtanh(50, 60), nn.Linear(10, 10)),
    }
    model = models[kind]().eval().requires_grad_(False)
    x = x.double() if kind == "double" else x.bfloat16() if kind == "half" else x
    assert rounding_in_half(model, x, y) == 0


def test_slow_processors_and_small_networks_are_left_alone(
    net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it does not pay, the evaluation never computes in half precision."""

    def refuse(*_: Any) -> Tensor:
        raise AssertionError("asked in half precision")

    monkeypatch.setattr(in_half, "half_logits", refuse)
    monkeypatch.setattr(precision, "native", lambda device: True)
    assert rounding_in_half(net, *digits) == 0  # too small
    monkeypatch.setattr(precision, "LEAST", 0)
    monkeypatch.setattr(precision, "native", lambda device: False)
    assert rounding_in_half(net, *digits) == 0
    evaluate(net, *digits, **{**HOW, "effort": "quick"})


@pytest.mark.usefixtures("fast")
def test_verdicts_are_those_of_float32(
    net: nn.Module, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image that is fooled fools in float32; as many are as without, give or take the luck of two searches."""
    x, y = digits
    asked = []
    real = in_half.half_logits
    monkeypatch.setattr(in_half, "half_logits", lambda *given: (asked.append(1), real(*given))[1])
    made = evaluate(net, x, y, **HOW)
    assert len(asked) > 100
    monkeypatch.setattr(precision, "native", lambda device: False)
    plain = evaluate(net, x, y, **HOW)
    with torch.no_grad():
        found = net(made.x_adv).argmax(1) != y
    assert torch.equal(found, ~made.robust)
    assert 0.1 < plain.robust_accuracy < 0.9
    assert int((made.robust != plain.robust).sum()) <= 2
    assert made.changed == 0


@pytest.mark.usefixtures("fast")
def test_parts_and_a_run_that_resumes_end_in_the_same(
    net: nn.Module, digits: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether searches are rounded, and by how much, is found once, kept with the state and handed to each part."""
    x, y = digits
    monkeypatch.setattr(digging, "BLOCK", 24)
    index, how = torch.arange(48) + 3, HOW | {"effort": "quick"}
    whole = evaluate(net, x, y, index=index, **how)
    found = in_parts.first_look(net, x, y, norm="linf", eps=0.06, effort="quick", seed=0, index=index)
    assert found.half > 0
    cuts = (slice(0, 24), slice(24, 48))
    parts = [evaluate(net, x[cut], y[cut], index=index[cut], found=found, **how) for cut in cuts]
    assert torch.equal(torch.cat([part.robust for part in parts]), whole.robust)

    def stop(done: int, total: int, **more: Any) -> None:
        if more.get("phase") == "APGD ce, start 1":
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(net, x, y, index=index, state=tmp_path / "state", on_progress=stop, **how)
    monkeypatch.setattr(robust, "first_look", None)  # it is known by then
    again = evaluate(net, x, y, index=index, state=tmp_path / "state", **how)
    assert torch.equal(again.x_adv, whole.x_adv)
    assert again.found_by.tolist() == whole.found_by.tolist()
