"""The ball of a proof holds every image that counts as within ε, whatever dtype ε, images and model come in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core import epsilon
from core.attacks import pgd
from core.attacks.engine.geometry import distances
from core.attacks.engine.steps import BALLS
from core.certification.agreement import BACKWARDS, FORWARDS
from core.certification.ball import Ball, inside
from core.certification.exact import exact_radius, verify
from core.certification.proof import METHODS, TINY, certified_margins, proven
from core.evaluation.robust.robust import evaluate

Made = Callable[..., tuple[nn.Module, Tensor]]
COMMON = [k / 255 for k in (1, 2, 4, 8, 16, 32)] + [0.1, 0.2, 0.3, 3 * 0.1, 0.12, 0.031, 0.0314, 0.25, 1e-6, 1.0]
RANDOM = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ball_of_a_proof_covers_every_eps_that_it_reaches(norm: str, dtype: torch.dtype) -> None:
    """Radii that count as the same, distances that count as within them, and the next float32 of each; hardly more."""
    x = torch.rand(2, 1, 3, 3, dtype=dtype)
    for eps in [*COMMON, *RANDOM]:
        ball = Ball.around(x, eps, norm, torch.float64)
        assert ball.eps.dtype == ball.low.dtype == torch.float64
        largest = eps * (1 + 0.999 * epsilon.SAME)  # hardly below the last ε that the proof reaches
        assert epsilon.reaches(eps, largest)
        for radius in (largest, largest * (1 + epsilon.SAME), float(torch.tensor(eps).double())):
            assert (ball.eps >= radius).all()
            assert (ball.low <= (x.double() - radius).clamp(min=0)).all()
            assert (ball.high >= (x.double() + radius).clamp(max=1)).all()
        assert (ball.eps <= eps * (1 + 2**-22)).all()
        assert ((ball.low >= 0) & (ball.high <= 1)).all()


def test_radii_in_tensors_are_taken_at_their_exact_value() -> None:
    """float32, float64, one for all or one an image, and lists."""
    x, eps = torch.rand(3, 1, 2, 2), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    whole = Ball.around(x, eps, "l2", torch.float64).eps
    for row in range(3):
        assert whole[row] == Ball.around(x, float(eps[row]), "l2", torch.float64).eps[0]
    assert torch.equal(whole, Ball.around(x, eps.tolist(), "l2", torch.float64).eps)  # type: ignore[arg-type]
    short = Ball.around(x, eps.float(), "l2", torch.float64).eps
    assert (short >= eps.float().double()).all()
    assert (short <= eps.float().double() * (1 + 1e-11)).all()


@pytest.mark.parametrize("norm", BALLS)
def test_points_brought_inside_are_within_eps_in_float64(norm: str) -> None:
    """Whatever they were, in the images' dtype; and nearly as far as ε allows."""
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        x = torch.rand(20, 1, 4, 4, dtype=dtype)
        for eps in [*COMMON[:14], *RANDOM[:10]]:
            radius = torch.full((20,), eps, dtype=torch.float64)
            ball = Ball.around(x, eps, norm, torch.float64)
            points = ball.minimizer(torch.randn(20, 1, 1, 4, 4, dtype=torch.float64))[:, 0]
            images = inside(points, x, radius, norm)
            size = distances(images.double(), x.double())[norm]
            assert images.dtype == dtype
            assert (size <= eps).all()
            assert ((images >= 0) & (images <= 1)).all()
            reach = distances(points, x.double())[norm]
            assert (size >= reach * (1 - 1e-4) - 1e-6).all()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("method", METHODS)
def test_proofs_are_the_same_in_both_dtypes(norm: str, method: str, tiny: Made) -> None:
    """A model and images in float32 and the same in float64: margins agree up to rounding, verdicts exactly."""
    model, x = tiny(2)
    y = model(x).argmax(1)
    double = tiny(2)[0].double()
    for eps in (1 / 255, 8 / 255, 0.1, 0.12, 0.2, 0.3):
        found = certified_margins(model, x, y, eps, norm=norm, method=method)
        other = certified_margins(double, x.double(), y, eps, norm=norm, method=method)
        torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-6)
        clear = found.abs() > 1e-5
        assert torch.equal((found > TINY)[clear], (other > TINY)[clear])
        assert torch.equal(proven(model, x, y, eps, norm=norm, method=method), found > TINY)
        assert torch.equal(proven(double, x.double(), y, eps, norm=norm, method=method), other > TINY)


def at_the_boundary(eps: float, dtype: torch.dtype) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model whose distance in linf is 1.001 ε, and that nothing fools within ε."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double().eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 4))
        model[1].bias.copy_(torch.tensor([8 * eps * 1.001, 0.0]))
    return model.to(dtype), torch.zeros(1, 1, 2, 2, dtype=dtype), torch.tensor([0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_evaluation_proves_at_every_eps_what_bounds_prove(dtype: torch.dtype) -> None:
    """Proven accuracy, and the radius, which is ε itself; in either dtype, also where ε is below its float32."""
    for eps in [*COMMON[:14], *RANDOM[:8]]:
        model, x, y = at_the_boundary(eps, dtype)
        assert proven(model, x, y, eps).all()
        made = evaluate(model, x, y, eps=eps, effort="quick", trust=False)
        assert made.lower.dtype == torch.float64
        assert made.lower.tolist() == [eps]
        assert made.proven_accuracy == 1.0
        assert made.forwards.tolist() == [3 + FORWARDS]  # the image itself three times, and the check of the proof
        assert made.backwards.tolist() == [BACKWARDS]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", BALLS)
def test_verdicts_at_eps_are_about_eps(norm: str, tiny: Made) -> None:
    """What fools is within ε in float64, and a proof and an attack at the same ε never contradict each other."""
    model, x = tiny(2)
    y = model(x).argmax(1)
    for eps in (8 / 255, 0.1, 0.12, 0.3):
        found = verify(model, x, y, eps, norm=norm, time_limit=2)
        fooled = torch.from_numpy(found.verdict == "fooled")
        size = distances(found.x_adv.double(), x.double())[norm].double()
        assert epsilon.within(size[fooled], eps).all()
        attacked = pgd(model, x, y, eps=eps, norm=norm, steps=20).success  # type: ignore[arg-type]
        assert not (attacked & torch.from_numpy(found.verdict == "proven")).any()


def test_radius_that_was_asked_for_is_returned_as_it_is() -> None:
    """In float64, not as the nearest float32."""
    for high in (0.1, 0.12, 0.3, 8 / 255):
        model, x, y = at_the_boundary(high, torch.float32)
        safe, fooled = exact_radius(model, x, y, high=high)
        assert safe.tolist() == [high]
        assert fooled.isinf().all()
