"""Unexpected flows in groups: the flows of one peer and service, a port scan, or a service tried at many hosts."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from analyzer.conversations import Conversation, Endpoint, State
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedFlow
from analyzer.ftp_data import in_lifetime
from analyzer.heads import Direction
from analyzer.matching import StationMatches, UnexpectedFlow, first_fragment_missing, is_error_flow
from analyzer.outcomes import content_truncated, cut
from analyzer.protocols import dns, ftp
from analyzer.stations import UNKNOWN, Station
from analyzer.wire import Cause


class Pattern(enum.Enum):
    """What the flows of a group have in common. Each group has exactly one pattern."""

    FRAGMENTS = "fragments"
    """Fragments whose first one, with the ports, is not in the capture."""
    ERRORS = "errors"
    """ICMP errors about packets that the capture does not hold, or that are no errors by size or destination."""
    SCAN = "scan"
    """Unanswered flows to at least :data:`SCANNED_PORTS` service ports of one host."""
    NAME_DISCOVERY = "name discovery"
    """Queries by which hosts look for each other on a link."""
    INBOUND = "inbound"
    """Opened by the peer, and none of the above."""
    OTHER_MODE = "other mode"
    """Opened by the base station, in a row of another mode's table."""
    OUTBOUND = "outbound"
    """Opened by the base station, and none of the above."""


SCANNED_PORTS = 5
"""Minimum service ports of one host that make unanswered flows a scan."""

CROWD = 256
"""Minimum peers whose unanswered flows of one service form one group: their addresses may be forged."""

DISCOVERY_PORTS = {137, 138, 1900, 5353, 5355}
"""UDP ports of NetBIOS, SSDP, mDNS and LLMNR."""


@dataclass(frozen=True, slots=True)
class UnexpectedGroup:
    """Unexpected flows of one base station that make one finding."""

    station: Station
    mode: str
    """The mode of the base station."""
    flows: tuple[UnexpectedFlow, ...]
    """Ascending by conversation id; at least one."""
    pattern: Pattern
    other_mode: ExpectedFlow | None
    """The signature row of another mode that a flow shows, if the base station opened it; also of a scan."""

    @property
    def first(self) -> Conversation:
        """The first conversation."""
        return self.flows[0].conversation

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        return tuple(flow.conversation for flow in self.flows)

    @property
    def inbound(self) -> bool:
        """The peer opened the flows."""
        return self.flows[0].inbound

    @property
    def peers(self) -> tuple[str, ...]:
        """Addresses of the other ends, in the order of their first flows."""
        return tuple(dict.fromkeys(flow.peer for flow in self.flows))

    @property
    def ports(self) -> tuple[int, ...]:
        """Service ports, ascending; 0 for a flow without one."""
        return tuple(sorted({flow.conversation.responder.port or 0 for flow in self.flows}))

    @property
    def flow_count(self) -> int:
        return sum(flow.conversation.flow_count for flow in self.flows)

    @property
    def answered(self) -> bool:
        """The responder of at least one flow answered, and content was exchanged."""
        return any(answered(flow.conversation) for flow in self.flows)

    @property
    def opener_known(self) -> bool:
        """The capture shows who opened at least one of the flows."""
        return any(flow.conversation.originator_certain for flow in self.flows)

    @property
    def excusable(self) -> bool:
        """It is not certain who opened the flows, and the other way round all would match a row."""
        return all(flow.excusable for flow in self.flows)

    @property
    def nearest(self) -> ExpectedFlow | None:
        """The row that the first flow fails by the fewest fields."""
        return self.flows[0].nearest

    @property
    def mismatch(self) -> str | None:
        """The field of the nearest row that the first flow fails."""
        return self.flows[0].mismatch


class GroupKey(NamedTuple):
    """What the flows of a group share."""

    peer: str | None
    """``None``: a crowd of peers."""
    transport: str
    port: int | None
    """``None``: the transport has no ports."""
    inbound: bool
    scan: bool = False
    """The flows go to many ports."""


Asked = frozenset[tuple[int, str]]
"""Ports of name discovery at which hosts asked their link, with the address of each host."""


def group_unexpected(
    stations: Iterable[StationMatches], conversations: Iterable[Conversation] = ()
) -> tuple[UnexpectedGroup, ...]:
    """The unexpected flows of all base stations, in groups: by base station, then by the first conversation.

    ``conversations``: all of the capture, in which hosts may have asked for what they are then answered.
    """
    asked = frozenset(
        (conversation.responder.port or 0, conversation.originator.address)
        for conversation in conversations
        if is_discovery_port(conversation) and is_group(conversation.responder.address)
    )
    return tuple(group for matches in stations for group in groups_of(matches, asked))


