"""Recipes: moved images stay where they belong, networks get robust, overfitting to one step is seen and undone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import specs
from core.attacks import pgd
from core.certification.bounds import margin_bounds
from core.certification.crown import linear_margins
from core.certification.proof import proven
from core.data.sets import load, to_float
from core.networks.catalogue import build
from core.specs import RECIPES, TrainSpec
from core.training.batch_loss import ramp
from core.training.crafting import fgsm_images, pgd_images, slope
from core.training.loop import _Loop, train
from core.training.recipes import batch_loss
from core.training.steps import mixed_precision, train_step

EPS = 0.15
SETTINGS: dict[str, dict[str, Any]] = {
    "fgsm_mix": {},
    "fgsm": {},
    "pgd": {"steps": 4, "relative_step": 0.4, "warmup": 0.3},
    "trades": {"steps": 4, "relative_step": 0.4, "beta": 3},
    "free": {"replays": 3},
    "ibp": {"steps": 2, "weight": 0.3},
    "generator": {"rounds": 5, "steps": 3, "refresh": 20},
}


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Some digits."""
    split = load(specs.DataSpec()).train
    return to_float(split.x[:64]), split.y[:64]


@pytest.fixture(scope="module")
def standard_robustness() -> float:
    """What PGD leaves of a network that never saw a moved image."""
    return robustness(TrainSpec(network="mlp", epochs=12))


def robustness(spec: TrainSpec) -> float:
    """Accuracy on test digits under PGD at `EPS`."""
    data = load(spec.data)
    x, y = to_float(data.test.x), data.test.y
    return 1 - pgd(train(spec, data).model, x, y, eps=EPS, steps=20).success.float().mean().item()


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", SETTINGS)
def test_recipe_makes_networks_robust(name: str, standard_robustness: float) -> None:
    """Far more digits withstand PGD than after standard training.

    Over five seeds: 0.27 to 0.46 more of all, but by interval bounds 0.14 to 0.24.
    """
    epochs = 12 if name != "free" else 6
    spec = TrainSpec(network="mlp", epochs=epochs, recipe={"name": name, "eps": EPS, **SETTINGS[name]})
    assert robustness(spec) > standard_robustness + (0.05 if name == "ibp" else 0.15)


@pytest.mark.slow
def test_interval_bounds_training_proves_what_standard_training_cannot() -> None:
    """Far more test digits are proven, no proven one is fooled, and the history tells the share."""
    data = load(specs.DataSpec())
    x, y = to_float(data.test.x), data.test.y
    plain = train(TrainSpec(network="mlp", epochs=12), data).model
    trained = train(TrainSpec(network="mlp", epochs=20, recipe={"name": "ibp", "eps": 0.1}), data)
    sure = proven(trained.model, x, y, 0.1)
    assert sure.float().mean() > proven(plain, x, y, 0.1).float().mean() + 0.4
    assert not (pgd(trained.model, x, y, eps=0.1, steps=20).success & sure).any()
    last = trained.history[-1]
    assert 0.3 < last["certified_accuracy"] <= last["robust_accuracy"] + 0.1  # of all validation images, and of some


@pytest.mark.slow
def test_crown_ibp_proves_as_well_and_starts_tighter() -> None:
    """Its loss is below that of intervals while ε is small, and what it trains is proven."""
    data = load(specs.DataSpec())
    x, y = to_float(data.test.x), data.test.y
    recipe = {"name": "ibp", "eps": 0.1, "bounds": "crown_ibp", "warmup": 0.5}
    trained = train(TrainSpec(network="mlp", epochs=12, recipe=recipe), data)
    assert proven(trained.model, x, y, 0.1).float().mean() > 0.3
    plain = train(TrainSpec(network="mlp", epochs=3), data).model
    with torch.no_grad():
        tighter = linear_margins(plain, x[:50], y[:50], 0.03) - margin_bounds(plain, x[:50], y[:50], 0.03)
    assert tighter.mean() > 0


def test_every_recipe_is_tried_here() -> None:
    """A new recipe needs settings above."""
    assert set(SETTINGS) == set(RECIPES) - {"standard", "noise"}


