"""An audit in notebooks and at the Python prompt."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from analyzer import audit
from analyzer.reports.notebook import SHOWN, render
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT

TAGS = {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}


class Fragment(HTMLParser):
    """The text of an HTML fragment; asserts that its tags are allowed, closed and inactive."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= {"style"}
        assert not any(value and ("url" in value or "expression" in value) for _, value in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("example", [EXAMPLE, BARE, HOSTILE_AUDIT], ids=["example", "empty", "hostile"])
def test_fragment_has_only_tables_and_text(example: Audit) -> None:
    text = Fragment(render(example)).text
    assert all(part.isprintable() for part in text)


def test_text_from_captures_is_escaped() -> None:
    finding = replace(EXAMPLE.findings[0], summary="<script>alert(1)</script>\x1b[31m\u202e")
    page = render(replace(EXAMPLE, findings=(finding,)))
    assert "<script" not in page
    assert "<script>alert(1)</script>\\x1b[31m\\u202e" in Fragment(page).text


def test_fragment_shows_stations_and_findings() -> None:
    text = Fragment(render(EXAMPLE)).text
    for verdict in EXAMPLE.base_stations:
        assert verdict.station.address in text
    for finding in EXAMPLE.findings[:SHOWN]:
        assert finding.summary in text


def test_fragment_stays_small_and_counts_what_it_leaves_out() -> None:
    many = replace(EXAMPLE, findings=EXAMPLE.findings[:1] * 5000)
    page = render(many)
    assert len(page) < 20_000
    assert f"… and {5000 - SHOWN:,} more findings" in Fragment(page).text


def test_audit_displays_itself() -> None:
    assert EXAMPLE._repr_html_() == render(EXAMPLE)


def test_repr_is_one_short_line() -> None:
    assert repr(BARE) == "<Audit: captures 0, packets 0, flows 0, base stations 0, findings none>"
    shown = repr(audit(samples.capture("tls-http-on-3001")))
    assert shown == "<Audit: captures 1, packets 289, flows 7, base stations 1, findings 1 high>"
