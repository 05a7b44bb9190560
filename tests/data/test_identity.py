"""A built-in data set is compared with what it comes with, whoever uses it: other images or labels are refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from core.__main__ import main
from core.data import folder, mnist, peek, sets
from core.data.folder import DataMissing, data_root
from core.data.sets import Split, load
from core.jobs.running import run
from core.models.saved import data_of, load_model
from core.specs import DATASETS, DatasetInfo, DataSpec, SweepSpec, TrainSpec
from core.storage import store
from tests.fixtures.artifacts import IMPORTED, LINEAR, SCALAR, SPECS, STORE

HEADER = {"images-idx3": 16, "labels-idx1": 8}


@pytest.mark.parametrize("name", DATASETS)
def test_every_built_in_set_is_what_it_comes_with(name: str) -> None:
    """The fingerprint of the whole set is known, and those of a part of its classes are others."""
    if not folder.is_present(name):
        pytest.skip(f"no {name} in {data_root()}")
    whole = load(DataSpec(dataset=name))
    assert whole.fingerprint == DATASETS[name].fingerprint
    assert load(DataSpec(dataset=name, classes=(4, 9))).fingerprint != whole.fingerprint


@pytest.fixture
def own_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of MNIST's files, in the data folder."""
    source = data_root() / "MNIST" / "raw"
    target = tmp_path / "data" / "MNIST" / "raw"
    target.mkdir(parents=True)
    for part in mnist._SIZE:
        for kind in HEADER:
            shutil.copy(source / f"{part}-{kind}-ubyte", target / f"{part}-{kind}-ubyte")
    monkeypatch.setenv("ADVERSARIAL_LAB_DATA", str(tmp_path / "data"))
    return target


