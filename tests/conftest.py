"""What every test shares: a store of its own, one torch thread a worker, real data only where it is."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from core.data.folder import data_root, is_present
from core.jobs import queue, worker
from core.storage import store


def pytest_configure(config: pytest.Config) -> None:
    """No bundled model is seen by a test that does not ask; strict float32; with several workers, one thread each."""
    settings.register_profile("lab", deadline=None)  # a busy machine takes its time
    settings.load_profile("lab")
    os.environ["ADVERSARIAL_LAB_REFERENCE"] = ""
    os.environ["ADVERSARIAL_LAB_SPARE"] = "0"  # a process that waits for jobs would load PyTorch beside the tests
    os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "STRICT"  # no float32 is rounded to bfloat16
    if os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in jobs' processes


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with the mark `sampled(n)`, every n-th case stays quick; the others are slow.

    For tests of many alike cases, such as all pairs of attacks and kinds of models: where n has no divisor in common
    with either number, each of both is still met every time. Where the count begins depends on the test's name, so that
    an attack which one test leaves out is met by the next. `make test-all` takes every case.
    """
    cases = Counter(item.nodeid.partition("[")[0] for item in items)
    seen: Counter[str] = Counter()
    for item in items:
        if sampled := item.get_closest_marker("sampled"):
            test, (n,) = item.nodeid.partition("[")[0], sampled.args
            if (seen[test] - zlib.crc32(test.encode()) % min(n, cases[test])) % n:
                item.add_marker(pytest.mark.slow)
            seen[test] += 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say why."""
    if item.get_closest_marker("real_data") and not is_present("mnist"):
        pytest.skip(f"no MNIST in {data_root()}; ADVERSARIAL_LAB_DATA names another folder")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def priority() -> Iterator[None]:
    """What a test runs in its own process leaves that one's priority alone: later tests would become slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "lower_priority", lambda: None)
        yield


@pytest.fixture(autouse=True)
def store_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; no test ever touches the real one."""
    root = tmp_path / "store"
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    return root


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def accelerator(request: pytest.FixtureRequest) -> AbstractContextManager[object]:
    """What to enter for a device `cuda`: the pretended one, and the real one where there is one."""
    from tests.pretended import Pretended

    return Pretended() if request.param == "pretended" else nullcontext()


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three models of `digits`: linear, mlp, and a scalar 4-against-9 network. Copy it before writing.

    Their weights are kept in `tests/fixtures`; the job of a training does all the rest.
    """
    from core.training import task
    from tests.fixtures import STANDARD, standard

    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "train", standard)
        for spec in STANDARD.values():
            queue.run(spec, root)
    assert len(store.models(root)) == 3
    return root


@pytest.fixture
def other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the data sets of `tests.other_images`."""
    from core import specs
    from tests.other_images import OTHERS

    for info in OTHERS:
        monkeypatch.setitem(specs.DATASETS, info.name, info)


@pytest.fixture
def interval_trained(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """The MNIST network that ships, trained by interval bounds in linf, and 40 images with their classes."""
    from core.data.sets import first_of_test, to_float
    from core.models.saved import load_model
    from core.storage import bundled

    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    folder = bundled.folder("mnist-strided-ibp-ac40cf7e7c")
    assert folder is not None
    saved = load_model(folder.name, folder.parent)
    batch = first_of_test(saved.data(), 40)
    return saved.model, to_float(batch.x), batch.y
