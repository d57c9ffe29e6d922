"""The report that people read: 80 columns, plain ASCII around what the capture says."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations
from analyzer.expected import ExpectedFlow
from analyzer.findings import Finding, Severity
from analyzer.heads import Frame
from analyzer.protocols import dhcp
from analyzer.reports.times import finding_time, iso, span
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict, StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit, AuditTotals

FRAMES_SHOWN = 8
FLOWS_SHOWN = 3

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
"""Parameters of the terminal's Select Graphic Rendition sequence (ECMA-48)."""

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
"""(text, style) → the text, in that style where colours are wanted."""


def render(audit: Audit, colour: bool = False, width: int = 80) -> str:
    """The audit as text. Only filters and paths may be wider than ``width``."""
    paint: Paint = styled if colour else plain
    return "".join(f"{line}\n" for line in report_lines(audit, paint, width))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, line by line."""
    return (f"{line}\n" for line in report_lines(audit, styled if colour else plain, 80))


def report_lines(audit: Audit, paint: Paint, width: int) -> Iterator[str]:
    heading = f"tpe-pcap audit, profile {audit.profile}, deployment {audit.deployment.value}"
    for line in fold(heading, width, whole_words=True):
        yield paint(line, BOLD)
    yield ""
    for capture in audit.captures:
        yield from capture_lines(capture, width)
    yield ""
    yield from fold(verdict_sentence(audit), width)
    for station in audit.base_stations:
        yield from fold(station_summary(station), width, "  ", "    ")
    for station in audit.base_stations:
        yield ""
        yield from station_lines(station, audit.names, audit.clients.get(station.station.address), paint, width)
    if audit.findings:
        yield ""
        yield paint("Findings", BOLD)
        flows = {each.id: each for each in audit.conversations}
        for finding in sorted(audit.findings, key=lambda finding: -finding.severity):
            yield ""
            yield from finding_lines(finding, audit.captures, flows, audit.names, paint, width)
    yield ""
    yield paint("Totals", BOLD)
    yield from totals_lines(audit.totals)


def capture_lines(capture: CaptureFile, width: int) -> Iterator[str]:
    yield escape_text(capture.path)
    facts = f"{capture.format}, {amount(capture.packets, 'packet')}, {amount(capture.bytes, 'byte')}"
    if capture.first is not None and capture.last is not None:
        first, last = iso(capture.first, capture.digits), iso(capture.last, capture.digits)
        facts += f", {first} to {last} ({span(capture.last - capture.first)})"
    yield from fold(facts, width, "  ")
    for problem in capture.problems:
        yield from fold(problem, width, "  ! ", "    ")


def verdict_sentence(audit: Audit) -> str:
    """The whole audit in one line."""
    if not any(capture.packets for capture in audit.captures):
        return "There is no packet in the capture: nothing could be judged."
    counted = ", ".join(f"{count} {severity}" for severity, count in audit.severities.items())
    found = f"{amount(len(audit.findings), 'finding')}: {counted}." if audit.findings else "No findings."
    if not audit.base_stations:
        return f"No base station could be recognised. {found}"
    return f"{amount(len(audit.base_stations), 'base station')}. {found}"


def station_summary(verdict: StationVerdict) -> str:
    """What became of all rows of a base station."""
    statuses = Counter(row.status for row in verdict.rows)
    counted = ", ".join(f"{statuses[status]} {status.value}" for status in Status if statuses[status])
    return f"{verdict.station.address}, mode {verdict.mode}" + (f": {counted}" if counted else "")


# -- base stations ---------------------------------------------------------------------------------------------


def station_lines(
    verdict: StationVerdict, names: Names, client: dhcp.Client | None, paint: Paint, width: int
) -> Iterator[str]:
    station = verdict.station
    mac = station.mac or (f"{client.mac} (as DHCP tells it)" if client else None)
    yield paint(f"Base station {station.address}, mode {verdict.mode}", BOLD)
    others = [address for address in station.addresses if address != station.address]
    for label, parts in (
        ("Also", [", ".join(others)] if others else []),
        ("MAC", [mac] if mac else []),
        ("DHCP", [client_text(client)] if client and client_text(client) else []),
        ("Why", ["named by the user"] * station.named + list(station.evidence)),
        ("Mode", list(verdict.mode_evidence)),
        ("TPE", [", ".join(called(address, names) for address in verdict.tpe)] if verdict.tpe else []),
    ):
        for number, part in enumerate(parts):
            yield from fold(part, width, f"  {'' if number else label:<6}", " " * 8)
    if verdict.rows:
        yield ""
        yield from rows_table(verdict.rows, paint)
        yield ""
        for row in verdict.rows:
            if row.reason:
                label = f"  {row.row.id:<6}"
                yield from fold(f"{row.status.value}: {row.reason}", width, label, " " * len(label))


def client_text(client: dhcp.Client) -> str:
    """What DHCP tells of a base station: ``host name bs1, vendor class udhcp 1.30, given 10.0.0.2 for 600 s``."""
    parts = [
        f"{label} {value}"
        for label, value in (("host name", client.host_name), ("vendor class", client.vendor_class))
        if value is not None
    ]
    if client.requested is not None and client.requested != client.address:
        parts.append(f"asked for {client.requested}")
    if client.address is not None:
        seconds = client.lease_seconds
        lasting = "" if seconds is None else " for ever" if seconds == dhcp.FOREVER else f" for {seconds:,} s"
        parts.append(f"given {client.address}{lasting}" + (f" by {client.server}" if client.server else ""))
    return ", ".join(parts)


def called(end: object, names: Names, address: str | None = None) -> str:
    """An address, or an end at one, with its first name that is written as hosts' names are (RFC 1123, section 2.1)."""
    known = names.get(str(end) if address is None else address, ())
    name = next((name for name in known if HOST_NAME.fullmatch(name)), None)
    return str(end) if name is None else f"{end} ({name})"


