"""Unfinished runs resume where they were, and end bit for bit where an unbroken run ends, whatever disks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.data.sets import load
from core.jobs import running
from core.progress import Cancelled
from core.specs import DataSpec, TrainSpec
from core.storage import store
from core.training import loop
from core.training.loop import train

SPECS: dict[str, dict[str, Any]] = {
    "standard": {"network": "cnn"},  # dropout draws from the global generator
    "adam, averaged, augmented": {
        "network": "mlp",
        "optimizer": "adam",
        "lr": 1e-3,
        "average": 0.9,
        "augment": "crop_flip",
    },
    "batch norm": {"network": "resnet_small"},
    "fgsm": {"network": "mlp", "recipe": {"name": "fgsm", "eps": 0.1}},
    "free": {"network": "mlp", "recipe": {"name": "free", "eps": 0.1, "replays": 2}},
    "mix, once an epoch": {"network": "mlp", "recipe": {"name": "fgsm_mix", "eps": 0.1, "remade": "epoch"}},
    "pgd, rising": {"network": "mlp", "recipe": {"name": "pgd", "eps": 0.1, "steps": 2, "warmup": 0.6}},
    "generator": {
        "network": "mlp",
        "recipe": {"name": "generator", "eps": 0.1, "rounds": 3, "steps": 2, "refresh": 2, "pool": 2},
    },
}


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)


def stop_after(epochs: int) -> Any:
    """Progress that cancels in the epoch after this one."""

    def report(done: int, total: int, **metrics: Any) -> None:
        report.seen += "epoch" in metrics  # type: ignore[attr-defined]
        if report.seen == epochs and "epoch" not in metrics:  # type: ignore[attr-defined]
            raise Cancelled

    report.seen = 0  # type: ignore[attr-defined]
    return report


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", SPECS)
def test_broken_run_ends_in_the_weights_of_an_unbroken_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, history and best epoch; the run is stopped in the middle of its third epoch."""
    monkeypatch.setattr(loop, "_REPORT_EVERY", 0.0)  # so that it can be cancelled within an epoch
    spec, data = TrainSpec(epochs=4, batch_size=256, **SPECS[name]), load(DataSpec())
    whole = train(spec, data)
    keep = tmp_path / "state.safetensors"
    with pytest.raises(Cancelled):
        train(spec, data, keep=keep, on_progress=stop_after(2))
    torch.manual_seed(99)  # the state of the process does not matter
    epochs: list[float] = []
    rest = train(
        spec,
        data,
        keep=keep,
        on_progress=lambda *_, **metrics: epochs.extend([metrics["epoch"]] if "epoch" in metrics else []),
    )
    assert epochs == [3, 4]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[key]), key
    strip = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert strip(whole.history) == strip(rest.history)
    assert whole.best_epoch == rest.best_epoch


def test_store_goes_on_and_clears_up(tmp_path: Path) -> None:
    """A cancelled job leaves its state beside the models, which are listed as before; the finished one leaves none."""
    spec = TrainSpec(epochs=3, network="mlp")
    with pytest.raises(Cancelled):
        running.run(spec, tmp_path, device="cpu", on_progress=stop_at_second_epoch)
    kept = store.unfinished(spec, tmp_path)
    assert kept.is_file()
    assert store.models(tmp_path) == []
    made = running.run(spec, tmp_path, device="cpu")
    assert len(made.card["history"]) == 3  # type: ignore[union-attr]
    assert not kept.exists()


def stop_at_second_epoch(done: int, total: int, **metrics: Any) -> None:
    """Cancel when the second epoch is reported: the state of the first is on disk."""
    if metrics.get("epoch") == 2:
        raise Cancelled