def changed(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the numbers of an IDX file, and leave its form."""
    head = HEADER[path.name.split("-", 1)[1].removesuffix("-ubyte")]
    data = path.read_bytes()
    path.write_bytes(data[:head] + change(np.frombuffer(data, np.uint8, offset=head)).astype(np.uint8).tobytes())


CHANGES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "labels shifted": ("t10k-labels-idx1-ubyte", lambda y: (y + 1) % 10),
    "training labels shifted": ("train-labels-idx1-ubyte", lambda y: (y + 1) % 10),
    "black training images": ("train-images-idx3-ubyte", np.zeros_like),
    "one pixel": ("t10k-images-idx3-ubyte", lambda x: np.where(np.arange(len(x)) == 100_000, 255 - x, x)),
    "two images swapped": ("train-images-idx3-ubyte", lambda x: np.roll(x, 784)),
}


@pytest.mark.real_data
@pytest.mark.parametrize("kind", CHANGES)
def test_other_images_or_labels_are_refused(own_mnist: Path, kind: str) -> None:
    """Of a set that was loaded before, too, all classes or some; put back, it loads again."""
    file, change = CHANGES[kind]
    spec = DataSpec(dataset="mnist")
    sound = load(spec)
    before = (own_mnist / file).read_bytes()
    changed(own_mnist / file, change)
    for asked in (spec, DataSpec(dataset="mnist", classes=(4, 9))):
        with pytest.raises(DataMissing, match=r"MNIST in .* holds other images or labels than it comes with") as told:
            load(asked)
        assert "\n" not in str(told.value)
    if "t10k-images" in file:
        assert peek.one_test_image("mnist", 3) is None
    (own_mnist / file).write_bytes(before)
    assert load(spec).fingerprint == sound.fingerprint
    assert np.array_equal(peek.one_test_image("mnist", 3)[0], sound.test.x[3, 0])  # type: ignore[index]


@pytest.mark.real_data
def test_every_command_refuses_them(
    own_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store_root: Path
) -> None:
    """In one sentence on standard error, exit status 1, and nothing is stored."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    changed(own_mnist / "t10k-labels-idx1-ubyte", lambda y: (y + 1) % 10)
    for command in (
        ["train", "--dataset", "mnist", "--network", "linear", "--epochs", "1"],
        ["sweep", "--model", "mnist-linear", "--eps", "0", "0.017", "--n", "20"],
        ["sweep", "--model", "digits28-standard", "--data", "mnist", "--eps", "0", "--n", "20"],
        ["attack", "--model", "mnist-4v9", "--attack", "fgsm", "--eps", "0.017", "--n", "3"],
        ["evaluate", "--model", "mnist-linear", "--eps", "0.017", "--n", "3"],
        ["certify", "--model", "mnist-linear", "--eps", "0.017", "--n", "3"],
    ):
        assert main(command) == 1, command
        assert "holds other images or labels than it comes with" in capsys.readouterr().err.splitlines()[-1]
    assert not list(store_root.glob("**/card.json"))


def other_digits(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """The digits with the classes shifted by one."""
    from core.data.digits import digits

    return tuple(Split(part.x, (part.y + 1) % 10, part.index) for part in digits(root))  # type: ignore[return-value]


@pytest.fixture
def unknown_digits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes `digits` a set whose fingerprint is not known, read by the function of this name; files say which."""

    def read_by(reader: str) -> None:
        sets._load.cache_clear()
        sets._found.clear()
        info = DATASETS["digits"].model_copy(update={"fingerprint": "", "reader": reader})
        assert isinstance(info, DatasetInfo)
        monkeypatch.setitem(DATASETS, "digits", info)

    yield read_by
    sets._load.cache_clear()
    sets._found.clear()


@pytest.mark.parametrize("spec", [LINEAR, SCALAR, IMPORTED], ids=lambda spec: spec.slug())
def test_a_set_that_is_not_known_is_compared_with_the_models_card(
    spec: TrainSpec, store_root: Path, unknown_digits: Callable[[str], None]
) -> None:
    """Whatever made the model, of all classes or some."""
    shutil.copytree(STORE, store_root)
    unknown_digits("core.data.digits:digits")
    model = store.open_model(spec.artifact_name(), store_root)
    assert data_of(model).fingerprint == model.card["data"]["fingerprint"]
    unknown_digits(f"{__name__}:other_digits")
    with pytest.raises(ValueError, match=r"other images or labels than .* holds on this machine"):
        load_model(model.id, store_root).images(5)


@pytest.mark.parametrize("name", sorted({*SPECS} - {"compare", "train_scalar"}))
def test_what_was_made_on_other_images_is_no_answer(name: str, store_root: Path) -> None:
    """A version that did not compare may have stored it: it is set aside with a sentence, and made again.

    Of a model of some classes only its images tell, when they are read.
    """
    from core.jobs.running import _find
    from core.models import trained_on

    shutil.copytree(STORE, store_root)
    spec = SPECS[name]
    found = store.find(spec, store_root)
    assert found is not None
    assert trained_on.of_other_images(found, store_root) == ""
    said: list[str] = []
    assert _find(spec, store_root, said.append) == found  # type: ignore[arg-type]
    wrong = store.Artifact(found.folder, {**found.card, "data": {**found.card["data"], "fingerprint": "0" * 64}})
    assert "made on other images or labels" in trained_on.of_other_images(wrong, store_root)
    own = {field: value for field, value in wrong.card.items() if field not in store.cards.WRITTEN_BY_STORE}
    shutil.rmtree(found.folder)
    bad = store.write(spec, store_root, card=own)
    assert _find(spec, store_root, said.append) is None  # type: ignore[arg-type]
    assert not bad.folder.exists()
    assert "set aside in" in said[-1]


def test_a_set_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its fingerprint is computed once, whichever of its classes are asked for, until a file changes."""
    raw = tmp_path / "made"
    raw.mkdir()
    (raw / "mark").write_bytes(b"x")
    info = DATASETS["digits"].model_copy(update={"name": "made", "mark": "made/mark"})
    monkeypatch.setitem(DATASETS, "made", info)
    counted: list[str] = []
    compute = sets._fingerprint
    monkeypatch.setattr(sets, "_fingerprint", lambda parts: counted.append("") or compute(parts))  # type: ignore[func-returns-value]
    load(DataSpec(dataset="made"), root=tmp_path)
    load(DataSpec(dataset="made"), root=tmp_path)
    assert len(counted) == 1
    load(DataSpec(dataset="made", classes=(1, 2)), root=tmp_path)
    assert len(counted) == 2, "that of the two classes alone"
    os.utime(raw / "mark", (1, 1))
    load(DataSpec(dataset="made"), root=tmp_path)
    assert len(counted) == 3


def test_a_sweep_on_shifted_labels_is_not_stored(
    store_root: Path, monkeypatch: pytest.MonkeyPatch, unknown_digits: Callable[[str], None]
) -> None:
    """What used to be stored as a clean accuracy of 0.000."""
    shutil.copytree(STORE, store_root)
    unknown_digits(f"{__name__}:other_digits")
    monkeypatch.setitem(
        DATASETS, "digits", DATASETS["digits"].model_copy(update={"fingerprint": load(DataSpec()).fingerprint[::-1]})
    )
    sets._load.cache_clear()
    with pytest.raises(DataMissing, match="scikit-learn"):
        run(SweepSpec(model=LINEAR.artifact_name(), eps=(0.0, 0.017), n=30), store_root)
