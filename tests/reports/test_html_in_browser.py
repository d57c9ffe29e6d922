"""The HTML report in a browser: it is usable, and untrusted text in it is inert."""

from __future__ import annotations

import itertools
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analyzer.conversations import Conversations, Endpoint
from analyzer.reports import html
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT, TLS_STATION, finding, flow
from tests.reports.test_html import SCRIPT, many, untrusted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install --group dev")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class ObservedPage:
    """A page with its console messages, errors, dialogs and requests."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.messages.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.requests.remove(path.as_uri())


Opener = Callable[..., ObservedPage]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of an audit, or the text of a page; asserts in the end that there were no messages or requests."""
    contexts: list[BrowserContext] = []
    observed: list[ObservedPage] = []

    def open_page(content: Audit | str, quiet: bool = True, **options: object) -> ObservedPage:
        path = tmp_path / f"report-{len(contexts)}.html"
        path.write_text(content if isinstance(content, str) else html.render(content), encoding="utf-8")
        contexts.append(browser.new_context(**{"viewport": WIDE, **options}))
        page = ObservedPage(contexts[-1], path)
        if quiet:
            observed.append(page)
        return page

    yield open_page
    try:
        for page in observed:
            assert (page.messages, page.requests) == ([], [])
    finally:
        for context in contexts:
            context.close()


def shown(page: Page, kind: str = ".finding") -> int:
    return page.locator(f"{kind}:visible").count()


def wait_for_count(page: Page, count: str) -> None:
    """Wait until the page shows this number of findings."""
    playwright.expect(page.locator("#count")).to_contain_text(count)


@pytest.mark.parametrize("result", [BARE, EXAMPLE, HOSTILE_AUDIT, untrusted(SCRIPT), many(30)])
def test_page_causes_no_messages_and_no_requests(opened: Opener, result: Audit) -> None:
    page = opened(result).page
    page.mouse.wheel(0, 3000)
    page.emulate_media(media="print")


def test_policy_blocks_injected_content(opened: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        image = f"<img src='http://127.0.0.1:{server.getsockname()[1]}/' onerror='owned = 1'>"
        injected = f"<script>owned = 1</script><style>body {{ color: red }}</style>{image}"
        page = opened(html.render(EXAMPLE).replace("</main>", f"{injected}</main>"), quiet=False)
        page.page.wait_for_load_state("load")
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.page.evaluate("window.owned") is None
    assert len([message for message in page.messages if "Content Security Policy" in message]) >= 3


@pytest.mark.parametrize("text", [SCRIPT, "<img src=x onerror=alert(1)>", "\u202egpj.exe", "x" * 3000, "e\u0301" * 200])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_untrusted_text_stays_text_within_the_window(opened: Opener, text: str, viewport: dict[str, int]) -> None:
    page = opened(untrusted(text), viewport=viewport).page
    page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    assert page.locator("script").count() == 1 and page.locator("img").count() == 0
    assert html.visible_text(text) in page.locator(".finding h3").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE, {"width": 320, "height": 600}], ids=["wide", "phone", "narrow"])
