"""What is pasted into a ticket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from analyzer.findings import Severity
from analyzer.reports import markdown
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EMPTY, EXAMPLE, GW, HOSTILE_AUDIT, NANO, finding

ROOT = Path(__file__).parents[2]
OWN = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak",
    "strong_open", "strong_close", "code_inline", "bullet_list_open", "bullet_list_close", "list_item_open",
    "list_item_close", "table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close",
    "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close",
}  # fmt: skip
"""Kinds of tokens that a report is made of: no links, no images, no emphasis."""


def tokens(said: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(said):
        yield token
        yield from token.children or ()


def shown(said: str) -> str:
    """What a reader sees of a paragraph."""
    parts = []
    for token in tokens(said):
        assert token.type in OWN, (token.type, said)
        if token.type in ("text", "text_special", "code_inline"):
            parts.append(token.content)
    return "".join(parts)


def test_the_report_is_the_golden_one() -> None:
    assert markdown.render(EXAMPLE) == (ROOT / "tests" / "golden" / "audit.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "audited",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,))],
    ids=["example", "hostile", "bare", "empty"],
)
def test_a_report_is_made_of_its_own_marks_only(audited: Audit) -> None:
    said = markdown.render(audited)
    shown(said)
    assert all(character == "\n" or character.isprintable() for character in said)
    counts = Counter(token.type for token in tokens(said))
    assert counts["strong_open"] == 1
    assert counts["table_open"] == bool(audited.captures) + sum(bool(each.rows) for each in audited.base_stations)
    assert counts["td_open"] == 5 * len(audited.captures) + sum(7 * len(each.rows) for each in audited.base_stations)


@pytest.mark.parametrize("name", samples.names())
def test_every_finding_of_a_capture_is_there_to_be_read(name: str) -> None:
    result = samples.audit_of(name)
    said = shown(markdown.render(result))
    for each in result.findings:
        assert each.summary in said and each.remedy in said
        assert each.filter is None or each.filter in said


NASTY = (
    "[click](http://evil.example)",
    "![](http://evil.example/pixel.png)",
    "<img src=x onerror=alert(1)>",
    "<!-- --><script>",
    "*bold* _and_ ~~struck~~ `code`",
    "a | b || c",
    "1. one",
    "- item",
    "+ item",
    "# heading",
    "> quote",
    "--- \\* \\",
    "===",
    "&lt;b&gt; &amp;",
    "www.evil.example https://evil.example ftp://evil.example",
    "@everyone #1 user@evil.example",
    "$x$ {{ x }} ~label",
    "`` ` ```",
)


@pytest.mark.parametrize("nasty", NASTY)
def test_what_packets_say_is_shown_as_it_is(nasty: str) -> None:
    assert shown(markdown.plain(nasty)) == nasty.strip()
    assert shown(markdown.code(nasty)) == nasty
    assert nasty in shown(markdown.render(replace(EXAMPLE, findings=(finding(summary=nasty, filter=nasty),))))
    cells = replace(EXAMPLE, captures=(replace(GW, path=nasty), NANO), findings=())
    assert nasty in shown(markdown.render(cells))


@given(st.text(st.sampled_from("`*_[]()<>|\\#@!~&$^=:/-+.1w a"), max_size=20))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    trimmed = " ".join(text.split())
    assert shown(markdown.plain(trimmed)) == trimmed
    if trimmed:
        assert shown(f"x {markdown.code(trimmed)}") == f"x {trimmed}"
        (row,) = list(markdown.table(("a", "b"), iter([(markdown.plain(trimmed), "b")])))[2:]
        header = "| a | b |\n|---|---|\n"
        assert shown(header + row) == f"ab{trimmed}b"


def test_links_and_mentions_are_cut() -> None:
    said = markdown.plain("see https://evil.example, www.evil.example, @all and #7")
    assert not any(each in said for each in ("://", "www.", "@all", "#7"))


def test_the_verdict_goes_by_the_threshold() -> None:
    assert "**Failed: 2 base stations, findings: 1 high" in markdown.render(replace(EXAMPLE, fail_on=Severity.HIGH))
    mild = replace(EXAMPLE, findings=(finding(severity=Severity.LOW),))
    assert "**Passed: 2 base stations, findings: 1 low.**" in markdown.render(mild)
    assert "**Failed: no base station recognised, no findings.**" in markdown.render(BARE)
