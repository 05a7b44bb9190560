"""The playground as a person uses it: sliders, a drawing, an address, the steps."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=300_000)
PAINTED = re.compile(r"\|true$")


def opened(page: Page, address: str) -> None:
    """The page with the attacked image on its stage."""
    page.goto(address)
    expect(page.locator("#stage")).to_have_attribute("data-painted", PAINTED)


def pixels(page: Page) -> str:
    """The adversarial image on show, as the canvas has it."""
    found: str = page.locator("#side0 canvas.attacked").evaluate("canvas => canvas.toDataURL()")
    return found


def test_a_slider_changes_picture_and_verdict(bundled_page: Page) -> None:
    """From the root, by keyboard: no ε fools nobody, the largest one does; the address holds both sliders."""
    opened(bundled_page, "/")
    slider = bundled_page.locator("input#eps")
    slider.focus()
    bundled_page.keyboard.press("Home")
    expect(bundled_page.locator("#stage")).to_have_attribute("data-painted", re.compile(r"\|any\|0\|true$"))
    before, verdict = pixels(bundled_page), bundled_page.locator("#side0 .verdict")
    expect(verdict).to_have_text(re.compile("still classified"))
    bundled_page.keyboard.press("End")
    expect(verdict).to_have_text(re.compile("now classified"))
    assert pixels(bundled_page) != before
    target = bundled_page.locator("input#target")
    target.focus()
    bundled_page.keyboard.press("ArrowRight")
    expect(bundled_page).to_have_url(re.compile("playground_target=0"))
    expect(bundled_page).to_have_url(re.compile("playground_eps=0.4"))
    expect(bundled_page.locator("#target-text")).to_have_text("0")
    expect(bundled_page.locator("#stage")).to_have_attribute("data-painted", re.compile(r"\|0\|\d+\|true$"))
    now = pixels(bundled_page)
    opened(bundled_page, bundled_page.url)
    expect(bundled_page.locator("#eps-text")).to_have_text(re.compile(r"^0\.4"))
    assert pixels(bundled_page) == now


def test_both_sliders_paint_what_the_browser_has(bundled_page: Page) -> None:
    """Once the answers to all targets are there, a move is painted before any server could answer: at once."""
    opened(bundled_page, "/")
    stage = bundled_page.locator("#stage")
    expect(stage).to_have_attribute("data-whole", "true")
    painted = bundled_page.evaluate(
        """() => {
            const find = (root) => {
                for (const node of root.querySelectorAll('*')) {
                    if (node.id === 'stage') return node
                    const below = node.shadowRoot && find(node.shadowRoot)
                    if (below) return below
                }
            }
            const stage = find(document), seen = []
            for (const [target, eps] of [[3, 5], [9, 30], [0, 40], [5, 1]]) {
                for (const [name, to] of [['target', target], ['eps', eps]]) {
                    stage.querySelector('#' + name).value = to
                    stage.querySelector('#' + name).dispatchEvent(new Event('input'))
                    seen.push(stage.dataset.painted)
                }
            }
            return seen
        }"""
    )
    assert len(set(painted)) == len(painted) == 8
    assert all(one.endswith("|true") for one in painted)


def test_the_stage_is_in_the_first_screen(bundled_page: Page) -> None:
    """At 1280 × 800 both adversarial images, and both verdicts, are seen without scrolling."""
    bundled_page.set_viewport_size({"width": 1280, "height": 800})
    opened(bundled_page, "/playground")
    for selector in ("#side0 canvas.attacked", "#side1 canvas.attacked", "#side0 .verdict", "#side1 .verdict"):
        box = bundled_page.locator(selector).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800, selector


def test_a_drawing_is_attacked_and_stays_in_the_address(bundled_page: Page) -> None:
    """A stroke by mouse becomes an image that is attacked; a reload of the address shows the same."""
    bundled_page.goto("/playground?playground_source=draw")
    field = bundled_page.locator("canvas#field")
    expect(field).to_be_visible()
    box = field.bounding_box()
    assert box is not None
    points = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]
    bundled_page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    bundled_page.mouse.down()
    for x, y in points[1:]:
        bundled_page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
    bundled_page.mouse.up()
    expect(bundled_page.locator("#stage")).to_have_attribute("data-painted", PAINTED)
    expect(bundled_page).to_have_url(re.compile("playground_drawing="))
    first = bundled_page.locator("canvas.original").evaluate("canvas => canvas.toDataURL()")
    opened(bundled_page, bundled_page.url)
    assert bundled_page.locator("canvas.original").evaluate("canvas => canvas.toDataURL()") == first


@pytest.mark.slow
def test_steps_play(bundled_page: Page) -> None:
    """The player of gradient steps goes on by a step, and plays, without asking the server."""
    bundled_page.goto("/playground?playground_tab=Gradient+steps+on+the+input")
    steps = bundled_page.locator(".steps")
    expect(steps).to_have_attribute("data-step", re.compile(r"\d+"))
    bundled_page.locator("input#step").focus()
    bundled_page.keyboard.press("Home")
    expect(steps).to_have_attribute("data-step", "0")
    bundled_page.get_by_role("button", name="One step on").click()
    expect(steps).to_have_attribute("data-step", "1")
    bundled_page.get_by_role("button", name=re.compile("Play")).click()
    expect(steps).to_have_attribute("data-step", "60")


@pytest.mark.slow
def test_arrow_keys_in_projector_mode(bundled_page: Page) -> None:
    """Left and right move ε, up and down the target; there is no sidebar."""
    opened(bundled_page, "/playground?projector=1")
    expect(bundled_page.get_by_test_id("stSidebar")).not_to_be_visible()
    before = bundled_page.locator("#eps-text").inner_text()
    bundled_page.keyboard.press("ArrowRight")
    expect(bundled_page.locator("#eps-text")).not_to_have_text(before)
    bundled_page.keyboard.press("ArrowUp")
    expect(bundled_page.locator("#target-text")).to_have_text("0")
