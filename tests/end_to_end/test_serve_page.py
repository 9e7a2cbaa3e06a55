"""The page in a real browser: every way in, what a visitor sees, keyboard, phone, light and dark, accessibility.

Needs Chromium: the system's, the one of ``playwright install chromium``, or CHROMIUM=/path. Without one these tests
are skipped and say so.
Screenshots go to the folder SCREENSHOTS names, and otherwise nowhere.
"""

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.end_to_end.inference_support import Server, digit_images, digits_model, encode, serving, write_images
from tests.patience import PATIENCE

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = CHROMIUM or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("needs Chromium: install the system's, or run `playwright install chromium`, or set CHROMIUM")
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(browser: Browser) -> Iterator[Server]:
    with serving(digits_model(), '{"max_body_megabytes": 2}') as running:
        yield running


class Visit:
    """A visitor's page, what its console complained about, and which hosts it asked."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note_address(request.url, url))
        # File choosers are caught from the start: were the first one asked for only just before the key that opens it,
        # the key could overtake the request on its way to the page.
        self.page.on("filechooser", lambda chooser: None)
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        # The browser itself notes an answer that is no success; a picture that cannot be read has one.
        if message.type in ("error", "warning") and "status of 422" not in message.text:
            self.complaints.append(message.text)

    def _note_address(self, address: str, url: str) -> None:
        if not address.startswith((url, "blob:")):
            self.elsewhere.append(address)


def keep(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / name, full_page=True, animations="disabled")


@pytest.fixture
def visit(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    context = browser.new_context(**getattr(request, "param", {"viewport": {"width": 1200, "height": 860}}))
    context.set_default_timeout(PATIENCE * 1000)
    opened = Visit(context, server.url)
    yield opened
    assert opened.complaints == []
    assert opened.elsewhere == []
    context.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("pictures"), 12)


def found(page: Page) -> Any:
    return page.locator("#results .found:visible")


def test_choosing_several_pictures_shows_class_confidence_and_bars(visit: Visit, pictures: list[Path]) -> None:
    page = visit.page
    keep(page, "page-start.png")
    page.set_input_files("#pick", pictures[:3])
    expect(found(page)).to_have_count(3)
    expect(page.locator("#results .card").first.locator(".bars li")).to_have_count(5)
    labels = page.locator("#results .label").all_inner_texts()
    _, truth = digit_images()
    assert sum(label == str(truth[index]) for index, label in enumerate(labels)) >= 2
    share = page.locator("#results .confidence strong").first.inner_text()
    assert share.endswith("%")
    expect(page.locator("#announcement")).to_contain_text("%")
    page.set_input_files("#pick", pictures[3])
    expect(page.locator("#tiles .tile")).to_have_count(3)
    page.locator("#tiles .tile").nth(2).click()
    expect(page.locator("#results .file")).to_have_text(pictures[0].name)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#history")).to_be_hidden()


def test_dropping(visit: Visit) -> None:
    page = visit.page
    files = page.evaluate_handle(
        """(encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            return transfer;
        }""",
        base64.b64encode(encode(digit_images()[0][7])).decode(),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": files})
    expect(page.locator("#veil")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": files})
    expect(page.locator("#veil")).to_be_hidden()
    expect(found(page)).to_have_count(1)
    expect(page.locator("#results .file")).to_have_text("dropped.png")


def test_pasting(visit: Visit) -> None:
    page = visit.page
    page.evaluate(
        """(encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        base64.b64encode(encode(digit_images()[0][8])).decode(),
    )
    expect(found(page)).to_have_count(1)


def test_a_bad_file_gets_a_friendly_message(visit: Visit, pictures: list[Path], tmp_path: Path) -> None:
    page = visit.page
    script = tmp_path / "drawing.svg"
    script.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>document.title = "taken over"</script></svg>')
    large = tmp_path / "large.png"
    large.write_bytes(bytes(3_000_000))
    page.set_input_files("#pick", [script, large, pictures[0]])
    expect(found(page)).to_have_count(1)
    problems = page.locator("#results .problem:visible")
    expect(problems).to_have_count(2)
    assert "not an image" in problems.nth(0).inner_text()
    assert "larger than" in problems.nth(1).inner_text()
    heights = [page.locator("#results .card").nth(number).bounding_box() for number in range(3)]
    assert heights[0] and heights[2]
    assert heights[0]["height"] < heights[2]["height"] / 2  # nothing to see takes little room
    assert "taken over" not in page.title()


