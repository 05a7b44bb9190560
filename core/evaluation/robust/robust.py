"""The strongest evaluation: what is left of a model's accuracy inside a ball, image by image.

A clean look, certificates where they are cheap, then the cascade of attacks in `cascade`, each on the images that still
stand. In the end every verdict is made again, on the stored image and in another batch layout.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import Fitted, bears_of
from core.attacks.engine.checks import check
from core.attacks.engine.engine import admitted, frozen, is_batch, plain, predict, wide
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import predicted
from core.attacks.engine.stand_ins import own_draws, stand_in
from core.attacks.engine.steps import eps_limit
from core.attacks.engine.streams import Streams
from core.certification.agreement import BACKWARDS, FORWARDS, refute
from core.certification.graph import Unbounded
from core.certification.proof import proven
from core.epsilon import within
from core.evaluation.robust import going_on, shattered
from core.evaluation.robust.cascade import AFTER, EFFORTS, Norm, Standing, described, run_stage, stages
from core.evaluation.robust.result import Evaluation
from core.evaluation.trust import trust as trust_report
from core.evaluation.trust.case import Found
from core.evaluation.trust.report import Trust
from core.progress import Progress, part

NORMS = ("linf", "l2", "l1", "l0")
CHANGED, FEWEST = 0.01, 2
"""From this share of the images on, and from so many, verdicts that change with the batch make a figure unusable."""
ROWSUM = 1e-4
"""Rows of non-negative numbers that add up to 1 so nearly are probabilities and no logits."""


def evaluate(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Norm = "linf",
    eps: float,
    effort: str = "standard",
    seed: int = 0,
    index: Int[Tensor, " n"] | None = None,
    trust: bool = True,
    state: Path | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Measure how many images a model reads rightly whatever happens inside a ball around them.

    Args:
        model: pixels to logits (N, K), K >= 2; evaluated in eval mode and left untouched. An image's logits must not
            depend on its neighbours in the batch.
        x: (N, C, H, W) floating point in [0, 1].
        y: (N,) int64 true classes.
        norm: `linf`, `l2`, `l1` or `l0` (features).
        eps: size of the ball, 0 or more; at most 1 in linf.
        effort: how much is tried; see `EFFORTS` in `cascade` for what an image costs that stands.
        seed: of all random draws, together with `index`.
        index: (N,) int64 image indices that key the random draws; default the positions. A slice evaluated alone under
            its own indices gives the slice of the whole, up to rounding.
        trust: add the trust report (about a tenth of 1,000 images' cost).
        state: a file; the run is kept there after each attack, and one that was stopped goes on from it and ends in the
            same result. It is removed at the end.
        on_progress: called with done, total, `phase` and `robust_accuracy` so far; may raise Cancelled.

    Returns:
        Every fooling image is in ball and box, and every verdict was made in float32 (the images' dtype; half precision
        comes back as float32), again, on the images as they are returned, in another batch layout.

    Raises:
        ValueError: bad input, naming the argument.
        FalseProof: an image that interval bounds prove is misclassified inside its ball.
    """
    notes = _of_mode(model)
    if isinstance(eps, Real) and not isinstance(eps, bool):  # NumPy's numbers, fractions
        eps = float(eps)
    x, y = wide(plain(x)), plain(y)
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")
    with torch.inference_mode(False), own_draws(seed, device), admitted(model, x) as fit:
        made = _evaluated(fit, x, y, norm, eps, effort, seed, index, trust, state, on_progress)
        notes += [*bears_of(fit).notes]
    return replace(made, notes=(*notes, *made.notes))


