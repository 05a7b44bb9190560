"""What the reliability checks look at: model, images, and the attacks that several checks share, each run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.black_box.sparse_rs import sparse_rs
from core.attacks.black_box.square import square
from core.attacks.engine.checks import check, check_eps
from core.attacks.engine.engine import admitted, gradients, plain, predict
from core.attacks.engine.geometry import into_ball
from core.attacks.engine.losses import Goal, predicted, soft_margin
from core.attacks.engine.result import AttackResult
from core.attacks.engine.steps import eps_limit, fewest, nearest, random_point, step_against
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.pgd import pgd
from core.checks import check_choice
from core.epsilon import reaches
from core.evaluation.trust.surrogate import linear_fit
from core.progress import Progress
from core.specs.methods.base import NORMS

TRUST = 0x7275
"""Separates the random draws of the checks from those of the evaluation, which may have the same seed."""
NOISE = 1 << 32
"""Forks from here on are for noise; restarts fork from 0."""
AGAIN = NOISE - 1
RANDOM = 1e-5
"""Relative difference of logits that rounding does not explain."""
NAMES: dict[Callable[..., AttackResult], str] = {pgd: "PGD", square: "Square", sparse_rs: "Sparse-RS"}
"""How `found_by` names the attacks of the checks."""


@dataclass(frozen=True)
class Effort:
    """How much an effort level spends; see `EFFORTS`."""

    images: int
    steps: int
    restarts: int
    queries: int
    draws: int
    ladder: tuple[float, ...]
    surfaces: int


EFFORTS = {
    "quick": Effort(100, 20, 3, 200, 50, (0.5, 1, 1.5), 1),
    "standard": Effort(200, 40, 5, 500, 200, (0.25, 0.5, 0.75, 1, 1.25, 1.5), 2),
    "thorough": Effort(500, 100, 10, 2000, 1000, (0.25, 0.5, 0.75, 1, 1.25, 1.5), 3),
}
"""Effort levels: images, steps of PGD, restarts, queries, draws of noise, balls as shares of eps, loss surfaces."""


@dataclass(frozen=True)
class Tried:
    """What one attack did to the n images: `fooled` (n,) bool, those it was not run on left out, and `x_adv`."""

    fooled: Tensor
    x_adv: Tensor


@dataclass
class Fooled:
    """Adversarial examples in the ball that attacks of the checks found: `x_adv`, and `by` which, "" for none."""

    x_adv: Float[Tensor, "n c h w"]
    by: list[str]

    def note(self, rows: Tensor, x_adv: Tensor, name: str) -> None:
        """Keep the images of these rows (n,) bool; the first attack that fooled an image counts."""
        for row in rows.nonzero()[:, 0].tolist():
            if not self.by[row]:
                self.by[row], self.x_adv[row] = name, x_adv[row]


@dataclass(frozen=True)
class Claims:
    """What an evaluation reports about all of its images; None for parts that it does not report."""

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    robust: Bool[Tensor, " n"] | None
    x_adv: Float[Tensor, "n c h w"] | None
    lower: Float[Tensor, " n"] | None


class Examination:
    """The first images of an evaluation with their model, and the passes spent on them. Use `Examination.open`."""

    def __init__(
        self, model: nn.Module, claims: Claims, norm: str, eps: float, index: Tensor, seed: int, effort: Effort
    ) -> None:
        n = min(effort.images, len(claims.x))
        self.model, self.claims, self.norm, self.eps, self.effort, self.n = model, claims, norm, eps, effort, n
        self.x, self.y, self.index = claims.x[:n], claims.y[:n], index[:n]
        self.robust = None if claims.robust is None else claims.robust[:n]
        self.streams = Streams.of(seed, self.index).fork(TRUST)
        self.goal = Goal.of(self.y, None)
        self.eps_each = check_eps(eps, self.x, eps_limit(norm))
        self.forwards = self.backwards = 0
        self.on_progress: Progress | None = None
        self.inside = torch.zeros_like(self.y, dtype=torch.bool)
        """Images that an attack of the checks fooled inside the ball."""
        self.found = Fooled(self.x.clone(), [""] * n)

    @classmethod
    @contextmanager
    def open(
        cls,
        model: nn.Module,
        claims: Claims,
        *,
        norm: str,
        eps: float,
        index: Tensor | None,
        seed: int,
        effort: str,
    ) -> Iterator[Examination]:
        """Check the input and freeze the model; draws that a random model makes itself come from the seed too."""
        claims = Claims(*(plain(value) for value in vars(claims).values()))
        x = claims.x
        check_choice("norm", norm, NORMS)
        check_choice("effort", effort, EFFORTS)
        devices = [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for name in ("robust", "lower"):
                value = getattr(claims, name)
                if value is not None and value.shape != claims.y.shape:
                    raise ValueError(f"{name}: expected shape ({len(x)},), got {tuple(value.shape)}")
            if claims.x_adv is not None and claims.x_adv.shape != x.shape:
                raise ValueError(f"x_adv: expected shape {tuple(x.shape)}, got {tuple(claims.x_adv.shape)}")
            if index is None:
                index = torch.arange(len(x), device=x.device)
            if len(index) != len(x):
                raise ValueError(f"index: expected {len(x)} numbers, got {len(index)}")
            with admitted(model, x) as fit:
                check(fit, x, claims.y, eps=eps, eps_limit=eps_limit(norm))
                yield cls(fit, claims, norm, eps, index.to(x.device), seed, EFFORTS[effort])

    # ---------------------------------------------------------------- the model

    def logits(self, x: Float[Tensor, "m c h w"]) -> Float[Tensor, "m k"]:
        """A forward pass, counted."""
        self.forwards += len(x)
        return predict(self.model, x)

    @cached_property
    def clean(self) -> Float[Tensor, "n k"]:
        """Logits of the images."""
        return self.logits(self.x)

    @cached_property
    def correct(self) -> Bool[Tensor, " n"]:
        """Correctly classified images."""
        return predicted(self.clean) == self.y

    @cached_property
    def wobble(self) -> float:
        """The largest difference of logits between two passes of the same batch, over the largest logit if above 1."""
        return relative(self.logits(self.x), self.clean)

    @property
    def random(self) -> bool:
        """Whether the model returns different logits for the same images; checks of single outputs are skipped then."""
        return self.wobble > RANDOM

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.clean.shape[1]

    @cached_property
    def proven(self) -> Bool[Tensor, " n"]:
        """Images that are proven in the ball: of these, no attack has to be strong."""
        lower = self.claims.lower
        return torch.zeros_like(self.correct) if lower is None else reaches(lower[: self.n], self.eps) & self.correct

    @cached_property
    def slope(self) -> Float[Tensor, "n c h w"]:
        """Gradient of the log-odds of the true class; it does not underflow (see `losses.soft_margin`)."""
        return self.gradient(self.x)

    def gradient(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Gradient of the log-odds, counted."""
        return self.odds(x, torch.arange(self.n, device=x.device))[1]

    def odds(self, x: Float[Tensor, "m c h w"], rows: Int[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """Log-odds (M,) of the true classes of these images, in float64, and their gradients; counted."""
        self.forwards += len(x)
        self.backwards += len(x)
        slope, logits = gradients(self.model, x, self.goal.take(rows), "ce")
        return soft_margin(logits.double(), self.y[rows]), slope

    # ---------------------------------------------------------------- points of the ball

    def noise(self, number: int) -> Float[Tensor, "n c h w"]:
        """Random images at the edge of the ball (in linf at its corners), inside the box."""
        streams = self.streams.fork(NOISE + number)
        if self.norm == "linf":
            signs = 1 - 2 * (streams.uniform(0, 1, tuple(self.x.shape[1:]), self.x.dtype) < 0.5).to(self.x.dtype)
            return nearest(self.x + self.eps * signs, self.x, self.eps_each, "linf")
        return random_point(streams, self.x, self.eps_each, self.norm)

    def stepped(self, slope: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """One full step against a gradient, in the norm's own way; the box is looked at in l0 only."""
        if self.norm == "l0":
            return fewest(slope, self.x, self.eps_each, min(int(self.eps), self.x[0].numel()))
        return step_against(self.x, slope, self.eps_each, "l2" if self.norm == "l1" else self.norm)

    # ---------------------------------------------------------------- attacks, each run once

    def tried(self, attack: Callable[..., AttackResult], rows: Tensor, **settings: Any) -> Tried:
        """Run an attack on the images of a mask (n,); the others count as not fooled.

        The ball is the examination's unless `settings` say otherwise; what is found in it counts against the claims.
        """
        found, x_adv = torch.zeros_like(rows), self.x.clone()
        at = rows.nonzero()[:, 0]
        eps = settings.setdefault("eps", self.eps)
        inside = settings.get("norm", self.norm) == self.norm and eps <= self.eps
        if len(at):
            made = attack(
                self.model,
                self.x[at],
                self.y[at],
                streams=settings.pop("streams", self.streams).take(at),
                on_progress=self.on_progress,
                **settings,
            )
            found[at], x_adv[at] = made.success, made.x_adv
            self.forwards += int(made.forwards.sum())
            self.backwards += int(made.backwards.sum())
        if inside:
            self.inside |= found
            self.found.note(found, x_adv, NAMES[attack])
        return Tried(found, x_adv)

    def walk(self, rows: Tensor | None = None, **settings: Any) -> Tried:
        """PGD with the steps of the effort level, on the correctly classified images (or fewer).

        In l0 it begins at the image, where the first step already chooses the best features, as a single step does.
        """
        rows = self.correct if rows is None else rows
        usual = {"norm": self.norm, "steps": self.effort.steps, "random_start": self.norm != "l0"}
        return self.tried(pgd, rows, **{**usual, **settings})

    @cached_property
    def single(self) -> Tried:
        """One step of the whole size."""
        return self.walk(steps=1, random_start=False)

    @cached_property
    def many(self) -> Tried:
        """PGD along the log-odds, from one start."""
        return self.walk()

    @cached_property
    def margins(self) -> Tried:
        """The same with the margin as its loss."""
        return self.walk(loss="margin")

    @cached_property
    def longer(self) -> Tried:
        """Twice the steps, on the images that `many` did not fool."""
        return self.walk(self.correct & ~self.many.fooled, steps=2 * self.effort.steps)

    @cached_property
    def again(self) -> Tried:
        """More starts, on the images that `many` did not fool."""
        rows = self.correct & ~self.many.fooled
        return self.walk(rows, restarts=self.effort.restarts, streams=self.streams.fork(AGAIN), random_start=True)

    @cached_property
    def white(self) -> Bool[Tensor, " n"]:
        """Images that an attack with gradients fooled."""
        return self.many.fooled | self.margins.fooled | self.longer.fooled | self.again.fooled

    @cached_property
    def left(self) -> Bool[Tensor, " n"]:
        """Correctly classified images that no attack with gradients fooled; in l0, nor did the evaluation.

        Whole features change there, one by one, and random search does better than gradients on ordinary models too.
        """
        rows = self.correct & ~self.white
        return rows if self.norm != "l0" or self.robust is None else rows & self.robust

    @cached_property
    def unbounded(self) -> Tried:
        """PGD in the whole box, which is the linf ball of radius 1, from the image itself."""
        return self.walk(norm="linf", eps=1.0, random_start=False)

    @cached_property
    def sizes(self) -> dict[float, Tensor]:
        """What PGD fools in balls of several sizes, by size; each ball for itself."""
        shares = dict.fromkeys(self._size(share) for share in self.effort.ladder)
        return {eps: self.many.fooled if eps == self.eps else self.walk(eps=eps).fooled for eps in shares}

    def _size(self, share: float) -> float:
        size = min(eps_limit(self.norm), share * self.eps)
        return float(int(size)) if self.norm == "l0" and share != 1 else size

    @cached_property
    def queries(self) -> Tried | None:
        """What random search fools of the images that gradients did not; None in l1, which has no random search."""
        rows, max_queries = self.left, self.effort.queries
        if self.norm == "l1":
            return None
        if self.norm == "l0":
            return self.tried(sparse_rs, rows, count="features", queries=max_queries)
        return self.tried(square, rows, norm=self.norm, queries=max_queries)

    @cached_property
    def drawn(self) -> Bool[Tensor, " n"]:
        """Images that noise fools, of those that gradients did not."""
        at = self.left.nonzero()[:, 0]
        found = torch.zeros_like(self.correct)
        for draw in range(self.effort.draws):
            if not len(at):
                break
            points = self.noise(1 + draw)[at]
            fooled = self.goal.take(at).reached(self.logits(points))
            found[at] |= fooled
            if fooled.any():
                self.found.note(found, self.x.clone().index_copy_(0, at, points), "noise")
            at = at[~found[at]]
            if self.on_progress:
                self.on_progress(draw, self.effort.draws)
        self.inside |= found
        return found

    @cached_property
    def linear(self) -> Bool[Tensor, " n"]:
        """Images that a full step on a linear model fools, of those that gradients did not.

        The linear model is fitted to the images of the evaluation by least squares, with weight decay.
        """
        surrogate = linear_fit(self.claims.x, self.claims.y, self.classes)
        slope = gradients(surrogate, self.x, self.goal, "margin")[0]
        point = (
            nearest(self.stepped(slope), self.x, self.eps_each, self.norm) if self.norm != "l0" else self.stepped(slope)
        )
        if self.norm in ("l2", "l1"):
            point = into_ball(point, self.x, self.eps_each, self.norm)
        found = self.left & self.goal.reached(self.logits(point))
        self.found.note(found, point, "a linear model's images")
        self.inside |= found
        return found

    # ---------------------------------------------------------------- accuracies

    def share(self, images: Tensor) -> float:
        """Share of the n images."""
        return float(images.sum()) / self.n

    def accuracy_after(self, fooled: Tensor) -> float:
        """Accuracy under an attack on the correctly classified images, of the n images."""
        return self.share(self.correct & ~fooled)

    def accuracy(self) -> dict[str, float]:
        """Accuracy under each attack; the last is under all of them together."""
        return {
            "clean": self.share(self.correct),
            "one step": self.accuracy_after(self.single.fooled),
            f"{self.effort.steps} steps": self.accuracy_after(self.many.fooled),
            f"{self.effort.steps} steps, margin": self.accuracy_after(self.margins.fooled),
            "all of the report": self.accuracy_after(self.inside),
        }

    def ladder(self) -> tuple[tuple[float, float], ...]:
        """(eps, accuracy) of the same PGD in balls of several sizes, the unchanged images first."""
        sizes = sorted((eps, self.accuracy_after(fooled)) for eps, fooled in self.sizes.items())
        return ((0.0, self.share(self.correct)), *sizes)


def relative(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"]) -> float:
    """The largest difference, over the largest entry of the second if that is above 1; infinite where only one is."""
    if not torch.equal(first.isfinite(), second.isfinite()):
        return torch.inf
    size = second.abs().nan_to_num(0, 0, 0).max().clamp(min=1)
    return float((first - second).nan_to_num(0, 0, 0).abs().max() / size)
