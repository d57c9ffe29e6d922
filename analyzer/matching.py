"""Flows against the table of their base station: flow → row, or unexpected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import field, replace
from functools import cached_property

from analyzer.conversations import Conversation, Conversations, State
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedFlow, ExpectedTable, Peer
from analyzer.ftp_data import FtpDataFacts
from analyzer.heads import DIRECTIONS, Direction
from analyzer.messages import messages
from analyzer.outcomes import content_truncated
from analyzer.protocols import dns, esp, ftp, icmp, ike, ssh
from analyzer.protocols.ike.messages import NO_SPI
from analyzer.scanner.fragments import FIRST_FRAGMENT_MISSING, FRAGMENTED
from analyzer.stations import UNKNOWN, Hosts, Mode, Station, carries_esp, has_service, is_group_address
from analyzer.timeline import Timeline


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Match:
    """A conversation that matches a row by direction, transport and port, whatever its content.

    Compared by identity, so that checks can cache what they derive from the match.
    """

    station: Station
    conversation: Conversation
    rows: tuple[ExpectedFlow, ...]
    """The row; several if they share the port and the packets cannot tell which of them it is."""

    @property
    def row(self) -> ExpectedFlow:
        return self.rows[0]

    @property
    def has_row_protocol(self) -> bool:
        """The content is the row's protocol; ESP may share a flow with IKE (RFC 3948)."""
        wanted = self.row.protocol
        return self.conversation.protocol == wanted or (wanted == esp.NAME and carries_esp(self.conversation))


@dataclass(frozen=True, slots=True)
class UnexpectedFlow:
    """A conversation from or to a base station that matches no row of its table."""

    conversation: Conversation
    inbound: bool
    """The peer opened the conversation."""
    nearest: ExpectedFlow | None
    """The row that the conversation fails by exactly one field; ``None`` if it fails all rows by more."""
    mismatch: str | None
    """The field of the nearest row that it fails: ``direction``, ``destination``, ``port`` or ``transport``."""
    excusable: bool = False
    """It is not certain who opened the conversation, and the other way round it would match a row."""

    @property
    def peer(self) -> str:
        """Address of the other end."""
        return (self.conversation.originator if self.inbound else self.conversation.responder).address


@dataclass(frozen=True, slots=True)
class SeenDirections:
    """Which directions of a base station's flows the capture shows.

    A peer is one-sided if flows with it prove that both ends sent packets (by acknowledgements, or by answers), and the
    capture holds those of one end only.
    """

    one_sided_peers: frozenset[str] = frozenset()
    sent: bool = True
    """The capture holds packets that the station sent."""
    lacks: Direction | None = None
    """No flow of the station is complete: ``ORIGINATOR`` if the capture lacks what the station sent, ``RESPONDER`` if
    it lacks what the station received."""


ALL_SEEN = SeenDirections()

JudgedConversation = tuple[Conversation, tuple[ExpectedFlow, ...]]
"""A conversation with the rows that it matches; no rows if it is unexpected."""


