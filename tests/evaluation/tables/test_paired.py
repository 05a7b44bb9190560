"""Paired tests: exact, corrected for their number, and put in words."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from core.evaluation.tables.paired import holm, mcnemar, pairs, sentence


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (40, 12), (1200, 1000), (5000, 0)])
def test_mcnemar_is_the_count_of_the_binomial(only_a: int, only_b: int) -> None:
    """Against the sum of binomial coefficients, in whole numbers."""
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-9)


def test_holm_corrects_step_by_step() -> None:
    """By hand: .01·4, .02·3, .03·2 held up to .06, .5·1; in the order given, never above 1, one test left alone."""
    assert holm([0.02, 0.5, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []


def test_holm_rejects_what_its_definition_rejects() -> None:
    """At any level: rejected are the smallest p while p·(m − rank) keeps to it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.uniform(0, 0.2, 6)
        kept, expected = np.sort(p), []
        for rank, value in enumerate(kept):
            if value * (6 - rank) > 0.05:
                break
            expected.append(value)
        assert sorted(p[holm(p) <= 0.05]) == expected


def test_pairs_count_the_shared_images_only() -> None:
    """A and B share four images: the table, its p and its verdict are of those."""
    a = pd.Series([True, True, True, False, True], index=[7, 3, 5, 9, 1])
    b = pd.Series([True, False, False, False], index=[3, 5, 9, 7])
    c = pd.Series([True], index=[100])
    table = pairs({"A": a, "B": b, "C": c})
    (row,) = table.to_dict("records")
    assert [row[name] for name in ("a", "b", "n", "both", "only_a", "only_b", "neither")] == ["A", "B", 4, 1, 2, 0, 1]
    assert row["p"] == 0.5
    assert row["better"] == ""
    assert sentence(row) == "no difference shown between A and B (2 images against 0, of 4; p = 0.5)"
    assert "(1 image against 0, of 4;" in sentence({**row, "only_a": 1})


def test_clear_difference_names_the_better() -> None:
    """Whichever way round it is asked; three tests at once are corrected."""
    index = np.arange(200)
    strong, weak = pd.Series(index < 150, index), pd.Series(index < 100, index)
    for names in (("A", "B"), ("B", "A")):
        series = {"A": strong, "B": weak}
        (row,) = pairs({name: series[name] for name in names}).to_dict("records")
        assert row["better"] == "A"
        assert sentence(row).startswith("A is more robust than B (50 images against 0, of 200; p = ")
    three = pairs({"A": strong, "B": weak, "C": strong})
    assert len(three) == 3
    assert three["p_holm"].tolist() == pytest.approx([min(1, 3 * three["p"][0]), 1, min(1, 3 * three["p"][2])])


def test_unequal_searches_are_named_and_not_compared() -> None:
    """However clear the counts are; equal ones are compared, and a corrected p says so."""
    index = np.arange(200)
    series = {name: pd.Series(index < most, index) for name, most in (("A", 150), ("B", 100), ("C", 100))}
    searched = {"A": "radii of 60 passes", "B": "evaluation quick at ε 0.1", "C": "radii of 60 passes"}
    rows = {(row["a"], row["b"]): row for row in pairs(series, searched).to_dict("records")}
    assert rows["A", "B"]["better"] == ""
    said = sentence(rows["A", "B"])
    assert "searched unequally (A: radii of 60 passes; B: evaluation quick at ε 0.1)" in said
    assert "p (Holm) = " in said
    assert "more robust" not in said
    assert sentence(rows["A", "C"]).startswith("A is more robust than C (50 images against 0, of 200; p (Holm) = ")
