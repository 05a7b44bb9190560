"""What proves refuses images outside [0, 1] and labels that are no classes, and NaN proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.attacks import exhaustive
from core.certification import smoothing
from core.certification.bounds import margin_bounds
from core.certification.crown import linear_margins
from core.certification.exact import exact_radius, verify
from core.certification.proof import METHODS, certified_margins, proven
from core.linear import exact
from core.linear.targeted import smallest_to
from core.specs.methods.base import NORMS

SHAPE = (1, 4, 4)
Prove = Callable[[nn.Module, Tensor, Tensor], Any]

NETWORKS: dict[str, Prove] = {
    **{f"proven by {name}": lambda m, x, y, name=name: proven(m, x, y, 0.1, method=name) for name in METHODS},
    **{f"margins in {norm}": lambda m, x, y, n=norm: certified_margins(m, x, y, 0.1, norm=n) for norm in ("l2", "l1")},
    "margins": lambda m, x, y: certified_margins(m, x, y, 0.1, method="ibp"),
    "verify": lambda m, x, y: verify(m, x, y, 0.1, time_limit=1),
    "exact radius": lambda m, x, y: exact_radius(m, x, y, high=0.1, time_limit=1),
}
UNLABELLED: dict[str, Prove] = {
    "enumeration": lambda m, x, y: exhaustive(m, x, y, levels=2),  # its labels: see the attacks' contract
    "smoothing": lambda m, x, y: smoothing.certify(m, x, sigma=0.1, n=10),
    "smoothed prediction": lambda m, x, y: smoothing.predict(m, x, sigma=0.1, n=10),
}


def _affine(m: nn.Module, x: Tensor) -> exact.AffineModel:
    return exact.affine_model(m, SHAPE)


LINEAR: dict[str, Prove] = {
    **{f"smallest in {norm}": lambda m, x, y, n=norm: exact.smallest(_affine(m, x), x, y, norm=n) for norm in NORMS},
    "without box": lambda m, x, y: exact.smallest(_affine(m, x), x, y, norm="l2", box=False),
    "largest": lambda m, x, y: exact.largest(_affine(m, x), x, y, eps=0.1, norm="l2"),
    "frontier": lambda m, x, y: exact.frontier(_affine(m, x), x, y, (0.5,)),
    "robust": lambda m, x, y: exact.robust(_affine(m, x), x, y, eps=0.1, norm="linf"),
    "targeted": lambda m, x, y: smallest_to(_affine(m, x), x, y, norm="l2"),
}
LABELLED = NETWORKS | LINEAR


def model_and_images() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model, which all of them take."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), torch.rand(3, *SHAPE)
    return model, x, model(x).argmax(1)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf])
@pytest.mark.parametrize("name", [*LABELLED, *UNLABELLED])
def test_images_outside_the_box_are_refused(name: str, value: float) -> None:
    """One pixel of one image is enough, and the sentence says what is in it."""
    model, x, y = model_and_images()
    prove = (LABELLED | UNLABELLED)[name]
    prove(model, x, y)
    x[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match=r"^x: expected finite values in \[0, 1\], got "):
        prove(model, x, y)


@pytest.mark.parametrize("kind", ["too high", "negative", "int32", "float", "too many", "a column"])
@pytest.mark.parametrize("name", LABELLED)
def test_labels_that_are_no_classes_are_refused(name: str, kind: str) -> None:
    """Out of range, of another dtype, of another shape."""
    model, x, y = model_and_images()
    labels = {
        "too high": y.clone().fill_(3),
        "negative": y.clone().fill_(-1),
        "int32": y.to(torch.int32),
        "float": y.float(),
        "too many": torch.cat([y, y]),
        "a column": y[:, None],
    }[kind]
    with pytest.raises(ValueError, match=r"^y(_target)?: expected .* got "):
        LABELLED[name](model, x, labels)


class Nan(nn.Module):
    """NaN for every image."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return x.flatten(1)[:, :3] * torch.nan


class NanOutside(nn.Module):
    """Class 1 in the box; NaN where a pixel leaves it, as logarithms and roots do."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return torch.tensor([0.0, 1.0, 0.0]) + (x.sqrt().sum((1, 2, 3)) * 0)[:, None]


class SometimesNan(nn.Module):
    """Class 1, or NaN where the first pixel is dark: a share of the draws."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return torch.tensor([0.0, 1.0, 0.0]) + torch.where(x.flatten(1)[:, :1] < 0.45, torch.nan, 0.0)


@pytest.mark.parametrize("model", [Nan(), NanOutside()])
def test_smoothing_certifies_nothing_from_nan(model: nn.Module) -> None:
    """Such an answer is a vote for no class, class 0 included."""
    x = torch.rand(3, 1, 10, 10)  # so many pixels that some leave the box in every draw
    found = smoothing.certify(model, x, sigma=0.25, n=1000)
    assert (found.pred == smoothing.ABSTAIN).all()
    assert (found.radius == 0).all()
    assert (found.share == 0).all()
    assert (smoothing.predict(model, x, sigma=0.25) == smoothing.ABSTAIN).all()


