"""Hosts: base stations, modes and TPE of a capture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from operator import attrgetter

from analyzer.conversations import Conversation, Conversations
from analyzer.dataclass import dataclass
from analyzer.expected import Deployment, ExpectedTable
from analyzer.protocols import dhcp, dhcp6, dns
from analyzer.stations.modes import Mode, contradictions_at, detect_mode
from analyzer.stations.recognition import Station, Stranger, find_stations
from analyzer.stations.signatures import NamedHosts, Rank, Signature, best_by_row_and_server
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


def identify_hosts(
    conversations: Sequence[Conversation],
    tables: Mapping[str, ExpectedTable],
    named: NamedHosts,
    deployment: Deployment,
    mode: str | None = None,
) -> Hosts:
    """Find base stations, their modes and TPE. ``mode`` overrides the detected modes."""
    table = conversations.table if isinstance(conversations, Conversations) else None
    inside = inside_tunnel(conversations)
    outside = [conversation for conversation in conversations if conversation.id not in inside]
    translated, copies = find_translation(outside, tables, table)
    if copies:
        outside = [conversation for conversation in outside if conversation.id not in copies]
    stations, unjudged, strangers = find_stations(outside, tables, named, translated)
    modes = [detect_mode(station, tables, mode) for station in stations]
    seen = addresses(outside)
    tpe = find_tpe(modes, stations, named, seen, deployment)
    names = {} if named.tpe else find_other_addresses(tpe, stations, seen, outside)
    tpe |= names.keys()
    return Hosts(
        named,
        stations,
        unjudged,
        tuple(contradictions_at(mode, tpe) for mode in modes),
        tpe,
        conversations_by_station(stations, outside),
        inside,
        strangers,
        names,
        copies,
    )


def addresses(conversations: Iterable[Conversation]) -> dict[str, None]:
    """All addresses, in the order of their first conversation."""
    return {end.address: None for flow in conversations for end in (flow.originator, flow.responder)}


def conversations_by_station(
    stations: Sequence[Station], conversations: Iterable[Conversation]
) -> dict[str, list[Conversation]]:
    """Address of a base station → its conversations.

    Before a base station has an IP address, DHCP counts by its MAC address, or by the address that it is given.
    """
    by_address = {address: station.address for station in stations for address in station.addresses}
    by_mac = {station.mac: station.address for station in stations if station.mac is not None}
    found: dict[str, list[Conversation]] = {station.address: [] for station in stations}
    for conversation in conversations:
        ends = conversation.originator.address, conversation.responder.address
        owners = {by_address[address]: None for address in ends if address in by_address}
        if not owners and conversation.protocol == dhcp.NAME:
            facts = conversation.dissection.facts
            client = facts.client_mac if isinstance(facts, (dhcp.DhcpFacts, dhcp6.Dhcp6Facts)) else conversation.macs[0]
            owners = {by_mac[client]: None} if client in by_mac else {}
            if not owners and isinstance(facts, dhcp.DhcpFacts):
                owners = {by_address[address]: None for address in facts.offered if address in by_address}
        for owner in owners:
            found[owner].append(conversation)
    return found


def stations_by_flow(conversations: dict[str, list[Conversation]]) -> dict[int, str]:
    """Flow id → address of its base station; of the first one, if both ends are base stations."""
    return {
        flow: address
        for address in reversed(conversations)
        for conversation in conversations[address]
        for flow in conversation.flows
    }


# -- TPE --------------------------------------------------------------------------------------------------------


def find_tpe(
    modes: Iterable[Mode],
    stations: Sequence[Station],
    named: NamedHosts,
    seen: Iterable[str],
    deployment: Deployment,
) -> frozenset[str]:
    """Addresses of TPE: those that the user named; otherwise the servers of the signature rows of the detected modes.

    Standalone: of each row the servers that came furthest, so that a forged IKE REDIRECT to a host that never answers
    makes no TPE. HA: any of several nodes may be down; and signature rows of other modes count if the detected mode's
    table has them, as the node at the tunnel's end need not be the one that answers on port 3001.

    ``seen``: all addresses of the capture, out of which the user's networks select.
    """
    if named.tpe:
        return frozenset(address for address in seen if named.is_tpe(address))
    own = {address for station in stations for address in station.addresses}
    servers: set[str] = set()
    for station, mode in zip(stations, modes, strict=True):
        # If the user named the mode, the capture may have no flow of it: flows of other modes lead to TPE, too.
        signatures = mode.signatures or station.signatures
        if deployment is Deployment.HA:
            contradicting = set(map(id, mode.contradicting))
            signatures = tuple(signature for signature in station.signatures if id(signature) not in contradicting)
            servers.update(signature.server for signature in signatures)
        else:
            servers |= best_servers(signatures)
    return frozenset(servers - own)


def best_servers(signatures: Iterable[Signature]) -> set[str]:
    """The servers at which the signatures of each row came furthest."""
    outcomes = best_by_row_and_server(signatures, attrgetter("outcome"))
    best: dict[str, Rank] = {}
    for (row, _), outcome in outcomes.items():
        best[row] = max(best.get(row, outcome), outcome)
    return {server for (row, server), outcome in outcomes.items() if outcome is best[row]}


def find_other_addresses(
    tpe: frozenset[str], stations: Sequence[Station], seen: Mapping[str, None], conversations: Iterable[Conversation]
) -> dict[str, str]:
    """Addresses of the capture that its DNS gives to the name of an address of TPE, with that name."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for conversation in conversations:
        facts = conversation.dissection.facts
        if isinstance(facts, dns.DnsFacts):
            for address, name in facts.answers.items():
                by_name[name.lower()].add(address)
    own = {address for station in stations for address in station.addresses}
    return {
        address: name
        for name, given in by_name.items()
        if given & tpe
        for address in sorted(given - tpe - own)
        if address in seen
    }
