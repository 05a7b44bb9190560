"""Every button of the exercises leads to what its row promises, in a real browser, with the bundled models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from core.exercises import sets
from core.exercises.items import Item, Link
from tests.browser.test_flow import calm
from ui.app.routes import ROUTES

pytestmark = pytest.mark.browser
expect.set_options(timeout=300_000)  # milliseconds at most: a wait ends when its condition holds


def buttons() -> list[Any]:
    """Every button of every item."""
    return [
        pytest.param(number, item, place, id=f"{item.name}-{place}".replace(" ", "-"))
        for number, one in sets.SETS.items()
        for item in one.items
        for place in range(len(item.links))
    ]


def open_set(page: Page, number: int) -> None:
    """The tab of a set, drawn to its end."""
    page.goto(f"/exercises?exercises_tab={number}+{sets.SETS[number].title.replace(' ', '+')}")
    expect(page.get_by_role("heading", name="Exercises", exact=True)).to_be_visible()
    expect(page.get_by_text(sets.SETS[number].items[-1].title).first).to_be_visible()


def text_of(page: Page) -> str:
    """All that is written on the page, in charts and beside pictures too."""
    return str(
        page.evaluate(
            """() => {
                const main = document.querySelector('[data-testid=stMain]');
                const more = [...main.querySelectorAll('svg text, [aria-label], [alt], input')].map(
                    e => [e.textContent, e.getAttribute('aria-label'), e.getAttribute('alt'), e.value].join(' '));
                return main.innerText + ' ' + more.join(' ');
            }"""
        )
    ).lower()


def promised(page: Page, link: Link) -> None:
    """The page has the text that the link promises, and no exception."""
    expect(page).to_have_title(f"{ROUTES[link.page].title} · Adversarial Lab")
    for _ in range(600):
        text = text_of(page)
        if link.promise.lower() in text and page.get_by_test_id("stStatusWidget").count() == 0:
            break
        page.wait_for_timeout(500)
    else:
        pytest.fail(f"{link.promise!r} is not on the page: {text}")
    assert page.get_by_test_id("stException").count() == 0
    if (tab := link.state.get("tab")) is not None:
        expect(page.get_by_role("tab", name=str(tab), exact=True)).to_have_attribute("aria-selected", "true")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "item", "place"), buttons())
def test_every_button_leads_to_what_its_row_promises(bundled_page: Page, number: int, item: Item, place: int) -> None:
    """Click it where it stands, and find the promise on the page that opens."""
    open_set(bundled_page, number)
    calm(bundled_page, 500)
    key = re.sub(r"[^\w]", "-", f"exercises_open_{item.name}_{place}")
    bundled_page.locator(f".st-key-{key}").get_by_role("button").click()
    promised(bundled_page, item.links[place])


@pytest.mark.parametrize("name", ["3.5", "5.1a"])
def test_a_link_leads_there_too(bundled_page: Page, name: str) -> None:
    """The address alone opens the same page with the same settings."""
    link = sets.item(name).links[0]
    bundled_page.goto(link.address("digits"))
    promised(bundled_page, link)


@pytest.mark.parametrize("number", sets.SETS)
def test_the_first_screen_holds_a_picture_or_a_chart(bundled_page: Page, number: int) -> None:
    """At 1280 × 800, whole, of real results; and the page ends within two screens and a little."""
    bundled_page.set_viewport_size({"width": 1280, "height": 800})
    open_set(bundled_page, number)
    picture = bundled_page.locator("[data-testid=stMain] figure img, [data-testid=stMain] .js-plotly-plot").first
    expect(picture).to_be_visible()
    bundled_page.wait_for_timeout(1000)
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["y"] + box["height"] <= 800
    assert box["x"] + box["width"] <= 1280


def test_quiz_by_keyboard(bundled_page: Page) -> None:
    """A digit answers, backspace takes it back, and the end shows both accuracies."""
    bundled_page.goto("/exercises?exercises_tab=Quiz&exercises_quiz_each=2")

    def press(key: str, image: int) -> None:
        expect(bundled_page.get_by_text(f"Image {image} of 14")).to_be_visible()
        calm(bundled_page, 500)  # the text comes before the buttons that listen to the keys
        bundled_page.keyboard.press(key)

    press("3", 1)
    press("Backspace", 2)
    for place in range(14):
        press(str(place % 10), place + 1)
    expect(bundled_page.get_by_role("heading", name=re.compile(r"^You: \d+%"))).to_be_visible()
    expect(bundled_page.locator(".js-plotly-plot").first).to_be_visible()


def test_the_report_opens_alone(bundled_page: Page, browser: Browser, tmp_path: Path) -> None:
    """Downloaded by its button, then opened without the dashboard: no request, pictures and charts are there."""
    bundled_page.goto("/exercises?exercises_tab=Lab+report")
    button = bundled_page.get_by_role("button", name="Lab report", exact=True)
    expect(button).to_be_visible()
    with bundled_page.expect_download() as caught:
        button.click()
    assert caught.value.suggested_filename == "lab.html"
    file = tmp_path / "lab.html"
    caught.value.save_as(file)
    context = browser.new_context()
    alone = context.new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(file.as_uri())
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert alone.locator("svg[role=img]").count() > 0
    assert alone.evaluate("() => [...document.images].every(one => one.complete && one.naturalWidth > 0)")
    box = alone.get_by_role("textbox", name="Your answer, item 1A")
    box.fill("3 and 5 are confused.")
    expect(box).to_have_text("3 and 5 are confused.")
    context.close()
