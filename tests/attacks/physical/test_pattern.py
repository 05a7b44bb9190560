"""One pattern for many images: it fools images that it was not made from, and leaves the rest of them alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine.masks import Masked
from core.attacks.engine.streams import Streams
from core.attacks.physical import mask_shapes
from core.attacks.physical.pattern import universal_pattern, wear
from core.attacks.physical.scenes import Scene

Batch = tuple[Tensor, Tensor]
SCENE = Scene(shift=0.5, brightness=0.2, noise=0.05)


@pytest.fixture
def masked(net: nn.Module) -> Masked:
    """The network behind a patch of 5 x 5."""
    return Masked(net, torch.from_numpy(mask_shapes.patch(8, 8, size=0.6)))


def test_pattern_fools_images_that_it_was_not_made_from(masked: Masked, digits: Batch) -> None:
    """More than noise on the same patch does; nothing outside the patch changes; success is strict and verified."""
    x, y = digits
    made = universal_pattern(masked, x[:400], y[:400], scene=SCENE, epochs=16)
    new, label = x[1400:1500], y[1400:1500]
    worn = wear(masked, new, label, made.pattern, scene=SCENE, fresh=20)
    noise = Streams.of(0, torch.arange(8)).uniform(0, 1, (1, 8, 8))
    controls = [wear(masked, new, label, one, scene=SCENE, fresh=20).success.float().mean() for one in noise]
    assert worn.success.float().mean() > torch.stack(controls).mean() + 0.12  # measured: 0.87 against 0.66
    outside = ~masked.mask.expand_as(new)
    assert torch.equal(worn.x_adv[outside], new[outside])
    inside = masked.mask.expand_as(new[0])
    assert (worn.x_adv[:, inside] == made.pattern[inside]).all()
    fooled = copy.deepcopy(masked).eval()(worn.x_adv).argmax(1) != label
    assert torch.equal(worn.success, fooled & (worn.trace["share"] >= 0.5))
    assert made.loss[-1] < made.loss[0]
    assert (made.forwards == 16).all()


def test_targeted_pattern_drives_to_its_class(masked: Masked, digits: Batch) -> None:
    """Many images of other classes are read as the target."""
    x, y = digits
    rows = (y != 3).nonzero()[:, 0]
    fit, new = rows[:400], rows[-100:]
    target = torch.full_like(fit, 3)
    made = universal_pattern(masked, x[fit], y[fit], scene=SCENE, epochs=6, y_target=target)
    worn = wear(masked, x[new], y[new], made.pattern, scene=SCENE, fresh=20, y_target=target[:100])
    before = (copy.deepcopy(masked).eval()(x[new]).argmax(1) == 3).float().mean()
    assert worn.success.float().mean() > before + 0.2


def test_pattern_is_the_same_again_and_leaves_the_model_alone(masked: Masked, few: Batch) -> None:
    """Same streams, same pattern; modes and weights come back."""
    masked.train()
    before = copy.deepcopy(masked.state_dict())
    first, second = (universal_pattern(masked, *few, scene=SCENE, epochs=2, minibatch=16) for _ in range(2))
    assert torch.equal(first.pattern, second.pattern)
    assert masked.model.training
    assert all(torch.equal(value, before[key]) for key, value in masked.state_dict().items())
    assert (first.pattern[~masked.mask] == 0.5).all()


def test_bad_input_is_refused(masked: Masked, few: Batch) -> None:
    """By the argument's name."""
    with pytest.raises(ValueError, match="epochs: expected at least 1, got 0"):
        universal_pattern(masked, *few, scene=SCENE, epochs=0)
    with pytest.raises(ValueError, match="least: expected a share"):
        wear(masked, *few, few[0][0], scene=SCENE, least=0.0)
    with pytest.raises(ValueError, match=r"pattern: expected shape \(1, 8, 8\), as the images, got \(1, 7, 8\)"):
        wear(masked, *few, torch.zeros(1, 7, 8), scene=SCENE)
