"""The Markdown report."""

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
TOKENS = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak",
    "strong_open", "strong_close", "code_inline", "bullet_list_open", "bullet_list_close", "list_item_open",
    "list_item_close", "table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close",
    "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close",
}  # fmt: skip
"""Types of tokens in reports: no links, images or emphasis."""


def tokens(markdown_text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown_text):
        yield token
        yield from token.children or ()


def shown(markdown_text: str) -> str:
    """The text that a reader sees."""
    parts = []
    for token in tokens(markdown_text):
        assert token.type in TOKENS, (token.type, markdown_text)
        if token.type in ("text", "text_special", "code_inline"):
            parts.append(token.content)
    return "".join(parts)


def test_golden() -> None:
    assert markdown.render(EXAMPLE) == (ROOT / "tests" / "golden" / "audit.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "result",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,))],
    ids=["example", "hostile", "bare", "empty"],
)
def test_report_has_no_other_markup(result: Audit) -> None:
    report = markdown.render(result)
    shown(report)
    assert all(character == "\n" or character.isprintable() for character in report)
    counts = Counter(token.type for token in tokens(report))
    assert counts["strong_open"] == 1
    rows = [len(station.rows) for station in result.base_stations]
    assert counts["table_open"] == bool(result.captures) + sum(map(bool, rows))
    assert counts["td_open"] == 5 * len(result.captures) + 7 * sum(rows)


@pytest.mark.parametrize("name", samples.names())
def test_every_finding_of_a_capture_is_readable(name: str) -> None:
    result = samples.audit_of(name)
    text = shown(markdown.render(result))
    for found in result.findings:
        assert found.summary in text and found.remedy in text
        assert found.filter is None or found.filter in text


MARKUP = (
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


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_from_packets_is_shown_literally(markup: str) -> None:
    assert shown(markdown.plain(markup)) == markup.strip()
    assert shown(markdown.code(markup)) == markup
    assert markup in shown(markdown.render(replace(EXAMPLE, findings=(finding(summary=markup, filter=markup),))))
    in_table = replace(EXAMPLE, captures=(replace(GW, path=markup), NANO), findings=())
    assert markup in shown(markdown.render(in_table))


@given(st.text(st.sampled_from("`*_[]()<>|\\#@!~&$^=:/-+.1w a"), max_size=20))
def test_any_text_is_shown_literally(text: str) -> None:
    trimmed = " ".join(text.split())
    assert shown(markdown.plain(trimmed)) == trimmed
    if trimmed:
        assert shown(f"x {markdown.code(trimmed)}") == f"x {trimmed}"
        (row,) = list(markdown.table(("a", "b"), iter([(markdown.plain(trimmed), "b")])))[2:]
        header = "| a | b |\n|---|---|\n"
        assert shown(header + row) == f"ab{trimmed}b"


def test_links_and_mentions_are_broken_up() -> None:
    text = markdown.plain("see https://evil.example, www.evil.example, @all and #7")
    assert not any(markup in text for markup in ("://", "www.", "@all", "#7"))


def test_verdict_depends_on_the_threshold() -> None:
    assert "**Failed: 2 base stations, findings: 1 high" in markdown.render(replace(EXAMPLE, fail_on=Severity.HIGH))
    mild = replace(EXAMPLE, findings=(finding(severity=Severity.LOW),))
    assert "**Passed: 2 base stations, findings: 1 low.**" in markdown.render(mild)
    assert "**Failed: no base station recognised, no findings.**" in markdown.render(BARE)
