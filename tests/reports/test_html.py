"""The page, as text: what it says, and that nothing in it acts."""

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
    """Elements, attributes and text of a page; every element must be closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, list[str]] = {}
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
        kind = self.open[-1] if self.open else ""
        if kind in ("script", "style"):
            self.inside.setdefault(kind, []).append(data)
        else:
            self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join("".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def spoilt(text: str) -> Audit:
    """An audit of which a stranger chose every text that one may choose."""
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


def test_the_report_is_the_golden_one() -> None:
    page = html.render(EXAMPLE).replace(f"tpe-pcap {__version__}", "tpe-pcap VERSION")
    assert ASSETS.sub("", page) == (GOLDEN / "audit.html").read_text(encoding="utf-8")


def test_it_is_well_formed() -> None:
    for each in (BARE, EXAMPLE, HOSTILE_AUDIT):
        page = Page(html.render(each))
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for link in page.all("a"):
            assert link["href"].removeprefix("#") in ids
        for _, attributes in page.elements:
            for name in ("aria-labelledby", "for", "data-copy"):
                assert set(attributes.get(name, "").split()) <= set(ids)


def test_it_asks_nobody_for_anything() -> None:
    page = Page(html.render(EXAMPLE))
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "image", "use"}
        assert not {"src", "srcset", "action", "ping", "background", "style", "xlink:href"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in "".join(page.inside["style"]) and "@import" not in "".join(page.inside["style"])
    assert not re.search(r"fetch|XMLHttp|import\(|innerHTML|eval", "".join(page.inside["script"]))


def test_its_policy_allows_its_own_style_and_script_only() -> None:
    page = Page(html.render(EXAMPLE))
    (policy,) = (each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives.pop("default-src") == "'none'"
    for kind in ("style", "script"):
        (content,) = ["".join(page.inside[kind])]
        sum_ = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives.pop(f"{kind}-src") == f"'sha256-{sum_}'"
    assert set(directives.values()) == {"'none'"}


@pytest.mark.parametrize("text", [SCRIPT, "\"' onclick=alert(1) x='", "{{ 7 * 7 }}", "</style></title><b>", "]]>&amp;"])
def test_what_strangers_say_is_text(text: str) -> None:
    page, plain = Page(html.render(spoilt(text))), Page(html.render(spoilt("a-name")))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in page.elements] == [set(attributes) for _, attributes in plain.elements]
    assert page.inside == plain.inside
    assert text in "".join(page.text)


def test_nothing_invisible_is_in_it() -> None:
    for each in (HOSTILE_AUDIT, spoilt("a\nforged\u202eb\u2066c\x00\x1b[31m\ufeff\ud800\u2800")):
        page = html.render(each)
        assert all(map(is_printable, page.split("\n")))
        assert "\nforged" not in page
        page.encode("utf-8")
    assert "a\\nforged\\u202eb\\u2066c\\x00\\x1b[31m\\ufeff\\ud800\\u2800" in page


def test_a_hostile_capture_becomes_text(tmp_path: Path) -> None:
    request = f"GET /{SCRIPT} HTTP/1.1\r\nHost: {SCRIPT}\r\nUser-Agent: {SCRIPT}\r\n\r\n".encode()
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (request, HTTP[1]), duration=10).audit(tmp_path)
    page = Page(html.render(result))
    assert len(page.all("script")) == 1
    assert f"path /{SCRIPT}" in page.said and f"value {SCRIPT}" in page.said


def test_passwords_and_tokens_are_not_in_it(tmp_path: Path) -> None:
    secret = "s3cr3t-w0rds"
    token = base64.b64encode(f"admin:{secret}".encode()).decode()
    request = f"GET /a?k={secret} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\nCookie: {secret}\r\n\r\n"
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, (request.encode(), HTTP[1]), duration=10)
    traffic.tcp(STATION, 40001, TPE, 3002, (b"PASS " + secret.encode(), f"no {secret}".encode()), duration=10)
    page = html.render(traffic.tcp(STATION, 40002, TPE, 3003, TLS, duration=10).audit(tmp_path))
    assert "Authorization" in page or "authorization" in page
    for text in (secret, token):
        assert text not in page and text.encode().hex(" ") not in page


def test_an_anonymised_audit_shows_no_packet() -> None:
    result = audit(samples.capture("tls-in-clear-on-all-ports"))
    open_, closed = Page(html.render(result)), Page(html.render(anonymous(result, bytes(32))))
    addresses = {end.address for each in result.conversations for end in (each.originator, each.responder)}
    private = {each for each in addresses if each != "255.255.255.255"}
    assert private and any(each in open_.said for each in private)
    assert not any(re.search(rf"(?<![0-9.]){re.escape(each)}(?![0-9])", closed.said) for each in private)
    assert [each for each in open_.all("pre") if each.get("class") == "hex"]
    assert not closed.all("pre")


def test_every_finding_is_there_with_its_remedy_filter_and_frames() -> None:
    page = Page(html.render(EXAMPLE))
    shown = page.all("details")
    assert len([each for each in shown if "data-severity" in each]) == len(EXAMPLE.findings)
    for each in EXAMPLE.findings:
        assert each.summary in page.said and each.remedy in page.said
        assert each.filter is None or each.filter in page.said
        assert each.check in page.said
    assert "12 of gw.pcap; 3 of nano.pcapng" in page.said


def test_the_most_severe_findings_come_first() -> None:
    shown = [each["data-severity"] for each in Page(html.render(EXAMPLE)).all("details") if "data-severity" in each]
    assert shown == sorted(shown, key=["high", "medium", "low", "info"].index)


def test_every_row_is_there_with_its_status_in_words() -> None:
    said = Page(html.render(EXAMPLE)).said
    for row in TLS_STATION.rows:
        status = f"{row.status.value}, {row.certainty.value}" if row.certainty else row.status.value
        assert status in said and row.row.id in said
        assert row.reason is None or row.reason in said


@pytest.mark.parametrize(
    ("audit", "word"),
    [
        (BARE, "Nothing to judge"),
        (EXAMPLE, "Failed"),
        (replace(EXAMPLE, findings=()), "Passed"),
        (replace(EXAMPLE, findings=(finding(severity=Severity.LOW),)), "Passed"),
        (replace(EXAMPLE, base_stations=()), "Nothing to judge"),
    ],
)
def test_the_verdict_is_the_title_and_the_heading(audit: Audit, word: str) -> None:
    page = html.render(audit)
    assert f"<title>{word}: " in page
    assert f'<span class="word">{word}</span>' in page


def test_of_too_many_findings_and_stations_the_page_says_what_it_leaves_out() -> None:
    stations = tuple(
        replace(TLS_STATION, station=replace(TLS_STATION.station, address=f"10.1.{number >> 8}.{number & 255}"))
        for number in range(html.STATIONS + 5)
    )
    findings = tuple(finding(summary=f"Finding {number}.") for number in range(html.FINDINGS + 7))
    page = Page(html.render(replace(EXAMPLE, base_stations=stations, findings=findings)))
    assert len([each for each in page.all("details") if each.get("class") == "station"]) == html.STATIONS
    assert len([each for each in page.all("details") if "data-severity" in each]) == html.FINDINGS
    assert "The first 1,000 of 1,005 base stations are shown" in page.said
    assert "The 1,000 most severe of 1,007 findings are shown" in page.said
    assert "Packets are excerpted for the first 250 findings." in page.said


def test_the_same_audit_gives_the_same_bytes() -> None:
    path = samples.capture("mixed-two-base-stations")
    assert html.render(audit(path)) == html.render(audit(path))
    assert "".join(html.pieces(EXAMPLE)) == html.render(EXAMPLE)


def test_without_jinja2_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    html.page.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install 'tpe-pcap\[html\]'"):
        html.pieces(EXAMPLE)


def test_the_page_travels_with_the_package() -> None:
    for name in ("report.html.jinja", "report.css", "report.js"):
        assert html.asset(name)


# -- the drawings ----------------------------------------------------------------------------------------------


def many(stations: int, peers: int = 1) -> Audit:
    """Base stations that each speak to so many strangers."""
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
        flow_stations={each.id: each.originator.address for each in flows},
    )


def test_a_lane_of_the_timeline_holds_the_flows_of_a_row() -> None:
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


def test_flows_stand_where_they_were() -> None:
    late = flow(1)
    late = late._replace(first=START + 150 * SECOND, last=START + 300 * SECOND)
    drawn = timeline(replace(EXAMPLE, conversations=Conversations((late,)), captures=(GW,)))
    assert drawn is not None
    assert drawn.lanes[0].path == f"M{BINS // 2} 20v-20h{BINS // 2}v20z"
    assert drawn.lanes[0].description == "1 flow, from 2 min 30 s to 5 min 0 s after the first packet"


def test_thousands_of_flows_are_one_lane_of_bounded_size() -> None:
    flows = [flow(1)._replace(id=number, first=START + number * 10**7) for number in range(1, 20_001)]
    flows = [each._replace(last=each.first + 1) for each in flows]
    rows = {each.id: ("i38",) for each in flows}
    stations = {each.id: STATION for each in flows}
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


def test_many_strangers_share_a_node() -> None:
    drawn = diagram(many(1, 50))
    assert drawn is not None
    assert [node.name for node in drawn.peers][PEERS:] == [f"{50 - PEERS} further hosts"]
    assert sum(edge.flows for edge in drawn.edges) == 50
    exactly = diagram(many(1, PEERS + 1))
    assert exactly is not None and len(exactly.peers) == PEERS + 1


def test_the_diagram_tells_tpe_services_and_strangers_apart() -> None:
    drawn = diagram(audit(samples.capture("tls-in-clear-on-all-ports")))
    assert drawn is not None
    assert [node.kind for node in drawn.peers] == ["TPE", "service", "service"]
    assert drawn.peers[0].name == "172.16.40.10"
    example = diagram(EXAMPLE)
    assert example is not None
    assert ("192.0.2.80", "stranger") in [(node.name, node.kind) for node in example.peers]
    (stray,) = (edge for edge in example.edges if edge.peer.kind == "stranger")
    assert (stray.status, stray.rows, stray.flows) == ("no row", (), 1)


def test_what_is_worst_is_drawn_last() -> None:
    drawn = diagram(audit(samples.capture("tls-in-clear-on-all-ports")))
    assert drawn is not None
    assert drawn.edges[-1].status == "malformed"


def test_long_names_are_cut_in_the_diagram_and_whole_in_its_table() -> None:
    name = "a-very-long-name-" * 20
    page = Page(html.render(spoilt(name)))
    assert name in page.said
    assert not any(len(text.strip()) > 400 for text in page.text if "…" in text)


def test_without_packets_there_is_no_drawing() -> None:
    assert timeline(BARE) is None and diagram(BARE) is None
    assert "There is no flow." in html.render(BARE)


def test_a_frame_of_another_flow_brings_no_excerpt() -> None:
    page = html.render(replace(EXAMPLE, conversations=FLOWS, findings=(finding(frames=(Frame(0, 4000),)),)))
    assert 'class="excerpt"' not in page
