"""The report for tickets: Markdown as GitHub and GitLab read it (CommonMark with tables).

Whatever a packet or a path may say is escaped, so that it is shown as it is: no link, no image, no mention, no HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.findings import Finding
from analyzer.reports.times import finding_time, iso
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict, StationVerdict

if TYPE_CHECKING:
    from analyzer.result import Audit

FLOWS_SHOWN = 8


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as Markdown; it has no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, line by line."""
    return (f"{line}\n" for line in lines(audit))


def lines(audit: Audit) -> Iterator[str]:
    yield "# tpe-pcap audit"
    yield ""
    yield f"**{verdict(audit)}** Profile {plain(audit.profile)}, deployment {audit.deployment.value}."
    if audit.captures:
        yield ""
        yield from table(("Capture", "Format", "Packets", "First", "Last"), map(capture_cells, audit.captures))
    problems = [(capture, problem) for capture in audit.captures for problem in capture.problems]
    if problems:
        yield ""
    for capture, problem in problems:
        yield f"- {code(capture.path)}: {plain(problem)}"
    for station in audit.base_stations:
        yield ""
        yield from station_lines(station)
    if audit.findings:
        yield ""
        yield "## Findings"
    for finding in sorted(audit.findings, key=lambda finding: -finding.severity):
        yield ""
        yield from finding_lines(finding, audit.captures)


def verdict(audit: Audit) -> str:
    """Whether the audit failed, and by what."""
    counted = ", ".join(f"{count} {severity}" for severity, count in audit.severities.items() if count)
    word = "Failed" if audit.fails() else "Passed"
    stations = len(audit.base_stations)
    judged = f"{stations} base station{'' if stations == 1 else 's'}" if stations else "no base station recognised"
    return f"{word}: {judged}, {f'findings: {counted}' if counted else 'no findings'}."


def capture_cells(capture: CaptureFile) -> Sequence[str]:
    times = ["" if time is None else iso(time, capture.digits) for time in (capture.first, capture.last)]
    return (code(capture.path), capture.format, f"{capture.packets:,}", *times)


def station_lines(station: StationVerdict) -> Iterator[str]:
    yield f"## Base station {code(station.station.address)}, mode {plain(station.mode)}"
    facts = [
        ("MAC", [station.station.mac] if station.station.mac else []),
        ("TPE", station.tpe),
        ("also", [each for each in station.station.addresses if each != station.station.address]),
    ]
    said = [f"{label} {', '.join(map(code, values))}" for label, values in facts if values]
    if said:
        yield ""
        yield f"{'; '.join(said)}."
    if station.rows:
        yield ""
        yield from table(("Row", "Content", "Port", "Need", "Status", "Flows", "Reason"), map(row_cells, station.rows))


def row_cells(row: RowVerdict) -> Sequence[str]:
    status = f"{row.status.value}, {row.certainty.value}" if row.certainty else row.status.value
    expected = row.row
    port = f"{expected.transport}/{','.join(map(str, expected.ports))}" if expected.ports else expected.transport
    more = len(row.flows) - FLOWS_SHOWN
    flows = " ".join(map(str, row.flows[:FLOWS_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
    need = row.requirement.value
    return (plain(expected.id), plain(expected.service), plain(port), need, status, flows, plain(row.reason or ""))


def finding_lines(finding: Finding, captures: Sequence[CaptureFile]) -> Iterator[str]:
    yield f"### {str(finding.severity).capitalize()}: {finding.check} {plain(finding.slug)}"
    yield ""
    yield plain(finding.summary)
    yield ""
    about = [finding.kind.value]
    if finding.rows:
        about.append(f"{'row' if len(finding.rows) == 1 else 'rows'} {plain(' or '.join(finding.rows))}")
    if finding.mismatch:
        about.append(f"not its {plain(finding.mismatch)}")
    yield f"- Kind: {', '.join(about)}"
    if finding.base_station:
        yield f"- Base station: {code(finding.base_station)}"
    if finding.peer:
        yield f"- Peer: {code(finding.peer)}"
    if finding.service:
        yield f"- Service: {plain(finding.service)}"
    if finding.flow is not None:
        yield f"- Flow: {finding.flow}" + (f" and {finding.count - 1:,} more" if finding.count > 1 else "")
    for capture, group in groupby(finding.frames, key=lambda frame: frame.capture):
        yield f"- Frames: {', '.join(str(frame.number) for frame in group)} of {code(captures[capture].path)}"
    time = finding_time(finding, captures)
    if time is not None:
        yield f"- Time: {time}"
    if finding.filter:
        yield f"- Filter: {code(finding.filter)}"
    yield f"- Remedy: {plain(finding.remedy)}"


# -- what Markdown makes of text -------------------------------------------------------------------------------


def table(headers: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """A table whose cells are Markdown already. Within it a ``|`` is escaped in code, too (GFM, section 4.10)."""
    yield f"| {' | '.join(headers)} |"
    yield f"|{'---|' * len(headers)}"
    for cells in rows:
        yield f"| {' | '.join(BAR.sub(BACKSLASHED, cell) for cell in cells)} |"


BAR = re.compile(r"(?<!\\)\|")
BACKSLASHED = r"\\|"

MARKED = re.compile(r"[@#]+|[\\`*_\[\]<>|~&$^=!{}]|(?<=:)/|(?<=www)\.|^(?:[-+]|\d{1,9}[.)](?= |$))")
"""What begins markup, in CommonMark, in GitHub's tables and links, and in the mathematics of GitHub and GitLab."""


def plain(text: str) -> str:
    """Text that is shown as it is, on one line."""
    return MARKED.sub(shown, escape_text(text).strip())


def shown(match: re.Match[str]) -> str:
    """A mark so that it is text. What no backslash stops, a mention of a person or an issue, becomes code."""
    mark = match[0]
    return f"`{mark}`" if mark[0] in "@#" else f"{mark[:-1]}\\{mark[-1]}"


def code(text: str) -> str:
    """A code span that holds the text as it is (CommonMark, section 6.1)."""
    said = escape_text(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", said)), default=0))
    pad = " " if said.startswith("`") or said.endswith("`") or not said.strip() else ""
    return f"{fence}{pad}{said}{pad}{fence}"
