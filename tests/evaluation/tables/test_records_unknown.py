"""What a record does not know at an ε it does not say: accuracy and proofs of another ε; which ε are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.epsilon import reaches, same, within
from core.evaluation.tables import records
from core.jobs import queue
from core.specs import AttackSpec, EvaluateSpec, SweepSpec
from core.storage import store
from tests.evaluation.tables.planted import MODEL, N, at, images, load, plant, right, sweep
from tests.planted import CARD

COMMON = [*(k / 255 for k in (1, 2, 4, 8, 16, 32, 64)), 0.1, 0.2, 0.3, 3 * 0.1, 0.031, 0.0314]


# ---------------------------------------------------------------- accuracy under attack


def test_search_in_a_larger_ball_says_nothing_of_those_it_fooled(root: Path) -> None:
    """An evaluation at .3 that fools all: 0 % there and above, unknown below, clean accuracy at 0."""
    plant(root, "evaluate", eps=0.3, upper=0.3)
    record = load(root)
    for eps in (0.001, 0.1, 0.2, 0.3 * (1 - 1e-6)):
        row = at(record, eps)
        assert np.isnan([row["attacked"], row["attacked_low"], row["attacked_high"], row["passes"]]).all()
        assert row["not_searched"] == right(root).sum()
        assert "searched at ε = 0.3" in row["note"]
        assert not record.judged(eps)
    for eps in (0.3, 3 * 0.1, np.nextafter(0.3, 0), 0.5):
        assert (at(record, eps)["attacked"], at(record, eps)["not_searched"]) == (0, 0)
    assert at(record, 0)["attacked"] == at(record, 0)["proven"] == right(root).mean()


def test_search_in_a_larger_ball_speaks_of_those_it_did_not_fool(root: Path) -> None:
    """What is not fooled within .3 is not fooled within .1 either; a smaller ball says nothing of a larger one."""
    plant(root, "evaluate", eps=0.3)
    record = load(root)
    assert at(record, 0.1)["attacked"] == at(record, 0.3)["attacked"] == right(root).mean()
    assert np.isnan(at(record, 0.31)["attacked"])


def test_example_of_a_smaller_ball_is_the_least_that_is_fooled(root: Path) -> None:
    """Half fall within .1: at .2, where nobody searched, the accuracy is unknown and at least half are fooled."""
    upper = np.where(np.arange(N) < N // 2, 0.1, np.inf)
    plant(root, "evaluate", eps=0.1, upper=upper)
    row = at(load(root), 0.2)
    fooled = (~right(root) | (upper <= 0.1)).mean()
    assert np.isnan(row["attacked"])
    assert row["fooled_at_least"] == fooled
    assert "correctly classified images are fooled, at distances up to 0.1" in row["note"]
    assert at(load(root), 0.1)["attacked"] == 1 - fooled


def test_images_that_one_search_left_out_are_unknown(root: Path) -> None:
    """An evaluation of 20 images at .1 and of 10 at .2: at .2 ten were not searched."""
    plant(root, "evaluate", eps=0.1)
    plant(root, "evaluate", eps=0.2, n=10)
    record = load(root)
    row = at(record, 0.2)
    assert np.isnan(row["attacked"])
    assert row["not_searched"] == right(root)[10:].sum()
    assert at(record.take(record.table["index"].to_numpy()[:10]), 0.2)["attacked"] == right(root)[:10].mean()


def test_smallest_changes_speak_of_every_eps(root: Path) -> None:
    """Radii leave nothing unknown, nor does `minimum` on the images of the record; bounds alone search nothing."""
    plant(root, "certify", eps=0.1, method="crown")
    record = load(root)
    assert np.isnan(at(record, 0.1)["attacked"])
    assert np.isnan(record.median())
    index = [int(value) for value in record.table["index"]]
    model = store.open_model(MODEL, root).id
    queue.run(AttackSpec(model=model, attack={"name": "minimum", "norm": "linf", "budget": 60}, indices=index), root)  # type: ignore[arg-type]
    record = load(root)
    assert not records.curve(record, np.linspace(0, 1, 50))["attacked"].isna().any()
    assert np.isfinite(record.median())
    plant(root, "radii", upper=0.2)
    assert not records.curve(load(root), np.linspace(0, 1, 50))["attacked"].isna().any()


@pytest.mark.parametrize("restricted", [{"target": 3}, {"eight_bit": True}, {"mask": "patch"}])
def test_attack_that_leaves_changes_out_is_no_search(root: Path, restricted: dict[str, Any]) -> None:
    """Towards one class, under a mask or in 8 bits most of the ball is not looked at; what it fools still counts."""
    plant(root, "evaluate", eps=0.1, upper=0.1)
    model = store.open_model(MODEL, root).id
    index = [int(value) for value in load(root).table["index"]]
    queue.run(
        AttackSpec.model_validate({"model": model, "attack": "pgd", "eps": 0.05, "indices": index} | restricted), root
    )
    assert np.isnan(at(load(root), 0.05)["attacked"])


def test_sweep_speaks_of_its_own_budgets(root: Path) -> None:
    """At each rung, not between two of them where an image falls at the upper one."""
    fooled_at = np.where(np.arange(N) < 8, 0.1, 0.3)
    sweep(root, fooled_at, (0.0, 0.1, 0.2, 0.3))
    record = load(root)
    for eps, stand in ((0, fooled_at > 0), (0.1, fooled_at > 0.1), (0.2, fooled_at > 0.2), (3 * 0.1, fooled_at > 0.3)):
        assert at(record, eps)["attacked"] == pytest.approx((stand & right(root)).mean())
    assert np.isnan(at(record, 0.05)["attacked"])
    assert np.isnan(at(record, 0.25)["attacked"])
    assert at(record, 0.15)["attacked"] == at(record, 0.2)["attacked"]  # none of those left falls within .2
    targeted = load(root)
    sweep(root, fooled_at, (0.05, 0.25), target=3)
    assert np.isnan(at(load(root), 0.05)["attacked"])
    assert targeted.searched == load(root).searched


def test_another_norm_is_no_search_in_this_one(root: Path) -> None:
    """Radii in l2 bound the distances in linf, and say nothing of what a search in linf would have found."""
    plant(root, "certify", eps=0.1, method="ibp")
    plant(root, "radii", norm="l2", upper=1.5)
    record = load(root)
    assert record.table["upper"][right(root)].tolist() == [1.5] * int(right(root).sum())
    assert np.isnan(at(record, 0.1)["attacked"])
    assert np.isnan(record.median())


def test_l0_counts_whole_features(root: Path) -> None:
    """Below one feature nothing may change; 5.5 features are 5."""
    plant(root, "evaluate", norm="l0", eps=5, upper=np.where(np.arange(N) < 8, 4.0, np.inf))
    record = load(root, "l0")
    assert at(record, 0.5)["attacked"] == at(record, 0.5)["proven"] == right(root).mean()
    stand = (right(root) & (np.arange(N) >= 8)).mean()
    assert at(record, 5)["attacked"] == at(record, 5.5)["attacked"] == stand
    assert np.isnan(at(record, 6)["attacked"])
    assert np.isnan(at(record, 3)["attacked"])


# ---------------------------------------------------------------- proofs


def test_no_proof_tried_is_no_zero(root: Path) -> None:
    """Of an evaluation or radii without bounds, at any ε above 0; with bounds that prove nothing it is 0."""
    plant(root, "evaluate", eps=0.3, upper=0.3)
    plant(root, "radii", upper=0.2, card={"certificate": None})
    record = load(root)
    for eps in (0.01, 0.1, 0.3, 0.5):
        row = at(record, eps)
        assert np.isnan([row["proven"], row["proven_low"], row["proven_high"]]).all()
        assert "no proof was tried at this ε" in row["note"]
    plant(root, "radii", upper=0.2, budget=300, card={"certificate": "interval bounds"})
    assert [at(load(root), eps)["proven"] for eps in (0.01, 0.1, 0.5)] == [0, 0, 0]


def test_proof_speaks_of_smaller_balls_and_failure_of_larger_ones(root: Path) -> None:
    """Half proven at .1: so it is below, at .1, and unknown above."""
    proven = np.arange(N) < N // 2
    plant(root, "certify", eps=0.1, method="ibp", lower=np.where(proven & right(root), 0.1, 0.0))
    record = load(root)
    share = (proven & right(root)).mean()
    assert [at(record, eps)["proven"] for eps in (0.01, 0.1, np.nextafter(0.1, 1))] == [share] * 3
    assert at(record, 0.01)["no_proof_tried"] == (~proven & right(root)).sum()
    assert at(record, 0.1)["no_proof_tried"] == 0
    assert np.isnan(at(record, 0.11)["proven"])


def test_proof_that_failed_says_nothing_of_smaller_balls(root: Path) -> None:
    """None is proven at .1: 0 % there and above, unknown below."""
    plant(root, "certify", eps=0.1, method="ibp")
    record = load(root)
    assert [at(record, eps)["proven"] for eps in (0.1, 0.2)] == [0, 0]
    assert np.isnan(at(record, 0.05)["proven"])


def test_proof_on_some_images_is_no_share_of_all(root: Path) -> None:
    """Ten of twenty were certified: the share of the twenty is unknown."""
    plant(root, "radii", upper=0.4, card={"certificate": None})
    plant(root, "certify", eps=0.1, n=10, method="ibp", lower=np.where(right(root, 10), 0.1, 0.0))
    row = at(load(root), 0.1)
    assert np.isnan(row["proven"])
    assert row["no_proof_tried"] == right(root)[10:].sum()


@pytest.mark.slow
def test_evaluation_says_whether_it_tried_a_proof(root: Path) -> None:
    """In linf on a network with bounds it does, in l0 never: there the share is null, not 0."""
    model = store.open_model(MODEL, root).id
    cards = {}
    for norm, eps in (("linf", 0.02), ("l0", 1)):
        made = queue.run(EvaluateSpec(model=model, norm=norm, eps=eps, effort="quick", n=10), root)  # type: ignore[arg-type]
        assert isinstance(made, store.Artifact)
        cards[norm] = made.card
    assert cards["linf"]["certificate"] == "interval bounds"
    assert cards["linf"]["metrics"]["proven_accuracy"] is not None
    assert (cards["l0"]["certificate"], cards["l0"]["metrics"]["proven_accuracy"]) == (None, None)
    assert at(load(root), 0.02)["proven"] > 0
    assert np.isnan(at(load(root, "l0"), 1)["proven"])


# ---------------------------------------------------------------- one rule for ε


@pytest.mark.sampled(9)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distances_stored_by_older_versions_are_read_at_their_eps(root: Path, norm: str, dtype: type) -> None:
    """Whatever ε is rounded to, a fooled image of a run at ε is fooled at ε, and what is proven at ε is proven."""
    rng = np.random.default_rng(0)
    table = images(root)
    for eps in [*COMMON, *rng.uniform(0.001, 1, 6)]:
        spec = EvaluateSpec(model=store.open_model(MODEL, root).id, norm=norm, eps=eps, n=N)  # type: ignore[arg-type]
        rounded = np.asarray(eps, dtype=dtype) * (1 + np.finfo(dtype).eps)
        upper = np.where(np.arange(N) < 10, float(rounded), np.inf)
        upper[~right(root)] = 0
        made = table.assign(lower=0.0, upper=upper, found_by="", forwards=1, backwards=1)
        artifact = store.write(spec, root, card={**CARD, "norm": norm, "eps": eps}, tables={"images": made})
        record = records.merge(store.open_model(MODEL, root), norm, [artifact])
        assert record is not None
        assert at(record, eps)["attacked"] == (right(root) & (np.arange(N) >= 10)).mean()
        assert at(record, eps)["attacked"] == at(record, eps * (1 + 1e-13))["attacked"]


def test_sweep_s_success_counts_at_its_eps(root: Path) -> None:
    """Its distance was rounded to more than ε by far more than float32's last digit of ε: a pixel near 1."""
    model, tests = store.open_model(MODEL, root).id, images(root)
    eps, rounded = 0.0005, float(np.float32(1) - np.float32(1 - 0.0005 - 4e-8))
    assert rounded > eps * (1 + 1e-6)
    pred = (tests["y"] + 1) % 10
    table = tests[["index", "y"]].assign(eps=eps, pred=pred, success=True, linf=rounded)
    store.write(SweepSpec(model=model, eps=(eps,), n=N), root, card={"rows": []}, tables={"images": table})
    assert at(load(root), eps)["attacked"] == 0


