"""The audit: capture files in, a verdict on every base station out; the whole way at a glance."""

from __future__ import annotations

import pathlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeVar

from analyzer import checks, expected, flows
from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations, KeyUse, Service, converse
from analyzer.expected import Deployment, ExpectedTable, UsageError
from analyzer.findings import (
    ANY,
    SHOWN,
    AuditContext,
    Check,
    Finding,
    Issue,
    Kind,
    Scope,
    Severity,
    frames_filter,
    only,
    to_finding,
)
from analyzer.flows import Progress
from analyzer.heads import Frame
from analyzer.matching import FTP_VERBS, Match, StationMatches, StationVerdict, match_flows, verdicts, version
from analyzer.protocols import dhcp, dns, esp, ftp
from analyzer.stations import Names, Station, carries_esp, find_stations, find_tpe, inside_tunnel, mode_of, services
from analyzer.wire import SafeText

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

Path = str | PathLike[str]

ProgressCallback = Callable[[str, int, str], Progress]
"""Called as each stage begins: what it does, how much of it there is to do (0: not known), and of what, as in
``("dissecting", 7, "flows")``. What it returns is told how much of that was done."""


@dataclass(frozen=True, slots=True)
class AuditTotals:
    """What became of every packet, and what was found; the report prints the names as they are."""

    packets: int
    packets_in_flows: int
    packets_of_base_stations: int
    """In flows with a base station at an end (part of those in flows)."""
    packets_out_of_scope: int
    """In flows without a base station at an end (the other part)."""
    icmp_errors: int
    """Counted with the flow that they quote, not in it."""
    copies: int
    """Packets that were captured before, on another interface: not counted again."""
    packets_without_ip: int
    packets_unreadable: int
    flows: int
    flows_out_of_scope: int
    without_ip: Mapping[SafeText, int]
    """By kind of frame."""
    unreadable: Mapping[SafeText, int]
    """By reason."""


