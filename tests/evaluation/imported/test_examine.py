"""What is found out about networks made up so that the answer is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.evaluation.imported.answers import kind_of
from core.evaluation.imported.examine import examine
from core.networks.framed import Framed
from tests.evaluation.imported.made import NAMES, Images, Made, asked, finding, same, told


class _Red(nn.Module):
    """The network for digits, on the red channel less a tenth of the blue one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.network(x[:, :1] + 0.05 * (x[:, 1:2] - 0.5) - 0.1 * (x[:, 2:] - 0.5))


@pytest.fixture(scope="module")
def colour(grey: Images) -> Images:
    """Digits in red; smooth grey in green; another digit, negative, in blue."""
    network, x, y = grey
    green = torch.full_like(x, 0.4) + 0.2 * x.roll(5, 3)
    return _Red(network), torch.cat([x, green, 1 - x.roll(1, 0)], 1), y


RANGES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1.0,)),
    "both signs": ((0.5,), (0.5,)),
    "0…255": ((0.0,), (1 / 255,)),
    "MNIST": ((0.1307,), (0.3081,)),
    "negative": ((1.0,), (-1.0,)),
}
COLOURS = {
    "none": RANGES["none"],
    "0…255": RANGES["0…255"],
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "Caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
ANSWERS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": same,
    "probabilities": lambda logits: logits.softmax(1),
    "log_probabilities": lambda logits: logits.log_softmax(1),
}


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _undo(mean: tuple[float, ...], std: tuple[float, ...], layout: str, shape: tuple[int, ...], bgr: bool) -> Any:
    channels, height, width = shape

    def before(x: Tensor) -> Tensor:
        if layout.endswith("nhwc"):
            x = x.reshape(len(x), height, width, channels).permute(0, 3, 1, 2)
        x = x.reshape(len(x), channels, height, width) * _per_channel(std).to(x) + _per_channel(mean).to(x)
        return x.flip(1) if bgr else x

    return before


def _taken(layout: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    channels, height, width = shape
    ways = {"nchw": shape, "nhwc": (height, width, channels)}
    return ways.get(layout, (channels * height * width,))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "flat nchw"])
@pytest.mark.parametrize("name", RANGES)
def test_grey_framings_are_told(grey: Images, name: str, layout: str, answer: str) -> None:
    """Every range, layout and kind of answer: the framing that is proposed gives the network's own logits."""
    network, x, y = grey
    mean, std = RANGES[name]
    shape = tuple(x.shape[1:])
    made = Made(network, _undo(mean, std, layout, shape, False), ANSWERS[answer])
    found = told(made, x, y, _taken(layout, shape))
    assert found.framing.mean == pytest.approx(mean)
    assert found.framing.std == pytest.approx(std)
    assert found.framing.outputs == answer
    assert not [one for one in found.findings if one.verdict == "wrong"]
    _agrees(Framed(made, found.framing), network, x, answer)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "flat nchw", "flat nhwc"])
@pytest.mark.parametrize("name", COLOURS)
def test_colour_framings_are_told(colour: Images, name: str, layout: str, bgr: bool) -> None:
    """Order of the colours and place of the channels too, where the shape does not tell."""
    network, x, y = colour
    mean, std = (values[::-1] if bgr else values for values in COLOURS[name])
    shape = tuple(x.shape[1:])
    made = Made(network, _undo(mean, std, layout, shape, bgr), same)
    found = told(made, x, y, _taken(layout, shape))
    assert found.framing.channels == ("bgr" if bgr else "rgb")
    assert found.framing.layout == layout.removeprefix("flat ")
    assert found.accuracy > 0.9
    answers = finding(found, "normalisation")
    if answers.verdict in ("fine", "note"):
        _agrees(Framed(made, found.framing), network, x, "logits", close=0.05)


def _agrees(framed: nn.Module, network: nn.Module, x: Tensor, answer: str, close: float = 1e-3) -> None:
    with torch.no_grad():
        ours, theirs = framed(x[:50]), network(x[:50])
    assert torch.equal(ours.argmax(1), theirs.argmax(1)) or close > 1e-3
    if answer in ("logits", "log_probabilities"):
        assert (ours.softmax(1) - theirs.softmax(1)).abs().mean() < close


def test_the_data_set_s_own_statistics_are_tried(grey: Images) -> None:
    """From the training images that are given."""
    network, x, y = grey
    train = (x * 0.5 + 0.2)[:100]
    mean, std = float(train.mean()), float(train.std())
    made = Made(network, _undo((mean,), (std,), "nchw", (1, 28, 28), False), same)
    found = examine(made.eval(), x, y, asked=asked(), class_names=NAMES, takes=(1, 28, 28), train=train)
    assert found.framing.mean == pytest.approx((mean,), abs=1e-3)
    assert found.framing.std == pytest.approx((std,), abs=1e-3)