@pytest.mark.parametrize("name", RECIPES)
def test_loss_reaches_the_weights_and_only_them(name: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Every parameter gets a finite gradient, also in mixed precision; mode and images are as before."""
    x, y = batch
    before = x.clone()
    model = build("cnn", (1, 8, 8), 10).train()
    loss_of_batch = batch_loss(RECIPES[name]())
    loss_of_batch.begin_epoch(model, load(specs.DataSpec()).train)
    start = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss, logits = train_step(model, optimizer, loss_of_batch, mixed_precision("cpu"), x, y, torch.arange(len(x)))
    assert loss.isfinite()
    assert logits.shape == (len(x), 10)
    assert all(not torch.equal(value, start[key]) for key, value in model.named_parameters())
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(x, before)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("network", "scalar"), [("strided", True), ("resnet_small", False), ("resnet_small", True)])
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_fits_two_classes_one_score_and_batch_norm(name: str, network: str, scalar: bool) -> None:
    """Nothing of this is refused, so it must train: finite losses of three channels, running statistics that move."""
    torch.manual_seed(0)
    model = build(network, (3, 8, 8), 2, scalar=scalar).train()
    x, y, rows = torch.rand(8, 3, 8, 8), torch.randint(0, 2, (8,)), torch.arange(8)
    spec = TrainSpec(data={"dataset": "cifar10", "classes": (3, 5)}, network=network, scalar=scalar, recipe=name)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    recipe, buffers = batch_loss(spec.recipe), [buffer.clone() for buffer in model.buffers()]
    for _ in range(2):
        loss, logits = train_step(model, optimizer, recipe, mixed_precision("cpu"), x, y, rows)
        assert loss.isfinite()
        assert logits.shape == (8, 2)
    moved = [not torch.equal(old, new) for old, new in zip(buffers, model.buffers(), strict=True)]
    assert any(moved) == (network == "resnet_small")


def test_noise_training_reads_noisy_images() -> None:
    """Better than standard training under the same noise; the epoch kept is the best under it; not clamped."""
    data = load(specs.DataSpec())
    x, y = to_float(data.test.x), data.test.y
    noisy = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    trained = train(TrainSpec(network="mlp", epochs=12, recipe={"name": "noise", "sigma": 0.5}), data)
    plain = train(TrainSpec(network="mlp", epochs=12), data).model
    read = [(model(noisy).argmax(1) == y).float().mean() for model in (trained.model, plain)]
    assert read[0] > read[1] + 0.02  # over five seeds: 0.056 to 0.092
    found = [row["noise_accuracy"] for row in trained.history]
    assert found[trained.best_epoch - 1] == max(found)
    assert "robust_accuracy" not in trained.history[0]
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)[:, :10]

    batch_loss(specs.NoiseRecipe(sigma=0.5))(Spy(), x, y, rows=torch.arange(len(x)), progress=0.0)
    assert seen[0].min() < -0.5
    assert (seen[0] - x).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("start", ["image", "ball", "noise"])
def test_single_step_images(start: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """In the box; within eps, but N-FGSM's within 3 eps; their loss is higher than that of the images."""
    x, y = batch
    model = build("mlp", (1, 8, 8), 10)
    moved = fgsm_images(model, x, y, EPS, start)
    reach = 3 * EPS if start == "noise" else EPS
    assert (moved - x).abs().max() <= reach + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert F.cross_entropy(model(moved), y) > F.cross_entropy(model(x), y)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("start", "least", "most"), [("image", 1.0, 1.0), ("ball", 0.25, 1.0), ("noise", -1.0, 3.0)])
def test_single_step_has_the_length_of_its_start(start: str, least: float, most: float) -> None:
    """Grey images of a linear model, far from the box: ε, 1.25 ε cut to the ball, ε from noise within 2 ε."""
    model, x, eps = nn.Sequential(nn.Flatten(), nn.Linear(900, 2)), torch.full((4, 1, 30, 30), 0.5), 0.1
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 900))  # brighter is class 1
    moved = (fgsm_images(model, x, torch.zeros(4, dtype=torch.int64), eps, start) - x) / eps
    assert moved.min().item() == pytest.approx(least, abs=0.02)
    assert moved.max().item() == pytest.approx(most, abs=0.02)


