"""The stage: image, change, adversarial image and verdict, for a model and the one beside it, as one component.

The browser is sent the answers at every ε and, when all of them are there, for every target as one file, so that the
sliders paint at once; what it lacks, it asks for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from ui.app import projector, warm
from ui.playground import address, answers, ladders, packs, pixels
from ui.playground.address import PAGE
from ui.playground.answers import Question
from ui.text import class_text

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "adversarial_lab_stage",
    html=(_HERE / "stage.html").read_text(encoding="utf-8"),
    css=(_HERE / "stage.css").read_text(encoding="utf-8"),
    js=(_HERE / "stage.js").read_text(encoding="utf-8"),
)
_STAGE = f"{PAGE}_stage"
_SET = f"{PAGE}_set"
NEAR = 8
"""Stops of the ε slider that are computed first, around where it stands."""
MOST = 6_000_000
"""Bytes of all answers to one question, up to which those for all targets are computed ahead of the sliders."""
MOST_AT_ONE = 500_000
"""Bytes of the answers for all targets at one ε, up to which these are."""


@dataclass(frozen=True)
class Scene:
    """All that is on the stage.

    Attributes:
        sides: the question to the model, and to the one beside it where there is one.
        names: of the models.
        place: where the ε slider stands.
    """

    sides: tuple[Question, ...]
    names: tuple[str, ...]
    place: int

    @property
    def id(self) -> str:
        """A short name of everything but ε and target."""
        keys = [replace(side, target=None).key for side in self.sides]
        return hashlib.sha256(repr(keys).encode()).hexdigest()[:12]

    def targets(self) -> list[tuple[str, str]]:
        """The stops of the target slider, in the address and as people read them."""
        first = self.sides[0]
        names = list(first.model.card["class_names"])
        others = [(str(k), class_text(k, names)) for k in range(len(names)) if k != first.label]
        return [("any", "any wrong class"), *others]


def show(scene: Scene) -> None:
    """Draw the stage, with the answer for where the sliders stand; call `ahead` when the rest of the page is drawn."""
    ready, wait, more = warm.torch_ready(), "", ""
    wrong = [""] * len(scene.sides)
    if ready:
        with answers.awaited():
            wrong = [answers.compute(side, [scene.place]) for side in scene.sides]
        work = [] if any(wrong) else _work(scene)
        if work:
            more = f"{scene.id}|{scene.sides[0].target}|{scene.place}|{len(work)}|{_done(scene)}"
    elif any(answers.known(side, scene.place) is None for side in scene.sides):
        # another text at each run: the browser asks again until PyTorch is there
        wait, more = "PyTorch is loading; the attack follows in a moment.", f"{scene.id}|torch|{time.monotonic()}"
    _mount(scene, wrong, wait, more, ready)


def ahead(scene: Scene) -> None:
    """Compute a part of what the sliders may ask for next; the browser then asks for it (see `more` in stage.js)."""
    if not warm.torch_ready():
        for side in scene.sides:
            answers.compute(side, [scene.place])
        return
    if any(answers.known(side, scene.place) is None for side in scene.sides):
        return  # the time was over
    work = _work(scene)
    with answers.beforehand() as free:
        if work and free:  # else the next move of this session goes on with it
            work[0]()


def _work(scene: Scene) -> list[Callable[[], object]]:
    """What is computed ahead, in this order: the nearest ε, the others, the other targets, what is proven."""
    work: list[Callable[[], object]] = []
    quick = all(answers.is_quick(side) for side in scene.sides) and bool(scene.sides[0].stops)
    asked = [side for side in scene.sides if quick and not answers.is_packed(side)]
    near = sorted(range(len(scene.sides[0].stops)), key=lambda stop: abs(stop - scene.place))
    for part in (near[: NEAR + 1], near[NEAR + 1 :]):
        work += [
            partial(answers.compute, side, part, 1.0)
            for side in asked
            if any(answers.known(side, stop) is None for stop in part)
        ]
    for side in asked:
        others = [replace(side, target=target) for target in _targets(side)]
        lacking = [other for other in others if answers.known(other, scene.place) is None]
        if lacking:
            work.append(partial(_all, lacking, scene.place))
    work += [
        partial(answers.prove, side)
        for side in scene.sides
        if answers.can_be_proven(side) and answers.proof(side) is None
    ]
    for side in asked:
        if _bytes(side) > MOST:
            continue
        rest = answers.lacking(side)
        work += [partial(answers.compute, replace(side, target=target), at, 1.0) for target, at in rest.items()]
        if not rest:
            work.append(partial(answers.pack, side))
    return work


def _targets(side: Question) -> list[int | None]:
    """Those of which the browser is sent the answer at one ε before there are all: every one, or as many as are few."""
    targets = answers.targets(side)
    return targets if _bytes(side) <= MOST_AT_ONE * len(side.stops) else [side.target]


def _bytes(side: Question) -> int:
    """About how much the answers to all targets and ε are, the image and its change in base64."""
    channels, height, width = side.picture.x.shape
    return len(answers.targets(side)) * len(side.stops) * (channels + 1) * height * width * 4 // 3


def _all(sides: Sequence[Question], place: int) -> None:
    for side in sides:
        answers.compute(side, [place], 0.5)


def _done(scene: Scene) -> int:
    sides = [side for side in scene.sides if not answers.is_packed(side)]
    return sum(answers.known(side, stop) is not None for side in sides for stop in range(len(side.stops)))


def _mount(scene: Scene, wrong: Sequence[str], wait: str, more: str, ready: bool) -> None:
    first = scene.sides[0]
    height, width = first.picture.x.shape[1:]
    names = list(first.model.card["class_names"])
    place, target = scene.place, "any" if first.target is None else str(first.target)
    _component(
        key=_STAGE,
        data={
            "id": scene.id,
            "w": int(width),
            "h": int(height),
            "x": pixels.levels(first.picture.x),
            "alt": f"The original: {first.picture.name}, a {names[first.label]}",
            "names": names,
            "says": _says(first.norm),
            "stops": [ladders.text(first.norm, eps) for eps in first.stops],
            "values": list(first.stops),
            "targets": scene.targets(),
            "sides": [_side(scene, k, wrong[k], ready) for k in range(len(scene.sides))],
            "wait": wait,
            "more": more,
            "projector": projector.is_on(),
            **_where(scene.id, place, target),
        },
        on_eps_change=_moved("eps"),
        on_target_change=_moved("target"),
        on_more_change=_asked,
    )


def _where(scene: str, place: int, target: str) -> dict[str, Any]:
    """Where the page wants the sliders: unchanged while the browser moves them, so that it is not told its own news."""
    moved = bool(st.session_state.pop(address.MOVED, False))
    held = st.session_state.get(_SET)
    if held is None or held[0] != scene or (not moved and held[3] != (place, target)):
        held = (scene, place, target, (place, target))
    st.session_state[_SET] = (*held[:3], (place, target))
    return {"at": held[1], "target": held[2]}


def entered() -> None:
    """The whole page is drawn: the sliders are put where the address says."""
    st.session_state.pop(_SET, None)


def _asked() -> None:
    st.session_state[address.MOVED] = True


def _moved(name: str) -> Any:
    def callback() -> None:
        found = st.session_state[_STAGE].get(name)
        if found is not None:
            address.put(name, found)
            st.session_state[address.MOVED] = True

    return callback


def _says(norm: str) -> str:
    if norm == "linf":
        return "Budget ε: the most that a pixel may change"
    return f"Budget ε: the longest change in {'ℓ2' if norm == 'l2' else 'ℓ1'}"


def _side(scene: Scene, k: int, wrong: str, ready: bool) -> dict[str, Any]:
    side = scene.sides[k]
    pack = packs.address(answers.pack_digest(side), f"{_STAGE}_{k}")
    frames: dict[str, Any] = {}
    for target in [side.target] if pack else _targets(side):
        asked = replace(side, target=target)
        everywhere = target == side.target and not pack
        for at in range(max(1, len(side.stops))) if everywhere else [scene.place]:
            if (found := answers.known(asked, at)) is not None:
                frames[answers.frame_name(target, at)] = found
    proof = answers.proof(side) or ""
    seen = answers.clean(side.model, side.picture) if ready else answers.seen_before(side.model, side.picture)
    chances = None if seen is None else [round(float(p), 4) for p in seen]
    return {
        "id": side.model.id,
        "name": scene.names[k],
        "frames": frames,
        "pack": pack,
        "clean": chances,
        "proof": proof,
        "sure": "Proven:" in proof,
        "wrong": wrong,
    }
