"""The enumeration of one- and two-feature changes: nothing is left out, verdicts are real, the words say no more."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from core.attacks import exhaustive
from core.attacks.engine.masks import Masked
from core.attacks.sparse.first_layer import FirstLayer
from core.evaluation.tables.enumeration import Enumeration, summary
from core.networks.catalogue import build
from core.networks.layers import Centre
from tests.fixtures import network

Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    """A dense network 64-24-10 on the digits, whose first layer is linear."""
    return network("centred")


def hits(model: nn.Module, image: Tensor, y: int, changes: list[tuple[tuple[int, float], ...]]) -> list[int]:
    """Which changes of one image (C, H, W) fool, each tried by a forward pass of its own kind: plain and slow."""
    images = image.flatten().repeat(len(changes), 1)
    for row, change in enumerate(changes):
        for feature, value in change:
            images[row, feature] = value
    with torch.no_grad():
        found = model(images.view(-1, *image.shape)).argmax(1)
    return (found != y).nonzero()[:, 0].tolist()


def put(x: Tensor, feature: int, value: float) -> Tensor:
    """The image with one feature set."""
    return x.flatten(1).index_fill(1, torch.tensor(feature), value).view_as(x)


@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_exhaustive_finds_what_brute_force_finds(kind: str, dense: nn.Module, net: nn.Module, digits: Batch) -> None:
    """Counts of fooling changes, the smallest single one and the best pair; by rank-one updates and by real passes."""
    model = copy.deepcopy(dense if kind == "dense" else net).eval().double()  # where no count hangs on rounding
    x, y = digits[0][1400:1700].double(), digits[1][1400:1700]
    margin = model(x).detach().topk(2).values
    right = model(x).argmax(1) == y
    rows = right.nonzero()[:, 0][(margin[:, 0] - margin[:, 1])[right].argsort()][[0, 2, 12, 25, 40, 70]]
    x, y = x[rows], y[rows]
    result = exhaustive(model, x, y, pixels=2, levels=9)
    trace, kinds = result.trace, set()
    for row, image in enumerate(x):
        singles = [((feature, level / 8),) for feature in range(64) for level in range(9)]
        found = hits(model, image, int(y[row]), singles)
        assert int(trace["singles"][row]) == 64 * 9
        assert int(trace["single_flips"][row]) == len(found)
        by_feature = torch.bincount(torch.tensor([singles[k][0][0] for k in found], dtype=torch.int64), minlength=64)
        assert torch.equal(trace["flips"][row].flatten(), by_feature)
        if found:
            size = min(abs(image.flatten()[f].item() - v) for k in found for f, v in singles[k])
            assert result.distance["linf"][row].item() == pytest.approx(size, abs=1e-6)
            kinds.add(1)
            continue
        moves = [(f, e) for f in range(64) for e in (0.0, 1.0) if image.flatten()[f] != e]
        pairs = [pair for pair in itertools.combinations(moves, 2) if pair[0][0] != pair[1][0]]
        found = hits(model, image, int(y[row]), pairs)
        assert int(trace["pairs"][row]) == len(pairs)
        assert int(trace["pair_flips"][row]) == len(found)
        assert bool(trace["all_pairs"][row])
        assert bool(result.success[row]) == bool(found)
        if found:
            assert int(result.distance["l0"][row]) == 2
        kinds.add(2 if found else 3)
    assert len(kinds) >= 2  # not all of one kind


def test_exhaustive_counts_every_image_tried(dense: nn.Module, few: Batch) -> None:
    """The image itself, each change, what was close to the boundary once more, and the verification."""
    result = exhaustive(dense, *few, pixels=2, levels=4, pairs=100)
    trace, wrong = result.trace, dense(few[0]).argmax(1) != few[1]
    ends = sum((few[0].flatten(1) != end).sum(1) for end in (0, 1))
    moves = torch.where(trace["pairs"] > 0, ends, 0)
    tried = 1 + trace["singles"] + moves + trace["pairs"] + trace["close"] + result.success.long()
    assert torch.equal(result.forwards, tried)
    assert (result.forwards[wrong] == 2).all()
    assert (result.backwards == 0).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
@pytest.mark.parametrize("network", ["linear", "mlp", "scalar", "masked"])
def test_first_layer_gives_the_models_logits(network: str, shape: tuple[int, int, int]) -> None:
    """Rank-one updates of the first layer and forward passes of the changed images agree to rounding."""
    torch.manual_seed(1)
    model: nn.Module = build("mlp" if network != "linear" else "linear", shape, 2, scalar=network == "scalar").eval()
    centre = next(part for part in model.modules() if isinstance(part, Centre))
    centre.fit(torch.rand(50, *shape))
    if network == "scalar":
        model.threshold.fill_(0.3)
    if network == "masked":
        model = Masked(model, torch.ones(1, 8, 8))
    image = torch.rand(shape)
    first = FirstLayer.of(model, image)
    assert first is not None
    feature = torch.randint(0, image.numel(), (200, 2))
    feature[:, 1] = (feature[:, 0] + 1) % image.numel()
    value = torch.rand(200, 2)
    images = image.flatten().repeat(200, 1).scatter(1, feature, value).view(-1, *shape)
    with torch.no_grad():
        start = first.head(image[None])[0]
        found = first.changed(start, feature, value - image.flatten()[feature])
        torch.testing.assert_close(found, model(images), rtol=1e-5, atol=1e-5)


def test_first_layer_is_only_taken_where_it_is_known_to_be_linear(net: nn.Module) -> None:
    """A convolution first, a subclass, a ReLU before the dense layer, or anything that is no sequence: none."""

    class Odd(nn.Linear):
        pass

    image = torch.zeros(1, 8, 8)
    bent = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(64, 10))
    for model in (net, nn.Sequential(nn.Flatten(), Odd(64, 10)), bent, nn.Sequential(nn.Linear(8, 2)), Odd(64, 2)):
        assert FirstLayer.of(model, image) is None


def test_exhaustive_decides_ties_by_a_forward_pass() -> None:
    """Many changes end exactly on the boundary; each is looked at again, and counted as the model itself reads it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    model[1].weight.data = torch.zeros(2, 16)
    model[1].weight.data[0] = torch.arange(16) % 3 / 8  # of eighths every sum is exact, in whatever order
    model[1].bias.data = torch.tensor([-0.125, 0.0])
    x, y = torch.zeros(1, 1, 4, 4), torch.tensor([1])
    x[0, 0, 0, 1] = 0.25
    singles = [((feature, level / 8),) for feature in range(16) for level in range(9)]
    result = exhaustive(model, x, y, levels=9)
    with torch.no_grad():
        ties = sum(int((model(put(x, *change)).diff() == 0).sum()) for (change,) in singles)
    assert int(result.trace["single_flips"]) == len(hits(model, x[0], 1, singles)) > 0
    assert int(result.trace["close"]) >= ties > 5


