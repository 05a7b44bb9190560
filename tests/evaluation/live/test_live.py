"""What is computed while somebody waits: attacks on one image, proofs, gradient steps, likeness, the time limit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

from core import specs
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from core.attacks.subject import toy
from core.data import peek
from core.data.sets import Split
from core.evaluation.live import attacking, descent, likeness
from core.evaluation.live.clock import Clock, TooLong, alone
from core.evaluation.live.proof import proven_eps
from core.progress import Progress

METHODS: list[specs.Method] = [
    specs.Fgsm(),
    specs.Pgd(steps=5),
    specs.Pgd(steps=5, norm="l2"),
    specs.Pgd(steps=5, norm="l1"),
    specs.Minimum(budget=60, norm="linf"),
    specs.Minimum(budget=60, norm="l2"),
    specs.Minimum(budget=60, norm="l1"),
    specs.JacobianSparse(),
    specs.GeneratorStrong(rounds=10),
]


def subject(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, np.ndarray, int]:
    """A small network in eval mode, and an image that it classifies as its label."""
    model, x, y = toy()
    return model.to(dtype).eval().requires_grad_(False), x[0].numpy(), int(y[0])


def linear() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A linear model of four pixels: from 0.5 everywhere the margin is 1, and falls by 4 for each unit of ε in linf."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.5] * 4, [-0.5] * 4]))
        model[1].bias.copy_(torch.tensor([-0.5, 0.5]))
    return model.eval().requires_grad_(False), torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{getattr(method, 'norm', '')}")
def test_every_attack_gives_a_look_for_each_eps(method: specs.Method, dtype: torch.dtype) -> None:
    """Inside the box and the ball, with probabilities, and a success that the model confirms."""
    model, x, label = subject(dtype)
    norm = getattr(method, "norm", method.norms[0])
    eps = (0.05, 0.3) if method.needs_eps else None
    looks = attacking.attacked(model, x, label, method, eps=eps, clock=Clock(600))
    assert len(looks) == (2 if eps else 1)
    for place, look in enumerate(looks):
        assert look.x.shape == x.shape
        assert 0 <= look.x.min() <= look.x.max() <= 1
        assert look.probabilities.sum() == pytest.approx(1)
        assert look.success == (look.predicted != label)
        if eps:
            assert look.distance[norm] <= eps[place] * (1 + 1e-6)


def test_many_eps_at_once_are_as_one_after_the_other() -> None:
    """A slider's whole range in one batch is what each stop gives alone, and what the task gives for this image."""
    model, x, label = subject()
    method, eps = specs.Pgd(steps=6), (0.02, 0.1, 0.4)
    together = attacking.attacked(model, x, label, method, eps=eps, stream=7, clock=Clock(600))
    for place, one in enumerate(eps):
        alone_ = attacking.attacked(model, x, label, method, eps=[one], stream=7, clock=Clock(600))[0]
        assert np.allclose(together[place].x, alone_.x, atol=1e-6)
    image, y = torch.from_numpy(x)[None], torch.tensor([label])
    streams = Streams.of(0, torch.tensor([7]))
    made = run_method(model, image, y, method, eps=0.1, streams=streams, early_stop=False)
    assert np.allclose(together[1].x, made.x_adv[0].numpy(), atol=1e-6)


def test_targets_are_reached() -> None:
    """Towards each class, within a large ball."""
    model, x, label = subject()
    for target in {0, 1, 2, 3} - {label}:
        (look,) = attacking.attacked(model, x, label, specs.Pgd(steps=30), eps=[1.0], target=target, clock=Clock(600))
        assert look.success == (look.predicted == target)


def test_the_time_limit_ends_an_attack() -> None:
    """Without a moment there is nothing; a snapshot that an attack has reported is shown as its last word."""
    model, x, label = subject()
    with pytest.raises(TooLong, match="time limit"):
        attacking.attacked(model, x, label, specs.Pgd(), eps=[0.1], clock=Clock(0.0))

    class Late(Clock):
        def check(self) -> None:
            if self.snapshot:
                raise TooLong(self.limit, self.snapshot)

    (look,) = attacking.attacked(model, x, label, specs.GeneratorStrong(rounds=200), clock=Late())
    assert look.stopped
    assert look.success == (look.predicted != label)


def test_the_last_report_is_no_reason_to_stop() -> None:
    """What is finished is returned, even where the time is over by then."""
    clock = Clock(0.0)
    clock(5, 5)
    with pytest.raises(TooLong):
        clock(4, 5)
    assert isinstance(clock, Progress)


