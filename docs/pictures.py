"""Take the pictures in README and docs from the running product, so that they stay true.

    python docs/pictures.py [page ...]

Needs requirements-dev.txt and a Chromium (CHROMIUM names one). MNIST should be in the data folder. Each picture is the
first screen of a page, 1280 × 800, as it opens with an empty store: docs/images/<page>.png.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs" / "images"
PAGES = ("playground", "models", "train", "sparse_attack", "generator_attack", "epsilon_sweep", "model_comparison")
SETTLED = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    return app && app.dataset.testScriptState !== 'running'
        && !document.querySelector('[data-testid=stSkeleton]')
        && document.querySelector('h1');
}"""


def main() -> None:
    """Serve the dashboard with an empty store, and photograph the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", default=list(PAGES), help="url paths; by default those in README and docs")
    wanted = parser.parse_args().pages
    with tempfile.TemporaryDirectory() as store, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "streamlit", "run", "dashboard.py", "--server.headless", "true"]
        server = subprocess.Popen(
            [*command, "--server.port", str(port), "--server.address", "127.0.0.1"],
            cwd=PROJECT,
            env={**os.environ, "ADVERSARIAL_LAB_STORE": store},
        )
        try:
            photograph(f"http://127.0.0.1:{port}", wanted)
        finally:
            server.terminate()
            server.wait(60)


def photograph(address: str, pages: list[str]) -> None:
    """Write the picture of each page."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
            break
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"))
        shown = browser.new_page(viewport={"width": 1280, "height": 800})
        shown.set_default_timeout(180_000)
        for page in pages:
            shown.goto(f"{address}/{page}")
            settle(shown)
            shown.screenshot(path=IMAGES / f"{page.replace('_', '-')}.png")
            sys.stdout.write(f"docs/images/{page.replace('_', '-')}.png\n")
        browser.close()


def settle(page: Page) -> None:
    """Wait until the page is drawn, and stays so for three seconds: what is computed at once follows its controls."""
    page.locator("[data-testid=stMain] :is(img, svg.main-svg, canvas) >> visible=true").first.wait_for()
    page.get_by_text("PyTorch is loading").wait_for(state="hidden")
    quiet = 0
    while quiet < 6:
        page.wait_for_function(SETTLED)
        time.sleep(0.5)
        quiet = quiet + 1 if page.evaluate(SETTLED) else 0


if __name__ == "__main__":
    main()
