"""Attack tables: which images are attacked, what is stored, what counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.evaluation.tasks.attack import starts
from core.jobs import queue
from core.models.saved import load_model
from core.specs import AttackSpec
from core.storage import store


def ran(root: Path, **fields: object) -> store.Artifact:
    """Attack the mlp with FGSM unless told otherwise."""
    base = {"model": "digits-mlp", "attack": "fgsm", "n": 20}
    if fields.get("attack", "fgsm") in ("fgsm", "pgd"):
        base["eps"] = 0.2
    made = queue.run(AttackSpec(**{**base, **fields}), root)  # type: ignore[arg-type]
    assert isinstance(made, store.Artifact)
    return made


def test_only_right_images_are_attacked(root: Path) -> None:
    """Without indices: the first n that the model gets right, in the fixed order."""
    table = ran(root, n=50).table("images")
    assert len(table) == 50
    assert (table["pred_clean"] == table["y"]).all()
    assert table["index"].tolist()[:20] == ran(root, n=20).table("images")["index"].tolist()


def test_source_and_target_narrow_the_choice(root: Path) -> None:
    """Only images of the source class; none of the target class."""
    fours = ran(root, source=4, target=9).table("images")
    assert (fours["y"] == 4).all()
    assert (fours["target"] == 9).all()
    assert (ran(root, target=3).table("images")["y"] != 3).all()


def test_all_targets_give_a_row_each(root: Path) -> None:
    """Images × classes rows; those whose target is the true class are shown but not counted."""
    first, second = store.open_model("digits-mlp", root).table("test")["index"].tolist()[:2]
    generator = {"name": "generator", "rounds": 60, "loss": "ce"}
    made = ran(root, attack=generator, indices=(first, second), target="all")
    table = made.table("images")
    assert table["target"].tolist() == [*range(10), *range(10)]
    assert table["index"].tolist() == [first] * 10 + [second] * 10
    assert made.card["metrics"]["n"] == int((table["target"] != table["y"]).sum())
    images = made.arrays("images")
    assert images["x_adv"].shape == images["x"].shape == (20, 1, 8, 8)


def test_stored_numbers_agree(root: Path) -> None:
    """Distances, predictions and rate in the table follow from the stored images and probabilities."""
    made = ran(root, attack="pgd", n=40)
    table, images = made.table("images"), made.arrays("images")
    delta = (images["x_adv"] - images["x"]).reshape(40, -1).astype(np.float64)
    assert np.allclose(table["linf"], np.abs(delta).max(axis=1))
    assert np.allclose(table["l2"], np.sqrt((delta**2).sum(axis=1)))
    assert table["pred"].tolist() == images["probabilities"].argmax(axis=1).tolist()
    assert (table["success"] == (table["pred"] != table["y"])).all()
    metrics = made.card["metrics"]
    assert metrics["success_rate"] == pytest.approx(float(table["success"].mean()))
    assert metrics["low"] <= metrics["success_rate"] <= metrics["high"]
    assert metrics["median_linf"] is None  # all about ε
    assert metrics["median_l2"] == pytest.approx(float(table.loc[table["success"], "l2"].median()))


def test_image_attacked_alone_is_the_image_of_the_batch(root: Path) -> None:
    """Random streams are keyed by image index: one image alone gives what it gave among others."""
    many = ran(root, attack={"name": "pgd", "steps": 7}, eps=0.15, n=12)
    alone_index = int(many.table("images")["index"][4])
    alone = ran(root, attack={"name": "pgd", "steps": 7}, eps=0.15, indices=(alone_index,))
    assert np.allclose(alone.arrays("images")["x_adv"][0], many.arrays("images")["x_adv"][4], atol=1e-5)


def test_budget_and_8_bits_are_kept(root: Path) -> None:
    """No row costs more than the budget; every stored value is a byte over 255; the card says what was asked."""
    made = ran(root, attack="pgd", budget=16, eight_bit=True)
    table, x_adv = made.table("images"), made.arrays("images")["x_adv"]
    assert (table["forwards"] + table["backwards"]).max() <= 16
    assert np.array_equal((x_adv * 255).round().astype(np.uint8).astype(np.float32) / np.float32(255), x_adv)
    assert (made.card["spec"]["budget"], made.card["spec"]["eight_bit"]) == (16, True)
    plain = ran(root, attack="pgd", budget=16)
    assert plain.folder != made.folder


def test_bad_choices_are_refused(root: Path) -> None:
    """Indices, sources and targets that do not exist; a model that does not exist."""
    with pytest.raises(ValueError, match=r"indices: expected numbers of test images, .* got 1797"):
        ran(root, indices=(1797,))
    with pytest.raises(ValueError, match="source: expected a class from 0 to 9, got 11"):
        ran(root, source=11)
    with pytest.raises(ValueError, match="target: expected a class from 0 to 9, got 10"):
        ran(root, target=10)
    with pytest.raises(ValueError, match=r"model: .*nothing-like-it"):
        ran(root, model="nothing-like-it")


def test_no_image_that_qualifies_is_said(root: Path) -> None:
    """A scalar network that calls everything a nine has no right four to attack."""
    with pytest.raises(ValueError, match="at least one correctly classified image"):
        ran(root, model="digits-4v9", attack="jacobian_dense", source=0, threshold=-1e5)


def test_sparse_attack_explains_itself(root: Path) -> None:
    """The trace rebuilds the result: applying the kept changes to the image gives the stored one."""
    made = ran(root, model="digits-4v9", attack="jacobian_sparse", n=8)
    images = made.arrays("images")
    for row in range(8):
        image = images["x"][row].reshape(-1).copy()
        for feature, value, kept in zip(
            images["trace_order"][row], images["trace_value"][row], images["trace_kept"][row], strict=True
        ):
            if feature >= 0 and kept:
                image[int(feature)] = value
        assert np.array_equal(image, images["x_adv"][row].reshape(-1))


def test_mask_confines_what_is_stored(root: Path) -> None:
    """Nothing changes outside the stored mask; the card counts its pixels; a free attack is another artifact."""
    made = ran(root, attack="pgd", mask="patch:size=0.6")
    images, mask = made.arrays("images"), made.arrays("mask")["mask"].astype(bool)
    changed = (images["x_adv"] != images["x"]).any(axis=(0, 1))
    assert changed.any()
    assert not (changed & ~mask).any()
    assert made.card["mask"] == {"pixels": 25, "share": 25 / 64}
    assert made.id != ran(root, attack="pgd").id


def test_transfer_is_made_on_the_surrogate(root: Path) -> None:
    """The id may be short, the result is found again under the full one; the images are the surrogate's."""
    fields = {"attack": {"name": "transfer", "surrogate": "digits-linear", "kernel": 3}, "eps": 0.3, "n": 30}
    made = ran(root, **fields)
    full = store.open_model("digits-linear", root).id
    assert made.card["spec"]["attack"]["surrogate"] == full
    again = ran(root, **{**fields, "attack": {"name": "transfer", "surrogate": full, "kernel": 3}})
    assert again.folder == made.folder
    surrogate = load_model(full, root).model
    x_adv = torch.from_numpy(made.arrays("images")["x_adv"])
    assert (surrogate(x_adv).argmax(1).numpy() != made.table("images")["y"]).mean() > 0.8
    assert made.card["metrics"]["success_rate"] > 0.3


