"""The quiz: which images are shown, what they are, and how answers are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from core.exercises import quiz

LADDER = (0.0, 0.1, 0.3)


@pytest.fixture
def questions() -> quiz.Questions:
    """Nine images of 4 × 4 against a small network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 30)
    rows, eps = quiz.draw(y, LADDER, 3, seed=1)
    x = rng.random((30, 1, 4, 4), dtype=np.float32)[rows]
    return quiz.attacked(model, x, y[rows], eps, rows)


def test_every_eps_has_its_images_and_none_comes_twice() -> None:
    """In a random order that hangs on the seed."""
    y = np.zeros(50, dtype=int)
    rows, eps = quiz.draw(y, LADDER, 4, seed=0)
    assert len(set(rows.tolist())) == 12
    assert {value: int((eps == value).sum()) for value in LADDER} == dict.fromkeys(LADDER, 4)
    assert not np.array_equal(rows, quiz.draw(y, LADDER, 4, seed=1)[0])
    assert np.array_equal(rows, quiz.draw(y, LADDER, 4, seed=0)[0])
    with pytest.raises(ValueError, match="at most 16"):
        quiz.draw(y, LADDER, 20, seed=0)


def test_each_image_is_changed_by_its_own_eps(questions: quiz.Questions) -> None:
    """No pixel by more, and none at ε = 0."""
    size = np.abs(questions.x_adv - questions.x).reshape(len(questions), -1).max(axis=1)
    assert (size <= questions.eps + 1e-6).all()
    assert (size[questions.eps == 0] == 0).all()
    assert (size[questions.eps > 0] > 0).all()
    assert questions.x_adv.min() >= 0
    assert questions.x_adv.max() <= 1


def test_answers_are_counted_beside_the_model(questions: quiz.Questions) -> None:
    """Right is right, "I cannot tell" is wrong, and only what was answered counts."""
    truth = [int(label) for label in questions.y]
    rows = quiz.counts(questions, truth, "net")
    assert [row["right"] for row in rows] == [row["asked"] for row in rows] == [3, 3, 3]
    assert quiz.share(rows, "you") == 1
    assert quiz.share(rows, "net") == pytest.approx((questions.pred == questions.y).mean())
    none = quiz.counts(questions, [None] * 4, "net")
    assert sum(row["asked"] for row in none) == 4
    assert quiz.share(none, "you") == 0
    assert quiz.share([], "you") is None
    assert quiz.shared_errors(questions, [None] * 9) == int((questions.pred != questions.y).sum())
    assert quiz.shared_errors(questions, truth) == 0
