"""Training: learns, is reproducible, keeps the best epoch, can be cancelled, and says when it diverges."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.data.sets import load
from core.networks.catalogue import build, logits_of
from core.progress import Cancelled
from core.specs import PRESETS, DataSpec, TrainSpec
from core.storage import checkpoint
from core.training import loop, steps
from core.training.estimate import estimate_seconds
from core.training.loop import train
from core.training.steps import learning_rate
from core.training.task import run

SHORT = TrainSpec(network="mlp", epochs=4)


def weights(spec: TrainSpec) -> torch.Tensor:
    """All parameters after training, in one row."""
    model = train(spec, load(spec.data)).model
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("network", ["linear", "mlp", "cnn", "lenet"])
def test_every_network_learns_digits(network: str) -> None:
    """More than nine in ten of the test split, and the better the longer."""
    spec = TrainSpec(network=network, epochs=12 if network == "lenet" else 25)
    trained = train(spec, load(spec.data))
    test = load(spec.data).test
    assert (logits_of(trained.model, test.x).argmax(dim=1) == test.y).float().mean() > 0.92
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    assert not trained.model.training


def test_same_seed_gives_the_same_weights() -> None:
    """Bit for bit, whatever the global random state; another seed gives others, and the global state is untouched."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(SHORT)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, weights(SHORT))
    assert not torch.equal(first, weights(SHORT.model_copy(update={"seed": 1})))


def test_best_epoch_is_kept() -> None:
    """The weights returned are those of the epoch with the highest validation accuracy."""
    spec = TrainSpec(network="mlp", epochs=12, schedule="constant", lr=0.1, batch_size=16)
    data = load(spec.data)
    trained = train(spec, data)
    accuracies = [row["validation_accuracy"] for row in trained.history]
    assert accuracies[trained.best_epoch - 1] == max(accuracies)
    measured = (logits_of(trained.model, data.validation.x).argmax(dim=1) == data.validation.y).float().mean()
    assert float(measured) == pytest.approx(max(accuracies))


