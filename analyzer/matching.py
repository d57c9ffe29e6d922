"""Flows against the table of their base station: the row that each matches, or what is unexpected about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analyzer.conversations import Conversation, State
from analyzer.expected import ExpectedFlow, ExpectedTable, Peer
from analyzer.ftp_data import FtpDataFacts
from analyzer.heads import Direction
from analyzer.messages import messages
from analyzer.protocols import dns, esp, ftp, icmp, ssh
from analyzer.scanner.fragments import FIRST_FRAGMENT_MISSING
from analyzer.stations import UNKNOWN, Mode, Station, carries_esp, shaped


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Match:
    """A conversation that matches a row by direction, transport and port; its content is still to be judged.

    Compared by identity, so that a check can remember what it gathered for the last one asked.
    """

    station: str
    """Address of the base station under which it is reported."""
    conversation: Conversation
    rows: tuple[ExpectedFlow, ...]
    """The row; or the rows that share the port where the packets cannot tell which."""

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
    """The peer opened it."""
    nearest: ExpectedFlow | None
    """The row that it fails by the fewest fields."""
    mismatch: str | None
    """The field of that row that it fails: ``direction``, ``destination``, ``port``, ``transport``."""
    elsewhere: tuple[ExpectedFlow, ...] = ()
    """Rows of other modes that it matches."""

    @property
    def peer(self) -> str:
        return (self.conversation.originator if self.inbound else self.conversation.responder).address


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class StationMatches:
    """All conversations of one base station, sorted by what they are to its table. Compared by identity."""

    station: Station
    mode: Mode
    rows: tuple[ExpectedFlow, ...]
    """The rows that it is judged by: its table's; in mode unknown those that every table has."""
    matches: tuple[Match, ...]
    unexpected: tuple[UnexpectedFlow, ...]
    unjudged: tuple[int, ...]
    """Ids of flows that are no deviation without a row: link-local housekeeping that every host has
    (neighbour discovery, group management); in mode unknown also what some table expects."""
    first: int
    """When the capture began to show the station, nanoseconds since the epoch."""
    last: int
    """When the capture ended."""

    @property
    def address(self) -> str:
        """The address under which the station is reported."""
        return self.station.address

    def conversations(self) -> Iterator[tuple[Conversation, tuple[ExpectedFlow, ...]]]:
        """Every judged conversation with the rows that it matches: none where it is unexpected."""
        for match in self.matches:
            yield match.conversation, match.rows
        for unexpected in self.unexpected:
            yield unexpected.conversation, ()

    @property
    def watched(self) -> float:
        """Seconds for which the capture watched the station."""
        return (self.last - self.first) / 1e9


def match_flows(
    station: Station,
    mode: Mode,
    tables: Mapping[str, ExpectedTable],
    tpe: Collection[str],
    conversations: Sequence[Conversation],
    until: int,
) -> StationMatches:
    """Put each conversation of a station where it belongs. ``until`` is the end of the capture in nanoseconds."""
    rows = common_rows(tables) if mode.name == UNKNOWN else tables[mode.name].flows
    matches: list[Match] = []
    strays: list[UnexpectedFlow] = []
    unjudged: list[int] = []
    protected_from = min(
        (each.first for each in conversations if each.protocol in ("tls", "ike", "esp")), default=until
    )
    controls: dict[int, tuple[ExpectedFlow, ...]] = {}
    known: dict[tuple[object, ...], tuple[ExpectedFlow, ...]] = {}
    near: dict[tuple[object, ...], Nearness] = {}
    headless = any(is_headless(each) for each in conversations)
    between = {ends_of(each) for each in conversations if not is_headless(each)} if headless else set()
    for each in conversations:
        if each.control is not None:
            continue
        if is_headless(each) and ends_of(each) in between:
            unjudged.extend(each.flows)  # part of a datagram of one of those, and nobody sees of which
            continue
        alike = (each.transport, each.originator.address, each.responder, each.protocol, carries_esp(each))
        fitting = known.get(alike)
        if fitting is None:
            fitting = tuple(row for row in rows if fits_row(row, each, station, tpe) or is_dns_over_tcp(row, each))
            known[alike] = fitting
        if fitting:
            found = list(split(station, each, fitting, protected_from))
            controls[each.id] = tuple(row for match in found for row in match.rows)
            matches.extend(found)
        elif is_housekeeping(each) or (mode.name == UNKNOWN and fits_any(tables, each, station, tpe)):
            unjudged.extend(each.flows)
        else:
            strays.append(stray(station, each, rows, tables, mode, tpe, near))
    for each in conversations:
        if each.control is not None:
            matches.extend(data_fit(station, each, controls.get(each.control, ())))
            if not controls.get(each.control):
                strays.append(stray(station, each, rows, tables, mode, tpe, near))
    first = min((each.first for each in conversations), default=until)
    return StationMatches(station, mode, rows, tuple(matches), tuple(strays), tuple(unjudged), first, until)


