"""What the models answer: computed in this process, one thread and a time limit each, and kept for a while."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core import specs
from core.storage import store
from ui.app import sources
from ui.playground import ladders, opening, packs, pixels, verdicts
from ui.playground.picture import Picture
from ui.playground.recent import Recent

KEPT = 16_000
"""Pictures that are kept, of some kilobytes each."""
AHEAD = 0.35
"""Seconds of one processor for one result, up to which the others are computed ahead of the slider."""
LIMIT = 2.0
"""Seconds that a result may take."""


@dataclass(frozen=True)
class Question:
    """One image, one model, one attack.

    Attributes:
        model: that is attacked.
        picture: the image.
        label: the class that the attack leads away from.
        method: the attack and its settings.
        norm: what the change is measured in.
        target: the wished class; None: any other.
        stops: the ε of the slider; none for a method that looks for its own.
    """

    model: store.Artifact
    picture: Picture
    label: int
    method: specs.Method
    norm: str
    target: int | None
    stops: tuple[float, ...]

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What its answers are kept under, but for the ε."""
        return (
            *(self.model.id, str(self.model.card.get("sha256")), self.picture.digest, self.label),
            *(self.method.model_dump_json(), self.target),
        )


recent = Recent(KEPT)
"""What was computed of late."""


def forget() -> None:
    """Forget every answer."""
    recent.clear()
    packs.forget()


def clean(model: store.Artifact, picture: Picture) -> np.ndarray:
    """The probabilities (K,) that a model gives the image as it is."""
    found = seen_before(model, picture)
    if found is None:
        from core.evaluation.live import attacking

        found = attacking.seen(sources.saved_model(model.id, model.root).model, picture.x).probabilities
        recent.put(_clean_key(model, picture), found)
    return found


def seen_before(model: store.Artifact, picture: Picture) -> np.ndarray | None:
    """The probabilities (K,) that a model gives the image as it is, if they are there already."""
    found: np.ndarray | None = _held(_clean_key(model, picture))
    return found


def _clean_key(model: store.Artifact, picture: Picture) -> Hashable:
    return ("clean", model.id, str(model.card.get("sha256")), picture.digest)


def _held(key: Hashable) -> Any:
    """What was computed of late under this key, or lies with the program; or None."""
    found = recent.get(key)
    return opening.get(key) if found is None else found


def known(question: Question, place: int) -> dict[str, Any] | None:
    """The answer at a stop of the slider (0 for a method without ε), if it is there already."""
    found: dict[str, Any] | None = _held((question.key, place))
    if found is None and (packed := packs.frames(pack_digest(question))) is not None:
        return packed.get(frame_name(question.target, place))
    return found


def frame_name(target: int | None, place: int) -> str:
    """What the browser keeps an answer under: the target and the stop of the ε slider."""
    return f"{'any' if target is None else target}|{place}"


def pack_digest(question: Question) -> str:
    """What the answers to all targets and all ε are kept under together."""
    return opening.digest((replace(question, target=None).key, question.stops))


def is_packed(question: Question) -> bool:
    """Whether the answers to all targets and all ε are together."""
    return packs.get(pack_digest(question)) is not None


def targets(question: Question) -> list[int | None]:
    """Every target that the slider offers."""
    return [None, *(k for k in range(len(question.model.card["class_names"])) if k != question.label)]


def lacking(question: Question) -> dict[int | None, list[int]]:
    """The targets of which answers are not there yet, and at which stops."""
    found = {}
    for target in targets(question):
        asked = replace(question, target=target)
        places = [place for place in range(len(question.stops)) if known(asked, place) is None]
        if places:
            found[target] = places
    return found


def pack(question: Question) -> None:
    """Put the answers to all targets and ε together, all of which are there."""
    packs.put(
        pack_digest(question),
        {
            frame_name(target, place): known(replace(question, target=target), place)
            for target in targets(question)
            for place in range(len(question.stops))
        },
    )


