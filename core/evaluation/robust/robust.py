"""The strongest evaluation: the robust accuracy of a model inside a ball, image by image.

First the clean images, then certificates where they are cheap, then the attacks of `schedule`, each on the images that
are not fooled yet. In the end every verdict is made again, on the stored image and in another batch layout.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core import epsilon
from core.attacks.engine.bears import Fitted, bears_of
from core.attacks.engine.checks import check
from core.attacks.engine.engine import admitted, is_batch, plain, predict, wide
from core.attacks.engine.stand_ins import own_draws, stand_in
from core.attacks.engine.steps import eps_limit
from core.certification.agreement import BACKWARDS, FORWARDS, refute
from core.certification.graph import Unbounded
from core.certification.proof import proven
from core.checks import check_choice
from core.evaluation.robust import gradient_masked, precision, resume
from core.evaluation.robust.cascade import run_stage
from core.evaluation.robust.first_look import first_look
from core.evaluation.robust.left_to_find import Trials, places_now
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.schedule import AFTER, EFFORTS, Stage, stages, with_straight_through
from core.evaluation.robust.state import CascadeState, Found, Subject
from core.evaluation.robust.verdict import remarked, verdict
from core.evaluation.robust.with_checks import with_checks, with_estimate
from core.evaluation.trust.examine import examine
from core.progress import Progress, part
from core.specs.methods.base import NORMS

ROWSUM = 1e-4
"""Rows of non-negative numbers that add up to 1 so nearly are probabilities and no logits."""


def evaluate(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: str = "linf",
    eps: float | Fraction | str,
    effort: str = "standard",
    seed: int = 0,
    index: Int[Tensor, " n"] | None = None,
    trust: bool = True,
    state: Path | None = None,
    found: Found | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Measure the robust accuracy of a model: how many images it classifies correctly anywhere in a ball around them.

    Args:
        model: pixels to logits (N, K), K >= 2; evaluated in eval mode and left untouched. An image's logits must not
            depend on the other images of the batch.
        x: (N, C, H, W) floating point in [0, 1].
        y: (N,) int64 true classes.
        norm: `linf`, `l2`, `l1` or `l0` (features).
        eps: perturbation budget, 0 or more; at most 1 in linf. A `Fraction` or "8/255" is read, too.
        effort: how much is tried; `EFFORTS` in `schedule` says what an image costs that is not fooled.
        seed: of all random draws, together with `index`.
        index: (N,) int64 image numbers that the random draws depend on; default the positions. A slice that begins and
            ends with blocks (of `digging.BLOCK` images), evaluated alone under its own numbers, gives the slice of the
            whole, up to rounding. Inside a block, how far a search goes depends on what it finds there.
        trust: add the reliability checks (about a tenth of the cost of 1,000 images).
        state: a file in which the run is kept after each attack. A run that was stopped resumes from it and ends in
            the same result. One that does not fit is set aside. Remove it when you have kept the result.
        found: for a part of the images: what the first stages showed of the model, as `in_parts.first_look` found for
            all of them; None: it is found out here.
        on_progress: called with done, total, `phase` and `robust_accuracy` so far; may raise Cancelled.

    Returns:
        The evaluation. Every adversarial example is in ball and box. Every verdict was made again in float32 on the
        images as they are returned, in another batch layout (half precision comes back as float32).

    Raises:
        ValueError: bad input, naming the argument.
        FalseProof: an image that interval bounds prove is misclassified inside its ball.
    """
    notes = _of_mode(model)
    size = as_number(eps)
    x, y = wide(plain(x)), plain(y)
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")
    with torch.inference_mode(False), own_draws(seed, device), admitted(model, x) as fit:  # frozen, too
        allowed, more = checked(fit, x, y, norm, size, effort)
        given = Subject(fit, x, y, norm, size, numbers(index, y), seed)
        made = _evaluated(given, allowed, effort, trust, state, found, on_progress)
        notes += [*bears_of(fit).notes, *more]
    return replace(made, notes=(*notes, *made.notes))


def _evaluated(
    given: Subject,
    eps: Tensor,
    effort: str,
    trust: bool,
    kept: Path | None,
    found: Found | None,
    on_progress: Progress | None,
) -> Evaluation:
    """`evaluate` of a frozen model that bears what attacks do with it (`attacks.engine.fitted`)."""
    notes, judge, draws = [], given.model, 1
    with own_draws(given.seed, given.x.device):
        logits = _finite(predict(given.model, given.x))
        if found is None and gradient_masked.outputs_vary(given.model, given.x):
            draws = gradient_masked.DRAWS
            judge = stand_in(given.model, gradient_masked.VERDICT)
            given = replace(given, model=stand_in(given.model, draws))
            logits = predict(judge, given.x)
            notes.append(
                f"The model's outputs are random: each gradient is the mean over {draws} draws, each verdict the mean "
                f"over {gradient_masked.VERDICT}."
            )
        state = CascadeState.first(replace(given, model=judge), logits)
        safe = certified(given)
        state.forwards += FORWARDS * safe
        state.backwards += BACKWARDS * safe
        plan = stages(given.norm, effort, logits.shape[1])
        plan = plan if draws == 1 else gradient_masked.patient(plan)
        plan, earlier = _attacked(given, judge, eps, state, safe, plan, effort, kept, found, on_progress)
        made = verdict(replace(given, model=judge), state, safe, [stage.name for stage in plan])
        trials = Trials.of(state, places_now((~safe).nonzero()[:, 0], eps, state))
        made = replace(made, effort=effort, trials=trials)
        made = remarked(made, bears_of(judge).neighbours)
        refute(safe & ~made.robust, given.index, given.eps, given.norm)
    made = replace(
        made,
        notes=(*notes, *made.notes),
        forwards=made.forwards * draws + (3 * (gradient_masked.VERDICT - draws) if draws > 1 else 0),
        backwards=made.backwards * draws,
        warning=gradient_masked.RANDOM_OUTPUTS if draws > 1 else made.warning,
        earlier=earlier,
    )
    if trust:
        return with_reliability(given, judge, made, draws, logits.shape[1], on_progress)
    return with_estimate(made, logits.shape[1])


