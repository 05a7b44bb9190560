"""The examination of a network made by others: what it needs, what it answers with, how it behaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.certification.graph import Unbounded, lower
from core.evaluation.imported import answers, cost, verdicts
from core.evaluation.imported.behaviour import behaviour
from core.evaluation.imported.findings import Examination, Finding
from core.evaluation.imported.fits import Fit, after, dims, fits
from core.evaluation.imported.normalisations import Normalisation, normalisations, statistics
from core.evaluation.imported.search import Scored, Tried, best_of, scored
from core.evaluation.imported.slopes import FAILURES, slopes
from core.networks.framed import Framed
from core.networks.layers import Shape
from core.progress import Progress
from core.specs import Framing, ImportSpec

ARITHMETIC = 3e12
"""Floating-point operations that the search for a framing may take: under a minute on two cores."""
FINAL = 6
"""Framings that go on to all images where not all of them can."""
BUDGET = 256 << 20
"""Bytes that a batch of the search may keep."""


def examine(
    body: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    asked: ImportSpec,
    class_names: Sequence[str],
    takes: tuple[int, ...],
    train: Tensor | None = None,
    on_progress: Progress | None = None,
) -> Examination:
    """Find out how a network is to be asked, and whether its figures can be believed.

    Args:
        body: the network, in eval mode, on the images' device; it comes back as it was.
        x: (N, C, H, W) images in [0, 1], float32, 200 or so.
        y: (N,) their classes, int64.
        asked: what was asked for; what is given there is taken, and compared with what is found.
        class_names: of the data set.
        takes: shape of one image as the network takes it.
        train: images whose mean and standard deviation are tried as a normalisation; None takes `x`.
        on_progress: called with the framings tried so far and all of them.

    Returns:
        The same for the same network and images, whatever was drawn before; global random numbers are left alone.

    Raises:
        ValueError: the network cannot be given these images, fails on them, or its outputs do not fit the classes.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False):
        torch.manual_seed(0)
        flags = [(parameter, parameter.requires_grad) for parameter in body.parameters()]
        try:
            body.requires_grad_(False)
            return _examined(body, x, y, asked, class_names, takes, x if train is None else train, on_progress)
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


def _examined(
    body: nn.Module,
    x: Tensor,
    y: Tensor,
    asked: ImportSpec,
    class_names: Sequence[str],
    takes: tuple[int, ...],
    train: Tensor,
    on_progress: Progress | None,
) -> Examination:
    shape: Shape = (x.shape[1], x.shape[2], x.shape[3])
    every = [(title, framing) for title, framing in candidates(shape, takes, asked, train)]
    sample = Sample.of(body, x, [framing for _, framing in every])
    answers_of = _outputs(sample, asked, len(class_names))
    tried, n = _search(sample, every, asked, on_progress)
    table = answers.columns([*(one.out for one in tried), *sample.stress])
    kind = asked.outputs or _kind(table, len(class_names))
    found = [scored(one, y[:n], kind) for one in tried]
    fitting = [one for one in found if _as_asked(one.tried.framing, asked)]
    best = best_of(fitting)
    if asked.classes is None and (order := verdicts.other_order(best, fitting, y[:n].cpu(), len(class_names))):
        best = order[2]  # the classes are in another order: the framing under which that is seen best
    framing = best.tried.framing.model_copy(update={"outputs": kind})
    model = Framed(body, framing).eval()
    kept = int(sample.memory)
    few = x[: min(n, 64)]
    behaves = behaviour(model, few)
    steady = all(one.verdict == "fine" for one in behaves if one.name in ("calls", "neighbours"))
    findings = [
        verdicts.size(shape, after(shape, asked), takes, framing),
        verdicts.normalisation(best, fitting, found, asked),
        verdicts.layout(best, fitting, found, asked, _turned(sample, best, y[:n], kind)),
        verdicts.outputs(table, kind, asked, answers_of),
        verdicts.classes(best, found, y[:n], len(class_names), asked),
        *behaves,
        slopes(model, few, random=not steady),
        verdicts.memory(kept, sample.arithmetic),
        _layers(model, shape),
    ]
    return Examination(
        framing,
        tuple(findings),
        best.accuracy,
        n,
        {"cost": {"bytes_an_image": kept, "operations_an_image": sample.arithmetic}},
    )


# ---------------------------------------------------------------- what is tried


