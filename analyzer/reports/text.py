"""The text report for people: 80 columns, ASCII except for text from the capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations
from analyzer.findings import Finding, Severity
from analyzer.frame_totals import NO_FRAMES, StationFrames
from analyzer.naming import host_name
from analyzer.protocols import dhcp
from analyzer.reports import wording
from analyzer.reports.times import finding_time, iso
from analyzer.reports.wording import (
    capture_lines,
    facts_text,
    frames_text,
    labelled,
    port,
    rows_text,
    shortened,
    status_text,
    text_verdict,
    wrap,
)
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict, StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit, AuditTotals

FLOWS_SHOWN = 3

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
"""Parameters of the terminal's Select Graphic Rendition sequence (ECMA-48, section 8.3.117)."""

STATUS_STYLES = {
    Status.PRESENT: GREEN,
    Status.MALFORMED: RED,
    Status.BLOCKED: RED,
    Status.MISSING: RED,
    Status.ABSENT: DIM,
    Status.UNDECIDED: YELLOW,
}
SEVERITY_STYLES = {Severity.HIGH: f"{BOLD};{RED}", Severity.MEDIUM: RED, Severity.LOW: YELLOW, Severity.INFO: CYAN}

Names = Mapping[str, Sequence[str]]
"""Address → its names."""
Paint = Callable[[str, str], str]
"""(text, style) → the text in that style, or unchanged in a report without colours."""


def render(audit: Audit, colour: bool = False, width: int = 80) -> str:
    """The audit as text. Only filters and paths may be longer than ``width``."""
    paint: Paint = styled if colour else plain
    return "".join(f"{line}\n" for line in report_lines(audit, paint, width))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, line by line."""
    return (f"{line}\n" for line in report_lines(audit, styled if colour else plain, 80))


def plain(text: str, style: str) -> str:
    return text


def styled(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def report_lines(audit: Audit, paint: Paint, width: int) -> Iterator[str]:
    heading = f"tpe-pcap audit, profile {audit.profile}, deployment {audit.deployment.value}"
    for line in wrap(heading, width, whole_words=True):
        yield paint(line, BOLD)
    yield ""
    for capture in audit.captures:
        yield from capture_lines(capture, width)
    yield ""
    yield from wrap(text_verdict(audit), width)
    for station in audit.base_stations:
        yield from wrap(station_summary(station), width, "  ", "    ")
    for station in audit.base_stations:
        yield ""
        yield from station_lines(audit, station, paint, width)
    if audit.findings:
        yield ""
        yield paint("Findings", BOLD)
        flows = {conversation.id: conversation for conversation in audit.conversations}
        for finding in sorted(audit.findings, key=lambda finding: -finding.severity):
            yield ""
            yield from finding_lines(finding, audit.captures, flows, audit.names, paint, width)
    yield ""
    yield paint("Totals", BOLD)
    yield from totals_lines(audit.totals)


# -- base stations ---------------------------------------------------------------------------------------------


def station_summary(verdict: StationVerdict) -> str:
    """A base station and the number of its rows with each status."""
    statuses = Counter(row.status for row in verdict.rows)
    counts = ", ".join(f"{statuses[status]} {status.value}" for status in Status if statuses[status])
    return f"{verdict.station.address}, mode {verdict.mode}" + (f": {counts}" if counts else "")


def station_lines(audit: Audit, verdict: StationVerdict, paint: Paint, width: int) -> Iterator[str]:
    station = verdict.station
    client = audit.clients.get(station.address)
    mac = station.mac or (f"{client.mac} (as DHCP tells it)" if client else None)
    yield paint(f"Base station {station.address}, mode {verdict.mode}", BOLD)
    others = [address for address in station.addresses if address != station.address]
    for label, parts in (
        ("Also", [", ".join(others)] if others else []),
        ("MAC", [mac] if mac else []),
        ("DHCP", [client_text(client)] if client and client_text(client) else []),
        ("Why", ["named by the user"] * station.named + list(station.evidence)),
        ("Mode", list(verdict.mode_evidence)),
        ("TPE", [", ".join(with_name(address, audit.names) for address in verdict.tpe)] if verdict.tpe else []),
        ("Seen", station_frames_text(audit.station_frames.get(station.address, NO_FRAMES))),
    ):
        for number, part in enumerate(parts):
            yield from wrap(part, width, f"  {'' if number else label:<6}", " " * 8)
    if verdict.rows:
        yield ""
        yield from rows_table(verdict.rows, paint)
        yield ""
        for row in verdict.rows:
            label = f"  {row.row.id:<6}"
            if row.reason:
                yield from wrap(f"{row.status.value}: {row.reason}", width, label, " " * len(label))
            facts = facts_text(row.row, audit.row_facts[station.address, row.row.id])
            if facts:
                yield from wrap(facts, width, " " * len(label) if row.reason else label, " " * len(label))


def station_frames_text(frames: StationFrames) -> list[str]:
    """A base station's frames by what became of them: ``7 frames sent, 6 received: 12 in rows, 1 housekeeping``."""
    counts = frames._asdict()
    places = ", ".join(f"{counts[place]} {words}" for place, words in FRAME_PLACES.items() if counts[place])
    return [f"{frames.sent} frames sent, {frames.received} received: {places}"] if places else []


FRAME_PLACES = {
    "row": "in rows",
    "unexpected": "unexpected",
    "housekeeping": "housekeeping",
    "icmp_error": "ICMP errors",
    "unread": "unread",
    "copy": "copies",
    "tunnel_inside": "inside of a tunnel",
    "other": "in rows of other modes",
}
"""Fields of :class:`~analyzer.frame_totals.StationFrames`, in words."""