@dataclass(frozen=True)
class Audit:
    """Everything that an audit found; reports see nothing else."""

    profile: SafeText
    deployment: Deployment
    captures: tuple[CaptureFile, ...]
    base_stations: tuple[StationVerdict, ...]
    findings: tuple[Finding, ...]
    """Most severe first."""
    conversations: Conversations
    """Flows that say the same between the same hosts, to the same service, are one conversation."""
    flow_rows: Mapping[int, tuple[SafeText, ...]]
    """Flow id → ids of the rows that it matches."""
    flow_stations: Mapping[int, str]
    """Flow id → address of its base station."""
    totals: AuditTotals
    fail_on: Severity = Severity.MEDIUM
    """Severity of a finding from which on the audit has failed."""

    @cached_property
    def flows(self) -> tuple[Conversation, ...]:
        """Every flow as a conversation of its own, ascending by id."""
        return tuple(self.conversations.expand())

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Address of a flow's end → its names: as DNS tells them in the captures, then as the files themselves do."""
        told = [
            each.dissection.facts._names
            for each in self.conversations
            if isinstance(each.dissection.facts, dns.DnsFacts) and each.responder.port not in dns.MULTICAST_PORTS
        ]
        found: dict[str, dict[str, None]] = {}
        for names in (*told, *(each.facts.names for each in self.captures)):
            for address, known in names.items():
                own = found.setdefault(address, {})
                own.update(dict.fromkeys(known[: max(0, dns.NAMES_EACH - len(own))]))
        return {address: tuple(found[address]) for address in addresses(self.conversations) if address in found}

    @cached_property
    def clients(self) -> Mapping[str, dhcp.Client]:
        """Address of a base station → what DHCP tells of it, by its MAC address or by the address that it was given."""
        facts = [each.dissection.facts for each in self.conversations]
        told = dhcp.clients(each for each in facts if isinstance(each, dhcp.DhcpFacts))
        given = {client.address: client for client in told.values()}
        found: dict[str, dhcp.Client] = {}
        for verdict in self.base_stations:
            station = verdict.station
            own = [told.get(station.mac or ""), *(given.get(address) for address in station.addresses)]
            client = next((each for each in own if each is not None), None)
            if client is not None:
                found[station.address] = client
        return found

    def __repr__(self) -> str:
        """Short: an audit may hold a million flows."""
        counted = ", ".join(f"{count} {severity}" for severity, count in self.severities.items() if count)
        return (
            f"<Audit: captures {len(self.captures)}, packets {self.totals.packets}, flows {self.totals.flows}, "
            f"base stations {len(self.base_stations)}, findings {counted or 'none'}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from analyzer.reports import notebook

        return notebook.render(self)

    @property
    def severities(self) -> Mapping[Severity, int]:
        """Number of findings of each severity, the highest first."""
        counts = Counter(finding.severity for finding in self.findings)
        return {each: counts[each] for each in sorted(Severity, reverse=True)}

    def flows_frame(self, facts: str | None = None, names: str | None = None) -> pd.DataFrame:
        """One row a flow, as a pandas DataFrame.

        ``facts="tls"``: only the flows of a protocol, with a column for each of its facts. ``names="ecs"``: columns
        named as in the Elastic Common Schema. Raises ``UsageError`` for a protocol or for names that there are not.
        """
        from analyzer.reports import frames

        return frames.flows_frame(self, facts, names)

    def findings_frame(self) -> pd.DataFrame:
        """One row a finding, as a pandas DataFrame."""
        from analyzer.reports import frames

        return frames.findings_frame(self)

    def rows_frame(self) -> pd.DataFrame:
        """One row a base station and row of its table, as a pandas DataFrame."""
        from analyzer.reports import frames

        return frames.rows_frame(self)

    def fails(self, threshold: Severity | None = None) -> bool:
        """Whether a finding reaches the threshold (the audit's own), or no base station could be recognised."""
        least = self.fail_on if threshold is None else threshold
        return not self.base_stations or any(finding.severity >= least for finding in self.findings)


@dataclass(frozen=True, slots=True)
class FlowListing:
    """The flows of captures, not judged."""

    captures: tuple[CaptureFile, ...]
    conversations: Conversations


def listing(
    captures: Path | Sequence[Path],
    *,
    profile: str = expected.DEFAULT_PROFILE,
    progress: ProgressCallback | None = None,
) -> FlowListing:
    """Read captures into conversations, without judging them. Raises as :func:`audit`."""
    read, conversations = dissected(as_paths(captures), services(expected.load(profile)), progress or no_progress)
    return FlowListing(read.captures, conversations)


def dissected(
    paths: Sequence[str], known: frozenset[Service], watch: ProgressCallback
) -> tuple[flows.Flows, Conversations]:
    """The first two stages: captures into flows, and flows into conversations."""
    read = flows.read(paths, watch("reading", sum(map(size_of, paths)), "bytes"))
    return read, converse(read, known, watch("dissecting", len(read), "flows"))


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
    lrr = version(lrr_version) if lrr_version is not None else None
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
    context = AuditContext(*told, matched, (), conversations, core, inside, names, unjudged, uses)
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
    found = decryption.open_with(decryption.Keys(keylog, table, embedded), captures, conversations)
    return found.conversations, found.uses


def as_paths(captures: Path | Sequence[Path]) -> list[str]:
    return [fspath(captures)] if isinstance(captures, (str, PathLike)) else [fspath(path) for path in captures]


def addresses(conversations: Sequence[Conversation]) -> dict[str, None]:
    """All addresses, in the order of their first conversation."""
    return {end.address: None for each in conversations for end in (each.originator, each.responder)}


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


def content_findings(matched: Iterable[StationMatches]) -> list[Finding]:
    """What the content checks say."""
    found: list[Finding] = []
    folded: dict[tuple[object, ...], Folded] = {}
    loud: dict[tuple[int, int], list[Check]] = {}
    """The checks that are worth asking of conversations that share facts and row."""
    for match in (match for each in matched for match in judged_once(each.matches)):
        facts = match.conversation.dissection.facts
        key = id(facts), id(match.row)
        known = loud.get(key)
        asked: Sequence[Check] = content_checks(match.row.protocol if speaks(match) else ANY)
        speaking = []
        for check in asked if known is None else known:
            remarks = list(check.run(match))
            if len(found) < FINDINGS:
                found += [to_finding(check, remark, match) for remark in remarks]
            else:
                fold(folded, check, match, remarks)
            if remarks or not check.pure:
                speaking.append(check)
        if known is None and facts is not None and len(loud) < REMEMBERED:
            loud[key] = speaking
    return found + [each.finding() for each in folded.values()]


FINDINGS = 1 << 17
"""What the content checks say one by one. Above it, one finding stands for all of one check about one base station."""


@dataclass(slots=True)
class Folded:
    """One finding that stands for many."""

    first: Finding
    count: int = 0
    newest: int | None = None

    def add(self, each: Conversation) -> None:
        """Count a conversation, once for all that is said of it."""
        if each.id != self.newest:
            self.newest = each.id
            self.count += each.flow_count

    def finding(self) -> Finding:
        return replace(self.first, count=self.count, summary="More flows show this: too many to tell them one by one.")


def fold(folded: dict[tuple[object, ...], Folded], check: Check, match: Match, remarks: Iterable[Issue]) -> None:
    """Add remarks to the findings that stand for all such."""
    for remark in remarks:
        about = check.id, remark.kind, remark.severity, match.station, match.rows
        if about not in folded:
            folded[about] = Folded(to_finding(check, remark, match))
        folded[about].add(match.conversation)


REMEMBERED = 4096
"""Facts that are remembered for the checks to which they gave no reason to speak."""


def judged_once(matches: Sequence[Match]) -> Iterable[Match]:
    """The matches, of which those of one conversation with several rows of one protocol are one."""
    asked: dict[tuple[int, str], Match] = {}
    for match in matches:
        key = (match.conversation.id, match.row.protocol)
        before = asked.get(key)
        asked[key] = replace(match, rows=tuple(dict.fromkeys((*before.rows, *match.rows)))) if before else match
    return asked.values()


@cache
def content_checks(protocol: str) -> tuple[Check, ...]:
    """The checks to ask of a conversation whose content is a row's protocol; for :data:`ANY`: is not."""
    return tuple(check for check in checks.CHECKS if check.scope is Scope.FLOW and check.protocol in (ANY, protocol))


def case_findings(context: AuditContext, malformed: bool) -> list[Finding]:
    """What the case checks say: those of malformed rows, on which a row's status depends, or all others."""
    return [
        to_finding(check, found)
        for check in checks.CHECKS
        if check.scope is Scope.CAPTURE and (check.kind is Kind.MALFORMED) == malformed
        for found in check.run(context)
    ]


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """The same defect in several conversations as one finding, with their number and the frames of all."""
    same: dict[tuple[object, ...], list[Finding]] = {}
    for each in findings:
        whose = () if each.check in told_together() else (each.base_station, each.rows)
        same.setdefault((*whose, each.check, each.kind, each.severity, each.summary), []).append(each)
    return [group[0] if len(group) == 1 else merge(group) for group in same.values()]


def merge(group: Sequence[Finding]) -> Finding:
    """One finding for several that say the same; it begins with the first of them."""
    frames = tuple(sorted({frame for each in group for frame in each.frames})[:SHOWN])
    first = min(group, key=lambda each: (each.frames[:1], each.flow or 0))
    count = sum({each.flow: each.count for each in group}.values())
    rows = tuple(dict.fromkeys(row for each in group for row in each.rows))
    stations = len({each.base_station for each in group})
    if stations > 1:
        summary = f"{first.summary.removesuffix('.')}, at {stations} base stations."
        first = replace(first, base_station=None, summary=summary)
    return replace(
        first,
        rows=rows,
        count=count,
        frames=frames,
        filter=frames_filter(frames) if frames else first.filter,
        peer=only(each.peer for each in group),
        service=only(each.service for each in group),
    )


@cache
def told_together() -> frozenset[str]:
    """Ids of the checks of which a finding is about all base stations."""
    return frozenset(check.id for check in checks.CHECKS if check.aggregated)


def speaks(match: Match) -> bool:
    """The conversation's content is the protocol of its row."""
    wanted = match.row.protocol
    return match.conversation.protocol == wanted or (wanted == esp.NAME and carries_esp(match.conversation))


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
        verdicts(matched, deployment, malformed, lrr),
    )


def report_order(finding: Finding) -> tuple[object, ...]:
    """Most severe first, then by station, check and place in the capture."""
    return (
        -finding.severity,
        finding.base_station is None,
        finding.base_station or "",
        finding.check,
        finding.frames[:1] or (Frame(sys.maxsize, 0),),
        finding.rows,
        finding.summary,
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
