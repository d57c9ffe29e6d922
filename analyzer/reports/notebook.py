"""A notebook's display of an audit: a self-contained summary in HTML.

Text from captures and paths is escaped. There is no script, style sheet, link or image, because notebook servers remove
them from untrusted output. Only borders are coloured, so text keeps the colours of the user's theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from analyzer.findings import Severity
from analyzer.reports.times import finding_time, iso
from analyzer.reports.wording import notebook_verdict
from analyzer.safetext import escape_text
from analyzer.verdicts import StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit

SHOWN = 10
"""Maximum captures, base stations and findings shown."""

COLOURS = {Severity.HIGH: "#b2182b", Severity.MEDIUM: "#e08214", Severity.LOW: "#4393c3", Severity.INFO: "#999999"}
"""Distinguishable without red and green vision; the severity is also shown as a word."""

CELL = "text-align:left;vertical-align:top;padding:2px 10px"


def render(audit: Audit) -> str:
    """The audit as an HTML fragment: captures, base stations with their rows, and the most severe findings."""
    return "".join(parts(audit))


def parts(audit: Audit) -> Iterator[str]:
    yield '<div style="max-width:72em">'
    yield f"<p>{cell(notebook_verdict(audit))}</p>"
    yield from table(
        ("Capture", "Packets", "From", "To"),
        (
            (
                capture.path,
                f"{capture.packets:,}",
                "" if capture.first is None else iso(capture.first, capture.digits),
                "" if capture.last is None else iso(capture.last, capture.digits),
            )
            for capture in audit.captures[:SHOWN]
        ),
    )
    yield more(audit.captures, "captures")
    yield from table(
        ("Base station", "Mode", *(status.value for status in Status)), map(station_cells, audit.base_stations[:SHOWN])
    )
    yield more(audit.base_stations, "base stations")
    shown = audit.findings[:SHOWN]
    yield from table(
        ("Severity", "Check", "Row", "Base station", "Flow", "Time", "What"),
        (
            (
                str(finding.severity),
                f"{finding.check} {finding.slug}",
                ", ".join(finding.rows),
                finding.base_station or "",
                "" if finding.flow is None else str(finding.flow),
                finding_time(finding, audit.captures) or "",
                finding.summary,
            )
            for finding in shown
        ),
        [COLOURS[finding.severity] for finding in shown],
    )
    yield more(audit.findings, "findings")
    yield "</div>"


def station_cells(verdict: StationVerdict) -> tuple[str, ...]:
    """A base station, its mode, and its rows by status."""
    rows = (" ".join(row.row.id for row in verdict.rows if row.status is status) for status in Status)
    return verdict.station.address, verdict.mode, *rows


def more(values: Sequence[object], noun: str) -> str:
    return f"<p>… and {len(values) - SHOWN:,} more {noun}</p>" if len(values) > SHOWN else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], colours: Sequence[str] = ()) -> Iterator[str]:
    """A table, or nothing if there are no rows. ``colours``: of the left border of each row."""
    lines = []
    for number, row in enumerate(rows):
        border = f";border-left:6px solid {colours[number]}" if colours else ""
        cells = (f'<td style="{CELL}{"" if column else border}">{cell(text)}</td>' for column, text in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    if lines:
        yield '<table style="border-collapse:collapse;margin:0.5em 0"><thead><tr>'
        yield from (f'<th style="{CELL}">{cell(head)}</th>' for head in heads)
        yield f"</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def cell(text: str) -> str:
    """Text as HTML; unprintable characters and bidirectional formatting are shown as escapes."""
    return escape(escape_text(text))
