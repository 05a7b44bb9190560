"""How quick the dashboard feels: each page opened on a server that has just started, then run again and again.

    python -m benchmarks.pages [--pages playground train …] [--runs 9] [--store FOLDER] [--data FOLDER] [--port 8580]

For each page, in a real browser (Playwright with Chromium), in seconds from the request for its address:
`paint`: its heading is drawn; `picture`: the first picture, chart or table of results is drawn in the page's main part
(the screen's first 800 pixels; "–" where there is none within a minute). Both on a server of its own that answered its
first request just before. Then `rerun`: the median over `--runs` script runs with PyTorch loaded and nothing changed,
from the asking to the end of the run as the browser sees it, and in brackets the slowest. `back`: from leaving the
page by the sidebar's link and pressing Back until its picture is there again.

The store is empty unless `--store` names one, so that what is measured is what a newcomer meets: the bundled models
and results. Say with a figure what else the machine did: the load average is printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as Late
from tabulate import tabulate

from ui.app.routes import ROUTES

PROJECT = Path(__file__).resolve().parents[1]
SEEN = """() => {
    const main = document.querySelector('[data-testid=stMain]');
    const drawn = (element) => {
        const box = element.getBoundingClientRect();
        return box.width >= 48 && box.height >= 48 && box.top < 800 && (element.tagName !== 'IMG' || element.complete);
    };
    const what = 'figure img, [data-testid=stImage] img, .js-plotly-plot .main-svg, [data-testid=stDataFrame] canvas, '
        + '[data-testid=stTable] table, canvas';
    const under = (root) => [...root.querySelectorAll('*')].flatMap(
        (element) => element.shadowRoot ? [element.shadowRoot, ...under(element.shadowRoot)] : []);
    const stage = under(document).map((root) => root.querySelector('#stage')).find((element) => element);
    if (stage) return (stage.dataset.painted || '').endsWith('true');
    return !!main && [main, ...under(main)].flatMap((root) => [...root.querySelectorAll(what)]).some(drawn);
}"""
WATCH = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    window.labEnds = [];
    new MutationObserver(() => {
        if (app.dataset.testScriptState === 'notRunning') window.labEnds.push(performance.now());
    }).observe(app, {attributes: true, attributeFilter: ['data-test-script-state']});
}"""


@contextmanager
def served(port: int, store: Path, data: Path) -> Iterator[str]:
    """A dashboard that has just answered its first request."""
    command = [sys.executable, "-m", "streamlit", "run", "dashboard.py", "--server.headless", "true"]
    process = subprocess.Popen(
        [*command, "--server.port", str(port), "--server.address", "127.0.0.1"],
        cwd=PROJECT,
        env={**os.environ, "ADVERSARIAL_LAB_STORE": str(store), "ADVERSARIAL_LAB_DATA": str(data)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, "the server ended; is the port taken?"
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def until(page: Page, condition: str, begun: float, limit: float = 60.0) -> float:
    """Seconds since `begun` when the condition, a JavaScript function, first holds; NaN when it does not in `limit`."""
    try:
        page.wait_for_function(condition, timeout=1000 * limit, polling=20)
    except Late:
        return float("nan")
    return time.perf_counter() - begun


def settled(page: Page, quiet: float = 3.0) -> None:
    """Wait until no script has run for `quiet` seconds: the page is whole, and PyTorch has come in the background."""
    state = page.get_by_test_id("stApp")
    calm = time.perf_counter()
    while time.perf_counter() - calm < quiet:
        if state.get_attribute("data-test-script-state") != "notRunning":
            calm = time.perf_counter()
        time.sleep(0.05)


def reruns(page: Page, runs: int) -> list[float]:
    """Seconds of each of so many script runs: the key R asks for one."""
    page.evaluate(WATCH)
    seconds = []
    page.get_by_test_id("stMain").focus()
    for _ in range(runs):
        before = page.evaluate("[window.labEnds.length, performance.now()]")
        page.keyboard.press("r")
        try:
            page.wait_for_function("n => window.labEnds.length > n", arg=before[0], timeout=60_000, polling=10)
        except Late:
            return []
        seconds.append((page.evaluate("window.labEnds.at(-1)") - before[1]) / 1000)
        page.wait_for_timeout(150)
    return seconds


def measure(browser: Browser, address: str, path: str, runs: int) -> list[str]:
    """One row of the table: the page on a server that has just started."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    heading = ROUTES[path].heading or ROUTES[path].title
    begun = time.perf_counter()
    page.goto(f"{address}/{path}", wait_until="commit")
    painted = until(page, f"() => [...document.querySelectorAll('h1')].some(h => h.innerText === {heading!r})", begun)
    pictured = until(page, SEEN, begun)
    settled(page, 6.0)
    seconds = reruns(page, runs)
    other = next(name for name in ROUTES if name != path)
    page.get_by_test_id("stSidebar").get_by_role("link", name=ROUTES[other].title, exact=True).first.click()
    settled(page)
    begun = time.perf_counter()
    page.go_back()
    page.wait_for_url(lambda url: path in url or url.rstrip("/") == address)
    again = until(page, SEEN, begun, 30) if pictured == pictured else float("nan")
    page.close()
    run = f"{statistics.median(seconds):.2f} ({max(seconds):.2f})" if seconds else "–"
    return [path, *(f"{value:.2f}" if value == value else "–" for value in (painted, pictured)), run, f"{again:.2f}"]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", default=list(ROUTES), choices=list(ROUTES))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--port", type=int, default=8580)
    options = parser.parse_args()
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    rows = []
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for path in options.pages:
            store, data = options.store or Path(folder) / "store", options.data or Path(folder) / "data"
            with served(options.port, store, data) as address:
                rows.append(measure(browser, address, path, options.runs))
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
        browser.close()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(tabulate(rows, ["page", "paint", "picture", "rerun", "back"], tablefmt="github"))
    print(f"seconds; {os.cpu_count()} cores, load average {load:.1f} at the end")


if __name__ == "__main__":
    main()
