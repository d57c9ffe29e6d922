"""Flows against the table of their base station: which row each matches, and what becomes of each row."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from analyzer.conversations import Conversation, FtpDataFacts, State
from analyzer.expected import Deployment, ExpectedFlow, ExpectedTable, Occurrence, Peer, Requirement, UsageError
from analyzer.heads import Direction
from analyzer.messages import messages
from analyzer.protocols import dhcp, dns, esp, ftp, icmp, ike, ssh
from analyzer.scanner.fragments import HEADLESS
from analyzer.stations import UNKNOWN, Mode, Station, carries_esp, shaped
from analyzer.wire import SafeText


class Status(enum.Enum):
    """What became of a row of its table, for one base station."""

    PRESENT = "present"
    """At least one flow matches the row, and none of its flows breaks the row's rules."""
    MALFORMED = "malformed"
    """A flow matches by direction, transport and port, and its content breaks the row's rules."""
    BLOCKED = "blocked"
    """It was tried and never completed."""
    MISSING = "missing"
    """A MUST row of which there is nothing."""
    ABSENT = "absent"
    """An OPTIONAL row of which there is nothing."""
    UNDECIDED = "undecided"
    """Flows are there that two rows share, and the packets cannot tell which."""


class Certainty(enum.Enum):
    """How sure it is that a row is missing or blocked."""

    FIRM = "firm"
    """The capture watched for more than two of the row's periods, and nothing could hide it."""
    WEAK = "weak"
    """The row may well be in use, outside of what the capture shows."""


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


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """One row of its table, judged for one base station."""

    row: ExpectedFlow
    requirement: Requirement
    """The row's requirement in the audited deployment."""
    status: Status
    certainty: Certainty | None
    """Set where the status is missing or blocked."""
    reason: SafeText | None
    """Why this status and this certainty, where the flows alone do not say it: one clause."""
    flows: tuple[int, ...]
    """Ids of the flows that match the row, ascending."""


@dataclass(frozen=True, slots=True)
class StationVerdict:
    """One base station against the table that it lives by."""

    station: Station
    mode: SafeText
    """Name of the table; ``unknown`` where nothing shows it."""
    mode_evidence: tuple[SafeText, ...]
    """Why this mode, one clause each."""
    tpe: tuple[str, ...]
    """Addresses of the TPE that it talks to."""
    rows: tuple[RowVerdict, ...]
    """In the order of the table; in mode ``unknown`` those rows that every table has."""


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
    return HEADLESS in each.notes and not any(each.payload)


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


# -- what becomes of the rows -----------------------------------------------------------------------------------


def completed(match: Match) -> bool:
    """The conversation got through: there is an answer that counts."""
    each = match.conversation
    facts = each.dissection.facts
    if match.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
        return ike_completed(each, facts)
    if match.row.transport == "esp":
        return all(each.packets) and not one_sided(each)
    if isinstance(facts, ftp.FtpFacts) and facts.login == "refused":
        return False
    if match.row.peer is Peer.DHCP:
        return True  # client and server send to different addresses: judged over all conversations of the row
    return not each.silent


def one_sided(each: Conversation) -> bool:
    """ESP inside UDP goes in one direction only, as far as all of its datagrams were kept to be looked at."""
    sent = {item.direction for item, _ in messages(each.dissection.items, esp.EspPacket)}
    return each.transport == "udp" and len(sent) == 1 and sum(each.packets) == len(each.head.datagrams)


def ike_completed(each: Conversation, facts: ike.IkeFacts) -> bool:
    """An IKE_SA_INIT alone is no tunnel: IKE_AUTH must be answered, unless the session began before the capture.

    IKE_INTERMEDIATE (RFC 9242) goes before IKE_AUTH and sets nothing up.
    """
    if not all(each.packets):
        return False
    headers = [header for _, header in messages(each.dissection.items, ike.IkeHeader)]
    begun = any(header.exchange in (ike.IKE_AUTH, ike.IKE_INTERMEDIATE) for header in headers if header.major == 2)
    return not begun or any(is_authenticated(header) for header in headers)


def is_authenticated(header: ike.IkeHeader) -> bool:
    """Whether a message shows that its IKE SA is set up: IKE_AUTH is answered, or an exchange needs it."""
    if header.major != 2:
        return False
    return (header.exchange == ike.IKE_AUTH and header.response) or header.exchange in ike.AUTHENTICATED


