"""Networks that have one change against the usual ones: it is told as what it is, and no other reading is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.evaluation.imported import answers, verdicts
from core.evaluation.imported.examine import TURNS
from core.evaluation.imported.findings import Examination
from core.evaluation.imported.normalisations import normalisations
from core.networks.framed import Framed
from tests.evaluation.imported.made import Images, Made, finding, same, told

Change = Callable[[Tensor], Tensor]


def wrong(found: Examination) -> list[str]:
    """The questions whose answer refuses the import."""
    return [one.name for one in found.findings if one.verdict == "wrong"]


def back(turn: Change) -> Change:
    """The way that undoes another one."""
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    return next(other for other in (*TURNS.values(), same) if torch.equal(other(turn(x)), x))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("how", TURNS)
def test_images_that_lie_in_another_way_are_told(grey: Images, how: str) -> None:
    """It is no other order of the classes, though 6 upside down is 9."""
    network, x, y = grey
    found = told(Made(network, back(TURNS[how]), same), x, y)
    assert wrong(found) == ["layout"]
    assert f"On images {how}," in finding(found, "layout").said


NEGATIVE: dict[str, Change] = {
    "negative logits": lambda logits: -logits,
    "losses": lambda logits: -logits.log_softmax(1),
    "1 less probabilities": lambda logits: 1 - logits.softmax(1),
    "distances": lambda logits: (logits - logits.amax(1, keepdim=True)).square(),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", NEGATIVE)
def test_outputs_of_which_the_smallest_counts_are_told(grey: Images, name: str) -> None:
    """They are in no other order."""
    network, x, y = grey
    found = told(Made(network, same, NEGATIVE[name]), x, y)
    assert wrong(found) == ["outputs"]
    assert "smallest" in finding(found, "outputs").said


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_that_does_not_know_the_data_is_told_no_order(grey: Images, seed: int) -> None:
    """Some order of the classes always fits its answers best, as they depend on the image somehow."""
    _, x, y = grey
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 576, 10))
    found = told(body, x, y)
    told_classes = finding(found, "classes")
    assert wrong(found) == []
    assert told_classes.verdict == "doubt"
    assert f"{found.accuracy:.1%}" in told_classes.said
    assert "framings" in told_classes.said
    assert "data set" in told_classes.advice
    assert "classes:" not in told_classes.advice  # no button of a page takes that order


STUCK: dict[str, tuple[Change, str, str]] = {
    "the same for every image": (lambda logits: logits * 0 + torch.arange(10.0), "wrong", "the same"),
    "not finite": (lambda logits: logits * float("nan"), "wrong", "NaN"),
    "not finite for some": (
        lambda logits: torch.where(logits.amax(1, keepdim=True) > logits.amax(1).median(), logits, float("inf")),
        "doubt",
        "100 of 200 images are NaN, which counts as misclassified, or infinite",
    ),
    "saturated": (lambda logits: torch.tanh(1000 * logits), "doubt", "share the largest"),
    "rounded": (lambda logits: (logits / 8).round(), "doubt", "share the largest"),
    "sigmoids": (lambda logits: 1 / (1 + (-1000 * (logits - logits.mean())).exp()), "doubt", "share the largest"),
    "huge": (lambda logits: 1e20 * logits, "note", "no gradient"),
    "tiny": (lambda logits: 1e-9 * logits, "note", "above chance"),
    "percent": (lambda logits: 100 * logits.softmax(1), "doubt", "sum to 100"),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", STUCK)
def test_answers_that_name_no_class_or_no_confidence_are_told(grey: Images, name: str) -> None:
    """Constant, not finite, several classes the largest, probabilities that are not of 1."""
    network, x, y = grey
    after, verdict, words = STUCK[name]
    found = finding(told(Made(network, same, after), x, y), "outputs")
    assert found.verdict == verdict
    assert words in found.said


def test_classes_that_are_ruled_out_are_told(grey: Images) -> None:
    """Minus infinity is an answer: the others are compared; no image counts as one without a class."""
    network, x, y = grey
    found = told(Made(network, same, lambda logits: (60 * logits).softmax(1).log()), x, y)
    assert "rules them out" in finding(found, "outputs").said
    assert found.accuracy > 0.9


def test_a_regression_to_0_and_1_is_pointed_out(grey: Images) -> None:
    """Its class 1 is above 0.5; a score above 0 is not taken for one."""
    network, x, y = grey
    kept = (y == 1) | (y == 7)
    x, y = x[kept], (y[kept] == 7).long()

    def score(logits: Tensor) -> Tensor:
        return logits[:, 7] - logits[:, 1]

    found = finding(told(Made(network, same, lambda logits: 0.5 + score(logits).clamp(-9, 9) / 15), x, y), "outputs")
    assert found.verdict == "doubt"
    assert "above 0.5" in found.said
    assert "above 0.5" not in finding(told(Made(network, same, score), x, y), "outputs").said


@pytest.mark.parametrize("mean", [(0.4914, 0.4822, 0.4465), (0.485, 0.456, 0.406)])
def test_a_mean_alone_is_tried(mean: tuple[float, ...]) -> None:
    """Subtracted, and nothing divided by."""
    own = ((0.2, 0.3, 0.4), (0.1, 0.1, 0.1))
    tried = {(one.mean, one.std) for one in normalisations(3, own, (0.3, 0.1))}
    assert (mean, (1.0, 1.0, 1.0)) in tried
    assert (own[0], (1.0, 1.0, 1.0)) in tried


def test_saturation_is_that_of_the_framing_that_is_taken(grey: Images) -> None:
    """Pixels far outside the range saturate every softmax."""
    network, x, y = grey
    found = told(Made(network, same, lambda logits: (logits / 4).softmax(1)), x, y)
    assert "0% of the images" in finding(found, "outputs").said


def test_ties_and_sums_are_counted() -> None:
    """Of tables by hand."""
    assert answers.tied(torch.tensor([[1.0, 1, 0], [2, 1, 0]])) == 0.5
    assert answers.tied(torch.ones(3, 1)) == 0
    assert answers.sum_of(torch.tensor([[30.0, 70], [0, 100]])) == pytest.approx(100)
    assert answers.sum_of(torch.tensor([[30.0, 70], [0, 99]])) is None
    assert answers.sum_of(torch.tensor([[-30.0, 130]])) is None
    assert answers.sum_of(torch.zeros(2, 2)) is None


TOGETHER: dict[str, tuple[Change, Change]] = {
    "divided by the largest": (lambda x: x / x.max(), same),
    "less the smallest": (lambda x: x - x.min(), same),
    "less the mean": (lambda x: x - 0.05 * x.mean(0, keepdim=True), same),
    "softmax over the batch": (same, lambda logits: logits.softmax(0)),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", TOGETHER)
def test_answers_that_depend_on_neighbours_are_told(grey: Images, name: str) -> None:
    """Though most images have the same largest and smallest value."""
    network, x, y = grey
    before, after = TOGETHER[name]
    assert "neighbours" in wrong(told(Made(network, before, after), x, y))


class _Rarely(nn.Module):
    """Other answers on one call of a million."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.network(x.flip(2) if torch.rand(()) < 1e-6 else x)


