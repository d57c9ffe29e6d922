"""The pipeline at a glance: :func:`audit` takes capture files to a verdict on every base station.

The module is not called ``audit``: importing a submodule binds its name in the package, over the function.
"""

from __future__ import annotations

import pathlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeVar

from analyzer import expected, flows
from analyzer.aggregate import merged, report_order
from analyzer.capture import CaptureFile
from analyzer.checking import case_findings, content_findings
from analyzer.conversations import Conversation, Conversations, KeyUse, Service, dissect_flows
from analyzer.expected import Deployment, ExpectedTable, UsageError, parse_version
from analyzer.findings import AuditContext, Finding, Kind, Severity
from analyzer.flows import Progress
from analyzer.ftp_data import identify_data_connections
from analyzer.matching import FTP_VERBS, StationMatches, match_flows
from analyzer.protocols import dhcp, ftp
from analyzer.result import Audit, AuditTotals, FlowListing, addresses
from analyzer.stations import Names, Station, find_stations, find_tpe, inside_tunnel, mode_of, services
from analyzer.unexpected import group_unexpected
from analyzer.verdicts import StationVerdict, row_verdicts

if TYPE_CHECKING:
    from analyzer.tshark.crosscheck import Crosscheck

T = TypeVar("T")

Path = str | PathLike[str]

ProgressCallback = Callable[[str, int, str], Progress]
"""Called as each stage begins: what it does, how much of it there is to do (0: not known), and of what, as in
``("dissecting", 7, "flows")``. What it returns is told how much of that was done."""


def listing(
    captures: Path | Sequence[Path],
    *,
    profile: str = expected.DEFAULT_PROFILE,
    progress: ProgressCallback | None = None,
) -> FlowListing:
    """Read captures into conversations, without judging them. Raises as :func:`audit`."""
    read, conversations = dissected(as_paths(captures), services(expected.load(profile)), progress or no_progress)
    return FlowListing(read.captures, conversations)


def crosscheck(captures: Path | Sequence[Path]) -> Crosscheck:
    """Compare flows, protocols and facts of captures with what tshark sees.

    Raises ``CaptureError`` for a file that this program or tshark cannot read, and if tshark cannot be run.
    """
    from analyzer.tshark.crosscheck import compare

    found = listing(captures)
    return compare(found.captures, found.conversations)


def dissected(
    paths: Sequence[str], known: frozenset[Service], watch: ProgressCallback
) -> tuple[flows.Flows, Conversations]:
    """The first two stages: captures into flows, and flows into conversations."""
    read = flows.read(paths, watch("reading", sum(map(size_of, paths)), "bytes"))
    conversations = dissect_flows(read, known, watch("dissecting", len(read), "flows"))
    return read, identify_data_connections(conversations)


def size_of(path: str) -> int:
    """Bytes of a file; 0 of standard input and of what cannot be read, of which reading it will tell."""
    try:
        file = pathlib.Path(path)
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0


def no_progress(*_: object) -> Progress:
    """The watch of nobody."""
    return lambda done: None


def counted(values: Iterable[T], progress: Progress) -> Iterator[T]:
    """Values as they are, of which each is told once it is done with."""
    for each in values:
        yield each
        progress(1)


