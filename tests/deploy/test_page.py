"""The service's page, by real clicks and keys in a browser."""

import json
import shutil
from typing import Any, Iterator, List

import pytest

from tests.deploy.util import listening
from tests.util import TEXTS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium, fonts-noto-cjk)"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening() as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    context = browser.new_context(**getattr(request, "param", {}))
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    made = context.new_page()
    asked: List[str] = []
    errors: List[str] = []
    made.on("request", lambda sent: asked.append(sent.url))
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.goto(url)
    yield made
    assert errors == []
    # Nothing comes from outside.
    assert all(sent.startswith((url, "data:")) for sent in asked)
    context.close()


def marked(page: Any) -> Any:
    return page.eval_on_selector_all("mark", "found => found.map(mark => mark.firstChild.textContent)")


def test_entities_are_marked_and_copied(page: Any) -> None:
    text = f"😀<b>&amp;</b>{TEXTS[0][0]}\n{TEXTS[4][0]}"
    page.fill("#text", text)
    page.click("#find")
    page.wait_for_selector("mark")
    assert set(marked(page)) >= {"王小明", "北京大学", "张伟", "广州"}
    # What is HTML in a text is text.
    assert page.locator("#marked b").count() == 0 and "<b>&amp;</b>" in page.inner_text("#marked")
    page.click("#copy")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Copied')")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert [ent["text"] for ent in copied] == marked(page)
    raw = text.encode("utf-16-le")
    assert all(raw[2 * e["start"] : 2 * e["end"]].decode("utf-16-le") == e["text"] for e in copied)
    assert page.locator("tbody tr").count() == len(copied)
    assert all(0 < ent["score"] <= 1 for ent in copied)


def test_the_keyboard_is_enough(page: Any) -> None:
    page.keyboard.type(TEXTS[0][0])
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("mark")
    order = []
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert order == ["find", "scores", "copy", "API"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('mark small').textContent.includes('0.')")


@pytest.mark.parametrize(
    "page",
    [
        {"viewport": {"width": 360, "height": 640}},
        {"viewport": {"width": 360, "height": 640}, "color_scheme": "dark"},
    ],
    indirect=True,
    ids=["light", "dark"],
)
def test_it_fits_a_phone_in_light_and_dark(page: Any) -> None:
    page.fill("#text", TEXTS[0][0] * 5 + "x" * 200)
    page.click("#find")
    page.wait_for_selector("mark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in ("body", "mark", "mark small", "#status"):
        assert contrast(page, selector) >= 4.5, selector


def contrast(page: Any, selector: str) -> float:
    """The contrast of a text with what is behind it (WCAG 2.2)."""
    return page.evaluate(
        """selector => {
            const draw = colour => {
                const canvas = document.createElement("canvas").getContext("2d");
                canvas.fillStyle = colour;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
            };
            const light = ([r, g, b]) => [r, g, b]
                .map(x => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4))
                .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
            let behind = document.querySelector(selector);
            const ink = light(draw(getComputedStyle(behind).color));
            while (draw(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
            const ground = light(draw(getComputedStyle(behind).backgroundColor));
            return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
        }""",
        selector,
    )


def test_what_is_refused_is_shown(page: Any) -> None:
    page.fill("#text", "北" * 20_001)
    page.click("#find")
    page.wait_for_selector("#status.wrong")
    assert "at most 20000 characters" in page.inner_text("#status")
    page.fill("#text", TEXTS[0][0])
    page.click("#find")
    page.wait_for_selector("mark")
    assert page.locator("#status.wrong").count() == 0
