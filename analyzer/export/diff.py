"""Compares two audits by their JSON reports.

Findings are the same if their fingerprints are equal (:func:`analyzer.findings.fingerprints`). Reports are untrusted
input: a file that does not have the shape of a report is rejected with one line that says where and why.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from analyzer.expected import UsageError
from analyzer.findings import Severity

T = TypeVar("T")
Key = TypeVar("Key", bound=tuple[str, ...])

SCHEMA_VERSION = "1"
SEVERITIES = tuple(str(severity) for severity in Severity)
"""Names in reports, ascending."""


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """The fields of a reported finding that a comparison needs."""

    check: str
    slug: str
    severity: str
    base_station: str | None
    rows: tuple[str, ...]
    summary: str
    remedy: str
    fingerprint: str


@dataclass(frozen=True, slots=True, order=True)
class FlowClass:
    """Flows between a base station and a peer that differ only in the client's port."""

    base_station: str
    inbound: bool
    """Whether the peer opened them."""
    peer: str
    service: str
    """Transport and the responder's port: ``tcp/3001``."""
    protocol: str
    """``-`` if the content is of no known protocol."""


@dataclass(frozen=True, slots=True)
class Report:
    """The parts of a report that a comparison needs."""

    path: str
    settings: Mapping[str, str]
    """Profile and deployment."""
    stations: Mapping[str, str]
    """Address of a base station → its mode."""
    rows: Mapping[tuple[str, str], str]
    """(base station, row) → status."""
    findings: tuple[ReportedFinding, ...]
    flows: frozenset[FlowClass]


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs between the reports."""

    key: tuple[str, ...]
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from an old report to a new one; findings are in the order of their reports."""

    old: Report
    new: Report
    new_findings: tuple[ReportedFinding, ...]
    fixed_findings: tuple[ReportedFinding, ...]
    unchanged_findings: tuple[tuple[ReportedFinding, ReportedFinding], ...]
    """In both reports: as the old one has it, and as the new one has it."""
    settings: tuple[Change, ...]
    """Profile and deployment. If they differ, the reports were judged by different rules."""
    modes: tuple[Change, ...]
    """Modes of base stations."""
    rows: tuple[Change, ...]
    """Statuses of rows, by (base station, row), for base stations that are in both reports."""
    new_stations: tuple[str, ...]
    gone_stations: tuple[str, ...]
    new_flows: tuple[FlowClass, ...]
    gone_flows: tuple[FlowClass, ...]

    def fails(self, fail_on: str) -> bool:
        """Whether a finding of this severity or above is new, or was less severe than this before."""
        threshold = SEVERITIES.index(fail_on)
        worse = (new for old, new in self.unchanged_findings if SEVERITIES.index(old.severity) < threshold)
        return any(SEVERITIES.index(finding.severity) >= threshold for finding in (*self.new_findings, *worse))


def compare(old: Report, new: Report) -> Difference:
    """What changed from one report to the other."""
    pairs = same_findings(old.findings, new.findings)
    before, after = {index for index, _ in pairs}, {index for _, index in pairs}
    return Difference(
        old,
        new,
        new_findings=tuple(finding for index, finding in enumerate(new.findings) if index not in after),
        fixed_findings=tuple(finding for index, finding in enumerate(old.findings) if index not in before),
        unchanged_findings=tuple((old.findings[old_index], new.findings[new_index]) for old_index, new_index in pairs),
        settings=changes(keyed(old.settings), keyed(new.settings)),
        modes=changes(keyed(old.stations), keyed(new.stations)),
        rows=changes(old.rows, new.rows),
        new_stations=tuple(address for address in new.stations if address not in old.stations),
        gone_stations=tuple(address for address in old.stations if address not in new.stations),
        new_flows=tuple(sorted(new.flows - old.flows)),
        gone_flows=tuple(sorted(old.flows - new.flows)),
    )


def keyed(values: Mapping[str, str]) -> Mapping[tuple[str], str]:
    """The values with keys as :func:`changes` expects them."""
    return {(name,): value for name, value in values.items()}


def changes(old: Mapping[Key, str], new: Mapping[Key, str]) -> tuple[Change, ...]:
    """The keys that are in both reports with different values."""
    return tuple(Change(key, old[key], value) for key, value in new.items() if old.get(key, value) != value)