def test_an_unclear_picture_is_not_headed_like_a_sure_one(visit: Visit, server: Server, pictures: list[Path]) -> None:
    page = visit.page
    expect(page.locator("body")).to_have_attribute("data-unclear-below", "0.5")
    html = page.content().replace('data-unclear-below="0.5"', 'data-unclear-below="2"')
    page.route(f"{server.url}/", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.reload()
    page.set_input_files("#pick", pictures[5])
    expect(page.locator("#results .label")).to_have_text("Unclear")
    best = page.locator("#results .bar-name").first.inner_text()
    expect(page.locator("#results .confidence")).to_contain_text(f"Most likely “{best}”, ")
    expect(page.locator("#announcement")).to_contain_text(f"unclear, most likely {best}, ")
    keep(page, "page-unclear.png")


def test_a_picture_below_the_models_threshold_is_none_of_these(visit: Visit, pictures: list[Path]) -> None:
    page = visit.page
    # The answer is changed in the page, not on its way: the browser does not show an interceptor the files of a form.
    page.evaluate(
        """() => {
            const ask = window.fetch;
            window.fetch = async (...request) => {
                const answer = await (await ask(...request)).json();
                answer.results[0].accepted = false;
                return Response.json(answer);
            };
        }"""
    )
    page.set_input_files("#pick", pictures[5])
    expect(page.locator("#results .label")).to_have_text("None of these")
    best = page.locator("#results .bar-name").first.inner_text()
    expect(page.locator("#results .confidence")).to_contain_text(f"Most likely “{best}”, ")
    expect(page.locator("#announcement")).to_contain_text(f"none of these, most likely {best}, ")
    keep(page, "page-none-of-these.png")


def test_the_heat_map_lies_on_the_picture(visit: Visit, pictures: list[Path]) -> None:
    page = visit.page
    page.set_input_files("#pick", pictures[5])
    button = page.get_by_role("button", name="Show heat map")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    heat, picture = page.locator(".heat").bounding_box(), page.locator(".picture").bounding_box()
    assert heat is not None
    assert picture is not None
    for side in ("x", "y", "width", "height"):
        assert heat[side] == pytest.approx(picture[side], abs=1)
    keep(page, "page-heat-map.png")
    button.click()
    expect(page.locator(".heat")).to_be_hidden()


def test_by_keyboard_alone(visit: Visit, pictures: list[Path]) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash !== ''")  # the jump is done; a Tab before it would begin elsewhere
    page.keyboard.press("Tab")
    for _ in range(4):
        if page.evaluate("document.activeElement.id") == "pick":
            break
        page.keyboard.press("Tab")
    expect(page.locator("#pick")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(pictures[2])
    expect(found(page)).to_have_count(1)
    page.get_by_role("button", name="Show heat map").focus()
    page.keyboard.press("Space")
    expect(page.locator(".heat")).to_be_visible()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.mark.parametrize("visit", [{**PHONE, "color_scheme": "dark"}], indirect=True)
def test_on_a_phone_in_the_dark(visit: Visit, pictures: list[Path]) -> None:
    page = visit.page
    assert page.locator("#photograph").get_attribute("capture") == "environment"
    expect(page.get_by_text("Take a photo")).to_be_visible()
    page.set_input_files("#photograph", pictures[4])
    expect(found(page)).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in background[4:-1].split(",")) < 64
    for button in page.locator(".button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44  # a finger
    keep(page, "page-phone-dark.png")


@pytest.mark.parametrize(
    "visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {**PHONE, "color_scheme": "light"}], indirect=True
)
def test_axe_finds_no_serious_fault(visit: Visit, pictures: list[Path], tmp_path: Path, server: Server) -> None:
    page = visit.page
    page.emulate_media(reduced_motion="reduce")
    bad = tmp_path / "bad.txt"
    bad.write_text("no picture")
    assert faults(page) == []
    page.set_input_files("#pick", pictures[:2])
    expect(found(page)).to_have_count(2)
    page.set_input_files("#pick", [pictures[2], bad])
    expect(found(page)).to_have_count(1)
    expect(page.locator("#results .problem:visible")).to_have_count(1)
    page.get_by_role("button", name="Show heat map").click()
    expect(page.locator(".heat").first).to_be_visible()
    page.locator(".about summary").click()
    assert faults(page) == []
    keep(page, "page-results.png")
    page.goto(f"{server.url}/docs")
    assert faults(page) == []


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the elements."""
    response = Axe().run(page).response
    assert len(response["passes"]) > 10  # it did look
    violations = response["violations"]
    return [
        f"{violation['id']}: {[node['html'][:120] for node in violation['nodes']]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
