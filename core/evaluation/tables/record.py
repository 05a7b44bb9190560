"""What is known about a model's images in one norm, and which searches and proofs hold at an ε. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd

from core.epsilon import SAME, reaches, same, within
from core.evaluation.tables.artifact_bounds import Look
from core.specs import EvaluateSpec

EFFORTS = get_args(EvaluateSpec.model_fields["effort"].annotation)
"""From the least effort level to the highest."""


@dataclass(frozen=True)
class Source:
    """An artifact that a record rests on, and of how many images it gave the bound that counts."""

    id: str
    task: str
    norm: str
    eps: float | None
    n: int
    passes: float
    uppers: int = 0
    lowers: int = 0
    search: str = ""
    """Of radii and evaluations: how hard they looked, such as `radii of 200 passes`."""


@dataclass(frozen=True)
class Record:
    """Bounds of every image in one norm.

    Attributes:
        model: id of the model.
        data: the data set and the classes that its images are of; only in the same one do indices name the same images.
        norm: linf, l2, l1 or l0.
        table: a row an image, in the test set's fixed order: index, y, clean_correct, lower (0 where nothing is
            proven), upper (inf where nothing was found, 0 where the image is wrong as it is), found_by, found_in and
            proven_in (ids of artifacts, "" for none), forwards and backwards (spent on it by radii, evaluations and
            attacks), search (the radii and evaluations in this norm that looked at it, in words, "" for none), stood
            (the largest ε at which a search did not fool it; inf after a search for the smallest change, 0 where no
            search was), smallest (whether such a search looked at it), proof_tried (the largest ε at which a proof was
            tried, 0 for none) and proof_failed (the smallest ε at which one did not succeed, inf for none).
        sources: what it was merged from.
        looks: the searches in this norm, one a budget.
        contradictions: the images for which a certificate and a verified adversarial example disagree, with both bounds
            and where they come from: a bug in one of the two. The example counts, since a forward pass confirms it.
        left_out: ids of artifacts that were made from other images than the record's, though of the same data set.
        images: the data set in words, such as `MNIST, 4 against 9`.
    """

    model: str
    data: str
    norm: str
    table: pd.DataFrame
    sources: tuple[Source, ...]
    contradictions: pd.DataFrame
    left_out: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()
    images: str = ""

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def uppers(self) -> np.ndarray:
        """The distances found, sorted."""
        return np.sort(self.table["upper"].to_numpy())

    def budget(self, eps: Any) -> Any:
        """The budget that an ε means: in l0, whole features."""
        at = np.asarray(eps, dtype=np.float64)
        return np.floor(at * (1 + SAME)) if self.norm == "l0" else at

    def fooled(self, eps: float) -> np.ndarray:
        """(n,) bool: misclassified somewhere within ε, by whatever was tried; wherever it was found, this holds."""
        return np.asarray(within(self.table["upper"].to_numpy(), self.budget(eps)))

    def robust(self, eps: float) -> np.ndarray:
        """(n,) bool: not fooled within ε by whatever was tried, which may be nothing: see `unknown`."""
        return ~self.fooled(eps)

    def proven(self, eps: float) -> np.ndarray:
        """(n,) bool: proven to be robust at ε."""
        proven = reaches(self.table["lower"].to_numpy(), self.budget(eps))
        return np.asarray(proven & self.table["clean_correct"].to_numpy())

    def unknown(self, eps: float) -> np.ndarray:
        """(n,) bool: neither fooled nor proven at ε, and no search at that ε looked at it."""
        stood = reaches(self.table["stood"].to_numpy(), self.budget(eps))
        return ~(self.fooled(eps) | self.proven(eps) | stood)

    def unproven(self, eps: float) -> np.ndarray:
        """(n,) bool: neither fooled nor proven at ε, and no proof was tried there.

        A proof that failed at ε' counts as tried at every ε from ε' on, and says nothing about smaller ones.
        """
        failed = within(self.table["proof_failed"].to_numpy(), self.budget(eps))
        return ~(self.fooled(eps) | self.proven(eps) | failed)

    def looked(self, eps: float, *, hard: bool = False) -> np.ndarray:
        """(n,) bool: a search at this very ε, or one for the smallest change, looked at it, whatever it found.

        hard: only radii and evaluations count; a single attack may be a weak one.
        """
        found = np.zeros(len(self), dtype=bool)
        for look, (there, _) in zip(self.looks, self._costs, strict=True):
            if (look.text or not hard) and self._speaks(look, eps):
                found |= there
        return found & (self.table["search"] != "").to_numpy() if hard else found

    def single(self, eps: float) -> np.ndarray:
        """(n,) bool: neither fooled nor proven at ε, and only single attacks say so; they may be weak ones."""
        hard, upper = np.zeros(len(self), dtype=bool), self.table["upper"].to_numpy()
        for look, (there, _) in zip(self.looks, self._costs, strict=True):
            if look.text and self._speaks(look, eps):
                hard |= there
            elif look.text and look.eps is not None and reaches(self.budget(look.eps), self.budget(eps)):
                hard |= there & ~within(upper, self.budget(look.eps))
        return ~(self.fooled(eps) | self.proven(eps) | self.unknown(eps) | hard)

    def passes(self, eps: float) -> float:
        """Forward and backward passes an image, of the searches that its accuracy under attack at ε rests on.

        Those at this ε and for the smallest change; where there was none, the one that fooled the image in a smaller
        ball, or did not in a larger one. NaN where the accuracy is unknown, or a search did not count its passes.
        """
        if not len(self) or self.unknown(eps).any():
            return float("nan")
        total, here = np.zeros(len(self)), np.zeros(len(self), dtype=bool)
        for look, (there, cost) in zip(self.looks, self._costs, strict=True):
            if self._speaks(look, eps):
                total[there] += cost[there]
                here |= there
        if here.all():
            return float(total.mean())
        at, found_in, fooled = self.budget(eps), self.table["found_in"].to_numpy(), self.fooled(eps)
        upper, proven = self.table["upper"].to_numpy(), self.proven(eps)
        fixed = [(look, part) for look, part in zip(self.looks, self._costs, strict=True) if look.eps is not None]
        for look, (there, cost) in sorted(fixed, key=lambda pair: pair[0].eps or 0.0):
            reach = self.budget(look.eps)
            decided = np.where(
                fooled, (found_in == look.id) & within(upper, reach), reaches(reach, at) & ~within(upper, reach)
            )
            mine = there & ~here & decided.astype(bool) & ~proven
            total[mine] = cost[mine]
            here |= mine
        return float(total.mean()) if here.any() else float("nan")

    def judged(self, eps: float) -> list[Look]:
        """The evaluations whose reliability checks are about `attacked` at ε: this ε, these images, this accuracy.

        The highest effort first, of equal ones the newest. What the checks of another ε or of other images say is not
        about the accuracy at this one; nor are those of an evaluation that did not fool images which others fooled.
        """
        robust = int(self.robust(eps).sum())
        found = [look for look in self.checked(eps) if look.robust == robust]
        return sorted(found, key=lambda look: -EFFORTS.index(look.effort) if look.effort in EFFORTS else 0)

    def checked(self, eps: float) -> list[Look]:
        """The evaluations at this very ε on exactly these images that came with reliability checks."""
        images = set(self.table["index"])
        return [
            look
            for look in self.looks
            if look.trust and look.eps is not None and self._speaks(look, eps) and set(look.index) == images
        ]

    def budgets(self, *, hard: bool = False) -> list[float]:
        """The ε of the searches at one budget, rising: those of evaluations if `hard`, else of single attacks, too."""
        found: list[float] = []
        for eps in sorted(look.eps for look in self.looks if look.eps is not None and (look.text or not hard)):
            if not found or not same(found[-1], eps):
                found.append(eps)
        return found

    def known(self, eps: float) -> bool:
        """Whether accuracy under attack at ε is known."""
        return bool(len(self)) and not self.unknown(eps).any()

    def _speaks(self, look: Look, eps: float) -> bool:
        return look.eps is None or bool(same(self.budget(look.eps), self.budget(eps)))

    @cached_property
    def _costs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each look: (n,) whether it looked at the image, and the passes that it spent on it."""
        index = pd.Index(self.table["index"])
        found = []
        for look in self.looks:
            place = pd.Index(look.index).get_indexer(index)
            found.append((place >= 0, np.where(place >= 0, look.passes[np.maximum(place, 0)], 0.0)))
        return found

    @cached_property
    def searched(self) -> bool:
        """Whether radii or an evaluation in this norm looked at every image; sweeps alone may be weak attacks."""
        return bool((self.table["search"] != "").all())

    @cached_property
    def search(self) -> str:
        """How hard radii and evaluations in this norm looked, in words; equal for models that were searched alike."""
        counts = self.table["search"].value_counts()
        if len(counts) <= 1:
            return str(next(iter(counts.index), ""))
        return "; ".join(f"{text or 'single attacks'} on {count:,} images" for text, count in counts.items())

    def median(self) -> float:
        """Median smallest distance found, over the correctly classified images; inf where most were never fooled.

        NaN unless a search for the smallest change in this norm looked at all of them: the distances that attacks at
        one ε find are about that ε.
        """
        held = self.table[self.table["clean_correct"]]
        return float(held["upper"].median()) if len(held) and held["smallest"].all() else float("nan")

    def take(self, index: np.ndarray) -> Record:
        """The record of some of its images, in its own order; `index` names each once."""
        if len(index) == len(self) and np.isin(self.table["index"], index).all():
            return self
        return replace(self, table=self.table[self.table["index"].isin(index)].reset_index(drop=True))