def test_progress_reports_every_epoch_and_may_stop_the_run() -> None:
    """One report an epoch with its history row; an exception raised there passes through at once."""
    seen: list[dict[str, Any]] = []

    def on_progress(done: int, total: int, **metrics: Any) -> None:
        assert 0 <= done <= total
        seen.append(metrics)

    trained = train(SHORT, load(SHORT.data), on_progress=on_progress)
    epochs = [row for row in seen if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    assert all(row.items() <= told.items() for row, told in zip(trained.history, epochs, strict=True))

    def cancel(done: int, total: int, **metrics: Any) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        train(SHORT, load(SHORT.data), on_progress=cancel)


def test_divergence_is_said_not_saved() -> None:
    """A loss that is no longer finite stops the run and names the learning rate."""
    spec = TrainSpec(network="mlp", lr=10, momentum=0.99, schedule="constant", epochs=30)
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        train(spec, load(spec.data))


def broken(after: int, kind: str) -> Any:
    """`train_step` that spoils the loss or a weight from one step on."""
    count = 0

    def step(model: torch.nn.Module, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal count
        count += 1
        loss, logits = steps.train_step(model, *rest)
        if count > after and kind == "loss":
            loss = loss * torch.nan
        if count > after and kind == "weight":
            with torch.no_grad():
                next(model.parameters())[0, 0] = torch.inf
        return loss, logits

    return step


@pytest.mark.parametrize("kind", ["loss", "weight"])
def test_divergence_keeps_the_last_good_state(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops in the fourth epoch, the state after the third is kept and whole, and training goes on from it."""
    spec, data = TrainSpec(network="linear", epochs=5, batch_size=1294), load(DataSpec())
    assert len(data.train) == 1294  # one step an epoch
    keep = tmp_path / "state.safetensors"
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", broken(3, kind))
        with pytest.raises(FloatingPointError, match=r"epoch 4: .* state after epoch 3 is kept.* Lower the learning"):
            train(spec, data, keep=keep)
    state = checkpoint.read(keep, {"task": spec.key(), "data": data.fingerprint, "device": "cpu"})
    assert state is not None
    assert [row["epoch"] for row in state.facts["history"]] == [1, 2, 3]
    assert all(value.isfinite().all() for group in ("model", "best") for value in state.tensors[group].values())
    assert [row["epoch"] for row in train(spec, data, keep=keep).history] == [1, 2, 3, 4, 5]


def test_divergence_before_anything_is_kept_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first epoch; a recipe with a rising budget is told of that as well."""
    monkeypatch.setattr(loop, "train_step", broken(0, "loss"))
    spec = TrainSpec(network="linear", recipe={"name": "fgsm", "eps": 0.1})
    with pytest.raises(FloatingPointError, match=r"epoch 1: the loss became nan .* no state was kept yet.* let ε rise"):
        train(spec, load(spec.data))


def test_patience_stops_after_epochs_without_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`patience` epochs after the best one; the history says so; a run gone on with stops there as well."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    data = load(DataSpec())
    spec = TrainSpec(network="mlp", epochs=60, patience=3, recipe={"name": "fgsm", "eps": 0.1})
    trained = train(spec, data, keep=tmp_path / "state.safetensors")
    assert len(trained.history) == trained.best_epoch + 3 < 60
    assert [row.get("stopped") for row in trained.history[-2:]] == [None, 1.0]
    again = train(spec, data, keep=tmp_path / "state.safetensors")
    assert (len(again.history), again.best_epoch) == (len(trained.history), trained.best_epoch)


def test_patience_waits_for_the_full_budget() -> None:
    """While ε rises no epoch can be compared, so none is without gain."""
    spec = TrainSpec(network="linear", epochs=6, patience=1, recipe={"name": "fgsm", "eps": 0.1, "warmup": 0.7})
    history = train(spec, load(spec.data)).history
    assert len(history) >= 5
    assert not any(row.get("stopped") for row in history if row["eps"] < 0.1)


def test_gaussian_start_leaves_batch_normalisation_its_scale() -> None:
    """With a scale of 0 no signal would pass; biases start at 0."""
    model = steps.new_model(TrainSpec(network="resnet_small", init="gaussian"), load(DataSpec()))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.full_like(parameter, float(not name.endswith("bias")))), name


def test_last_batch_of_one_image_joins_the_one_before_where_it_is_normalised() -> None:
    """Small images end in one place a channel, where one image has no variance; the schedule counts one step less."""
    data = load(DataSpec())
    size = (len(data.train) - 1) // 3
    assert len(data.train) % size == 1
    trained = train(TrainSpec(network="resnet_small", epochs=1, batch_size=size), data)
    assert trained.history[-1]["lr"] == pytest.approx(0.1 * 1e-3)


def test_batches_are_as_asked_but_for_a_last_one_that_is_too_small() -> None:
    """Every image once; nothing is joined where no batch is too small, or where there is one only."""
    assert steps.batch_sizes(10, 3) == [3, 3, 3, 1]
    assert steps.batch_sizes(10, 3, min_batch=2) == [3, 3, 4]
    assert steps.batch_sizes(11, 3, min_batch=2) == [3, 3, 3, 2]
    assert steps.batch_sizes(12, 3, min_batch=2) == [3, 3, 3, 3]
    assert steps.batch_sizes(1, 3, min_batch=2) == [1]


def test_learning_rate_follows_its_schedule() -> None:
    """One-cycle starts low, peaks at a quarter, ends near zero; constant is constant."""
    rates = [learning_rate(TrainSpec(lr=1.0), progress) for progress in (0, 0.1, 0.25, 0.6, 1)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[2] == pytest.approx(1.0)
    assert rates[4] == pytest.approx(1e-3)
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4]
    assert {learning_rate(TrainSpec(lr=0.3, schedule="constant"), p) for p in (0, 0.5, 1)} == {0.3}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_train(preset: str) -> None:
    """Every preset runs; one epoch of each, on digits."""
    spec = TrainSpec(**{**PRESETS[preset], "epochs": 1, "network": "cnn"})
    assert len(train(spec, load(spec.data)).history) == 1


def test_scalar_network_tells_four_from_nine(tmp_path: Path) -> None:
    """One raw score; the test table carries it, and the prediction is score above threshold."""
    spec = TrainSpec(data=DataSpec(classes=(4, 9)), network="mlp", scalar=True, epochs=25)
    outcome = run(spec, tmp_path, device="cpu")
    table = outcome.tables["test"]
    assert outcome.card["metrics"]["test_accuracy"] > 0.87  # of 58 images; over four seeds: 0.948 to 0.983
    assert np.array_equal(table["pred"] == 1, table["score"] > 0)


def test_outcome_has_all_that_pages_show(tmp_path: Path) -> None:
    """Card, weights and test table agree with each other."""
    outcome = run(SHORT, tmp_path, device="cpu")
    card, table = outcome.card, outcome.tables["test"]
    assert card["metrics"]["test_accuracy"] == pytest.approx(float((table["pred"] == table["y"]).mean()))
    assert card["metrics"]["test_low"] < card["metrics"]["test_accuracy"] < card["metrics"]["test_high"]
    assert ((table["margin"] > 0) == (table["pred"] == table["y"])).all()
    assert len(card["history"]) == SHORT.epochs
    assert card["network"]["parameters"] == sum(layer["parameters"] for layer in card["network"]["layers"])
    assert len(card["data"]["fingerprint"]) == 64
    assert all(isinstance(value, np.ndarray) for value in outcome.arrays["weights"].values())


def test_estimate_is_positive_and_none_for_folders() -> None:
    """An estimate grows with the epochs; for a folder nothing is known before it is read."""
    short = estimate_seconds(SHORT)
    assert short is not None
    assert short > 0
    assert estimate_seconds(TrainSpec(data=DataSpec(dataset="folder", folder="x"))) is None


def test_estimate_counts_what_each_epoch_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts images through the network, where attacking the validation images is most of the work."""
    seen = [0]

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _output: object) -> None:
        seen[0] += len(inputs[0]) * isinstance(module, torch.nn.Sequential)

    monkeypatch.setattr("time.perf_counter", lambda: float(seen[0]))
    spec = TrainSpec(network="mlp", recipe={"name": "fgsm", "eps": 0.02}, epochs=6)
    handle = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        expected = estimate_seconds(spec)
        seen[0] = 0
        train(spec, load(spec.data))
    finally:
        handle.remove()
    assert expected is not None
    assert 0.8 * seen[0] < expected < 1.3 * seen[0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("network", ["mlp", "preactresnet18"])
def test_only_long_trainings_on_a_gpu_compile(network: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on a CPU, nor small networks, whose training ends before the compiler does."""
    asked: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: asked.append(module))
    model = torch.nn.Linear(2, 2)
    assert steps.compiled(model, TrainSpec(network=network), device) is model
    assert asked == [model] * (device == "cuda" and network == "preactresnet18")


@pytest.mark.slow
def test_compiled_training_is_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, attacked in eval mode and averaged: the weights of a plain run under the names of a plain run."""
    spec = TrainSpec(network="linear", recipe={"name": "pgd", "eps": 0.05, "steps": 2}, epochs=2, average=0.9)
    data = load(spec.data)
    wanted = train(spec, data).model.state_dict()

    def traced(model: torch.nn.Module, spec: TrainSpec, device: str) -> torch.nn.Module:
        model.compile(backend="eager")
        return model

    monkeypatch.setattr(loop, "compiled", traced)
    monkeypatch.setattr("core.attacks.engine.engine.QuickConvolutions", contextlib.nullcontext)  # a CPU's
    found = train(spec, data).model.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.allclose(found[name], value, atol=1e-4) for name, value in wanted.items())


@pytest.mark.gpu
@pytest.mark.slow
def test_compiled_training_on_a_gpu_learns_and_saves_plain_names() -> None:
    """PreActResNet-18 on digits by PGD: finite weights under the names of the network as it is built."""
    spec = TrainSpec(network="preactresnet18", recipe={"name": "pgd", "eps": 0.05, "steps": 2}, epochs=4)
    trained = train(spec, load(spec.data), device="cuda")
    plain = build("preactresnet18", (1, 8, 8), 10).state_dict()
    assert list(trained.model.state_dict()) == list(plain)
    assert trained.history[-1]["validation_accuracy"] > 0.5


@pytest.mark.real_data
@pytest.mark.slow
def test_fast_recipe_reaches_99_percent_on_mnist(tmp_path: Path) -> None:
    """LeNet, three epochs, real MNIST: at least 99.0 % of the test set."""
    outcome = run(TrainSpec(data=DataSpec(dataset="mnist")), tmp_path, device="cpu")
    assert outcome.card["metrics"]["test_n"] == 10_000
    assert outcome.card["metrics"]["test_accuracy"] >= 0.99