def verdicts(
    matched: StationMatches,
    deployment: Deployment,
    malformed: Mapping[str, Set[int]],
    lrr_version: tuple[int, ...] | None,
) -> tuple[RowVerdict, ...]:
    """The status of each row. ``malformed``: row id → conversations with a malformed finding of medium or above."""
    by_row: dict[str, list[Match]] = {row.id: [] for row in matched.rows}
    for match in matched.matches:
        for row in match.rows:
            by_row[row.id].append(match)
    tunnel = any(match.row.transport == "esp" and completed(match) for match in matched.matches)
    return tuple(
        verdict(row, by_row[row.id], matched, row.requirement(deployment), malformed, tunnel, lrr_version)
        for row in matched.rows
    )


def verdict(
    row: ExpectedFlow,
    matches: Sequence[Match],
    matched: StationMatches,
    requirement: Requirement,
    malformed: Mapping[str, Set[int]],
    tunnel: bool,
    lrr_version: tuple[int, ...] | None,
) -> RowVerdict:
    """One row of one base station."""
    flows = tuple(sorted({flow for match in matches for flow in match.conversation.flows}))
    own = [match for match in matches if len(match.rows) == 1]
    through = [match for match in own if got_through(row, match, matches, matched)]
    certainty, why = confidence(row, matched, tunnel, lrr_version)
    if not malformed.get(row.id, frozenset()).isdisjoint(flows):
        return RowVerdict(row, requirement, Status.MALFORMED, None, None, flows)
    if through:
        return RowVerdict(row, requirement, Status.PRESENT, None, remark(row, through), flows)
    shared = [match for match in matches if len(match.rows) > 1]
    if any(completed(match) for match in shared):
        others = " or ".join(each.id for each in shared[0].rows if each.id != row.id)
        reason = f"the packets cannot tell whether this is row {row.id} or {others}"
        return RowVerdict(row, requirement, Status.UNDECIDED, None, reason, flows)
    if matches:
        reason = f"{how_blocked(row, matches)}; {why}"
        return RowVerdict(row, requirement, Status.BLOCKED, certainty, reason, flows)
    if requirement is Requirement.OPTIONAL or not applies(row, lrr_version) or matched.mode.name == UNKNOWN:
        return RowVerdict(row, requirement, Status.ABSENT, None, None, flows)
    return RowVerdict(row, requirement, Status.MISSING, certainty, why, flows)


def got_through(row: ExpectedFlow, match: Match, matches: Sequence[Match], matched: StationMatches) -> bool:
    """Whether a conversation fulfils its row."""
    if row.peer is Peer.DHCP:
        return any(answered(each.conversation) for each in matches)
    if row.protocol == ike.NAME:
        # IKE_SA_INIT on port 500 goes on with IKE_AUTH on 4500: one without the other is no tunnel.
        tunnel = any(carries_esp(each.conversation) for each in matched.matches)
        return completed(match) and (tunnel or not unanswered_auth(matches))
    return completed(match)


def answered(each: Conversation) -> bool:
    """A DHCP server spoke in it."""
    facts = each.dissection.facts
    if isinstance(facts, dhcp.DhcpFacts):
        return any(name in ("OFFER", "ACK", "NAK") for name in facts.messages)
    return all(each.packets)


def unanswered_auth(matches: Sequence[Match]) -> bool:
    """IKE_AUTH was sent and no conversation shows an answer, nor an exchange that needs one."""
    headers = [
        header for match in matches for _, header in messages(match.conversation.dissection.items, ike.IkeHeader)
    ]
    before = (ike.IKE_AUTH, ike.IKE_INTERMEDIATE)
    asked = any(header.major == 2 and header.exchange in before and not header.response for header in headers)
    return asked and not any(map(is_authenticated, headers))


def remark(row: ExpectedFlow, through: Sequence[Match]) -> str | None:
    """What a present row cannot show, and what happened on the way."""
    if all(match.conversation.state is State.MIDSTREAM for match in through):
        known = any(match.conversation.protocol is not None for match in through)
        said = "only what follows was judged" if known else "what its content is cannot be told from what follows"
        return f"its beginning is not in the capture: {said}"
    if row.protocol == ike.NAME:
        return ike_remark(through)
    if row.transport == "tcp" and not any(any(match.conversation.payload) for match in through):
        return "opened, but without any content"
    return None


