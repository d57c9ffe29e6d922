"""The report for tickets: Markdown as GitHub and GitLab read it (CommonMark with tables).

Text from packets and paths is escaped so that it is shown literally: it yields no link, image, mention or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.findings import Finding
from analyzer.reports.times import finding_time, iso
from analyzer.reports.wording import facts_text, frames_by_capture, markdown_verdict, port, rows_text, status_text
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict, StationVerdict

if TYPE_CHECKING:
    from analyzer.result import Audit

FLOWS_SHOWN = 8


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as Markdown, which has no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, line by line."""
    return (f"{line}\n" for line in lines(audit))


def lines(audit: Audit) -> Iterator[str]:
    yield "# tpe-pcap audit"
    yield ""
    yield f"**{markdown_verdict(audit)}** Profile {plain(audit.profile)}, deployment {audit.deployment.value}."
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
        yield from station_lines(audit, station)
    if audit.findings:
        yield ""
        yield "## Findings"
    for finding in sorted(audit.findings, key=lambda finding: -finding.severity):
        yield ""
        yield from finding_lines(finding, audit.captures)


def capture_cells(capture: CaptureFile) -> Sequence[str]:
    times = ["" if time is None else iso(time, capture.digits) for time in (capture.first, capture.last)]
    return (code(capture.path), capture.format, f"{capture.packets:,}", *times)


def station_lines(audit: Audit, verdict: StationVerdict) -> Iterator[str]:
    station = verdict.station
    yield f"## Base station {code(station.address)}, mode {plain(verdict.mode)}"
    facts = [
        ("MAC", [station.mac] if station.mac else []),
        ("TPE", verdict.tpe),
        ("also", [address for address in station.addresses if address != station.address]),
    ]
    parts = [f"{label} {', '.join(map(code, values))}" for label, values in facts if values]
    if parts:
        yield ""
        yield f"{'; '.join(parts)}."
    if verdict.rows:
        yield ""
        yield from table(("Row", "Content", "Port", "Need", "Status", "Flows", "Reason"), map(row_cells, verdict.rows))
    shown = [(row.row.id, facts_text(row.row, audit.row_facts[station.address, row.row.id])) for row in verdict.rows]
    if any(words for _, words in shown):
        yield ""
    for row_id, words in shown:
        if words:
            yield f"- {plain(row_id)}: {plain(words)}"


def row_cells(verdict: RowVerdict) -> Sequence[str]:
    row = verdict.row
    more = len(verdict.flows) - FLOWS_SHOWN
    flows = " ".join(map(str, verdict.flows[:FLOWS_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
    return (
        plain(row.id),
        plain(row.service),
        plain(port(row)),
        verdict.requirement.value,
        status_text(verdict),
        flows,
        plain(verdict.reason or ""),
    )


def finding_lines(finding: Finding, captures: Sequence[CaptureFile]) -> Iterator[str]:
    yield f"### {str(finding.severity).capitalize()}: {finding.check} {plain(finding.slug)}"
    yield ""
    yield plain(finding.summary)
    yield ""
    about = [finding.kind.value]
    if finding.rows:
        about.append(plain(rows_text(finding.rows)))
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
    for capture, numbers in frames_by_capture(finding.frames, captures):
        yield f"- Frames: {', '.join(map(str, numbers))} of {code(capture.path)}"
    time = finding_time(finding, captures)
    if time is not None:
        yield f"- Time: {time}"
    if finding.filter:
        yield f"- Filter: {code(finding.filter)}"
    yield f"- Remedy: {plain(finding.remedy)}"


# -- Markdown --------------------------------------------------------------------------------------------------


def table(headers: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """A table of cells in Markdown. A ``|`` in a cell is escaped, even in code (GFM, section 4.10)."""
    yield f"| {' | '.join(headers)} |"
    yield f"|{'---|' * len(headers)}"
    for cells in rows:
        yield f"| {' | '.join(BAR.sub(ESCAPED_BAR, cell) for cell in cells)} |"


BAR = re.compile(r"(?<!\\)\|")
ESCAPED_BAR = r"\\|"

MARKUP = re.compile(r"[@#]+|[\\`*_\[\]<>|~&$^=!{}]|(?<=:)/|(?<=www)\.|^(?:[-+]|\d{1,9}[.)](?= |$))")
"""The beginnings of markup: in CommonMark, in GitHub's tables and links, and in GitHub's and GitLab's mathematics."""


def plain(text: str) -> str:
    """Text that Markdown shows literally, on one line."""
    return MARKUP.sub(escape_markup, escape_text(text).strip())


def escape_markup(match: re.Match[str]) -> str:
    """Markup with a backslash; ``@`` and ``#``, whose mentions a backslash does not prevent, as code."""
    markup = match[0]
    return f"`{markup}`" if markup[0] in "@#" else f"{markup[:-1]}\\{markup[-1]}"


def code(text: str) -> str:
    """A code span that shows the text literally (CommonMark, section 6.1)."""
    content = escape_text(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", content)), default=0))
    pad = " " if content.startswith("`") or content.endswith("`") or not content.strip() else ""
    return f"{fence}{pad}{content}{pad}{fence}"
