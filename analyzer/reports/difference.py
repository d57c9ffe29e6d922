"""The report of the differences between two audits, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from analyzer.export.diff import SEVERITIES, Change, Difference, FlowClass, ReportedFinding
from analyzer.reports.wording import rows_text, wrap
from analyzer.safetext import escape_text

WIDTH = 80
FLOWS_SHOWN = 40
"""Maximum flows listed in each part."""


def render_text(difference: Difference) -> str:
    """The difference, 80 columns wide; only paths and flows may be wider."""
    return "".join(f"{line}\n" for line in lines(difference))


def lines(difference: Difference) -> Iterator[str]:
    yield "tpe-pcap diff"
    yield f"  old   {escape_text(difference.old.path)}"
    yield f"  new   {escape_text(difference.new.path)}"
    yield ""
    yield (
        f"{len(difference.new_findings)} new, {len(difference.fixed_findings)} mended, "
        f"{len(difference.unchanged_findings)} stayed; "
        f"{len(difference.rows)} row{'' if len(difference.rows) == 1 else 's'} with another status."
    )
    for change in difference.settings:
        sentence = f"The {change.key[0]} was {change.old} and is {change.new}: not all is comparable."
        yield from wrap(sentence, WIDTH)
    yield from part("New", finding_lines(most_severe(difference.new_findings)))
    yield from part("Mended", finding_lines(most_severe(difference.fixed_findings)))
    pairs = sorted(difference.unchanged_findings, key=lambda pair: -SEVERITIES.index(pair[1].severity))
    yield from part("Stayed", (line for old, new in pairs for line in unchanged_lines(old, new)))
    yield from part("Base stations", station_lines(difference))
    yield from part("Rows", map(row_line, difference.rows))
    yield from part("Flows that came", flow_lines(difference.new_flows))
    yield from part("Flows that went", flow_lines(difference.gone_flows))


def part(title: str, content: Iterable[str]) -> Iterator[str]:
    """A heading with its content; nothing if there is no content."""
    content_lines = list(content)
    if content_lines:
        yield from ("", title, "", *content_lines)


def most_severe(findings: Sequence[ReportedFinding]) -> list[ReportedFinding]:
    """The findings, the most severe first."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def finding_lines(findings: Iterable[ReportedFinding]) -> Iterator[str]:
    for finding in findings:
        yield from title_lines(finding)
        yield from wrap(finding.summary, WIDTH, " " * 10)


def unchanged_lines(old: ReportedFinding, new: ReportedFinding) -> Iterator[str]:
    """The title of a finding that is in both reports; in full if its severity changed."""
    if old.severity == new.severity:
        yield from title_lines(new)
    else:
        yield from title_lines(new, f", was {old.severity}")
        yield from wrap(new.summary, WIDTH, " " * 10)


def title_lines(finding: ReportedFinding, addition: str = "") -> Iterator[str]:
    rows = f", {rows_text(finding.rows)}" if finding.rows else ""
    station = f", base station {finding.base_station}" if finding.base_station else ""
    title = f"{finding.severity.upper():<7} {finding.check} {finding.slug}{addition}{rows}{station}"
    yield from wrap(title, WIDTH, "  ", " " * 10)


def station_lines(difference: Difference) -> Iterator[str]:
    for address in difference.new_stations:
        yield f"  {escape_text(address)} came, mode {escape_text(difference.new.stations[address])}"
    for address in difference.gone_stations:
        yield f"  {escape_text(address)} went, mode {escape_text(difference.old.stations[address])}"
    for change in difference.modes:
        yield escape_text(f"  {change.key[0]} was of mode {change.old}, is of mode {change.new}")


def row_line(change: Change) -> str:
    address, row = change.key
    return f"  {escape_text(address)} {escape_text(row):<4} {escape_text(change.old)} -> {escape_text(change.new)}"


def flow_lines(flows: Sequence[FlowClass]) -> Iterator[str]:
    for flow in flows[:FLOWS_SHOWN]:
        arrow = "<-" if flow.inbound else "->"
        yield escape_text(f"  {flow.base_station} {arrow} {flow.peer} {flow.service} {flow.protocol}")
    if len(flows) > FLOWS_SHOWN:
        yield f"  and {len(flows) - FLOWS_SHOWN:,} more"


def render_json(difference: Difference) -> str:
    """The difference as one JSON object, in ASCII."""
    content = {
        "schema_version": "1",
        "old": difference.old.path,
        "new": difference.new.path,
        "findings": {
            "new": [finding_json(finding) for finding in difference.new_findings],
            "mended": [finding_json(finding) for finding in difference.fixed_findings],
            "stayed": [
                {**finding_json(new), "severity_before": old.severity} for old, new in difference.unchanged_findings
            ],
        },
        "settings": [{"name": change.key[0], "old": change.old, "new": change.new} for change in difference.settings],
        "base_stations": {
            "came": list(difference.new_stations),
            "went": list(difference.gone_stations),
            "mode_changed": [
                {"address": change.key[0], "old": change.old, "new": change.new} for change in difference.modes
            ],
        },
        "rows": [
            {"base_station": change.key[0], "id": change.key[1], "old": change.old, "new": change.new}
            for change in difference.rows
        ],
        "flows": {
            "came": list(map(flow_json, difference.new_flows)),
            "went": list(map(flow_json, difference.gone_flows)),
        },
    }
    return json.dumps(content, indent=1) + "\n"


def finding_json(finding: ReportedFinding) -> dict[str, object]:
    return {
        "check": finding.check,
        "slug": finding.slug,
        "severity": finding.severity,
        "base_station": finding.base_station,
        "rows": finding.rows,
        "summary": finding.summary,
        "remedy": finding.remedy,
        "fingerprint": finding.fingerprint,
    }


def flow_json(flow: FlowClass) -> dict[str, object]:
    return {
        "base_station": flow.base_station,
        "direction": "in" if flow.inbound else "out",
        "peer": flow.peer,
        "service": flow.service,
        "protocol": None if flow.protocol == "-" else flow.protocol,
    }
