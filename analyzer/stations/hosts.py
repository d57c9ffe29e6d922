"""Hosts: base stations, modes and TPE of a capture."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from analyzer.conversations import Conversation, Conversations, Layer
from analyzer.dataclass import dataclass
from analyzer.expected import Deployment, ExpectedTable
from analyzer.heads import DIRECTIONS
from analyzer.protocols import dhcp, dhcp6
from analyzer.stations.interfaces import Interfaces
from analyzer.stations.modes import Mode, contradictions_at, detect_mode
from analyzer.stations.recognition import Station, Stranger, find_stations
from analyzer.stations.signatures import NamedHosts, find_candidates
from analyzer.stations.tpe import find_other_addresses, find_tpe, limit_tpe
from analyzer.stations.translation import find_translation
from analyzer.stations.tunnels import inside_tunnel


@dataclass(frozen=True, slots=True)
class Hosts:
    """Who is who in a capture."""

    named: NamedHosts
    """The hosts that the user named."""
    stations: tuple[Station, ...]
    """The base stations that are judged."""
    unjudged: int
    """Number of addresses that look like base stations and exceed :data:`MAX_STATIONS`."""
    modes: tuple[Mode, ...]
    """In the order of ``stations``."""
    tpe: frozenset[str]
    """Addresses of TPE."""
    conversations: dict[str, list[Conversation]]
    """Address of a base station → its conversations."""
    inside_tunnel: frozenset[int]
    """Ids of conversations that were captured inside a tunnel, and are not judged."""
    strangers: tuple[Stranger, ...] = ()
    """Hosts that open flows of signature rows and are no base stations, best evidence first."""
    tpe_names: Mapping[str, str] = field(default_factory=dict)
    """Address of TPE → its name, of addresses that are TPE only because DNS gave them to the name of another one."""
    translated: frozenset[int] = frozenset()
    """Ids of conversations that the capture shows on the inner side of a NAT, too, and that are judged there."""
    forwarded: Mapping[str, tuple[Conversation, ...]] = field(default_factory=dict)
    """Address of a base station → conversations of other hosts whose packets its MAC address forwarded."""
    contested: tuple[Stranger, ...] = ()
    """Hosts that are taken for TPE although others serve them as TPE serves base stations."""
    limited: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """Address of a base station → address of TPE that nobody explains → ids of the rows that it may serve."""


def identify_hosts(
    conversations: Sequence[Conversation],
    tables: Mapping[str, ExpectedTable],
    named: NamedHosts,
    deployment: Deployment,
    mode: str | None = None,
) -> Hosts:
    """Find base stations, their modes and TPE. ``mode`` overrides the detected modes."""
    table = conversations.table if isinstance(conversations, Conversations) else None
    inside = inside_tunnel(conversations) | inside_own_tunnel(conversations, tables, named)
    outside = [conversation for conversation in conversations if conversation.id not in inside]
    translated, copies = find_translation(outside, tables, table)
    if copies:
        outside = [conversation for conversation in outside if conversation.id not in copies]
    interfaces = Interfaces(outside, named.macs)
    stations, unjudged, strangers, contested = find_stations(outside, tables, named, translated, interfaces)
    modes = [detect_mode(station, tables, mode) for station in stations]
    seen = addresses(outside)
    tpe = find_tpe(modes, stations, named, seen, deployment)
    owned = conversations_by_station(stations, outside, interfaces)
    names = {} if named.tpe else find_other_addresses(tpe, stations, seen, outside)
    tpe |= names.keys()
    limited: dict[str, Mapping[str, frozenset[str]]] = {}
    if deployment is Deployment.STANDALONE and not named.tpe:
        for station, own in zip(stations, modes, strict=True):
            flows = owned.conversations[station.address]
            limited[station.address] = limit_tpe(station, own, tables.get(own.name), tpe, names, flows)
    return Hosts(
        named,
        stations,
        unjudged,
        tuple(contradictions_at(mode, tpe) for mode in modes),
        tpe,
        owned.conversations,
        inside,
        strangers,
        names,
        copies,
        owned.forwarded,
        contested,
        limited,
    )


def inside_own_tunnel(
    conversations: Iterable[Conversation], tables: Mapping[str, ExpectedTable], named: NamedHosts
) -> frozenset[int]:
    """Ids of conversations inside a tunnel of one of their own ends which is a base station by what it does outside.

    The tunnel's packets are what it sent, and to whom; what it put inside acquits or accuses nobody. Where an end
    shows nothing else, as in a mirror that a base station makes of its own traffic, the inside is judged.
    """
    tunnelled = [conversation for conversation in conversations if conversation.layer is Layer.TUNNELLED]
    if not tunnelled:
        return frozenset()
    plain = (conversation for conversation in conversations if conversation.layer is Layer.PLAIN)
    candidates = find_candidates(plain, tables, named)
    return frozenset(
        conversation.id
        for conversation in tunnelled
        if conversation.originator.address in candidates or conversation.responder.address in candidates
    )


def capture_tunnels(conversations: Sequence[Conversation], stations: Sequence[Station] = ()) -> frozenset[int]:
    """Ids of the tunnels of which no end is a base station."""
    own = {address for station in stations for address in station.addresses}
    return frozenset(
        conversation.id
        for conversation in conversations
        if conversation.layer is Layer.TUNNEL
        and own.isdisjoint((conversation.originator.address, conversation.responder.address))
    )


def addresses(conversations: Iterable[Conversation]) -> dict[str, None]:
    """All addresses, in the order of their first conversation."""
    return {end.address: None for flow in conversations for end in (flow.originator, flow.responder)}


class Owned(NamedTuple):
    """The conversations of a capture, by the base station whose they are.

    A conversation is a base station's by the IP address of an end; else by its MAC address, from which a packet came
    with the time to live of a host, or at which one arrived. So every captured frame from or to a base station's
    address or MAC address belongs to it, or is in ``forwarded``.
    """

    conversations: dict[str, list[Conversation]]
    """Address of a base station → its conversations."""
    forwarded: dict[str, tuple[Conversation, ...]]
    """Address of a base station → conversations of other hosts whose packets its MAC address forwarded."""


def conversations_by_station(
    stations: Sequence[Station], conversations: Iterable[Conversation], interfaces: Interfaces
) -> Owned:
    """Assign conversations to base stations.

    Before a base station has an IP address, DHCP counts by its MAC address, or by the address that it is given.
    """
    by_address = {address: station.address for station in stations for address in station.addresses}
    by_own_mac = {mac: station.address for station in stations for mac in station.macs}
    by_mac = {station.mac: station.address for station in stations if station.mac is not None}
    found: dict[str, list[Conversation]] = {station.address: [] for station in stations}
    forwarded: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        ends = conversation.originator.address, conversation.responder.address
        owners = {by_address[address]: None for address in ends if address in by_address}
        if not owners and conversation.protocol == dhcp.NAME:
            facts = conversation.dissection.facts
            client = facts.client_mac if isinstance(facts, (dhcp.DhcpFacts, dhcp6.Dhcp6Facts)) else conversation.macs[0]
            owners = {by_mac[client]: None} if client in by_mac else {}
            if not owners and isinstance(facts, dhcp.DhcpFacts):
                owners = {by_address[address]: None for address in facts.offered if address in by_address}
        if not owners and by_own_mac:
            owners = {by_own_mac[mac]: None for mac in sending_or_receiving(conversation, interfaces, by_own_mac)}
            for mac in conversation.macs if not owners else ():
                if mac in by_own_mac:
                    forwarded.setdefault(by_own_mac[mac], []).append(conversation)
        for owner in owners:
            found[owner].append(conversation)
    return Owned(found, {address: tuple(flows) for address, flows in forwarded.items()})


def sending_or_receiving(
    conversation: Conversation, interfaces: Interfaces, macs: Container[str | None]
) -> Iterator[str]:
    """Those of some MAC addresses from which an end of a conversation sends as its own, or at which it receives
    without ever sending."""
    ends = conversation.originator.address, conversation.responder.address
    for way in DIRECTIONS:
        mac, towards = conversation.macs[way], conversation.destination_macs[1 - way]
        if mac is not None and mac in macs and interfaces.is_own(conversation, way):
            yield mac
        elif mac is None and towards is not None and towards in macs and ends[way] not in interfaces.owners:
            yield towards


def stations_by_flow(conversations: dict[str, list[Conversation]]) -> dict[int, str]:
    """Flow id → address of its base station; of the first one, if both ends are base stations."""
    return {
        flow: address
        for address in reversed(conversations)
        for conversation in conversations[address]
        for flow in conversation.flows
    }
