"""The CSV report."""

from __future__ import annotations

import csv as reader
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.conversations import Conversations
from analyzer.reports import csv
from analyzer.reports.frames import FINDINGS, FLOWS
from analyzer.result import Audit
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT, finding
from tests.reports.audits import FLOWS as EXAMPLE_FLOWS

GOLDEN = Path(__file__).parents[1] / "golden"


def rows(pieces: Iterable[str]) -> list[dict[str, str]]:
    return list(reader.DictReader(io.StringIO("".join(pieces), newline=""), strict=True))


def test_golden() -> None:
    assert csv.render(EXAMPLE) == (GOLDEN / "audit.csv").read_text(encoding="utf-8")
    flows = "".join(csv.flow_pieces(EXAMPLE.captures, EXAMPLE_FLOWS))
    assert flows == (GOLDEN / "flows.csv").read_text(encoding="utf-8")


def test_one_row_per_finding_and_flow() -> None:
    findings = rows(csv.pieces(EXAMPLE))
    assert [(row["check"], row["summary"]) for row in findings] == [
        (found.check, found.summary) for found in EXAMPLE.findings
    ]
    assert [row["count"] for row in findings] == ["1", "65535", "1", "1", "1"]
    flows = rows(csv.flow_pieces(EXAMPLE.captures, EXAMPLE_FLOWS))
    assert [row["flow"] for row in flows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert json.loads(flows[0]["facts"])["server_name"] == "lrc1.example"
    assert (flows[1]["responder_port"], flows[0]["first"]) == ("", "2026-11-22T06:37:01.123456000Z")


def test_times_have_the_most_digits_of_all_captures() -> None:
    microseconds = replace(EXAMPLE, captures=EXAMPLE.captures[:1], findings=(finding(),))
    assert rows(csv.pieces(microseconds))[0]["time"] == "2026-11-22T06:37:01.123456Z"


def test_empty_report_is_a_heading() -> None:
    assert csv.render(BARE) == ",".join(FINDINGS) + "\n"
    assert "".join(csv.flow_pieces((), Conversations(()))) == ",".join(FLOWS) + "\n"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "＝1", "＋1", "－1", "＠x"])  # noqa: RUF001
def test_no_cell_is_a_formula(formula: str) -> None:
    (row,) = rows(csv.pieces(replace(EXAMPLE, findings=(finding(summary=formula, filter=formula),))))
    assert (row["summary"], row["filter"]) == (f"'{formula}", f"'{formula}")


@pytest.mark.parametrize("result", [EXAMPLE, HOSTILE_AUDIT], ids=["example", "hostile"])
def test_rows_are_printable_lines(result: Audit) -> None:
    for report in (csv.render(result), "".join(csv.flow_pieces(result.captures, result.conversations))):
        assert all(character == "\n" or character.isprintable() for character in report)
    assert len(csv.render(result).splitlines()) == 1 + len(result.findings)


@pytest.mark.parametrize("text", ['say "no"', "a,b", "a\nb", "a\rb", '"', "''"])
def test_separators_and_quotes_do_not_break_a_row(text: str) -> None:
    (row,) = rows(csv.pieces(replace(EXAMPLE, findings=(finding(summary=text),))))
    assert row["summary"] == text.replace("\n", "\\n").replace("\r", "\\r")