@dataclass(frozen=True, eq=False)
class StationMatches:
    """The conversations of one base station: matches and unexpected flows. Compared by identity.

    Neither are link-local housekeeping (neighbour discovery, multicast group management), fragments of other flows'
    datagrams and, in mode unknown, flows that the table of some mode expects.
    """

    station: Station
    mode: Mode
    rows: tuple[ExpectedFlow, ...]
    """The rows of the mode's table; in mode unknown, the rows that all tables have in common."""
    matches: tuple[Match, ...]
    unexpected: tuple[UnexpectedFlow, ...]
    timeline: Timeline
    """When the capture watched."""
    first: int = 0
    """Time of the station's first packet, nanoseconds since the epoch."""
    seen: SeenDirections = ALL_SEEN
    """Whether the capture shows both directions of the station's flows."""

    @property
    def address(self) -> str:
        """The address under which the station is reported."""
        return self.station.address

    def conversations(self) -> Iterator[JudgedConversation]:
        """Every judged conversation with the rows that it matches; no rows if it is unexpected."""
        for match in self.matches:
            yield match.conversation, match.rows
        for unexpected in self.unexpected:
            yield unexpected.conversation, ()

    @cached_property
    def by_protocol(self) -> Mapping[str | None, Sequence[JudgedConversation]]:
        """Name of a protocol → the judged conversations with that content, each with the rows that it matches."""
        found: dict[str | None, list[JudgedConversation]] = {}
        for conversation, rows in self.conversations():
            found.setdefault(conversation.dissection.protocol, []).append((conversation, rows))
        return found

    @cached_property
    def matches_by_protocol(self) -> Mapping[str | None, Sequence[Match]]:
        """Name of a protocol → the matches of conversations with that content."""
        found: dict[str | None, list[Match]] = {}
        for match in self.matches:
            found.setdefault(match.conversation.dissection.protocol, []).append(match)
        return found

    @property
    def watched(self) -> float:
        """Seconds of the longest time without a pause, from the station's first packet on."""
        return self.timeline.longest_watched(self.first)


def match_stations(hosts: Hosts, tables: Mapping[str, ExpectedTable], timeline: Timeline) -> Iterator[StationMatches]:
    """Match the conversations of all base stations."""
    for station, mode in zip(hosts.stations, hosts.modes, strict=True):
        own, limited = hosts.conversations[station.address], hosts.limited.get(station.address, {})
        yield match_flows(station, mode, tables, hosts.tpe, own, timeline, limited)


def match_flows(
    station: Station,
    mode: Mode,
    tables: Mapping[str, ExpectedTable],
    tpe: Iterable[str],
    conversations: Sequence[Conversation],
    timeline: Timeline,
    limited: Mapping[str, Set[str]] | None = None,
) -> StationMatches:
    """Match the conversations of a base station with the rows of its mode.

    ``tpe``: addresses of TPE. ``limited``: those of them that may serve some rows only → ids of these rows.
    """
    rows = common_rows(tables) if mode.name == UNKNOWN else tables[mode.name].flows
    tpe = frozenset(tpe)
    matcher = RowMatcher(station, rows, tpe, limited or {})
    matches: list[Match] = []
    unexpected: list[UnexpectedFlow] = []
    rows_of_control: dict[int, tuple[ExpectedFlow, ...]] = {}
    protected = (
        flow.first
        for flow in conversations
        if flow.protocol in ("tls", "ike", "esp")
        and not {flow.originator.address, flow.responder.address}.isdisjoint(tpe)
    )
    first_protected = min(protected, default=timeline.end)
    for conversation in without_orphaned_fragments(conversations, timeline):
        if conversation.control is not None:
            continue  # FTP data takes the rows of its control connection, below
        shared = matcher.rows_of(conversation)
        if shared and is_error_flow(conversation) and not timeline.begins_near(conversation.first):
            shared = ()  # an error about a packet that the capture would hold
        if shared:
            decided = decide(conversation, shared, first_protected)
            matches += (Match(station, conversation, group) for group in decided)
            rows_of_control[conversation.id] = tuple(row for group in decided for row in group)
        elif not conversation.housekeeping and not (
            mode.name == UNKNOWN and any(matcher.fits(row, conversation) for row in all_rows(tables))
        ):
            unexpected.append(matcher.unexpected(conversation))
    for data in conversations:
        if data.control is not None:
            shared = rows_of_control.get(data.control, ())
            if shared:
                matches.append(Match(station, data, decide_ftp_data(data, shared)))
            else:
                unexpected.append(matcher.unexpected(data))
    first = min((conversation.first for conversation in conversations), default=timeline.end)
    seen = seen_directions(station, conversations)
    return StationMatches(station, mode, rows, tuple(matches), tuple(unexpected), timeline, first, seen)


def all_rows(tables: Mapping[str, ExpectedTable]) -> Iterator[ExpectedFlow]:
    """The rows of all tables."""
    return (row for table in tables.values() for row in table.flows)


