"""What an enumeration of changes has proven about one image, as data and as a sentence: no more than was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Enumeration:
    """What `exhaustive` tried on one image, and what came of it.

    Attributes:
        colours: channels of the image: a feature is one colour of one pixel.
        levels: values that each single feature was put to, equally spaced from 0 to 1.
        features: those that were allowed to change.
        everything: whether these are all features of the image, and no mask.
        singles: images tried with one feature changed.
        single_flips: those of them that fool.
        pairs: images tried with two features at 0 or 1; 0 if none were wanted, or one feature was enough.
        pair_flips: those of them that fool.
        all_pairs: whether every pair was tried.
        changed: (feature, old value, new value) of what was found.
        fooled_before: whether there was nothing to do.
    """

    colours: int
    levels: int
    features: int
    everything: bool
    singles: int
    single_flips: int
    pairs: int
    pair_flips: int
    all_pairs: bool
    changed: tuple[tuple[tuple[int, ...], float, float], ...]
    fooled_before: bool

    @classmethod
    def of(cls, arrays: Mapping[str, Any], row: int = 0) -> Enumeration:
        """From the arrays of a saved attack (`x`, `trace_...`) of the method `exhaustive`."""
        x = np.asarray(arrays["x"][row])
        features = int((~np.isnan(arrays["trace_margin"][row])).sum())
        singles = int(arrays["trace_singles"][row])
        count = int((arrays["trace_feature"][row] >= 0).sum())
        places = [np.unravel_index(int(f), x.shape) for f in arrays["trace_feature"][row][:count]]
        changed = tuple(
            (tuple(int(p) for p in place), float(x[place]), float(value))
            for place, value in zip(places, arrays["trace_value"][row], strict=False)
        )
        return cls(
            colours=len(x),
            levels=singles // features if features else 0,
            features=features,
            everything=features == x.size,
            singles=singles,
            single_flips=int(arrays["trace_single_flips"][row]),
            pairs=int(arrays["trace_pairs"][row]),
            pair_flips=int(arrays["trace_pair_flips"][row]),
            all_pairs=bool(arrays["trace_all_pairs"][row]),
            changed=changed,
            fooled_before=singles == 0,
        )

    @property
    def fewest(self) -> int | None:
        """The smallest number of changed features that fools among all that were tried; None: nothing tried fools."""
        if self.fooled_before:
            return 0
        return len(self.changed) or None

    @property
    def more_than(self) -> int:
        """Proven: no change of so many features, to the values that were tried, fools."""
        if self.fooled_before or self.single_flips:
            return 0
        return 2 if self.all_pairs and not self.pair_flips else 1

    def sentence(self) -> str:
        """What is proven, and of what kind of changes."""
        if self.fooled_before:
            return "The image is classified as wanted before anything is changed."
        unit = "pixel" if self.colours == 1 else "feature (one colour of one pixel)"
        inside = "" if self.everything else f" inside the mask ({self.features:,} of them may change)"
        one = f"one {unit}{inside} to any of {self.levels:,} levels"
        if self.single_flips:
            return (
                f"One {unit} is enough: {self.single_flips:,} of the {self.singles:,} changes of {one} flip this image."
            )
        nothing = f"No change of {one} flips this image ({self.singles:,} images tried)"
        if not self.pairs:
            return f"{nothing}."
        tried = "every two" if self.all_pairs else f"the {self.pairs:,} most promising pairs"
        counted = f"{self.pair_flips:,} of {self.pairs:,} images" if self.all_pairs else f"{self.pair_flips:,} of them"
        if self.pair_flips:
            return f"{nothing}; two are enough: with {tried} at 0 or 1, {counted} flip it."
        if self.all_pairs:
            return f"{nothing}, and no change of two to 0 or 1 does ({self.pairs:,} images tried)."
        return f"{nothing}, and none of {tried} at 0 or 1 does; the other pairs were not tried."


def summary(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What was proven of all images of a saved attack of the method `exhaustive`, as numbers and as a sentence.

    Returns:
        `one_is_enough`, `two_are_enough`, `nothing_found`: images, those fooled before left out; `tried`: images tried
        for them; `proven`: the sentence.
    """
    proofs = [proof for row in range(len(arrays["x"])) if not (proof := Enumeration.of(arrays, row)).fooled_before]
    one, two = (sum(proof.fewest == count for proof in proofs) for count in (1, 2))
    none = len(proofs) - one - two
    tried = sum(proof.singles + proof.pairs for proof in proofs)
    if len(proofs) == 1:
        sentence = proofs[0].sentence()
    elif not proofs:
        sentence = "Every image is classified as wanted before anything is changed."
    else:
        unit = "pixel" if proofs[0].colours == 1 else "feature (one colour of one pixel)"
        unit += "" if proofs[0].everything else " inside the mask"
        levels, paired = proofs[0].levels, [proof for proof in proofs if proof.pairs]
        sentence = f"No change of one {unit} to any of {levels:,} levels flips any of {len(proofs):,} images"
        if one:
            sentence = f"One {unit} at one of {levels:,} levels flips {one:,} of {len(proofs):,} images, not the others"
        if paired:
            every = all(proof.all_pairs for proof in paired)
            sentence += "; no change of two to 0 or 1 does" if every else "; none of the pairs tried at 0 or 1 does"
            if two:
                which = "two at 0 or 1" if every else "two at 0 or 1, of the pairs tried,"
                sentence = f"{sentence.rpartition(';')[0]}; {which} flip {two:,} of these {len(paired):,}"
        sentence += f" ({tried:,} images tried)."
    return {"one_is_enough": one, "two_are_enough": two, "nothing_found": none, "tried": tried, "proven": sentence}