def test_page_fits_the_window(opened: Opener, viewport: dict[str, int]) -> None:
    for result in (EXAMPLE, many(40), samples.audit_of("tls-in-clear-on-all-ports")):
        page = opened(result, viewport=viewport).page
        page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_findings_unfold_by_keyboard(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the findings"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    first = page.locator(".finding").first
    assert page.evaluate("document.activeElement.parentElement.id") == first.get_attribute("id")
    assert first.get_attribute("open") is None
    page.keyboard.press("Enter")
    assert first.get_attribute("open") is not None
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "copy"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert first.get_attribute("open") is None


def test_focus_is_visible(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")


def test_search_and_filters(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    assert shown(page) == 5
    page.fill("#text", "RSA key TPE302")
    wait_for_count(page, "1 of 5 findings")
    assert shown(page) == 1
    page.fill("#text", "no such word")
    wait_for_count(page, "0 of 5 findings")
    assert page.locator("#nothing").is_visible()
    page.fill("#text", "")
    wait_for_count(page, "5 of 5 findings")
    page.get_by_label("high").uncheck()
    wait_for_count(page, "4 of 5 findings")
    page.get_by_label("Kind").select_option("unexpected")
    wait_for_count(page, "1 of 5 findings")
    page.get_by_role("button", name="Reset").click()
    wait_for_count(page, "5 of 5 findings")
    page.get_by_label("Base station", exact=True).select_option("10.0.0.2")
    wait_for_count(page, "4 of 5 findings, 1 of 2 base stations")
    assert (shown(page), shown(page, ".station")) == (4, 1)


def test_copy_button_copies_the_filter(opened: Opener) -> None:
    page = opened(EXAMPLE, permissions=["clipboard-read", "clipboard-write"]).page
    page.locator(".finding summary").first.click()
    button = page.locator(".finding .copy").first
    button.click()
    playwright.expect(button).to_contain_text("Copied")
    playwright.expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "tcp.stream eq 0 && tls.handshake.type == 11"


def test_filter_is_selected_if_copying_is_denied(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    page.locator(".finding summary").first.click()
    page.locator(".finding .copy").first.click()
    playwright.expect(page.locator("#said")).to_contain_text("Selected")
    assert page.evaluate("String(getSelection())").strip() == "tcp.stream eq 0 && tls.handshake.type == 11"


def test_page_is_readable_without_the_script(opened: Opener) -> None:
    page = opened(EXAMPLE, java_script_enabled=False).page
    assert page.locator("#filters").is_hidden() and page.locator(".copy").first.is_hidden()
    page.locator(".finding summary").first.click()
    assert page.locator(".remedy").first.is_visible()
    assert shown(page) == 5 and page.locator("svg.peers").is_visible()


def test_link_to_a_finding_opens_it(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.evaluate("location.hash = 'finding-2'")
    playwright.expect(page.locator("#finding-2")).to_have_attribute("open", "")


def test_print_shows_everything(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden() and page.locator("#filters").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")


def test_400_base_stations_are_usable(opened: Opener) -> None:
    stations = many(400)
    findings = tuple(
        finding(base_station=verdict.station.address, summary=f"Something of {verdict.station.address}.")
        for verdict in stations.base_stations
    )
    page = opened(replace(stations, findings=findings)).page
    page.fill("#text", "10.1.1.7")
    wait_for_count(page, "11 of 400 findings, 11 of 400 base stations")
    assert page.locator(".station[open]").count() == 0


def test_landmarks_and_headings_are_in_order(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    for role in ("banner", "navigation", "search", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((heading) => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(two - one <= 1 for one, two in itertools.pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["example", "tls-in-clear-on-all-ports", "plain-portscan-of-bs"])
def test_axe_finds_no_violation(opened: Opener, scheme: str, name: str) -> None:
    """Contrast, names and roles by the rules of axe-core for WCAG 2.2, level AA."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    result = EXAMPLE if name == "example" else samples.audit_of(name)
    page = opened(result, color_scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    found = axe.Axe().run(page)
    assert found.response["passes"]
    violations = found.response["violations"]
    assert [(violation["id"], node["html"]) for violation in violations for node in violation["nodes"]] == []


def test_colour_is_never_the_only_distinction(opened: Opener) -> None:
    """Statuses and severities are words, and each kind of line in the diagram has its own pattern."""
    page = opened(EXAMPLE).page
    for element in page.locator(".status, .severity, .count").all():
        assert re.search(r"[a-z]{3}", element.text_content() or "")
    patterns = page.evaluate(
        "[...document.querySelectorAll('.legend .edge')].map((edge) => getComputedStyle(edge).strokeDasharray)"
    )
    assert len(set(patterns)) == len(patterns) == 5


def test_diagram_of_many_peers_stays_small(opened: Opener) -> None:
    flows = Conversations([flow(n, Endpoint("10.0.0.2", 1), Endpoint(f"192.0.2.{n}", 80)) for n in range(1, 200)])
    stations = {conversation.id: "10.0.0.2" for conversation in flows}
    result = replace(EXAMPLE, base_stations=(TLS_STATION,), conversations=flows, flow_stations=stations, flow_rows={})
    page = opened(result).page
    assert page.locator("svg.peers .n-stranger").count() == 7
    assert page.locator("svg.peers").bounding_box()["height"] < 600
