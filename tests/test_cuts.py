"""A capture that was cut says no more than what is left of it shows.

Every recorded capture is cut at each tenth of its packets, to snap lengths, to one direction, and into two files an
hour apart, and audited with the base stations, TPE and mode that the audit of the whole capture found. What the cut
took away must make no finding: one of medium severity or above stands in the audit of the whole capture, too, or says
what the capture lacks, or is of a row that was not served in what is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from analyzer import Audit, audit
from analyzer.expected import load
from analyzer.findings import Finding, Kind, Severity
from analyzer.stations import UNKNOWN
from analyzer.verdicts import Certainty, StationVerdict, Status
from tests import cuts, samples
from tests.cuts import WAYS, Cut, Packet, Way

WHAT_IS_MISSING = {"empty-capture", "no-base-station", "one-sided-capture", "unreadable-frames-of-base-station"}
"""Notices of medium severity that say what the capture lacks."""
WEAKER = {
    "tls-not-encrypted": "tls-broken-cipher-suite",  # the hellos that chose no cipher are cut off
    "icmp-reply-mismatch": "icmp-tunnel",  # fewer pings are left than make a tunnel
    "unexpected-inbound": "icmp-control-message",  # the ping that a redirect quotes is cut off
}
"""Check → the check that reports the same packets in the whole capture, with more of them."""

PATIENCE = 10_000_000_000
"""Nanoseconds of silence from which on a request was not answered; after less, nothing can be told."""
PAUSE = 300_000_000_000
"""Nanoseconds without any packet in which a capture does not watch."""
FIN, RST = 1, 4
ECHO_REPLIES = {cuts.ICMP: 0, cuts.ICMPV6: 129}
FTP_PORT, IKE_PORTS = 21, {500, 4500}
TRANSFERRED = b"226"
"""FTP: the transfer was completed."""
IKE_SA_INIT = b"\x22"
NUMBERS = {"tcp": cuts.TCP, "udp": cuts.UDP, "icmp": cuts.ICMP, "icmpv6": cuts.ICMPV6, "esp": cuts.ESP}
PORTS = {row.id: (row.transport, row.ports) for table in load().values() for row in table.flows}
"""Row id → what a row shares with another one that only the course of a session tells from it."""


# -- the whole capture ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """The audit of a whole capture, and what the audits of its parts take over from it."""

    stations: Mapping[str, StationVerdict]
    """Address → the base station that has it."""
    serious: frozenset[object]
    """What the findings of medium severity and above are about; see :func:`about`."""
    options: tuple[Mapping[str, Any], ...]
    """Arguments of :func:`analyzer.audit`, once for each mode of a base station."""
    flows: Mapping[tuple[str, str], Mapping[object, cuts.End]]
    """Base station and row → the row's flows, with their originators."""

    @property
    def macs(self) -> set[str | None]:
        return {verdict.station.mac for verdict in self.stations.values()} - {None}

    def name(self, address: str | None) -> str | None:
        """The address under which the whole capture's audit reports a base station."""
        return self.stations[address].station.address if address in self.stations else address


@cache
def whole(name: str) -> Whole:
    """The audit of a recorded capture."""
    found = samples.audit_of(name)
    options = []
    for mode in sorted({verdict.mode for verdict in found.base_stations}):
        verdicts = [verdict for verdict in found.base_stations if verdict.mode == mode]
        named = {
            "base_stations": [address for verdict in verdicts for address in verdict.station.addresses],
            "tpe": sorted({address for verdict in verdicts for address in servers(found, verdict)}),
            "mode": None if mode == UNKNOWN else mode,
        }
        options.append(samples.options(name) | named)
    return Whole(
        {address: verdict for verdict in found.base_stations for address in verdict.station.addresses},
        frozenset(key for finding in found.findings if finding.severity >= Severity.MEDIUM for key in about(finding)),
        tuple(options) or (samples.options(name),),
        flows_of_rows(found),
    )


def servers(found: Audit, verdict: StationVerdict) -> set[str]:
    """The addresses of TPE, and those from which it serves FTP data."""
    data = [flow for flow in found.flows if flow.protocol == "ftp-data" and found.flow_rows.get(flow.id)]
    ends = {end.address for flow in data for end in (flow.originator, flow.responder)}
    return {*verdict.tpe, *(ends - set(verdict.station.addresses))}


