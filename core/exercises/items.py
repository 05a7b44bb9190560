"""What an item of an exercise set is: its text, where it is done, what counts as done, and figures to compare.

The items themselves are in `set1` to `set5`; `sets` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import urlencode

from core import specs
from core.data import folder
from core.exercises.evidence import Evidence, Found, Reading
from core.models import reference

Status = Literal["done", "bundled", "open"]
SAY: dict[Status, str] = {"done": "done", "bundled": "bundled result available", "open": "not done yet"}
"""An item's status in words."""


@dataclass(frozen=True)
class Need:
    """Something that must be in the store for an item to be done.

    Attributes:
        what: in words, such as "a sweep of the adversarially trained LeNet".
        task: the kind of task that makes it.
        fits: which of its results count.
        show: how many of the results a report shows.
    """

    what: str
    task: type[specs.Spec]
    fits: Callable[[Found], bool] = lambda found: True
    show: int = 1


@dataclass(frozen=True)
class Figure:
    """A figure to compare.

    Attributes:
        name: what it is, such as "accuracy at ε = 0.25 (64/255)".
        published: what others got; None where nobody published it.
        source: who; empty where nobody did.
        read: finds the figure in the store; None where it is not there.
        unit: "share" (in [0, 1], written in per cent), or the word that follows the number, such as "pixels".
        key: whether it stands beside the set's picture too.
    """

    name: str
    published: float | None
    source: str
    read: Callable[[Evidence], Reading | None]
    unit: str = "share"
    key: bool = False


@dataclass(frozen=True)
class ByData:
    """A setting that depends on the images that are on this machine."""

    mnist: str
    other: str


Plain = str | int | float | bool | list[str] | list[int]
Setting = Plain | ByData | list[ByData]


@dataclass(frozen=True)
class Link:
    """A page with settings.

    Attributes:
        page: its url path.
        state: the page's widgets by their keys without the page's name, such as `{"tab": "Grid"}`; `{data}` in a key
            stands for the name of the data set. Values are of the widgets' own types: an ε that is typed is a text.
        promise: a text that stands on the page, there where the item is done.
        label: written on the button.
    """

    page: str
    state: Mapping[str, Setting] = field(default_factory=dict)
    promise: str = ""
    label: str = "Open"

    def settings(self, data: str | None = None) -> dict[str, Plain]:
        """The page's widgets by their full keys, for the images that are on this machine (or for `data`)."""
        on = here() if data is None else data
        return {f"{self.page}_{name.format(data=on)}": _chosen(value, on) for name, value in self.state.items()}

    def address(self, data: str | None = None) -> str:
        """The link, such as `/sparse_attack?sparse_attack_tab=One+image`."""
        parts = {
            key: [str(item) for item in value] if isinstance(value, list) else _word(value)
            for key, value in self.settings(data).items()
        }
        return f"/{self.page}" + (f"?{urlencode(parts, doseq=True)}" if parts else "")


@dataclass(frozen=True)
class Item:
    """One item of an exercise set.

    Attributes:
        row: its number in the exercise sheet, such as "1B4"; several items may share one.
        title: in a few words.
        task: what to do, in two or three sentences.
        links: where; the first is the main one.
        discuss: questions to answer.
        needs: what must be in the store. Empty: the item leaves no artifact and is ticked by hand.
        figures: to compare.
        key: its name in the notes and in addresses; the row where it is empty.
        quiz: done when the quiz was answered.
    """

    row: str
    title: str
    task: str
    links: tuple[Link, ...]
    discuss: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    figures: tuple[Figure, ...] = ()
    key: str = ""
    quiz: bool = False

    @property
    def name(self) -> str:
        """Its own name among all items."""
        return self.key or self.row

    @property
    def by_hand(self) -> bool:
        """Whether nothing in the store can tell that it is done."""
        return not self.needs and not self.quiz

    def found(self, evidence: Evidence) -> list[list[Found]]:
        """For each need what there is: your own results; where there are none, the bundled ones."""
        groups = []
        for need in self.needs:
            there = evidence.all(need.task, need.fits)
            own = [one for one in there if not one.bundled]
            groups.append((own or there)[: need.show])
        return groups

    def status(self, evidence: Evidence) -> Status:
        """Whether it is done on this store by you, or at least shown by bundled results."""
        if self.by_hand:
            return "done" if evidence.notes.get("ticked", {}).get(self.name) else "open"
        if self.quiz:
            return "done" if evidence.notes.get("quiz") else "open"
        groups = self.found(evidence)
        if not all(groups):
            return "open"
        return "done" if all(any(not one.bundled for one in group) for group in groups) else "bundled"

    def missing(self, evidence: Evidence) -> list[str]:
        """What of yours is still missing, in words."""
        groups = zip(self.needs, self.found(evidence), strict=True)
        return [need.what for need, group in groups if not any(not one.bundled for one in group)]


@dataclass(frozen=True)
class ExerciseSet:
    """One of the five sets: number, title, what it is about in a sentence, items."""

    number: int
    title: str
    about: str
    items: tuple[Item, ...]


def _chosen(value: Setting, data: str) -> Plain:
    if isinstance(value, ByData):
        return value.mnist if data == "mnist" else value.other
    if isinstance(value, list) and any(isinstance(item, ByData) for item in value):
        return [str(_chosen(item, data)) for item in value]
    return cast(Plain, value)


def _word(value: Plain) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def here() -> str:
    """The data set that the exercises are done on here: MNIST if it is on this machine, else the embedded digits."""
    return "mnist" if folder.is_present("mnist") else embedded()


def embedded() -> str:
    """The embedded digits: 28 × 28 where this version has them, else 8 × 8."""
    return "digits28" if "digits28" in specs.DATASETS else "digits"


def dataset() -> ByData:
    """The data set by what is on this machine."""
    return ByData("mnist", embedded())


def bundled_model(mnist: str, other: str) -> ByData:
    """The id of a bundled model: `mnist` by its name, and `other`, whose name goes on after that of the data set."""
    return ByData(model_id(mnist), model_id(f"{embedded()}-{other}"))


def model_id(name: str) -> str:
    """The id of a bundled model of this name. Raises KeyError if there is none."""
    return reference.REFERENCES[name].spec.artifact_name()
