"""Networks: shapes, parameter counts, the layer table, the scalar network, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.networks.catalogue import build, centre_of, logits_of, with_threshold
from core.networks.layers import Centre, FullConv2d, ScalarScore
from core.networks.table import layer_table, parameter_count
from core.specs import NETWORKS

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 40, 24)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_network_adapts_to_the_images(network: str, shape: tuple[int, int, int]) -> None:
    """Every network gives logits (N, K) for every image size, and starts with its normalisation."""
    model = build(network, shape, 7)
    assert model(torch.rand(3, *shape)).shape == (3, 7)
    assert isinstance(next(iter(model.children())), Centre)


def test_lenet_is_the_exercise_s() -> None:
    """431,080 parameters on MNIST, and the mean image is subtracted inside the model."""
    model = build("lenet", (1, 28, 28), 10)
    assert parameter_count(model) == 431_080
    x = torch.rand(50, 1, 28, 28)
    centre = centre_of(model)
    assert centre is not None
    centre.fit(x)
    assert centre.mean.shape == (1, 28, 28)
    assert torch.allclose(centre(x).mean(dim=0), torch.zeros(1, 28, 28), atol=1e-6)


def test_centre_standardises_channels() -> None:
    """One mean and one deviation a channel."""
    centre = Centre((3, 9, 9))
    x = torch.rand(64, 3, 9, 9) * torch.tensor([1.0, 0.5, 0.1])[:, None, None]
    centre.fit(x)
    made = centre(x)
    assert torch.allclose(made.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(made.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4)


def test_networks_have_the_sizes_that_they_are_known_for() -> None:
    """Those of the literature on certification and on TRADES; PreActResNet-18's 11.2 million; one for two cores."""
    assert parameter_count(build("trades_cnn", (1, 28, 28), 10)) == 312_202
    assert parameter_count(build("strided", (1, 28, 28), 10)) == 166_406
    assert parameter_count(build("strided_wide", (1, 28, 28), 10)) == 1_644_650
    assert parameter_count(build("preactresnet18", (3, 32, 32), 10)) == 11_172_170
    assert parameter_count(build("resnet_small", (3, 32, 32), 10)) < 500_000


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_full_convolution_equals_the_ordinary_one(layout: torch.memory_format) -> None:
    """Computed as a dense layer: same result and same gradients, in either memory layout; other sizes convolve."""
    torch.manual_seed(0)
    fast, plain = FullConv2d(5, 7, (4, 3)), nn.Conv2d(5, 7, (4, 3))
    plain.load_state_dict(fast.state_dict())
    for size in ((4, 3), (6, 5)):
        x = torch.randn(8, 5, *size).to(memory_format=layout)
        assert torch.allclose(fast(x), plain(x), atol=1e-5)
    x = torch.randn(8, 5, 4, 3).to(memory_format=layout)
    for layer in (fast, plain):
        layer.zero_grad()
        layer(x).square().sum().backward()
    assert fast.weight.grad is not None
    assert plain.weight.grad is not None
    assert torch.allclose(fast.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


def test_scalar_network_predicts_one_above_its_threshold() -> None:
    """Logits are (0, N(x) − τ): class 1 exactly where the raw score exceeds the threshold."""
    model = build("mlp", (1, 8, 8), 2, scalar=True)
    assert isinstance(model, ScalarScore)
    x = torch.rand(40, 1, 8, 8)
    tau = model.score(x).median().item()
    with_threshold(model, tau)
    logits = model(x)
    assert torch.equal(logits[:, 0], torch.zeros(40))
    assert torch.equal(logits.argmax(dim=1) == 1, model.score(x) > tau)


def test_threshold_is_refused_by_other_models() -> None:
    """Only a scalar network has a threshold; zero is harmless."""
    model = build("linear", (1, 8, 8), 3)
    assert with_threshold(model, 0) is model
    with pytest.raises(ValueError, match=r"threshold: .* got 0\.5"):
        with_threshold(model, 0.5)


def test_bad_requests_name_the_fault() -> None:
    """Unknown name: the valid ones are listed; three classes for a scalar network; images too small."""
    with pytest.raises(ValueError, match=r"expected one of linear, mlp, .*, got 'vgg'"):
        build("vgg", (1, 8, 8), 10)
    with pytest.raises(ValueError, match="two classes apart, got 3"):
        build("mlp", (1, 8, 8), 3, scalar=True)
    with pytest.raises(ValueError, match="8 by 8 pixels or more, got 4 by 8"):
        build("mlp", (1, 4, 8), 3)


def test_layer_table_of_lenet() -> None:
    """Types, shapes and parameters of the whole forward pass, in order."""
    rows = layer_table(build("lenet", (1, 28, 28), 10), (1, 28, 28))
    assert [row.output_shape for row in rows if row.type.endswith("Conv2d")] == [
        (20, 24, 24),
        (50, 8, 8),
        (500, 1, 1),
        (10, 1, 1),
    ]
    assert sum(row.parameters for row in rows) == 431_080
    assert rows[0].type == "Centre"


@pytest.mark.sampled(4)
@pytest.mark.parametrize("network", ["lenet", "strided", "resnet_small"])
def test_receptive_field_is_what_the_gradient_sees(network: str) -> None:
    """The table's receptive field is the side of the region of input pixels that really reach one output value."""
    model = build(network, (1, 28, 28), 10).eval()
    for position, row in enumerate(layer_table(model, (1, 28, 28))):
        if len(row.output_shape) < 3 or row.type == "Flatten":
            continue
        reached = torch.zeros(28, 28, dtype=torch.bool)
        for _ in range(60):  # max-pooling passes a gradient to one pixel at a time: look at several images
            x = torch.rand(1, 1, 28, 28, requires_grad=True)
            out = model[: position + 1](x)  # type: ignore[index]
            middle = out.shape[2] // 2
            out[0, :, middle, middle].square().sum().backward()
            assert x.grad is not None
            reached |= x.grad[0, 0] != 0
        rows = reached.any(dim=1).nonzero()
        assert row.receptive_field is not None
        assert int(rows.max() - rows.min()) + 1 == min(28, row.receptive_field)


def test_logits_of_leaves_the_model_as_it_was() -> None:
    """Mode is put back, dropout is off meanwhile, batches do not matter, uint8 and float agree."""
    model = build("cnn", (1, 8, 8), 10).train()
    x = torch.randint(0, 256, (23, 1, 8, 8), dtype=torch.uint8)
    whole = logits_of(model, x)
    assert model.training
    assert torch.allclose(whole, logits_of(model, x.float() / 255, batch_size=4), atol=1e-5)
    assert F.softmax(whole, dim=1).shape == (23, 10)
    assert not whole.requires_grad


def test_networks_with_batch_norm_are_those_the_specs_name() -> None:
    """A batch of one image is refused for them, and for no other."""
    having = {
        name
        for name in NETWORKS
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in build(name, (1, 8, 8), 10).modules())
    }
    assert having == {name for name, info in NETWORKS.items() if info.batch_norm}


def test_convolutions_are_not_rounded_to_tf32() -> None:
    """What proofs allow for is float32's rounding; cuDNN's default for convolutions on a GPU is coarser."""
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
