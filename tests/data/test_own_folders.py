"""Own folders of images: parts as people name them, and every class kept."""

from __future__ import annotations

import itertools
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.data import folder_state
from core.data.folder import DataMissing
from core.data.folder_layout import PARTS, layout, part_of
from core.specs import DataSpec, TrainSpec
from core.storage import store
from tests.data.own_images import fill, read, save

FORMS: list[Callable[[str], str]] = [str, str.upper, str.title, "{}_set".format, "{}-images".format, "{}2017".format]
FORMS += ["images_{}".format, "{}Set".format, "{}set".format, "01_{}".format, "{} data".format]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form("val"))
def test_parts_are_known_by_every_usual_name(form: Callable[[str], str]) -> None:
    """Whatever a part is called, in upper and lower case, with or without words beside it."""
    for part, names in PARTS.items():
        assert {part_of(form(name)) for name in names} == {part}


@pytest.mark.parametrize("name", ["cat", "contest", "trainer", "invalid", "test_positive", "evaluator", "7", "猫", ""])
def test_other_names_are_no_parts(name: str) -> None:
    """A class that only sounds like a part stays a class."""
    assert part_of(name) is None


@pytest.mark.parametrize("train", ["train", "Training", "trn", "train_set"])
@pytest.mark.parametrize("test", ["test", "TESTING", "tst", "val", "valid", "Validation", "dev", "eval", "test_set"])
def test_two_parts_are_never_classes(tmp_path: Path, train: str, test: str) -> None:
    """Whichever two names: the classes are those inside, and every test image is a test image."""
    fill(tmp_path / train)
    fill(tmp_path / test, n=2)
    made = read(tmp_path)
    assert made.class_names == ("cat", "dog")
    assert (len(made.train) + len(made.validation), len(made.test)) == (12, 4)


def test_three_parts_are_what_they_are_called(tmp_path: Path) -> None:
    """With train, valid and test, the validation images are those of valid, and all of train is trained on."""
    for part, n in (("train", 6), ("valid", 3), ("test", 2)):
        fill(tmp_path / part, n=n)
    made = read(tmp_path)
    assert [len(one) for one in (made.train, made.validation, made.test)] == [12, 6, 4]


def test_names_of_the_set_may_stand_beside_the_part(tmp_path: Path) -> None:
    """`flowers_train` and `flowers_test`, each with a folder of its own inside, as archives have it."""
    fill(tmp_path / "flowers_train" / "flowers_train")
    fill(tmp_path / "flowers_test" / "flowers_test", n=2)
    assert read(tmp_path).class_names == ("cat", "dog")
    fill(tmp_path / "flowers_pred", ("",))
    made = read(tmp_path)
    assert made.class_names == ("cat", "dog")
    assert any("flowers_pred/" in note for note in made.notes)


def test_one_folder_around_everything_is_looked_into(tmp_path: Path) -> None:
    """An unpacked archive: ROOT/pets/train/cat; beside it what a Mac leaves."""
    fill(tmp_path / "pets" / "train")
    fill(tmp_path / "pets" / "test", n=2)
    save(tmp_path / "__MACOSX" / "pets" / "train" / "cat" / "0.png")
    made = read(tmp_path)
    assert (made.class_names, len(made.test)) == (("cat", "dog"), 4)


def test_train_alone_holds_a_fifth_out(tmp_path: Path) -> None:
    """ROOT/train/cat without a test part is a folder of classes."""
    fill(tmp_path / "train", n=10)
    made = read(tmp_path)
    assert made.class_names == ("cat", "dog")
    assert made.test.y.tolist() == [0, 0, 1, 1]


def test_a_class_named_train_stays_a_class(tmp_path: Path) -> None:
    """Buses, cars and trains: a folder that holds images itself is no part, and that is noted."""
    fill(tmp_path, ("bus", "car", "train"), n=5)
    made = read(tmp_path)
    assert made.class_names == ("bus", "car", "train")
    assert any("train/" in note for note in made.notes)


