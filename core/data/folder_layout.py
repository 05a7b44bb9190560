"""How an own folder of images is laid out: its parts, classes and files. Imports neither torch nor an image library.

    FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, with FOLDER/val/CLASS/*.png if there is one
    FOLDER/CLASS/*.png, of which a fifth of every class becomes the test part
    FOLDER/test/CLASS/*.png alone (or val/): images to test a model on, none to train on

Parts are known by the names that people give them (`PARTS`), in upper or lower case. The classes are those of all parts
together, sorted by name. What cannot be told apart safely is refused in one sentence; what is left out is noted.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import paths
from core.data.folder import DataMissing, check_reach

PARTS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": ("val", "valid", "validation", "validate", "vld", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
}
"""Names of the parts of a data set, in lower case; `test_set`, `TrainImages` and `val2017` are known by them too."""
ENDINGS = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
    )
)
"""Endings of the files that are read as images, in lower case."""
LAYOUT = "Layout: FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, or FOLDER/CLASS/*.png"
NAMED = 10
"""Files, classes or folders that a message names before it counts the rest."""

_PART_OF = {name: part for part, names in PARTS.items() for name in names}
_BESIDE = frozenset(
    (
        *("set", "data", "dataset", "subset", "split", "part", "x"),
        *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos"),
    )
)
"""Words that may stand beside the name of a part: `test_images` is the test part."""
_SYSTEM = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "__pycache__"))


@dataclass(frozen=True)
class Layout:
    """What lies in a folder.

    `classes` are sorted by name. `parts` has "train", "validation" and "test" where there are such folders; each
    maps a class to its image files, sorted by path. `notes` are sentences on what was left out or decided.
    """

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, Mapping[str, tuple[Path, ...]]]
    notes: tuple[str, ...] = ()

    def files(self, part: str) -> list[tuple[Path, int]]:
        """The images of a part, each with the number of its class, in the order of the classes."""
        of = self.parts.get(part, {})
        return [(path, label) for label, name in enumerate(self.classes) for path in of.get(name, ())]

    def every(self) -> Iterator[tuple[str, str, Path]]:
        """Part, class and path of every image."""
        for part, classes in self.parts.items():
            for name, files in classes.items():
                yield from ((part, name, path) for path in files)


def layout(folder: str) -> Layout:
    """Find the parts, classes and images of a folder. Raises DataMissing with what is wrong and how to mend it."""
    root = paths.expanded(folder)
    check_reach(root)
    if not root.is_dir():
        raise DataMissing(f"folder: expected an existing folder of images, got {folder!r}")
    try:
        return _Reader(root).read()
    except OSError as error:
        raise DataMissing(f"folder: {root} cannot be read: {error}") from error


def part_of(name: str) -> str | None:
    """The part that a folder's name stands for: "train", "validation", "test", or None for any other name."""
    part, rest = _part_and_rest(name)
    return None if rest else part


def _part_and_rest(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The part that a name speaks of, and its other words: `flowers_train` is the training part of `flowers`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for text in re.findall(r"[^\W\d_]+", spaced) for word in _split_word(text.lower())]
    parts = {_PART_OF[word] for word in words if word in _PART_OF}
    rest = tuple(word for word in words if word not in _PART_OF and word not in _BESIDE)
    if parts == {"train", "validation"}:
        return "train", rest
    return (parts.pop() if len(parts) == 1 else None), rest


def _split_word(word: str) -> list[str]:
    """`testset` as `test` and `set`, `imgtrain` as `img` and `train`; any other word as it is."""
    for name in _PART_OF:
        if word.startswith(name) and word[len(name) :] in _BESIDE:
            return [name, word[len(name) :]]
        if word.endswith(name) and word[: -len(name)] in _BESIDE:
            return [word[: -len(name)], name]
    return [word]