def ike_remark(through: Sequence[Match]) -> str | None:
    """What the tunnel's IKE flows cannot show, and where its SA moved."""
    if all(exchanges(match) == {ike.IKE_SA_INIT} for match in through):
        return "nothing but IKE_SA_INIT is in the capture: whether there is a tunnel cannot be told from it"
    clauses = []
    sas: dict[str, list[tuple[str, ike.IkeSa]]] = {}
    for match in through:
        facts = match.conversation.dissection.facts
        for sa in facts._sas if isinstance(facts, ike.IkeFacts) else ():
            sas.setdefault(sa.initiator_spi, []).append((match.conversation.originator.address, sa))
    known = [sa for parts in sas.values() for _, sa in parts]
    if known and not any(sa.chosen for sa in known):
        if any(ike.IKE_AUTH in sa.exchanges for sa in known):
            how = "IKE_SA_INIT is not in the capture"
        else:
            how = (
                f"set up before the capture, only {'rekeyed' if any(sa.rekeys for sa in known) else 'kept alive'} in it"
            )
        clauses.append(f"{how}: which proposal protects the tunnel is not known")
    for parts in sas.values():
        addresses = list(dict.fromkeys(address for address, _ in parts))
        if len(addresses) > 1:
            clauses.append(f"the IKE SA moved on to another address (MOBIKE): {', then '.join(addresses)}")
    return "; ".join(dict.fromkeys(clauses)) or None


def exchanges(match: Match) -> set[int]:
    """Types of the IKE exchanges that a conversation shows."""
    return {header.exchange for _, header in messages(match.conversation.dissection.items, ike.IkeHeader)}


def how_blocked(row: ExpectedFlow, matches: Sequence[Match]) -> str:
    """Why the last of a row's conversations never completed: one clause."""
    each = matches[-1].conversation
    facts = each.dissection.facts
    for error in each.icmp_errors:
        return f"{error.sender} answered with ICMP type {error.type} code {error.code} ({unreachable(error.code)})"
    if isinstance(facts, ftp.FtpFacts) and facts.login == "refused":
        return "the server refused the login"
    if row.protocol == ike.NAME and unanswered_auth(matches):
        return "IKE_AUTH was never answered"
    if row.transport == "esp" and any(each.packets):
        return "ESP packets go in one direction only"
    if each.refused is not None:
        return f"{each.responder.address} reset the connection"
    if each.transport == "tcp":
        return "the connection was never completed" if each.packets[1] else "no answer to the SYN"
    return "no answer"


def unreachable(code: int) -> str:
    """RFC 792 and RFC 1812 section 5.2.7.1, as far as firewalls use them."""
    prohibited = {9: "network prohibited", 10: "host prohibited", 13: "administratively prohibited"}
    return {0: "network unreachable", 1: "host unreachable", 3: "port unreachable", **prohibited}.get(
        code, "unreachable"
    )


def applies(row: ExpectedFlow, lrr_version: tuple[int, ...] | None) -> bool:
    """Whether the station's LRR, if its version is known, uses the row at all."""
    return row.since is None or lrr_version is None or lrr_version >= version(row.since)


def version(text: str) -> tuple[int, ...]:
    """``2.8.10`` as numbers; :class:`UsageError` for anything else."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})*", text, re.ASCII):
        raise UsageError(f"{text!r} is no version: write it like 2.8 or 2.8.10")
    return tuple(int(part) for part in text.split("."))


def confidence(
    row: ExpectedFlow, matched: StationMatches, tunnel: bool, lrr_version: tuple[int, ...] | None
) -> tuple[Certainty, str]:
    """How sure a row is missing or blocked, and why."""
    if row.tunnelled and tunnel:
        return Certainty.WEAK, "the tunnel may carry it inside"
    if row.since is not None and lrr_version is None:
        return Certainty.WEAK, f"only LRR {row.since} and later use it, and the version is unknown"
    if row.occurrence is Occurrence.ON_DEMAND:
        return Certainty.WEAK, "it is used on demand only"
    if row.occurrence is Occurrence.STARTUP:
        return Certainty.WEAK, "it is used at start-up only"
    assert row.period is not None
    seconds = matched.watched
    if seconds <= 2 * row.period:
        return Certainty.WEAK, f"watched for {seconds:.0f} s, less than two of its periods of {row.period:.0f} s"
    return Certainty.FIRM, f"watched for {seconds:.0f} s, more than two of its periods of {row.period:.0f} s"
