"""The page in a browser: what a reader does with it, and what it must not do."""

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

from analyzer import audit
from analyzer.conversations import Conversations, Endpoint
from analyzer.reports import html
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT, TLS_STATION, finding, flow
from tests.reports.test_html import SCRIPT, many, spoilt

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
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class Watched:
    """A page, and all that it did without being asked."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.requests.remove(path.as_uri())


Opener = Callable[..., Watched]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens an audit, or the text of a page, as a file; at the end nothing must have been complained or requested."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    def open_page(shown: Audit | str, quiet: bool = True, **options: object) -> Watched:
        path = tmp_path / f"report-{len(contexts)}.html"
        path.write_text(shown if isinstance(shown, str) else html.render(shown), encoding="utf-8")
        contexts.append(browser.new_context(**{"viewport": WIDE, **options}))
        page = Watched(contexts[-1], path)
        if quiet:
            watched.append(page)
        return page

    yield open_page
    try:
        for each in watched:
            assert (each.complaints, each.requests) == ([], [])
    finally:
        for context in contexts:
            context.close()


def shown(page: Page, kind: str = ".finding") -> int:
    return page.locator(f"{kind}:visible").count()


def filtered(page: Page, count: str) -> None:
    """Wait until the page says so many findings."""
    playwright.expect(page.locator("#count")).to_contain_text(count)


@pytest.mark.parametrize("result", [BARE, EXAMPLE, HOSTILE_AUDIT, spoilt(SCRIPT), many(30)])
def test_it_neither_complains_nor_asks_for_anything(opened: Opener, result: Audit) -> None:
    page = opened(result).page
    page.mouse.wheel(0, 3000)
    page.emulate_media(media="print")


def test_its_policy_stops_what_is_not_its_own(opened: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        image = f"<img src='http://127.0.0.1:{server.getsockname()[1]}/' onerror='owned = 1'>"
        strange = f"<script>owned = 1</script><style>body {{ color: red }}</style>{image}"
        page = opened(html.render(EXAMPLE).replace("</main>", f"{strange}</main>"), quiet=False)
        page.page.wait_for_load_state("load")
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.page.evaluate("window.owned") is None
    assert len([each for each in page.complaints if "Content Security Policy" in each]) >= 3


@pytest.mark.parametrize("text", [SCRIPT, "<img src=x onerror=alert(1)>", "\u202egpj.exe", "x" * 3000, "e\u0301" * 200])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_hostile_and_long_names_stay_text_and_in_their_place(
    opened: Opener, text: str, viewport: dict[str, int]
) -> None:
    page = opened(spoilt(text), viewport=viewport).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.locator("script").count() == 1 and page.locator("img").count() == 0
    assert html.visible_text(text) in page.locator(".finding h3").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE, {"width": 320, "height": 600}], ids=["wide", "phone", "narrow"])
def test_nothing_is_wider_than_the_window(opened: Opener, viewport: dict[str, int]) -> None:
    for result in (EXAMPLE, many(40), audit(samples.capture("tls-in-clear-on-all-ports"))):
        page = opened(result, viewport=viewport).page
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
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


def test_focus_can_be_seen(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")


def test_search_and_filters(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    assert shown(page) == 5
    page.fill("#text", "RSA key TPE302")
    filtered(page, "1 of 5 findings")
    assert shown(page) == 1
    page.fill("#text", "no such word")
    filtered(page, "0 of 5 findings")
    assert page.locator("#nothing").is_visible()
    page.fill("#text", "")
    filtered(page, "5 of 5 findings")
    page.get_by_label("high").uncheck()
    filtered(page, "4 of 5 findings")
    page.get_by_label("Kind").select_option("unexpected")
    filtered(page, "1 of 5 findings")
    page.get_by_role("button", name="Reset").click()
    filtered(page, "5 of 5 findings")
    page.get_by_label("Base station", exact=True).select_option("10.0.0.2")
    filtered(page, "4 of 5 findings, 1 of 2 base stations")
    assert (shown(page), shown(page, ".station")) == (4, 1)


def test_the_copy_button_copies_the_filter(opened: Opener) -> None:
    page = opened(EXAMPLE, permissions=["clipboard-read", "clipboard-write"]).page
    page.locator(".finding summary").first.click()
    button = page.locator(".finding .copy").first
    button.click()
    playwright.expect(button).to_contain_text("Copied")
    playwright.expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "tcp.stream eq 0 && tls.handshake.type == 11"


def test_where_copying_is_refused_the_filter_is_selected(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    page.locator(".finding summary").first.click()
    page.locator(".finding .copy").first.click()
    playwright.expect(page.locator("#said")).to_contain_text("Selected")
    assert page.evaluate("String(getSelection())").strip() == "tcp.stream eq 0 && tls.handshake.type == 11"


def test_all_can_be_read_without_the_script(opened: Opener) -> None:
    page = opened(EXAMPLE, java_script_enabled=False).page
    assert page.locator("#filters").is_hidden() and page.locator(".copy").first.is_hidden()
    page.locator(".finding summary").first.click()
    assert page.locator(".remedy").first.is_visible()
    assert shown(page) == 5 and page.locator("svg.peers").is_visible()


def test_a_link_to_a_finding_opens_it(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.evaluate("location.hash = 'finding-2'")
    playwright.expect(page.locator("#finding-2")).to_have_attribute("open", "")


def test_paper_shows_what_is_folded(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden() and page.locator("#filters").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")


def test_four_hundred_base_stations_stay_usable(opened: Opener) -> None:
    stations = many(400)
    findings = tuple(
        finding(base_station=each.station.address, summary=f"Something of {each.station.address}.")
        for each in stations.base_stations
    )
    page = opened(replace(stations, findings=findings)).page
    page.fill("#text", "10.1.1.7")
    filtered(page, "11 of 400 findings, 11 of 400 base stations")
    assert page.locator(".station[open]").count() == 0


def test_landmarks_and_headings_are_in_order(opened: Opener) -> None:
    page = opened(EXAMPLE).page
    for role in ("banner", "navigation", "search", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(two - one <= 1 for one, two in itertools.pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["example", "tls-in-clear-on-all-ports", "plain-portscan-of-bs"])
def test_axe_finds_nothing(opened: Opener, scheme: str, name: str) -> None:
    """Contrast, names and roles by the rules of axe-core for WCAG 2.2, level AA."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    result = EXAMPLE if name == "example" else audit(samples.capture(name))
    page = opened(result, color_scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = axe.Axe().run(page)
    assert found.response["passes"]
    assert [(each["id"], node["html"]) for each in found.response["violations"] for node in each["nodes"]] == []


def test_colour_is_never_the_only_sign(opened: Opener) -> None:
    """Statuses and severities are words; of the lines of the diagram each kind has its own pattern."""
    page = opened(EXAMPLE).page
    for each in page.locator(".status, .severity, .count").all():
        assert re.search(r"[a-z]{3}", each.text_content() or "")
    patterns = page.evaluate(
        "[...document.querySelectorAll('.legend .edge')].map((each) => getComputedStyle(each).strokeDasharray)"
    )
    assert len(set(patterns)) == len(patterns) == 5


def test_flows_to_many_hosts_do_not_break_the_diagram(opened: Opener) -> None:
    flows = Conversations([flow(n, Endpoint("10.0.0.2", 1), Endpoint(f"192.0.2.{n}", 80)) for n in range(1, 200)])
    stations = {each.id: "10.0.0.2" for each in flows}
    result = replace(EXAMPLE, base_stations=(TLS_STATION,), conversations=flows, flow_stations=stations, flow_rows={})
    page = opened(result).page
    assert page.locator("svg.peers .n-stranger").count() == 7
    assert page.locator("svg.peers").bounding_box()["height"] < 600
