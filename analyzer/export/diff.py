"""What changed between two audits, as their reports in JSON tell it.

Findings are the same if their fingerprints are (:func:`analyzer.findings.fingerprints`). A report is taken for what
anybody may have written: whatever does not have the shape of one is refused in one line.
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
SEVERITIES = tuple(str(each) for each in Severity)
"""Ascending, as reports name them."""


@dataclass(frozen=True, slots=True)
class ToldFinding:
    """A finding, as far as a comparison needs it."""

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
    """Flows between a base station and one other host that differ in nothing but their number and the client's port."""

    base_station: str
    inbound: bool
    """The other host opened them."""
    peer: str
    service: str
    """Transport and the responder's port: ``tcp/3001``."""
    protocol: str
    """``-`` where the content is none that is known."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report, as far as a comparison needs it."""

    path: str
    settings: Mapping[str, str]
    """Profile and deployment."""
    stations: Mapping[str, str]
    """Address of a base station → its mode."""
    rows: Mapping[tuple[str, str], str]
    """Address and row → its status."""
    findings: tuple[ToldFinding, ...]
    flows: frozenset[FlowClass]


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is another one now."""

    about: tuple[str, ...]
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from an old report to a new one. Findings are in the order of their reports."""

    old: Report
    new: Report
    appeared: tuple[ToldFinding, ...]
    mended: tuple[ToldFinding, ...]
    stayed: tuple[tuple[ToldFinding, ToldFinding], ...]
    """As the old report says it, and as the new one does."""
    settings: tuple[Change, ...]
    """Profile, deployment: the reports do not judge by the same rules."""
    modes: tuple[Change, ...]
    """Base stations that live by another table now."""
    rows: tuple[Change, ...]
    """Of base stations that are in both reports: (address, row)."""
    stations_came: tuple[str, ...]
    stations_went: tuple[str, ...]
    flows_came: tuple[FlowClass, ...]
    flows_went: tuple[FlowClass, ...]

    def fails(self, fail_on: str) -> bool:
        """Whether something of this severity or above is new, or has become so severe."""
        least = SEVERITIES.index(fail_on)
        risen = (new for old, new in self.stayed if SEVERITIES.index(old.severity) < least)
        return any(SEVERITIES.index(each.severity) >= least for each in (*self.appeared, *risen))


def compare(old: Report, new: Report) -> Difference:
    """What changed from one report to the other."""
    stayed = same_findings(old.findings, new.findings)
    before, after = {one for one, _ in stayed}, {two for _, two in stayed}
    return Difference(
        old,
        new,
        appeared=tuple(each for index, each in enumerate(new.findings) if index not in after),
        mended=tuple(each for index, each in enumerate(old.findings) if index not in before),
        stayed=tuple((old.findings[one], new.findings[two]) for one, two in stayed),
        settings=changes({(name,): said for name, said in old.settings.items()},
                         {(name,): said for name, said in new.settings.items()}),
        modes=changes({(address,): mode for address, mode in old.stations.items()},
                      {(address,): mode for address, mode in new.stations.items()}),
        rows=changes(old.rows, new.rows),
        stations_came=tuple(each for each in new.stations if each not in old.stations),
        stations_went=tuple(each for each in old.stations if each not in new.stations),
        flows_came=tuple(sorted(new.flows - old.flows)),
        flows_went=tuple(sorted(old.flows - new.flows)),
    )  # fmt: skip


def changes(old: Mapping[Key, str], new: Mapping[Key, str]) -> tuple[Change, ...]:
    """What is in both and has another value."""
    return tuple(Change(about, old[about], said) for about, said in new.items() if old.get(about, said) != said)


def same_findings(old: Sequence[ToldFinding], new: Sequence[ToldFinding]) -> list[tuple[int, int]]:
    """Indexes of the findings that are in both, in the order of the new report.

    Of several with one fingerprint, which differ by a count behind it, those that say the same belong together first.
    """
    left: dict[str, list[int]] = defaultdict(list)
    for index, each in enumerate(old):
        left[each.fingerprint.partition(":")[0]].append(index)
    pairs: dict[int, int] = {}
    for alike in (True, False):
        for index, each in enumerate(new):
            candidates = left[each.fingerprint.partition(":")[0]]
            match = next((one for one in candidates if not alike or old[one].summary == each.summary), None)
            if index not in pairs and match is not None:
                pairs[index] = match
                candidates.remove(match)
    return [(pairs[index], index) for index in sorted(pairs)]


# -- reading ---------------------------------------------------------------------------------------------------


class Misshapen(Exception):  # noqa: N818 (it ends a reading; load() turns it into an error)
    """The file is no report; the text says where and why."""


def load(path: str) -> Report:
    """A report from a file (``-``: standard input). ``UsageError`` if it is none, ``OSError`` if it cannot be read."""
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return report(path, json.loads(content))
    except Misshapen as error:
        raise UsageError(f"{path}: is no report of 'tpe-pcap audit --format json': {error}") from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise UsageError(f"{path}: is no JSON: {reason}") from None


def report(path: str, value: object) -> Report:
    """A report from the value that its JSON is."""
    version = member(value, "schema_version", str, "the report")
    if version != SCHEMA_VERSION:
        raise Misshapen(f"its schema version is {version!r}, only {SCHEMA_VERSION!r} is known")
    stations: dict[str, str] = {}
    rows: dict[tuple[str, str], str] = {}
    for place, station in elements(value, "base_stations", "the report"):
        address = member(station, "address", str, place)
        stations[address] = member(station, "mode", str, place)
        for inner, row in elements(station, "rows", place):
            rows[address, member(row, "id", str, inner)] = member(row, "status", str, inner)
    return Report(
        path,
        {name: member(value, name, str, "the report") for name in ("profile", "deployment")},
        stations,
        rows,
        tuple(finding(each, place) for place, each in elements(value, "findings", "the report")),
        frozenset(
            flow_class(each, place)
            for place, each in elements(value, "flows", "the report")
            if member(each, "base_station", (str, type(None)), place) is not None
        ),
    )


def finding(value: object, place: str) -> ToldFinding:
    severity = member(value, "severity", str, place)
    if severity not in SEVERITIES:
        raise Misshapen(f"{place} has the severity {severity!r}")
    rows = member(value, "rows", list, place)
    if not all(isinstance(row, str) for row in rows):
        raise Misshapen(f"{place} has rows that are no text")
    if isinstance(value, dict) and "fingerprint" not in value:
        raise Misshapen(f"{place} has no fingerprint: write the report anew with this version")
    return ToldFinding(
        member(value, "check", str, place),
        member(value, "slug", str, place),
        severity,
        member(value, "base_station", (str, type(None)), place),
        tuple(rows),
        member(value, "summary", str, place),
        member(value, "remedy", str, place),
        member(value, "fingerprint", str, place),
    )


def flow_class(value: object, place: str) -> FlowClass:
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
    """A member of an object, of the type that it must have."""
    if not isinstance(value, dict):
        raise Misshapen(f"{place} is no object")
    if name not in value:
        raise Misshapen(f"{place} has no {name}")
    said = value[name]
    if not isinstance(said, kind):
        raise Misshapen(f"{name} of {place} is of the wrong type")
    return said


def elements(value: object, name: str, place: str) -> list[tuple[str, object]]:
    """The elements of a list that is a member of an object, each with its place."""
    return [(f"{name}[{index}]", each) for index, each in enumerate(member(value, name, list, place))]
