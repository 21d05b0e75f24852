"""The page in a real browser: Chromium, driven by Playwright, from the disk.

`.ci/run` installs both. Elsewhere the tests are skipped where one of them is missing; with CI=1 that is a failure.
"""

import json
import os
import shutil
import time
from pathlib import Path

from tests.page.conftest import ODD, lines_of, write_lines

import pytest

pytestmark = pytest.mark.heavy


def missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, which the tests of the report page need (make .venv/.browser-ready)")
    pytest.skip(f"{what} is not installed (make .venv/.browser-ready)")


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing("Chromium")
    with sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])  # CI runs as root
        yield made
        made.close()


@pytest.fixture
def opened(browser):
    """Open a page from the disk; at the end of the test it has said nothing in the console and fetched nothing."""
    said: list[str] = []
    contexts = []

    def open_page(path: Path, width: int = 1280, height: int = 900, **how):
        context = browser.new_context(viewport={"width": width, "height": height}, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=true]", state="attached", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def shown(page) -> str:
    return page.locator("#count").inner_text()


def test_figures_verdicts_and_charts_are_there(make_page, runs, opened):
    page = opened(make_page(runs).path)
    assert page.title() == "Qwen-demo-Chat, Qwen-demo: gsm8k, mmlu, ppl"
    text = page.locator("#figures").inner_text()
    value = json.loads((runs / "mmlu/results.json").read_text())["scores"]["acc"]["value"]
    assert f"{value:.2f}" in text
    assert page.locator("#benchmarks figure svg").count() >= 3, "groups, subjects, perplexity against length"
    label = page.locator("#benchmarks figure svg").first.get_attribute("aria-label")
    assert label and "the figures are in the table" in label


def test_filter_search_and_open_an_item(make_page, runs, opened):
    page = opened(make_page(runs).path)
    lines = [line for name in ("mmlu", "mmlu-chat", "gsm8k", "ppl") for line in lines_of(runs / name)]
    assert shown(page).startswith(f"{len(lines)} of {len(lines)} items")
    page.locator("select[name=mark]").select_option("wrong")
    wrong = sum(not line["correct"] for line in lines)
    assert shown(page).startswith(f"{wrong} of {len(lines)} items (0.0 % right)")
    page.locator("select[name=mark]").select_option("")
    page.locator("select[name=benchmark]").select_option("gsm8k")
    page.locator("#search").fill("half a pair")
    page.locator("#count", has_text="1 of").wait_for()
    page.locator("#rows .row").first.click()
    detail = page.locator("#detail")
    assert "U+D800" in detail.inner_text(), "half of a surrogate pair is shown by its number"
    page.get_by_role("button", name="Show all 100,020 characters").click()
    assert detail.locator("pre").first.inner_text().endswith("xxx")


def test_a_reply_that_is_a_script_is_shown_as_text(make_page, runs, opened):
    page = opened(make_page(runs / "gsm8k").path)
    title = page.title()
    page.locator("#search").fill("onerror")
    page.locator("#count", has_text="1 of").wait_for()
    page.locator("#rows .row").first.click()
    reply = page.locator("#detail pre").first.inner_text()
    assert reply.startswith("</script><script>document.title='ran'</script><img src=x") and "U+202E" in reply
    assert page.locator("#detail img, #detail script").count() == 0
    page.wait_for_timeout(200)
    assert page.title() == title and ODD.startswith("</script>")


def test_by_keyboard_alone(make_page, runs, opened):
    page = opened(make_page(runs / "mmlu").path)
    first = page.locator("#rows .row").first.locator(".name").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("no such words anywhere")
    page.locator("#count", has_text="0 of").wait_for()
    page.locator("#search").fill("")
    page.locator("#count", has_text="of").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.locator("#detail-title").inner_text() == first.strip()
    page.keyboard.press("j")
    second = page.locator("#detail-title").inner_text()
    assert second != first
    page.keyboard.press("k")
    assert page.locator("#detail-title").inner_text() == first.strip()
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_hidden()
    assert page.locator("#list").get_attribute("aria-activedescendant") == "row-0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_switch(make_page, runs, opened, scheme):
    page = opened(make_page(runs / "mmlu").path, color_scheme=scheme)

    def background() -> int:
        """From 0, black, to 765, white."""
        colour = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    assert (background() < 200) == (scheme == "dark")
    page.get_by_role("button", name="Theme: auto").click()
    assert background() > 600
    page.get_by_role("button", name="Theme: light").click()
    assert background() < 200


def test_on_a_phone_nothing_is_wider_than_the_screen_and_an_item_covers_it(make_page, runs, opened):
    page = opened(make_page(runs).path, width=390, height=844, has_touch=True)
    assert page.locator("html").evaluate("element => element.scrollWidth") <= 390
    page.locator("#rows .row").first.click()
    box = page.locator("#detail").bounding_box()
    assert box is not None and (box["width"], box["height"]) == (390, 844)
    assert page.locator("#detail pre").first.bounding_box()["width"] <= 390
    page.get_by_role("button", name="Close").click()
    assert page.locator("#detail").is_hidden()


def test_on_paper_the_figures_are_there_and_the_controls_are_not(make_page, runs, opened, tmp_path):
    page = opened(make_page(runs).path)
    page.emulate_media(media="print")
    assert page.locator("#filters").is_hidden() and page.locator("#list").is_hidden()
    assert page.locator("#figures table").is_visible()
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


def test_twenty_thousand_items_are_filtered_in_under_two_seconds(make_page, runs, opened):
    lines = lines_of(runs / "gsm8k")
    many = [
        {
            **lines[number % len(lines)],
            "id": f"test/{number}",
            "subject": f"s{number % 40}",
            "response": f"reply {number}",
        }
        for number in range(20_000)
    ]
    write_lines(runs / "gsm8k", many)
    page = opened(make_page(runs / "gsm8k").path)
    assert shown(page).startswith("20,000 of 20,000 items")

    def seconds(action, text: str) -> float:
        started = time.perf_counter()
        action()
        page.locator("#count", has_text=text).wait_for()
        return time.perf_counter() - started

    wrong = sum(not line["correct"] for line in many)
    assert seconds(lambda: page.locator("select[name=mark]").select_option("wrong"), f"{wrong:,} of") < 2
    assert seconds(lambda: page.locator("select[name=mark]").select_option(""), "20,000 of") < 2
    assert seconds(lambda: page.locator("#search").fill("reply 19999"), "1 of") < 2
    assert seconds(lambda: page.locator("#search").fill(""), "20,000 of") < 2
    assert page.locator("#rows .row").count() < 100, "only what can be seen is in the page"
    page.locator("#list").focus()
    page.keyboard.press("End")
    page.locator("#rows .row", has_text="test/19999").wait_for()
