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
SECONDS = float(os.environ.get("SESSIONS_SECONDS", 60))
"""How long they play; `SESSIONS_SECONDS=600` for the ten minutes of docs/MEASUREMENTS.md."""
LONGEST = 60.0
"""Seconds that a next image may take on a busy machine."""
ROOM = 400 << 20
"""Bytes that the server may have more after twenty sessions: their answers are kept for a while."""


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


def moved(page: Page, to: int) -> list[float]:
    """Move both sliders; milliseconds until each move is painted."""
    return [page.evaluate(MOVE, ["eps", 1 + to % 30]), page.evaluate(MOVE, ["target", to % 10])]


def next_image(page: Page) -> float:
    """Ask for another image, which the server attacks; milliseconds until the attack is painted."""
    before, begun = painted(page), time.monotonic()
    page.get_by_role("button", name="Next image").click()
    while (now := painted(page)) == before or not now.endswith("true"):
        assert time.monotonic() < begun + LONGEST, "no answer"
        page.wait_for_timeout(5)
    return 1000 * (time.monotonic() - begun)


def painted(page: Page) -> str:
    """What the stage says it shows."""
    return page.locator("#stage").get_attribute("data-painted") or ""


def quantiles(values: list[float]) -> str:
    """Median, and where nine of ten are, in milliseconds."""
    ordered = sorted(values)
    return f"median {statistics.median(ordered):.0f} ms, 90 % within {ordered[int(0.9 * len(ordered))]:.0f} ms"


def test_twenty_sessions_play_for_a_minute(visitors: list[Page], bundled_server: str) -> None:
    """Every move of a slider is answered, and every next image; times and memory, before and after, are printed."""
    first = [time for place, page in enumerate(visitors) for time in moved(page, place)]
    memory, begun = [resident(bundled_server)], time.monotonic()
    sliders: list[float] = []
    images: list[float] = []
    turn = 0
    while time.monotonic() < begun + SECONDS:
        images.append(next_image(visitors[turn % SESSIONS]))
        for place, page in enumerate(visitors):
            sliders += moved(page, 7 * turn + place)
        turn += 1
        if time.monotonic() > begun + 60 * len(memory):
            memory.append(resident(bundled_server))
    memory.append(resident(bundled_server))
    for page in visitors:
        page.wait_for_selector('#stage[data-painted$="true"]')  # the last move may still be on its way
        assert page.get_by_test_id("stException").count() == 0
    seconds = time.monotonic() - begun
    rounds = f"{turn} rounds in {seconds:.0f} s; sliders: {quantiles(sliders)} (at first {quantiles(first)})"
    mib = ", ".join(str(each >> 20) for each in memory)
    load = f"load {os.getloadavg()[0]:.1f}"
    sys.stdout.write(f"{rounds}; next image: {quantiles(images)}; MiB each minute: {mib}; {load}\n")  # `pytest -rP`
    assert memory[-1] < memory[0] + ROOM
