"""Images at once: more on a device with room, half as many where the memory runs out, and the same result."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from core.attacks import apgd, pgd
from core.attacks.engine import room
from core.attacks.engine.engine import predict
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from core.certification.proof import certified_margins
from core.networks.catalogue import logits_of
from core.networks.portions import halved
from core.specs import Minimum
from tests.pretended import Pretended

Batch = tuple[Tensor, Tensor]


class Small(nn.Module):
    """A network on a device with little memory: so many images go through, and fewer where gradients are taken."""

    def __init__(self, inner: nn.Module, plainly: int, differentiated: int) -> None:
        super().__init__()
        self.inner, self.plainly, self.differentiated = copy.deepcopy(inner), plainly, differentiated
        self.asked: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        self.asked.append(len(x))
        if len(x) > (self.differentiated if x.requires_grad and torch.is_grad_enabled() else self.plainly):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        logits: Tensor = self.inner(x)
        return logits


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_half_as_many_where_the_memory_runs_out(
    attack: object, exactly: tuple[nn.Module, Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    """The images and verdicts of a device with enough, with a note; the next attack begins where this one ended."""
    net, x, y = exactly
    settings = {"steps": 3, "eps": 0.15, "batch": 32, "streams": Streams.of(0, torch.arange(len(x)))}
    whole = attack(net, x, y, **settings)  # type: ignore[operator]
    model = Small(net, plainly=16, differentiated=6)
    with caplog.at_level(logging.WARNING):
        made = attack(model, x, y, **settings)  # type: ignore[operator]
    assert torch.equal(made.success, whole.success)
    assert (made.x_adv - whole.x_adv).abs().max() < 1e-9
    assert torch.equal(made.forwards, whole.forwards)
    assert not whole.notes
    assert made.notes == ("The memory holds 4 images at once, not 32: the attack was run again with fewer at once.",)
    assert "go on with 4 images at once" in caplog.text
    again = attack(model, x, y, **settings)  # type: ignore[operator]
    assert not again.notes


def test_several_attacks_in_one(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """What is made of other attacks runs them again, and not itself."""
    net, x, y = exactly
    whole = run_method(net, x[:12], y[:12], Minimum(budget=60))
    made = run_method(Small(net, plainly=8, differentiated=3), x[:12], y[:12], Minimum(budget=60))
    assert torch.allclose(made.distance["linf"], whole.distance["linf"], atol=1e-9)


def test_one_image_too_much_is_said(net: nn.Module, few: Batch) -> None:
    """No smaller batch is left: PyTorch's error comes through."""
    with pytest.raises(torch.OutOfMemoryError):
        pgd(Small(net, plainly=64, differentiated=0), *few, eps=0.1, steps=2)
    with pytest.raises(torch.OutOfMemoryError):
        halved(Small(net, plainly=0, differentiated=0), few[0])


def test_passes_without_gradients_go_in_halves(net: nn.Module, few: Batch) -> None:
    """The logits are those of whole batches."""
    net, x = copy.deepcopy(net).eval(), few[0]
    small = Small(net, plainly=6, differentiated=6).eval()
    with torch.no_grad():
        assert torch.allclose(predict(small, x), predict(net, x), atol=1e-5)
    assert torch.allclose(logits_of(small, x), logits_of(net, x), atol=1e-5)
    assert max(size for size in small.asked if size <= 6) == 5


def test_proofs_go_in_halves(net: nn.Module, few: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of bounds that runs out of memory on more than two images."""
    from core.certification import proof

    net, x, y = copy.deepcopy(net).eval(), few[0][:7], few[1][:7]
    whole = certified_margins(net, x, y, 0.01, method="ibp")
    bounds = proof._BY_METHOD["ibp"]

    def narrow(graphs: object, ball: object, y: Tensor) -> Tensor:
        if len(y) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return bounds(graphs, ball, y)  # type: ignore[arg-type]

    monkeypatch.setitem(proof._BY_METHOD, "ibp", narrow)
    assert torch.allclose(certified_margins(net, x, y, 0.01, method="ibp"), whole)


def test_batches_grow_to_the_device(net: nn.Module, few: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """By doubling, as far as the free memory and the images go; what was asked for stays, on a CPU the attack's own."""
    monkeypatch.setattr(room, "memory", lambda network, images: 1 << 20)
    x = few[0].repeat(30, 1, 1, 1)
    assert room.at_once(net, x, 128) == 128
    with Pretended():
        model, x = copy.deepcopy(net).to("cuda"), x.to("cuda")
        assert room.at_once(model, x, 128) == 2048
        assert room.at_once(model, x[:300], 128) == 512
        assert room.at_once(model, x[:100], 128) == 128
        assert room.at_once(model, x, 128, asked=64) == 64
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 30, 8 << 30))
        assert room.at_once(model, x, 128) == 256
        assert room.at_once(copy.deepcopy(model), x[:, :, :4], None) is None


def test_a_model_whose_cost_cannot_be_counted_keeps_its_batch(net: nn.Module, few: Batch) -> None:
    """Somebody else's model that fails on two images, say."""

    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("one image at a time")

    with Pretended():
        assert room.at_once(One(), few[0].repeat(10, 1, 1, 1).to("cuda"), 128) == 128
