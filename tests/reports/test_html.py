"""The HTML report as text: its content, and that untrusted text in it is inert."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analyzer import audit
from analyzer.conversations import Conversations, Endpoint
from analyzer.expected import UsageError
from analyzer.export.anonymize import anonymous
from analyzer.findings import Severity
from analyzer.heads import Frame
from analyzer.reports import html
from analyzer.reports.drawings import BINS, LANES, PEERS, SHARED_LANES, STATIONS, diagram, timeline
from analyzer.result import Audit
from analyzer.safetext import is_printable
from analyzer.version import __version__
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, FLOWS, GW, HOSTILE_AUDIT, SECOND, START, TLS_STATION, finding, flow
from tests.synthetic import HTTP, STATION, TLS, TPE, Traffic

GOLDEN = Path(__file__).parents[1] / "golden"
ASSETS = re.compile(r"(?<=<style>).*?(?=</style>)|(?<=<script>).*?(?=</script>)|sha256-[0-9A-Za-z+/=]+", re.DOTALL)
"""Style and script, and their hashes: files of their own, which the golden page leaves out."""
VOID = {"meta", "input", "path", "rect"}
SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements, attributes and text of a page; asserts that elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, list[str]] = {}
        """Content of style and script elements."""
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            while self.open[-1] != tag and self.open[-1] in VOID | {"path"}:
                self.open.pop()
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        element = self.open[-1] if self.open else ""
        if element in ("script", "style"):
            self.inside.setdefault(element, []).append(data)
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        """The text with single blanks."""
        return " ".join("".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def untrusted(text: str) -> Audit:
    """An audit with this text wherever captures and paths provide one."""
    station = replace(TLS_STATION.station, address=text, evidence=(text,))
    return replace(
        EXAMPLE,
        profile=text,
        captures=(replace(GW, path=text, problems=(text,)), EXAMPLE.captures[1]),
        base_stations=(replace(TLS_STATION, station=station, mode_evidence=(text,), tpe=(text,)),),
        findings=(finding(summary=text, remedy=text, filter=text, base_station=text, rows=(text,), mismatch=text),),
        conversations=Conversations(
            (flow(1, Endpoint(text, 1), Endpoint(text * 2, 2)), flow(2, Endpoint(text, 1), protocol=text))
        ),
        flow_stations={1: text, 2: text},
        totals=replace(EXAMPLE.totals, unreadable={text: 1}),
    )


def test_golden() -> None:
    page = html.render(EXAMPLE).replace(f"tpe-pcap {__version__}", "tpe-pcap VERSION")
    assert ASSETS.sub("", page) == (GOLDEN / "audit.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("result", [BARE, EXAMPLE, HOSTILE_AUDIT], ids=["bare", "example", "hostile"])
def test_page_is_well_formed(result: Audit) -> None:
    page = Page(html.render(result))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in ids
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "for", "data-copy"):
            assert set(attributes.get(name, "").split()) <= set(ids)


def test_page_loads_nothing() -> None:
    page = Page(html.render(EXAMPLE))
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "image", "use"}
        assert not {"src", "srcset", "action", "ping", "background", "style", "xlink:href"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in "".join(page.inside["style"]) and "@import" not in "".join(page.inside["style"])
    assert not re.search(r"fetch|XMLHttp|import\(|innerHTML|eval", "".join(page.inside["script"]))


def test_policy_allows_only_its_own_style_and_script() -> None:
    page = Page(html.render(EXAMPLE))
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives.pop("default-src") == "'none'"
    for kind in ("style", "script"):
        content = "".join(page.inside[kind]).encode()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert directives.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert set(directives.values()) == {"'none'"}


@pytest.mark.parametrize("text", [SCRIPT, "\"' onclick=alert(1) x='", "{{ 7 * 7 }}", "</style></title><b>", "]]>&amp;"])
def test_untrusted_text_is_escaped(text: str) -> None:
    page, plain = Page(html.render(untrusted(text))), Page(html.render(untrusted("a-name")))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in page.elements] == [set(attributes) for _, attributes in plain.elements]
    assert page.inside == plain.inside
    assert text in "".join(page.text)


def test_unprintable_characters_are_escaped() -> None:
    for result in (HOSTILE_AUDIT, untrusted("a\nforged\u202eb\u2066c\x00\x1b[31m\ufeff\ud800\u2800")):
        page = html.render(result)
        assert all(map(is_printable, page.split("\n")))
        assert "\nforged" not in page
        page.encode("utf-8")
    assert "a\\nforged\\u202eb\\u2066c\\x00\\x1b[31m\\ufeff\\ud800\\u2800" in page


def test_markup_in_a_capture_is_escaped(tmp_path: Path) -> None:
    request = f"GET /{SCRIPT} HTTP/1.1\r\nHost: {SCRIPT}\r\nUser-Agent: {SCRIPT}\r\n\r\n".encode()
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (request, HTTP[1]), duration=10).audit(tmp_path)
    page = Page(html.render(result))
    assert len(page.all("script")) == 1
    assert f"path /{SCRIPT}" in page.words and f"value {SCRIPT}" in page.words


def test_page_contains_no_passwords_or_tokens(tmp_path: Path) -> None:
    secret = "s3cr3t-w0rds"
    token = base64.b64encode(f"admin:{secret}".encode()).decode()
    request = f"GET /a?k={secret} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\nCookie: {secret}\r\n\r\n"
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, (request.encode(), HTTP[1]), duration=10)
    traffic.tcp(STATION, 40001, TPE, 3002, (b"PASS " + secret.encode(), f"no {secret}".encode()), duration=10)
    page = html.render(traffic.tcp(STATION, 40002, TPE, 3003, TLS, duration=10).audit(tmp_path))
    assert "Authorization" in page or "authorization" in page
    for text in (secret, token):
        assert text not in page and text.encode().hex(" ") not in page


def test_anonymised_page_has_no_addresses_and_no_packet_bytes() -> None:
    result = samples.audit_of("tls-in-clear-on-all-ports")
    original, anonymised = Page(html.render(result)), Page(html.render(anonymous(result, bytes(32))))
    ends = (end for flow in result.conversations for end in (flow.originator, flow.responder))
    addresses = {end.address for end in ends} - {"255.255.255.255"}
    assert any(address in original.words for address in addresses)
    for address in addresses:
        assert not re.search(rf"(?<![0-9.]){re.escape(address)}(?![0-9])", anonymised.words)
    assert [element for element in original.all("pre") if element.get("class") == "hex"]
    assert not anonymised.all("pre")


def severities(page: Page) -> list[str]:
    """The severities of the findings, in the order of the page."""
    return [details["data-severity"] for details in page.all("details") if "data-severity" in details]


def test_every_finding_has_its_remedy_filter_and_frames() -> None:
    page = Page(html.render(EXAMPLE))
    assert len(severities(page)) == len(EXAMPLE.findings)
    for found in EXAMPLE.findings:
        assert found.summary in page.words and found.remedy in page.words
        assert found.filter is None or found.filter in page.words
        assert found.check in page.words
    assert "12 of gw.pcap; 3 of nano.pcapng" in page.words


def test_findings_are_ordered_by_severity() -> None:
    shown = severities(Page(html.render(EXAMPLE)))
    assert shown == sorted(shown, key=["high", "medium", "low", "info"].index)


def test_every_row_has_its_status_in_words() -> None:
    text = Page(html.render(EXAMPLE)).words
    for row in TLS_STATION.rows:
        status = f"{row.status.value}, {row.certainty.value}" if row.certainty else row.status.value
        assert status in text and row.row.id in text
        assert row.reason is None or row.reason in text


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (BARE, "Nothing to judge"),
        (EXAMPLE, "Failed"),
        (replace(EXAMPLE, findings=()), "Passed"),
        (replace(EXAMPLE, findings=(finding(severity=Severity.LOW),)), "Passed"),
        (replace(EXAMPLE, base_stations=()), "Nothing to judge"),
    ],
)
def test_verdict_is_in_the_title_and_the_heading(result: Audit, word: str) -> None:
    page = html.render(result)
    assert f"<title>{word}: " in page
    assert f'<span class="word">{word}</span>' in page


def test_limits_of_findings_and_stations_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("STATIONS", 30), ("FINDINGS", 40), ("EXCERPTED", 20)):
        monkeypatch.setattr(html, name, limit)
    monkeypatch.setattr(html, "page", html.page.__wrapped__)  # not cached: the template contains the limits
    stations = tuple(
        replace(TLS_STATION, station=replace(TLS_STATION.station, address=f"10.1.0.{number}")) for number in range(35)
    )
    findings = tuple(finding(summary=f"Finding {number}.") for number in range(47))
    page = Page(html.render(replace(EXAMPLE, base_stations=stations, findings=findings)))
    assert len([details for details in page.all("details") if details.get("class") == "station"]) == 30
    assert len(severities(page)) == 40
    assert "The first 30 of 35 base stations are shown" in page.words
    assert "The 40 most severe of 47 findings are shown" in page.words
    assert "Packets are excerpted for the first 20 findings." in page.words


def test_equal_audits_give_equal_pages() -> None:
    path = samples.capture("mixed-two-base-stations")
    assert html.render(audit(path)) == html.render(audit(path))
    assert "".join(html.pieces(EXAMPLE)) == html.render(EXAMPLE)


def test_missing_jinja2_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    html.page.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install 'tpe-pcap\[html\]'"):
        html.pieces(EXAMPLE)


def test_assets_are_part_of_the_package() -> None:
    for name in ("report.html.jinja", "report.css", "report.js"):
        assert html.asset(name)


# -- drawings --------------------------------------------------------------------------------------------------


def many(stations: int, peers: int = 1) -> Audit:
    """Base stations that each have flows with so many peers, none of which match a row."""
    addresses = [f"10.1.{number >> 8}.{number & 255}" for number in range(stations)]
    flows = [
        flow(1 + index * peers + other, Endpoint(address, 40000), Endpoint(f"192.0.2.{other}", 80))
        for index, address in enumerate(addresses)
        for other in range(peers)
    ]
    return replace(
        EXAMPLE,
        base_stations=tuple(
            replace(TLS_STATION, station=replace(TLS_STATION.station, address=address, addresses=(address,)))
            for address in addresses
        ),
        conversations=Conversations(flows),
        flow_rows={},
        flow_stations={conversation.id: conversation.originator.address for conversation in flows},
    )


def test_lane_has_the_flows_of_a_row() -> None:
    drawn = timeline(EXAMPLE)
    assert drawn is not None and not drawn.shared
    assert [(lane.name, lane.status, lane.flows) for lane in drawn.lanes] == [
        ("i3", "present", 1),
        ("i4 or i5", "undecided", 1),
        ("i38", "malformed", 1),
        ("i40", "blocked", 1),
        ("", "no row", 2),
        ("", "out of scope", 1),
    ]
    assert drawn.ticks == ("0", "+1 min 15 s", "+2 min 30 s", "+3 min 45 s", "+5 min 0 s")


def test_flow_is_drawn_at_its_time() -> None:
    late = flow(1)
    late = late._replace(first=START + 150 * SECOND, last=START + 300 * SECOND)
    drawn = timeline(replace(EXAMPLE, conversations=Conversations((late,)), captures=(GW,)))
    assert drawn is not None
    assert drawn.lanes[0].path == f"M{BINS // 2} 20v-20h{BINS // 2}v20z"
    assert drawn.lanes[0].description == "1 flow, from 2 min 30 s to 5 min 0 s after the first packet"


def test_path_of_a_lane_is_bounded() -> None:
    flows = [flow(1)._replace(id=number, first=START + number * 10**7) for number in range(1, 20_001)]
    flows = [conversation._replace(last=conversation.first + 1) for conversation in flows]
    rows = {conversation.id: ("i38",) for conversation in flows}
    stations = {conversation.id: STATION for conversation in flows}
    drawn = timeline(replace(EXAMPLE, conversations=Conversations(flows), flow_rows=rows, flow_stations=stations))
    assert drawn is not None
    (lane,) = drawn.lanes
    assert lane.flows == 20_000 and len(lane.path) < 30 * BINS


def test_many_base_stations_share_lanes_and_nodes() -> None:
    drawn, peers = timeline(many(400)), diagram(many(400))
    assert drawn is not None and drawn.shared
    assert [(lane.group, lane.stations, lane.flows) for lane in drawn.lanes] == [("tls", 400, 400)]
    assert peers is not None
    assert [node.name for node in peers.stations] == ["400 base stations"]
    few = diagram(many(STATIONS))
    assert few is not None and len(few.stations) == STATIONS
    assert LANES < SHARED_LANES


def test_many_peers_of_a_kind_share_a_node() -> None:
    drawn = diagram(many(1, 50))
    assert drawn is not None
    assert [node.name for node in drawn.peers][PEERS:] == [f"{50 - PEERS} further hosts"]
    assert sum(edge.flows for edge in drawn.edges) == 50
    exactly = diagram(many(1, PEERS + 1))
    assert exactly is not None and len(exactly.peers) == PEERS + 1


def test_kinds_of_peers() -> None:
    drawn = diagram(samples.audit_of("tls-in-clear-on-all-ports"))
    assert drawn is not None
    assert [node.kind for node in drawn.peers] == ["TPE", "service", "service"]
    assert drawn.peers[0].name == "172.16.40.10"
    example = diagram(EXAMPLE)
    assert example is not None
    assert ("192.0.2.80", "stranger") in [(node.name, node.kind) for node in example.peers]
    (edge,) = (edge for edge in example.edges if edge.peer.kind == "stranger")
    assert (edge.status, edge.rows, edge.flows) == ("no row", (), 1)


def test_worst_edge_is_drawn_last() -> None:
    drawn = diagram(samples.audit_of("tls-in-clear-on-all-ports"))
    assert drawn is not None
    assert drawn.edges[-1].status == "malformed"


def test_long_names_are_shortened_in_the_diagram_only() -> None:
    name = "a-very-long-name-" * 20
    page = Page(html.render(untrusted(name)))
    assert name in page.words
    assert not any(len(text.strip()) > 400 for text in page.text if "…" in text)


def test_no_packets_give_no_drawings() -> None:
    assert timeline(BARE) is None and diagram(BARE) is None
    assert "There is no flow." in html.render(BARE)


def test_frame_of_another_flow_has_no_excerpt() -> None:
    page = html.render(replace(EXAMPLE, conversations=FLOWS, findings=(finding(frames=(Frame(0, 4000),)),)))
    assert 'class="excerpt"' not in page
