"""Data sets: fixed splits, subsets of classes, image folders, and plain words when data is missing."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.data import cifar10, folder, mnist, sets
from core.data.digits import digits28, framed
from core.data.folder import DataMissing
from core.data.sets import first_of_test, load, shuffled, to_float
from core.models.saved import load_model
from core.networks.catalogue import logits_of
from core.specs import DATASETS, DatasetInfo, DataSpec


def test_digits_need_no_files() -> None:
    """The embedded set has the announced shape and sizes, uint8, in three splits that share no image."""
    digits = load(DataSpec())
    info = DATASETS["digits"]
    assert digits.shape == info.shape
    assert len(digits.train) + len(digits.validation) == info.train_size
    assert len(digits.test) == info.test_size
    assert digits.train.x.dtype == torch.uint8
    assert int(digits.train.x.max()) == 255
    assert not set(digits.train.index.tolist()) & set(digits.validation.index.tolist())


def test_digits_in_the_frame_of_mnist_never_move() -> None:
    """The same images as at 8 by 8, framed in whole numbers: on every machine the same to the last bit."""
    framed, plain = load(DataSpec(dataset="digits28")), load(DataSpec(dataset="digits"))
    assert framed.fingerprint == "4fe7bfdfc1289e4f9895a95c2f80b80220a25747a8f5f5d2b72a10eb2bd7d141"
    for one, other in ((framed.train, plain.train), (framed.validation, plain.validation), (framed.test, plain.test)):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.y, other.y)
    x = torch.cat([framed.train.x, framed.validation.x, framed.test.x])[:, 0].double()
    inked = x > 0
    sides = torch.stack([inked.any(dim=dim).sum(dim=1) for dim in (1, 2)]).amax(dim=0)
    assert sides.amax() == 20
    assert (sides >= 18).all()  # the faintest edge may round to nothing
    for dim in (1, 2):
        mass = x.sum(dim=3 - dim)
        centre = (mass * (torch.arange(28) + 0.5)).sum(dim=1) / mass.sum(dim=1)
        assert ((centre - 14).abs() <= 0.5 + 1e-9).double().mean() > 0.99  # but where the ink would leave the frame


@pytest.mark.parametrize(
    ("name", "least"), [("mnist-lenet", 0.95), ("mnist-lenet-fgsm-mix", 0.93), ("mnist-pgd", 0.87)]
)
def test_models_of_mnist_know_the_framed_digits(
    name: str, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They never saw them: the frame is MNIST's."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    parts = digits28(tmp_path)
    pred = [logits_of(load_model(name, tmp_path).model, part.x).argmax(dim=1) for part in parts]
    assert (torch.cat(pred) == torch.cat([part.y for part in parts])).double().mean() > least


@pytest.mark.parametrize("side", [8, 28, 200])
def test_a_digit_of_any_size_is_framed(side: int) -> None:
    """A bar in a corner comes to the middle, twenty pixels long; what is framed stays where it is when framed again."""
    ink = np.zeros((side, side), dtype=np.int64)
    ink[: side // 2, : max(1, side // 8)] = 1000
    image = framed(ink, 1000)
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == (4, 23)
    assert 3 <= len(columns) <= 7
    assert abs((columns[0] + columns[-1] + 1) / 2 - 14) <= 0.5
    assert image.max() > 250
    again = framed(image.astype(np.int64), 255)
    assert np.abs(again.astype(int) - image).max() <= 40


def test_splits_and_order_never_move() -> None:
    """The fixed order is pinned: results of different days must count the same images."""
    assert shuffled(10).tolist() == [7, 9, 8, 5, 3, 0, 1, 4, 2, 6]
    assert shuffled(60_000)[:3].tolist() == [27947, 56202, 42356]
    digits = load(DataSpec())
    small, large = first_of_test(digits, 20), first_of_test(digits, 50)
    assert torch.equal(large.index[:20], small.index)
    assert len(first_of_test(digits, 10**6)) == len(digits.test)


def test_classes_are_kept_and_renumbered() -> None:
    """9 against 4 in this order: nines become class 0, fours class 1, everything else is gone."""
    both, every = load(DataSpec(classes=(9, 4))), load(DataSpec())
    assert both.class_names == ("9", "4")
    assert len(both.test) == int(((every.test.y == 4) | (every.test.y == 9)).sum())
    nine = every.test.take(every.test.y == 9)
    assert torch.equal(both.test.take(both.test.y == 0).index, nine.index)


def test_to_float_is_exact() -> None:
    """Grey levels become k/255 in float32."""
    x = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(x), torch.arange(256) / 255)


def test_missing_data_says_where_and_how_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data and no network: what was looked for, where, and the ways out."""
    from torchvision import datasets

    def no_network(self: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    with pytest.raises(DataMissing) as caught:
        load(DataSpec(dataset="mnist"), root=tmp_path)
    text = str(caught.value)
    for part in ("t10k-labels-idx1-ubyte", str(tmp_path), "ADVERSARIAL_LAB_DATA", "digits", "no route to host"):
        assert part in text


@pytest.fixture
def slow_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A data set of 1,000 bytes whose download waits for `go` in the middle; `calls` counts, `fail` is raised there."""
    facts: dict[str, Any] = {"go": threading.Event(), "calls": 0, "fail": None, "timeouts": []}

    def read(root: Path, *, download: bool = False) -> tuple[sets.Split, sets.Split]:
        if download:
            facts["calls"] += 1
            facts["timeouts"].append(socket.getdefaulttimeout())
            if facts["fail"] is not None:
                raise facts["fail"]
            root.mkdir(exist_ok=True)
            (root / "half").write_bytes(bytes(500))
            assert facts["go"].wait(30)
            (root / "mark").write_bytes(bytes(500))
        part = sets.Split.of(np.zeros((4, 1, 2, 2), dtype=np.uint8), [0, 1, 0, 1])
        return part, part

    monkeypatch.setattr(sys.modules[__name__], "slow_reader", read, raising=False)
    info = DatasetInfo(
        name="slow",
        title="Slow",
        shape=(1, 2, 2),
        class_names=("a", "b"),
        train_size=4,
        test_size=4,
        reader=f"{__name__}:slow_reader",
        mark="mark",
        download_size=1000,
    )
    monkeypatch.setitem(DATASETS, "slow", info)
    yield facts
    facts["go"].set()


def test_a_download_reports_bytes_and_is_made_once_for_all_who_want_it(
    slow_set: dict[str, Any], tmp_path: Path
) -> None:
    """Two ask at once: one download, progress for both, both get the images."""
    seen: list[list[int]] = [[], []]
    found: list[int] = []

    def ask(place: int) -> None:
        def report(done: int, total: int, **_: object) -> None:
            seen[place].append(done)
            assert total == 1000
            if all(500 in one for one in seen):
                slow_set["go"].set()

        found.append(len(load(DataSpec(dataset="slow"), tmp_path / "data", report).test))

    threads = [threading.Thread(target=ask, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [4, 4]
    assert slow_set["calls"] == 1
    assert not sets._Download.live
    assert socket.getdefaulttimeout() is None


def test_a_dead_network_is_said_soon_and_may_be_tried_again(slow_set: dict[str, Any], tmp_path: Path) -> None:
    """A server has seconds to answer first; what failed is passed on, and the next try begins anew."""
    slow_set["fail"] = OSError("no route to host")
    for calls in (1, 2):
        with pytest.raises(DataMissing, match="no route to host"):
            load(DataSpec(dataset="slow"), tmp_path / "data")
        assert slow_set["calls"] == calls
    assert slow_set["timeouts"] == [sets._CONNECT, sets._CONNECT]
    assert sets._CONNECT <= 10
    slow_set["fail"] = None
    slow_set["go"].set()
    assert len(load(DataSpec(dataset="slow"), tmp_path / "data").train) == 4


def test_data_root_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADVERSARIAL_LAB_DATA wins; without it the folder beside the code."""
    monkeypatch.setenv("ADVERSARIAL_LAB_DATA", str(tmp_path))
    assert folder.data_root() == tmp_path
    assert not folder.is_present("mnist")
    assert folder.is_present("digits")
    monkeypatch.delenv("ADVERSARIAL_LAB_DATA")
    assert folder.data_root().name == "data"


def _image(path: Path, value: int, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(path)


def test_image_folder_with_train_and_test(tmp_path: Path) -> None:
    """FOLDER/train/CLASS and FOLDER/test/CLASS, any size, become squares of the asked size."""
    for number in range(12):
        _image(tmp_path / "train" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    _image(tmp_path / "test" / "cat" / "a.png", 200)
    _image(tmp_path / "test" / "dog" / "b.jpg", 10)
    made = load(DataSpec(dataset="folder", folder=str(tmp_path), image_size=16, grey=True))
    assert made.class_names == ("cat", "dog")
    assert made.shape == (1, 16, 16)
    assert len(made.train) + len(made.validation) == 12
    assert made.test.x[0].unique().tolist() == [200]
    assert made.test.y.tolist() == [0, 1]


def test_image_folder_of_classes_holds_a_fifth_out(tmp_path: Path) -> None:
    """FOLDER/CLASS without splits: a fixed fifth is the test split, in colour."""
    for number in range(20):
        _image(tmp_path / f"class{number % 2}" / f"{number}.png", number)
    made = load(DataSpec(dataset="folder", folder=str(tmp_path), image_size=8))
    assert (len(made.test), made.shape) == (4, (3, 8, 8))
    chosen = load(DataSpec(dataset="folder", folder=str(tmp_path), image_size=8, classes=(1, 0)))
    assert chosen.class_names == ("class1", "class0")


def test_image_folder_errors_name_the_fault(tmp_path: Path) -> None:
    """No folder, one class, an empty class, a broken file, a class that is not there: each said plainly."""
    with pytest.raises(DataMissing, match="existing folder"):
        load(DataSpec(dataset="folder", folder=str(tmp_path / "none")))
    _image(tmp_path / "one" / "a.png", 1)
    with pytest.raises(DataMissing, match=r"at least two class folders.*got one"):
        load(DataSpec(dataset="folder", folder=str(tmp_path)))
    (tmp_path / "two").mkdir()
    with pytest.raises(DataMissing, match=r"no images in .*two"):
        load(DataSpec(dataset="folder", folder=str(tmp_path)))
    (tmp_path / "two" / "b.png").write_bytes(b"not an image")
    with pytest.raises(DataMissing, match=r"1 file in .* cannot be read: two.b\.png is not an image"):
        load(DataSpec(dataset="folder", folder=str(tmp_path)))
    _image(tmp_path / "two" / "b.png", 1)
    with pytest.raises(ValueError, match=r"classes: .* 0 to 1, got 5"):
        load(DataSpec(dataset="folder", folder=str(tmp_path), classes=(0, 5)))


def test_download_reports_bytes_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is called with bytes while torchvision downloads, and what it raises stops the wait."""
    import time

    from torchvision import datasets

    monkeypatch.setattr(datasets.MNIST, "download", lambda self: time.sleep(1))
    seen: list[tuple[int, int]] = []

    def on_progress(done: int, total: int, **metrics: object) -> None:
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sets._download("mnist", tmp_path, on_progress)
    assert seen == [(0, DATASETS["mnist"].download_size)]


@pytest.mark.parametrize("damage", ["short", "kind", "size"])
def test_a_damaged_file_of_mnist_is_named(tmp_path: Path, damage: str) -> None:
    """Cut short, of another kind of number, or of another size."""
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        for name, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            path = tmp_path / "MNIST" / "raw" / f"{part}-{name}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
            path.write_bytes(head + bytes(math.prod(shape)))
    assert len(mnist.mnist(tmp_path)[1]) == 10_000
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    data = path.read_bytes()
    path.write_bytes(
        {"short": data[:-1], "kind": b"\0\0\x0d" + data[3:], "size": data[:7] + b"\x11" + data[8:]}[damage]
    )
    with pytest.raises(RuntimeError, match="t10k-images-idx3-ubyte: expected an IDX file of 10000 × 28 × 28 bytes"):
        mnist.mnist(tmp_path)


def test_no_other_file_of_cifar10_is_opened(tmp_path: Path) -> None:
    """A pickle runs code when it is opened: what is not the file that is known is refused unopened."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"cos\nabort\n(tR.")  # opened, it would end these tests
    with pytest.raises(RuntimeError, match="data_batch_1: expected the file that CIFAR-10 comes with"):
        cifar10.cifar10(tmp_path)


def test_reading_needs_no_torchvision() -> None:
    """Its import takes as long as that of torch, and every first picture would wait for it."""
    code = (
        "import sys; from pathlib import Path; from core.data import cifar10, mnist\n"
        "for read in (mnist.mnist, cifar10.cifar10):\n"
        "    try: read(Path('/nowhere'))\n    except OSError: pass\n"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
def test_real_mnist_is_the_real_one() -> None:
    """60,000 and 10,000 images, the known number of zeros in the test set, 5,000 held out."""
    mnist = load(DataSpec(dataset="mnist"))
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    assert int((mnist.test.y == 0).sum()) == 980
    assert mnist.fingerprint.startswith("1e35582d")


@pytest.mark.real_data
def test_real_cifar10_is_the_real_one() -> None:
    """Colour images in NCHW; the first test image is the well-known cat."""
    if not folder.is_present("cifar10"):
        pytest.skip(f"no CIFAR-10 in {folder.data_root()}")
    cifar = load(DataSpec(dataset="cifar10"))
    assert cifar.shape == (3, 32, 32)
    assert cifar.class_names[int(cifar.test.y[0])] == "cat"
    assert cifar.test.x[0, :, 0, 0].tolist() == [158, 112, 49]