@pytest.mark.parametrize("name", ["test", "val", "Valid", "testing", "dev"])
def test_a_part_beside_classes_is_refused(tmp_path: Path, name: str) -> None:
    """cat/, dog/ and test/: a sentence says where to put the classes; nothing becomes a class by chance."""
    fill(tmp_path)
    fill(tmp_path / name, n=1)
    with pytest.raises(DataMissing, match=rf"{name}/ beside the class folders cat/, dog/.*into train/"):
        read(tmp_path)
    shutil.rmtree(tmp_path / name)
    save(tmp_path / name / "0.png")
    with pytest.raises(DataMissing, match=rf"{name}/ beside the class folders"):
        read(tmp_path)


@pytest.mark.parametrize("part", ["test", "val", "testing"])
def test_images_to_test_a_model_on_alone(tmp_path: Path, part: str) -> None:
    """All of them, in the order of the classes and files, and none to train on: a training is refused."""
    fill(tmp_path / part, n=4)
    made = read(tmp_path)
    assert (len(made.train), len(made.validation), len(made.test)) == (0, 0, 8)
    assert made.test.y.tolist() == [0] * 4 + [1] * 4
    assert any("none to train on" in note for note in made.notes)
    with pytest.raises(ValueError, match=r"expected images to train on, got folder .*FOLDER/train/CLASS"):
        store.resolve(TrainSpec(data=DataSpec(dataset="folder", folder=str(tmp_path))), tmp_path / "store")


def test_a_test_and_a_validation_part_without_a_training_part(tmp_path: Path) -> None:
    """The test part is what is tested; a class that one of them lacks is noted."""
    fill(tmp_path / "test", ("cat", "dog", "bird"), n=4)
    fill(tmp_path / "val", n=2)
    made = read(tmp_path)
    assert (len(made.train), len(made.validation), len(made.test)) == (0, 4, 12)
    assert made.class_names == ("bird", "cat", "dog")
    assert any("bird" in note for note in made.notes)