def common_rows(tables: Mapping[str, ExpectedTable]) -> tuple[ExpectedFlow, ...]:
    """Rows that stand in every table under the same id."""
    everywhere = set.intersection(*({row.id for row in table.flows} for table in tables.values()))
    first = next(iter(tables.values()))
    return tuple(row for row in first.flows if row.id in everywhere)


def fits_row(row: ExpectedFlow, each: Conversation, station: Station, tpe: Collection[str]) -> bool:
    """Whether transport, port, direction and the other end are the row's."""
    return shaped(row, each) and directed(row, each, station) and reaches(row, each, station, tpe)


def directed(row: ExpectedFlow, each: Conversation, station: Station) -> bool:
    """The base station stands at the end where the row wants it."""
    if row.bidirectional:
        return True
    return each.originator.address in station.addresses or (
        row.peer is Peer.DHCP and each.responder.address not in station.addresses
    )


def reaches(row: ExpectedFlow, each: Conversation, station: Station, tpe: Collection[str]) -> bool:
    """The other end is one that the row names."""
    if row.peer is Peer.TPE or row.decided_by == "peer":
        outer = each.responder.address if each.originator.address in station.addresses else each.originator.address
        return (outer in tpe) == (row.peer is Peer.TPE)
    return True


def fits_any(tables: Mapping[str, ExpectedTable], each: Conversation, station: Station, tpe: Collection[str]) -> bool:
    """Whether any table expects a conversation."""
    return any(fits_row(row, each, station, tpe) for table in tables.values() for row in table.flows)


def is_headless(each: Conversation) -> bool:
    """Nothing but fragments whose first one, with the ports, the capture lacks."""
    return FIRST_FRAGMENT_MISSING in each.notes and not any(each.payload)


def ends_of(each: Conversation) -> tuple[str, frozenset[str]]:
    """Transport and addresses."""
    return each.transport, frozenset((each.originator.address, each.responder.address))


def is_dns_over_tcp(row: ExpectedFlow, each: Conversation) -> bool:
    """Whether a conversation is DNS on the row's port, but over TCP: right as a retry only (RFC 7766 section 5)."""
    return row.protocol == dns.NAME == each.protocol and each.transport == "tcp" and each.responder.port in row.ports


def is_housekeeping(each: Conversation) -> bool:
    """Neighbour discovery, multicast listener discovery (ICMPv6 130 to 136, 143) and IGMP stay on the link."""
    if each.transport == "ip-2":
        return True
    if each.transport != "icmpv6":
        return False
    types = {message.type for _, message in messages(each.dissection.items, icmp.IcmpMessage)}
    return bool(types) and all(130 <= kind <= 136 or kind == 143 for kind in types)


# -- rows that share a port -------------------------------------------------------------------------------------


def split(station: Station, each: Conversation, rows: tuple[ExpectedFlow, ...], protected_from: int) -> Iterable[Match]:
    """The matches of a conversation with rows of its shape: one each, or one with all that cannot be told apart."""
    deciding = {row.decided_by for row in rows}
    if deciding == {"ssh-key-installer", "ssh-reverse"}:
        decided = ssh_rows(each, rows, protected_from)
    elif deciding <= {"ftp-retrieve", "ftp-store"} and len(rows) > 1:
        decided = ftp_rows(each, rows)
    else:
        decided = [(row,) for row in rows]
    return [Match(station.address, each, group) for group in decided]


SILENCE = 10_000_000_000
"""Nanoseconds without a word after which the next one begins a burst."""


def ssh_rows(each: Conversation, rows: tuple[ExpectedFlow, ...], protected_from: int) -> list[tuple[ExpectedFlow, ...]]:
    """Key installer or reverse SSH, by the session's shape; the banner is the same box's.

    Reverse SSH stays up for up to an hour, near-silent or in bursts that the server begins. The key installer is one
    short download, closed by the base station, before the first protected conversation. All else is undecided, as is
    a session whose key exchange or login was not seen to succeed.
    """
    installer = tuple(row for row in rows if row.decided_by == "ssh-key-installer")
    reverse = tuple(row for row in rows if row.decided_by == "ssh-reverse")
    clear = {item.direction: item.offset for item, _ in messages(each.dissection.items, ssh.NewKeys)}
    if each.state is not State.ESTABLISHED or len(clear) < 2:
        return [rows]
    sent, received = (each.payload[way] - clear[way] - ssh.NEWKEYS_LENGTH for way in Direction)
    if each.duration > 60:
        bursts = bursts_begun(each)
        quiet = sent + received < 1024 * each.duration and Direction.ORIGINATOR not in bursts
        return [reverse] if sent >= 256 and (quiet or Direction.RESPONDER in bursts) else [rows]
    stream = each.head.streams[Direction.ORIGINATOR]
    closed = stream.ends or len(stream.data) < each.payload[Direction.ORIGINATOR]
    short = each.duration < 30 and 2048 < received < 262144 and received > 2 * sent
    return [installer] if short and closed and each.last < protected_from else [rows]


