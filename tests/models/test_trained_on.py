"""What a model was trained on is compared at every use: classes, their order, and the images of an own folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.__main__ import main
from core.data.folder import DataMissing
from core.jobs import queue
from core.jobs.running import run
from core.models import trained_on
from core.models.saved import data_of, load_model
from core.specs import (
    AttackSpec,
    CertifySpec,
    CompareSpec,
    DataSpec,
    EvaluateSpec,
    PatternSpec,
    RadiiSpec,
    SweepSpec,
    Task,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
)
from core.storage import store


def fill(root: Path, name: str, value: int, *, train: int = 20, test: int = 8) -> None:
    """Images of one class, about as bright as `value`."""
    rng = np.random.default_rng(value)
    for part, n in (("train", train), ("test", test)):
        (root / part / name).mkdir(parents=True)
        for number in range(n):
            pixels = np.clip(rng.normal(value, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / part / name / f"{number}.png")


def asked(folder: Path, **more: object) -> TrainSpec:
    """A training that takes a moment."""
    data = DataSpec.model_validate({"dataset": "folder", "folder": str(folder), "image_size": 8, **more})
    return TrainSpec(data=data, network="linear", epochs=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dark cats and bright dogs."""
    fill(tmp_path / "pets", "cat", 60)
    fill(tmp_path / "pets", "dog", 190)
    return tmp_path / "pets"


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> store.Artifact:
    """A model of that folder."""
    made = run(asked(folder), tmp_path / "store")
    assert isinstance(made, store.Artifact)
    return made


def rename(folder: Path) -> None:
    """Dogs come first now."""
    for part in ("train", "test"):
        (folder / part / "dog").rename(folder / part / "a_dog")


def swap(folder: Path) -> None:
    """Cats are called dogs, and dogs cats: the same names in the same order."""
    for part in ("train", "test"):
        (folder / part / "dog").rename(folder / part / "x")
        (folder / part / "cat").rename(folder / part / "dog")
        (folder / part / "x").rename(folder / part / "cat")


def remove_class(folder: Path) -> None:
    """Cats alone."""
    for part in ("train", "test"):
        shutil.rmtree(folder / part / "dog")


def touch_pixels(folder: Path) -> None:
    """Another image under the same name."""
    Image.new("RGB", (8, 8)).save(folder / "test" / "dog" / "0.png")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a class renamed": (
        rename,
        "'dog' is gone, 'a_dog' is new.*2 classes \\(cat, dog\\); now there are 2 \\(a_dog, cat\\)",
    ),
    "a class added": (lambda folder: fill(folder, "ant", 120), "'ant' is new"),
    "a class of the test part added": (lambda folder: fill(folder, "eel", 9, train=0), "'eel' is new"),
    "a class removed": (remove_class, "at least two class folders"),
    "names swapped": (swap, "other images"),
    "an image added": (lambda folder: Image.new("RGB", (8, 8)).save(folder / "test/cat/x.png"), "56 images, now .* 57"),
    "an image removed": (lambda folder: (folder / "train/cat/3.png").unlink(), "56 images, now there are 55"),
    "an image changed": (touch_pixels, "other images"),
    "an image renamed": (lambda folder: (folder / "test/cat/3.png").rename(folder / "test/cat/z.png"), "other images"),
    "an image moved": (lambda folder: (folder / "test/cat/3.png").rename(folder / "train/cat/z.png"), "other images"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_refused_and_trained_anew(folder: Path, model: store.Artifact, change: str) -> None:
    """Images for the old model: a sentence on what differs. Training again: another model, and the old one is kept."""
    act, expected = CHANGES[change]
    act(folder)
    saved = load_model(model.id, model.root)
    with pytest.raises((ValueError, DataMissing), match=expected):
        saved.data()
    with pytest.raises(ValueError, match=expected):
        run(SweepSpec(model=model.id, eps=(0.0,), n=10), model.root)
    if change == "a class removed":
        return
    again = run(asked(folder), model.root)
    assert isinstance(again, store.Artifact)
    assert again.id != model.id
    assert {model.id, again.id} <= {one.id for one in store.models(model.root)}
    assert load_model(again.id, model.root).data().class_names == tuple(again.card["class_names"])


def test_the_folder_put_back_is_the_old_one(folder: Path, model: store.Artifact, tmp_path: Path) -> None:
    """Copied away and back, with other times: training again finds the old model, and it can be used."""
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    rename(folder)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder, copy_function=shutil.copyfile)
    again = run(asked(folder), model.root)
    assert isinstance(again, store.Artifact)
    assert again.id == model.id
    assert load_model(model.id, model.root).data().fingerprint == model.card["data"]["fingerprint"]


