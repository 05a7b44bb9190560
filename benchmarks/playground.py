"""How quickly the playground answers: `python -m benchmarks.playground [--sessions 20] [--moves 50] [--url ADDRESS]`.

A real browser moves the sliders. What is measured, in the browser's own clock, begins when a slider is let go and ends
with the frame after the one in which the new picture, the bars and the verdict were drawn. Without `--url` a server is
started, with an empty store. The load of the machine is printed beside the figures: they mean little on a busy one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from benchmarks.pages import served
from core.data.folder import data_root

MOVE = """async ([name, to]) => {
  const find = (root) => {
    for (const node of root.querySelectorAll('*')) {
      if (node.id === 'stage') return node
      const below = node.shadowRoot && find(node.shadowRoot)
      if (below) return below
    }
    return null
  }
  const stage = find(document), slider = stage.querySelector('#' + name)
  const frame = () => new Promise(requestAnimationFrame)
  const begun = performance.now(), limit = begun + 30000
  slider.value = to
  slider.dispatchEvent(new Event('input'))
  slider.dispatchEvent(new Event('change'))
  while (!(stage.dataset.painted || '').endsWith('true') && performance.now() < limit) await frame()
  await frame()
  return performance.now() - begun
}"""


@contextmanager
def fresh() -> Iterator[str]:
    """Address of a dashboard of its own, with an empty store; stopped afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as store, served(port, Path(store), data_root()) as address:
        yield address


async def opened(browser: Any, address: str) -> tuple[Page, float, float]:
    """A page of its own session; seconds until the image is there, and until it is attacked."""
    page = await (await browser.new_context(viewport={"width": 1280, "height": 800})).new_page()
    page.set_default_timeout(300_000)
    begun = time.perf_counter()
    await page.goto(address)
    await page.wait_for_selector("#stage[data-painted]")
    image = time.perf_counter() - begun
    await page.wait_for_selector('#stage[data-painted$="true"]')
    return page, image, time.perf_counter() - begun


async def moved(page: Page, name: str, moves: int, start: int, pause: float) -> list[float]:
    """Milliseconds of each of some moves of a slider, each to another stop."""
    last = int(await page.locator(f"input#{name}").get_attribute("max") or 1)
    found = []
    for k in range(moves):
        found.append(float(await page.evaluate(MOVE, [name, (start + 7 * k) % (last + 1)])))
        await asyncio.sleep(pause)
    return found


async def next_images(page: Page, count: int) -> list[float]:
    """Milliseconds from the click on Next image until another image is attacked."""
    found = []
    for _ in range(count):
        before = await page.locator("#stage").get_attribute("data-painted")
        begun = time.perf_counter()
        await page.get_by_role("button", name="Next image").click()
        for _ in range(3000):
            now = await page.locator("#stage").get_attribute("data-painted") or ""
            if now != before and now.endswith("true"):
                break
            await asyncio.sleep(0.005)
        found.append(1000 * (time.perf_counter() - begun))
        await asyncio.sleep(0.5)
    return found


def said(name: str, values: list[float]) -> None:
    """Print a median and where nine of ten are."""
    ordered = sorted(values)
    print(
        f"{name:44s} median {statistics.median(ordered):7.0f} ms   90% within "
        f"{ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]:7.0f} ms   n={len(ordered)}"
        f"   load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


async def measure(address: str, sessions: int, moves: int, settle: float) -> None:
    """Print all figures."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page, image, attacked = await opened(browser, address)
        print(f"cold: image after {image:.2f} s, attacked after {attacked:.2f} s, load {os.getloadavg()[0]:.1f}")
        said("ε slider, at once after opening", await moved(page, "eps", min(10, moves), 3, 0.1))
        await asyncio.sleep(settle)
        said("ε slider, one session", await moved(page, "eps", moves, 0, 0.15))
        said("target slider, one session", await moved(page, "target", min(20, moves), 1, 0.3))
        said("next image, one session", await next_images(page, 5))
        await page.context.close()
        if sessions > 1:
            pages = [one for one, _, _ in [await opened(browser, address) for _ in range(sessions)]]
            await asyncio.sleep(settle)
            answers = await asyncio.gather(
                *(moved(one, "eps", max(5, moves // 5), k, 0.3) for k, one in enumerate(pages))
            )
            said(f"ε slider, {sessions} sessions at once", [value for part in answers for value in part])
            answers = await asyncio.gather(*(moved(one, "target", 3, k, 0.5) for k, one in enumerate(pages)))
            said(f"target slider, {sessions} sessions at once", [value for part in answers for value in part])
        await browser.close()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a dashboard that is running; by default one is started")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds for what is computed ahead")
    given = parser.parse_args()
    if given.url:
        asyncio.run(measure(given.url, given.sessions, given.moves, given.settle))
        return
    with fresh() as address:
        asyncio.run(measure(address, given.sessions, given.moves, given.settle))


if __name__ == "__main__":
    main()
