"""Augmentation: every image its own crop, flip and cutout; nothing is invented; the key of older specs stays."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core.data.sets import load
from core.networks.catalogue import logits_of
from core.specs import DataSpec, TrainSpec
from core.training.augmentation import augmented
from core.training.loop import train


def test_each_image_is_a_crop_of_its_surroundings_or_its_mirror_image() -> None:
    """By brute force: each result equals one of the 2·7·7 windows of the padded image, and many windows are used."""
    torch.manual_seed(0)
    x = torch.rand(60, 3, 26, 24)
    room = 3
    moved = augmented(x, "crop_flip")
    assert moved.shape == x.shape
    padded = F.pad(x, (room,) * 4)
    used = set()
    for image, source in zip(moved, padded, strict=True):
        windows = {
            (i, j, flip): window.flip(2) if flip else window
            for i in range(2 * room + 1)
            for j in range(2 * room + 1)
            for flip in (False, True)
            for window in [source[:, i : i + 26, j : j + 24]]
        }
        found = [place for place, window in windows.items() if torch.equal(window, image)]
        assert len(found) == 1
        used.add(found[0])
    assert len(used) > 25


def test_cutout_covers_a_square() -> None:
    """Between a quarter of the square (a corner of the image) and all of it is mid-grey, in every channel alike."""
    torch.manual_seed(0)
    moved = augmented(torch.ones(60, 3, 32, 32), "crop_flip_cutout")
    grey = moved == 0.5
    assert torch.equal(grey[:, 0], grey[:, 1])
    counts = grey[:, 0].flatten(1).sum(1)
    assert counts.min() >= 16
    assert counts.max() == 64


def test_nothing_is_changed_unless_asked_for() -> None:
    """`none` is the batch itself."""
    x = torch.rand(3, 1, 8, 8)
    assert augmented(x, "none") is x


def test_settings_that_came_later_leave_older_keys_alone() -> None:
    """Models that were made before augmentation existed are still found; with it the key is another."""
    plain = TrainSpec()
    assert '"augment"' not in plain.canonical()
    assert plain.key() == TrainSpec(augment="none", average=0.0).key()
    assert len({plain.key(), TrainSpec(augment="crop_flip").key(), TrainSpec(average=0.99).key()}) == 3


def test_averaged_weights_are_what_is_kept() -> None:
    """Their validation accuracy is the history's, and they differ from those of a run without."""
    data = load(DataSpec())
    spec = TrainSpec(network="mlp", epochs=5, average=0.98)
    trained = train(spec, data)
    accuracy = (logits_of(trained.model, data.validation.x).argmax(1) == data.validation.y).float().mean().item()
    assert accuracy == pytest.approx(trained.history[trained.best_epoch - 1]["validation_accuracy"])
    plain = train(spec.model_copy(update={"average": 0.0}), data).model
    assert not torch.equal(plain[2].weight, trained.model[2].weight)  # type: ignore[index]


def test_images_remade_once_an_epoch_cannot_be_augmented() -> None:
    """They are kept by their position: the spec refuses."""
    with pytest.raises(ValueError, match="augment: expected none where images are remade once an epoch"):
        TrainSpec(recipe={"name": "fgsm_mix", "remade": "epoch"}, augment="crop_flip")
