"""The report in a real browser: no errors; search, slider and sorting work; names are escaped.

Uses the system's Chromium, else playwright's; the tests are skipped without a Chromium.
"""

import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from reported import HOSTILE, evaluation, page_of, rows
from trained import training

from inception_cli.predictions.decision import Decision
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.text import harmless
from inception_cli.report.heat_maps import HeatMap, HeatMaps
from inception_cli.report.training import write_training_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("no Chromium: install the system's package chromium, or run `playwright install chromium`")
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's sandbox does not run as root
        opened = playwright.chromium.launch(executable_path=found, args=["--in-process-gpu", *sandbox])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of 36 labelled photos with hostile names, and of two files without a prediction."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_bytes(
        page_of(rows(), evaluation(rows()), link=lambda path: quote(f"linked/{path}", errors="replace")).page
    )
    return file


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[tuple[Page, list[str], list[str]]]:
    """Open a tab for all tests, since another takes as long as a test; yield its messages and URLs fetched as well."""
    context = browser.new_context(reduced_motion="reduce")
    page, messages, fetched = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    yield page, messages, fetched
    context.close()


@contextmanager
def loaded(tab: tuple[Page, list[str], list[str]], file: Path) -> Iterator[Page]:
    """Load a report anew; at the end assert that nothing was fetched and that the console is empty."""
    page, messages, fetched = tab
    page.goto("about:blank")
    page.set_viewport_size({"width": 1200, "height": 800})
    page.emulate_media(media="screen", color_scheme="light")
    messages.clear()
    fetched.clear()
    page.goto(file.as_uri())
    yield page
    page.goto("about:blank")  # messages and requests up to here have arrived
    assert messages == []
    assert [url for url in fetched if not url.startswith("data:")] == [file.as_uri()]


@pytest.fixture
def page(tab: tuple[Page, list[str], list[str]], file: Path) -> Iterator[Page]:
    """The report."""
    with loaded(tab, file) as page:
        yield page


def shown(page: Page) -> Locator:
    """Return the visible cards of the gallery."""
    return page.locator("#gallery .card:visible")


def slide(page: Page, to: int) -> None:
    """Move the slider, the last three steps by keyboard: one step for each key press."""
    page.locator("#min-confidence").fill(str(to - 3))
    page.locator("#min-confidence").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")


def column(page: Page, place: int) -> list[str]:
    return page.locator(f"#per-class tbody td:nth-child({place})").all_text_contents()


def test_the_report_of_a_training_fits_a_phone_and_loads_nothing(browser: Browser, tmp_path: Path) -> None:
    write_training_report(tmp_path / "training.html", training(), lambda path: b"")
    page, messages, fetched = browser.new_page(viewport={"width": 390, "height": 800}), list[str](), list[str]()
    page.on("console", lambda message: messages.append(message.text))
    page.on("request", lambda request: fetched.append(request.url))

    page.goto((tmp_path / "training.html").as_uri())

    assert "owned" not in page.title()
    assert page.locator("main script, main b, [onerror], [onclick], [onmouseover]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#mistakes .card").count() == 3
    assert page.locator("path.line.val").first.evaluate("line => getComputedStyle(line).fill") == "none"
    assert (messages, [url for url in fetched if not url.startswith("data:")]) == ([], [page.url])
    page.close()


def test_names_of_files_and_classes_are_escaped(page: Page) -> None:
    assert "owned" not in page.title()
    assert page.locator("main script, main b, main i:not([class]), [onerror], [onclick], [onmouseover]").count() == 1
    titles = shown(page).evaluate_all("cards => cards.map(card => card.title)")
    assert {harmless(f"in/{name}") for name in HOSTILE} <= set(titles)
    card = page.locator(f'#gallery .card[title*="{HOSTILE[0][:8]}"]')
    assert card.locator(".file").text_content() == HOSTILE[0]
    assert page.locator("#classes .name").all_text_contents()[1] == "<b onclick=alert(1)>pear</b>"