def bursts_begun(each: Conversation) -> set[Direction]:
    """Who spoke first after a silence, as far as the head shows; a last word of goodbye is no burst."""
    told = sorted((mark.time, way) for way in Direction for mark in each.head.streams[way].marks)
    pauses = [number for number in range(1, len(told)) if told[number][0] - told[number - 1][0] >= SILENCE]
    return {told[number][1] for number in pauses if {way for _, way in told[number:]} == set(Direction)}


def ftp_rows(each: Conversation, rows: tuple[ExpectedFlow, ...]) -> list[tuple[ExpectedFlow, ...]]:
    """Downloads (RETR) are one row, uploads (STOR and its like) the other; a session with both is both."""
    facts = each.dissection.facts
    verbs = {transfer.verb for transfer in facts.transfers} if isinstance(facts, ftp.FtpFacts) else set()
    decided = [(row,) for row in rows if verbs & FTP_VERBS[row.decided_by or ""]]
    return list(decided) or [rows]


FTP_VERBS = {"ftp-retrieve": {"RETR"}, "ftp-store": {"STOR", "STOU", "APPE"}}


def data_fit(station: Station, each: Conversation, rows: tuple[ExpectedFlow, ...]) -> list[Match]:
    """An FTP data connection takes the row of the command that opened it; a listing decides nothing."""
    facts = each.dissection.facts
    verb = facts.verb if isinstance(facts, FtpDataFacts) else None
    own = tuple(row for row in rows if verb in FTP_VERBS.get(row.decided_by or "", ()))
    return [Match(station.address, each, own or rows)] if rows else []


# -- what matches no row -------------------------------------------------------------------------------------------


Nearness = tuple[ExpectedFlow | None, str | None, tuple[ExpectedFlow, ...]]
"""Nearest row, the field of it that fails, and rows of other modes that match."""


def stray(
    station: Station,
    each: Conversation,
    rows: Sequence[ExpectedFlow],
    tables: Mapping[str, ExpectedTable],
    mode: Mode,
    tpe: Collection[str],
    known: dict[tuple[object, ...], Nearness],
) -> UnexpectedFlow:
    """An unexpected conversation, with the row that it comes nearest to; ``known`` is its memory."""
    one, two = each.originator.address, each.responder.address
    inbound = one not in station.addresses
    alike = (
        *(each.transport, each.responder.port, each.protocol, carries_esp(each)),
        *(inbound, two in station.addresses, one in tpe, two in tpe),
    )
    if alike not in known:
        known[alike] = nearness(station, each, rows, tables, mode, tpe)
    return UnexpectedFlow(each, inbound, *known[alike])


def nearness(
    station: Station,
    each: Conversation,
    rows: Sequence[ExpectedFlow],
    tables: Mapping[str, ExpectedTable],
    mode: Mode,
    tpe: Collection[str],
) -> Nearness:
    """How near a conversation that matches no row comes to one."""
    ranked = sorted(
        ((failed_fields(row, each, station, tpe), index, row) for index, row in enumerate(rows)),
        key=lambda entry: (len(entry[0]), entry[1]),
    )
    near = (
        (row, fields)
        for fields, _, row in ranked
        if fields == ("transport",) or (len(fields) <= 2 and "transport" not in fields)
    )
    nearest, fields = next(near, (None, ()))
    mismatch = fields[0] if fields else None
    elsewhere = tuple(
        row
        for name, table in tables.items()
        if name != mode.name
        for row in table.flows
        if shaped(row, each) and directed(row, each, station)
    )
    return nearest, mismatch, elsewhere


def failed_fields(row: ExpectedFlow, each: Conversation, station: Station, tpe: Collection[str]) -> tuple[str, ...]:
    """The fields of a row that a conversation fails, the most telling first."""
    same_transport = (
        each.transport in ("icmp", "icmpv6") if row.transport == "icmp" else each.transport == row.transport
    )
    tests = (
        ("direction", directed(row, each, station)),
        ("destination", reaches(row, each, station, tpe)),
        ("port", each.responder.port in row.ports if row.ports else same_transport),
        ("transport", same_transport),
    )
    return tuple(name for name, holds in tests if not holds)