def test_transfer_needs_a_surrogate_of_the_same_classes(root: Path) -> None:
    """None, an unknown one, and one of other classes are refused by name."""
    with pytest.raises(ValueError, match=r"attack.surrogate: expected the id of a saved model for transfer, got noth"):
        AttackSpec(model="digits-mlp", attack="transfer", eps=0.1)
    with pytest.raises(ValueError, match="model: expected the id of a saved model"):
        ran(root, attack={"name": "transfer", "surrogate": "nobody"}, eps=0.1)
    scalar = next(model.id for model in store.models(root) if model.card["spec"]["scalar"])
    with pytest.raises(ValueError, match=r"attack.surrogate: expected a model of the same images and classes"):
        ran(root, attack={"name": "transfer", "surrogate": scalar}, eps=0.1)


def test_targeted_hop_skip_jump_begins_at_a_training_image(root: Path) -> None:
    """Towards every class: noise would meet few of them."""
    attack = {"name": "hop_skip_jump", "queries": 150}
    made = ran(root, attack=attack, target="all", n=2)
    assert made.card["metrics"]["success_rate"] == 1
    saved = load_model(store.open_model("digits-mlp", root).id, root)
    y_target = torch.arange(10)
    first = starts(saved.model, saved.data(), torch.zeros(10, 1, 8, 8), y_target)
    assert torch.equal(saved.model(first).argmax(1), y_target)


def test_enumeration_says_what_is_proven(root: Path) -> None:
    """The card holds the counts and the sentence, for the command line; other attacks prove nothing of the kind."""
    made = ran(root, attack={"name": "exhaustive", "levels": 9}, n=6)
    proven = made.card["proven"]
    assert proven["tried"] == 6 * 64 * 9
    assert proven["one_is_enough"] == int((made.table("images")["l0"] == 1).sum())
    assert proven["one_is_enough"] + proven["nothing_found"] == 6
    assert "9 levels" in proven["proven"]
    assert "proven" not in ran(root).card


def test_patterns_tell_their_share_of_fresh_scenes(root: Path) -> None:
    """The mean over the images, from the trace."""
    physical = {"name": "physical", "steps": 10, "fresh": 8, "shift": 0.5}
    made = ran(root, attack=physical, mask="eyeglasses", n=10)
    share = made.arrays("images")["trace_share"]
    assert made.card["metrics"]["mean_share"] == pytest.approx(np.nanmean(share))
    assert made.table("images")["success"].sum() <= (share >= 0.5).sum()
