"""What spreadsheets read."""

from __future__ import annotations

import csv as reader
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversations
from analyzer.reports import csv
from analyzer.reports.frames import FINDINGS, FLOWS
from analyzer.result import Audit
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT, finding
from tests.reports.audits import FLOWS as EXAMPLE_FLOWS

GOLDEN = Path(__file__).parents[1] / "golden"


def rows(said: Iterable[str]) -> list[dict[str, str]]:
    return list(reader.DictReader(io.StringIO("".join(said), newline=""), strict=True))


def test_the_reports_are_the_golden_ones() -> None:
    assert csv.render(EXAMPLE) == (GOLDEN / "audit.csv").read_text(encoding="utf-8")
    flows = "".join(csv.flow_pieces(EXAMPLE.captures, EXAMPLE_FLOWS))
    assert flows == (GOLDEN / "flows.csv").read_text(encoding="utf-8")


def test_every_finding_and_flow_is_a_row() -> None:
    told = rows(csv.pieces(EXAMPLE))
    assert [(each["check"], each["summary"]) for each in told] == [
        (each.check, each.summary) for each in EXAMPLE.findings
    ]
    assert [each["count"] for each in told] == ["1", "65535", "1", "1", "1"]
    flows = rows(csv.flow_pieces(EXAMPLE.captures, EXAMPLE_FLOWS))
    assert [each["flow"] for each in flows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert json.loads(flows[0]["facts"])["server_name"] == "lrc1.example"
    assert (flows[1]["responder_port"], flows[0]["first"]) == ("", "2026-11-22T06:37:01.123456000Z")


def test_times_have_the_digits_of_the_finest_capture() -> None:
    coarse = replace(EXAMPLE, captures=EXAMPLE.captures[:1], findings=(finding(),))
    assert rows(csv.pieces(coarse))[0]["time"] == "2026-11-22T06:37:01.123456Z"


def test_an_empty_report_is_its_heading() -> None:
    assert csv.render(BARE) == ",".join(FINDINGS) + "\n"
    nothing: tuple[CaptureFile, ...] = ()
    assert "".join(csv.flow_pieces(nothing, Conversations(()))) == ",".join(FLOWS) + "\n"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "＝1", "＋1", "－1", "＠x"])  # noqa: RUF001
def test_no_cell_is_a_formula(formula: str) -> None:
    told = rows(csv.pieces(replace(EXAMPLE, findings=(finding(summary=formula, filter=formula),))))
    assert (told[0]["summary"], told[0]["filter"]) == (f"'{formula}", f"'{formula}")


@pytest.mark.parametrize("audited", [EXAMPLE, HOSTILE_AUDIT], ids=["example", "hostile"])
def test_each_row_is_one_line_that_no_terminal_acts_upon(audited: Audit) -> None:
    for said in (csv.render(audited), "".join(csv.flow_pieces(audited.captures, audited.conversations))):
        assert all(character == "\n" or character.isprintable() for character in said)
    assert len(csv.render(audited).splitlines()) == 1 + len(audited.findings)


@pytest.mark.parametrize("nasty", ['say "no"', "a,b", "a\nb", "a\rb", '"', "''"])
def test_separators_and_quotes_do_not_break_a_row(nasty: str) -> None:
    (row,) = rows(csv.pieces(replace(EXAMPLE, findings=(finding(summary=nasty),))))
    assert row["summary"] == nasty.replace("\n", "\\n").replace("\r", "\\r")