REFUSED: dict[str, tuple[list[str], str]] = {
    "one class to test": (["test/cat"], "at least two class folders"),
    "no common class without training": (["test/cat", "test/dog", "val/hund", "val/katze"], "no class of"),
    "two test parts": (
        ["train/cat", "train/dog", "test/cat", "testing/cat"],
        "test/ and testing/ .* both name the test",
    ),
    "parts by other names": (
        ["alpha/cat", "alpha/dog", "beta/cat", "beta/dog"],
        "same sub-folders.*train, val and test",
    ),
    "folds": (["fold1/a", "fold1/b", "fold2/a", "fold2/b", "fold2/c"], "same sub-folders"),
    "parts inside classes": (["cat/train", "cat/test", "dog/train", "dog/test"], "parts first"),
    "no common class": (["train/cat", "train/dog", "test/hund", "test/katze"], "no class of test/ is in train/"),
    "upper and lower case": (["train/Cat", "train/dog", "test/cat", "test/dog"], "upper and lower case"),
    "one class": (["train/cat", "test/cat", "test/dog"], "at least two class folders"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, case: str) -> None:
    """One sentence that names the folders."""
    folders, expected = REFUSED[case]
    for folder in folders:
        fill(tmp_path / folder, ("",), n=3)
    with pytest.raises(DataMissing, match=expected):
        read(tmp_path)


@pytest.mark.parametrize("lacking", ["train", "test", "validation"])
def test_classes_are_those_of_all_parts(tmp_path: Path, lacking: str) -> None:
    """A class that one part lacks keeps its images in the others, and is noted."""
    for part in ("train", "validation", "test"):
        fill(tmp_path / part, ("cat", "dog") if part == lacking else ("bird", "cat", "dog"), n=4)
    made = read(tmp_path)
    assert made.class_names == ("bird", "cat", "dog")
    counts = {part: int((getattr(made, part).y == 0).sum()) for part in ("train", "validation", "test")}
    assert counts == {"train": 4, "validation": 4, "test": 4} | {lacking: 0}
    assert any("bird" in note for note in made.notes)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 23])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_every_class_is_held_out(tmp_path: Path, n: int, classes: int) -> None:
    """Without parts: of two images or more of a class one is tested, of those that are left most are trained on."""
    fill(tmp_path, tuple(f"class{number}" for number in range(classes)), n=n)
    made = read(tmp_path)
    sizes = [torch.bincount(part.y, minlength=classes) for part in (made.train, made.validation, made.test)]
    assert (sizes[0] > 0).all()
    assert (sizes[2] == max(1, n // 5)).all()
    assert len(made.validation) > 0
    if n >= 4:
        assert (sizes[1] > 0).all()
        assert sum(sizes).tolist() == [n] * classes


def test_what_is_held_out_hangs_on_the_names_alone(tmp_path: Path) -> None:
    """An image that is added moves at most one other between the parts; the order of writing moves none."""

    def tested(root: Path, names: list[str]) -> list[str]:
        shutil.rmtree(root, ignore_errors=True)
        for number, (name, of) in enumerate(itertools.product(names, ("a", "b"))):
            save(root / of / name, np.full((8, 8, 3), number % 256, dtype=np.uint8))
        items = layout(str(root)).files("train")
        return sorted(f"{items[row][1]} {items[row][0].name}" for row in folder_state.held_out(items, 5, least=2))

    names = [f"{number}.png" for number in range(20)]
    before = tested(tmp_path / "x", names)
    assert tested(tmp_path / "x", names[::-1]) == before
    after = tested(tmp_path / "x", [*names, "new.png"])
    assert len(set(after) - set(before)) <= 2


def test_names_are_the_same_in_both_kinds_of_unicode(tmp_path: Path) -> None:
    """A Mac writes é as two characters: that is no class of its own."""
    for part, form in (("train", "NFC"), ("test", "NFD")):
        fill(tmp_path / part, (unicodedata.normalize(form, "café"), "猫"), n=3)
    assert read(tmp_path).class_names == ("café", "猫")


def test_hidden_files_are_skipped_and_others_noted(tmp_path: Path) -> None:
    """What systems leave is nothing; a file that people may take for an image is noted, not dropped in silence."""
    fill(tmp_path, n=5)
    for name in ("._0.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/0.png", "__MACOSX/0.png"):
        (tmp_path / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(b"\0\5\x16\7")
    assert read(tmp_path).notes == ()
    (tmp_path / "cat" / "7.heic").write_bytes(b"x")
    save(tmp_path / "loose.png")
    notes = " ".join(read(tmp_path).notes)
    assert "7.heic" in notes
    assert "1 image in" in notes


def test_links_do_not_bring_in_other_classes(tmp_path: Path) -> None:
    """A link back up is not followed; folders inside a class belong to it."""
    fill(tmp_path, n=5)
    save(tmp_path / "cat" / "more" / "deep" / "x.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path, target_is_directory=True)
    found = layout(str(tmp_path))
    assert {name: len(paths) for name, paths in found.parts["train"].items()} == {"cat": 6, "dog": 5}


def test_a_folder_that_changes_is_read_again(tmp_path: Path) -> None:
    """In one process: another image, other pixels under the same name and size, another class."""
    fill(tmp_path, n=5)
    seen = [read(tmp_path)]
    assert read(tmp_path) is seen[0]
    save(tmp_path / "cat" / "9.png")
    seen.append(read(tmp_path))
    save(tmp_path / "cat" / "9.png")
    seen.append(read(tmp_path))
    (tmp_path / "dog").rename(tmp_path / "a_dog")
    seen.append(read(tmp_path))
    assert len({(one.fingerprint, one.class_names) for one in seen}) == 4
    assert seen[-1].class_names == ("a_dog", "cat")