@pytest.mark.parametrize("kind", ["score", "probability"])
@pytest.mark.parametrize("turned", [False, True])
def test_one_output_for_two_classes(grey: Images, kind: str, turned: bool) -> None:
    """A score or its sigmoid; where class 1 is the low side, that is another order of the classes."""
    network, x, y = grey
    kept = (y == 1) | (y == 7)
    x, y = x[kept], (y[kept] == 7).long()

    def after(logits: Tensor) -> Tensor:
        score = (logits[:, 7] - logits[:, 1]) * (-1 if turned else 1)
        return score if kind == "score" else score.sigmoid()

    found = told(Made(network, same, after), x, y)
    assert found.framing.outputs == kind
    # turned, it could be one for negative images as well: digits are nearly black and white
    assert finding(found, "classes").verdict == ("doubt" if turned else "fine")
    if turned:
        assert "classes: 1 0" in finding(found, "classes").advice
        again = told(Made(network, same, after), x, y, classes=(1, 0), mean=(0.0,), std=(1.0,))
        assert again.accuracy > 0.9
        assert finding(again, "classes").verdict == "fine"


ORDER = (3, 0, 7, 1, 9, 2, 8, 4, 6, 5)


@pytest.mark.parametrize("name", ["none", "MNIST"])
def test_classes_in_another_order_are_pointed_out_and_not_taken(grey: Images, name: str) -> None:
    """The advice names the order; given back, it is right. What is proposed without it leaves the classes alone."""
    network, x, y = grey
    before = _undo(*RANGES[name], "nchw", (1, 28, 28), False)
    place = torch.tensor(ORDER).argsort()
    made = Made(network, before, lambda logits: logits[:, place])
    found = told(made, x, y)
    told_order = finding(found, "classes")
    assert told_order.verdict == "wrong"
    assert f"classes: {' '.join(map(str, ORDER))}" in told_order.advice
    assert found.framing.classes is None
    assert found.accuracy < 0.5
    again = told(made, x, y, classes=ORDER)
    assert finding(again, "classes").verdict == "fine"
    assert again.framing.mean == pytest.approx(RANGES[name][0])
    assert again.accuracy > 0.9


def test_two_swapped_classes_are_seen(grey: Images) -> None:
    """Though accuracy is far above chance."""
    network, x, y = grey
    swapped = [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]
    found = told(Made(network, same, lambda logits: logits[:, swapped]), x, y)
    assert f"classes: {' '.join(map(str, swapped))}" in finding(found, "classes").advice


def test_what_knows_nothing_of_the_classes_is_said(grey: Images) -> None:
    """No framing helps a network of another data set."""
    _, x, y = grey
    torch.manual_seed(0)
    found = told(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), x.roll(3, 0), y)
    assert finding(found, "classes").verdict == "doubt"
    assert "chance" in finding(found, "classes").said
    assert finding(found, "normalisation").verdict == "doubt"


def test_transposed_images_are_told(grey: Images) -> None:
    """A network made for columns first."""
    network, x, y = grey
    found = told(Made(network, lambda images: images.transpose(2, 3), same), x, y)
    assert finding(found, "layout").verdict == "wrong"


def test_batch_normalisation_in_train_mode_is_told(grey: Images) -> None:
    """Baked into the computation, so that eval() does not end it."""
    network, x, y = grey

    def normalised(logits: Tensor) -> Tensor:
        return nn.functional.batch_norm(logits, None, None, training=True)

    found = told(Made(network, same, normalised), x, y)
    assert finding(found, "neighbours").verdict == "wrong"
    assert finding(found, "calls").verdict == "fine"


def test_random_layers_are_told(grey: Images) -> None:
    """Dropout that stays on; the findings are the same on every call, and global random numbers are left alone."""
    network, x, y = grey

    def dropped(images: Tensor) -> Tensor:
        return nn.functional.dropout(images, 0.2, training=True)

    before = torch.get_rng_state()
    found = told(Made(network, dropped, same), x, y)
    assert torch.equal(before, torch.get_rng_state())
    assert finding(found, "calls").verdict == "doubt"
    torch.rand(9)
    again = told(Made(network, dropped, same), x, y)
    assert [one.to_json() for one in again.findings] == [one.to_json() for one in found.findings]


def test_statistics_of_the_batch_alone_are_told(grey: Images) -> None:
    """A batch normalisation without running statistics: it is in no mode."""
    network, x, y = grey
    body = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), copy.deepcopy(network)).eval()
    found = told(body, x, y)
    assert finding(found, "mode").verdict == "doubt"


class _Counting(nn.Module):
    """What it answers depends on how often it was asked."""

    calls: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        self.calls += 1
        return self.network(x) + 0 * self.calls


def test_calls_that_change_the_network_are_told(grey: Images) -> None:
    """A buffer that counts."""
    network, x, y = grey
    assert finding(told(_Counting(network), x, y), "mode").verdict == "doubt"


class _Rounded(torch.autograd.Function):
    """Steps forwards; backwards as if there were none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Steps of an eighth."""
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # type: ignore[override]
        """As it came."""
        return gradients[0]