def flows_of_rows(found: Audit) -> dict[tuple[str, str], dict[object, cuts.End]]:
    """Base station and row → the row's flows, with their originators."""
    flows = {flow.id: flow for flow in found.flows}
    rows: dict[tuple[str, str], dict[object, cuts.End]] = defaultdict(dict)
    for verdict in found.base_stations:
        for row in verdict.rows:
            for flow in (flows[number] for number in row.flows):
                ends = [(end.address, end.port or 0) for end in (flow.originator, flow.responder)]
                rows[verdict.station.address, row.row.id].setdefault(
                    (NUMBERS[flow.transport], frozenset(ends)), ends[0]
                )
    return rows


def about(finding: Finding) -> list[object]:
    """Check, base station and each row of a finding, rows with the same ports as one; of unexpected flows the peer."""
    if finding.kind is Kind.UNEXPECTED:
        # Which row comes nearest depends on who opened the flow, which may be in the part that was cut off.
        return [("unexpected", finding.base_station, finding.peer)]
    return [(finding.slug, finding.base_station, PORTS.get(row, row)) for row in finding.rows or ("",)]


# -- what is left -----------------------------------------------------------------------------------------------


class Left(NamedTuple):
    """What is left of a flow."""

    packets: list[Packet]
    before: list[Packet]
    """All packets that the whole capture has of it."""
    originator: cuts.End

    @property
    def lacks_beginning(self) -> bool:
        """Whether it is a connection that was opened in the part that was cut off. A datagram needs no opening."""
        ends = self.packets[0].ends
        return ends is not None and ends.protocol == cuts.TCP and self.packets[0].data[:54] != self.before[0].data[:54]


@dataclass(frozen=True)
class Rest:
    """What a cut left of a capture, as told from its packets."""

    name: str
    way: Way
    packets: list[Packet]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """First and last time of the packets between pauses."""
        times = sorted(packet.time for packet in self.packets)
        breaks = [index for index, (one, other) in enumerate(pairwise(times), 1) if other - one >= PAUSE]
        return [(times[begin], times[end - 1]) for begin, end in pairwise([0, *breaks, len(times)])] if times else []

    def watched(self) -> float:
        """Seconds of the longest run."""
        return max((last - first for first, last in self.runs), default=0) / 1e9

    def silence(self, time: int) -> int:
        """Nanoseconds that the capture went on without a pause after a time."""
        return next((last - time for first, last in self.runs if first <= time <= last), 0)

    def flows(self, station: str, row: str) -> Iterator[Left]:
        """What is left of the flows that matched a row in the whole capture."""
        left, before = by_flow(self.packets), flows_of_capture(self.name)
        for key, originator in whole(self.name).flows.get((station, row), {}).items():
            if key in left:
                yield Left(left[key], before[key], originator)


def by_flow(packets: Iterable[Packet]) -> dict[object, list[Packet]]:
    """Packets by protocol and both ends; ICMP and ESP have no ports."""
    found: dict[object, list[Packet]] = defaultdict(list)
    for packet in packets:
        if packet.ends:
            found[packet.ends.protocol, frozenset((packet.ends.source, packet.ends.destination))].append(packet)
    return found


@cache
def flows_of_capture(name: str) -> dict[object, list[Packet]]:
    return by_flow(cuts.recording(name).packets)


def was_not_served(rest: Rest, station: str, row: str) -> bool:
    """Whether something that is left of a row was tried, and nothing served.

    What was tried is left with its beginning, or never served in the whole capture either. It was closed or reset, or
    the capture went on for ten seconds.
    """
    failed = False
    for flow in rest.flows(station, row):
        if any(serves(packet, flow.originator) for packet in flow.packets):
            return False
        if flow.lacks_beginning and any(serves(packet, flow.originator) for packet in flow.before):
            continue  # nothing was opened in what is left
        failed |= any(map(is_end, flow.packets)) or rest.silence(flow.packets[0].time) >= PATIENCE
    return failed


def is_end(packet: Packet) -> bool:
    """Whether a packet closes or resets a connection."""
    return packet.ends is not None and packet.ends.protocol == cuts.TCP and bool(packet.ends.flags & (FIN | RST))


def serves(packet: Packet, originator: cuts.End) -> bool:
    """Whether a packet is an answer that serves: an echo reply, IKE beyond IKE_SA_INIT, FTP 226, or any payload."""
    ends = packet.ends
    assert ends
    if ends.source == originator:
        return False
    ports = {ends.source[1], ends.destination[1]}
    if ends.protocol in ECHO_REPLIES:
        return ends.flags == ECHO_REPLIES[ends.protocol]
    if ends.protocol == cuts.UDP and ports & IKE_PORTS:
        return ends.beginning.removeprefix(bytes(4))[18:19] != IKE_SA_INIT
    if ends.protocol == cuts.TCP and FTP_PORT in ports:
        return ends.beginning.startswith(TRANSFERRED)
    return ends.payload > 0


