"""The transfer matrix: what was made on one model, shown to the others, counted image by image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.__main__ import main
from core.data.sets import first_of_test, to_float
from core.evaluation.tasks import transfer
from core.jobs import queue
from core.models.saved import load_model
from core.specs import TransferSpec
from core.storage import store

NAMES = ("digits-mlp-", "digits-linear")


def test_matrix_counts_what_each_victim_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recounted from the stored images, made in several batches: rates over the images that both read, the ball."""
    monkeypatch.setattr(transfer, "BATCH", 17)
    spec = TransferSpec(models=NAMES, eps=0.1, n=40)
    (made,) = (queue.run(spec, root),)
    assert isinstance(made, store.Artifact)
    assert queue.run(TransferSpec(models=NAMES[::-1], eps=0.1, n=40), root).id == made.id
    resolved = made.spec()
    assert isinstance(resolved, TransferSpec)
    saved = [load_model(name, root) for name in resolved.models]
    batch = first_of_test(saved[0].data(), 40)
    x, kept = to_float(batch.x), made.arrays("images")["x_adv"]
    assert kept.shape == (2, 40, 1, 8, 8)
    assert np.abs(kept - x.numpy()).max() <= 0.1 + 1e-6
    rows = {(row["surrogate"], row["victim"]): row for row in made.card["rows"]}
    reads = [model.model(x).argmax(1) == batch.y for model in saved]
    assert not reads[0].equal(reads[1]), "else it does not matter who reads an image"
    for place, surrogate in enumerate(resolved.models):
        for victim, sees in zip(saved, reads, strict=True):
            right = sees & reads[place]
            fooled = victim.model(torch.from_numpy(kept[place])).argmax(1) != batch.y
            row = rows[surrogate, victim.artifact.id]
            assert row["counted"] == int(right.sum())
            assert row["rate"] == pytest.approx((right & fooled).sum().item() / right.sum().item())
            assert row["low"] <= row["rate"] <= row["high"]
        own, other = (rows[surrogate, model]["rate"] for model in (surrogate, resolved.models[1 - place]))
        assert own > other, "an attack fools the model best that it was made on"
    assert len(made.table("images")) == 4 * 40


def test_full_strength_fools_others_more(root: Path) -> None:
    """Attacks take all their steps: the surrogate's margin falls further, and the other model is fooled more often."""
    rates = {}
    for early in (False, True):
        made = queue.run(TransferSpec(models=NAMES, eps=0.15, n=100, early_stop=early), root)
        assert isinstance(made, store.Artifact)
        off = [row["rate"] for row in made.card["rows"] if row["surrogate"] != row["victim"]]
        own = [row["rate"] for row in made.card["rows"] if row["surrogate"] == row["victim"]]
        rates[early] = np.array([*off, *own])
    assert (rates[False] >= rates[True]).all()
    assert (rates[False][:2] > rates[True][:2]).all()


def test_models_of_other_images_are_refused(root: Path) -> None:
    """Four against nine reads other classes."""
    with pytest.raises(ValueError, match=r"models: expected models of the same images and classes as digits-"):
        queue.run(TransferSpec(models=("digits-linear", "digits-4v9"), eps=0.1, n=10), root)


def test_matrix_from_the_command_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A row a cell, with the cost."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    assert (
        main(["transfer", "--models", *NAMES, "--attack", "pgd", "--steps", "5", "--eps", "0.1", "--n", "20", "--json"])
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 4
    assert all(row["passes"] > 0 and row["n"] == 20 for row in rows)