def _attacked(
    given: Subject,
    judge: nn.Module,
    eps: Tensor,
    state: CascadeState,
    safe: Tensor,
    plan: list[Stage],
    effort: str,
    kept: Path | None,
    found: Found | None,
    on_progress: Progress | None,
) -> tuple[list[Stage], float]:
    """Run the schedule, from where a run that was stopped left it.

    Returns the schedule with the stages that were added, and the seconds that runs took which were stopped.
    """
    first, mark, shown, earlier, begun = 0, "", None, 0.0, time.perf_counter()
    if kept is not None:
        mark = resume.fingerprint(given, effort, plan)
        first, shown, earlier = resume.load(kept, mark, state)
        plan = with_straight_through(plan, given.norm, effort) if shown is not None and shown.mislead else plan
    rows = (~safe).nonzero()[:, 0]
    least = 1 if given.norm == "l0" else 0  # less than one feature: nothing may change
    for number in itertools.count(first):
        if number == AFTER and shown is None:
            shown = first_look(given, state, safe) if found is None else found
            plan = with_straight_through(plan, given.norm, effort) if shown.mislead else plan
        if number >= len(plan) or given.eps <= 0 or given.eps < least:
            break
        stage = plan[number]
        before, passes = places_now(rows, eps, state), state.passes()
        torch.manual_seed(given.seed + number)  # what a random model draws; a run that resumes draws the same
        report = _reported(on_progress, number, len(plan), stage.name, state)
        with precision.searching(given.model, given.x, 0.0 if shown is None else shown.half):
            run_stage(stage, number, given, eps, rows, state, report)
        if judge is not given.model:
            gradient_masked.confirm(judge, given.y, state, number)
        state.enter(before, passes, number)
        if kept is not None:
            resume.save(kept, state, mark, number + 1, shown, earlier + time.perf_counter() - begun)
        if (report := _reported(on_progress, number, len(plan), stage.name, state)) is not None:
            report(1, 1)
    return plan, earlier


# ---------------------------------------------------------------- input


def as_number(eps: object) -> Any:
    """NumPy's numbers, fractions and text as a float; what is none is returned as it is, to be refused."""
    try:
        eps = epsilon.parse(eps)
    except ValueError as error:
        raise ValueError(f"eps: {error}, got {eps!r}") from None
    return float(eps) if isinstance(eps, Real) and not isinstance(eps, bool) else eps


def checked(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, effort: str) -> tuple[Tensor, list[str]]:
    """Eps per image, and notes on the input. Raises ValueError for what cannot be evaluated."""
    check_choice("norm", norm, NORMS)
    check_choice("effort", effort, EFFORTS)
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
    allowed = check(model, x, y, eps=float(eps), eps_limit=eps_limit(norm))
    notes = []
    if len(x) == 1:
        notes.append("There is only one image, so the interval is nearly as wide as it can be.")
    elif int((y != y[0]).sum()) == 0:
        notes.append(f"All {len(x)} images are of class {int(y[0])}: the accuracies say nothing about other classes.")
    return allowed.floor() if norm == "l0" else allowed, notes


def numbers(index: Tensor | None, y: Tensor) -> Tensor:
    """The images' numbers, by default their positions."""
    if index is None:
        return torch.arange(len(y), device=y.device)
    if index.shape != y.shape:
        raise ValueError(f"index: expected shape {tuple(y.shape)}, one number per image, got {tuple(index.shape)}")
    return index.to(y.device)


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


def certified(given: Subject) -> Tensor:
    """Images whose whole ball is correctly classified by interval bounds; none where the network has no bounds.

    The l2 and the l1 ball lie inside the linf ball of the same radius, so its certificate holds for them too. Each one
    is attacked as well, in few steps (`core.certification.agreement`); FalseProof stops the run if that succeeds.
    """
    none = torch.zeros_like(given.y, dtype=torch.bool)
    # layers that have bounds need no `Fitted`, except for half precision: no proof is about that
    if given.norm == "l0" or given.eps <= 0 or isinstance(given.model, Fitted):
        return none
    try:
        return proven(given.model, given.x, given.y, min(given.eps, 1.0), index=given.index)
    except Unbounded:
        return none


def with_reliability(
    given: Subject, judge: nn.Module, made: Evaluation, draws: int, classes: int, on_progress: Progress | None
) -> Evaluation:
    """The evaluation with its reliability checks, whose passes count `draws` times."""
    report, fooled = examine(
        given.model,
        given.x,
        given.y,
        norm=given.norm,
        eps=given.eps,
        robust=made.robust,
        x_adv=made.x_adv,
        lower=made.lower,
        index=given.index,
        seed=given.seed,
        effort="quick",
        on_progress=on_progress,
    )
    report = replace(report, forwards=report.forwards * draws, backwards=report.backwards * draws)
    with own_draws(given.seed, given.x.device):
        return with_checks(made, report, fooled, judge, given.x, given.y, classes)


def _reported(on_progress: Progress | None, number: int, parts: int, name: str, state: CascadeState) -> Progress | None:
    """The progress of one stage, with the robust accuracy as it is now."""
    n, left = len(state.fooled), 1 - state.fooled.double().mean().item()
    return part(
        on_progress,
        number * n // parts,
        (number + 1) * n // parts,
        n,
        phase=name,
        metrics={"robust_accuracy": left},
    )