def groups_of(matches: StationMatches, asked: Asked = frozenset()) -> list[UnexpectedGroup]:
    """The groups of one base station, ascending by the first conversation."""
    contradicting = {signature.conversation.id: signature.row for signature in matches.mode.contradicting}
    known = matches.mode.name != UNKNOWN
    groups = []
    for flows in join_crowds(join_scans(by_service(matches.unexpected))).values():
        first = flows[0]
        rows = (contradicting.get(flow.conversation.id) for flow in flows)
        other_mode = next(filter(None, rows), None) if known and not first.inbound else None
        pattern = pattern_of(flows, other_mode, asked)
        groups.append(UnexpectedGroup(matches.station, matches.mode.name, tuple(flows), pattern, other_mode))
    return sorted(groups, key=lambda group: group.first.id)


Groups = dict[GroupKey, list[UnexpectedFlow]]


def by_service(unexpected: Sequence[UnexpectedFlow]) -> Groups:
    """Flows by peer, transport, service port and direction; FTP data stands with its control connection."""
    groups: Groups = {}
    by_id = {flow.conversation.id: flow for flow in unexpected}
    for flow in unexpected:
        control = flow.conversation.control
        owner = flow if control is None else by_id.get(control, flow)
        service = owner.conversation.responder.port
        groups.setdefault(GroupKey(owner.peer, owner.conversation.transport, service, owner.inbound), []).append(flow)
    return groups


def join_scans(groups: Groups) -> Groups:
    """One group for all ports of a peer that were tried without an answer, if they are a scan."""
    scans: dict[GroupKey, list[GroupKey]] = {}
    for key, flows in groups.items():
        if key.transport in ("tcp", "udp") and not any_answered(flows):
            scans.setdefault(key._replace(port=None, scan=True), []).append(key)
    return join(groups, {scan: keys for scan, keys in scans.items() if len(keys) >= SCANNED_PORTS})


def join_crowds(groups: Groups) -> Groups:
    """One group for all peers at which one service was tried without an answer, if they are a crowd."""
    crowds: dict[GroupKey, list[GroupKey]] = {}
    for key, flows in groups.items():
        if not any_answered(flows):
            crowds.setdefault(key._replace(peer=None), []).append(key)
    return join(groups, {crowd: keys for crowd, keys in crowds.items() if len(keys) >= CROWD})


def join(groups: Groups, joined: dict[GroupKey, list[GroupKey]]) -> Groups:
    """The groups, with those of the same new key as one."""
    parts = {key for keys in joined.values() for key in keys}
    result = {key: flows for key, flows in groups.items() if key not in parts}
    for key, keys in joined.items():
        flows = [flow for part in keys for flow in groups[part]]
        result[key] = sorted(flows, key=lambda flow: flow.conversation.id)
    return result


def pattern_of(flows: Sequence[UnexpectedFlow], other_mode: ExpectedFlow | None, asked: Asked) -> Pattern:
    """The first pattern that fits, in the order of :class:`Pattern`."""
    if all(first_fragment_missing(flow.conversation) for flow in flows):
        return Pattern.FRAGMENTS
    if all(is_error_flow(flow.conversation) for flow in flows):
        return Pattern.ERRORS
    if len({flow.conversation.responder.port for flow in flows if flow.conversation.control is None}) >= SCANNED_PORTS:
        return Pattern.SCAN
    if all(is_name_discovery(flow.conversation, asked) for flow in flows):
        return Pattern.NAME_DISCOVERY
    if flows[0].inbound:
        return Pattern.INBOUND
    return Pattern.OUTBOUND if other_mode is None else Pattern.OTHER_MODE


def any_answered(flows: Iterable[UnexpectedFlow]) -> bool:
    return any(answered(flow.conversation) for flow in flows)


def answered(conversation: Conversation) -> bool:
    """The responder answered, and content was exchanged."""
    return any(conversation.payload) and not conversation.silent


# -- name discovery ---------------------------------------------------------------------------------------------

NETBIOS_NAMES, NETBIOS_DATAGRAMS, SSDP = 137, 138, 1900
SSDP_BEGINNINGS = (b"M-SEARCH ", b"NOTIFY ", b"HTTP/1.1 ")
NETBIOS_TYPES = range(0x10, 0x17)
"""First bytes of NetBIOS datagrams (RFC 1002, section 4.4)."""
NETBIOS_NAME = b"\x20"
"""Length of an encoded NetBIOS name, behind a header of 12 bytes (RFC 1002, section 4.2)."""


def is_name_discovery(conversation: Conversation, asked: Asked) -> bool:
    """Whether a conversation is NetBIOS, SSDP, mDNS or LLMNR by content, and goes to a group of the link or answers
    what one of its ends asked there."""
    if not is_discovery_port(conversation):
        return False
    port, ends = conversation.responder.port or 0, (conversation.originator.address, conversation.responder.address)
    on_link = is_group(ends[1]) or any((port, end) in asked for end in ends)
    return on_link and has_discovery_content(conversation)


