"""Randomised smoothing: an l2 certificate, with a confidence, for the vote of a model on noisy copies of an image.

Source: Cohen, Rosenfeld, Kolter 2019, arXiv 1902.02918, algorithms CERTIFY and PREDICT. The certificate is about the
smoothed classifier g(x), the class that the model gives most often on x + N(0, sigma²), not about the model itself. As
in the paper, noisy images are not clipped to [0, 1]. Where the model's logits are NaN, the draw counts and is a vote
for no class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import beta, binomtest, norm
from torch import Tensor, nn

from core.attacks.engine.checks import check_images
from core.attacks.engine.door import attack
from core.attacks.engine.engine import fast_layout, frozen
from core.attacks.engine.losses import predicted
from core.attacks.engine.streams import Streams, default_streams
from core.progress import Progress

N0 = 100
"""Draws that choose the class."""
ABSTAIN = -1
"""The prediction where the votes are too close."""
DRAWS = 1000
"""Noisy copies in one forward pass."""


@dataclass(frozen=True)
class Smoothed:
    """One certificate per image, each wrong with a probability of at most `alpha`.

    Attributes:
        pred: (N,) int64 class of the smoothed classifier, or -1: abstained.
        radius: (N,) float64 l2 radius in which it gives that class; 0 where it abstained.
        share: (N,) float64 lower bound of the class's share of the votes.
        n0, n, alpha, sigma: draws that chose the class, draws that certified it, the probability of an error, the
            noise's standard deviation.
    """

    pred: np.ndarray
    radius: np.ndarray
    share: np.ndarray
    n0: int
    n: int
    alpha: float
    sigma: float


@attack(gradients=False)
def certify(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    *,
    sigma: float,
    n0: int = N0,
    n: int = 100_000,
    alpha: float = 0.001,
    streams: Streams | None = None,
    on_progress: Progress | None = None,
) -> Smoothed:
    """The smoothed classifier's class, and the radius within which it is certified.

    The class is the most frequent one of n0 draws. Its share of n other draws is at least p with confidence 1 - alpha
    (Clopper and Pearson, one-sided); the radius is sigma times the normal quantile of p. Abstains where p is at most
    1/2.

    Args:
        model: pixels to logits; also sees pixels outside [0, 1].
        x: (N, C, H, W) in [0, 1].
        sigma: standard deviation of the noise, in units of a pixel's range, more than 0.
        n0: draws that choose the class.
        n: draws that certify it.
        alpha: probability that a certificate is wrong, between 0 and 1.
        streams: random numbers per image; those of seed 0 by default. An image's certificate depends on no other image.
        on_progress: called with images done and all images.

    Raises:
        ValueError: a number out of its range.
    """
    classes = _check(model, x, sigma, n, alpha)
    if not isinstance(n0, int) or n0 < 1:
        raise ValueError(f"n0: expected 1 or more draws, got {n0}")
    streams = default_streams(streams, x)
    pred = np.full(len(x), ABSTAIN, dtype=np.int64)
    radius, share = np.zeros(len(x)), np.zeros(len(x))
    for row in range(len(x)):
        own = streams.take(slice(row, row + 1))
        image = x[row : row + 1]
        first = votes(model, image, sigma, n0, classes, own.fork(0))
        favourite = int(first.argmax())
        count = int(votes(model, image, sigma, n, classes, own.fork(1))[favourite])
        share[row] = lower_share(count, n, alpha)
        if first[favourite] and share[row] > 0.5:
            pred[row], radius[row] = favourite, sigma * norm.ppf(share[row])
        if on_progress:
            on_progress(row + 1, len(x), phase="smoothing", abstained=float((pred[: row + 1] == ABSTAIN).mean()))
    return Smoothed(pred, radius, share, n0, n, alpha, sigma)


@attack(gradients=False)
def predict(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    *,
    sigma: float,
    n: int = 1000,
    alpha: float = 0.001,
    streams: Streams | None = None,
) -> np.ndarray:
    """The smoothed classifier's class, wrong with a probability of at most `alpha`; -1 where the votes are too close.

    The two favourites are compared by the exact two-sided binomial test; draws without a class are together one of the
    candidates, which is never predicted. Arguments and errors as in `certify`.
    """
    classes = _check(model, x, sigma, n, alpha)
    streams = default_streams(streams, x)
    pred = np.full(len(x), ABSTAIN, dtype=np.int64)
    for row in range(len(x)):
        counts = votes(model, x[row : row + 1], sigma, n, classes, streams.take(slice(row, row + 1)).fork(2))
        counts = np.append(counts, n - counts.sum())
        first, second = counts.argsort()[::-1][:2]
        clear = binomtest(int(counts[first]), int(counts[first] + counts[second]), 0.5).pvalue <= alpha
        if clear and first < classes:
            pred[row] = first
    return pred


def lower_share(count: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson: with confidence 1 - alpha the share is at least this."""
    return float(beta.ppf(alpha, count, n - count + 1)) if count else 0.0


def votes(
    model: nn.Module, image: Float[Tensor, "1 c h w"], sigma: float, n: int, classes: int, streams: Streams
) -> np.ndarray:
    """How often each class is given to n noisy copies of one image; (K,) int64. NaN is a vote for no class."""
    counts = torch.zeros(classes, dtype=torch.int64, device=image.device)
    with frozen(model), torch.no_grad():
        for turn, start in enumerate(range(0, n, DRAWS)):
            shape = (min(DRAWS, n - start), *image.shape[1:])
            noisy = image + sigma * streams.fork(turn).normal(shape, image.dtype)[0]
            found = predicted(model(fast_layout(noisy)))
            counts += torch.bincount(found[found >= 0], minlength=classes)
    return counts.cpu().numpy()


def _check(model: nn.Module, x: Tensor, sigma: float, n: int, alpha: float) -> int:
    if not isinstance(sigma, int | float) or not 0 < sigma < float("inf"):
        raise ValueError(f"sigma: expected noise above 0, got {sigma!r}")
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n: expected 1 or more draws, got {n}")
    if not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise ValueError(f"alpha: expected an error between 0 and 1, got {alpha!r}")
    return check_images(model, x)