def audit(
    captures: Path | Sequence[Path],
    *,
    profile: str = expected.DEFAULT_PROFILE,
    deployment: Deployment | str = Deployment.STANDALONE,
    mode: str | None = None,
    base_stations: Sequence[str] = (),
    tpe: Sequence[str] = (),
    lrr_version: str | None = None,
    fail_on: Severity = Severity.MEDIUM,
    tls_keylog: Path | None = None,
    ike_keys: Path | None = None,
    embedded_keys: bool = False,
    progress: ProgressCallback | None = None,
) -> Audit:
    """Audit one capture, or several read as one timeline.

    ``mode`` overrides the detected one; ``base_stations`` and ``tpe`` name hosts by address, network or (base
    stations) MAC address; ``lrr_version`` ("2.8") settles rows that only newer stations use; a finding of severity
    ``fail_on`` or above fails the audit. ``progress`` is told of each stage and how far it is.

    With keys tshark, if it is installed, decrypts the handshakes of TLS 1.3 and IKE, in a process of its own:
    ``tls_keylog`` is an SSLKEYLOGFILE, ``ike_keys`` Wireshark's ``ikev2_decryption_table``, and ``embedded_keys``
    allows those that a pcapng file carries.

    Raises ``CaptureError`` for a file that is no capture, or of which tshark, where it is needed, can tell nothing;
    ``RuleError`` for a bad profile and ``UsageError`` (a ``ValueError``, as is ``RuleError``) for a mode, name, version
    or file of keys that is none.
    """
    tables = expected.load(profile)
    if mode is not None and mode not in tables:
        raise UsageError(f"profile {profile} has no mode {mode!r}: it has {', '.join(tables)}")
    names = Names(tuple(base_stations), tuple(tpe))
    lrr = parse_version(lrr_version) if lrr_version is not None else None
    watch = progress or no_progress
    read, conversations = dissected(as_paths(captures), services(tables), watch)
    conversations, uses = opened(conversations, read.captures, tls_keylog, ike_keys, embedded_keys)
    inside = inside_tunnel(conversations)
    outside = [each for each in conversations if each.id not in inside]
    stations, unjudged = find_stations(outside, tables, names)
    modes = [mode_of(station, tables, mode) for station in stations]
    core = find_tpe(modes, stations, names, addresses(outside), Deployment(deployment))
    own = conversations_of(stations, outside)
    until = max((file.last for file in read.captures if file.last is not None), default=0)
    matched = tuple(
        match_flows(station, each, tables, core, own[station.address], until)
        for station, each in counted(
            zip(stations, modes, strict=True), watch("matching", len(stations), "base stations")
        )
    )
    told = read.captures, read.counts, Deployment(deployment)
    context = AuditContext(
        *told, matched, (), conversations, core, inside, names, unjudged, uses, group_unexpected(matched)
    )
    found = content_findings(counted(matched, watch("judging", len(matched), "base stations")))
    found += case_findings(context, malformed=True)
    charged = by_station(found)
    judged = tuple(
        judge(each, Deployment(deployment), charged.get(each.station.address, ()), lrr, core) for each in matched
    )
    findings = merged(found) + case_findings(replace(context, verdicts=judged), malformed=False)
    findings.sort(key=report_order)
    flow_rows = rows_by_flow(matched)
    flow_stations = {
        flow: station.address for station in reversed(stations) for each in own[station.address] for flow in each.flows
    }
    return Audit(
        profile,
        Deployment(deployment),
        read.captures,
        judged,
        tuple(findings),
        conversations.replaced(with_rows(each, flow_rows.get(each.id, ()), tables) for each in conversations),
        flow_rows,
        flow_stations,
        totals(read.counts, conversations, flow_stations),
        fail_on,
    )


def opened(
    conversations: Conversations,
    captures: tuple[CaptureFile, ...],
    tls_keylog: Path | None,
    ike_keys: Path | None,
    embedded: bool,
) -> tuple[Conversations, tuple[KeyUse, ...]]:
    """The conversations as far as keys decrypt them. Without keys nothing that knows of tshark is even loaded."""
    if tls_keylog is None and ike_keys is None and not embedded:
        return conversations, ()
    from analyzer.tshark import decryption

    keylog, table = (None if path is None else fspath(path) for path in (tls_keylog, ike_keys))
    found = decryption.decrypt(decryption.Keys(keylog, table, embedded), captures, conversations)
    return found.conversations, found.uses


def as_paths(captures: Path | Sequence[Path]) -> list[str]:
    return [fspath(captures)] if isinstance(captures, (str, PathLike)) else [fspath(path) for path in captures]


