"""JSMA: the paper's pair to the last tie, on logits and probabilities; its search domain and its limits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import jsma
from core.attacks.engine.engine import admitted
from core.attacks.engine.losses import Goal
from core.attacks.sparse import saliency
from core.attacks.sparse.saliency import OUTPUTS, Outputs, best_pair, best_pairs, slopes
from core.specs import Jsma

Batch = tuple[Tensor, Tensor]


def all_pairs(up: Tensor, down: Tensor, free: Tensor) -> tuple[list[list[int]], list[bool]]:
    """Algorithm 3's map as it is written: every pair p < q, the first of the largest saliency."""
    chosen, found = [], []
    for a, b, allowed in zip(up.tolist(), down.tolist(), free.tolist(), strict=True):
        best, pair = 0.0, [0, 0]
        for p in range(len(a)):
            for q in range(p + 1, len(a)):
                rise, fall = a[p] + a[q], b[p] + b[q]
                if allowed[p] and allowed[q] and rise > 0 and fall > 0 and rise * fall > best:
                    best, pair = rise * fall, [p, q]
        chosen.append(pair)
        found.append(best > 0)
    return chosen, found


@pytest.mark.parametrize("crowd", [0, 200])
@pytest.mark.parametrize("kind", ["ties", "normal", "opposed", "none"])
def test_best_pair_is_that_of_all_pairs(kind: str, crowd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pair as the search through all of them, ties included, with and without the thinning by a sort."""
    monkeypatch.setattr(saliency, "CROWD", crowd)
    generator = torch.Generator().manual_seed(0)
    for size in (2, 3, 9, 25):
        up, down = torch.randn(2, 30, size, generator=generator)
        if kind == "ties":
            up, down = (2 * up).round(), (2 * down).round()
        if kind == "opposed":
            down = 0.3 * down - up
        if kind == "none":
            up = -up.abs()
        free = torch.rand(30, size, generator=generator) > 0.2
        pair, found = best_pair(up, down, free)
        expected, exists = all_pairs(up.double(), down.double(), free)
        assert found.tolist() == exists
        assert pair[found].tolist() == [p for p, there in zip(expected, exists, strict=True) if there]
        assert size < 9 or found.any() == (kind != "none")


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_best_pairs_are_those_of_all_pairs_again_and_again(one: bool, ties: bool) -> None:
    """Each is as good as the best of a search through all pairs of what is left, and they are found as long as it is.

    `one`: both rows are the same. Without ties it is the very pair.
    """
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3, 9, 25):
        up, down = torch.randn(2, 40, size, generator=generator) - 0.4
        up, down = ((2 * up).round(), (2 * down).round()) if ties else (up, down)
        down = up if one else down
        free = torch.rand(40, size, generator=generator) > 0.3
        pairs, found = best_pairs(up, None if one else down, free, 3)
        assert pairs.shape == (40, 3, 2)
        assert 0 < found.sum() < 120 or size == 1
        for place in range(3):
            expected, exists = all_pairs(up.double(), down.double(), free)
            assert (found > place).tolist() == exists
            for row in (found > place).nonzero()[:, 0].tolist():
                mine, best = pairs[row, place].sort().values, torch.tensor(expected[row])
                assert free[row, mine].all()
                assert up[row, mine].sum() * down[row, mine].sum() == up[row, best].sum() * down[row, best].sum()
                assert ties or torch.equal(mine, best)
                free[row, mine] = False


@pytest.mark.parametrize("one", [True, False])
def test_best_pairs_of_one_feature_are_none(one: bool) -> None:
    """A pair needs two."""
    ones = torch.ones(3, 1)
    assert not best_pairs(ones, None if one else ones, ones > 0, 2)[1].any()


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_slopes_are_rows_of_the_whole_jacobian(net: nn.Module, few: Batch, outputs: Outputs) -> None:
    """Of the softmax up to the factor p (1 - p) of each image, of the logits exactly; the others' sum likewise."""
    x, y = few[0][:10].double(), few[1][:10]
    model = copy.deepcopy(net).double().eval().requires_grad_(False)
    logits, up, down = slopes(model, x, Goal(y, targeted=False), outputs)
    torch.testing.assert_close(logits, model(x))
    leaf = x.clone().requires_grad_()
    out = model(leaf) if outputs == "logits" else model(leaf).softmax(1)
    rows = torch.stack([torch.autograd.grad(out[:, k].sum(), leaf, retain_graph=True)[0] for k in range(10)], 1)
    rows, one = rows.flatten(2), torch.arange(10)
    own, others = rows[one, y], rows.sum(1) - rows[one, y]
    if outputs == "probabilities":
        assert down is None
        share = out[one, y, None].detach()
        up = up * share * (1 - share)
    torch.testing.assert_close(up, own, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(up if down is None else down, -others, rtol=1e-6, atol=1e-12)


def test_slopes_of_probabilities_live_where_the_softmax_is_saturated(net: nn.Module, few: Batch) -> None:
    """Logits a thousand times as large change nothing but the length, though every probability is 0 or 1."""
    x, y = few
    model = copy.deepcopy(net).eval().requires_grad_(False)
    loud = nn.Sequential(model, Times(1000.0))
    assert set(loud(x).softmax(1).unique().tolist()) == {0.0, 1.0}
    result = jsma(loud, x, y, outputs="probabilities", gamma=0.5)
    assert result.success.all()


class Times(nn.Module):
    """A factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return self.factor * x


def literally(
    model: nn.Module,
    x: Tensor,
    label: int,
    theta: float,
    steps: int,
    *,
    targeted: bool,
    outputs: Outputs = "logits",
    taylor: bool = False,
) -> tuple[Tensor, bool]:
    """Algorithm 3, one image (1, C, H, W), one step after the other, with the whole Jacobian and the whole map."""
    image, end = x.clone(), 1.0 if theta > 0 else 0.0
    free = (image - end).abs() > 0.01
    for step in range(steps + 1):
        leaf = image.clone().requires_grad_()
        logits = model(leaf)[0]
        fooled = (int(logits.argmax()) == label) == targeted
        if fooled or step == steps:
            return image, fooled
        out = logits if outputs == "logits" else logits.softmax(0)
        rows = torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in out]).flatten(1)
        rows = rows * (end - image.flatten()).abs().clamp(max=abs(theta)) if taylor else rows
        sign = (1 if targeted else -1) * (1 if theta > 0 else -1)
        up, down = sign * rows[label], -sign * (rows.sum(0) - rows[label])
        pair, found = all_pairs(up[None].double(), down[None].double(), free.flatten(1))
        if not found[0]:
            return image, False
        flat = image.flatten()
        flat[pair[0]] = (flat[pair[0]] + theta).clamp(0, 1)
        free.flatten()[pair[0]] = flat[pair[0]] != end
    raise AssertionError


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", [{}, {"outputs": "probabilities"}, {"taylor": True}])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("theta", [1.0, -1.0, 0.3])
def test_jsma_is_the_papers_algorithm(
    net: nn.Module, few: Batch, theta: float, targeted: bool, kind: dict[str, Any]
) -> None:
    """Image by image and pixel by pixel what the algorithm gives when it is written down naively, in float64."""
    x, y = few[0][:10].double(), few[1][:10]
    model = copy.deepcopy(net).double().eval()
    y_target = (y + 1) % 10 if targeted else None
    result = jsma(net_of(model), x, y, theta=theta, gamma=0.4, y_target=y_target, batch=4, **kind)
    assert result.success.any()
    for row in range(len(x)):
        label = int((y if y_target is None else y_target)[row])
        image, fooled = literally(model, x[row : row + 1], label, theta, 13, targeted=targeted, **kind)
        torch.testing.assert_close(result.x_adv[row : row + 1], image, rtol=0, atol=1e-12)
        assert bool(result.success[row]) == fooled


def net_of(model: nn.Module) -> nn.Module:
    """In train mode: the attack must not care."""
    return copy.deepcopy(model).train()


def test_jsma_only_brightens_or_only_darkens(net: nn.Module, few: Batch) -> None:
    """By theta at most at a time, in pairs, never more than the share gamma rounded up to a pair."""
    x, y = few
    for theta in (1.0, -1.0):
        result = jsma(net, x, y, theta=theta, gamma=0.2)
        moved = (result.x_adv - x) * theta
        assert (moved >= 0).all()
        assert ((result.x_adv == (1.0 if theta > 0 else 0.0)) | (moved == 0)).all()
        assert torch.equal(result.distance["l0"], 2 * result.trace["steps"])
        assert result.distance["l0"].max() <= 14  # ceil(64 * 0.2 / 2) pairs


def test_jsma_gives_up_where_no_pair_helps() -> None:
    """Every feature raises both logits: no pair raises the one and lowers the others."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model[1].weight.data = torch.tensor([[2.0, 2, 2, 2], [1.0, 1, 1, 1], [0.0, 1, 1, 1]])
    model[1].bias.data = torch.tensor([3.0, 0, 0])
    x = torch.zeros(1, 1, 2, 2)
    result = jsma(model, x, torch.tensor([0]), y_target=torch.tensor([1]), gamma=1.0)
    assert not result.success.any()
    assert result.trace["stuck"].all()
    assert torch.equal(result.x_adv, x)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_jsma_counts_its_passes(net: nn.Module, few: Batch, outputs: Outputs) -> None:
    """One forward pass a step and one row of the Jacobian or two, the last verdict, a success's verification."""
    result = jsma(net, *few, gamma=0.5, outputs=outputs)
    price = 2 if outputs == "logits" else 1
    steps = result.trace["steps"]
    at_the_end = (steps == 16) | (result.trace["stuck"] & ~result.success)
    assert torch.equal(result.forwards, steps + 1 + result.success)
    assert torch.equal(result.backwards, price * (steps + (~at_the_end | result.trace["stuck"]).long()))
    for budget in (5, 12):
        capped = jsma(net, *few, gamma=0.5, outputs=outputs, budget=budget)
        assert (capped.forwards + capped.backwards).max() <= budget
        assert capped.trace["steps"].max() == min(steps.max(), (budget - 2) // (price + 1))


@pytest.mark.parametrize("pairs", [1, 3])
def test_jsma_of_probabilities_goes_further_with_less(net: nn.Module, digits: Batch, pairs: int) -> None:
    """Towards the next class: not fewer images, features in the mean and the median of both's, passes."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    found = {name: jsma(net, x, y, y_target=(y + 1) % 10, gamma=0.5, pairs=pairs, outputs=name) for name in OUTPUTS}
    logits, probabilities = found["logits"], found["probabilities"]
    assert probabilities.success.sum() >= logits.success.sum()
    both = logits.success & probabilities.success
    assert both.any()
    counts, before = (result.distance["l0"][both].float() for result in (probabilities, logits))
    assert counts.mean() < before.mean()
    assert counts.median() <= before.median()
    assert probabilities.backwards.sum() < 0.6 * logits.backwards.sum()


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_jsma_by_effects_needs_fewer_features(net: nn.Module, digits: Batch, outputs: Outputs) -> None:
    """On digits most strokes are grey, so a derivative is not yet an effect: fewer features, and 98 % of the images."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    plain, taylor = (
        jsma(net, x, y, y_target=(y + 1) % 10, gamma=0.5, outputs=outputs, taylor=taylor) for taylor in (False, True)
    )
    assert taylor.success.sum() >= 0.98 * plain.success.sum()
    both = plain.success & taylor.success
    assert taylor.distance["l0"][both].float().mean() < plain.distance["l0"][both].float().mean()


def test_jsma_spec_of_before_keeps_its_key() -> None:
    """The settings that came later are in no key at their defaults, and in every key otherwise."""
    assert Jsma().body() == {"name": "jsma", "theta": 1.0, "gamma": 0.1}
    assert Jsma(outputs="probabilities").body()["outputs"] == "probabilities"
    assert len({spec.key() for spec in (Jsma(), Jsma(pairs=2), Jsma(outputs="probabilities"), Jsma(taylor=True))}) == 4


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("pairs", [2, 3])
def test_jsma_of_several_pairs_takes_the_needless_ones_back(
    net: nn.Module, few: Batch, pairs: int, outputs: Outputs
) -> None:
    """Every pass that the model sees is told, Jacobians are fewer, and budget and gamma hold."""
    x, y = few
    model = copy.deepcopy(net).eval()
    seen = {"forwards": 0}
    with admitted(model, x):  # the look at what the model bears comes before
        model.register_forward_hook(lambda module, args, out: seen.update(forwards=seen["forwards"] + len(out)))
        result = jsma(model, x, y, gamma=0.5, pairs=pairs, outputs=outputs)
    single = jsma(net, x, y, gamma=0.5, outputs=outputs)
    assert seen["forwards"] - result.forwards.sum() == 1  # the check of the model's shape
    assert result.backwards.sum() < single.backwards.sum()
    assert torch.equal(result.distance["l0"], 2 * result.trace["steps"])
    assert result.trace["steps"].max() <= 16
    assert result.success.any()
    capped = jsma(net, x, y, gamma=0.5, pairs=pairs, outputs=outputs, budget=12)
    assert (capped.forwards + capped.backwards).max() <= 12


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_jsma_of_a_linear_model_needs_one_jacobian(outputs: Outputs) -> None:
    """It says how many pairs are needed: many at once are those that come one by one, and not one is taken back."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    model[1].weight.data = torch.randn(2, 64, generator=generator, dtype=torch.float64)
    x = torch.rand(40, 1, 8, 8, generator=generator, dtype=torch.float64)
    model[1].bias.data = torch.tensor([15.0, 0.0], dtype=torch.float64)
    y = model(x).argmax(1)
    single, many = (jsma(model, x, y, gamma=1.0, pairs=pairs, outputs=outputs) for pairs in (1, 32))
    assert torch.equal(single.x_adv, many.x_adv)
    assert single.success.sum() > 20
    assert many.trace["steps"][many.success].unique().numel() > 2
    assert (many.backwards[many.success] == 2).all()  # the second is that of the verdict


def test_jsma_takes_colour_images() -> None:
    """Features are counted, not pixels: a pair may be two colours of one pixel."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    model[1].weight.data = torch.zeros(3, 12, dtype=torch.float64)
    model[1].weight.data[1, [0, 4]] = 1.0  # two colours of the first pixel
    model[1].weight.data[0, [0, 4]] = -1.0
    model[1].bias.data = torch.tensor([1.5, 0, 0], dtype=torch.float64)
    result = jsma(model, torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.tensor([0]), gamma=1.0)
    assert result.success.all()
    assert result.distance["l0"].tolist() == [2]
    assert result.distance["pixels"].tolist() == [1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "theta": ({"theta": 0.0}, "theta: expected a number from -1 to 1, not 0, got 0.0"),
    "large theta": ({"theta": 1.5}, "theta: expected a number from -1 to 1, not 0, got 1.5"),
    "batch": ({"batch": 0}, "batch: expected at least 1, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_jsma_refuses_bad_settings(net: nn.Module, few: Batch, case: str) -> None:
    """The error names the argument, what was expected and what came."""
    change, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        jsma(net, *few, **change)
