"""What an evaluation refuses, and what it says of models and images that make its figure doubtful."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.state import CascadeState, Subject
from core.evaluation.robust.verdict import remarked, verdict


def test_image_that_was_never_attacked_does_not_stand(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Misread at first sight, read rightly at the end: nothing was tried on it, so it counts as misread."""

    class Wavering(nn.Module):
        looks = 0

        def forward(self, x: Tensor) -> Tensor:
            """Logits; at the first look at all images those of the next class."""
            self.looks += len(x) > 2  # not those at what the model bears
            return net(x).roll(1, 1) if len(x) > 2 and self.looks == 1 else net(x)

    x, y = digits
    misread = net(x).roll(1, 1).argmax(1) != y
    made = evaluate(Wavering(), x, y, eps=0.01, effort="quick", trust=False)
    assert (net(x).argmax(1) == y)[misread].sum() > 20
    assert not made.clean[misread].any()
    assert not made.robust[misread].any()
    assert (made.upper[misread] == 0).all()


class Output(nn.Module):
    """A model that gives what a function makes of the logits."""

    def __init__(self, model: nn.Module, change: Any) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> Tensor:
        """Changed logits."""
        return self.change(self.model(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda z: z.softmax(1), "got probabilities"),
        (lambda z: torch.where(z > 3, torch.nan, z), "got NaN or infinity for"),
        (lambda z: z[:, :1], "expected logits .N, K. with K >= 2"),
    ],
)
def test_model_without_logits_is_refused(change: Any, said: str, net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Probabilities, NaN and wrong shapes are errors that say what came."""
    with pytest.raises(ValueError, match=f"model: .*{said}"):
        evaluate(Output(net, change), *digits, eps=0.1)


def test_images_out_of_range_are_refused(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """The message says by how much, and where normalisation belongs."""
    x, y = digits
    with pytest.raises(ValueError, match=r"x: .*got -0.5 to 1.5, 0.5 below 0 and 0.5 above 1: .*belongs in the model"):
        evaluate(net, x * 2 - 0.5, y, eps=0.1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"y": torch.full((30,), 10)}, "y: expected classes from 0 to 9, got 10"),
        ({"x": torch.zeros(0, 1, 8, 8), "y": torch.zeros(0, dtype=torch.int64)}, "x: expected at least one image"),
        ({"eps": 1.5}, "eps: expected finite budgets in .0, 1., got 1.5"),
        ({"norm": "l3"}, "norm: expected one of"),
        ({"effort": "heroic"}, "effort: expected one of"),
        ({"index": torch.arange(3)}, "index: expected shape"),
    ],
)
def test_bad_arguments_are_named(
    fields: dict[str, Any], said: str, net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """Labels, budgets, names and lengths are checked before any work."""
    x, y = digits
    with pytest.raises(ValueError, match=said):
        evaluate(net, **{"x": x, "y": y, "eps": 0.1, "trust": False, **fields})


def test_training_mode_is_said_and_put_back(digits: tuple[Tensor, Tensor]) -> None:
    """A model in training mode is evaluated in eval mode, comes back as it was, and the result says so."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10)).train()
    made = evaluate(model, *digits, eps=0.01, effort="quick", trust=False)
    assert model.training
    assert model[1].training
    assert any("training mode" in note for note in made.notes)
    assert made.clean_accuracy == evaluate(model.eval(), *digits, eps=0.01, effort="quick", trust=False).clean_accuracy


def test_one_image_and_one_class_are_honest(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """One image gives a wide interval, one class a note; neither is an error."""
    x, y = digits
    one = evaluate(net, x[:1], y[:1], eps=0.01, effort="quick", trust=False)
    assert one.interval[1] - one.interval[0] > 0.9
    assert any("one image" in note for note in one.notes)
    same = evaluate(net, x[y == 4], y[y == 4], eps=0.01, effort="quick", trust=False)
    assert any("of class 4" in note for note in same.notes)


def test_points_without_logits_count_against_the_model() -> None:
    """At two of four best points it gives NaN: no class at all, which is not the right one, and the notes say so."""

    class Torn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.mean((1, 2, 3))
            return torch.stack([1 - score, torch.where(score > 0.05, torch.nan, score)], 1)

    x, y = torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.long)
    given = Subject(Torn(), x, y, "linf", 0.1, torch.arange(4))
    state = CascadeState.first(given, Torn()(x))
    state.x_adv[:2] = 0.0999
    safe = torch.zeros(4, dtype=torch.bool)
    made = remarked(verdict(given, state, safe, ["pgd"]), neighbours=True)
    assert made.robust.tolist() == [False, False, True, True]
    assert [note for note in made.notes if note.startswith("For 2 of 4 images") and "NaN" in note]


def test_verdicts_that_change_with_the_batch_make_a_figure_unusable() -> None:
    """The same images in another batch are other images to this model: no figure of it can be used, and it says so."""

    class Batch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = (x - x.mean(0, keepdim=True)).flatten(1).sum(1)
            return torch.stack([score, -score], 1)

    x = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(40, dtype=torch.long)
    made = evaluate(Batch(), x, y, eps=0.02, effort="quick", trust=False)
    assert not made.usable
    assert "depend on the other images of the batch" in made.warning
