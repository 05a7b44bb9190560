"""Is A more robust than B? Paired tests on the same images, corrected where there are many of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import bdtr

LEVEL = 0.05
"""A difference counts from here on, after Holm's correction."""


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p of McNemar's test (1947): images that only one is right on are as likely to be either's.

    The binomial test of only_a out of only_a + only_b at 1/2: twice the smaller tail; 1 when there is no such image.
    """
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a + only_b else 1.0


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values of several tests at once, corrected so that the chance of any false one keeps to the level (Holm 1979).

    The smallest is multiplied by their number, the next by one less, and so on; they never fall along the order.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def pairs(right: Mapping[str, pd.Series], searched: Mapping[str, str] | None = None) -> pd.DataFrame:
    """McNemar's test for each pair of columns of verdicts, on the images that both have.

    Args:
        right: name → a verdict an image (bool), indexed by the image's number.
        searched: name → how hard it was searched, in words; by default all alike.

    Returns:
        A row a pair: a, b, n (shared images), both, only_a, only_b, neither, p, p_holm, and `better`: the name of the
        one that is right more often where `p_holm` is below `LEVEL`, else "". Pairs that share no image are left out.
        `unequal` names the two searches where they differ, else ""; `better` is "" then: the search may be the cause.
    """
    rows = []
    for a, b in itertools.combinations(right, 2):
        one, other = right[a], right[b]
        if not one.index.equals(other.index):
            shared = one.index.intersection(other.index)
            one, other = one.loc[shared], other.loc[shared]
        if not len(one):
            continue
        of_a, of_b = one.to_numpy(bool), other.to_numpy(bool)
        counts = [int(found.sum()) for found in (of_a & of_b, of_a & ~of_b, ~of_a & of_b, ~of_a & ~of_b)]
        rows.append([a, b, len(one), *counts, mcnemar(counts[1], counts[2])])
    table = pd.DataFrame(rows, columns=["a", "b", "n", "both", "only_a", "only_b", "neither", "p"])
    said = dict(searched or {})
    table["unequal"] = [
        "" if said.get(a, "") == said.get(b, "") else f"{a}: {said.get(a, '')}; {b}: {said.get(b, '')}"
        for a, b in zip(table["a"], table["b"], strict=True)
    ]
    return corrected(table)


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `pairs`, perhaps of several calls, with `p_holm` and `better` for all of them as one family."""
    p_holm = holm(table["p"].to_numpy(dtype=np.float64))
    ahead = np.where(table["only_a"] > table["only_b"], table["a"], table["b"])
    shown = (p_holm < LEVEL) & (table["unequal"] == "").to_numpy()
    return table.assign(p_holm=p_holm, better=np.where(shown, ahead, ""))


def sentence(row: Mapping[str, object]) -> str:
    """A row of `pairs` in words: `A is more robust than B (51 images against 12, of 1,000; p = 3e-06)`.

    The p is `p_holm`, marked `p (Holm)` where the correction changed it. Unequal searches are named, and
    nothing is said of robustness.
    """
    only_a, only_b, n = (int(str(row[name])) for name in ("only_a", "only_b", "n"))
    p = float(str(row["p_holm"]))
    said = "below 1e-300" if p < 1e-300 else f"= {p:.2g}"
    name = "p" if p == float(str(row["p"])) else "p (Holm)"
    more, fewer = max(only_a, only_b), min(only_a, only_b)
    counts = f"{more:,} image{'s' if more != 1 else ''} against {fewer:,}, of {n:,}; {name} {said}"
    if row.get("unequal"):
        return f"{row['a']} and {row['b']} were searched unequally ({row['unequal']}): not compared ({counts}, of both)"
    if not row["better"]:
        return f"no difference shown between {row['a']} and {row['b']} ({counts})"
    worse = row["b"] if row["better"] == row["a"] else row["a"]
    return f"{row['better']} is more robust than {worse} ({counts})"