def test_the_security_policy_blocks_scripts_that_were_not_escaped(browser: Browser, file: Path) -> None:
    """Assert that nothing would run even if escaping failed."""
    hole = '<img src="x" onerror="document.title=\'owned\'"><script>document.title="owned"</script></main>'
    broken = file.with_name("broken.html")
    broken.write_text(file.read_text().replace("</main>", hole))
    page = browser.new_page()
    page.goto(broken.as_uri())
    page.wait_for_timeout(100)

    assert "accuracy on 36 photos" in page.title()
    page.close()


def test_search_needs_every_word_in_path_or_class(page: Page) -> None:
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


def test_the_slider_hides_photos_below_its_confidence(page: Page) -> None:
    slide(page, 73)

    assert page.locator("#min-confidence-value").text_content() == "73 %"
    scores = [float(score.removesuffix(" %")) for score in shown(page).locator(".score").all_text_contents()]
    assert min(scores) >= 73
    assert len(scores) == sum(row.scores[0] >= 0.73 for row in rows() if row.scores) == 15


def test_the_check_box_hides_correct_predictions(page: Page) -> None:
    page.check("#only-mistakes")

    assert shown(page).count() == page.locator("#mistakes-heading + p + .cards .card").count() == 9
    expect(shown(page).first).to_contain_text("labelled")  # inner_text is empty for groups that are not drawn yet


def test_a_link_to_a_hidden_class_resets_the_filter(page: Page) -> None:
    page.fill("#search", "no such photo")

    page.locator("#classes a").first.click()

    expect(page.locator("#class-0")).to_be_visible()
    assert page.input_value("#search") == ""


def test_the_table_sorts_by_number_and_by_name(page: Page) -> None:
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


def test_a_photo_opens_and_closes_by_keyboard(page: Page) -> None:
    first = shown(page).first
    first.focus()
    page.keyboard.press("Enter")

    viewer = page.locator("#viewer")
    assert viewer.is_visible()
    assert viewer.locator(".path").text_content() == first.get_attribute("title")
    assert viewer.locator("li").count() == 3
    assert (viewer.locator(".eyebrow").text_content() or "").startswith("1 of 36")
    page.keyboard.press("ArrowRight")
    assert (viewer.locator(".eyebrow").text_content() or "").startswith("2 of 36")
    assert viewer.locator(".path").text_content() == shown(page).nth(1).get_attribute("title")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    expect(shown(page).nth(1)).to_be_focused()


def test_a_click_closes_the_viewer_only_beside_it(page: Page) -> None:
    shown(page).first.click()
    box = page.locator("#viewer").bounding_box()
    assert box

    page.mouse.click(box["x"] + 5, box["y"] + 5)  # its padding
    assert page.locator("#viewer").is_visible()

    page.mouse.click(box["x"] - 5, box["y"] + 5)
    assert not page.locator("#viewer").is_visible()


def test_the_viewer_links_to_the_file(page: Page) -> None:
    shown(page).first.click()

    link = page.locator("#viewer .open a")
    title = shown(page).first.get_attribute("title") or ""
    assert unquote(link.get_attribute("href") or "") == f"linked/{title}"
    assert link.get_attribute("rel") == "noopener"
    page.keyboard.press("Escape")
    page.locator("#least-confident .card").last.click()
    assert (page.locator("#viewer .eyebrow").text_content() or "").startswith("36 of 36")


def test_the_labels_of_an_axis_are_within_the_page(page: Page) -> None:
    for width in (320, 1200):
        page.set_viewport_size({"width": width, "height": 700})

        lefts = page.locator(".plot text").evaluate_all("all => all.map(each => each.getBoundingClientRect().left)")

        assert min(lefts) >= 0, width


def test_pictures_are_decoded(page: Page) -> None:
    widths = page.locator(".card img").evaluate_all(
        "async all => { for (const each of all) await each.decode(); return all.map(each => each.naturalWidth) }"
    )

    assert len(widths) >= 36
    assert set(widths) == {64}