def conversations_of(
    stations: Sequence[Station], conversations: Sequence[Conversation]
) -> dict[str, list[Conversation]]:
    """Station → its conversations: by address; before it has one (DHCP), by MAC address."""
    by_address: dict[str, str] = {}
    by_mac: dict[str, str] = {}
    for station in stations:
        by_address.update(dict.fromkeys(station.addresses, station.address))
        if station.mac is not None:
            by_mac[station.mac] = station.address
    found: dict[str, list[Conversation]] = {station.address: [] for station in stations}
    for each in conversations:
        owners = {
            by_address[end.address]: None for end in (each.originator, each.responder) if end.address in by_address
        }
        if not owners and each.protocol == dhcp.NAME:
            facts = each.dissection.facts
            client = facts.client_mac if isinstance(facts, dhcp.DhcpFacts) else each.macs[0]
            owners = {by_mac[client]: None} if client in by_mac else {}
        for owner in owners:
            found[owner].append(each)
    return found


def by_station(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Address of a base station → the findings about it."""
    found: dict[str, list[Finding]] = defaultdict(list)
    for each in findings:
        if each.base_station is not None:
            found[each.base_station].append(each)
    return found


def judge(
    matched: StationMatches,
    deployment: Deployment,
    findings: Sequence[Finding],
    lrr: tuple[int, ...] | None,
    core: frozenset[str],
) -> StationVerdict:
    """The rows of one base station, once their contents are judged; ``findings`` are about this station."""
    malformed: dict[str, set[int]] = defaultdict(set)
    for finding in findings:
        serious = finding.kind is Kind.MALFORMED and finding.severity >= Severity.MEDIUM
        if serious and finding.flow is not None:
            for row in finding.rows:
                malformed[row].add(finding.flow)
    used = {
        end.address: None
        for match in matched.matches
        for end in (match.conversation.originator, match.conversation.responder)
        if end.address in core
    }
    return StationVerdict(
        matched.station,
        matched.mode.name,
        matched.mode.evidence,
        tuple(used),
        row_verdicts(matched, deployment, malformed, lrr),
    )


def rows_by_flow(matched: Sequence[StationMatches]) -> dict[int, tuple[str, ...]]:
    """Flow id → ids of the rows that it matches, in the order of the table."""
    found: dict[int, tuple[str, ...]] = {}
    fitting: dict[int, Conversation] = {}
    for each in matched:
        for match in each.matches:
            number, rows = match.conversation.id, tuple([row.id for row in match.rows])
            fitting[number] = match.conversation
            found[number] = tuple(dict.fromkeys((*found[number], *rows))) if number in found else rows
    return {flow: rows for number, rows in found.items() for flow in fitting[number].flows}


def with_rows(each: Conversation, rows: tuple[str, ...], tables: Mapping[str, ExpectedTable]) -> Conversation:
    """An FTP conversation whose transfers name their row; any other as it is."""
    facts = each.dissection.facts
    if not rows or not isinstance(facts, ftp.FtpFacts) or not facts.transfers:
        return each
    own = {row.id: row for table in tables.values() for row in table.flows if row.id in rows}.values()
    by_verb = {verb: row.id for row in own for verb in FTP_VERBS.get(row.decided_by or "", ())}
    transfers = tuple(replace(transfer, row=by_verb.get(transfer.verb)) for transfer in facts.transfers)
    return each._replace(dissection=replace(each.dissection, facts=replace(facts, transfers=transfers)))


def totals(
    tally: flows.PacketCounts, conversations: Sequence[Conversation], flow_stations: Mapping[int, str]
) -> AuditTotals:
    """The account of all packets."""
    scoped = sum(sum(each.packets) * each.flow_count for each in conversations if each.id in flow_stations)
    count = sum(each.flow_count for each in conversations)
    return AuditTotals(
        packets=tally.packets,
        packets_in_flows=tally.in_flows,
        packets_of_base_stations=scoped,
        packets_out_of_scope=tally.in_flows - scoped,
        icmp_errors=tally.icmp_errors,
        copies=tally.copies,
        packets_without_ip=sum(tally.not_ip.values()),
        packets_unreadable=sum(tally.unreadable.values()),
        flows=count,
        flows_out_of_scope=count - len(flow_stations),
        without_ip=tally.not_ip,
        unreadable=tally.unreadable,
    )