def is_discovery_port(conversation: Conversation) -> bool:
    return conversation.transport == "udp" and conversation.responder.port in DISCOVERY_PORTS


def is_group(address: str) -> bool:
    """Whether an address is a multicast group or a broadcast; of a private network, whose prefix is not known, the last
    address of 256."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_multicast:
        return True
    return parsed.version == 4 and not parsed.is_global and int(parsed) & 0xFF == 0xFF


def has_discovery_content(conversation: Conversation) -> bool:
    """Whether all that was kept of a conversation is what its port of name discovery is for."""
    port, datagrams = conversation.responder.port, conversation.head.datagrams
    if port == SSDP:
        return all(datagram.data.startswith(SSDP_BEGINNINGS) for datagram in datagrams)
    if port == NETBIOS_DATAGRAMS:
        return all(datagram.data[:1] and datagram.data[0] in NETBIOS_TYPES for datagram in datagrams)
    if port == NETBIOS_NAMES:
        return all(datagram.data[12:13] == NETBIOS_NAME for datagram in datagrams)
    broken = any(error.anomaly.cause is Cause.MALFORMED for error in conversation.dissection.parse_errors)
    return not datagrams or (conversation.protocol == dns.NAME and not broken)


# -- explained by what the capture hides -----------------------------------------------------------------------

FIRST_HIGH_PORT = 1024
"""First port that is not reserved for well-known services (RFC 6335, section 6)."""
FTP_DATA_PORT = 20
MAX_CONTROLS = 256
"""Control connections of a base station with which each unexpected connection is compared."""


def is_hidden_ftp_data(group: UnexpectedGroup, controls: Sequence[Conversation], tpe: Collection[str]) -> bool:
    """Whether all flows of a group are probably data channels of FTP sessions whose commands the capture hides.

    That is: TCP between high ports of the same two hosts, or another address of TPE, in the lifetime of one of
    ``controls``; see :func:`hidden_controls`. Or nothing but the end of the data channel is left, behind its session.
    """
    if group.mode == "plain" and all(is_end_of_data(conversation, tpe) for conversation in group.conversations):
        return True
    return bool(controls) and all(
        any(may_be_data_of(conversation, control, tpe) for control in controls) for conversation in group.conversations
    )


def is_end_of_data(conversation: Conversation, tpe: Collection[str]) -> bool:
    """Whether the capture holds nothing but the end of a connection between high ports of TPE, without content."""
    ends = conversation.originator, conversation.responder
    return (
        conversation.state is State.MIDSTREAM
        and not any(conversation.payload)
        and all((end.port or 0) >= FIRST_HIGH_PORT for end in ends)
        and any(end.address in tpe for end in ends)
    )


def hidden_controls(matches: StationMatches) -> list[Conversation]:
    """The first :data:`MAX_CONTROLS` FTP control connections of a base station whose commands the capture hides."""
    controls = (match.conversation for match in matches.matches if match.row.protocol == ftp.NAME)
    return list(islice(filter(hides_commands, controls), MAX_CONTROLS))


def hides_commands(control: Conversation) -> bool:
    """Whether the capture hides commands of an FTP control connection: encrypted, or cut off."""
    facts = control.dissection.facts
    if control.protocol not in (None, ftp.NAME, "tls"):
        return False
    if control.state is State.MIDSTREAM or not all(control.packets):
        return True
    if not isinstance(facts, ftp.FtpFacts):
        return control.protocol is None and content_truncated(control)
    return facts.auth_tls or any(cut(control, way) for way in Direction)


def may_be_data_of(data: Conversation, control: Conversation, tpe: Collection[str]) -> bool:
    """Whether a connection may be a data channel of a control connection, by its ends and its time."""
    client, server = control.originator.address, control.responder.address
    ends = {data.originator.address, data.responder.address}
    others = ends - {client}
    return (
        data.transport == "tcp"
        and data.protocol in (None, "tls", "ftp-data")
        and all(
            (end.port or 0) >= FIRST_HIGH_PORT or is_data_port(end, client) for end in (data.originator, data.responder)
        )
        and client in ends
        and (server in others or (server in tpe and any(end in tpe or is_near(end, server) for end in others)))
        and in_lifetime(data, control)
    )


def is_near(one: str, other: str) -> bool:
    """Whether two addresses are probably in one network: a reply may name another address of its server."""
    addresses = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if addresses[0].version != addresses[1].version:
        return False
    suffix = addresses[0].max_prefixlen - (24 if addresses[0].version == 4 else 64)
    return int(addresses[0]) >> suffix == int(addresses[1]) >> suffix


def is_data_port(end: Endpoint, client: str) -> bool:
    """Whether an end of a connection is that from which FTP servers open data connections (RFC 959, section 3.2)."""
    return end.address != client and end.port == FTP_DATA_PORT
