"""Every change of one feature to every grey level, and every change of two to 0 or 1: what fools is the fewest.

MATHEMATICS section 5. Where the model's first layer is linear, a changed feature is a rank-one update of its output,
and only the layers after it are run; elsewhere every changed image passes through the whole model. Only what was
enumerated is claimed; `core.evaluation.tables.enumeration` puts it in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check
from core.attacks.engine.door import attack
from core.attacks.engine.engine import confine, frozen, predict
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.sparse.first_layer import TOLERANCE, FirstLayer
from core.progress import Progress

SMALL_BATCH, LARGE_BATCH = 64, 4096
"""Changed images in one forward pass: on a CPU what fits its cache, elsewhere what fills the device."""
NUMBERS = 2_000_000
"""The most values of the first layer's output in memory at once."""
Found = tuple[Tensor, Tensor]
"""Features and what they became, each (s,)."""
UNITS = 1000
"""Progress counts thousandths of an image: one may take minutes."""


@attack(gradients=False)
def exhaustive(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    pixels: int = 1,
    levels: int = 256,
    pairs: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int | None = None,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Try every change of one feature, then every change of two at the ends; a feature is one colour of one pixel.

    One feature goes to every one of `levels` equally spaced values from 0 to 1. With `pixels` = 2, images that no
    single change flips have every two features set to 0 or 1, in all four ways. Where an image fools by a rank-one
    update, or is near the boundary on either side, a forward pass of the image itself decides.

    Args:
        model: pixels to logits; left untouched. With a mask (see `masks`), the features inside it.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        pixels: features changed at once, 1 or 2.
        levels: values of a single change, at least 2; 256 are the grey levels k/255.
        pairs: the most pairs to try per image, those that promise most if the effects of two changes add up; None: all.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images in one forward pass; None: what suits the device.
        on_progress: called with thousandths of images done, all of them, and `success`, the share fooled so far.

    Returns:
        The image with the fewest features changed: of single changes the smallest that flips clearly (beyond rounding;
        if none does, the smallest that flips), of pairs the one with the lowest margin. Images that are misclassified
        already, and those that no change flips, come back unchanged. Each image tried counts as a forward pass.
        `trace`: `feature` (N, 2) int64 changed, counted through (C, H, W), -1 for none; `value` (N, 2) what they
        became; `clean_margin` (N,); `singles`, `pairs` (N,) int64 images tried, `single_flips`, `pair_flips` (N,) int64
        those of them that fool; `all_pairs` (N,) bool, whether no pair was left out; `close` (N,) int64 images too near
        the boundary for a rank-one update; and (N, C, H, W) maps: `margin`, the lowest of all levels of a feature,
        `level`, where it is, `flips` int64, levels that fool, `pair_margin`, the lowest of all pairs that were tried
        with the feature; NaN where nothing was tried.

    Raises:
        ValueError: bad input, naming the argument.
    """
    if pixels not in (1, 2):
        raise ValueError(f"pixels: expected 1 or 2, got {pixels}")
    for name, count, smallest in (("levels", levels, 2), ("pairs", pairs, 1), ("batch", batch, 1)):
        if count is not None and count < smallest:
            raise ValueError(f"{name}: expected at least {smallest}, got {count}")
    check(model, x, y, y_target=y_target)
    if batch is None:
        batch = SMALL_BATCH if x.device.type == "cpu" else LARGE_BATCH
    goal, trace = Goal.of(y, y_target), _empty_trace(x)
    x_adv, claimed = x.clone(memory_format=torch.contiguous_format), torch.zeros_like(y, dtype=torch.bool)
    forwards = torch.ones_like(y)
    allowed = confine(model, torch.ones_like(x[:1]), torch.zeros_like(x[:1])).flatten().nonzero()[:, 0]

    with frozen(model):
        first = FirstLayer.of(model, x[0])
        logits = predict(model, x, batch)
        trace["clean_margin"][:] = goal.margin(logits)
        claimed |= goal.reached(logits)
        for row in range(len(x)):

            def report(share: float, row: int = row) -> None:
                if on_progress:
                    done = row * UNITS + int(share * UNITS)
                    on_progress(done, len(x) * UNITS, success=claimed[:row].float().mean().item() if row else 0.0)

            report(0)
            if claimed[row]:
                continue
            trials = _Trials(model, first, x[row], goal.take(slice(row, row + 1)), logits[row], allowed, batch, report)
            found = trials.singles(levels, 0.5 if pixels == 2 else 1.0)
            if found is None and pixels == 2:
                found = trials.pairs(pairs)
            if found is not None:
                feature, value = found
                x_adv[row].view(-1)[feature] = value
                claimed[row] = True
                trace["feature"][row, : len(feature)], trace["value"][row, : len(value)] = feature, value
            forwards[row] += trials.passes
            for name, seen in trials.seen.items():
                trace[name][row] = seen
        if on_progress:
            on_progress(len(x) * UNITS, len(x) * UNITS, success=claimed.float().mean().item())
        return finish(model, x, x_adv, goal, claimed, forwards, torch.zeros_like(y), trace, batch)


def _empty_trace(x: Tensor) -> dict[str, Tensor]:
    """Nothing tried yet."""
    count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    unknown = torch.full_like(x, torch.nan)
    return {
        "feature": torch.full((len(x), 2), -1, dtype=torch.int64, device=x.device),
        "value": torch.full((len(x), 2), torch.nan, dtype=x.dtype, device=x.device),
        "clean_margin": torch.zeros_like(x[:, 0, 0, 0]),
        **{name: count.clone() for name in ("singles", "single_flips", "pairs", "pair_flips", "close")},
        "all_pairs": torch.zeros_like(count, dtype=torch.bool),
        **{name: unknown.clone() for name in ("margin", "level", "pair_margin")},
        "flips": torch.zeros_like(x, dtype=torch.int64),
    }


@dataclass
class _Trials:
    """One image (C, H, W), not fooled yet, and what was tried with it.

    Attributes:
        goal: of this one image.
        logits: (K,) of the image.
        allowed: the features that may be changed.
        report: called with the share of this image's work that is done.
        passes: images tried, and those of them that were queried again.
        seen: rows of the trace.
    """

    model: nn.Module
    first: FirstLayer | None
    x: Tensor
    goal: Goal
    logits: Tensor
    allowed: Tensor
    batch: int
    report: Callable[[float], None]
    passes: int = 0
    seen: dict[str, Tensor | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flat = self.x.flatten()
        self.chunk, self.start = self.batch, None
        if self.first is not None:
            with torch.no_grad():
                self.start = self.first.head(self.x[None])[0]
            self.chunk = max(1, NUMBERS // max(1, len(self.start)))
        # what a rank-one update and a forward pass may differ by, many times over: below it the model itself decides
        self.slack = TOLERANCE * torch.finfo(self.x.dtype).eps * (1 + self.logits.abs().max().item())

    def look(self, feature: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n, K), margins (n,) and verdicts (n,) of the image with features (n, s) changed to values (n, s)."""
        self.passes += len(feature)
        if self.first is None or self.start is None:
            logits = self.pass_through(feature, value)
            return logits, *self.judged(logits)
        logits = self.first.changed(self.start, feature, value - self.flat[feature])
        margin, _ = self.judged(logits)
        close = (~(margin.abs() > self.slack)).nonzero()[:, 0]  # NaN too
        if len(close):
            logits[close] = self.pass_through(feature[close], value[close])
            self.passes += len(close)
            self.seen["close"] = int(self.seen.get("close", 0)) + len(close)
        return logits, *self.judged(logits)

    def pass_through(self, feature: Tensor, value: Tensor) -> Tensor:
        """Logits of the changed images by the whole model."""
        parts = []
        for some, to in zip(feature.split(self.batch), value.split(self.batch), strict=True):
            images = self.flat.repeat(len(some), 1).scatter_(1, some, to)
            parts.append(predict(self.model, images.view(-1, *self.x.shape), self.batch))
        return torch.cat(parts)

    def judged(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Margins, inf where they are no number, and whether they fool."""
        goal = self.goal.repeated(len(logits))
        return goal.margin(logits).nan_to_num(torch.inf, torch.inf, -torch.inf), goal.reached(logits)

    def singles(self, levels: int, share: float) -> Found | None:
        """Every allowed feature at every level; the smallest change that fools, or None."""
        # by a tensor: a GPU divides by a number as a product with its inverse, which is not k/255 to the last bit
        value = torch.arange(levels, device=self.x.device, dtype=self.x.dtype)
        value = value / torch.full_like(value, levels - 1)
        parts = []
        for some in self.allowed.split(max(1, self.chunk // levels)):
            _, margin, reached = self.look(some.repeat_interleave(levels)[:, None], value.repeat(len(some))[:, None])
            parts.append((margin.view(-1, levels), reached.view(-1, levels)))
            self.report(share * sum(len(part) for part, _ in parts) / len(self.allowed))
        margin, reached = (torch.cat(kind) for kind in zip(*parts, strict=True))
        lowest, place = margin.min(1)
        for name, values in (("margin", lowest), ("level", value[place])):
            self.seen[name] = self.on_the_image(self.allowed, values)
        flips = torch.zeros_like(self.flat, dtype=torch.int64)
        flips[self.allowed] = reached.sum(1)
        self.seen["flips"] = flips.view_as(self.x)
        self.seen["singles"], self.seen["single_flips"] = margin.numel(), reached.sum()
        if not reached.any():
            return None
        sure = reached & (margin < -self.slack)
        change = (value - self.flat[self.allowed, None]).abs()
        change = torch.where(sure if sure.any() else reached, change, torch.inf)
        best = change.argmin()
        return self.allowed[best // levels][None], value[best % levels][None]

    def pairs(self, max_pairs: int | None) -> Found | None:
        """Every two allowed features at the ends, or some promising ones; the lowest margin if it fools, or None."""
        feature = self.allowed.repeat(2)
        end = torch.arange(2, device=self.x.device, dtype=self.x.dtype).repeat_interleave(len(self.allowed))
        real = end != self.flat[feature]  # a feature that is at this end already would not change
        feature, end = feature[real], end[real]
        parts = [self.look(f[:, None], e[:, None])[0] for f, e in zip(*self.split(feature, end), strict=True)]
        gain = torch.cat(parts) - self.logits  # what each move adds to the logits
        _, count = feature.unique(return_counts=True)
        total = len(feature) * (len(feature) - 1) // 2 - int((count * (count - 1) // 2).sum())
        chosen = _every_pair(feature, self.chunk)
        if max_pairs is not None and max_pairs < total:
            chosen = self.promising(feature, gain, max_pairs)
        lowest = torch.full_like(self.flat, torch.inf)
        best, found = torch.full_like(self.flat[0], torch.inf), None
        tried, flips = 0, torch.zeros_like(self.goal.label[0])
        for pair in chosen:
            features, ends = feature[pair], end[pair]
            _, margin, reached = self.look(features, ends)
            lowest.scatter_reduce_(0, features.flatten(), margin.repeat_interleave(2), "amin")
            tried, flips = tried + len(pair), flips + reached.sum()
            value, place = torch.where(reached, margin, torch.inf).min(0)
            if value < best:
                best, found = value, (features[place], ends[place])
            self.report(0.5 + 0.5 * tried / min(total, max_pairs or total))
        lowest = torch.where(lowest.isinf(), torch.nan, lowest)
        self.seen |= {"pairs": tried, "pair_flips": flips, "all_pairs": tried == total}
        self.seen["pair_margin"] = lowest.view_as(self.x)
        return found

    def promising(self, feature: Tensor, gain: Tensor, max_pairs: int) -> Iterator[Tensor]:
        """The `max_pairs` pairs of moves whose margin is lowest if what the two add to the logits simply adds up."""
        keep = torch.zeros(0, 2, dtype=torch.int64, device=self.x.device)
        value = torch.zeros(0, dtype=gain.dtype, device=self.x.device)
        for pair in _every_pair(feature, max(1, NUMBERS // gain.shape[1])):
            margin, _ = self.judged(self.logits + gain[pair[:, 0]] + gain[pair[:, 1]])
            value, keep = torch.cat([value, margin]), torch.cat([keep, pair])
            value, order = value.sort(stable=True)
            value, keep = value[:max_pairs], keep[order[:max_pairs]]
        yield from keep.split(self.chunk)

    def split(self, *tensors: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """In chunks that fit."""
        return tuple(tensor.split(self.chunk) for tensor in tensors)

    def on_the_image(self, feature: Tensor, values: Tensor) -> Tensor:
        """(C, H, W) with the values at these features, NaN elsewhere."""
        return torch.full_like(self.flat, torch.nan).scatter(0, feature, values).view_as(self.x)


def _every_pair(feature: Tensor, chunk: int) -> Iterator[Tensor]:
    """All pairs (n, 2) of moves that change two different features, about `chunk` at a time."""
    every = torch.arange(len(feature), device=feature.device)
    for some in every.split(max(1, chunk // max(1, len(every)))):
        for start in range(0, len(every), chunk):
            other = every[start : start + chunk]
            pair = torch.cartesian_prod(some, other)
            pair = pair[(pair[:, 0] < pair[:, 1]) & (feature[pair[:, 0]] != feature[pair[:, 1]])]
            if len(pair):
                yield pair
