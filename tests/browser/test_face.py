"""What every page looks like when it is first opened: an answer in the first screen, accessible, on every device."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ui.app.routes import ROUTES

pytestmark = pytest.mark.browser
SCREEN = {"width": 1280, "height": 800}
ANSWERS = "[data-testid=stMain] :is(img, svg.main-svg, canvas, figure) >> visible=true"
"""Pictures of images and charts."""
SERIOUS = ("serious", "critical")


def settled(page: Page, path: str) -> None:
    """Open a page and wait until its script has run."""
    page.goto(path)
    heading = ROUTES[path].heading or ROUTES[path].title
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=300_000)
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState !== 'running'")
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=300_000)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("path", ROUTES)
def test_the_first_screen_holds_an_answer(bundled_page: Page, path: str) -> None:
    """At 1280 × 800 a picture or a chart of real results is in view, at least 100 pixels of it each way."""
    bundled_page.set_viewport_size(SCREEN)  # type: ignore[arg-type]
    settled(bundled_page, path)
    expect(bundled_page.locator(ANSWERS).first).to_be_visible(timeout=300_000)
    boxes = [one.bounding_box() for one in bundled_page.locator(ANSWERS).all()]
    seen = [
        box for box in boxes if box and min(box["width"], box["height"]) >= 100 and box["y"] + 100 <= SCREEN["height"]
    ]
    assert seen, f"{path}: {boxes}"
    assert bundled_page.get_by_test_id("stException").count() == 0


@pytest.mark.sampled(8)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ROUTES)
def test_axe_finds_nothing_serious(browser: Browser, bundled_server: str, path: str, scheme: str) -> None:
    """By the rules of axe-core, in both themes."""
    context = browser.new_context(base_url=bundled_server, viewport=SCREEN, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(300_000)
    settled(page, path)
    found = Axe().run(page).response["violations"]
    context.close()
    serious = {
        one["id"]: [node["html"][:200] for node in one["nodes"]][:3] for one in found if one["impact"] in SERIOUS
    }
    assert serious == {}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("width", [420, 853, 1920])
@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_wider_than_the_screen(bundled_page: Page, path: str, width: int) -> None:
    """On a phone, at 150 % zoom (853 of 1280 pixels), on a projector: the page itself never scrolls sideways."""
    bundled_page.set_viewport_size({"width": width, "height": 800})
    settled(bundled_page, path)
    main = bundled_page.get_by_test_id("stMain")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 1
