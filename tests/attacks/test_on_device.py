"""Every attack on an accelerator, pretended or real: no tensor is on the wrong side, and the verdicts are the CPU's."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from core.attacks.engine.streams import Streams
from tests.attacks.conftest import Small
from tests.pretended import HERE, Pretended

SHORTER = {"steps": 3, "queries": 40, "rounds": 8, "searches": 2, "generations": 3, "probes": 8, "fresh": 4}
"""Settings, at most: places of tensors are the same in the first steps as in the last."""
N = 3


def test_attack_on_the_device(
    attack: Small,
    net: nn.Module,
    few: tuple[Tensor, Tensor],
    targets: dict[str, Tensor],
    accelerator: AbstractContextManager[object],
) -> None:
    """Every tensor of the result is there, with the shape that the CPU gives; model and images stay as they are."""
    x, y = few[0][:N], few[1][:N]
    settings = {
        key: min(value, SHORTER.get(key, value)) if key in SHORTER else value for key, value in attack.settings.items()
    }
    small = Small(attack.method, settings)
    towards = {key: value[:N] for key, value in targets.items()}
    with accelerator:
        model = copy.deepcopy(net).to("cuda")
        there = {key: value.to("cuda") for key, value in towards.items()}
        made = small(model, x.to("cuda"), y.to("cuda"), streams=Streams.of(3, torch.arange(N, device="cuda")), **there)
        assert {value.device for value in (made.x_adv, made.success, made.forwards, made.backwards)} == {HERE}
        found, success = made.x_adv.cpu(), made.success.cpu()
    alone = small(copy.deepcopy(net), x, y, streams=Streams.of(3, torch.arange(N)), **towards)
    assert found.shape == alone.x_adv.shape
    assert ((found >= 0) & (found <= 1)).all()
    if isinstance(accelerator, Pretended):  # a real one rounds otherwise
        assert torch.equal(success, alone.success)