HOST_NAME = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]{0,251}[0-9A-Za-z_])?", re.ASCII)


def rows_table(rows: Sequence[RowVerdict], paint: Paint) -> Iterator[str]:
    from tabulate import tabulate  # takes longer to import than most of the program

    cells = [
        (
            verdict.row.id,
            verdict.row.service,
            port(verdict.row),
            verdict.requirement.value,
            paint(status_text(verdict), STATUS_STYLES[verdict.status]),
            some(verdict.flows, FLOWS_SHOWN),
        )
        for verdict in rows
    ]
    headers = ("Row", "Content", "Port", "Need", "Status", "Flows")
    for line in tabulate(cells, headers, tablefmt="simple", disable_numparse=True).splitlines():
        yield "  " + line.rstrip()


def port(row: ExpectedFlow) -> str:
    """Transport and ports of a row: ``udp/500,4500``."""
    return f"{row.transport}/{','.join(map(str, row.ports))}" if row.ports else row.transport


def status_text(verdict: RowVerdict) -> str:
    return f"{verdict.status.value}, {verdict.certainty.value}" if verdict.certainty else verdict.status.value


# -- findings --------------------------------------------------------------------------------------------------


def finding_lines(
    finding: Finding,
    captures: Sequence[CaptureFile],
    flows: Mapping[int, Conversation],
    names: Names,
    paint: Paint,
    width: int,
) -> Iterator[str]:
    about = [finding.kind.value]
    if finding.rows:
        about.append(f"{'row' if len(finding.rows) == 1 else 'rows'} {' or '.join(finding.rows)}")
    if finding.mismatch:
        about.append(f"not its {finding.mismatch}")
    title = paint(f"{str(finding.severity).upper():<7}", SEVERITY_STYLES[finding.severity])
    yield f"{title} {finding.check} {paint(finding.slug, BOLD)}"
    indent = " " * 8
    if finding.base_station:
        about.append(f"base station {finding.base_station}")
    yield from fold(", ".join(about), width, indent)
    yield from fold(finding.summary, width, indent)
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
    """The flow of a finding; the base station's peer with its name."""
    more = f" and {finding.count - 1:,} more" if finding.count > 1 else ""
    content = f", {flow.protocol}" if flow.protocol else ""
    one, two = (
        str(end) if end.address == finding.base_station else called(end, names, end.address)
        for end in (flow.originator, flow.responder)
    )
    ends = f"{one} {arrow(flow)} {two}"
    return f"{flow.id}{more}: {flow.transport} {ends}, {flow.state.value}{content}"


def arrow(flow: Conversation) -> str:
    """From originator to responder; ``~>`` where the capture does not show which is which."""
    return "->" if flow.originator_certain else "~>"


def frames_text(frames: Sequence[Frame], captures: Sequence[CaptureFile]) -> str:
    """Frame numbers, with their file where there are several."""
    if len(captures) == 1:
        return some([frame.number for frame in frames], FRAMES_SHOWN, ", ")
    parts = []
    for capture, group in groupby(sorted(frames), key=lambda frame: frame.capture):
        numbers = some([frame.number for frame in group], FRAMES_SHOWN, ", ")
        parts.append(f"{numbers} of {captures[capture].path}")
    return "; ".join(parts)


# -- totals and flows ------------------------------------------------------------------------------------------


def totals_lines(totals: AuditTotals) -> Iterator[str]:
    """One line per number of the audit's totals, and per part where a number is told by kind."""
    counted: list[tuple[str, int]] = []
    for field in dataclasses.fields(totals):
        words = (word.upper() if word in ("ip", "icmp") else word for word in field.name.split("_"))
        name, value = " ".join(words), getattr(totals, field.name)
        if isinstance(value, Mapping):
            counted += [(f"{name}: {escape_text(kind)}", number) for kind, number in value.items()]
        else:
            counted.append((name, value))
    width = max(len(f"{number:,}") for _, number in counted)
    for name, number in counted:
        yield f"  {number:>{width},}  {name}"


def render_flows_text(captures: Sequence[CaptureFile], conversations: Conversations) -> str:
    """One line per flow, aligned; as wide as the longest addresses need."""
    return "".join(flow_pieces(captures, conversations))


def flow_pieces(captures: Sequence[CaptureFile], conversations: Conversations) -> Iterator[str]:
    """:func:`render_flows_text`, line by line."""
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
    right = {0, 8, 9, 10}
    form = "  ".join(f"{{:{'>' if index in right else '<'}{width}}}" for index, width in enumerate(widths))
    return (form.format(*row) + "\n" for row in cells)


# -- words and lines -------------------------------------------------------------------------------------------


def plain(text: str, style: str) -> str:
    return text


def styled(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def fold(
    text: str, width: int, first: str = "", following: str | None = None, whole_words: bool = False
) -> Iterator[str]:
    """The lines of a paragraph; ``first`` stands before its first line, ``following`` before the others."""
    yield from textwrap.wrap(
        escape_text(text),
        width,
        initial_indent=first,
        subsequent_indent=first if following is None else following,
        break_on_hyphens=False,
        break_long_words=not whole_words,
    )


def labelled(label: str, text: str, width: int, whole_words: bool = False) -> Iterator[str]:
    """A paragraph of a finding, beside its label."""
    return fold(text, width, f"{'':8}{label:<8}", " " * 16, whole_words)


def amount(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(values: Sequence[object], limit: int, separator: str = " ") -> str:
    """The first values, and how many more there are."""
    more = len(values) - limit
    return separator.join(map(str, values[:limit])) + (f"{separator}+{more:,}" if more > 0 else "")
