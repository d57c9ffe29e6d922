"""The text report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.conversations import Conversations
from analyzer.frame_totals import NO_FRAMES
from analyzer.reports import text
from analyzer.result import Audit
from tests.reports.audits import BARE, EMPTY, EXAMPLE, FLOWS, GW, HOSTILE_AUDIT, TLS_STATION, finding

GOLDEN = Path(__file__).parents[1] / "golden"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def wide_lines(report: str, width: int = 80) -> list[str]:
    return [line for line in report.splitlines() if len(line) > width and not line.startswith(" " * 8 + "Filter  ")]


def test_golden() -> None:
    assert text.render(EXAMPLE) == (GOLDEN / "audit.txt").read_text(encoding="utf-8")


def test_golden_flows() -> None:
    shown = text.render_flows(EXAMPLE.captures, FLOWS)
    assert shown == (GOLDEN / "flows.txt").read_text(encoding="utf-8")


def test_colours_change_nothing_else() -> None:
    coloured = text.render(EXAMPLE, colour=True)
    assert "\x1b[32mpresent\x1b[0m" in coloured
    assert ANSI.sub("", coloured) == text.render(EXAMPLE)


def test_no_colours_by_default() -> None:
    assert "\x1b" not in text.render(EXAMPLE)


@pytest.mark.parametrize("audit", [EXAMPLE, HOSTILE_AUDIT], ids=["example", "hostile"])
def test_lines_fit_80_columns(audit: Audit) -> None:
    assert wide_lines(text.render(audit)) == []


def test_width_is_used() -> None:
    wide = text.render(EXAMPLE, width=120)
    assert wide_lines(wide, 120) == []
    assert wide.count("\n") < text.render(EXAMPLE).count("\n")


def test_long_paths_and_filters_are_not_wrapped() -> None:
    path = "captures/" + "a-rather-long-folder/" * 6 + "gw.pcap"
    long_filter = "tcp.stream eq 1 || " * 10 + "tcp.stream eq 2"
    captures = (replace(EXAMPLE.captures[0], path=path), EXAMPLE.captures[1])
    report = text.render(replace(EXAMPLE, captures=captures, findings=(finding(filter=long_filter),)))
    assert f"\n{path}\n" in report
    assert f"of {path}\n" in report or f" {path}\n" in report.split("Findings")[1]
    assert f"Filter  {long_filter}\n" in report


def test_frames_of_a_station_are_counted_by_what_became_of_them() -> None:
    counts = NO_FRAMES._replace(sent=4, received=3, row=5, unexpected=2)
    shown = text.render(replace(EXAMPLE, station_frames={EXAMPLE.base_stations[0].station.address: counts}))
    assert "  Seen  4 frames sent, 3 received: 5 in rows, 2 unexpected\n" in shown


def test_text_from_packets_is_escaped() -> None:
    report = text.render(HOSTILE_AUDIT)
    assert all(character == "\n" or character.isprintable() for character in report)
    assert "\\x1b[31mred\\r\\n\\x00\\x9b\\u202e\\ud8ff" in report
    report.encode("utf-8")


def test_findings_are_ordered_by_severity() -> None:
    report = text.render(EXAMPLE)
    found = re.findall(r"^(HIGH|MEDIUM|LOW|INFO) +(TPE\d+)", report, re.MULTILINE)
    assert found == [
        ("HIGH", "TPE302"),
        ("MEDIUM", "TPE101"),
        ("MEDIUM", "TPE301"),
        ("LOW", "TPE102"),
        ("INFO", "TPE001"),
    ]


def test_finding_has_evidence_and_remedy() -> None:
    report = text.render(replace(EXAMPLE, captures=EXAMPLE.captures[:1], findings=(finding(),)))
    section = " ".join(report.split("Findings")[1].split("Totals")[0].split())
    assert section == (
        "MEDIUM TPE301 tls-certificate-expired malformed, row i38, base station 10.0.0.2 "
        "The server's certificate expired on 2025-01-01, before the capture was made. "
        "Flow 1: tcp 10.0.0.2:50000 -> 10.0.9.1:3001, established, tls "
        "Frames 12, 14 Time 2026-11-22T06:37:01.123456Z "
        "Filter tcp.stream eq 0 && tls.handshake.type == 11 "
        "Remedy Renew the certificate of the server that answers on port 3001."
    )


def test_empty_capture() -> None:
    report = text.render(replace(BARE, captures=(EMPTY,)))
    assert "There is no packet in the capture: nothing could be judged." in report
    assert "pcap, 0 packets, 24 bytes\n" in report


def test_no_base_station() -> None:
    assert "No base station could be recognised. No findings." in text.render(replace(BARE, captures=(GW,)))


def test_no_findings() -> None:
    report = text.render(replace(BARE, captures=(GW,), base_stations=(TLS_STATION,)))
    assert "1 base station. No findings." in report
    assert "\nFindings" not in report


def test_uncertain_originator_has_another_arrow() -> None:
    report = text.render(replace(EXAMPLE, findings=(finding(flow=3),)))
    assert "3: tcp 10.0.0.2:50000 ~> 10.0.9.1:22, midstream, ssh" in report


def test_no_flows_give_only_a_heading() -> None:
    assert len(text.render_flows((EMPTY,), Conversations(())).splitlines()) == 1