def common_rows(tables: Mapping[str, ExpectedTable]) -> tuple[ExpectedFlow, ...]:
    """The rows whose ids are in every table, as the first table has them."""
    everywhere = set.intersection(*({row.id for row in table.flows} for table in tables.values()))
    first = next(iter(tables.values()))
    return tuple(row for row in first.flows if row.id in everywhere)


Nearest = tuple[ExpectedFlow | None, str | None]
"""The nearest row, and the field of it that fails."""


@dataclass(slots=True)
class RowMatcher:
    """Matches the conversations of one base station with rows, once for all that agree in the fields that count."""

    station: Station
    rows: Sequence[ExpectedFlow]
    tpe: frozenset[str]
    limited: Mapping[str, Set[str]]
    """Addresses of TPE that may serve some rows only → ids of these rows."""
    known_rows: dict[tuple[object, ...], tuple[ExpectedFlow, ...]] = field(default_factory=dict)
    known_nearest: dict[tuple[object, ...], Nearest] = field(default_factory=dict)

    def rows_of(self, conversation: Conversation) -> tuple[ExpectedFlow, ...]:
        """The rows that a conversation matches. DNS over TCP matches the row of DNS; a check judges its transport."""
        key = (
            *(conversation.transport, conversation.originator.address, conversation.responder),
            *(
                conversation.protocol,
                carries_esp(conversation),
                is_unread(conversation),
                self.station.end(conversation),
            ),
        )
        if key not in self.known_rows:
            self.known_rows[key] = tuple(
                row for row in self.rows if self.fits(row, conversation) or is_dns_over_tcp(row, conversation)
            )
        return self.known_rows[key]

    def fits(self, row: ExpectedFlow, conversation: Conversation) -> bool:
        """Whether transport, port, direction and the other end are those of a row."""
        return (
            has_service(row, conversation)
            and self.has_direction(row, conversation)
            and self.has_destination(row, conversation)
        )

    def has_direction(self, row: ExpectedFlow, conversation: Conversation) -> bool:
        """Whether the base station is at the end that the row requires."""
        end = self.station.end(conversation)
        if row.bidirectional or end is Direction.ORIGINATOR:
            return True
        # Before a base station has an address, it sends DHCP from 0.0.0.0.
        return row.peer is Peer.DHCP and end is None

    def has_destination(self, row: ExpectedFlow, conversation: Conversation) -> bool:
        """Whether the other end is TPE or not, if the row requires either."""
        if row.peer is not Peer.TPE and row.decided_by != "peer":
            return True
        from_station = self.station.end(conversation) is Direction.ORIGINATOR
        peer = (conversation.responder if from_station else conversation.originator).address
        is_tpe = peer in self.tpe and row.id in self.limited.get(peer, (row.id,))
        return is_tpe == (row.peer is Peer.TPE)

    def unexpected(self, conversation: Conversation) -> UnexpectedFlow:
        """The unexpected flow of a conversation that matches no row.

        Ports say little about who opened what fits no row either way: whoever sent first without TCP did.
        """
        guessed, excusable = not conversation.originator_certain, False
        if guessed:
            turned = conversation.turned()
            excusable = any(self.fits(row, turned) and may_be(row, conversation) for row in self.rows)
            first_sender_responds = conversation.side == 1 and conversation.transport != "tcp"
            if (
                not excusable
                and first_sender_responds
                and (conversation.transport == "udp" or not conversation.packets[Direction.ORIGINATOR])
            ):
                conversation = turned
        ends = conversation.originator.address, conversation.responder.address
        end = self.station.end(conversation)
        inbound = end is not Direction.ORIGINATOR
        key = (
            *(conversation.transport, conversation.responder.port, conversation.protocol, carries_esp(conversation)),
            *(
                end,
                *(address in self.tpe for address in ends),
                *(address if address in self.limited else "" for address in ends),
            ),
        )
        if key not in self.known_nearest:
            self.known_nearest[key] = self.nearest(conversation)
        return UnexpectedFlow(conversation, inbound, *self.known_nearest[key], excusable)

    def nearest(self, conversation: Conversation) -> Nearest:
        """The row that a conversation fails by exactly one field; none where every row fails by more."""
        candidates = [(row, self.failed_fields(row, conversation)) for row in self.rows]
        for row, fields in sorted(candidates, key=lambda candidate: len(candidate[1])):
            if len(fields) <= 1:
                return row, fields[0] if fields else None
        return None, None

    def failed_fields(self, row: ExpectedFlow, conversation: Conversation) -> tuple[str, ...]:
        """The fields of a row that a conversation fails, the most significant first."""
        transports = ("icmp", "icmpv6") if row.transport == "icmp" else (row.transport,)
        same_transport = conversation.transport in transports
        fields = (
            ("direction", self.has_direction(row, conversation)),
            ("destination", self.has_destination(row, conversation)),
            ("port", conversation.responder.port in row.ports if row.ports else same_transport),
            ("transport", same_transport),
        )
        failed = tuple(name for name, holds in fields if not holds)
        # At another port, a server that is not TPE is not known to be the row's.
        return ("destination", *failed) if failed == ("port",) and row.peer is not Peer.TPE else failed