def _evaluated(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    eps: float,
    effort: str,
    seed: int,
    index: Tensor | None,
    trust: bool,
    state: Path | None,
    on_progress: Progress | None,
) -> Evaluation:
    """`evaluate` of a model that bears what attacks do with it (`attacks.fitted`)."""
    budget, notes = _checked(model, x, y, norm, eps, effort)
    index = torch.arange(len(x), device=x.device) if index is None else index
    if index.shape != y.shape:
        raise ValueError(f"index: expected shape {tuple(y.shape)}, one an image, got {tuple(index.shape)}")
    streams = Streams.of(seed, index.to(x.device))
    raw, judge, draws = model, model, 1
    with frozen(model), own_draws(seed, x.device):
        logits = _finite(predict(model, x))
        if shattered.answers_vary(model, x):
            draws = shattered.DRAWS
            model, judge = stand_in(raw, draws), stand_in(raw, shattered.VERDICT)
            logits = predict(judge, x)
            notes.append(
                f"The model's answers are random: each gradient is the mean over {draws} draws, each verdict that over "
                f"{shattered.VERDICT}."
            )
        standing = Standing.first(x, logits, y)
        safe = _proven(model, x, y, norm, eps, index)
        standing.forwards += FORWARDS * safe
        standing.backwards += BACKWARDS * safe
        plan = stages(norm, effort, logits.shape[1])
        plan = plan if draws == 1 else shattered.patient(plan)
        first, mark, bridges = 0, "", False
        if state is not None:
            mark = going_on.fingerprint(raw, x, y, index, [norm, eps, effort, seed, *map(described, plan)])
            first, bridges = going_on.resume(state, mark, standing)
            plan = shattered.with_bridges(plan, norm, effort) if bridges else plan
        rows = (~safe).nonzero()[:, 0]
        whole = 1 if norm == "l0" else 0  # less than one feature: nothing may change
        for number in itertools.count(first):
            if (
                number == AFTER
                and not bridges
                and shattered.some_mislead(model, x, y, standing, safe, norm, eps, index, seed)
            ):
                plan, bridges = shattered.with_bridges(plan, norm, effort), True
            if number >= len(plan) or eps <= 0 or eps < whole:
                break
            torch.manual_seed(seed + number)  # what a random model draws; a run that goes on draws the same
            report = _reported(on_progress, number, len(plan), plan[number].name, standing)
            run_stage(
                plan[number],
                number,
                model,
                x,
                y,
                rows,
                standing,
                norm=norm,
                eps=budget,
                streams=streams,
                on_progress=report,
            )
            if draws > 1:
                shattered.confirm(judge, y, standing, number)
            if state is not None:
                going_on.keep(state, standing, mark, number + 1, bridges)
            if (report := _reported(on_progress, number, len(plan), plan[number].name, standing)) is not None:
                report(1, 1)
        made = _verdict(judge, x, y, standing, safe, plan_names=[stage.name for stage in plan], norm=norm, eps=eps)
        refute(safe & ~made.robust, index, eps, norm)
    made = replace(
        made,
        effort=effort,
        seed=seed,
        notes=(*notes, *made.notes),
        forwards=made.forwards * draws if draws == 1 else made.forwards * draws + 3 * (shattered.VERDICT - draws),
        backwards=made.backwards * draws,
        warning=shattered.RANDOM_ANSWERS if draws > 1 else made.warning,
    )
    if trust:
        judged, found = _trust(model, x, y, made, index, on_progress)
        judged = replace(judged, forwards=judged.forwards * draws, backwards=judged.backwards * draws)
        with frozen(raw), own_draws(seed, x.device):
            made = shattered.enter(made, judged, found, judge, x, y)
    if state is not None:
        state.unlink(missing_ok=True)
    return made


# ---------------------------------------------------------------- input


def _checked(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, effort: str) -> tuple[Tensor, list[str]]:
    """The budget an image, and what there is to say of the input; ValueError for what cannot be evaluated."""
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    if effort not in EFFORTS:
        raise ValueError(f"effort: expected one of {', '.join(EFFORTS)}, got {effort!r}")
    if is_batch(x):
        low, high = x.min().item(), x.max().item()
        if low < 0 or high > 1:
            beyond = " and ".join(
                text for out, text in ((low < 0, f"{-low:g} below 0"), (high > 1, f"{high - 1:g} above 1")) if out
            )
            raise ValueError(
                f"x: expected values in [0, 1], got {low:g} to {high:g}, {beyond}: images are pixels, and "
                "normalisation belongs in the model, as its first layer"
            )
    if not isinstance(eps, float):
        raise ValueError(f"eps: expected a number, got {type(eps).__name__}")
    budget = check(model, x, y, eps=float(eps), eps_limit=eps_limit(norm))
    notes = []
    if len(x) == 1:
        notes.append("There is one image: the interval says how little that tells.")
    elif int((y != y[0]).sum()) == 0:
        notes.append(f"All {len(x)} images are of class {int(y[0])}: the figures say nothing of the others.")
    return budget.floor() if norm == "l0" else budget, notes


def _of_mode(model: nn.Module) -> list[str]:
    """What there is to say of the mode that a model came in."""
    if not isinstance(model, nn.Module) or not any(getattr(module, "training", False) for module in model.modules()):
        return []
    return [
        "The model came in training mode; it was evaluated in eval mode (dropout off, batch norm with its running "
        "statistics) and put back."
    ]


def _finite(logits: Tensor) -> Tensor:
    """The logits, unless they are none."""
    broken = ~logits.isfinite().all(1)
    if broken.any():
        raise ValueError(f"model: expected finite logits, got NaN or infinity for {int(broken.sum())} of {len(logits)}")
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < ROWSUM).all():
        raise ValueError(
            "model: expected logits, got probabilities (no number is negative and each row adds up to 1): leave out "
            "the softmax, which hides gradients"
        )
    return logits