# -- audits -----------------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """What the audit of a cut capture says, and what is left does not show."""

    slug: str
    """Of the check; ``firm`` or ``silent`` for a status."""
    text: str


def failures(name: str, way: Way, folder: Path) -> list[Failure]:
    """What the audits of a cut capture say that what is left does not show."""
    known = whole(name)
    files = cuts.left(name, way, known.stations, known.macs)
    rest = Rest(name, way, [packet for packets in files for packet in packets])
    paths = cuts.write(folder, name, files)
    found = []
    for options in known.options:
        result = audit(paths, **options)
        found += made_by_cut(result, known, rest)
        found += firm_without_watching(result, rest)
    return found


def made_by_cut(result: Audit, known: Whole, rest: Rest) -> Iterator[Failure]:
    """Findings of medium severity and above that neither the whole capture has nor what is left shows."""
    for finding in result.findings:
        if finding.severity < Severity.MEDIUM or finding.slug in WHAT_IS_MISSING:
            continue
        named = replace(finding, base_station=known.name(finding.base_station))
        stronger = replace(named, slug=WEAKER.get(finding.slug, ""), kind=Kind.MALFORMED, rows=finding.rows or ("i3",))
        if known.serious.isdisjoint((*about(named), *about(stronger))) and not is_true(named, result, known, rest):
            yield Failure(finding.slug, f"{samples.line(finding)}: {finding.summary}")


def is_true(finding: Finding, result: Audit, known: Whole, rest: Rest) -> bool:
    """Whether the rows of a finding are missing or blocked in what is left."""
    if finding.kind is not Kind.MISSING or rest.way.cut in (Cut.SENT, Cut.RECEIVED):
        return False
    station = finding.base_station or ""
    verdict = next(found for found in result.base_stations if known.name(found.station.address) == station)
    missing = {row.row.id for row in verdict.rows if row.status is Status.MISSING}
    return all(
        not any(rest.flows(station, row)) if row in missing else was_not_served(rest, station, row)
        for row in finding.rows
    )


def firm_without_watching(result: Audit, rest: Rest) -> Iterator[Failure]:
    """Rows of which the status is firm although the capture did not watch for two periods, or lacks a direction."""
    one_sided = rest.way.cut in (Cut.SENT, Cut.RECEIVED)
    for verdict in result.base_stations:
        for row in verdict.rows:
            if row.certainty is Certainty.FIRM:
                period = row.row.period
                if one_sided or period is None or rest.watched() <= 2 * period:
                    yield Failure("firm", f"{verdict.station.address} {row.row.id}: {row.status.value}, {row.reason}")


@pytest.mark.parametrize("part", range(4))
def test_sample_of_cuts(part: int, tmp_path: Path) -> None:
    """One cut of every second capture, another one of each."""
    ways = {name: WAYS[41 * index % len(WAYS)] for index, name in enumerate(samples.names()[part::8])}
    assert not [(name, str(way), failure) for name, way in ways.items() for failure in failures(name, way, tmp_path)]


@pytest.mark.deep
@pytest.mark.parametrize("name", samples.names())
def test_all_cuts(name: str, tmp_path: Path) -> None:
    assert not [(str(way), failure) for way in WAYS for failure in failures(name, way, tmp_path)]


