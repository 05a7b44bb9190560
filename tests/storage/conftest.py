"""What the tests of the store share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.specs import TrainSpec
from core.storage import store


@pytest.fixture
def held() -> Iterator[Callable[[TrainSpec, Path], Callable[[], None]]]:
    """Hold an artifact's lock in another thread, until what is returned is called or the test ends."""
    release = threading.Event()
    threads = []

    def hold(spec: TrainSpec, root: Path) -> Callable[[], None]:
        taken = threading.Event()

        def body() -> None:
            with store.lock(spec, root):
                taken.set()
                release.wait()

        threads.append(threading.Thread(target=body))
        threads[-1].start()
        assert taken.wait(300)
        return release.set

    yield hold
    release.set()
    for thread in threads:
        thread.join()