def test_dropout_is_active_in_train_mode_alone() -> None:
    """Exercise set 5's literal training: examples are made as the network learns; weights and mode are untouched."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    x, y = torch.rand(8, 1, 8, 8) * 0.5 + 0.25, torch.arange(8)
    before = [parameter.clone() for parameter in model.parameters()]
    settled = [fgsm_images(model, x, y, 0.1, "image") for _ in range(2)]
    drawn = [fgsm_images(model, x, y, 0.1, "image", "train") for _ in range(2)]
    assert torch.equal(*settled)
    assert not torch.equal(*drawn)
    assert all((image - x).abs().max() <= 0.1 + 1e-6 for image in drawn)
    assert model.training
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_slope_is_the_gradient_of_cross_entropy_and_of_the_divergence() -> None:
    """From classes and from probabilities it is what autograd finds, and has the logits' type."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(6, 4, generator=generator)).requires_grad_()
    y, other = torch.tensor([0, 1, 2, 3, 0, 1]), torch.randn(6, 4, generator=generator).log_softmax(1)
    (wanted,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), logits)
    torch.testing.assert_close(slope(logits, y), wanted)
    apart = F.kl_div(logits.log_softmax(1), other, reduction="sum", log_target=True)
    (wanted,) = torch.autograd.grad(apart, logits)
    torch.testing.assert_close(slope(logits, other.exp()), wanted)
    assert slope(logits.bfloat16(), y).dtype == torch.bfloat16