STATUSES = {
    # the SPIs of ESP in UDP are cut off, or IKE behind its marker
    ("ipsec-behind-a-nat", Way(Cut.SNAP, 60)): {"i1": "present", "i2": "present"},
    ("ipsec-ipv6", Way(Cut.SNAP, 65)): {"i1": "present", "i2": "present"},
    ("ipsec-4500-blocked", Way(Cut.SNAP, 60)): {"i2": "missing"},
    ("ipsec-foreign-datagrams-on-500", Way(Cut.SNAP, 67)): {"i1": "present"},
    # the answer to the second IKE_SA_INIT is cut off
    ("ipsec-ike-invalid-ke-retry", Way(Cut.SNAP, 90)): {"i1": "present"},
    # the load balancer's line is cut off, or nothing follows it
    ("tls-behind-a-load-balancer", Way(Cut.SNAP, 80)): {"i38": "present", "i39": "present", "i40": "present"},
    ("tls-behind-a-load-balancer", Way(Cut.END, 9)): {"i38": "present", "i39": "undecided", "i40": "missing"},
    ("tls-dns-over-tcp", Way(Cut.SNAP, 60)): {"n2": "present"},
    # data connections of FTP whose commands are cut off, or began before or after what is left of them
    ("plain-full-passive", Way(Cut.SNAP, 60)): {"i7": "undecided", "i8": "undecided"},
    ("plain-full-passive", Way(Cut.BEGINNING, 2)): {"i7": "present", "i8": "present"},
    ("plain-full-passive", Way(Cut.END, 8)): {"i7": "undecided", "i8": "undecided"},
    ("plain-ftp-active", Way(Cut.SNAP, 60)): {"i7": "undecided", "i8": "undecided"},
    ("plain-ftp-auth-tls", Way(Cut.BEGINNING, 1)): {"i7": "undecided", "i8": "undecided"},
    # nothing but the end of a session
    ("plain-ftp-refused-and-failed", Way(Cut.BEGINNING, 7)): {"i5": "undecided", "i6": "undecided"},
    ("ipsec-long-reverse-ssh", Way(Cut.BEGINNING, 9)): {"i4": "undecided", "i5": "undecided"},
    ("tls-ha-two-lrc", Way(Cut.BEGINNING, 9)): {"i4": "undecided", "i38": "present"},
    # the packet of a server comes first, on the outer side of the NAT
    ("tls-both-sides-of-a-nat", Way(Cut.BEGINNING, 4)): {"i38": "present", "i39": "present", "i40": "present"},
    # TCP's header is cut off behind that of IPv6
    ("tls-dhcpv6", Way(Cut.SNAP, 60)): {"i3": "present", "i38": "missing"},
    # the inside of a tunnel before its first ESP packet, or without the other direction
    ("ipsec-xfrm-inner-inbound-host", Way(Cut.BEGINNING, 3)): {"i2": "present", "i3": "present"},
    ("ipsec-xfrm-inner-inbound-host", Way(Cut.RECEIVED)): {"i1": "undecided", "i2": "undecided"},
}
"""Capture and cut → the status of rows that the cut touches."""


@pytest.mark.parametrize(("name", "way"), STATUSES, ids=lambda value: str(value))
def test_status_of_rows_in_what_is_left(name: str, way: Way, tmp_path: Path) -> None:
    assert not failures(name, way, tmp_path)
    known = whole(name)
    files = cuts.write(tmp_path, name, cuts.left(name, way, known.stations, known.macs))
    (verdict,) = audit(files, **known.options[0]).base_stations
    expected = STATUSES[name, way]
    assert {row.row.id: row.status.value for row in verdict.rows if row.row.id in expected} == expected


@pytest.mark.parametrize("name", ["tls-compliant", "plain-compliant-lrr-dialect", "ipsec-behind-a-nat"])
@pytest.mark.parametrize("cut", [Cut.SENT, Cut.RECEIVED])
def test_a_capture_of_one_direction_says_so(name: str, cut: Cut, tmp_path: Path) -> None:
    known = whole(name)
    result = audit(
        cuts.write(tmp_path, name, cuts.left(name, Way(cut), known.stations, known.macs)), **known.options[0]
    )
    assert [finding.slug for finding in result.findings if finding.severity >= Severity.MEDIUM] == ["one-sided-capture"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [("tls-http-on-3001", "wrong-protocol"), ("plain-portscan-of-bs", "port-scan")],
)
def test_a_finding_that_the_whole_capture_lacks_is_noticed(name: str, slug: str) -> None:
    rest = Rest(name, Way(Cut.END), list(cuts.recording(name).packets))
    known = replace(whole(name), serious=frozenset())
    assert slug in {failure.slug for failure in made_by_cut(samples.audit_of(name), known, rest)}


@pytest.mark.parametrize(
    ("slug", "is_dropped"),
    [
        ("missing-flow", lambda ends: 3001 in (ends.source[1], ends.destination[1])),
        ("blocked-flow", lambda ends: ends.source[1] == 3001 and ends.payload),
    ],
)
def test_a_row_that_was_served_in_what_is_left_is_noticed(
    slug: str, is_dropped: Callable[[cuts.Ends], bool], tmp_path: Path
) -> None:
    """The audit sees less than is left: a row that is blocked or missing to it is not so in what is left."""
    name = "tls-behind-a-load-balancer"
    packets = list(cuts.recording(name).packets)
    seen = [packet for packet in packets if packet.ends is None or not is_dropped(packet.ends)]
    result = audit(cuts.write(tmp_path, name, [seen]), **whole(name).options[0])
    found = list(made_by_cut(result, whole(name), Rest(name, Way(Cut.END), packets)))
    assert [failure.slug for failure in found] == [slug]
