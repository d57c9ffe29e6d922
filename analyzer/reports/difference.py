"""What changed between two audits, for people and for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from analyzer.export.diff import SEVERITIES, Change, Difference, FlowClass, ToldFinding
from analyzer.safetext import escape_text

WIDTH = 80
FLOWS_SHOWN = 40
"""Lines for flows that came, and for those that went."""


def render_text(found: Difference) -> str:
    """The difference, 80 columns wide; only paths and flows may be wider."""
    return "".join(f"{line}\n" for line in lines(found))


def lines(found: Difference) -> Iterator[str]:
    yield "tpe-pcap diff"
    yield f"  old   {escape_text(found.old.path)}"
    yield f"  new   {escape_text(found.new.path)}"
    yield ""
    yield (
        f"{len(found.appeared)} new, {len(found.mended)} mended, {len(found.stayed)} stayed; "
        f"{len(found.rows)} row{'' if len(found.rows) == 1 else 's'} with another status."
    )
    for change in found.settings:
        yield from folded(f"The {change.about[0]} was {change.old} and is {change.new}: not all is comparable.")
    yield from part("New", (line for each in most_severe(found.appeared) for line in finding_lines(each)))
    yield from part("Mended", (line for each in most_severe(found.mended) for line in finding_lines(each)))
    pairs = sorted(found.stayed, key=lambda pair: -SEVERITIES.index(pair[1].severity))
    yield from part("Stayed", (line for old, new in pairs for line in stayed_lines(old, new)))
    yield from part("Base stations", station_lines(found))
    yield from part("Rows", map(row_line, found.rows))
    yield from part("Flows that came", flow_lines(found.flows_came))
    yield from part("Flows that went", flow_lines(found.flows_went))


def part(title: str, content: Iterable[str]) -> Iterator[str]:
    """A heading with what stands below it, if anything does."""
    said = list(content)
    if said:
        yield from ("", title, "", *said)


def most_severe(findings: Sequence[ToldFinding]) -> list[ToldFinding]:
    return sorted(findings, key=lambda each: -SEVERITIES.index(each.severity))


def finding_lines(each: ToldFinding, was: str = "") -> Iterator[str]:
    yield from folded(f"{each.severity.upper():<7} {each.check} {each.slug}{was}{about(each)}", "  ", 10)
    yield from folded(each.summary, " " * 10, 10)


def stayed_lines(old: ToldFinding, new: ToldFinding) -> Iterator[str]:
    """A finding that stayed in one line, in full if its severity changed."""
    if old.severity != new.severity:
        yield from finding_lines(new, f", was {old.severity}")
    else:
        yield from folded(f"{new.severity.upper():<7} {new.check} {new.slug}{about(new)}", "  ", 10)


def about(each: ToldFinding) -> str:
    rows = f", {'row' if len(each.rows) == 1 else 'rows'} {' or '.join(each.rows)}" if each.rows else ""
    return f"{rows}, base station {each.base_station}" if each.base_station else rows


def station_lines(found: Difference) -> Iterator[str]:
    for address in found.stations_came:
        yield f"  {escape_text(address)} came, mode {escape_text(found.new.stations[address])}"
    for address in found.stations_went:
        yield f"  {escape_text(address)} went, mode {escape_text(found.old.stations[address])}"
    for change in found.modes:
        yield escape_text(f"  {change.about[0]} was of mode {change.old}, is of mode {change.new}")


def row_line(change: Change) -> str:
    address, row = change.about
    return f"  {escape_text(address)} {escape_text(row):<4} {escape_text(change.old)} -> {escape_text(change.new)}"


def flow_lines(flows: Sequence[FlowClass]) -> Iterator[str]:
    for each in flows[:FLOWS_SHOWN]:
        arrow = "<-" if each.inbound else "->"
        yield escape_text(f"  {each.base_station} {arrow} {each.peer} {each.service} {each.protocol}")
    if len(flows) > FLOWS_SHOWN:
        yield f"  and {len(flows) - FLOWS_SHOWN:,} more"


def folded(text: str, first: str = "", indent: int = 0) -> list[str]:
    """The lines of a paragraph."""
    # escape_text() before wrap(), which would break at what it takes for white space.
    return textwrap.wrap(
        escape_text(text), WIDTH, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def render_json(found: Difference) -> str:
    """The difference as one JSON object, in ASCII."""
    content = {
        "schema_version": "1",
        "old": found.old.path,
        "new": found.new.path,
        "findings": {
            "new": [finding_json(each) for each in found.appeared],
            "mended": [finding_json(each) for each in found.mended],
            "stayed": [{**finding_json(new), "severity_before": old.severity} for old, new in found.stayed],
        },
        "settings": [{"name": each.about[0], "old": each.old, "new": each.new} for each in found.settings],
        "base_stations": {
            "came": list(found.stations_came),
            "went": list(found.stations_went),
            "mode_changed": [{"address": each.about[0], "old": each.old, "new": each.new} for each in found.modes],
        },
        "rows": [
            {"base_station": each.about[0], "id": each.about[1], "old": each.old, "new": each.new}
            for each in found.rows
        ],
        "flows": {"came": list(map(flow_json, found.flows_came)), "went": list(map(flow_json, found.flows_went))},
    }
    return json.dumps(content, indent=1) + "\n"


def finding_json(each: ToldFinding) -> dict[str, object]:
    return {
        "check": each.check,
        "slug": each.slug,
        "severity": each.severity,
        "base_station": each.base_station,
        "rows": each.rows,
        "summary": each.summary,
        "remedy": each.remedy,
        "fingerprint": each.fingerprint,
    }


def flow_json(each: FlowClass) -> dict[str, object]:
    return {
        "base_station": each.base_station,
        "direction": "in" if each.inbound else "out",
        "peer": each.peer,
        "service": each.service,
        "protocol": None if each.protocol == "-" else each.protocol,
    }
