"""What every page looks like when it is first opened: an answer in the first screen, accessible, on every device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import conftest
from ui.app.routes import ROUTES

pytestmark = [pytest.mark.browser, pytest.mark.sampled(4)]
SCREEN = {"width": 1280, "height": 800}
WIDTHS = (420, 853, 1920)
"""A phone; 150 % zoom, which leaves 853 of 1280 pixels; a projector."""
ANSWERS = "[data-testid=stMain] :is(img, svg.main-svg, canvas, figure) >> visible=true"
"""Pictures of images and charts."""
SERIOUS = ("serious", "critical")
PAPER = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"


@pytest.fixture(scope="module", params=list(ROUTES))
def opened(request: pytest.FixtureRequest, browser: Browser, bundled_server: str) -> Iterator[tuple[str, Page]]:
    """A page by its path and as it is when its script has run, opened once for all the tests of this module.

    Afterwards: no console error, no request to another host.
    """
    path = request.param
    with conftest._watched(browser, bundled_server) as page:
        page.set_viewport_size(SCREEN)  # type: ignore[arg-type]
        page.goto(path)
        heading = ROUTES[path].heading or ROUTES[path].title
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=300_000)
        page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState !== 'running'")
        expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=300_000)
        yield path, page


def serious(page: Page) -> dict[str, list[str]]:
    """What axe-core finds serious or worse, by its rules, with the first elements."""
    found = Axe().run(page).response["violations"]
    return {one["id"]: [node["html"][:200] for node in one["nodes"]][:3] for one in found if one["impact"] in SERIOUS}


def test_the_first_screen_holds_an_answer(opened: tuple[str, Page]) -> None:
    """At 1280 × 800 a picture or a chart of real results is in view, at least 100 pixels of it each way."""
    path, page = opened
    expect(page.locator(ANSWERS).first).to_be_visible(timeout=300_000)
    boxes = [one.bounding_box() for one in page.locator(ANSWERS).all()]
    seen = [
        box for box in boxes if box and min(box["width"], box["height"]) >= 100 and box["y"] + 100 <= SCREEN["height"]
    ]
    assert seen, f"{path}: {boxes}"
    assert page.get_by_test_id("stException").count() == 0


def test_axe_finds_nothing_serious_in_either_theme(opened: tuple[str, Page]) -> None:
    """By the rules of axe-core, light as opened, then dark as the system asks for it."""
    _, page = opened
    assert serious(page) == {}
    light = page.evaluate(PAPER)
    try:
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"{PAPER} !== '{light}'")
        assert serious(page) == {}
    finally:
        page.emulate_media(color_scheme="light")
        page.wait_for_function(f"{PAPER} === '{light}'")


def test_nothing_is_wider_than_the_screen(opened: tuple[str, Page]) -> None:
    """On a phone, zoomed in, on a projector: the page itself never scrolls sideways."""
    _, page = opened
    main = page.get_by_test_id("stMain")
    wide = "e => e.scrollWidth - e.clientWidth"
    try:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(500)  # charts follow the width a little later
            assert main.evaluate(wide) <= 1, width
    finally:
        page.set_viewport_size(SCREEN)  # type: ignore[arg-type]
