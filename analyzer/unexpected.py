"""Unexpected flows in groups: the flows of one peer and service, a port scan, or a service tried at many hosts."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedFlow
from analyzer.matching import StationMatches, UnexpectedFlow
from analyzer.stations import UNKNOWN, Station


class Pattern(enum.Enum):
    """What the flows of a group have in common. Each group has exactly one pattern."""

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


def group_unexpected(stations: Iterable[StationMatches]) -> tuple[UnexpectedGroup, ...]:
    """The unexpected flows of all base stations, in groups: by base station, then by the first conversation."""
    return tuple(group for matches in stations for group in groups_of(matches))


def groups_of(matches: StationMatches) -> list[UnexpectedGroup]:
    """The groups of one base station, ascending by the first conversation."""
    contradicting = {signature.conversation.id: signature.row for signature in matches.mode.contradicting}
    known = matches.mode.name != UNKNOWN
    groups = []
    for flows in join_crowds(join_scans(by_service(matches.unexpected))).values():
        first = flows[0]
        rows = (contradicting.get(flow.conversation.id) for flow in flows)
        other_mode = next(filter(None, rows), None) if known and not first.inbound else None
        pattern = pattern_of(flows, other_mode)
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


def pattern_of(flows: Sequence[UnexpectedFlow], other_mode: ExpectedFlow | None) -> Pattern:
    """The first pattern that fits, in the order of :class:`Pattern`."""
    if len({flow.conversation.responder.port for flow in flows if flow.conversation.control is None}) >= SCANNED_PORTS:
        return Pattern.SCAN
    if is_name_discovery(flows[0].conversation):
        return Pattern.NAME_DISCOVERY
    if flows[0].inbound:
        return Pattern.INBOUND
    return Pattern.OUTBOUND if other_mode is None else Pattern.OTHER_MODE


def any_answered(flows: Iterable[UnexpectedFlow]) -> bool:
    return any(answered(flow.conversation) for flow in flows)


def answered(conversation: Conversation) -> bool:
    """The responder answered, and content was exchanged."""
    return any(conversation.payload) and not conversation.silent


def is_name_discovery(conversation: Conversation) -> bool:
    """Whether a conversation is NetBIOS, SSDP, mDNS or LLMNR on a link or in a private network."""
    if conversation.transport != "udp" or conversation.responder.port not in DISCOVERY_PORTS:
        return False
    address = ipaddress.ip_address(conversation.responder.address)
    return address.is_multicast or not address.is_global
