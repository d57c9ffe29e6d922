"""What a notebook shows of an audit: a summary in HTML that stands alone and is as safe as its text.

Everything that a capture or a path says is escaped. There is no script, no style sheet, no link and no image: notebook
servers strip them from what they do not trust. Colours are borders only, so that text keeps those of the user's theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from analyzer.findings import Severity
from analyzer.reports.times import finding_time, iso
from analyzer.safetext import escape_text
from analyzer.verdicts import StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit

SHOWN = 10
"""Captures, base stations and findings that are shown, each."""

COLOURS = {Severity.HIGH: "#b2182b", Severity.MEDIUM: "#e08214", Severity.LOW: "#4393c3", Severity.INFO: "#999999"}
"""Told apart also by people who do not see red and green; the word stands beside the colour."""

CELL = "text-align:left;vertical-align:top;padding:2px 10px"


def render(audit: Audit) -> str:
    """The audit as an HTML fragment: what was read, the base stations and their rows, the gravest findings."""
    return "".join(parts(audit))


def parts(audit: Audit) -> Iterator[str]:
    yield '<div style="max-width:72em">'
    yield f"<p>{cell(verdict(audit))}</p>"
    yield from table(
        ("Capture", "Packets", "From", "To"),
        (
            (
                each.path,
                f"{each.packets:,}",
                "" if each.first is None else iso(each.first, each.digits),
                "" if each.last is None else iso(each.last, each.digits),
            )
            for each in audit.captures[:SHOWN]
        ),
    )
    yield more(audit.captures, "captures")
    yield from table(
        ("Base station", "Mode", *(status.value for status in Status)), map(station, audit.base_stations[:SHOWN])
    )
    yield more(audit.base_stations, "base stations")
    shown = audit.findings[:SHOWN]
    yield from table(
        ("Severity", "Check", "Row", "Base station", "Flow", "Time", "What"),
        (
            (
                str(each.severity),
                f"{each.check} {each.slug}",
                ", ".join(each.rows),
                each.base_station or "",
                "" if each.flow is None else str(each.flow),
                finding_time(each, audit.captures) or "",
                each.summary,
            )
            for each in shown
        ),
        [COLOURS[each.severity] for each in shown],
    )
    yield more(audit.findings, "findings")
    yield "</div>"


def verdict(audit: Audit) -> str:
    """The audit in one line."""
    if not audit.totals.packets:
        return "There is no packet in the capture: nothing could be judged."
    known = f"{len(audit.base_stations):,}" if audit.base_stations else "none recognised"
    counted = ", ".join(f"{count} {severity}" for severity, count in audit.severities.items() if count) or "none"
    return f"Base stations: {known}. Findings: {counted}. Profile {audit.profile}, deployment {audit.deployment.value}."


def station(each: StationVerdict) -> tuple[str, ...]:
    """A base station, and which rows of its table have each status."""
    rows = {status: " ".join(row.row.id for row in each.rows if row.status is status) for status in Status}
    return each.station.address, each.mode, *rows.values()


def more(values: Sequence[object], noun: str) -> str:
    return f"<p>… and {len(values) - SHOWN:,} more {noun}</p>" if len(values) > SHOWN else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], colours: Sequence[str] = ()) -> Iterator[str]:
    """A table, unless it is empty; each row with a border of its colour on the left."""
    lines = [
        "<tr>"
        + "".join(
            f'<td style="{CELL}{f";border-left:6px solid {colours[number]}" if colours and not place else ""}">'
            f"{cell(text)}</td>"
            for place, text in enumerate(row)
        )
        + "</tr>"
        for number, row in enumerate(rows)
    ]
    if lines:
        yield '<table style="border-collapse:collapse;margin:0.5em 0"><thead><tr>'
        yield from (f'<th style="{CELL}">{cell(head)}</th>' for head in heads)
        yield f"</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def cell(text: str) -> str:
    """Text as HTML shows it; what is not printable, and marks that reverse the writing, as escapes."""
    return escape(escape_text(text))