@pytest.mark.slow
def test_curve_compares_by_the_one_rule(root: Path) -> None:
    """A thousand ε and the common ones: each image by `within` and `reaches`, from just below to just above a bound."""
    rng = np.random.default_rng(1)
    eps = np.array([*COMMON, *rng.uniform(0, 1, 1000)])
    upper = rng.choice(eps, N)
    lower = upper * rng.choice([0.5, 1 - 1e-9], N)
    plant(root, "radii", upper=upper, lower=np.where(right(root), lower, 0))
    record = load(root)
    table = record.table
    for factor in (1, 1 + 1e-13, 1 - 1e-13, 1 + 1e-9, 1 - 1e-9):
        made = records.curve(record, eps * factor)
        for row in made.to_dict("records"):
            fooled = within(table["upper"].to_numpy(), row["eps"])
            proven = reaches(table["lower"].to_numpy(), row["eps"]) & table["clean_correct"].to_numpy()
            assert row["attacked"] == (~fooled).mean()
            assert row["proven"] == proven.mean()
    assert (made["proven"] <= made["attacked"]).all()


def test_an_eps_is_looked_up_by_the_same_rule() -> None:
    """Two numbers that differ in the last digits are one ε, others are not."""
    for eps in COMMON:
        assert same(eps, eps * (1 + 5e-13))
        assert not same(eps, float(np.float32(eps)) + 1e-7 * eps)
        assert not same(eps, eps + 1e-9)
    assert same(3 * 0.1, 0.3)
    assert same(0.0, 0.0)
    assert not same(float("nan"), 0.1)


def test_what_is_no_budget_and_no_number_of_images_is_refused(root: Path) -> None:
    """Below 0 nothing is fooled, not even images that are misclassified unchanged: no figure is about that."""
    plant(root, "radii", norm="linf")
    for eps in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^eps: expected finite budgets of 0 or more, got "):
            records.curve(load(root), [0.1, eps])
    for n in (0, -5):
        with pytest.raises(ValueError, match=r"^n: expected 1 or more images, got "):
            records.load(store.open_model(MODEL, root).id, "linf", root, n=n)
