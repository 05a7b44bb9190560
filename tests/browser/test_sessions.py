"""Twenty people at once: nobody meets an error, everybody gets an answer, and the server does not grow."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from benchmarks.playground import MOVE

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SESSIONS = 20
SECONDS = 60.0
ROOM = 400 << 20
"""Bytes that the server may have more after a minute of twenty sessions: their answers are kept for a while."""


@pytest.fixture
def visitors(browser: Browser, bundled_server: str) -> Iterator[list[Page]]:
    """Pages of sessions of their own, each with its playground open, and nothing in the console."""
    pages, errors = [], []
    for _ in range(SESSIONS):
        page = browser.new_context(base_url=bundled_server, viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(300_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/")
        page.wait_for_selector('#stage[data-painted$="true"]')
        pages.append(page)
    yield pages
    for page in pages:
        page.context.close()
    assert errors == []


def resident(address: str) -> int:
    """Bytes in memory of the server that listens there."""
    port = address.rsplit(":", 1)[1].encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"streamlit" in words and port in words:
                return int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    pytest.skip("needs Linux, which says how much memory a process has")


def moved(page: Page, to: int) -> float:
    """Move both sliders; milliseconds until the second move is painted."""
    page.evaluate(MOVE, ["eps", 1 + to % 30])
    found: float = page.evaluate(MOVE, ["target", to % 10])
    return found


def test_twenty_sessions_move_sliders_for_a_minute(visitors: list[Page], bundled_server: str) -> None:
    """Every move is answered; what it took, and the memory before and after, is printed."""
    first = [moved(page, place) for place, page in enumerate(visitors)]
    before, end = resident(bundled_server), time.monotonic() + SECONDS
    last: list[float] = []
    turn = 0
    while time.monotonic() < end:
        last = [moved(page, 7 * turn + place) for place, page in enumerate(visitors)]
        turn += 1
    after = resident(bundled_server)
    for page in visitors:
        assert page.locator("#stage").get_attribute("data-painted", timeout=1000) is not None
        assert str(page.locator("#stage").get_attribute("data-painted")).endswith("|true")
        assert page.get_by_test_id("stException").count() == 0
    said = f"{turn} rounds; median ms {statistics.median(first):.0f}, {statistics.median(last):.0f} at the end"
    sys.stdout.write(f"{said}; MiB {before >> 20}, {after >> 20} at the end\n")  # with `pytest -rP`
    assert after < before + ROOM