def test_threads_use_a_model_one_after_the_other() -> None:
    """Never two at once, whatever comes in between."""
    model, inside, most = nn.Linear(1, 1), [0], [0]

    def use() -> None:
        for _ in range(50):
            with alone(model):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_proof_stops_where_the_truth_does() -> None:
    """On a linear model, where the smallest ε that fools is 0.25: everything below is proven, nothing above."""
    model, x, y = linear()
    assert proven_eps(model, x, y, [0.01, 0.1, 0.24, 0.26, 0.5], clock=Clock(600)) == 0.24
    assert proven_eps(model, x, y, [0.26, 0.5]) == 0
    assert proven_eps(model, x, 1 - y, [0.01]) == 0
    with pytest.raises(ValueError, match="candidates"):
        proven_eps(model, x, y, [0.2, 0.1])


def test_no_proof_without_a_rule() -> None:
    """A layer that nothing is known of gives None, not a number."""
    model, x, y = linear()
    assert proven_eps(nn.Sequential(model, nn.GELU()), x, y, [0.01]) is None


def test_gradient_steps_are_the_exercise() -> None:
    """The loop with autograd and cross-entropy, written out, gives the same images."""
    model, x, label = subject()
    target = torch.tensor([(label + 1) % 4])
    found = descent.descend(model, torch.from_numpy(x)[None], target, steps=6, rate=0.1, clock=Clock(600))
    point = torch.from_numpy(x)[None]
    for k in range(7):
        assert np.allclose(found.x[0, k], point[0].numpy(), atol=1e-5), k
        leaf = point.clone().requires_grad_()
        nn.functional.cross_entropy(model(leaf), target).backward()
        assert leaf.grad is not None
        point = (point - 0.1 * leaf.grad).clamp(0, 1)
    assert found.probabilities.shape == (1, 7, 4)


def test_steps_end_with_the_time() -> None:
    """At least one step, and no more than there was time for."""
    model, x, label = subject()
    image, target = torch.from_numpy(x)[None], torch.tensor([(label + 1) % 4])
    assert descent.descend(model, image, target, steps=50, rate=0.1, clock=Clock(0.0)).x.shape[1] == 2


@pytest.mark.parametrize("settings", [{"steps": 0, "rate": 0.1}, {"steps": 1, "rate": 0.0}])
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    """No steps, no rate."""
    model, x, _ = subject()
    with pytest.raises(ValueError, match=r"steps|rate"):
        descent.descend(model, torch.from_numpy(x)[None], torch.tensor([0]), **settings)  # type: ignore[arg-type]


def test_the_matrix_has_a_row_a_class() -> None:
    """Its entries are those of single runs; the diagonal is 0."""
    model, x, y = toy()
    model.eval().requires_grad_(False)
    firsts = torch.stack([x[int((y == k).nonzero()[0, 0])] for k in range(4)])
    matrix, taken = descent.success_matrix(model, firsts, steps=15, rate=0.2, clock=Clock(600))
    assert taken == 15
    assert (np.diag(matrix) == 0).all()
    one = descent.descend(model, firsts[1:2], torch.tensor([2]), steps=15, rate=0.2, clock=Clock(600))
    assert matrix[1, 2] == one.reached[0]


def test_likeness_is_the_nearest() -> None:
    """Against distances computed one by one."""
    rng = np.random.default_rng(0)
    train = Split.of(rng.integers(0, 256, (50, 1, 3, 3), dtype=np.uint8), np.arange(50) % 5)
    x = torch.from_numpy(rng.random((4, 1, 3, 3), dtype=np.float32))
    means = likeness.centroids(train, 5)
    for k, found in enumerate(likeness.alike(train, means, x)):
        apart = [float((image / 255 - x[k]).norm()) for image in train.x.double()]
        best = int(np.argmin(apart))
        assert found.neighbour_index == best
        assert found.to_neighbour == pytest.approx(apart[best], rel=1e-5)
        assert found.neighbour_class == best % 5
        centres = [float((train.x[train.y == c].double().mean(0) / 255 - x[k]).norm()) for c in range(5)]
        assert found.centroid == int(np.argmin(centres))


def test_one_embedded_image() -> None:
    """The same as the data set has at this index, without it; no image beyond the last, none of a colour set."""
    from core.data.sets import load

    for name in ("digits28", "digits"):
        test = load(specs.DataSpec(dataset=name)).test
        index = int(test.index[5])
        image = peek.one_test_image(name, index)
        assert image is not None
        assert np.array_equal(image, test.x[5].numpy())
    assert peek.one_test_image("digits28", 10**6) is None
    assert peek.one_test_image("cifar10", 0) is None
    assert peek.one_test_image("nothing", 0) is None