def same_findings(old: Sequence[ReportedFinding], new: Sequence[ReportedFinding]) -> list[tuple[int, int]]:
    """Indexes of the findings that are in both reports, in the order of the new one.

    Several findings with one fingerprint differ by a counter after it. Those with equal summaries are paired first.
    """
    unpaired: dict[str, list[int]] = defaultdict(list)
    for index, finding in enumerate(old):
        unpaired[finding.fingerprint.partition(":")[0]].append(index)
    pairs: dict[int, int] = {}
    for same_summary in (True, False):
        for index, finding in enumerate(new):
            if index in pairs:
                continue
            candidates = unpaired[finding.fingerprint.partition(":")[0]]
            matching = (other for other in candidates if not same_summary or old[other].summary == finding.summary)
            match = next(matching, None)
            if match is not None:
                pairs[index] = match
                candidates.remove(match)
    return [(pairs[index], index) for index in sorted(pairs)]


# -- reading ---------------------------------------------------------------------------------------------------


class ShapeError(Exception):
    """The JSON is not a report; the text says where and why. :func:`load` turns it into a ``UsageError``."""


def load(path: str) -> Report:
    """A report from a file (``-``: standard input).

    Raises ``UsageError`` for a file that is not a report, ``OSError`` for one that cannot be read.
    """
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return parse_report(path, json.loads(content))
    except ShapeError as error:
        raise UsageError(f"{path}: is no report of 'tpe-pcap audit --format json': {error}") from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise UsageError(f"{path}: is no JSON: {reason}") from None


def parse_report(path: str, value: object) -> Report:
    version = member(value, "schema_version", str, "the report")
    if version != SCHEMA_VERSION:
        raise ShapeError(f"its schema version is {version!r}, only {SCHEMA_VERSION!r} is known")
    stations: dict[str, str] = {}
    rows: dict[tuple[str, str], str] = {}
    for place, station in elements(value, "base_stations", "the report"):
        address = member(station, "address", str, place)
        stations[address] = member(station, "mode", str, place)
        for row_place, row in elements(station, "rows", place):
            rows[address, member(row, "id", str, row_place)] = member(row, "status", str, row_place)
    return Report(
        path,
        {name: member(value, name, str, "the report") for name in ("profile", "deployment")},
        stations,
        rows,
        tuple(parse_finding(finding, place) for place, finding in elements(value, "findings", "the report")),
        frozenset(
            parse_flow(flow, place)
            for place, flow in elements(value, "flows", "the report")
            if member(flow, "base_station", (str, type(None)), place) is not None
        ),
    )


def parse_finding(value: object, place: str) -> ReportedFinding:
    severity = member(value, "severity", str, place)
    if severity not in SEVERITIES:
        raise ShapeError(f"{place} has the severity {severity!r}")
    rows = member(value, "rows", list, place)
    if not all(isinstance(row, str) for row in rows):
        raise ShapeError(f"{place} has rows that are no text")
    if isinstance(value, dict) and "fingerprint" not in value:
        raise ShapeError(f"{place} has no fingerprint: write the report anew with this version")
    return ReportedFinding(
        member(value, "check", str, place),
        member(value, "slug", str, place),
        severity,
        member(value, "base_station", (str, type(None)), place),
        tuple(rows),
        member(value, "summary", str, place),
        member(value, "remedy", str, place),
        member(value, "fingerprint", str, place),
    )


def parse_flow(value: object, place: str) -> FlowClass:
    station = member(value, "base_station", str, place)
    originator, responder = (
        member(member(value, end, dict, place), "address", str, f"{end} of {place}")
        for end in ("originator", "responder")
    )
    transport = member(value, "transport", str, place)
    port = member(member(value, "responder", dict, place), "port", (int, type(None)), f"responder of {place}")
    inbound = responder == station
    return FlowClass(
        station,
        inbound,
        originator if inbound else responder,
        transport if port is None else f"{transport}/{port}",
        member(value, "protocol", (str, type(None)), place) or "-",
    )


def member(value: object, name: str, kind: type[T] | tuple[type[T], ...], place: str) -> T:
    """A member of an object, which must be of this type; ``place`` names the object in errors."""
    if not isinstance(value, dict):
        raise ShapeError(f"{place} is no object")
    if name not in value:
        raise ShapeError(f"{place} has no {name}")
    found = value[name]
    if not isinstance(found, kind):
        raise ShapeError(f"{name} of {place} is of the wrong type")
    return found


def elements(value: object, name: str, place: str) -> list[tuple[str, object]]:
    """The elements of a list that is a member of an object, each with its place for errors."""
    return [(f"{name}[{index}]", element) for index, element in enumerate(member(value, name, list, place))]