def test_nan_counts_among_the_draws() -> None:
    """The share of the votes is that of all draws, and no class is predicted where NaN is as frequent as the first."""
    x = torch.full((3, *SHAPE), 0.5)
    x[1, 0, 0, 0], x[2, 0, 0, 0] = 0.45, 0.3
    found = smoothing.certify(SometimesNan(), x, sigma=0.1, n=4000)
    truth = torch.distributions.Normal(0.0, 1.0).cdf((x[:, 0, 0, 0] - 0.45) / 0.1).numpy()  # 0.69, 0.5, 0.07
    assert found.share == pytest.approx(truth, abs=0.05)
    assert found.pred.tolist() == [1, smoothing.ABSTAIN, smoothing.ABSTAIN]
    assert smoothing.predict(SometimesNan(), x, sigma=0.1).tolist() == [1, smoothing.ABSTAIN, smoothing.ABSTAIN]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_networks_of_broken_numbers_prove_nothing(norm: str, value: float) -> None:
    """A weight that is no number, behind a ReLU that may hide it: no bound is one, and no image has a radius."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.rand(4, *SHAPE)
    y = model(x).argmax(1)
    with torch.no_grad():
        model[1].weight[0, 0] = value
    for method in METHODS:
        assert not proven(model, x, y, 0.3, norm=norm, method=method).any()
        assert not (certified_margins(model, x, y, 0.3, norm=norm, method=method) > 0).any()
    assert not (verify(model, x, y, 0.3, norm=norm, time_limit=1).verdict == "proven").any()


def test_image_of_class_0_whose_logits_are_nan_is_misclassified() -> None:
    """`argmax` gives class 0 for NaN: it is fooled as it is, and its radius is 0."""
    model, x, _ = model_and_images()
    y = torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        model[1].bias.fill_(torch.nan)
    found = verify(model, x, y, 0.1, time_limit=1)
    assert (found.verdict == "fooled").all()
    assert (found.found_by == "clean").all()
    safe, fooled = exact_radius(model, x, y, high=0.1, time_limit=1)
    assert (safe == 0).all()
    assert (fooled == 0).all()


def test_radii_out_of_range_are_refused() -> None:
    """Of the bisection too."""
    model, x, y = model_and_images()
    for high in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^high: expected a finite radius above 0"):
            exact_radius(model, x, y, high=high)
    for eps in (-0.1, np.nan, 1.5):
        for prove in (proven, certified_margins, verify):
            with pytest.raises(ValueError, match=r"^eps: expected"):
                prove(model, x, y, eps)


EPS: dict[str, Callable[..., Any]] = {
    **{f"proven by {name}": lambda m, x, y, e, name=name: proven(m, x, y, e, method=name) for name in METHODS},
    "proven in l2": lambda m, x, y, e: proven(m, x, y, e, norm="l2"),
    "verify": lambda m, x, y, e: verify(m, x, y, e, time_limit=1).verdict == "proven",
    "interval bounds": lambda m, x, y, e: margin_bounds(m, x, y, e),
    "linear bounds": lambda m, x, y, e: linear_margins(m, x, y, e),
}


@pytest.mark.parametrize("eps", ["eight", None, True, 1j, [0.1, 0.1], torch.full((3, 1, 1, 1), 0.1), -0.1, np.nan])
@pytest.mark.parametrize("name", EPS)
def test_what_is_no_radius_is_refused(name: str, eps: Any) -> None:
    """In the sentence that attacks have for it, never in PyTorch's."""
    with pytest.raises(ValueError, match=r"^eps: expected "):
        EPS[name](*model_and_images(), eps)


@pytest.mark.parametrize("name", EPS)
def test_a_radius_per_image_may_be_a_list_an_array_or_a_tensor(name: str) -> None:
    """Of any precision; each image has its own."""
    model, x, y = model_and_images()
    each = [0.0, 0.002, 0.5]
    want = [torch.as_tensor(EPS[name](model, x[k : k + 1], y[k : k + 1], e)) for k, e in enumerate(each)]
    for eps in (each, tuple(each), np.array(each), torch.tensor(each), torch.tensor(each, dtype=torch.float64)):
        got = torch.as_tensor(EPS[name](model, x, y, eps))
        torch.testing.assert_close(got, torch.cat(want), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["interval bounds", "linear bounds"])
def test_bounds_around_images_outside_the_box_are_refused(name: str) -> None:
    """The ends of such a ball would be the wrong way round."""
    model, x, y = model_and_images()
    with pytest.raises(ValueError, match=r"^x: expected finite values in \[0, 1\], got "):
        EPS[name](model, x + 1, y, 0.1)


@pytest.mark.parametrize("value", ["1", None, -1.0, np.nan])
def test_limits_that_are_no_numbers_are_refused(value: Any) -> None:
    """Of time, of the largest radius and of the width; nor the settings of smoothing."""
    model, x, y = model_and_images()
    for name in ("time_limit", "high", "tolerance"):
        with pytest.raises(ValueError, match=f"^{name}: expected "):
            exact_radius(model, x, y, **{name: value})
    for name in ("sigma", "n", "n0", "alpha"):
        with pytest.raises(ValueError, match=f"^{name}: expected "):
            smoothing.certify(model, x, **{"sigma": 0.1, "n": 9, name: value})  # type: ignore[arg-type]