def test_exhaustive_shortlist_of_pairs_is_exact_for_linear_models() -> None:
    """Effects of a linear model add up, so the most promising pair is the best one; but not all pairs were tried."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 3)).double()
    x = torch.rand(30, 1, 5, 5, dtype=torch.float64)
    y = model(x).argmax(1)
    every, one = (exhaustive(model, x, y, pixels=2, levels=2, pairs=pairs) for pairs in (None, 1))
    two = every.distance["l0"] == 2
    assert two.sum() > 5
    assert torch.equal(every.success, one.success)
    assert torch.equal(every.x_adv, one.x_adv)
    assert (one.trace["pairs"][two] == 1).all()
    assert not one.trace["all_pairs"].any()
    assert every.trace["all_pairs"][two].all()


def test_exhaustive_keeps_to_the_mask(dense: nn.Module, few: Batch) -> None:
    """Only features inside it are tried, and only they are counted."""
    mask = torch.zeros(8, 8)
    mask[2:5, 3:5] = 1
    result = exhaustive(Masked(dense, mask), *few, levels=4)
    right = dense(few[0]).argmax(1) == few[1]
    assert (result.trace["singles"][right] == 6 * 4).all()
    assert torch.equal(result.trace["margin"][right].isnan()[:, 0], (mask == 0).expand(int(right.sum()), 8, 8))
    assert torch.equal(result.x_adv[:, :, mask == 0], few[0][:, :, mask == 0])


def test_exhaustive_maps_hold_the_lowest_margins(dense: nn.Module, few: Batch) -> None:
    """The map's level, put at its feature, gives the map's margin."""
    x, y = few[0][:6], few[1][:6]
    result = exhaustive(dense, x, y, levels=5)
    for row in range(6):
        if result.trace["singles"][row] == 0:
            continue
        images = x[row].flatten().repeat(64, 1)
        images[torch.arange(64), torch.arange(64)] = result.trace["level"][row].flatten()
        logits = dense(images.view(-1, 1, 8, 8)).detach()
        own = logits[:, y[row]]
        others = logits.scatter(1, y[row].expand(64, 1), -torch.inf).max(1).values
        torch.testing.assert_close(result.trace["margin"][row].flatten(), own - others, rtol=1e-4, atol=1e-4)


def proof(model: nn.Module, x: Tensor, y: Tensor, **settings: object) -> Enumeration:
    """What the enumeration says of the first image."""
    result = exhaustive(model, x, y, **settings)
    trace = {f"trace_{name}": value.numpy() for name, value in result.trace.items()}
    return Enumeration.of({"x": x.numpy(), **trace})


def test_sentence_says_what_was_enumerated_and_no_more() -> None:
    """Nothing flips, one is enough, two are enough, not all pairs tried, a mask, colours, fooled before."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    model[1].weight.data = torch.stack([torch.zeros(12), torch.ones(12)])
    x, y = torch.zeros(1, 1, 3, 4), torch.tensor([0])

    def say(bias: float, image: Tensor = x, net: nn.Module = model, **settings: object) -> str:
        model[1].bias.data = torch.tensor([bias, 0.0])
        return proof(net, image, y, **settings).sentence()

    assert say(2.5) == "No change of one pixel to any of 256 levels flips this image (3,072 images tried)."
    assert say(2.5, pixels=2, levels=2) == (
        "No change of one pixel to any of 2 levels flips this image (24 images tried), and no change of two to 0 or 1 "
        "does (66 images tried)."
    )
    assert say(1.5, pixels=2, levels=3) == (
        "No change of one pixel to any of 3 levels flips this image (36 images tried); two are enough: with every two "
        "at 0 or 1, 66 of 66 images flip it."
    )
    assert say(2.5, pixels=2, levels=2, pairs=10).endswith(
        "and none of the 10 most promising pairs at 0 or 1 does; the other pairs were not tried."
    )
    assert say(0.7, levels=3) == (
        "One pixel is enough: 12 of the 36 changes of one pixel to any of 3 levels flip this image."
    )
    assert "inside the mask (2 of them may change)" in say(
        2.5, net=Masked(model, torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    )
    assert "feature (one colour of one pixel)" in say(2.5, image=x.view(1, 3, 2, 2))
    assert say(-1.0) == "The image is classified as wanted before anything is changed."


def test_enumeration_as_data() -> None:
    """How few are enough, and what is excluded, as numbers."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.stack([torch.zeros(4), torch.ones(4)])
    x, y = torch.zeros(1, 1, 2, 2), torch.tensor([0])
    for bias, pairs, fewest, more_than in (
        (1.5, None, 2, 1),
        (2.5, None, None, 2),
        (2.5, 2, None, 1),
        (-1, None, 0, 0),
    ):
        model[1].bias.data = torch.tensor([float(bias), 0.0])
        found = proof(model, x, y, pixels=2, levels=2, pairs=pairs)
        assert (found.fewest, found.more_than) == (fewest, more_than)
    model[1].bias.data = torch.tensor([0.7, 0.0])
    found = proof(model, x, y, levels=6)
    assert found.fewest == 1
    assert found.changed[0][1:] == (0.0, pytest.approx(0.8))


def test_exhaustive_reports_and_refuses(dense: nn.Module, few: Batch) -> None:
    """Progress moves inside an image; settings out of range are refused by name."""
    seen: list[float] = []
    exhaustive(dense, few[0][:2], few[1][:2], levels=3, on_progress=lambda done, total, **_: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1
    for name, value in (("pixels", 3), ("levels", 1), ("pairs", 0), ("batch", 0)):
        with pytest.raises(ValueError, match=f"^{name}: expected .*, got {value}"):
            exhaustive(dense, *few, **{name: value})


def test_summary_of_many_images_says_no_more_than_was_tried() -> None:
    """Counts by the fewest changes, and one sentence; images fooled before are left out."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.stack([torch.zeros(4), torch.ones(4)])
    model[1].bias.data = torch.tensor([1.5, 0.0])
    x, y = torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64)
    x[1, 0, 0, 0] = 0.8  # one more is enough; the fourth is read as 1 before
    x[3] = 1

    def say(**settings: object) -> dict[str, object]:
        trace = {f"trace_{name}": value.numpy() for name, value in exhaustive(model, x, y, **settings).trace.items()}
        return summary({"x": x.numpy(), **trace})

    one = say(levels=2)
    assert (one["one_is_enough"], one["two_are_enough"], one["nothing_found"], one["tried"]) == (1, 0, 2, 24)
    assert one["proven"] == "One pixel at one of 2 levels flips 1 of 3 images, not the others (24 images tried)."
    two = say(levels=2, pixels=2)
    assert (two["one_is_enough"], two["two_are_enough"], two["nothing_found"]) == (1, 2, 0)
    assert "; two at 0 or 1 flip 2 of these 2 (" in str(two["proven"])
    assert "of the pairs tried, flip 2 of these 2 (" in str(say(levels=2, pixels=2, pairs=1)["proven"])
    model[1].bias.data = torch.tensor([3.5, 0.0])
    x[:] = 0
    assert say(levels=2, pixels=2)["proven"] == (
        "No change of one pixel to any of 2 levels flips any of 4 images; no change of two to 0 or 1 does (56 images "
        "tried)."
    )
    assert "; none of the pairs tried at 0 or 1 does (" in str(say(levels=2, pixels=2, pairs=1)["proven"])


def test_enumeration_counts_what_gave_no_number() -> None:
    """A model that gives no number for any other image was asked all the same: no feature was left out."""

    class Lost(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0]) + torch.where(x.flatten(1).any(1), torch.nan, 0.0)[:, None]

    found = proof(Lost(), torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64), levels=3)
    assert (found.features, found.levels, found.singles, found.everything) == (4, 3, 12, True)
