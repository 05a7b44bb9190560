"""The embedded data set: scikit-learn's handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.data.sets import Split, shuffled
from core.specs import DATASETS


def digits(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """1,797 images of 8 by 8 pixels, their 17 grey levels scaled to 0…255; a fixed fifth is the test part.

    They come with scikit-learn: both arguments are ignored.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    both = Split.of(np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None], raw.target)
    order = shuffled(len(both))
    train_size = DATASETS["digits"].train_size
    return both.take(order[:train_size]), both.take(order[train_size:])
