"""What stands in a record beside an accuracy is of its ε: medians, passes, verdicts, paired tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.evaluation.tables import records
from core.specs import SweepSpec
from core.storage import store
from tests.evaluation.tables.planted import MODEL, N, at, images, load, plant, right, sweep


def test_median_is_of_smallest_distances_alone(root: Path) -> None:
    """Not of what evaluations and sweeps find at the edge of their ball, and not where radii miss an image."""
    plant(root, "evaluate", eps=0.3, upper=0.3)
    sweep(root, np.full(N, 0.1), (0.0, 0.1))
    assert np.isnan(load(root).median())
    plant(root, "radii", n=10, upper=0.05)
    assert np.isnan(load(root).median())
    plant(root, "radii", upper=0.07)
    assert load(root).median() == pytest.approx(np.median(np.where(np.arange(N) < 10, 0.05, 0.07)[right(root)]))


def test_passes_are_those_of_the_searches_at_this_eps(root: Path) -> None:
    """Not of those at another ε, nor of another norm, nor of the whole ladder of a sweep."""
    plant(root, "evaluate", eps=0.3, upper=0.3, forwards=100, backwards=50)
    plant(root, "evaluate", eps=0.1, forwards=8, backwards=4)
    plant(root, "radii", norm="l2", upper=3.0, forwards=1000, backwards=500)
    record = load(root)
    assert (at(record, 0.3)["passes"], at(record, 0.1)["passes"]) == (150, 12)
    sweep(root, np.full(N, 0.3), (0.0, 0.1, 0.2, 0.3))
    record = load(root)
    assert at(record, 0.1)["passes"] == 12 + 11 + 10
    assert at(record, 0.2)["passes"] == 12 + 10
    plant(root, "radii", upper=0.25, forwards=20, backwards=20)
    assert at(load(root), 0.05)["passes"] == 40


def test_passes_that_were_not_counted_are_unknown(root: Path) -> None:
    """A sweep of before has none in its table."""
    model = store.open_model(MODEL, root).id
    tests = images(root)
    table = tests[["index", "y"]].assign(eps=0.1, pred=tests["y"], success=False, linf=0.1)
    store.write(SweepSpec(model=model, eps=(0.1,), n=N), root, card={"rows": []}, tables={"images": table})
    row = at(load(root), 0.1)
    assert np.isfinite(row["attacked"])
    assert np.isnan(row["passes"])


def test_verdict_is_that_of_this_eps_norm_and_images(root: Path) -> None:
    """Not of another ε, norm or set of images; of several evaluations at ε that of the highest effort."""
    for effort in ("standard", "quick"):
        plant(root, "evaluate", eps=0.3, effort=effort, card={"trust": {"of": effort}})
    plant(root, "evaluate", eps=0.2, n=10, card={"trust": {"of": "ten images"}})
    plant(root, "evaluate", eps=0.1, card={"trust": None})
    plant(root, "evaluate", norm="l2", eps=0.1, card={"trust": {"of": "l2"}})
    record = load(root)
    assert [look.trust for look in record.judged(3 * 0.1)] == [{"of": "standard"}, {"of": "quick"}]
    assert not any(record.judged(eps) for eps in (0.1, 0.2, 0.25, 0.31))
    assert not record.take(record.table["index"].to_numpy()[:10]).judged(0.3)
    assert record.take(record.table["index"].to_numpy()[:10]).judged(0.2)


def test_verdict_on_a_higher_accuracy_is_not_shown_beside_a_lower_one(root: Path) -> None:
    """Radii fool within .3 what the evaluation left: its checks are about another figure."""
    plant(root, "evaluate", eps=0.3, card={"trust": {"of": "the evaluation"}})
    assert load(root).judged(0.3)
    plant(root, "radii", upper=np.where(np.arange(N) < 3, 0.25, np.inf))
    assert not load(root).judged(0.3)
    assert load(root).checked(0.3)


def test_single_attacks_are_counted_at_this_eps(root: Path) -> None:
    """An evaluation at .3 is no hard search at .1, where only a sweep says that images are not fooled."""
    plant(root, "evaluate", eps=0.3, upper=0.3)
    sweep(root, np.full(N, 0.3), (0.1, 0.3))
    record = load(root)
    assert at(record, 0.1)["single_attacks"] == right(root).sum()
    assert at(record, 0.3)["single_attacks"] == 0
    plant(root, "evaluate", eps=0.2)
    assert at(load(root), 0.1)["single_attacks"] == 0  # what is not fooled within .2 is not within .1


def test_pairs_are_tested_on_what_was_searched_at_this_eps(root: Path) -> None:
    """Two records from evaluations at .3: at .1 there is nothing to test."""
    plant(root, "evaluate", eps=0.3, upper=0.3)
    found = {"A": load(root), "B": load(root)}
    assert records.tests(found, 0.3)["n"].tolist() == [N]
    assert len(records.tests(found, 0.1)) == 0