def compute(question: Question, places: Sequence[int], limit: float = LIMIT) -> str:
    """Compute the answers at these stops, those that are not there; returns why there are none, or nothing.

    Where the time is over, what there was by then counts; where there was nothing, a sentence comes back.
    """
    missing = [place for place in places if known(question, place) is None]
    if not missing:
        return ""
    from core.evaluation.live.attacking import attacked
    from core.evaluation.live.clock import Clock, TooLong

    begun = time.thread_time()
    eps = [question.stops[place] for place in missing] if question.stops else None
    try:
        looks = attacked(
            sources.saved_model(question.model.id, question.model.root).model,
            question.picture.x,
            question.label,
            question.method,
            eps=eps,
            target=question.target,
            stream=question.picture.stream,
            clock=Clock(limit),
        )
    except TooLong:
        recent.put((question.key, "seconds"), np.inf)
        return f"The attack takes longer than {limit:g} s on this model, which is the time limit of this page."
    except ValueError as error:
        return f"This attack cannot be run here: {error}."
    if len(missing) == 1:
        recent.put((question.key, "seconds"), time.thread_time() - begun)
    before = clean(question.model, question.picture)
    for place, look in zip(missing, looks, strict=True):
        recent.put((question.key, place), _drawn(question, look, int(before.argmax())))
    return ""


_moves = 0
_counted = threading.Lock()
_beforehand = threading.Lock()


@contextlib.contextmanager
def awaited() -> Iterator[None]:
    """Somebody waits for what is computed inside: nothing is begun beforehand meanwhile (`beforehand`)."""
    global _moves
    with _counted:
        _moves += 1
    try:
        yield
    finally:
        with _counted:
            _moves -= 1


@contextlib.contextmanager
def beforehand() -> Iterator[bool]:
    """Whether there is room to compute what nobody has asked for yet: nobody waits, and one at a time does so."""
    free = _moves == 0 and _beforehand.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _beforehand.release()


def is_quick(question: Question) -> bool:
    """Whether answers to this question take so little that others may be computed ahead."""
    seconds = recent.get((question.key, "seconds"))
    return seconds is None or seconds < AHEAD


def _drawn(question: Question, look: Any, before: int) -> dict[str, Any]:
    """An answer as the page draws it."""
    names, picture = question.model.card["class_names"], question.picture
    delta = look.x - picture.x
    gain = pixels.gain_for(delta)
    kind, text = verdicts.verdict(
        names,
        question.label,
        before,
        look.predicted,
        float(look.probabilities[look.predicted]),
        success=look.success,
        target=question.target,
        known=picture.label is not None,
    )
    if look.stopped:
        text += f" The attack was stopped after {LIMIT:g} s, the time limit of this page."
    return {
        "a": pixels.levels(look.x),
        "d": pixels.signed(delta, gain),
        "g": f"×{gain:g}" if np.any(delta) else "",
        "p": [round(float(value), 4) for value in look.probabilities],
        "k": kind,
        "t": text,
        "c": verdicts.change(question.norm, look.distance, picture.x.shape[1] * picture.x.shape[2]),
    }


def proof(question: Question) -> str | None:
    """What is proven of this image against every attack, in a sentence; None where it is not computed yet."""
    found: str | None = _held(_proof_key(question))
    return found


def prove(question: Question, limit: float = 1.0) -> None:
    """Find out up to which ε of the slider nothing can fool the model."""
    if proof(question) is not None:
        return
    text = ""
    if (
        question.norm in ("linf", "l2", "l1")
        and int(clean(question.model, question.picture).argmax()) == question.label
    ):
        import torch

        from core.evaluation.live.clock import Clock
        from core.evaluation.live.proof import proven_eps

        x = torch.from_numpy(question.picture.x)[None]
        stops = ladders.proof_stops(question.norm, (x.shape[1], x.shape[2], x.shape[3]))
        model = sources.saved_model(question.model.id, question.model.root).model
        found = proven_eps(model, x, torch.tensor([question.label]), stops, norm=question.norm, clock=Clock(limit))
        text = verdicts.proven(found, question.norm)
    recent.put(_proof_key(question), text)


def _proof_key(question: Question) -> Hashable:
    return ("proof", question.norm, replace(question, method=specs.Fgsm(), target=None).key)


def can_be_proven(question: Question) -> bool:
    """Whether a proof may be a matter of a moment: by the number of weights, without loading the model."""
    return (
        int(question.model.card.get("network", {}).get("parameters", 0)) <= 1_000_000 and question.picture.x.size <= 784
    )