# ---------------------------------------------------------------- parts


def _proven(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, index: Tensor) -> Tensor:
    """Images whose whole ball is correctly classified by interval bounds; none where the network is not one they know.

    The l2 and the l1 ball lie inside the linf ball of the same radius, so its certificate holds for them too. Each one
    is attacked as well, in few steps (`core.certification.agreement`); FalseProof stops the run if that succeeds.
    """
    if norm == "l0" or eps <= 0:
        return torch.zeros_like(y, dtype=torch.bool)
    if isinstance(model, Fitted):  # layers that have bounds bear everything, but for half precision: no proof is of it
        return torch.zeros_like(y, dtype=torch.bool)
    try:
        return proven(model, x, y, min(eps, 1.0), index=index)
    except Unbounded:
        return torch.zeros_like(y, dtype=torch.bool)


def _verdict(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    standing: Standing,
    safe: Tensor,
    *,
    plan_names: list[str],
    norm: str,
    eps: float,
) -> Evaluation:
    """Every verdict anew: images reversed, in batches of another size, ball and box looked at."""
    misread = standing.fooled & (standing.found < 0)  # at first sight: it was never attacked, so it cannot stand now
    clean = (predicted(predict(model, x.flip(0), 160)).flip(0) == y) & ~misread
    after = predicted(predict(model, standing.x_adv.flip(0), 160)).flip(0)
    size = distances(standing.x_adv, x)[norm].double()
    in_box = ((standing.x_adv >= 0) & (standing.x_adv <= 1)).flatten(1).all(1)
    outside = ~(within(size, float(eps)) & in_box)
    if outside.any():
        raise RuntimeError(
            f"An attack left the ball or [0, 1] for {int(outside.sum())} of {len(x)} images (farthest: "
            f"{size.max().item():.9g} for {eps:g} in {norm}). This is an error of Adversarial Lab; no figure is given."
        )
    fooled = (after != y) | (standing.fooled & ~misread)
    robust = clean & ~fooled
    names = np.array([*plan_names, "clean image", ""])
    code = torch.where(fooled, standing.found, len(plan_names) + 1)
    code = torch.where(fooled & (standing.found < 0), len(plan_names), code)
    code = torch.where(~clean, len(plan_names), code)
    doubtful = int((standing.fooled != ((after != y) | ~clean)).sum())
    notes, warning = [], ""
    if doubtful:
        notes.append(f"{doubtful} of {len(x)} verdicts changed with the batch layout; the worse one counts.")
    if doubtful >= max(FEWEST, CHANGED * len(x)) or not bears_of(model).neighbours:
        warning = (
            f"The model's answers depend on the other images of the batch (verdicts that changed in another batch: "
            f"{doubtful} of {len(x)}). One image per batch is the figure that counts."
        )
    undefined = int((fooled & (after < 0)).sum())
    if undefined:
        notes.append(
            f"For {undefined} of {len(x)} images an attack found a point where the model answers NaN: it has no class "
            "there, which counts against it."
        )
    upper = torch.where(fooled, size, torch.inf)
    return Evaluation(
        clean=clean,
        robust=robust,
        x_adv=standing.x_adv,
        lower=(safe & clean).double() * float(eps),
        upper=torch.where(clean, upper, 0.0),
        found_by=names[code.cpu().numpy()],
        forwards=standing.forwards + 2,
        backwards=standing.backwards,
        norm=norm,
        eps=float(eps),
        effort="",
        seed=0,
        notes=tuple(notes),
        warning=warning,
    )


def _trust(
    model: nn.Module, x: Tensor, y: Tensor, made: Evaluation, index: Tensor, on_progress: Progress | None
) -> tuple[Trust, Found]:
    return trust_report.examined(
        model,
        x,
        y,
        norm=made.norm,
        eps=made.eps,
        robust=made.robust,
        x_adv=made.x_adv,
        lower=made.lower,
        index=index,
        seed=made.seed,
        effort="quick",
        on_progress=on_progress,
    )


def _reported(on_progress: Progress | None, number: int, parts: int, name: str, standing: Standing) -> Progress | None:
    """The progress of one stage, with the robust accuracy as it is now."""
    n, left = len(standing.fooled), 1 - standing.fooled.double().mean().item()
    return part(
        on_progress,
        number * n // parts,
        (number + 1) * n // parts,
        n,
        phase=name,
        metrics={"robust_accuracy": left},
    )