def test_many_steps_raise_the_loss_more_than_one(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Inside the ball, PGD finds at least FGSM's loss."""
    x, y = batch
    model = build("cnn", (1, 8, 8), 10).eval()
    many = pgd_images(model, x, y, EPS, steps=20, relative_step=0.25)
    assert (many - x).abs().max() <= EPS + 1e-6
    one = fgsm_images(model, x, y, EPS, "image")
    assert F.cross_entropy(model(many), y) > F.cross_entropy(model(one), y)


def test_mix_shares_the_clean_pass_without_another_result(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Where train mode computes what eval mode does, the shared forward pass gives the loss of separate ones."""
    x, y = batch
    torch.manual_seed(0)
    shared = build("lenet", (1, 8, 8), 10)
    apart = nn.Sequential(shared, nn.Dropout(0.0))  # the same function, but it has dropout
    recipe = specs.FgsmMixRecipe(eps=EPS)
    rows = torch.arange(len(x))
    first, _ = batch_loss(recipe)(shared, x, y, rows=rows, progress=0.0)
    second, _ = batch_loss(recipe)(apart, x, y, rows=rows, progress=0.0)
    assert torch.allclose(first, second, atol=1e-6)


def test_mix_remade_once_an_epoch_uses_the_network_of_the_start() -> None:
    """Literal set 3: the moved images do not follow the network within the epoch."""
    train_split = load(specs.DataSpec()).train
    model = build("mlp", (1, 8, 8), 10)
    mix = batch_loss(specs.FgsmMixRecipe(eps=EPS, remade="epoch", clip=False))
    mix.begin_epoch(model, train_split)
    first = mix.x_adv.clone()  # type: ignore[attr-defined]
    x, y = to_float(train_split.x[:8]), train_split.y[:8]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train_step(model, optimizer, mix, mixed_precision("cpu"), x, y, torch.arange(8))
    assert torch.equal(mix.x_adv, first)  # type: ignore[attr-defined]
    mix.begin_epoch(model, train_split)
    assert not torch.equal(mix.x_adv, first)  # type: ignore[attr-defined]
    assert mix.x_adv.min() < 0  # type: ignore[attr-defined]  # unclipped


def test_budget_rises() -> None:
    """Linearly over the warm-up, then it stays; no warm-up, no rise."""
    assert [ramp(0.3, 0.5, share) for share in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.15, 0.3, 0.3])
    assert ramp(0.3, 0.0, 0.0) == 0.3


def test_history_tells_robust_accuracy() -> None:
    """A row an epoch: the budget, what many steps leave, what one step leaves; PGD never above FGSM by much."""
    recipe = {"name": "pgd", "eps": EPS, "steps": 3, "warmup": 0.5}
    history = train(TrainSpec(network="mlp", epochs=4, recipe=recipe), load(specs.DataSpec())).history
    assert [row["eps"] for row in history] == pytest.approx([EPS / 2, EPS, EPS, EPS])
    assert all(0 <= row["robust_accuracy"] <= row["fgsm_accuracy"] + 0.05 for row in history)  # three seeds: 0.021
    assert "robust_accuracy" not in train(TrainSpec(network="mlp", epochs=1), load(specs.DataSpec())).history[0]


Watched = tuple[list[dict[str, torch.Tensor]], list[dict[str, torch.Tensor]], Any]


def watched_run(
    recipe: str, found: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch, patience: int = 0
) -> Watched:
    """Train an epoch for each pair of accuracies (PGD, FGSM), which are pretended; weights at ends and beginnings."""
    ends: list[dict[str, torch.Tensor]] = []
    begun: list[dict[str, torch.Tensor]] = []
    pairs, epoch = iter(found), _Loop._epoch

    def weights(self: _Loop) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def watch(self: _Loop) -> dict[str, float]:
        ends.append(weights(self))
        robust, one = next(pairs)
        return {"eps": EPS, "robust_accuracy": robust, "fgsm_accuracy": one}

    def spied(self: _Loop) -> tuple[float, float, float]:
        begun.append(weights(self))
        return epoch(self)

    monkeypatch.setattr(_Loop, "_watch", watch)
    monkeypatch.setattr(_Loop, "_epoch", spied)
    spec = TrainSpec(network="mlp", epochs=len(found), patience=patience, recipe={"name": recipe, "eps": EPS})
    return ends, begun, train(spec, load(specs.DataSpec()))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Equal weights."""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_overfitting_to_one_step_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """When PGD's accuracy collapses, the best weights come back, and the epoch is marked and not kept."""
    ends, begun, trained = watched_run("fgsm", [(0.6, 0.7), (0.1, 0.9), (0.65, 0.7)], monkeypatch)
    assert [(row["overfitted"], row["rolled_back"]) for row in trained.history] == [(0, 0), (1, 1), (0, 0)]
    assert same(begun[2], ends[0])
    assert trained.best_epoch == 3


def test_patience_counts_anew_from_a_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The epochs that led into the collapse, and the collapse itself, are no epochs without gain."""
    found = [(0.6, 0.7), (0.55, 0.6), (0.1, 0.9), (0.5, 0.6), (0.5, 0.6), (0.5, 0.6)]
    history = watched_run("fgsm", found, monkeypatch, patience=2)[2].history
    assert [row["rolled_back"] for row in history] == [0, 0, 1, 0, 0]
    assert [row.get("stopped") for row in history] == [None, None, None, None, 1.0]


def test_recipe_that_cannot_be_made_harder_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """FGSM mix leaves FGSM far above PGD by nature: its epochs are marked, nothing is undone, FGSM's best is kept."""
    ends, begun, trained = watched_run("fgsm_mix", [(0.6, 0.7), (0.1, 0.9), (0.1, 0.8)], monkeypatch)
    assert [(row["overfitted"], row["rolled_back"]) for row in trained.history] == [(0, 0), (1, 0), (1, 0)]
    assert same(begun[1], ends[0])
    assert trained.best_epoch == 2


def test_steps_double_up_to_a_limit() -> None:
    """Not without end: 8 steps are PGD."""
    recipe = batch_loss(specs.FgsmRecipe())
    assert [recipe.strengthen() for _ in range(5)] == [True, True, True, False, False]
    assert recipe.steps == 8  # type: ignore[attr-defined]


def test_moving_images_leaves_what_learns_as_it_was(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Frozen weights stay so, the others learn on; the gradient takes the quick way back through a thin layer."""
    x, y = batch
    model = build("cnn", (1, 8, 8), 10).train()
    model[1].bias.requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    used: list[str] = []
    model[1].register_forward_hook(lambda module, args, out: used.append(type(out.grad_fn).__name__))
    fgsm_images(model, x, y, EPS, "noise")
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert used == ["_QuickConvolutionBackward"]
    assert model.training