def candidates(shape: Shape, takes: tuple[int, ...], asked: ImportSpec, train: Tensor) -> list[tuple[str, Framing]]:
    """Every framing that is tried, each with its normalisation in words; the simplest first."""
    own = statistics(train)
    overall = (round(float(train.mean()), 4), round(float(train.std().clamp_min(1e-3)), 4))
    usual = normalisations(shape[0], own, overall)
    if asked.mean is not None and asked.std is not None:
        for name, values in (("mean", asked.mean), ("std", asked.std)):
            if len(values) not in (1, shape[0], 3 if shape[0] == 1 else shape[0]):
                raise ValueError(f"{name}: expected one number, or one for each of {shape[0]} channels, got {values}")
        usual = [Normalisation("as given", asked.mean, asked.std), *usual]
    found = []
    for fit in fits(shape, takes, asked):
        for one in usual:
            for channels in ("rgb", "bgr") if fit.channels == 3 and shape[0] == 3 else ("rgb",):
                turned = one.reversed() if channels == "bgr" and one.title != "as given" else one
                found.append((one.title, _framing(fit, turned, channels, asked)))
    unique: dict[Framing, str] = {}
    for title, framing in found:
        unique.setdefault(framing, title)
    return [(title, framing) for framing, title in unique.items()]


def _framing(fit: Fit, one: Normalisation, channels: str, asked: ImportSpec) -> Framing:
    mean, std = one.mean, one.std
    if len(mean) != len(std):
        width = max(len(mean), len(std))
        mean, std = (values * width if len(values) == 1 else values for values in (mean, std))
    if fit.channels == 3 and len(mean) == 1:
        mean = mean * 3  # three equal numbers: grey images become three channels by them
    return Framing(
        resize=fit.resize,
        crop=fit.crop,
        channels=channels,
        mean=_short(mean) if fit.channels == 1 or not _spreads(fit, asked) else mean,
        std=std,
        layout=fit.layout,
        shape=fit.shape,
        classes=asked.classes,
    )


def _spreads(fit: Fit, asked: ImportSpec) -> bool:
    return fit.channels == 3


def _short(values: tuple[float, ...]) -> tuple[float, ...]:
    return values[:1] if len(set(values)) == 1 else values


def _as_asked(framing: Framing, asked: ImportSpec) -> bool:
    """Whether a framing is one that what was given allows."""
    if asked.channels is not None and framing.channels != asked.channels:
        return False
    if asked.layout is not None and framing.layout != asked.layout:
        return False
    if asked.mean is None or asked.std is None:
        return True
    width = max(len(framing.mean), len(framing.std), len(asked.mean), len(asked.std))

    def wide(values: tuple[float, ...]) -> tuple[float, ...]:
        return values * width if len(values) == 1 else values

    return wide(framing.mean) == wide(asked.mean) and wide(framing.std) == wide(asked.std)


# ---------------------------------------------------------------- what the network answers


@dataclass
class Sample:
    """Images to ask a network about, and what one of them costs.

    Attributes:
        body: the network.
        x: (N, C, H, W) in [0, 1].
        arithmetic: operations an image.
        memory: bytes an image.
        many: it takes several images at once.
        stress: its answers to images far outside the pixel range.
        shape: of an answer, without the batch.
    """

    body: nn.Module
    x: Tensor
    arithmetic: float
    memory: float
    many: bool
    stress: list[Tensor]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, body: nn.Module, x: Tensor, framings: list[Framing]) -> Sample:
        """Ask it about the first two images, in the first of these framings that it takes.

        Raises:
            ValueError: it fails in every one, or answers with something else than numbers an image.
        """
        error: Exception | None = None
        for framing in _one_a_fit(framings):
            given = Framed(body, framing).given(x[:2] if len(x) > 1 else x[:1].expand(2, *x.shape[1:]))
            for images in (given, given[:1]):
                try:
                    with torch.no_grad():
                        out = body(images.clone())
                except torch.OutOfMemoryError:
                    raise
                except (*FAILURES, NotImplementedError, OSError) as caught:
                    error = error or caught
                    continue
                _check_answer(out, len(images))
                function = body
                return cls(
                    body,
                    x,
                    cost.arithmetic(function, images),
                    _memory(function, images),
                    len(images) > 1,
                    _stress(body, images),
                    tuple(out.shape[1:]),
                )
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        sent = dims(tuple(given.shape[1:]))
        raise ValueError(f"data: the network fails on images of {sent}: {why}") from error

    def ask(self, framing: Framing, images: Tensor) -> Tensor | None:
        """Its answers under a framing; None where it fails."""
        framed = Framed(self.body, framing).to(images.device)
        batch = max(1, min(100, int(BUDGET / max(self.memory, 1)))) if self.many else 1
        try:
            with torch.no_grad():
                parts = [self.body(framed.given(part).contiguous()).clone() for part in images.split(batch)]
        except torch.OutOfMemoryError:
            raise
        except (*FAILURES, NotImplementedError, OSError):
            return None
        out = torch.cat(parts)
        return out if len(out) == len(images) and tuple(out.shape[1:]) == self.shape else None


