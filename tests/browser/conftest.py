"""A served dashboard with an empty store, and a real browser to look at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that CHROMIUM names, or Playwright's own; skips where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        try:
            made = play.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            pytest.skip(
                f"no browser to be had ({str(error).splitlines()[0]}); install chromium, or name one in CHROMIUM"
            )
        yield made
        made.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a freshly started dashboard with an empty store and no data folder."""
    with served(tmp_path) as address:
        yield address


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a dashboard that several tests look at; none of them writes anything."""
    with served(tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture(scope="session")
def bundled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a dashboard with the bundled models, as a new user has it."""
    with served(tmp_path_factory.mktemp("bundled"), bundled=True) as address:
        yield address


@pytest.fixture
def bundled_page(browser: Browser, bundled_server: str) -> Iterator[Page]:
    """A page of the dashboard with the bundled models, watched alike."""
    with _watched(browser, bundled_server) as made:
        yield made


@contextmanager
def served(
    folder: Path, *, bundled: bool = False, port: int | None = None, flags: Sequence[str] = (), **variables: str
) -> Iterator[str]:
    """Address of a dashboard with its store in a folder, started with more flags and variables of the environment."""
    port = free_port() if port is None else port
    environment = {
        **os.environ,
        "ADVERSARIAL_LAB_STORE": str(folder / "store"),
        "ADVERSARIAL_LAB_DATA": str(folder / "data"),
        **variables,
    }
    if bundled:
        environment.pop("ADVERSARIAL_LAB_REFERENCE", None)
    command = [sys.executable, "-m", "streamlit", "run", "dashboard.py", "--server.headless", "true"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--server.port", str(port), "--server.address", "127.0.0.1", *flags],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(300)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1500):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the server did not answer within five minutes")


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A page of the fresh dashboard; afterwards: no console error, no request to another host."""
    with _watched(browser, server) as made:
        yield made


@pytest.fixture
def shared_page(browser: Browser, shared_server: str) -> Iterator[Page]:
    """A page of the shared dashboard, watched alike."""
    with _watched(browser, shared_server) as made:
        yield made


@contextmanager
def _watched(browser: Browser, server: str) -> Iterator[Page]:
    errors: list[str] = []
    context = browser.new_context(base_url=server, accept_downloads=True, viewport={"width": 1280, "height": 1000})
    made = context.new_page()
    made.set_default_timeout(300_000)
    made.on("console", lambda message: errors.append(message.text) if _is_error(message.type, message.text) else None)
    home = urlparse(server).netloc
    foreign: list[str] = []
    made.on("request", lambda request: foreign.append(request.url) if _is_foreign(request.url, home) else None)
    yield made
    context.close()
    assert foreign == []
    assert errors == []


def _is_error(kind: str, text: str) -> bool:
    # Streamlit asks for its own health under the page's path first: that 404 is no fault
    return kind == "error" and "Failed to load resource" not in text


def _is_foreign(url: str, home: str) -> bool:
    parts = urlparse(url)
    return parts.scheme.startswith(("http", "ws")) and parts.netloc != home