def may_be(row: ExpectedFlow, conversation: Conversation) -> bool:
    """Whether the content may be that of a row. At rows to any host it must be."""
    if row.peer is Peer.TPE or row.transport == "icmp":
        return True
    return conversation.protocol == row.protocol and not conversation.dissection.malformed


def seen_directions(station: Station, conversations: Iterable[Conversation]) -> SeenDirections:
    """Find the peers of which the capture shows one direction only."""
    sent = False
    complete: set[str] = set()
    lacking: dict[str, Direction] = {}
    for conversation in conversations:
        end = station.end(conversation)
        from_station = end is Direction.ORIGINATOR
        sent = sent or (end is not None and bool(conversation.packets[end]))
        peer = (conversation.responder if from_station else conversation.originator).address
        if end is None or peer in complete or is_group_address(peer):
            continue
        if all(conversation.packets):
            complete.add(peer)
        elif (missing := missing_direction(conversation)) is not None:
            lacking[peer] = missing if from_station else DIRECTIONS[1 - missing]
    one_sided = {peer: missing for peer, missing in lacking.items() if peer not in complete}
    if not one_sided or complete:
        return SeenDirections(frozenset(one_sided), sent)
    ways = set(one_sided.values())
    return SeenDirections(frozenset(one_sided), sent, ways.pop() if len(ways) == 1 else None)


def missing_direction(conversation: Conversation) -> Direction | None:
    """The direction of a conversation that the capture lacks, though the other proves that it was used.

    TCP acknowledges what the other end sent, and IKE repeats the SPI that the responder chose (RFC 7296, section 3.1).
    """
    if conversation.packets[Direction.ORIGINATOR] and conversation.packets[Direction.RESPONDER]:
        return None
    if not conversation.packets[Direction.ORIGINATOR]:
        return Direction.ORIGINATOR
    if conversation.transport == "tcp":
        acknowledges = conversation.state in (State.ESTABLISHED, State.MIDSTREAM)
        return Direction.RESPONDER if acknowledges else None
    headers = messages(conversation.dissection.items, ike.IkeHeader)
    return Direction.RESPONDER if any(header.responder_spi != NO_SPI for _, header in headers) else None


def is_dns_over_tcp(row: ExpectedFlow, conversation: Conversation) -> bool:
    """Whether a conversation is DNS over TCP on the port of a DNS row (RFC 7766 section 5), as far as it was read."""
    return (
        row.protocol == dns.NAME
        and conversation.transport == "tcp"
        and conversation.responder.port in row.ports
        and (conversation.protocol == dns.NAME or is_unread(conversation))
    )


def is_error_flow(conversation: Conversation) -> bool:
    """Whether a conversation consists of ICMP errors: they are about no packet of the capture, are longer than what
    they quote, or go to somebody who did not send it."""
    facts = conversation.dissection.facts
    return isinstance(facts, icmp.IcmpFacts) and bool(facts.types) and facts.types.keys() <= icmp.ERRORS


