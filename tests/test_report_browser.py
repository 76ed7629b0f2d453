"""The report in a real browser: no error, search and slider and sorting do what they say, names stay text.

Chromium is the system's, or playwright's own; skipped where there is neither.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from reported import HOSTILE, judgement, rows, written

from inception_cli.names import harmless

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("no Chromium: install the system's package chromium, or run `playwright install chromium`")
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's sandbox refuses to run as root
        opened = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 36 photos with hostile names and an answer each, and of two failures."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_bytes(written(rows(), judgement(rows())).page)
    return file


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The report, opened; at the end nothing was fetched, and the console has nothing to say."""
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1200, "height": 800})
    page, said, fetched = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert said == []
    assert [url for url in fetched if not url.startswith("data:")] == [file.as_uri()]


def shown(page: Page) -> Locator:
    """The cards of the gallery that are seen."""
    return page.locator("#gallery .card:visible")


def slide(page: Page, to: int) -> None:
    """Move the slider by keyboard: from its start, a step a key."""
    page.locator("#least").focus()
    page.keyboard.press("Home")
    for _ in range(to):
        page.keyboard.press("ArrowRight")


def column(page: Page, place: int) -> list[str]:
    return page.locator(f"#per-class tbody td:nth-child({place})").all_text_contents()


def test_names_stay_text(page: Page) -> None:
    assert "owned" not in page.title()
    assert page.locator("main script, main b, main i:not([class]), [onerror], [onclick], [onmouseover]").count() == 1
    titles = shown(page).evaluate_all("cards => cards.map(card => card.title)")
    assert {harmless(f"in/{name}") for name in HOSTILE} <= set(titles)
    card = page.locator(f'#gallery .card[title*="{HOSTILE[0][:8]}"]')
    assert card.locator(".file").text_content() == HOSTILE[0]
    assert page.locator("#classes .name").all_text_contents()[1] == "<b onclick=alert(1)>pear</b>"


def test_a_policy_keeps_scripts_out_that_came_in_all_the_same(browser: Browser, file: Path) -> None:
    """The second wall: even where escaping failed, nothing would run."""
    hole = '<img src="x" onerror="document.title=\'owned\'"><script>document.title="owned"</script></main>'
    broken = file.with_name("broken.html")
    broken.write_text(file.read_text().replace("</main>", hole))
    page = browser.new_page()
    page.goto(broken.as_uri())
    page.wait_for_timeout(100)

    assert "right on 36 photos" in page.title()
    page.close()


def test_search_finds_every_word_in_path_or_class(page: Page) -> None:
    assert page.locator("#gallery output").text_content() == "36 photos"

    page.fill("#search", "PHOTO-1  apple")

    titles = shown(page).evaluate_all("cards => cards.map(card => card.title)")
    assert titles
    assert all(title.startswith("in/photo-1") for title in titles)
    assert page.locator("#gallery output").text_content() == f"{len(titles)} of 36 photos"
    page.fill("#search", "no such photo")
    assert shown(page).count() == 0
    assert page.locator("#gallery .empty").is_visible()
    assert page.locator("#gallery .group:visible").count() == 0
    page.fill("#search", "")
    assert shown(page).count() == 36


def test_the_slider_leaves_photos_that_are_as_sure(page: Page) -> None:
    slide(page, 73)

    assert page.locator("#least-value").text_content() == "73 %"
    scores = [float(score.removesuffix(" %")) for score in shown(page).locator(".score").all_text_contents()]
    assert min(scores) >= 73
    assert len(scores) == sum(row.scores[0] >= 0.73 for row in rows() if row.scores) == 15


def test_mistakes_alone(page: Page) -> None:
    page.check("#only-mistakes")

    assert shown(page).count() == page.locator("#mistakes-heading + p + .cards .card").count() == 9
    assert "labelled" in shown(page).first.inner_text()


def test_a_class_that_the_filter_hides_is_shown_by_its_link(page: Page) -> None:
    page.fill("#search", "no such photo")

    page.locator("#classes a").first.click()

    expect(page.locator("#class-0")).to_be_visible()
    assert page.input_value("#search") == ""


def test_the_table_sorts_by_numbers_and_by_names(page: Page) -> None:
    heading = page.locator("#per-class th")
    before = column(page, 6)
    assert before == ["100.0", "60.0", "75.0"]

    heading.nth(5).locator("button").click()
    assert [float(each) for each in column(page, 6)] == sorted(map(float, before), reverse=True)
    assert heading.nth(5).get_attribute("aria-sort") == "descending"

    heading.nth(5).locator("button").press("Enter")
    assert [float(each) for each in column(page, 6)] == sorted(map(float, before))
    assert heading.nth(5).get_attribute("aria-sort") == "ascending"

    heading.nth(0).locator("button").click()
    assert column(page, 1)[1] == "apple"  # after <b, before plum
    assert [each.get_attribute("aria-sort") for each in heading.all()].count("none") == 6


def test_a_photo_opens_by_keyboard_and_closes_again(page: Page) -> None:
    first = shown(page).first
    first.focus()
    page.keyboard.press("Enter")

    viewer = page.locator("#viewer")
    assert viewer.is_visible()
    assert viewer.locator(".path").text_content() == first.get_attribute("title")
    assert viewer.locator("li").count() == 3
    page.keyboard.press("ArrowRight")
    assert viewer.locator(".path").text_content() == shown(page).nth(1).get_attribute("title")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    expect(shown(page).nth(1)).to_be_focused()


def test_pictures_are_decoded(page: Page) -> None:
    widths = page.locator(".card img").evaluate_all(
        "async all => { for (const each of all) await each.decode(); return all.map(each => each.naturalWidth) }"
    )

    assert len(widths) >= 36
    assert set(widths) == {64}


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_screen(width: int, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": 700})

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light(page: Page) -> None:
    def luminance() -> int:
        return int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))

    light = luminance()
    page.emulate_media(color_scheme="dark")

    assert luminance() < 60 < 200 < light


def test_print_has_every_photo_and_no_controls(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")

    assert not page.locator(".controls").is_visible()
    assert not page.locator("nav.contents").is_visible()
    assert shown(page).count() == 36
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts_all_is_there(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())

    assert not page.locator(".controls").is_visible()
    assert page.locator("#gallery .card").count() == 36
    context.close()