def _one_a_fit(framings: list[Framing]) -> list[Framing]:
    kept = {(f.resize, f.crop, f.layout, f.shape, len(f.mean)): f for f in reversed(framings)}
    return list(reversed(kept.values()))


def _check_answer(out: object, n: int) -> None:
    if not isinstance(out, Tensor):
        raise ValueError(f"outputs: expected one tensor of numbers an image, got a {type(out).__name__}")
    if not out.is_floating_point():
        raise ValueError(f"outputs: expected logits or probabilities, got {str(out.dtype).removeprefix('torch.')}")
    if out.ndim == 0 or len(out) != n:
        raise ValueError(f"outputs: expected a row an image, got {dims(tuple(out.shape))} for {n} images")


def _memory(function: nn.Module, images: Tensor) -> float:
    try:
        return cost.memory(function, images)
    except torch.OutOfMemoryError:
        raise
    except (*FAILURES, NotImplementedError):  # it bears no gradients: `slopes` says so
        return 0.0


def _stress(body: nn.Module, images: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator).to(images)
    found = []
    for far in (8 * images, -8 * images, 4 * noise, 100 * noise):
        try:
            with torch.no_grad():
                found.append(body(far).clone())
        except torch.OutOfMemoryError:
            raise
        except (*FAILURES, NotImplementedError):
            continue
    return found


def _outputs(sample: Sample, asked: ImportSpec, classes: int) -> int:
    """How many numbers it answers with, an image. Raises ValueError where they do not fit the classes."""
    count = math.prod(sample.shape)
    if asked.classes is not None:
        single = count == 1 and classes == 2
        if len(asked.classes) != classes or max(asked.classes) >= (2 if single else count) or min(asked.classes) < 0:
            raise ValueError(
                f"classes: expected {classes} different outputs of 0 to {count - 1}, one a class, got {asked.classes}"
            )
    elif count != classes and not (count == 1 and classes == 2):
        if count > classes:
            hint = ": name the output of each class (`classes`)"
        else:
            hint = ": choose a data set of as many classes, or some of its classes"
        raise ValueError(
            f"outputs: the network answers with {count:,} numbers, the data set has {classes} classes{hint}"
        )
    if asked.outputs is not None and (asked.outputs in ("score", "probability")) != (count == 1):
        raise ValueError(f"outputs: expected one of a network with {count:,} outputs, got {asked.outputs}")
    return count


def _kind(table: Tensor, classes: int) -> str:
    return answers.kind_of(table)


# ---------------------------------------------------------------- the search


def _search(
    sample: Sample, every: list[tuple[str, Framing]], asked: ImportSpec, on_progress: Progress | None
) -> tuple[list[Tried], int]:
    """What the network answers under each framing, and to how many images.

    Where all images would take too much arithmetic, the first ones are shown under every framing; that is said.
    """
    most = len(sample.x)
    afford = int(ARITHMETIC / max(1.0, sample.arithmetic * len(every)))
    n = max(1, min(most, max(8, afford)))
    tried = []
    for done, (title, framing) in enumerate(every):
        if on_progress:
            on_progress(done, len(every), phase="finding out what the network needs")
        out = sample.ask(framing, sample.x[:n])
        if out is not None:
            tried.append(Tried(title, framing, out))
    if not any(_as_asked(one.framing, asked) for one in tried):
        raise ValueError("data: the network fails on every framing that what was given allows")
    return tried, n


def _turned(sample: Sample, best: Scored, y: Tensor, kind: str) -> Scored | None:
    """The same framing of images whose rows and columns are swapped; None where they are not square."""
    x = sample.x[: len(y)]
    if x.shape[2] != x.shape[3]:
        return None
    out = sample.ask(best.tried.framing, x.transpose(2, 3).contiguous())
    return None if out is None else scored(Tried("rows and columns swapped", best.tried.framing, out), y, kind)


def _layers(model: Framed, shape: Shape) -> Finding:
    title = "Does the certifier understand its layers?"
    try:
        graph = lower(model, shape)
    except Unbounded as error:
        return Finding("layers", title, "note", f"No proofs of this network: {str(error).removeprefix('model: ')}.")
    except (*FAILURES, NotImplementedError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:160]
        return Finding("layers", title, "note", f"No proofs of this network: {why}")
    said = f"Yes: {len(graph.relus)} layers of ReLUs, {sum(math.prod(graph.nodes[p].shape) for p in graph.relus):,} in all."
    return Finding("layers", title, "fine", said)