def test_a_network_that_draws_is_random_whatever_it_answered(grey: Images) -> None:
    """Seen in the generator."""
    network, x, y = grey
    found = finding(told(_Rarely(network), x, y), "calls")
    assert found.verdict == "doubt"
    assert "draws random numbers" in found.said


class _OfItsOwn(nn.Module):
    """Every image is brought to the same mean and standard deviation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        return self.network(0.13 + 0.31 * (x - mean) / std)


def test_a_network_that_normalises_by_itself_needs_no_normalisation(grey: Images) -> None:
    """All are the same to it, so that there is nothing to ask anybody; one that only cuts at a threshold is no such."""
    network, x, y = grey
    found = told(_OfItsOwn(network), x, y)
    assert finding(found, "normalisation").verdict == "note"
    assert "makes no difference" in finding(found, "normalisation").said
    cut = told(Made(network, lambda images: (200 * (images - 0.5)).sigmoid(), same), x, y)
    assert "makes no difference" not in finding(cut, "normalisation").said


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_padded_images_are_told_from_resized_ones(grey: Images, value: float) -> None:
    """A network that was made for digits in a frame; resize says that the reader wants none."""
    network, x, y = grey
    before = (
        (lambda images: images[:, :, 10:-10, 10:-10]) if value == 0 else lambda images: 1 - images[:, :, 10:-10, 10:-10]
    )
    body = Made(network, before, same)
    images = x if value == 0 else 1 - x
    found = told(body, images, y, (1, 48, 48))
    assert "size" in wrong(found)
    assert "padded images" in finding(found, "size").said
    assert "size" not in wrong(told(body, images, y, (1, 48, 48), resize=48))


def test_of_framings_that_are_nearly_the_same_the_usual_one_is_taken(grey: Images) -> None:
    """These images cannot tell them apart, and it hardly matters."""
    network, x, y = grey
    colours = x.repeat(1, 3, 1, 1)
    mean, std = torch.tensor((0.485, 0.456, 0.406))[:, None, None], torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    found = told(Made(network, lambda images: (images * std + mean).mean(1, keepdim=True), same), colours, y)
    assert found.framing.std == pytest.approx((0.229, 0.224, 0.225))
    assert found.accuracy > 0.9


def test_operators_that_were_not_compared_are_named(grey: Images) -> None:
    """Where a graph has some; no finding where it has none."""
    network, x, y = grey
    assert verdicts.operators(()) is None
    assert not [one for one in told(network, x, y).findings if one.name == "operators"]
    body = Made(network, same, same)
    object.__setattr__(body, "unchecked", ("Conv", "Resize"))
    found = finding(told(body, x, y), "operators")
    assert found.verdict == "note"
    assert "Conv, Resize" in found.said


@pytest.mark.parametrize(("end", "word"), [(nn.Softmax(1), "softmax"), (nn.LogSoftmax(1), "log-softmax")])
def test_an_end_that_was_cut_off_is_named(grey: Images, end: nn.Module, word: str) -> None:
    """Of a graph."""
    pytest.importorskip("onnx")
    from core.networks.onnx_export import exported
    from core.networks.onnx_network import OnnxNetwork

    network, x, y = grey
    graph = OnnxNetwork(exported(nn.Sequential(network, end), (1, 28, 28)))
    found = told(graph, x, y)
    assert f"ends in a {word}, which was cut off" in finding(found, "outputs").said
    assert torch.equal(Framed(graph, found.framing)(x).argmax(1), network(x).argmax(1))
    assert F.softmax(Framed(graph, found.framing)(x), 1).allclose(network(x).softmax(1), atol=1e-4)