def is_unread(conversation: Conversation) -> bool:
    """Whether the snap length cut off the content of a conversation before it could be named."""
    return conversation.protocol is None and content_truncated(conversation)


# -- fragments --------------------------------------------------------------------------------------------------


LOST_FRAGMENTS = 2
"""Frames of datagrams without their first fragment that a capture may have between two hosts that it watches; more,
where ten times as many frames of whole datagrams are there."""


def without_orphaned_fragments(conversations: Sequence[Conversation], timeline: Timeline) -> Iterable[Conversation]:
    """The conversations, without fragments that may belong to another of them.

    Without its first fragment, a datagram has no ports: it may be part of any conversation with its hosts and
    transport, if the capture lost the fragment or began after it. Many such fragments are lost by nobody.
    """
    if not any(map(first_fragment_missing, conversations)):
        return conversations
    known: set[tuple[str, frozenset[str]]] = set()
    whole: dict[tuple[str, frozenset[str]], int] = defaultdict(int)
    for conversation in conversations:
        if not first_fragment_missing(conversation):
            known.add(hosts(conversation))
            if FRAGMENTED in conversation.notes:
                whole[hosts(conversation)] += sum(conversation.packets)

    def is_orphaned(conversation: Conversation) -> bool:
        if not first_fragment_missing(conversation):
            return False
        opens = timeline.watched_since(conversation.first) == conversation.first
        if hosts(conversation) not in known and not opens:
            return False  # the first packet of a capture may be in the middle of a datagram
        return sum(conversation.packets) <= max(LOST_FRAGMENTS, whole[hosts(conversation)] // 10)

    return [conversation for conversation in conversations if not is_orphaned(conversation)]


def first_fragment_missing(conversation: Conversation) -> bool:
    """Whether a conversation consists of fragments whose first one, with the ports, is not in the capture."""
    return FIRST_FRAGMENT_MISSING in conversation.notes and not any(conversation.payload)


def hosts(conversation: Conversation) -> tuple[str, frozenset[str]]:
    """Transport and both addresses."""
    return conversation.transport, frozenset((conversation.originator.address, conversation.responder.address))


# -- rows that share a port -------------------------------------------------------------------------------------

FTP_VERBS = {"ftp-retrieve": {"RETR"}, "ftp-store": {"STOR", "STOU", "APPE"}}
"""Value of :attr:`~analyzer.expected.ExpectedFlow.decided_by` → the commands whose transfers are the row's."""

PAUSE = 10_000_000_000
"""Nanoseconds without a packet after which the next packet of an SSH session begins a burst."""

Rows = tuple[ExpectedFlow, ...]


def decide(conversation: Conversation, rows: Rows, first_protected: int) -> list[Rows]:
    """The rows that a conversation belongs to, out of those whose service it has.

    One tuple per match: with one row, or with all rows that the packets cannot tell apart. ``first_protected``: when
    the station's first TLS, IKE or ESP conversation begins.
    """
    deciding = {row.decided_by for row in rows}
    if deciding == {"ssh-key-installer", "ssh-reverse"}:
        return [decide_ssh(conversation, rows, first_protected)]
    if deciding <= {"ftp-retrieve", "ftp-store"} and len(rows) > 1:
        return decide_ftp(conversation, rows)
    return [(row,) for row in rows]


def decide_ssh(conversation: Conversation, rows: Rows, first_protected: int) -> Rows:
    """The row of the key installer or of reverse SSH, by the shape of the session: both have the banner of one host.

    Reverse SSH stays up for up to an hour, almost silent or in bursts that the server begins. The key installer is one
    short download that the base station closes, before the first protected conversation. Any other session remains
    undecided, and so does one whose key exchange or login was not seen to succeed.
    """
    newkeys = {item.direction: item.offset for item, _ in messages(conversation.dissection.items, ssh.NewKeys)}
    if conversation.state is not State.ESTABLISHED or len(newkeys) < 2:
        return rows
    sent, received = (conversation.payload[way] - newkeys[way] - ssh.NEWKEYS_LENGTH for way in Direction)
    duration = conversation.duration
    if duration > 60:
        beginners = burst_beginners(conversation)
        quiet = sent + received < 1024 * duration and Direction.ORIGINATOR not in beginners
        is_reverse = sent >= 256 and (quiet or Direction.RESPONDER in beginners)
        return tuple(row for row in rows if row.decided_by == "ssh-reverse") if is_reverse else rows
    stream = conversation.head.streams[Direction.ORIGINATOR]
    closed = stream.ends or len(stream.data) < conversation.payload[Direction.ORIGINATOR]
    is_download = duration < 30 and 2048 < received < 262_144 and received > 2 * sent
    if is_download and closed and conversation.last < first_protected:
        return tuple(row for row in rows if row.decided_by == "ssh-key-installer")
    return rows


def burst_beginners(conversation: Conversation) -> set[Direction]:
    """The sides that began a burst after a pause, as far as the head shows. A burst has packets of both sides."""
    streams = conversation.head.streams
    packets = sorted((mark.time, side) for side in Direction for mark in streams[side].marks)
    begins = [index for index in range(1, len(packets)) if packets[index][0] - packets[index - 1][0] >= PAUSE]
    return {packets[index][1] for index in begins if {side for _, side in packets[index:]} == set(Direction)}


def decide_ftp(conversation: Conversation, rows: Rows) -> list[Rows]:
    """The row of downloads (RETR), of uploads (STOR, STOU, APPE), or both if the session has both."""
    facts = conversation.dissection.facts
    verbs = {transfer.verb for transfer in facts.transfers} if isinstance(facts, ftp.FtpFacts) else set()
    decided: list[Rows] = [(row,) for row in rows if verbs & FTP_VERBS[row.decided_by or ""]]
    return decided or [rows]


def decide_ftp_data(conversation: Conversation, rows: Rows) -> Rows:
    """The row of the command that opened an FTP data connection. A listing decides nothing."""
    facts = conversation.dissection.facts
    verb = facts.verb if isinstance(facts, FtpDataFacts) else None
    return tuple(row for row in rows if verb in FTP_VERBS.get(row.decided_by or "", ())) or rows


# -- rows by flow -----------------------------------------------------------------------------------------------


def rows_by_flow(stations: Iterable[StationMatches]) -> dict[int, tuple[str, ...]]:
    """Flow id → ids of the rows that the flow matches."""
    rows: dict[int, tuple[str, ...]] = {}
    conversations: dict[int, Conversation] = {}
    for match in (match for station in stations for match in station.matches):
        number, own = match.conversation.id, tuple([row.id for row in match.rows])
        conversations[number] = match.conversation
        rows[number] = tuple(dict.fromkeys((*rows[number], *own))) if number in rows else own
    return {flow: own for number, own in rows.items() for flow in conversations[number].flows}


def with_transfer_rows(
    conversations: Conversations, flow_rows: Mapping[int, tuple[str, ...]], tables: Mapping[str, ExpectedTable]
) -> Conversations:
    """The conversations, with a row for each FTP transfer. ``flow_rows``: flow id → ids of its rows."""

    def with_rows(conversation: Conversation) -> Conversation:
        facts = conversation.dissection.facts
        ids = flow_rows.get(conversation.id, ())
        if not ids or not isinstance(facts, ftp.FtpFacts) or not facts.transfers:
            return conversation
        rows = {row.id: row for row in all_rows(tables) if row.id in ids}.values()
        by_verb = {verb: row.id for row in rows for verb in FTP_VERBS.get(row.decided_by or "", ())}
        transfers = tuple(replace(transfer, row=by_verb.get(transfer.verb)) for transfer in facts.transfers)
        facts = replace(facts, transfers=transfers)
        return conversation._replace(dissection=replace(conversation.dissection, facts=facts))

    return conversations.replaced(map(with_rows, conversations))