def test_the_page_is_never_wider_than_the_screen(page: Page) -> None:
    for width in (320, 390, 1200):
        page.set_viewport_size({"width": width, "height": 700})

        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_follows_the_dark_colour_scheme(page: Page) -> None:
    def luminance() -> int:
        return int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))

    light = luminance()
    page.emulate_media(color_scheme="dark")

    assert luminance() < 60 < 200 < light


def test_printing_shows_every_photo_and_no_controls(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")

    assert not page.locator(".controls").is_visible()
    assert not page.locator("nav.contents").is_visible()
    assert shown(page).count() == 36
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_all_photos_are_shown_without_scripts(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())

    assert not page.locator(".controls").is_visible()
    assert page.locator("#gallery .card").count() == 36
    context.close()


# ── Decisions, and more classes than are visible at once ─────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def decided_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of 42 photos, each of another class, with labels whose scores are above the top-1 scores."""
    file = tmp_path_factory.mktemp("decided") / "report.html"
    names = [unicodedata.normalize("NFD", "käse"), *map(str, range(41))]
    some = [
        Prediction(
            f"{name}.jpg", "ok", (index,), (f"class {index}",), (0.38,), decision=Decision("dog", 0.88, "rollup")
        )
        for index, name in enumerate(names)
    ]
    file.write_bytes(page_of(some, thumbnail=lambda path: b"").page)
    return file


@pytest.fixture
def decided(tab: tuple[Page, list[str], list[str]], decided_file: Path) -> Iterator[Page]:
    with loaded(tab, decided_file) as page:
        yield page


def test_the_slider_is_for_the_score_that_a_card_shows(decided: Page) -> None:
    slide(decided, 88)
    assert shown(decided).count() == 42

    slide(decided, 89)
    assert shown(decided).count() == 0


def test_search_finds_names_in_either_unicode_form(decided: Page) -> None:
    for form in ("NFC", "NFD"):
        decided.fill("#search", unicodedata.normalize(form, "KÄSE"))

        assert shown(decided).count() == 1, form


def test_printing_shows_the_classes_that_are_folded(decided: Page) -> None:
    names = decided.locator("#classes .name:visible")
    assert names.count() == 40

    decided.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert names.count() == 42

    decided.evaluate("dispatchEvent(new Event('afterprint'))")
    assert names.count() == 40


# ── Heat maps ────────────────────────────────────────────────────────────────────────────────────────────────────────

#: The map of every photo but the first: 4 × 4 cells, of which that in the second row and fourth column is the highest.
CELLS = HeatMap(bytes([64] * 7 + [255] + [64] * 7 + [0]), -0.5, 3.25, (0.125, 0.0, 0.875, 1.0))


@pytest.fixture(scope="module")
def mapped_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the same photos with heat maps."""
    file = tmp_path_factory.mktemp("mapped") / "report.html"

    def explain(predictions: Sequence[Prediction]) -> HeatMaps:
        return HeatMaps([None if "onerror" in row.path else CELLS for row in predictions], (0.1, 0.9))

    file.write_bytes(page_of(rows(), evaluation(rows()), explain=explain).page)
    return file


@pytest.fixture
def mapped(tab: tuple[Page, list[str], list[str]], mapped_file: Path) -> Iterator[Page]:
    """The report with heat maps."""
    with loaded(tab, mapped_file) as page:
        page.locator("#mistakes canvas").first.wait_for()
        yield page


def pixel(canvas: Locator, x: float, y: float) -> list[int]:
    """Return the colour and the opacity of a canvas at a place, given as shares of its sides."""
    read = """(canvas, [x, y]) => [...canvas.getContext("2d").getImageData(
        Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data]"""
    found: list[int] = canvas.evaluate(read, [x, y])
    return found


def test_a_map_is_drawn_in_the_lists_over_the_part_of_the_photo_that_the_network_sees(mapped: Page) -> None:
    canvas = mapped.locator("#mistakes canvas").first
    cell = 0.8 / 4  # of the visible part, which is three quarters of the width and the whole height

    # Photos of 64 × 48 pixels: in the page as large as other thumbnails, so the map has the pixels to be drawn with.
    assert canvas.evaluate("canvas => [canvas.width, canvas.height]") == [176, 132]
    highest = pixel(canvas, 0.125 + 0.75 * (0.1 + 3.5 * cell), 0.1 + 1.5 * cell)
    lowest = pixel(canvas, 0.125 + 0.75 * (0.1 + 3.5 * cell), 0.1 + 3.5 * cell)
    beside = pixel(canvas, 0.125 + 0.75 * (0.1 + 0.5 * cell), 0.5)

    assert highest[0] > 240 > 100 > highest[2]  # yellow
    assert highest[3] == lowest[3] == beside[3] == 153
    assert lowest[0] < 90 > lowest[2] > lowest[1]  # purple
    assert beside[:3] == pytest.approx([59, 82, 139], abs=4)  # a quarter of the way up
    for x in (0.05, 0.95):
        assert pixel(canvas, x, 0.5)[:3] == [0, 0, 0]

    cards = mapped.locator("#mistakes .card, #confusions .card, #least-confident .card")

    titles = cards.evaluate_all("all => all.map(card => card.title)")
    assert mapped.locator("canvas").count() == sum("onerror" not in title for title in titles) > 36
    assert mapped.locator("#gallery canvas").count() == 0
    first, image = mapped.locator("#mistakes canvas").first, mapped.locator("#mistakes .picture img").first
    assert first.bounding_box() == image.bounding_box()
    assert "grayscale" in image.evaluate("image => getComputedStyle(image).filter")


def test_a_switch_hides_all_maps_and_is_not_printed(mapped: Page) -> None:
    maps = mapped.locator("#mistakes canvas:visible, #least-confident canvas:visible")
    assert maps.count() > 9

    mapped.locator("#mistakes .heat-switch").focus()
    mapped.keyboard.press("Space")

    assert maps.count() == 0
    assert not mapped.locator("#least-confident .heat-switch").is_checked()
    assert mapped.locator("#mistakes img").first.evaluate("image => getComputedStyle(image).filter") == "none"
    mapped.locator("#least-confident .heat-switch").check()
    assert maps.count() > 9
    mapped.emulate_media(media="print", color_scheme="dark")

    assert mapped.locator("#mistakes canvas").first.is_visible()
    assert mapped.locator("#mistakes .heat .range").is_visible()
    assert not mapped.locator("#mistakes .heat-switch").is_visible()


def test_a_photo_of_the_gallery_opens_with_its_map_if_it_has_one(mapped: Page) -> None:
    shown(mapped).locator("nth=1").click()

    viewer = mapped.locator("#viewer")
    canvas = viewer.locator("canvas")
    expect(canvas).to_be_visible()
    assert canvas.get_attribute("aria-label") == "heat map of apple: highest at the middle right of the photo"
    assert canvas.bounding_box() == viewer.locator("img").bounding_box()
    assert viewer.locator(".heat label").inner_text() == "Heat map of apple"
    assert viewer.locator(".heat .low").inner_text() == "-0.5"
    assert viewer.locator(".heat .high").inner_text() == "+3.25"
    viewer.locator(".heat-switch").uncheck()
    expect(canvas).to_be_hidden()
    viewer.locator(".heat-switch").check()
    mapped.keyboard.press("Escape")

    mapped.locator('#gallery .card[title*="onerror"]').first.click()
    assert not viewer.locator(".heat").is_visible()
    expect(canvas).to_have_count(0)
    mapped.keyboard.press("ArrowRight")
    expect(canvas).to_be_visible()
    mapped.keyboard.press("ArrowLeft")
    expect(canvas).to_have_count(0)


def test_a_page_with_maps_fits_a_phone(mapped: Page) -> None:
    mapped.set_viewport_size({"width": 320, "height": 700})
    shown(mapped).locator("nth=1").click()

    assert mapped.evaluate("document.documentElement.scrollWidth") <= 320
    expect(mapped.locator("#viewer canvas")).to_be_visible()
    box = mapped.locator("#viewer .heat").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 320