def client_text(client: dhcp.Client) -> str:
    """A base station's DHCP data: ``host name bs1, vendor class udhcp 1.30, given 10.0.0.2 for 600 s``."""
    parts = [
        f"{label} {value}"
        for label, value in (("host name", client.host_name), ("vendor class", client.vendor_class))
        if value is not None
    ]
    if client.requested is not None and client.requested != client.address:
        parts.append(f"asked for {client.requested}")
    if client.address is not None:
        seconds = client.lease_seconds
        lease = "" if seconds is None else " for ever" if seconds == dhcp.FOREVER else f" for {seconds:,} s"
        parts.append(f"given {client.address}{lease}" + (f" by {client.server}" if client.server else ""))
    return ", ".join(parts)


def with_name(end: object, names: Names, address: str | None = None) -> str:
    """An address, or an endpoint at ``address``, with its first name that is a valid host name."""
    name = host_name(names.get(str(end) if address is None else address, ()))
    return str(end) if name is None else f"{end} ({name})"


def rows_table(rows: Sequence[RowVerdict], paint: Paint) -> Iterator[str]:
    from tabulate import tabulate  # slow to import

    cells = [
        (
            verdict.row.id,
            verdict.row.service,
            port(verdict.row),
            verdict.requirement.value,
            paint(status_text(verdict), STATUS_STYLES[verdict.status]),
            shortened(verdict.flows, FLOWS_SHOWN),
        )
        for verdict in rows
    ]
    headers = ("Row", "Content", "Port", "Need", "Status", "Flows")
    for line in tabulate(cells, headers, tablefmt="simple", disable_numparse=True).splitlines():
        yield "  " + line.rstrip()


# -- findings --------------------------------------------------------------------------------------------------


def finding_lines(
    finding: Finding,
    captures: Sequence[CaptureFile],
    flows: Mapping[int, Conversation],
    names: Names,
    paint: Paint,
    width: int,
) -> Iterator[str]:
    indent = " " * 8
    title = paint(f"{str(finding.severity).upper():<7}", SEVERITY_STYLES[finding.severity])
    yield f"{title} {finding.check} {paint(finding.slug, BOLD)}"
    about = [finding.kind.value]
    if finding.rows:
        about.append(rows_text(finding.rows))
    if finding.mismatch:
        about.append(f"not its {finding.mismatch}")
    if finding.base_station:
        about.append(f"base station {finding.base_station}")
    yield from wrap(", ".join(about), width, indent)
    yield from wrap(finding.summary, width, indent)
    flow = flows.get(finding.flow) if finding.flow is not None else None
    if flow is not None:
        yield from labelled("Flow", flow_text(flow, finding, names), width)
    elif finding.count > 1:
        yield from labelled("Flows", f"{finding.count:,}", width)
    if finding.frames:
        yield from labelled("Frames", frames_text(finding.frames, captures), width, whole_words=True)
    time = finding_time(finding, captures)
    if time is not None:
        yield from labelled("Time", time, width)
    if finding.filter:
        yield f"{indent}Filter  {escape_text(finding.filter)}"
    yield from labelled("Remedy", finding.remedy, width)


def flow_text(flow: Conversation, finding: Finding, names: Names) -> str:
    """The flow of a finding, with the name of the base station's peer."""
    more = f" and {finding.count - 1:,} more" if finding.count > 1 else ""
    content = f", {flow.protocol}" if flow.protocol else ""
    originator, responder = (
        str(end) if end.address == finding.base_station else with_name(end, names, end.address)
        for end in (flow.originator, flow.responder)
    )
    return f"{flow.id}{more}: {flow.transport} {originator} {arrow(flow)} {responder}, {flow.state.value}{content}"


def arrow(flow: Conversation) -> str:
    """From originator to responder; ``~>`` where the capture does not show which is which."""
    return "->" if flow.originator_certain else "~>"


# -- totals and flows ------------------------------------------------------------------------------------------


def totals_lines(totals: AuditTotals) -> Iterator[str]:
    numbers = [(escape_text(name), number) for name, number in wording.totals(totals)]
    width = max(len(f"{number:,}") for _, number in numbers)
    for name, number in numbers:
        yield f"  {number:>{width},}  {name}"


def render_flows(captures: Sequence[CaptureFile], conversations: Conversations) -> str:
    """One line per flow, aligned; as wide as the longest addresses need."""
    return "".join(flow_pieces(captures, conversations))


def flow_pieces(captures: Sequence[CaptureFile], conversations: Conversations) -> Iterator[str]:
    """:func:`render_flows`, line by line."""
    cells = [
        (
            str(flow.id),
            iso(flow.first, captures[flow.first_frame.capture].digits),
            flow.transport,
            str(flow.originator),
            arrow(flow),
            str(flow.responder),
            flow.state.value,
            flow.protocol or "-",
            str(flow.packets[0] + flow.packets[1]),
            str(flow.bytes[0] + flow.bytes[1]),
            f"{flow.duration:.3f}",
        )
        for flow in conversations.expand()
    ]
    cells.insert(
        0,
        ("flow", "first", "over", "originator", "", "responder", "state", "content", "packets", "bytes", "seconds"),
    )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right_aligned = {0, 8, 9, 10}
    template = "  ".join(f"{{:{'>' if index in right_aligned else '<'}{width}}}" for index, width in enumerate(widths))
    return (template.format(*row) + "\n" for row in cells)
