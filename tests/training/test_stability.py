"""Training for stable ReLUs: the loss by hand, fewer open signs, nothing changed without it, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from core import specs
from core.certification.bounds import intervals, linf_box
from core.certification.graph import Unbounded, lower
from core.certification.proof import certified_margins
from core.data.sets import load, to_float
from core.networks.catalogue import build
from core.specs import PgdRecipe, TrainSpec
from core.training import crafting
from core.training.loop import train
from core.training.recipes import batch_loss
from core.training.stability import instability

EPS = 0.1


def open_share(model: nn.Module, x: Tensor) -> float:
    """Share of ReLUs whose sign intervals leave open."""
    graph = lower(model, tuple(x.shape[1:]), torch.float64)
    made = intervals(graph, *linf_box(x.double(), EPS))
    signs = [
        ((low < 0) & (high > 0)).double().flatten(1) for low, high in (made[place] for place in graph.before_relus)
    ]
    return float(torch.cat(signs, dim=1).mean())


def test_instability_by_hand() -> None:
    """One open ReLU, one that is always on, one that is always off."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[10.0], [1.0], [-2.0]]))  # type: ignore[operator]
        model[1].bias.copy_(torch.tensor([-5.0, 1.0, -1.0]))  # type: ignore[operator]
    ends = torch.tensor([[-1.0, 1.0], [1.4, 1.6], [-2.2, -1.8]])  # of 10p - 5, p + 1, -2p - 1 for p in [.4, .6]
    expected = -torch.tanh(1 + ends[:, 0] * ends[:, 1]).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = instability(model, torch.full((1, 1, 1, 1), 0.5), EPS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", ["mlp", "cnn", "lenet", "strided", "resnet_small"])
def test_instability_follows_every_kind_of_layer(network: str) -> None:
    """Within its range, higher for a larger ball, and a step down its slope lowers it."""
    torch.manual_seed(0)
    model, x = build(network, (1, 8, 8), 10).eval(), torch.rand(4, 1, 8, 8)
    small, large = instability(model, x, 0.01), instability(model, x, 0.2)
    assert -1 <= small < large < 1
    weights = [value for value in model.parameters() if value.requires_grad]
    slopes = torch.autograd.grad(large, weights, allow_unused=True)
    with torch.no_grad():
        length = sum(slope.square().sum() for slope in slopes if slope is not None)
        for weight, slope in zip(weights, slopes, strict=True):
            if slope is not None:
                weight -= 1e-3 * slope / length
        assert instability(model, x, 0.2) < large


@pytest.mark.slow
def test_stable_training_leaves_fewer_signs_open() -> None:
    """Half of them at most, linear bounds prove more test digits, and accuracy stays."""
    data = load(specs.DataSpec())
    x, y = to_float(data.test.x), data.test.y
    recipe = {"name": "pgd", "eps": EPS, "steps": 3, "relative_step": 0.5, "warmup": 0.3}
    plain, stable = (
        train(TrainSpec(network="mlp", epochs=8, recipe={**recipe, "stability": weight}), data).model
        for weight in (0.0, 1.0)
    )
    assert open_share(stable, x) < open_share(plain, x) / 2
    sure = [(certified_margins(model, x[:60], y[:60], EPS, method="crown") > 0).sum() for model in (plain, stable)]
    assert sure[1] > sure[0] + 3
    right = [(model(x).argmax(1) == y).double().mean() for model in (plain, stable)]
    assert right[1] > right[0] - 0.06  # over four seeds: from -0.017 to 0.003


def test_without_a_weight_the_loss_is_that_of_before() -> None:
    """Bit for bit plain PGD's, the key of models from before too; with one it is that and the weighted mean."""
    x, y, rows = torch.rand(16, 1, 8, 8), torch.randint(10, (16,)), torch.arange(16)
    model, losses = build("mlp", (1, 8, 8), 10), []
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        losses.append(batch_loss(PgdRecipe(eps=EPS, stability=weight))(model, x, y, rows=rows, progress=1.0)[0])
    torch.manual_seed(0)
    moved = crafting.pgd_images(model, x, y, EPS, steps=10, relative_step=0.25)
    assert torch.equal(losses[0], F.cross_entropy(model(moved).float(), y))
    assert torch.equal(losses[1], losses[0] + 2 * instability(model, x, EPS))
    before, after = (TrainSpec(recipe={"name": "pgd", "stability": weight}) for weight in (0.0, 0.1))
    assert "stability" not in before.body()["recipe"]
    assert before.key() != after.key()


def test_networks_that_cannot_be_kept_stable_are_refused() -> None:
    """No ReLUs, too many layers, a layer without bounds: each said."""
    with pytest.raises(ValidationError, match="expected one with ReLUs for stability, got 'linear'"):
        TrainSpec(network="linear", recipe={"name": "pgd", "stability": 0.1})
    with pytest.raises(ValidationError, match="few layers for stability"):
        TrainSpec(network="preactresnet18", recipe={"name": "pgd", "stability": 0.1})
    assert TrainSpec(network="linear", recipe="pgd").recipe.name == "pgd"
    x, y, rows = torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long), torch.arange(2)
    loss = batch_loss(PgdRecipe(steps=1, stability=0.1))
    with pytest.raises(Unbounded, match="got GELU"):
        loss(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.GELU()), x, y, rows=rows, progress=1.0)
    with pytest.raises(ValueError, match="expected ReLUs to keep stable"):
        loss(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), x, y, rows=rows, progress=1.0)