@pytest.mark.parametrize("way", ["detached", "rounded", "straight through"])
def test_gradients_that_are_missing_or_wrong_are_told(grey: Images, way: str) -> None:
    """None at all, zero everywhere, and those of another function."""
    network, x, y = grey
    before = {
        "detached": lambda images: images.detach(),
        "rounded": lambda images: (images * 8).round() / 8,
        "straight through": _Rounded.apply,
    }
    found = finding(told(Made(network, before[way], same), x, y), "gradients")
    assert found.verdict == "doubt"
    assert "square" in found.advice


def test_what_was_given_is_taken_and_compared(grey: Images) -> None:
    """A normalisation and outputs that are not the best are kept, with the figures of what is better."""
    network, x, y = grey
    made = Made(network, same, lambda logits: logits.softmax(1))
    found = told(made, x, y, mean=(0.5,), std=(-0.5,), outputs="logits")
    assert found.framing.mean == (0.5,)
    assert found.framing.std == (-0.5,)
    assert finding(found, "normalisation").verdict == "doubt"
    assert finding(found, "outputs").verdict == "doubt"
    right = told(network, x, y, mean=(0.0,), std=(1.0,))
    assert finding(right, "normalisation").verdict == "fine"


def test_images_are_brought_to_the_size_that_the_network_takes(grey: Images) -> None:
    """Resized where it takes another size; shown three times where it takes colours."""
    network, x, y = grey

    def smaller(images: Tensor) -> Tensor:
        return nn.functional.interpolate(images.mean(1, keepdim=True), size=(28, 28), mode="bilinear", antialias=True)

    found = told(Made(network, smaller, same), x, y, (3, 56, 56))
    assert found.framing.resize == 56
    assert len(found.framing.mean) == 3
    assert found.accuracy > 0.9
    assert finding(found, "size").verdict == "note"


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        ((1, 28, 29), "takes images of 1×28×29"),
        ((4, 28, 28), "takes images of 4×28×28"),
        ((5,), "takes images of 5"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(grey: Images, takes: tuple[int, ...], words: str) -> None:
    """In a sentence with both."""
    network, x, y = grey
    with pytest.raises(ValueError, match=rf"^data: the network {words}.*1×28×28"):
        told(network, x, y, takes)


def test_answers_that_are_no_logits_are_refused(grey: Images) -> None:
    """Several tensors, whole numbers, too many or too few outputs, a network that fails."""
    network, x, y = grey
    cases: list[tuple[Callable[[Tensor], Any], str]] = [
        (lambda logits: (logits, logits), "one tensor .* got a tuple"),
        (lambda logits: logits.argmax(1), "got int64"),
        (lambda logits: logits.sum(), "a row an image"),
        (lambda logits: logits[:, :4], "4 numbers, the data set has 10 classes"),
        (lambda logits: torch.cat([logits] * 100, 1), "1,000 numbers, the data set has 10 classes: name"),
        (lambda logits: logits @ torch.ones(3), "fails on images of 1×28×28"),
    ]
    for after, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            told(Made(network, same, after), x, y)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="classes: expected 10 different outputs"):
        told(network, x, y, classes=(0, 1))


def test_more_outputs_than_classes_need_the_classes(grey: Images) -> None:
    """Ten of a thousand outputs."""
    network, x, y = grey
    places = tuple(range(990, 1000))
    made = Made(network, same, lambda logits: torch.cat([torch.zeros(len(logits), 990) - 50, logits], 1))
    found = told(made, x, y, classes=places)
    assert found.framing.classes == places
    assert found.accuracy > 0.9


def test_the_network_comes_back_as_it_was(grey: Images) -> None:
    """Parameters may be trained on, modes and values are the same."""
    network, x, y = grey
    body = copy.deepcopy(network).requires_grad_(True)
    before = {name: value.clone() for name, value in body.state_dict().items()}
    told(body, x, y)
    assert all(parameter.requires_grad for parameter in body.parameters())
    assert all(torch.equal(before[name], value) for name, value in body.state_dict().items())


def test_kinds_of_answers() -> None:
    """Logits that lie in [0, 1] for images are none the less logits, since they leave it elsewhere."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(50, 4, generator=generator)
    assert kind_of(table) == "logits"
    assert kind_of(table.softmax(1)) == "probabilities"
    assert kind_of(table.log_softmax(1)) == "log_probabilities"
    assert kind_of(table[:, :1]) == "score"
    assert kind_of(table[:, :1].sigmoid()) == "probability"
    assert kind_of(torch.cat([table[:, :1].sigmoid(), table[:1, :1] * 0 + 4])) == "score"
    assert kind_of(table.sigmoid()) == "logits"
    assert kind_of(-table.abs()) == "logits"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_images_without_a_finite_answer_are_wrong_ones(grey: Images, bad: float) -> None:
    """They count as misclassified, and nothing fails."""
    network, x, y = grey

    def broken(logits: Tensor) -> Tensor:
        return torch.where(logits.amax(1, keepdim=True) > logits.amax(1).median(), logits, bad)

    found = told(Made(network, same, broken), x, y)
    assert found.accuracy < 0.6