USES: list[Callable[[str, str], Task]] = [
    lambda one, two: SweepSpec(model=one, eps=(0.0,), n=10),
    lambda one, two: CompareSpec(models=(two, one), attacks=("fgsm",), eps=(0.0,), n=10),
    lambda one, two: AttackSpec(model=one, attack="fgsm", eps=0.1, n=4),
    lambda one, two: EvaluateSpec(model=one, norm="linf", eps=0.05, effort="quick", n=8),
    lambda one, two: RadiiSpec(model=one, norm="l2", budget=100, n=4),
    lambda one, two: CertifySpec(model=one, norm="linf", eps=0.01, n=4),
    lambda one, two: UniversalSpec(model=one, eps=0.1, n=8),
    lambda one, two: PatternSpec(model=one),
    lambda one, two: TransferSpec(models=(two, one), eps=0.1, n=4),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("use", USES, ids=lambda use: type(use("a", "b")).__name__)
def test_no_use_goes_around_the_comparison(
    folder: Path, model: store.Artifact, use: Callable[[str, str], Task]
) -> None:
    """Every task that shows a model images, run here or as a job, is refused with both lists of classes."""
    other = run(asked(folder).model_copy(update={"seed": 1}), model.root)
    assert isinstance(other, store.Artifact)
    rename(folder)
    task = use(model.id, other.id)
    for ask in (run, queue.submit):
        with pytest.raises(ValueError, match=r"'a_dog' is new.*cat, dog.*a_dog, cat.*train again"):
            ask(task, model.root)


def test_results_of_before_are_no_answer_for_the_folder_as_it_is(folder: Path, model: store.Artifact) -> None:
    """A sweep that is in the store is found again; not once an image was changed; again when it is put back."""
    sweep = SweepSpec(model=model.id, eps=(0.0,), n=10)
    made = run(sweep, model.root)
    assert isinstance(made, store.Artifact)
    before = (folder / "test/dog/0.png").read_bytes()
    touch_pixels(folder)
    for ask in (run, queue.submit):
        with pytest.raises(ValueError, match="other images"):
            ask(sweep, model.root)
    (folder / "test/dog/0.png").write_bytes(before)
    found = run(sweep, model.root)
    assert isinstance(found, store.Artifact)
    assert found.card["created"] == made.card["created"]
    shutil.rmtree(folder)  # nothing contradicts what was found on it
    assert isinstance(run(sweep, model.root), store.Artifact)


def test_classes_by_number_are_compared_by_name(folder: Path, tmp_path: Path) -> None:
    """Of three classes the first and the last: one more folder gives the numbers to others."""
    fill(folder, "eel", 120)
    made = run(asked(folder, classes=(2, 0)), tmp_path / "store")
    assert isinstance(made, store.Artifact)
    assert made.card["class_names"] == ["eel", "cat"]
    fill(folder, "ant", 9)
    with pytest.raises(ValueError, match=r"2 classes \(eel, cat\); now there are 2 \(dog, ant\)"):
        load_model(made.id, made.root).data()


def test_a_model_of_before_is_compared_by_its_card(folder: Path, tmp_path: Path) -> None:
    """Its spec has no content: class names and fingerprint of the card are compared when images are read."""
    root, spec = tmp_path / "old", asked(folder)
    from core.training import task

    made = task.run(spec, root, device="cpu")
    old = store.write(spec, root, card=made.card, arrays=made.arrays, tables=made.tables)
    assert spec.key() == asked(folder).key()
    load_model(old.id, root).data()
    sweep = SweepSpec(model=old.id, eps=(0.0,), n=10)
    run(sweep, root)
    touch_pixels(folder)
    with pytest.raises(ValueError, match="earlier version"):
        load_model(old.id, root).data()
    Image.new("RGB", (8, 8)).save(folder / "test/cat/x.png")
    with pytest.raises(ValueError, match="56 images, now there are 57"):
        run(sweep, root)
    rename(folder)
    with pytest.raises(ValueError, match="'a_dog' is new"):
        run(SweepSpec(model=old.id, eps=(0.0,), n=10), root)


def test_order_of_classes_is_compared(model: store.Artifact) -> None:
    """The same names in another order are other classes."""
    with pytest.raises(ValueError, match="order is another"):
        trained_on.check(model, ("dog", "cat"), model.card["data"]["fingerprint"])


def test_other_images_of_a_built_in_set_are_refused(tmp_path: Path) -> None:
    """In one sentence, each time, with the way to mend it."""
    made = run(TrainSpec(network="linear", epochs=1), tmp_path)
    assert isinstance(made, store.Artifact)
    data = data_of(made)
    for _ in range(2):
        with pytest.raises(ValueError, match="other images or labels than UCI digits 8×8 holds") as told:
            trained_on.check(made, data.class_names, "0" * 64)
        assert "\n" not in str(told.value)


def test_a_training_that_waited_is_not_given_another_folder(folder: Path, tmp_path: Path) -> None:
    """What was asked for is the folder as it was then: a sentence, not a model of something else under its name."""
    spec = store.resolve(asked(folder), tmp_path)
    touch_pixels(folder)
    with pytest.raises(ValueError, match="no longer those that were asked for"):
        run(spec, tmp_path)


def test_content_leaves_the_keys_of_others_alone() -> None:
    """Artifacts of before are found under their names."""
    assert "content" not in DataSpec().body()
    assert "content" not in asked(Path("/x")).data.body()
    with pytest.raises(ValueError, match="only for datasets 'folder' and 'file'"):
        DataSpec(content="0" * 64)


def test_the_command_line_says_what_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, found, changed, refused, trained anew: what a user reads."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(tmp_path / "cli"))
    train = ["train", "--dataset", "folder", "--folder", str(folder), "--image-size", "8", "--network", "linear"]
    for cached in ("False", "True"):
        assert main(train) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[-1].split() == ["cached", cached]
    name = out.split()[1]
    stored = [["curve", "--models", name, "--eps", "0"], ["trust", "--model", name]]
    assert main(["evaluate", "--model", name, "--eps", "0.1", "--effort", "quick", "--n", "8"]) == 0
    for command in stored:
        capsys.readouterr()
        assert main(command) == 0
        assert "was trained on" not in capsys.readouterr().err
    fill(folder, "eel", 120, train=0)
    for command in stored:
        assert main(command) == 0
        assert "'eel' is new" in capsys.readouterr().err
    assert main(["sweep", "--model", name, "--attack", "fgsm", "--eps", "0", "--n", "8"]) == 2
    assert "'eel' is new" in capsys.readouterr().err
    assert main(train) == 0
    said = capsys.readouterr()
    assert "the model is not trained on it" in said.err
    assert f"{name} was trained with the same settings before the folder changed" in said.err
    assert said.out.splitlines()[-1].split() == ["cached", "False"]