@dataclass
class _Reader:
    """State of one look at a folder: what has been noted."""

    root: Path
    notes: list[str] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)

    def read(self) -> Layout:
        self.root = root = self._inside(self.root)
        folders = _folders(root)
        holding = [child for child in folders if _holds_images(child)]
        named = self._named_parts(holding)
        if named:
            parts: dict[str, dict[str, tuple[Path, ...]]] = {}
            for part in ("train", "validation", "test"):
                if part in named:
                    known = next(iter(parts.values()), {})
                    parts[part] = self._classes_of(self._inside(named[part], known=known))
            if beside := [child for child in folders if child not in named.values()]:
                self.notes.append(f"{listed(_names(beside))} beside {listed(_names(named.values()))}: not read.")
            if direct := _images(root):
                self.notes.append(f"{count(direct, 'image')} beside {listed(_names(named.values()))}: not read.")
        else:
            parts, named = {"train": self._classes_of(root)}, {"train": root}
        self._check(parts, named)
        classes = tuple(sorted({name for part in parts.values() for name in part}))
        self._note_absent(parts, named)
        if self.unread:
            first = self.unread[0].relative_to(root)
            self.notes.append(f"{count(self.unread, 'file')} without an image's ending (such as {first}): not read.")
        return Layout(root, classes, parts, tuple(self.notes))

    def _inside(self, folder: Path, known: Iterable[str] = ()) -> Path:
        """The folder itself, or the one folder in it that holds everything, as an unpacked archive has it.

        One that is called like a `known` class is that class.
        """
        while not _images(folder):
            holding = [child for child in _folders(folder) if _holds_images(child)]
            if len(holding) != 1 or holding[0].name in known:
                break
            if folder == self.root and part_of(holding[0].name) in ("validation", "test"):
                break
            inner = [child for child in _folders(holding[0]) if _holds_images(child)]
            if not inner or _images(holding[0]):
                break
            if empty := [child for child in _folders(folder) if child not in holding]:
                self.notes.append(f"{listed(_names(empty))} beside {holding[0].name}/: no images there.")
            folder = holding[0]
        return folder

    def _named_parts(self, holding: list[Path]) -> dict[str, Path]:
        """The folders that are parts; empty where all are classes. Raises DataMissing where that cannot be told."""
        sets: dict[tuple[str, ...], list[tuple[str, Path]]] = {}
        for child in holding:
            part, rest = _part_and_rest(child.name)
            if part is not None:
                sets.setdefault(rest, []).append((part, child))
        # flowers_train is a part where there is a flowers_test; alone, test_positive may be a class
        whole = [rest for rest, of in sets.items() if not rest or {"train"} < {part for part, _ in of}]
        named: dict[str, Path] = {}
        for part, child in sets[min(whole)] if whole else []:
            if part in named:
                raise DataMissing(
                    f"folder: {named[part].name}/ and {child.name}/ in {self.root} both name the {part} part: "
                    "keep one of them there"
                )
            named[part] = child
        classes = [child for child in holding if child not in named.values()]
        train = named.get("train")
        if set(named) == {"train"} and classes and train is not None and not any(map(_holds_images, _folders(train))):
            self.notes.append(f"{train.name}/ holds images, not class folders: it is read as a class.")
            return {}
        if named and classes and ("train" not in named or set(named) == {"train"}):
            names = listed(_names(named.values()))
            raise DataMissing(
                f"folder: {self.root} has {names} beside the class folders {listed(_names(classes))}: move these "
                f"into train/, or rename {names} if it is a class. {LAYOUT}"
            )
        for part, child in list(named.items()):
            direct, below = _images(child), [one for one in _folders(child) if _holds_images(one)]
            if direct and not below and (part == "train" or "train" not in named):
                raise DataMissing(f"folder: {child} holds images but no class folders. {LAYOUT}")
            if direct and not below:  # they have no labels; that the folder is not read is noted with the others
                del named[part]
        return named

    def _classes_of(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """The classes in a folder and their images; a class without images is there with none."""
        found: dict[str, list[Path]] = {}
        folders = _folders(folder)
        for child in folders:
            name = unicodedata.normalize("NFC", child.name)  # an archive of macOS has é as two characters
            if bad := [char for char in name if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")]:
                raise DataMissing(
                    f"folder: expected class folders with names of printable UTF-8, got {child.name!a} in "
                    f"{self.root}, which has {bad[0]!a}: rename it"
                )
            images, others = _files_below(child)
            found.setdefault(name, []).extend(images)
            self.unread += others
        if direct := _images(folder):
            self.notes.append(f"{count(direct, 'image')} in {folder.name}/ in no class folder: not read.")
        _refuse_nested_parts(folder, [child for child in folders if _holds_images(child)])
        return {name: tuple(found[name]) for name in sorted(found)}

    def _check(self, parts: dict[str, dict[str, tuple[Path, ...]]], named: Mapping[str, Path]) -> None:
        """Drop classes that are empty in one part alone; refuse what no classifier can be trained on."""
        filled = {part: {name for name, paths in classes.items() if paths} for part, classes in parts.items()}
        first = "train" if "train" in parts else max(parts, key=lambda part: len(filled[part]))
        train, some = parts[first], set().union(*filled.values())
        if len(train) < 2:
            raise DataMissing(
                f"folder: expected at least two class folders in {named[first]}, got {', '.join(train) or 'none'}. "
                f"{LAYOUT}"
            )
        empty = [named[part] / name for part, classes in parts.items() for name in classes if name not in some]
        if empty or len(filled[first]) < 2:
            empty = empty or [named[first] / name for name in train if name not in filled[first]]
            others = f" ({len(self.unread)} files there do not end in .png, .jpg, .tif, …)" if self.unread else ""
            raise DataMissing(f"folder: no images in {listed([str(path) for path in empty])}{others}")
        for part, classes in filled.items():
            if not classes & filled[first]:
                raise DataMissing(
                    f"folder: no class of {named[part].name}/ is in {named[first].name}/: these are "
                    f"{listed(sorted(classes)) or 'none'}, those are {listed(sorted(filled[first]))}"
                )
            for name in classes - filled[first]:
                twin = [other for other in filled[first] - classes if other.casefold() == name.casefold()]
                if twin:
                    raise DataMissing(
                        f"folder: {named[part].name}/{name} and {named[first].name}/{twin[0]} differ only in upper "
                        "and lower case: give the class one name"
                    )
        for part, every in parts.items():
            parts[part] = {name: paths for name, paths in every.items() if paths}

    def _note_absent(self, parts: Mapping[str, Mapping[str, object]], named: Mapping[str, Path]) -> None:
        for part, other in itertools.permutations(parts, 2):
            only = sorted(set(parts[part]) - set(parts[other]))
            if only and ("train" in (part, other) or "train" not in parts):
                what = "the model is not trained on it" if other == "train" else f"no {other} image shows it"
                whose = f"{named[part].name}/ and not in {named[other].name}/"
                self.notes.append(f"{listed(only)} in {whose}: kept as a class, but {what}.")


def _refuse_nested_parts(folder: Path, classes: list[Path]) -> None:
    """Folders that all hold the same sub-folders are more likely parts of a data set than classes."""
    if len(classes) < 2 or any(_images(child) for child in classes):
        return
    inner = [{one.name for one in _folders(child) if _holds_images(one)} for child in classes]
    shared = set.intersection(*inner)
    if len(shared) < 2 and not (shared and all(names == shared for names in inner)):
        return
    has = f"folder: {listed(_names(classes))} in {folder} all hold the same sub-folders, {listed(sorted(shared))}: "
    if all(part_of(name) for name in shared):
        raise DataMissing(f"{has}put the parts first, as in {folder.name}/{sorted(shared)[0]}/{classes[0].name}/*.png")
    raise DataMissing(
        f"{has}if they are parts of the data set, name them train, val and test; if they are classes, put their "
        "images directly into them"
    )


# ---------------------------------------------------------------- files


def cannot_be_read(root: Path, files: Iterable[tuple[Path, str]]) -> str:
    """One sentence that names the files of a folder which cannot be read, each with what is wrong (`is empty`)."""
    named = [f"{path.relative_to(root) if path.is_relative_to(root) else path} {why}" for path, why in files]
    return f"folder: {count(named, 'file')} in {root} cannot be read: {listed(named, '; ')}"


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones and links back up are no part of it."""
    here = folder.resolve()
    up = {here, *here.parents}
    with os.scandir(folder) as entries:  # which knows what is a folder without asking for each file
        found = [Path(entry.path) for entry in entries if _visible(entry.name) and entry.is_dir()]
    return sorted(child for child in found if child.resolve() not in up)


def _images(folder: Path) -> list[Path]:
    """The images that lie directly in a folder, by name."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if _is_image(entry.name) and not entry.is_dir())


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS and _visible(name)  # noqa: PTH122  # a Path costs more


def _holds_images(folder: Path) -> bool:
    return any(_is_image(path.name) for path in _walk(folder))


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder and below it, sorted by path, and the other files; links to folders are not followed."""
    every = sorted(_walk(folder), key=lambda path: path.parts)
    return [path for path in every if _is_image(path.name)], [path for path in every if not _is_image(path.name)]


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if _visible(name)]
        yield from (Path(where) / name for name in names if _visible(name))


def _names(folders: Iterable[Path]) -> list[str]:
    return [f"{folder.name}/" for folder in folders]


def count(things: Sequence[object], what: str) -> str:
    """`1 file`, `3 files`."""
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def listed(names: Sequence[str], between: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return between.join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
